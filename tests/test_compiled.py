"""What compiled code is, when it is compiled, and what the disk cache does."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from cases import BOOK, DTYPES, RULES
from numba import config, float32, float64, int64, jit

import fastopt
from fastopt import driver

PACKAGE = Path(fastopt.__file__).parent
needs_jit = pytest.mark.skipif(bool(config.DISABLE_JIT), reason="nothing is compiled")

STEP = """
import sys, warnings
import numpy as np
import fastopt
from fastopt import driver, reference
ref, comp, opt = [np.ones(9)], [np.ones(9)], fastopt.SGD(0.5)
for _ in range(2):
    opt.update(comp, [np.full(9, 0.25)])
print(comp[0][0])
"""

# A step that tells how often its driver was found on the disk.
HITS = """
import numpy as np
from fastopt import SGD, driver
found = driver.specialized(SGD.kernel, np.dtype(np.float64), 0, 4, False)
driver.specialized = lambda *arguments: found
params = [np.ones(9)]
SGD(0.25).update(params, [np.ones(9)])
print(params[0][0], sum(found.stats.cache_hits.values()))
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


def driver_for(cls, dtype, parallel=False):
    """Give the driver that steps of a rule use, before it is compiled."""
    scalars = 3 + len(cls().scalars(1))
    return driver.specialized(cls.kernel, np.dtype(dtype), len(cls.states), scalars, parallel)


@needs_jit
@pytest.mark.parametrize("rule", RULES)
def test_float32_stays_float32_and_is_vectorized(rule):
    cls = getattr(fastopt, rule)
    # Read from the disk it could not be inspected.
    fresh = jit(**cls.kernel.targetoptions)(cls.kernel.py_func)
    # In both dtypes for some, as compiling takes its time.
    kinds = [(float32, "float", "double"), (float64, "double", "float")][: 2 if rule in BOOK else 1]
    for dtype, name, other in kinds:
        scalars = 3 + len(cls().scalars(1))
        arrays = (dtype[::1],) * (2 + len(cls.states) + cls.work)
        if cls.measure is None:
            signature = arrays + (dtype,) * scalars
        else:  # what is measured and the scalars are doubles, until they meet the elements
            signature = (int64, int64, *arrays, float64[::1], float64[::1], *(float64,) * scalars)
            other = rf"<\d+ x {other}>"
        fresh.compile(signature)
        code = fresh.inspect_llvm(signature)
        arithmetic = re.findall(r"= (?:f(?:add|sub|mul|div)|call[^\n]*sqrt)[^\n]*", code)
        assert any(re.search(rf"<\d+ x {name}>", line) for line in arithmetic), "not vectorized"
        assert not any(re.search(rf"(?<!\w){other}(?!\w)", line) for line in arithmetic)
        if cls.measure is None:  # row 19
            assert not re.search(r"trunc[^\n]* i64 [^\n]* to i32", code), "an index of 32 bits"


@needs_jit
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rule", BOOK)
def test_no_compilation_after_the_first_step(rule, dtype):
    opt = getattr(fastopt, rule)()
    kernel = type(opt).kernel
    params = [np.ones((3, 4), dtype), np.ones(5, dtype), np.ones((4, 3), dtype)[::2]]
    grads = [np.ones(p.shape, dtype) for p in params]
    opt.update(params[:2], grads[:2])
    opt.update(params, grads)
    before = list(kernel.signatures), driver.driver_of.cache_info().currsize
    assert all(before)
    for n in (1, 7, 100):
        opt = getattr(fastopt, rule)(0.5)
        params = [*(np.ones((n, k), dtype) for k in range(3)), np.ones(2 * n, dtype)[::2]]
        for _ in range(2):
            opt.update(params[:-1], [p * 1 for p in params[:-1]])
            opt.update(params, [p * 1 for p in params])
    assert (list(kernel.signatures), driver.driver_of.cache_info().currsize) == before


def test_compiled_code_may_read_arrays_here():
    """The structs are as expected on every supported Python; a False would only be slower."""
    assert driver.available() is not bool(config.DISABLE_JIT)


