"""Steps that are left out because the norm of their gradients is too large."""

import copy
from functools import partial
from math import inf, nan

import numpy as np
import pytest
from cases import same_bits, snapshot, state_bytes

import fastopt
from fastopt.schedules import Exponential


def test_steps_worked_out_by_hand():
    optimizer = fastopt.SGD(Exponential(1.0, 0.5), skip_norm=5.0, threads=1)
    params = [np.array([16.0]), np.array([[8.0]])]
    for (one, other), expected, n in (
        ((3.0, 4.0), (13, 4), 1),  # a norm of 5
        ((3.0, 4.001), None, 1),
        ((-4.0, 2.0), (15, 3), 2),  # with a learning rate of 1/2
        ((nan, 0.0), None, 2),
        ((0.0, -inf), None, 2),
        ((1e200, 1e200), None, 2),
        ((4.0, 0.0), (14, 3), 3),
    ):
        before, state, lr = snapshot(params), state_bytes(optimizer), optimizer.lr
        assert optimizer.update(params, [np.array([one]), np.array([[other]])]) is (expected is not None)
        if expected is None:
            assert snapshot(params) == before
            assert optimizer.lr == lr
            assert state_bytes(optimizer) == state
        else:
            assert (params[0][0], params[1][0, 0]) == expected
        assert optimizer.iter == n
    assert optimizer.skipped == 4
    assert repr(optimizer).startswith("SGD(lr=Exponential(1.0, 0.5), skip_norm=5.0, threads=1)")
    again = fastopt.SGD()
    again.load_state_dict(optimizer.state_dict())
    assert (again.skip_norm, again.skipped) == (5.0, 4)


def small(seed, scale=1.0):
    rng = np.random.default_rng(seed)
    return {key: scale * rng.standard_normal(shape) for key, shape in (("W", (6, 7)), ("b", (7,)))}


KINDS = ["dict", "list", "packed", "mixed", "strided"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"ema": 0.9, "lookahead": (2, 0.5), "lr": Exponential(0.1, 0.9)},
        {"clip_norm": 3.0, "clip_value": 0.5, "nonfinite": "skip"},
        {"accumulate": 2, "groups": {"b*": {"lr_scale": 2.0}}, "nonfinite": "raise"},
    ],
    ids=str,
)
def test_as_if_these_steps_had_not_been(kind, options):
    if kind == "list" and "groups" in options:
        options = {**options, "groups": {1: {"lr_scale": 2.0}}}
    results = []
    for has_large in (False, True):
        optimizer, params = fastopt.Adam(**options, skip_norm=20.0, threads=1), arranged(kind, small(0))
        for step in range(9):
            if has_large and step % 2:
                before = snapshot(dict(enumerate(params.values() if isinstance(params, dict) else params)))
                assert optimizer.update(params, grads_of(kind, params, small(step, 100.0))) is False
                after = snapshot(dict(enumerate(params.values() if isinstance(params, dict) else params)))
                assert before == after
            optimizer.update(params, grads_of(kind, params, small(step)))
        assert optimizer.skipped == 4 * has_large
        values = params.values() if isinstance(params, dict) else params
        results.append(([np.array(value) for value in values], optimizer.iter, optimizer.grad_norm))
    assert all(map(same_bits, results[0][0], results[1][0]))
    assert results[0][1:] == results[1][1:]


def arranged(kind, values):
    if kind == "mixed":
        values["b"] = values["b"].astype("float32")
    if kind == "strided":
        values["W"] = np.asfortranarray(values["W"])
    given = list(values.values()) if kind == "list" else values
    return fastopt.pack(given) if kind == "packed" else given


def grads_of(kind, params, values):
    if kind != "packed":
        return list(values.values()) if kind == "list" else values
    packed = params.like()
    packed.update(values)
    return packed


def test_micro_batches_are_left_out_of_the_mean():
    optimizer, params = fastopt.SGD(1.0, accumulate=2, skip_norm=10.0), [np.array([80.0, 80.0])]
    given = ([2.0, 0.0], [9.0, 9.0], [0.0, 4.0], [6.0, 6.0], [90.0, nan])
    assert [optimizer.update(params, [np.array(grad)]) for grad in given] == [
        False,
        False,
        True,
        False,
        False,
    ]
    assert params[0].tolist() == [79, 78]
    assert (optimizer.iter, optimizer.skipped) == (1, 2)
    assert optimizer.flush(params)
    assert params[0].tolist() == [73, 72]
    assert (optimizer.iter, optimizer.skipped) == (2, 2)


