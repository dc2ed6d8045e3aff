"""The start: steps in plain NumPy until there is compiled code, and the cache that later processes load."""

import os
import shutil
import signal
import subprocess
import sys
import zipfile
from contextlib import nullcontext, suppress
from itertools import cycle
from pathlib import Path

import numpy as np
import pytest
from cases import DTYPES, RULES, snapshot, state_bytes, takes
from test_compiled import needs_jit, python

import fastopt
from fastopt.engine.compiling.background import background
from fastopt.engine.compiling.code import interruptible
from fastopt.engine.compiling.units import driver_unit, others_unit
from fastopt.tools import precompilation

PACKAGE = Path(fastopt.__file__).parent
posix = pytest.mark.skipif(os.name != "posix", reason="modes of files are POSIX's")

# What is done in fresh processes: some steps, what came of them, and whether Numba was imported.
TRAIN = """
import sys, warnings
warnings.simplefilter("always")
import numpy as np
import fastopt
params = [np.linspace(-1.0, 1.0, 9), np.ones((3, 2))]
opt = fastopt.{rule}
for step in range(3):
    opt.update(params, [np.sin(p + step) for p in params])
print(b"".join(p.tobytes() for p in params).hex(), "numba" in sys.modules, opt.compiled)
"""


def train(folder, rule="Adam(0.1)", mode="now", **environment):
    """Train in a fresh process. Returns the bits, whether it has Numba, whether it compiled, its warnings."""
    environment = {"FASTOPT_CACHE_DIR": str(folder), "FASTOPT_COMPILE": mode, **environment}
    out, err = python(TRAIN.format(rule=rule), **environment)
    bits, has_numba, is_compiled = out.split()
    return bits, has_numba == "True", is_compiled == "True", err.count("Warning:")


@pytest.fixture(scope="session")
def expected():
    return train("nowhere", mode="never")[0]


@pytest.fixture(scope="session")
def filled(tmp_path_factory):
    """A cache with all that an Adam in float64 needs."""
    folder = tmp_path_factory.mktemp("cache")
    # The step, which takes seconds, is there already.
    shared = os.environ["FASTOPT_CACHE_DIR"]
    fastopt.warmup(["SGD"], ["float64"], progress=False)
    for unit in (driver_unit(), others_unit()):
        shutil.copy2(Path(shared, unit.file), folder)
    assert train(folder)[1:] == (True, True, 0)
    return folder


@pytest.fixture
def cache(filled, tmp_path):
    """A copy of that cache, which a test may damage."""
    shutil.copytree(filled, tmp_path / "cache")
    return tmp_path / "cache"


# Steps in plain NumPy.


def switch(monkeypatch, mode):
    """Let the next step look anew for code, in a mode: "never" is as if none had been compiled yet."""
    monkeypatch.setenv("FASTOPT_COMPILE", mode)
    background.n_arrived += 1


def walk(monkeypatch, optimizer, dtype, shapes, switch_at, n_steps):
    """Take steps, in plain NumPy before a step number and compiled from then on. Returns what there is."""
    rng = np.random.default_rng(3)
    params = {key: rng.standard_normal(shape).astype(dtype) for key, shape in shapes.items()}
    for number in range(1, n_steps + 1):
        switch(monkeypatch, "now" if number >= switch_at else "never")
        grads = {key: rng.standard_normal(p.shape).astype(dtype) for key, p in params.items()}
        taken = optimizer.update(params, grads)
        assert not taken or optimizer.compiled is (number >= switch_at)
    return snapshot(params), state_bytes(optimizer), optimizer.iter


@needs_jit
@pytest.mark.parametrize(("rule", "dtype"), [*zip(RULES, cycle(DTYPES), strict=False)])
def test_the_kernel_takes_over_at_any_step_with_the_same_bits(rule, dtype, monkeypatch):
    shapes = {"W": (5, 4), "V": (3, 70)} | ({"b": (7,)} if takes(rule, (7,)) else {})

    def run(switch_at):
        return walk(monkeypatch, getattr(fastopt, rule)(0.1), dtype, shapes, switch_at, 21)

    compiled = run(1)
    for switch_at in (*range(2, 22), 22):
        assert run(switch_at) == compiled, switch_at


