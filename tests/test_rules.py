"""Each rule against its three witnesses: the reference, values worked out by hand, PyTorch."""

from contextlib import nullcontext

import numpy as np
import pytest
from cases import CASES, DTYPES, RULES, both, hyperparameters, same_bits

import fastopt
from fastopt import kernels, optimizers, reference
from fastopt.optimizer import Optimizer

# Empty, single, odd, around the width of vectors, large.
SHAPES = [(), (0,), (1,), (3, 0), (7,), (16, 4), (5, 3, 2), (1023,), (300, 401)]
LAYOUTS = {
    "C": lambda a: a,
    "Fortran": np.asfortranarray,
    "strided": lambda a: np.repeat(a[..., None], 2, -1)[..., 0],
    "reversed": lambda a: np.flip(np.flip(a).copy()),
    "byte-swapped": lambda a: a.astype(a.dtype.newbyteorder()),
    "unaligned": lambda a: unaligned(a),
}


def unaligned(array):
    memory = np.zeros(array.nbytes + 1, np.uint8)[1:]
    result = memory.view(array.dtype).reshape(array.shape)
    result[...] = array
    assert array.size == 0 or not result.flags.aligned
    return result


def values(rng, shape, dtype):
    """Values of all sizes, with zeros of both signs."""
    a = np.asarray(rng.standard_normal(shape) * 10.0 ** rng.integers(-12, 3, shape), dtype)
    special = np.array([0.0, -0.0, np.finfo(dtype).tiny, np.finfo(dtype).smallest_subnormal], dtype)
    return np.where(rng.random(shape) < 0.2, rng.choice(special, shape), a)


def assert_same(rule, ref, comp, p_ref, p_comp):
    keys = p_ref if isinstance(p_ref, dict) else range(len(p_ref))
    for key in keys:
        native = np.asarray(p_comp[key]).dtype.newbyteorder("=")
        assert same_bits(p_ref[key], np.asarray(p_comp[key], native)), f"parameter {key}"
        for state in CASES[rule].states:
            assert same_bits(getattr(ref, state)[key], getattr(comp, state)[key]), f"{state} of {key}"


@pytest.mark.parametrize("steps", [1, 40])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rule", RULES)
def test_same_bits_as_reference(rule, dtype, steps):
    rng = np.random.default_rng(7)
    p_ref = {str(shape): values(rng, shape, dtype) for shape in SHAPES}
    p_comp = {key: p.copy() for key, p in p_ref.items()}
    arrays = dict(p_comp)
    ref, comp = both(rule)
    for _ in range(steps):
        grads = {str(shape): values(rng, shape, dtype) for shape in SHAPES}
        ref.update(p_ref, grads)
        comp.update(p_comp, grads)
    assert_same(rule, ref, comp, p_ref, p_comp)
    assert all(p_comp[key] is arrays[key] for key in arrays)
    assert comp.iter == steps


@pytest.mark.parametrize("grad_layout", LAYOUTS)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rule", RULES)
def test_same_bits_in_every_layout(rule, dtype, layout, grad_layout):
    rng = np.random.default_rng(8)
    shapes = [(0,), (1,), (6, 5), (3, 4, 5)]
    p_ref = [values(rng, shape, dtype) for shape in shapes]
    p_comp = [LAYOUTS[layout](p.copy()) for p in p_ref]
    arrays = list(p_comp)
    ref, comp = both(rule)
    for _ in range(3):
        grads = [values(rng, shape, dtype) for shape in shapes]
        given = [LAYOUTS[grad_layout](g.copy()) for g in grads]
        ref.update(p_ref, grads)
        comp.update(p_comp, given)
        assert all(np.array_equal(g, h) for g, h in zip(grads, given, strict=True))
    assert_same(rule, ref, comp, p_ref, p_comp)
    assert all(p is array for p, array in zip(p_comp, arrays, strict=True))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rule", RULES)
def test_value_worked_out_by_hand(rule, dtype):
    case = CASES[rule]
    for optimizer in both(rule, **case.arguments):
        params = [np.ones(5, dtype)]
        for step in range(2):
            optimizer.update(params, [np.full(5, case.grads[step], dtype)])
            rtol = 4 * np.finfo(dtype).eps
            np.testing.assert_allclose(params[0], case.params[step], rtol)
            for name, expected in case.states.items():
                np.testing.assert_allclose(getattr(optimizer, name)[0], expected[step], rtol)


