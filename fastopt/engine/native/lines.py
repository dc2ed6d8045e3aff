"""The lines of a strided array, along its innermost axis, as a row of the table has them."""

import numpy as np

from fastopt.engine.native.pointers import record_type
from fastopt.engine.table import ROW
from fastopt.kernels.jit import internal

__all__ = ["GRAD", "ONE", "PARAM", "ROW_TYPE", "ZERO", "is_across", "line_offset"]

ROW_TYPE = record_type(ROW)

# Which of a row's arrays. Arguments are NumPy's integers, as Numba compiles a function again for each of
# Python's.
PARAM, GRAD = np.int64(1), np.int64(2)
ZERO, ONE = np.int64(0), np.int64(1)


@internal
def line_offset(pool, axes_at, n_axes, line, which):
    """Return the distance in bytes of a line's first element from the array's.

    ``which`` is PARAM or GRAD.
    """
    offset = 0
    for axis in range(1, n_axes):
        at = axes_at + 3 * axis
        size = pool[at]
        offset += line % size * pool[at + which]
        line //= size
    return offset


@internal
def is_across(pool, row, which):
    """Whether neighboring lines are closer in memory than neighbors in a line."""
    at = row.axes_at + which
    return row.n_axes > 1 and abs(pool[at + 3]) < abs(pool[at])
