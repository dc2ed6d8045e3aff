"""What all kernels share."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fastopt.compiling import compiled

__all__ = ["gradient", "kernel", "signed"]

SOURCE = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:12]


def kernel(function: Callable[..., Any]) -> Any:
    """Compile a rule."""
    # Numba's disk cache notices edits in the function's own file only, so that the name tells this one's.
    function.__qualname__ = f"{function.__name__}_{SOURCE}"
    return compiled(function)


@compiled
def gradient(grad, param, grad_scale, l2):
    """grad_scale·grad + l2·param."""
    # Without L2 the sum is with -0, the neutral element: 0·param would turn an infinite parameter
    # into NaN, and +0 the sign of a gradient of -0. The choice is the same for the whole loop, so
    # that the compiler takes it out.
    return grad_scale * grad + (l2 * param if l2 else -l2)


@compiled
def signed(length, x):
    """length·sign(x), with NumPy's sign: 0 for zeros of both signs, NaN for NaN."""
    return length if x > 0 else (-length if x < 0 else x - x)
