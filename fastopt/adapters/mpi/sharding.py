"""Sharding: which rank updates which elements of the parameters, and in which buckets they are exchanged.

An array is cut into slices, one for each rank, if the rule is element-wise or its statistics are sums over
elements (``n_additive``): the sums of the slices are then added up. So a rank's optimizer has an entry for
each array of which it has a slice, and each of these ranks holds NovoGrad's number.
"""

from collections.abc import Hashable, Iterator, Mapping
from itertools import pairwise
from typing import Any, Literal, NamedTuple

import numpy as np

from fastopt.arrays.layout import Layout, Slot

__all__ = ["Bucket", "BufferViews", "Buffers", "ParamSlice", "RankSegments", "Sharding", "param_key"]

Buffers = Mapping[np.dtype[Any], np.ndarray]

# Shards begin at multiples of this number of elements: whole cache lines of the state.
ALIGNMENT = 64

# Buffers are exchanged and updated in buckets of about this number of elements, so that one bucket is on its
# way while another, which fits into the cache, is updated.
BUCKET_SIZE = 500_000
MAX_BUCKETS = 32

# A bucket has at least this number of elements for each pair of ranks: a shorter message takes less time on
# the wire than its latency.
MIN_MESSAGE_SIZE = 16_000


class ParamSlice(NamedTuple):
    """Consecutive elements of a parameter, counted in the order of its layout."""

    key: Hashable
    first: int
    last: int
    order: Literal["C", "F"] = "C"

    def __repr__(self) -> str:
        return f"{self.key!r}[{self.first}:{self.last}]"


def param_key(key: Hashable) -> Hashable:
    """Return the key of the parameter of a slice, or of a parameter."""
    return key.key if isinstance(key, ParamSlice) else key


class RankSegments(NamedTuple):
    """The segment of a flat buffer that each rank has: number of elements, and offset of the first."""

    counts: list[int]
    starts: list[int]


