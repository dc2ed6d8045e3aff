"""`Rows`, beside the whole gradients that they stand for, and PyTorch's SparseAdam."""

import numpy as np
import pytest
from cases import same_bits, snapshot, state_bytes

import fastopt

SHAPE = (30, 4)


def batches(dtype="float64", shape=SHAPE, steps=6, seed=3):
    """Give a table, and for each step indices of rows, some of them twice, and their gradients."""
    rng = np.random.default_rng(seed)
    table = np.asarray(rng.standard_normal(shape), dtype)
    given = []
    for _ in range(steps):
        indices = rng.integers(0, shape[0], (3, 4))
        given.append((indices, np.asarray(rng.standard_normal((3, 4, *shape[1:])), dtype)))
    return table, given


def whole(table, indices, values):
    dense = np.zeros(table.shape, table.dtype)
    np.add.at(dense, indices, values)
    return dense


def everything(optimizer, params):
    return state_bytes(optimizer), snapshot(params)


LAYOUTS = {
    "C": lambda table: table,
    "F": np.asfortranarray,
    "strided": lambda table: np.repeat(table[..., None], 2, -1)[..., 0],
    "swapped": lambda table: table.astype(table.dtype.newbyteorder()),
    "packed": lambda table: table,
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("rule", [fastopt.SGD, fastopt.AdaGrad, fastopt.RowAdaGrad])
def test_rows_have_the_bits_of_the_whole_gradient(rule, dtype, layout):
    table, given = batches(dtype)
    ours = {"W": LAYOUTS[layout](table.copy()), "b": np.ones(5, dtype)}
    ours = fastopt.pack(ours) if layout == "packed" else ours
    theirs = {"W": table.copy(), "b": np.ones(5, dtype)}
    one, other = rule(0.1, maximize=True), rule(0.1, maximize=True)
    for k, (indices, values) in enumerate(given):
        b = np.full(5, 0.5, dtype)
        dense = whole(table, indices, values)
        one.update(ours, {"W": dense if k == 3 else fastopt.Rows(indices, values), "b": b})
        other.update(theirs, {"W": dense, "b": b})
        assert all(same_bits(np.asarray(ours[key], dtype), theirs[key]) for key in theirs)
    for name in one.states:
        assert same_bits(getattr(one, name)["W"], getattr(other, name)["W"])
    assert one.iter == len(given)


def test_rows_of_vectors_half_precision_and_nothing():
    indices, values = np.array([1, 1, 6]), np.array([0.25, 0.5, 1.0])
    for dtype in ("float16", "float64"):
        params = [np.ones(8, dtype), np.ones((3, 2))]
        fastopt.SGD(1).update(params, [fastopt.Rows(indices, values), fastopt.Rows([], np.empty((0, 2)))])
        assert params[0].tolist() == [1, 0.25, 1, 1, 1, 1, 0, 1]
        assert (params[1] == 1).all()


@pytest.mark.parametrize("mode", ["now", "never"])
@pytest.mark.parametrize("shape", [(30, 4), (30, 130), (30,), (30, 3, 2)])
def test_rows_of_a_rule_with_a_number_for_each(shape, mode, monkeypatch):
    """As the whole gradient, and in turn with it: with clipping, groups, and other arrays."""
    monkeypatch.setenv("FASTOPT_COMPILE", mode)
    table, given = batches(shape=shape)
    options = {"clip_value": 0.5, "groups": {"W": {"lr": 0.3}}, "initial_accumulator_value": 0.25}
    ours, theirs = ({"W": table.copy(), "b": np.ones(5), "V": table.copy()} for _ in range(2))
    one, other = fastopt.RowAdaGrad(0.1, **options), fastopt.RowAdaGrad(0.1, **options)
    for k, (indices, values) in enumerate(given):
        dense, b = whole(table, indices, values), np.full(5, 0.5)
        rows = fastopt.Rows(indices, values)
        one.update(ours, {"W": rows if k % 3 else dense, "b": b, "V": rows})
        other.update(theirs, {"W": dense, "b": b, "V": dense})
        assert all(same_bits(ours[key], theirs[key]) for key in theirs)
        assert all(same_bits(one.h[key], other.h[key]) for key in theirs)
    assert one.h["W"].shape == (30, *[1] * (len(shape) - 1))


def test_one_table_that_is_there_twice_is_updated_twice():
    table = np.ones((4, 2))
    rows = fastopt.Rows([2], np.full((1, 2), 0.25))
    fastopt.SGD(1).update([table, table], [rows, rows])
    assert table[:, 0].tolist() == [1, 1, 0.5, 1]


@pytest.mark.parametrize("options", [{"clip_norm": 0.5}, {"clip_value": 0.1}, {"clip_norm_each": 0.5},
                                     {"clip_adaptive": 0.05}])  # fmt: skip
@pytest.mark.parametrize("packed", [False, True])
def test_rows_are_clipped_as_the_whole_gradient(options, packed):
    table, given = batches()
    ours, theirs = {"W": table.copy()}, {"W": table.copy()}
    if packed:
        ours = fastopt.pack(ours)
    one, other = fastopt.SGD(0.1, **options), fastopt.SGD(0.1, **options)
    for indices, values in given:
        kept = values.copy()
        one.update(ours, {"W": fastopt.Rows(indices, values)})
        other.update(theirs, {"W": whole(table, indices, values)})
        assert same_bits(values, kept)
        np.testing.assert_allclose(ours["W"], theirs["W"], rtol=1e-13)
    if "clip_norm" in options:
        assert one.grad_norm == pytest.approx(other.grad_norm, rel=1e-13)


def test_lazy_rows_wait_with_all_that_is_theirs():
    table, given = batches(steps=3)
    options = {"weight_decay": 0.1, "decoupled": True, "ema": 0.9}
    ours, theirs = {"W": table.copy()}, {"W": table.copy()}
    one, other = fastopt.Adam(0.1, rows="lazy", **options), fastopt.Adam(0.1, **options)
    for indices, values in given:
        before = {"W": ours["W"].copy(), **dict.fromkeys(one.states)}
        if one.iter:
            before |= {name: getattr(one, name)["W"].copy() for name in one.states}
            theirs["W"][...] = ours["W"]
            for name in one.states:
                getattr(other, name)["W"][...] = before[name]
        one.update(ours, {"W": fastopt.Rows(indices, values)})
        other.update(theirs, {"W": whole(table, indices, values)})
        touched = np.isin(np.arange(len(table)), indices)
        assert 0 < touched.sum() < len(touched)
        after = {"W": (ours["W"], theirs["W"])}
        after |= {name: (getattr(one, name)["W"], getattr(other, name)["W"]) for name in one.states}
        for name, (mine, whole_step) in after.items():
            assert same_bits(mine[touched], whole_step[touched])
            if before[name] is not None:
                assert same_bits(mine[~touched], before[name][~touched])


@pytest.mark.filterwarnings("ignore:Sparse invariant")
def test_lazy_adam_agrees_with_pytorch():
    torch = pytest.importorskip("torch")
    table, given = batches(steps=10)
    ours, theirs = {"W": table.copy()}, torch.tensor(table.copy(), requires_grad=True)
    one = fastopt.Adam(0.01, eps=1e-8, rows="lazy")
    other = torch.optim.SparseAdam([theirs], lr=0.01, eps=1e-8)
    for indices, values in given:
        one.update(ours, {"W": fastopt.Rows(indices, values)})
        theirs.grad = torch.sparse_coo_tensor(indices.reshape(1, -1), values.reshape(-1, 4), SHAPE)
        other.step()
        np.testing.assert_allclose(ours["W"], theirs.detach().numpy(), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", ["SGD", "AdaGrad"])
def test_still_rules_leave_what_has_no_gradient(name):
    table, given = batches()
    optimizer, params = getattr(fastopt, name)(0.1), {"W": table}
    optimizer.update(params, {"W": whole(table, *given[0])})
    before = everything(optimizer, params)
    optimizer.update(params, {"W": np.zeros(SHAPE)})
    assert optimizer.iter == 2
    optimizer.iter = 1
    assert everything(optimizer, params) == before


ROWS = fastopt.Rows([0, 1], np.ones((2, 4)))
FAULTS = [
    ({}, fastopt.Rows([0, 30], np.ones((2, 4))), ValueError, "'W' has index 30: it must be from 0 to 29"),
    ({}, fastopt.Rows([0, -1], np.ones((2, 4))), ValueError, "'W' has index -1"),
    ({}, fastopt.Rows([0.0, 1.0], np.ones((2, 4))), TypeError, "'W' has indices of float64"),
    ({}, fastopt.Rows([0, 1], np.ones((2, 5))), ValueError, r"'W' has values of shape \(2, 5\).*\(2, 4\)"),
    ({}, fastopt.Rows([0, 1], np.ones((2, 4), complex)), TypeError, "'W' has values of complex128"),
    ({}, fastopt.Rows([0, 1], np.ma.ones((2, 4))), TypeError, "'W' has a MaskedArray of values"),
    ({"nonfinite": "raise"}, fastopt.Rows([0, 0], np.full((2, 4), 1e154)), FloatingPointError, "'W' has NaN"),
    ({"weight_decay": 0.1}, ROWS, ValueError, "'W' is of rows, but weight decay changes the others"),
    ({"ema": 0.9}, ROWS, ValueError, "'W' is of rows, but ema changes the others"),
]


@pytest.mark.parametrize(("options", "rows", "error", "message"), FAULTS)
def test_rows_that_cannot_be_taken(options, rows, error, message):
    params = {"b": np.ones(3), "W": np.ones(SHAPE)}
    optimizer = fastopt.SGD(**options)
    before = everything(optimizer, params)
    with pytest.raises(error, match=message):
        optimizer.update(params, {"b": np.ones(3), "W": rows})
    assert everything(optimizer, params) == before


@pytest.mark.parametrize(("optimizer", "param", "message"), [
    (fastopt.Adam(), np.ones(SHAPE), "'W' is of rows, but Adam changes the others, too: rows='lazy'"),
    (fastopt.Momentum(), np.ones(SHAPE), "Momentum changes the others, too: rows='lazy'"),
    (fastopt.LAMB(rows="lazy"), np.ones(SHAPE), "'W' is of rows, but LAMB needs whole arrays"),
    (fastopt.RowAdaGrad(cautious=True), np.ones(SHAPE), "'W' is of rows, but cautious=True"),
    (fastopt.SGD(), np.ones(()), "'W' is of rows, but its parameter is a number"),
])  # fmt: skip
def test_rules_and_parameters_without_rows(optimizer, param, message):
    with pytest.raises(ValueError, match=message):
        optimizer.update({"W": param}, {"W": ROWS})
    assert optimizer.iter == 0
    assert (param == 1).all()


def test_rows_that_are_not_finite_are_skipped_or_warned_of():
    params, bad = {"W": np.ones(SHAPE)}, fastopt.Rows([1], np.full((1, 4), np.nan))
    assert not fastopt.SGD(nonfinite="skip").update(params, {"W": bad})
    assert (params["W"] == 1).all()
    with pytest.warns(RuntimeWarning, match="'W' has NaN"):
        fastopt.SGD().update(params, {"W": bad})
    assert np.isnan(params["W"]).any(axis=1).tolist() == [k == 1 for k in range(30)]


@pytest.mark.parametrize("mode", ["now", "never"])
def test_rows_of_whole_arrays_are_looked_at(mode, monkeypatch):
    monkeypatch.setenv("FASTOPT_COMPILE", mode)
    params, good = {"W": np.ones(SHAPE)}, fastopt.Rows([3], np.ones((1, 4)))
    bad = fastopt.Rows([5, 1], np.array([[1.0, 2, 3, 4], [0, 0, 0, np.nan]]))
    optimizer = fastopt.RowAdaGrad(nonfinite="skip")
    assert optimizer.update(params, {"W": good})
    before = everything(optimizer, params)
    assert not optimizer.update(params, {"W": bad})
    assert everything(optimizer, params) == before
    optimizer.nonfinite = "warn"
    with pytest.warns(RuntimeWarning, match="'W' has NaN"):
        optimizer.update(params, {"W": bad})
    assert np.isnan(params["W"]).all(axis=1).tolist() == [k == 1 for k in range(30)]


def test_a_partition_hands_rows_to_a_rule_of_whole_arrays():
    table, given = batches()
    ours, theirs = {"W": table.copy(), "b": np.ones((3, 2))}, {"W": table.copy()}
    one = fastopt.Partition({"W": fastopt.RowAdaGrad(0.1), "*": fastopt.LAMB()})
    other = fastopt.RowAdaGrad(0.1)
    for indices, values in given:
        one.update(ours, {"W": fastopt.Rows(indices, values), "b": np.ones((3, 2))})
        other.update(theirs, {"W": whole(table, indices, values)})
    assert same_bits(ours["W"], theirs["W"])


def test_rows_in_groups_and_checkpoints(tmp_path):
    table, given = batches()
    frozen = fastopt.SGD(groups={"W": {"freeze": True}})
    params = {"W": table.copy(), "b": np.ones(3)}
    for _ in range(2):
        frozen.update(params, {"W": fastopt.Rows(*given[0]), "b": np.ones(3)})
    assert same_bits(params["W"], table)
    assert (params["b"] < 1).all()
    ours, again = {"W": table.copy()}, {"W": np.zeros(SHAPE)}
    one, other = fastopt.Adam(rows="lazy"), fastopt.Adam()
    for k, batch in enumerate(given):
        one.update(ours, {"W": fastopt.Rows(*batch)})
        if k == 2:
            one.save(tmp_path / "x.npz", ours)
            other.load(tmp_path / "x.npz", again)
        elif k > 2:
            other.update(again, {"W": fastopt.Rows(*batch)})
    assert same_bits(ours["W"], again["W"])
    assert state_bytes(one) == state_bytes(other)


@pytest.mark.parametrize("suffix", ["npz", "safetensors"])
def test_a_file_tells_the_shapes_of_tables(suffix, tmp_path):
    """The states alone don't."""
    shapes = {"W": SHAPE, "K": (5, 2, 3), "b": (4,), "s": (), 7: (3, 0)}
    params = {key: np.ones(shape) for key, shape in shapes.items()}
    one, other = fastopt.RowAdaGrad(), fastopt.RowAdaGrad()
    one.update(params, params)
    assert one.state_dict()["shapes"] == {key: shapes[key] for key in ("W", "K", 7)}
    one.save(tmp_path / f"x.{suffix}", params)
    again = {key: np.zeros(shape) for key, shape in shapes.items()}
    other.load(tmp_path / f"x.{suffix}", again)
    for optimizer, own in ((one, params), (other, again)):
        optimizer.update(own, {key: np.full(shape, 0.25) for key, shape in shapes.items()})
    assert everything(one, params) == everything(other, again)
    third, wider = fastopt.RowAdaGrad(), {**params, "W": np.ones((30, 5))}
    third.update(wider, wider)
    with pytest.raises(ValueError, match=r"'W' is float64 of shape \(30, 4\), this .* of shape \(30, 5\)"):
        third.load_state_dict(one.state_dict())


def test_the_last_element_of_a_table_of_one_row_is_looked_at():
    optimizer, table = fastopt.SGD(nonfinite="skip", rows="lazy"), np.ones((1, 4))
    assert optimizer.update([table], [fastopt.Rows([0], np.ones((1, 4)))])
    before = table.copy()
    assert not optimizer.update([table], [fastopt.Rows([0], np.array([[1.0, 1.0, 1.0, np.nan]]))])
    assert (table == before).all()
