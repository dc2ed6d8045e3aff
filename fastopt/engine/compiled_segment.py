"""A segment of a compiled step: the table that the code reads, and the copies that Python makes for it."""

from collections import deque
from collections.abc import Callable, Sequence
from functools import cached_property, partial
from itertools import repeat
from operator import attrgetter, call, setitem
from typing import Any

import numpy as np

from fastopt.arrays.layout import aligned_zeros, coalesce_axes
from fastopt.engine.entry import Entries, make_entries, object_addresses
from fastopt.engine.memory import Memory
from fastopt.engine.quantized import ALIGNMENT, QuantizedArray
from fastopt.engine.rules import Rule, StepCode
from fastopt.engine.segment import Calls, Entry, Segment, rehearse
from fastopt.engine.structs import ALIGNED, C_CONTIGUOUS, F_CONTIGUOUS, WRITEABLE
from fastopt.engine.table import (
    CHECK,
    COUNT,
    GATHERED,
    HEADER,
    NUMBER,
    PIECE_ROOM,
    ROW,
    SPARSE,
    STAGED,
    STATISTICS,
    UPDATE,
)
from fastopt.engine.threads import round_calls, wait_address

__all__ = ["CompiledSegment"]

# The functions that compiled code calls by their addresses in the header.
CALLED = ("run_step", "is_finite", "gather", "scatter", "averages", "elements")

# Threads share a step in parts of at least so many elements, some 20 µs, and in so many parts at most.
PART, MAX_PARTS = 16_384, 64


