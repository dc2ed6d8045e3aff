"""Gradient descent and its momentum."""

from fastopt.kernels.common import decayed, gradient, kernel

__all__ = ["aggmo", "asgd", "momentum", "nag", "nesterov", "optimistic_gd", "sgd", "sgdm"]


@kernel
def sgd(param, grad, grad_scale, l2, keep, lr):
    """*Deep Learning from Scratch*, 6.1.2: p ← p − lr·g."""
    for i in range(param.size):
        g = gradient(grad[i], param[i], grad_scale, l2)
        param[i] = decayed(keep, param[i]) - lr * g


@kernel
def momentum(param, grad, v, grad_scale, l2, keep, mu, lr):
    """*Deep Learning from Scratch*, 6.1.4: v ← μ·v − lr·g; p ← p + v."""
    for i in range(param.size):
        g = gradient(grad[i], param[i], grad_scale, l2)
        v[i] = mu * v[i] - lr * g
        param[i] = decayed(keep, param[i]) + v[i]


@kernel
def sgdm(param, grad, v, grad_scale, l2, keep, mu, weight, lr):
    """Sutskever et al. 2013, section 2, in PyTorch's form: v ← μ·v + weight·g; p ← p − lr·v."""
    for i in range(param.size):
        g = gradient(grad[i], param[i], grad_scale, l2)
        v[i] = mu * v[i] + weight * g
        param[i] = decayed(keep, param[i]) - lr * v[i]


@kernel
def nag(param, grad, v, grad_scale, l2, keep, mu, lr):
    """Sutskever et al. 2013, section 2, in PyTorch's form: v ← μ·v + g; p ← p − lr·(g + μ·v)."""
    for i in range(param.size):
        g = gradient(grad[i], param[i], grad_scale, l2)
        v[i] = mu * v[i] + g
        param[i] = decayed(keep, param[i]) - lr * (g + mu * v[i])


@kernel
def nesterov(param, grad, v, grad_scale, l2, keep, mu, lr, mu_mu, lr_ahead):
    """Bengio et al. 2013, eq. 7: p ← p + μ²·v; p ← p − ((1 + μ)·lr)·g; v ← μ·v − lr·g."""
    for i in range(param.size):
        g = gradient(grad[i], param[i], grad_scale, l2)
        param[i] = decayed(keep, param[i]) + mu_mu * v[i] - lr_ahead * g
        v[i] = mu * v[i] - lr * g


@kernel
def optimistic_gd(param, grad, prev_grad, grad_scale, l2, keep, alpha_beta, beta, lr):
    """Mokhtari et al. 2020: p ← p − lr·((α + β)·g − β·prev_grad); prev_grad ← g."""
    for i in range(param.size):
        g = gradient(grad[i], param[i], grad_scale, l2)
        param[i] = decayed(keep, param[i]) - lr * (alpha_beta * g - beta * prev_grad[i])
        prev_grad[i] = g


@kernel
def asgd(param, grad, ax, grad_scale, l2, keep, decay, eta, mu):
    """Polyak and Juditsky 1992: p ← (1 − λ·η)·p − η·g; ax ← ax + μ·(p − ax)."""
    for i in range(param.size):
        g = gradient(grad[i], param[i], grad_scale, l2)
        param[i] = decay * (decayed(keep, param[i])) - eta * g
        ax[i] = ax[i] + mu * (param[i] - ax[i]) if mu < 1 else param[i]


@kernel
def aggmo(param, grad, v1, v2, v3, grad_scale, l2, keep, beta1, beta2, beta3, lr_each):
    """Lucas et al. 2019, equation 3: vᵢ ← βᵢ·vᵢ − g; p ← p + lr_each·(v₁ + v₂ + v₃)."""
    for i in range(param.size):
        g = gradient(grad[i], param[i], grad_scale, l2)
        v1[i] = beta1 * v1[i] - g
        v2[i] = beta2 * v2[i] - g
        v3[i] = beta3 * v3[i] - g
        param[i] = decayed(keep, param[i]) + lr_each * (v1[i] + v2[i] + v3[i])
