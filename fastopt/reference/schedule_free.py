"""Schedule-free rules: an average over the steps takes the place of a schedule."""

from dataclasses import KW_ONLY, dataclass
from math import sqrt
from typing import Any

import numpy as np

from fastopt.reference.common import UNSET, copies, put, triples, zeros

__all__ = ["ScheduleFreeAdamW", "ScheduleFreeRAdam", "ScheduleFreeSGD"]


@dataclass(eq=False)
class ScheduleFreeSGD:
    """Gradient descent at a point between z and the average of z, in the place of a schedule.

    p ← p + c·(z − p) + lr_t·(β·(1 − c) − 1)·g
    z ← z − lr_t·g

    where c = wₜ / (w₁ + … + wₜ), wₜ = tʳ·f^weight_lr_power, lr_t = lr·f and f = min(t / warmup_steps, 1)

    References
    ----------
    Defazio et al. 2024, *The road less scheduled* (arXiv:2405.15682), equations 2 to 4.
    """

    lr: float = 1.0
    beta: float = 0.9
    warmup_steps: int = 0
    _: KW_ONLY
    r: float = 0.0
    weight_lr_power: float = 2.0
    iter = 0
    sum = 0.0
    z = UNSET

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
    """ScheduleFreeSGD with Adam's scaled gradients and weight decay.

    v ← v + (1 − β₂)·(g² − v)
    d = g / (√v̂ + eps) + weight_decay·p
    p ← p + c·(z − p) + lr_t·(β·(1 − c) − 1)·d
    z ← z − lr_t·d

    where v̂ = v / (1 − β₂ᵗ), and c and lr_t are those of `ScheduleFreeSGD`

    References
    ----------
    Defazio et al. 2024, *The road less scheduled* (arXiv:2405.15682), algorithm 1.
    """

    lr: float = 0.0025
    _: KW_ONLY
    beta2: float = 0.999
    eps: float = 1e-8
    weight_decay: float = 0.0
    v = UNSET
    quantized = "√v"

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
    """ScheduleFreeAdamW with RAdam's factor in the place of a warm-up.

    v ← v + (1 − β₂)·(g² − v)
    d = g + weight_decay·p, until ρₜ > 4; then d = g / (√v̂ + eps) + weight_decay·p
    p ← p + c·(z − p) + lr_t·(β·(1 − c) − 1)·d
    z ← z − lr_t·d

    where v̂ = v / (1 − β₂ᵗ), lr_t = lr·r, c = wₜ / (w₁ + … + wₜ), wₜ = tʳ·r^weight_lr_power, and ρₜ and r are
    those of `RAdam`; until ρₜ > 4 r is 0. Without silent_sgd_phase it is 1 until then, and always 1 in wₜ.

    References
    ----------
    Defazio et al. 2024, *The road less scheduled* (arXiv:2405.15682), algorithm 1, with the factor of Liu et
    al. 2020 (arXiv:1908.03265), algorithm 2, as in the authors' package schedulefree.
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
    iter = 0
    sum = 0.0
    v = UNSET
    z = UNSET
    quantized = "√v"

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
