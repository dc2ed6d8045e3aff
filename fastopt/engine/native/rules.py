"""What calls a kernel: functions that the step calls by their address."""

from collections.abc import Callable
from types import FunctionType
from typing import Any

import numpy as np

from fastopt.engine.native.checking import finite_array
from fastopt.engine.native.pointers import arrays_at, scalars_at, word_at
from fastopt.engine.table import PIECE
from fastopt.kernels.jit import internal

__all__ = ["caller"]


def rule(*arguments):
    """Stand for the kernel: `caller` puts one in its place."""
    raise NotImplementedError


# Numba takes globals for a part of the code: `caller` gives each copy of these functions its own.
DTYPE, N_ARRAYS, N_SCALARS = np.dtype(np.float64), 2, 3
DOUBLE = np.dtype(np.float64)


def run_on_elements(elements, scalars):
    """Run an element-wise kernel piece by piece. Returns 1 if the gradient isn't finite, else 0."""
    values = scalars_at(scalars, N_SCALARS, DTYPE)
    size = word_at(elements + 24)
    found = 0
    for first in range(0, size, PIECE):
        arrays = arrays_at(elements + 16, N_ARRAYS, DTYPE, first, min(PIECE, size - first))
        if not finite_array(arrays[1]):
            found = 1
        rule(*arrays, *values)
    return found


def run_on_arrays(arguments, scalars):
    """Run a kernel of whole arrays, with the room for its statistics and their totals."""
    arrays = arrays_at(arguments + 16, N_ARRAYS, DTYPE, 0, -1)
    room = arrays_at(arguments + 16 + 16 * N_ARRAYS, 2, DOUBLE, 0, -1)
    rule(word_at(arguments), word_at(arguments + 8), *arrays, *room, *scalars_at(scalars, N_SCALARS, DOUBLE))
    return 0


def caller(kernel: Any, dtype: np.dtype[Any], n_arrays: int, n_scalars: int, is_whole: bool) -> Any:
    """Return the function ``run(arguments, scalars)`` that calls a kernel, given as to `kernel_unit`."""
    template = run_on_arrays if is_whole else run_on_elements
    own = {"rule": kernel, "DTYPE": dtype, "N_ARRAYS": n_arrays, "N_SCALARS": n_scalars}
    copy: Callable[..., Any] = FunctionType(template.__code__, {**globals(), **own}, kernel.__name__)
    return internal(copy)
