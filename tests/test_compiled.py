"""What compiled code is, when it is compiled, and what the disk cache does."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from cases import BOOK, DTYPES, RULES, state_bytes
from numba import config, float32, float64, int64, jit
from numba.core import event

import fastopt
from fastopt.engine import checking, driver, strided
from fastopt.engine.rules import rule_function
from fastopt.engine.structs import is_layout_known
from fastopt.kernels.common import follow

PACKAGE = Path(fastopt.__file__).parent
needs_jit = pytest.mark.skipif(bool(config.DISABLE_JIT), reason="nothing is compiled")

STEP = """
import sys, warnings
import numpy as np
import fastopt
from fastopt import reference
ref, comp, opt = [np.ones(9)], [np.ones(9)], fastopt.SGD(0.5)
for _ in range(2):
    opt.update(comp, [np.full(9, 0.25)])
print(comp[0][0])
"""

# A step that tells how many functions it compiled, with a strided gradient and an average.
HITS = """
import numpy as np
from numba.core import event
with event.install_recorder("numba:compile") as recorder:
    from fastopt import SGD
    params = [np.ones(9)]
    SGD(0.25).update(params, [np.ones(9)])
    SGD(0.25, ema=0.5).update([np.ones(9)], [np.ones(18)[::2]])
print(params[0][0], len(recorder.buffer))
"""


def python(code, *, root=PACKAGE.parent, **environment):
    """Run code in a fresh interpreter that finds fastopt below root; give what it prints."""
    result = subprocess.run(
        [sys.executable, "-c", code],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root), **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return result.stdout, result.stderr


def rule_functions(cls, dtype):
    """Return the functions by whose addresses steps call a rule, before they are compiled."""
    rule = cls.rule()
    n_arrays = 2 + len(cls.states) + rule.n_work
    return [
        rule_function(kernel, np.dtype(dtype), n_arrays, rule.n_scalars, rule.is_whole)
        for kernel in rule.passes
    ]


def arithmetic(function, signature):
    """Return the lines of LLVM code that compute with floating point numbers, and all of the code."""
    # Read from the disk it could not be inspected.
    fresh = jit(**function.targetoptions)(function.py_func)
    fresh.compile(signature)
    code = fresh.inspect_llvm(signature)
    return re.findall(r"= (?:reassoc )?(?:f(?:add|sub|mul|div)|call[^\n]*sqrt)[^\n]*", code), code


def has_type(lines, name):
    return [line for line in lines if re.search(rf"(?<!\w){name}(?!\w)", line)]


# In both dtypes for some, as compiling takes its time.
KINDS = [(rule, dtype) for rule in RULES for dtype in DTYPES[: 2 if rule in BOOK else 1]]
NAMES = {"float32": ("float", "double"), "float64": ("double", "float")}


@needs_jit
@pytest.mark.parametrize(("rule", "dtype"), KINDS)
def test_float32_stays_float32_and_is_vectorized(rule, dtype):
    cls, (name, other) = getattr(fastopt, rule), NAMES[dtype]
    *_, function = rule_functions(cls, dtype)
    lines, code = arithmetic(function, (int64, int64))
    assert has_type(lines, rf"<\d+ x {name}>"), "not vectorized"
    if cls.statistics_kernel is None:
        assert not has_type(lines, other)
        assert not re.search(r"trunc[^\n]* i64 [^\n]* to i32", code), "an index of 32 bits"  # row 19
    else:  # the statistics and the scalars are doubles, until they meet the elements
        assert not has_type(lines, rf"<\d+ x {other}>")


@needs_jit
@pytest.mark.parametrize("dtype", DTYPES)
def test_what_surrounds_a_rule_is_vectorized(dtype):
    kind, (name, other) = {"float32": float32, "float64": float64}[dtype], NAMES[dtype]
    flat = kind[::1]
    for function, signature in (
        (checking.finite_array, (flat,)),
        (follow, (flat, flat, float64, float64)),
    ):
        lines, _ = arithmetic(function, signature)
        assert has_type(lines, rf"<\d+ x {name}>"), f"{function.__name__} is not vectorized"
        assert not has_type(lines, other)


@needs_jit
def test_what_copies_strided_arrays_does_not_compute():
    """A gradient of the other dtype is rounded once, by a conversion; contiguous lines are, by vectors."""
    lines, code = arithmetic(strided.gather, (int64,) * 10)
    assert lines == []
    assert re.search(r"fptrunc <\d+ x double> [^\n]* to <\d+ x float>", code)
    assert re.search(r"fpext <\d+ x float> [^\n]* to <\d+ x double>", code)
    assert arithmetic(strided.scatter, (int64,) * 9)[0] == []


@needs_jit
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rule", BOOK)
def test_no_compilation_after_the_first_step(rule, dtype):
    params = [np.ones((3, 4), dtype), np.ones(5, dtype), np.ones((4, 3), dtype)[::2]]
    opt = getattr(fastopt, rule)()
    opt.update(params, [np.ones(p.shape, dtype) for p in params])
    with event.install_recorder("numba:compile") as recorder:
        for n in (1, 7, 100):
            opt = getattr(fastopt, rule)(0.5)
            params = [*(np.ones((n, k), dtype) for k in range(3)), np.ones(2 * n, dtype)[::2]]
            for other in DTYPES:
                opt.update(params[:-1], [p * 1 for p in params[:-1]])
                opt.update(params, [p.astype(other) for p in params])
    assert recorder.buffer == []


@needs_jit
def test_the_step_is_compiled_once_for_all_rules(tmp_path):
    """A further rule costs its own loop only."""
    code = """