class CompiledSegment(Segment):
    """The arrays that one call of compiled code updates.

    Parameters
    ----------
    code : StepCode
        Where the code is.
    n_params : int
        Length of the lists of parameters and gradients.
    n_threads : int
        Number of threads.
    has_given_states : bool
        Whether there is one list of all arrays: the parameters, their gradients, and each of their states.
    rule, memory, entries, **options
        As for a `Segment`.

    Attributes
    ----------
    param_copies, grad_copies : dict of int to array
        For some entries the contiguous copies that the rule gets.
    """

    def __init__(
        self,
        code: StepCode,
        n_params: int,
        n_threads: int,
        rule: Rule,
        memory: Memory,
        entries: list[Entry],
        *,
        has_given_states: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(rule, memory, entries, **options)
        self.code, self.n_threads, self.n_rounds = code, n_threads, 0
        self.param_copies = self._copies(lambda entry: entry.param.mode)
        self.grad_copies = self._copies(lambda entry: entry.grad.mode)
        self.has_given_states = has_given_states
        self._make_table(n_params)

    def _copies(self, mode_of: Callable[[Entry], int]) -> dict[int, np.ndarray]:
        """Return copies for the arrays that need one."""
        modes = {STAGED, NUMBER} | ({GATHERED} if self.rule.is_whole else set())
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
        rows["param_index"] = rows["grad_index"] = [entry.position for entry in entries]
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
                rows[f"{name}_copy_bytes"][i] = copy.nbytes
        rows["grad_itemsize"] = [entry.grad.itemsize for entry in entries]
        for i, entry in enumerate(entries):
            if GATHERED in (entry.param.mode, entry.grad.mode):
                axes = gathering_axes(entry)
                rows["n_axes"][i] = len(axes)
                rows["axes_at"][i] = append(pool, [n for axis in axes for n in (axis.size, *axis.strides)])
        self._add_states(rows, pool)
        if self.has_given_states:
            self._add_given_states(rows, pool, n_params)
            n_params *= 2 + len(self.memory.specs)
        if rule.is_whole:
            shapes = [(1,) if slot.is_apart else slot.shape or (1,) for slot in slots]
            rows["n_matrix_rows"] = [(0, *shape)[-2] for shape in shapes]
            rows["n_matrix_columns"] = [shape[-1] for shape in shapes]
            rows["is_whole"] = True
            rows["statistics_address"] = [array.ctypes.data for array in self.statistics]
            rows["n_statistics"] = [array.size for array in self.statistics]
            rows["part"] = np.argsort(np.argsort([-slot.size for slot in slots]))  # the largest first
        sizes = [0 if rule.is_whole or e.is_frozen or e.grad.mode == SPARSE else e.slot.size for e in entries]
        if rule.is_quantizing:  # whose blocks no part of a step may cut in two
            sizes = [-(-size // ALIGNMENT) * ALIGNMENT for size in sizes]
        rows["start"] = np.cumsum([0, *sizes])[:-1]
        rows["scalars"] = [entry.scalar_set * self.n_set_scalars for entry in entries]
        rows["n_rule_scalars"] = rule.n_step_scalars
        rows["count"] = [entry.count_at for entry in entries]
        rows["n_counts"] = [entry.n_counts for entry in entries]
        self._make_header(rows, pool, n_params, sum(sizes))
        self.note_counts()

    def note_counts(self) -> None:
        """Note how much the counts of the parameters differ from the guard."""
        if len(self._rows):
            self._rows["count_difference"] = self.memory.counts[self._rows["count"]] - self.guard

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
            pairs = [addresses_of(storage) for storage in entry.apart] or [
                (start + state.offset * itemsize, state.size)
                for start, state in zip(starts_here, entry.states, strict=True)
            ]
            pairs[n_states:n_states] = [(array.ctypes.data, array.size) for array in work]
            at.append(append(pool, [n for pair in pairs for n in pair]))
        rows["arrays_at"] = at
        rows["n_states"] = n_states + self.rule.n_work
        rows["n_averages"] = self.n_averages
        kinds = [(entry.slot.dtype, entry.slot.is_apart) for entry in self.entries]
        rows["is_quantized"] = [is_apart for _, is_apart in kinds]
        for kind in {*kinds}:
            here = [own == kind for own in kinds]
            *statistics, rule = self.code.kernels[kind]
            rows["rule_address"][here] = rule
            rows["statistics_rule_address"][here] = statistics[0] if statistics else 0

    def _add_given_states(self, rows: np.ndarray, pool: list[int], n_params: int) -> None:
        """Note where in the list of all arrays the gradient and the states of each parameter are."""
        rows["grad_index"] += n_params
        rows["n_given"] = len(self.memory.specs)
        at = []
        for entry in self.entries:
            own = []
            for k, state in enumerate(entry.states):
                contiguous = C_CONTIGUOUS if state.order == "C" else F_CONTIGUOUS
                flags = contiguous | ALIGNED | WRITEABLE
                index, shape_at = entry.position + (2 + k) * n_params, append(pool, state.shape)
                own += [index, entry.slot.dtype.num, flags, len(state.shape), shape_at]
            at.append(append(pool, own))
        rows["given_at"] = at

    def _make_header(self, rows: np.ndarray, pool: list[int], n_params: int, n_elements: int) -> None:
        """Make the header, and the memory that it leads to."""
        self.header = np.zeros(1, dtype=HEADER)
        self._rows, self._pool = rows, np.array(pool, dtype=np.int64)
        self._ranges = np.zeros(2 * (len(rows) + rows["n_given"].sum()) + 1, dtype=np.int64)
        rows["address"] = rows.ctypes.data + rows.itemsize * np.arange(len(rows))
        n_arrays = 4 + max(rows["n_states"].tolist(), default=0)
        thread_bytes = PIECE_ROOM + -(-(2 + 2 * n_arrays) // 8) * 64
        self._scratch = aligned_zeros(self.n_threads * thread_bytes // 8, np.dtype(np.float64))
        fields = {
            "n_params": n_params,
            "n_scalars": self.scalars.size,
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
            "flushes_denormals": self.rule.flushes_denormals,
            "n_parts": len(rows) if self.rule.is_whole else max(1, min(n_elements // PART, MAX_PARTS)),
            "wait_address": wait_address(),
            "is_whole": self.rule.is_whole,
            "n_elements": n_elements,
            "n_totals": self.rule.n_totals,
            "totals_address": self.totals.ctypes.data,
            "scratch_address": self._scratch.ctypes.data,
            "scratch_bytes": thread_bytes,
            **{f"{name}_address": self.code.step.get(name, 0) for name in CALLED},
            **object_addresses(),
        }
        for name, value in fields.items():
            self.header[name] = value
        self.address = self.header.ctypes.data

    @cached_property
    def entry_points(self) -> Entries:
        """The functions that take the step, if it is compiled."""
        return make_entries(self.code.step, self.header, self)

    def phase_calls(
        self, params: list[Any], grads: list[Any], scalars: tuple[float, ...], count: int, phases: int
    ) -> Calls:
        """Return the C calls that take some phases of the step; the first may refuse it."""

        def run(some: int) -> Callable[[], int]:
            return partial(self.entry_points.run_phases, params, grads, scalars, count, some)

        if self.n_threads == 1:
            return [run(phases)]
        calls: Calls = [run(CHECK)] if phases & CHECK else []
        if phases & STATISTICS and self.rule.is_whole:
            calls += self._round_calls(STATISTICS)
        if phases & UPDATE:
            calls += self._round_calls(UPDATE)
        return calls + ([run(COUNT)] if phases & COUNT else [])

    def _round_calls(self, phase: int) -> Calls:
        """Return the C calls that do a phase in threads."""
        self.n_rounds += 1
        begin, share = self.code.step["begin_round"], self.code.step["share"]
        return round_calls(begin, share, self.address, phase, self.n_rounds, self.n_threads, self)

    @property
    def segment(self) -> "CompiledSegment":
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
        for i, entry in enumerate(self.entries):
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


def addresses_of(storage: np.ndarray | QuantizedArray) -> tuple[int, int]:
    """Return what compiled code must know of a state that lies apart: where it is, and its size or scales."""
    if isinstance(storage, QuantizedArray):
        return storage.codes.ctypes.data, storage.scales.ctypes.data
    return storage.ctypes.data, storage.size


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
