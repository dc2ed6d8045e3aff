"""Rules in the order of operations of courses and other libraries, whose bits they have."""

from numpy import sqrt

from fastopt.kernels.common import added, decayed, gradient, kernel

__all__ = [
    "averaged_adam",
    "averaged_rmsprop",
    "corrected_adam",
    "double_momentum",
    "quotient_adadelta",
    "subtracted_momentum",
]


@kernel
def corrected_adam(
    param, grad, m, v, grad_scale, l2, keep, beta1, one_minus_beta1, beta2, one_minus_beta2, correction1,
    correction2, lr, eps, eps_root
):  # fmt: skip
    """As it is written in courses: m and v are divided by what corrects their bias.

    m ← β₁·m + (1 − β₁)·g; v ← β₂·v + (1 − β₂)·g²; p ← p − lr·(m / c₁) / (√(v / c₂ + eps_root) + eps)
    """
    for i in range(param.size):
        g = gradient(grad[i], param[i], grad_scale, l2)
        m[i] = beta1 * m[i] + one_minus_beta1 * g
        v[i] = beta2 * v[i] + one_minus_beta2 * (g * g)
        divisor = sqrt(added(v[i] / correction2, eps_root)) + eps
        param[i] = decayed(keep, param[i]) - lr * (m[i] / correction1) / divisor


@kernel
def averaged_adam(
    param, grad, m, v, grad_scale, l2, keep, beta1, one_minus_beta1, beta2, one_minus_beta2, lr_t, eps,
    eps_root,
):  # fmt: skip
    """scikit-learn's.

    m ← β₁·m + (1 − β₁)·g; v ← β₂·v + (1 − β₂)·g²; p ← p − lr_t·m / (√(v + eps_root) + eps)
    """
    for i in range(param.size):
        g = gradient(grad[i], param[i], grad_scale, l2)
        m[i] = beta1 * m[i] + one_minus_beta1 * g
        v[i] = beta2 * v[i] + one_minus_beta2 * (g * g)
        param[i] = decayed(keep, param[i]) - lr_t * m[i] / (sqrt(added(v[i], eps_root)) + eps)


@kernel
def averaged_rmsprop(param, grad, h, grad_scale, l2, keep, rho, one_minus_rho, lr, eps, eps_root):
    """As it is written in courses: h ← ρ·h + (1 − ρ)·(g²); p ← p − lr·g / (√(h + eps_root) + eps)."""
    for i in range(param.size):
        g = gradient(grad[i], param[i], grad_scale, l2)
        h[i] = rho * h[i] + one_minus_rho * (g * g)
        param[i] = decayed(keep, param[i]) - lr * g / (sqrt(added(h[i], eps_root)) + eps)


@kernel
def subtracted_momentum(param, grad, v, grad_scale, l2, keep, mu, lr):
    """numpy-ml's: v ← μ·v + lr·g; p ← p − v."""
    for i in range(param.size):
        g = gradient(grad[i], param[i], grad_scale, l2)
        v[i] = mu * v[i] + lr * g
        param[i] = decayed(keep, param[i]) - v[i]


@kernel
def double_momentum(param, grad, v, grad_scale, l2, keep, mu, lr):
    """scikit-learn's form of Nesterov's: v ← μ·v − lr·g; p ← p + (μ·v − lr·g)."""
    for i in range(param.size):
        g = gradient(grad[i], param[i], grad_scale, l2)
        v[i] = mu * v[i] - lr * g
        param[i] = decayed(keep, param[i]) + (mu * v[i] - lr * g)


@kernel
def quotient_adadelta(param, grad, h, u, grad_scale, l2, keep, rho, one_minus_rho, lr, eps):
    """DeZero's: h ← ρ·h + (1 − ρ)·g²; d ← √((u + eps) / (h + eps))·g; u ← ρ·u + (1 − ρ)·d²; p ← p − lr·d."""
    for i in range(param.size):
        g = gradient(grad[i], param[i], grad_scale, l2)
        h[i] = h[i] * rho + one_minus_rho * g * g
        d = sqrt((u[i] + eps) / (h[i] + eps)) * g
        u[i] = u[i] * rho + one_minus_rho * d * d
        param[i] = decayed(keep, param[i]) - lr * d