import numpy as np, fastopt
from numba.core import event
fastopt.SGD().update([np.ones(3)], [np.ones(3)])
for rule, dtype in (("SGD", "f4"), ("Adam", "f8"), ("Adam", "f4")):
    with event.install_recorder("numba:compile") as recorder:
        getattr(fastopt, rule)().update([np.ones(3, dtype)], [np.ones(3, dtype)])
    names = {record.data["dispatcher"].py_func.__name__ for _, record in recorder.buffer}
    parts = "run", "update", "check"
    print(rule, dtype, *sorted(name for name in names if any(part in name for part in parts)))
"""
    out = python(code, NUMBA_CACHE_DIR=str(tmp_path))[0]
    assert out == "SGD f4\nAdam f8\nAdam f4\n"


def test_compiled_code_may_read_arrays_here():
    """The structs are as expected on every supported Python; a False would only be slower."""
    assert is_layout_known() is not bool(config.DISABLE_JIT)


@pytest.mark.parametrize("rule", RULES)
def test_where_the_structs_are_unknown_steps_have_the_same_bits(rule, monkeypatch):
    rng = np.random.default_rng(0)
    start = [
        rng.standard_normal((5, 3)),
        rng.standard_normal((2, 4)).T,
        np.float32(rng.standard_normal((1, 2))),
    ]
    grads = [rng.standard_normal((3, 5)).T, np.ones((4, 2), "f4"), np.ones((1, 2))]
    results = []
    for known in (True, False):
        for module in ("plan", "segment"):
            monkeypatch.setattr(
                f"fastopt.engine.{module}.is_layout_known", lambda known=known: known and is_layout_known()
            )
        params, opt = [p.copy(order="K") for p in start], getattr(fastopt, rule)(ema=0.5)
        for _ in range(3):
            opt.update(params, grads)
        assert (opt.engine.plan is not None) is (known and is_layout_known())
        results.append([state_bytes(opt), *(p.tobytes() for p in params)])
    assert results[0] == results[1]


def test_row_28_without_the_compiler_every_rule_gives_the_same_bits():
    code = """
import numpy as np, fastopt
from fastopt import reference
for name in reference.__all__:
    for dtype in ("float32", "float64"):
        rng = np.random.default_rng(0)
        ref, comp = [rng.standard_normal((4, 5)).astype(dtype)], [None]
        comp[0] = ref[0].copy()
        r, c = getattr(reference, name)(), getattr(fastopt, name)()
        for _ in range(5):
            grad = [rng.standard_normal((4, 5)).astype(dtype)]
            r.update(ref, grad); c.update(comp, grad)
        assert ref[0].tobytes() == comp[0].tobytes(), (name, dtype)
print("same")
"""
    assert python(code, NUMBA_DISABLE_JIT="1")[0] == "same\n"


@needs_jit
def test_nothing_is_compiled_at_import():
    code = """
from numba.core import event
with event.install_recorder("numba:compile") as recorder:
    import fastopt
