"""The commit of a step: one call into compiled code that looks at every array, then updates them all.

The arrays stay objects of the caller's: compiled code is given the ids of two lists, which are addresses,
and reads each array's address, shape, dtype and flags from its C struct, for which Python needs some
0.5 µs an array; and the scalars from a tuple. `available` says
whether these structs are laid out as expected here; where they aren't, or nothing is compiled
(``NUMBA_DISABLE_JIT``), `fastopt.plan` calls the kernel once an array.

What it is to do is a table of numbers (`fastopt.plan.Plan.table`): a header, a row for each array, the
dimensions of all arrays, and the address ranges of all parameters.

An elementwise kernel is given pieces of arrays; those of a rule that measures first are given whole arrays.
"""

import ctypes
import hashlib
from collections.abc import Callable
from functools import cache
from math import sqrt
from pathlib import Path
from types import FunctionType
from typing import Any

import numpy as np
from numba import config, float32, float64, int32, int64, prange, types
from numba.extending import intrinsic
from numba.np.arrayobj import make_array, populate_array

from fastopt.engine.threads import launch
from fastopt.kernels.common import follow
from fastopt.kernels.compiling import compiled

__all__ = ["DONE", "FLAGS", "NONFINITE", "REFUSED", "available", "driver_of"]

# Offsets in CPython's PyObject, PyListObject, PyTupleObject and PyFloatObject and in NumPy's
# PyArrayObject_fields, in bytes.
TYPE = ctypes.sizeof(ctypes.c_ssize_t)
VALUE = HEAD = object.__basicsize__
ITEMS = ENTRIES = HEAD + 8
DATA, NDIM, SHAPE, DESCR, FLAG = HEAD, HEAD + 8, HEAD + 16, HEAD + 40, HEAD + 48

# NPY_ARRAY_C_CONTIGUOUS, F_CONTIGUOUS, ALIGNED and WRITEABLE
FLAGS = 0x0001 | 0x0002 | 0x0100 | 0x0400

# The header of a table: the ids of numpy.ndarray and float; how many scalars there are; how many rows
# are checked, and how many of them, from the first, are updated, with how many elements; where the taken
# address ranges begin, and how many there are; the threads; the address of the optimizer's turn; whether
# the step ends with this table; whether gradients have to be finite; whether one wasn't at the last call;
# how many measures are summed over all arrays, and the address of these sums.
HEADER = 15
(
    NDARRAY, FLOAT, SCALARS, CHECKED, ROWS, ELEMENTS, TAKEN, RANGES, THREADS, TURN, LAST, STRICT, FOUND,
    SUMMED, TOTALS,
) = range(HEADER)  # fmt: skip

# An entry of a tuple, in bytes.
WORD = 8

# What a driver returns.
DONE, REFUSED, NONFINITE = range(3)

# A row: the array's place in the lists, its first element among those of all rows, its size, its bytes;
# how many dimensions, and where they stand; the dtypes and flags of parameter and gradient; for whole arrays
# the thread, and the address and number of the measures; where in the tuple of scalars its own begin, in
# bytes; the addresses of parameter, gradient (which the check fills in) and each state; the sizes of all
# these.
(
    PLACE, START, SIZE, BYTES, N_DIM, DIMS, PARAM_DESCR, PARAM_FLAGS, GRAD_DESCR, GRAD_FLAGS, PART, MEASURED,
    MEASURES, OWN_SCALARS,
) = range(14)  # fmt: skip
ADDRESSES = 14

# Threads share the elements at multiples of this, so that they share no cache line of the state.
BLOCK = 64

# So many elements are looked at, then updated while they are in the first cache.
CHUNK = 4096


@intrinsic
def pointer(typingctx, address, dtype):
    """Give the pointer to values of a type at an address."""

    def codegen(context, builder, signature, arguments):
        return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

    return types.CPointer(dtype.instance_type)(address, dtype), codegen


def tuple_of_arrays(context, builder, result, addresses, sizes):
    """Build a tuple of flat arrays."""
    array = result.dtype
    item = context.get_data_type(array.dtype)
    itemsize = context.get_constant(types.intp, context.get_abi_sizeof(item))
    views = []
    for address, size in zip(addresses, sizes, strict=True):
        view = make_array(array)(context, builder)
        populate_array(
            view,
            data=builder.inttoptr(address, item.as_pointer()),
            shape=[size],
            strides=[itemsize],
            itemsize=itemsize,
            meminfo=None,
        )
        views.append(view._getvalue())
    return context.make_tuple(builder, result, views)