@pytest.mark.parametrize("rule", BOOK)
def test_the_plain_way_gives_the_same_bits(rule, monkeypatch):
    rng = np.random.default_rng(0)
    start, grad = (
        [rng.standard_normal((5, 3)), rng.standard_normal(4)],
        [np.ones((5, 3)), np.ones(4)],
    )
    results = []
    for readable in (True, False):
        monkeypatch.setattr(
            "fastopt.plan.available", lambda readable=readable: readable and driver.available()
        )
        params, opt = [p.copy() for p in start], getattr(fastopt, rule)()
        for _ in range(3):
            opt.update(params, grad)
        assert (opt._plan is not None) is (readable and driver.available())
        results.append([p.tobytes() for p in params])
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
import fastopt
from fastopt import driver, kernels
print(driver.driver_of.cache_info().currsize)
print([name for name in kernels.__all__ if getattr(getattr(kernels, name), "signatures", [])])
"""
    assert python(code)[0] == "0\n[]\n"


@needs_jit
def test_the_disk_cache_is_hit_by_the_next_process(tmp_path):
    runs = [python(HITS, NUMBA_CACHE_DIR=str(tmp_path))[0].split() for _ in range(3)]
    assert runs == [["0.75", "0"], ["0.75", "1"], ["0.75", "1"]]


@needs_jit
def test_an_edited_kernel_is_compiled_anew(tmp_path):
    copy = shutil.copytree(PACKAGE, tmp_path / "fastopt", ignore=shutil.ignore_patterns("__pycache__"))
    environment = {"root": tmp_path, "NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    assert python(STEP, **environment)[0].split() == ["0.75"]
    for file, was, now, result in (
        ("sgd.py", "- lr * g\n", "+ lr * g\n", "1.25"),
        ("common.py", "return grad_scale", "return -grad_scale", "0.75"),
    ):
        source = copy / "kernels" / file
        stamp, text = source.stat(), source.read_text()
        assert was in text
        source.write_text(text.replace(was, now))
        os.utime(source, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))  # not even the time tells
        for folder in (copy, copy / "kernels"):
            shutil.rmtree(folder / "__pycache__", ignore_errors=True)
        assert python(STEP, **environment)[0].split() == [result]


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
        driver_for(getattr(fastopt, rule), dtype, parallel).py_func.__qualname__
        for rule in BOOK
        for dtype in DTYPES
        for parallel in (False, True)
    ]
    assert len(set(names)) == 4 * len(BOOK)


@needs_jit
def test_row_27_a_cache_that_cannot_be_written_costs_one_warning(tmp_path):
    shutil.copytree(PACKAGE, tmp_path / "fastopt", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "fastopt" / "__pycache__").write_text("a file where the cache's folder would be")
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
def test_row_27_a_damaged_cache_costs_one_warning_at_most(tmp_path):
    assert python(STEP, NUMBA_CACHE_DIR=str(tmp_path))[0].split() == ["0.75"]
    for kind, damage in (
        ("nbi", lambda whole: whole[: len(whole) // 2]),
        ("nbc", lambda whole: os.urandom(len(whole))),
        ("nbc", None),
    ):
        files = list(tmp_path.rglob(f"*.{kind}"))
        assert files
        for file in files:
            if damage is None:
                file.unlink()
            else:
                file.write_bytes(damage(file.read_bytes()))
        stdout, stderr = python(STEP, NUMBA_CACHE_DIR=str(tmp_path))
        assert stdout.split() == ["0.75"]
        assert stderr.count("Warning") == (0 if damage is None else 1), stderr
        stdout, stderr = python(HITS, NUMBA_CACHE_DIR=str(tmp_path))
        assert (stdout.split(), stderr) == (["0.75", "1"], ""), "not mended"


@needs_jit
def test_row_27_eight_processes_that_start_at_once_share_a_cache(tmp_path):
    code = STEP.replace("np.ones(9)", "np.ones(9, dtype)").replace(
        "ref, comp", "dtype = sys.argv[1]; ref, comp", 1
    )
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE.parent), "NUMBA_CACHE_DIR": str(tmp_path)}
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
    stdout, stderr = python(HITS, NUMBA_CACHE_DIR=str(tmp_path))
    assert (stdout.split(), stderr) == (["0.75", "1"], "")


@needs_jit
def test_row_27_a_full_disk_costs_one_warning(tmp_path):
    code = """
import numba.core.caching as caching
def full(*_):
    raise OSError(28, "No space left on device")
caching.IndexDataCacheFile.save = full
"""
    stdout, stderr = python(code + STEP, NUMBA_CACHE_DIR=str(tmp_path))
    assert stdout.split() == ["0.75"]
    assert stderr.count("Warning") == 1
    assert "No space left on device" in stderr


@needs_jit
def test_after_warmup_nothing_is_compiled(tmp_path):
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
    assert python(code, NUMBA_CACHE_DIR=str(tmp_path))[0].split() == ["0", "True"]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((["Adm"],), ValueError, "'Adm' is no rule; there are ASGD"),
        ((["Adam"], ["float16"]), ValueError, "dtypes must be float32 or float64, not float16"),
        (("Adam",), TypeError, "must be lists"),
        (([int],), TypeError, "names or classes, not <class 'int'>"),
    ],
)
def test_warmup_refuses_what_it_does_not_know(arguments, error, message):
    with pytest.raises(error, match=message):
        fastopt.warmup(*arguments)
