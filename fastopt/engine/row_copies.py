"""`RowCopies`: the update of some rows of a parameter through copies."""

from collections.abc import Sequence
from functools import partial
from operator import setitem
from typing import Any

import numpy as np

from fastopt.arrays.layout import Layout
from fastopt.arrays.rows import Rows
from fastopt.engine.compiled_segment import CompiledSegment
from fastopt.engine.memory import Memory
from fastopt.engine.segment import Calls, Entry
from fastopt.engine.table import NUMBER, STAGED

__all__ = ["RowCopies", "staged"]


class RowCopies:
    """The rows of a parameter that have a gradient, with their states, as copies that one segment updates."""

    def __init__(self, make: Any, memory: Memory, entry: Entry, rows: Rows) -> None:
        self.rows = rows
        self.count_at = entry.count_at
        shape, dtype = (self.rows.indices.size, *entry.slot.shape[1:]), entry.slot.dtype
        layout = Layout()
        layout.place(0, shape, dtype)
        own = Memory(memory.specs, layout, list)
        states = zip(entry.states, memory.buffers[dtype], strict=True)
        self.wholes = [slot.view(buffer) for slot, buffer in states]
        self.parts = [own.views(spec.name)[0] for spec in memory.specs]
        slots = [states[0] for states in own.layouts]
        self.segment: CompiledSegment = make(
            own, [staged(entry)._replace(slot=layout[0], states=slots, count_at=0)]
        )

    @property
    def found_nonfinite(self) -> bool:
        """Whether the last step met a gradient that isn't finite."""
        return self.segment.found_nonfinite

    def copy_calls(self, params: Sequence[Any], grads: Sequence[Any]) -> Calls:
        """Return the calls that copy the rows."""
        index = self.segment.entries[0].position
        calls: Calls = [partial(setitem, self.segment.grad_copies[0], ..., grads[index].values)]
        pairs = [(params[index], self.segment.param_copies[0]), *zip(self.wholes, self.parts, strict=True)]
        for whole, part in pairs:
            raw = part if whole.dtype == part.dtype else np.empty(part.shape, dtype=whole.dtype)
            # A subclass may have a `take` of its own. (The mode needs no copy; the indices are in range.)
            calls.append(partial(np.ndarray.take, whole, self.rows.indices, 0, raw, "clip"))
            if raw is not part:
                calls.append(partial(setitem, part, ..., raw))
        return calls

    def copy_back_calls(self, params: Sequence[Any], keys: Any, container: Any) -> Calls:
        """Return the calls that copy the rows back."""
        index = self.segment.entries[0].position
        pairs = [(params[index], self.segment.param_copies[0]), *zip(self.wholes, self.parts, strict=True)]
        return [partial(setitem, whole, self.rows.indices, part) for whole, part in pairs]


def staged(entry: Entry) -> Entry:
    """Return an entry whose arrays are copied by Python."""
    param, grad = (
        info if info.mode == NUMBER else info._replace(mode=STAGED) for info in (entry.param, entry.grad)
    )
    return entry._replace(param=param, grad=grad)
