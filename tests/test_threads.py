"""Threads: the same bits whatever their number, and forks, Python threads and Ctrl-C."""

import os
import sys
import tracemalloc
from _queue import SimpleQueue
from itertools import product

import numpy as np
import pytest
from cases import BOOK, DTYPES
from test_compiled import needs_jit, python

import fastopt
from fastopt import set_num_threads
from fastopt.engine import threads
from fastopt.engine.threads import available

several = pytest.mark.skipif(available() < 2, reason="one core")


@pytest.fixture(autouse=True)
def as_before():
    yield
    set_num_threads(None)


@needs_jit
@several
@pytest.mark.parametrize(
    ("rule", "dtype"),
    [*product(["SGD", "Adam"], DTYPES), ("LAMB", "float32"), ("Adafactor", "float64"), ("Prodigy", "mixed")],
)
def test_threads_do_not_change_a_bit(rule, dtype):
    rng = np.random.default_rng(0)
    shapes = [(70_001,), (3,), (64,), (0,), (10, 100), (40_003,), (300, 101), (2, 3, 5)]
    dtypes = ["float32", "float64"] * 4 if dtype == "mixed" else [dtype] * 8

    def make():
        return [rng.standard_normal(n).astype(kind) for n, kind in zip(shapes, dtypes, strict=True)]

    start, steps = make(), [make() for _ in range(3)]
    results = []
    for n in (1, 2):
        params, opt = [p.copy() for p in start], getattr(fastopt, rule)(threads=n)
        for grads in steps:
            opt.update(params, grads)
        assert opt.engine.plan.n_threads == n
        results.append([a.tobytes() for a in (*params, *(s for n in opt.states for s in getattr(opt, n)))])
    assert results[0] == results[1]


@needs_jit
@several
def test_the_number_of_threads_can_change_between_steps():
    for size, unasked in ((100_000, 1), (1_000_000, available())):
        params, grads = [np.ones(size)], [np.ones(size)]
        opt = fastopt.Adam()
        seen = []
        for n in (None, 2, 1, None):
            set_num_threads(n)
            opt.update(params, grads)
            seen.append(opt.engine.plan.n_threads)
        for own in (2, 1):
            opt.threads = own
            opt.update(params, grads)
            seen.append(opt.engine.plan.n_threads)
        assert seen == [unasked, 2, 1, unasked, 2, 1]
    small = fastopt.Adam(threads=2)
    small.update([np.ones(100)], [np.ones(100)])
    assert small.engine.plan.n_threads == 1


@needs_jit
@several
def test_threads_are_an_upper_bound(monkeypatch):
    """On one core, or in a worker of joblib, a program that asks for more runs, with fewer."""
    for variable, n in (("1", 1), ("", available()), ("64", available())):
        monkeypatch.setenv("NUMBA_NUM_THREADS", variable)
        optimizer = fastopt.Adam(threads=10_000)
        optimizer.update([np.ones(100_000)], [np.ones(100_000)])
        assert optimizer.engine.plan.n_threads == n
    if hasattr(os, "sched_setaffinity"):
        code = f"import os; os.sched_setaffinity(0, {{{min(os.sched_getaffinity(0))}}})\n" + CONCURRENT
        assert python(code)[0].endswith("all right\n")


@needs_jit
@several
def test_a_step_without_helpers_is_taken_by_one_thread(monkeypatch):
    """No helper need come: whoever began the step does what the others leave."""
    monkeypatch.setattr(threads, "helpers", [None] * 8)
    monkeypatch.setattr(threads, "tickets", SimpleQueue())
    one, two = (fastopt.Adam(0.1, threads=n) for n in (1, 2))
    mine, yours = [np.ones(100_000)], [np.ones(100_000)]
    for _ in range(200):
        one.update(mine, [np.cos(mine[0])])
        two.update(yours, [np.cos(yours[0])])
    assert mine[0].tobytes() == yours[0].tobytes()
    assert threads.tickets.qsize() < 50
    # Tickets that come late are worthless: they do nothing at all.
    while not threads.tickets.empty():
        function, arguments, _ = threads.tickets.get()
        function(*arguments)
    assert mine[0].tobytes() == yours[0].tobytes()


@pytest.mark.parametrize("n", [0, -1, 1.5, "2", True])
def test_a_bad_number_of_threads_is_refused(n):
    error = TypeError if n is True or not isinstance(n, int) else ValueError
    for name, action in (
        ("n", lambda: set_num_threads(n)),
        ("threads", lambda: fastopt.SGD(threads=n)),
        ("threads", lambda: setattr(fastopt.SGD(), "threads", n)),
    ):
        with pytest.raises(error, match=f"^{name} must be"):
            action()


