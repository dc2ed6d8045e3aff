"""Sums of squares, in double precision and in an order that depends on the number of elements only."""

from functools import partial

import numpy as np
from numba import prange

from fastopt.kernels.common import LANES, add_square, lane_sum
from fastopt.kernels.compiling import compiled

__all__ = ["BLOCK", "squares", "squares_parallel"]

# So many elements are summed up by one thread; then these sums, one after the other.
BLOCK = 65_536


@compiled
def sum_blocks(values, totals, first, last):
    """Put Σx² of blocks into their totals."""
    sums = np.empty(LANES)
    for k in range(first, last):
        block = values[k * BLOCK : min((k + 1) * BLOCK, values.size)]
        sums[:] = 0
        add_square(block.size, block, sums)
        totals[k] = lane_sum(sums, 0)


@compiled
def in_order(totals):
    """Return the sum of numbers, one after the other."""
    total = 0.0
    for k in range(totals.size):
        total += totals[k]
    return total


@compiled
def squares(values):
    """Return Σx² of a flat array."""
    totals = np.empty((values.size + BLOCK - 1) // BLOCK)
    sum_blocks(values, totals, 0, totals.size)
    return in_order(totals)


@partial(compiled, parallel=True)
def squares_parallel(values, threads):
    """Return the same, computed in threads."""
    totals = np.empty((values.size + BLOCK - 1) // BLOCK)
    for part in prange(threads):
        first, last = totals.size * part // threads, totals.size * (part + 1) // threads
        sum_blocks(values, totals, first, last)
    return in_order(totals)
