"""A learning rate for each element, from the squares of its gradients."""

from dataclasses import KW_ONLY, dataclass
from math import sqrt
from typing import Any

import numpy as np

from fastopt.reference.common import UNSET, copies, cube_root, full, pairs, put, triples, zeros

__all__ = ["FTRL", "MADGRAD", "AdaDelta", "AdaGrad", "RMSprop", "RMSpropGraves", "RMSpropMomentum"]


@dataclass(eq=False)
class AdaGrad:
    """A learning rate for each element, which falls with the sum of its squared gradients.

    h ← h + g²
    p ← p − lr_t·g / (√(h + eps_root) + eps)

    where lr_t = lr / (1 + (t − 1)·lr_decay)

    References
    ----------
    Duchi, Hazan and Singer 2011, *Adaptive subgradient methods for online learning and stochastic
    optimization*, JMLR 12, section 1.1; Saito, *Deep Learning from Scratch*, section 6.1.5.
    """

    lr: float = 0.01
    _: KW_ONLY
    eps: float = 1e-7
    eps_root: float = 0.0
    initial_accumulator_value: float = 0.0
    lr_decay: float = 0.0
    iter = 0
    h = UNSET
    quantized = "√h"
    begin_at_value = "h"

    def update(self, params: Any, grads: Any) -> None:
        """Take a step."""
        if self.h is None:
            self.h = full(params, self.initial_accumulator_value)
        self.iter += 1
        lr_t = self.lr / (1 + (self.iter - 1) * self.lr_decay)
        for key, g in pairs(params, grads):
            self.h[key] += g * g
            params[key] -= lr_t * g / (np.sqrt(self.h[key] + self.eps_root) + self.eps)


@dataclass(eq=False)
class AdaDelta:
    """Gradients scaled by the ratio of the root mean squares of past steps and past gradients.

    h ← ρ·h + (1 − ρ)·g²
    d = √(u + eps) / √(h + eps)·g
    u ← ρ·u + (1 − ρ)·d²
    p ← p − lr·d

    References
    ----------
    Zeiler 2012, *ADADELTA: an adaptive learning rate method* (arXiv:1212.5701), algorithm 1.
    """

    lr: float = 1.0
    rho: float = 0.95
    _: KW_ONLY
    eps: float = 1e-6
    h = UNSET
    u = UNSET
    quantized = "√h √u"

    def update(self, params: Any, grads: Any) -> None:
        """Take a step."""
        if self.h is None:
            self.h, self.u = zeros(params), zeros(params)
        for key, p, g in triples(params, grads):
            self.h[key] = self.h[key] * self.rho + (1 - self.rho) * g * g
            d = np.sqrt(self.u[key] + self.eps) / np.sqrt(self.h[key] + self.eps) * g
            self.u[key] = self.u[key] * self.rho + (1 - self.rho) * d * d
            put(params, key, p - self.lr * d)


@dataclass(eq=False)
class RMSprop:
    """AdaGrad with an average of the squared gradients in the place of their sum.

    h ← ρ·h + (1 − ρ)·g²
    p ← p − lr·g / (√(h + eps_root) + eps)

    With bias_correction h / (1 − ρᵗ) takes the place of h in the step.

    References
    ----------
    Tieleman and Hinton 2012, *Neural Networks for Machine Learning*, lecture 6.5.
    """

    lr: float = 0.01
    decay_rate: float = 0.99
    _: KW_ONLY
    eps: float = 1e-7
    eps_root: float = 0.0
    initial_accumulator_value: float = 0.0
    bias_correction: bool = False
    iter = 0
    h = UNSET
    quantized = "√h"
    begin_at_value = "h"

    def begin(self, params: Any) -> tuple[float, float, float]:
        """Count the step, make h before the first; return √(1 − ρᵗ) or 1, and eps and eps_root for that."""
        if self.h is None:
            self.h = full(params, self.initial_accumulator_value)
        self.iter += 1
        correction = (1 - self.decay_rate**self.iter if self.bias_correction else 1.0) or 1.0
        root = sqrt(correction)
        return root, self.eps * root, self.eps_root * correction

    def update(self, params: Any, grads: Any) -> None:
        """Take a step."""
        root, eps, eps_root = self.begin(params)
        for key, g in pairs(params, grads):
            self.h[key] *= self.decay_rate
            self.h[key] += (1 - self.decay_rate) * g * g
            params[key] -= self.lr * root * g / (np.sqrt(self.h[key] + eps_root) + eps)


@dataclass(eq=False)
class RMSpropMomentum(RMSprop):
    """RMSprop with momentum on the scaled gradients.

    h ← ρ·h + (1 − ρ)·g²
    v ← μ·v + g / (√(h + eps_root) + eps)
    p ← p − lr·v

    With bias_correction h / (1 − ρᵗ) takes the place of h in the second line.

    References
    ----------
    Tieleman and Hinton 2012, *Neural Networks for Machine Learning*, lecture 6.5; PyTorch's ``RMSprop``.
    """

    momentum: float = 0.9
    _: KW_ONLY
    eps: float = 1e-8
    v = UNSET
    quantized = "√h v"

    def update(self, params: Any, grads: Any) -> None:
        """Take a step."""
        if self.v is None:
            self.v = zeros(params)
        root, eps, eps_root = self.begin(params)
        for key, p, g in triples(params, grads):
            self.h[key] = self.h[key] * self.decay_rate + (1 - self.decay_rate) * g * g
            self.v[key] = self.momentum * self.v[key] + root * g / (np.sqrt(self.h[key] + eps_root) + eps)
            put(params, key, p - self.lr * self.v[key])


