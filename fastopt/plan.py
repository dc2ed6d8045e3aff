"""The plan of a step: which arrays there are, whether they may be updated, and how each one will be.

Most arrays go through `fastopt.driver` in one call. The others are updated one at a time: numbers and
NumPy scalars, arrays that are strided, byte-swapped, unaligned, of half precision or of a subclass, those
whose gradient is of another layout or dtype, and all of them where some share memory.
"""

from bisect import bisect_right
from collections.abc import Hashable, Mapping, Sequence
from itertools import pairwise
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.lib.array_utils import byte_bounds

from fastopt.driver import COLUMNS, FLAGS, available, driver_of

__all__ = ["Plan", "Slot", "align"]

Keys = Sequence[Hashable]

# The dtype that a parameter's step computes in, which is its state's.
COMPUTE = {np.dtype(np.float16): np.dtype(np.float32)} | {np.dtype(t): np.dtype(t) for t in ("f4", "f8")}


class Slot(NamedTuple):
    """Where and how a parameter's state lies in the flat buffers of its dtype.

    Its elements are in the order of the parameter's when it was first seen: "F", of columns, for a
    Fortran array, else "C", of rows.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    order: Literal["C", "F"]
    offset: int
    size: int

    def of(self, buffer: np.ndarray) -> np.ndarray:
        """Give the slot's elements of a flat buffer, flat, as a view."""
        return buffer[self.offset : self.offset + self.size]

    def shaped(self, buffer: np.ndarray) -> np.ndarray:
        """Give the slot's elements of a flat buffer in the parameter's shape, as a view."""
        return self.of(buffer).reshape(self.shape, order=self.order)

    def takes(self, array: Any) -> bool:
        """Whether a kernel can take an array as it is: plain, and in the order of the state."""
        if type(array) is not np.ndarray or array.dtype != self.dtype or not array.flags.aligned:
            return False
        return array.flags.c_contiguous if self.order == "C" else array.flags.f_contiguous


def align(params: Any, grads: Any) -> tuple[Keys, list[Any], list[Any]]:
    """Give the keys or indices, the parameters and their gradients, in the order of the parameters.

    Raises
    ------
    KeyError
        If a gradient is missing.
    TypeError
        If params and grads aren't both mappings or both sequences.
    ValueError
        If two sequences differ in length.
    """
    if isinstance(params, Mapping):
        if not isinstance(grads, Mapping):
            raise TypeError(f"grads must be a dict like params, not {kind(grads)}")
        keys = list(params)
        try:
            slopes = [grads[key] for key in keys]
        except KeyError as error:
            missing = next((key for key in keys if key not in grads), error)
            raise KeyError(f"no gradient for parameter {missing!r} in {list(grads)}") from None
        return keys, [params[key] for key in keys], slopes
    if not is_list(params):
        raise TypeError(f"params must be a dict or list of arrays, not {kind(params)}")
    if not is_list(grads):
        raise TypeError(f"grads must be a list like params, not {kind(grads)}")
    if len(params) != len(grads):
        raise ValueError(f"{len(params)} parameters need as many gradients, not {len(grads)}")
    return range(len(params)), list(params), list(grads)


def is_list(container: Any) -> bool:
    """Whether a container is a sequence of arrays."""
    return isinstance(container, Sequence) and not isinstance(container, str | bytes)


def kind(value: Any) -> str:
    """Name a value's type with its article."""
    if value is None:
        return "None"
    name = type(value).__name__
    return f"{'an' if name[0] in 'aeiouAEIOU' else 'a'} {name}"


