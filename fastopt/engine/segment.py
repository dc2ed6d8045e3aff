"""A segment of a step: the arrays that one table holds, and the copies through which some of them go."""

from collections import deque
from collections.abc import Callable, Hashable, Sequence
from functools import cached_property, partial
from itertools import pairwise, repeat
from operator import attrgetter, call, setitem
from typing import Any, NamedTuple

import numpy as np

from fastopt.arrays.containers import ASSIGNMENTS
from fastopt.arrays.layout import Slot, aligned_zeros, coalesce_axes
from fastopt.engine import driver
from fastopt.engine.arrayinfo import ArrayInfo
from fastopt.engine.memory import Memory
from fastopt.engine.rules import Rule
from fastopt.engine.structs import is_layout_known
from fastopt.engine.table import GATHERED, HEADER, NUMBER, ROW, SPARSE, STAGED
from fastopt.engine.updating import PIECE_ROOM

__all__ = ["Calls", "Entry", "Segment"]

Calls = list[Callable[[], Any]]

# Types whose objects are made without any Python code.
NUMBERS = frozenset((float, np.float16, np.float32, np.float64))


class Entry(NamedTuple):
    """One array of a step.

    Attributes
    ----------
    position : int
        Position in the lists of parameters and gradients.
    slot : Slot
        Where its state lies.
    param, grad : ArrayInfo
        How its arrays reach the kernel.
    states : sequence of Slot
        Where each of its states lies; those of the options come last.
    scalar_set : int
        Which of several sets of scalars it takes.
    is_frozen : bool
        Whether it is checked, but not updated.
    count_at, n_counts : int
        Position in the memory's counts, and how many count together.
    """

    position: int
    slot: Slot
    param: ArrayInfo
    grad: ArrayInfo
    states: Sequence[Slot]
    scalar_set: int
    is_frozen: bool
    count_at: int
    n_counts: int = 1


