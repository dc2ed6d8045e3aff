"""The plan of a compiled step: which arrays are updated in one call, and which one by one."""

from collections.abc import Callable, Sequence
from functools import partial
from operator import itemgetter, setitem
from typing import Any

import numpy as np

from fastopt.arrays.rows import Rows
from fastopt.engine.compiled_segment import CompiledSegment
from fastopt.engine.memory import Memory
from fastopt.engine.overlap import overlapping_indices
from fastopt.engine.plan import Arrays, Given, Plan, Scalars, run_calls
from fastopt.engine.row_copies import RowCopies, staged
from fastopt.engine.rules import Rule, StepCode
from fastopt.engine.segment import Calls, Entry
from fastopt.engine.table import CHECK, COUNT, DIRECT, GATHERED, NUMBER, SPARSE, STAGED, STATISTICS, UPDATE
from fastopt.engine.threads import MIN_PARALLEL

__all__ = ["CompiledPlan"]


class CompiledPlan(Plan):
    """How compiled code updates some arrays.

    Parameters
    ----------
    code : StepCode
        Where the code is.
    n_threads : callable
        Returns the number of threads for a number of elements.
    is_strict : bool
        Whether a gradient that isn't finite refuses the step.
    has_given_states : bool
        Whether its call `drive` gets one list of all arrays, states included; nothing else can be asked then.
    rule, memory, arrays, groups, **options
        As for a `Plan`.
    """

    is_compiled = True
    main: CompiledSegment

    def __init__(
        self,
        code: StepCode,
        n_threads: Callable[[int], int],
        is_strict: bool,
        rule: Rule,
        memory: Memory,
        arrays: Arrays,
        groups: Sequence[int],
        *,
        has_given_states: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(rule, memory, arrays, groups, **options)
        overlapping = overlapping_indices(arrays)
        self.main_entries = [
            entry
            for entry in self.entries
            if entry.position not in overlapping
            and (entry.grad.mode != SPARSE or (is_direct_sparse(entry) and not rule.is_whole))
        ]
        self.n_elements = sum(
            e.slot.size for e in self.main_entries if not e.is_frozen and e.grad.mode != SPARSE
        )
        self.n_threads = n_threads(self.n_elements)
        self.is_small = self.n_threads == 1 and self.n_elements < MIN_PARALLEL

        def make(
            own: Memory, entries: list[Entry], n_threads: int = 1, is_strict: bool = False
        ) -> CompiledSegment:
            return CompiledSegment(
                code, len(arrays.params), n_threads, rule, own, entries,
                n_averages=self.n_averages, n_sets=len(self.sets), is_strict=is_strict,
                has_given_states=has_given_states,
            )  # fmt: skip

        self.main = make(memory, self.main_entries, self.n_threads, is_strict)
        left = {entry.position for entry in self.main_entries}
        self.apart: list[CompiledSegment | RowCopies] = [
            RowCopies(make, memory, entry, arrays.grads[entry.position])
            if entry.grad.mode == SPARSE
            else make(memory, [staged(entry)])
            for entry in self.entries
            if entry.position not in left and not entry.is_frozen
        ]
        self.is_kept = not self.apart and len(self.main_entries) == len(self.entries)
        if self.is_kept and self.between is None and not self.main.has_copies:
            self.drive = self.main.entry_points.drive if self.n_threads == 1 else self._drive_threads
        self.sparse = [entry.position for entry in self.main_entries if entry.grad.mode == SPARSE]
        self.copied = [
            (is_param, i, type(array), getattr(array, "shape", ()), getattr(array, "dtype", None))
            for i, param, grad in ((entry.position, entry.param, entry.grad) for entry in self.main_entries)
            for is_param, info, array in ((True, param, arrays.params[i]), (False, grad, arrays.grads[i]))
            if info.mode in (STAGED, NUMBER)
        ]
        # Compiled code compares classes by their ids, which are theirs only as long as they live.
        self.classes = [type(array) for array in (*arrays.params, *arrays.grads)]

    def fits(self, arrays: Arrays, n_threads: Callable[[int], int]) -> bool:
        """Whether all is as planned that compiled code can't see, or that is copied before it looks."""
        if n_threads(self.n_elements) != self.n_threads:
            return False
        for is_param, i, kind, shape, dtype in self.copied:
            array = (arrays.params if is_param else arrays.grads)[i]
            if type(array) is not kind or (
                dtype is not None and (array.shape, array.dtype) != (shape, dtype)
            ):
                return False
        return all(isinstance(arrays.grads[i], Rows) for i in self.sparse)

    @property
    def needs_others(self) -> bool:
        """Whether it needs what gathers arrays, or updates averages."""
        infos = [info for entry in self.entries for info in (entry.param, entry.grad)]
        return self.n_averages > 0 or any(info.mode == GATHERED for info in infos)

    def note_counts(self) -> None:
        """Note how much the counts of the parameters differ from the guard."""
        self.main.note_counts()

    @property
    def found_nonfinite(self) -> bool:
        """Whether the last step met a gradient that isn't finite."""
        return self.main.found_nonfinite or any(part.found_nonfinite for part in self.apart)

    def calls(self, arrays: Arrays, scalars: Scalars, count: int, also: Calls, check: int) -> Calls:
        """Return the C calls that take the step, as `Plan.calls` has it."""
        keys, params, grads = arrays.keys, list(arrays.params), list(arrays.grads)
        given = params, grads, scalars, count
        # Compiled code is given ids and addresses: what they belong to lives as long as the calls do.
        calls: Calls = [partial(bool, (self, given)), *self.main.copy_calls(params, grads)]
        if self.main.has_copies:
            calls += self.main.row_calls(grads)
        for part in self.apart:
            part.segment.scalars[:] = scalars
        if self.between is not None:  # which may read them
            self.main.scalars[:] = scalars
        if self.rule.is_whole and self.apart:
            calls += self._calls_of_two_passes(given, check)
            update = UPDATE
        else:
            calls += self._segment_calls(self.main, given, check)
            update = STATISTICS | UPDATE
        calls += self.main.copy_back_calls(params, keys, arrays.container)
        for part in self.apart:
            calls += part.copy_calls(params, grads)
            calls += part.segment.phase_calls(*given, update)
            calls += part.copy_back_calls(params, keys, arrays.container)
        calls += self.main.phase_calls(*given, COUNT)
        for part in self.apart:
            view = self.memory.counts[part.count_at : part.count_at + 1]
            calls.append(partial(np.add, view, 1, view))
        return calls + also

    def check_calls(self, arrays: Arrays, scalars: Scalars, count: int) -> Calls:
        """Return the C calls that check all and change nothing; the last may refuse the step."""
        given = list(arrays.params), list(arrays.grads), scalars, count
        calls: Calls = [partial(bool, (self, given)), *self.main.copy_calls(*given[:2])]
        if self.main.has_copies:
            calls += self.main.row_calls(given[1])
        return calls + self.main.phase_calls(*given, CHECK)

    def _drive_threads(
        self, params: list[Any], grads: list[Any], scalars: Scalars, count: int
    ) -> bool | None:
        """Take a step in threads. Returns what `drive` does."""
        phases = CHECK | STATISTICS | UPDATE | COUNT
        if not run_calls(self.main.phase_calls(params, grads, scalars, count, phases)):
            return False
        return None if self.main.found_nonfinite else True

    def _calls_of_two_passes(self, given: Given, check: int) -> Calls:
        """Return the calls up to the update of the main segment, with the statistics of all arrays first."""
        segments = [self.main, *(part.segment for part in self.apart)]
        calls = self.main.phase_calls(*given, check | STATISTICS)
        for part in self.apart:
            calls += part.copy_calls(*given[:2])
            calls += part.segment.phase_calls(*given, STATISTICS)
        n_totals = self.rule.n_totals
        if n_totals:
            rows = [
                (entry.position, statistics[:n_totals])
                for segment in segments
                for entry, statistics in zip(segment.entries, segment.statistics, strict=True)
                if not entry.is_frozen
            ]
            statistics, sums = np.zeros((2, len(rows), n_totals), dtype=np.float64)
            for place, (_, row) in zip(statistics, sorted(rows, key=itemgetter(0)), strict=True):
                calls.append(partial(setitem, place, ..., row))
            calls.append(partial(np.add.accumulate, statistics, 0, None, sums))
            calls += [partial(setitem, segment.totals, ..., sums[-1]) for segment in segments]
        if self.between is not None:
            for segment in segments:
                calls += self.between(segment)
        return calls + self.main.phase_calls(*given, UPDATE)

    def _segment_calls(self, segment: CompiledSegment, given: Given, check: int) -> Calls:
        """Return the calls that check and update a segment."""
        if self.between is None:
            return segment.phase_calls(*given, check | STATISTICS | UPDATE)
        first = segment.phase_calls(*given, check | STATISTICS)
        return first + self.between(segment) + segment.phase_calls(*given, UPDATE)


def is_direct_sparse(entry: Entry) -> bool:
    """Whether compiled code can update some rows of a parameter in place."""
    return entry.param.mode == DIRECT and entry.slot.order == "C"