OPTIONS = [
    {"clip_norm": 0.5},
    {"clip_value": 0.2, "ema": 0.9},
    {"clip_norm_each": 0.5, "weight_decay": 0.1},
    {"accumulate": 3},
    {"lookahead": (3, 0.5), "nonfinite": "raise"},
    {"maximize": True, "swa": 2, "lr": fastopt.schedules.Cosine(0.1, 20)},
    {"groups": {"b": {"lr_scale": 0.5}}},
    {"groups": {"b": {"freeze": True}}, "clip_norm": 0.5},
]


@needs_jit
@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: "-".join(options))
@pytest.mark.parametrize("rule", ["SGD", "Adam"])
def test_options_take_over_too(rule, options, monkeypatch):
    def run(switch_at):
        optimizer = getattr(fastopt, rule)(**options)
        return walk(monkeypatch, optimizer, "float64", {"W": (5, 4), "b": (7,)}, switch_at, 12)

    compiled = run(1)
    for switch_at in range(2, 14):
        assert run(switch_at) == compiled, switch_at


@needs_jit
def test_another_process_compiles_while_this_one_trains(tmp_path, filled):
    """It has no Numba, waits for nothing, and has the same bits as if the kernel had always been there."""
    for file in filled.glob("step-*.code"):  # which takes seconds
        shutil.copy2(file, tmp_path)
    code = """
import sys, time
import numpy as np
import fastopt
params, opt, n_steps, until = [np.linspace(-1.0, 1.0, 9)], fastopt.Adam(0.1), 0, time.monotonic() + 60
begin = time.perf_counter()
opt.update(params, [np.sin(params[0])])
first, was_compiled = time.perf_counter() - begin, opt.compiled
while not opt.compiled and time.monotonic() < until:
    opt.update(params, [np.sin(params[0])])
print(opt.iter, was_compiled, opt.compiled, "numba" in sys.modules, params[0].tobytes().hex())
"""
    environment = {"FASTOPT_CACHE_DIR": str(tmp_path), "FASTOPT_COMPILE": "background"}
    out, err = python(code, **environment)
    n_steps, *facts, bits = out.split()
    assert facts == ["False", "True", "False"]
    assert err == ""
    params, optimizer = [np.linspace(-1.0, 1.0, 9)], fastopt.Adam(0.1)
    for _ in range(int(n_steps)):
        optimizer.update(params, [np.sin(params[0])])
    assert params[0].tobytes().hex() == bits


@pytest.mark.long
def test_a_process_that_fails_costs_no_step(tmp_path, expected):
    """Then this one compiles; or, as Numba is broken here, trains in plain NumPy with one warning."""
    broken = tmp_path / "broken" / "numba"
    broken.mkdir(parents=True)
    (broken / "__init__.py").write_text("raise ImportError('Numba needs another NumPy')")
    (broken / "_version.py").write_text("")
    paths = os.pathsep.join([str(tmp_path / "broken"), str(PACKAGE.parent)])
    for mode in ("background", "now"):
        code = "import time\n" + TRAIN.format(rule="Adam(0.1)").replace(
            "for step in range(3):", "for step in range(3):\n    time.sleep(step)"
        )
        environment = {"FASTOPT_CACHE_DIR": str(tmp_path / mode), "FASTOPT_COMPILE": mode}
        out, err = python(code, **environment, PYTHONPATH=paths)
        assert out.split() == [expected, "False", "False"]
        assert err.count("Warning:") == 1
        assert "steps are taken in plain NumPy, as Numba can't be imported (Numba needs another NumPy)" in err


def test_never_is_plain_numpy(tmp_path, expected):
    assert train(tmp_path / "none", mode="never") == (expected, False, False, 0)
    assert not (tmp_path / "none").exists()


def test_a_mode_that_there_is_not_is_named():
    with pytest.raises(subprocess.CalledProcessError) as failed:
        train("nowhere", mode="later")
    message = "ValueError: FASTOPT_COMPILE must be background, now or never, not 'later'"
    assert message in failed.value.stderr


@pytest.mark.long
@needs_jit
@pytest.mark.parametrize(
    "before",
    [
        "sys.frozen = True",
        "sys.executable = ''",
        "import multiprocessing; multiprocessing.current_process().name = 'ForkPoolWorker-1'",
    ],
)
def test_where_no_process_can_be_started_it_compiles_in_place(before, cache, expected):
    for file in cache.glob("adam-*"):
        file.unlink()
    code = f"import sys\n{before}\n" + TRAIN.format(rule="Adam(0.1)")
    out, err = python(code, FASTOPT_CACHE_DIR=str(cache), FASTOPT_COMPILE="background")
    assert (out.split(), err) == ([expected, "True", "True"], "")


