"""Relatives of Adam: other bounds, orders and weights of its averages."""

import numpy as np
from numpy import sqrt

from fastopt.kernels.common import decayed, gradient, kernel

__all__ = ["adabound", "adopt", "amsbound", "laprop", "qhadam"]


@kernel
def adabound(
    param, grad, m, v, grad_scale, l2, keep, one_minus_beta1, one_minus_beta2, lr_t, eps, lower, upper
):
    """Luo et al. 2019, algorithm 1.

    m and v as Adam; p ← p − clip(lr_t / (√v + eps), lower, upper)·m
    """
    for i in range(param.size):
        g = gradient(grad[i], param[i], grad_scale, l2)
        m[i] = m[i] + one_minus_beta1 * (g - m[i])
        v[i] = v[i] + one_minus_beta2 * (g * g - v[i])
        rate = np.minimum(np.maximum(lr_t / (sqrt(v[i]) + eps), lower), upper)
        param[i] = decayed(keep, param[i]) - rate * m[i]


@kernel
def adopt(param, grad, m, v, grad_scale, l2, keep, one_minus_beta1, one_minus_beta2, lr, eps, bound):
    """Taniguchi et al. 2024, algorithm 2.

    d ← clip(g / max(√v, eps), ±bound) with the v of the step before; m ← m + (1 − β₁)(d − m);
    p ← p − lr·m; v ← v + (1 − β₂)(g² − v)
    """
    for i in range(param.size):
        g = gradient(grad[i], param[i], grad_scale, l2)
        d = np.minimum(np.maximum(g / np.maximum(sqrt(v[i]), eps), -bound), bound)
        m[i] = m[i] + one_minus_beta1 * (d - m[i])
        v[i] = v[i] + one_minus_beta2 * (g * g - v[i])
        param[i] = decayed(keep, param[i]) - lr * m[i]


@kernel
def laprop(param, grad, m, v, grad_scale, l2, keep, one_minus_beta1, one_minus_beta2, root, eps, lr_t):
    """Ziyin et al. 2020, algorithm 1.

    v as Adam; d ← root·g / (√v + eps); m ← m + (1 − β₁)(d − m); p ← p − lr_t·m
    """
    for i in range(param.size):
        g = gradient(grad[i], param[i], grad_scale, l2)
        v[i] = v[i] + one_minus_beta2 * (g * g - v[i])
        d = root * g / (sqrt(v[i]) + eps)
        m[i] = m[i] + one_minus_beta1 * (d - m[i])
        param[i] = decayed(keep, param[i]) - lr_t * m[i]


@kernel
def qhadam(
    param, grad, m, v, grad_scale, l2, keep,
    one_minus_beta1, one_minus_beta2, lr_g, lr_m, weight_g, weight_v, eps,
):  # fmt: skip
    """Ma and Yarats 2019, equation 8.

    m and v as Adam; p ← p − (lr_g·g + lr_m·m) / (√(weight_g·g² + weight_v·v) + eps)
    """
    for i in range(param.size):
        g = gradient(grad[i], param[i], grad_scale, l2)
        m[i] = m[i] + one_minus_beta1 * (g - m[i])
        v[i] = v[i] + one_minus_beta2 * (g * g - v[i])
        divisor = sqrt(weight_g * (g * g) + weight_v * v[i]) + eps
        param[i] = decayed(keep, param[i]) - (lr_g * g + lr_m * m[i]) / divisor


@kernel
def amsbound(
    param, grad, m, v, v_max, grad_scale, l2, keep, one_minus_beta1, one_minus_beta2, lr_t, eps, lower, upper
):
    """Luo et al. 2019, algorithm 2: as AdaBound, with the largest v so far, v_max."""
    for i in range(param.size):
        g = gradient(grad[i], param[i], grad_scale, l2)
        m[i] = m[i] + one_minus_beta1 * (g - m[i])
        v[i] = v[i] + one_minus_beta2 * (g * g - v[i])
        v_max[i] = np.maximum(v_max[i], v[i])
        rate = np.minimum(np.maximum(lr_t / (sqrt(v_max[i]) + eps), lower), upper)
        param[i] = decayed(keep, param[i]) - rate * m[i]
