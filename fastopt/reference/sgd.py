"""Gradient descent and its momentum."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fastopt.reference.common import copies, pairs, put, triples, zeros

__all__ = ["ASGD", "NAG", "SGD", "SGDM", "AggMo", "Momentum", "Nesterov", "OptimisticGD"]


@dataclass(eq=False)
class SGD:
    """p ← p − lr·g."""

    lr: float = 0.01

    def update(self, params: Any, grads: Any) -> None:
        """Take a step."""
        for key, g in pairs(params, grads):
            params[key] -= self.lr * g


@dataclass(eq=False)
class Momentum:
    """v ← μ·v − lr·g; p ← p + v."""

    lr: float = 0.01
    momentum: float = 0.9
    v: Any = field(init=False, default=None)

    def update(self, params: Any, grads: Any) -> None:
        """Take a step."""
        if self.v is None:
            self.v = zeros(params)
        for key, g in pairs(params, grads):
            self.v[key] = self.momentum * self.v[key] - self.lr * g
            params[key] += self.v[key]


@dataclass(eq=False)
class SGDM:
    """v ← μ·v + (1 − dampening)·g, at the first step v ← g; p ← p − lr·v."""

    lr: float = 0.01
    momentum: float = 0.9
    dampening: float = 0.0
    iter: int = field(init=False, default=0)
    v: Any = field(init=False, default=None)

    def update(self, params: Any, grads: Any) -> None:
        """Take a step."""
        if self.v is None:
            self.v = zeros(params)
        self.iter += 1
        weight = 1 - self.dampening if self.iter > 1 else 1.0
        for key, p, g in triples(params, grads):
            self.v[key] = self.momentum * self.v[key] + weight * g
            put(params, key, p - self.lr * self.v[key])


@dataclass(eq=False)
class NAG:
    """v ← μ·v + g; p ← p − lr·(g + μ·v)."""

    lr: float = 0.01
    momentum: float = 0.9
    v: Any = field(init=False, default=None)

    def update(self, params: Any, grads: Any) -> None:
        """Take a step."""
        if self.v is None:
            self.v = zeros(params)
        for key, p, g in triples(params, grads):
            self.v[key] = self.momentum * self.v[key] + g
            put(params, key, p - self.lr * (g + self.momentum * self.v[key]))


@dataclass(eq=False)
class Nesterov(Momentum):
    """p ← p + μ²·v; p ← p − ((1 + μ)·lr)·g; v ← μ·v − lr·g."""

    def update(self, params: Any, grads: Any) -> None:
        """Take a step."""
        if self.v is None:
            self.v = zeros(params)
        for key, g in pairs(params, grads):
            v = self.v[key]
            step = (1 + self.momentum) * self.lr * g  # now, as g may be the parameter's memory
            self.v[key] = self.momentum * v - self.lr * g
            params[key] += self.momentum * self.momentum * v
            params[key] -= step


@dataclass(eq=False)
class OptimisticGD:
    """p ← p − lr·((α + β)·g − β·g of the step before), which is g at the first."""

    lr: float = 0.01
    alpha: float = 1.0
    beta: float = 1.0
    prev_grad: Any = field(init=False, default=None)

    def update(self, params: Any, grads: Any) -> None:
        """Take a step."""
        if self.prev_grad is None:
            self.prev_grad = copies(grads, params)
        for key, p, g in triples(params, grads):
            new = p - self.lr * ((self.alpha + self.beta) * g - self.beta * self.prev_grad[key])
            self.prev_grad[key] = np.array(g)
            put(params, key, new)


@dataclass(eq=False)
class ASGD:
    """p ← (1 − λ·η)·p − η·g; ax ← ax + μ·(p − ax).

    η = lr / (1 + λ·lr·(t − 1))^α; μ = 1 / max(1, t − 1 − t0)
    """

    lr: float = 0.01
    lambd: float = 1e-4
    alpha: float = 0.75
    t0: float = 1e6
    iter: int = field(init=False, default=0)
    ax: Any = field(init=False, default=None)

    def update(self, params: Any, grads: Any) -> None:
        """Take a step."""
        if self.ax is None:
            self.ax = copies(params, params)
        self.iter += 1
        t = self.iter
        eta = self.lr / (1 + self.lambd * self.lr * (t - 1)) ** self.alpha
        mu = 1 / max(1.0, t - 1 - self.t0)
        for key, p, g in triples(params, grads):
            new = (1 - self.lambd * eta) * p - eta * g
            put(params, key, new)
            self.ax[key] = self.ax[key] + mu * (new - self.ax[key]) if mu < 1 else new


@dataclass(eq=False)
class AggMo:
    """vᵢ ← βᵢ·vᵢ − g; p ← p + lr / 3·(v₁ + v₂ + v₃)."""

    lr: float = 0.01
    beta1: float = 0.0
    beta2: float = 0.9
    beta3: float = 0.99
    v1: Any = field(init=False, default=None)
    v2: Any = field(init=False, default=None)
    v3: Any = field(init=False, default=None)

    def update(self, params: Any, grads: Any) -> None:
        """Take a step."""
        if self.v1 is None:
            self.v1, self.v2, self.v3 = (zeros(params) for _ in range(3))
        for key, p, g in triples(params, grads):
            self.v1[key] = self.beta1 * self.v1[key] - g
            self.v2[key] = self.beta2 * self.v2[key] - g
            self.v3[key] = self.beta3 * self.v3[key] - g
            put(params, key, p + self.lr / 3 * (self.v1[key] + self.v2[key] + self.v3[key]))