def entry(context, builder, table, at, k):
    """Load the number k places after another in a table."""
    return builder.load(builder.gep(table, [builder.add(at, context.get_constant(types.intp, k))]))


@intrinsic(prefer_literal=True)
def pieces(typingctx, table, at, count, first, size, dtype):
    """Give a tuple of ``count`` arrays: ``size`` elements from the first after each address from ``at``."""
    result = types.UniTuple(types.Array(dtype.dtype, 1, "C"), count.literal_value)

    def codegen(context, builder, signature, arguments):
        table, at, _, first, size, _ = arguments
        itemsize = context.get_abi_sizeof(context.get_data_type(result.dtype.dtype))
        offset = builder.mul(first, context.get_constant(types.intp, itemsize))
        addresses = [builder.add(entry(context, builder, table, at, k), offset) for k in range(result.count)]
        return tuple_of_arrays(context, builder, result, addresses, [size] * result.count)

    return result(table, at, count, first, size, dtype), codegen


@intrinsic(prefer_literal=True)
def wholes(typingctx, table, at, count, more, dtype):
    """Give a tuple of ``count`` arrays: their addresses are from ``at``, their sizes ``more`` after these."""
    result = types.UniTuple(types.Array(dtype.dtype, 1, "C"), count.literal_value)

    def codegen(context, builder, signature, arguments):
        table, at, _, _, _ = arguments
        sizes_at = result.count + more.literal_value
        addresses = [entry(context, builder, table, at, k) for k in range(result.count)]
        sizes = [entry(context, builder, table, at, sizes_at + k) for k in range(result.count)]
        return tuple_of_arrays(context, builder, result, addresses, sizes)

    return result(table, at, count, more, dtype), codegen


@intrinsic(prefer_literal=True)
def rounded(typingctx, scalars, count, dtype):
    """Give the values of the floats in the tuple at an address, in a dtype."""
    result = types.UniTuple(dtype.dtype, count.literal_value)

    def codegen(context, builder, signature, arguments):
        double = context.get_value_type(types.float64).as_pointer()
        word = context.get_value_type(int64)
        values = []
        for k in range(result.count):
            entry = builder.add(arguments[0], word(ENTRIES + WORD * k))
            number = builder.load(builder.inttoptr(entry, word.as_pointer()))
            value = builder.load(builder.inttoptr(builder.add(number, word(VALUE)), double))
            values.append(context.cast(builder, value, types.float64, dtype.dtype))
        return context.make_tuple(builder, result, values)

    return result(scalars, count, dtype), codegen


@compiled
def matches(array, table, at, descr, flags):
    """Whether the object at an address is a plain array as a row of the table knows it."""
    if pointer(array + TYPE, int64)[0] != table[NDARRAY]:
        return False
    if pointer(array + DESCR, int64)[0] != descr:
        return False
    if pointer(array + FLAG, int32)[0] & FLAGS != flags:
        return False
    if pointer(array + NDIM, int32)[0] != table[at + N_DIM]:
        return False
    shape = pointer(array + SHAPE, int64)[0]
    for axis in range(table[at + N_DIM]):
        if pointer(shape + 8 * axis, int64)[0] != table[table[at + DIMS] + axis]:
            return False
    return True


@compiled
def apart(first, last, table):
    """Whether the bytes from first to last lie outside the address ranges taken, which are sorted."""
    low, high, taken = 0, table[RANGES], table[TAKEN]
    while low < high:
        middle = (low + high) // 2
        if table[taken + 2 * middle + 1] > first:
            high = middle
        else:
            low = middle + 1
    return low == table[RANGES] or table[taken + 2 * low] >= last


def finite(grad):
    """Whether all values and their squares are finite."""
    total = grad.dtype.type(0)
    for i in range(grad.size):
        total += abs(grad[i])
    if total < sqrt(np.finfo(grad.dtype).max):
        return True
    beyond = 0
    for i in range(grad.size):
        beyond += not grad[i] * grad[i] < np.inf
    return beyond == 0


# The one place where a sum may be reordered: its bits don't matter, and in order it would not be vectorized.
finite = compiled(finite, fastmath={"reassoc"})


