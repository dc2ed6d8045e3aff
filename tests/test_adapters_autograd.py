"""HIPS autograd's optimizers, its own and fastopt's."""

import numpy as np
import pytest
from cases import same_bits

pytest.importorskip("autograd")

import autograd.numpy as anp
from autograd import grad
from autograd.misc import optimizers

from fastopt.adapters import autograd as fast
from fastopt.adapters.common import library

START = {"W": np.array([[1.5, -0.5]]), "more": [0.25, (np.array([2.0, -3.0]), np.array(0.5))]}
ARGUMENTS = {
    "sgd": {"num_iters": 30, "step_size": 0.05, "mass": 0.8},
    "rmsprop": {"num_iters": 30, "step_size": 0.05, "gamma": 0.8, "eps": 1e-3},
    "adam": {"num_iters": 30, "step_size": 0.05, "b1": 0.8, "b2": 0.9, "eps": 1e-3},
}


def objective(x, i):
    first, (second, third) = x["more"]
    return (
        anp.sum((x["W"] - 1) ** 4) + anp.sin(first) + anp.sum(second**2) * (1 + 0.1 * i % 3) + anp.exp(third)
    )


def leaves(x):
    first, (second, third) = x["more"]
    return np.concatenate([x["W"].ravel(), [first], second, [third]])


def trajectory(module, rule, *arguments, **named):
    """Give all points and gradients, and the result at the end."""
    seen = []
    x = getattr(module, rule)(
        grad(objective), START, lambda x, i, g: seen.append((i, x, g)), *arguments, **named
    )
    assert type(x["more"][1]) is tuple
    return [i for i, _, _ in seen], np.array([leaves(y) for _, *pair in seen for y in pair] + [leaves(x)])


@pytest.mark.parametrize("rule", ARGUMENTS)
@pytest.mark.parametrize("how", ["defaults", "named", "positional"])
def test_the_same_points_within_rounding(rule, how):
    named = ARGUMENTS[rule] if how == "named" else {}
    arguments = ARGUMENTS[rule].values() if how == "positional" else ()
    (ref_steps, ref), (comp_steps, comp) = (
        trajectory(module, rule, *arguments, **named) for module in (optimizers, fast)
    )
    assert ref_steps == comp_steps
    np.testing.assert_allclose(comp, ref, rtol=1e-12, atol=1e-13)
    assert abs(ref[-1] - ref[0]).max() > 0.05


@pytest.mark.parametrize("rule", ARGUMENTS)
def test_numbers_single_arrays_and_no_callback(rule):
    slope = grad(lambda x, i: anp.sum((x - 3.0) ** 2))
    for start in (1.0, np.ones(3), np.ones((2, 2), "float32")):
        ref, comp = (getattr(module, rule)(slope, start, num_iters=5) for module in (optimizers, fast))
        assert np.asarray(comp).dtype == np.asarray(ref).dtype
        np.testing.assert_allclose(comp, ref, rtol=1e-6)


def test_what_a_callback_keeps_stays():
    start, points = np.ones(3), []
    slope = grad(lambda x, i: anp.sum((x - 3.0) ** 2))
    end = fast.adam(slope, start, lambda x, i, g: points.append(x), 3)
    assert (start == 1).all()
    assert 1 == points[0][0] < points[1][0] < points[2][0] < end[0]


def test_complex_numbers_are_refused():
    with pytest.raises(TypeError, match="x0 has complex numbers"):
        fast.adam(lambda x, i: x, np.ones(2, complex))


def test_a_missing_library_is_named():
    with pytest.raises(ModuleNotFoundError, match="this needs no_library: python -m pip install no-library$"):
        library("no_library.part", "no-library")


@pytest.mark.parametrize("name", ["adam", "rmsprop"])
def test_the_bits_are_autograds(name):
    def slope(x, i):
        return np.sin(x + i) * x

    x0 = np.random.default_rng(0).standard_normal(50)
    expected = getattr(optimizers, name)(slope, x0, num_iters=30)
    assert same_bits(getattr(fast, name)(slope, x0, num_iters=30), expected)
