"""The commit of a step: one call into compiled code that looks at every array, then updates them all.

The arrays stay objects of the caller's: compiled code is given two lists and reads each array's address,
shape, dtype and flags from its C struct, for which Python needs some 0.5 µs an array. `available` says
whether these structs are laid out as expected here; where they aren't, or nothing is compiled
(``NUMBA_DISABLE_JIT``), `fastopt.plan` calls the kernel once an array.
"""

import ctypes
import hashlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import FunctionType
from typing import Any

import numpy as np
from numba import carray, config, int32, int64, types
from numba.extending import intrinsic, overload

from fastopt import kernels

__all__ = ["COLUMNS", "FLAGS", "available", "driver_of"]

# Offsets in CPython's PyObject and PyListObject and in NumPy's PyArrayObject_fields, in bytes.
TYPE = ctypes.sizeof(ctypes.c_ssize_t)
HEAD = object.__basicsize__
ITEMS = HEAD + 8
DATA, NDIM, SHAPE, DESCR, FLAG = HEAD, HEAD + 8, HEAD + 16, HEAD + 40, HEAD + 48

# NPY_ARRAY_C_CONTIGUOUS, F_CONTIGUOUS, ALIGNED and WRITEABLE
FLAGS = 0x0001 | 0x0002 | 0x0100 | 0x0400

# What a plan knows of an array: its place in the lists, where its dimensions stand among all
# dimensions and how many there are, its elements and the first of them in the state, its address,
# and of parameter and gradient the dtype's identity and the flags.
COLUMNS = (
    "place",
    "shape",
    "ndim",
    "size",
    "offset",
    "address",
    "descr",
    "flags",
    "grad_descr",
    "grad_flags",
)
PLACE, SHAPE_AT, N_DIM, SIZE, OFFSET, ADDRESS, PARAM_DESCR, PARAM_FLAGS, GRAD_DESCR, GRAD_FLAGS = range(
    len(COLUMNS)
)


@intrinsic
def pointer(typingctx, address, dtype):
    """Give the pointer to values of a dtype at an address."""
    item = dtype.dtype if isinstance(dtype, types.DType) else dtype.instance_type

    def codegen(context, builder, signature, arguments):
        return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

    return types.CPointer(item)(address, dtype), codegen


@kernels.compiled
def matches(array, ndarray, row, shapes, descr, flags):
    """Whether the object at an address is a plain array as the plan knows it."""
    if pointer(array + TYPE, int64)[0] != ndarray:
        return False
    if pointer(array + DESCR, int64)[0] != descr:
        return False
    if pointer(array + FLAG, int32)[0] & FLAGS != flags:
        return False
    if pointer(array + NDIM, int32)[0] != row[N_DIM]:
        return False
    shape = pointer(array + SHAPE, int64)[0]
    for axis in range(row[N_DIM]):
        if pointer(shape + 8 * axis, int64)[0] != shapes[row[SHAPE_AT] + axis]:
            return False
    return True


@kernels.compiled
def apart(first, last, taken):
    """Whether the bytes from first to last lie outside the ranges taken, which are sorted."""
    low, high = 0, taken.shape[0]
    while low < high:
        middle = (low + high) // 2
        if taken[middle, 1] > first:
            high = middle
        else:
            low = middle + 1
    return low == taken.shape[0] or taken[low, 0] >= last


def cut(states, first, last):
    """Give elements first to last of each state."""
    raise NotImplementedError("known to compiled code only")


@overload(cut)
def compile_cut(states, first, last):
    """Take the states one by one, as tuples have no loop."""
    if len(states) == 0:
        return lambda states, first, last: ()
    return lambda states, first, last: (states[0][first:last], *cut(states[1:], first, last))


def cast(scalars, dtype):
    """Give each scalar in a dtype."""
    raise NotImplementedError("known to compiled code only")


