"""Steps that find their learning rate, from sums over all arrays.

Two kernels a rule, as in `fastopt.kernels.layerwise`.
"""

import numpy as np
from numpy import sqrt

from fastopt.kernels.common import (
    LANES,
    decayed,
    gradient,
    kernel,
    lane_sum,
    lane_sums,
    square_sums,
    two_lane_sums,
)
from fastopt.kernels.jit import compiled

__all__ = [
    "dadapt_adam", "dadapt_adam_measure", "dog", "dog_measure", "dowg", "dowg_measure", "ldog", "prodigy",
    "prodigy_measure",
]  # fmt: skip


@two_lane_sums
def distance_squares(i, param, grad, p0, grad_scale, l2, keep):
    """Sum (p₀ − p)² and g²."""
    g = np.float64(gradient(grad[i], param[i], grad_scale, l2))
    distance = np.float64(p0[i] - decayed(keep, param[i]))
    return distance * distance, g * g


@kernel
def dog_measure(rows, cols, param, grad, p0, r, h, sums, totals, grad_scale, l2, keep, lr, reps_rel, r0, eps):
    """Compute ‖p₀ − p‖², ‖g‖² and ‖p₀‖²."""
    own = param.dtype.type
    sums[:] = 0
    distance_squares(param.size, sums, param, grad, p0, own(grad_scale), own(l2), own(keep))
    square_sums(param.size, sums[2 * LANES :], p0)
    sums[0], sums[1], sums[2] = lane_sum(sums, 0), lane_sum(sums, LANES), lane_sum(sums, 2 * LANES)


@compiled
def dog_step(param, grad, r, h, numbers, grad_scale, l2, keep, lr, reps_rel, r0, eps):
    """Move an array, given ‖p₀ − p‖², ‖g‖² and ‖p₀‖²."""
    own = param.dtype.type
    scale, decay, kept = own(grad_scale), own(l2), own(keep)
    new_r, first, distance = np.float64(r[0]), reps_rel * (1 + sqrt(numbers[2])), sqrt(numbers[0])
    new_r = r0 if r0 > new_r else new_r
    new_r = first if first > new_r else new_r
    new_r = distance if distance > new_r else new_r
    new_h = np.float64(h[0]) + numbers[1]
    r[0], h[0] = new_r, new_h
    step = own(lr * new_r / sqrt(new_h + eps))
    for i in range(param.size):
        p = decayed(kept, param[i])
        param[i] = p - step * gradient(grad[i], param[i], scale, decay)


@kernel
def dog(rows, cols, param, grad, p0, r, h, sums, totals, grad_scale, l2, keep, lr, reps_rel, r0, eps):
    """Ivgi, Hinder and Carmon 2023: p ← p − (lr·r / √(h + eps))·g, with the norms of all arrays together.

    r ← max(r, ‖p₀ − p‖, r₀, reps_rel·(1 + ‖p₀‖)); h ← h + ‖g‖²
    """
    if r.size != 0:
        dog_step(param, grad, r, h, totals, grad_scale, l2, keep, lr, reps_rel, r0, eps)


@kernel
def ldog(rows, cols, param, grad, p0, r, h, sums, totals, grad_scale, l2, keep, lr, reps_rel, r0, eps):
    """Ivgi, Hinder and Carmon 2023, L-DoG: the same with the norms of each array."""
    if r.size != 0:
        dog_step(param, grad, r, h, sums, grad_scale, l2, keep, lr, reps_rel, r0, eps)


@kernel
def dowg_measure(rows, cols, param, grad, p0, r, v, sums, totals, grad_scale, l2, keep, lr, r0, eps):
    """Compute ‖p₀ − p‖² and ‖g‖²."""
    own = param.dtype.type
    sums[:] = 0
    distance_squares(param.size, sums, param, grad, p0, own(grad_scale), own(l2), own(keep))
    sums[0], sums[1] = lane_sum(sums, 0), lane_sum(sums, LANES)


@kernel
def dowg(rows, cols, param, grad, p0, r, v, sums, totals, grad_scale, l2, keep, lr, r0, eps):
    """Khaled, Mishchenko and Jin 2023, algorithm 1: p ← p − (lr·r² / (√v + eps))·g.

    r ← max(r, ‖p₀ − p‖, r₀); v ← v + r²·‖g‖²
    """
    own = param.dtype.type
    if r.size == 0:
        return
    scale, decay, kept = own(grad_scale), own(l2), own(keep)
    new_r, distance = np.float64(r[0]), sqrt(totals[0])
    new_r = r0 if r0 > new_r else new_r
    new_r = distance if distance > new_r else new_r
    new_v = np.float64(v[0]) + new_r * new_r * totals[1]
    r[0], v[0] = new_r, new_v
    step = own(lr * (new_r * new_r) / (sqrt(new_v) + eps))
    for i in range(param.size):
        p = decayed(kept, param[i])
        param[i] = p - step * gradient(grad[i], param[i], scale, decay)


@lane_sums
def scaled_products(i, param, grad, v, s, grad_scale, l2, eps):
    """Sum g·s / (√v + eps)."""
    g = np.float64(gradient(grad[i], param[i], grad_scale, l2))
    return g * np.float64(s[i] / (np.sqrt(v[i]) + eps))


@lane_sums
def magnitudes(i, s):
    """Sum abs(s)."""
    return abs(np.float64(s[i]))


