"""Rules for tables, such as embeddings, of which a step changes some rows.

As in `fastopt.kernels.layerwise` there are two kernels. A row is all that has one index along the first
dimension, and is updated by itself, so that both may be given some rows only.
"""

import numpy as np
from numpy import sqrt

from fastopt.kernels.common import decayed, gradient, kernel, lane_sum, loop_range
from fastopt.kernels.jit import compiled
from fastopt.kernels.layerwise import gradient_squares
from fastopt.kernels.plain_layerwise import row_sums

__all__ = ["row_adagrad", "row_adagrad_measure"]

gradient_of, decay_of = gradient.in_numpy, decayed.in_numpy


def measure_rows(rows, cols, param, grad, h, sums, totals, grad_scale, l2, keep, lr, eps):
    """Compute Σg² of each row, as `row_adagrad_measure`."""
    if param.size == 0:
        return
    own = param.dtype.type
    g = gradient_of(grad[...], param[...], own(grad_scale), own(l2))
    sums[: h.size] = row_sums(np.square(np.float64(g)).reshape(h.size, -1))


def move_rows(rows, cols, param, grad, h, sums, totals, grad_scale, l2, keep, lr, eps):
    """Move the parameters, as `row_adagrad`."""
    if param.size == 0:
        return
    own = param.dtype.type
    width = param.size // h.size
    new = (np.float64(h[...]) + sums[: h.size] / width).astype(param.dtype)
    lengths = (lr / (sqrt(np.float64(new)) + eps)).astype(param.dtype)
    g = gradient_of(grad[...], param[...], own(grad_scale), own(l2))
    steps = lengths.reshape(-1, 1) * g.reshape(h.size, -1)
    param[...] = decay_of(own(keep), param[...]) - steps.reshape(-1)
    h[...] = new


@kernel(numpy=measure_rows)
def row_adagrad_measure(rows, cols, param, grad, h, sums, totals, grad_scale, l2, keep, lr, eps):
    """Compute Σg² of each row, which here is all that has one index along the first dimension."""
    own = param.dtype.type
    scale, decay = own(grad_scale), own(l2)
    width, lanes = param.size // max(h.size, 1), sums[h.size :]
    for r in loop_range(h.size):
        here = slice(r * width, (r + 1) * width)
        lanes[:] = 0
        gradient_squares(width, lanes, param[here], grad[here], scale, decay)
        sums[r] = lane_sum(lanes, 0)


@compiled
def row_adagrad_line(param, grad, grad_scale, l2, keep, length):
    """Move a row."""
    for c in range(param.size):
        g = gradient(grad[c], param[c], grad_scale, l2)
        param[c] = decayed(keep, param[c]) - length * g


@kernel(numpy=move_rows)
def row_adagrad(rows, cols, param, grad, h, sums, totals, grad_scale, l2, keep, lr, eps):
    """Duchi et al. 2011 with a number h for each row: h ← h + mean(g²); p ← p − (lr / (√h + eps))·g."""
    own = param.dtype.type
    scale, decay, kept = own(grad_scale), own(l2), own(keep)
    if param.size == 0:
        return
    width = param.size // h.size
    for r in loop_range(h.size):
        here = slice(r * width, (r + 1) * width)
        h[r] = np.float64(h[r]) + sums[r] / width
        length = own(lr / (sqrt(np.float64(h[r])) + eps))
        row_adagrad_line(param[here], grad[here], scale, decay, kept, length)
