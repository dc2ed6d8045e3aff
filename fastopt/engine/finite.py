"""Gradients that aren't finite: which one, and the error that refuses a step with it.

The driver finds non-finite gradients, piece by piece in the first cache (`fastopt.engine.native.checking`).
With ``nonfinite="raise"`` or ``"skip"``, a strict check looks at all gradients, rounded to the parameters'
dtypes, before anything changes. A driver that refuses leads to the plan in Python, which finds the key.
Options that hide a value, such as clipping, look for it before they clip.
"""

from collections.abc import Hashable

import numpy as np

from fastopt.arrays.layout import Layout
from fastopt.arrays.rows import Rows
from fastopt.engine.plain import all_finite
from fastopt.engine.plan import Arrays

__all__ = ["NonfiniteGradientError", "check_finite", "find_nonfinite"]


class NonfiniteGradientError(FloatingPointError):
    """A gradient has NaN, infinity, or a value whose square overflows."""


def check_finite(arrays: Arrays, layout: Layout) -> None:
    """Raise NonfiniteGradientError if a gradient isn't finite."""
    key = find_nonfinite(arrays, layout)
    if key is not None:
        raise NonfiniteGradientError(key)


def find_nonfinite(arrays: Arrays, layout: Layout) -> Hashable | None:
    """Return the key of the first gradient that, in its parameter's dtype, isn't finite."""
    for key, _, grad in zip(*arrays.by_array(), strict=True):
        values = grad.values if isinstance(grad, Rows) else grad
        with np.errstate(all="ignore"):
            if not all_finite(np.asarray(values, layout[key].dtype)):
                return key
    return None