from fastopt import kernels
from fastopt.engine import driver, rules
print(len(recorder.buffer), driver.dispatcher.cache_info().currsize, rules.rule_address.cache_info().currsize)
print([name for name in kernels.__all__ if getattr(getattr(kernels, name), "signatures", [])])
"""
    assert python(code)[0] == "0 0 0\n[]\n"


@pytest.fixture(scope="session")
def first_run(tmp_path_factory):
    """A cache folder that one process has filled, and what that printed. Compiling takes seconds."""
    folder = tmp_path_factory.mktemp("cache")
    return folder, python(HITS, NUMBA_CACHE_DIR=str(folder))[0].split()


@pytest.fixture
def filled_cache(first_run, tmp_path):
    return shutil.copytree(first_run[0], tmp_path / "filled")


@pytest.fixture
def cache_without_rules(filled_cache):
    """A cache folder that lacks what depends on rule and dtype, which is compiled soon."""
    for file in rule_files(filled_cache, "nb?"):
        file.unlink()
    return filled_cache


def rule_files(folder, kind):
    files = [file for file in folder.rglob(f"*.{kind}") if "sgd" in file.name]
    assert files
    return files


@needs_jit
def test_the_disk_cache_is_hit_by_the_next_process(first_run, filled_cache):
    result, n_compiled = first_run[1]
    assert (result, int(n_compiled) > 5) == ("0.75", True)
    for _ in range(2):
        assert python(HITS, NUMBA_CACHE_DIR=str(filled_cache))[0].split() == ["0.75", "0"]


@needs_jit
def test_an_edited_kernel_is_compiled_anew(tmp_path):
    """So is what surrounds the kernels, whose offsets and names of fields are compiled into its callers."""
    copy = shutil.copytree(PACKAGE, tmp_path / "fastopt", ignore=shutil.ignore_patterns("__pycache__"))
    environment = {"root": tmp_path, "NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    step = STEP.replace("np.full(9, 0.25)", "np.full((9, 2), 0.25)[:, 0]")
    for edits, result in (
        ([], "0.75"),
        (
            [
                ("kernels/common.py", "return grad_scale", "return -grad_scale"),
                ("engine/strided.py", "= source[start + j * stride]", "= 2 * source[start + j * stride]"),
                ("engine/table.py", '    "n_params",', '    "something_new",\n    "n_params",'),
            ],
            "1.5",
        ),
    ):
        for file, was, now in edits:
            source = copy / file
            stamp, text = source.stat(), source.read_text()
            assert was in text
            source.write_text(text.replace(was, now))
            os.utime(source, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))  # not even the time tells
        for folder in (copy, copy / "kernels", copy / "engine"):
            shutil.rmtree(folder / "__pycache__", ignore_errors=True)
        assert python(step, **environment)[0].split() == [result], edits


@needs_jit
def test_an_edited_body_of_lanes_is_compiled_anew(tmp_path):
    source = tmp_path / "edited.py"
    code = """
