"""Norms of gradients and clipping by them; sums are in double precision and depend on the sizes only.

The global norm is a sum for each block of `BLOCK` elements in `LANES` lanes, then in order over blocks and
arrays. Gradients are rounded to the parameter's dtype and read in C order, so the bits depend on nothing
else.
"""

from typing import Any

import numpy as np

from fastopt.kernels.common import LANES, choose, lane_sum, lane_sums, loop_range, square_sums
from fastopt.kernels.jit import compiled, with_names

__all__ = [
    "clip_grad", "clip_statistics", "grad_magnitudes", "grad_squares", "magnitudes", "no_update", "squares",
]  # fmt: skip

# So many elements are summed in lanes; then these sums, one after the other.
BLOCK = 65_536


def term_sums(size, lanes, values):
    """Take the place of the function that sums in lanes."""
    raise NotImplementedError


def sum_blocks(values, lanes):
    """Return the sum over a flat array, block by block, with room for `LANES` sums."""
    total = 0.0
    for first in loop_range(0, values.size, BLOCK):
        block = values[first : min(first + BLOCK, values.size)]
        lanes[:LANES] = 0
        term_sums(block.size, lanes, block)
        total += lane_sum(lanes, 0)
    return total


def in_blocks(sums: Any, name: str) -> Any:
    """Return ``f(values, lanes)``, which sums over a flat array what a function of `lane_sums` sums."""
    return compiled(with_names(sum_blocks, {"term_sums": sums}, name))


sum_squares = in_blocks(square_sums, "sum_squares")


@compiled
def squares(values):
    """Σx² of a flat array."""
    return sum_squares(values, np.empty(LANES, np.float64))


@lane_sums
def magnitude_sums(i, values):
    """Sum |x|."""
    return np.abs(np.float64(values[i]))


sum_magnitudes = in_blocks(magnitude_sums, "sum_magnitudes")


@compiled
def magnitudes(values):
    """Σ|x| of a flat array."""
    return sum_magnitudes(values, np.empty(LANES, np.float64))


@compiled
def grad_magnitudes(rows, cols, param, grad, statistics, totals, grad_scale, l2, keep):
    """Σ|g| of one array."""
    statistics[0] = sum_magnitudes(grad, statistics[1:])


@compiled
def grad_squares(rows, cols, param, grad, statistics, totals, grad_scale, l2, keep):
    """Σg² of one array."""
    statistics[0] = sum_squares(grad, statistics[1:])


@compiled
def no_update(rows, cols, param, grad, statistics, totals, grad_scale, l2, keep):
    """Leave everything as it is."""


@compiled
def clip_statistics(
    rows, cols, param, grad, copy, statistics, totals, grad_scale, l2, keep, bound, norm_bound, rms_bound
):
    """Copy ← g, each element at most ``bound``; and the factor that brings norm and RMS down to bounds."""
    most = grad.dtype.type(bound)
    for i in range(grad.size):
        x = grad[i]
        copy[i] = choose(x > most, most, choose(x < -most, -most, x))
    statistics[0] = 1.0
    if norm_bound < np.inf or rms_bound < np.inf:
        norm = np.sqrt(sum_squares(copy, statistics[1:]))
        factor = norm_bound / (norm + 1e-6)
        factor = factor if factor < 1 else 1.0
        rms = factor * norm / np.sqrt(np.float64(copy.size))
        statistics[0] = factor * (rms_bound / rms) if rms > rms_bound else factor


@compiled
def clip_grad(
    rows, cols, param, grad, copy, statistics, totals, grad_scale, l2, keep, bound, norm_bound, rms_bound
):
    """Copy ← factor·copy."""
    factor = grad.dtype.type(statistics[0])
    if factor != 1:
        for i in range(copy.size):
            copy[i] = copy[i] * factor
