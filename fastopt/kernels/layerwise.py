"""Steps that depend on a whole array: its norm, its rows and columns.

There are two kernels a rule, ``(rows, cols, param, grad, *states, sums, totals, grad_scale, l2, keep,
*scalars)`` over whole arrays, which are matrices of so many rows and columns, one after the other; rows is 0
for arrays of less than two dimensions. The first measures: it may change the state, and leaves numbers in
``sums``, float64, for the second, which moves the parameter. That one finds their totals over all arrays in
``totals``. Scalars are float64 here, as these numbers are: what meets the elements is rounded to their dtype
then.
"""

import numpy as np
from numpy import sqrt

from fastopt.kernels import plain_layerwise
from fastopt.kernels.common import (
    LANES,
    decayed,
    gradient,
    kernel,
    lane_largest,
    lane_max,
    lane_sum,
    lane_sums,
    two_lane_sums,
)
from fastopt.kernels.jit import compiled

__all__ = [
    "adafactor", "adafactor_measure", "adafactor_momentum", "adafactor_momentum_measure", "lamb",
    "lamb_measure", "lars", "lars_measure", "novograd", "novograd_measure", "sm3", "sm3_measure",
]  # fmt: skip


@two_lane_sums
def lars_squares(i, param, grad, grad_scale, l2, keep, weight_decay):
    """Sum p² and (g + weight_decay·p)²."""
    p = decayed(keep, param[i])
    g = gradient(grad[i], param[i], grad_scale, l2) + weight_decay * p
    return np.float64(p) * np.float64(p), np.float64(g) * np.float64(g)


@kernel
def lars_measure(
    rows, cols, param, grad, v, sums, totals, grad_scale, l2, keep, mu, lr, trust, weight_decay, eps
):
    """Compute ‖p‖² and ‖g + weight_decay·p‖²."""
    own = param.dtype.type
    sums[:] = 0
    lars_squares(param.size, sums, param, grad, own(grad_scale), own(l2), own(keep), own(weight_decay))
    sums[0], sums[1] = lane_sum(sums, 0), lane_sum(sums, LANES)


@kernel
def lars(rows, cols, param, grad, v, sums, totals, grad_scale, l2, keep, mu, lr, trust, weight_decay, eps):
    """You et al. 2017, algorithm 1: g ← g + weight_decay·p; v ← μ·v − (lr·ratio)·g; p ← p + v.

    ratio = trust·‖p‖ / (‖g‖ + eps), or 1 if one of the norms is 0.
    """
    own = param.dtype.type
    grad_scale, l2, keep, mu, weight_decay = own(grad_scale), own(l2), own(keep), own(mu), own(weight_decay)
    of_p, of_g = sqrt(sums[0]), sqrt(sums[1])
    length = own(lr * (1.0 if of_p == 0 or of_g == 0 else trust * of_p / (of_g + eps)))
    for i in range(param.size):
        p = decayed(keep, param[i])
        g = gradient(grad[i], param[i], grad_scale, l2) + weight_decay * p
        v[i] = mu * v[i] - length * g
        param[i] = p + v[i]


@two_lane_sums
def lamb_squares(i, param, m, v, keep, a, eps, weight_decay, shift):
    """Sum p² and d²."""
    p = decayed(keep, param[i])
    d = a * m[i] / (np.sqrt(v[i] + shift) + eps) + weight_decay * p
    return np.float64(p) * np.float64(p), np.float64(d) * np.float64(d)


@kernel
def lamb_measure(
    rows, cols, param, grad, m, v, sums, totals, grad_scale, l2, keep,
    one_minus_beta1, one_minus_beta2, lr, a, eps, weight_decay, shift,
):  # fmt: skip
    """Update m and v as Adam; compute ‖p‖² and ‖d‖²."""
    own = param.dtype.type
    scale, decay, kept = own(grad_scale), own(l2), own(keep)
    new_m, new_v = own(one_minus_beta1), own(one_minus_beta2)
    for i in range(param.size):
        g = gradient(grad[i], param[i], scale, decay)
        m[i] = m[i] + new_m * (g - m[i])
        v[i] = v[i] + new_v * (g * g - v[i])
    sums[:] = 0
    lamb_squares(param.size, sums, param, m, v, kept, own(a), own(eps), own(weight_decay), own(shift))
    sums[0], sums[1] = lane_sum(sums, 0), lane_sum(sums, LANES)