@pytest.mark.parametrize("rule", RULES)
def test_infinite_parameters_and_gradients_as_in_reference(rule):
    special = np.array([np.inf, -np.inf, 1e200, -0.0, 1.0, 2.0])
    p_ref, p_comp = [special.copy()], [special.copy()]
    ref, comp = both(rule)
    with np.errstate(all="ignore"):
        for grad in (np.array([1.0, 2.0, -1.0, -0.0, np.inf, np.nan]), np.ones(6)):
            ref.update(p_ref, [grad])
            with nullcontext() if np.isfinite(grad).all() else pytest.warns(RuntimeWarning, match="has NaN"):
                comp.update(p_comp, [grad])
    np.testing.assert_array_equal(p_comp[0], p_ref[0])
    np.testing.assert_array_equal(np.signbit(p_comp[0][:4]), np.signbit(p_ref[0][:4]))


@pytest.mark.parametrize("rule", RULES)
def test_what_is_wrapped_around_a_rule(rule):
    """grad_scale, l2 and keep are the same as a gradient and a parameter changed beforehand."""
    rng = np.random.default_rng(9)
    param, grad = rng.standard_normal((2, 100))
    kernel = getattr(kernels, rule.lower())
    optimizer = getattr(fastopt, rule)()
    scalars = optimizer.scalars(1)
    states = [[np.full(100, 0.5) for _ in CASES[rule].states] for _ in range(2)]
    plain, wrapped = param * 0.75, param.copy()
    kernel(plain, 0.25 * grad + 0.125 * param, *states[0], 1.0, 0.0, 1.0, *scalars)
    kernel(wrapped, grad, *states[1], 0.25, 0.125, 0.75, *scalars)
    assert same_bits(plain, wrapped)
    for a, b in zip(*states, strict=True):
        assert same_bits(a, b)


def torch_twin(torch, rule, tensors, lr):
    return {
        "SGD": lambda: torch.optim.SGD(tensors, lr),
        "Momentum": lambda: torch.optim.SGD(tensors, lr, momentum=0.9),
        "Nesterov": lambda: torch.optim.SGD(tensors, lr, momentum=0.9, nesterov=True),
        "AdaGrad": lambda: torch.optim.Adagrad(tensors, lr, eps=1e-7),
        "RMSprop": lambda: torch.optim.RMSprop(tensors, lr, alpha=0.99, eps=1e-7),
        "Adam": lambda: torch.optim.Adam(tensors, lr, eps=0.0),
    }[rule]()


@pytest.mark.parametrize(("dtype", "rtol"), [("float32", 1e-5), ("float64", 1e-12)])
@pytest.mark.parametrize("rule", RULES)
def test_agrees_with_pytorch(rule, dtype, rtol):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(10)
    params = [rng.uniform(1, 2, (20, 30)).astype(dtype)]
    tensors = [torch.tensor(p.copy(), requires_grad=True) for p in params]
    # eps sits elsewhere in PyTorch's Adam
    ours = getattr(fastopt, rule)(0.01, **({"eps": 0.0} if rule == "Adam" else {}))
    theirs = torch_twin(torch, rule, tensors, 0.01)
    for _ in range(20):
        grads = [rng.standard_normal((20, 30)).astype(dtype)]
        tensors[0].grad = torch.tensor(grads[0])
        theirs.step()
        ours.update(params, grads)
    np.testing.assert_allclose(params[0], tensors[0].detach().numpy(), rtol)


def test_every_place_names_the_same_rules():

    kernel_names = set(kernels.__all__)
    assert kernel_names == {rule.lower() for rule in RULES}
    assert set(reference.__all__) == set(optimizers.__all__) == set(RULES) <= set(fastopt.__all__)
    own = [cls for cls in Optimizer.__subclasses__() if cls.__module__ == optimizers.__name__]
    assert {cls.__name__ for cls in own} == set(RULES)
    for rule in RULES:
        assert getattr(fastopt, rule).kernel is getattr(kernels, rule.lower())
        assert set(getattr(fastopt, rule).states) == set(CASES[rule].states)


@pytest.mark.parametrize("rule", RULES)
def test_constructors_are_the_references(rule):
    ref, comp = both(rule)
    for name in hyperparameters(comp):
        assert getattr(comp, name) == getattr(ref, name)
