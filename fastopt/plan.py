"""The plan of a step: which arrays there are, whether they may be updated, and how each one will be.

Most arrays go through `fastopt.driver` in one call (two, if the rule measures whole arrays first). The
others are updated one at a time: numbers and NumPy scalars, arrays that are strided, byte-swapped,
unaligned, of half precision or of a subclass, those whose gradient is of another layout or dtype, and all of
them where some share memory; and those of whose gradient there are only some `Rows`.
"""

import math
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import partial
from itertools import accumulate, pairwise, repeat
from operator import call, is_, setitem
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.lib.array_utils import byte_bounds

from fastopt import driver
from fastopt.arrays.rows import Rows
from fastopt.checks import kind
from fastopt.driver import FLAGS, WORD, available, driver_of
from fastopt.groups import FROZEN
from fastopt.kernels.common import follow

__all__ = [
    "Calls",
    "Layout",
    "Plan",
    "Slot",
    "align",
    "aligned_zeros",
    "check_param",
    "compute_dtype",
    "finite",
    "gathering",
    "order_of",
    "run",
    "survey",
]

Keys = Sequence[Hashable]
Calls = list[Callable[[], Any]]

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
    if isinstance(params, (dict, Mapping)):
        if not isinstance(grads, (dict, Mapping)):
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
    return type(container) is list or (
        isinstance(container, Sequence) and not isinstance(container, str | bytes)
    )


class Layout(dict[Hashable, Slot]):
    """The slot of each parameter; of each dtype they follow one another without gaps."""

    def place(
        self, key: Hashable, shape: tuple[int, ...], dtype: np.dtype[Any], order: Literal["C", "F"] = "C"
    ) -> None:
        """Give a new parameter a slot after the others of its dtype."""
        self[key] = Slot(shape, dtype, order, self.sizes().get(dtype, 0), math.prod(shape))

    def sizes(self) -> dict[np.dtype[Any], int]:
        """Give the number of elements of each dtype."""
        sizes: dict[np.dtype[Any], int] = {}
        for slot in self.values():
            sizes[slot.dtype] = sizes.get(slot.dtype, 0) + slot.size
        return sizes


def aligned_zeros(size: int, dtype: np.dtype[Any]) -> np.ndarray:
    """Give a flat array of zeros that begins with a cache line."""
    spare = 64 // dtype.itemsize
    array = np.zeros(size + spare, dtype)
    first = -array.ctypes.data % 64 // dtype.itemsize
    return array[first : first + size]


def order_of(array: Any) -> Literal["C", "F"]:
    """Give the order in which the elements of an array lie: "F" for a Fortran array, else "C"."""
    return "F" if isinstance(array, np.ndarray) and array.flags.fnc else "C"


def survey(
    keys: Keys,
    params: list[Any],
    grads: list[Any],
    layout: Layout,
    assignable: bool,
    by_rows: bool = False,
) -> Layout:
    """Check every parameter and gradient; give the layout with the new ones.

    ``by_rows`` is whether the state of a Fortran array has to be in the order "C", too.

    Raises
    ------
    TypeError, ValueError
        If a parameter or a gradient can't be taken; the message names its key.
    """
    layout = Layout(layout)
    for key, param, grad in zip(keys, params, grads, strict=True):
        shape, dtype = check_param(key, param, assignable)
        if not isinstance(grad, Rows):  # which has been checked
            check_grad(key, grad, shape)
        old = layout.get(key)
        if old is None:
            layout.place(key, shape, dtype, "C" if by_rows else order_of(param))
        elif (shape, dtype) != (old.shape, old.dtype):
            raise ValueError(
                f"parameter {key!r} is now {dtype} of shape {shape}, but its state is {old.dtype} "
                f"of shape {old.shape}: a new parameter needs a new key or a new optimizer"
            )
    return layout


