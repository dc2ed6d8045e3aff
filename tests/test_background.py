"""The process that compiles while a program trains, whatever the program does meanwhile."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from test_compiled import needs_jit, python

import fastopt
from fastopt.engine.compiled_plan import CompiledPlan
from fastopt.engine.compiling import background as module
from fastopt.engine.compiling.units import driver_unit, others_unit
from fastopt.engine.plain_plan import PlainPlan
from fastopt.options.accumulation import Accumulation
from fastopt.step import Step

PACKAGE = Path(fastopt.__file__).parent
posix = pytest.mark.skipif(os.name != "posix", reason="processes and signals are POSIX's")

# Trains until compiled code takes the steps, and says whether it ever did, and with whose help.
WAIT = """
import os, sys, time
import numpy as np
import fastopt
params, until = [np.ones(3)], time.monotonic() + 60

def take(opt):
    opt.update(params, [np.ones(3)])
    return opt.compiled or time.monotonic() > until

opt = fastopt.SGD(0.1)
{before}
take(opt)
{after}
while not take(opt):
    time.sleep(0.01)
print(opt.compiled, "numba" in sys.modules)
"""


@pytest.fixture
def cache(tmp_path):
    """A cache that has the step, which takes seconds, and no rule."""
    folder = tmp_path / "cache"
    folder.mkdir(mode=0o755)
    fastopt.warmup(["SGD"], ["float64"], progress=False)
    for file in (driver_unit().file, others_unit().file):
        (folder / file).write_bytes(Path(os.environ["FASTOPT_CACHE_DIR"], file).read_bytes())
    return folder


def train(cache, before="", after="", **options):
    """Train while another process compiles. Returns what is printed."""
    environment = {"FASTOPT_CACHE_DIR": str(cache), "FASTOPT_COMPILE": "background", **options}
    out, err = python(WAIT.format(before=before, after=after), **environment)
    assert err == ""
    return out.split()


def run(cache, *arguments):
    """Run Python with arguments of its own. Returns what is printed."""
    environment = {"PYTHONPATH": str(PACKAGE.parent), "FASTOPT_CACHE_DIR": str(cache)}
    return subprocess.run(
        [sys.executable, *arguments],
        env={**os.environ, **environment, "FASTOPT_COMPILE": "background"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()


@needs_jit
@posix
def test_a_program_that_waits_for_its_children_does_not_wait_for_this_one(cache):
    after = """
try:
    os.wait()
    print("had a child")
except ChildProcessError:
    pass
"""
    assert train(cache, after=after) == ["True", "False"]


@needs_jit
def test_a_relative_folder_is_that_of_the_first_step(cache):
    after = "os.makedirs('elsewhere'); os.chdir('elsewhere')"
    environment = {"FASTOPT_CACHE_DIR": cache.name, "PYTHONPATH": str(PACKAGE.parent)}
    assert train(cache, after=after, **environment, root=cache.parent) == ["True", "False"]
    assert list(cache.glob("sgd-*.code"))
    assert not (cache.parent / "elsewhere" / cache.name).exists()


@pytest.mark.long
@needs_jit
@posix
def test_a_process_that_is_killed_is_started_again(cache):
    """Once, and then this one compiles."""
    before = """
from fastopt.engine.compiling import background
right = background.COMMAND
background.COMMAND = "import os; os.kill(os.getpid(), 9)"
"""
    after = "time.sleep(0.2); background.COMMAND = right"
    assert train(cache, before, after) == ["True", "False"]
    (file,) = cache.glob("sgd-*.code")
    file.unlink()
    assert train(cache, before, "time.sleep(0.2)") == ["True", "True"]


@needs_jit
def test_a_process_that_has_other_sources_is_given_up(cache):
    """Its code would have another name, for which this one would wait for ever."""
    after = """
from fastopt.engine.compiling.background import background
background.request("other-name-", "step", [])
while "other-name-" in background.waiting and time.monotonic() < until:
    time.sleep(0.01)
    background.look()
print("other-name-" in background.failed)
"""
    assert train(cache, after=after)[:2] == ["True", "True"]


@pytest.mark.long
@needs_jit
@pytest.mark.parametrize("flag", ["-O", "-OO"])
def test_flags_of_the_interpreter_are_handed_on(flag, cache):
    assert run(cache, flag, "-c", WAIT.format(before="", after="")) == ["True", "False"]


@needs_jit
def test_an_interrupt_of_the_request_leaves_it_to_the_next_step(cache):
    before = """
