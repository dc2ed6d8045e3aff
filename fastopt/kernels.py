"""The update rules as fused in-place loops, simplest first: what runs.

Every kernel is ``rule(param, grad, *states, grad_scale, l2, keep, *scalars)`` over flat arrays of one
length and one dtype, with scalars of that dtype: one loop, no allocation, ``grad`` is only read. The
first three scalars are what is wrapped around a rule, so that none of it needs a pass of its own: the
gradient that a rule sees is ``grad_scale·grad + l2·param``, and the parameter that it moves is
``keep·param``. With 1, 0 and 1 they leave every bit as it is.

Each sum and product is rounded in the order written, as in `fastopt.reference`.
"""

from math import sqrt

from fastopt.compiling import compiled

__all__ = ["adagrad", "adam", "momentum", "nesterov", "rmsprop", "sgd"]


@compiled
def gradient(grad, param, grad_scale, l2):
    """grad_scale·grad + l2·param."""
    # Without L2 the sum is with -0, the neutral element: 0·param would turn an infinite parameter
    # into NaN, and +0 the sign of a gradient of -0. The choice is the same for the whole loop, so
    # that the compiler takes it out.
    return grad_scale * grad + (l2 * param if l2 else -l2)


@compiled
def sgd(param, grad, grad_scale, l2, keep, lr):
    """P ← p − lr·g (*Deep Learning from Scratch*, 6.1.2)."""
    for i in range(param.size):
        g = gradient(grad[i], param[i], grad_scale, l2)
        param[i] = keep * param[i] - lr * g


@compiled
def momentum(param, grad, v, grad_scale, l2, keep, mu, lr):
    """V ← μ·v − lr·g; p ← p + v (*Deep Learning from Scratch*, 6.1.4)."""
    for i in range(param.size):
        g = gradient(grad[i], param[i], grad_scale, l2)
        v[i] = mu * v[i] - lr * g
        param[i] = keep * param[i] + v[i]


@compiled
def nesterov(param, grad, v, grad_scale, l2, keep, mu, lr, mu_mu, lr_ahead):
    """P ← p + μ²·v; p ← p − ((1 + μ)·lr)·g; v ← μ·v − lr·g (Bengio et al. 2013, eq. 7)."""
    for i in range(param.size):
        g = gradient(grad[i], param[i], grad_scale, l2)
        param[i] = keep * param[i] + mu_mu * v[i] - lr_ahead * g
        v[i] = mu * v[i] - lr * g


@compiled
def adagrad(param, grad, h, grad_scale, l2, keep, lr, eps):
    """H ← h + g²; p ← p − lr·g / (√h + eps) (Duchi et al. 2011)."""
    for i in range(param.size):
        g = gradient(grad[i], param[i], grad_scale, l2)
        h[i] = h[i] + g * g
        param[i] = keep * param[i] - lr * g / (sqrt(h[i]) + eps)


@compiled
def rmsprop(param, grad, h, grad_scale, l2, keep, rho, one_minus_rho, lr, eps):
    """H ← ρ·h + (1 − ρ)·g²; p ← p − lr·g / (√h + eps) (Tieleman and Hinton 2012)."""
    for i in range(param.size):
        g = gradient(grad[i], param[i], grad_scale, l2)
        h[i] = h[i] * rho + one_minus_rho * g * g
        param[i] = keep * param[i] - lr * g / (sqrt(h[i]) + eps)


@compiled
def adam(param, grad, m, v, grad_scale, l2, keep, one_minus_beta1, one_minus_beta2, lr_t, eps):
    """M ← m + (1 − β₁)(g − m); v ← v + (1 − β₂)(g² − v); p ← p − lr_t·m / (√v + eps).

    Kingma and Ba 2015, algorithm 1 in the order of the end of section 2.
    """
    for i in range(param.size):
        g = gradient(grad[i], param[i], grad_scale, l2)
        m[i] = m[i] + one_minus_beta1 * (g - m[i])
        v[i] = v[i] + one_minus_beta2 * (g * g - v[i])
        param[i] = keep * param[i] - lr_t * m[i] / (sqrt(v[i]) + eps)
