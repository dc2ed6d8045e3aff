"""A cautious step: elements whose update goes against their gradient stay, the others go further.

The rule updates a copy of the parameter. Then the elements are counted that it moved against the gradient's
sign, and these moves are done, scaled by the inverse of their share.

A cautious step is another way to call a kernel (`fastopt.engine.rules.KernelCall`), with a copy of the
parameter as a work array. So no kernel knows of it, and rules of whole arrays and users' own have it, too.
An element-wise rule has two passes then, with the count as a statistic that ranks add up.
"""

import numpy as np

from fastopt.kernels.common import choose, decayed, gradient
from fastopt.kernels.jit import compiled

__all__ = ["count_agreeing", "move_agreeing"]

# The share is taken for at least so much, so that no move gets more than a thousand times as long.
MIN_SHARE = 1e-3


@compiled
def disagrees(move, g):
    """Whether a move, subtracted from a parameter, doesn't go down the gradient; False if one is NaN."""
    return ((move >= 0) & (g <= 0)) | ((move <= 0) & (g >= 0))


def count_in_numpy(param, target, grad, grad_scale, l2, keep):
    """Count the elements of whole arrays, as `count_agreeing`."""
    g = gradient.in_numpy(grad, param[...], grad_scale, l2)
    move = decayed.in_numpy(keep, param[...]) - target
    return param.size - np.count_nonzero(disagrees.py_func(move, g))


@compiled(numpy=count_in_numpy)
def count_agreeing(param, target, grad, grad_scale, l2, keep):
    """Count the elements that the rule moved down their gradient."""
    count = 0
    for i in range(param.size):
        g = gradient(grad[i], param[i], grad_scale, l2)
        count += 0 if disagrees(decayed(keep, param[i]) - target[i], g) else 1
    return count


@compiled
def move_agreeing(param, target, grad, count, size, grad_scale, l2, keep):
    """Liang et al. 2024: p ← keep·p − u / share where the update u has the sign of g, else keep·p.

    share is that of the elements with this sign, at least 0.001: count of the array's size.
    """
    share = np.float64(count) / size
    factor = param.dtype.type(1 / (share if share > MIN_SHARE else MIN_SHARE))
    for i in range(param.size):
        g = gradient(grad[i], param[i], grad_scale, l2)
        kept = decayed(keep, param[i])
        move = kept - target[i]
        # Where all elements agree, the step is the rule's own to the last bit.
        moved = target[i] if factor == 1 else kept - factor * move
        param[i] = choose(disagrees(move, g), kept, moved)