@dataclass(eq=False)
class RMSpropGraves:
    """RMSprop with the variance of the gradients instead of their mean square, and momentum.

    h ← ρ·h + (1 − ρ)·g²
    m ← ρ·m + (1 − ρ)·g
    v ← μ·v + g / (√(max(h − m², 0) + eps_root) + eps)
    p ← p − lr·v

    References
    ----------
    Graves 2013, *Generating sequences with recurrent neural networks* (arXiv:1308.0850), equations 38 to 45.
    """

    lr: float = 0.01
    decay_rate: float = 0.95
    momentum: float = 0.9
    _: KW_ONLY
    eps: float = 1e-8
    eps_root: float = 0.0
    initial_accumulator_value: float = 0.0
    h = UNSET
    m = UNSET
    v = UNSET
    quantized = "v"

    def update(self, params: Any, grads: Any) -> None:
        """Take a step."""
        if self.h is None:
            self.h, self.m, self.v = (
                full(params, self.initial_accumulator_value),
                zeros(params),
                zeros(params),
            )
        for key, p, g in triples(params, grads):
            self.h[key] = self.h[key] * self.decay_rate + (1 - self.decay_rate) * g * g
            self.m[key] = self.m[key] * self.decay_rate + (1 - self.decay_rate) * g
            variance = np.maximum(self.h[key] - self.m[key] * self.m[key], 0)
            self.v[key] = self.momentum * self.v[key] + g / (np.sqrt(variance + self.eps_root) + self.eps)
            put(params, key, p - self.lr * self.v[key])


@dataclass(eq=False)
class FTRL:
    """Follow the regularized leader, which sets parameters to exactly 0.

    n' = n + g²
    z ← z + g + 2·shrinkage·p − (√n' − √n) / lr·p
    n ← n'
    p ← (clip(z, −l₁, l₁) − z) / (√n / lr + 2·l₂ + β / lr)

    where l₁, l₂ and shrinkage are the strengths of regularization

    References
    ----------
    McMahan et al. 2013, *Ad click prediction: a view from the trenches*, algorithm 1.
    """

    lr: float = 0.001
    _: KW_ONLY
    initial_accumulator_value: float = 0.1
    l1_regularization_strength: float = 0.0
    l2_regularization_strength: float = 0.0
    l2_shrinkage_regularization_strength: float = 0.0
    beta: float = 0.0
    n = UNSET
    z = UNSET

    def update(self, params: Any, grads: Any) -> None:
        """Take a step."""
        if self.n is None:
            self.n, self.z = full(params, self.initial_accumulator_value), zeros(params)
        l1 = self.l1_regularization_strength
        quadratic = 2 * self.l2_regularization_strength + self.beta / self.lr
        shrinkage = 2 * self.l2_shrinkage_regularization_strength
        for key, p, g in triples(params, grads):
            total = self.n[key] + g * g
            self.z[key] += g + shrinkage * p - (np.sqrt(total) - np.sqrt(self.n[key])) / self.lr * p
            self.n[key] = total
            z = self.z[key]
            clipped = np.minimum(np.maximum(z, -l1), l1)
            put(params, key, (clipped - z) / (np.sqrt(total) / self.lr + quadratic))


@dataclass(eq=False)
class MADGRAD:
    """Dual averaging with the cube root of the weighted squares, and momentum.

    v ← v + λ·g²
    s ← s + λ·g
    p ← μ·p + (1 − μ)·(p₀ − s / (∛v + eps))

    where λ = (lr + eps)·√t, 0 if lr is 0, and p₀ are the first parameters

    References
    ----------
    Defazio and Jelassi 2022, *Adaptivity without compromise: a momentumized, adaptive, dual averaged
    gradient method for stochastic optimization* (arXiv:2101.11075), algorithm 1.
    """

    lr: float = 0.01
    momentum: float = 0.9
    _: KW_ONLY
    eps: float = 1e-6
    iter = 0
    v = UNSET
    s = UNSET
    p0 = UNSET

    def update(self, params: Any, grads: Any) -> None:
        """Take a step."""
        if self.v is None:
            self.v, self.s, self.p0 = zeros(params), zeros(params), copies(params, params)
        self.iter += 1
        lr_t = (self.lr + self.eps) * sqrt(self.iter) if self.lr else 0.0
        for key, p, g in triples(params, grads):
            self.v[key] += lr_t * g * g
            self.s[key] += lr_t * g
            z = self.p0[key] - self.s[key] / (cube_root(self.v[key]) + self.eps)
            put(params, key, self.momentum * p + (1 - self.momentum) * z)
