"""A learning rate for each element, from the squares of its gradients."""

import numpy as np
from numpy import sqrt

from fastopt.kernels.common import added, choose, decayed, gradient, kernel, loop_range
from fastopt.kernels.jit import compiled

__all__ = ["adadelta", "adagrad", "ftrl", "madgrad", "rmsprop", "rmsprop_graves", "rmsprop_momentum"]


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

    The power of n is the paper's, 1/2: another one would need ``pow``, whose bits differ between NumPy and
    compiled code.
    """
    for i in range(param.size):
        g = gradient(grad[i], param[i], grad_scale, l2)
        p = decayed(keep, param[i])
        total = n[i] + g * g
        z[i] = z[i] + (g + shrinkage * p - (sqrt(total) - sqrt(n[i])) / lr * p)
        n[i] = total
        clipped = np.minimum(np.maximum(z[i], -l1), l1)
        param[i] = (clipped - z[i]) / (sqrt(total) / lr + quadratic)


@compiled
def cube_root(x):
    """Return the cube root of a number from 0, in operations that are rounded alike everywhere.

    Libraries' cube roots and powers differ in the last bit. This one is off by less than 0.9 of it.
    """
    # The powers 1/4, 5/16, 21/64, ... of x come to 1/3, without overflow; then Halley's iteration.
    quarter = sqrt(sqrt(x))
    y = quarter
    for _ in loop_range(4):
        y = quarter * sqrt(sqrt(y))
    for _ in loop_range(3):
        ratio = x / (y * y)
        y = y + y * (ratio - y) / (y + y + ratio)
    return choose(x - x < x, y, x)  # not for 0, infinity and NaN


@kernel
def madgrad(param, grad, v, s, p0, grad_scale, l2, keep, mu, one_minus_mu, lr_t, eps):
    """Defazio and Jelassi 2022, algorithm 1.

    v ← v + lr_t·g²; s ← s + lr_t·g; z ← p0 − s / (∛v + eps); p ← μ·p + (1 − μ)·z
    """
    for i in range(param.size):
        g = gradient(grad[i], param[i], grad_scale, l2)
        v[i] = v[i] + lr_t * g * g
        s[i] = s[i] + lr_t * g
        z = p0[i] - s[i] / (cube_root(v[i]) + eps)
        param[i] = mu * decayed(keep, param[i]) + one_minus_mu * z
