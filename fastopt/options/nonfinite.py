"""Gradients that aren't finite: what to do with them, and what is said of them."""

import sys
import warnings
from collections.abc import Hashable
from dataclasses import dataclass
from os.path import dirname

from fastopt.checks import choice

__all__ = ["NonfiniteFields", "describe_nonfinite", "warn_of_nonfinite"]

PACKAGE = dirname(dirname(__file__))


@dataclass(init=False, repr=False, eq=False, kw_only=True)
class NonfiniteFields:
    """The field of this option.

    Parameters
    ----------
    nonfinite : {"warn", "raise", "skip"}, default "warn"
        What `update` does on NaN or infinity: "warn", "raise" or "skip". Gradients are looked at in their
        parameter's dtype, and values whose square overflows count as infinite. "warn" takes the step and
        warns at the first such gradient. "raise" raises FloatingPointError and "skip" returns False and
        counts in ``skipped``, both with nothing changed.
    """

    nonfinite: str = choice("warn", "warn", "raise", "skip")


def describe_nonfinite(key: Hashable, step: int) -> str:
    """Return what is wrong with the gradient of a parameter, or with a sum of gradients for the key None."""
    name = "a sum of micro-batches" if key is None else f"the gradient of {key!r}"
    return f"{name} has NaN, infinity, or a value whose square overflows at step {step}"


def warn_of_nonfinite(key: Hashable, step: int) -> None:
    """Warn of a gradient that isn't finite, at the first line outside fastopt that led here."""
    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(PACKAGE):
        level, frame = level + 1, frame.f_back
    warnings.warn(
        f"{describe_nonfinite(key, step)}; nonfinite='raise' or 'skip' refuses such steps",
        RuntimeWarning,
        stacklevel=level + 1,
    )