class Plan:
    """A step over these arrays, checked.

    Parameters
    ----------
    kernel : compiled function
        The rule.
    keys, params, grads : list
        From `align`.
    slots : dict
        Where the state of the parameters known so far lies.
    assignable : bool
        Whether numbers can be replaced in the caller's container.

    Attributes
    ----------
    slots : dict
        The slots of all parameters, old and new.
    reusable : bool
        Whether `commit` itself notices what differs at a later step.

    Raises
    ------
    TypeError, ValueError
        If a parameter or a gradient can't be taken; the message names its key.
    """

    def __init__(
        self,
        kernel: Any,
        keys: Keys,
        params: list[Any],
        grads: list[Any],
        slots: Mapping[Hashable, Slot],
        assignable: bool,
    ) -> None:
        self.kernel = kernel
        self.keys = keys
        self.slots = dict(slots)
        ends: dict[np.dtype[Any], int] = {}
        for slot in self.slots.values():
            ends[slot.dtype] = ends.get(slot.dtype, 0) + slot.size
        for key, param, grad in zip(keys, params, grads, strict=True):
            shape, dtype = check_param(key, param, assignable)
            check_grad(key, grad, shape)
            old = self.slots.get(key)
            if old is None:
                size = int(np.prod(shape, dtype=np.intp))
                order: Literal["C", "F"] = "F" if isinstance(param, np.ndarray) and param.flags.fnc else "C"
                self.slots[key] = Slot(shape, dtype, order, ends.get(dtype, 0), size)
                ends[dtype] = ends.get(dtype, 0) + size
            elif (shape, dtype) != (old.shape, old.dtype):
                raise ValueError(
                    f"parameter {key!r} is now {dtype} of shape {shape}, but its state is {old.dtype} "
                    f"of shape {old.shape}: a new parameter needs a new key or a new optimizer"
                )

        taken = memory(params)
        together = available() and taken is not None and not any(meets(grad, taken) for grad in grads)
        places: dict[np.dtype[Any], list[int]] = {}
        self.one_by_one = []
        for place, (key, param, grad) in enumerate(zip(keys, params, grads, strict=True)):
            slot = self.slots[key]
            if together and slot.takes(param) and slot.takes(grad):
                places.setdefault(slot.dtype, []).append(place)
            else:
                self.one_by_one.append(place)
        self.numbers = [place for place, param in enumerate(params) if not isinstance(param, np.ndarray)]
        self.taken = np.array(taken or [], np.int64).reshape(-1, 2)
        self.groups = [
            (*self.table(here, params, grads), np.empty(0, dtype)) for dtype, here in places.items()
        ]
        self.reusable = len(self.groups) == 1 and not self.one_by_one
        # The table knows dtypes by their ids, which are theirs only as long as they live.
        self.dtypes = [array.dtype for array in (*params, *grads) if isinstance(array, np.ndarray)]

    def table(
        self, places: list[int], params: list[np.ndarray], grads: list[np.ndarray]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Give the rows of these arrays for the driver, and all their dimensions."""
        rows: list[list[int]] = []
        shapes: list[int] = []
        for place in places:
            param, grad, slot = params[place], grads[place], self.slots[self.keys[place]]
            row = {
                "place": place,
                "shape": len(shapes),
                "ndim": param.ndim,
                "size": slot.size,
                "offset": slot.offset,
                "address": param.ctypes.data,
                "descr": id(param.dtype),
                "flags": param.flags.num & FLAGS,
                "grad_descr": id(grad.dtype),
                "grad_flags": grad.flags.num & FLAGS,
            }
            rows.append([row[column] for column in COLUMNS])
            shapes.extend(param.shape)
        return np.array(rows, np.int64), np.array(shapes, np.int64)

    def commit(
        self,
        params: list[Any],
        grads: list[Any],
        buffers: Mapping[np.dtype[Any], tuple[np.ndarray, ...]],
        scalars: tuple[float, ...],
    ) -> bool:
        """Update the parameters and their state.

        Parameters
        ----------
        params, grads : list
            From `align`, with the keys of this plan. New values of numbers are put into ``params``.
        buffers : dict
            The flat state buffers of each dtype, in the order of the kernel's arguments.
        scalars : tuple of float
            The kernel's scalars.

        Returns
        -------
        bool
            False if something isn't as planned. A reusable plan has then changed nothing.
        """
        for table, shapes, like in self.groups:
            if not driver_of(self.kernel)(
                id(params), id(grads), id(np.ndarray),
                table, shapes, self.taken, buffers[like.dtype], scalars, like,
            ):  # fmt: skip
                return False
        # A value too large for the dtype becomes infinite, as in the kernels: a caller who lets NumPy raise
        # for it, or turns warnings into errors, must not be left with half a step.
        with np.errstate(all="ignore"):
            for place in self.one_by_one:
                slot = self.slots[self.keys[place]]
                params[place] = update_one(
                    self.kernel, params[place], grads[place], slot, buffers[slot.dtype], scalars
                )
        return True


def check_param(key: Hashable, param: Any, assignable: bool) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Give the shape of a parameter and the dtype of its state, or say why it can't be updated."""
    dtype = None
    if isinstance(param, np.ma.MaskedArray):
        raise TypeError(f"parameter {key!r} is a masked array: pass its data, or a filled copy")
    if isinstance(param, np.ndarray):
        dtype = param.dtype
    elif isinstance(param, float | np.floating):
        dtype = np.asarray(param).dtype
    elif isinstance(param, int | np.integer) and not isinstance(param, bool):
        raise TypeError(f"parameter {key!r} is the integer {param}: make it {float(param)}")
    if dtype is None:
        raise TypeError(f"parameter {key!r} is {kind(param)}: it must be a NumPy array or a float")
    compute = COMPUTE.get(dtype.newbyteorder("="))
    if compute is None:
        raise TypeError(f"parameter {key!r} is {dtype}: it must be float32 or float64")
    if not isinstance(param, np.ndarray):
        if not assignable:
            raise TypeError(
                f"parameter {key!r} is a number in a container that can't be assigned to: "
                "make it a 0-d array, or use a dict or a list"
            )
        return (), compute
    if not param.flags.writeable:
        raise ValueError(f"parameter {key!r} is read-only: it is updated in place, so pass a copy")
    return param.shape, compute


def check_grad(key: Hashable, grad: Any, shape: tuple[int, ...]) -> None:
    """Say why a gradient can't be taken, if it can't."""
    if isinstance(grad, np.ma.MaskedArray):
        raise TypeError(f"the gradient of {key!r} is a masked array: pass its data, or a filled copy")
    if not isinstance(grad, np.ndarray | np.number | float | int) or isinstance(grad, bool):
        raise TypeError(f"the gradient of {key!r} is {kind(grad)}: it must be a NumPy array of numbers")
    array = np.asarray(grad)
    if array.dtype.kind not in "fiu":
        raise TypeError(f"the gradient of {key!r} is {array.dtype}: it must be real numbers")
    if array.shape != shape:
        raise ValueError(f"the gradient of {key!r} has shape {array.shape}, its parameter {shape}")


def memory(params: list[Any]) -> list[tuple[int, int]] | None:
    """Give the address ranges of the parameters in order, or None where they share memory."""
    ranges = sorted(byte_bounds(p) for p in params if isinstance(p, np.ndarray) and p.size)
    if any(first < last for (_, last), (first, _) in pairwise(ranges)):
        return None
    return ranges


def meets(grad: Any, taken: list[tuple[int, int]]) -> bool:
    """Whether a gradient shares memory with these address ranges."""
    if not isinstance(grad, np.ndarray) or not grad.size:
        return False
    first, last = byte_bounds(grad)
    after = bisect_right(taken, first, key=lambda bounds: bounds[1])
    return after < len(taken) and taken[after][0] < last


def update_one(
    kernel: Any,
    param: Any,
    grad: Any,
    slot: Slot,
    buffers: tuple[np.ndarray, ...],
    scalars: tuple[float, ...],
) -> Any:
    """Update one array in place through copies that the kernel can take, or give a number's new value."""
    work = np.require(param, slot.dtype, [slot.order, "A", "E"])
    slope = np.require(grad, slot.dtype, [slot.order, "A", "E"])
    if np.may_share_memory(work, slope):
        slope = slope.copy(order=slot.order)
    kernel(
        work.reshape(-1, order=slot.order),
        slope.reshape(-1, order=slot.order),
        *(slot.of(buffer) for buffer in buffers),
        *map(slot.dtype.type, scalars),
    )
    if not isinstance(param, np.ndarray):
        return type(param)(work[()])
    if not np.may_share_memory(work, param):
        param[...] = work
    return param
