"""Which rank has what, and states put together again: without MPI, for any number of ranks."""

import numpy as np
import pytest

import fastopt
from fastopt.adapters import shares
from fastopt.adapters.shares import Shares

PARAMS = {
    "a": np.zeros((70, 90), "float32"),
    "b": np.zeros((40, 50), order="F"),
    "c": np.zeros(3, "float32"),
    "d": np.zeros(()),
    "e": np.zeros((0, 4)),
}
LAYOUT = fastopt.pack(PARAMS).layout
RANKS = [1, 2, 3, 7, 64, 512]


@pytest.mark.parametrize("chunk", [shares.CHUNK, 1000])
@pytest.mark.parametrize("ranks", RANKS)
def test_cut(ranks, chunk, monkeypatch):
    monkeypatch.setattr(shares, "CHUNK", chunk)
    all_ranks = [Shares(LAYOUT, False, rank, ranks) for rank in range(ranks)]
    groups = all_ranks[0].groups
    assert len(groups) == (1 if chunk > 1000 else 8)
    taken = {dtype: np.zeros(size, int) for dtype, size in LAYOUT.sizes().items()}
    for rank, own in enumerate(all_ranks):
        assert own.ordered is LAYOUT
        for slot in own.slots.values():
            slot.of(taken[slot.dtype])[...] += 1
            assert slot.offset % 64 == 0
        for group, same in zip(own.groups, groups, strict=True):
            assert [chunk[:3] for chunk in group.chunks] == [chunk[:3] for chunk in same.chunks]
            for chunk in group.chunks:
                assert chunk.start == chunk.first + sum(chunk.counts[:rank])
                assert max(chunk.counts) <= sum(chunk.counts) / ranks + 64
            assert sum(slot.size for slot in group.slots.values()) == sum(
                c.counts[rank] for c in group.chunks
            )
    assert all((flat == 1).all() for flat in taken.values())


@pytest.mark.parametrize("ranks", RANKS)
def test_dealt(ranks):
    layout = fastopt.pack({i: np.zeros(size) for i, size in enumerate((9, 1, 5, 0, 7, 3, 3))}).layout
    all_ranks = [Shares(layout, True, rank, ranks) for rank in range(ranks)]
    held = [key for own in all_ranks for key in own.slots]
    assert sorted(held) == list(layout)
    assert held == list(all_ranks[0].ordered)
    loads = [sum(slot.size for slot in own.slots.values()) for own in all_ranks]
    assert max(loads) == {1: 28, 2: 15, 3: 10}.get(ranks, 9)
    assert loads == all_ranks[0].groups[0].chunks[0].counts


@pytest.mark.parametrize("whole", [False, True])
def test_states_of_any_number_of_ranks(whole):
    rng = np.random.default_rng(0)
    values = {key: rng.standard_normal(p.shape).astype(p.dtype) for key, p in PARAMS.items()}
    state = {"class": "Some", "iter": 3, "skipped": 1, "state": {"m": values, "v": None}}
    parts = [state]
    for ranks in (3, 7, 2):
        all_ranks = [Shares(LAYOUT, whole, rank, ranks) for rank in range(ranks)]
        if parts == [state]:
            parts = [all_ranks[0].in_parts(state)]
        parts = [own.joined(parts, own.slots) for own in all_ranks]
    shared = Shares(LAYOUT, whole, 0, 2)
    result = shared.joined(parts, LAYOUT)
    assert {**result, "state": None} == {**state, "state": None}
    assert result["state"]["v"] is None
    assert list(result["state"]["m"]) == list(values)
    for key, array in values.items():
        assert result["state"]["m"][key].shape == array.shape
        assert result["state"]["m"][key].tobytes() == array.tobytes()
    if not whole:
        with pytest.raises(ValueError, match="elements of its m missing"):
            shared.joined(parts[:1], LAYOUT)
        other = {**state, "state": {"m": {**values, "a": values["a"].T}}}
        with pytest.raises(ValueError, match="its m of 'a' is float32 of shape \\(90, 70\\)"):
            shared.in_parts(other)
