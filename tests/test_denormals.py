"""Denormals: threads work as the one that takes the step does, and ``denormals="flush"`` counts them as 0."""

import os
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import pytest
from cases import CASES, DTYPES, RULES, both, same_bits, takes

import fastopt
from fastopt.engine.compiling import code
from fastopt.engine.compiling.units import others_unit
from fastopt.engine.native.floatmode import FLUSH, float_mode, set_float_mode

numba = pytest.importorskip("numba")
get_mode = numba.njit(lambda: float_mode())
set_mode = numba.njit(lambda mode: set_float_mode(mode))
N = 3_000_000  # in 64 parts, of which a helper takes some


@contextmanager
def flushing():
    """What PyTorch's set_flush_denormal(True) does to this thread."""
    before = get_mode()
    set_mode(before | FLUSH)
    try:
        yield
    finally:
        set_mode(before)


def decayed(dtype=np.float32, n=N, **options):
    """Return a state whose values have decayed into denormals, as integers: these can't be flushed."""
    optimizer, params = fastopt.Momentum(**options), [np.ones(n, dtype)]
    optimizer.update(params, [np.full(n, float(np.finfo(dtype).tiny) * 400, dtype)])
    for _ in range(30):
        optimizer.update(params, [np.zeros(n, dtype)])
    return optimizer.v[0].view(f"u{np.dtype(dtype).itemsize}")


def test_threads_have_the_mode_of_the_one_that_steps():
    plain = decayed(threads=1)
    decayed(threads=2)  # the helper begins in the mode that there is now
    with flushing():
        one, two = decayed(threads=1), decayed(threads=2)
    assert (one == two).all()
    assert (one != plain).all()
    with flushing():
        fastopt.engine.threads.helpers.clear()  # the next helper begins in this mode
        decayed(threads=2)
    assert (decayed(threads=2) == plain).all()
    fastopt.engine.threads.helpers.clear()


@pytest.mark.parametrize("dtype", DTYPES)
# SOAP's bases are made in NumPy, which isn't in that mode.
@pytest.mark.parametrize("rule", [rule for rule in RULES if rule != "SOAP"])
def test_flushed_steps_have_the_bits_of_the_reference_in_that_mode(rule, dtype):
    rng, tiny = np.random.default_rng(1), float(np.finfo(dtype).tiny)
    shapes = [shape for shape in [(5, 3), (4097,), (40, 30)] if takes(rule, shape)]

    def values(shape):
        scale = rng.choice([1, tiny, tiny * 2.0**-12, tiny**0.5 / 8, 0], shape)
        return (rng.standard_normal(shape) * scale).astype(dtype)

    params = [values(shape) for shape in shapes]
    ref, opt = both(rule)
    opt.denormals = "flush"
    own, other = [np.array(p) for p in params], [np.array(p, order="F") for p in params]
    for _ in range(6):
        grads = [values(shape) for shape in shapes]
        opt.update(other, grads)
        with flushing():
            ref.update(own, grads)
    for i, param in enumerate(own):
        assert same_bits(param, np.ascontiguousarray(other[i]))
        for state in CASES[rule].states:
            with flushing():  # a copy that a kernel only reads need not be flushed
                pair = [
                    np.multiply(getattr(known, state)[i], np.dtype(dtype).type(1)) for known in (ref, opt)
                ]
            assert same_bits(*pair), state


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("dtype", DTYPES)
def test_what_has_decayed_is_zero_and_the_mode_is_as_before(dtype, threads):
    before = get_mode()
    n = 100_000 if threads > 1 else 50
    assert (decayed(dtype, n, threads=threads, denormals="flush") << 1 == 0).all()
    assert (decayed(dtype, n, threads=threads) << 1 != 0).all()
    assert get_mode() | 0x3F == before | 0x3F  # but for what was raised


def test_it_can_be_assigned_and_is_saved(tmp_path):
    optimizer, params = fastopt.Adam(), {"w": np.ones(5)}
    grads = {"w": np.full(5, 1e-160)}
    optimizer.update(params, grads)
    assert optimizer.v["w"][0] > 0
    optimizer.denormals = "flush"
    for _ in range(2):
        optimizer.update(params, grads)
        assert optimizer.v["w"][0] == 0
    optimizer.save(tmp_path / "it.npz", params)
    again = fastopt.Adam()
    again.load(tmp_path / "it.npz", params)
    assert again.denormals == "flush"
    again.update(params, grads)
    assert again.v["w"][0] == 0
    again.denormals = "keep"
    again.update(params, grads)
    assert again.v["w"][0] > 0


