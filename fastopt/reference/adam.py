"""Adam and those that changed a part of it."""

from math import sqrt
from typing import Any

import numpy as np

from fastopt.reference.common import copies, full, pairs, put, triples, zeros

__all__ = [
    "AMSGrad",
    "AdEMAMix",
    "AdaBelief",
    "AdaMax",
    "Adam",
    "AdamW",
    "Adan",
    "NAdam",
    "RAdam",
    "ScheduleFreeAdamW",
    "Yogi",
]


class Adam:
    """m ← m + (1 − β₁)(g − m); v ← v + (1 − β₂)(g² − v); p ← p − lr_t·m / (√v + eps).

    lr_t = lr·√(1 − β₂ᵗ) / (1 − β₁ᵗ)
    """

    def __init__(
        self, lr: float = 0.001, beta1: float = 0.9, beta2: float = 0.999, *, eps: float = 1e-7
    ) -> None:
        self.lr = lr
        self.beta1 = beta1
        self.beta2 = beta2
        self.eps = eps
        self.iter = 0
        self.m: Any = None
        self.v: Any = None

    def update(self, params: Any, grads: Any) -> None:
        """Take a step."""
        if self.m is None:
            self.m, self.v = zeros(params), zeros(params)
        self.iter += 1
        lr_t = self.lr * sqrt(1 - self.beta2**self.iter) / (1 - self.beta1**self.iter)
        for key, g in pairs(params, grads):
            self.m[key] += (1 - self.beta1) * (g - self.m[key])
            self.v[key] += (1 - self.beta2) * (g * g - self.v[key])
            params[key] -= lr_t * self.m[key] / (np.sqrt(self.v[key]) + self.eps)


class AdamW:
    """Adam with eps on the corrected root, after p ← (1 − lr·weight_decay)·p."""

    def __init__(
        self,
        lr: float = 0.001,
        beta1: float = 0.9,
        beta2: float = 0.999,
        *,
        eps: float = 1e-8,
        weight_decay: float = 0.01,
    ) -> None:
        self.lr = lr
        self.beta1 = beta1
        self.beta2 = beta2
        self.eps = eps
        self.weight_decay = weight_decay
        self.iter = 0
        self.m: Any = None
        self.v: Any = None

    def update(self, params: Any, grads: Any) -> None:
        """Take a step."""
        if self.m is None:
            self.m = zeros(params)
            self.v = zeros(params)
        self.iter += 1
        t = self.iter
        root = sqrt(1 - self.beta2**t)
        lr_t = self.lr * root / (1 - self.beta1**t)
        eps_t = self.eps * root
        for key, p, g in triples(params, grads):
            self.m[key] += (1 - self.beta1) * (g - self.m[key])
            self.v[key] += (1 - self.beta2) * (g * g - self.v[key])
            kept = (1 - self.lr * self.weight_decay) * p
            put(params, key, kept - lr_t * self.m[key] / (np.sqrt(self.v[key]) + eps_t))


class AMSGrad:
    """Adam with the largest v so far."""

    def __init__(
        self, lr: float = 0.001, beta1: float = 0.9, beta2: float = 0.999, *, eps: float = 1e-8
    ) -> None:
        self.lr = lr
        self.beta1 = beta1
        self.beta2 = beta2
        self.eps = eps
        self.iter = 0
        self.m: Any = None
        self.v: Any = None
        self.v_max: Any = None

    def update(self, params: Any, grads: Any) -> None:
        """Take a step."""
        if self.m is None:
            self.m = zeros(params)
            self.v = zeros(params)
            self.v_max = zeros(params)
        self.iter += 1
        t = self.iter
        root = sqrt(1 - self.beta2**t)
        lr_t = self.lr * root / (1 - self.beta1**t)
        eps_t = self.eps * root
        for key, p, g in triples(params, grads):
            self.m[key] += (1 - self.beta1) * (g - self.m[key])
            self.v[key] += (1 - self.beta2) * (g * g - self.v[key])
            self.v_max[key] = np.maximum(self.v_max[key], self.v[key])
            put(params, key, p - lr_t * self.m[key] / (np.sqrt(self.v_max[key]) + eps_t))


