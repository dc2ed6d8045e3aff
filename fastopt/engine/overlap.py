"""Parameters and gradients that share memory: which do, and steps on copies that share it, too."""

import ctypes
from collections.abc import Mapping, Sequence
from copy import copy
from functools import partial
from operator import setitem
from typing import TYPE_CHECKING, Any

import numpy as np

from fastopt.engine.arrayinfo import address_of_data, byte_range
from fastopt.engine.memory import Memory
from fastopt.engine.plan import FROZEN, Arrays
from fastopt.engine.segment import Calls, rehearse

if TYPE_CHECKING:
    from fastopt.engine.engine import Engine, Job

__all__ = [
    "are_apart",
    "mirrored_arrays",
    "overlapping_indices",
    "overlapping_jobs",
    "overlapping_with_states",
    "owns_memory",
    "take_on_copies",
]


def overlapping_indices(arrays: Arrays) -> set[int]:
    """Return the positions of parameters that share memory with another, or with any gradient."""
    ranges: list[tuple[int, int, int, bool]] = []
    for i, (param, grad) in enumerate(zip(arrays.params, arrays.grads, strict=True)):
        for array, is_param in ((param, True), (grad, False)):
            if isinstance(array, np.ndarray) and array.size:
                low, high = byte_range(array)
                address = address_of_data(array)
                ranges.append((address + low, address + high, i, is_param))
    ranges.sort()
    result: set[int] = set()
    furthest = (0, -1)  # the end of the parameter that reaches furthest so far, and its position
    grads: list[tuple[int, int]] = []  # the same of all gradients that may reach further
    for low, high, i, is_param in ranges:
        if furthest[0] > low:
            result |= {i, furthest[1]}
        if is_param:
            grads = [pair for pair in grads if pair[0] > low]
            if grads:
                result |= {i, *(other for _, other in grads)}
            furthest = max(furthest, (high, i))
        else:
            grads.append((high, i))
    return result


def overlapping_with_states(params: Sequence[Any], grads: Sequence[Any], states: Sequence[Any]) -> set[int]:
    """Return the positions that overlap if states count as further parameters."""
    return overlapping_indices(Arrays([], [*params, *states], [*grads, *[None] * len(states)], None))


def mirrored_arrays(arrays: Arrays, positions: set[int]) -> Arrays:
    """Return the same, with copies at some positions that share memory as the originals do."""
    if not positions:
        return arrays
    given = [list(arrays.params), list(arrays.grads)]
    places = [
        (own, i) for own in given for i in sorted(positions) if isinstance(own[i], np.ndarray) and own[i].size
    ]
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
        for low, high, room in copies:
            if low <= address < high:
                own[i] = np.ndarray(array.shape, array.dtype, room, address - low, array.strides)
                break
    return Arrays(arrays.keys, given[0], given[1], arrays.container)


def joined_arrays(jobs: "Sequence[tuple[Engine, Job]]") -> Arrays:
    """Return the arrays of all jobs, without their keys."""
    own = [job.arrays for _, job in jobs]
    return Arrays(
        [], [p for arrays in own for p in arrays.params], [g for arrays in own for g in arrays.grads], None
    )


def overlapping_jobs(jobs: "Sequence[tuple[Engine, Job]]") -> bool:
    """Whether parameters share memory with another array, of the same job or another one."""
    return bool(overlapping_indices(joined_arrays(jobs)))


def take_on_copies(
    jobs: "Sequence[tuple[Engine, Job]]", memories: Sequence[Memory]
) -> tuple[list[int], Calls]:
    """Take steps on copies of all arrays and states, one after the other.

    Parameters
    ----------
    jobs : sequence of tuple of Engine and Job
        The steps.
    memories : sequence of Memory
        The states, with room for all keys.

    Returns
    -------
    statuses : list of int
        What `Engine.take` returns, for each job.
    calls : list of callables
        The C calls that put what has come of it in the place of the arrays and states.

    Raises
    ------
    KeyError, TypeError, ValueError, NonfiniteGradientError
        As `Engine.take`.
    """
    joined = joined_arrays(jobs)
    _, params, grads, _ = mirrored_arrays(joined, {*range(len(joined.params))})
    statuses: list[int] = []
    writes: Calls = []
    also: Calls = []
    for (engine, job), memory in zip(jobs, memories, strict=True):
        arrays, n = job.arrays, len(job.arrays.params)
        container: Any = dict if isinstance(arrays.container, Mapping) else list
        copies = Arrays(arrays.keys, params[:n], grads[:n], container(arrays.container))
        params, grads = params[n:], grads[n:]
        other_job, other = copy(job), engine.copy()
        other.memory = memory.copy()
        other_job.arrays, other_job.also = copies, ()
        groups = other_job.groups()
        statuses.append(other.take(other_job))
        for key, param, new, group in zip(arrays.keys, arrays.params, copies.params, groups, strict=True):
            if group == FROZEN:
                continue
            if isinstance(param, np.ndarray):
                writes.append(partial(np.ndarray.__setitem__, param, ..., new))
            else:
                rehearse(arrays.container, key, param)
                writes.append(partial(setitem, arrays.container, key, copies.container[key]))
        if memory is engine.memory:  # views of it follow
            also += memory.copy_calls(other.memory)
        else:
            also += engine.replace_calls(other.memory)
        shown = {"plan": None, "was_compiled": other.is_compiled}
        also += [partial(vars(engine).update, shown), *job.also]
    return statuses, writes + also


def owns_memory(array: Any) -> bool:
    """Whether something is an array, and no view of anything else."""
    return isinstance(array, np.ndarray) and array.base is None and bool(array.flags.owndata)


def are_apart(written: list[Any], grads: list[Any]) -> bool:
    """Whether gradients, which may be views, share no memory with arrays that own theirs and are written to.

    It is seen without a look at addresses; where this isn't enough, the answer is no.
    """
    bases = [base for grad in grads if (base := getattr(grad, "base", None)) is not None]
    if not bases:
        return True
    owners = {*map(id, written)}
    return all(owns_memory(base) and id(base) not in owners for base in bases)
