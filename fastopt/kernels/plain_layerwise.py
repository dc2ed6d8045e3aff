"""The kernels of `fastopt.kernels.layerwise` that go row by row, in plain NumPy: on whole matrices."""

from typing import Any

import numpy as np
from numpy import sqrt

from fastopt.kernels.common import LANES, decayed, gradient

__all__ = [
    "adafactor", "adafactor_measure", "adafactor_momentum", "adafactor_momentum_measure", "sm3_measure",
]  # fmt: skip

gradient_of, decay_of = gradient.in_numpy, decayed.in_numpy


def row_sums(terms: np.ndarray) -> np.ndarray:
    """Return the sum of each row of a matrix of float64, none of them -0, in lanes as `lane_sum`."""
    rows, cols = terms.shape
    # Lanes that get nothing are left out, as far as they would only be added to others.
    width = min(LANES, 1 << (cols - 1).bit_length())
    blocks = -(-cols // width)
    if cols != blocks * width:
        padded = np.zeros((rows, blocks * width), dtype=np.float64)
        padded[:, :cols] = terms
        terms = padded
    # NumPy adds blocks one after the other, as their elements are contiguous.
    lanes = np.add.reduce(terms.reshape(rows, blocks, width), axis=1) if blocks > 1 else terms
    while lanes.shape[1] > 1:
        half = lanes.shape[1] // 2
        lanes = lanes[:, :half] + lanes[:, half:]
    return lanes[:, 0]


def column_sums(terms: np.ndarray) -> np.ndarray:
    """Return the sums over the last axis but one of an array of float64, one row after the other."""
    if terms.shape[-1] > 1:
        return np.add.reduce(terms, axis=-2)
    return np.add.accumulate(terms, axis=-2)[..., -1, :]  # reduce would add the halves of a single column


def square_norm(x: np.ndarray) -> Any:
    """Return Σx²."""
    return row_sums(np.square(np.float64(x)).reshape(1, -1))[0]


def sm3_measure(
    rows, cols, param, grad, m, row, col, sums, totals, grad_scale, l2, keep, one_minus_mu, lr, eps
):
    """Update m and the largest ν of each row and column, as `fastopt.kernels.sm3_measure`."""
    if param.size == 0:
        return
    own = param.dtype.type
    flat = gradient_of(grad[...], param[...], own(grad_scale), own(l2))
    g = flat.reshape(row.size, cols)
    nu = np.minimum(row[...].reshape(-1, 1), col[...]) + g * g
    m[...] = m[...] + own(one_minus_mu) * (flat / sqrt(nu + own(eps)).reshape(-1) - m[...])
    row[...], col[...] = np.max(nu, axis=1, initial=0), np.max(nu, axis=0, initial=0)


def direction(rows, cols, param, grad, row, col, grad_scale, l2, eps1):
    """Return Adafactor's u, flat."""
    own = param.dtype.type
    g, floor = gradient_of(grad[...], param[...], own(grad_scale), own(l2)), smallest(param, eps1)
    v = row[...]
    if rows:
        matrices = np.float64(v).reshape(-1, rows, 1)
        factors = matrices / np.maximum(column_sums(matrices) / rows, floor)[..., None]
        v = (factors.astype(param.dtype) * col[...].reshape(-1, 1, cols)).reshape(-1)
    return g / sqrt(np.maximum(v, own(floor * floor)))


def smallest(param, eps1):
    """Return eps₁, or by default that of the dtype."""
    return eps1 if eps1 >= 0 else np.float64(np.finfo(param.dtype).eps)


def adafactor_measure(
    rows, cols, param, grad, row, col, sums, totals, grad_scale, l2, keep,
    w, lr, eps1, eps2, of_size, clip, kept,
):  # fmt: skip
    """Average the means of g²; compute the length of the step: `fastopt.kernels.adafactor_measure`."""
    if param.size == 0:
        return
    own = param.dtype.type
    size = sqrt(square_norm(decay_of(own(keep), param[...]))) / sqrt(param.size)
    size = of_size * size
    alpha = lr * (size if size > eps2 else eps2)
    g = gradient_of(grad[...], param[...], own(grad_scale), own(l2))
    if rows:
        squares = np.square(np.float64(g)).reshape(-1, rows, cols)
        old_row, old_col = np.float64(row[...]), np.float64(col[...])
        of_rows, of_cols = row_sums(squares.reshape(-1, cols)), column_sums(squares).reshape(-1)
        row[...] = (old_row + w * (of_rows / cols - old_row)).astype(param.dtype)
        col[...] = (old_col + w * (of_cols / rows - old_col)).astype(param.dtype)
    else:
        row[...] = row[...] + own(w) * (g * g - row[...])
    u = np.float64(direction(rows, cols, param, grad, row, col, grad_scale, l2, eps1))
    of_u = np.add.accumulate(row_sums(np.square(u).reshape(-1, cols)))[-1]
    ratio = sqrt(of_u) / sqrt(param.size) / clip
    sums[0] = alpha / (ratio if ratio > 1.0 else 1.0)


def adafactor(
    rows, cols, param, grad, row, col, sums, totals, grad_scale, l2, keep,
    w, lr, eps1, eps2, of_size, clip, kept,
):  # fmt: skip
    """Move the parameters, as `fastopt.kernels.adafactor`."""
    if param.size == 0:
        return
    own = param.dtype.type
    u = direction(rows, cols, param, grad, row, col, grad_scale, l2, eps1)
    param[...] = decay_of(own(kept), decay_of(own(keep), param[...])) - own(sums[0]) * u


def adafactor_momentum_measure(
    rows, cols, param, grad, row, col, m, sums, totals, grad_scale, l2, keep,
    w, lr, eps1, eps2, of_size, clip, kept, one_minus_mu,
):  # fmt: skip
    """Do what `adafactor_measure` does."""
    adafactor_measure(
        rows, cols, param, grad, row, col, sums, totals, grad_scale, l2, keep,
        w, lr, eps1, eps2, of_size, clip, kept,
    )  # fmt: skip


def adafactor_momentum(
    rows, cols, param, grad, row, col, m, sums, totals, grad_scale, l2, keep,
    w, lr, eps1, eps2, of_size, clip, kept, one_minus_mu,
):  # fmt: skip
    """Average the steps and move the parameters, as `fastopt.kernels.adafactor_momentum`."""
    if param.size == 0:
        return
    own = param.dtype.type
    u = direction(rows, cols, param, grad, row, col, grad_scale, l2, eps1)
    m[...] = m[...] + own(one_minus_mu) * (own(sums[0]) * u - m[...])
    param[...] = decay_of(own(kept), decay_of(own(keep), param[...])) - m[...]
