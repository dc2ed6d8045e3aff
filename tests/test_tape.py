"""Kernels as lists of ufuncs: the bits of the compiled kernel, and nothing written that isn't asked for."""

import numpy as np
import pytest
from cases import DTYPES, RULES

import fastopt
from fastopt import kernels
from fastopt.kernels.common import choose, follow, gradient, kernel
from fastopt.kernels.plain import Draft
from fastopt.kernels.tape import Tape, kind_of

ELEMENTWISE = [rule for rule in RULES if getattr(fastopt, rule).statistics_kernel is None]
HEADS = {"neutral": (1.0, 0.0, 1.0), "decay": (-0.5, 0.01, 0.9)}


def arrays_for(n_arrays, dtype, size, seed=0):
    """Return a parameter, a gradient with odd values, and states of which there are roots."""
    rng = np.random.default_rng(seed)
    arrays = [rng.standard_normal(size).astype(dtype) for _ in range(n_arrays)]
    for array in arrays[2:]:
        np.abs(array, out=array)
    for k, value in enumerate((0.0, -0.0, np.nan, np.inf, -np.inf, 1e-30, 1e30)):
        for array in arrays[:2]:
            array[k::23] = value
    return arrays


def bits(values):
    return np.where(np.isnan(values), np.nan, values).tobytes()


def run(tape, arrays):
    size, n_given = arrays[0].size, min(2, len(arrays) - 1)
    bound = tape.bind(n_given, arrays[n_given:], tape.rooms(size), size)
    for call in bound.calls_for(*arrays[:n_given]):
        call()


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rule", ELEMENTWISE)
def test_a_tape_has_the_bits_of_the_kernel(rule, dtype, head):
    """Also at steps whose scalars differ: a tape serves for all of one kind."""
    cls, kind, tapes = getattr(fastopt, rule), np.dtype(dtype), {}
    optimizer, n_arrays = cls(), 2 + len(cls.states)
    with np.errstate(all="ignore"):
        for t in (1, 2, 3, 10, 3000):
            scalars = np.array([*HEADS[head], *optimizer.scalars(t)]).astype(kind)
            kinds = tuple(map(kind_of, scalars.tolist()))
            if kinds not in tapes:
                tapes[kinds] = Tape(cls.kernel, kind, n_arrays, scalars.tolist())
            arrays = arrays_for(n_arrays, kind, 100 + t % 7, t)
            compiled, grad = [array.copy() for array in arrays], arrays[1].copy()
            cls.kernel(*compiled, *scalars)
            tapes[kinds].scalars[:] = scalars
            run(tapes[kinds], arrays)
            assert [*map(bits, arrays)] == [*map(bits, compiled)], t
            assert arrays[1].tobytes() == grad.tobytes()
    assert len(tapes) <= 3


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("weights", [(0.0, 0.0), (0.3, 0.0), (1.0, 0.0), (0.3, 1.0), (1.0, 1.0), (0.0, 1.0)])
def test_averages_follow(weights, dtype):
    param, _, average = arrays_for(3, dtype, 50)
    expected = [param.copy(), average.copy()]
    follow(*expected, *weights)
    tape = Tape(follow, np.dtype(dtype), 2, weights)
    tape.scalars[:] = weights
    with np.errstate(all="ignore"):
        run(tape, [param, average])
    assert [bits(param), bits(average)] == [*map(bits, expected)]


@kernel
def exchanged(param, grad, a, b, grad_scale, l2, keep, lr):
    """Results that become several arrays, arrays that become each other, and choices."""
    for i in range(param.size):
        g = gradient(grad[i], param[i], grad_scale, l2)
        before = param[i]
        larger = choose(before > a[i], before, a[i])
        param[i] = choose(g < 0, larger, param[i] - lr * g)
        b[i] = param[i] * lr
        a[i] = param[i]


def test_results_that_are_read_later_are_not_overwritten():
    arrays = arrays_for(4, np.dtype(float), 60)
    scalars = [np.float64(x) for x in (1.0, 0.0, 1.0, 0.1)]
    drafts = [Draft(array) for array in arrays]
    from fastopt.kernels.plain import numpy_form

    form = numpy_form(exchanged.py_func)
    with np.errstate(all="ignore"):
        form(drafts[0], arrays[1], *drafts[2:], *scalars)
        expected = [draft.value.copy() for draft in drafts]
        exchanged.__dict__["in_numpy"] = form
        tape = Tape(exchanged, np.dtype(float), 4, scalars)
        tape.scalars[:] = scalars
        run(tape, arrays)
    assert [*map(bits, arrays)] == [*map(bits, expected)]


def test_it_makes_no_memory_at_a_step():
    """But for the rooms, of which there are few."""
    for name in ("adam", "sgd", "momentum", "adagrad"):
        n_arrays, n_scalars = {"adam": (4, 8), "sgd": (2, 4), "momentum": (3, 5), "adagrad": (3, 6)}[name]
        tape = Tape(
            getattr(kernels, name), np.dtype(float), n_arrays, [1.0, 0.0, 1.0, *[0.1] * (n_scalars - 3)]
        )
        assert len(tape.rooms(10)) <= 3


def test_a_branch_on_an_element_is_refused():
    @kernel
    def branching(param, grad, grad_scale, l2, keep, lr):
        for i in range(param.size):
            if grad[i] > 0:
                param[i] = param[i] - lr

    from fastopt.kernels.plain import numpy_form

    branching.__dict__["in_numpy"] = numpy_form(branching.py_func)
    with pytest.raises(TypeError, match="branches on an element"):
        Tape(branching, np.dtype(float), 2, [1.0, 0.0, 1.0, 0.1])


def test_kinds_tell_apart_what_kernels_do():
    values = [-np.inf, -1.0, 0.0, 0.5, 1.0, 2.0, np.inf]
    kinds = [kind_of(value) for value in values]
    assert kinds[0] == kinds[1]
    assert len(set(kinds[1:])) == 6
