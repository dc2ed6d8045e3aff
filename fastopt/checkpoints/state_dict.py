"""State dicts: what is saved of an optimizer, what a saved one must be, and how it is put in place."""

from collections.abc import Callable, Hashable, Mapping, MutableMapping, MutableSequence
from functools import partial
from math import prod
from operator import setitem
from typing import Any, NamedTuple

import numpy as np

from fastopt.arrays.containers import check_param, in_list, items, keys_and_values
from fastopt.arrays.layout import Layout, Slot, order_of
from fastopt.checkpoints.upgrades import SUMS, WANTED, upgraded
from fastopt.checks import shortened
from fastopt.engine.memory import Memory
from fastopt.options.schedule import Schedules, checked_value
from fastopt.schedules.base import Schedule, StepFunction, form_of, is_schedule, resume_calls

__all__ = [
    "MAX_STEPS", "Calls", "capture", "copy_params", "param_calls", "parse", "restore_calls",
]  # fmt: skip

MAX_STEPS = 2**62  # which int64 can count on from

Calls = list[Callable[[], Any]]

# Options that have states: whether these are there depends on the optimizer.
STATEFUL = frozenset(("accumulate", "ema", "lookahead", "swa"))


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
            key: view.copy(order="K") for key, view in memory.views(spec.name).items()
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


def value_of(name: str, schedule: StepFunction, steps: int) -> Any:
    """Return the value of a hyperparameter after so many steps."""
    try:
        return schedule(max(steps, 1))
    except ArithmeticError as error:
        raise ValueError(f"its {name} can't be computed at step {steps}: {error}") from None


def check_saved(
    optimizer: Any, check: Callable[[str, Any], Any], n_updates: Callable[[], int], name: str, value: Any
) -> Any:
    """Return the saved value of a hyperparameter, or its schedule, if that gives such a value.

    Parameters
    ----------
    optimizer : Optimizer
        Whose schedule may have functions, and classes, that the saved one needs.
    check : callable
        The check of its values.
    n_updates : callable
        Returns the number of updates so far, once that has been checked.
    name : str
        The hyperparameter.
    value : object
        What is saved.
    """
    if isinstance(value, Mapping):
        value = Schedule.from_dict(value, optimizer.schedules.get(name))
    elif not is_schedule(value):
        return check(name, value)
    steps = n_updates()
    checked_value(value_of(name, value, steps), value, max(steps, 1), name, check)
    return value


class Saved(NamedTuple):
    """The state that a state dict has, checked, before any memory is taken for it."""

    layout: Layout
    container: type | None
    states: Mapping[str, Mapping[Hashable, Any]]
    counts: Mapping[Hashable, int]
    steps: int

    def memory(self, like: Memory) -> Memory:
        """Return a memory that holds copies of it."""
        return like.with_states(self.layout, self.container, self.states, self.counts, self.steps)


def other_options(there: list[Any], wanted: list[str]) -> str:
    """Return which options a state has, and which the optimizer, if that is the difference."""
    options = [sorted({str(key).split(".")[0] for key in own if "." in str(key)}) for own in (there, wanted)]
    if options[0] == options[1]:
        return ""
    saved, own = (" and ".join(names) or "none of these" for names in options)
    return f": it was saved with {saved}, this optimizer has {own}; make it with the same"


