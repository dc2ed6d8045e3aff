"""Steps whose length doesn't depend on the size of the gradient."""

from dataclasses import KW_ONLY, dataclass
from typing import Any

import numpy as np

from fastopt.reference.common import UNSET, full, put, triples, zeros

__all__ = ["Lion", "Rprop", "Signum"]


@dataclass(eq=False)
class Rprop:
    """Step sizes that grow while a gradient keeps its sign, and shrink when it changes.

    step_size ← step_size·η₊, where g·prev_grad > 0; step_size·η₋, where it is below 0
    step_size ← clip(step_size, step_min, step_max)
    prev_grad ← g, or 0 where g·prev_grad < 0
    p ← p − sign(prev_grad)·step_size

    where step_size begins as lr

    References
    ----------
    Riedmiller and Braun 1993, *A direct adaptive method for faster backpropagation learning: the RPROP
    algorithm*; Igel and Hüsken 2000, *Improving the Rprop learning algorithm*, for this variant.
    """

    lr: float = 0.01
    eta_minus: float = 0.5
    eta_plus: float = 1.2
    step_min: float = 1e-6
    step_max: float = 50.0
    prev_grad = UNSET
    step_size = UNSET
    quantized = "prev_grad"

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
    """Steps by the sign of the momentum.

    m ← μ·m + g
    p ← p − lr·sign(m)

    References
    ----------
    Bernstein et al. 2018, *signSGD: compressed optimisation for non-convex problems* (arXiv:1802.04434),
    algorithm 2.
    """

    lr: float = 1e-4
    momentum: float = 0.9
    m = UNSET
    quantized = "m"

    def update(self, params: Any, grads: Any) -> None:
        """Take a step."""
        if self.m is None:
            self.m = zeros(params)
        for key, p, g in triples(params, grads):
            self.m[key] = self.momentum * self.m[key] + g
            put(params, key, p - self.lr * np.sign(self.m[key]))


@dataclass(eq=False)
class Lion:
    """Steps by the sign of an average that looks ahead.

    p ← (1 − lr·weight_decay)·p − lr·sign(β₁·m + (1 − β₁)·g)
    m ← β₂·m + (1 − β₂)·g

    References
    ----------
    Chen et al. 2023, *Symbolic discovery of optimization algorithms* (arXiv:2302.06675), program 1.
    """

    lr: float = 1e-4
    beta1: float = 0.9
    beta2: float = 0.99
    _: KW_ONLY
    weight_decay: float = 0.0
    m = UNSET
    quantized = "m"

    def update(self, params: Any, grads: Any) -> None:
        """Take a step."""
        if self.m is None:
            self.m = zeros(params)
        for key, p, g in triples(params, grads):
            kept = (1 - self.lr * self.weight_decay) * p
            new = kept - self.lr * np.sign(self.beta1 * self.m[key] + (1 - self.beta1) * g)
            self.m[key] = self.beta2 * self.m[key] + (1 - self.beta2) * g
            put(params, key, new)