@compiled
def as_planned(params, grads, table, scalars, turn, width):
    """Whether all is as the table knows it, and no gradient shares memory with a parameter."""
    table = pointer(table, int64)
    if pointer(table[TURN], int64)[0] != turn:
        return False
    for k in range(table[SCALARS]):
        if pointer(pointer(scalars + ENTRIES + 8 * k, int64)[0] + TYPE, int64)[0] != table[FLOAT]:
            return False
    params = pointer(params + ITEMS, int64)[0]
    grads = pointer(grads + ITEMS, int64)[0]
    for i in range(table[CHECKED]):
        at = HEADER + width * i
        param = pointer(params + 8 * table[at + PLACE], int64)[0]
        if not matches(param, table, at, table[at + PARAM_DESCR], table[at + PARAM_FLAGS]):
            return False
        if pointer(param + DATA, int64)[0] != table[at + ADDRESSES]:
            return False
        grad = pointer(grads + 8 * table[at + PLACE], int64)[0]
        if not matches(grad, table, at, table[at + GRAD_DESCR], table[at + GRAD_FLAGS]):
            return False
        address = pointer(grad + DATA, int64)[0]
        if not apart(address, address + table[at + BYTES], table):
            return False
        table[at + ADDRESSES + 1] = address
        if table[STRICT]:
            if table[at + BYTES] == 4 * table[at + SIZE]:
                fine = finite(pieces(table, at + ADDRESSES + 1, 1, 0, table[at + SIZE], float32)[0])
            else:
                fine = finite(pieces(table, at + ADDRESSES + 1, 1, 0, table[at + SIZE], float64)[0])
            if not fine:
                return False
    return True


def rule(*arguments):
    """Stand for the kernel in `share`: `driver_of` puts one in its place."""
    raise NotImplementedError


# `driver_of` gives each driver its own, as Numba takes globals for a part of the code.
dtype, ARRAYS, FOLLOWERS, WIDTH, COUNT, LOOK = np.dtype(np.float64), 2, 0, ADDRESSES + 2 * 2, 3, True


def share(table, scalars, part, parts):
    """Update one of several equal parts of the elements; tell whether a gradient wasn't finite."""
    table = pointer(table, int64)
    found = 0
    elements = table[ELEMENTS]
    first = elements * part // parts // BLOCK * BLOCK
    last = elements if part + 1 == parts else elements * (part + 1) // parts // BLOCK * BLOCK
    for i in range(table[ROWS]):
        at = HEADER + WIDTH * i
        start = table[at + START]
        low, high = max(first, start), min(last, start + table[at + SIZE])
        for chunk in range(low, high, CHUNK):
            size = min(CHUNK, high - chunk)
            arrays = pieces(table, at + ADDRESSES, ARRAYS, chunk - start, size, dtype)
            if not finite(arrays[1]):
                found = 1
            own = scalars + table[at + OWN_SCALARS]
            rule(*arrays, *rounded(own, COUNT, dtype))
            for k in range(FOLLOWERS):  # while the piece is in the first cache
                follower = pieces(table, at + ADDRESSES + ARRAYS + k, 1, chunk - start, size, dtype)[0]
                follow(arrays[0], follower, *rounded(own + WORD * (COUNT + 2 * k), 2, float64))
    return found


def share_wholes(table, scalars, part, parts):
    """Give a kernel each of the arrays that are one thread's; tell whether a gradient wasn't finite."""
    table = pointer(table, int64)
    found = 0
    for i in range(table[ROWS]):
        at = HEADER + WIDTH * i
        if table[at + PART] == part:
            arrays = wholes(table, at + ADDRESSES, ARRAYS, FOLLOWERS, dtype)
            if LOOK and not finite(arrays[1]):
                found = 1
            last = table[at + DIMS] + table[at + N_DIM] - 1
            cols = table[last] if table[at + N_DIM] > 0 else 1
            rows = table[last - 1] if table[at + N_DIM] > 1 else 0
            measures = pieces(table, at + MEASURED, 1, 0, table[at + MEASURES], float64)
            totals = pieces(table, TOTALS, 1, 0, table[SUMMED], float64)
            own = scalars + table[at + OWN_SCALARS]
            rule(rows, cols, *arrays, *measures, *totals, *rounded(own, COUNT, float64))
            for k in range(0 if LOOK else FOLLOWERS):  # not in the pass that measures, which comes first
                follower = pieces(table, at + ADDRESSES + ARRAYS + k, 1, 0, table[at + SIZE], dtype)[0]
                follow(arrays[0], follower, *rounded(own + WORD * (COUNT + 2 * k), 2, float64))
    return found


