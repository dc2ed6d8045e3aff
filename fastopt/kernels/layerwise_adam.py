"""Relatives of Adam that need numbers of whole arrays, with two kernels a rule: see `kernels.layerwise`."""

import numpy as np
from numpy import sqrt

from fastopt.kernels import plain_layerwise_adam
from fastopt.kernels.common import (
    LANES,
    choose,
    decayed,
    gradient,
    kernel,
    lane_sum,
    lane_sums,
    two_lane_sums,
)
from fastopt.kernels.jit import compiled
from fastopt.kernels.layerwise import gradient_squares

__all__ = [
    "ada_mini", "ada_mini_measure", "adamp", "adamp_measure", "mars", "mars_measure", "stable_adamw",
    "stable_adamw_measure",
]  # fmt: skip


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


@kernel(numpy=plain_layerwise_adam.ada_mini_measure)
def ada_mini_measure(
    rows, cols, param, grad, m, v, sums, totals, grad_scale, l2, keep,
    one_minus_beta1, one_minus_beta2, lr_t, eps,
):  # fmt: skip
    """Average the mean of g² in each block, of which there are as many as numbers in v."""
    own = param.dtype.type
    scale, decay = own(grad_scale), own(l2)
    if param.size == 0:
        return
    size = param.size // v.size
    for b in range(v.size):
        here = slice(b * size, (b + 1) * size)
        sums[:LANES] = 0
        gradient_squares(size, sums, param[here], grad[here], scale, decay)
        old = np.float64(v[b])
        v[b] = old + one_minus_beta2 * (lane_sum(sums, 0) / size - old)
    sums[0] = 0  # which nobody reads


@compiled
def ada_mini_block(param, grad, m, grad_scale, l2, keep, one_minus_beta1, lr_t, divisor):
    """Update m and the parameters of a block."""
    for i in range(param.size):
        g = gradient(grad[i], param[i], grad_scale, l2)
        m[i] = m[i] + one_minus_beta1 * (g - m[i])
        param[i] = decayed(keep, param[i]) - lr_t * m[i] / divisor


@kernel(numpy=plain_layerwise_adam.ada_mini)
def ada_mini(
    rows, cols, param, grad, m, v, sums, totals, grad_scale, l2, keep,
    one_minus_beta1, one_minus_beta2, lr_t, eps,
):  # fmt: skip
    """Zhang et al. 2024, algorithm 1: Adam with one number of v for each block.

    m ← m + (1 − β₁)(g − m); v ← v + (1 − β₂)(mean(g²) − v); p ← p − lr_t·m / (√v + eps)
    """
    own = param.dtype.type
    scale, decay, kept, new, step = own(grad_scale), own(l2), own(keep), own(one_minus_beta1), own(lr_t)
    if param.size == 0:
        return
    size = param.size // v.size
    for b in range(v.size):
        here = slice(b * size, (b + 1) * size)
        divisor = own(sqrt(np.float64(v[b])) + eps)
        ada_mini_block(param[here], grad[here], m[here], scale, decay, kept, new, step, divisor)


# AdamP has room for two sums, and then so many numbers for each channel, of which the first is what the
# direction's part along the parameters is multiplied by.
CHANNEL = 8


@two_lane_sums
def adamp_products(i, param, grad, grad_scale, l2, keep):
    """Sum p·g and g²."""
    g = np.float64(gradient(grad[i], param[i], grad_scale, l2))
    return np.float64(decayed(keep, param[i])) * g, g * g


@two_lane_sums
def adamp_parts(i, param, m, v, keep, eps):
    """Sum p·u and p², where u = m / (√v + eps)."""
    p = np.float64(decayed(keep, param[i]))
    return p * np.float64(m[i] / (np.sqrt(v[i]) + eps)), p * p


@compiled
def adamp_cosine(product, of_p, of_g, eps):
    """Return the magnitude of the cosine between p and g."""
    of_p, of_g = sqrt(of_p), sqrt(of_g)
    return abs(product) / ((of_p if of_p > eps else eps) * (of_g if of_g > eps else eps))


@kernel(numpy=plain_layerwise_adam.adamp_measure)
def adamp_measure(
    rows, cols, param, grad, m, v, sums, totals, grad_scale, l2, keep,
    one_minus_beta1, one_minus_beta2, lr_t, eps_t, eps, delta, kept, kept_less,
):  # fmt: skip
    """Update m and v as Adam; compute what of the direction is taken away, and whether anything is."""
    own = param.dtype.type
    scale, decay, before, eps_u = own(grad_scale), own(l2), own(keep), own(eps_t)
    new_m, new_v = own(one_minus_beta1), own(one_minus_beta2)
    for i in range(param.size):
        g = gradient(grad[i], param[i], scale, decay)
        m[i] = m[i] + new_m * (g - m[i])
        v[i] = v[i] + new_v * (g * g - v[i])
    n = (sums.size - 2 * LANES) // CHANNEL
    sums[0] = 0
    if n == 0 or param.size == 0:
        return
    size = param.size // n
    largest = product = part = of_p = of_g = 0.0
    for c in range(n):
        here = slice(c * size, (c + 1) * size)
        sums[: 2 * LANES] = 0
        adamp_products(size, sums, param[here], grad[here], scale, decay, before)
        own_product, own_g = lane_sum(sums, 0), lane_sum(sums, LANES)
        sums[: 2 * LANES] = 0
        adamp_parts(size, sums, param[here], m[here], v[here], before, eps_u)
        own_part, own_p = lane_sum(sums, 0), lane_sum(sums, LANES)
        cosine = adamp_cosine(own_product, own_p, own_g, eps)
        largest = cosine if cosine > largest or cosine != cosine else largest
        length = sqrt(own_p) + eps
        sums[2 * LANES + c * CHANNEL] = own_part / (length * length)
        product, part, of_p, of_g = product + own_product, part + own_part, of_p + own_p, of_g + own_g
    sums[0] = 0
    if largest < delta / sqrt(size):
        sums[0] = 1
    elif adamp_cosine(product, of_p, of_g, eps) < delta / sqrt(param.size):
        sums[0] = 1
        length = sqrt(of_p) + eps
        for c in range(n):
            sums[2 * LANES + c * CHANNEL] = part / (length * length)


@compiled
def adamp_channel(param, m, v, keep, kept, lr_t, eps, factor):
    """Move the parameters of a channel in the direction that is left."""
    for i in range(param.size):
        p = decayed(keep, param[i])
        u = m[i] / (np.sqrt(v[i]) + eps) - factor * p
        param[i] = decayed(kept, p) - lr_t * u


@kernel(numpy=plain_layerwise_adam.adamp)
def adamp(
    rows, cols, param, grad, m, v, sums, totals, grad_scale, l2, keep,
    one_minus_beta1, one_minus_beta2, lr_t, eps_t, eps, delta, kept, kept_less,
):  # fmt: skip
    """Heo et al. 2021, algorithm 2: u ← m / (√v + eps), without its part along p; p ← kept·p − lr_t·u."""
    own = param.dtype.type
    before, step, eps_u = own(keep), own(lr_t), own(eps_t)
    if sums[0] == 0:
        less = own(kept)
        for i in range(param.size):
            p = decayed(before, param[i])
            param[i] = decayed(less, p) - step * (m[i] / (np.sqrt(v[i]) + eps_u))
    else:
        n = (sums.size - 2 * LANES) // CHANNEL
        size = param.size // n
        for c in range(n):
            here, factor = slice(c * size, (c + 1) * size), own(sums[2 * LANES + c * CHANNEL])
            adamp_channel(param[here], m[here], v[here], before, own(kept_less), step, eps_u, factor)
