"""Which rank has what, and states put together again: in one process, for any number of ranks."""

import numpy as np
import pytest

import fastopt

pytest.importorskip("mpi4py", exc_type=ImportError)
from fastopt.adapters.mpi import sharding
from fastopt.adapters.mpi.sharded_state import join_states, slice_state, with_names, with_slices
from fastopt.adapters.mpi.sharding import Sharding, param_key
from fastopt.arrays.layout import Layout

PARAMS = {
    "a": np.zeros((70, 90), "float32"),
    "b": np.zeros((40, 50), order="F"),
    "c": np.zeros(3, "float32"),
    "d": np.zeros(()),
    "e": np.zeros((0, 4)),
}
LAYOUT = fastopt.pack(PARAMS).layout
RANKS = [1, 2, 3, 7, 64, 512]
SHAPES = {"m": None, "n": lambda shape: (1,) * len(shape), "v": None}


@pytest.mark.parametrize("is_joint", [False, True])
@pytest.mark.parametrize("bucket_size", [sharding.BUCKET_SIZE, 1000])
@pytest.mark.parametrize("ranks", RANKS)
def test_cut(ranks, bucket_size, is_joint, monkeypatch):
    monkeypatch.setattr(sharding, "BUCKET_SIZE", bucket_size)
    monkeypatch.setattr(sharding, "MIN_MESSAGE_SIZE", 1)
    all_ranks = [Sharding(LAYOUT, False, is_joint, rank, ranks) for rank in range(ranks)]
    assert len(all_ranks[0].buckets) == (1 if bucket_size > 1000 else 8)
    parts = {dtype: np.zeros(size, int) for dtype, size in LAYOUT.sizes.items()}
    runs = {dtype: np.zeros(size, int) for dtype, size in LAYOUT.sizes.items()}
    seen = set()
    for rank, own in enumerate(all_ranks):
        assert own.ordered is LAYOUT
        assert own.is_joint is is_joint
        for part, slot in own.combined.slots.items():
            assert slot.offset == LAYOUT[part.key].offset + part.first
            assert (slot.shape, slot.size) == ((part.last - part.first,), part.last - part.first)
            slot.flat_view(parts[slot.dtype])[...] += 1
            assert part not in seen
            seen.add(part)
        if is_joint:
            assert len({part.key for part in own.combined.slots}) == len(own.combined.slots)
            assert all(not bucket.slots or bucket is own.combined for bucket in own.buckets)
        else:
            assert [*own.combined.slots] == [part for bucket in own.buckets for part in bucket.slots]
        for dtype, run in own.combined.segments.items():
            size = LAYOUT.sizes[dtype]
            assert all(start % 64 == 0 for start in run.starts if start < size)
            assert max(run.counts) <= size / ranks + 64
        for bucket, same in zip(own.buckets, all_ranks[0].buckets, strict=True):
            assert bucket.segments == same.segments
            sizes = dict.fromkeys(bucket.segments, 0)
            for slot in bucket.slots.values():
                sizes[slot.dtype] += slot.size
            for dtype, run in bucket.segments.items():
                runs[dtype][run.starts[rank] :][: run.counts[rank]] += 1
                assert sizes[dtype] == run.counts[rank] or is_joint
    assert {part.key for part in seen} == PARAMS.keys()
    assert all((flat == 1).all() for flat in (*parts.values(), *runs.values()))


@pytest.mark.parametrize(("ranks", "n_buckets"), [(1, 20), (2, 20), (8, 20), (64, 10), (512, 1)])
def test_number_of_buckets(ranks, n_buckets):
    layout = Layout()
    layout.place("W", (10**7,), np.dtype("float32"))
    assert len(Sharding(layout, False, False, 0, ranks).buckets) == n_buckets


@pytest.mark.parametrize("ranks", RANKS)
def test_dealt(ranks):
    layout = fastopt.pack({i: np.zeros(size) for i, size in enumerate((9, 1, 5, 0, 7, 3, 3))}).layout
    all_ranks = [Sharding(layout, True, True, rank, ranks) for rank in range(ranks)]
    held = [key for own in all_ranks for key in own.combined.slots]
    assert sorted(held) == list(layout)
    assert held == list(all_ranks[0].ordered)
    loads = [sum(slot.size for slot in own.combined.slots.values()) for own in all_ranks]
    assert max(loads) == {1: 28, 2: 15, 3: 10}.get(ranks, 9)
    for own in all_ranks:
        assert own.is_joint
        (run,) = own.combined.segments.values()
        assert run.counts == loads
        assert run.starts == [sum(loads[:rank]) for rank in range(ranks)]


