"""What *Deep Learning from Scratch 2* does to gradients between `backward` and `update`."""

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np

from fastopt.arrays.containers import check_grad, is_masked, match_grads
from fastopt.checks import kind, number

__all__ = ["clip_grads", "remove_duplicate"]


def clip_grads(grads: Any, max_norm: float) -> float:
    """Scale gradients down, in place, so that their norm as one vector is at most a bound.

    g ← g·rate where rate = max_norm / (‖all g‖ + 10⁻⁶), if that is below 1

    The bits are the book's. `Adam(clip_norm=...)` does it within the step, without writing the gradients.

    Parameters
    ----------
    grads : dict or list of arrays
        Of floating point numbers. They are written.
    max_norm : float
        The bound, above 0.

    Returns
    -------
    float
        The norm before. If it is NaN nothing is written; if it is infinite, the book's rate is 0.

    Raises
    ------
    TypeError, ValueError
        If a gradient is no array of floating point numbers that can be written. None has been.

    References
    ----------
    Saito, *Deep Learning from Scratch 2*, section 6.1.4 (``common/util.py``).

    Examples
    --------
    >>> grads = {"W": np.array([3.0, 4.0])}
    >>> fastopt.clip_grads(grads, 1.0)
    5.0
    >>> grads["W"].round(3)
    array([0.6, 0.8])
    """
    max_norm = number("max_norm", max_norm, above=0)
    keys, _, slopes = match_grads(grads, grads)
    for key, grad in zip(keys, slopes, strict=True):
        if not isinstance(grad, np.ndarray) or is_masked(grad):
            raise TypeError(f"the gradient of {key!r} is {kind(grad)}: it must be an array, as it is written")
        if grad.dtype.kind != "f":
            raise TypeError(f"the gradient of {key!r} is {grad.dtype}: it must be of floating point numbers")
        if not grad.flags.writeable:
            raise ValueError(f"the gradient of {key!r} is read-only: pass a copy")
    total: Any = 0
    for grad in slopes:
        total += np.sum(grad**2)
    norm = np.sqrt(total)
    rate = max_norm / (norm + 1e-6)
    if rate < 1:
        for grad in slopes:
            grad *= rate
    return float(norm)


def remove_duplicate(params: Any, grads: Any) -> tuple[Any, Any]:
    """Leave one of the parameters that are the same memory, with the sum of their gradients.

    Weights are shared as they are, or transposed (as between an embedding and the output). The book compares
    values where they may be transposed, so that two matrices of zeros, say, become one, and one of them is
    never updated again; here only memory counts.

    Parameters
    ----------
    params, grads : dict or list of arrays
        As for `update`. Neither is written.

    Returns
    -------
    params, grads : dict or list of arrays
        New containers; the sums are new arrays.

    Raises
    ------
    KeyError, TypeError, ValueError
        As from `update`, if params and grads don't fit together.

    References
    ----------
    Saito, *Deep Learning from Scratch 2*, section 6.4.2 (``common/trainer.py``).

    Examples
    --------
    >>> W, dW = np.zeros((2, 3)), np.ones((2, 3))
    >>> params, grads = fastopt.remove_duplicate([W, W.T], [dW, dW.T])  # tied weights
    >>> len(params), grads[0][0]
    (1, array([2., 2., 2.]))
    """
    kept: dict[Hashable, tuple[Any, Any]] = {}
    first: dict[Any, Hashable] = {}
    for key, param, grad in zip(*match_grads(params, grads), strict=True):
        check_grad(key, grad, np.shape(param))
        if isinstance(param, np.ndarray) and param.size:
            own, turned = memory_of(param), memory_of(param.T)
            if own in first or turned in first:
                same = first[own] if own in first else first[turned]
                kept[same] = (kept[same][0], kept[same][1] + (grad if own in first else grad.T))
                continue
            first[own] = key
        kept[key] = (param, grad)
    if isinstance(params, Mapping):
        return {key: pair[0] for key, pair in kept.items()}, {key: pair[1] for key, pair in kept.items()}
    return [pair[0] for pair in kept.values()], [pair[1] for pair in kept.values()]


def memory_of(array: np.ndarray) -> tuple[Any, ...]:
    """Tell where each element of an array is, and what it is."""
    # The stride of an axis with one element says nothing.
    strides = [stride if n > 1 else 0 for n, stride in zip(array.shape, array.strides, strict=True)]
    return array.ctypes.data, array.dtype, array.shape, *strides