@compiled
def finished(table, turn, found):
    """Note what was found, and give the turn to the next step if this one ends with the table."""
    table = pointer(table, int64)
    table[FOUND] = found
    if table[LAST]:
        pointer(table[TURN], int64)[0] = abs(turn) + 1
    return NONFINITE if found else DONE


def drive(params, grads, table, scalars, turn):
    """Update every array of a table and count the step, or do nothing.

    Parameters
    ----------
    params, grads : int
        The ``id`` of the list of parameters and of the list of gradients, in the order of the plan.
    table : int
        The address of what to do.
    scalars : int
        The ``id`` of the tuple of the kernel's scalars.
    turn : int
        What the optimizer's turn must be: the number of this step, or minus it in a step of several calls.

    Returns
    -------
    int
        DONE; NONFINITE if a gradient had a value that isn't finite, or whose square isn't; REFUSED if an
        array is not as the plan knows it, a gradient shares memory with a parameter, a scalar is no float,
        another step came in between, or a gradient isn't finite and has to be. Then nothing has changed.
    """
    if not as_planned(params, grads, table, scalars, turn, WIDTH):
        return REFUSED
    return finished(table, turn, share(table, scalars, 0, 1))


def drive_parallel(params, grads, table, scalars, turn):
    """Do as `drive` does, in threads."""
    if not as_planned(params, grads, table, scalars, turn, WIDTH):
        return REFUSED
    threads = pointer(table, int64)[THREADS]
    found = 0
    for part in prange(threads):
        found += share(table, scalars, int64(part), threads)
    return finished(table, turn, found)


def specialized(
    kernel: Any,
    dtype: np.dtype[Any],
    states: int,
    scalars: int,
    parallel: bool,
    whole: bool = False,
    look: bool = True,
    followers: int = 0,
) -> Any:
    """Give `drive` or `drive_parallel` for a kernel, a dtype and its numbers of states and scalars.

    ``whole`` is whether the kernel takes whole arrays, and ``look`` whether their gradients are looked at
    first, for values that aren't finite. After the kernel so many followers follow the parameter.

    Numba's disk cache finds a function by its file, line and qualified name, and neither by its globals
    nor by its flags. So each driver has a name of its own; and as the cache notices edits in the driver's
    file only, the name tells the source of the kernel, and of what it calls, as well.
    """
    function = kernel.py_func
    called = [f.py_func for f in (follow, *function.__globals__.values()) if hasattr(f, "py_func")]
    files = sorted({f.__code__.co_filename for f in (function, *called)})
    digest = hashlib.sha256(b"".join(Path(file).read_bytes() for file in files)).hexdigest()[:12]
    name = f"{kernel.__name__}_{dtype}_{'parallel' if parallel else 'serial'}_{followers}_{digest}"
    own: dict[str, Any] = {
        "rule": kernel,
        "dtype": dtype,
        "ARRAYS": 2 + states,
        "FOLLOWERS": followers,
        "WIDTH": ADDRESSES + 2 * (2 + states + followers),
        "COUNT": scalars,
        "LOOK": look,
    }

    def copy(function: Any, name: str, parallel: bool = False) -> Any:
        result = FunctionType(function.__code__, {**globals(), **own}, name)
        result.__qualname__ = name
        result.__module__ = __name__
        return compiled(result, parallel=parallel)

    own["share"] = copy(share_wholes if whole else share, f"share_{name}")
    return copy(drive_parallel if parallel else drive, name, parallel)


@cache
def driver_of(
    kernel: Any,
    dtype: np.dtype[Any],
    states: int,
    scalars: int,
    parallel: bool,
    whole: bool = False,
    look: bool = True,
    followers: int = 0,
) -> Callable[..., int]:
    """Compile a driver, or read it from the disk."""
    # What `compile` gives doesn't look at the types of its arguments, which takes half of a short call.
    with launch:
        driver: Callable[..., int] = specialized(
            kernel, dtype, states, scalars, parallel, whole, look, followers
        ).compile((int64,) * 5)
    return driver


@cache
def available() -> bool:
    """Whether compiled code may read lists and arrays as their C structs."""
    if config.DISABLE_JIT or TYPE != 8:
        return False
    array = np.empty((2, 3), np.float32)
    pair, scalars = [array, array], (1.0, 0.1)

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
        and read(id(scalars) + ENTRIES + 8, word) == id(scalars[1])
        and read(id(scalars[1]) + TYPE, word) == id(float)
        and ctypes.c_double.from_address(id(scalars[1]) + VALUE).value == 0.1
    )