class AdaMax:
    """m as Adam; u ← max(β₂·u, |g| + eps); p ← p − lr / (1 − β₁ᵗ)·m / u."""

    def __init__(
        self, lr: float = 0.002, beta1: float = 0.9, beta2: float = 0.999, *, eps: float = 1e-8
    ) -> None:
        self.lr = lr
        self.beta1 = beta1
        self.beta2 = beta2
        self.eps = eps
        self.iter = 0
        self.m: Any = None
        self.u: Any = None

    def update(self, params: Any, grads: Any) -> None:
        """Take a step."""
        if self.m is None:
            self.m = zeros(params)
            self.u = zeros(params)
        self.iter += 1
        t = self.iter
        lr_t = self.lr / (1 - self.beta1**t)
        for key, p, g in triples(params, grads):
            self.m[key] += (1 - self.beta1) * (g - self.m[key])
            self.u[key] = np.maximum(self.beta2 * self.u[key], abs(g) + self.eps)
            put(params, key, p - lr_t * self.m[key] / self.u[key])


class NAdam:
    """m and v as Adam; p ← p − (lr_g·g + lr_m·m) / (√v + eps·√(1 − β₂ᵗ)).

    μₜ = β₁·(1 − 0.96^(t·momentum_decay) / 2); Mₜ = μ₁·…·μₜ
    """

    def __init__(
        self,
        lr: float = 0.002,
        beta1: float = 0.9,
        beta2: float = 0.999,
        *,
        eps: float = 1e-8,
        momentum_decay: float = 4e-3,
    ) -> None:
        self.lr = lr
        self.beta1 = beta1
        self.beta2 = beta2
        self.eps = eps
        self.momentum_decay = momentum_decay
        self.iter = 0
        self.m: Any = None
        self.v: Any = None

    def update(self, params: Any, grads: Any) -> None:
        """Take a step."""
        if self.m is None:
            self.m = zeros(params)
            self.v = zeros(params)
        self.iter += 1
        t = self.iter
        mu = [self.beta1 * (1 - 0.5 * 0.96 ** (i * self.momentum_decay)) for i in range(1, t + 2)]
        product = 1.0
        for factor in mu[:-1]:
            product *= factor
        root = sqrt(1 - self.beta2**t)
        lr_g = self.lr * root * (1 - mu[-2]) / (1 - product)
        lr_m = self.lr * root * mu[-1] / (1 - product * mu[-1])
        eps_t = self.eps * root
        for key, p, g in triples(params, grads):
            self.m[key] += (1 - self.beta1) * (g - self.m[key])
            self.v[key] += (1 - self.beta2) * (g * g - self.v[key])
            put(params, key, p - (lr_g * g + lr_m * self.m[key]) / (np.sqrt(self.v[key]) + eps_t))


class RAdam:
    """m and v as Adam; p ← p − lr·m̂ until ρₜ > 5, then p ← p − lr·r·√(1 − β₂ᵗ)·m̂ / (√v + eps).

    ρ∞ = 2 / (1 − β₂) − 1; ρₜ = ρ∞ − 2·t·β₂ᵗ / (1 − β₂ᵗ)
    r = √((ρₜ − 4)(ρₜ − 2)·ρ∞ / ((ρ∞ − 4)(ρ∞ − 2)·ρₜ))
    """

    def __init__(
        self, lr: float = 0.001, beta1: float = 0.9, beta2: float = 0.999, *, eps: float = 1e-8
    ) -> None:
        self.lr = lr
        self.beta1 = beta1
        self.beta2 = beta2
        self.eps = eps
        self.iter = 0
        self.m: Any = None
        self.v: Any = None

    def update(self, params: Any, grads: Any) -> None:
        """Take a step."""
        if self.m is None:
            self.m = zeros(params)
            self.v = zeros(params)
        self.iter += 1
        t = self.iter
        most = 2 / (1 - self.beta2) - 1
        rho = most - 2 * t * self.beta2**t / (1 - self.beta2**t)
        lr_t = self.lr / (1 - self.beta1**t)
        if rho > 5:
            r = sqrt((rho - 4) * (rho - 2) * most / ((most - 4) * (most - 2) * rho))
            lr_t = lr_t * sqrt(1 - self.beta2**t) * r
        for key, p, g in triples(params, grads):
            self.m[key] += (1 - self.beta1) * (g - self.m[key])
            self.v[key] += (1 - self.beta2) * (g * g - self.v[key])
            divisor = np.sqrt(self.v[key]) + self.eps if rho > 5 else 1
            put(params, key, p - lr_t * self.m[key] / divisor)


