"""The step in plain NumPy, with the same bits: a chain of C calls, as a compiled one is."""

from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from math import isfinite
from operator import setitem
from typing import Any

import numpy as np

from fastopt.arrays.layout import Slot
from fastopt.engine.batches import PIECE, KnownTape, batches_of, kind_of_entry
from fastopt.engine.drafted import Work, draft_step
from fastopt.engine.overlap import mirrored_arrays
from fastopt.engine.segment import Calls, Entry, Segment, rehearse
from fastopt.engine.table import DIRECT, NUMBER, SPARSE
from fastopt.kernels.common import follow

__all__ = ["PlainStep", "all_finite", "are_finite", "quick_sum_of_squares"]

# Largest number of elements of a product by BLAS.
MAX_DOT = 8_192

# Number of tapes of a kernel that are kept: scalars of other kinds need another one.
MAX_TAPES = 8


def quick_sum_of_squares(flat: np.ndarray) -> float:
    """Return the sum of squares of a flat array, in any order."""
    # BLAS takes threads for more than 10,000 elements, which wait actively for one another.
    if flat.size <= MAX_DOT:
        return float(flat.dot(flat))
    return sum(float((part := flat[i : i + MAX_DOT]).dot(part)) for i in range(0, flat.size, MAX_DOT))


def are_finite(flats: Sequence[np.ndarray]) -> bool:
    """Whether all values of flat arrays and their squares are finite."""
    # The sum of all squares is finite in most steps: else each array is looked at.
    return isfinite(sum(map(quick_sum_of_squares, flats))) or all(map(all_finite, flats))


def all_finite(values: np.ndarray) -> bool:
    """Whether all values and their squares are finite."""
    with np.errstate(all="ignore"):
        if values.dtype.char in "fd" and isfinite(quick_sum_of_squares(values.reshape(-1, order="A"))):
            return True
        return bool(np.isfinite(np.square(values)).all())


class PlainStep:
    """What takes a segment's step without compiled code.

    Parameters
    ----------
    segment : Segment
        The arrays.
    overlapping : set of int
        Positions of parameters that share memory with others: these are updated one after the other.
    has_given_states : bool
        Whether the states are other arrays at each step, which are put into ``states``.
    can_batch : bool
        Whether small arrays may be updated several at a time.
    """

    def __init__(
        self,
        segment: Segment,
        overlapping: set[int],
        *,
        has_given_states: bool = False,
        can_batch: bool = True,
    ) -> None:
        self.segment, self.overlapping, self.has_given_states = segment, overlapping, has_given_states
        self.tapes: dict[Any, list[KnownTape]] = {}
        self.last_tapes: dict[Any, tuple[bytes, list[KnownTape]]] = {}
        self.states = [flat_states(segment, entry) for entry in segment.entries]
        rule = segment.rule
        # New codes depend on new values, all of which must be known before any is written.
        self.is_drafted = rule.is_whole or not rule.kernel.is_own or rule.is_quantizing
        can_batch = can_batch and not self.is_drafted
        self.batches = batches_of(segment, overlapping, has_given_states) if can_batch else []
        if has_given_states and sum(len(batch.entries) for batch in self.batches) < len(segment.entries):
            self.batches = []
        batched = {entry.position for batch in self.batches for entry in batch.entries}
        # One array for each kind that has tapes of its own.
        self.kinds = {kind_of_entry(entry): entry for entry in segment.entries if not entry.is_frozen}
        self.alone = [i for i, entry in enumerate(segment.entries) if entry.position not in batched]
        self.is_batched = bool(self.batches) and not self.alone

    def calls(
        self, arrays: Any, scalars: Sequence[float], between: Callable[[Segment], Calls] | None
    ) -> tuple[Calls, bool]:
        """Return the C calls that take the step, and whether all gradients are finite.

        Parameters
        ----------
        arrays : Arrays
            What the step was given.
        scalars : sequence of float
            Those of all sets of parameters.
        between : callable, optional
            Returns the calls between the statistics pass and the update.
        """
        segment = self.segment
        segment.scalars[:] = scalars
        with np.errstate(all="ignore"):
            source = mirrored_arrays(arrays, self.overlapping) if self.is_drafted else arrays
            works = self._works(arrays, source)
            is_finite = self._are_finite(works)
            if segment.is_strict and not is_finite:
                return [], False
            if self.is_drafted:
                return draft_step(segment, works, between), is_finite
            tapes = {place: self.tapes_of(entry) for place, entry in self.kinds.items()}
            calls: Calls = []
            for number, batch in enumerate(self.batches):
                calls += batch.calls(number, arrays.params, arrays.grads, tapes[batch.kind])
            for work in works:
                i, entry = work.row, work.entry
                if entry.is_frozen:
                    continue
                calls += work.before
                is_bound = entry.grad.mode != SPARSE and not self.has_given_states
                calls += recorded_calls(i if is_bound else -1, work, tapes[kind_of_entry(entry)])
                calls += work.after
            return calls, is_finite

    def are_finite(self, arrays: Any) -> bool:
        """Whether all gradients are finite, and all their squares."""
        with np.errstate(all="ignore"):
            return self._are_finite(self._works(arrays, arrays))

    def _works(self, arrays: Any, source: Any) -> list[Work]:
        """Return the arrays of all entries that aren't in a batch, given from where they are read."""
        for batch in self.batches:
            batch.read(arrays)
        entries = self.segment.entries
        return [self._work(i, entries[i], arrays, source) for i in self.alone]

    def _are_finite(self, works: Sequence[Work]) -> bool:
        """Whether the gradients that count are finite, and all their squares."""
        checked = [work.grad for work in works if self.segment.is_strict or not work.entry.is_frozen]
        checked += [batch.grads for batch in self.batches]
        return are_finite(checked)

    def tapes_of(self, entry: Entry) -> list["KnownTape"]:
        """Return the tapes of kernel and averages, which get the scalars of this step."""
        segment, place = self.segment, kind_of_entry(entry)
        scalars, weights = segment.scalars_of(entry)
        given = scalars.tobytes() + weights.tobytes()
        last, found = self.last_tapes.get(place, (b"", []))
        if last == given:
            return found
        n_arrays = 2 + len(segment.memory.specs) - segment.n_averages
        kernels = [(segment.rule.kernel, n_arrays, scalars.astype(entry.slot.dtype))]
        kernels += [(follow, 2, weights[2 * k : 2 * k + 2]) for k in range(segment.n_averages)]
        found = list[KnownTape]()
        for k, (kernel, n, values) in enumerate(kernels):
            numbers, own = values.tolist(), self.tapes.setdefault((*place, k), [])
            known = next((one for one in own if one.tape.is_for(numbers)), None)
            if known is None:
                known = KnownTape(kernel, entry.slot.dtype, n, numbers)
                own[:] = [*own[1 - MAX_TAPES :], known]
            known.tape.scalars[:] = values
            found.append(known)
        self.last_tapes[place] = given, found
        return found

    def _work(self, i: int, entry: Entry, arrays: Any, source: Any) -> Work:
        """Return an entry's arrays."""
        slot, position = entry.slot, entry.position
        param, grad = source.params[position], source.grads[position]
        if entry.grad.mode == SPARSE:
            return row_work(self.segment, i, arrays, source)
        work = Work(i, entry, grad, [], [], [], [])
        is_alone = position not in self.overlapping
        if is_alone and entry.grad.mode == DIRECT:
            flat_grad = grad.reshape(-1, order=slot.order)
        else:
            flat_grad = copy_in(grad, slot, work.before)
            work.before[-1]()  # as it is looked at now
        if is_alone and entry.param.mode == DIRECT:
            flat = param.reshape(-1, order=slot.order)
        else:
            flat = copy_in(param, slot, work.before)
            copy = flat.reshape(slot.shape, order=slot.order)
            work.after.append(copy_back(arrays, entry, copy))
            if not is_alone and source is not arrays and entry.param.mode != NUMBER:
                work.meanwhile.append(copy_back(source, entry, copy))
        work.arrays.extend((flat, *self.states[i]))
        return work if flat_grad is grad else work._replace(grad=flat_grad)


