"""Wrong inputs, as everybody's Adam takes them by default: ``verify --against faults``."""

import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from fastopt import optimizers
from fastopt.tools.faults.interruptions import NOTES as interruption_notes
from fastopt.tools.faults.interruptions import interruptions
from fastopt.tools.faults.subjects import NoContainer, subjects
from fastopt.tools.report import paragraph, table

__all__ = ["FAULTS", "Fault", "Outcome", "outcome", "start", "summary"]

Both = tuple[Any, Any]


class Fault(NamedTuple):
    """A wrong step, after a right one on a (2, 3) and b (3,), or as the ``first``.

    ``wrong`` makes wrong parameters and gradients of right ones; for them fastopt raises ``error``, with
    nothing changed. FloatingPointError it raises with ``nonfinite="raise"`` only, by default it warns.
    ``row`` is the number in the scoreboard of the tests.
    """

    row: int
    name: str
    error: str
    wrong: Callable[[Any, Any], Both]
    container: type = dict
    first: bool = False


def with_grad(key: str, change: Callable[[np.ndarray], Any]) -> Callable[[Any, Any], Both]:
    """Change a gradient."""
    return lambda params, grads: (params, {**grads, key: change(grads[key])})


def with_param(key: str, change: Callable[[np.ndarray], Any]) -> Callable[[Any, Any], Both]:
    """Change a parameter, and give it a gradient of its shape."""

    def wrong(params: Any, grads: Any) -> Both:
        new = change(params[key])
        return {**params, key: new}, {**grads, key: np.ones(np.shape(new))}

    return wrong


def frozen(array: np.ndarray) -> np.ndarray:
    """Make an array read-only."""
    array.flags.writeable = False
    return array


def of_dtype(dtype: str) -> Fault:
    """Make a parameter of another dtype, from the start."""
    name = {"M8[s]": "datetime", "f8,f8": "structured", "U1": "string"}.get(dtype, dtype)
    return Fault(12, f"{name} parameter", "TypeError", with_param("b", lambda p: p.astype(dtype)), first=True)


def masked(array: np.ndarray) -> np.ndarray:
    """Mask an element."""
    return np.ma.masked_array(array, np.arange(3) == 1)


FAULTS = [
    Fault(1, "gradient missing", "KeyError", lambda p, g: (p, {"a": g["a"]})),
    Fault(2, "lists of two lengths", "ValueError", lambda p, g: (p, g[:1]), list),
    Fault(3, "dict with list", "TypeError", lambda p, g: (p, list(g.values()))),
    Fault(3, "list with dict", "TypeError", lambda p, g: (p, dict(enumerate(g))), list),
    Fault(4, "gradient None", "TypeError", with_grad("b", lambda g: None)),
    Fault(5, "broadcast gradient", "ValueError", with_grad("b", lambda g: g[:1])),
    Fault(5, "gradient a number", "ValueError", with_grad("b", lambda g: 1.0)),
    Fault(6, "reshaped gradient", "ValueError", with_grad("a", lambda g: g.reshape(6))),
    Fault(6, "transposed gradient", "ValueError", with_grad("a", lambda g: g.T)),
    Fault(7, "parameter reshaped", "ValueError", with_param("b", lambda p: p.reshape(1, 3))),
    Fault(7, "parameter resized", "ValueError", with_param("b", lambda p: np.ones(1))),
    Fault(7, "parameter retyped", "ValueError", with_param("b", lambda p: p.astype("float32"))),
    *map(of_dtype, ["int64", "bool", "complex128", "object", "f8,f8", "M8[s]", "U1"]),
    Fault(16, "masked parameter", "TypeError", with_param("b", masked), first=True),
    Fault(16, "masked gradient", "TypeError", with_grad("b", masked)),
    Fault(17, "read-only parameter", "ValueError", with_param("b", frozen)),
    Fault(20, "NaN in a gradient", "FloatingPointError", with_grad("b", lambda g: g * np.nan)),
    Fault(20, "infinite gradient", "FloatingPointError", with_grad("b", lambda g: g * np.inf)),
    Fault(20, "square overflows", "FloatingPointError", with_grad("b", lambda g: g * 1e200)),
    Fault(22, "last of many bad", "ValueError", lambda p, g: (p, [*g[:-1], np.ones((2, 2))]), list),
]


