"""A step in plain NumPy of rules that no tape can have: those of whole arrays, and users' own.

All new values are computed first, as drafts, and then written by C calls.
"""

import ctypes
from collections.abc import Callable, Sequence
from functools import partial
from operator import setitem
from typing import Any, NamedTuple

import numpy as np

from fastopt.arrays.rows import Rows
from fastopt.engine.arrayinfo import address_of_data, byte_range
from fastopt.engine.segment import Calls, Entry, Segment, rehearse
from fastopt.engine.table import NUMBER
from fastopt.kernels.common import follow
from fastopt.kernels.plain import Draft, changes

__all__ = ["draft_step"]


class Work(NamedTuple):
    """An array of a step, or some of its rows.

    Attributes
    ----------
    row : int
        Its position in the segment.
    entry : Entry
        What the plan says of it.
    grad : array
        Its gradient, flat.
    drafts : list of Draft
        The parameter, its states and averages, flat.
    places : list of arrays
        These as they are, where the new values go.
    rows : array or None
        Which rows, if not all.
    """

    row: int
    entry: Entry
    grad: np.ndarray
    drafts: list[Draft]
    places: list[Any]
    rows: np.ndarray | None


def draft_step(
    segment: Segment, arrays: Any, overlapping: set[int], between: Callable[[Segment], Calls] | None
) -> Calls:
    """Compute the new values of all arrays. Returns the C calls that write them.

    Parameters
    ----------
    segment : Segment
        The arrays, with the scalars of the step.
    arrays : Arrays
        What the step was given.
    overlapping : set of int
        Positions of parameters that share memory with others: these are updated one after the other.
    between : callable, optional
        Returns the calls between the statistics pass and the update.
    """
    params, grads = arrays.params, arrays.grads
    if overlapping:
        params, grads = mirrored(params, grads, overlapping)
    rows = [i for i, entry in enumerate(segment.entries) if not entry.is_frozen]
    works = [make_work(segment, i, params, grads) for i in rows]
    if segment.rule.is_whole:
        take_statistics(segment, works)
        for call in between(segment) if between is not None else ():
            call()
    writes: Calls = []
    for work in works:
        position = work.entry.position
        if position in overlapping:  # what it has is written meanwhile
            now = make_work(segment, work.row, params, grads)
            work = work._replace(grad=now.grad, drafts=[now.drafts[0], *work.drafts[1:]])
        run_kernel(segment, segment.rule.kernel, work)
        end = len(work.drafts) - segment.n_averages
        _, weights = segment.scalars_of(work.entry)
        for k, average in enumerate(work.drafts[end:]):
            follow.in_numpy(work.drafts[0], average, *weights[2 * k : 2 * k + 2].tolist())
        values = {id(array): value for array, value in changes(work.drafts)}
        for k, draft in enumerate(work.drafts):
            value = values.get(id(draft.array))
            if value is None:
                continue
            if position in overlapping:
                value = value.copy()  # it may be the gradient, in memory that is written now
            writes.append(write_call(work, k, value, arrays))
            if position in overlapping and k == 0:
                params[position][...] = value.reshape(work.entry.slot.shape, order=work.entry.slot.order)
    return writes


def make_work(segment: Segment, i: int, params: Sequence[Any], grads: Sequence[Any]) -> Work:
    """Return the arrays of an entry."""
    entry = segment.entries[i]
    slot, param, grad = entry.slot, params[entry.position], grads[entry.position]
    pairs = list(zip(entry.states, segment.memory.buffers[slot.dtype], strict=True))
    if isinstance(grad, Rows):
        places = [np.asarray(param), *(state.view(buffer) for state, buffer in pairs)]
        drafts = [Draft(place[grad.indices].astype(slot.dtype).reshape(-1)) for place in places]
        values = np.asarray(grad.values, slot.dtype).reshape(-1)
        return Work(i, entry, values, drafts, places, grad.indices)
    flats = [np.asarray(param, slot.dtype).reshape(-1, order=slot.order)]
    flats += [state.flat_view(buffer) for state, buffer in pairs]
    flat_grad = np.asarray(grad, slot.dtype).reshape(-1, order=slot.order)
    return Work(i, entry, flat_grad, [*map(Draft, flats)], flats, None)


def write_call(work: Work, k: int, value: np.ndarray, arrays: Any) -> Callable[[], Any]:
    """Return the C call that writes new values of the parameter (k = 0) or a state."""
    slot, position, place = work.entry.slot, work.entry.position, work.places[k]
    if k == 0 and work.entry.param.mode == NUMBER:
        param, key, container = arrays.params[position], arrays.keys[position], arrays.container
        rehearse(container, key, param)
        return partial(setitem, container, key, type(param)(value.item()))
    if k == 0:
        place = arrays.params[position]
        value = value.reshape(slot.shape, order=slot.order) if work.rows is None else value
    index = ... if work.rows is None else work.rows
    # A subclass may have a `__setitem__` of its own.
    shaped = value if work.rows is None else value.reshape(work.rows.size, *place.shape[1:])
    return partial(np.ndarray.__setitem__, place, index, shaped)


def take_statistics(segment: Segment, works: Sequence[Work]) -> None:
    """Run the statistics pass over all arrays."""
    n_totals = segment.rule.n_totals
    segment.totals[:] = 0
    for number, work in enumerate(works):
        run_kernel(segment, segment.rule.statistics_kernel, work)
        sums = segment.statistics[work.row][:n_totals]
        segment.totals[:] = sums if number == 0 else segment.totals + sums


def run_kernel(segment: Segment, kernel: Any, work: Work) -> None:
    """Run a kernel on the drafts of an array."""
    param, *states = work.drafts[: len(work.drafts) - segment.n_averages]
    scalars, _ = segment.scalars_of(work.entry)
    if segment.rule.is_whole:
        rows, columns = (0, *(work.entry.slot.shape or (1,)))[-2:]
        kernel.in_numpy(
            rows, columns, param, work.grad, *states, *segment.work[work.row],
            segment.statistics[work.row], segment.totals, *scalars.tolist(),
        )  # fmt: skip
    else:
        kernel.in_numpy(param, work.grad, *states, *scalars.astype(work.entry.slot.dtype))


def mirrored(params: Sequence[Any], grads: Sequence[Any], positions: set[int]) -> tuple[list[Any], list[Any]]:
    """Return parameters and gradients, some of them as copies that share memory as the originals do."""
    given = [list(params), list(grads)]
    places = [(own, i) for own in given for i in sorted(positions) if isinstance(own[i], np.ndarray)]
    ranges = []
    for own, i in places:
        low, high = byte_range(own[i])
        address = address_of_data(own[i])
        ranges.append((address + low, address + high))
    spans: list[list[int]] = []  # memory without gaps
    for low, high in sorted(ranges):
        if spans and low < spans[-1][1]:
            spans[-1][1] = max(spans[-1][1], high)
        else:
            spans.append([low, high])
    copies = [(low, high, bytearray(ctypes.string_at(low, high - low))) for low, high in spans]
    for own, i in places:
        array = own[i]
        address = address_of_data(array)
        for low, high, copy in copies:
            if low <= address < high:
                own[i] = np.ndarray(array.shape, array.dtype, copy, address - low, array.strides)
                break
    return given[0], given[1]
