"""The kernels of `fastopt.kernels.layerwise_adam` that go block by block, in plain NumPy: on whole arrays."""

import numpy as np
from numpy import sqrt

from fastopt.kernels.common import LANES, decayed, gradient
from fastopt.kernels.plain_layerwise import row_sums

__all__ = ["ada_mini", "ada_mini_measure", "adamp", "adamp_measure"]

gradient_of, decay_of = gradient.in_numpy, decayed.in_numpy
CHANNEL = 8  # as in `fastopt.kernels.layerwise_adam`


def ada_mini_measure(
    rows, cols, param, grad, m, v, sums, totals, grad_scale, l2, keep,
    one_minus_beta1, one_minus_beta2, lr_t, eps,
):  # fmt: skip
    """Average the mean of g² in each block, as `fastopt.kernels.ada_mini_measure`."""
    if param.size == 0:
        return
    own, size = param.dtype.type, param.size // v.size
    g = np.float64(gradient_of(grad[...], param[...], own(grad_scale), own(l2)))
    old = np.float64(v[...])
    squares = row_sums(np.square(g).reshape(v.size, size))
    v[...] = (old + one_minus_beta2 * (squares / size - old)).astype(param.dtype)
    sums[0] = 0


def ada_mini(
    rows, cols, param, grad, m, v, sums, totals, grad_scale, l2, keep,
    one_minus_beta1, one_minus_beta2, lr_t, eps,
):  # fmt: skip
    """Update m and the parameters, as `fastopt.kernels.ada_mini`."""
    if param.size == 0:
        return
    own = param.dtype.type
    g = gradient_of(grad[...], param[...], own(grad_scale), own(l2))
    m[...] = m[...] + own(one_minus_beta1) * (g - m[...])
    divisors = (sqrt(np.float64(v[...])) + eps).astype(param.dtype)[:, None]
    steps = (own(lr_t) * m[...]).reshape(v.size, -1) / divisors
    param[...] = decay_of(own(keep), param[...]) - steps.reshape(-1)


def sums_of(x, y):
    """Return the sum of the products in each row, in double precision; 0 isn't -0."""
    return row_sums(np.asarray(x, dtype=np.float64) * np.asarray(y, dtype=np.float64)) + 0.0


def adamp_measure(
    rows, cols, param, grad, m, v, sums, totals, grad_scale, l2, keep,
    one_minus_beta1, one_minus_beta2, lr_t, eps_t, eps, delta, kept, kept_less,
):  # fmt: skip
    """Update m and v, and compute what is taken away, as `fastopt.kernels.adamp_measure`."""
    own = param.dtype.type
    g = gradient_of(grad[...], param[...], own(grad_scale), own(l2))
    m[...] = m[...] + own(one_minus_beta1) * (g - m[...])
    v[...] = v[...] + own(one_minus_beta2) * (g * g - v[...])
    n = (sums.size - 2 * LANES) // CHANNEL
    sums[0] = 0
    if n == 0 or param.size == 0:
        return
    p = decay_of(own(keep), param[...]).reshape(n, -1)
    g, u = g.reshape(n, -1), (m[...] / (sqrt(v[...]) + own(eps_t))).reshape(n, -1)
    product, part, of_p, of_g = sums_of(p, g), sums_of(p, u), sums_of(p, p), sums_of(g, g)
    factors = sums[2 * LANES :: CHANNEL]
    if np.max(cosine(product, of_p, of_g, eps)) < delta / sqrt(param.size // n):
        sums[0] = 1
        factors[:n] = part / np.square(sqrt(of_p) + eps)
        return
    product, part, of_p, of_g = (np.add.accumulate(x)[-1] for x in (product, part, of_p, of_g))
    if cosine(product, of_p, of_g, eps) < delta / sqrt(param.size):
        sums[0] = 1
        factors[:n] = part / np.square(sqrt(of_p) + eps)


def cosine(product, of_p, of_g, eps):
    """Return the magnitude of the cosine between p and g."""
    return abs(product) / (np.maximum(sqrt(of_p), eps) * np.maximum(sqrt(of_g), eps))


def adamp(
    rows, cols, param, grad, m, v, sums, totals, grad_scale, l2, keep,
    one_minus_beta1, one_minus_beta2, lr_t, eps_t, eps, delta, kept, kept_less,
):  # fmt: skip
    """Move the parameters, as `fastopt.kernels.adamp`."""
    own = param.dtype.type
    p, u = decay_of(own(keep), param[...]), m[...] / (sqrt(v[...]) + own(eps_t))
    if sums[0]:
        n = (sums.size - 2 * LANES) // CHANNEL
        factors = sums[2 * LANES :: CHANNEL][:n].astype(param.dtype)[:, None]
        u = u - (factors * p.reshape(n, -1)).reshape(-1)
    param[...] = decay_of(own(kept_less if sums[0] else kept), p) - own(lr_t) * u