class Plan:
    """How to update these arrays, which `survey` has checked.

    Whatever the plan, its step runs as one call into C, in which Python raises no KeyboardInterrupt.

    Parameters
    ----------
    passes : list of compiled functions
        The rule: its kernel; or what measures, and then its kernel. Of these each runs over all arrays before
        the next one does, and both take whole arrays.
    keys, params, grads : list
        From `align`.
    layout : Layout
        The slot of each parameter.
    states : dict
        The flat arrays of each parameter's state, in the order of the kernel's arguments.
    turn : int64 array
        The number of the next step; negative during a step of several calls.
    container : dict or list
        Where numbers are replaced.
    scalars : int
        How many scalars there are: the kernel's, and two for each follower.
    followers : int
        How many of the states, the last ones, aren't the kernel's, but follow the parameter after it.
    groups : sequence of int
        Which of several sets of scalars each parameter is updated with; FROZEN for those that are not.
    threads : callable
        Gives the number of threads for a large step of so many elements.
    parallel_from : int
        How many elements make a step large.
    strict : bool
        Whether to refuse gradients that aren't finite.
    measures : sequence of int
        How many numbers are measured of each array.
    sums, totals : int
        How many of these, the first, are sums over the elements; of how many the sums over all arrays are
        needed, too.

    Attributes
    ----------
    reusable : bool
        Whether compiled code notices what differs at a later step.
    single, address : callable and int
        The driver and its table, if the step is one call on one thread; else None.
    elements : int
        How many the drivers update.
    large : bool
        Whether threads may pay.
    measured : list of float64 arrays
        What the first pass has measured of each array.
    sums : float64 array of shape (arrays, sums)
        Those of what was measured that are sums over elements.
    running : float64 array of shape (arrays + 1, totals)
        Sums of these over the arrays so far.
    scratch : dict
        What a rule wants to find again at the next step.
    layout : Layout
        That of the state when the step is taken.
    buffers : dict
        The optimizer's state, with that of new parameters.
    grouped : Groups, optional
        What ``groups`` is from.
    """

    layout: Layout
    buffers: dict[np.dtype[Any], tuple[np.ndarray, ...]]
    grouped: Any

    def __init__(
        self,
        passes: list[Any],
        keys: Keys,
        params: list[Any],
        grads: list[Any],
        layout: Mapping[Hashable, Slot],
        states: Mapping[Hashable, Sequence[np.ndarray]],
        turn: np.ndarray,
        container: Any,
        scalars: int,
        followers: int,
        groups: Sequence[int],
        threads: Callable[[int], int],
        parallel_from: int,
        strict: bool,
        measures: Sequence[int],
        sums: int,
        totals: int,
    ) -> None:
        self.passes = passes
        self.keys = keys
        self.slots = [layout[key] for key in keys]
        self.states = [states[key] for key in keys]
        self.turn = turn
        self.strict = strict
        self.count = scalars
        self.followers = followers
        self.groups = groups
        # Of one size if there are sums, so that these are columns; of whole cache lines.
        wanted = [max(measures, default=0)] * len(measures) if sums else measures
        sizes = [-(-size // 8) * 8 for size in wanted]
        measured, ends = np.zeros(sum(sizes)), accumulate(sizes)
        self.measured = [measured[end - size : end] for end, size in zip(ends, sizes, strict=True)]
        self.sums = measured.reshape(len(sizes), -1)[:, :sums] if sums and sizes else np.empty((0, sums))
        self.scratch: dict[Any, Any] = {}
        self.running = np.zeros((len(self.slots) + 1, totals))

        taken = memory(params)
        together = available() and taken is not None and not any(meets(grad, taken) for grad in grads)
        places: dict[np.dtype[Any], list[int]] = {}
        self.one_by_one = []
        frozen = []
        for place, (slot, param, grad) in enumerate(zip(self.slots, params, grads, strict=True)):
            if groups[place] == FROZEN:
                frozen.append(place)
            elif together and slot.takes(param) and slot.takes(grad):
                places.setdefault(slot.dtype, []).append(place)
            else:
                self.one_by_one.append(place)
        # Whether drivers can look at the gradients of those that are frozen.
        looked = bool(places) and all(
            self.slots[place].takes(params[place]) and self.slots[place].takes(grads[place])
            for place in frozen
        )
        self.reusable = not self.one_by_one and (looked or not frozen)
        self.container: Any = None if self.reusable else container

        self.elements = sum(self.slots[place].size for here in places.values() for place in here)
        self.large = self.elements >= parallel_from
        self.threads = threads(self.elements) if self.large else 1
        self.drivers: list[list[Callable[..., int]]] = [[] for _ in passes]
        self.tables: list[list[np.ndarray]] = [[] for _ in passes]
        for k, kernel in enumerate(passes):
            for n, (dtype, here) in enumerate(places.items()):
                width = len(self.states[here[0]]) - followers
                count = scalars - 2 * followers
                self.drivers[k].append(
                    driver_of(
                        kernel,
                        dtype,
                        width,
                        count,
                        self.threads > 1,
                        whole=len(passes) > 1,
                        look=k == 0,
                        followers=followers,
                    )
                )
                # The first call looks at all arrays, so that it can still refuse for all.
                others = [frozen if looked else [], *list(places.values())[1:]] if k == n == 0 else []
                rest = [place for other in others for place in other]
                last = self.reusable and n + 1 == len(places) and kernel is passes[-1]
                self.tables[k].append(self.table(here, rest, params, grads, taken or [], last))
        # Most plans are this one call.
        single = self.reusable and len(passes) == len(self.drivers[0]) == self.threads == 1
        self.single = self.drivers[0][0] if single else None
        self.address = self.tables[0][0].ctypes.data if single else 0
        # The tables know dtypes by their ids, which are theirs only as long as they live.
        self.dtypes = [array.dtype for array in (*params, *grads) if isinstance(array, np.ndarray)]

    def table(
        self,
        places: list[int],
        rest: list[int],
        params: list[np.ndarray],
        grads: list[np.ndarray],
        taken: list[tuple[int, int]],
        last: bool,
    ) -> np.ndarray:
        """Give the driver's table: these arrays are updated, the rest only looked at."""
        arrays = 2 + len(self.states[places[0]])
        width = driver.ADDRESSES + 2 * arrays
        dims_at = driver.HEADER + width * (len(places) + len(rest))
        parts = self.parts([self.slots[place].size for place in places])
        rows: list[int] = []
        dims: list[int] = []
        start = 0
        for place, part in zip((*places, *rest), (*parts, *(0 for _ in rest)), strict=True):
            param, grad, slot, states = params[place], grads[place], self.slots[place], self.states[place]
            rows += (
                place, start, slot.size, param.nbytes, param.ndim, dims_at + len(dims),
                id(param.dtype), param.flags.num & FLAGS, id(grad.dtype), grad.flags.num & FLAGS,
                part, self.measured[place].ctypes.data, self.measured[place].size,
                max(self.groups[place], 0) * self.count * WORD,
                param.ctypes.data, 0, *(state.ctypes.data for state in states),
                slot.size, slot.size, *(state.size for state in states),
            )  # fmt: skip
            dims += param.shape
            start += slot.size
        header = (
            id(np.ndarray), id(float), (max(self.groups) + 1) * self.count, len(places) + len(rest),
            len(places),
            sum(self.slots[p].size for p in places), dims_at + len(dims), len(taken), self.threads,
            self.turn.ctypes.data, last, self.strict, False,
            self.running.shape[1], self.running[-1].ctypes.data,
        )  # fmt: skip
        return np.array([*header, *rows, *dims, *(bound for pair in taken for bound in pair)], np.int64)

    def parts(self, sizes: list[int]) -> list[int]:
        """Give each whole array to a thread: the largest first, each to the one that has least."""
        loads = [0] * self.threads
        result = [0] * len(sizes)
        for place in sorted(range(len(sizes)), key=lambda place: -sizes[place]):
            result[place] = loads.index(min(loads))
            loads[result[place]] += sizes[place]
        return result

    def calls(
        self,
        params: list[Any],
        grads: list[Any],
        scalars: tuple[float, ...],
        turn: int,
        between: Callable[["Plan"], Calls],
    ) -> Calls:
        """Give the C calls that take the step, for `run`.

        Parameters
        ----------
        params, grads : list
            From `align`, with the keys of this plan.
        scalars : tuple of float
            The kernel's scalars.
        turn : int
            The number of the step; the optimizer's turn is minus that.
        between : callable
            Gives the C calls to make between two passes.
        """
        self.scalars = scalars  # the drivers have its id only
        self.tables_of_rows: list[np.ndarray] = []
        calls: Calls = []
        for kernel, drivers, tables in zip(self.passes, self.drivers, self.tables, strict=True):
            if kernel is not self.passes[0]:
                calls.append(partial(self.running[0].fill, 0))  # the totals, if there is no array here
                if self.running.size:
                    summed = self.sums[:, : self.running.shape[1]]
                    calls.append(partial(np.add.accumulate, summed, 0, None, self.running[1:]))
                calls += between(self)
            calls += [
                partial(drive, id(params), id(grads), table.ctypes.data, id(scalars), -turn)
                for drive, table in zip(drivers, tables, strict=True)
            ]
            keys, kinds, works = [], [], []
            for place in self.one_by_one:
                param = params[place]
                first = self.groups[place] * self.count
                own = scalars[first : first + self.count]
                work = self.one(calls, kernel, place, param, grads[place], own)
                if not isinstance(param, np.ndarray):
                    keys.append(self.keys[place])
                    kinds.append(type(param))
                    works.append(work)
        if keys:  # numbers: the map is run through when its turn comes, after the kernels
            calls.append(
                partial(deque, map(setitem, repeat(self.container), keys, map(call, kinds, works)), 0)
            )
        if not (self.reusable and self.drivers[-1]):
            calls.append(partial(setitem, self.turn, (), turn + 1))
        return calls

    @property
    def unseen(self) -> bool:
        """Whether no driver looks at some of the gradients."""
        return len(self.one_by_one) > len(self.tables_of_rows)

    @property
    def found(self) -> bool:
        """Whether a driver has seen a gradient that isn't finite."""
        return any(table[driver.FOUND] for table in (*self.tables[0], *self.tables_of_rows))

    def one(
        self,
        calls: Calls,
        kernel: Any,
        place: int,
        param: Any,
        grad: Any,
        scalars: tuple[float, ...],
    ) -> np.ndarray:
        """Add what runs a kernel on one array, by way of copies where it can't take it; give the copy."""
        slot = self.slots[place]
        if isinstance(grad, Rows):
            return self.rows(calls, kernel, place, param, grad, scalars)
        own, ready = slot.takes(param), slot.takes(grad)
        work = param if own else np.empty(slot.shape, slot.dtype, slot.order)
        slope = grad
        if not ready or (isinstance(param, np.ndarray) and np.may_share_memory(param, grad)):
            slope = np.empty(slot.shape, slot.dtype, slot.order)
        arrays = [array.reshape(-1, order=slot.order) for array in (work, slope)]
        end = len(self.states[place]) - self.followers
        arrays += self.states[place][:end]
        count = self.count - 2 * self.followers
        scalars, weights = scalars[:count], scalars[count:]
        empty = [array[:0] for array in arrays]
        if len(self.passes) == 1:
            values = tuple(map(slot.dtype.type, scalars))
            arguments = (*arrays, *values)
            kernel(*empty, *values)  # compiled now, not inside of the step
        else:
            rows, cols = (0, *(slot.shape or (1,)))[-2:]
            measures = self.measured[place], self.running[-1]
            arguments = (rows, cols, *arrays, *measures, *scalars)
            kernel(rows, cols, *empty, *measures, *scalars)
        if not own:
            calls.append(partial(setitem, work, ..., param))  # np.copyto would call Python
        if slope is not grad:
            calls.append(partial(setitem, slope, ..., grad))
        calls.append(partial(kernel, *arguments))
        if kernel is self.passes[-1]:
            for k, follower in enumerate(self.states[place][end:]):
                follow(arrays[0][:0], follower[:0], *weights[2 * k : 2 * k + 2])  # compiled now
                calls.append(partial(follow, arrays[0], follower, *weights[2 * k : 2 * k + 2]))
        if not own and isinstance(param, np.ndarray) and kernel is self.passes[-1]:
            calls.append(partial(setitem, param, ..., work))
        return work

    def rows(
        self,
        calls: Calls,
        kernel: Any,
        place: int,
        param: np.ndarray,
        grad: Rows,
        scalars: tuple[float, ...],
    ) -> np.ndarray:
        """Add what runs a kernel on some rows, of copies where a driver can't; give the parameter, or its."""
        slot = self.slots[place]
        if available() and slot.order == "C" and slot.takes(param):
            own, numbers = len(self.states[place]) - self.followers, self.count - 2 * self.followers
            drive = driver_of(kernel, slot.dtype, own, numbers, False, followers=self.followers)
            table = self.table_of_rows(place, param, grad)
            self.tables_of_rows.append(table)
            calls.append(partial(drive, 0, 0, table.ctypes.data, id(self.scalars), -abs(self.turn.item())))
            return param
        wholes = [param, *(state.reshape(slot.shape, order=slot.order) for state in self.states[place])]
        parts = [np.empty(grad.values.shape, slot.dtype) for _ in wholes]
        flat, *states = [part.reshape(-1) for part in parts]
        count, end = self.count - 2 * self.followers, len(states) - self.followers
        values, weights = tuple(map(slot.dtype.type, scalars[:count])), scalars[count:]
        arguments = flat, grad.values.reshape(-1), *states[:end]
        kernel(*(array[:0] for array in arguments), *values)  # compiled now, not inside of the step
        for whole, part in zip(wholes, parts, strict=True):
            calls += gathering(whole, grad.indices, part)
        calls.append(partial(kernel, *arguments, *values))
        for k, follower in enumerate(states[end:]):
            follow(flat[:0], follower[:0], *weights[2 * k : 2 * k + 2])
            calls.append(partial(follow, flat, follower, *weights[2 * k : 2 * k + 2]))
        calls += [
            partial(setitem, whole, grad.indices, part) for whole, part in zip(wholes, parts, strict=True)
        ]
        return parts[0]

    def table_of_rows(self, place: int, param: np.ndarray, grad: Rows) -> np.ndarray:
        """Give the table in which each row of an array is one of its own, and nothing has to be checked."""
        arrays = [param, grad.values, *self.states[place]]
        count, width = len(grad.indices), param[:1].size
        nbytes = width * self.slots[place].dtype.itemsize
        first, step = np.zeros((2, driver.ADDRESSES + 2 * len(arrays)), np.int64)  # row i is first + i·step
        first[driver.SIZE] = width
        first[driver.OWN_SCALARS] = self.groups[place] * self.count * WORD
        first[driver.ADDRESSES : driver.ADDRESSES + len(arrays)] = [array.ctypes.data for array in arrays]
        step[driver.ADDRESSES : driver.ADDRESSES + len(arrays)] = nbytes
        step[driver.ADDRESSES + 1] = 0
        table = np.zeros(driver.HEADER + count * first.size, np.int64)
        table[[driver.ROWS, driver.ELEMENTS, driver.TURN]] = count, count * width, self.turn.ctypes.data
        rows = table[driver.HEADER :].reshape(count, first.size)
        np.multiply.outer(grad.indices, step, out=rows)
        rows += first
        # What is counted are the rows that there are.
        rows[:, driver.START] = np.arange(count) * width
        rows[:, driver.ADDRESSES + 1] += np.arange(count) * nbytes
        return table


def gathering(whole: np.ndarray, rows: np.ndarray, part: np.ndarray) -> Calls:
    """Give what copies rows of an array."""
    raw = part if whole.dtype == part.dtype else np.empty(part.shape, whole.dtype)
    # A subclass may have a `take` of its own. (The mode needs no copy; the indices are in range.)
    calls: Calls = [partial(np.ndarray.take, whole, rows, 0, raw, "clip")]
    return calls if raw is part else [*calls, partial(setitem, part, ..., raw)]


def run(calls: Calls) -> bool:
    """Make C calls, with no interrupt in between; give False, with nothing changed, if one refuses."""
    # A value too large for the dtype becomes infinite, as in the kernels: a caller who lets NumPy raise
    # for it, or turns warnings into errors, must not be left with half a step.
    with np.errstate(all="ignore"):
        # A driver that refuses is the first, and ends it. (By identity, as NumPy's calls give arrays.)
        return not any(map(is_, map(call, calls), repeat(driver.REFUSED)))


def compute_dtype(key: Hashable, param: Any) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Give the shape of a parameter and the dtype that it is computed in, or say why it can't be one."""
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
        hint = ", so pass .astype(float)" if dtype.kind in "iu" else ""
        raise TypeError(f"parameter {key!r} is {dtype}: it must be float32 or float64{hint}")
    return np.shape(param), compute


def check_param(key: Hashable, param: Any, assignable: bool) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Give the shape of a parameter and the dtype of its state, or say why it can't be updated."""
    shape, dtype = compute_dtype(key, param)
    if isinstance(param, np.ndarray):
        if not param.flags.writeable:
            raise ValueError(f"parameter {key!r} is read-only: it is updated in place, so pass a copy")
    elif not assignable:
        raise TypeError(
            f"parameter {key!r} is a number in a container that can't be assigned to: "
            "make it a 0-d array, or use a dict or a list"
        )
    return shape, dtype


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


def finite(grad: Any, dtype: np.dtype[Any]) -> bool:
    """Whether all values of a gradient, rounded to this dtype, and their squares are finite."""
    values = grad.values if isinstance(grad, Rows) else grad
    with np.errstate(all="ignore"):
        return bool(driver.finite(np.asarray(values, dtype).ravel("K")))  # type: ignore[no-untyped-call]


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
