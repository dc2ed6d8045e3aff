"""What the compiled step checks before it changes anything.

The caller's objects are not trusted. A list may have another length than it says, the tuple of scalars may
hold other objects, a user may have replaced ``np.zeros``. So lengths, types, shapes, strides and flags are
compared before an address is followed, and dtypes are stated wherever memory is made. A `Step` holds
references to all that compiled code reads.

Addresses are read at each step, so a rebound array of the same kind fits the plan. Overlap is checked again
only if an address moved, with the sorted ranges of the parameters.
"""

from math import sqrt

import numpy as np
from numba import float32, float64, int64

from fastopt.engine.native.lines import GRAD, ONE, ROW_TYPE
from fastopt.engine.native.pointers import array_at, call, int8_at, int32_at, pointer, record_at, word_at
from fastopt.engine.native.strided import gather_block
from fastopt.engine.structs import (
    ARRAY_FLAGS,
    BYTE_ORDER,
    DATA,
    DESCR,
    FLOAT_VALUE,
    LENGTH,
    LIST_ITEMS,
    NATIVE,
    NDIM,
    SHAPE,
    STRIDES,
    TUPLE_ITEMS,
    TYPE,
    TYPE_NUMBER,
)
from fastopt.engine.table import DIRECT, GATHERED, MAX_LINES, NUMBER, PIECE, ROW, SPARSE
from fastopt.kernels.jit import compiled, internal

__all__ = ["check_arrays", "check_finite", "check_scalars", "finite_array", "is_finite", "row_at"]

ROW_BYTES = ROW.itemsize


@internal
def is_as_planned(array, mode, class_, type_number, byte_order, flags, ndim, shape_at, strides_at, pool):
    """Whether the object at an address is an array, or a number, as its row says."""
    if word_at(array + TYPE) != class_:
        return False
    if mode == NUMBER:
        return True
    descr = word_at(array + DESCR)
    if int32_at(descr + TYPE_NUMBER) != type_number or int8_at(descr + BYTE_ORDER) != byte_order:
        return False
    if int32_at(array + ARRAY_FLAGS) & flags != flags or int32_at(array + NDIM) != ndim:
        return False
    shape = word_at(array + SHAPE)
    for axis in range(ndim):
        if word_at(shape + 8 * axis) != pool[shape_at + axis]:
            return False
    if strides_at >= 0:
        strides = word_at(array + STRIDES)
        for axis in range(ndim):
            if word_at(strides + 8 * axis) != pool[strides_at + axis] and pool[shape_at + axis] > 1:
                return False
    return True


@internal
def row_at(header, i):
    """Return a row of the table."""
    return record_at(header.rows_address + ROW_BYTES * i, ROW_TYPE)


@internal
def are_apart(header, ranges, pool):
    """Whether no two parameters share memory, nor states that come with them; notes their address ranges.

    These are in order, behind their number.
    """
    count = 0
    for i in range(header.n_rows):
        row = row_at(header, i)
        if row.size > 0 and row.param_mode != NUMBER:
            ranges[2 * count + 1] = row.param_address + row.param_low
            ranges[2 * count + 2] = row.param_address + row.param_high
            count += 1
        for k in range(row.n_given):
            at = row.arrays_at + 2 * k
            if pool[at + 1] > 0:
                ranges[2 * count + 1] = pool[at]
                ranges[2 * count + 2] = pool[at] + pool[at + 1] * row.itemsize
                count += 1
    ranges[0] = count
    # Sorted by insertion at a distance: they are nearly in order when one parameter has moved.
    gap = count // 2
    while gap > 0:
        for i in range(gap, count):
            low, high, j = ranges[2 * i + 1], ranges[2 * i + 2], i
            while j >= gap and ranges[2 * (j - gap) + 1] > low:
                ranges[2 * j + 1], ranges[2 * j + 2] = ranges[2 * (j - gap) + 1], ranges[2 * (j - gap) + 2]
                j -= gap
            ranges[2 * j + 1], ranges[2 * j + 2] = low, high
        gap //= 2
    for i in range(1, count):  # noqa: SIM110
        if ranges[2 * i + 1] < ranges[2 * i]:
            return False
    return True


@internal
def is_apart(first, last, ranges):
    """Whether the bytes from first to last lie outside the address ranges of all parameters."""
    low, high = 0, ranges[0]
    while low < high:
        middle = (low + high) // 2
        if ranges[2 * middle + 2] > first:
            high = middle
        else:
            low = middle + 1
    return low == ranges[0] or ranges[2 * low + 1] >= last


@internal
def note_states(arrays, header, row, pool):
    """Whether the states that come with a parameter are as planned; notes their addresses."""
    for k in range(row.n_given):
        at = row.given_at + 5 * k
        state = word_at(arrays + 8 * pool[at])
        if not is_as_planned(
            state, DIRECT, header.ndarray_class, pool[at + 1], NATIVE, pool[at + 2], pool[at + 3],
            pool[at + 4], -1, pool,
        ):  # fmt: skip
            return False
        address = word_at(state + DATA)
        if address != pool[row.arrays_at + 2 * k]:
            pool[row.arrays_at + 2 * k] = address
            header.is_moved = 1
    return True


