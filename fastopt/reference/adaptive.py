"""A learning rate for each element, from the squares of its gradients."""

from typing import Any

import numpy as np

from fastopt.reference.common import full, pairs, put, triples, zeros

__all__ = ["FTRL", "AdaDelta", "AdaGrad", "RMSprop", "RMSpropGraves"]


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


class AdaDelta:
    """h ← ρ·h + (1 − ρ)·g²; d ← √(u + eps) / √(h + eps)·g; u ← ρ·u + (1 − ρ)·d²; p ← p − lr·d."""

    def __init__(self, lr: float = 1.0, rho: float = 0.95, *, eps: float = 1e-6) -> None:
        self.lr = lr
        self.rho = rho
        self.eps = eps
        self.h: Any = None
        self.u: Any = None

    def update(self, params: Any, grads: Any) -> None:
        """Take a step."""
        if self.h is None:
            self.h = zeros(params)
            self.u = zeros(params)
        for key, p, g in triples(params, grads):
            self.h[key] = self.h[key] * self.rho + (1 - self.rho) * g * g
            d = np.sqrt(self.u[key] + self.eps) / np.sqrt(self.h[key] + self.eps) * g
            self.u[key] = self.u[key] * self.rho + (1 - self.rho) * d * d
            put(params, key, p - self.lr * d)


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


class RMSpropGraves:
    """h ← ρ·h + (1 − ρ)·g²; m ← ρ·m + (1 − ρ)·g; v ← μ·v + g / (√(h − m²) + eps); p ← p − lr·v."""

    def __init__(
        self, lr: float = 0.01, decay_rate: float = 0.95, momentum: float = 0.9, *, eps: float = 1e-8
    ) -> None:
        self.lr = lr
        self.decay_rate = decay_rate
        self.momentum = momentum
        self.eps = eps
        self.h: Any = None
        self.m: Any = None
        self.v: Any = None

    def update(self, params: Any, grads: Any) -> None:
        """Take a step."""
        if self.h is None:
            self.h = zeros(params)
            self.m = zeros(params)
            self.v = zeros(params)
        for key, p, g in triples(params, grads):
            self.h[key] = self.h[key] * self.decay_rate + (1 - self.decay_rate) * g * g
            self.m[key] = self.m[key] * self.decay_rate + (1 - self.decay_rate) * g
            variance = np.maximum(self.h[key] - self.m[key] * self.m[key], 0)
            self.v[key] = self.momentum * self.v[key] + g / (np.sqrt(variance) + self.eps)
            put(params, key, p - self.lr * self.v[key])


class FTRL:
    """n' ← n + g²; z ← z + g − (√n' − √n) / lr·p; p ← (clip(z, −l₁, l₁) − z) / (√n' / lr + 2·l₂ + β / lr)."""

    def __init__(
        self,
        lr: float = 0.001,
        *,
        initial_accumulator_value: float = 0.1,
        l1_regularization_strength: float = 0.0,
        l2_regularization_strength: float = 0.0,
        l2_shrinkage_regularization_strength: float = 0.0,
        beta: float = 0.0,
    ) -> None:
        self.lr = lr
        self.initial_accumulator_value = initial_accumulator_value
        self.l1_regularization_strength = l1_regularization_strength
        self.l2_regularization_strength = l2_regularization_strength
        self.l2_shrinkage_regularization_strength = l2_shrinkage_regularization_strength
        self.beta = beta
        self.n: Any = None
        self.z: Any = None

    def update(self, params: Any, grads: Any) -> None:
        """Take a step."""
        if self.n is None:
            self.n = full(params, self.initial_accumulator_value)
            self.z = zeros(params)
        l1 = self.l1_regularization_strength
        quadratic = 2 * self.l2_regularization_strength + self.beta / self.lr
        shrinkage = 2 * self.l2_shrinkage_regularization_strength
        for key, p, g in triples(params, grads):
            total = self.n[key] + g * g
            self.z[key] += g + shrinkage * p - (np.sqrt(total) - np.sqrt(self.n[key])) / self.lr * p
            self.n[key] = total
            z = self.z[key]
            put(
                params, key, (np.minimum(np.maximum(z, -l1), l1) - z) / (np.sqrt(total) / self.lr + quadratic)
            )
