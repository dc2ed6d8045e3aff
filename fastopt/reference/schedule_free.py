"""Schedule-free rules: an average over the steps takes the place of a schedule."""

from dataclasses import KW_ONLY, dataclass, field
from math import sqrt
from typing import Any

import numpy as np

from fastopt.reference.common import copies, put, triples, zeros

__all__ = ["ScheduleFreeAdamW", "ScheduleFreeRAdam", "ScheduleFreeSGD"]


@dataclass(eq=False)
class ScheduleFreeSGD:
    """p ← p + c·(z − p) + lr·(β·(1 − c) − 1)·g; z ← z − lr·g.

    c = wₜ / (w₁ + … + wₜ), where wₜ = tʳ·(the warm-up's factor of lr)^weight_lr_power
    """

    lr: float = 1.0
    beta: float = 0.9
    warmup_steps: int = 0
    _: KW_ONLY
    r: float = 0.0
    weight_lr_power: float = 2.0
    iter: int = field(init=False, default=0)
    sum: float = field(init=False, default=0.0)
    z: Any = field(init=False, default=None)

    def factors(self) -> tuple[float, float, float]:
        """Count the step; return c, lr with warm-up, and the factor of g in the parameter's step."""
        self.iter += 1
        factor = min(self.iter / self.warmup_steps, 1.0) if self.warmup_steps else 1.0
        power = factor * factor if self.weight_lr_power == 2 else factor**self.weight_lr_power
        weight = self.iter**self.r * power
        self.sum += weight
        c, lr = weight / self.sum, self.lr * factor
        return c, lr, lr * (self.beta * (1 - c) - 1)

    def update(self, params: Any, grads: Any) -> None:
        """Take a step."""
        if self.z is None:
            self.z = copies(params, params)
        c, lr, lr_y = self.factors()
        for key, p, g in triples(params, grads):
            new = p + c * (self.z[key] - p) + lr_y * g
            self.z[key] = self.z[key] - lr * g
            put(params, key, new)


@dataclass(eq=False)
class ScheduleFreeAdamW(ScheduleFreeSGD):
    """v as Adam; d ← g / (√v̂ + eps) + weight_decay·p; then as ScheduleFreeSGD with d for g."""

    lr: float = 0.0025
    _: KW_ONLY
    beta2: float = 0.999
    eps: float = 1e-8
    weight_decay: float = 0.0
    v: Any = field(init=False, default=None)

    def update(self, params: Any, grads: Any) -> None:
        """Take a step."""
        if self.v is None:
            self.v, self.z = zeros(params), copies(params, params)
        c, lr, lr_y = self.factors()
        root = sqrt(1 - self.beta2**self.iter)
        for key, p, g in triples(params, grads):
            self.v[key] += (1 - self.beta2) * (g * g - self.v[key])
            d = root * g / (np.sqrt(self.v[key]) + self.eps * root) + self.weight_decay * p
            put(params, key, p + c * (self.z[key] - p) + lr_y * d)
            self.z[key] = self.z[key] - lr * d


@dataclass(eq=False)
class ScheduleFreeRAdam:
    """v as Adam; d ← g until ρₜ > 4, then g / (√v̂ + eps); d ← d + weight_decay·p; then as ScheduleFreeSGD.

    lr is multiplied by RAdam's factor, which before that is 0, or 1 without the silent phase; it takes the
    place of the warm-up's in c.
    """

    lr: float = 0.0025
    beta: float = 0.9
    _: KW_ONLY
    beta2: float = 0.999
    eps: float = 1e-8
    weight_decay: float = 0.0
    r: float = 0.0
    weight_lr_power: float = 2.0
    silent_sgd_phase: bool = True
    iter: int = field(init=False, default=0)
    sum: float = field(init=False, default=0.0)
    v: Any = field(init=False, default=None)
    z: Any = field(init=False, default=None)

    def update(self, params: Any, grads: Any) -> None:
        """Take a step."""
        if self.v is None:
            self.v, self.z = zeros(params), copies(params, params)
        self.iter += 1
        t = self.iter
        most = 2 / (1 - self.beta2) - 1
        rho = most - 2 * t * self.beta2**t / (1 - self.beta2**t)
        factor = 0.0 if self.silent_sgd_phase else 1.0
        if rho > 4:
            factor = sqrt((rho - 4) * (rho - 2) * most / ((most - 4) * (most - 2) * rho))
        weight = t**self.r * (factor if self.silent_sgd_phase else 1.0) ** self.weight_lr_power
        self.sum += weight
        c, lr = weight / self.sum if self.sum else 0.0, self.lr * factor
        root = sqrt(1 - self.beta2**t)
        for key, p, g in triples(params, grads):
            self.v[key] += (1 - self.beta2) * (g * g - self.v[key])
            d = root * g / (np.sqrt(self.v[key]) + self.eps * root) if rho > 4 else g
            d = d + self.weight_decay * p
            put(params, key, p + c * (self.z[key] - p) + lr * (self.beta * (1 - c) - 1) * d)
            self.z[key] = self.z[key] - lr * d
