"""Small arrays, which NumPy updates several at a time, and what is recorded of their kernels."""

from collections.abc import Sequence
from functools import partial
from operator import setitem
from typing import Any

import numpy as np

from fastopt.engine.segment import Calls, Entry, Segment
from fastopt.engine.table import DIRECT, GATHERED, STAGED
from fastopt.kernels.tape import Bound, Tape

__all__ = ["PIECE", "Batch", "KnownTape", "batches_of", "kind_of_entry"]

# Number of elements that are updated at a time, so that what NumPy makes on the way stays in the cache.
PIECE = 16_384

# Arrays of fewer elements than this are updated several at a time; or alone, if they are tiny.
SMALL = 8_192
TINY = 1_024


class KnownTape:
    """A tape with its rooms, and what was bound to pieces of the states so far."""

    def __init__(self, kernel: Any, dtype: np.dtype[Any], n_arrays: int, scalars: Sequence[float]) -> None:
        self.tape = Tape(kernel, dtype, n_arrays, scalars)
        self.rooms = self.tape.rooms(PIECE)
        self.bound: dict[tuple[int, int], Bound] = {}
        self.batches: dict[int, Calls] = {}

    def calls(self, place: tuple[int, int], given: Sequence[np.ndarray], states: list[np.ndarray]) -> Calls:
        """Return the C calls for a piece of an array, given its row and where it begins.

        The row is negative if these states are other ones at each step.
        """
        bound = None if place[0] < 0 else self.bound.get(place)
        if bound is None:
            first, size = place[1], given[0].size
            pieces = [state[first : first + size] for state in states]
            bound = self.tape.bind(len(given), pieces, self.rooms, size)
            if place[0] >= 0:
                self.bound[place] = bound
        return bound.calls_for(*given)


class Batch:
    """Small arrays: they are copied into one, and updated at once.

    Parameters
    ----------
    segment : Segment
        The arrays of the step.
    entries : list of Entry
        Those of the batch, of one dtype and with the same scalars.
    has_given_states : bool
        Whether the states are other arrays at each step.
    """

    def __init__(self, segment: Segment, entries: list[Entry], has_given_states: bool) -> None:
        self.entries, self.n_averages, self.kind = entries, segment.n_averages, kind_of_entry(entries[0])
        dtype, size = entries[0].slot.dtype, sum(entry.slot.size for entry in entries)
        self.params, self.grads = np.empty(size, dtype=dtype), np.empty(size, dtype=dtype)
        self.positions = [entry.position for entry in entries]
        self.param_copies: list[np.ndarray] = []
        self.grad_copies: list[np.ndarray] = []
        firsts = np.cumsum([0, *(entry.slot.size for entry in entries)]).tolist()
        slots = [entry.slot._replace(offset=at) for entry, at in zip(entries, firsts, strict=False)]
        for slot in slots:
            self.param_copies.append(slot.view(self.params))
            self.grad_copies.append(slot.view(self.grads))
        # States that are neighbors are updated where they are, others copied, too.
        start = entries[0].slot.offset
        self.before: Calls = []
        self.after: Calls = []
        self.states: list[np.ndarray] = []
        are_neighbors = [entry.slot.offset - start for entry in entries] == firsts[:-1]
        # Those that are given are copied: for each state the places of all arrays.
        self.state_copies: list[list[np.ndarray]] = []
        if has_given_states:
            self.states = [np.empty(size, dtype=dtype) for _ in segment.memory.specs]
            self.state_copies = [[slot.view(state) for slot in slots] for state in self.states]
        for buffer in () if has_given_states else segment.memory.buffers.get(dtype, ()):
            self.states.append(buffer[start : start + size] if are_neighbors else np.empty(size, dtype=dtype))
            for entry, first in () if are_neighbors else zip(entries, firsts, strict=False):
                own, copy = entry.slot.flat_view(buffer), self.states[-1][first : first + entry.slot.size]
                self.before.append(partial(setitem, copy, ..., own))
                self.after.append(partial(setitem, own, ..., copy))

    def read(self, arrays: Any) -> None:
        """Copy the gradients as they are now."""
        grads = arrays.grads
        for position, copy in zip(self.positions, self.grad_copies, strict=True):
            copy[...] = grads[position]

    def calls(
        self,
        number: int,
        params: list[Any],
        grads: list[Any] | None,
        tapes: "list[KnownTape]",
        given_states: Sequence[Any] = (),
    ) -> Calls:
        """Return the C calls that update the arrays.

        Parameters
        ----------
        number : int
            Of the batch.
        params, grads : list of arrays
            Those of the step. Without grads they are as they have been read: nothing else in the chain may
            write to them.
        tapes : list of KnownTape
            Those of kernel and averages.
        given_states : list of arrays
            The states that are other arrays at each step: the first one of each parameter, the second, ...
        """
        n_params = len(params)
        params = [params[i] for i in self.positions]
        calls, after = self.before.copy(), list(self.after)
        for k, copies in enumerate(self.state_copies):
            own = [given_states[k * n_params + i] for i in self.positions]
            calls += assignments(copies, own)
            after += assignments(own, copies)
        if grads is not None:
            calls += assignments(self.grad_copies, [grads[i] for i in self.positions])
        calls += assignments(self.param_copies, params)
        kernel, *averages = tapes
        n_states = len(self.states) - self.n_averages
        for tape, given, states in (
            (kernel, (self.params, self.grads), self.states[:n_states]),
            *(
                (own, (self.params,), [state])
                for own, state in zip(averages, self.states[n_states:], strict=True)
            ),
        ):
            known = tape.batches.get(number)
            if known is None:
                known = tape.batches[number] = tape.calls((-1, 0), given, states)
            calls += known
        return calls + assignments(params, self.param_copies) + after


def assignments(targets: list[Any], values: list[Any]) -> Calls:
    """Return the C calls that assign values to arrays."""
    # A subclass may have a `__setitem__` of its own.
    pairs = zip(targets, values, strict=True)
    return [partial(np.ndarray.__setitem__, target, ..., value) for target, value in pairs]


def batches_of(segment: Segment, overlapping: set[int], has_given_states: bool) -> list[Batch]:
    """Return the batches of a step's arrays, each of two arrays or more, or of a tiny one."""
    modes = {DIRECT, GATHERED, STAGED}
    small = [
        entry
        for entry in segment.entries
        if 0 < entry.slot.size < SMALL
        and {entry.param.mode, entry.grad.mode} <= modes
        and not entry.is_frozen
        and entry.position not in overlapping
    ]
    small.sort(key=lambda entry: (entry.scalar_set, entry.slot.dtype.num, entry.slot.offset))
    groups: list[list[Entry]] = []
    for entry in small:
        last = groups[-1][-1] if groups else None
        is_like = last is not None and kind_of_entry(last) == kind_of_entry(entry)
        if is_like and sum(own.slot.size for own in groups[-1]) + entry.slot.size <= PIECE:
            groups[-1].append(entry)
        else:
            groups.append([entry])
    return [
        Batch(segment, group, has_given_states)
        for group in groups
        if len(group) > 1 or group[0].slot.size < TINY
    ]


def kind_of_entry(entry: Entry) -> tuple[int, np.dtype[Any]]:
    """Return what arrays with the same tapes have in common."""
    return entry.scalar_set, entry.slot.dtype