import sys
sys.path.insert(0, {folder!r})
import edited, numpy as np
sums = np.zeros(64)
edited.count(5, sums)
print(sums.sum())
"""
    for number in ("1", "2"):
        source.write_text(
            "from fastopt.kernels.common import in_lanes\n"
            f"@in_lanes\ndef count(i, lane, sums):\n    sums[lane] += {number}\n"
        )
        os.utime(source, ns=(1, int(number)))  # else Python may take it for the one that it knows
        out, _ = python(code.format(folder=str(tmp_path)), NUMBA_CACHE_DIR=str(tmp_path / "cache"))
        assert out.split() == [str(5.0 * int(number))]


@needs_jit
def test_each_rule_has_a_cache_of_its_own():
    names = [
        function.py_func.__qualname__
        for rule in RULES
        for dtype in DTYPES
        for function in rule_functions(getattr(fastopt, rule), dtype)
    ]
    # AdamW has Adam's kernel.
    assert len(set(names)) == len(names) - len(DTYPES)
    assert len({driver.dispatcher(parallel).py_func.__qualname__ for parallel in (False, True)}) == 2


@needs_jit
def test_row_27_a_cache_that_cannot_be_written_costs_one_warning(tmp_path):
    shutil.copytree(PACKAGE, tmp_path / "fastopt", ignore=shutil.ignore_patterns("__pycache__"))
    for folder in {file.parent for file in (tmp_path / "fastopt").rglob("*.py")}:
        (folder / "__pycache__").write_text("a file where the cache's folder would be")
    nowhere = str(tmp_path / "fastopt" / "__pycache__" / "no")
    stdout, stderr = python(
        STEP,
        root=tmp_path,
        NUMBA_CACHE_DIR=nowhere,
        HOME=nowhere,
        XDG_CACHE_HOME=nowhere,
        IPYTHONDIR=nowhere,
    )
    assert stdout.split() == ["0.75"]
    assert stderr.count("RuntimeWarning: fastopt compiles anew in every process") == 1


@needs_jit
def test_row_27_a_damaged_cache_costs_one_warning_at_most(filled_cache):
    for kind, damage in (
        ("nbi", lambda whole: whole[: len(whole) // 2]),
        ("nbc", lambda whole: os.urandom(len(whole))),
        ("nbc", None),
    ):
        for file in rule_files(filled_cache, kind):
            if damage is None:
                file.unlink()
            else:
                file.write_bytes(damage(file.read_bytes()))
        stdout, stderr = python(STEP, NUMBA_CACHE_DIR=str(filled_cache))
        assert stdout.split() == ["0.75"]
        assert stderr.count("Warning") == (0 if damage is None else 1), stderr
        stdout, stderr = python(HITS, NUMBA_CACHE_DIR=str(filled_cache))
        assert (stdout.split(), stderr) == (["0.75", "0"], ""), "not mended"


@needs_jit
def test_row_27_eight_processes_that_start_at_once_share_a_cache(cache_without_rules):
    code = STEP.replace("np.ones(9)", "np.ones(9, dtype)").replace(
        "ref, comp", "dtype = sys.argv[1]; ref, comp", 1
    )
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE.parent)}
    environment["NUMBA_CACHE_DIR"] = str(cache_without_rules)
    processes = [
        subprocess.Popen(
            [sys.executable, "-W", "error", "-c", code, dtype],
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
        )
        for dtype in DTYPES * 4
    ]
    assert [process.communicate()[0].split() for process in processes] == [["0.75"]] * 8
    stdout, stderr = python(HITS, NUMBA_CACHE_DIR=str(cache_without_rules))
    assert (stdout.split(), stderr) == (["0.75", "0"], "")


@needs_jit
def test_row_27_a_full_disk_costs_one_warning(cache_without_rules):
    code = """
import numba.core.caching as caching
def full(*_):
    raise OSError(28, "No space left on device")
caching.IndexDataCacheFile.save = full
"""
    stdout, stderr = python(code + STEP, NUMBA_CACHE_DIR=str(cache_without_rules))
    assert stdout.split() == ["0.75"]
    assert stderr.count("Warning") == 1
    assert "No space left on device" in stderr


@needs_jit
def test_after_warmup_nothing_is_compiled(filled_cache):
    code = """
import numpy as np, fastopt
from numba.core import event
fastopt.warmup(["SGD", fastopt.Momentum], [np.float32, "float64"])
with event.install_recorder("numba:compile") as recorder:
    for cls in (fastopt.SGD, fastopt.Momentum):
        for size in (5, 200_000):
            params = [np.ones(size), np.ones((size // 5, 5), "f4")]
            cls().update(params, [p.copy() for p in params])
            cls().update([params[0]], [params[0].copy()])
print(len(recorder.buffer))
with event.install_recorder("numba:compile") as recorder:
    fastopt.Nesterov().update([np.ones(3)], [np.ones(3)])
print(len(recorder.buffer) > 0)
"""
    assert python(code, NUMBA_CACHE_DIR=str(filled_cache))[0].split() == ["0", "True"]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((["Adm"],), ValueError, "'Adm' is no rule; did you mean Adam"),
        ((["Adam"], ["float16"]), ValueError, "dtypes must be float32 or float64, not float16"),
        (("Adam",), TypeError, "rules must be a list, not 'Adam'"),
        (([int],), ValueError, "<class 'int'> is no rule"),
    ],
)
def test_warmup_refuses_what_it_does_not_know(arguments, error, message):
    with pytest.raises(error, match=message):
        fastopt.warmup(*arguments)
