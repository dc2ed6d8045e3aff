"""Gradient descent and its momentum."""

from typing import Any

import numpy as np

from fastopt.reference.common import copies, pairs, put, triples, zeros

__all__ = ["ASGD", "SGD", "Momentum", "Nesterov", "OptimisticGD", "ScheduleFreeSGD"]


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
            v = self.v[key]
            step = (1 + self.momentum) * self.lr * g  # now, as g may be the parameter's memory
            self.v[key] = self.momentum * v - self.lr * g
            params[key] += self.momentum * self.momentum * v
            params[key] -= step


class OptimisticGD:
    """p ← p − lr·((α + β)·g − β·g of the step before), which is g at the first."""

    def __init__(self, lr: float = 0.01, alpha: float = 1.0, beta: float = 1.0) -> None:
        self.lr = lr
        self.alpha = alpha
        self.beta = beta
        self.prev_grad: Any = None

    def update(self, params: Any, grads: Any) -> None:
        """Take a step."""
        if self.prev_grad is None:
            self.prev_grad = copies(grads, params)
        for key, p, g in triples(params, grads):
            new = p - self.lr * ((self.alpha + self.beta) * g - self.beta * self.prev_grad[key])
            self.prev_grad[key] = np.array(g)
            put(params, key, new)


class ASGD:
    """p ← (1 − λ·η)·p − η·g; ax ← ax + μ·(p − ax).

    η = lr / (1 + λ·lr·(t − 1))^α; μ = 1 / max(1, t − 1 − t0)
    """

    def __init__(self, lr: float = 0.01, lambd: float = 1e-4, alpha: float = 0.75, t0: float = 1e6) -> None:
        self.lr = lr
        self.lambd = lambd
        self.alpha = alpha
        self.t0 = t0
        self.iter = 0
        self.ax: Any = None

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


class ScheduleFreeSGD:
    """p ← p + c·(z − p) + lr·(β·(1 − c) − 1)·g; z ← z − lr·g.

    c = rₜ² / (r₁² + … + rₜ²), where r is the warm-up's factor of lr
    """

    def __init__(self, lr: float = 1.0, beta: float = 0.9, warmup_steps: int = 0) -> None:
        self.lr = lr
        self.beta = beta
        self.warmup_steps = warmup_steps
        self.iter = 0
        self.sum = 0.0
        self.z: Any = None

    def update(self, params: Any, grads: Any) -> None:
        """Take a step."""
        if self.z is None:
            self.z = copies(params, params)
        self.iter += 1
        t = self.iter
        r = min(t / self.warmup_steps, 1.0) if self.warmup_steps else 1.0
        self.sum += r * r
        c = r * r / self.sum
        lr = self.lr * r
        lr_y = lr * (self.beta * (1 - c) - 1)
        for key, p, g in triples(params, grads):
            new = p + c * (self.z[key] - p) + lr_y * g
            self.z[key] = self.z[key] - lr * g
            put(params, key, new)
