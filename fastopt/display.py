"""Short texts of values, for `repr`."""

from collections.abc import Iterable, Mapping
from dataclasses import MISSING
from typing import Any

import numpy as np

from fastopt.schedules.base import Schedule, fields_of, is_saved

__all__ = ["format_call", "format_value"]


def format_float(value: float) -> str:
    """Return a number with six significant digits, and with more where its distance from 1 needs them."""
    for digits in (6, 9, 12):
        short = float(f"{value:.{digits}g}")
        # Decay rates such as 0.9999999 mean their distance from 1; 1e-13 is the rounding of a few products.
        if abs(short - value) <= max(1e-5 * min(abs(value), abs(1 - value)), 1e-13 * abs(value)):
            return repr(short)
    return repr(float(value))


def format_value(value: Any) -> str:
    """Return the short text of a hyperparameter or an option.

    Functions are shown by their names, schedules as constructor calls, and numbers rounded.
    """
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return format_float(value)
    if isinstance(value, Mapping):
        pairs = (f"{format_value(key)}: {format_value(own)}" for key, own in value.items())
        return f"{{{', '.join(pairs)}}}"
    if type(value) is tuple:
        return f"({', '.join(map(format_value, value))}{',' * (len(value) == 1)})"
    if type(value) is list:
        return f"[{', '.join(map(format_value, value))}]"
    if isinstance(value, Schedule):
        return format_schedule(value)
    name = getattr(value, "__name__", None) if callable(value) else None
    return name if isinstance(name, str) else repr(value)


def format_schedule(schedule: Schedule) -> str:
    """Return the constructor call of a schedule, without arguments that have their default."""
    if not is_saved(schedule):
        own = type(schedule).__repr__ is not object.__repr__
        return repr(schedule) if own else f"{type(schedule).__name__}(...)"
    positional, named = [], {}
    for known in fields_of(schedule):
        value = getattr(schedule, known.name)
        if known.default is MISSING and not known.kw_only:
            positional.append(format_value(value))
        elif value != known.default:
            named[known.name] = value
    return format_call(type(schedule).__name__, positional, named)


def format_call(name: str, positional: Iterable[str], named: Mapping[str, Any]) -> str:
    """Return the text of a call, given the texts of its positional arguments and the values of the others."""
    arguments = [*positional, *(f"{key}={format_value(value)}" for key, value in named.items())]
    return f"{name}({', '.join(arguments)})"
