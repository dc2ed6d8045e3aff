"""What all kernels share."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from fastopt.kernels.jit import Compiled, compiled, with_names

__all__ = [
    "LANES", "added", "choose", "decayed", "follow", "gradient", "kernel", "lane_largest", "lane_max",
    "lane_sum", "lane_sums", "loop_range", "signed", "square_sums", "two_lane_sums",
]  # fmt: skip

# Sums over arrays are taken in so many lanes: element i goes to lane i % LANES. So they are vectorized, and
# have the same bits on every machine. With fewer the compiler unrolls the loop instead.
LANES = 64

# A loop over `range` is one over all elements, which plain NumPy takes at once; this is any other loop.
loop_range = range


def kernel(function: Callable[..., Any] | None = None, *, numpy: Callable[..., Any] | None = None) -> Any:
    """Compile the kernel of an update rule.

    Parameters
    ----------
    function : function
        ``function(param, grad, *states, grad_scale, l2, keep, *scalars)``: one loop over
        ``range(param.size)`` that updates the parameter and its states in place. All arrays are flat, of one
        length and one dtype; scalars have this dtype, too. The rule's gradient is
        ``grad_scale * grad + l2 * param``; the update starts from ``keep * param``. ``grad`` must not be
        written. While it isn't compiled, it runs on whole arrays in NumPy; where that has other bits, as an
        element depends on another one or is branched on, Python runs it element by element.

    numpy : function, optional
        Does the same on whole arrays of NumPy, if the function can't: see `fastopt.kernels.plain`.

    Returns
    -------
    compiled function
        The attribute ``kernel`` of a subclass of `Optimizer`.

    Examples
    --------
    >>> @fastopt.kernel
    ... def halved_sgd(param, grad, grad_scale, l2, keep, lr):
    ...     for i in range(param.size):
    ...         param[i] = keep * param[i] - lr / 2 * (grad_scale * grad[i] + l2 * param[i])
    >>> from dataclasses import dataclass
    >>> @dataclass(eq=False)
    ... class HalvedSGD(fastopt.Optimizer):
    ...     kernel = halved_sgd
    ...     lr: float = fastopt.hyperparameter(0.1)
    ...     def scalars(self, t):
    ...         return (self.lr,)
    >>> W = np.ones(1)
    >>> HalvedSGD().update([W], [np.ones(1)])
    True
    >>> W
    array([0.95])
    """
    return compiled(function, numpy=numpy)


def gradient_in_numpy(grad, param, grad_scale, l2):
    """Return grad_scale·grad + l2·param, the gradient itself if it is that."""
    scaled = grad if grad_scale == 1 else grad_scale * grad
    return scaled + l2 * param if l2 else scaled


@compiled(numpy=gradient_in_numpy)
def gradient(grad, param, grad_scale, l2):
    """Return grad_scale·grad + l2·param."""
    # Without L2 the sum is with -0, the neutral element: 0·param would turn an infinite parameter
    # into NaN, and +0 the sign of a gradient of -0. The choice is the same for the whole loop, so
    # that the compiler takes it out.
    return grad_scale * grad + (l2 * param if l2 else -l2)


def decayed_in_numpy(keep, param):
    """Return keep·param, the parameter itself if it is that."""
    return param if keep == 1 else keep * param


@compiled(numpy=decayed_in_numpy)
def decayed(keep, param):
    """Return keep·param."""
    return keep * param


def added_in_numpy(x, eps):
    """Return x + eps, x itself if eps is 0."""
    return x + eps if eps else x


@compiled(numpy=added_in_numpy)
def added(x, eps):
    """Return x + eps."""
    return x + (eps if eps else -eps)  # -0 is the neutral element


@compiled(numpy=np.where)
def choose(condition, x, y):
    """Return x where the condition is met, else y."""
    return x if condition else y


def signed_in_numpy(length, x):
    """Return length·sign(x)."""
    result = length * np.sign(x)
    if getattr(length, "ndim", 0) == 0 and 0 <= length < np.inf:
        return result
    # The product with 0 is NaN for infinite lengths, and -0 for negative ones.
    return np.where(x == 0, x.dtype.type(0), result)


@compiled(numpy=signed_in_numpy)
def signed(length, x):
    """Return length·sign(x), with NumPy's sign: 0 for zeros of both signs, NaN for NaN."""
    return length if x > 0 else (-length if x < 0 else x - x)


