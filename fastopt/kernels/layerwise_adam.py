"""Relatives of Adam that need numbers of whole arrays, with two kernels a rule: see `kernels.layerwise`."""

import numpy as np
from numpy import sqrt

from fastopt.kernels.common import choose, decayed, gradient, kernel, lane_sum, lane_sums

__all__ = ["mars", "mars_measure", "stable_adamw", "stable_adamw_measure"]


@lane_sums
def scaled_squares(i, param, grad, v, grad_scale, l2, floor):
    """Sum g² / max(v, floor)."""
    g = gradient(grad[i], param[i], grad_scale, l2)
    # As np.maximum, which isn't vectorized in lanes; NaN stays.
    return np.float64(g * g / choose(v[i] < floor, floor, v[i]))


@kernel
def stable_adamw_measure(
    rows, cols, param, grad, m, v, sums, totals, grad_scale, l2, keep,
    one_minus_beta1, one_minus_beta2, lr, eps, weight_decay,
):  # fmt: skip
    """Update m and v; compute Σ g² / max(v, eps²), and over how many elements."""
    own = param.dtype.type
    scale, decay = own(grad_scale), own(l2)
    new_m, new_v = own(one_minus_beta1), own(one_minus_beta2)
    for i in range(param.size):
        g = gradient(grad[i], param[i], scale, decay)
        m[i] = m[i] + new_m * (g - m[i])
        v[i] = v[i] + new_v * (g * g - v[i])
    sums[:] = 0
    scaled_squares(param.size, sums, param, grad, v, scale, decay, own(eps * eps))
    # A rank that has a part of the array has a part of both.
    sums[0], sums[1] = lane_sum(sums, 0), param.size


@kernel
def stable_adamw(
    rows, cols, param, grad, m, v, sums, totals, grad_scale, l2, keep,
    one_minus_beta1, one_minus_beta2, lr, eps, weight_decay,
):  # fmt: skip
    """Wortsman et al. 2023, algorithm 2: p ← (1 − η·weight_decay)·p − η·m / (√v + eps).

    η = lr / max(1, rms), where rms is that of g / √max(v, eps²)
    """
    own = param.dtype.type
    if param.size == 0:
        return
    rms = sqrt(sums[0] / sums[1])
    length = lr / rms if rms > 1 else lr
    before, step, eps, kept = own(keep), own(length), own(eps), own(1 - length * weight_decay)
    for i in range(param.size):
        param[i] = decayed(kept, decayed(before, param[i])) - step * m[i] / (np.sqrt(v[i]) + eps)


@lane_sums
def corrected_squares(i, param, grad, prev_grad, grad_scale, l2, weight):
    """Sum c²."""
    g = gradient(grad[i], param[i], grad_scale, l2)
    c = np.float64(g + weight * (g - prev_grad[i]))
    return c * c


@kernel
def mars_measure(
    rows, cols, param, grad, m, v, prev_grad, sums, totals, grad_scale, l2, keep,
    one_minus_beta1, one_minus_beta2, weight, lr_t, eps,
):  # fmt: skip
    """Compute ‖c‖²."""
    own = param.dtype.type
    sums[:] = 0
    corrected_squares(param.size, sums, param, grad, prev_grad, own(grad_scale), own(l2), own(weight))
    sums[0] = lane_sum(sums, 0)


@kernel
def mars(
    rows, cols, param, grad, m, v, prev_grad, sums, totals, grad_scale, l2, keep,
    one_minus_beta1, one_minus_beta2, weight, lr_t, eps,
):  # fmt: skip
    """Yuan et al. 2024, algorithm 2 with the gradient of the step before: Adam of c / max(1, ‖c‖).

    c = g + weight·(g − prev_grad)
    """
    own = param.dtype.type
    scale, decay, kept = own(grad_scale), own(l2), own(keep)
    new_m, new_v, weight, lr_t, eps = (
        own(one_minus_beta1), own(one_minus_beta2), own(weight), own(lr_t), own(eps)
    )  # fmt: skip
    norm = sqrt(sums[0])
    factor = own(1 / norm if norm > 1 else 1.0)
    for i in range(param.size):
        g = gradient(grad[i], param[i], scale, decay)
        c = factor * (g + weight * (g - prev_grad[i]))
        prev_grad[i] = g
        m[i] = m[i] + new_m * (c - m[i])
        v[i] = v[i] + new_v * (c * c - v[i])
        param[i] = decayed(kept, param[i]) - lr_t * m[i] / (np.sqrt(v[i]) + eps)
