"""The update rules in plain NumPy, simplest first: the specification.

The classes have the names, constructors and attributes of those in `fastopt`, whose results they define
to the last bit, in float64 and in float32. They read like the textbook and check nothing.

Notation: p parameter, g gradient, lr learning rate, t number of the step. Each sum and product is rounded
in the order written, from left to right; a product of hyperparameters is a Python float.
"""

from collections.abc import Iterator, Mapping
from math import sqrt
from typing import Any

import numpy as np

__all__ = ["SGD", "AdaGrad", "Adam", "Momentum", "Nesterov", "RMSprop"]


def pairs(params: Any, grads: Any) -> Iterator[tuple[Any, np.ndarray]]:
    """Yield each key or index with its gradient, rounded to the dtype that the step computes in."""
    for key in params if isinstance(params, Mapping) else range(len(params)):
        yield key, np.asarray(grads[key], compute_dtype(params[key]))


def compute_dtype(param: Any) -> np.dtype[Any]:
    """float32 for float16 and float32, float64 for float64."""
    return np.promote_types(np.asarray(param).dtype, np.float32)


def zeros(params: Any) -> Any:
    """Give a dict or list of zeros like the parameters."""
    if isinstance(params, Mapping):
        return {key: np.zeros(np.shape(p), compute_dtype(p)) for key, p in params.items()}
    return [np.zeros(np.shape(p), compute_dtype(p)) for p in params]


class SGD:
    """p ← p − lr·g."""

    def __init__(self, lr: float = 0.01) -> None:
        self.lr = lr

    def update(self, params: Any, grads: Any) -> None:
        """Take a step."""
        for key, g in pairs(params, grads):
            params[key] -= self.lr * g


class Momentum:
    """v ← μ·v − lr·g; p ← p + v."""

    def __init__(self, lr: float = 0.01, momentum: float = 0.9) -> None:
        self.lr = lr
        self.momentum = momentum
        self.v: Any = None

    def update(self, params: Any, grads: Any) -> None:
        """Take a step."""
        if self.v is None:
            self.v = zeros(params)
        for key, g in pairs(params, grads):
            self.v[key] = self.momentum * self.v[key] - self.lr * g
            params[key] += self.v[key]


class Nesterov:
    """p ← p + μ²·v; p ← p − ((1 + μ)·lr)·g; v ← μ·v − lr·g."""

    def __init__(self, lr: float = 0.01, momentum: float = 0.9) -> None:
        self.lr = lr
        self.momentum = momentum
        self.v: Any = None

    def update(self, params: Any, grads: Any) -> None:
        """Take a step."""
        if self.v is None:
            self.v = zeros(params)
        for key, g in pairs(params, grads):
            params[key] += self.momentum * self.momentum * self.v[key]
            params[key] -= (1 + self.momentum) * self.lr * g
            self.v[key] = self.momentum * self.v[key] - self.lr * g


class AdaGrad:
    """h ← h + g²; p ← p − lr·g / (√h + eps)."""

    def __init__(self, lr: float = 0.01, *, eps: float = 1e-7) -> None:
        self.lr = lr
        self.eps = eps
        self.h: Any = None

    def update(self, params: Any, grads: Any) -> None:
        """Take a step."""
        if self.h is None:
            self.h = zeros(params)
        for key, g in pairs(params, grads):
            self.h[key] += g * g
            params[key] -= self.lr * g / (np.sqrt(self.h[key]) + self.eps)


class RMSprop:
    """h ← ρ·h + (1 − ρ)·g²; p ← p − lr·g / (√h + eps)."""

    def __init__(self, lr: float = 0.01, decay_rate: float = 0.99, *, eps: float = 1e-7) -> None:
        self.lr = lr
        self.decay_rate = decay_rate
        self.eps = eps
        self.h: Any = None

    def update(self, params: Any, grads: Any) -> None:
        """Take a step."""
        if self.h is None:
            self.h = zeros(params)
        for key, g in pairs(params, grads):
            self.h[key] *= self.decay_rate
            self.h[key] += (1 - self.decay_rate) * g * g
            params[key] -= self.lr * g / (np.sqrt(self.h[key]) + self.eps)


class Adam:
    """m ← m + (1 − β₁)(g − m); v ← v + (1 − β₂)(g² − v); p ← p − lr_t·m / (√v + eps).

    lr_t = lr·√(1 − β₂ᵗ) / (1 − β₁ᵗ)
    """

    def __init__(
        self, lr: float = 0.001, beta1: float = 0.9, beta2: float = 0.999, *, eps: float = 1e-7
    ) -> None:
        self.lr = lr
        self.beta1 = beta1
        self.beta2 = beta2
        self.eps = eps
        self.iter = 0
        self.m: Any = None
        self.v: Any = None

    def update(self, params: Any, grads: Any) -> None:
        """Take a step."""
        if self.m is None:
            self.m, self.v = zeros(params), zeros(params)
        self.iter += 1
        lr_t = self.lr * sqrt(1 - self.beta2**self.iter) / (1 - self.beta1**self.iter)
        for key, g in pairs(params, grads):
            self.m[key] += (1 - self.beta1) * (g - self.m[key])
            self.v[key] += (1 - self.beta2) * (g * g - self.v[key])
            params[key] -= lr_t * self.m[key] / (np.sqrt(self.v[key]) + self.eps)