from fastopt.engine.compiling import background

def interrupted(*_):
    os.write = write
    raise KeyboardInterrupt

write, os.write = os.write, interrupted
try:
    take(opt)
except KeyboardInterrupt:
    print("interrupted")
"""
    assert train(cache, before) == ["interrupted", "True", "False"]


@needs_jit
def test_a_module_with_the_name_of_one_of_pythons_ends_no_step(cache, tmp_path):
    """No process can be started, so this one compiles, unless Numba needs that module, as 0.60 does."""
    (tmp_path / "subprocess.py").write_text("")
    script = tmp_path / "script.py"
    script.write_text(WAIT.format(before="", after=""))
    code = "from fastopt.engine.native import driver, emission; emission.load_registries()"
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE.parent)}
    alone = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True)
    assert run(cache, str(script)) == [str(alone.returncode == 0), "True"]


@posix
def test_a_process_that_is_gone_is_noticed():
    process = module.start()
    assert not module.is_over(process)
    process.stdin.close()
    read, write = os.pipe()
    process.stdin = os.fdopen(write, "wb")
    assert not module.is_over(process)
    os.close(read)
    assert module.is_over(process)


OWN = """
import sys
from dataclasses import dataclass
import numpy as np
import fastopt

@fastopt.kernel
def softsign(param, grad, m, grad_scale, l2, keep, lr):
    for i in range(param.size):
        m[i] = 0.7 * m[i] + 0.3 * ((grad[i] > 0) - (grad[i] < 0))
        param[i] = param[i] - 0.1 * lr * np.exp(m[i])

@dataclass(eq=False)
class Softsign(fastopt.Optimizer):
    kernel = softsign
    lr: float = fastopt.hyperparameter(0.1)
    m = fastopt.State()

    def scalars(self, t):
        return (self.lr,)

params, opt = [np.linspace(-1, 1, 9, dtype="float32")], Softsign()
for step in range(5):
    opt.update(params, [np.sin(params[0] + step)])
    print(opt.compiled, params[0].tobytes().hex())
"""


@pytest.mark.long
@needs_jit
def test_no_step_of_a_kernel_of_ones_own_is_taken_in_numpy(tmp_path):
    """It has literals and `exp` in float32, and what only compiled code can subtract."""
    environment = {"FASTOPT_CACHE_DIR": str(tmp_path)}
    # Nothing is compiled yet, not even the step.
    cold, _ = python(OWN, FASTOPT_COMPILE="background", **environment)
    assert [line.split()[0] for line in cold.splitlines()] == ["True"] * 5
    assert python(OWN, FASTOPT_COMPILE="now", **environment)[0] == cold


def test_a_kernel_that_numpy_can_not_run_is_named():
    with pytest.raises(subprocess.CalledProcessError) as failed:
        python(OWN, FASTOPT_COMPILE="never")
    last = failed.value.stderr.splitlines()[-1]
    assert last.startswith("TypeError: kernel 'softsign' can't run in plain NumPy (numpy boolean subtract")
    assert last.endswith("(FASTOPT_COMPILE=now)")


HANDLED = """
import signal, sys
from dataclasses import dataclass
import numpy as np
import fastopt

@fastopt.kernel
def own(param, grad, grad_scale, l2, keep, lr):
    for i in range(param.size):
        param[i] = param[i] - lr * grad[i] + {salt}

@dataclass(eq=False)
class Own(fastopt.Optimizer):
    kernel = own
    lr: float = fastopt.hyperparameter(0.25)

    def scalars(self, t):
        return (self.lr,)

params, opt, seen = [np.ones(3)], Own() if {is_own} else fastopt.SGD(0.25), []

def handler(*_):
    seen.append(1)
    if {error}:
        raise {error}
    opt.update(params, [np.ones(3)])

signal.signal(signal.SIGALRM, handler)
signal.setitimer(signal.ITIMER_REAL, {seconds})
try:
    while not seen:
        opt.update(params, [np.ones(3)])
except ({error} or KeyError):
    print("raised")
for _ in range(2):
    opt.update(params, [np.ones(3)])