@overload(cast)
def compile_cast(scalars, dtype):
    """Take the scalars one by one, as tuples have no loop."""
    if len(scalars) == 0:
        return lambda scalars, dtype: ()
    return lambda scalars, dtype: (dtype.type(scalars[0]), *cast(scalars[1:], dtype))


def rule(*arguments):
    """Stand for the kernel in `drive`: `driver_of` puts one in its place."""
    raise NotImplementedError


def drive(params, grads, ndarray, table, shapes, taken, states, scalars, like):
    """Update every array of a plan, or none.

    Parameters
    ----------
    params, grads : int
        The ``id`` of the list of parameters and of the list of gradients, in the order of the plan.
    ndarray : int
        The ``id`` of ``numpy.ndarray``.
    table, shapes : int64 arrays
        A row of `COLUMNS` for each array; the dimensions of all arrays.
    taken : int64 array
        First address and the one after the last of all memory that holds parameters, sorted.
    states : tuple of arrays
        Flat state buffers.
    scalars : tuple of float
        The scalars of the kernel.
    like : array
        Any array of the parameters' dtype.

    Returns
    -------
    bool
        False if an array is not as the plan knows it, or a gradient shares memory with a parameter:
        then nothing has changed.
    """
    dtype = like.dtype
    params = pointer(pointer(params + ITEMS, int64)[0], int64)
    grads = pointer(pointer(grads + ITEMS, int64)[0], int64)
    for i in range(table.shape[0]):
        row = table[i]
        param, grad = params[row[PLACE]], grads[row[PLACE]]
        if not matches(param, ndarray, row, shapes, row[PARAM_DESCR], row[PARAM_FLAGS]):
            return False
        if pointer(param + DATA, int64)[0] != row[ADDRESS]:
            return False
        if not matches(grad, ndarray, row, shapes, row[GRAD_DESCR], row[GRAD_FLAGS]):
            return False
        address = pointer(grad + DATA, int64)[0]
        if not apart(address, address + row[SIZE] * like.itemsize, taken):
            return False
    for i in range(table.shape[0]):
        row = table[i]
        size, first = row[SIZE], row[OFFSET]
        rule(
            carray(pointer(row[ADDRESS], dtype), size),
            carray(pointer(pointer(grads[row[PLACE]] + DATA, int64)[0], dtype), size),
            *cut(states, first, first + size),
            *cast(scalars, dtype),
        )
    return True


@cache
def driver_of(kernel: Any) -> Callable[..., bool]:
    """Compile `drive` for one kernel.

    Numba's disk cache finds a function by its file, line and qualified name, and takes the kernel from
    the globals for a part of the code. So each driver has a name of its own; and as the cache notices
    edits in the driver's file only, the name tells the kernels' source as well.
    """
    source = Path(kernel.py_func.__code__.co_filename).read_bytes()
    name = f"{kernel.__name__}_{hashlib.sha256(source).hexdigest()[:12]}"
    function = FunctionType(drive.__code__, {**globals(), "rule": kernel}, name)
    function.__qualname__ = name
    function.__module__ = __name__
    driver: Callable[..., bool] = kernels.compiled(function)
    return driver


@cache
def available() -> bool:
    """Whether compiled code may read lists and arrays as their C structs."""
    if config.DISABLE_JIT or TYPE != 8:
        return False
    array = np.empty((2, 3), np.float32)
    pair = [array, array]

    def read(address: int, kind: Any) -> int:
        return int(kind.from_address(address).value)

    at, word = id(array), ctypes.c_int64
    shape = read(at + SHAPE, word)
    return (
        read(at + TYPE, word) == id(np.ndarray)
        and read(at + DATA, word) == array.ctypes.data
        and read(at + NDIM, ctypes.c_int32) == 2
        and [read(shape, word), read(shape + 8, word)] == [2, 3]
        and read(at + DESCR, word) == id(array.dtype)
        and read(at + FLAG, ctypes.c_int32) & FLAGS == array.flags.num & FLAGS
        and read(read(id(pair) + ITEMS, word) + 8, word) == at
    )