def parse(
    optimizer: Any, state: Any, n_updates: int | None = None
) -> tuple[dict[str, Any], Saved, Saved | None]:
    """Return hyperparameters, state and sums of micro-batches of a state dict.

    ``n_updates`` is the number of updates by which schedules go, if it isn't that in the state.

    Raises
    ------
    ValueError
        If it isn't a state dict, or doesn't fit to the optimizer.
    """
    own = type(optimizer).__name__
    state = upgraded(state, optimizer)
    checks = dict(optimizer.saved_fields())

    def n_steps() -> int:
        return int(state["iter"]) if n_updates is None else n_updates

    for name, known in type(optimizer).__dataclass_fields__.items():
        if name in checks and known.metadata.get("scheduled") and optimizer.why_unscheduled(name) is None:
            checks[name] = partial(check_saved, optimizer, checks[name], n_steps)
    memory = optimizer.engine.memory
    checked, saved = parse_memory(state, own, memory, checks, optimizer.engine.rule.is_whole)
    inner = state.get("inner", {})
    wanted = {SUMS} if optimizer.accumulation is not None else set()
    if not isinstance(inner, Mapping) or set(inner) != wanted | {*optimizer.inner}:
        names = [f"accumulate={checked.get('accumulate')}" if name == SUMS else str(name) for name in inner]
        here = [f"accumulate={optimizer.accumulate}"] * len(wanted) + list(optimizer.inner)
        raise ValueError(
            f"it was saved with {', '.join(names) or 'nothing inside'}, "
            f"this is {own}({', '.join(here)}): make one like it"
        )
    for name in STATEFUL & {*checked}:
        off = 1 if name == SUMS else None
        if (checked[name] == off) != (getattr(optimizer, name) == off):
            own_value = f"{name}={getattr(optimizer, name)}"
            raise ValueError(
                f"it was saved with {name}={checked[name]}, this is {own}({own_value}): make one like it"
            )
    for name, other in optimizer.inner.items():
        try:
            other.check_state(inner[name], n_steps())
        except ValueError as error:
            raise ValueError(f"its {name}: {error}") from None
    if not wanted:
        return checked, saved, None
    try:
        _, sums = parse_memory(inner[SUMS], "Accumulation", Memory([optimizer.accumulation.spec]), {}, False)
    except ValueError as error:
        raise ValueError(f"its {SUMS}: {error}") from None
    most = max(sums.counts.values(), default=0)
    if most >= checked["accumulate"]:
        raise ValueError(f"its {SUMS}: there are {most} micro-batches in")
    return checked, saved, sums


def parse_memory(
    state: Any, own: str, known: Memory, checks: Mapping[str, Callable[[str, Any], Any]], is_whole: bool
) -> tuple[dict[str, Any], Saved]:
    """Return the hyperparameters and the state of a state dict.

    Raises
    ------
    ValueError
        If it isn't a state dict, or of other parameters than those that are known.
    """
    if not isinstance(state, Mapping) or sorted({*state} - {"counts", "inner", "shapes"}) != WANTED:
        raise ValueError(f"it must be a dict of {', '.join(WANTED)}, as state_dict gives it")
    if state["class"] != own:
        raise ValueError(f"it is the state of {state['class']!r}, not of {own}")
    for name in ("iter", "skipped"):
        if type(state[name]) is not int or not 0 <= state[name] < MAX_STEPS:
            raise ValueError(f"its {name} is {state[name]!r}, which is no number of steps")
    specs = {spec.name: spec for spec in known.specs}
    for name, there, wanted in (
        ("hyperparameters", state["hyperparameters"], list(checks)),
        ("states", state["state"], list(specs)),
    ):
        if not isinstance(there, Mapping) or sorted(there) != sorted(wanted):
            hint = other_options([*there], wanted) if isinstance(there, Mapping) else ""
            found = shortened(list(there) if isinstance(there, Mapping) else there)
            raise ValueError(f"its {name} are {found}, those of {own} are {wanted}{hint}")
    checked = {name: checks[name](name, value) for name, value in state["hyperparameters"].items()}
    kinds = {type(values) for values in state["state"].values()}
    if len(kinds) > 1 or not kinds <= {dict, list, type(None)}:
        raise ValueError("its states must all be dicts, or all lists, or all None")
    container = None if kinds <= {type(None)} else kinds.pop()
    if container is not None and known.layout and container is not known.container:
        raise ValueError(f"its states are in a {container.__name__}, this optimizer's are not")
    parts = {name: dict(items(values or {})) for name, values in state["state"].items()}
    layout = parse_layout(parts, specs, is_whole, parse_shapes(state.get("shapes", {})))
    if known.layout and container is not None:
        compare_layouts(layout, known.layout)
    counts = parse_counts(state.get("counts"), layout if specs else None, state["iter"])
    return checked, Saved(layout, container, parts, counts, state["iter"])


