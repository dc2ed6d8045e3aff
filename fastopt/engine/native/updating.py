"""The compiled update of one array: contiguous or strided, whole or in pieces, or only some of its rows."""

import numpy as np
from numba import float32, float64, int64

from fastopt.engine.native.guarding import guarded, is_piece_inside, is_whole_inside
from fastopt.engine.native.lines import GRAD, ONE, PARAM, ROW_TYPE, ZERO, is_across
from fastopt.engine.native.pointers import array_at, call, pointer, record_at, record_type
from fastopt.engine.native.strided import gather_block, scatter_block
from fastopt.engine.table import (
    DIRECT,
    GATHERED,
    GRAD_ROOM,
    HEADER,
    MAX_LINES,
    PARAM_ROOM,
    PIECE,
    PIECE_ROOM,
    TILE_LINES,
    TILE_PITCH,
    TILE_WIDTH,
)
from fastopt.kernels.common import follow
from fastopt.kernels.jit import internal

__all__ = [
    "HEADER_TYPE",
    "take_statistics",
    "update_averages",
    "update_contiguous",
    "update_elements",
    "update_indices",
    "update_whole",
]

HEADER_TYPE = record_type(HEADER)
PITCH = np.int64(TILE_PITCH)

# Shorter lines are updated several at a time: a call for each would take longer.
MIN_TILED = 64


@internal
def update_averages(row_address, pool_address, scalars, param, offset, size):
    """Let the averages follow some elements of the parameter, while these are in the first cache."""
    row, pool = record_at(row_address, ROW_TYPE), pointer(pool_address, int64)
    numbers = pointer(scalars, float64)
    for k in range(row.n_averages):
        at = row.arrays_at + 2 * (row.n_states + k)
        weight, back = numbers[row.n_rule_scalars + 2 * k], numbers[row.n_rule_scalars + 2 * k + 1]
        address = pool[at] + offset * row.itemsize
        if row.itemsize == 8:
            follow(array_at(param, size, float64), array_at(address, size, float64), weight, back)
        else:
            follow(array_at(param, size, float32), array_at(address, size, float32), weight, back)
    return 0


@guarded(is_piece_inside)
def update_piece(header, row, pool, room, param, grad, offset, size):
    """Update some elements, contiguous ones. Returns 1 if their gradient isn't finite, else 0."""
    piece = pointer(room + PIECE_ROOM, int64)
    piece[0], piece[1], piece[2], piece[3], piece[4], piece[5] = 0, 0, param, size, grad, size
    if row.is_quantized:  # whose states the rule's caller finds by the number of the first element
        piece[0] = offset
        for k in range(2 * row.n_states):
            piece[6 + k] = pool[row.arrays_at + k]
    else:
        for k in range(row.n_states):
            piece[6 + 2 * k] = pool[row.arrays_at + 2 * k] + offset * row.itemsize
            piece[7 + 2 * k] = size
    own = header.scalars_address + 8 * row.scalars
    found = call(row.rule_address, (room + PIECE_ROOM, own))
    if row.n_averages:
        call(header.averages_address, (row.address, header.pool_address, own, param, offset, size))
    return found


@internal
def update_block(header, row, pool, room, line, n_lines, first, width):
    """Update some lines, or a part of one, by way of the scratch."""
    offset, size = line * pool[row.axes_at] + first, n_lines * width
    at = offset * row.itemsize
    grad, param = room + GRAD_ROOM, room + PARAM_ROOM
    if row.grad_mode == GATHERED:
        gather_block(header, row, room, GRAD, line, n_lines, first, width, grad, width)
    else:
        grad = (row.grad_address if row.grad_mode == DIRECT else row.grad_copy_address) + at
    if row.param_mode != GATHERED:
        param = (row.param_address if row.param_mode == DIRECT else row.param_copy_address) + at
        return update_piece(header, row, pool, room, param, grad, offset, size)
    gather_block(header, row, room, PARAM, line, n_lines, first, width, param, width)
    found = update_piece(header, row, pool, room, param, grad, offset, size)
    scatter_block(header, row, room, line, n_lines, first, width, param, width)
    return found


