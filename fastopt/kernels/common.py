"""What all kernels share."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from types import FunctionType
from typing import Any

import numpy as np

from fastopt.kernels.jit import compiled

__all__ = [
    "LANES", "add_square", "follow", "gradient", "in_lanes", "kernel", "lane_max", "lane_sum", "signed",
]  # fmt: skip

# Sums over arrays are taken in so many lanes: element i goes to lane i % LANES. So they are vectorized, and
# have the same bits on every machine. With fewer the compiler unrolls the loop instead.
LANES = 64

PACKAGE = str(Path(__file__).parents[1])


def kernel(function: Callable[..., Any]) -> Any:
    """Compile the kernel of an update rule.

    Parameters
    ----------
    function : function
        ``function(param, grad, *states, grad_scale, l2, keep, *scalars)``: one loop over
        ``range(param.size)`` that updates the parameter and its states in place. All arrays are flat, of one
        length and one dtype; scalars have this dtype, too. The rule's gradient is
        ``grad_scale * grad + l2 * param``; the update starts from ``keep * param``. ``grad`` must not be
        written.

    Returns
    -------
    compiled function
        The attribute ``kernel`` of a subclass of `Optimizer`.
    """
    # A kernel of another program may use functions of any file, whose edits the disk cache wouldn't notice:
    # only the step that calls it is cached, whose name has a digest of all that it is made of.
    return compiled(function, is_cached=function.__code__.co_filename.startswith(PACKAGE))


@compiled
def gradient(grad, param, grad_scale, l2):
    """Return grad_scale·grad + l2·param."""
    # Without L2 the sum is with -0, the neutral element: 0·param would turn an infinite parameter
    # into NaN, and +0 the sign of a gradient of -0. The choice is the same for the whole loop, so
    # that the compiler takes it out.
    return grad_scale * grad + (l2 * param if l2 else -l2)


@compiled
def signed(length, x):
    """Return length·sign(x), with NumPy's sign: 0 for zeros of both signs, NaN for NaN."""
    return length if x > 0 else (-length if x < 0 else x - x)


@compiled
def follow(param, follower, weight, back):
    """Update an average: follower ← follower + weight·(p − follower), p itself for weight 1.

    Then, if back isn't 0, p ← follower.
    """
    w = param.dtype.type(weight)
    if weight != 0:
        for i in range(param.size):
            follower[i] = follower[i] + w * (param[i] - follower[i]) if weight != 1 else param[i]
    if back != 0:
        for i in range(param.size):
            param[i] = follower[i]


def body(i, lane, *arguments):
    """Take the place of the function that `in_lanes` puts into the loop."""
    raise NotImplementedError


def loop(size, *arguments):
    """Call the body for each element, a block of lanes after the other."""
    whole = size // LANES * LANES
    for first in range(0, whole, LANES):
        for lane in range(LANES):
            body(first + lane, lane, *arguments)
    for lane in range(size - whole):
        body(whole + lane, lane, *arguments)


def in_lanes(function: Callable[..., Any]) -> Any:
    """Return ``f(size, *arguments)``, which calls the function with (element, lane, *arguments)."""
    # A closure would never be found in the disk cache, and of a body in another program's file the cache
    # notices no edits: the name has a digest of that file.
    source = Path(function.__code__.co_filename).read_bytes()
    name = f"{function.__name__}_{hashlib.sha256(source).hexdigest()[:12]}"
    result = FunctionType(loop.__code__, {**globals(), "body": compiled(function)}, name)
    result.__qualname__ = name
    return compiled(result)


@in_lanes
def add_square(i, lane, values, sums):
    """Add x² to its lane."""
    x = np.float64(values[i])
    sums[lane] += x * x


@compiled
def lane_sum(sums, first):
    """Return the sum of the lanes that begin at a place: the second half is added to the first, and so on."""
    width = LANES // 2
    while width:
        for lane in range(first, first + width):
            sums[lane] += sums[lane + width]
        width //= 2
    return sums[first]


@compiled
def lane_max(lanes):
    """Return the largest of the lanes, as `lane_sum` returns their sum."""
    width = LANES // 2
    while width:
        for lane in range(width):
            lanes[lane] = max(lanes[lane], lanes[lane + width])
        width //= 2
    return lanes[0]
