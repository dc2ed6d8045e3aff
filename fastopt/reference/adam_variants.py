"""Relatives of Adam: other bounds, orders and weights of its averages."""

from dataclasses import KW_ONLY, dataclass
from math import sqrt
from typing import Any

import numpy as np

from fastopt.reference.common import UNSET, put, triples, zeros
from fastopt.reference.moments import Moments

__all__ = ["ADOPT", "AMSBound", "AdaBound", "LaProp", "QHAdam"]


@dataclass(eq=False)
class AdaBound(Moments):
    """Adam with step sizes between bounds, which come closer to final_lr.

    m ← m + (1 − β₁)·(g − m)
    v ← v + (1 − β₂)·(g² − v)
    p ← p − clip(lr_t / (√v + eps), lower, upper)·m

    where lr_t = lr·√(1 − β₂ᵗ) / (1 − β₁ᵗ), lower = final·(1 − 1 / (γ·t + 1)),
    upper = final·(1 + 1 / (γ·t)) and final = final_lr·lr / base_lr, final_lr without base_lr

    References
    ----------
    Luo, Xiong, Liu and Sun 2019, *Adaptive gradient methods with dynamic bound of learning rate*
    (arXiv:1902.09843), algorithm 1, with the bounds of the authors' code.
    """

    _: KW_ONLY
    final_lr: float = 0.1
    gamma: float = 1e-3
    base_lr: float | None = None
    quantized = "m √v"

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
    """AdaBound with the largest v so far.

    m ← m + (1 − β₁)·(g − m)
    v ← v + (1 − β₂)·(g² − v)
    v_max ← max(v_max, v)
    p ← p − clip(lr_t / (√v_max + eps), lower, upper)·m

    where lr_t, lower and upper are those of `AdaBound`

    References
    ----------
    Luo, Xiong, Liu and Sun 2019, *Adaptive gradient methods with dynamic bound of learning rate*
    (arXiv:1902.09843), algorithm 2, with the bounds of the authors' code.
    """

    v_max = UNSET
    quantized = "m √v √v_max"

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
    """Adam that divides each gradient by the v of the step before.

    d = clip(g / max(√v, eps), ±(t − 1)^clip_power)
    m ← m + (1 − β₁)·(d − m)
    v ← v + (1 − β₂)·(g² − v)
    p ← p − lr·m

    The first step is v ← g², and no more.

    References
    ----------
    Taniguchi et al. 2024, *ADOPT: modified Adam can converge with any β₂ with the optimal rate*
    (arXiv:2411.02853), algorithm 2, with the clipping of the authors' code.
    """

    beta2: float = 0.9999
    _: KW_ONLY
    eps: float = 1e-6
    clip_power: float = 0.25
    use_clipping: bool = True
    quantized = "m √v"

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
    """Adam whose momentum is of gradients that have been scaled.

    v ← v + (1 − β₂)·(g² − v)
    d = g·√(1 − β₂ᵗ) / (√v + eps·√(1 − β₂ᵗ))
    m ← m + (1 − β₁)·(d − m)
    p ← p − lr / (1 − β₁ᵗ)·m

    References
    ----------
    Ziyin, Wang and Ueda 2020, *LaProp: separating momentum and adaptivity in Adam* (arXiv:2002.04839),
    algorithm 1.
    """

    lr: float = 4e-4
    _: KW_ONLY
    eps: float = 1e-15
    quantized = "m √v"

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
    """Adam with a share of the plain gradient in the place of its average, and of its square likewise.

    m ← m + (1 − β₁)·(g − m)
    v ← v + (1 − β₂)·(g² − v)
    p ← p − lr·((1 − ν₁)·g + ν₁·m̂) / (√((1 − ν₂)·g² + ν₂·v̂) + eps)

    where m̂ = m / (1 − β₁ᵗ) and v̂ = v / (1 − β₂ᵗ)

    References
    ----------
    Ma and Yarats 2019, *Quasi-hyperbolic momentum and Adam for deep learning* (arXiv:1810.06801), section 5.
    """

    beta1: float = 0.995
    nu1: float = 0.7
    nu2: float = 1.0
    quantized = "m √v"

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