class AdaBelief:
    """m as Adam; s ← s + (1 − β₂)((g − m)² − s) + eps; p ← p − lr_t·m / (√s + eps·√(1 − β₂ᵗ))."""

    def __init__(
        self, lr: float = 0.001, beta1: float = 0.9, beta2: float = 0.999, *, eps: float = 1e-16
    ) -> None:
        self.lr = lr
        self.beta1 = beta1
        self.beta2 = beta2
        self.eps = eps
        self.iter = 0
        self.m: Any = None
        self.s: Any = None

    def update(self, params: Any, grads: Any) -> None:
        """Take a step."""
        if self.m is None:
            self.m = zeros(params)
            self.s = zeros(params)
        self.iter += 1
        t = self.iter
        root = sqrt(1 - self.beta2**t)
        lr_t = self.lr * root / (1 - self.beta1**t)
        eps_t = self.eps * root
        for key, p, g in triples(params, grads):
            self.m[key] += (1 - self.beta1) * (g - self.m[key])
            surprise = g - self.m[key]
            self.s[key] = self.s[key] + (1 - self.beta2) * (surprise * surprise - self.s[key]) + self.eps
            put(params, key, p - lr_t * self.m[key] / (np.sqrt(self.s[key]) + eps_t))


class Yogi:
    """m as Adam; v ← v − (1 − β₂)·sign(v − g²)·g²; p ← p − lr_t·m / (√v + eps·√(1 − β₂ᵗ))."""

    def __init__(
        self,
        lr: float = 0.01,
        beta1: float = 0.9,
        beta2: float = 0.999,
        *,
        eps: float = 1e-3,
        initial_accumulator_value: float = 1e-6,
    ) -> None:
        self.lr = lr
        self.beta1 = beta1
        self.beta2 = beta2
        self.eps = eps
        self.initial_accumulator_value = initial_accumulator_value
        self.iter = 0
        self.m: Any = None
        self.v: Any = None

    def update(self, params: Any, grads: Any) -> None:
        """Take a step."""
        if self.m is None:
            self.m = full(params, self.initial_accumulator_value)
            self.v = full(params, self.initial_accumulator_value)
        self.iter += 1
        t = self.iter
        root = sqrt(1 - self.beta2**t)
        lr_t = self.lr * root / (1 - self.beta1**t)
        eps_t = self.eps * root
        for key, p, g in triples(params, grads):
            self.m[key] += (1 - self.beta1) * (g - self.m[key])
            self.v[key] -= (1 - self.beta2) * np.sign(self.v[key] - g * g) * (g * g)
            put(params, key, p - lr_t * self.m[key] / (np.sqrt(self.v[key]) + eps_t))


