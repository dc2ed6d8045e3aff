"""An optimizer as a monitor: signals, Ctrl-C, threads, forks and user types, beside a step or in it."""

import copy
import gc
import math
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import MutableMapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from cases import state_bytes

import fastopt
from fastopt import schedules
from fastopt.tools.faults.interruptions import Events, interrupt

# An interrupt while a generator is destroyed can't be raised: Python tells of it and goes on.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

ONES = {"W": np.ones(4), "b": np.ones(2)}


def zeros():
    return {"W": np.zeros(4), "b": np.zeros(2)}


@dataclass
class Calling(schedules.Schedule):
    """A schedule that does something when it is called at some step, once."""

    value: float
    t: int = 1

    def __post_init__(self):
        self.action = None

    def __call__(self, t):
        if t == self.t and self.action is not None:
            action, self.action = self.action, None
            action()
        return self.value


def in_handler(action):
    """Do something in the handler of a signal."""
    before = signal.signal(signal.SIGUSR1, lambda *_: action())
    try:
        signal.raise_signal(signal.SIGUSR1)
        time.sleep(0)
    finally:
        signal.signal(signal.SIGUSR1, before)


def in_thread(action, seconds=0.1):
    """Do something in another thread, as far as that gets meanwhile."""
    thread = threading.Thread(target=action, daemon=True)
    thread.start()
    thread.join(seconds)
    THREADS.append(thread)


def join_threads():
    """Let the threads of `in_thread` end."""
    while THREADS:
        THREADS.pop().join(10)


THREADS = []
HOW = {"directly": lambda action: action(), "handler": in_handler, "thread": in_thread}


def run_script(script, *arguments, timeout=120):
    """Run a script in a process of its own, which may crash. Returns what it prints."""
    environment = {**os.environ, "PYTHONPATH": str(Path(fastopt.__file__).parents[1])}
    result = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    assert result.returncode == 0, f"{result.returncode}: {result.stdout}{result.stderr}"
    return result.stdout


def sweep(make, act, check, stride=1):
    """Raise KeyboardInterrupt at each moment in turn; check what then there is, while its traceback lives."""
    for at in range(1, 100_000, stride):
        given = make()
        events = Events(at, interrupt)
        try:
            with events:
                act(*given)
        except KeyboardInterrupt:
            check(*given, at)
        else:
            check(*given, at)
        if events.count < at:
            return at
    raise AssertionError("it never ends")


# 1, 2: options assigned while a step is planned.

ASSIGNING = """
import sys
sys.path.insert(0, sys.argv[2])
import numpy as np, fastopt
from test_monitor import HOW, Calling, join_threads
for name, value, steps in (
    ("clip_value", 0.25, (0.5, 0.25)), ("clip_norm_each", 0.25, (0.5, 0.25)),
    ("clip_norm", 0.25, (0.5, 0.25)),
    ("lr", 0.5, (0.5, 0.25)), ("groups", {"*": {"lr_scale": 0.5}}, (0.5, 0.25)), ("threads", 1, (0.5,)),
    ("weight_decay", 0.0, (0.5,)), ("maximize", True, (0.5, -0.5)), ("nonfinite", "raise", (0.5,)),
):
    for t in (1, 3):
        kinds = [lambda: {str(i): np.zeros(1) for i in range(1 if "norm" in name else 40)}]
        for make in (*kinds, lambda: fastopt.pack(kinds[0]())):
            def assign():
                setattr(optimizer, name, value)
                garbage.extend([float("nan")] * 40 for _ in range(100))  # where freed lists were
            garbage = []
            schedule = Calling(1.0)
            optimizer, params = fastopt.SGD(lr=schedule, clip_value=0.5), make()
            grads = {key: np.full(1, 4.0) for key in params}
            if hasattr(params, "like"):
                values, grads = grads, params.like()
                grads.update(values)
            schedule.t, schedule.action = t, lambda: HOW[sys.argv[1]](assign)
            last = 0.0
            for step in range(1, 6):
                optimizer.update(params, grads)
                join_threads()
                moved, = {last - float(p.item()) for p in params.values()}
                allowed = steps[:1] if step < t else steps if step == t else steps[-1:]
                assert any(abs(moved - a) < 1e-6 for a in allowed), (name, t, step, moved)
                last = next(iter(params.values())).item()
            assert optimizer.iter == 5
            there = getattr(optimizer, name)
            assert there == value or name == "groups" and there["*"]["lr_scale"] == 0.5, (name, there)
"""


@pytest.mark.long
@pytest.mark.skipif(sys.platform == "win32", reason="no such signal")
@pytest.mark.parametrize("how", HOW)
def test_an_option_assigned_during_a_step_holds_from_then_on(how):
    run_script(ASSIGNING, how, str(Path(__file__).parent))


