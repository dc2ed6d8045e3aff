"""What compiled code is, and where it may run."""

import os
import re
import subprocess
import sys
from pathlib import Path

import llvmlite.binding as llvm
import numpy as np
import pytest
from cases import BOOK, DTYPES, RULES, state_bytes
from numba import float32, float64, int64, njit
from numba.core import event
from uncompiled import COMPILES

import fastopt
from fastopt.engine import rules
from fastopt.engine.native import checking, strided
from fastopt.engine.native.emission import emit
from fastopt.engine.native.rules import caller
from fastopt.engine.structs import is_layout_known
from fastopt.kernels.common import follow
from fastopt.kernels.quantization import FORMATS
from fastopt.tools.precompilation import units_of

PACKAGE = Path(fastopt.__file__).parent
needs_jit = pytest.mark.skipif(not COMPILES, reason="nothing is compiled")

# LLVM 14, which is Numba 0.60's, leaves the loops of two rules and of states in fewer bytes scalar: they have
# the same bits, but take longer.
IS_OLD = llvm.llvm_version_info[0] < 15
SCALAR_LOOPS = "LLVM 14 leaves this loop scalar"


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
    """Return the functions by whose addresses steps call a rule."""
    rule = cls.rule()
    n_arrays = 2 + len(cls.states) + rule.n_work
    return [caller(kernel, np.dtype(dtype), n_arrays, rule.n_scalars, form) for kernel, form in rule.passes]


def arithmetic(function, signature):
    """Return the lines of LLVM code that compute with floating point numbers, and all of the code."""
    options = {name: value for name, value in function.dispatcher.targetoptions.items() if name != "nopython"}
    fresh = njit(**options)(function.py_func)  # which no other test has compiled
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
    if IS_OLD and rule in ("MARS", "SOAP"):
        pytest.skip(SCALAR_LOOPS)
    cls, (name, other) = getattr(fastopt, rule), NAMES[dtype]
    *_, function = rule_functions(cls, dtype)
    lines, code = arithmetic(function, (int64, int64))
    assert has_type(lines, rf"<\d+ x {name}>"), "not vectorized"
    if cls.statistics_kernel is None:
        assert not has_type(lines, other)
        assert not re.search(r"trunc[^\n]* i64 [^\n]* to i32", code), "an index of 32 bits"  # row 19
    elif rule != "AdaMuon":  # whose kernel takes a norm
        # The statistics and the scalars are doubles, until they meet the elements.
        assert not has_type(lines, rf"<\d+ x {other}>")


@needs_jit
@pytest.mark.skipif(IS_OLD, reason=SCALAR_LOOPS)
@pytest.mark.parametrize("name", [*FORMATS])
def test_states_in_fewer_bytes_are_encoded_and_decoded_by_vectors(name):
    rule = fastopt.Adam.rule()
    function = caller(rule.kernel, np.dtype("float32"), 4, rule.n_scalars, f"elements:{name}:vr")
    lines, code = arithmetic(function, (int64, int64))
    assert has_type(lines, r"<\d+ x float>")
    bits = 8 if name == "int8" else 16
    for operation in (
        rf"load <\d+ x i{bits}>",
        rf"<\d+ x i{bits}> .* to <\d+ x (i32|float)>",
        r"mul <\d+ x i32>",  # of the hash
        rf"trunc (nuw |nsw )*<\d+ x i32> .* to <\d+ x i{bits}>",
        rf"store <\d+ x i{bits}>",
    ):
        assert re.search(operation, code), operation
    assert not re.search(r"mul <\d+ x i64>", code)
    assert not has_type(lines, "double")


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
def test_the_step_is_compiled_once_for_all_rules():
    """A further rule costs its own loop only."""
    found = {}
    for rule, dtype in (("SGD", "f4"), ("Adam", "f8"), ("Adam", "f4")):
        for unit in getattr(fastopt, rule).units([np.dtype(dtype)]):
            found.setdefault(unit.title, set()).add(unit.file)
    assert {title: len(files) for title, files in found.items()} == {
        "step": 1, "layouts": 1, "sgd-float32": 1, "adam-float64": 1, "adam-float32": 1
    }  # fmt: skip


def test_compiled_code_may_read_arrays_here():
    """The structs are as expected on every supported Python; a False would only be slower."""
    assert is_layout_known()


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
        monkeypatch.setattr(rules, "is_layout_known", lambda known=known: known)
        params, opt = [p.copy(order="K") for p in start], getattr(fastopt, rule)(ema=0.5)
        for _ in range(3):
            opt.update(params, grads)
        assert opt.compiled is (known and COMPILES)
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
    for variable, value in (("FASTOPT_COMPILE", "never"), ("NUMBA_DISABLE_JIT", "1")):
        assert python(code, **{variable: value})[0] == "same\n"


@pytest.mark.parametrize("rule", RULES)
def test_all_that_a_rule_depends_on_is_known(rule):
    """So that it is kept, and another process can be asked for it."""
    units = getattr(fastopt, rule).units([np.dtype("float64")])
    assert all(unit.is_lasting and unit.request for unit in units)


@needs_jit
def test_each_rule_has_a_file_of_its_own():
    files = [
        unit.file
        for rule in RULES
        for dtype in DTYPES
        for unit in getattr(fastopt, rule).units([np.dtype(dtype)])[1:-1]
    ]
    # AdamW and PaperAdam have Adam's kernel, LDoG has DoG's statistics.
    assert len(set(files)) == len(files) - 3 * len(DTYPES)


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


@pytest.mark.long
@needs_jit
@pytest.mark.parametrize("name", ["clip_norm", "clip_value", "accumulate", "LARS", "Prodigy", "Muon"])
def test_kernels_need_nothing_of_numbas_runtime(name):
    """Also those that take slices; else each process would have to compile them anew."""
    for unit in units_of(name, "float64")[1:]:
        _, needed = emit(unit.functions(), unit.code())
        assert set(needed) <= {"sqrt"}
