"""The plan of a step: which arrays are updated in one call, and which one by one."""

from collections.abc import Callable, Hashable, Sequence
from functools import partial
from itertools import repeat
from operator import call, is_, itemgetter, setitem
from typing import Any, NamedTuple

import numpy as np

from fastopt.arrays.containers import Keys
from fastopt.arrays.layout import Layout, Slot
from fastopt.arrays.rows import Rows
from fastopt.engine import driver
from fastopt.engine.arrayinfo import byte_range, describe
from fastopt.engine.driver import CHECK, COUNT, REFUSED, STATISTICS, UPDATE
from fastopt.engine.interpreted import run_interpreted
from fastopt.engine.memory import Memory
from fastopt.engine.row_copies import RowCopies, staged
from fastopt.engine.rules import Rule
from fastopt.engine.segment import Calls, Entry, Segment
from fastopt.engine.structs import is_layout_known
from fastopt.engine.table import DIRECT, NUMBER, SPARSE, STAGED
from fastopt.engine.threads import MIN_PARALLEL
from fastopt.engine.trampoline import make_drive

__all__ = ["FROZEN", "Arrays", "Plan", "ScalarSet", "driver_call", "run_calls"]

FROZEN = -1

# What the calls of a step are given: the lists of parameters and gradients, the scalars, the guard's count.
Given = tuple[list[Any], list[Any], tuple[float, ...], int]


class Arrays(NamedTuple):
    """What a step is given.

    Attributes
    ----------
    keys : sequence
        The keys of the parameters; a packed container's layout if its buffers take the place of the arrays.
    params, grads : list
        The arrays, in the order of the keys; or the buffers.
    container : dict or list
        Where numbers are replaced.
    """

    keys: Keys | Layout
    params: list[Any]
    grads: list[Any]
    container: Any

    def by_array(self) -> tuple[Sequence[Hashable], list[Any], list[Any]]:
        """Return keys, parameters and gradients one by one, also of packed containers."""
        keys, params, grads, _ = self
        if not isinstance(keys, Layout):
            return keys, params, grads
        views = []
        for given in (params, grads):
            flats = {flat.dtype: flat for flat in given}
            views.append([slot.view(flats[slot.dtype]) for slot in keys.values()])
        return list(keys), views[0], views[1]

    def select(self, indices: Sequence[int]) -> "Arrays":
        """Return some of the arrays."""
        keys, params, grads = (
            [values[i] for i in indices] for values in (self.keys, self.params, self.grads)
        )
        return Arrays(keys, params, grads, self.container)


class ScalarSet(NamedTuple):
    """Parameters that take the same scalars: their group, and the position of one of their counts."""

    group: int
    count_at: int


