"""State dicts: what is saved of an optimizer, and how it is put in place."""

from collections.abc import Callable, MutableMapping, MutableSequence
from functools import partial
from operator import setitem
from typing import Any

import numpy as np

from fastopt.arrays.containers import check_param, in_list, keys_and_values
from fastopt.arrays.layout import Slot
from fastopt.checkpoints.parsing import MAX_STEPS, parse, value_of
from fastopt.checkpoints.upgrades import SUMS, upgraded
from fastopt.engine.memory import Memory
from fastopt.engine.quantized import QuantizedArray
from fastopt.options.schedule import Schedules
from fastopt.schedules.base import form_of, is_schedule, resume_calls

__all__ = [
    "MAX_STEPS", "Calls", "capture", "copy_params", "param_calls", "parse", "restore_calls",
]  # fmt: skip

Calls = list[Callable[[], Any]]


def capture(optimizer: Any, *, with_inner: bool = True) -> dict[str, Any]:
    """Return the state dict of an optimizer, if need be without those of the optimizers inside."""
    memory = optimizer.engine.memory
    own = {name: getattr(optimizer, name) for name in optimizer.saved_fields()}
    own |= {name: form_of(schedule) for name, schedule in optimizer.schedules.items()}
    state = captured_memory(memory, type(optimizer).__name__, own, optimizer.skipped)
    inner = {} if optimizer.accumulation is None else {SUMS: captured_sums(optimizer.accumulation)}
    if with_inner:
        inner |= {name: other.capture() for name, other in optimizer.inner.items()}
    return state | {"inner": inner} if inner else state


def captured_sums(accumulation: Any) -> dict[str, Any]:
    """Return the state dict of the sums of micro-batches that are in."""
    memory, filled = accumulation.engine.memory, dict(accumulation.filled)
    for key in [key for key in memory.layout if key not in filled]:
        memory = memory.without(key)
    if not filled:
        memory = Memory(memory.specs)
    return captured_memory(memory, "Accumulation", {}, 0) | {"iter": 0, "counts": filled}


def captured_memory(
    memory: Memory, name: str, hyperparameters: dict[str, Any], skipped: int
) -> dict[str, Any]:
    """Return the state dict of a memory."""
    states: dict[str, Any] = {}
    for spec in memory.specs:
        copies: dict[Any, np.ndarray] = {
            key: own.saved() if isinstance(own, QuantizedArray) else own.copy(order="K")
            for key, own in memory.stored(spec.name).items()
        }
        states[spec.name] = (
            None if memory.container is None else in_list(copies) if memory.container is list else copies
        )
    steps = max(memory.steps.item(), 0)
    counts = {key: memory.count_of(key) for key in memory.layout}
    result = {
        "class": name,
        "iter": steps,
        "skipped": skipped,
        "hyperparameters": hyperparameters,
        "state": states,
    }
    layout = memory.layout.items() if memory.specs else ()
    shapes = {key: slot.shape for key, slot in layout if told_shape(memory, slot) != slot.shape}
    if shapes:
        result["shapes"] = shapes
    if memory.apart:
        form = next(spec.format for spec in memory.specs if spec.rounding is not None)
        slots = [(key, memory.layout[key]) for key in memory.apart]
        result["quantized"] = {key: (form, slot.dtype.name, slot.shape, slot.order) for key, slot in slots}
    if not memory.specs:  # nothing else tells which parameters there are
        counts = {**memory.saved_counts, **counts}
        return result | {"counts": counts} if counts else result
    return result if set(counts.values()) <= {steps} else result | {"counts": counts}


def told_shape(memory: Memory, slot: Slot) -> tuple[int, ...]:
    """Return the shape of a parameter as its states tell it: theirs, broadcast."""
    if not all(spec.shape for spec in memory.specs):
        return slot.shape
    return np.broadcast_shapes(*(spec.shape(slot.shape) for spec in memory.specs if spec.shape))


def restore_calls(optimizer: Any, state: Any, n_updates: int | None = None) -> Calls:
    """Return the C calls that put a state dict in the place of an optimizer's state.

    ``n_updates`` is the number of updates by which schedules go, if it isn't that in the state.
    """
    state = upgraded(state, optimizer)
    checked, saved, sums = parse(optimizer, state, n_updates)
    n_updates = state["iter"] if n_updates is None else n_updates
    calls: Calls = []
    schedules = {name: value for name, value in checked.items() if is_schedule(value)}
    for name, schedule in schedules.items():
        checked[name] = optimizer.saved_fields()[name](name, value_of(name, schedule, n_updates))
        present = optimizer.schedules.get(name)
        resumed = None if present is None else resume_calls(present, schedule)
        if resumed is not None:
            calls += resumed
            schedules[name] = present
    attributes = optimizer.changed_attributes(checked, Schedules(schedules), state["skipped"])
    calls.append(partial(vars(optimizer).update, attributes))
    calls += optimizer.engine.replace_calls(saved.memory(optimizer.engine.memory))
    accumulation = attributes["accumulation"]
    if accumulation is not None:
        memory = Memory([accumulation.spec])
        calls += accumulation.engine.replace_calls(memory if sums is None else sums.memory(memory))
    for name, other in optimizer.inner.items():
        calls += other.restore_calls(state["inner"][name], n_updates)
    return calls


def copy_params(params: Any) -> Any:
    """Return copies of parameters that can be stepped on."""
    keys, values = keys_and_values(params)
    for key, value in zip(keys, values, strict=True):
        check_param(key, value, True)
    copies = [np.array(value, order="C", subok=False) for value in values]
    return dict(zip(keys, copies, strict=True))


def param_calls(saved: Any, params: Any) -> Calls:
    """Return the C calls that copy saved parameters into these.

    Raises
    ------
    TypeError, ValueError
        If they don't fit.
    """
    if params is None:
        return []
    if saved is None:
        raise ValueError("it has no parameters: save(path, params) writes them")
    keys, values = keys_and_values(params)
    if {*keys} != {*saved}:
        odd = [*({*keys} ^ {*saved})]
        raise ValueError(f"it has other parameters than these: only one has {odd[:5]}")
    result: list[Callable[[], Any]] = []
    for key, value in zip(keys, values, strict=True):
        check_param(key, value, isinstance(params, MutableMapping | MutableSequence))
        new, old = saved[key], np.asarray(value)
        if (new.shape, new.dtype) != (old.shape, old.dtype.newbyteorder("=")):
            raise ValueError(
                f"its parameter {key!r} is {new.dtype} of shape {new.shape}, "
                f"this one {old.dtype} of shape {old.shape}"
            )
        if isinstance(value, np.ndarray):
            result.append(partial(setitem, value, ..., new))
        else:
            result.append(partial(setitem, params, key, type(value)(new)))
    return result
