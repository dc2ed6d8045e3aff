"""Relatives of Adam: other bounds, orders and weights of its averages."""

import numpy as np
from numpy import sqrt

from fastopt.kernels.common import decayed, gradient, kernel

__all__ = ["adabound"]


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
