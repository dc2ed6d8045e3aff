"""Relatives of Adam: other bounds, orders and weights of its averages."""

from dataclasses import KW_ONLY, dataclass, field
from math import sqrt
from typing import Any

import numpy as np

from fastopt.reference.common import put, triples, zeros
from fastopt.reference.moments import Moments

__all__ = ["ADOPT", "AMSBound", "AdaBound", "LaProp", "QHAdam"]


@dataclass(eq=False)
class AdaBound(Moments):
    """m and v as Adam; p ← p − clip(lr_t / (√v + eps), lower, upper)·m.

    lr_t = lr·√(1 − β₂ᵗ) / (1 − β₁ᵗ); lower = final·(1 − 1 / (γ·t + 1)); upper = final·(1 + 1 / (γ·t))
    """

    _: KW_ONLY
    final_lr: float = 0.1
    gamma: float = 1e-3
    base_lr: float | None = None

    def rate(self, v: np.ndarray) -> np.ndarray:
        """Return the step sizes of this step."""
        lr_t, _ = self.corrected()
        final = self.final_lr if self.base_lr is None else self.final_lr * self.lr / self.base_lr
        lower = final * (1 - 1 / (self.gamma * self.iter + 1))
        upper = final * (1 + 1 / (self.gamma * self.iter))
        return np.minimum(np.maximum(lr_t / (np.sqrt(v) + self.eps), lower), upper)

    def update(self, params: Any, grads: Any) -> None:
        """Take a step."""
        self.begin(params)
        for key, p, g in triples(params, grads):
            self.average(key, g)
            put(params, key, p - self.rate(self.v[key]) * self.m[key])


@dataclass(eq=False)
class AMSBound(AdaBound):
    """AdaBound with the largest v so far."""

    v_max: Any = field(init=False, default=None)

    def update(self, params: Any, grads: Any) -> None:
        """Take a step."""
        if self.v_max is None:
            self.v_max = zeros(params)
        self.begin(params)
        for key, p, g in triples(params, grads):
            self.average(key, g)
            self.v_max[key] = np.maximum(self.v_max[key], self.v[key])
            put(params, key, p - self.rate(self.v_max[key]) * self.m[key])


@dataclass(eq=False)
class ADOPT(Moments):
    """d ← clip(g / max(√v, eps), ±(t − 1)^clip_power); m ← m + (1 − β₁)(d − m); p ← p − lr·m; v as Adam.

    The first step sets v ← g², and no more.
    """

    beta2: float = 0.9999
    _: KW_ONLY
    eps: float = 1e-6
    clip_power: float = 0.25
    use_clipping: bool = True

    def update(self, params: Any, grads: Any) -> None:
        """Take a step."""
        self.begin(params)
        bound = (self.iter - 1) ** self.clip_power if self.use_clipping else np.inf
        for key, p, g in triples(params, grads):
            if self.iter == 1:
                self.v[key] = g * g
                continue
            d = np.minimum(np.maximum(g / np.maximum(np.sqrt(self.v[key]), self.eps), -bound), bound)
            self.m[key] += (1 - self.beta1) * (d - self.m[key])
            self.v[key] += (1 - self.beta2) * (g * g - self.v[key])
            put(params, key, p - self.lr * self.m[key])


@dataclass(eq=False)
class LaProp(Moments):
    """v as Adam; d ← g / (√v̂ + eps); m ← m + (1 − β₁)(d − m); p ← p − lr·m̂."""

    lr: float = 4e-4
    _: KW_ONLY
    eps: float = 1e-15

    def update(self, params: Any, grads: Any) -> None:
        """Take a step."""
        self.begin(params)
        root = sqrt(1 - self.beta2**self.iter)
        lr_t = self.lr / (1 - self.beta1**self.iter)
        for key, p, g in triples(params, grads):
            self.v[key] += (1 - self.beta2) * (g * g - self.v[key])
            d = root * g / (np.sqrt(self.v[key]) + self.eps * root)
            self.m[key] += (1 - self.beta1) * (d - self.m[key])
            put(params, key, p - lr_t * self.m[key])


@dataclass(eq=False)
class QHAdam(Moments):
    """m and v as Adam; p ← p − lr·((1 − ν₁)·g + ν₁·m̂) / (√((1 − ν₂)·g² + ν₂·v̂) + eps)."""

    beta1: float = 0.995
    nu1: float = 0.7
    nu2: float = 1.0

    def update(self, params: Any, grads: Any) -> None:
        """Take a step."""
        self.begin(params)
        lr_g = self.lr * (1 - self.nu1)
        lr_m = self.lr * self.nu1 / (1 - self.beta1**self.iter)
        weight_g = 1 - self.nu2
        weight_v = self.nu2 / (1 - self.beta2**self.iter)
        for key, p, g in triples(params, grads):
            self.average(key, g)
            divisor = np.sqrt(weight_g * (g * g) + weight_v * self.v[key]) + self.eps
            put(params, key, p - (lr_g * g + lr_m * self.m[key]) / divisor)
