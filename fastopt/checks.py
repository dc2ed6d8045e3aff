"""What the arguments have to be: an error says which one isn't, and what would be right."""

from math import inf, isfinite
from numbers import Real
from typing import Any

import numpy as np

__all__ = ["kind", "number", "whole"]


def kind(value: Any) -> str:
    """Name a value's type with its article."""
    if value is None:
        return "None"
    name = type(value).__name__
    return f"{'an' if name[0] in 'aeiouAEIOU' else 'a'} {name}"


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
    if isinstance(value, bool) or not isinstance(value, Real):
        shown = repr(value) if isinstance(value, str | bool) else kind(value)
        raise TypeError(f"{name} must be a number, not {shown}")
    result = float(value)
    if not (isfinite(result) and least <= result <= most and above < result < below):
        low = f"above {above:g}" if above >= 0 else f"at least {least:g}" if least > -inf else "finite"
        high = f"at most {most:g}" if most < inf else f"below {below:g}" if below < inf else "finite"
        raise ValueError(f"{name} must be {low} and {high}, not {value}")
    return result


def whole(name: str, value: Any, least: int = 0) -> int:
    """Give a whole number from a bound as an int, or say why it is none."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise TypeError(f"{name} must be a whole number, not {kind(value)}")
    if value < least:
        raise ValueError(f"{name} must be at least {least}, not {value}")
    return int(value)
