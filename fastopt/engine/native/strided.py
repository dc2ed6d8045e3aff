"""Gathering strided arrays into contiguous memory in the first cache, and scattering them back.

An array is read as lines along its innermost axis. A block is some whole lines, or a part of one.
"""

import numpy as np
from numba import float32, float64, int64

from fastopt.engine.native.pointers import call, pointer, record_at, record_type
from fastopt.engine.table import ROW
from fastopt.kernels.jit import internal

__all__ = [
    "GRAD", "ONE", "PARAM", "ROW_TYPE", "ZERO", "gather", "gather_block", "is_across", "scatter",
    "scatter_block",
]  # fmt: skip

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
def copy_in(source, stride, offsets, n_lines, width, target, pitch, by_columns):
    """Copy lines of a strided array, whose elements are ``stride`` apart, to lines ``pitch`` apart."""
    if stride == 1:
        for k in range(n_lines):
            first, start = k * pitch, offsets[k]
            for j in range(width):
                target[first + j] = source[start + j]
    elif by_columns:  # neighbors in memory belong to different lines: read whole cache lines
        for j in range(width):
            for k in range(n_lines):
                target[k * pitch + j] = source[offsets[k] + j * stride]
    else:
        for k in range(n_lines):
            first, start = k * pitch, offsets[k]
            for j in range(width):
                target[first + j] = source[start + j * stride]


@internal
def copy_out(source, stride, offsets, n_lines, width, target, pitch, by_columns):
    """Copy lines ``pitch`` apart to the lines of a strided array, as `copy_in` reads them."""
    if by_columns:
        for j in range(width):
            for k in range(n_lines):
                target[offsets[k] + j * stride] = source[k * pitch + j]
    else:
        for k in range(n_lines):
            first, start = k * pitch, offsets[k]
            for j in range(width):
                target[start + j * stride] = source[first + j]


@internal
def find_lines(pool, row, which, line, n_lines, first, itemsize, offsets):
    """Note where lines begin, in elements. Returns the stride and whether to copy column by column."""
    stride = pool[row.axes_at + which]
    for k in range(n_lines):
        at = line_offset(pool, row.axes_at, row.n_axes, line + k, which)
        offsets[k] = (at + first * stride) // itemsize
    return stride // itemsize, n_lines > 1 and is_across(pool, row, which)


@internal
def is_across(pool, row, which):
    """Whether neighboring lines are closer in memory than neighbors in a line."""
    at = row.axes_at + which
    return row.n_axes > 1 and abs(pool[at + 3]) < abs(pool[at])


@internal
def gather(row_address, pool_address, room, which, line, n_lines, first, width, target, pitch):
    """Copy a block of a parameter (which = PARAM) or gradient (GRAD), rounded to the parameter's dtype.

    ``room`` is memory for `MAX_LINES` integers; lines lie ``pitch`` elements apart at the address ``target``.
    """
    row, pool = record_at(row_address, ROW_TYPE), pointer(pool_address, int64)
    offsets = pointer(room, int64)
    address, itemsize = row.param_address, row.itemsize
    if which == GRAD:
        address, itemsize = row.grad_address, row.grad_itemsize
    stride, by_columns = find_lines(pool, row, which, line, n_lines, first, itemsize, offsets)
    if itemsize == 8:
        source = pointer(address, float64)
        if row.itemsize == 8:
            copy_in(source, stride, offsets, n_lines, width, pointer(target, float64), pitch, by_columns)
        else:
            copy_in(source, stride, offsets, n_lines, width, pointer(target, float32), pitch, by_columns)
    else:
        narrow = pointer(address, float32)
        if row.itemsize == 8:
            copy_in(narrow, stride, offsets, n_lines, width, pointer(target, float64), pitch, by_columns)
        else:
            copy_in(narrow, stride, offsets, n_lines, width, pointer(target, float32), pitch, by_columns)
    return 0


@internal
def scatter(row_address, pool_address, room, line, n_lines, first, width, source, pitch):
    """Copy a block back to the parameter."""
    row, pool = record_at(row_address, ROW_TYPE), pointer(pool_address, int64)
    offsets = pointer(room, int64)
    stride, by_columns = find_lines(pool, row, PARAM, line, n_lines, first, row.itemsize, offsets)
    if row.itemsize == 8:
        values, doubles = pointer(source, float64), pointer(row.param_address, float64)
        copy_out(values, stride, offsets, n_lines, width, doubles, pitch, by_columns)
    else:
        narrow, singles = pointer(source, float32), pointer(row.param_address, float32)
        copy_out(narrow, stride, offsets, n_lines, width, singles, pitch, by_columns)
    return 0


@internal
def gather_block(header, row, room, which, line, n_lines, first, width, target, pitch):
    """Call `gather` by its address."""
    call(
        header.gather_address,
        (row.address, header.pool_address, room, which, line, n_lines, first, width, target, pitch),
    )


@internal
def scatter_block(header, row, room, line, n_lines, first, width, source, pitch):
    """Call `scatter` by its address."""
    call(
        header.scatter_address,
        (row.address, header.pool_address, room, line, n_lines, first, width, source, pitch),
    )