def test_a_partition_hands_it_down():
    partition = fastopt.Partition({"w": fastopt.Adam(), "*": fastopt.Momentum()}, denormals="flush")
    params = {"w": np.ones(5), "b": np.ones(5)}
    partition.update(params, {"w": np.full(5, 1e-160), "b": np.full(5, 1e-320)})
    assert partition["w"].v["w"][0] == partition["*"].v["b"][0] == 0


def test_without_compiled_code_it_is_refused(monkeypatch):
    monkeypatch.setenv("FASTOPT_COMPILE", "never")
    message = "denormals='flush' needs compiled code; leave it out, or see"
    with pytest.raises(ValueError, match=message):
        fastopt.SGD(denormals="flush")
    optimizer = fastopt.SGD()
    with pytest.raises(ValueError, match=message):
        optimizer.denormals = "flush"
    monkeypatch.setenv("FASTOPT_COMPILE", "now")
    optimizer, params = fastopt.SGD(denormals="flush"), {"w": np.ones(5)}
    monkeypatch.setenv("FASTOPT_COMPILE", "never")
    with pytest.raises(ValueError, match=message):
        optimizer.update(params, {"w": np.ones(5)})
    assert params["w"].tolist() == [1.0] * 5


def test_it_waits_for_compiled_code():
    program = """
import numpy as np, fastopt
optimizer, params = fastopt.Momentum(denormals="flush"), {"w": np.ones(5)}
optimizer.update(params, {"w": np.full(5, 1e-310)})
print(optimizer.compiled, optimizer.v["w"].tolist())
"""
    run = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {"FASTOPT_COMPILE": "background"}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert run.stdout.split(maxsplit=1)[0] == "True"
    assert set(run.stdout.split(maxsplit=1)[1]) <= set("[]-0., \n")


def test_another_processor_is_named(monkeypatch):
    monkeypatch.setattr("fastopt.engine.machine.machine", lambda: "s390x")
    with pytest.raises(ValueError, match="needs a processor of x86-64 or ARM64"):
        fastopt.SGD(denormals="flush")


def test_a_handler_that_interrupts_a_compilation_is_told():
    @fastopt.kernel
    def own(param, grad, grad_scale, l2, keep, lr):
        for i in range(param.size):
            param[i] = param[i] - lr * grad[i] * 2

    @dataclass(eq=False)
    class Own(fastopt.Optimizer):
        kernel = own
        lr: float = fastopt.hyperparameter(0.25)

        def scalars(self, t):
            return (self.lr,)

    with code.working:  # which the thread has that compiles
        optimizer = Own(denormals="flush")
        with pytest.raises(
            RuntimeError, match="came while the compiled code was made that denormals='flush'"
        ):
            optimizer.update([np.ones(3)], [np.ones(3)])


def test_what_gathers_arrays_is_needed_too(monkeypatch):
    """Else the step would be taken in NumPy, where denormals are kept."""
    optimizer = fastopt.Momentum(denormals="flush")
    optimizer.update([np.ones(3)], [np.ones(3)])
    monkeypatch.delitem(code.loaded, others_unit(), raising=False)
    strided = np.ones((3, 2))[:, 0]
    with code.working, pytest.raises(RuntimeError, match="came while the compiled code was made"):
        fastopt.Momentum(denormals="flush").update([strided], [strided * 1])


@pytest.mark.parametrize("how", ["contiguous", "byte-swapped", "listed twice", "rows", "clipped", "float64"])
def test_small_gradients_of_another_dtype_are_widened_before(how):
    """1e-40 is a denormal in float32, and none in float64."""
    grad = np.full((2, 3), 1e-40, "f8" if how == "float64" else "f4")
    param = np.zeros((2, 3))
    params, grads = [param], [grad]
    if how == "byte-swapped":
        grads = [grad.astype(">f4")]
    elif how == "listed twice":
        params, grads = [param, param], [grad, grad]
    elif how == "rows":
        grads = [fastopt.Rows([0, 1], grad)]
    options = {"clip_value": 1.0} if how == "clipped" else {"rows": "lazy"}
    optimizer = fastopt.Momentum(lr=1.0, denormals="flush", **options)
    optimizer.update(params, grads)
    assert (optimizer.v[0] == -np.float64(grad[0, 0])).all()


def test_a_partition_shows_what_only_a_member_has():
    partition = fastopt.Partition({"*": fastopt.Momentum(denormals="flush")})
    assert "Momentum(lr=0.01, momentum=0.9, denormals='flush')" in repr(partition)
    assert "denormals='flush'" not in repr(fastopt.Partition({"*": fastopt.Momentum()}))