# The cache.


@needs_jit
def test_a_later_process_needs_no_numba(cache, expected):
    for mode in ("background", "now"):
        assert train(cache, mode=mode) == (expected, False, True, 0)


@pytest.mark.long
@needs_jit
def test_an_edited_kernel_is_compiled_anew(cache, tmp_path, expected):
    root = tmp_path / "copy"
    shutil.copytree(PACKAGE, root / "fastopt", ignore=shutil.ignore_patterns("__pycache__"))
    environment = {"FASTOPT_CACHE_DIR": str(cache), "FASTOPT_COMPILE": "now"}
    code = TRAIN.format(rule="Adam(0.1)")
    assert python(code, root=root, **environment)[0].split() == [expected, "False", "True"]
    file = root / "fastopt" / "kernels" / "adam.py"
    text = file.read_text()
    assert "* (g - m[i])" in text
    file.write_text(text.replace("* (g - m[i])", "* (g + m[i])", 1))
    bits, has_numba, _ = python(code, root=root, **environment)[0].split()
    assert (bits != expected, has_numba) == (True, "True")


@pytest.mark.long
@needs_jit
@pytest.mark.parametrize(
    ("which", "damage"),
    [
        ("step", "flip"),
        *(("adam", how) for how in ("cut", "flip", "empty", "foreign", "folder", "another's", "fifo")),
    ],
)
def test_row_27_a_damaged_cache_costs_one_warning_at_most(which, damage, cache, expected):
    units = fastopt.Adam.units([np.dtype("float64")])
    file = cache / units[which == "adam"].file
    data = bytearray(file.read_bytes())
    file.unlink()
    if damage == "folder":
        file.mkdir()
    elif damage == "another's":  # whose function has other arguments
        file.write_bytes((cache / units[0].file).read_bytes())
    elif damage == "fifo":  # whose reader waits for a writer
        if not hasattr(os, "mkfifo"):
            pytest.skip("no pipes")
        os.mkfifo(file, 0o644)
    else:
        data[len(data) // 2] ^= 1
        file.write_bytes({"cut": data[:-20], "flip": data, "empty": b"", "foreign": b"\x7fELF" * 99}[damage])
    assert train(cache) == (expected, True, True, 1)
    if damage != "folder":
        assert train(cache) == (expected, False, True, 0)


@pytest.mark.long
@needs_jit
@posix
def test_a_folder_that_others_may_write_to_is_refused(cache, expected):
    cache.chmod(0o777)
    assert train(cache, mode="never") == (expected, False, False, 0)
    bits, has_numba, is_compiled, n_warnings = train(cache)
    assert (bits, has_numba, is_compiled, n_warnings) == (expected, True, True, 1)


@pytest.mark.long
@needs_jit
@posix
def test_a_file_that_others_may_write_to_is_refused(cache, expected):
    [file] = cache.glob("adam-*.code")
    file.chmod(0o666)
    assert train(cache) == (expected, True, True, 1)
    assert train(cache) == (expected, False, True, 0)  # it has been written anew


@needs_jit
def test_a_folder_that_can_only_be_read_is_used(cache, expected):
    before = sorted(os.listdir(cache))
    # As the owner, or root, the tests may write everywhere.
    read_only = "import os\nos.access = lambda path, mode, **others: not mode & os.W_OK\n"
    for rule, mode, facts, n_warnings in (
        ("Adam(0.1)", "background", ["False", "True"], 0),
        ("SGD(0.1)", "background", ["True", "True"], 1),
    ):
        code = read_only + TRAIN.format(rule=rule)
        out, err = python(code, FASTOPT_CACHE_DIR=str(cache), FASTOPT_COMPILE=mode)
        assert (out.split()[1:], err.count("Warning:")) == (facts, n_warnings)
    assert sorted(os.listdir(cache)) == before


@pytest.mark.long
@needs_jit
def test_row_27_where_nothing_can_be_kept_each_process_compiles(tmp_path, expected):
    (tmp_path / "file").write_text("")
    assert train(tmp_path / "file" / "cache", mode="background") == (expected, True, True, 1)


@needs_jit
def test_row_27_eight_processes_that_start_at_once_share_a_cache(cache, expected):
    for file in cache.glob("adam-*"):
        file.unlink()
    command = [sys.executable, "-c", TRAIN.format(rule="Adam(0.1)")]
    environment = {**os.environ, "FASTOPT_CACHE_DIR": str(cache), "FASTOPT_COMPILE": "now"}
    environment["PYTHONPATH"] = str(PACKAGE.parent)
    running = [
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(8)
    ]
    ended = [process.communicate(timeout=300) for process in running]
    assert [err for _, err in ended] == [""] * 8
    assert {out.split()[0] for out, _ in ended} == {expected}
    assert sorted(out.split()[1] for out, _ in ended) == ["False"] * 7 + ["True"]  # one has compiled


@needs_jit
@pytest.mark.parametrize("kind", ["zip", "pyc"])
def test_it_works_without_sources(kind, cache, tmp_path, expected):
    root = tmp_path / "copy"
    shutil.copytree(PACKAGE, root / "fastopt", ignore=shutil.ignore_patterns("__pycache__"))
    if kind == "pyc":
        subprocess.run([sys.executable, "-m", "compileall", "-q", "-b", root], check=True)
        for file in root.rglob("*.py"):
            file.unlink()
        path = root
    else:
        path = tmp_path / "fastopt.zip"
        with zipfile.ZipFile(path, "w") as archive:
            for file in root.rglob("*.py"):
                archive.write(file, file.relative_to(root))
    shutil.rmtree(root) if kind == "zip" else None
    environment = {"FASTOPT_CACHE_DIR": str(cache), "PYTHONPATH": str(path)}
    code = TRAIN.format(rule="Adam(0.1)")
    if kind == "zip":  # the sources are the same, so is what they were compiled to
        out = python(code, **environment, FASTOPT_COMPILE="now", root=tmp_path)[0]
        assert out.split() == [expected, "False", "True"]
    else:
        out = python(code, **environment, FASTOPT_COMPILE="never", root=tmp_path)[0]
        assert out.split() == [expected, "False", "False"]


# warmup.


def command(*arguments, **environment):
    """Run a command line. Returns the completed process."""
    return subprocess.run(
        [sys.executable, "-m", "fastopt", *arguments],
        env={**os.environ, "PYTHONPATH": str(PACKAGE.parent), **environment},
        cwd=PACKAGE.parent,
        capture_output=True,
        text=True,
    )


@pytest.mark.long
@needs_jit
def test_warmup_compiles_for_later_processes(cache, expected):
    for file in cache.glob("adam-*"):
        file.unlink()
    environment = {"FASTOPT_CACHE_DIR": str(cache), "FASTOPT_COMPILE": "background"}
    done = command("warmup", "Adam", "clip_norm", "--dtypes", "float64", **environment)
    assert (done.returncode, done.stdout) == (0, "")
    titles = ["adam-float64", "grad_squares-float64", "no_update-float64"]
    lines = [f"compiling {titles[k]} ({n} of 3)" for n, k in enumerate((0, 1, 2), 1)]
    assert done.stderr.splitlines() == lines
    assert train(cache) == (expected, False, True, 0)
    assert train(cache, "Adam(0.1, clip_norm=0.5)")[1:] == (False, True, 0)
    again = command("warmup", "Adam", "clip_norm", "--dtypes", "float64", **environment)
    assert (again.returncode, again.stderr) == (0, "all of it is compiled already\n")


@needs_jit
def test_warmup_compiles_what_was_used_before(cache, monkeypatch):
    """Also with another version, whose files have other names."""
    monkeypatch.setenv("FASTOPT_CACHE_DIR", str(cache))
    assert precompilation.used() == ["Adam", "PaperAdam", "AdamW"]  # which have one kernel
    for file in cache.glob("adam-*.code"):
        file.rename(cache / "momentum-float32-0123456789abcdef01234567-0123456789ab.code")
    # A part of the book's may be all that an interrupted call has left.
    assert precompilation.used() == ["SGD", "Momentum", "Nesterov", "AdaGrad", "RMSprop", "Adam"]
    for file in cache.glob("momentum-*"):
        file.rename(cache / "lion-float32-0123456789abcdef01234567-0123456789ab.code")
    assert precompilation.used() == ["Lion"]
    for file in cache.glob("lion-*"):
        file.rename(cache / "averaged_adam-float32-0123456789abcdef01234567-0123456789ab.code")
    assert [rule.__name__ for rule in precompilation.used()] == ["AveragedAdam"]
    for file in cache.glob("averaged_adam-*"):
        file.unlink()
    assert precompilation.used() == ["SGD", "Momentum", "Nesterov", "AdaGrad", "RMSprop", "Adam"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["Adm"], "'Adm' is no rule; did you mean Adam"),
        (["--dtypes", "float16"], "'float16' is neither float32 nor float64"),
        (["Adam", "clipnorm"], "'clipnorm' is no rule; there are SGD, "),
        (["Adam", "clipnorm"], "the options accumulate, clip_norm, clip_norm_each, clip_rms, clip_value"),
        (["scikit-learn"], "and the adapters cs231n, dezero, nnfs, numpy_ml, sklearn"),
        (["Adam", "ema"], "ema has no code of its own: it needs none but its rule's"),
    ],
)
def test_warmup_says_what_is_wrong(arguments, message):
    done = command("warmup", *arguments)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert message in done.stderr