print((1 - 0.25 * opt.iter == params[0]).all(), opt.compiled)
"""


@needs_jit
@posix
@pytest.mark.parametrize("seconds", [0.05, 0.5])
def test_a_handler_steps_while_something_is_compiled(seconds, cache):
    """It would wait for itself: such a step is taken in NumPy."""
    code = HANDLED.format(salt=0, is_own=True, seconds=seconds, error=None)
    out, err = python(code, FASTOPT_CACHE_DIR=str(cache), FASTOPT_COMPILE="now")
    assert (out.split(), err) == (["True", "True"], "")


@needs_jit
@posix
@pytest.mark.parametrize("seconds", [0.002, 0.005, 0.01, 0.02])
def test_what_a_handler_raises_is_not_taken_for_a_damaged_file(seconds, cache):
    error = "RuntimeError"
    before = sorted(file.name for file in cache.glob("*.code"))
    code = HANDLED.format(salt=0, is_own=False, seconds=seconds, error=error)
    out, err = python(code, FASTOPT_CACHE_DIR=str(cache), FASTOPT_COMPILE="background")
    assert "True" in out.split()
    assert "can't be used" not in err
    assert {*before} <= {file.name for file in cache.glob("*.code")}


def test_an_arrival_is_not_forgotten(monkeypatch):
    """Whatever interrupts the look, the next one finds it again."""

    class Interrupted(dict):
        def __delitem__(self, key):
            raise KeyboardInterrupt

    looking = module.Background()
    looking.waiting = Interrupted({"unit-": module.Wish("step", [])})
    monkeypatch.setattr(module, "stamps_of", lambda prefix: [("unit-1.code", 1)])
    monkeypatch.setattr(looking, "_is_alive", lambda: True)
    with pytest.raises(KeyboardInterrupt):
        looking.look()
    assert looking.n_arrived == 1
    looking.waiting, looking.next_look = dict(looking.waiting), 0.0
    assert looking.look() == 2
    assert looking.waiting == {}


@needs_jit
def test_another_folder_is_asked_anew(cache, tmp_path):
    other = tmp_path / "other"
    other.mkdir(mode=0o755)
    for file in cache.glob("step-*"):
        (other / file.name).write_bytes(file.read_bytes())
    after = f"os.environ['FASTOPT_CACHE_DIR'] = {str(other)!r}"
    assert train(cache, after=after) == ["True", "False"]
    assert list(other.glob("sgd-*.code"))


@pytest.mark.long
@needs_jit
@posix
def test_a_disk_that_is_full_is_no_place_to_wait_for(cache):
    """Then this process compiles, with one warning."""
    before = """
import resource, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
"""
    environment = {"FASTOPT_CACHE_DIR": str(cache), "FASTOPT_COMPILE": "background"}
    out, err = python(WAIT.format(before=before, after=""), **environment)
    assert out.split() == ["True", "True"]
    assert err.count("Warning:") == 1
    assert "compiled code can't be kept" in err


@posix
def test_a_relative_folder_of_a_directory_that_is_gone(tmp_path):
    code = """
