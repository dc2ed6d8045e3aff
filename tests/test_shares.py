"""Which rank has what, and states put together again: in one process, for any number of ranks."""

import numpy as np
import pytest

import fastopt

pytest.importorskip("mpi4py", exc_type=ImportError)
from fastopt.adapters.mpi import shares
from fastopt.adapters.mpi.shares import Part, Shares

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


@pytest.mark.parametrize("at_once", [False, True])
@pytest.mark.parametrize("chunk", [shares.CHUNK, 1000])
@pytest.mark.parametrize("ranks", RANKS)
def test_cut(ranks, chunk, at_once, monkeypatch):
    monkeypatch.setattr(shares, "CHUNK", chunk)
    monkeypatch.setattr(shares, "MESSAGE", 1)
    all_ranks = [Shares(LAYOUT, False, at_once, rank, ranks) for rank in range(ranks)]
    assert len(all_ranks[0].pieces) == (1 if chunk > 1000 else 8)
    parts = {dtype: np.zeros(size, int) for dtype, size in LAYOUT.sizes().items()}
    runs = {dtype: np.zeros(size, int) for dtype, size in LAYOUT.sizes().items()}
    seen = set()
    for rank, own in enumerate(all_ranks):
        assert own.ordered is LAYOUT
        assert own.apart is not at_once
        for part, slot in own.all.slots.items():
            assert slot.offset == LAYOUT[part.key].offset + part.first
            assert (slot.shape, slot.size) == ((part.last - part.first,), part.last - part.first)
            slot.of(parts[slot.dtype])[...] += 1
            assert part not in seen
            seen.add(part)
        if at_once:
            assert len({part.key for part in own.all.slots}) == len(own.all.slots)
            assert all(not piece.slots or piece is own.all for piece in own.pieces)
        else:
            assert [*own.all.slots] == [part for piece in own.pieces for part in piece.slots]
        for dtype, run in own.all.runs.items():
            size = LAYOUT.sizes()[dtype]
            assert all(start % 64 == 0 for start in run.starts if start < size)
            assert max(run.counts) <= size / ranks + 64
        for piece, same in zip(own.pieces, all_ranks[0].pieces, strict=True):
            assert piece.runs == same.runs
            sizes = dict.fromkeys(piece.runs, 0)
            for slot in piece.slots.values():
                sizes[slot.dtype] += slot.size
            for dtype, run in piece.runs.items():
                runs[dtype][run.starts[rank] :][: run.counts[rank]] += 1
                assert sizes[dtype] == run.counts[rank] or at_once
    assert {part.key for part in seen} == PARAMS.keys()
    assert all((flat == 1).all() for flat in (*parts.values(), *runs.values()))


@pytest.mark.parametrize(("ranks", "pieces"), [(1, 20), (2, 20), (8, 20), (64, 10), (512, 1)])
def test_pieces(ranks, pieces):
    layout = fastopt.plan.Layout()
    layout.place("W", (10**7,), np.dtype("float32"))
    assert len(Shares(layout, False, False, 0, ranks).pieces) == pieces


@pytest.mark.parametrize("ranks", RANKS)
def test_dealt(ranks):
    layout = fastopt.pack({i: np.zeros(size) for i, size in enumerate((9, 1, 5, 0, 7, 3, 3))}).layout
    all_ranks = [Shares(layout, True, True, rank, ranks) for rank in range(ranks)]
    held = [key for own in all_ranks for key in own.all.slots]
    assert sorted(held) == list(layout)
    assert held == list(all_ranks[0].ordered)
    loads = [sum(slot.size for slot in own.all.slots.values()) for own in all_ranks]
    assert max(loads) == {1: 28, 2: 15, 3: 10}.get(ranks, 9)
    for own in all_ranks:
        assert not own.apart
        (run,) = own.all.runs.values()
        assert run.counts == loads
        assert run.starts == [sum(loads[:rank]) for rank in range(ranks)]


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("at_once", [False, True])
def test_states_of_any_number_of_ranks(whole, at_once, monkeypatch):
    monkeypatch.setattr(shares, "CHUNK", 1000)
    monkeypatch.setattr(shares, "MESSAGE", 1)
    rng = np.random.default_rng(0)
    values = {key: np.asarray(rng.standard_normal(p.shape), p.dtype) for key, p in PARAMS.items()}
    numbers = {key: np.full((1,) * p.ndim, i, p.dtype) for i, (key, p) in enumerate(PARAMS.items())}
    state = {"class": "Some", "iter": 3, "skipped": 1, "state": {"m": values, "n": numbers, "v": None}}
    parts = [Shares(LAYOUT, whole, at_once, 0, 1).in_parts(state, SHAPES)]
    for ranks in (3, 7, 2):
        all_ranks = [Shares(LAYOUT, whole, at_once, rank, ranks) for rank in range(ranks)]
        own = [share.joined(parts, share.all.slots, SHAPES) for share in all_ranks]
        for share, mine in zip(all_ranks, own, strict=True):
            for part, slot in share.all.slots.items():
                assert mine["state"]["m"][part].shape == slot.shape
                assert mine["state"]["n"][part] == numbers[part.key if isinstance(part, Part) else part]
        named = [share.named(mine) for share, mine in zip(all_ranks, own, strict=True)]
        assert all(isinstance(name, str) for part in named for name in part["state"]["m"])
        parts = [share.read(part) for share, part in zip(all_ranks, named, strict=True)]
    shared = Shares(LAYOUT, whole, at_once, 0, 2)
    result = shared.joined(parts, LAYOUT, SHAPES)
    assert {**result, "state": None} == {**state, "state": None}
    assert result["state"]["v"] is None
    for name, expected in (("m", values), ("n", numbers)):
        assert list(result["state"][name]) == list(expected)
        for key, array in expected.items():
            assert result["state"][name][key].shape == array.shape
            assert result["state"][name][key].tobytes() == array.tobytes()
    if not whole:
        with pytest.raises(ValueError, match="elements of its m of 'a' missing"):
            shared.joined(parts[1:], LAYOUT, SHAPES)
        other = {**state, "state": {"m": {**values, "a": values["a"].T}}}
        with pytest.raises(ValueError, match="its m of 'a' is float32 of shape \\(90, 70\\)"):
            shared.in_parts(other, SHAPES)


@pytest.mark.parametrize("kind", [dict, list])
def test_sums_of_micro_batches(kind):
    def state(value):
        arrays = {0: np.full(3, value), 1: np.full((2, 2), -value, "float32")}
        total = arrays if kind is dict else [*arrays.values()]
        inner = {"class": "Accumulator", "iter": 5, "skipped": 0, "state": {"total": total}}
        return {
            "class": "Some",
            "iter": 2,
            "skipped": 0,
            "state": {"m": None},
            "inner": {"accumulated": inner},
        }

    layout = fastopt.pack([np.zeros(3), np.zeros((2, 2), "float32")]).layout
    three = Shares(layout, False, False, 0, 3).joined(
        [state(1.0), state(2.0), state(6.0)], layout, {"m": None}
    )
    accumulated = three["inner"]["accumulated"]
    assert accumulated["iter"] == 5
    total = accumulated["state"]["total"]
    assert type(total) is kind
    assert total[0].tolist() == [3, 3, 3]
    assert (total[1].dtype, total[1].tolist()) == (np.float32, [[-3, -3], [-3, -3]])
