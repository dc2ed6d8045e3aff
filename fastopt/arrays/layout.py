"""Where the state of each parameter lies in flat buffers, and how a strided array is read in that order."""

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

__all__ = ["Axis", "Layout", "Slot", "aligned_zeros", "coalesce_axes", "order_of"]

Order = Literal["C", "F"]

# The offset of a slot that isn't in the flat buffers.
APART = -1


class Slot(NamedTuple):
    """Where and how the state of one parameter lies in the flat buffers of its dtype.

    Its elements are in the order of the parameter when it was first seen: "F" (first axis fastest) for a
    Fortran array, else "C". With the offset `APART` it lies in arrays of its own.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    order: Order
    offset: int
    size: int

    @property
    def is_apart(self) -> bool:
        """Whether it lies in arrays of its own."""
        return self.offset == APART

    def flat_view(self, buffer: np.ndarray) -> np.ndarray:
        """Return the elements of this slot in a flat buffer as a flat view."""
        return buffer[self.offset : self.offset + self.size]

    def view(self, buffer: np.ndarray) -> np.ndarray:
        """Return the elements of this slot in a flat buffer as a view of the parameter's shape."""
        return self.flat_view(buffer).reshape(self.shape, order=self.order)


class Layout(dict[Hashable, Slot]):
    """The slot of each parameter. Slots of one dtype follow one another without gaps.

    Attributes
    ----------
    sizes : dict of dtype to int
        Number of elements of each dtype.
    """

    sizes: dict[np.dtype[Any], int]

    def __init__(self, slots: Mapping[Hashable, Slot] | None = None) -> None:
        super().__init__(slots or {})
        self.sizes = {}
        for slot in self.values():
            if not slot.is_apart:
                self.sizes[slot.dtype] = self.sizes.get(slot.dtype, 0) + slot.size

    def place(
        self, key: Hashable, shape: tuple[int, ...], dtype: np.dtype[Any], order: Order = "C", *,
        is_apart: bool = False,
    ) -> None:  # fmt: skip
        """Add a slot for a new parameter, after the other slots of its dtype or apart from them."""
        offset, size = self.sizes.get(dtype, 0), math.prod(shape)
        self[key] = Slot(shape, dtype, order, APART if is_apart else offset, size)
        if not is_apart:
            self.sizes[dtype] = offset + size

    def __reduce__(self) -> Any:
        return Layout, (dict(self),)


def aligned_zeros(size: int, dtype: np.dtype[Any]) -> np.ndarray:
    """Return a flat array of zeros that starts at a cache line of 64 bytes."""
    spare = 64 // dtype.itemsize
    array = np.zeros(size + spare, dtype=dtype)
    first = -array.ctypes.data % 64 // dtype.itemsize
    return array[first : first + size]


def order_of(array: Any) -> Order:
    """Return the order of the elements of an array: "F" for a Fortran array, else "C"."""
    return "F" if isinstance(array, np.ndarray) and array.flags.fnc else "C"


class Axis(NamedTuple):
    """One loop over an array: number of elements and, for each array read, the distance in bytes."""

    size: int
    strides: tuple[int, ...]


def coalesce_axes(shape: Sequence[int], order: Order, *strides: Sequence[int]) -> list[Axis]:
    """Return the fewest axes, innermost first, that run through arrays of one shape in an order.

    Parameters
    ----------
    shape : sequence of int
        Shape of all arrays.
    order : {"C", "F"}
        Whether the last or the first axis is the innermost.
    *strides : sequence of int
        Strides in bytes of each array.
    """
    axes = list(zip(shape, zip(*strides, strict=True), strict=True))
    result: list[Axis] = []
    for size, steps in axes if order == "F" else reversed(axes):
        if size == 1:
            continue
        if result and all(
            step == inner * result[-1].size for step, inner in zip(steps, result[-1].strides, strict=True)
        ):
            result[-1] = Axis(result[-1].size * size, result[-1].strides)
        else:
            result.append(Axis(size, steps))
    return result or [Axis(1, (0,) * len(strides))]