def test_an_average_assigned_during_the_first_step_begins_with_the_next_that_is_taken():
    def assign():
        optimizer.ema = 0.5

    schedule = Calling(1.0)
    optimizer, params = fastopt.SGD(lr=schedule), zeros()
    schedule.action = assign
    try:
        optimizer.update(params, ONES)
    except RuntimeError:
        assert not params["W"].any()
        optimizer.update(params, ONES)
    assert optimizer.iter == 1
    assert params["W"].tolist() == [-1.0] * 4
    assert optimizer.average(params)["W"].tolist() == [-1.0] * 4


def test_a_schedule_that_assigns_a_learning_rate_ends():
    def assign():
        optimizer.lr = 0.25

    schedule = Calling(1.0, 2)
    optimizer, params = fastopt.SGD(lr=schedule), zeros()
    optimizer.update(params, ONES)
    schedule.action = assign
    optimizer.update(params, ONES)
    assert (optimizer.lr, optimizer.schedule) == (0.25, None)


GROUPS = """
import threading
from dataclasses import dataclass as define
import numpy as np, fastopt

@define(eq=False)
class Slow(fastopt.SGD):
    def scalars(self, t):
        global action
        scalars = super().scalars(t)
        if action is not None:
            todo, action = action, None
            threads.append(threading.Thread(target=todo, daemon=True))
            threads[-1].start()
            threads[-1].join(0.3)
        return scalars

action, threads = None, []
for t in (1, 2, 3):
    params = {str(i): np.zeros(3) for i in range(50)}
    grads = {key: np.ones(3) for key in params}
    optimizer = Slow(lr=1.0)
    def assign():
        optimizer.groups = {str(i): {"lr_scale": 2.0 ** -i} for i in range(50)}
    last = {key: p.copy() for key, p in params.items()}
    for step in range(1, 6):
        if step == t:
            action = assign
        optimizer.update(params, grads)
        while threads:
            threads.pop().join()
        moved = {key: (last[key] - p).tolist() for key, p in params.items()}
        old, new = {key: [1.0] * 3 for key in params}, {str(i): [2.0 ** -i] * 3 for i in range(50)}
        close = lambda a, b: all(np.allclose(a[key], b[key], rtol=1e-3) for key in a)
        assert close(moved, old) and step <= t or close(moved, new) and step >= t, (t, step, moved)
        last = {key: p.copy() for key, p in params.items()}
"""


def test_groups_assigned_by_another_thread_during_a_step():
    run_script(GROUPS)


# 3: what lies about its length.

LIES = {
    "list": """
class Lying(list):
    def __len__(self):
        return n
for n in (2, 3, 10, 100, 1000):
    optimizer, params = fastopt.SGD(lr=1.0), [np.zeros(3) for _ in range(n)]
    ones = [np.ones(3)] * n
    optimizer.update(params, ones)
    for _ in range(20):
        short, short_grads = Lying(params[:1]), Lying(ones[:1])
        for given in ((short, ones), (params, short_grads), (short, short_grads)):
            before = [p.copy() for p in params]
            try:
                optimizer.update(*given)
            except (TypeError, ValueError):
                assert all((p == old).all() for p, old in zip(params, before))
            else:
                assert (params[0] == before[0] - 1).all()
                assert all((p == old).all() for p, old in zip(params[1:], before[1:]))
""",
    "buffers": """
params = fastopt.pack([np.zeros(3), np.zeros(2)])
grads = params.like()
optimizer = fastopt.SGD(lr=1.0)
optimizer.update(params, grads)
for emptied in (grads, params):
    emptied.buffers.clear()
    try:
        optimizer.update(params, grads)
    except Exception:
        pass
    else:
        raise AssertionError("it took a step")
""",
    "scalars": """
class Wrong(fastopt.Adam):
    def scalars(self, t):
        right = super().scalars(t)
        return right if t < 2 else right[:2] if t == 2 else right * 100
optimizer, params = Wrong(lr=1.0), [np.zeros(3)]
optimizer.update(params, [np.ones(3)])
before = params[0].copy()
for t in (1, 2):
    try:
        optimizer.update(params, [np.ones(3)])
    except ValueError as error:
        assert "scalars" in str(error)
    else:
        raise AssertionError("it took a step")
    optimizer.iter = 1 + t
assert (params[0] == before).all()
""",
}


@pytest.mark.parametrize("what", LIES)
def test_what_lies_about_its_length_is_not_read_beyond(what):
    run_script("import numpy as np, fastopt\n" + LIES[what])


# 4: another default of np.zeros.

DEFAULTS = """
import sys
import numpy as np
plain = np.zeros
def zeros(*arguments, **named):
    if len(arguments) < 2 and "dtype" not in named:
        named["dtype"] = "float32"
    return plain(*arguments, **named)
if sys.argv[1] == "patched":
    np.zeros = zeros
import fastopt
for name in fastopt.__all__:
    rule = getattr(fastopt, name)
    if not (isinstance(rule, type) and hasattr(rule, "kernel")):
        continue
    for options in ({}, {"ema": 0.9, "clip_norm": 1.0}, {"clip_adaptive": 0.1, "accumulate": 2}):
        optimizer = rule(**options)
        params = {"W": np.linspace(-1, 1, 20).reshape(4, 5), "V": np.ones((3, 4), "f4")}
        if name not in ("Muon", "AdaMuon"):
            params["b"] = np.linspace(0, 1, 5)
        for t in range(4):
            optimizer.update(params, {key: np.cos(p + t) for key, p in params.items()})
        print(name, *options, *(p.tobytes().hex() for p in params.values()))
"""