@pytest.mark.filterwarnings("ignore")
def test_agrees_with_optax():
    jax, optax = pytest.importorskip("jax"), pytest.importorskip("optax")
    scales = [1.0, 1.0, 30.0, 0.5, 1.0, 2.0, 30.0, 30.0, 1.0, 1.0, 1.0]
    with jax.enable_x64(True):
        skip = partial(optax.skip_large_updates, max_squared_norm=20.0**2)
        twin = optax.MultiSteps(
            optax.sgd(0.1, 0.9), 2, should_skip_update_fn=skip, accumulator_dtype="float64"
        )
        theirs, update = small(0), jax.jit(twin.update)  # without which each step takes a second
        state = twin.init(theirs)
        for step, scale in enumerate(scales, 1):
            updates, state = update(small(step, scale), state, theirs)
            theirs = optax.apply_updates(theirs, updates)
    optimizer, params = fastopt.SGDM(0.1, 0.9, accumulate=2, skip_norm=20.0), small(0)
    for step, scale in enumerate(scales, 1):
        optimizer.update(params, small(step, scale))
    assert optimizer.skipped == 3
    for key in params:
        np.testing.assert_allclose(params[key], theirs[key], rtol=1e-12)


@pytest.mark.parametrize("nonfinite", ["warn", "raise", "skip"])
def test_gradients_that_are_not_finite(nonfinite):
    """These are refused where they are to be; a finite one that is too large is never an error."""
    for dtype, value in (("float32", 1e20), ("float64", nan), ("float64", 1e200)):
        optimizer, params = fastopt.SGD(1.0, skip_norm=1.0, nonfinite=nonfinite), [np.ones(2, dtype)]
        grads = [np.array([0.5, value], dtype)]
        if nonfinite == "raise":
            with pytest.raises(FloatingPointError, match="the gradient of 0 has NaN"):
                optimizer.update(params, grads)
        else:
            assert not optimizer.update(params, grads)
        assert not optimizer.update(params, [np.array([3.0, 4.0], dtype)])
        assert optimizer.skipped == (1 if nonfinite == "raise" else 2)
        assert params[0].tolist() == [1, 1]


def test_frozen_arrays_do_not_count_and_rows_do():
    optimizer = fastopt.SGD(1.0, skip_norm=5.0, groups={"b": {"freeze": True}})
    params = {"W": np.zeros((3, 2)), "b": np.zeros(2)}
    rows = fastopt.Rows([0, 2, 0], [[1.0, 0.0], [0.0, 4.0], [2.0, 0.0]])
    assert optimizer.update(params, {"W": rows, "b": np.full(2, 90.0)})
    assert params["W"].tolist() == [[-3, 0], [0, 0], [0, -4]]
    assert not optimizer.update(params, {"W": fastopt.Rows([0], [[3.0, 4.1]]), "b": np.zeros(2)})
    assert params["W"].tolist() == [[-3, 0], [0, 0], [0, -4]]


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_partition_leaves_out_the_step_of_all(accumulate):
    members = {"W": fastopt.Momentum(1.0), "*": fastopt.SGD(1.0)}
    optimizer = fastopt.Partition(members, skip_norm=5.0, accumulate=accumulate)
    params = {"W": np.zeros((1, 1)), "b": np.zeros(1)}
    for w, b, is_taken in ((3, 4, True), (3, 4.1, False), (-3, 4, True), (nan, 0, False), (-6, 0, False)):
        before = snapshot(params)
        for number in range(accumulate):
            taken = optimizer.update(params, {"W": np.array([[float(w)]]), "b": np.array([float(b)])})
            assert taken is (is_taken and number + 1 == accumulate)
        assert is_taken or snapshot(params) == before
    assert (optimizer.iter, optimizer.skipped) == (2, 3 * accumulate)
    assert [member.iter for member in members.values()] == [2, 2]
    assert [member.skipped for member in members.values()] == [0, 0]


def test_a_partition_and_its_members():
    with pytest.raises(
        ValueError, match=r"skip_norm must be given to the partition, got 2.0 for members\['W'\]"
    ):
        fastopt.Partition({"W": fastopt.SGD(skip_norm=2.0), "*": fastopt.SGD()})
    optimizer = fastopt.Partition({"W": fastopt.SGD(1.0), "*": fastopt.SGD(1.0)})
    optimizer["W"].skip_norm = 2.0  # later, it decides for all
    params = {"W": np.zeros(1), "b": np.zeros(1)}
    for w, is_taken in ((1.0, True), (3.0, False), (2.0, True)):
        assert optimizer.update(params, {"W": np.array([w]), "b": np.array([9.0])}) is is_taken
    assert (params["W"][0], params["b"][0], optimizer.skipped) == (-3, -18, 1)


def test_it_can_change_at_any_time():
    optimizer, params = fastopt.Adam(), small(0)
    twin, others = copy.deepcopy(optimizer), small(0)
    for step in range(8):
        optimizer.skip_norm = 50.0 if step in (2, 3, 4, 6) else None
        scale = 1.0 if step % 2 else 100.0
        is_taken = optimizer.update(params, small(step, scale))
        assert is_taken is (step not in (2, 4, 6))
        if is_taken:
            twin.update(others, small(step, scale))
        assert snapshot(params) == snapshot(others)
    with pytest.raises(ValueError, match="skip_norm must be above 0"):
        optimizer.skip_norm = 0.0