CONCURRENT = """
import os, sys, threading
import numpy as np
import fastopt

def train(seed, out):
    rng = np.random.default_rng(seed)
    opt, params = fastopt.Adam(), [rng.standard_normal(60_000)]
    for _ in range(100):
        opt.update(params, [np.cos(params[0])])
    out[seed] = params[0].tobytes()

ref, out = {}, {}
fastopt.set_num_threads(1)
for seed in range(8):
    train(seed, ref)
fastopt.set_num_threads(2)
before = os.fork() if "early" in sys.argv else None
if before != 0:
    threads = [threading.Thread(target=train, args=(seed, out)) for seed in range(8)]
    for t in threads: t.start()
    for t in threads: t.join()
    assert out == ref
    if "early" in sys.argv:
        assert os.waitpid(before, 0)[1] == 0
        sys.exit()
    child = os.fork()
    if child:
        assert os.waitpid(child, 0)[1] == 0
        train(0, out)
        assert out == ref
        print("all right")
        sys.exit()
out = {}
train(1, out)
assert out[1] == ref[1]
os._exit(0)
"""


@needs_jit
@several
@pytest.mark.skipif(sys.platform == "win32", reason="no fork")
@pytest.mark.parametrize("when", ["late", "early"])
def test_row_24_and_row_26_python_threads_and_forked_children(when):
    out, _ = python(f"import sys; sys.argv = ['', '{when}']\n" + CONCURRENT)
    assert when == "early" or out.endswith("all right\n")


INTERRUPTED = """
import signal, sys, time
import numpy as np
import fastopt

KINDS = {
    "plain": lambda: {"a": np.zeros(300), "b": np.zeros((20, 30))},
    "mixed": lambda: {"a": np.zeros(300), "f4": np.zeros((20, 30), "f4")},
    "wide": lambda: {"a": np.zeros(300), "b": np.zeros((20, 30), "f4"), "c": np.zeros((9, 8)).T},
    "slow": lambda: {"a": np.zeros((600, 2))[:, 0], "b": 0.0, "c": np.zeros(30, ">f8"), "d": np.zeros(9)},
    "large": lambda: {"a": np.zeros(200_000)},
}
def ones(params):
    return {key: np.ones(np.shape(p), "f4" if key == "f4" else "f8") for key, p in params.items()}

params = KINDS[sys.argv[1]]()
grads = ones(params)
opt = fastopt.Momentum(1.0, 0.5, threads=2)
opt.update(params, grads)
fired = caught = 0
armed = False
def strike(*_):  # as Ctrl-C, but one at a time
    global armed, fired
    fired += 1
    if armed:
        armed = False
        raise KeyboardInterrupt
signal.signal(signal.SIGALRM, strike)
start = time.perf_counter()
for _ in range(5):
    opt.update(params, grads)
# Some steps have to come to their end between two signals, however slow the machine is.
period = max(0.0004, 1.5 * (time.perf_counter() - start) / 5)
signal.setitimer(signal.ITIMER_REAL, period, period)
end = time.monotonic() + 30
while fired < 1500 and time.monotonic() < end:
    try:
        armed = True
        while fired < 1500:
            opt.update(params, grads)
        armed = False
    except KeyboardInterrupt:
        caught += 1
signal.setitimer(signal.ITIMER_REAL, 0)
# An element of each parameter, stepped as often in peace.
few = {key: np.zeros(1, np.asarray(p).dtype) for key, p in params.items()}
peace = fastopt.Momentum(1.0, 0.5)
for _ in range(opt.iter):
    peace.update(few, ones(few))
for left, right in ((params, few), (opt.v, peace.v)):
    for key in left:
        assert np.unique(left[key]).tolist() == right[key].tolist(), (key, left[key], right[key], opt.iter)
assert caught > 500 and opt.iter > 100, (fired, caught, opt.iter)
print(True)
"""


@pytest.mark.long
@pytest.mark.skipif(sys.platform == "win32", reason="no timer")
@pytest.mark.parametrize(
    ("kind", "mode"),
    [*product(["plain", "mixed", "wide", "slow", "large"], ["now"]), *product(["mixed", "slow"], ["never"])],
)
def test_row_23_ctrl_c_falls_before_a_step_or_after_it(kind, mode):
    code = f"import sys; sys.argv = ['', '{kind}']\n" + INTERRUPTED
    assert python(code, FASTOPT_COMPILE=mode)[0] == "True\n"