class Adan:
    """d ← g − g of the step before; m, v and n average g, d and (g + β₂·d)²; p as below.

    p ← (1 − lr·weight_decay)·p − lr·(m̂ + β₂·v̂) / (√n̂ + eps)
    """

    def __init__(
        self,
        lr: float = 0.001,
        beta1: float = 0.98,
        beta2: float = 0.92,
        beta3: float = 0.99,
        *,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        self.lr = lr
        self.beta1 = beta1
        self.beta2 = beta2
        self.beta3 = beta3
        self.eps = eps
        self.weight_decay = weight_decay
        self.iter = 0
        self.m: Any = None
        self.v: Any = None
        self.n: Any = None
        self.prev_grad: Any = None

    def update(self, params: Any, grads: Any) -> None:
        """Take a step."""
        if self.m is None:
            self.m = zeros(params)
            self.v = zeros(params)
            self.n = zeros(params)
            self.prev_grad = copies(grads, params)
        self.iter += 1
        t = self.iter
        root = sqrt(1 - self.beta3**t)
        lr_m = self.lr * root / (1 - self.beta1**t)
        lr_v = self.lr * self.beta2 * root / (1 - self.beta2**t)
        eps_t = self.eps * root
        for key, p, g in triples(params, grads):
            d = g - self.prev_grad[key]
            self.prev_grad[key] = np.array(g)
            self.m[key] += (1 - self.beta1) * (g - self.m[key])
            self.v[key] += (1 - self.beta2) * (d - self.v[key])
            ahead = g + self.beta2 * d
            self.n[key] += (1 - self.beta3) * (ahead * ahead - self.n[key])
            kept = (1 - self.lr * self.weight_decay) * p
            put(
                params, key, kept - (lr_m * self.m[key] + lr_v * self.v[key]) / (np.sqrt(self.n[key]) + eps_t)
            )


class AdEMAMix:
    """m and v as Adam; m_slow ← m_slow + (1 − β₃)(g − m_slow); p ← p − lr·(m̂ + α·m_slow) / (√v̂ + eps)."""

    def __init__(
        self,
        lr: float = 0.001,
        beta1: float = 0.9,
        beta2: float = 0.999,
        beta3: float = 0.9999,
        alpha: float = 5.0,
        *,
        eps: float = 1e-8,
    ) -> None:
        self.lr = lr
        self.beta1 = beta1
        self.beta2 = beta2
        self.beta3 = beta3
        self.alpha = alpha
        self.eps = eps
        self.iter = 0
        self.m: Any = None
        self.m_slow: Any = None
        self.v: Any = None

    def update(self, params: Any, grads: Any) -> None:
        """Take a step."""
        if self.m is None:
            self.m = zeros(params)
            self.m_slow = zeros(params)
            self.v = zeros(params)
        self.iter += 1
        t = self.iter
        root = sqrt(1 - self.beta2**t)
        lr_m = self.lr * root / (1 - self.beta1**t)
        lr_slow = self.lr * self.alpha * root
        eps_t = self.eps * root
        for key, p, g in triples(params, grads):
            self.m[key] += (1 - self.beta1) * (g - self.m[key])
            self.m_slow[key] += (1 - self.beta3) * (g - self.m_slow[key])
            self.v[key] += (1 - self.beta2) * (g * g - self.v[key])
            step = lr_m * self.m[key] + lr_slow * self.m_slow[key]
            put(params, key, p - step / (np.sqrt(self.v[key]) + eps_t))


class ScheduleFreeAdamW:
    """v as Adam; d ← g / (√v̂ + eps) + weight_decay·p; then as ScheduleFreeSGD with d for g."""

    def __init__(
        self,
        lr: float = 0.0025,
        beta: float = 0.9,
        warmup_steps: int = 0,
        *,
        beta2: float = 0.999,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        self.lr = lr
        self.beta = beta
        self.warmup_steps = warmup_steps
        self.beta2 = beta2
        self.eps = eps
        self.weight_decay = weight_decay
        self.iter = 0
        self.sum = 0.0
        self.v: Any = None
        self.z: Any = None

    def update(self, params: Any, grads: Any) -> None:
        """Take a step."""
        if self.v is None:
            self.v = zeros(params)
            self.z = copies(params, params)
        self.iter += 1
        t = self.iter
        r = min(t / self.warmup_steps, 1.0) if self.warmup_steps else 1.0
        self.sum += r * r
        c = r * r / self.sum
        lr = self.lr * r
        lr_y = lr * (self.beta * (1 - c) - 1)
        root = sqrt(1 - self.beta2**t)
        for key, p, g in triples(params, grads):
            self.v[key] += (1 - self.beta2) * (g * g - self.v[key])
            d = root * g / (np.sqrt(self.v[key]) + self.eps * root) + self.weight_decay * p
            put(params, key, p + c * (self.z[key] - p) + lr_y * d)
            self.z[key] = self.z[key] - lr * d
