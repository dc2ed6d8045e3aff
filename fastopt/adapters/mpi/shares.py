"""Which rank has which elements of the parameters, and of their state."""

from collections.abc import Callable, Hashable, Iterable, Mapping
from itertools import pairwise
from typing import Any, Literal, NamedTuple

import numpy as np

from fastopt.checkpoints.files import items
from fastopt.groups import Groups
from fastopt.plan import Layout, Slot

__all__ = ["Buffers", "Part", "Piece", "Run", "Shares", "Views"]

Buffers = Mapping[np.dtype[Any], np.ndarray]
Shapes = Mapping[str, Callable[[tuple[int, ...]], tuple[int, ...]] | None]

# Shares begin at multiples of so many elements: cache lines of the state.
BLOCK = 64

# Larger buffers are exchanged and updated in pieces of about so many elements, one on its way while another
# is updated: small enough for the cache, but so large that there aren't more than MOST_PIECES, and that what
# a rank sends another at a time, MESSAGE elements, is longer on the wire than on its way.
CHUNK = 500_000
MOST_PIECES = 32
MESSAGE = 16_000


class Part(NamedTuple):
    """Elements of a parameter that are a rank's, counted in the order of its layout."""

    key: Hashable
    first: int
    last: int
    order: Literal["C", "F"] = "C"

    def __repr__(self) -> str:
        return f"{self.key!r}[{self.first}:{self.last}]"


class Run(NamedTuple):
    """Elements of a flat buffer: for each rank how many, and where they begin."""

    counts: list[int]
    starts: list[int]


