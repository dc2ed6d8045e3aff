"""Steps that find their learning rate, from sums over all arrays.

Two kernels a rule, as in `fastopt.kernels.layerwise`.
"""

import numpy as np

from fastopt.kernels.common import LANES, decayed, gradient, kernel, lane_sum, two_lane_sums

__all__ = ["prodigy", "prodigy_measure"]


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
