"""Relatives of Adam that need numbers of whole arrays.

Each step looks at all arrays first and moves the parameters then, as in `fastopt.reference.layerwise`.
"""

from dataclasses import KW_ONLY, dataclass, field
from math import sqrt
from typing import Any

import numpy as np

from fastopt.reference.adam import Moments
from fastopt.reference.common import copies, norm, put, total, triples

__all__ = ["MARS", "StableAdamW"]


@dataclass(eq=False)
class StableAdamW(Moments):
    """m ← m + (1 − β̂₁)(g − m); v ← v + (1 − β̂₂)(g² − v); p ← (1 − η·weight_decay)·p − η·m / (√v + eps).

    1 − β̂ = (1 − β) / (1 − βᵗ); η = lr / max(1, rms), where rms is that of g / √max(v, eps²) in the array
    """

    beta2: float = 0.99
    _: KW_ONLY
    weight_decay: float = 0.01

    def update(self, params: Any, grads: Any) -> None:
        """Take a step."""
        self.begin(params)
        new_m = (1 - self.beta1) / (1 - self.beta1**self.iter)
        new_v = (1 - self.beta2) / (1 - self.beta2**self.iter)
        lengths = {}
        for key, _, g in triples(params, grads):
            self.m[key] += new_m * (g - self.m[key])
            self.v[key] += new_v * (g * g - self.v[key])
            mean = total(g * g / np.maximum(self.v[key], self.eps * self.eps)) / max(g.size, 1)
            lengths[key] = self.lr / max(1.0, sqrt(mean))
        for key, p, _ in triples(params, grads):
            kept = (1 - lengths[key] * self.weight_decay) * p
            put(params, key, kept - lengths[key] * self.m[key] / (np.sqrt(self.v[key]) + self.eps))


@dataclass(eq=False)
class MARS(Moments):
    """Adam of c / max(1, ‖c‖), where c = g + gamma·β₁ / (1 − β₁)·(g − prev_grad).

    p ← (1 − lr·weight_decay)·p − lr_t·m / (√v + eps·√(1 − β₂ᵗ)), as AdamW; prev_grad begins as the first
    gradient.
    """

    lr: float = 0.003
    beta1: float = 0.95
    beta2: float = 0.99
    gamma: float = 0.025
    _: KW_ONLY
    weight_decay: float = 0.0
    prev_grad: Any = field(init=False, default=None)

    def update(self, params: Any, grads: Any) -> None:
        """Take a step."""
        if self.prev_grad is None:
            self.prev_grad = copies(grads, params)
        self.begin(params)
        lr_t, eps_t = self.corrected()
        weight = self.gamma * self.beta1 / (1 - self.beta1)
        for key, p, g in triples(params, grads):
            c = g + weight * (g - self.prev_grad[key])
            length = norm(c)
            self.average(key, (1 / length if length > 1 else 1.0) * c)
            self.prev_grad[key][...] = g
            kept = (1 - self.lr * self.weight_decay) * p
            put(params, key, kept - lr_t * self.m[key] / (np.sqrt(self.v[key]) + eps_t))