class Segment:
    """The arrays that one call updates.

    Parameters
    ----------
    rule : Rule
        The rule.
    memory : Memory
        The state.
    entries : list of Entry
        The arrays.
    n_averages : int
        Number of averages, whose states come after the rule's.
    n_params : int
        Length of the lists of parameters and gradients.
    n_sets : int
        Number of sets of scalars.
    n_threads : int
        Number of threads.
    is_strict : bool
        Whether a gradient that isn't finite refuses the step.

    Attributes
    ----------
    statistics : list of float64 arrays
        One for each entry.
    totals : float64 array
        Sums of the first statistics over all arrays.
    scalars : float64 array
        Those of the last step.
    work : list of tuple of flat arrays
        The rule's work arrays, for each entry.
    guard : int64 array without dimensions
        The count of its first parameter.
    scratch : dict
        What a rule wants to find again at the next step.
    param_copies, grad_copies : dict of int to array
        For some entries the contiguous copies that the rule gets.
    """

    def __init__(
        self,
        rule: Rule,
        memory: Memory,
        entries: list[Entry],
        *,
        n_averages: int,
        n_params: int,
        n_sets: int,
        n_threads: int,
        is_strict: bool,
    ) -> None:
        self.rule, self.memory, self.entries = rule, memory, entries
        self.n_averages, self.n_threads, self.is_strict = n_averages, n_threads, is_strict
        self.n_set_scalars = rule.n_scalars + 2 * n_averages
        self.scalars = np.zeros(n_sets * self.n_set_scalars, dtype=np.float64)
        self.totals = np.zeros(rule.n_totals, dtype=np.float64)
        self.scratch: dict[int, Any] = {}
        self.guard = memory.guard(next((entry.count_at for entry in entries if not entry.is_frozen), None))
        self.header = np.zeros(1, dtype=HEADER)
        self._make_statistics()
        self.work = [
            tuple(aligned_zeros(entry.slot.size, entry.slot.dtype) for _ in range(rule.n_work))
            for entry in entries
        ]
        self.param_copies = self._copies(lambda entry: entry.param.mode)
        self.grad_copies = self._copies(lambda entry: entry.grad.mode)
        self.address = 0
        if is_layout_known():
            self._make_table(n_params)

    def _make_statistics(self) -> None:
        """Make room for the statistics: whole cache lines, and equal ones if they are sums over elements."""
        sizes = [
            self.rule.n_statistics(entry.slot.shape) if self.rule.is_whole else 0 for entry in self.entries
        ]
        if self.rule.n_additive:
            sizes = [max(sizes, default=0)] * len(sizes)
        ends = np.cumsum([0] + [-(-size // 8) * 8 for size in sizes]).tolist()
        room = aligned_zeros(ends[-1], np.dtype(np.float64))
        self.statistics = [room[a:b] for a, b in pairwise(ends)]
        n = self.rule.n_additive
        self.sums = room.reshape(len(sizes), -1)[:, :n] if n and sizes else np.zeros((0, n), dtype=np.float64)

    def _copies(self, mode_of: Callable[[Entry], int]) -> dict[int, np.ndarray]:
        """Return copies for the arrays that need one."""
        modes = {STAGED, NUMBER} | ({GATHERED} if self.rule.is_whole or not is_layout_known() else set())
        return {
            i: np.empty(entry.slot.shape, dtype=entry.slot.dtype, order=entry.slot.order)
            for i, entry in enumerate(self.entries)
            if mode_of(entry) in modes
        }

    def _make_table(self, n_params: int) -> None:
        """Make the table that compiled code reads."""
        entries, rule = self.entries, self.rule
        slots = [entry.slot for entry in entries]
        rows = np.zeros(len(entries), dtype=ROW)
        pool: list[int] = []
        rows["index"] = [entry.position for entry in entries]
        rows["size"] = [slot.size for slot in slots]
        rows["itemsize"] = [slot.dtype.itemsize for slot in slots]
        rows["is_frozen"] = [entry.is_frozen for entry in entries]
        rows["ndim"] = [len(slot.shape) for slot in slots]
        rows["shape_at"] = [append(pool, slot.shape) for slot in slots]
        for name, infos, copies in (
            ("param", [entry.param for entry in entries], self.param_copies),
            ("grad", [entry.grad for entry in entries], self.grad_copies),
        ):
            rows[f"{name}_mode"] = [info.mode for info in infos]
            rows[f"{name}_class"] = [info.class_id for info in infos]
            rows[f"{name}_type"] = [info.type_number for info in infos]
            rows[f"{name}_order"] = [info.byte_order for info in infos]
            rows[f"{name}_flags"] = [info.flags for info in infos]
            rows[f"{name}_strides_at"] = [
                -1 if info.strides is None else append(pool, info.strides) for info in infos
            ]
            rows[f"{name}_low"] = [info.low for info in infos]
            rows[f"{name}_high"] = [info.high for info in infos]
            for i, copy in copies.items():
                rows[f"{name}_copy_address"][i] = copy.ctypes.data
        rows["grad_itemsize"] = [entry.grad.itemsize for entry in entries]
        for i, entry in enumerate(entries):
            if GATHERED in (entry.param.mode, entry.grad.mode):
                axes = gathering_axes(entry)
                rows["n_axes"][i] = len(axes)
                rows["axes_at"][i] = append(pool, [n for axis in axes for n in (axis.size, *axis.strides)])
        self._add_states(rows, pool)
        if rule.is_whole:
            shapes = [slot.shape or (1,) for slot in slots]
            rows["n_matrix_rows"] = [(0, *shape)[-2] for shape in shapes]
            rows["n_matrix_columns"] = [shape[-1] for shape in shapes]
            rows["is_whole"] = True
            rows["statistics_address"] = [array.ctypes.data for array in self.statistics]
            rows["n_statistics"] = [array.size for array in self.statistics]
            rows["thread"] = self._deal([0 if entry.is_frozen else entry.slot.size for entry in entries])
        sizes = [0 if rule.is_whole or e.is_frozen or e.grad.mode == SPARSE else e.slot.size for e in entries]
        rows["start"] = np.cumsum([0, *sizes])[:-1]
        rows["scalars"] = [entry.scalar_set * self.n_set_scalars for entry in entries]
        rows["n_rule_scalars"] = rule.n_scalars
        rows["count"] = [entry.count_at for entry in entries]
        rows["n_counts"] = [entry.n_counts for entry in entries]
        if len(entries):
            rows["count_difference"] = self.memory.counts[rows["count"]] - self.guard
        self._make_header(rows, pool, n_params, sum(sizes))

    def _add_states(self, rows: np.ndarray, pool: list[int]) -> None:
        """Note where the states of each array are, and the rules of its dtype."""
        n_states = len(self.memory.specs) - self.n_averages
        starts = {
            dtype: [buffer.ctypes.data for buffer in buffers]
            for dtype, buffers in self.memory.buffers.items()
        }
        at = []
        for entry, work in zip(self.entries, self.work, strict=True):
            itemsize, starts_here = entry.slot.dtype.itemsize, starts.get(entry.slot.dtype, [])
            pairs = [
                (start + state.offset * itemsize, state.size)
                for start, state in zip(starts_here, entry.states, strict=True)
            ]
            pairs[n_states:n_states] = [(array.ctypes.data, array.size) for array in work]
            at.append(append(pool, [n for pair in pairs for n in pair]))
        rows["arrays_at"] = at
        rows["n_states"] = n_states + self.rule.n_work
        rows["n_averages"] = self.n_averages
        for dtype in {entry.slot.dtype for entry in self.entries}:
            here = [entry.slot.dtype == dtype for entry in self.entries]
            *statistics, rule = self.rule.addresses(dtype, n_states)
            rows["rule_address"][here] = rule
            rows["statistics_rule_address"][here] = statistics[0] if statistics else 0

    def _make_header(self, rows: np.ndarray, pool: list[int], n_params: int, n_elements: int) -> None:
        """Make the header, and the memory that it leads to."""
        self._rows, self._pool = rows, np.array(pool, dtype=np.int64)
        self._ranges = np.zeros(2 * len(rows) + 1, dtype=np.int64)
        rows["address"] = rows.ctypes.data + rows.itemsize * np.arange(len(rows))
        n_arrays = 4 + max(rows["n_states"].tolist(), default=0)
        thread_bytes = PIECE_ROOM + -(-(2 + 2 * n_arrays) // 8) * 64
        self._scratch = aligned_zeros(self.n_threads * thread_bytes // 8, np.dtype(np.float64))
        fields = {
            "n_params": n_params,
            "n_scalars": self.scalars.size,
            "ndarray_class": id(np.ndarray),
            "float_class": id(float),
            "n_rows": len(rows),
            "rows_address": rows.ctypes.data,
            "pool_address": self._pool.ctypes.data,
            "ranges_address": self._ranges.ctypes.data,
            "is_moved": 1,
            "steps_address": self.memory.steps.ctypes.data,
            "guard_address": self.guard.ctypes.data,
            "is_retired_address": self.memory.is_retired.ctypes.data,
            "counts_address": self.memory.counts.ctypes.data,
            "scalars_address": self.scalars.ctypes.data,
            "is_strict": self.is_strict,
            "n_threads": self.n_threads,
            "n_elements": n_elements,
            "n_totals": self.rule.n_totals,
            "totals_address": self.totals.ctypes.data,
            "scratch_address": self._scratch.ctypes.data,
            "scratch_bytes": thread_bytes,
            **driver.routines(),
        }
        for name, value in fields.items():
            self.header[name] = value
        self.address = self.header.ctypes.data

    def _deal(self, sizes: list[int]) -> list[int]:
        """Return a thread for each whole array: the largest first, each to the one that has least."""
        loads, result = [0] * self.n_threads, [0] * len(sizes)
        for i in sorted(range(len(sizes)), key=lambda i: -sizes[i]) if self.n_threads > 1 else ():
            result[i] = loads.index(min(loads))
            loads[result[i]] += sizes[i]
        return result

    @property
    def segment(self) -> "Segment":
        """The segment itself, as `RowCopies` has one."""
        return self

    @property
    def count_at(self) -> int:
        """Position of the count of its only entry."""
        return self.entries[0].count_at

    @property
    def found_nonfinite(self) -> bool:
        """Whether the last step met a gradient that isn't finite."""
        return bool(self.header["found_nonfinite"][0])

    @found_nonfinite.setter
    def found_nonfinite(self, value: bool) -> None:
        self.header["found_nonfinite"] = value

    @cached_property
    def has_copies(self) -> bool:
        """Whether Python has to copy arrays before or after the call."""
        return any(
            mode in (STAGED, NUMBER, SPARSE)
            for entry in self.entries
            for mode in (entry.param.mode, entry.grad.mode)
        )

    def copy_calls(self, params: Sequence[Any], grads: Sequence[Any]) -> Calls:
        """Return the calls that copy what compiled code can't read."""
        calls: Calls = []
        for copies, arrays, mode_of in (
            (self.param_copies, params, attrgetter("param.mode")),
            (self.grad_copies, grads, attrgetter("grad.mode")),
        ):
            for i, copy in copies.items():
                if mode_of(self.entries[i]) != GATHERED:
                    # np.copyto would run Python code.
                    calls.append(partial(setitem, copy, ..., arrays[self.entries[i].position]))
        return calls

    def row_calls(self, grads: Sequence[Any]) -> Calls:
        """Return the calls that note which rows have a gradient in this step, and where it is."""
        calls: Calls = []
        for i, entry in enumerate(self.entries if self.address else ()):
            if entry.grad.mode == SPARSE:
                rows = grads[entry.position]
                for name, value in (
                    ("n_indices", rows.indices.size),
                    ("indices_address", rows.indices.ctypes.data),
                    ("grad_address", rows.values.ctypes.data),
                ):
                    calls.append(partial(setitem, self._rows[name], i, value))
        return calls

    def copy_back_calls(self, params: Sequence[Any], keys: Any, container: Any) -> Calls:
        """Return the calls that copy parameters back to where compiled code can't write."""
        calls: Calls = []
        names, kinds, copies = [], [], []
        for i, copy in ({} if self.rule.is_reading else self.param_copies).items():
            entry = self.entries[i]
            if entry.is_frozen or entry.param.mode == GATHERED:
                continue
            param, key = params[entry.position], keys[entry.position]
            if entry.param.mode == STAGED:  # a subclass may have a `__setitem__` of its own
                calls.append(partial(np.ndarray.__setitem__, param, ..., copy))
            else:
                rehearse(container, key, param)
                names.append(key)
                kinds.append(type(param))
                copies.append(copy)
        if names:  # the numbers are read from the copies when this call's turn comes
            numbers = map(setitem, repeat(container), names, map(call, kinds, copies))
            calls.append(partial(deque, numbers, 0))
        return calls


def rehearse(container: Any, key: Hashable, number: Any) -> None:
    """Assign a number that is there, as it is, where Python code may refuse this in the middle of a step."""
    if type(number) not in NUMBERS:
        number = type(number)(number)
    if type(container).__setitem__ not in ASSIGNMENTS or type(number) not in NUMBERS:
        container[key] = number


def append(pool: list[int], numbers: Sequence[int]) -> int:
    """Append integers to the pool. Returns the position of the first."""
    at = len(pool)
    pool.extend(numbers)
    return at


def gathering_axes(entry: Entry) -> Any:
    """Return the loops that gather the arrays of an entry."""
    shape, order, itemsize = entry.slot.shape, entry.slot.order, entry.slot.dtype.itemsize
    contiguous = []
    step = itemsize
    for size in shape if order == "F" else reversed(shape):
        contiguous.append(step)
        step *= size
    own = contiguous if order == "F" else contiguous[::-1]
    strides = [
        info.strides if info.mode == GATHERED and info.strides is not None else own
        for info in (entry.param, entry.grad)
    ]
    return coalesce_axes(shape, order, *strides)
