"""The step that is like the last one: what it notices, and that it has the bits of any other."""

import operator
from collections import OrderedDict
from types import FunctionType

import numpy as np
import pytest
from uncompiled import COMPILES

import fastopt
import fastopt.engine.engine
from fastopt import Adam, Partition, Rows, schedules
from fastopt.engine.threads import available

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
KEPT = pytest.mark.skipif(not COMPILES, reason="no step is kept without the compiler")


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


@pytest.mark.parametrize("option", [{}, {"clip_norm": 9.0}, {"clip_value": 9.0}, {"clip_norm_each": 9.0}])
def test_lists_of_other_lengths(option):
    optimizer = fastopt.SGD(0.5, **option)
    params, grads = [np.ones(2) for _ in range(3)], [np.ones(2) for _ in range(3)]
    for n in (2, 2, 3, 3, 1):
        assert optimizer.update(params[:n], grads[:n])
    with pytest.raises(ValueError, match="2 parameters need as many gradients, not 3"):
        optimizer.update(params[:2], grads)
    assert [param[0] for param in params] == [-1.5, -1.0, 0.0]


class Nested(fastopt.SGD):
    """Takes another step while the scalars of one are asked for, as a signal's handler may."""

    def scalars(self, t):
        action = vars(self).pop("nested", None)
        if action is not None:
            action()
        return super().scalars(t)


@pytest.mark.parametrize(
    "option", [{}, {"clip_value": 0.6}, {"clip_norm_each": 0.6}, {"clip_norm": 9.0}, {"ema": 0.5}]
)
@pytest.mark.parametrize("at", [0, 1, 2])
def test_a_step_within_a_step_has_its_own_gradients(option, at):
    optimizer, params = Nested(1.0, **option), {"w": np.zeros(1)}
    for _ in range(at):
        optimizer.update(params, {"w": np.zeros(1)})
    vars(optimizer)["nested"] = lambda: optimizer.update(params, {"w": np.array([-0.5])})
    optimizer.update(params, {"w": np.array([0.25])})
    assert (params["w"].item(), optimizer.iter) == (0.25, at + 2)


@pytest.mark.parametrize("option", [{}, {"clip_value": 0.6}])
def test_a_step_begins_anew_as_often_as_others_are_taken(option):
    optimizer, params, left = Nested(1.0, **option), {"w": np.zeros(1)}, 5

    def again():
        nonlocal left
        left -= 1
        optimizer.update(params, {"w": np.array([-0.5])})
        if left:
            vars(optimizer)["nested"] = again

    vars(optimizer)["nested"] = again
    optimizer.update(params, {"w": np.array([0.25])})
    assert (params["w"].item(), optimizer.iter) == (2.25, 6)


def test_a_window_counts_once_for_a_step_within_its_last_micro_batch():
    optimizer, params = Nested(1.0, accumulate=2), {"w": np.zeros(1)}
    optimizer.update(params, {"w": np.array([1.0])})
    vars(optimizer)["nested"] = lambda: optimizer.update(params, {"w": np.array([3.0])})
    assert not optimizer.update(params, {"w": np.array([5.0])})  # the first of the next window
    assert (params["w"].item(), optimizer.iter) == (-2.0, 1)
    assert optimizer.update(params, {"w": np.array([7.0])})
    assert (params["w"].item(), optimizer.iter) == (-8.0, 2)


@KEPT
def test_options_drop_what_they_know_of_a_dropped_parameter():
    optimizer = fastopt.SGD(0.1, clip_value=1.0, clip_norm=1.0)
    for key in range(5):
        optimizer.update({key: np.ones(9)}, {key: np.ones(9)})
        optimizer.drop_state(key)
    copies, norm = optimizer.options
    assert not copies.copies.engine.memory.layout
    assert not norm.norm.sums.engine.memory.layout


def test_a_refused_step_replaces_no_number():
    optimizer = fastopt.SGD(0.1, nonfinite="raise", clip_norm=1.0)
    params = {"w": 1.0}
    optimizer.update(params, {"w": 1.0})
    number = params["w"]
    with pytest.raises(FloatingPointError):
        optimizer.update(params, {"w": np.inf})
    assert params["w"] is number


def test_scalars_must_be_a_tuple():
    class Listing(fastopt.SGD):
        def scalars(self, t):
            return [*super().scalars(t)]

    with pytest.raises(TypeError, match=r"Listing.scalars\(t\) must return a tuple of floats, got a list"):
        Listing().update([np.ones(1)], [np.ones(1)])


@KEPT
@pytest.mark.skipif(available() < 2, reason="there is one thread")
def test_sums_are_emptied_in_the_chain_of_a_step_with_threads(monkeypatch):
    """A step with threads is a Python function, between whose lines Ctrl-C may come."""
    chains, run_calls = [], fastopt.engine.engine.run_calls

    def recorded(calls):
        chains.append(calls)
        return run_calls(calls)

    monkeypatch.setattr(fastopt.engine.engine, "run_calls", recorded)
    optimizer, params = fastopt.SGD(0.5, threads=2, accumulate=2), {"w": np.zeros(60_000)}
    for step in range(6):
        chains.clear()
        assert optimizer.update(params, {"w": np.ones(60_000)}) is (step % 2 == 1)
        functions = [getattr(call, "func", call) for calls in chains for call in calls]
        assert step % 2 == 0 or operator.setitem in functions
        assert not any(isinstance(function, FunctionType) for function in functions)
    assert (params["w"] == -1.5).all()
