"""What a state dict must be, before anything of it is put in place."""

from collections.abc import Callable, Hashable, Mapping
from functools import partial
from math import prod
from typing import Any, NamedTuple

import numpy as np

from fastopt.arrays.containers import items
from fastopt.arrays.layout import Layout, Slot, order_of
from fastopt.checkpoints.upgrades import SUMS, WANTED, upgraded
from fastopt.checks import shortened
from fastopt.engine.memory import Memory, StateSpec, is_apart
from fastopt.engine.quantized import SavedCodes
from fastopt.kernels.quantization import FORMATS
from fastopt.options.schedule import checked_value
from fastopt.schedules.base import Schedule, StepFunction, is_schedule

__all__ = ["MAX_STEPS", "Saved", "parse", "value_of"]

MAX_STEPS = 2**62  # which int64 can count on from
MAX_DIMENSIONS, MAX_SIZE = 64, 2**59  # of NumPy's arrays of eight bytes an element

# What a state dict has only if there is something to say.
OPTIONAL = frozenset(("counts", "inner", "quantized", "shapes"))

# Options that have states: whether these are there depends on the optimizer.
STATEFUL = frozenset(("accumulate", "ema", "lookahead", "swa"))


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
    if not isinstance(state, Mapping) or sorted({*state} - OPTIONAL) != WANTED:
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
    shapes = parse_shapes(state.get("shapes", {}))
    slots = parse_quantized(state.get("quantized", {}), parts, specs)
    layout = parse_layout(parts, specs, is_whole, shapes, slots)
    if known.layout and container is not None:
        compare_layouts(layout, known.layout)
    counts = parse_counts(state.get("counts"), layout if specs else None, state["iter"])
    return checked, Saved(layout, container, parts, counts, state["iter"])


def parse_shapes(shapes: Any) -> dict[Hashable, tuple[int, ...]]:
    """Return the shapes of parameters that their states don't tell."""
    result: dict[Hashable, tuple[int, ...]] = {}
    for key, shape in shapes.items() if isinstance(shapes, Mapping) else [(None, None)]:
        sizes = shape if isinstance(shape, tuple | list) else (None,)
        is_shape = len(sizes) <= MAX_DIMENSIONS and all(type(n) is int and n >= 0 for n in sizes)
        if not is_shape or prod(max(n, 1) for n in sizes) > MAX_SIZE:
            raise ValueError(f"its shapes are {shortened(shapes)}, not those of some parameters")
        result[key] = tuple(sizes)
    return result


def parse_quantized(
    told: Any, parts: dict[str, dict[Hashable, Any]], specs: Mapping[str, StateSpec]
) -> dict[Hashable, Slot]:
    """Return the slots of parameters with states in fewer bytes, and put `SavedCodes` in their places."""
    result: dict[Hashable, Slot] = {}
    pairs: Any = told.items() if isinstance(told, Mapping) else [(None, ())]
    for key, own in pairs:
        try:
            name, kind, shape, order = own
            is_known = name in FORMATS and kind in ("float32", "float64") and order in ("C", "F")
            is_known &= any(spec.quantized for spec in specs.values())
        except (TypeError, ValueError):
            is_known = False
        if not is_known:
            raise ValueError(f"its quantized is {shortened(told)}, not the format, dtype, shape and order")
        shape = parse_shapes({key: shape})[key]
        if not prod(shape):
            raise ValueError(f"its quantized has {key!r}, which has no elements")
        if any(key not in values for values in parts.values()):
            raise ValueError(f"its quantized has {key!r}, of which it has no states")
        slot = result[key] = Slot(shape, np.dtype(kind), order, 0, prod(shape))
        for part, values in parts.items():
            rounding = specs[part].rounding_in(name)
            if rounding is not None and key in values:
                values[key] = SavedCodes(values[key], slot.size, slot.dtype, rounding)
                if not values[key].is_valid():
                    raise ValueError(f"its {part} of {key!r} isn't {name} of shape {shape}")
    return result


def parse_layout(
    parts: Mapping[str, Mapping[Hashable, Any]],
    specs: Mapping[str, StateSpec],
    is_whole: bool,
    shapes: Mapping[Hashable, tuple[int, ...]],
    slots: Mapping[Hashable, Slot],
) -> Layout:
    """Return the layout of the parameters, from the arrays of their states, and what these don't tell."""
    first = next(iter(parts.values()), {})
    for name, part in parts.items():
        if part.keys() != first.keys():
            others = f"another of its states {shortened(list(first))}"
            raise ValueError(f"its {name} has {shortened(list(part))}, {others}")
        for key, array in part.items():
            is_full = isinstance(array, np.ndarray) and array.dtype in (np.float32, np.float64)
            if not (is_full or isinstance(array, SavedCodes)):
                raise ValueError(f"its {name} of {key!r} is no array of float32 or float64")
    layout = Layout()
    for key in first:
        arrays = {name: part[key] for name, part in parts.items() if not isinstance(part[key], SavedCodes)}
        if key in slots:
            shape, dtype, order = slots[key][:3]
            if any((array.shape, array.dtype) != (shape, dtype) for array in arrays.values()):
                raise ValueError(f"its states of {key!r} are unlike what it says of them")
            layout.place(key, shape, dtype, order, is_apart=is_apart(specs.values(), shape))
            continue
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
        order = "C" if is_whole else order_of(one)
        layout.place(key, shape, one.dtype, order, is_apart=is_apart(specs.values(), shape))
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