def test_another_default_dtype_of_zeros_changes_nothing():
    assert run_script(DEFAULTS, "patched") == run_script(DEFAULTS, "plain")


# 5: snapshots beside steps.

SIZES = {"a": 50_000, "b": 3, "c": 200_000}


def copy_state(optimizer, params, path):
    state = optimizer.state_dict()
    return state["iter"], state["state"]["h"], None


def copy_deeply(optimizer, params, path):
    other = copy.deepcopy(optimizer)
    return other.iter, other.h, None


def copy_by_pickle(optimizer, params, path):
    other = pickle.loads(pickle.dumps(optimizer))
    return other.iter, other.h, None


def copy_by_file(optimizer, params, path):
    optimizer.save(path, params)
    other, copies = fastopt.AdaGrad(lr=1.0), {key: np.zeros_like(p) for key, p in params.items()}
    other.load(path, copies)
    return other.iter, other.h, copies


@pytest.mark.long
@pytest.mark.parametrize("kind", ["plain", "of several calls"])
@pytest.mark.parametrize("snapshot", [copy_state, copy_deeply, copy_by_pickle, copy_by_file])
def test_a_snapshot_beside_steps_is_of_one_moment(snapshot, kind, tmp_path):
    # float16 goes through a copy: there are several calls, and the larger ones let other threads run.
    last = np.float64 if kind == "plain" else np.float16
    params = {key: np.zeros(n, last if key == "c" else np.float64) for key, n in SIZES.items()}
    grads = {key: np.ones_like(p) for key, p in params.items()}
    optimizer = fastopt.AdaGrad(lr=1.0)
    optimizer.update(params, grads)
    stopped, taken, failures = threading.Event(), [1], []

    def train():
        try:
            while not stopped.is_set() and taken[0] < 5000:
                taken[0] += optimizer.update(params, grads)
        except BaseException as error:
            failures.append(error)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    thread = threading.Thread(target=train)
    thread.start()
    try:
        for _ in range(25 if snapshot is not copy_state else 100):
            count, h, copies = snapshot(optimizer, params, tmp_path / "it.npz")
            for key in params:
                assert set(h[key].tolist()) == {float(count)}
            if copies is not None:
                b = -sum(1 / (math.sqrt(t) + 1e-7) for t in range(1, count + 1))
                assert copies["b"] == pytest.approx(b)
                assert len(set(copies["a"].tolist())) == len(set(copies["c"].tolist())) == 1
                assert copies["a"][0] == pytest.approx(b)
    finally:
        stopped.set()
        thread.join()
        sys.setswitchinterval(interval)
    assert not failures
    assert optimizer.iter == taken[0]


@pytest.mark.long
@pytest.mark.parametrize("look", [lambda o: o.state_dict(), copy.deepcopy, pickle.dumps])
def test_a_step_of_another_thread_at_any_moment_of_a_snapshot_is_not_lost(look):
    for at in range(1, 10_000):
        optimizer, params = fastopt.SGD(lr=1.0), zeros()
        optimizer.update(params, ONES)
        events = Events(at, lambda: in_thread(lambda: optimizer.update(params, ONES), 0.01))  # noqa: B023
        with events:
            look(optimizer)
        join_threads()
        if events.count < at:
            break
        assert optimizer.iter == 2, at
        optimizer.update(params, ONES)
        assert optimizer.iter == 3, at
        assert params["W"].tolist() == [-3.0] * 4, at
    assert at > 5


# 6: forks beside steps.

FORKS = """
import os, signal, sys, threading, time
import numpy as np, fastopt
sys.setswitchinterval(1e-6)
params = {"a": np.zeros(1000), "b": np.zeros(400_000, np.float16), "c": np.zeros(1000)}
grads = {key: np.ones_like(p) for key, p in params.items()}
optimizer = fastopt.AdaGrad(lr=1e-3, eps=0.0)
other, others = fastopt.SGD(lr=1.0, clip_norm=1e9), [np.zeros(300_000)]
optimizer.update(params, grads)
other.update(others, [np.ones(300_000)])

def train():
    for _ in range(2000):
        optimizer.update(params, grads)

def train_other():
    for _ in range(2000):
        other.update(others, [np.ones(300_000)])

for target in (train, train_other):
    threading.Thread(target=target, daemon=True).start()
for _ in range(25):
    time.sleep(0.002)
    child = os.fork()
    if child == 0:
        signal.alarm(20)  # a lock that nobody lets go of
        code = 1
        try:
            n = optimizer.iter
            assert all(set(h.tolist()) == {float(n)} for h in optimizer.h.values()), "torn"
            assert len(set(params["b"].tolist())) == 1, "torn"
            assert set(others[0].tolist()) == {-float(other.iter)}, "torn"
            optimizer.update(params, grads)
            other.update(others, [np.ones(300_000)])
            assert optimizer.iter == n + 1
            assert all(set(h.tolist()) == {n + 1.0} for h in optimizer.h.values())
            code = 0
        except BaseException as error:
            print(repr(error), flush=True)
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    assert status == 0, status
os._exit(0)
"""


