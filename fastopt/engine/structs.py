"""The C structs of lists, tuples, floats and arrays, as compiled code reads them.

Each process verifies this layout once. Where it differs, as in an interpreter other than CPython, steps are
taken in plain NumPy.
"""

import ctypes
from functools import cache

import numpy as np

__all__ = ["is_layout_known"]

# Offsets in bytes in CPython's PyObject, PyListObject, PyTupleObject and PyFloatObject.
TYPE = ctypes.sizeof(ctypes.c_ssize_t)
LENGTH = FLOAT_VALUE = object.__basicsize__
LIST_ITEMS = TUPLE_ITEMS = LENGTH + 8

# Offsets in bytes in NumPy's PyArrayObject_fields.
DATA = object.__basicsize__
NDIM, SHAPE, STRIDES, DESCR, ARRAY_FLAGS = DATA + 8, DATA + 16, DATA + 24, DATA + 40, DATA + 48

# Offsets in bytes in NumPy's PyArray_Descr, and the sign of the byte order of the machine.
BYTE_ORDER, TYPE_NUMBER = object.__basicsize__ + 10, object.__basicsize__ + 12
NATIVE = ord("=")

# NPY_ARRAY_C_CONTIGUOUS, F_CONTIGUOUS, ALIGNED and WRITEABLE.
C_CONTIGUOUS, F_CONTIGUOUS, ALIGNED, WRITEABLE = 0x0001, 0x0002, 0x0100, 0x0400


@cache
def is_layout_known() -> bool:
    """Whether compiled code may read lists, tuples, floats and arrays: their structs are as expected."""
    if TYPE != 8:
        return False
    array = np.empty((2, 3), dtype=np.float32)
    pair, scalars = [array, array], (1.0, 0.1)

    def word(address: int) -> int:
        return int(ctypes.c_int64.from_address(address).value)

    def int32(address: int) -> int:
        return int(ctypes.c_int32.from_address(address).value)

    at, shape, strides = id(array), word(id(array) + SHAPE), word(id(array) + STRIDES)
    flags = C_CONTIGUOUS | F_CONTIGUOUS | ALIGNED | WRITEABLE
    return (
        word(at + TYPE) == id(np.ndarray)
        and word(at + DATA) == array.ctypes.data
        and int32(at + NDIM) == 2
        and [word(shape), word(shape + 8)] == [2, 3]
        and [word(strides), word(strides + 8)] == [12, 4]
        and word(at + DESCR) == id(array.dtype)
        and int32(id(array.dtype) + TYPE_NUMBER) == array.dtype.num
        and ctypes.c_char.from_address(id(array.dtype) + BYTE_ORDER).value == bytes([NATIVE])
        and int32(at + ARRAY_FLAGS) & flags == array.flags.num & flags
        and word(id(pair) + LENGTH) == 2
        and word(word(id(pair) + LIST_ITEMS) + 8) == at
        and word(id(scalars) + LENGTH) == 2
        and word(id(scalars) + TUPLE_ITEMS + 8) == id(scalars[1])
        and word(id(scalars[1]) + TYPE) == id(float)
        and ctypes.c_double.from_address(id(scalars[1]) + FLOAT_VALUE).value == 0.1
    )
