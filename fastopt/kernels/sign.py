"""Steps whose length doesn't depend on the size of the gradient."""

import numpy as np

from fastopt.kernels.common import choose, decayed, gradient, kernel, signed

__all__ = ["lion", "rprop", "signum"]


@kernel
def rprop(param, grad, prev_grad, step_size, grad_scale, l2, keep, eta_minus, eta_plus, step_min, step_max):
    """Riedmiller and Braun 1993: p ← p − sign(g)·step_size.

    step_size grows by η₊ where g kept its sign, shrinks by η₋ where it changed.
    """
    for i in range(param.size):
        g = gradient(grad[i], param[i], grad_scale, l2)
        agreement = g * prev_grad[i]
        one, zero = param.dtype.type(1), param.dtype.type(0)
        factor = choose(agreement > 0, eta_plus, choose(agreement < 0, eta_minus, one))
        step_size[i] = np.minimum(np.maximum(step_size[i] * factor, step_min), step_max)
        used = choose(agreement < 0, zero, g)
        param[i] = decayed(keep, param[i]) - signed(step_size[i], used)
        prev_grad[i] = used


@kernel
def signum(param, grad, m, grad_scale, l2, keep, mu, lr):
    """Bernstein et al. 2018: m ← μ·m + g; p ← p − lr·sign(m)."""
    for i in range(param.size):
        g = gradient(grad[i], param[i], grad_scale, l2)
        m[i] = mu * m[i] + g
        param[i] = decayed(keep, param[i]) - signed(lr, m[i])


@kernel
def lion(param, grad, m, grad_scale, l2, keep, beta1, one_minus_beta1, beta2, one_minus_beta2, lr):
    """Chen et al. 2023: p ← p − lr·sign(β₁·m + (1 − β₁)·g); m ← β₂·m + (1 − β₂)·g."""
    for i in range(param.size):
        g = gradient(grad[i], param[i], grad_scale, l2)
        param[i] = decayed(keep, param[i]) - signed(lr, beta1 * m[i] + one_minus_beta1 * g)
        m[i] = beta2 * m[i] + one_minus_beta2 * g
