"""Schedule-free rules: an average over the steps takes the place of a schedule."""

from numpy import sqrt

from fastopt.kernels.common import decayed, gradient, kernel

__all__ = ["schedule_free_adamw", "schedule_free_radam", "schedule_free_sgd"]


@kernel
def schedule_free_sgd(param, grad, z, grad_scale, l2, keep, c, lr, lr_y):
    """Defazio et al. 2024, section 4.4: p ← p + c·(z − p) + lr_y·g; z ← z − lr·g."""
    for i in range(param.size):
        g = gradient(grad[i], param[i], grad_scale, l2)
        y = decayed(keep, param[i])
        param[i] = y + c * (z[i] - y) + lr_y * g
        z[i] = z[i] - lr * g


@kernel
def schedule_free_adamw(
    param, grad, v, z, grad_scale, l2, keep, one_minus_beta2, root, eps, weight_decay, c, lr, lr_y
):
    """Defazio et al. 2024.

    v as Adam; d ← root·g / (√v + eps) + weight_decay·p; then as schedule-free SGD with d
    """
    for i in range(param.size):
        g = gradient(grad[i], param[i], grad_scale, l2)
        v[i] = v[i] + one_minus_beta2 * (g * g - v[i])
        y = decayed(keep, param[i])
        d = root * g / (sqrt(v[i]) + eps) + weight_decay * y
        param[i] = y + c * (z[i] - y) + lr_y * d
        z[i] = z[i] - lr * d


@kernel
def schedule_free_radam(
    param, grad, v, z, grad_scale, l2, keep, one_minus_beta2, root, eps, rectified, weight_decay, c, lr, lr_y
):
    """Defazio et al. 2024 with Liu et al. 2020: as schedule_free_adamw, at first without the divisor."""
    for i in range(param.size):
        g = gradient(grad[i], param[i], grad_scale, l2)
        v[i] = v[i] + one_minus_beta2 * (g * g - v[i])
        y = decayed(keep, param[i])
        divisor = sqrt(v[i]) + eps if rectified else param.dtype.type(1)
        d = root * g / divisor + weight_decay * y
        param[i] = y + c * (z[i] - y) + lr_y * d
        z[i] = z[i] - lr * d