@pytest.mark.long
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_forked_child_has_no_half_of_a_step_and_no_held_lock():
    run_script(FORKS)


# 7: what is assigned meanwhile isn't lost.


ASSIGNED = {"nonfinite": "raise", "clip_norm": 1e-3, "clip_value": 1e-3, "groups": {"*": {"lr_scale": 1e-3}}}


@pytest.mark.long
@pytest.mark.parametrize("make", [zeros, lambda: fastopt.pack(zeros()), lambda: zeros() | {"s": 0.0}])
@pytest.mark.parametrize("n_steps", [0, 1, 2])
@pytest.mark.parametrize("name", ASSIGNED)
def test_what_a_handler_assigns_during_a_step_is_not_lost(name, n_steps, make):
    def grads_like(params, value):
        grads = params.like() if hasattr(params, "like") else dict(params)
        for key, p in params.items():
            grads[key] = np.full(np.shape(p), value)
        return grads

    for at in range(1, 10_000):
        optimizer, params = fastopt.SGD(lr=1.0, ema=0.5), make()
        grads = grads_like(params, 1.0)
        for _ in range(n_steps):
            optimizer.update(params, grads)
        events = Events(at, lambda: setattr(optimizer, name, ASSIGNED[name]))  # noqa: B023
        with events:
            optimizer.update(params, grads)
        if events.count < at:
            break
        assert optimizer.iter == n_steps + 1
        before = {key: np.array(p) for key, p in params.items()}
        moved = {float(v) for p in before.values() for v in np.ravel(p)}
        assert moved == {-1.0 - n_steps} or (len(moved) == 1 and 0 < abs(moved.pop() + n_steps) < 2e-3), at
        if name == "nonfinite":
            with pytest.raises(FloatingPointError):
                optimizer.update(params, grads_like(params, np.nan))
            assert all((p == before[key]).all() for key, p in params.items()), at
        else:
            optimizer.update(params, grads)
            assert all((abs(p - before[key]) < 2e-3).all() for key, p in params.items()), at
    assert at > 5


def test_two_options_assigned_at_once_both_hold():
    def check(optimizer, at):
        params = zeros()
        optimizer.update(params, {"W": np.full(4, 4.0), "b": np.full(2, 4.0)})
        assert (optimizer.clip_norm, optimizer.clip_value) == (0.5, 0.25)
        assert np.linalg.norm([*params["W"], *params["b"]]) == pytest.approx(0.5, rel=1e-4), at
        assert optimizer.iter == 1

    for at in range(1, 10_000):
        optimizer = fastopt.SGD(lr=1.0)
        events = Events(at, lambda: setattr(optimizer, "clip_value", 0.25))  # noqa: B023
        with events:
            optimizer.clip_norm = 0.5
        if events.count < at:
            break
        check(optimizer, at)
    assert at > 10


def test_an_interrupted_assignment_is_made_whole_or_not_at_all():
    def check(optimizer, at):
        params = zeros()
        optimizer.update(params, {"W": np.full(4, 4.0), "b": np.full(2, 4.0)})
        assert params["W"][0] == (-4.0 if optimizer.clip_value is None else -0.25), at

    assert sweep(lambda: [fastopt.SGD(lr=1.0)], lambda o: setattr(o, "clip_value", 0.25), check) > 10


def test_an_option_that_is_refused_leaves_the_old_one():
    optimizer = fastopt.SGD(ema=0.5)
    with pytest.raises(ValueError, match="choose one"):
        optimizer.swa = 3
    assert optimizer.swa is None


# 8: Ctrl-C inside what puts parameters back.


def averaged_of(optimizer, params, before):
    with optimizer.averaged(params):
        assert params["W"][0] != before["W"][0]


def lr_finder_of(optimizer, params, before):
    def step():
        optimizer.update(params, {"W": np.full(4, 2.0), "s": 1.0})
        return 1.0

    fastopt.lr_finder(step, optimizer, params, steps=2)


def verify_of(optimizer, params, before):
    fastopt.verify(fastopt.SGD(lr=0.5), params, lambda params: {"W": np.ones(4), "s": 1.0}, steps=1)