@kernel
def dadapt_adam_measure(
    rows, cols, param, grad, m, v, s, d, r, sums, totals, grad_scale, l2, keep, one_minus_beta1,
    one_minus_beta2, beta3, lr, growth_rate, eps, weight_decay, shared_lr, share,
):  # fmt: skip
    """Compute Σ g·s / (√v + eps); average d·lr·g, g² and d·lr·g in m, v and s; compute ‖s‖₁."""
    own = param.dtype.type
    sums[:] = 0
    if d.size == 0:
        return
    scale, decay, floor = own(grad_scale), own(l2), own(eps)
    new_m, new_v, new_s = own(one_minus_beta1), own(one_minus_beta2), own(1 - beta3)
    size = own(np.float64(d[0]) * lr)
    scaled_products(param.size, sums, param, grad, v, s, scale, decay, floor)
    product = lane_sum(sums, 0)
    for i in range(param.size):
        g = gradient(grad[i], param[i], scale, decay)
        dg = size * g
        m[i] = m[i] + new_m * (dg - m[i])
        v[i] = v[i] + new_v * (g * g - v[i])
        s[i] = s[i] + new_s * (dg - s[i])
    sums[:] = 0
    magnitudes(param.size, sums, s)
    sums[0], sums[1] = share * product, lane_sum(sums, 0)


@kernel
def dadapt_adam(
    rows, cols, param, grad, m, v, s, d, r, sums, totals, grad_scale, l2, keep, one_minus_beta1,
    one_minus_beta2, beta3, lr, growth_rate, eps, weight_decay, shared_lr, share,
):  # fmt: skip
    """Defazio and Mishchenko 2023, algorithm 5: p ← (1 − d·lr·weight_decay)·p − m / (√v + eps).

    This d is that of before the step, as are s and v in r ← β₃·r + (1 − β₃)·d·lr·Σ g·s / (√v + eps);
    d̂ = r / ((1 − β₃)·‖s‖₁); d ← max(d, min(d̂, d·growth_rate))
    """
    own = param.dtype.type
    if d.size == 0:
        return
    old = np.float64(d[0])
    new_r = beta3 * np.float64(r[0]) + (1 - beta3) * (old * shared_lr) * totals[0]
    estimate = new_r / ((1 - beta3) * totals[1]) if totals[1] > 0 else old
    limit = old * growth_rate
    estimate = limit if limit < estimate else estimate
    d[0], r[0] = estimate if estimate > old else old, new_r
    before, floor, kept = own(keep), own(eps), own(1 - old * lr * weight_decay)
    for i in range(param.size):
        param[i] = decayed(kept, decayed(before, param[i])) - m[i] / (np.sqrt(v[i]) + floor)


@two_lane_sums
def prodigy_products(i, param, grad, s, p0, grad_scale, l2, keep):
    """Sum g·(p₀ − p) and abs(s)."""
    g = np.float64(gradient(grad[i], param[i], grad_scale, l2))
    return g * np.float64(p0[i] - decayed(keep, param[i])), abs(np.float64(s[i]))


@kernel
def prodigy_measure(
    rows, cols, param, grad, m, v, s, p0, d, r, d_max, sums, totals, grad_scale, l2, keep, one_minus_beta1,
    one_minus_beta2, beta3, lr, lr_of_s, d0, d_coef, growth_rate, eps, weight_decay, shared_lr, share,
):  # fmt: skip
    """Average d·g, (d·g)² and g in m, v and s; compute ⟨g, p₀ − p⟩ and ‖s‖₁."""
    own = param.dtype.type
    sums[:] = 0
    if d.size == 0:
        return
    scale, decay, kept = own(grad_scale), own(l2), own(keep)
    new_m, new_v, old_s = own(one_minus_beta1), own(one_minus_beta2), own(beta3)
    size = own(d[0])
    weight = own(np.float64(d[0]) / d0 * (np.float64(d[0]) * lr_of_s))
    for i in range(param.size):
        g = gradient(grad[i], param[i], scale, decay)
        dg = size * g
        m[i] = m[i] + new_m * (dg - m[i])
        v[i] = v[i] + new_v * (dg * dg - v[i])
        s[i] = old_s * s[i] + weight * g
    prodigy_products(param.size, sums, param, grad, s, p0, scale, decay, kept)
    sums[0], sums[1] = share * lane_sum(sums, 0), lane_sum(sums, LANES)


@kernel
def prodigy(
    rows, cols, param, grad, m, v, s, p0, d, r, d_max, sums, totals, grad_scale, l2, keep, one_minus_beta1,
    one_minus_beta2, beta3, lr, lr_of_s, d0, d_coef, growth_rate, eps, weight_decay, shared_lr, share,
):  # fmt: skip
    """Mishchenko and Defazio 2024, algorithm 4; lr_t = d·lr with the d from before the step.

    r ← β₃·r + (d / d₀·lr_t)·⟨g, p₀ − p⟩; d_max ← max(d_max, d_coef·r / ‖s‖₁); d ← min(d_max, d·growth_rate),
    at once d_max from d₀; p ← p − lr_t·m / (√v + d·eps)
    """
    own = param.dtype.type
    if d.size == 0:
        return
    old = np.float64(d[0])
    lr_t = old * lr
    sum_r = beta3 * np.float64(r[0]) + old / d0 * (old * shared_lr) * totals[0]
    estimate = d_coef * sum_r / totals[1] if totals[1] > 0 else old
    largest = np.float64(d_max[0])
    largest = estimate if estimate > largest else largest
    limit = (largest if old == np.float64(own(d0)) else old) * growth_rate
    new = largest if largest < limit else limit
    d[0], r[0], d_max[0] = new, sum_r, largest
    before, step, eps, kept = own(keep), own(lr_t), own(new * eps), own(1 - lr_t * weight_decay)
    for i in range(param.size):
        param[i] = decayed(kept, decayed(before, param[i])) - step * m[i] / (np.sqrt(v[i]) + eps)
