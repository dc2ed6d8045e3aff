"""What the arguments have to be: an error says which one isn't, and what would be right."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import field
from math import inf, isfinite
from numbers import Real
from reprlib import Repr
from typing import Any

import numpy as np

__all__ = [
    "choice",
    "chosen",
    "computed",
    "hyperparameter",
    "integer",
    "kind",
    "listed",
    "number",
    "renamed",
    "shortened",
    "whole",
]


def kind(value: Any) -> str:
    """Name a value's type with its article."""
    if value is None:
        return "None"
    name = "type" if isinstance(value, type) else type(value).__name__
    return f"{'an' if name[0] in 'aeiouAEIOU' else 'a'} {name}"


def shortened(value: Any) -> str:
    """Show a value that may be as long as whoever made a file likes."""
    return REPR.repr(value)


REPR = Repr()
REPR.maxlist = REPR.maxdict = REPR.maxtuple = 40
REPR.maxstring = REPR.maxother = 80


def number(
    name: str,
    value: Any,
    *,
    least: float = 0,
    above: float = -inf,
    most: float = inf,
    below: float = inf,
) -> float:
    """Give a finite number between bounds as a float, or say why it is none."""
    # The usual type comes first, as a schedule's value is checked at each step.
    if type(value) is not float and (isinstance(value, bool) or not isinstance(value, Real)):
        shown = repr(value) if isinstance(value, str | bool) else kind(value)
        raise TypeError(f"{name} must be a number, not {shown}{instead(name, value)}")
    try:
        result = float(value)
    except OverflowError:  # an integer
        result = inf
    if not (isfinite(result) and least <= result <= most and above < result < below):
        low = f"above {above:g}" if above >= 0 else f"at least {least:g}" if least > -inf else "finite"
        high = f"at most {most:g}" if most < inf else f"below {below:g}" if below < inf else "finite"
        raise ValueError(f"{name} must be {low} and {high}, not {value}")
    return result


def instead(name: str, value: Any) -> str:
    """Return what to write instead of something that is no number."""
    if isinstance(value, str):
        try:
            return f": write {name}={float(value):g}"
        except ValueError:
            return ""
    if isinstance(value, type) and name == "lr":
        return f": write an object of it, lr={value.__name__}(...)"
    if callable(value) and name == "lr":
        return ": write lr=schedule(t), the value at this step"
    return ""


def integer(name: str, value: Any, least: int = 0) -> int:
    """Give a whole number from a bound as an int, or say why it is none."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise TypeError(f"{name} must be a whole number, not {kind(value)}")
    if value < least:
        raise ValueError(f"{name} must be at least {least}, not {value}")
    return int(value)


def listed(name: str, values: Any) -> list[Any]:
    """Give what an argument has as a list, or say that it is no list."""
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise TypeError(f"{name} must be a list, not {values!r}")
    return list(values)


def computed(name: str, dtype: Any) -> str:
    """Give the name of a dtype that kernels compute in, or say which those are."""
    try:
        found = np.dtype(dtype).name
    except TypeError:
        found = repr(dtype)
    if found not in ("float32", "float64"):
        raise ValueError(f"{name} must be float32 or float64, not {found}")
    return found


def hyperparameter(
    default: float | None,
    *,
    repr: bool = True,
    fixed: bool = False,
    of: str | None = None,
    scheduled: bool = True,
    **bounds: float,
) -> Any:
    """Give the field of a rule for a finite number between bounds, those of `number`.

    Parameters
    ----------
    default : float or None
        The value if none is given. If it is None, so may the value be.
    repr : bool
        Whether the optimizer shows it.
    fixed : bool
        Whether it can no longer change after the first step, and so have no schedule.
    of : str, optional
        The field without which it has no effect.
    scheduled : bool
        Whether it may have a schedule.
    **bounds : float
        ``least`` (0 if it isn't given), ``above``, ``most`` and ``below``.

    Examples
    --------
    >>> from dataclasses import dataclass
    >>> @dataclass(eq=False)
    ... class Halved(fastopt.SGD):
    ...     share: float = fastopt.hyperparameter(0.5, most=1)
    >>> Halved(share=2)
    Traceback (most recent call last):
    ValueError: share must be at least 0 and at most 1, not 2
    """

    def check(name: str, value: Any) -> float | None:
        return None if value is None and default is None else number(name, value, **bounds)

    metadata = {"check": check, "fixed": fixed, "of": of, "scheduled": scheduled and not fixed}
    return field(default=default, repr=repr, metadata={**metadata, "bounds": {"least": 0, **bounds}})


def whole(
    default: int | None,
    *,
    repr: bool = True,
    least: int = 0,
    fixed: bool = False,
    of: str | None = None,
) -> Any:
    """Give the field of a rule for a whole number from a bound.

    Parameters
    ----------
    default : int or None
        The value if none is given. If it is None, so may the value be.
    repr : bool
        Whether the optimizer shows it.
    least : int
        The bound.
    fixed : bool
        Whether it can no longer change after the first step.
    of : str, optional
        The field without which it has no effect.
    """

    def check(name: str, value: Any) -> int | None:
        return None if value is None and default is None else integer(name, value, least)

    metadata = {"check": check, "fixed": fixed, "of": of, "bounds": {"least": least}}
    return field(default=default, repr=repr, metadata=metadata)


def choice(default: Any, *values: Any, fixed: bool = False, of: str | None = None) -> Any:
    """Give the field of an option, for one of several values; ``fixed`` and ``of`` as in `hyperparameter`."""

    def check(name: str, value: Any) -> Any:
        return chosen(name, value, values)

    metadata = {"check": check, "fixed": fixed, "of": of, "values": values}
    return field(default=default, repr=False, metadata=metadata)


def chosen(name: str, value: Any, values: Sequence[Any]) -> Any:
    """Give a value that is one of several, or say which those are."""
    if not any(value is known or (type(value) is type(known) and value == known) for known in values):
        shown = ", ".join(map(repr, values[:-1]))
        raise (ValueError if isinstance(value, str) else TypeError)(
            f"{name} must be {shown} or {values[-1]!r}, not {value!r}"
        )
    return value


def renamed(values: Mapping[str, Any], names: Mapping[str, str], known: set[str]) -> dict[str, Any]:
    """Return a dict with the new names of keys that are not known, except for names that it has already."""
    new = {key: names[key] for key in values if key in names and key not in known}
    return {key if new.get(key, key) in values else new[key]: value for key, value in values.items()}