class BufferViews:
    """The arrays of a layout as views of flat buffers, kept as long as the buffers are the same."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self._buffers: Buffers = {}
        self._arrays: dict[Hashable, np.ndarray] = {}

    def of(self, buffers: Buffers) -> dict[Hashable, np.ndarray]:
        """Return the arrays by their keys."""
        if [*map(id, buffers.values())] != [*map(id, self._buffers.values())]:
            self._buffers = {**buffers}
            self._arrays = {key: slot.view(buffers[slot.dtype]) for key, slot in self.layout.items()}
        return self._arrays


class Bucket:
    """Elements that are exchanged together.

    ``segments`` are those of all ranks. ``slots`` are this rank's parameters, or slices of them, in the flat
    buffers, and ``keys`` their keys. ``params`` and ``grads`` are the slots as views of buffers of all
    elements, and of buffers of this rank's shard only, which begin at the offsets ``starts``.
    """

    def __init__(
        self, segments: Mapping[np.dtype[Any], RankSegments], slots: Layout, starts: Mapping[Any, int]
    ) -> None:
        self.segments, self.slots, self.keys = segments, slots, list(slots)
        own = {key: slot._replace(offset=slot.offset - starts[slot.dtype]) for key, slot in slots.items()}
        self.params, self.grads = BufferViews(slots), BufferViews(Layout(own))


class Sharding:
    """The shard of each rank.

    ``layout`` has the parameters in the order of their container, ``ordered`` those of each rank after those
    of the rank before. With ``is_whole`` whole arrays are distributed: the largest first, each to the rank
    that has least. Otherwise each rank has the same part of each buffer, cut at multiples of 64 elements.
    With ``is_joint``, as with ``is_whole``, the rule needs all of a rank's elements of an array together: the
    buckets, all elements in order, have no slots then. ``combined`` is all buckets as one; its slots are what
    this rank's optimizer updates: whole parameters by their keys, or a `ParamSlice` of each.
    """

    def __init__(self, layout: Layout, is_whole: bool, is_joint: bool, rank: int, n_ranks: int) -> None:
        self.layout, self.is_whole, self.rank = layout, is_whole, rank
        self.is_joint = is_whole or is_joint
        self.ordered = layout
        slots: dict[Hashable, Slot] = {}
        if is_whole:
            self.ordered, bounds, slots = assign_arrays(layout, rank, n_ranks)
        else:
            bounds = {dtype: cut(0, size, n_ranks) for dtype, size in layout.sizes.items()}
        total = {
            dtype: RankSegments([last - first for first, last in pairwise(own)], own[:-1])
            for dtype, own in bounds.items()
        }
        if self.is_joint and not is_whole:
            slots = self._slices(total)
        starts = {dtype: own[rank] for dtype, own in bounds.items()}
        self.buckets = []
        is_small = sum(layout.sizes.values()) <= BUCKET_SIZE
        for segments in [total] if is_small else bucket_segments(bounds, n_ranks):
            new = {} if self.is_joint else self._slices(segments)
            new = {key: slot for key, slot in new.items() if key not in slots}
            self.buckets.append(Bucket(segments, Layout(new), starts))
            slots |= new
        self.combined = Bucket(total, Layout(slots), starts)

    def _slices(self, segments: Mapping[np.dtype[Any], RankSegments]) -> dict[Hashable, Slot]:
        """Return the slots of this rank's slices of the parameters; empty parameters are the first rank's."""
        slices: dict[Hashable, Slot] = {}
        for key, slot in self.layout.items():
            if slot.dtype not in segments:
                continue
            counts, starts = segments[slot.dtype]
            start = starts[self.rank]
            low = max(slot.offset, start)
            high = min(slot.offset + slot.size, start + counts[self.rank])
            is_empty = not slot.size and starts[0] == 0 == self.rank
            if low < high or is_empty:
                low, size = (slot.offset, 0) if is_empty else (low, high - low)
                first = low - slot.offset
                own = ParamSlice(key, first, first + size, slot.order)
                slices[own] = Slot((size,), slot.dtype, "C", low, size)
        return slices


def bucket_segments(
    bounds: Mapping[np.dtype[Any], list[int]], n_ranks: int
) -> Iterator[dict[np.dtype[Any], RankSegments]]:
    """Yield the segments of each bucket: the same part of every rank's shard of one buffer."""
    for dtype, own in bounds.items():
        n_buckets = round(own[-1] / max(BUCKET_SIZE, MIN_MESSAGE_SIZE * n_ranks))
        n_buckets = min(MAX_BUCKETS, max(1, n_buckets))
        cuts = [cut(first, last - first, n_buckets) for first, last in pairwise(own)]
        for k in range(n_buckets):
            counts = [here[k + 1] - here[k] for here in cuts]
            yield {dtype: RankSegments(counts, [here[k] for here in cuts])}


def cut(first: int, size: int, n_parts: int) -> list[int]:
    """Return the bounds of equal parts, at multiples of ALIGNMENT elements from the first."""
    n_lines = -(-size // ALIGNMENT)
    return [first + min(size, n_lines * i // n_parts * ALIGNMENT) for i in range(n_parts + 1)]


def assign_arrays(
    layout: Layout, rank: int, n_ranks: int
) -> tuple[Layout, dict[np.dtype[Any], list[int]], dict[Hashable, Slot]]:
    """Assign whole arrays to the ranks.

    Returns the layout in which the arrays of each rank follow those of the rank before, the offsets of the
    shards in each buffer with its size, and the slots of this rank.
    """
    loads = [0] * n_ranks
    owners: dict[Hashable, int] = {}
    for key, slot in sorted(layout.items(), key=lambda item: -item[1].size * item[1].dtype.itemsize):
        owners[key] = loads.index(min(loads))
        loads[owners[key]] += slot.size * slot.dtype.itemsize
    ordered, slots = Layout(), {}
    bounds = {dtype: [0] * (n_ranks + 1) for dtype in layout.sizes}
    for key in sorted(layout, key=owners.__getitem__):
        ordered.place(key, *layout[key][:3])
        if owners[key] == rank:
            slots[key] = ordered[key]
        for later in range(owners[key] + 1, n_ranks + 1):
            bounds[layout[key].dtype][later] += layout[key].size
    return ordered, bounds, slots
