"""The step without the compiler: the same kernels, as Python functions, one array after the other."""

from typing import Any

import numpy as np

from fastopt.engine.driver import CHECK, COUNT, DONE, NONFINITE, REFUSED, STATISTICS, UPDATE
from fastopt.engine.segment import Entry, Segment
from fastopt.engine.table import GATHERED, SPARSE, STAGED
from fastopt.kernels.common import follow

__all__ = ["all_finite", "run_interpreted"]


def all_finite(values: np.ndarray) -> bool:
    """Whether all values and their squares are finite."""
    with np.errstate(all="ignore"):
        return bool(np.isfinite(np.square(values)).all())


def flat(array: np.ndarray, entry: Entry) -> np.ndarray:
    """Return a contiguous array as a flat view."""
    return array.reshape(-1, order=entry.slot.order)


def run_interpreted(
    segment: Segment, params: list[Any], grads: list[Any], scalars: tuple[float, ...], count: int, phases: int
) -> int:
    """Do what `fastopt.engine.driver.run_step` does."""
    memory = segment.memory
    if phases & CHECK:
        if segment.guard.item() != count or memory.is_retired:
            return REFUSED
        segment.scalars[:] = scalars
        segment.found_nonfinite = not all(
            all_finite(gradient(segment, i, params, grads))
            for i in updated(segment, with_frozen=segment.is_strict)
        )
        if segment.is_strict and segment.found_nonfinite:
            return REFUSED
    if segment.rule.is_whole and phases & STATISTICS:
        for i in updated(segment):
            gather(segment, i, params, grads)
            run_whole(segment, i, params, grads, segment.rule.statistics_kernel)
        sum_totals(segment)
    if phases & UPDATE:
        for i in updated(segment):
            if segment.rule.is_whole:
                run_whole(segment, i, params, grads, segment.rule.kernel)
            else:
                gather(segment, i, params, grads)
                run_elements(segment, i, params, grads)
            entry = segment.entries[i]
            if entry.param.mode == GATHERED:
                params[entry.position][...] = segment.param_copies[i]
    if phases & COUNT:
        memory.steps += 1
        for i in updated(segment):
            entry = segment.entries[i]
            memory.counts[entry.count_at : entry.count_at + entry.n_counts] += 1
    return NONFINITE if segment.found_nonfinite else DONE


def updated(segment: Segment, with_frozen: bool = False) -> list[int]:
    """Return the positions of the entries that are updated."""
    return [i for i, entry in enumerate(segment.entries) if with_frozen or not entry.is_frozen]


def gradient(segment: Segment, i: int, params: list[Any], grads: list[Any]) -> np.ndarray:
    """Return a gradient in the parameter's dtype."""
    entry = segment.entries[i]
    if entry.grad.mode == SPARSE:
        values: np.ndarray = grads[entry.position].values
        return values
    with np.errstate(all="ignore"):
        return np.asarray(
            segment.grad_copies[i] if entry.grad.mode == STAGED else grads[entry.position], entry.slot.dtype
        )


def gather(segment: Segment, i: int, params: list[Any], grads: list[Any]) -> None:
    """Copy strided arrays."""
    entry = segment.entries[i]
    if entry.param.mode == GATHERED:
        segment.param_copies[i][...] = params[entry.position]
    if entry.grad.mode == GATHERED:
        segment.grad_copies[i][...] = grads[entry.position]


def arrays_of(segment: Segment, i: int, params: list[Any], grads: list[Any]) -> list[np.ndarray]:
    """Return the flat arrays of an entry: parameter, gradient, states, work arrays, averages."""
    entry, memory = segment.entries[i], segment.memory
    param: Any = segment.param_copies.get(i, params[entry.position] if params else None)
    grad = (
        grads[entry.position].values
        if entry.grad.mode == SPARSE
        else segment.grad_copies.get(i, grads[entry.position])
    )
    states = [
        slot.flat_view(b) for slot, b in zip(entry.states, memory.buffers[entry.slot.dtype], strict=True)
    ]
    n_states = len(states) - segment.n_averages
    states[n_states:n_states] = segment.work[i]
    grad = grad.reshape(-1) if entry.grad.mode == SPARSE else flat(grad, entry)
    return [flat(param, entry), grad, *states]


def scalars_of(segment: Segment, i: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the scalars of an entry: the rule's, and those of its averages."""
    first = segment.entries[i].scalar_set * segment.n_set_scalars
    own = segment.scalars[first : first + segment.n_set_scalars]
    return own[: segment.rule.n_scalars], own[segment.rule.n_scalars :]


def run_elements(segment: Segment, i: int, params: list[Any], grads: list[Any]) -> None:
    """Run an element-wise kernel on an array, or on the rows of it that have a gradient."""
    entry = segment.entries[i]
    arrays = arrays_of(segment, i, params, grads)
    scalars, weights = scalars_of(segment, i)
    values = tuple(map(entry.slot.dtype.type, scalars))
    pieces = [arrays]
    if entry.grad.mode == SPARSE:
        width = entry.slot.size // max(entry.slot.shape[0], 1)
        pieces = [
            [
                array[k * width : (k + 1) * width] if j == 1 else array[row * width : (row + 1) * width]
                for j, array in enumerate(arrays)
            ]
            for k, row in enumerate(grads[entry.position].indices.tolist())
        ]
    end = len(arrays) - segment.n_averages
    for piece in pieces:
        segment.rule.kernel(*piece[:end], *values)
        run_averages(piece, end, weights)


def run_whole(segment: Segment, i: int, params: list[Any], grads: list[Any], kernel: Any) -> None:
    """Run a kernel of whole arrays."""
    rows, columns = (0, *(segment.entries[i].slot.shape or (1,)))[-2:]
    arrays = arrays_of(segment, i, params, grads)
    scalars, weights = scalars_of(segment, i)
    end = len(arrays) - segment.n_averages
    kernel(rows, columns, *arrays[:end], segment.statistics[i], segment.totals, *scalars.tolist())
    if kernel is segment.rule.kernel:
        run_averages(arrays, end, weights)


def run_averages(arrays: list[np.ndarray], end: int, weights: np.ndarray) -> None:
    """Let the averages follow the parameter."""
    for k, average in enumerate(arrays[end:]):
        follow(arrays[0], average, *weights[2 * k : 2 * k + 2].tolist())


def sum_totals(segment: Segment) -> None:
    """Sum the statistics of all arrays, one array after the other."""
    n, rows = segment.rule.n_totals, updated(segment)
    segment.totals[:] = 0
    for position, i in enumerate(rows):
        own = segment.statistics[i][:n]
        segment.totals[:] = own if position == 0 else segment.totals + own