@pytest.mark.long
@pytest.mark.parametrize("act", [averaged_of, lr_finder_of, verify_of])
def test_ctrl_c_leaves_parameters_and_optimizer_as_they_were(act):
    def make():
        plateau = schedules.Plateau(0.5)
        optimizer, params = fastopt.Momentum(lr=plateau, ema=0.5, accumulate=2), {"W": np.zeros(4), "s": 1.0}
        record = optimizer.record()
        for _ in range(3):
            optimizer.update(params, {"W": np.ones(4), "s": 0.5})
        optimizer.update(params, {"W": np.ones(4), "s": 0.5})
        optimizer.update(params, {"W": np.ones(4), "s": 0.5})  # one micro-batch is in
        state, before = optimizer.state_dict(), {key: np.array(p) for key, p in params.items()}
        kept.update(plateau=plateau, record=record, state=state, steps=list(record.steps))
        return optimizer, params, before

    def check(optimizer, params, before, at):
        assert params["W"].tolist() == before["W"].tolist(), at
        assert params["s"] == before["s"], at
        state = optimizer.state_dict()
        assert repr(state) == repr(kept["state"]), at
        assert optimizer.schedule is kept["plateau"], at
        assert optimizer.recorded is kept["record"], at
        assert kept["record"].steps == kept["steps"], at
        # And nothing is put back later.
        params["W"][...] = 7.0
        held.append((optimizer, params))

    kept, held = {}, []
    act(*make())  # compiles, in which nothing is interrupted
    assert sweep(make, act, check, stride=1 if act is averaged_of else 3) > 20
    gc.collect()
    assert all(params["W"].tolist() == [7.0] * 4 for _, params in held)


def test_a_context_that_never_ends_by_itself_is_not_undone_late():
    optimizer, params = fastopt.SGD(lr=1.0, ema=0.5), zeros()
    for _ in range(3):
        optimizer.update(params, ONES)
    with optimizer.averaged(params):
        params["W"] = np.full(4, 5.0)  # another array
    assert params["W"].tolist() == [-3.0] * 4
    optimizer.update(params, ONES)
    gc.collect()
    assert params["W"].tolist() == [-4.0] * 4
    with pytest.raises(ZeroDivisionError), optimizer.averaged(params):
        raise ZeroDivisionError
    assert params["W"].tolist() == [-4.0] * 4


# 9: user types that raise.


class Container(MutableMapping):
    def __init__(self, values, is_closed):
        self.values_, self.is_closed = dict(values), is_closed

    def __getitem__(self, key):
        return self.values_[key]

    def __setitem__(self, key, value):
        if self.is_closed and key == "t":
            raise ZeroDivisionError
        self.values_[key] = value

    def __delitem__(self, key):
        raise TypeError

    def __iter__(self):
        return iter(self.values_)

    def __len__(self):
        return len(self.values_)


class Unit(float):
    is_broken = False

    def __new__(cls, value):
        if cls.is_broken:
            raise ZeroDivisionError
        return super().__new__(cls, value)


@pytest.mark.parametrize("n_steps", [0, 2])
@pytest.mark.parametrize("what", ["__setitem__", "__new__"])
def test_user_types_that_raise_change_nothing(what, n_steps, monkeypatch):
    values = {"W": np.zeros(4), "s": Unit(1.0), "t": Unit(2.0)}
    params = Container(values, False) if what == "__setitem__" else dict(values)
    grads = {"W": np.ones(4), "s": 1.0, "t": 1.0}
    optimizer = fastopt.Momentum(lr=1.0, ema=0.5)
    for _ in range(n_steps):
        optimizer.update(params, grads)
    state, before = repr(optimizer.state_dict()), {key: np.array(p) for key, p in params.items()}
    if what == "__setitem__":
        params.is_closed = True
    else:
        monkeypatch.setattr(Unit, "is_broken", True)
    with pytest.raises(ZeroDivisionError):
        optimizer.update(params, grads)
    assert all((np.array(p) == before[key]).all() for key, p in params.items())
    assert repr(optimizer.state_dict()) == state


# 10: handlers that save.


@pytest.mark.skipif(sys.platform == "win32", reason="no such signal")
@pytest.mark.parametrize("t", [1, 2, 5])
def test_a_handler_that_saves_during_a_step_disturbs_neither(t, tmp_path):
    def save(*_):
        optimizer.save(tmp_path / "it.npz", params)

    schedule = Calling(1.0, t)
    optimizer, params = fastopt.SGD(lr=schedule, clip_norm=1e9), zeros()
    schedule.action = lambda: signal.raise_signal(signal.SIGTERM)
    before = signal.signal(signal.SIGTERM, save)
    try:
        for _ in range(5):
            assert optimizer.update(params, ONES)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert optimizer.iter == 5
    assert params["W"].tolist() == [-5.0] * 4
    other, copies = fastopt.SGD(lr=Calling(1.0), clip_norm=1e9), zeros()
    other.load(tmp_path / "it.npz", copies)
    assert other.iter == t - 1
    assert copies["W"].tolist() == [1.0 - t] * 4


