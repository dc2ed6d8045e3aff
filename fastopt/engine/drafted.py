"""A step in plain NumPy of rules that no tape can have: those of whole arrays, and users' own.

All new values are computed first, as drafts, and then written by C calls.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from operator import setitem
from typing import Any, NamedTuple

import numpy as np

from fastopt.engine.quantized import QuantizedArray
from fastopt.engine.rules import KernelCall
from fastopt.engine.segment import Calls, Entry, Segment
from fastopt.kernels.cautious import count_agreeing, move_agreeing
from fastopt.kernels.common import follow
from fastopt.kernels.plain import Draft, changes
from fastopt.kernels.quantization import random_bits

__all__ = ["Work", "draft_step"]


class Work(NamedTuple):
    """An array of a step, or some of its rows: flat, in the dtype and order of its state.

    Attributes
    ----------
    row : int
        Its position in the segment.
    entry : Entry
        What the plan says of it.
    grad : array
        Its gradient.
    arrays : list of arrays
        The parameter, its states and averages; some of them copies. A state may be a `QuantizedArray`.
    before, after : list of callables
        The C calls that copy there, and back.
    meanwhile : list of callables
        The calls that copy back to what stands for the parameter until the step is written.
    """

    row: int
    entry: Entry
    grad: np.ndarray
    arrays: list[Any]
    before: Calls
    after: Calls
    meanwhile: Calls


def draft_step(segment: Segment, works: Sequence[Work], between: Callable[[Segment], Calls] | None) -> Calls:
    """Compute the new values of all arrays. Returns the C calls that write them.

    Parameters
    ----------
    segment : Segment
        The arrays, with the scalars of the step.
    works : sequence of Work
        What they are.
    between : callable, optional
        Returns the calls between the statistics pass and the update.
    """
    works = [work for work in works if not work.entry.is_frozen]
    # One at a time, as decoded states are several times as large.
    drafts: Iterable[list[Draft]] = ([*map(draft_of, work.arrays)] for work in works)
    if segment.rule.is_whole:
        drafts = [*drafts]
        for work in works:
            make(work.before)
        take_statistics(segment, works, drafts)
        make(between(segment) if between is not None else ())
    writes: Calls = []
    for work, own in zip(works, drafts, strict=True):
        make(work.before)  # after the arrays before it have changed what it shares with them
        run_kernel(segment, segment.rule.passes[-1], work, own)
        end = len(own) - segment.n_averages
        _, weights = segment.scalars_of(work.entry)
        for k, average in enumerate(own[end:]):
            follow.in_numpy(own[0], average, *weights[2 * k : 2 * k + 2].tolist())
        quantized = [i for i, array in enumerate(work.arrays) if isinstance(array, QuantizedArray)]
        in_full = [draft for i, draft in enumerate(own) if i not in quantized]
        writes += [partial(np.ndarray.__setitem__, array, ..., value) for array, value in changes(in_full)]
        for number, i in enumerate(quantized):
            state, key = work.arrays[i], segment.random_key_of(work.entry)
            new = state.encoded(own[i].value, random_bits(state.size, key, number))
            writes.append(partial(setitem, state.data, ..., new))
        writes += work.after
        if work.meanwhile:
            work.arrays[0][...] = own[0].value
            make(work.meanwhile)
    return writes


def draft_of(array: Any) -> Draft:
    """Return the draft of an array, or of the values that are kept in fewer bytes."""
    is_quantized = isinstance(array, QuantizedArray)
    return Draft(array.decoded().astype(array.dtype) if is_quantized else array)


def make(calls: Sequence[Callable[[], Any]]) -> None:
    """Make calls."""
    for call in calls:
        call()


def take_statistics(segment: Segment, works: Sequence[Work], drafts: Sequence[list[Draft]]) -> None:
    """Run the statistics pass over all arrays."""
    n_totals = segment.rule.n_totals
    segment.totals[:] = 0
    for number, (work, own) in enumerate(zip(works, drafts, strict=True)):
        run_kernel(segment, segment.rule.passes[0], work, own)
        sums = segment.statistics[work.row][:n_totals]
        segment.totals[:] = sums if number == 0 else segment.totals + sums


def run_kernel(segment: Segment, one: KernelCall, work: Work, drafts: list[Draft]) -> None:
    """Run a kernel on the drafts of an array."""
    kernel, form = one
    param, *states = drafts[: len(drafts) - segment.n_averages]
    scalars, _ = segment.scalars_of(work.entry)
    values, room = scalars.astype(work.entry.slot.dtype), segment.work[work.row]
    statistics = segment.statistics[work.row]
    if form == "elements":
        kernel.in_numpy(param, work.grad, *states, *values)
    elif form == "elements-of-copy":
        target = param.copy()
        kernel.in_numpy(target, work.grad, *states, *values)
        room[-1][...] = target.value
        count = count_agreeing.in_numpy(param, target[...], work.grad, *values[:3])
        statistics[:2] = count, param.size
    elif form == "move":
        kernel.in_numpy(param, room[-1], work.grad, *statistics[:2], *values[:3])
    else:
        target = param.copy() if form == "copy" else param
        rows, columns = (0, *(work.entry.slot.shape or (1,)))[-2:]
        kernel.in_numpy(
            rows, columns, target, work.grad, *states, *(room if form == "arrays" else room[:-1]),
            statistics, segment.totals, *scalars.tolist(),
        )  # fmt: skip
        if form == "copy":
            count = count_agreeing.in_numpy(param, target[...], work.grad, *values[:3])
            move_agreeing.in_numpy(param, target[...], work.grad, count, np.float64(param.size), *values[:3])