HANDLED = """
import signal, sys, tempfile, time
from pathlib import Path
import numpy as np
import fastopt

KINDS = {
    "plain": lambda: {"a": np.zeros(300), "b": np.zeros((20, 30))},
    "strided": lambda: {"a": np.zeros(300), "b": np.zeros((20, 30), "f4").T},
    "slow": lambda: {"b": np.zeros((3, 4)), "c": np.zeros(30, ">f8"), "d": np.zeros(9, "f2")},
    "options": lambda: {"a": np.zeros(300), "b": np.zeros((20, 30))},
    "turns": lambda: {"a": np.zeros(30), "b": np.zeros((2, 3))},
}
kind = sys.argv[1]
def make():
    options = {"ema": 0.5, "clip_norm": 1e9, "groups": {"b": {"lr_scale": 0.5}}} if kind == "options" else {}
    return fastopt.Momentum(1.0, 0.5, **options)
def ones(params):
    return {key: np.ones(np.shape(p)) for key, p in params.items()}

params = KINDS[kind]()
grads = ones(params)
opt, fired, path = make(), 0, Path(tempfile.mkdtemp(), "a.npz")
opt.update(params, grads)  # Numba imports numpy.ma, and NumPy can't be interrupted in that
done = dict.fromkeys(params, 1)
def strike(*_):
    global fired
    fired += 1
    try:
        handle()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.003)
def handle():
    if fired % 4 == 0:
        opt.save(path)
        opt.load(path)
    elif fired % 4 == 1:
        opt.state_dict()
        opt.lr = 0.5
        opt.lr = 1.0
    elif kind == "turns":
        opt.update({"a": params["a"]}, {"a": grads["a"]})
        done["a"] += 1
        opt.update({f"new {fired}": np.ones(2)}, {f"new {fired}": np.ones(2)})
        opt.drop_state(f"new {fired}")
    else:
        opt.update(params, grads)
        for key in done:
            done[key] += 1
signal.signal(signal.SIGALRM, strike)
signal.setitimer(signal.ITIMER_REAL, 0.003)
end = time.monotonic() + 30
while fired < 200 and time.monotonic() < end:
    opt.update(params, grads)
    for key in done:
        done[key] += 1
signal.setitimer(signal.ITIMER_REAL, 0)
for key, p in params.items():  # an element of each, stepped as often in peace
    few, peace = {key: np.zeros(1, p.dtype)}, make() if kind != "options" else fastopt.Momentum(
        1.0, 0.5, groups={key: {"lr_scale": 0.5 if key == "b" else 1.0}})
    for _ in range(done[key]):
        peace.update(few, ones(few))
    assert np.unique(p).tolist() == few[key].tolist(), (key, np.unique(p), few[key], done)
    assert np.unique(opt.v[key]).tolist() == peace.v[key].tolist()
assert fired >= 50, fired
print(True)
"""


@pytest.mark.long
@pytest.mark.skipif(sys.platform == "win32", reason="no timer")
@pytest.mark.parametrize(
    ("kind", "mode"),
    [
        *product(["plain", "strided", "slow", "options", "turns"], ["now"]),
        *product(["slow", "turns"], ["never"]),
    ],
)
def test_handlers_of_signals_may_step_save_and_load(kind, mode):
    """Whatever they do falls before a step or after it; no step is lost, and none fails."""
    code = f"import sys; sys.argv = ['', '{kind}']\n" + HANDLED
    assert python(code, FASTOPT_COMPILE=mode)[0] == "True\n"


@needs_jit
@pytest.mark.parametrize("threads", [1, available()])
@pytest.mark.parametrize("rule", BOOK)
def test_a_step_allocates_next_to_nothing(rule, threads):
    params = [np.ones((300, 400)), np.ones(7, "float32")] * 5
    params = [p.copy() for p in params]
    grads = [p.copy() for p in params]
    opt = getattr(fastopt, rule)(threads=threads)
    for _ in range(2):
        opt.update(params, grads)
    tracemalloc.start()
    opt.update(params, grads)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 64 * 1024
    state = sum(np.asarray(a).nbytes for name in opt.states for a in getattr(opt, name))
    assert state == len(opt.states) * sum(p.nbytes for p in params)


def test_cores_are_counted_where_a_process_cannot_ask_for_its_own(monkeypatch):
    monkeypatch.delattr("os.sched_getaffinity", raising=False)
    monkeypatch.setattr("os.cpu_count", lambda: 3)
    assert threads.cores() == {0, 1, 2}
    monkeypatch.setattr("os.cpu_count", lambda: None)
    assert threads.cores() == {0}
