"""Steps for matrices, from products of matrices."""

from numpy import sqrt

from fastopt.kernels.common import decayed, gradient, kernel, lane_sum, square_sums

__all__ = ["muon", "muon_measure"]


@kernel
def muon_measure(
    rows, cols, param, grad, m, u, sums, totals, grad_scale, l2, keep, mu, one_minus_mu, lr, eps
):
    """Compute the direction: m ← m + (1 − μ)(g − m); u ← g + μ·(m − g); u ← u / max(‖u‖, eps)."""
    own = param.dtype.type
    scale, decay, ahead, new = own(grad_scale), own(l2), own(mu), own(one_minus_mu)
    for i in range(param.size):
        g = gradient(grad[i], param[i], scale, decay)
        m[i] = m[i] + new * (g - m[i])
        u[i] = g + ahead * (m[i] - g)
    sums[:] = 0
    square_sums(u.size, sums, u)
    norm = sqrt(lane_sum(sums, 0))
    divisor = own(eps if eps > norm else norm)  # NaN stays
    for i in range(u.size):
        u[i] = u[i] / divisor


@kernel
def muon(rows, cols, param, grad, m, u, sums, totals, grad_scale, l2, keep, mu, one_minus_mu, lr, eps):
    """Jordan et al. 2024: p ← p − (lr·√max(1, rows / cols))·u; u has been made orthogonal in between."""
    own = param.dtype.type
    kept = own(keep)
    if param.size == 0:
        return
    step = own(lr * sqrt(rows / cols if rows > cols else 1.0))
    for i in range(param.size):
        param[i] = decayed(kept, param[i]) - step * u[i]