def rounded_in_numpy(number, array):
    """Return the number: NumPy rounds it where it meets the array."""
    return number


@compiled(numpy=rounded_in_numpy)
def rounded(number, array):
    """Return a number in the dtype of an array."""
    return array.dtype.type(number)


@compiled
def follow(param, follower, weight, back):
    """Update an average: follower ← follower + weight·(p − follower), p itself for weight 1.

    Then, if back isn't 0, p ← follower.
    """
    w = rounded(weight, param)
    if weight != 0:
        for i in range(param.size):
            follower[i] = follower[i] + w * (param[i] - follower[i]) if weight != 1 else param[i]
    if back != 0:
        for i in range(param.size):
            param[i] = follower[i]


def body(i, *arguments):
    """Take the place of the function that is evaluated for each element."""
    raise NotImplementedError


def combine(lanes, lane, new):
    """Take the place of the function that puts a new value into its lane."""
    raise NotImplementedError


def loop(size, lanes, *arguments):
    """Evaluate the body for each element, a block of lanes after the other."""
    whole = size // LANES * LANES
    for first in range(0, whole, LANES):
        for lane in range(LANES):
            combine(lanes, lane, body(first + lane, *arguments))
    for lane in range(size - whole):
        combine(lanes, lane, body(whole + lane, *arguments))


def add_block(lanes, first, terms):
    """Add terms, which are overwritten, to the lanes that begin at a place, one row after the other."""
    n_rows, rest = divmod(terms.size, LANES)
    own, rows = lanes[first : first + LANES], terms[: n_rows * LANES].reshape(n_rows, LANES)
    if n_rows:
        rows[0] += own
        # NumPy adds rows one after the other, as their elements are contiguous.
        np.add.reduce(rows, axis=0, out=own)
    own[:rest] += terms[n_rows * LANES :]


def add_one_in_numpy(lanes, lane, terms):
    """Add all terms to their lanes."""
    add_block(lanes, 0, terms)


def add_two_in_numpy(lanes, lane, terms):
    """Add all pairs of terms to their lanes."""
    add_block(lanes, 0, terms[0])
    add_block(lanes, LANES, terms[1])


@compiled(numpy=add_one_in_numpy)
def add_one(lanes, lane, term):
    """Add a term to its lane."""
    lanes[lane] += term


@compiled(numpy=add_two_in_numpy)
def add_two(lanes, lane, terms):
    """Add two terms to their lanes; those of the second follow those of the first."""
    lanes[lane] += terms[0]
    lanes[LANES + lane] += terms[1]


@compiled
def take_larger(lanes, lane, new):
    """Keep the larger one of a lane and a new value. It has no form in NumPy."""
    lanes[lane] = new if new > lanes[lane] else lanes[lane]


def in_lanes(function: Callable[..., Any], combine: Compiled) -> Any:
    """Return ``f(size, lanes, *arguments)``, which combines what function(element, *arguments) returns."""
    own = {"body": compiled(function), "combine": combine}

    def in_numpy(size, lanes, *arguments):
        """Evaluate the function for all elements at once."""
        combine.in_numpy(lanes, ..., own["body"].in_numpy(..., *arguments))

    return compiled(with_names(loop, own, function.__name__), numpy=in_numpy)


# Decorators of a function that returns a term, or two, in double precision; and of one that returns a value.
lane_sums = partial(in_lanes, combine=add_one)
two_lane_sums = partial(in_lanes, combine=add_two)
lane_largest = partial(in_lanes, combine=take_larger)


@lane_sums
def square_sums(i, values):
    """Sum x²."""
    x = np.float64(values[i])
    return x * x


def lane_sum_in_numpy(sums, first):
    """Return the sum of the lanes that begin at a place."""
    width = LANES // 2
    while width:
        sums[first : first + width] += sums[first + width : first + 2 * width]
        width //= 2
    return sums[first]


@compiled(numpy=lane_sum_in_numpy)
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
