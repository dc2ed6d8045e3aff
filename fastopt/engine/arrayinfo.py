"""How an array of a step reaches the kernel: what a row of the table says about it."""

from collections.abc import Hashable
from typing import Any, NamedTuple

import numpy as np

from fastopt.arrays.layout import Slot
from fastopt.arrays.rows import Rows
from fastopt.engine.structs import ALIGNED, C_CONTIGUOUS, F_CONTIGUOUS, WRITEABLE
from fastopt.engine.table import DIRECT, GATHERED, NUMBER, SPARSE, STAGED

__all__ = ["ArrayInfo", "address_of_data", "byte_range", "describe"]


class ArrayInfo(NamedTuple):
    """What compiled code compares an array with, and how it reads it."""

    mode: int
    class_id: int
    type_number: int = 0
    byte_order: int = 0
    flags: int = 0
    strides: tuple[int, ...] | None = None  # None: the flags say all
    low: int = 0
    high: int = 0
    itemsize: int = 0


def byte_range(array: np.ndarray) -> tuple[int, int]:
    """Return the bytes that an array spans, from its first element: below, and up to beyond."""
    low, high = 0, array.itemsize
    for size, stride in zip(array.shape, array.strides, strict=True):
        if stride < 0:
            low += (size - 1) * stride
        else:
            high += (size - 1) * stride
    return low, high


def address_of_data(array: np.ndarray) -> int:
    """Return the address of an array's first element."""
    address: int = array.__array_interface__["data"][0]
    return address


def describe(key: Hashable, array: Any, slot: Slot, is_param: bool) -> ArrayInfo:
    """Return how an array that was checked reaches the kernel."""
    if isinstance(array, Rows):
        return ArrayInfo(SPARSE, 0)
    if not isinstance(array, np.ndarray):
        return ArrayInfo(NUMBER, id(type(array)))
    dtype, flags = array.dtype, array.flags.num
    writeable = WRITEABLE if is_param else 0
    if type(array) is np.ndarray and dtype == slot.dtype and flags & ALIGNED:
        contiguous = C_CONTIGUOUS if slot.order == "C" else F_CONTIGUOUS
        if flags & contiguous:
            needed = contiguous | ALIGNED | writeable
            return ArrayInfo(
                DIRECT, id(np.ndarray), dtype.num, ord("="), needed, None, 0, array.nbytes, dtype.itemsize
            )
    is_fast = (
        type(array) is np.ndarray
        and dtype.isnative
        and bool(flags & ALIGNED)
        and (dtype == slot.dtype or (not is_param and dtype.char in "fd"))
    )
    return ArrayInfo(
        GATHERED if is_fast else STAGED,
        id(type(array)),
        dtype.num,
        ord(dtype.byteorder),
        (ALIGNED if is_fast else 0) | writeable,
        array.strides,
        *byte_range(array),
        dtype.itemsize,
    )
