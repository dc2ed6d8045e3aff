"""The step that is like the last one: what it notices, and that it has the bits of any other."""

from collections import OrderedDict

import numpy as np
import pytest
from numba import config

import fastopt
from fastopt import Adam, Partition, Rows, schedules

OPTIONS = {
    "plain": {},
    "decay": {"weight_decay": 0.1},
    "schedule": {"lr": schedules.Cosine(0.1, 20)},
    "clip_norm": {"clip_norm": 0.5},
    "clip_value": {"clip_value": 0.3},
    "clip_norm_each": {"clip_norm_each": 0.3},
    "all": {
        "lr": schedules.Cosine(0.1, 20), "clip_norm": 0.5, "clip_value": 0.3, "clip_norm_each": 0.6,
        "ema": 0.9, "groups": {"b": {"lr_scale": 0.5}},
    },
}  # fmt: skip
KEPT = pytest.mark.skipif(bool(config.DISABLE_JIT), reason="no step is kept without the compiler")


def arrays(seed=0):
    rng = np.random.default_rng(seed)
    return {"W": rng.standard_normal((3, 4)), "b": rng.standard_normal(4), "f": np.ones((5, 2), "f4", "F")}


def grads_of(step):
    return {key: np.asarray(value, np.float64) for key, value in arrays(step).items()}


@KEPT
@pytest.mark.parametrize("options", OPTIONS)
def test_a_kept_step_has_the_bits_of_a_planned_one(options):
    kept, planned = Adam(**OPTIONS[options]), Adam(**OPTIONS[options])
    params, theirs = arrays(), arrays()
    for step in range(6):
        assert (kept.kept is None) is (step == 0)
        kept.update(params, grads_of(step))
        vars(planned)["kept"] = None
        planned.update(theirs, grads_of(step))
        for key in params:
            assert params[key].tobytes() == theirs[key].tobytes(), (step, key)
        assert (kept.lr, kept.grad_norm, kept.iter) == (planned.lr, planned.grad_norm, planned.iter)


@KEPT
@pytest.mark.parametrize("options", OPTIONS)
def test_what_differs_from_the_last_step_is_noticed(options):
    optimizer = Adam(**OPTIONS[options])
    params, grads = arrays(), grads_of(1)
    for _ in range(2):
        optimizer.update(params, grads)
    before, shown = {key: value.copy() for key, value in params.items()}, (optimizer.lr, optimizer.grad_norm)
    for wrong, error, message in (
        ({"W": grads["W"], "f": grads["f"]}, KeyError, "no gradient for parameter 'b'"),
        ({**grads, "b": np.zeros(3)}, ValueError, "the gradient of 'b' has shape"),
        (list(grads.values()), TypeError, "grads must be a dict like params"),
        ({**grads, "W": grads["W"].astype(complex)}, TypeError, "'W' is complex128"),
    ):
        with pytest.raises(error, match=message):
            optimizer.update(params, wrong)
        assert (optimizer.lr, optimizer.grad_norm, optimizer.iter) == (*shown, 2)
        for key, value in before.items():
            assert params[key].tobytes() == value.tobytes()
    assert optimizer.update(OrderedDict(reversed(params.items())), {**grads, "other": np.zeros(1)})
    assert optimizer.iter == 3


@KEPT
@pytest.mark.parametrize("option", [{}, {"clip_norm": 1.0}, {"clip_value": 1.0}, {"clip_norm_each": 1.0}])
@pytest.mark.parametrize("bad", [np.inf, np.nan])
def test_a_gradient_that_is_not_finite_is_found_in_a_kept_step(option, bad):
    params, grads = arrays(), grads_of(1)
    wrong = {**grads, "b": np.array([0, bad, 0, 0])}
    for nonfinite in ("warn", "raise", "skip"):
        optimizer = Adam(nonfinite=nonfinite, **option)
        for _ in range(2):
            optimizer.update(params, grads)
        assert optimizer.kept is not None
        before = params["W"].copy()
        if nonfinite == "warn":
            with pytest.warns(RuntimeWarning, match="gradient of 'b' has NaN, infinity"):
                assert optimizer.update(params, wrong)
            params = arrays()
        elif nonfinite == "raise":
            with pytest.raises(FloatingPointError, match="gradient of 'b' has NaN, infinity"):
                optimizer.update(params, wrong)
        else:
            assert not optimizer.update(params, wrong)
            assert optimizer.skipped == 1
        if nonfinite != "warn":
            assert params["W"].tobytes() == before.tobytes()
            assert optimizer.iter == 2


@pytest.mark.parametrize("make", [lambda **own: Adam(**own), lambda **own: Partition({"*": Adam()}, **own)])
@pytest.mark.parametrize("option", [{"clip_norm": 1.0}, {"clip_value": 1.0}, {"clip_norm_each": 1.0}])
def test_options_forget_arrays_of_other_shapes(make, option):
    """What an option knows of arrays is no state: only the rule's own state refuses other arrays."""
    optimizer = make(**option)
    params = {"w": np.ones(2), "v": np.ones(2)}
    optimizer.update(params, {"w": np.ones(2), "v": np.ones(2)})
    optimizer.drop_state("w")
    for _ in range(2):
        assert optimizer.update({"w": np.ones(3), "v": np.ones(2)}, {"w": np.ones(3), "v": np.ones(2)})
    with pytest.raises(ValueError, match="'w' is now float64 of shape"):
        optimizer.update(params, {"w": np.ones(2), "v": np.ones(2)})


@pytest.mark.parametrize("option", [{"clip_norm": 1.0}, {"clip_value": 1.0}, {"clip_norm_each": 1.0}])
def test_rows_after_whole_gradients(option):
    optimizer, other = fastopt.SGD(0.5, **option), fastopt.SGD(0.5, **option)
    params, theirs = {"E": np.ones((4, 2))}, {"E": np.ones((4, 2))}
    rows = Rows(np.array([2, 0]), np.arange(4.0).reshape(2, 2))
    for grad in (np.ones((4, 2)), np.ones((4, 2)), rows, np.ones((4, 2))):
        optimizer.update(params, {"E": grad})
        other.update(theirs, {"E": grad.dense((4, 2)) if grad is rows else grad})
        np.testing.assert_allclose(params["E"], theirs["E"], rtol=1e-15)
