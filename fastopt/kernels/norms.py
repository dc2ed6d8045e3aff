"""Norms of gradients and clipping by them; sums are in double precision and depend on the sizes only."""

import numpy as np

from fastopt.kernels.common import LANES, choose, lane_sum, loop_range, square_sums
from fastopt.kernels.jit import compiled

__all__ = ["clip_grad", "clip_statistics", "grad_squares", "no_update", "squares"]

# So many elements are summed in lanes; then these sums, one after the other.
BLOCK = 65_536


@compiled
def sum_squares(values, lanes):
    """Σx² of a flat array, with room for `LANES` sums."""
    total = 0.0
    for first in loop_range(0, values.size, BLOCK):
        block = values[first : min(first + BLOCK, values.size)]
        lanes[:LANES] = 0
        square_sums(block.size, lanes, block)
        total += lane_sum(lanes, 0)
    return total


@compiled
def squares(values):
    """Σx² of a flat array."""
    return sum_squares(values, np.empty(LANES, np.float64))


@compiled
def grad_squares(rows, cols, param, grad, statistics, totals, grad_scale, l2, keep):
    """Σg² of one array."""
    statistics[0] = sum_squares(grad, statistics[1:])


@compiled
def no_update(rows, cols, param, grad, statistics, totals, grad_scale, l2, keep):
    """Leave everything as it is."""


@compiled
def clip_statistics(
    rows, cols, param, grad, copy, statistics, totals, grad_scale, l2, keep, bound, norm_bound
):
    """Copy ← g, each element at most ``bound``; and the factor that brings its norm down to a bound."""
    most = grad.dtype.type(bound)
    for i in range(grad.size):
        x = grad[i]
        copy[i] = choose(x > most, most, choose(x < -most, -most, x))
    statistics[0] = 1.0
    if norm_bound < np.inf:
        factor = norm_bound / (np.sqrt(sum_squares(copy, statistics[1:])) + 1e-6)
        statistics[0] = factor if factor < 1 else 1.0


@compiled
def clip_grad(rows, cols, param, grad, copy, statistics, totals, grad_scale, l2, keep, bound, norm_bound):
    """Copy ← factor·copy."""
    factor = grad.dtype.type(statistics[0])
    if factor != 1:
        for i in range(copy.size):
            copy[i] = copy[i] * factor