@kernel
def lamb(
    rows, cols, param, grad, m, v, sums, totals, grad_scale, l2, keep,
    one_minus_beta1, one_minus_beta2, lr, a, eps, weight_decay, shift,
):  # fmt: skip
    """You et al. 2020, algorithm 2: d ← a·m / (√(v + shift) + eps) + weight_decay·p; p ← p − (lr·ratio)·d.

    ratio = ‖p‖ / ‖d‖, or 1 if one of the norms is 0.
    """
    own = param.dtype.type
    kept, a, eps, weight_decay, shift = own(keep), own(a), own(eps), own(weight_decay), own(shift)
    of_p, of_d = sqrt(sums[0]), sqrt(sums[1])
    length = own(lr * (1.0 if of_p == 0 or of_d == 0 else of_p / of_d))
    for i in range(param.size):
        p = decayed(kept, param[i])
        param[i] = p - length * (a * m[i] / (np.sqrt(v[i] + shift) + eps) + weight_decay * p)


@lane_sums
def gradient_squares(i, param, grad, grad_scale, l2):
    """Sum g²."""
    g = np.float64(gradient(grad[i], param[i], grad_scale, l2))
    return g * g


@kernel
def novograd_measure(
    rows, cols, param, grad, m, v, sums, totals, grad_scale, l2, keep,
    beta1, beta2, lr, eps, weight_decay, eps_root,
):  # fmt: skip
    """Compute ‖g‖²."""
    own = param.dtype.type
    sums[:] = 0
    gradient_squares(param.size, sums, param, grad, own(grad_scale), own(l2))
    sums[0] = lane_sum(sums, 0)


@kernel
def novograd(
    rows, cols, param, grad, m, v, sums, totals, grad_scale, l2, keep,
    beta1, beta2, lr, eps, weight_decay, eps_root,
):  # fmt: skip
    """Ginsburg et al. 2019, algorithm 1: m ← β₁·m + (g / s + weight_decay·p); p ← p − lr·m.

    s = √(v + eps_root) + eps; v ← β₂·v + (1 − β₂)·‖g‖², a number; with β₂ = 0 at the first step.
    """
    own = param.dtype.type
    scale, decay, kept = own(grad_scale), own(l2), own(keep)
    mu, step, weight_decay = own(beta1), own(lr), own(weight_decay)
    if v.size == 0:
        return
    v[0] = beta2 * np.float64(v[0]) + (1 - beta2) * sums[0]
    divisor = own(sqrt(np.float64(v[0]) + eps_root) + eps)
    for i in range(param.size):
        p = decayed(kept, param[i])
        g = gradient(grad[i], param[i], scale, decay)
        m[i] = mu * m[i] + (g / divisor + weight_decay * p)
        param[i] = p - step * m[i]


@compiled
def sm3_line(param, grad, m, col, largest, grad_scale, l2, one_minus_mu, eps, row):
    """Update m along a row, and the largest ν of each column so far."""
    for c in range(param.size):
        g = gradient(grad[c], param[c], grad_scale, l2)
        nu = np.minimum(row, col[c]) + g * g
        m[c] = m[c] + one_minus_mu * (g / np.sqrt(nu + eps) - m[c])
        largest[c] = np.maximum(largest[c], nu)


@lane_largest
def sm3_largest(c, param, grad, col, grad_scale, l2, row):
    """Find the largest ν of a row in each lane, where there is no NaN."""
    # np.maximum, which passes NaN on, isn't vectorized in lanes.
    g = gradient(grad[c], param[c], grad_scale, l2)
    return (row if row < col[c] else col[c]) + g * g


@compiled
def sm3_unknown(param, grad, col, grad_scale, l2, row):
    """Count the NaN of a row."""
    count = 0
    for c in range(param.size):
        g = gradient(grad[c], param[c], grad_scale, l2)
        total = row + col[c] + g * g
        count += total != total
    return count


@kernel(numpy=plain_layerwise.sm3_measure)
def sm3_measure(
    rows, cols, param, grad, m, row, col, sums, totals, grad_scale, l2, keep, one_minus_mu, lr, eps
):
    """Update m and the largest ν of each row and column, row and col.

    ν = min(row, col) + g²; m ← m + (1 − μ)(g / √(ν + eps) − m)
    """
    own = param.dtype.type
    scale, decay, new, eps = own(grad_scale), own(l2), own(one_minus_mu), own(eps)
    if param.size == 0:
        return
    sums[:] = 0
    columns = sums[LANES:]
    for r in range(row.size):
        here = slice(r * cols, (r + 1) * cols)
        sm3_line(param[here], grad[here], m[here], col, columns, scale, decay, new, eps, row[r])
        sums[:LANES] = 0
        sm3_largest(cols, sums, param[here], grad[here], col, scale, decay, row[r])
        if sm3_unknown(param[here], grad[here], col, scale, decay, row[r]):
            row[r] = np.nan
        else:
            row[r] = lane_max(sums)
    for c in range(cols):
        col[c] = columns[c]