import os, numpy as np, fastopt, sys
os.mkdir("gone"); os.chdir("gone"); os.rmdir("../gone")
params, opt = [np.ones(3)], fastopt.SGD(0.25)
opt.update(params, [np.ones(3)])
print(params[0].tolist())
"""
    environment = {"FASTOPT_CACHE_DIR": "cache", "FASTOPT_COMPILE": "background"}
    out, _ = python(code, root=tmp_path, PYTHONPATH=str(PACKAGE.parent), **environment)
    assert out.strip() == "[0.75, 0.75, 0.75]"


# What a step makes of what happens meanwhile.


@pytest.mark.parametrize("mode", ["never", "now"])
@pytest.mark.parametrize("place", ["counts", "add"])
def test_a_handler_gives_a_micro_batch_while_another_is_added(place, mode, monkeypatch):
    """The window is full then, and a step is taken."""
    monkeypatch.setenv("FASTOPT_COMPILE", mode)
    params, done = {"w": np.ones(2)}, []
    optimizer = fastopt.SGD(lr=0.25, accumulate=2)
    for _ in range(2):
        optimizer.update(params, {"w": np.zeros(2)})

    def give():
        if not done:
            done.append(1)
            optimizer.update(params, {"w": np.ones(2)})

    counts, add = Accumulation.counts, Accumulation.add

    def counts_before(self, *arguments):
        found = counts(self, *arguments)
        give()
        return found

    def add_after(self, *arguments):
        give()
        return add(self, *arguments)

    if place == "counts":
        monkeypatch.setattr(Accumulation, "counts", counts_before)
        monkeypatch.setattr(Accumulation, "add", lambda *_: False)
    else:
        monkeypatch.setattr(Accumulation, "add", add_after)
    optimizer.update(params, {"w": np.ones(2)})
    assert optimizer.iter == 2
    assert params["w"].tolist() == [0.75, 0.75]


@pytest.mark.parametrize("mode", ["never", "now"])
def test_a_handler_steps_before_the_count_is_read(mode, monkeypatch):
    monkeypatch.setenv("FASTOPT_COMPILE", mode)
    params, done = {"w": np.ones(2), "b": 1.0}, []
    optimizer = fastopt.SGD(lr=0.25)
    optimizer.update(params, {"w": np.zeros(2), "b": 0.0})
    for kind in (PlainPlan, CompiledPlan):
        for name in ("fits", "__init__"):
            own = getattr(kind, name)

            def interrupted(self, *arguments, own=own, **options):
                result = own(self, *arguments, **options)
                if not done:
                    done.append(1)
                    optimizer.update(params, {"w": np.ones(2), "b": 1.0})
                return result

            monkeypatch.setattr(kind, name, interrupted)
    optimizer.update(params, {"w": np.ones(2), "b": 1.0})
    assert (optimizer.iter, params["b"], params["w"].tolist()) == (3, 0.5, [0.5, 0.5])


def test_no_step_is_compiled_before_the_first():
    optimizer = fastopt.Adam()
    assert optimizer.compiled is False
    optimizer.update([np.ones(2)], [np.ones(2)])
    assert optimizer.compiled is (os.environ["FASTOPT_COMPILE"] == "now")


@posix
@pytest.mark.parametrize("mode", ["never", "now"])
@pytest.mark.parametrize("place", ["__init__", "begin"])
def test_a_step_of_a_handler_counts_for_numbers_too(place, mode, monkeypatch):
    """Numbers are replaced in their container: the step that was interrupted takes the new one."""
    monkeypatch.setenv("FASTOPT_COMPILE", mode)
    params = {"w": np.ones(2), "b": 1.0}
    grads = {"w": np.ones(2), "b": 1.0}
    optimizer = fastopt.SGD(lr=0.25)
    optimizer.update(params, {"w": np.zeros(2), "b": 0.0})
    own, steps = getattr(Step, place), []

    def interrupted(self, *arguments, **options):
        if not steps:
            steps.append(1)
            signal.raise_signal(signal.SIGUSR1)
        return own(self, *arguments, **options)

    before = signal.signal(signal.SIGUSR1, lambda *_: optimizer.update(params, grads))
    try:
        monkeypatch.setattr(Step, place, interrupted)
        optimizer.update(params, grads)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert (optimizer.iter, params["b"], params["w"].tolist()) == (3, 0.5, [0.5, 0.5])


GATHERING = """
import time, numpy as np, fastopt
contiguous, strided = np.ones((3, 2)), np.ones((3, 4))[:, ::2]
one, other, averaging = fastopt.SGD(), fastopt.SGD(), fastopt.SGD(ema=0.5)
for _ in range(2):
    one.update([contiguous], [contiguous * 1])
    other.update([strided], [strided])
    averaging.update([contiguous], [contiguous * 1])
print(one.compiled, other.compiled, averaging.compiled)
end = time.monotonic() + 60
while not (other.compiled and averaging.compiled) and time.monotonic() < end:
    other.update([strided], [strided])
    averaging.update([contiguous], [contiguous * 1])
    time.sleep(0.01)
print(other.compiled, averaging.compiled)
"""


@pytest.mark.long
@needs_jit
def test_steps_on_contiguous_arrays_do_not_wait_for_what_gathers_others(cache):
    python("import fastopt; fastopt.warmup(['SGD'], ['float64'])", FASTOPT_CACHE_DIR=str(cache))
    (cache / others_unit().file).unlink()
    out, _ = python(GATHERING, FASTOPT_CACHE_DIR=str(cache), FASTOPT_COMPILE="background")
    assert out.split() == ["True", "False", "False", "True", "True"]
