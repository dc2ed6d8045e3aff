"""Steps whose length doesn't depend on the size of the gradient."""

from typing import Any

import numpy as np

from fastopt.reference.common import full, put, triples, zeros

__all__ = ["Lion", "Rprop", "Signum"]


class Rprop:
    """step_size times η₊ where g keeps its sign, η₋ where it changes; p ← p − sign(g)·step_size."""

    def __init__(
        self,
        lr: float = 0.01,
        eta_minus: float = 0.5,
        eta_plus: float = 1.2,
        step_min: float = 1e-6,
        step_max: float = 50.0,
    ) -> None:
        self.lr = lr
        self.eta_minus = eta_minus
        self.eta_plus = eta_plus
        self.step_min = step_min
        self.step_max = step_max
        self.prev_grad: Any = None
        self.step_size: Any = None

    def update(self, params: Any, grads: Any) -> None:
        """Take a step."""
        if self.prev_grad is None:
            self.prev_grad = zeros(params)
            self.step_size = full(params, self.lr)
        for key, p, g in triples(params, grads):
            agreement = g * self.prev_grad[key]
            size = self.step_size[key]
            size = np.where(
                agreement > 0, size * self.eta_plus, np.where(agreement < 0, size * self.eta_minus, size)
            )
            self.step_size[key] = np.minimum(np.maximum(size, self.step_min), self.step_max)
            self.prev_grad[key] = np.where(agreement < 0, np.zeros_like(g), g)
            put(params, key, p - np.sign(self.prev_grad[key]) * self.step_size[key])


class Signum:
    """m ← μ·m + g; p ← p − lr·sign(m)."""

    def __init__(self, lr: float = 1e-4, momentum: float = 0.9) -> None:
        self.lr = lr
        self.momentum = momentum
        self.m: Any = None

    def update(self, params: Any, grads: Any) -> None:
        """Take a step."""
        if self.m is None:
            self.m = zeros(params)
        for key, p, g in triples(params, grads):
            self.m[key] = self.momentum * self.m[key] + g
            put(params, key, p - self.lr * np.sign(self.m[key]))


class Lion:
    """p ← p − lr·sign(β₁·m + (1 − β₁)·g); m ← β₂·m + (1 − β₂)·g."""

    def __init__(
        self, lr: float = 1e-4, beta1: float = 0.9, beta2: float = 0.99, *, weight_decay: float = 0.0
    ) -> None:
        self.lr = lr
        self.beta1 = beta1
        self.beta2 = beta2
        self.weight_decay = weight_decay
        self.m: Any = None

    def update(self, params: Any, grads: Any) -> None:
        """Take a step."""
        if self.m is None:
            self.m = zeros(params)
        for key, p, g in triples(params, grads):
            kept = (1 - self.lr * self.weight_decay) * p
            new = kept - self.lr * np.sign(self.beta1 * self.m[key] + (1 - self.beta1) * g)
            self.m[key] = self.beta2 * self.m[key] + (1 - self.beta2) * g
            put(params, key, new)