class Views:
    """The arrays of a layout in flat buffers; made once, as long as the buffers are the same."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self._buffers: Buffers = {}
        self._arrays: dict[Hashable, np.ndarray] = {}

    def of(self, buffers: Buffers) -> dict[Hashable, np.ndarray]:
        """Give the arrays."""
        if [*map(id, buffers.values())] != [*map(id, self._buffers.values())]:
            self._buffers = {**buffers}
            self._arrays = {key: slot.shaped(buffers[slot.dtype]) for key, slot in self.layout.items()}
        return self._arrays


class Piece:
    """What is exchanged together.

    Parameters
    ----------
    runs : dict of dtype to Run
        All ranks' elements.
    slots : Layout
        This rank's parameters, or parts of them, in the flat buffers.
    starts : dict of dtype to int
        Where this rank's share of the buffers begins.

    Attributes
    ----------
    runs, slots
        As above.
    groups : Groups, optional
        Those of the slots.
    params, grads : Views
        These slots in the buffers, and in others that have this rank's share only.
    """

    def __init__(
        self, runs: dict[np.dtype[Any], Run], slots: Layout, starts: Mapping[np.dtype[Any], int]
    ) -> None:
        self.runs, self.slots = runs, slots
        self.groups: Groups | None = None
        own = {key: slot._replace(offset=slot.offset - starts[slot.dtype]) for key, slot in slots.items()}
        self.params, self.grads = Views(slots), Views(Layout(own))


class Shares:
    """Which elements are whose.

    Parameters
    ----------
    layout : Layout
        Of the parameters, in the order of their container.
    whole : bool
        Whether the rule needs whole arrays. They are dealt out then: the largest first, each to the rank that
        has least. Else every rank has the same part of each buffer, cut at multiples of 64 elements.
    at_once : bool
        Whether the rule needs all of a rank's elements of an array at once.
    rank, ranks : int
        This process, and how many there are.

    Attributes
    ----------
    ordered : Layout
        Of flat buffers in which each rank's elements follow one another.
    apart : bool
        Whether pieces can be updated one after the other.
    pieces : list of Piece
        What is exchanged, in order. Without slots unless they can be updated.
    all : Piece
        All of them as one. Its slots, whole parameters by their keys or each `Part`, are what the
        optimizer of this rank is given.
    """

    def __init__(self, layout: Layout, whole: bool, at_once: bool, rank: int, ranks: int) -> None:
        self.layout, self.whole, self.rank = layout, whole, rank
        sizes = layout.sizes()
        if whole:
            self.ordered, ends, slots = deal(layout, rank, ranks)
        else:
            self.ordered, ends = layout, {dtype: bounds(0, size, ranks) for dtype, size in sizes.items()}
        runs: list[dict[np.dtype[Any], Run]] = []
        for dtype, own in ends.items():
            number = min(MOST_PIECES, max(1, round(sizes[dtype] / max(CHUNK, MESSAGE * ranks))))
            cuts = [bounds(first, last - first, number) for first, last in pairwise(own)]
            for k in range(number):
                runs.append({dtype: Run([cut[k + 1] - cut[k] for cut in cuts], [cut[k] for cut in cuts])})
        total = {dtype: Run([b - a for a, b in pairwise(own)], own[:-1]) for dtype, own in ends.items()}
        if sum(sizes.values()) <= CHUNK:
            runs = [total]
        self.apart = not whole and not at_once
        if not whole:
            slots = Layout() if self.apart else self.parts(total)
        self.pieces = []
        starts = {dtype: own[rank] for dtype, own in ends.items()}
        for some in runs:
            parts = self.parts(some) if self.apart else Layout()
            new = Layout((part, slot) for part, slot in parts.items() if part not in slots)
            self.pieces.append(Piece(some, new, starts))
            slots.update(new)
        self.all = Piece(total, slots, starts)

    def parts(self, runs: Mapping[np.dtype[Any], Run]) -> Layout:
        """Give the slots of this rank's parts of the parameters; empty ones are the first rank's."""
        parts = Layout()
        for key, slot in self.layout.items():
            if slot.dtype not in runs:
                continue
            start = runs[slot.dtype].starts[self.rank]
            low = max(slot.offset, start)
            high = min(slot.offset + slot.size, start + runs[slot.dtype].counts[self.rank])
            empty = not slot.size and runs[slot.dtype].starts[0] == 0 == self.rank
            if low < high or empty:
                low, size = (slot.offset, 0) if empty else (low, high - low)
                first = low - slot.offset
                parts[Part(key, first, first + size, slot.order)] = Slot((size,), slot.dtype, "C", low, size)
        return parts

    def named(self, state: dict[str, Any]) -> dict[str, Any]:
        """Give the state dict of a rank's optimizer with names for its parts, as files need them."""
        return state if self.whole else renamed(state, name_of)

    def read(self, state: dict[str, Any]) -> dict[str, Any]:
        """Give a state dict with parts for their names."""
        return state if self.whole else renamed(state, part_of)

    def in_parts(self, state: Mapping[str, Any], shapes: Shapes) -> dict[str, Any]:
        """Give a rule's ordinary state dict as a rank's would be that has everything.

        Raises
        ------
        ValueError
            If it is of other parameters.
        """
        if self.whole:
            return dict(state)
        result: dict[str, Any] = {}
        for name, arrays in state["state"].items():
            parts = {}
            for key, array in items(arrays or {}):
                slot = self.layout.get(key)
                if slot is None or (array.shape, array.dtype) != (
                    shape_of(slot.shape, shapes.get(name)),
                    slot.dtype,
                ):
                    raise ValueError(
                        f"its {name} of {key!r} is {array.dtype} of shape {array.shape}; there is no such "
                        "parameter here"
                    )
                parts[Part(key, 0, array.size, slot.order)] = array.reshape(-1, order=slot.order)
            result[name] = None if arrays is None else parts
        return {**state, "state": result}

    def joined(self, states: Iterable[Mapping[str, Any]], slots: Layout, shapes: Shapes) -> dict[str, Any]:
        """Put a state dict together from those of several ranks.

        Parameters
        ----------
        states : iterable of dict
            State dicts of the ranks' optimizers, or as `in_parts` gives them.
        slots : Layout
            What is wanted of them: ``self.all.slots`` for this rank, ``self.layout`` for the ordinary state
            dict.
        shapes : dict
            For each state what gives its shape from a parameter's, or None if it has the same.

        Raises
        ------
        ValueError
            If there is only a part of what is wanted of an array.
        """
        result: dict[str, Any] = {}
        inner: dict[str, list[Any]] = {}
        found: dict[str, Any] = {}
        for state in states:
            if not result:
                result = {**state, "state": dict.fromkeys(state["state"])}
            for name in ("iter", "skipped"):
                result[name] = max(result[name], state[name])
            for name, other in state.get("inner", {}).items():
                inner.setdefault(name, []).append(other)
            for name, arrays in state["state"].items():
                if arrays is not None:
                    if name not in found:
                        found[name] = {} if self.whole else Joining(self.layout, slots, shapes.get(name))
                    found[name].update(items(arrays))
        for name, there in found.items():
            arrays = there if self.whole else there.arrays(name)
            result["state"][name] = {key: arrays[key] for key in slots if key in arrays}
        if inner:
            result["inner"] = {
                name: mean(others) if name == "accumulated" else self.joined(others, slots, {})
                for name, others in inner.items()
            }
        return result