@pytest.mark.long
@pytest.mark.parametrize("n_steps", [0, 3])
@pytest.mark.parametrize(
    "options", [{}, {"clip_norm": 1e9, "ema": 0.5}, {"groups": {"b": {"lr_scale": 1.0}}}]
)
def test_a_handler_that_saves_at_any_moment_disturbs_neither(options, n_steps):
    for at in range(1, 100_000):
        optimizer, params = fastopt.SGD(lr=1.0, **options), zeros() | {"s": 0.0}
        grads = ONES | {"s": 1.0}
        for _ in range(n_steps):
            optimizer.update(params, grads)
        seen = []

        def look():
            state = optimizer.state_dict()  # noqa: B023
            seen.append((state["iter"], {float(v) for p in params.values() for v in np.ravel(p)}))  # noqa: B023

        events = Events(at, look)
        with events:
            assert optimizer.update(params, grads)
        assert optimizer.iter == n_steps + 1
        assert {float(v) for p in params.values() for v in np.ravel(p)} == {-1.0 - n_steps}
        if not seen:
            break
        assert seen[0][1] == {-float(seen[0][0])}, at
    assert at > 5


# 11: Ctrl-C and the lock.


ACTS = {
    "update": lambda optimizer, params: optimizer.update(params, ONES),
    "state_dict": lambda optimizer, params: optimizer.state_dict(),
    "drop_state": lambda optimizer, params: optimizer.drop_state("W"),
    "assign": lambda optimizer, params: setattr(optimizer, "nonfinite", "skip"),
    "load": lambda optimizer, params: optimizer.load_state_dict(optimizer.state_dict()),
    "average": lambda optimizer, params: optimizer.average(params),
}


@pytest.mark.long
@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("n_steps", [1, 2])
def test_ctrl_c_leaves_no_lock_held(act, n_steps):
    def make():
        optimizer, params = fastopt.SGD(lr=1.0, ema=0.5, clip_norm=1e9), zeros()
        for _ in range(n_steps):
            optimizer.update(params, ONES)
        return optimizer, params

    def check(optimizer, params, at):
        assert params["W"].tolist() == [-float(optimizer.iter)] * 4, at
        thread = threading.Thread(target=optimizer.update, args=(params, ONES), daemon=True)
        thread.start()
        thread.join(5)
        assert not thread.is_alive(), at
        assert params["W"].tolist() == [-float(optimizer.iter)] * 4, at
        assert optimizer.iter >= n_steps + 1

    make()
    assert sweep(make, ACTS[act], check) > 5


# 12: steps that aren't taken.


@pytest.mark.parametrize("nonfinite", ["skip", "raise"])
def test_a_step_that_is_not_taken_shows_nothing(nonfinite):
    schedule = schedules.Step(1.0, 1, 0.5)
    optimizer, params = fastopt.SGD(lr=schedule, clip_norm=1.0, nonfinite=nonfinite), zeros()
    for _ in range(2):
        optimizer.update(params, ONES)
    shown = optimizer.lr, optimizer.grad_norm
    assert shown == (0.5, pytest.approx(math.sqrt(6)))
    try:
        assert not optimizer.update(params, {**ONES, "b": np.full(2, np.inf)})
    except FloatingPointError:
        assert nonfinite == "raise"
    assert (optimizer.lr, optimizer.grad_norm) == shown
    with pytest.raises(ValueError, match="shape"):
        optimizer.update(params, {**ONES, "b": np.ones(3)})
    assert (optimizer.lr, optimizer.grad_norm) == shown
    optimizer.update(params, {"W": np.zeros(4), "b": np.ones(2)})
    assert (optimizer.lr, optimizer.grad_norm) == (0.25, pytest.approx(math.sqrt(2)))


# 13, 14: handles.


@pytest.mark.parametrize("how", ["load", "load_state_dict", "lr_finder"])
@pytest.mark.parametrize("wrap", [lambda plateau: plateau, lambda plateau: schedules.Warmup(plateau, 1)])
def test_the_callers_plateau_stays_in_use(wrap, how, tmp_path):
    plateau = schedules.Plateau(1.0, factor=0.5, patience=0)
    optimizer, params = fastopt.SGD(lr=wrap(plateau)), zeros()
    optimizer.update(params, ONES)
    plateau.report(1.0)
    optimizer.save(tmp_path / "it.npz", params)
    state = optimizer.state_dict()
    if how == "lr_finder":

        def step():
            optimizer.update(params, ONES)
            plateau.report(5.0)
            return 1.0

        fastopt.lr_finder(step, optimizer, params, steps=5)
    else:
        plateau.report(5.0)  # half of it
        optimizer.update(params, ONES)
        if how == "load":
            optimizer.load(tmp_path / "it.npz", params)
        else:
            optimizer.load_state_dict(state)
    assert (plateau.value, plateau.best) == (1.0, 1.0)
    optimizer.update(params, ONES)
    assert optimizer.lr == 1.0
    plateau.report(5.0)
    optimizer.update(params, ONES)
    assert optimizer.lr == 0.5


def test_an_equal_plateau_that_is_assigned_is_the_one_in_use():
    old, new = (schedules.Plateau(1.0, factor=0.5, patience=0) for _ in range(2))
    optimizer, params = fastopt.SGD(lr=old), zeros()
    optimizer.lr = new
    new.report(1.0)
    new.report(2.0)
    optimizer.update(params, ONES)
    assert optimizer.lr == 0.5


