"""A checked build, with FASTOPT_CHECKED=1: what a step reads and writes must belong to what its table names.

That is a parameter, a gradient, a state, an average, a copy or the room of a thread; in kernels each index
must be in its array. A step that breaks this, or a kernel that raises, ends the process, by an instruction
that no debugger misses. Where states begin, and how many counts and scalars there are, is believed. Steps
take several times as long.
"""

from collections.abc import Callable
from typing import Any

from numba import int64

from fastopt.engine.native.lines import GRAD, PARAM, line_offset
from fastopt.engine.native.pointers import pointer, trap
from fastopt.engine.table import DIRECT, GATHERED, MAX_LINES, PIECE_ROOM
from fastopt.kernels.jit import IS_CHECKED, internal

__all__ = ["guarded", "is_block_inside", "is_piece_inside", "is_target_inside", "is_whole_inside"]


def guarded(check: Any) -> Callable[[Any], Any]:
    """Return a decorator: in a checked build its function first sees whether ``check(*arguments)`` holds."""

    def decorate(function: Any) -> Any:
        unguarded = internal(function)
        if not IS_CHECKED:
            return unguarded

        @internal
        def checked(*arguments):
            if not check(*arguments):
                trap()
            return unguarded(*arguments)

        return checked

    return decorate


@internal
def is_within(address, n_bytes, start, length):
    """Whether some bytes lie in a piece of memory."""
    return start > 0 and length > 0 and start <= address and address + n_bytes <= start + length


@internal
def is_of_param(row, room, address, n_bytes):
    """Whether some bytes are those of the parameter, of its copy, or of the room of a thread."""
    direct = row.param_address + row.param_low
    return (
        (row.param_mode == DIRECT and is_within(address, n_bytes, direct, row.param_high - row.param_low))
        or is_within(address, n_bytes, row.param_copy_address, row.param_copy_bytes)
        or is_within(address, n_bytes, room, PIECE_ROOM)
    )


@internal
def is_of_grad(row, pool, room, address, n_bytes):
    """Whether some bytes are those of the gradient, of its copy, or of the room of a thread."""
    direct, length = row.grad_address + row.grad_low, row.grad_high - row.grad_low
    if row.indices_address != 0:
        direct = row.grad_address
        length = row.n_indices * (row.size // max(pool[row.shape_at], 1)) * row.itemsize
    return (
        (row.grad_mode != GATHERED and is_within(address, n_bytes, direct, length))
        or is_within(address, n_bytes, row.grad_copy_address, row.grad_copy_bytes)
        or is_within(address, n_bytes, room, PIECE_ROOM)
    )


@internal
def is_piece_inside(header, row, pool, room, param, grad, offset, size):
    """Whether the elements that `update_piece` updates are there in all arrays."""
    n_bytes = size * row.itemsize
    if size <= 0 or offset < 0 or offset + size > row.size:
        return False
    # What quantized states have there is the address of their scales.
    for k in range(row.n_states if row.is_quantized else 0, row.n_states + row.n_averages):
        if pool[row.arrays_at + 2 * k + 1] < offset + size:
            return False
    return is_of_param(row, room, param, n_bytes) and is_of_grad(row, pool, room, grad, n_bytes)


@internal
def is_whole_inside(header, row, pool, room, rule):
    """Whether the arrays that `run_whole` hands to a kernel are as large as it says."""
    param = row.param_address if row.param_mode == DIRECT else row.param_copy_address
    grad = row.grad_address if row.grad_mode == DIRECT else row.grad_copy_address
    n_bytes = row.size * row.itemsize
    for k in range(row.n_states, row.n_states + row.n_averages):
        if pool[row.arrays_at + 2 * k + 1] < row.size:
            return False
    return n_bytes == 0 or (
        is_of_param(row, room, param, n_bytes) and is_of_grad(row, pool, room, grad, n_bytes)
    )


@internal
def is_block_inside(header, row, room, which, line, n_lines, first, width, contiguous, pitch):
    """Whether the lines that are gathered or scattered lie in the array, and in the room for them."""
    pool = pointer(header.pool_address, int64)
    low, high, itemsize = row.param_low, row.param_high, row.itemsize
    if which == GRAD:
        low, high, itemsize = row.grad_low, row.grad_high, row.grad_itemsize
    if n_lines < 1 or n_lines > MAX_LINES or width < 1:
        return False
    stride = pool[row.axes_at + which]
    for k in range(n_lines):
        start = line_offset(pool, row.axes_at, row.n_axes, line + k, which) + first * stride
        end = start + (width - 1) * stride
        if min(start, end) < low or max(start, end) + itemsize > high:
            return False
    n_bytes = ((n_lines - 1) * pitch + width) * row.itemsize
    copy, length = row.param_copy_address, row.param_copy_bytes
    if which == GRAD:
        copy, length = row.grad_copy_address, row.grad_copy_bytes
    return is_within(contiguous, n_bytes, room, PIECE_ROOM) or is_within(contiguous, n_bytes, copy, length)


@internal
def is_target_inside(header, row, room, line, n_lines, first, width, source, pitch):
    """Do what `is_block_inside` does, for a block that goes back to the parameter."""
    return is_block_inside(header, row, room, PARAM, line, n_lines, first, width, source, pitch)
