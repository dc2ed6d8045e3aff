"""Which process has which part of the parameters, and of their state."""

from collections.abc import Hashable, Iterable, Mapping
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from fastopt.checkpoint import items
from fastopt.plan import Layout, Slot

__all__ = ["Buffers", "Chunk", "Group", "Shares"]

Buffers = Mapping[np.dtype[Any], np.ndarray]

# Shares begin at multiples of so many elements: cache lines of the state.
BLOCK = 64

# Larger buffers are reduced, updated and gathered in pieces of about so many elements, so that one is on its
# way during the update of another.
CHUNK = 4_000_000


class Chunk(NamedTuple):
    """Elements of a flat buffer that are reduced and gathered together, so many of each rank in order.

    Those of this rank begin at ``start``.
    """

    dtype: np.dtype[Any]
    first: int
    counts: list[int]
    start: int

    def of(self, buffers: Buffers) -> np.ndarray:
        """Give all these elements, as a view."""
        return buffers[self.dtype][self.first : self.first + sum(self.counts)]


class Group(NamedTuple):
    """What is updated together: at most a chunk of each dtype, and the slots in them that are this rank's."""

    chunks: list[Chunk]
    slots: Layout


class Shares:
    """Which elements are whose.

    Parameters
    ----------
    layout : Layout
        Of the parameters, in the order of their container.
    whole : bool
        Whether the rule needs whole arrays. They are dealt out then: the largest first, each to the rank that
        has least. Else every rank has its part of every chunk, cut at multiples of 64 elements.
    rank, ranks : int
        This process, and how many there are.

    Attributes
    ----------
    ordered : Layout
        Of flat buffers in which each rank's elements of a chunk follow one another.
    groups : list of Group
        What is updated, in order.
    slots : Layout
        What the optimizer of this rank is given: whole parameters by their keys, or parts of the buffers.
    """

    def __init__(self, layout: Layout, whole: bool, rank: int, ranks: int) -> None:
        self.layout = layout
        self.whole = whole
        self.ordered, self.groups = (dealt if whole else cut)(layout, rank, ranks)
        self.slots = Layout()
        for group in self.groups:
            self.slots.update(group.slots)

    def in_parts(self, state: Mapping[str, Any]) -> dict[str, Any]:
        """Give a rule's ordinary state dict in the form of the ranks': arrays as parts of flat buffers."""
        if self.whole:
            return dict(state)
        result: dict[str, Any] = {}
        for name, arrays in state["state"].items():
            parts = {}
            for key, array in items(arrays or {}):
                slot = self.layout.get(key)
                if slot is None or (array.shape, array.dtype) != slot[:2]:
                    raise ValueError(
                        f"its {name} of {key!r} is {array.dtype} of shape {array.shape}; there is no such "
                        "parameter here"
                    )
                parts[name_of(slot)] = array.reshape(-1, order=slot.order)
            result[name] = None if arrays is None else parts
        return {**state, "state": result}

    def joined(self, parts: Iterable[Mapping[str, Any]], slots: Layout) -> dict[str, Any]:
        """Put a state dict together from those of several ranks.

        Parameters
        ----------
        parts : iterable of dict
            State dicts whose arrays are whole parameters', or parts of flat buffers.
        slots : Layout
            What is wanted of them: ``self.slots`` for this rank, ``self.layout`` for the ordinary state dict.

        Raises
        ------
        ValueError
            If there isn't all that is wanted.
        """
        result: dict[str, Any] = {}
        inner: dict[str, list[Any]] = {}
        missing: dict[str, int] = {}
        for part in parts:
            if not result:
                result = {**part, "state": dict.fromkeys(part["state"])}
            for name in ("iter", "skipped"):
                result[name] = max(result[name], part[name])
            for name, other in part.get("inner", {}).items():
                inner.setdefault(name, []).append(other)
            for name, arrays in part["state"].items():
                if arrays is None:
                    continue
                own = result["state"][name]
                if own is None:
                    blank = {key: np.empty(slot.shape, slot.dtype, slot.order) for key, slot in slots.items()}
                    own = result["state"][name] = {} if self.whole else blank
                    missing[name] = 0 if self.whole else sum(slot.size for slot in slots.values())
                for key, array in items(arrays):
                    if not self.whole:
                        missing[name] -= copied(array, str(key), own, slots)
                    elif key in slots:
                        own[key] = array
        for name, number in missing.items():
            if number:
                raise ValueError(f"there are {number} elements of its {name} missing")
            if self.whole:  # in the order of the parameters
                own = result["state"][name]
                result["state"][name] = {key: own[key] for key in slots if key in own}
        if inner:
            result["inner"] = {name: self.joined(others, slots) for name, others in inner.items()}
        return result


def name_of(slot: Slot) -> str:
    """Name a part of a flat buffer."""
    return f"{slot.dtype} from {slot.offset}"


def copied(array: np.ndarray, name: str, into: Mapping[Hashable, np.ndarray], slots: Layout) -> int:
    """Copy what of a named part lies in the slots into their arrays; give the number of elements."""
    dtype, start = name.split(" from ")
    first, last, number = int(start), int(start) + array.size, 0
    for key, slot in slots.items():
        low, high = max(first, slot.offset), min(last, slot.offset + slot.size)
        if slot.dtype == dtype and low < high:
            flat = into[key].reshape(-1, order=slot.order)
            flat[low - slot.offset : high - slot.offset] = array[low - first : high - first]
            number += high - low
    return number


def bounds(first: int, size: int, parts: int) -> list[int]:
    """Give the bounds of equal parts, at multiples of BLOCK elements from the first."""
    blocks = -(-size // BLOCK)
    return [first + min(size, blocks * i // parts * BLOCK) for i in range(parts + 1)]


def cut(layout: Layout, rank: int, ranks: int) -> tuple[Layout, list[Group]]:
    """Give each rank its part of every chunk, in a layout in which that can be."""
    groups = []
    for dtype, size in layout.sizes().items():
        for first, last in pairwise(bounds(0, size, max(1, round(size / CHUNK)))):
            shares = bounds(first, last - first, ranks)
            start, own, slots = shares[rank], shares[rank + 1] - shares[rank], Layout()
            slot = Slot((own,), dtype, "C", start, own)
            if own:
                slots[name_of(slot)] = slot
            groups.append(Group([Chunk(dtype, first, [b - a for a, b in pairwise(shares)], start)], slots))
    if sum(layout.sizes().values()) <= CHUNK:  # one of each dtype
        slots = Layout()
        for group in groups:
            slots.update(group.slots)
        groups = [Group([group.chunks[0] for group in groups], slots)]
    return layout, groups


def dealt(layout: Layout, rank: int, ranks: int) -> tuple[Layout, list[Group]]:
    """Give each rank whole arrays, in a layout in which they follow one another."""
    loads = [0] * ranks
    owners: dict[Hashable, int] = {}
    for key, slot in sorted(layout.items(), key=lambda item: -item[1].size * item[1].dtype.itemsize):
        owners[key] = loads.index(min(loads))
        loads[owners[key]] += slot.size * slot.dtype.itemsize
    ordered, shares = Layout(), [Layout() for _ in range(ranks)]
    for key in sorted(layout, key=owners.__getitem__):
        ordered.place(key, *layout[key][:3])
        shares[owners[key]][key] = ordered[key]
    chunks = []
    for dtype in ordered.sizes():
        counts = [share.sizes().get(dtype, 0) for share in shares]
        chunks.append(Chunk(dtype, 0, counts, sum(counts[:rank])))
    return ordered, [Group(chunks, shares[rank])]