@internal
def update_tile(header, row, pool, room, line, n_lines, first, width):
    """Update a part of some lines that are closer neighbors than their elements, with a call for each."""
    inner, size = pool[row.axes_at], row.itemsize
    grads, params = room + GRAD_ROOM, room + PARAM_ROOM
    grad_pitch = param_pitch = PITCH
    if row.grad_mode == GATHERED:
        gather_block(header, row, room, GRAD, line, n_lines, first, width, grads, PITCH)
    else:
        grads = row.grad_address if row.grad_mode == DIRECT else row.grad_copy_address
        grads, grad_pitch = grads + (line * inner + first) * size, inner
    if row.param_mode == GATHERED:
        gather_block(header, row, room, PARAM, line, n_lines, first, width, params, PITCH)
    else:
        params = row.param_address if row.param_mode == DIRECT else row.param_copy_address
        params, param_pitch = params + (line * inner + first) * size, inner
    found = 0
    for k in range(n_lines):
        param, grad = params + k * param_pitch * size, grads + k * grad_pitch * size
        found |= update_piece(header, row, pool, room, param, grad, (line + k) * inner + first, width)
    if row.param_mode == GATHERED:
        scatter_block(header, row, room, line, n_lines, first, width, params, PITCH)
    return found


@internal
def copy_range(header, row, room, which, inner, at, size, is_back):
    """Copy some elements in the order of the state to the scratch, or back to the parameter."""
    done = 0
    while done < size:
        line, first = (at + done) // inner, (at + done) % inner
        n_lines, width = 1, min(inner - first, size - done)
        if width == inner:
            n_lines = min((size - done) // inner, MAX_LINES)
        here = room + (GRAD_ROOM if which == GRAD else PARAM_ROOM) + done * row.itemsize
        if is_back:
            scatter_block(header, row, room, line, n_lines, first, width, here, width)
        else:
            gather_block(header, row, room, which, line, n_lines, first, width, here, width)
        done += n_lines * width


@internal
def update_range(header, row, pool, room, at, size):
    """Update some elements in the order of the state, by way of the scratch."""
    inner, offset = pool[row.axes_at], at * row.itemsize
    grad, param = room + GRAD_ROOM, room + PARAM_ROOM
    if row.grad_mode == GATHERED:
        copy_range(header, row, room, GRAD, inner, at, size, False)
    else:
        grad = (row.grad_address if row.grad_mode == DIRECT else row.grad_copy_address) + offset
    if row.param_mode != GATHERED:
        param = (row.param_address if row.param_mode == DIRECT else row.param_copy_address) + offset
        return update_piece(header, row, pool, room, param, grad, at, size)
    copy_range(header, row, room, PARAM, inner, at, size, False)
    found = update_piece(header, row, pool, room, param, grad, at, size)
    copy_range(header, row, room, PARAM, inner, at, size, True)
    return found


@internal
def update_elements(table, row_address, room, low, high):
    """Update the elements from low to below high of strided arrays, in the order of the state.

    Returns 1 if a gradient isn't finite, else 0.
    """
    header, row = record_at(table, HEADER_TYPE), record_at(row_address, ROW_TYPE)
    pool = pointer(header.pool_address, int64)
    found = 0
    inner = pool[row.axes_at]
    gathers_param, gathers_grad = row.param_mode == GATHERED, row.grad_mode == GATHERED
    if row.is_quantized:
        for at in range(low, high, PIECE):
            found |= update_range(header, row, pool, room, at, min(PIECE, high - at))
        return found
    by_tiles = (gathers_param and is_across(pool, row, PARAM)) or (
        gathers_grad and is_across(pool, row, GRAD)
    )
    if by_tiles and inner >= MIN_TILED:
        low, high = (low + inner - 1) // inner, (high + inner - 1) // inner
        for line in range(low, high, TILE_LINES):
            n_lines = min(TILE_LINES, high - line)
            for first in range(0, inner, TILE_WIDTH):
                width = min(TILE_WIDTH, inner - first)
                found |= update_tile(header, row, pool, room, line, n_lines, first, width)
        return found
    if inner <= PIECE:
        n_lines = min(MAX_LINES, PIECE // inner)
        low, high = (low + inner - 1) // inner, (high + inner - 1) // inner
        for line in range(low, high, n_lines):
            found |= update_block(header, row, pool, room, line, min(n_lines, high - line), ZERO, inner)
        return found
    while low < high:
        line, first = low // inner, low % inner
        width = min(PIECE, inner - first, high - low)
        found |= update_block(header, row, pool, room, line, ONE, first, width)
        low += width
    return found


@internal
def update_contiguous(header, row, pool, room, low, high):
    """Update the elements from low to below high. Returns 1 if a gradient isn't finite, else 0."""
    param = row.param_address if row.param_mode == DIRECT else row.param_copy_address
    grad = row.grad_address if row.grad_mode == DIRECT else row.grad_copy_address
    # The averages follow a piece while it is in the first cache. A rule takes pieces of its own.
    piece = PIECE if row.n_averages else high - low
    found = 0
    while low < high:
        size = min(piece, high - low)
        at = low * row.itemsize
        found |= update_piece(header, row, pool, room, param + at, grad + at, low, size)
        low += size
    return found


@internal
def update_indices(header, row, pool, room):
    """Update the rows of a table that have a gradient. Returns 1 if one isn't finite, else 0."""
    indices = pointer(row.indices_address, int64)
    width = row.size // max(pool[row.shape_at], 1)
    found = 0
    for k in range(row.n_indices):
        for first in range(0, width, PIECE):
            offset = indices[k] * width + first
            param = row.param_address + offset * row.itemsize
            grad = row.grad_address + (k * width + first) * row.itemsize
            size = min(PIECE, width - first)
            found |= update_piece(header, row, pool, room, param, grad, offset, size)
    return found


@guarded(is_whole_inside)
def run_whole(header, row, pool, room, rule):
    """Run a rule of whole arrays on one array."""
    piece = pointer(room + PIECE_ROOM, int64)
    n = row.n_states
    piece[0], piece[1] = row.n_matrix_rows, row.n_matrix_columns
    piece[2] = row.param_address if row.param_mode == DIRECT else row.param_copy_address
    piece[4] = row.grad_address if row.grad_mode == DIRECT else row.grad_copy_address
    piece[3], piece[5] = row.size, row.size
    for k in range(2 * n):
        piece[6 + k] = pool[row.arrays_at + k]
    piece[6 + 2 * n], piece[7 + 2 * n] = row.statistics_address, row.n_statistics
    piece[8 + 2 * n], piece[9 + 2 * n] = header.totals_address, header.n_totals
    call(rule, (room + PIECE_ROOM, header.scalars_address + 8 * row.scalars))


@internal
def copy_whole(header, row, pool, room, which, target):
    """Gather a whole parameter (which = PARAM) or gradient (GRAD)."""
    inner = pool[row.axes_at]
    for line in range(row.size // max(inner, 1)):
        here = target + line * inner * row.itemsize
        gather_block(header, row, room, which, line, ONE, ZERO, inner, here, inner)


@internal
def take_statistics(header, row, pool, room):
    """Run the statistics pass on one array. Returns 1 if its gradient isn't finite, else 0."""
    if row.param_mode == GATHERED:
        copy_whole(header, row, pool, room, PARAM, row.param_copy_address)
    if row.grad_mode == GATHERED:
        copy_whole(header, row, pool, room, GRAD, row.grad_copy_address)
    run_whole(header, row, pool, room, row.statistics_rule_address)
    grad = row.grad_address if row.grad_mode == DIRECT else row.grad_copy_address
    return 1 - call(header.is_finite_address, (grad, row.size, row.itemsize))


@internal
def update_whole(header, row, pool, room):
    """Update one whole array."""
    run_whole(header, row, pool, room, row.rule_address)
    param = row.param_address if row.param_mode == DIRECT else row.param_copy_address
    if row.n_averages:
        own = header.scalars_address + 8 * row.scalars
        call(header.averages_address, (row.address, header.pool_address, own, param, 0, row.size))
    if row.param_mode == GATHERED:
        inner = pool[row.axes_at]
        for line in range(row.size // max(inner, 1)):
            here = param + line * inner * row.itemsize
            scatter_block(header, row, room, line, ONE, ZERO, inner, here, inner)
