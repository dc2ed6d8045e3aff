"""The plan of a step in plain NumPy.

Such a step runs the kernels' own code once on whole arrays, with ``...`` for the loop's index
(`fastopt.kernels.plain`). `fastopt.reference` can't take its place, as its classes have states of their own.
There are two ways:

- An element-wise kernel runs once on values that record what is computed (`fastopt.kernels.tape`). A step is
  then a chain of ufuncs that write into existing memory, in pieces of 16,384 elements, which stay in the
  cache. So it is all or nothing as a compiled step is. It takes no longer than the same formulas in Python,
  which make an array at each operation.
- A kernel of whole arrays branches on sums, and a user's kernel may do anything. These run on drafts
  (`drafted`), which note new values; a chain of calls then writes them.

Small arrays are copied into one (`batches`), and a step on them that is like the last one repeats its calls
(`quick`). Measured: the checks of the arrays in Python remain, 10 to 15 µs a step; a formula on one array of
ten numbers takes 1 µs. Only compiled code takes less.
"""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import chain
from operator import ne
from typing import Any

import numpy as np

from fastopt.engine.compiling.background import background
from fastopt.engine.memory import Memory
from fastopt.engine.overlap import are_apart, overlapping_indices, overlapping_with_states, owns_memory
from fastopt.engine.plain import PlainStep
from fastopt.engine.plan import Arrays, Plan, Scalars, run_calls
from fastopt.engine.quick import quick_step
from fastopt.engine.rules import Rule
from fastopt.engine.segment import Calls, Segment
from fastopt.engine.table import CHECK, REFUSED

__all__ = ["PlainPlan"]


