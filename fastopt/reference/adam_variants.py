"""Relatives of Adam: other bounds, orders and weights of its averages."""

from dataclasses import KW_ONLY, dataclass
from typing import Any

import numpy as np

from fastopt.reference.adam import Moments
from fastopt.reference.common import put, triples

__all__ = ["AdaBound"]


@dataclass(eq=False)
class AdaBound(Moments):
    """m and v as Adam; p ← p − clip(lr_t / (√v + eps), lower, upper)·m.

    lr_t = lr·√(1 − β₂ᵗ) / (1 − β₁ᵗ); lower = final·(1 − 1 / (γ·t + 1)); upper = final·(1 + 1 / (γ·t))
    """

    _: KW_ONLY
    final_lr: float = 0.1
    gamma: float = 1e-3
    base_lr: float | None = None

    def update(self, params: Any, grads: Any) -> None:
        """Take a step."""
        self.begin(params)
        lr_t, _ = self.corrected()
        final = self.final_lr if self.base_lr is None else self.final_lr * self.lr / self.base_lr
        lower = final * (1 - 1 / (self.gamma * self.iter + 1))
        upper = final * (1 + 1 / (self.gamma * self.iter))
        for key, p, g in triples(params, grads):
            self.average(key, g)
            rate = lr_t / (np.sqrt(self.v[key]) + self.eps)
            rate = np.minimum(np.maximum(rate, lower), upper)
            put(params, key, p - rate * self.m[key])