@kernel
def sm3(rows, cols, param, grad, m, row, col, sums, totals, grad_scale, l2, keep, one_minus_mu, lr, eps):
    """Anil et al. 2019, SM3-II with momentum: p ← p − lr·m."""
    own = param.dtype.type
    kept, step = own(keep), own(lr)
    for i in range(param.size):
        param[i] = decayed(kept, param[i]) - step * m[i]


@lane_sums
def squares(i, x, factor):
    """Sum (factor·x)²."""
    y = np.float64(decayed(factor, x[i]))
    return y * y


@compiled
def column_squares(param, grad, columns, grad_scale, l2):
    """Add g² of a row to the sums of the columns."""
    for c in range(param.size):
        g = np.float64(gradient(grad[c], param[c], grad_scale, l2))
        columns[c] += g * g


@lane_sums
def adafactor_squares(i, param, grad, v, factor, grad_scale, l2, floor):
    """Sum u² of a row, where factor·v is the estimate of g²."""
    # As np.maximum, which isn't vectorized in lanes.
    estimate = factor * v[i]
    divisor = estimate if estimate > floor or estimate != estimate else floor
    u = np.float64(gradient(grad[i], param[i], grad_scale, l2) / np.sqrt(divisor))
    return u * u


@compiled
def mean(row):
    """Return the mean, in float64, one after the other."""
    total = 0.0
    for i in range(row.size):
        total += np.float64(row[i])
    return total / row.size


