"""Steps that find their learning rate, from sums over all arrays.

Each step looks at all arrays first and moves the parameters then, as in `fastopt.reference.layerwise`.
"""

from dataclasses import KW_ONLY, dataclass, field
from math import inf, sqrt
from typing import Any

import numpy as np

from fastopt.reference.adam import Moments
from fastopt.reference.common import copies, double, full, one, pairs, put, total, triples, zeros

__all__ = ["Prodigy"]


@dataclass(eq=False)
class Prodigy(Moments):
    """m, v and s average d·g, (d·g)² and, with β₃, the gradients; p as below.

    r ← β₃·r + (d / d₀·lr_t)·⟨g, p₀ − p⟩; s ← β₃·s + (d / d₀·lr_t)·g, with safeguard_warmup (d / d₀·d)·g
    d_max ← max(d_max, d_coef·r / ‖s‖₁); d ← min(d_max, d·growth_rate), at once d_max from d₀
    p ← (1 − lr_t·weight_decay)·p − lr_t·m / (√v + d·eps)
    lr_t = d·(lr·√(1 − β₂ᵗ) / (1 − β₁ᵗ)) with the d from before the step, d·lr without use_bias_correction;
    β₃ = √β₂ if it isn't given; p₀ is where the parameters started
    """

    lr: float = 1.0
    _: KW_ONLY
    beta3: float | None = None
    d0: float = 1e-6
    d_coef: float = 1.0
    growth_rate: float | None = None
    use_bias_correction: bool = True
    safeguard_warmup: bool = False
    weight_decay: float = 0.0
    s: Any = field(init=False, default=None)
    p0: Any = field(init=False, default=None)
    d: Any = field(init=False, default=None)
    r: Any = field(init=False, default=None)
    d_max: Any = field(init=False, default=None)
    corrected_lr: float = field(init=False, default=0.0)
    old_and_new_d: dict[Any, tuple[float, float]] = field(init=False, default_factory=dict)

    def update(self, params: Any, grads: Any) -> None:
        """Take a step."""
        moved, size = self.measure(params, grads)
        self.estimate(self.corrected_lr, moved, size)
        self.move(params, grads)

    def measure(self, params: Any, grads: Any) -> tuple[float, float]:
        """Update m, v and s; return Σ⟨g, p₀ − p⟩ and ‖s‖₁."""
        if self.s is None:
            self.s, self.p0 = zeros(params), copies(params, params)
        if self.d is None:
            self.d, self.r = full(params, self.d0, one), zeros(params, one)
            self.d_max = full(params, self.d0, one)
        self.begin(params)
        t = self.iter
        self.corrected_lr = self.lr
        if self.use_bias_correction:
            self.corrected_lr = self.lr * sqrt(1 - self.beta2**t) / (1 - self.beta1**t)
        moved = size = 0.0
        for key, p, g in triples(params, grads):
            d = self.d[key].item()
            weight = d / self.d0 * (d * (1.0 if self.safeguard_warmup else self.corrected_lr))
            moved += total(double(g) * double(self.p0[key] - p))
            dg = d * g
            self.average(key, dg)
            self.s[key] = self.decay_of_s() * self.s[key] + weight * g
            size += total(abs(double(self.s[key])))
        return moved, size

    def decay_of_s(self) -> float:
        """Return β₃."""
        return sqrt(self.beta2) if self.beta3 is None else self.beta3

    def estimate(self, corrected_lr: float, moved: float, size: float) -> None:
        """Update r and d by the sums over all arrays."""
        growth_rate = inf if self.growth_rate is None else self.growth_rate
        for key, r in pairs(self.r, self.r):
            d, d_max = self.d[key].item(), self.d_max[key].item()
            r[...] = new_r = self.decay_of_s() * r.item() + d / self.d0 * (d * corrected_lr) * moved
            largest = max(d_max, self.d_coef * new_r / size) if size > 0 else d_max
            is_first = d == r.dtype.type(self.d0).item()
            new_d = min(largest, (largest if is_first else d) * growth_rate)
            self.d[key][...], self.d_max[key][...] = new_d, largest
            self.old_and_new_d[key] = d, new_d

    def move(self, params: Any, grads: Any) -> None:
        """Update the parameters."""
        for key, p, _ in triples(params, grads):
            old_d, new_d = self.old_and_new_d[key]
            lr_t = old_d * self.corrected_lr
            kept = (1 - lr_t * self.weight_decay) * p
            put(params, key, kept - lr_t * self.m[key] / (np.sqrt(self.v[key]) + new_d * self.eps))