@pytest.mark.parametrize("is_whole", [False, True])
@pytest.mark.parametrize("is_joint", [False, True])
@pytest.mark.parametrize("counts", [None, {"a": 3, "b": 1, "c": 3, "d": 0, "e": 3}])
def test_states_of_any_number_of_ranks(is_whole, is_joint, counts, monkeypatch):
    monkeypatch.setattr(sharding, "BUCKET_SIZE", 1000)
    monkeypatch.setattr(sharding, "MIN_MESSAGE_SIZE", 1)
    rng = np.random.default_rng(0)
    values = {key: np.asarray(rng.standard_normal(p.shape), p.dtype) for key, p in PARAMS.items()}
    numbers = {key: np.full((1,) * p.ndim, i, p.dtype) for i, (key, p) in enumerate(PARAMS.items())}
    state = {"class": "Some", "iter": 3, "skipped": 1, "state": {"m": values, "n": numbers, "v": None}}
    state |= {} if counts is None else {"counts": counts}
    parts = [slice_state(state, Sharding(LAYOUT, is_whole, is_joint, 0, 1), SHAPES)]
    for ranks in (3, 7, 2):
        all_ranks = [Sharding(LAYOUT, is_whole, is_joint, rank, ranks) for rank in range(ranks)]
        own = [join_states(parts, shard, shard.combined.slots, SHAPES) for shard in all_ranks]
        for shard, mine in zip(all_ranks, own, strict=True):
            for part, slot in shard.combined.slots.items():
                assert mine["state"]["m"][part].shape == slot.shape
                assert mine["state"]["n"][part] == numbers[param_key(part)]
                expected = 3 if counts is None else counts[param_key(part)]
                assert mine.get("counts", {}).get(part, 3) == expected
        parts = own
        if not is_whole:
            named = [with_names(mine) for mine in own]
            assert all(isinstance(name, str) for part in named for name in part["state"]["m"])
            parts = [with_slices(part) for part in named]
    shared = Sharding(LAYOUT, is_whole, is_joint, 0, 2)
    result = join_states(parts, shared, LAYOUT, SHAPES)
    assert {**result, "state": None} == {**state, "state": None}
    assert result["state"]["v"] is None
    for name, expected in (("m", values), ("n", numbers)):
        assert list(result["state"][name]) == list(expected)
        for key, array in expected.items():
            assert result["state"][name][key].shape == array.shape
            assert result["state"][name][key].tobytes() == array.tobytes()
    if not is_whole:
        with pytest.raises(ValueError, match="m of 'a' must be complete, but .* are missing"):
            join_states(parts[1:], shared, LAYOUT, SHAPES)
        other = {**state, "state": {"m": {**values, "a": values["a"].T}}}
        with pytest.raises(ValueError, match=r"m of 'a' must be .* \(70, 90\) .*, got .* \(90, 70\)"):
            slice_state(other, shared, SHAPES)
        other = {**state, "state": {"m": {**values, "f": values["a"]}}}
        with pytest.raises(ValueError, match="m of 'f' has no parameter here"):
            slice_state(other, shared, SHAPES)


def test_counts_of_a_rule_without_states():
    state = {"class": "SGD", "iter": 3, "skipped": 0, "state": {}, "counts": {"a": 1, "unknown": 2}}
    one = Sharding(LAYOUT, False, False, 0, 3)
    sliced = slice_state(state, one, {})
    assert {part.key: count for part, count in sliced["counts"].items()} == {"a": 1}
    own = join_states([sliced], one, one.combined.slots, {})["counts"]
    assert own == {part: 1 for part in one.combined.slots if part.key == "a"}
    assert join_states([{**state, "counts": own}], one, LAYOUT, {})["counts"] == {"a": 1}


@pytest.mark.parametrize("kind", [dict, list])
def test_sums_of_micro_batches(kind):
    def state(value):
        arrays = {0: np.full(3, value), 1: np.full((2, 2), -value, "float32")}
        total = arrays if kind is dict else [*arrays.values()]
        inner = {"class": "Accumulation", "iter": 0, "skipped": 0, "state": {"accumulate.total": total}}
        inner |= {"counts": {0: 2, 1: 2}}
        whole = {"class": "Some", "iter": 2, "skipped": 0, "state": {"m": None}}
        return {**whole, "inner": {"accumulate": inner}}

    layout = fastopt.pack([np.zeros(3), np.zeros((2, 2), "float32")]).layout
    states = [state(1.0), state(2.0), state(6.0)]
    three = join_states(states, Sharding(layout, False, False, 0, 3), layout, {"m": None})
    sums = three["inner"]["accumulate"]
    assert sums["counts"] == {0: 2, 1: 2}
    total = sums["state"]["accumulate.total"]
    assert type(total) is kind
    assert total[0].tolist() == [3, 3, 3]
    assert (total[1].dtype, total[1].tolist()) == (np.float32, [[-3, -3], [-3, -3]])
