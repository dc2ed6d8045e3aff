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
from fastopt.engine.compiling import background as module
from fastopt.engine.compiling.units import driver_unit
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
    file = driver_unit().file
    (folder / file).write_bytes(Path(os.environ["FASTOPT_CACHE_DIR"], file).read_bytes())
    return folder


def train(cache, before="", after="", **options):
    """Train while another process compiles. Returns what is printed."""
    environment = {"FASTOPT_CACHE_DIR": str(cache), "FASTOPT_COMPILE": "background", **options}
    out, err = python(WAIT.format(before=before, after=after), **environment)
    assert err == ""
    return out.split()


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


@needs_jit
@pytest.mark.parametrize("flag", ["-O", "-OO"])
def test_flags_of_the_interpreter_are_handed_on(flag, cache):
    out = subprocess.run(
        [sys.executable, flag, "-c", WAIT.format(before="", after="")],
        env={**os.environ, "PYTHONPATH": str(PACKAGE.parent), "FASTOPT_CACHE_DIR": str(cache)}
        | {"FASTOPT_COMPILE": "background"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert out.split() == ["True", "False"]


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
    """No process can be started, so this one compiles."""
    (tmp_path / "subprocess.py").write_text("")
    script = tmp_path / "script.py"
    script.write_text(WAIT.format(before="", after=""))
    out = subprocess.run(
        [sys.executable, str(script)],
        env={**os.environ, "PYTHONPATH": str(PACKAGE.parent), "FASTOPT_CACHE_DIR": str(cache)}
        | {"FASTOPT_COMPILE": "background"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert out.split() == ["True", "True"]


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


# What a step makes of what happens meanwhile.


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