class Plan:
    """How to update these arrays, which have been checked.

    Parameters
    ----------
    rule : Rule
        The rule.
    memory : Memory
        The state, with room for all keys.
    arrays : Arrays
        The arrays of the first step.
    groups : sequence of int
        For each key the group whose hyperparameters it has, or FROZEN.
    n_averages : int
        Number of the memory's states, the last ones, that are averages.
    n_threads : callable
        Returns the number of threads for a number of elements.
    is_strict : bool
        Whether a gradient that isn't finite refuses the step.
    between : callable, optional
        Returns the calls between the statistics pass and the update, for a segment.
    token : object
        The settings that the plan is for, by their identity.
    grouping : object
        What the groups are from, for whoever computes the scalars.

    Attributes
    ----------
    sets : list of ScalarSet
        Which scalars a step takes, in this order.
    is_kept : bool
        Whether compiled code notices what differs at a later step.
    drive : callable or None
        The step, ``drive(params, grads, scalars, guard.item())``, if it is this one call. Returns True when
        it was taken; None if a gradient wasn't finite; False if it was refused, with nothing changed.
    is_small : bool
        Whether it takes one thread, however many are allowed.
    guard : int64 array without dimensions
        The count of all its parameters.
    """

    def __init__(
        self,
        rule: Rule,
        memory: Memory,
        arrays: Arrays,
        groups: Sequence[int],
        *,
        n_averages: int,
        n_threads: Callable[[int], int],
        is_strict: bool,
        between: Callable[[Segment], Calls] | None = None,
        token: object = None,
        grouping: Any = None,
    ) -> None:
        self.rule, self.memory, self.keys = rule, memory, arrays.keys
        self.n_averages, self.between, self.token = n_averages, between, token
        self.grouping = grouping
        entries = self._make_entries(arrays, groups)
        overlapping = overlapping_indices(arrays)
        self.main_entries = [
            entry
            for entry in entries
            if entry.position not in overlapping and (entry.grad.mode != SPARSE or is_direct_sparse(entry))
        ]
        self.n_elements = sum(
            e.slot.size for e in self.main_entries if not e.is_frozen and e.grad.mode != SPARSE
        )
        self.n_threads = n_threads(self.n_elements)
        self.is_small = self.n_threads == 1 and self.n_elements < MIN_PARALLEL
        make = partial(
            Segment, rule, n_averages=n_averages, n_params=len(arrays.params), n_sets=len(self.sets)
        )
        self.main = make(memory, self.main_entries, n_threads=self.n_threads, is_strict=is_strict)
        make = partial(make, n_threads=1, is_strict=False)
        left = {entry.position for entry in self.main_entries}
        self.apart: list[Segment | RowCopies] = [
            RowCopies(make, memory, entry, arrays.grads[entry.position])
            if entry.grad.mode == SPARSE
            else make(memory, [staged(entry)])
            for entry in entries
            if entry.position not in left and not entry.is_frozen
        ]
        self.is_kept = is_layout_known() and not self.apart and len(self.main_entries) == len(entries)
        simple = self.is_kept and between is None and not self.main.has_copies
        self.drive = make_drive(self.main) if simple else None
        self.guard = self.main.guard
        self.sparse = [entry.position for entry in self.main_entries if entry.grad.mode == SPARSE]
        self.copied = [
            (is_param, i, type(array), getattr(array, "shape", ()), getattr(array, "dtype", None))
            for i, param, grad in ((entry.position, entry.param, entry.grad) for entry in self.main_entries)
            for is_param, info, array in ((True, param, arrays.params[i]), (False, grad, arrays.grads[i]))
            if info.mode in (STAGED, NUMBER)
        ]
        # Compiled code compares classes by their ids, which are theirs only as long as they live.
        self.classes = [type(array) for array in (*arrays.params, *arrays.grads)]

    def _make_entries(self, arrays: Arrays, groups: Sequence[int]) -> list[Entry]:
        """Return an entry for each array, and note the sets of scalars."""
        memory = self.memory
        if isinstance(arrays.keys, Layout):
            return self._make_packed_entries(arrays, groups)
        slots = [memory.layout[key] for key in arrays.keys]
        positions = [memory.positions[key] for key in arrays.keys]
        sets: dict[tuple[int, int], int] = {}
        chosen: list[int] = []
        self.sets: list[ScalarSet] = []
        for group, position, count in zip(
            groups, positions, memory.counts[np.asarray(positions, np.intp)].tolist(), strict=True
        ):
            if group == FROZEN:
                chosen.append(FROZEN)
                continue
            if (group, count) not in sets:
                sets[group, count] = len(sets)
                self.sets.append(ScalarSet(group, position))
            chosen.append(sets[group, count])
        states = (
            zip(*([own[key] for key in arrays.keys] for own in memory.layouts), strict=True)
            if memory.layouts
            else repeat((), len(slots))
        )
        return [
            Entry(
                i, slot, describe(key, param, slot, True), describe(key, grad, slot, False), state,
                max(own, 0), own == FROZEN, position,
            )
            for i, (key, param, grad, slot, state, own, position) in enumerate(
                zip(arrays.keys, arrays.params, arrays.grads, slots, states, chosen, positions, strict=True)
            )
        ]  # fmt: skip

    def _make_packed_entries(self, arrays: Arrays, groups: Sequence[int]) -> list[Entry]:
        """Return an entry for each buffer of a packed container."""
        memory = self.memory
        self.sets = [ScalarSet(0, 0)]
        entries = []
        for i, (param, grad) in enumerate(zip(arrays.params, arrays.grads, strict=True)):
            slot = Slot((param.size,), param.dtype, "C", 0, param.size)
            counts = [memory.positions[key] for key, own in memory.layout.items() if own.dtype == param.dtype]
            entry = Entry(
                i, slot, describe(i, param, slot, True), describe(i, grad, slot, False),
                [slot] * len(memory.specs), 0, False, min(counts, default=0), len(counts),
            )  # fmt: skip
            entries.append(entry)
        return entries

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
    def found_nonfinite(self) -> bool:
        """Whether the last step met a gradient that isn't finite."""
        return self.main.found_nonfinite or any(part.found_nonfinite for part in self.apart)

    def calls(
        self,
        arrays: Arrays,
        scalars: tuple[float, ...],
        count: int,
        also: Calls | None = None,
        *,
        check: int = CHECK,
    ) -> Calls:
        """Return the C calls that take the step, if the guard is the count; one of the first may refuse it.

        With ``check=0`` none does, as the calls from `check_calls` have been made.
        """
        keys, params, grads = arrays.keys, list(arrays.params), list(arrays.grads)
        given = params, grads, scalars, count
        # Compiled code is given ids and addresses: what they belong to lives as long as the calls do.
        calls: Calls = [partial(bool, (self, given)), *self.main.copy_calls(params, grads)]
        if self.main.has_copies:
            calls += self.main.row_calls(grads)
        for part in self.apart:
            part.segment.scalars[:] = scalars
        if self.rule.is_whole and self.apart:
            calls += self._calls_of_two_passes(given, check)
            update = UPDATE
        else:
            calls += self._segment_calls(self.main, given, check)
            update = STATISTICS | UPDATE
        calls += self.main.copy_back_calls(params, keys, arrays.container)
        for part in self.apart:
            calls += part.copy_calls(params, grads)
            calls.append(driver_call(part.segment, given, update))
            calls += part.copy_back_calls(params, keys, arrays.container)
        calls.append(driver_call(self.main, given, COUNT))
        for part in self.apart:
            view = self.memory.counts[part.count_at : part.count_at + 1]
            calls.append(partial(np.add, view, 1, view))
        return calls + (also or [])

    def check_calls(self, arrays: Arrays, scalars: tuple[float, ...], count: int) -> Calls:
        """Return the C calls that check all and change nothing; the last may refuse the step."""
        given = list(arrays.params), list(arrays.grads), scalars, count
        calls: Calls = [partial(bool, (self, given)), *self.main.copy_calls(*given[:2])]
        if self.main.has_copies:
            calls += self.main.row_calls(given[1])
        return [*calls, driver_call(self.main, given, CHECK)]

    def _calls_of_two_passes(self, given: Given, check: int) -> Calls:
        """Return the calls up to the update of the main segment, with the statistics of all arrays first."""
        segments = [self.main, *(part.segment for part in self.apart)]
        calls: Calls = [driver_call(self.main, given, check | STATISTICS)]
        for segment in segments[1:]:
            calls += segment.copy_calls(*given[:2])
            calls.append(driver_call(segment, given, STATISTICS))
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
        calls.append(driver_call(self.main, given, UPDATE))
        return calls

    def _segment_calls(self, segment: Segment, given: Given, check: int) -> Calls:
        """Return the calls that check and update a segment."""
        if self.between is None:
            return [driver_call(segment, given, check | STATISTICS | UPDATE)]
        first, last = (driver_call(segment, given, phases) for phases in (check | STATISTICS, UPDATE))
        return [first, *self.between(segment), last]


def driver_call(segment: Segment, given: Given, phases: int) -> Callable[[], int]:
    """Return a call of the step."""
    params, grads, scalars, count = given
    if not is_layout_known():
        return partial(run_interpreted, segment, params, grads, scalars, count, phases)
    drive = driver.get_driver(segment.n_threads > 1)
    return partial(drive, id(params), id(grads), segment.address, id(scalars), count, phases)


def is_direct_sparse(entry: Entry) -> bool:
    """Whether compiled code can update some rows of a parameter in place."""
    return entry.param.mode == DIRECT and entry.slot.order == "C"


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


def address_of_data(array: np.ndarray) -> int:
    """Return the address of an array's first element."""
    address: int = array.__array_interface__["data"][0]
    return address


def run_calls(calls: Calls) -> bool:
    """Make C calls, with no interrupt in between. Returns False, with nothing changed, if one refuses."""
    # A value too large for the dtype becomes infinite, as in the kernels: a caller who lets NumPy raise
    # for it, or turns warnings into errors, must not be left with half a step.
    with np.errstate(all="ignore"):
        # A driver that refuses is the first, and ends it. (By identity, as NumPy's calls return arrays.)
        return not any(map(is_, map(call, calls), repeat(REFUSED)))