class PlainPlan(Plan):
    """How NumPy updates some arrays, until there is compiled code.

    Parameters
    ----------
    n_arrived : int
        How much had been compiled when the code was looked for.
    is_strict : bool
        Whether a gradient that isn't finite refuses the step.
    given_states : sequence of arrays, optional
        States of the caller's. Then the call `drive` gets one list of all arrays, theirs included; nothing
        else can be asked of this plan.
    rule, memory, arrays, groups, **options
        As for a `Plan`.
    """

    def __init__(
        self,
        n_arrived: int,
        is_strict: bool,
        rule: Rule,
        memory: Memory,
        arrays: Arrays,
        groups: Sequence[int],
        *,
        given_states: Sequence[np.ndarray] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(rule, memory, arrays, groups, **options)
        self.n_arrived, self.has_nonfinite = n_arrived, False
        overlapping = overlapping_indices(arrays)
        self.main = Segment(
            rule, memory, self.entries,
            n_averages=self.n_averages, n_sets=len(self.sets), is_strict=is_strict,
        )  # fmt: skip
        written, has_given_states = [*arrays.params, *(given_states or ())], given_states is not None
        is_owned = all(map(owns_memory, written)) and are_apart(written, arrays.grads)
        self.plain = PlainStep(
            self.main,
            overlapping,
            has_given_states=has_given_states,
            can_batch=is_owned or not has_given_states,
        )
        self.is_drafted = self.plain.is_drafted
        self._make_counts()
        self.seen = signatures([*arrays.params, *arrays.grads])
        self.seen_states = None if given_states is None else signatures(given_states)
        self.is_kept = not overlapping and self.between is None and not self.main.has_copies
        if self.is_kept:
            self.drive = self._drive if given_states is None else self._drive_with_states
            if self.plain.is_batched and is_owned:
                given = [*arrays.params, *arrays.grads, *(given_states or ())]
                self.quick = quick_step(self.plain, given, n_arrived, self._guard_calls, self.count_calls)
                self.drive = self.quick if given_states is None else self._quick_with_states

    def fits(self, arrays: Arrays, n_threads: Callable[[int], int]) -> bool:
        """Whether all arrays are like those of the first step, share no memory, and no code has come."""
        if (
            background.look() != self.n_arrived
            or not self.is_kept
            or signatures(given := [*arrays.params, *arrays.grads]) != self.seen
        ):
            return False
        is_each_once = len(set(map(id, given))) == len(given) and all(map(owns_memory, arrays.params))
        return (is_each_once and are_apart(arrays.params, arrays.grads)) or not overlapping_indices(arrays)

    @property
    def found_nonfinite(self) -> bool:
        """Whether the last step met a gradient that isn't finite."""
        return self.has_nonfinite

    def calls(self, arrays: Arrays, scalars: Scalars, count: int, also: Calls, check: int) -> Calls:
        """Compute the new values. Returns the C calls that write them, as `Plan.calls` has it."""
        writes, is_finite = self.plain.calls(arrays, scalars, self.between)
        if self.main.is_strict and not is_finite:
            return [partial(int, REFUSED)]
        return [
            *(self._guard_calls(count) if check else ()),
            *writes,
            partial(setattr, self, "has_nonfinite", not is_finite),
            *self.count_calls,
            *also,
        ]

    def check_calls(self, arrays: Arrays, scalars: Scalars, count: int) -> Calls:
        """Return the C calls that refuse the step if another was taken, or the memory has been replaced.

        What else is checked of the arrays has been, as this is Python.
        """
        if self.main.is_strict and not self.plain.are_finite(arrays):
            return [partial(int, REFUSED)]
        return self._guard_calls(count)

    def _make_counts(self) -> None:
        """Make the calls that count the step, and those that compare all counts with what they must be."""
        memory, counts = self.memory, self.memory.counts
        updated = [entry for entry in self.entries if not entry.is_frozen]
        places = [*chain(*(range(e.count_at, e.count_at + e.n_counts) for e in updated))]
        self.counted = counted = np.sort(np.array(places, np.intp))
        # Neighbors are counted at once, and read where they are.
        ends = np.flatnonzero(np.diff(counted) != 1) + 1
        views = [counts[part[0] : part[-1] + 1] for part in np.split(counted, ends) if part.size]
        self.count_calls: Calls = [partial(np.add, view, 1, view) for view in (memory.steps, *views)]
        are_neighbors = len(views) == 1
        self.counts = views[0] if are_neighbors else np.empty(counted.size, dtype=np.int64)
        take = partial(np.ndarray.take, counts, counted, 0, self.counts, "clip")
        self.count_reads: Calls = [] if are_neighbors else [take]
        self.note_counts()

    def note_counts(self) -> None:
        """Note how much the counts of the parameters differ from the guard."""
        self.differences = self.memory.counts[self.counted] - self.guard

    def _guard_calls(self, count: int) -> Calls:
        """Return the C calls that refuse the step if another was taken, or the memory has been replaced."""
        if not self.counts.size:
            is_other = np.zeros((), dtype=np.int64)
            compare = partial(np.not_equal, self.guard, count, is_other)
            return [self.memory.is_retired.item, compare, is_other.item]
        # A step that a signal's handler takes until then is noticed by the counts.
        wanted = (self.differences + count).tobytes()
        is_other_count = map(int, map(ne, map(np.ndarray.tobytes, [self.counts]), [wanted]))
        return [self.memory.is_retired.item, *self.count_reads, partial(next, is_other_count)]

    def _drive(self, params: list[Any], grads: list[Any], scalars: Scalars, count: int) -> bool | None:
        """Take a step that is like the first one, as `drive` has it."""
        arrays = Arrays(self.keys, params, grads, None)
        is_known = 2 * len(params) == 2 * len(grads) == len(self.seen)
        are_floats = len(scalars) == self.main.scalars.size and {*map(type, scalars)} <= {float}
        if not (is_known and are_floats and self.fits(arrays, int)):
            return False
        if not run_calls(self.calls(arrays, scalars, count, [], CHECK)):
            return False
        return None if self.has_nonfinite else True

    def _quick_with_states(
        self, arrays: list[Any], _: list[Any], scalars: Scalars, count: int
    ) -> bool | None:
        """Take a step on small arrays, as `_drive_with_states` has it."""
        n = len(self.keys)
        return self.quick(arrays[:n], arrays[n : 2 * n], scalars, count, arrays[2 * n :])

    def _drive_with_states(
        self, arrays: list[Any], _: list[Any], scalars: Scalars, count: int
    ) -> bool | None:
        """Take such a step on a list of parameters, their gradients, and each of their states."""
        n = len(self.keys)
        params, grads, states = arrays[:n], arrays[n : 2 * n], arrays[2 * n :]
        if len(params) != len(grads) or signatures(states) != self.seen_states:
            return False
        written = [*params, *states]
        is_each_once = len({*map(id, arrays)}) == len(arrays) and all(map(owns_memory, written))
        is_known = is_each_once and are_apart(written, grads)
        if not is_known and overlapping_with_states(params, grads, states):
            return False
        orders = [entry.slot.order for entry in self.entries] * len(self.memory.specs)
        flats = [state.reshape(-1, order=order) for state, order in zip(states, orders, strict=True)]
        before = self.plain.states  # those of a call that this one interrupts, as a signal's handler
        self.plain.states = [flats[i::n] for i in range(n)]
        try:
            return self._drive(params, grads, scalars, count)
        finally:
            self.plain.states = before


def signatures(arrays: Sequence[Any]) -> list[Any]:
    """Return what must be the same if a step is to be like another one."""
    return [
        (type(array), array.dtype, array.shape, array.strides, array.flags.num)
        if isinstance(array, np.ndarray)
        else type(array)
        for array in arrays
    ]