@compiled
def adafactor_statistics(
    rows, cols, param, grad, row, col, sums, grad_scale, l2, keep, w, lr, eps1, eps2, of_size, clip
):
    """Average the means of g² in row and col; compute the length of the step."""
    own = param.dtype.type
    scale, decay = own(grad_scale), own(l2)
    floor = eps1 if eps1 >= 0 else np.float64(np.finfo(param.dtype).eps)
    square = own(floor * floor)
    if param.size == 0:
        return
    sums[:] = 0
    squares(param.size, sums, param, own(keep))
    size = sqrt(lane_sum(sums, 0)) / sqrt(param.size)
    size = of_size * size
    alpha = lr * (size if size > eps2 else eps2)
    of_u = 0.0
    if rows == 0:
        new = own(w)
        for i in range(param.size):
            g = gradient(grad[i], param[i], scale, decay)
            row[i] = row[i] + new * (g * g - row[i])
        sums[:LANES] = 0
        adafactor_squares(param.size, sums, param, grad, row, own(1), scale, decay, square)
        of_u = lane_sum(sums, 0)
    else:
        for b in range(row.size // rows):
            columns = sums[LANES : LANES + cols]
            columns[:] = 0
            for r in range(b * rows, (b + 1) * rows):
                here = slice(r * cols, (r + 1) * cols)
                sums[:LANES] = 0
                gradient_squares(cols, sums, param[here], grad[here], scale, decay)
                column_squares(param[here], grad[here], columns, scale, decay)
                row[r] = np.float64(row[r]) + w * (lane_sum(sums, 0) / cols - np.float64(row[r]))
            for c in range(cols):
                old = np.float64(col[b * cols + c])
                col[b * cols + c] = old + w * (columns[c] / rows - old)
            middle = np.maximum(mean(row[b * rows : (b + 1) * rows]), floor)
            for r in range(b * rows, (b + 1) * rows):
                here = slice(r * cols, (r + 1) * cols)
                line = col[b * cols : (b + 1) * cols]
                factor = own(np.float64(row[r]) / middle)
                sums[:LANES] = 0
                adafactor_squares(cols, sums, param[here], grad[here], line, factor, scale, decay, square)
                of_u += lane_sum(sums, 0)
    ratio = sqrt(of_u) / sqrt(param.size) / clip
    sums[0] = alpha / (ratio if ratio > 1.0 else 1.0)


@kernel(numpy=plain_layerwise.adafactor_measure)
def adafactor_measure(
    rows, cols, param, grad, row, col, sums, totals, grad_scale, l2, keep,
    w, lr, eps1, eps2, of_size, clip, kept,
):  # fmt: skip
    """Average the means of g² in row and col with weight w; compute α / max(1, rms(u) / clip).

    α = lr·max(eps₂, of_size·rms(p)), where of_size is 1, or 0 for steps that don't go by the parameters.
    """
    adafactor_statistics(
        rows, cols, param, grad, row, col, sums, grad_scale, l2, keep, w, lr, eps1, eps2, of_size, clip
    )


@kernel(numpy=plain_layerwise.adafactor_momentum_measure)
def adafactor_momentum_measure(
    rows, cols, param, grad, row, col, m, sums, totals, grad_scale, l2, keep,
    w, lr, eps1, eps2, of_size, clip, kept, one_minus_mu,
):  # fmt: skip
    """Do what `adafactor_measure` does."""
    adafactor_statistics(
        rows, cols, param, grad, row, col, sums, grad_scale, l2, keep, w, lr, eps1, eps2, of_size, clip
    )


@compiled
def adafactor_line(param, grad, v, factor, grad_scale, l2, keep, floor, kept, length):
    """Move the parameters of a row, where factor·v is the estimate of g²."""
    for c in range(param.size):
        u = gradient(grad[c], param[c], grad_scale, l2) / np.sqrt(np.maximum(factor * v[c], floor))
        param[c] = decayed(kept, decayed(keep, param[c])) - length * u


@kernel(numpy=plain_layerwise.adafactor)
def adafactor(
    rows, cols, param, grad, row, col, sums, totals, grad_scale, l2, keep,
    w, lr, eps1, eps2, of_size, clip, kept,
):  # fmt: skip
    """Shazeer and Stern 2018, algorithms 4 and 5: p ← kept·p − (α / max(1, rms(u) / clip))·u.

    u = g / √max(row / mean(row)·col, eps₁²)
    """
    own = param.dtype.type
    scale, decay, kept, before = own(grad_scale), own(l2), own(kept), own(keep)
    floor = eps1 if eps1 >= 0 else np.float64(np.finfo(param.dtype).eps)
    square = own(floor * floor)
    length = own(sums[0])
    if rows == 0:
        adafactor_line(param, grad, row, own(1), scale, decay, before, square, kept, length)
    else:
        for b in range(row.size // rows if cols else 0):
            middle = np.maximum(mean(row[b * rows : (b + 1) * rows]), floor)
            for r in range(b * rows, (b + 1) * rows):
                factor = own(np.float64(row[r]) / middle)
                here, line = slice(r * cols, (r + 1) * cols), col[b * cols : (b + 1) * cols]
                adafactor_line(
                    param[here], grad[here], line, factor, scale, decay, before, square, kept, length
                )


@compiled
def adafactor_momentum_line(
    param, grad, v, m, factor, grad_scale, l2, keep, floor, kept, length, one_minus_mu
):
    """Average the steps of a row in m, and move its parameters; factor·v is the estimate of g²."""
    for c in range(param.size):
        u = gradient(grad[c], param[c], grad_scale, l2) / np.sqrt(np.maximum(factor * v[c], floor))
        m[c] = m[c] + one_minus_mu * (length * u - m[c])
        param[c] = decayed(kept, decayed(keep, param[c])) - m[c]


@kernel(numpy=plain_layerwise.adafactor_momentum)
def adafactor_momentum(
    rows, cols, param, grad, row, col, m, sums, totals, grad_scale, l2, keep,
    w, lr, eps1, eps2, of_size, clip, kept, one_minus_mu,
):  # fmt: skip
    """Shazeer and Stern 2018: m ← m + (1 − μ)(s − m); p ← kept·p − m, where s is Adafactor's step."""
    own = param.dtype.type
    scale, decay, kept, before, new = own(grad_scale), own(l2), own(kept), own(keep), own(one_minus_mu)
    floor = eps1 if eps1 >= 0 else np.float64(np.finfo(param.dtype).eps)
    square = own(floor * floor)
    length = own(sums[0])
    if rows == 0:
        adafactor_momentum_line(param, grad, row, m, own(1), scale, decay, before, square, kept, length, new)
    else:
        for b in range(row.size // rows if cols else 0):
            middle = np.maximum(mean(row[b * rows : (b + 1) * rows]), floor)
            for r in range(b * rows, (b + 1) * rows):
                factor = own(np.float64(row[r]) / middle)
                here, line = slice(r * cols, (r + 1) * cols), col[b * cols : (b + 1) * cols]
                adafactor_momentum_line(
                    param[here], grad[here], line, m[here], factor, scale, decay, before, square, kept,
                    length, new,
                )  # fmt: skip