@internal
def check_arrays(params, grads, header, pool):
    """Whether all arrays and counts are as the table says, and share no memory; notes their addresses."""
    if word_at(params + LENGTH) != header.n_params or word_at(grads + LENGTH) != header.n_params:
        return False
    params, grads = word_at(params + LIST_ITEMS), word_at(grads + LIST_ITEMS)
    counts, guard = pointer(header.counts_address, int64), word_at(header.guard_address)
    ranges = pointer(header.ranges_address, int64)
    for i in range(header.n_rows):
        row = row_at(header, i)
        param = word_at(params + 8 * row.param_index)
        if not is_as_planned(
            param, row.param_mode, row.param_class, row.param_type, row.param_order, row.param_flags,
            row.ndim, row.shape_at, row.param_strides_at, pool,
        ):  # fmt: skip
            return False
        if row.param_mode != NUMBER:
            address = word_at(param + DATA)
            if address != row.param_address:
                row.param_address = address
                header.is_moved = 1
        if row.n_given and not note_states(params, header, row, pool):
            return False
        if row.grad_mode != SPARSE:
            grad = word_at(grads + 8 * row.grad_index)
            if not is_as_planned(
                grad, row.grad_mode, row.grad_class, row.grad_type, row.grad_order, row.grad_flags,
                row.ndim, row.shape_at, row.grad_strides_at, pool,
            ):  # fmt: skip
                return False
            if row.grad_mode != NUMBER:
                address = word_at(grad + DATA)
                if address != row.grad_address:
                    row.grad_address = address
                    if not (header.is_moved or is_grad_apart(row, ranges)):
                        row.grad_address = 0
                        return False
        if not row.is_frozen:
            wanted, different = guard + row.count_difference, 0
            for k in range(row.count, row.count + row.n_counts):  # without a branch it is vectorized
                different |= counts[k] ^ wanted
            if different:
                return False
    if header.is_moved:
        if not are_apart(header, ranges, pool):
            return False
        for i in range(header.n_rows):
            if not is_grad_apart(row_at(header, i), ranges):
                return False
        header.is_moved = 0
    return True


@internal
def is_grad_apart(row, ranges):
    """Whether a gradient shares no memory with any parameter."""
    if row.size == 0 or row.grad_mode == SPARSE or row.grad_mode == NUMBER:
        return True
    return is_apart(row.grad_address + row.grad_low, row.grad_address + row.grad_high, ranges)


@internal
def check_scalars(scalars, header):
    """Whether there are as many scalars as the rules take, all Python floats; copies them."""
    if word_at(scalars + LENGTH) != header.n_scalars:
        return False
    values = pointer(header.scalars_address, float64)
    for k in range(header.n_scalars):
        scalar = word_at(scalars + TUPLE_ITEMS + 8 * k)
        if word_at(scalar + TYPE) != header.float_class:
            return False
        values[k] = pointer(scalar + FLOAT_VALUE, float64)[0]
    return True


def finite_array(values):
    """Whether all values and their squares are finite."""
    total = values.dtype.type(0)
    for i in range(values.size):
        total += abs(values[i])
    if total < sqrt(np.finfo(values.dtype).max):
        return True
    beyond = 0
    for i in range(values.size):
        beyond += not values[i] * values[i] < np.inf
    return beyond == 0


# The one place where a sum may be reordered: its bits don't matter, and in order it would not be vectorized.
finite_array = compiled(finite_array, fastmath={"reassoc"})


@internal
def is_finite(address, size, itemsize):
    """Whether so many values at an address and their squares are finite."""
    if itemsize == 8:
        return int64(finite_array(array_at(address, size, float64)))
    return int64(finite_array(array_at(address, size, float32)))


@internal
def check_finite(header, pool):
    """Whether all gradients, rounded to the parameters' dtypes, and their squares are finite."""
    room = header.scratch_address
    target = room + 8 * MAX_LINES
    for i in range(header.n_rows):
        row = row_at(header, i)
        address, size = row.grad_copy_address, row.size
        if row.grad_mode == GATHERED:
            inner = pool[row.axes_at]
            for line in range(row.size // max(inner, 1)):
                for first in range(0, inner, PIECE):
                    width = min(PIECE, inner - first)
                    gather_block(header, row, room, GRAD, line, ONE, first, width, target, width)
                    if not call(header.is_finite_address, (target, width, row.itemsize)):
                        return False
            continue
        if row.grad_mode == SPARSE:
            size = row.n_indices * (row.size // max(pool[row.shape_at], 1))
        if row.grad_mode == SPARSE or row.grad_mode == DIRECT:
            address = row.grad_address
        if not call(header.is_finite_address, (address, size, row.itemsize)):
            return False
    return True
