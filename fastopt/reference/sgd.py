"""Gradient descent and its momentum."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from fastopt.reference.common import UNSET, copies, pairs, put, triples, zeros

__all__ = ["ASGD", "NAG", "SGD", "SGDM", "AggMo", "Momentum", "Nesterov", "OptimisticGD"]


@dataclass(eq=False)
class SGD:
    """Stochastic gradient descent.

    p ← p − lr·g

    References
    ----------
    Robbins and Monro 1951, *A stochastic approximation method*; Saito 2016, *Deep Learning from Scratch*,
    section 6.1.2.
    """

    lr: float = 0.01

    def update(self, params: Any, grads: Any) -> None:
        """Take a step."""
        for key, g in pairs(params, grads):
            params[key] -= self.lr * g


@dataclass(eq=False)
class Momentum:
    """Gradient descent with momentum: the gradients change a velocity, which moves the parameters.

    v ← μ·v − lr·g
    p ← p + v

    References
    ----------
    Polyak 1964, *Some methods of speeding up the convergence of iteration methods*; Saito, *Deep Learning
    from Scratch*, section 6.1.4.
    """

    lr: float = 0.01
    momentum: float = 0.9
    v = UNSET
    quantized = "v"

    def update(self, params: Any, grads: Any) -> None:
        """Take a step."""
        if self.v is None:
            self.v = zeros(params)
        for key, g in pairs(params, grads):
            self.v[key] = self.momentum * self.v[key] - self.lr * g
            params[key] += self.v[key]


@dataclass(eq=False)
class SGDM:
    """Momentum without the learning rate in the velocity.

    v ← μ·v + (1 − dampening)·g
    p ← p − lr·v

    At the first step v ← g.

    References
    ----------
    Sutskever, Martens, Dahl and Hinton 2013, *On the importance of initialization and momentum in deep
    learning*, section 2; PyTorch's ``SGD(momentum=0.9)``.
    """

    lr: float = 0.01
    momentum: float = 0.9
    dampening: float = 0.0
    iter = 0
    v = UNSET
    quantized = "v"

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
    """Nesterov's accelerated gradient without the learning rate in the velocity.

    v ← μ·v + g
    p ← p − lr·(g + μ·v)

    References
    ----------
    Sutskever, Martens, Dahl and Hinton 2013, *On the importance of initialization and momentum in deep
    learning*, section 2; PyTorch's ``SGD(momentum=0.9, nesterov=True)``.
    """

    lr: float = 0.01
    momentum: float = 0.9
    v = UNSET
    quantized = "v"

    def update(self, params: Any, grads: Any) -> None:
        """Take a step."""
        if self.v is None:
            self.v = zeros(params)
        for key, p, g in triples(params, grads):
            self.v[key] = self.momentum * self.v[key] + g
            put(params, key, p - self.lr * (g + self.momentum * self.v[key]))


@dataclass(eq=False)
class Nesterov(Momentum):
    """Nesterov's accelerated gradient, in terms of the point looked ahead to.

    p ← p + μ²·v
    p ← p − ((1 + μ)·lr)·g
    v ← μ·v − lr·g

    References
    ----------
    Bengio, Boulanger-Lewandowski and Pascanu 2013, *Advances in optimizing recurrent networks*
    (arXiv:1212.0901), equation 7.
    """

    quantized = "v"

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
    """Gradient descent that expects the gradient to change as it changed last.

    p ← p − lr·((α + β)·g − β·prev_grad)
    prev_grad ← g

    At the first step prev_grad is g.

    References
    ----------
    Mokhtari, Ozdaglar and Pattathil 2020, *A unified analysis of extra-gradient and optimistic gradient
    methods for saddle point problems* (arXiv:1901.08511).
    """

    lr: float = 0.01
    alpha: float = 1.0
    beta: float = 1.0
    prev_grad = UNSET
    quantized = "prev_grad"
    begin_at_gradient = "prev_grad"

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
    """Averaged stochastic gradient descent: ax is the average.

    p ← (1 − λ·η)·p − η·g
    ax ← ax + w·(p − ax)

    where η = lr / (1 + λ·lr·(t − 1))^α and w = 1 / max(1, t − 1 − t0)

    References
    ----------
    Polyak and Juditsky 1992, *Acceleration of stochastic approximation by averaging*; PyTorch's ``ASGD``.
    """

    lr: float = 0.01
    lambd: float = 1e-4
    alpha: float = 0.75
    t0: float = 1e6
    iter = 0
    ax = UNSET

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
    """Gradient descent with the mean of three velocities, each with its own momentum.

    vᵢ ← βᵢ·vᵢ − g, for i = 1, 2, 3
    p ← p + lr / 3·(v₁ + v₂ + v₃)

    References
    ----------
    Lucas, Sun, Zemel and Grosse 2019, *Aggregated momentum: stability through passive damping*
    (arXiv:1804.00325), equation 3.
    """

    lr: float = 0.01
    beta1: float = 0.0
    beta2: float = 0.9
    beta3: float = 0.99
    v1 = UNSET
    v2 = UNSET
    v3 = UNSET
    quantized = "v1 v2 v3"

    def update(self, params: Any, grads: Any) -> None:
        """Take a step."""
        if self.v1 is None:
            self.v1, self.v2, self.v3 = (zeros(params) for _ in range(3))
        for key, p, g in triples(params, grads):
            self.v1[key] = self.beta1 * self.v1[key] - g
            self.v2[key] = self.beta2 * self.v2[key] - g
            self.v3[key] = self.beta3 * self.v3[key] - g
            put(params, key, p + self.lr / 3 * (self.v1[key] + self.v2[key] + self.v3[key]))
