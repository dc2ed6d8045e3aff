"""Adam and those that changed a part of it."""

import numpy as np
from numpy import sqrt

from fastopt.kernels.common import added, decayed, gradient, kernel, signed

__all__ = [
    "adabelief", "adam", "adamax", "adan", "ademamix", "amsgrad", "nadam", "radam", "yogi",
]  # fmt: skip


@kernel
def adam(param, grad, m, v, grad_scale, l2, keep, one_minus_beta1, one_minus_beta2, lr_t, eps, eps_root):
    """Kingma and Ba 2015, algorithm 1 in the order of the end of section 2.

    m ← m + (1 − β₁)(g − m); v ← v + (1 − β₂)(g² − v); p ← p − lr_t·m / (√(v + eps_root) + eps)
    """
    for i in range(param.size):
        g = gradient(grad[i], param[i], grad_scale, l2)
        m[i] = m[i] + one_minus_beta1 * (g - m[i])
        v[i] = v[i] + one_minus_beta2 * (g * g - v[i])
        param[i] = decayed(keep, param[i]) - lr_t * m[i] / (sqrt(added(v[i], eps_root)) + eps)


@kernel
def amsgrad(
    param, grad, m, v, v_max, grad_scale, l2, keep,
    one_minus_beta1, one_minus_beta2, lr_t, eps, eps_root, correction,
):  # fmt: skip
    """Reddi et al. 2018, algorithm 2.

    m and v as Adam; v_max ← max(v_max, correction·v); p ← p − lr_t·m / (√(v_max + eps_root) + eps)
    """
    for i in range(param.size):
        g = gradient(grad[i], param[i], grad_scale, l2)
        m[i] = m[i] + one_minus_beta1 * (g - m[i])
        v[i] = v[i] + one_minus_beta2 * (g * g - v[i])
        v_max[i] = np.maximum(v_max[i], decayed(correction, v[i]))
        param[i] = decayed(keep, param[i]) - lr_t * m[i] / (sqrt(added(v_max[i], eps_root)) + eps)


@kernel
def adamax(param, grad, m, u, grad_scale, l2, keep, one_minus_beta1, beta2, lr_t, eps, outside):
    """Kingma and Ba 2015, algorithm 2.

    m as Adam; u ← max(β₂·u, |g| + eps); p ← p − lr_t·m / (u + outside)
    """
    for i in range(param.size):
        g = gradient(grad[i], param[i], grad_scale, l2)
        m[i] = m[i] + one_minus_beta1 * (g - m[i])
        u[i] = np.maximum(beta2 * u[i], abs(g) + eps)
        param[i] = decayed(keep, param[i]) - lr_t * m[i] / added(u[i], outside)


@kernel
def nadam(
    param, grad, m, v, grad_scale, l2, keep, one_minus_beta1, one_minus_beta2, lr_g, lr_m, eps, eps_root
):
    """Dozat 2016: m and v as Adam; p ← p − (lr_g·g + lr_m·m) / (√(v + eps_root) + eps)."""
    for i in range(param.size):
        g = gradient(grad[i], param[i], grad_scale, l2)
        m[i] = m[i] + one_minus_beta1 * (g - m[i])
        v[i] = v[i] + one_minus_beta2 * (g * g - v[i])
        param[i] = decayed(keep, param[i]) - (lr_g * g + lr_m * m[i]) / (sqrt(added(v[i], eps_root)) + eps)


@kernel
def radam(
    param, grad, m, v, grad_scale, l2, keep, one_minus_beta1, one_minus_beta2, lr_t, eps, eps_root, rectified
):
    """Liu et al. 2020: as Adam, but without the divisor until it is rectified."""
    for i in range(param.size):
        g = gradient(grad[i], param[i], grad_scale, l2)
        m[i] = m[i] + one_minus_beta1 * (g - m[i])
        v[i] = v[i] + one_minus_beta2 * (g * g - v[i])
        divisor = sqrt(added(v[i], eps_root)) + eps if rectified else param.dtype.type(1)
        param[i] = decayed(keep, param[i]) - lr_t * m[i] / divisor


@kernel
def adabelief(
    param, grad, m, s, grad_scale, l2, keep, one_minus_beta1, one_minus_beta2, lr_t, eps_root, eps, rectified
):
    """Zhuang et al. 2020.

    m as Adam; s ← s + (1 − β₂)((g − m)² − s) + eps_root; p ← p − lr_t·m / (√s + eps), or without the divisor
    """
    for i in range(param.size):
        g = gradient(grad[i], param[i], grad_scale, l2)
        m[i] = m[i] + one_minus_beta1 * (g - m[i])
        surprise = g - m[i]
        s[i] = s[i] + one_minus_beta2 * (surprise * surprise - s[i]) + eps_root
        divisor = sqrt(s[i]) + eps if rectified else param.dtype.type(1)
        param[i] = decayed(keep, param[i]) - lr_t * m[i] / divisor


@kernel
def yogi(param, grad, m, v, grad_scale, l2, keep, one_minus_beta1, one_minus_beta2, lr_t, eps):
    """Zaheer et al. 2018: as Adam, but v ← v − (1 − β₂)·sign(v − g²)·g²."""
    for i in range(param.size):
        g = gradient(grad[i], param[i], grad_scale, l2)
        m[i] = m[i] + one_minus_beta1 * (g - m[i])
        square = g * g
        v[i] = v[i] - signed(one_minus_beta2, v[i] - square) * square
        param[i] = decayed(keep, param[i]) - lr_t * m[i] / (sqrt(v[i]) + eps)


@kernel
def adan(
    param, grad, m, v, n, prev_grad, grad_scale, l2, keep,
    one_minus_beta1, beta2, one_minus_beta2, one_minus_beta3, lr_m, lr_v, eps, eps_root,
):  # fmt: skip
    """Xie et al. 2022.

    d ← g − prev_grad; m, v and n average g, d and (g + β₂·d)²;
    p ← p − (lr_m·m + lr_v·v) / (√(n + eps_root) + eps)
    """
    for i in range(param.size):
        g = gradient(grad[i], param[i], grad_scale, l2)
        d = g - prev_grad[i]
        prev_grad[i] = g
        m[i] = m[i] + one_minus_beta1 * (g - m[i])
        v[i] = v[i] + one_minus_beta2 * (d - v[i])
        ahead = g + beta2 * d
        n[i] = n[i] + one_minus_beta3 * (ahead * ahead - n[i])
        param[i] = decayed(keep, param[i]) - (lr_m * m[i] + lr_v * v[i]) / (sqrt(added(n[i], eps_root)) + eps)


@kernel
def ademamix(
    param, grad, m, m_slow, v, grad_scale, l2, keep,
    one_minus_beta1, one_minus_beta2, one_minus_beta3, lr_m, lr_slow, eps, eps_root,
):  # fmt: skip
    """Pagliardini et al. 2024.

    m and v as Adam; m_slow ← m_slow + (1 − β₃)(g − m_slow);
    p ← p − (lr_m·m + lr_slow·m_slow) / (√(v + eps_root) + eps)
    """
    for i in range(param.size):
        g = gradient(grad[i], param[i], grad_scale, l2)
        m[i] = m[i] + one_minus_beta1 * (g - m[i])
        m_slow[i] = m_slow[i] + one_minus_beta3 * (g - m_slow[i])
        v[i] = v[i] + one_minus_beta2 * (g * g - v[i])
        divisor = sqrt(added(v[i], eps_root)) + eps
        param[i] = decayed(keep, param[i]) - (lr_m * m[i] + lr_slow * m_slow[i]) / divisor
