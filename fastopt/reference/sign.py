"""Steps whose length doesn't depend on the size of the gradient."""

from dataclasses import KW_ONLY, dataclass, field
from typing import Any

import numpy as np

from fastopt.reference.common import full, put, triples, zeros

__all__ = ["Lion", "Rprop", "Signum"]


@dataclass(eq=False)
class Rprop:
    """step_size times η₊ where g keeps its sign, η₋ where it changes; p ← p − sign(g)·step_size."""

    lr: float = 0.01
    eta_minus: float = 0.5
    eta_plus: float = 1.2
    step_min: float = 1e-6
    step_max: float = 50.0
    prev_grad: Any = field(init=False, default=None)
    step_size: Any = field(init=False, default=None)

    def update(self, params: Any, grads: Any) -> None:
        """Take a step."""
        if self.prev_grad is None:
            self.prev_grad, self.step_size = zeros(params), full(params, self.lr)
        for key, p, g in triples(params, grads):
            agreement = g * self.prev_grad[key]
            size = self.step_size[key]
            shrunk = np.where(agreement < 0, size * self.eta_minus, size)
            size = np.where(agreement > 0, size * self.eta_plus, shrunk)
            self.step_size[key] = np.minimum(np.maximum(size, self.step_min), self.step_max)
            self.prev_grad[key] = np.where(agreement < 0, np.zeros_like(g), g)
            put(params, key, p - np.sign(self.prev_grad[key]) * self.step_size[key])


@dataclass(eq=False)
class Signum:
    """m ← μ·m + g; p ← p − lr·sign(m)."""

    lr: float = 1e-4
    momentum: float = 0.9
    m: Any = field(init=False, default=None)

    def update(self, params: Any, grads: Any) -> None:
        """Take a step."""
        if self.m is None:
            self.m = zeros(params)
        for key, p, g in triples(params, grads):
            self.m[key] = self.momentum * self.m[key] + g
            put(params, key, p - self.lr * np.sign(self.m[key]))


@dataclass(eq=False)
class Lion:
    """p ← p − lr·sign(β₁·m + (1 − β₁)·g); m ← β₂·m + (1 − β₂)·g."""

    lr: float = 1e-4
    beta1: float = 0.9
    beta2: float = 0.99
    _: KW_ONLY
    weight_decay: float = 0.0
    m: Any = field(init=False, default=None)

    def update(self, params: Any, grads: Any) -> None:
        """Take a step."""
        if self.m is None:
            self.m = zeros(params)
        for key, p, g in triples(params, grads):
            kept = (1 - self.lr * self.weight_decay) * p
            new = kept - self.lr * np.sign(self.beta1 * self.m[key] + (1 - self.beta1) * g)
            self.m[key] = self.beta2 * self.m[key] + (1 - self.beta2) * g
            put(params, key, new)
