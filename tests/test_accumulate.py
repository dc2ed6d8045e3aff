"""`accumulate`: one step on the mean of micro-batches."""

import copy
import pickle

import numpy as np
import pytest
from cases import same_bits, snapshot, state_bytes

import fastopt

K = 3


def micro_batches(dtype="float64", steps=4):
    rng = np.random.default_rng(5)
    shapes = {"W": (6, 4), "F": (4, 5), "b": (4,)}
    params = {key: np.asarray(rng.standard_normal(shape), dtype) for key, shape in shapes.items()}
    params["F"] = np.asfortranarray(params["F"])
    batches = [
        {key: np.asarray(rng.standard_normal(p.shape), dtype) for key, p in params.items()}
        for _ in range(K * steps)
    ]
    for batch in batches:  # whose norm depends on its order in the last bit
        batch["F"] = np.asfortranarray(batch["F"])
    return params, batches


def mean(batches):
    """Give the mean of each array, summed in order."""
    return {key: sum((b[key] for b in batches[1:]), batches[0][key]) / len(batches) for key in batches[0]}


OPTIONS = [{}, {"clip_norm": 0.5, "weight_decay": 0.1}, {"clip_value": 0.1, "ema": 0.9}]


@pytest.mark.parametrize("kind", ["dict", "list", "packed", "number"])
@pytest.mark.parametrize("options", OPTIONS)
def test_a_step_is_the_step_on_the_mean(kind, options):
    params, batches = micro_batches("float32" if kind == "dict" else "float64")
    if kind == "number":
        params["b"], batches = 0.5, [b | {"b": float(b["b"][0])} for b in batches]
    theirs = {key: np.array(p) for key, p in params.items()}
    ours = fastopt.pack(params) if kind == "packed" else list(params.values()) if kind == "list" else params
    one, other = fastopt.Adam(0.01, accumulate=K, **options), fastopt.Adam(0.01, **options)
    for k, batch in enumerate(batches):
        before = snapshot({key: np.array(p) for key, p in zip(theirs, values(ours), strict=True)})
        given = list(batch.values()) if kind == "list" else batch
        if kind == "packed":
            given = params.like() if hasattr(params, "like") else ours.like()
            given.update(batch)
        kept = snapshot(batch)
        last = (k + 1) % K == 0
        assert one.update(ours, given) is last
        assert snapshot(batch) == kept
        if last:
            other.update(theirs, mean(batches[k + 1 - K : k + 1]))
            assert all(map(same_bits, map(np.asarray, values(ours)), theirs.values()))
        else:
            assert snapshot([np.asarray(p) for p in values(ours)]) == before
    assert one.iter == other.iter == len(batches) // K


def values(container):
    return list(container.values()) if hasattr(container, "values") else list(container)


@pytest.mark.parametrize("way", ["save", "state dict", "pickle", "deepcopy"])
def test_it_goes_on_in_the_middle(way, tmp_path):
    params, batches = micro_batches()
    optimizer = fastopt.Adam(0.01, accumulate=K)
    for k, batch in enumerate(batches):
        optimizer.update(params, batch)
        if k == 4:  # the second of the second step
            other, again = fastopt.Adam(accumulate=K), copy.deepcopy(params)
            if way == "save":
                optimizer.save(tmp_path / "x.npz", params)
                again = {key: np.zeros_like(p) for key, p in params.items()}
                other.load(tmp_path / "x.npz", again)
            elif way == "state dict":
                other.load_state_dict(optimizer.state_dict())
            else:
                other = pickle.loads(pickle.dumps(optimizer)) if way == "pickle" else copy.deepcopy(optimizer)
        elif k > 4:
            other.update(again, batch)
            assert snapshot(again) == snapshot(params)
            assert state_bytes(other) == state_bytes(optimizer)


def test_faults_leave_all_as_it_was():
    params, batches = micro_batches()
    optimizer = fastopt.Adam(accumulate=K, nonfinite="raise")
    bad = batches[0] | {"W": np.full((6, 4), np.nan)}
    short = batches[0] | {"W": np.ones((6, 5))}
    rows = batches[0] | {"W": fastopt.Rows([0], np.ones((1, 4)))}
    for k, batch in enumerate(batches[:4]):
        before = snapshot(params), state_bytes(optimizer)
        for container, wrong, error, message in [
            (params, bad, FloatingPointError, "'W' has NaN"),
            (params, short, ValueError, r"'W' has shape \(6, 5\)"),
            (params, rows, TypeError, "'W' is of rows: accumulate"),
            (params, {}, KeyError, "no gradient for parameter 'W'"),
        ]:
            with pytest.raises(error, match=message):
                optimizer.update(container, wrong)
            assert (snapshot(params), state_bytes(optimizer)) == before
        if k % K:
            with pytest.raises(ValueError, match=f"{k % K} micro-batches are in"):
                optimizer.accumulate = 2
        optimizer.update(params, batch)
    with pytest.raises(ValueError, match="accumulate must be at least 1"):
        fastopt.SGD(accumulate=0)