NOTES = """\
An exception alone: nothing has changed. "1 changed": the number of the two parameters with other values
afterwards. "taken": the step was taken, without a word; "warning": it was taken, with a warning. "not
finite": a parameter is NaN or infinite afterwards. "–": the library gets each gradient with its
parameter, in no container. optax and Keras return new arrays, so read-only ones stay as they are. x64:
JAX would round float64 to float32 by default; here it keeps it, as the arrays have it."""


class Outcome(NamedTuple):
    """The result of a wrong step: an exception's and a warning's built-in class, or "", and what changed."""

    error: str
    warning: str
    changed: int  # how many parameters differ from before
    ruined: bool  # whether one of them isn't finite
    possible: bool = True  # whether the input can be given to this library

    def __str__(self) -> str:
        if not self.possible:
            return "–"
        if self.error:
            return f"{self.error}, {self.changed} changed" if self.changed else self.error
        taken = "warning" if self.warning else "taken"
        return f"{taken}, not finite" if self.ruined else f"{taken}, {self.changed} changed"


def start(container: type) -> Both:
    """Return right parameters and gradients."""
    params = {"a": np.ones((2, 3)), "b": np.ones(3)}
    grads = {"a": np.full((2, 3), 0.5), "b": np.full(3, 0.25)}
    return (params, grads) if container is dict else (list(params.values()), list(grads.values()))


def built_in(cls: type) -> str:
    """Return the name of the nearest class that is Python's own."""
    return next(base.__name__ for base in cls.__mro__ if base.__module__ == "builtins")


def outcome(fault: Fault, optimizer: Any) -> Outcome:
    """Take a right step and then the wrong one."""
    params, grads = start(fault.container)
    if not fault.first:
        optimizer.update(params, grads)
    params, grads = fault.wrong(params, grads)
    arrays = [np.asarray(p) for p in (params.values() if isinstance(params, dict) else params)]
    before = [array.copy() for array in arrays]
    error = ""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            optimizer.update(params, grads)
        except NoContainer:
            return Outcome("", "", 0, False, possible=False)
        except Exception as raised:
            error = built_in(type(raised))
    now = [np.asarray(p) for p in (params.values() if isinstance(params, dict) else params)]
    changed = sum(old.tobytes() != new.tobytes() for old, new in zip(before, now, strict=True))
    ruined = any(a.dtype.kind in "fc" and not np.isfinite(a).all() for a in now)
    return Outcome(error, built_in(caught[0].category) if caught else "", changed, ruined)


def summary() -> tuple[str, bool]:
    """Return the table, and whether fastopt did as it should throughout."""
    found = subjects()
    rows, right, strict = [], True, []
    for fault in FAULTS:
        outcomes = {subject.name: outcome(fault, subject.make()) for subject in found}
        own = outcomes["fastopt"]
        if fault.error == "FloatingPointError":
            right &= not own.error and own.warning == "RuntimeWarning"
            raised = outcome(fault, optimizers.Adam(nonfinite="raise"))
            right &= raised.error == fault.error and not raised.changed
            strict.append(fault.name)
        else:
            right &= own.error == fault.error and not own.changed
        rows.append([fault.name, *map(str, outcomes.values())])
    settings = table(["Adam of", "with its defaults"], [[s.name, s.defaults] for s in found], left=(0, 1))
    names = ["fault", *(subject.name for subject in found)]
    moments, is_whole = interruptions(found)
    right &= is_whole
    asked = f'fastopt.Adam(nonfinite="raise") raises FloatingPointError for: {", ".join(strict)}.'
    parts = (
        settings,
        table(names, rows, left=range(len(names))),
        paragraph(" ".join(NOTES.split())),
        paragraph(asked),
        table(["what happens", *names[1:]], moments, left=range(len(names))),
        paragraph(" ".join(interruption_notes.split())),
    )
    return "\n\n".join(parts), right
