"""A learning rate for each element, from the squares of its gradients."""

import numpy as np
from numpy import sqrt

from fastopt.kernels.common import added, decayed, gradient, kernel

__all__ = ["adadelta", "adagrad", "ftrl", "rmsprop", "rmsprop_graves", "rmsprop_momentum"]


@kernel
def adagrad(param, grad, h, grad_scale, l2, keep, lr, eps, eps_root):
    """Duchi et al. 2011: h ← h + g²; p ← p − lr·g / (√(h + eps_root) + eps)."""
    for i in range(param.size):
        g = gradient(grad[i], param[i], grad_scale, l2)
        h[i] = h[i] + g * g
        param[i] = decayed(keep, param[i]) - lr * g / (sqrt(added(h[i], eps_root)) + eps)


@kernel
def adadelta(param, grad, h, u, grad_scale, l2, keep, rho, one_minus_rho, lr, eps):
    """Zeiler 2012.

    h ← ρ·h + (1 − ρ)·g²; d ← √(u + eps) / √(h + eps)·g; u ← ρ·u + (1 − ρ)·d²; p ← p − lr·d
    """
    for i in range(param.size):
        g = gradient(grad[i], param[i], grad_scale, l2)
        h[i] = h[i] * rho + one_minus_rho * g * g
        d = sqrt(u[i] + eps) / sqrt(h[i] + eps) * g
        u[i] = u[i] * rho + one_minus_rho * d * d
        param[i] = decayed(keep, param[i]) - lr * d


@kernel
def rmsprop(param, grad, h, grad_scale, l2, keep, rho, one_minus_rho, lr, eps, eps_root):
    """Tieleman and Hinton 2012: h ← ρ·h + (1 − ρ)·g²; p ← p − lr·g / (√(h + eps_root) + eps)."""
    for i in range(param.size):
        g = gradient(grad[i], param[i], grad_scale, l2)
        h[i] = h[i] * rho + one_minus_rho * g * g
        param[i] = decayed(keep, param[i]) - lr * g / (sqrt(added(h[i], eps_root)) + eps)


@kernel
def rmsprop_momentum(
    param, grad, h, v, grad_scale, l2, keep, rho, one_minus_rho, mu, weight, lr, eps, eps_root
):
    """Tieleman and Hinton 2012, with momentum.

    h ← ρ·h + (1 − ρ)·g²; v ← μ·v + weight·g / (√(h + eps_root) + eps); p ← p − lr·v
    """
    for i in range(param.size):
        g = gradient(grad[i], param[i], grad_scale, l2)
        h[i] = h[i] * rho + one_minus_rho * g * g
        v[i] = mu * v[i] + decayed(weight, g) / (sqrt(added(h[i], eps_root)) + eps)
        param[i] = decayed(keep, param[i]) - lr * v[i]


@kernel
def rmsprop_graves(param, grad, h, m, v, grad_scale, l2, keep, rho, one_minus_rho, mu, lr, eps, eps_root):
    """Graves 2013.

    h ← ρ·h + (1 − ρ)·g²; m ← ρ·m + (1 − ρ)·g; v ← μ·v + g / (√(h − m² + eps_root) + eps); p ← p − lr·v
    """
    for i in range(param.size):
        g = gradient(grad[i], param[i], grad_scale, l2)
        h[i] = h[i] * rho + one_minus_rho * g * g
        m[i] = m[i] * rho + one_minus_rho * g
        variance = np.maximum(h[i] - m[i] * m[i], param.dtype.type(0))
        v[i] = mu * v[i] + g / (sqrt(added(variance, eps_root)) + eps)
        param[i] = decayed(keep, param[i]) - lr * v[i]


@kernel
def ftrl(param, grad, n, z, grad_scale, l2, keep, lr, l1, quadratic, shrinkage):
    """McMahan et al. 2013.

    n' ← n + g²; z ← z + g − (√n' − √n) / lr·p; p ← (clip(z, ±l₁) − z) / (√n' / lr + 2·l₂)
    """
    for i in range(param.size):
        g = gradient(grad[i], param[i], grad_scale, l2)
        p = decayed(keep, param[i])
        total = n[i] + g * g
        z[i] = z[i] + (g + shrinkage * p - (sqrt(total) - sqrt(n[i])) / lr * p)
        n[i] = total
        clipped = np.minimum(np.maximum(z[i], -l1), l1)
        param[i] = (clipped - z[i]) / (sqrt(total) / lr + quadratic)