def test_lr_finder_records_no_steps():
    optimizer, params = fastopt.SGD(lr=0.5), zeros()
    record = optimizer.record(1)
    optimizer.update(params, ONES)

    def step():
        optimizer.update(params, ONES)
        return 1.0

    fastopt.lr_finder(step, optimizer, params, steps=5)
    assert record.steps == [1]
    optimizer.update(params, ONES)
    assert record.steps == [1, 2]
    assert optimizer.recorded is record


# 15, 16: plans.


def test_a_value_that_is_there_already_keeps_the_plan():
    groups = {"b": {"lr_scale": 2.0}}
    options = {
        "nonfinite": "raise",
        "threads": 1,
        "clip_norm": 1.0,
        "lr": 0.5,
        "groups": groups,
        "decay_params": "matrices",
    }
    optimizer, params = fastopt.SGD(**options), zeros()
    optimizer.update(params, ONES)
    plan = optimizer.engine.plan
    assert plan is not None
    for name, value in {**options, "groups": {"b": {"lr_scale": 2.0}}}.items():
        setattr(optimizer, name, value)
        assert optimizer.engine.plan is plan
        optimizer.update(params, ONES)
        assert optimizer.engine.plan is plan
    optimizer.lr = 0.25
    optimizer.update(params, ONES)
    assert optimizer.engine.plan is plan
    optimizer.nonfinite = "warn"
    optimizer.update(params, ONES)
    assert optimizer.engine.plan is not plan


def n_lines(act):
    """Return the number of lines of Python that a call runs."""
    count = 0

    def trace(frame, event, argument):
        nonlocal count
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        act()
    finally:
        sys.settrace(before)
    return count


def test_planning_takes_time_in_proportion_to_the_arrays():
    def work(n):
        params, grads = [np.zeros(4) for _ in range(n)], [np.ones(4) for _ in range(n)]
        return n_lines(lambda: fastopt.Adam().update(params, grads))

    work(10)
    assert 100 < work(800) < 8 * 1.1 * work(100)


def test_nadam_resumes_late_in_no_time():
    optimizer, params = fastopt.NAdam(), zeros()
    optimizer.update(params, ONES)
    optimizer.iter = 10**7
    assert n_lines(lambda: optimizer.update(params, ONES)) < 10_000
    assert all(np.isfinite(p).all() for p in params.values())


# 17: threads that step.

STEPPING = """
import sys, threading
import numpy as np, fastopt
sys.setswitchinterval(1e-6)
failures = []

def together(*targets):
    def guarded(target):
        try:
            target()
        except BaseException as error:
            failures.append(repr(error))
    threads = [threading.Thread(target=guarded, args=(target,)) for target in targets]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, failures

# One optimizer: counts, states, options.
params = {"a": np.zeros(1000), "b": np.zeros(100_000, np.float16), "c": 0.0}
grads = {"a": np.ones(1000), "b": np.ones(100_000, np.float16), "c": 1.0}
optimizer = fastopt.SGD(lr=1.0, ema=0.5)
def train():
    for _ in range(100):
        optimizer.update(params, grads)
def assign():
    for i in range(100):
        optimizer.clip_norm = [None, 1e9][i % 2]
        optimizer.groups = [None, {"a": {"lr_scale": 1.0}}][i // 2 % 2]
        optimizer.nonfinite = ["warn", "raise"][i // 3 % 2]
together(train, train, assign, train, train)
assert optimizer.iter == 400
assert {float(v) for p in params.values() for v in np.ravel(p)} == {-400.0}

# Different optimizers, of two threads each.
def trainer(rule):
    optimizer, params = rule(lr=1.0, threads=2), [np.zeros(60_000), np.zeros((50, 60)).T]
    def train():
        for _ in range(100):
            optimizer.update(params, [np.ones(60_000), np.ones((60, 50))])
        assert {float(v) for p in params for v in np.ravel(p)} == {-100.0}
    return train
together(*[trainer(fastopt.SGD) for _ in range(4)])
"""


def test_threads_that_step_at_once():
    run_script(STEPPING)


# 20: a handler's step with a parameter that the interrupted one plans as new, too.


@pytest.mark.long
@pytest.mark.parametrize(
    ("kind", "how", "mode"),
    [("one", "another", "now"), ("one", "dropped", "never"), ("partition", "another", "never")],
)
def test_a_handler_steps_on_the_same_new_parameter(kind, how, mode, monkeypatch):
    monkeypatch.setenv("FASTOPT_COMPILE", mode)

    def train(at):
        make = {"one": fastopt.Momentum, "partition": lambda: fastopt.Partition({"*": fastopt.Momentum()})}
        optimizer, params = make[kind](), {key: np.zeros(3) for key in "ab"}
        optimizer.update(
            *[{key: own[key] for key in "ab"[: 1 + (how == "dropped")]} for own in (params, ones)]
        )
        if how == "dropped":
            optimizer.drop_state("b")
        handler = Events(at, lambda: optimizer.update(params, ones))
        with handler:
            optimizer.update(params, ones)
        if handler.count < at:  # it came after all
            optimizer.update(params, ones)
        return optimizer, params, handler.count < at

    ones = {key: np.ones(3) for key in "ab"}
    _, expected, _ = train(10**9)
    for at in range(1, 10_000):
        optimizer, params, is_over = train(at)
        assert all((params[key] == expected[key]).all() for key in params), at
        assert optimizer.iter == 3
        if is_over:
            break
    assert at > 50