def test_sets_of_parameters_take_turns_with_windows_of_their_own():
    params, batches = micro_batches()
    sets = [{"W": params["W"]}, {key: p for key, p in params.items() if key != "W"}]
    theirs = copy.deepcopy(sets)
    one, others = fastopt.Adam(accumulate=2), (fastopt.Adam(accumulate=2), fastopt.Adam(accumulate=2))
    for batch in batches[:5]:  # the first window of both, then one of the second set alone
        for own, other, their in zip(sets, others, theirs, strict=True):
            assert one.update(own, batch) is other.update(their, batch)
            assert snapshot(own) == snapshot(their)


def test_flush_steps_with_the_micro_batches_that_are_in():
    params, batches = micro_batches()
    theirs = copy.deepcopy(params)
    one, other = fastopt.Adam(accumulate=4), fastopt.Adam()
    assert one.flush(params) is False
    for batch in batches[:3]:
        one.update(params, batch)
    assert one.flush(params) is True
    other.update(theirs, mean(batches[:3]))
    assert snapshot(params) == snapshot(theirs)
    assert (one.iter, one.flush(params)) == (1, False)


def test_skipped_micro_batches_do_not_count():
    params, batches = micro_batches()
    theirs = copy.deepcopy(params)
    one, other = fastopt.Adam(accumulate=2, nonfinite="skip"), fastopt.Adam()
    bad = batches[0] | {"b": np.full(4, np.inf)}
    assert [one.update(params, g) for g in (bad, batches[0], bad, batches[1])] == [False, False, False, True]
    other.update(theirs, mean(batches[:2]))
    assert snapshot(params) == snapshot(theirs)
    assert one.skipped == 2


def test_parameters_may_change_between_steps():
    params, batches = micro_batches()
    theirs = copy.deepcopy(params)
    less = {key: p for key, p in params.items() if key != "b"}
    one, other = fastopt.SGD(accumulate=2), fastopt.SGD()
    for n, container, same in [
        (0, params, theirs),
        (2, less, {k: theirs[k] for k in less}),
        (4, params, theirs),
    ]:
        one.update(container, batches[n])
        one.update(container, batches[n + 1])
        other.update(same, mean(batches[n : n + 2]))
    assert snapshot(params) == snapshot(theirs)
    one.accumulate = 1
    assert one.update(params, batches[0])
    assert "accumulated" not in fastopt.SGD().state_dict()


@pytest.mark.parametrize(("before", "after"), [(4, 2), (3, 2), (8, 4), (2, 3)])
def test_after_a_change_micro_batches_begin_anew(before, after):
    params, opt = {"w": np.zeros(2)}, fastopt.SGD(lr=1.0, accumulate=before)
    for _ in range(2 * before):
        opt.update(params, {"w": np.ones(2)})
    assert params["w"].tolist() == [-2, -2]
    opt.accumulate = after
    taken = [opt.update(params, {"w": np.full(2, 100.0)}) for _ in range(after)]
    assert taken == [False] * (after - 1) + [True]
    assert params["w"].tolist() == [-102, -102]
    opt.iter -= 1  # which begins anew, too
    assert [opt.update(params, {"w": np.full(2, 100.0)}) for _ in range(after)] == taken
    assert params["w"].tolist() == [-202, -202]


@pytest.mark.parametrize("first", [["b"], ["b", "W"]], ids=["one", "other order"])
def test_packed_micro_batches_after_those_of_single_arrays(first):
    """Whose sums lie in another order, or are of fewer arrays."""
    grads = {"W": np.full(3, 1.0), "b": np.full(2, 5.0)}
    params = fastopt.pack({"W": np.zeros(3), "b": np.zeros(2)})
    optimizer = fastopt.SGD(1.0, accumulate=3)
    for key in first:
        optimizer.update({key: params[key]}, {key: grads[key]})
    optimizer.update(params, fastopt.pack(grads))
    optimizer.update(params, fastopt.pack(grads))
    assert params["b"].tolist() == [-5.0] * 2
    assert params["W"].tolist() == [-1.0 if "W" in first else 0.0] * 3