def test_warmup_says_when_nothing_can_be_compiled(tmp_path):
    done = command("warmup", FASTOPT_COMPILE="never", FASTOPT_CACHE_DIR=str(tmp_path))
    assert done.returncode == 2
    assert "nothing can be compiled" in done.stderr


def test_warmup_fails_where_nothing_can_be_kept(tmp_path):
    """So that no image is built with an empty cache."""
    (tmp_path / "file").write_text("")
    done = command("warmup", "SGD", FASTOPT_COMPILE="now", FASTOPT_CACHE_DIR=str(tmp_path / "file"))
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert f"nothing can be kept in {tmp_path / 'file'}: name a folder" in done.stderr


def test_an_interrupt_that_is_swallowed_while_something_is_compiled_comes_afterwards():
    """As LLVM's callbacks do."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        for is_swallowed in (True, False):
            done = []
            with pytest.raises(KeyboardInterrupt), interruptible():  # noqa: PT012
                with suppress(KeyboardInterrupt) if is_swallowed else nullcontext():
                    signal.raise_signal(signal.SIGINT)
                done.append(1)
            assert done == [1] * is_swallowed
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)


IMPORTING = """
import os, signal, sys, time
from dataclasses import dataclass
import numpy as np
import fastopt

signal.signal(signal.SIGINT, signal.default_int_handler)
NEW = time.time_ns()  # so that the kernel has to be compiled