@pytest.mark.long
@pytest.mark.parametrize("make", [lambda: fastopt.Momentum(ema=0.5), fastopt.Prodigy])
def test_ctrl_c_within_a_step_in_numpy_leaves_all_or_nothing(make, monkeypatch):
    monkeypatch.setenv("FASTOPT_COMPILE", "never")

    def begin():
        optimizer, params = make(), {"W": np.ones((4, 3)).T, "s": 1.0}
        optimizer.update(params, {"W": np.ones((3, 4)), "s": 0.5})
        return optimizer, params

    def step(optimizer, params):
        optimizer.update(params, {"W": np.ones((3, 4)), "s": -0.5})

    def look(optimizer, params):
        return [np.array(p).tobytes() for p in params.values()], state_bytes(optimizer)

    seen = [look(*begin()), None]
    done = begin()
    step(*done)
    seen[1] = look(*done)

    def check(optimizer, params, at):
        assert look(optimizer, params) in seen, at

    assert sweep(begin, step, check) > 20


# 21: a handler's step, micro-batch or load while something is read or changed that isn't a step.


def one(**options):
    """Return an optimizer and parameters after two steps."""
    optimizer, params = fastopt.Momentum(**options), {key: np.arange(3.0) for key in "ab"}
    for _ in range(2):
        optimizer.update(params, {key: np.ones(3) for key in "ab"})
    return optimizer, params


def step(optimizer, params):
    optimizer.update(params, {key: np.full(3, -2.0) for key in "ab"})


def thawing():
    optimizer, params = fastopt.Prodigy(groups={"b": {"freeze": True}}), {key: np.arange(3.0) for key in "ab"}
    step(optimizer, params)
    optimizer.groups = None
    return optimizer, params


def begun(optimizer):
    """Return an optimizer and parameters after a step."""
    params = {key: np.arange(1.0, 4.0) for key in "ab"}
    step(optimizer, params)
    return optimizer, params


def clipped_members(of_member=None, **options):
    """Return members whose gradients are clipped in proportion to the parameters."""
    first = fastopt.AdaGrad(clip_adaptive=of_member)
    return begun(fastopt.Partition({"a": first, "*": fastopt.Momentum()}, **options))


def other_step(optimizer, params):
    optimizer.update(params, {key: np.ones(3) for key in "ab"})


WHOLE = {
    "clip_adaptive": (lambda: begun(fastopt.Momentum(clip_adaptive=0.25, clip_norm=1.0)), other_step, step),
    "clip_adaptive of all": (lambda: clipped_members(clip_adaptive=0.25, clip_norm=1.0), other_step, step),
    "clip_adaptive of a member": (lambda: clipped_members(0.25), other_step, step),
    "flush": (lambda: one(accumulate=4), lambda o, p: o.flush(p), step),
    "drop_state": (one, lambda o, p: o.drop_state("b"), step),
    "thawing": (thawing, step, step),
}


@pytest.mark.long
@pytest.mark.parametrize("what", WHOLE)
def test_what_a_handler_does_comes_before_or_after(what):
    make, act, other = WHOLE[what]

    def outcome(*actions):
        optimizer, params = make()
        for action in actions:
            action(optimizer, params)
        return [p.tolist() for p in params.values()], state_bytes(optimizer), optimizer.iter

    orders = [outcome(act, other), outcome(other, act)]
    for at in range(1, 10_000):
        events = []

        def interrupted(optimizer, params, at=at, events=events):
            events.append(Events(at, lambda: other(optimizer, params)))
            with events[0]:
                act(optimizer, params)

        result = outcome(interrupted)
        if events[0].count < at:
            break
        assert result in orders, at
    assert at > 20


LOOKS = {
    "state_dict": lambda o, p: state_bytes(o),
    "average": lambda o, p: [a.tolist() for a in o.average(p).values()],
    "pickle": lambda o, p: state_bytes(pickle.loads(pickle.dumps(o))),
}


@pytest.mark.long
@pytest.mark.parametrize("look", LOOKS)
def test_a_copy_with_a_handlers_step_is_of_one_moment(look):
    optimizer, params = one(ema=0.5)
    allowed = [LOOKS[look](optimizer, params)]
    step(optimizer, params)
    allowed.append(LOOKS[look](optimizer, params))
    for at in range(1, 10_000):
        optimizer, params = one(ema=0.5)
        with Events(at, lambda o=optimizer, p=params: step(o, p)) as events:
            found = LOOKS[look](optimizer, params)
        if events.count < at:
            break
        assert found in allowed, at
    assert at > 20