def parse_shapes(shapes: Any) -> dict[Hashable, tuple[int, ...]]:
    """Return the shapes of parameters that their states don't tell."""
    result: dict[Hashable, tuple[int, ...]] = {}
    for key, shape in shapes.items() if isinstance(shapes, Mapping) else [(None, None)]:
        sizes = shape if isinstance(shape, tuple | list) else (None,)
        if not all(type(n) is int and n >= 0 for n in sizes) or prod(sizes) >= MAX_STEPS:
            raise ValueError(f"its shapes are {shortened(shapes)}, not those of some parameters")
        result[key] = tuple(sizes)
    return result


def parse_layout(
    parts: Mapping[str, Mapping[Hashable, Any]],
    specs: Mapping[str, Any],
    is_whole: bool,
    shapes: Mapping[Hashable, tuple[int, ...]],
) -> Layout:
    """Return the layout of the parameters, from the arrays of their states, and what these don't tell."""
    first = next(iter(parts.values()), {})
    for name, part in parts.items():
        if part.keys() != first.keys():
            others = f"another of its states {shortened(list(first))}"
            raise ValueError(f"its {name} has {shortened(list(part))}, {others}")
        for key, array in part.items():
            if not isinstance(array, np.ndarray) or array.dtype not in (np.float32, np.float64):
                raise ValueError(f"its {name} of {key!r} is no array of float32 or float64")
    layout = Layout()
    for key in first:
        arrays = {name: part[key] for name, part in parts.items()}
        one = next(iter(arrays.values()))
        try:
            shape = np.broadcast_shapes(*(array.shape for array in arrays.values()))
        except ValueError:
            shape = one.shape
        shape = next((array.shape for name, array in arrays.items() if specs[name].shape is None), shape)
        shape = shapes.get(key, shape)
        for name, array in arrays.items():
            wanted = specs[name].shape
            if (array.shape, array.dtype) != (wanted(shape) if wanted else shape, one.dtype):
                raise ValueError(f"its {name} of {key!r} is unlike its other states")
        layout.place(key, shape, one.dtype, "C" if is_whole else order_of(one))
    return layout


def compare_layouts(layout: Layout, known: Layout) -> None:
    """Raise ValueError if saved parameters aren't those of the optimizer."""
    if layout.keys() != known.keys():
        sides = ("it", layout, known), ("this optimizer", known, layout)
        odd = [(who, [key for key in own if key not in other][:5]) for who, own, other in sides]
        only = ", ".join(f"only {who} has {keys}" for who, keys in odd if keys)
        raise ValueError(f"it has other parameters than this optimizer: {only}")
    for key, slot in layout.items():
        if slot[:2] != known[key][:2]:
            raise ValueError(
                f"its state of {key!r} is {slot.dtype} of shape {slot.shape}, this optimizer's is "
                f"{known[key].dtype} of shape {known[key].shape}"
            )


def parse_counts(counts: Any, layout: Layout | None, steps: int) -> dict[Hashable, int]:
    """Return how many steps each parameter has taken.

    A state dict of a rule without states names its parameters in the counts only.
    """
    if counts is None:
        return dict.fromkeys(layout or (), steps)
    pairs = dict(counts) if isinstance(counts, Mapping) else {}
    is_known = layout is None or pairs.keys() == layout.keys()
    if not is_known or not all(type(n) is int and 0 <= n < MAX_STEPS for n in pairs.values()):
        raise ValueError(f"its counts are {shortened(counts)}, not a number of steps for each parameter")
    return pairs


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