class Joining:
    """The arrays of one state, put together from parts.

    Parameters
    ----------
    layout, slots : Layout
        The parameters, and what is wanted of them.
    shape : callable, optional
        Gives the shape of a state that is the same for all parts of an array.
    """

    def __init__(self, layout: Layout, slots: Layout, shape: Any) -> None:
        self.layout, self.slots, self.shape = layout, slots, shape
        self._flats: dict[Hashable, np.ndarray] = {}
        self._left: dict[Hashable, int] = {}
        self._turned: dict[Hashable, list[tuple[Part, np.ndarray]]] = {}
        self._wanted: dict[Hashable, list[Part]] = {}
        for key, slot in slots.items():
            part = key if isinstance(key, Part) else Part(key, 0, slot.size, slot.order)
            self._wanted.setdefault(part.key, []).append(part)

    def update(self, parts: Iterable[tuple[Part, np.ndarray]]) -> None:
        """Take what is wanted of some parts."""
        for part, array in parts:
            for wanted in self._wanted.get(part.key, ()):
                if self.shape is not None:
                    self._flats[wanted] = array
                elif part.order == wanted.order:
                    self._take(wanted, part.first, array)
                elif wanted is self._wanted[part.key][0]:
                    self._turned.setdefault(part.key, []).append((part, array))

    def _take(self, wanted: Part, start: int, array: np.ndarray) -> None:
        """Copy what a part has of the elements from ``start`` on."""
        if wanted not in self._flats:
            self._left[wanted] = wanted.last - wanted.first
            self._flats[wanted] = np.empty(self._left[wanted], array.dtype)
        low, high = max(start, wanted.first), min(start + array.size, wanted.last)
        if low < high:
            self._flats[wanted][low - wanted.first : high - wanted.first] = array[low - start : high - start]
            self._left[wanted] -= high - low

    def arrays(self, name: str) -> dict[Hashable, np.ndarray]:
        """Give what is wanted, but for arrays of which there is nothing."""
        for key, parts in self._turned.items():  # saved in another order
            slot = self.layout[key]
            whole = np.concatenate([array for _, array in sorted(parts, key=lambda pair: pair[0].first)])
            if whole.size == slot.size:
                whole = whole.reshape(slot.shape, order=parts[0][0].order).reshape(-1, order=slot.order)
                for wanted in self._wanted[key]:
                    self._take(wanted, 0, whole)
        result: dict[Hashable, np.ndarray] = {}
        for key, slot in self.slots.items():
            wanted = key if isinstance(key, Part) else self._wanted[key][0]
            if self._left.get(wanted, 0):
                raise ValueError(f"there are {self._left[wanted]} elements of its {name} of {key!r} missing")
            if wanted in self._flats:
                shape = slot.shape if self.shape is None else self.shape(slot.shape)
                result[key] = self._flats[wanted].reshape(shape, order=slot.order)
        return result


def renamed(state: dict[str, Any], name: Callable[[Any], Hashable]) -> dict[str, Any]:
    """Give a state dict whose arrays have other names."""
    parts = {
        state_name: arrays and {name(part): array for part, array in arrays.items()}
        for state_name, arrays in state["state"].items()
    }
    return {**state, "state": parts}


def name_of(part: Part) -> str:
    """Name a part as `part_of` reads it."""
    if isinstance(part.key, str):
        key = "s" + str.__str__(part.key)
    elif isinstance(part.key, int | np.integer):
        key = f"i{int(part.key)}"
    else:
        raise TypeError(f"parameter {part.key!r}: a checkpoint takes names that are str or int")
    return f"{part.first} {part.last} {part.order} {key}"


def part_of(name: str) -> Part:
    """Read a name."""
    first, last, order, key = name.split(" ", 3)
    known = int(key[1:]) if key[0] == "i" else key[1:]
    return Part(known, int(first), int(last), "C" if order == "C" else "F")


def shape_of(shape: tuple[int, ...], own: Callable[[tuple[int, ...]], tuple[int, ...]] | None) -> Any:
    """Give the shape of a state from that of its parameter."""
    return shape if own is None else own(shape)


@np.errstate(all="ignore")
def mean(states: list[Any]) -> dict[str, Any]:
    """Give the state dict of sums that every rank has of its own, with their mean."""
    result = {**states[0], "state": {}}
    for name, first in states[0]["state"].items():
        total = {key: array.copy("K") for key, array in items(first or {})}
        for state in states[1:]:
            for key, array in items(state["state"][name] or {}):
                total[key] += array
        for array in total.values():
            array /= len(states)
        of_list = [*total.values()] if isinstance(first, list) else total
        result["state"][name] = None if first is None else of_list
    return result


def bounds(first: int, size: int, parts: int) -> list[int]:
    """Give the bounds of equal parts, at multiples of BLOCK elements from the first."""
    blocks = -(-size // BLOCK)
    return [first + min(size, blocks * i // parts * BLOCK) for i in range(parts + 1)]


def deal(layout: Layout, rank: int, ranks: int) -> tuple[Layout, dict[np.dtype[Any], list[int]], Layout]:
    """Give each rank whole arrays: a layout in which they follow one another, its bounds, and this rank's."""
    loads = [0] * ranks
    owners: dict[Hashable, int] = {}
    for key, slot in sorted(layout.items(), key=lambda item: -item[1].size * item[1].dtype.itemsize):
        owners[key] = loads.index(min(loads))
        loads[owners[key]] += slot.size * slot.dtype.itemsize
    ordered, own = Layout(), Layout()
    ends = {dtype: [0] * (ranks + 1) for dtype in layout.sizes()}
    for key in sorted(layout, key=owners.__getitem__):
        ordered.place(key, *layout[key][:3])
        if owners[key] == rank:
            own[key] = ordered[key]
        for later in range(owners[key] + 1, ranks + 1):
            ends[layout[key].dtype][later] += layout[key].size
    return ordered, ends, own