class Finder:
    def find_spec(self, name, *_):
        if name == "numba.core.typing":
            sys.meta_path.remove(self)
            signal.raise_signal(signal.SIGINT)

@fastopt.kernel
def own(param, grad, grad_scale, l2, keep, lr):
    for i in range(param.size):
        param[i] = param[i] - lr * grad[i] + 0 * NEW

@dataclass(eq=False)
class Own(fastopt.Optimizer):
    kernel = own
    lr: float = fastopt.hyperparameter(0.25)

    def scalars(self, t):
        return (self.lr,)

sys.meta_path.insert(0, Finder())
optimizer, params = Own(), [np.ones(3)]
for _ in range(3):
    try:
        optimizer.update(params, [np.ones(3)])
        print("done")
    except KeyboardInterrupt:
        print("interrupted")
print(params[0].tolist() == [1 - 0.25 * optimizer.iter] * 3)
for name in os.listdir(os.environ["FASTOPT_CACHE_DIR"]):
    if name.startswith("own-own-"):
        os.unlink(os.path.join(os.environ["FASTOPT_CACHE_DIR"], name))
"""


@needs_jit
def test_an_interrupt_while_numba_is_imported_comes_afterwards():
    """Python doesn't import again what was cut off: no later step could be compiled."""
    out, _ = python(IMPORTING, FASTOPT_COMPILE="now")
    assert out.split() == ["interrupted", "done", "done", "True"]


# Shells have interrupts ignored by what they start in the background, and Python then ignores them, too.
INTERRUPTIBLE = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from fastopt.cli.program import main
sys.exit(main())
"""


@needs_jit
@posix
def test_warmup_can_be_interrupted(cache, expected):
    environment = {**os.environ, "FASTOPT_CACHE_DIR": str(cache), "PYTHONPATH": str(PACKAGE.parent)}
    process = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTIBLE, "warmup", *RULES],
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr.readline().startswith("compiling ")
    while process.poll() is None:  # an interrupt may fall into a place where Python ignores it
        process.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            process.wait(15)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err.splitlines()[-1] == "interrupted: what has been compiled so far is kept"
    assert train(cache) == (expected, False, True, 0)
    assert [name for name in os.listdir(cache) if name.startswith(".")] == []