def recorded_calls(i: int, work: Work, tapes: list[KnownTape]) -> Calls:
    """Return the C calls that compute an array's update, piece by piece."""
    (param, *states), grad = work.arrays, work.grad
    kernel, *averages = tapes
    n_states = len(states) - len(averages)
    calls: Calls = []
    for first in range(0, grad.size, PIECE):
        here = param, grad
        if grad.size > PIECE:
            here = param[first : first + PIECE], grad[first : first + PIECE]
        calls += kernel.calls((i, first), here, states[:n_states])
        for following, average in zip(averages, states[n_states:], strict=True):
            calls += following.calls((i, first), here[:1], [average])
    return calls


def flat_states(segment: Segment, entry: Entry) -> list[Any]:
    """Return flat views of the states and averages of an entry, or what has them in fewer bytes."""
    if entry.apart:
        return [*entry.apart]
    buffers = segment.memory.buffers.get(entry.slot.dtype, ())
    return [state.flat_view(buffer) for state, buffer in zip(entry.states, buffers, strict=True)]


def copy_in(array: Any, slot: Slot, before: Calls) -> np.ndarray:
    """Return memory for a flat copy of an array, and note the call that copies it when its turn comes."""
    copy = np.empty(slot.shape, slot.dtype, order=slot.order)
    before.append(partial(setitem, copy, ..., array))
    return copy.reshape(-1, order=slot.order)


def copy_back(arrays: Any, entry: Entry, copy: np.ndarray) -> Callable[[], Any]:
    """Return the C call that writes a parameter from its copy."""
    param, key, container = arrays.params[entry.position], arrays.keys[entry.position], arrays.container
    if entry.param.mode != NUMBER:  # a subclass may have a `__setitem__` of its own
        return partial(np.ndarray.__setitem__, param, ..., copy)
    rehearse(container, key, param)
    # The number is read from the copy when this call's turn comes.
    return partial(deque, map(setitem, [container], [key], map(type(param), [copy])), 0)


def row_work(segment: Segment, i: int, arrays: Any, source: Any) -> Work:
    """Return copies of the rows that have a gradient, of a parameter and its states."""
    entry = segment.entries[i]
    param, grad = source.params[entry.position], source.grads[entry.position]
    dtype, index = entry.slot.dtype, grad.indices
    work = Work(i, entry, np.asarray(grad.values, dtype).reshape(-1), [], [], [], [])
    states = [
        state.view(buffer) for state, buffer in zip(entry.states, segment.memory.buffers[dtype], strict=True)
    ]
    for whole in (param, *states):
        copy = np.empty((index.size, *whole.shape[1:]), dtype)
        raw = copy if whole.dtype == dtype else np.empty(copy.shape, whole.dtype)
        # A subclass may have a `take` of its own. (The mode needs no copy; the indices are in range.)
        work.before.append(partial(np.ndarray.take, whole, index, 0, raw, "clip"))
        if raw is not copy:
            work.before.append(partial(setitem, copy, ..., raw))
        target = arrays.params[entry.position] if whole is param else whole
        work.after.append(partial(np.ndarray.__setitem__, target, index, copy))
        if target is not whole:
            work.meanwhile.append(partial(np.ndarray.__setitem__, whole, index, copy))
        work.arrays.append(copy.reshape(-1))
    return work
