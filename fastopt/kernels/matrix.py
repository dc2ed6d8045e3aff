"""Steps for matrices, from products of matrices."""

import numpy as np
from numpy import sqrt

from fastopt.kernels.common import choose, decayed, gradient, kernel, lane_sum, signed, square_sums
from fastopt.kernels.jit import compiled

__all__ = ["ada_muon", "ada_muon_measure", "muon", "muon_measure", "soap", "soap_measure"]


@kernel
def muon_measure(
    rows, cols, param, grad, m, u, sums, totals, grad_scale, l2, keep,
    ahead, one_minus_mu, lr_rows, lr_columns, lr_larger, lr, eps,
):  # fmt: skip
    """Compute the direction: m ← m + (1 − μ)(g − m); u ← g + ahead·(m − g); u ← u / max(‖u‖, eps).

    ahead is μ for Nesterov's momentum; with 1 u is m itself.
    """
    own = param.dtype.type
    scale, decay, ahead, new = own(grad_scale), own(l2), own(ahead), own(one_minus_mu)
    for i in range(param.size):
        g = gradient(grad[i], param[i], scale, decay)
        m[i] = m[i] + new * (g - m[i])
        u[i] = choose(ahead == 1, m[i], g + ahead * (m[i] - g))
    sums[:] = 0
    square_sums(u.size, sums, u)
    norm = sqrt(lane_sum(sums, 0))
    divisor = own(eps if eps > norm else norm)  # NaN stays
    for i in range(u.size):
        u[i] = u[i] / divisor


@kernel
def muon(
    rows, cols, param, grad, m, u, sums, totals, grad_scale, l2, keep,
    ahead, one_minus_mu, lr_rows, lr_columns, lr_larger, lr, eps,
):  # fmt: skip
    """Jordan et al. 2024: p ← p − (lr·scale)·u; u has been made orthogonal in between.

    Of the four learning rates, for the scales √max(1, rows / cols), √max(1, cols / rows), √max(rows, cols)
    and 1, all but one are 0.
    """
    own = param.dtype.type
    kept = own(keep)
    if param.size == 0:
        return
    tall, wide = sqrt(rows / cols if rows > cols else 1.0), sqrt(cols / rows if cols > rows else 1.0)
    larger = sqrt(np.float64(rows if rows > cols else cols))
    step = own(lr_rows * tall + lr_columns * wide + lr_larger * larger + lr)
    for i in range(param.size):
        param[i] = decayed(kept, param[i]) - step * u[i]


@kernel
def ada_muon_measure(
    rows, cols, param, grad, m, v, u, sums, totals, grad_scale, l2, keep,
    ahead, one_minus_mu, one_minus_beta2, lr, eps,
):  # fmt: skip
    """Compute the direction: m ← m + (1 − μ)(g − m); u ← sign(g + ahead·(m − g)); u ← u / (‖u‖ + 10⁻⁷).

    ahead is μ for Nesterov's momentum; with 1 u is the sign of m itself.
    """
    own = param.dtype.type
    scale, decay, ahead, new = own(grad_scale), own(l2), own(ahead), own(one_minus_mu)
    for i in range(param.size):
        g = gradient(grad[i], param[i], scale, decay)
        m[i] = m[i] + new * (g - m[i])
        u[i] = signed(own(1), choose(ahead == 1, m[i], g + ahead * (m[i] - g)))
    sums[:] = 0
    square_sums(u.size, sums, u)
    divisor = own(sqrt(lane_sum(sums, 0)) + 1e-7)
    for i in range(u.size):
        u[i] = u[i] / divisor


@kernel
def ada_muon(
    rows, cols, param, grad, m, v, u, sums, totals, grad_scale, l2, keep,
    ahead, one_minus_mu, one_minus_beta2, lr, eps,
):  # fmt: skip
    """Si, Zhang and Shen 2025, algorithm 1; u has been made orthogonal in between.

    v ← v + (1 − β₂)(u² − v); d ← u / (√v + eps); p ← p − (0.2·lr·√(rows·cols) / (‖d‖ + eps))·d
    """
    own = param.dtype.type
    kept, new, small = own(keep), own(one_minus_beta2), own(eps)
    for i in range(param.size):
        v[i] = v[i] + new * (u[i] * u[i] - v[i])
        u[i] = u[i] / (np.sqrt(v[i]) + small)
    sums[:] = 0
    square_sums(u.size, sums, u)
    step = own(0.2 * lr * sqrt(np.float64(param.size)) / (sqrt(lane_sum(sums, 0)) + eps))
    for i in range(param.size):
        param[i] = decayed(kept, param[i]) - step * u[i]


def taken_in_numpy(target, values, first):
    """Assign an array the values from a place on."""
    target[...] = values[first : first + target.size].astype(target.dtype)
    return first + target.size


@compiled(numpy=taken_in_numpy)
def taken(target, values, first):
    """Assign an array the values from a place on. Returns the place after them."""
    for i in range(target.size):
        target[i] = values[first + i]
    return first + target.size


@kernel
def soap_measure(
    rows, cols, param, grad, m, v, left, right, q_left, q_right, u, m_new, v_new, sums, totals,
    grad_scale, l2, keep, one_minus_beta1, one_minus_beta2, one_minus_beta3, step, eps,
):  # fmt: skip
    """Compute the gradient u."""
    own = param.dtype.type
    scale, decay = own(grad_scale), own(l2)
    for i in range(param.size):
        u[i] = gradient(grad[i], param[i], scale, decay)


@kernel
def soap(
    rows, cols, param, grad, m, v, left, right, q_left, q_right, u, m_new, v_new, sums, totals,
    grad_scale, l2, keep, one_minus_beta1, one_minus_beta2, one_minus_beta3, step, eps,
):  # fmt: skip
    """Vyas et al. 2024, algorithm 3: p ← p − step·u; what has been computed in between becomes the state.

    u is Adam's direction, turned back; sums has left, right, q_left and q_right.
    """
    own = param.dtype.type
    kept, length = own(keep), own(step)
    first = taken(left, sums, 0)
    first = taken(right, sums, first)
    first = taken(q_left, sums, first)
    first = taken(q_right, sums, first)
    for i in range(param.size):
        m[i] = m_new[i]
        v[i] = v_new[i]
        param[i] = decayed(kept, param[i]) - length * u[i]
