"""HIPS autograd: ``adam``, ``sgd`` and ``rmsprop`` of ``autograd.misc.optimizers``, in their own form.

Each takes ``grad(x, i)`` and x0, nested lists, tuples and dicts of arrays and numbers, and returns the last x
in the same form. ``callback(x, i, gradient)`` is called before each step. What grad and callback are given is
theirs to keep.

Examples
--------
>>> from fastopt.adapters.autograd import adam
>>> adam(lambda x, i: 2 * (x - 3), np.zeros(2), step_size=0.1, num_iters=300).round(2)
array([3., 3.])
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from fastopt import optimizers
from fastopt.adapters.common import library
from fastopt.optimizer import Optimizer
from fastopt.optimizers import peers

__all__ = ["adam", "rmsprop", "sgd"]

Gradient = Callable[[Any, int], Any]
Callback = Callable[[Any, int, Any], Any]


def minimize(
    rule: Optimizer, grad: Gradient, x0: Any, callback: Callback | None, num_iters: int, **start: float
) -> Any:
    """Take the steps of a rule from x0, and return the last x. ``start`` has states that don't start at 0."""
    flatten = library("autograd.misc", "autograd").flatten
    flat, unflatten = flatten(x0)
    if np.iscomplexobj(flat):
        raise TypeError("x0 has complex numbers: pass their real and imaginary parts")
    x = np.array(flat, np.float64)  # which autograd's own become at the first step
    if start:
        state = {name: [np.full_like(x, value)] for name, value in start.items()}
        rule.load_state_dict({**rule.state_dict(), "state": state})
    for i in range(num_iters):
        here = unflatten(x.copy())
        gradient = grad(here, i)
        if callback:
            callback(here, i, gradient)
        rule.update([x], [flatten(gradient)[0]])
    return unflatten(x)


def sgd(
    grad: Gradient,
    x0: Any,
    callback: Callback | None = None,
    num_iters: int = 200,
    step_size: float = 0.1,
    mass: float = 0.9,
) -> Any:
    """Gradient descent with momentum: v ← mass·v − (1 − mass)·g; x ← x + step_size·v.

    Examples
    --------
    >>> from fastopt.adapters.autograd import sgd
    >>> sgd(lambda x, i: 2 * (x - 3), np.zeros(2)).round(3)
    array([3., 3.])
    """
    # fastopt's velocity has the step size in it.
    rule = optimizers.Momentum(step_size * (1 - mass), mass)
    return minimize(rule, grad, x0, callback, num_iters)


def rmsprop(
    grad: Gradient,
    x0: Any,
    callback: Callback | None = None,
    num_iters: int = 100,
    step_size: float = 0.1,
    gamma: float = 0.9,
    eps: float = 1e-8,
) -> Any:
    """Root mean squared prop, whose mean of squares starts at 1 here, with autograd's bits.

    Examples
    --------
    >>> from fastopt.adapters.autograd import rmsprop
    >>> rmsprop(lambda x, i: np.sign(x), np.ones(2), num_iters=1)  # the mean of squares starts at 1
    array([0.9, 0.9])
    """
    rule = peers.AveragedRMSprop(step_size, gamma, eps=eps)
    return minimize(rule, grad, x0, callback, num_iters, h=1)


def adam(
    grad: Gradient,
    x0: Any,
    callback: Callback | None = None,
    num_iters: int = 100,
    step_size: float = 0.001,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
) -> Any:
    """Adam with eps on the root of the corrected v, with autograd's bits.

    Examples
    --------
    >>> from fastopt.adapters.autograd import adam
    >>> x0 = {"W": np.ones(2), "b": 0.0}
    >>> gradient = {"W": np.ones(2), "b": 1.0}
    >>> adam(lambda x, i: gradient, x0, num_iters=1)["W"].round(4)
    array([0.999, 0.999])
    """
    return minimize(peers.CorrectedAdam(step_size, b1, b2, eps=eps), grad, x0, callback, num_iters)
