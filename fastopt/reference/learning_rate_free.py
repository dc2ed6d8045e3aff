"""Steps that find their learning rate, from sums over all arrays.

Each step looks at all arrays first and moves the parameters then, as in `fastopt.reference.layerwise`.
"""

from dataclasses import KW_ONLY, dataclass, field
from math import inf, sqrt
from typing import Any, ClassVar

import numpy as np

from fastopt.reference.common import UNSET, copies, double, full, norm, one, pairs, put, total, triples, zeros
from fastopt.reference.moments import Moments

__all__ = ["DAdaptAdam", "DoG", "DoWG", "LDoG", "Prodigy"]


class FromAllArrays:
    """What the rules share: a step measures all arrays, then estimates, then moves the parameters.

    ``shared`` are the names of the states that are numbers, the same for all arrays. The first number that
    `measure` returns is in proportion to ``corrected_lr``.
    """

    shared: ClassVar[tuple[str, ...]]
    corrected_lr: float

    def update(self, params: Any, grads: Any) -> None:
        """Take a step."""
        sums = self.measure(params, grads)
        self.estimate(self.corrected_lr, *sums)
        self.move(params, grads)

    def measure(self, params: Any, grads: Any) -> tuple[float, ...]:
        """Return the sums over all arrays."""
        raise NotImplementedError

    def estimate(self, corrected_lr: float, *sums: float) -> None:
        """Update the shared states by the sums."""
        raise NotImplementedError

    def move(self, params: Any, grads: Any) -> None:
        """Update the parameters."""
        raise NotImplementedError


@dataclass(eq=False)
class DoG(FromAllArrays):
    """Gradient descent with the distance from the start over the root of the sum of squared norms.

    r ← max(r, ‖p₀ − p‖, r₀, reps_rel·(1 + ‖p₀‖))
    h ← h + ‖g‖²
    p ← p − lr·r / √(h + eps)·g

    where p₀ are the first parameters, and the norms are those of all arrays together

    References
    ----------
    Ivgi, Hinder and Carmon 2023, *DoG is SGD's best friend: a parameter-free dynamic step size schedule*
    (arXiv:2302.12022), section 1.
    """

    shared = ("r", "h")
    lr: float = 1.0
    _: KW_ONLY
    reps_rel: float = 1e-6
    r0: float = 0.0
    eps: float = 1e-8
    p0 = UNSET
    r = UNSET
    h = UNSET
    corrected_lr = 1.0  # on which neither r nor the other depends
    rates: dict[Any, float] = field(init=False, default_factory=dict)

    def measure(self, params: Any, grads: Any) -> tuple[float, float, float]:
        """Return ‖p₀ − p‖², ‖g‖² and ‖p₀‖²."""
        if self.p0 is None:
            self.p0 = copies(params, params)
        if self.r is None:
            self.r, self.h = zeros(params, one), zeros(params, one)
        distance = square = start = 0.0
        for key, p, g in triples(params, grads):
            distance += total(np.square(double(self.p0[key] - p)))
            square += total(np.square(double(g)))
            start += total(np.square(double(self.p0[key])))
        return distance, square, start

    def estimate(self, corrected_lr: float, *sums: float) -> None:
        """Update r and h."""
        distance, square, start = sums
        for key, r in pairs(self.r, self.r):
            new_r = max(r.item(), self.r0, self.reps_rel * (1 + sqrt(start)), sqrt(distance))
            new_h = self.h[key].item() + square
            r[...], self.h[key][...] = new_r, new_h
            self.rates[key] = self.lr * new_r / sqrt(new_h + self.eps)

    def move(self, params: Any, grads: Any) -> None:
        """Update the parameters."""
        for key, p, g in triples(params, grads):
            put(params, key, p - self.rates[key] * g)


@dataclass(eq=False)
class LDoG:
    """DoG with the norms of each array in the place of those of all.

    r ← max(r, ‖p₀ − p‖, r₀, reps_rel·(1 + ‖p₀‖))
    h ← h + ‖g‖²
    p ← p − lr·r / √(h + eps)·g

    where p₀ is the first value of the parameter

    References
    ----------
    Ivgi, Hinder and Carmon 2023, *DoG is SGD's best friend: a parameter-free dynamic step size schedule*
    (arXiv:2302.12022), L-DoG.
    """

    lr: float = 1.0
    _: KW_ONLY
    reps_rel: float = 1e-6
    r0: float = 0.0
    eps: float = 1e-8
    p0 = UNSET
    r = UNSET
    h = UNSET

    def update(self, params: Any, grads: Any) -> None:
        """Take a step."""
        if self.p0 is None:
            self.p0 = copies(params, params)
        if self.r is None:
            self.r, self.h = zeros(params, one), zeros(params, one)
        rates = {}
        for key, p, g in triples(params, grads):
            first = max(self.r0, self.reps_rel * (1 + norm(self.p0[key])))
            new_r = max(self.r[key].item(), first, norm(self.p0[key] - p))
            new_h = self.h[key].item() + total(np.square(double(g)))
            self.r[key][...], self.h[key][...] = new_r, new_h
            rates[key] = self.lr * new_r / sqrt(new_h + self.eps)
        for key, p, g in triples(params, grads):
            put(params, key, p - rates[key] * g)


@dataclass(eq=False)
class DoWG(FromAllArrays):
    """DoG with gradients that count more the farther the parameters are from the start.

    r ← max(r, ‖p₀ − p‖, r₀)
    v ← v + r²·‖g‖²
    p ← p − lr·r² / (√v + eps)·g

    where p₀ are the first parameters, and the norms are those of all arrays together

    References
    ----------
    Khaled, Mishchenko and Jin 2023, *DoWG unleashed: an efficient universal parameter-free gradient descent
    method* (arXiv:2305.16284), algorithm 1.
    """

    shared = ("r", "v")
    lr: float = 1.0
    _: KW_ONLY
    r0: float = 0.01
    eps: float = 1e-4
    p0 = UNSET
    r = UNSET
    v = UNSET
    corrected_lr = 1.0  # on which neither r nor the other depends
    rates: dict[Any, float] = field(init=False, default_factory=dict)

    def measure(self, params: Any, grads: Any) -> tuple[float, float]:
        """Return ‖p₀ − p‖² and ‖g‖²."""
        if self.p0 is None:
            self.p0 = copies(params, params)
        if self.r is None:
            self.r, self.v = zeros(params, one), zeros(params, one)
        distance = square = 0.0
        for key, p, g in triples(params, grads):
            distance += total(np.square(double(self.p0[key] - p)))
            square += total(np.square(double(g)))
        return distance, square

    def estimate(self, corrected_lr: float, *sums: float) -> None:
        """Update r and v."""
        distance, square = sums
        for key, r in pairs(self.r, self.r):
            new_r = max(r.item(), self.r0, sqrt(distance))
            new_v = self.v[key].item() + new_r * new_r * square
            r[...], self.v[key][...] = new_r, new_v
            self.rates[key] = self.lr * (new_r * new_r) / (sqrt(new_v) + self.eps)

    def move(self, params: Any, grads: Any) -> None:
        """Update the parameters."""
        for key, p, g in triples(params, grads):
            put(params, key, p - self.rates[key] * g)


@dataclass(eq=False)
class DAdaptAdam(FromAllArrays, Moments):
    """Adam with a learning rate from an estimate d of the distance to the solution.

    r ← β₃·r + (1 − β₃)·d·lr_t·Σ g·s / (√v + eps), with s and v from before
    m ← m + (1 − β₁)·(d·lr_t·g − m)
    v ← v + (1 − β₂)·(g² − v)
    s ← s + (1 − β₃)·(d·lr_t·g − s)
    p ← (1 − d·lr_t·weight_decay)·p − m / (√v + eps)
    d ← max(d, min(r / ((1 − β₃)·‖s‖₁), d·growth_rate))

    where β₃ = √β₂ and lr_t = lr·√(1 − β₂ᵗ) / (1 − β₁ᵗ), lr without use_bias_correction;
    r, d and the sums are those of all arrays together

    References
    ----------
    Defazio and Mishchenko 2023, *Learning-rate-free learning by D-Adaptation* (arXiv:2301.07733), algorithm
    5.
    """

    shared = ("d", "r")
    lr: float = 1.0
    _: KW_ONLY
    d0: float = 1e-6
    growth_rate: float | None = None
    use_bias_correction: bool = True
    weight_decay: float = 0.0
    s = UNSET
    d = UNSET
    r = UNSET
    corrected_lr = 0.0
    old_d: dict[Any, float] = field(init=False, default_factory=dict)

    def measure(self, params: Any, grads: Any) -> tuple[float, float]:
        """Update m, v and s; return Σ g·s / (√v + eps) and ‖s‖₁."""
        if self.s is None:
            self.s = zeros(params)
        if self.d is None:
            self.d, self.r = full(params, self.d0, one), zeros(params, one)
        self.begin(params)
        self.corrected_lr, _ = self.corrected() if self.use_bias_correction else (self.lr, 0.0)
        product = size = 0.0
        for key, _, g in triples(params, grads):
            scaled = self.s[key] / (np.sqrt(self.v[key]) + self.eps)
            product += total(double(g) * double(scaled))
            dg = self.d[key].item() * self.corrected_lr * g
            self.m[key] += (1 - self.beta1) * (dg - self.m[key])
            self.v[key] += (1 - self.beta2) * (g * g - self.v[key])
            self.s[key] += (1 - sqrt(self.beta2)) * (dg - self.s[key])
            size += total(abs(double(self.s[key])))
        return product, size

    def estimate(self, corrected_lr: float, *sums: float) -> None:
        """Update r and d."""
        product, size = sums
        beta3, growth_rate = sqrt(self.beta2), inf if self.growth_rate is None else self.growth_rate
        for key, r in pairs(self.r, self.r):
            self.old_d[key] = d = self.d[key].item()
            r[...] = new_r = beta3 * r.item() + (1 - beta3) * (d * corrected_lr) * product
            estimate = new_r / ((1 - beta3) * size) if size > 0 else d
            self.d[key][...] = max(d, min(estimate, d * growth_rate))

    def move(self, params: Any, grads: Any) -> None:
        """Update the parameters."""
        for key, p, _ in triples(params, grads):
            kept = (1 - self.old_d[key] * self.corrected_lr * self.weight_decay) * p
            put(params, key, kept - self.m[key] / (np.sqrt(self.v[key]) + self.eps))


@dataclass(eq=False)
class Prodigy(FromAllArrays, Moments):
    """Adam with a learning rate from an estimate d of the distance to the solution.

    m ← m + (1 − β₁)·(d·g − m)
    v ← v + (1 − β₂)·((d·g)² − v)
    s ← β₃·s + (d / d₀·lr_t)·g
    r ← β₃·r + (d / d₀·lr_t)·⟨g, p₀ − p⟩
    d_max ← max(d_max, d_coef·r / ‖s‖₁)
    d ← min(d_max, d·growth_rate), at once d_max from d₀
    p ← (1 − lr_t·weight_decay)·p − lr_t·m / (√v + d·eps)

    where lr_t = d·(lr·√(1 − β₂ᵗ) / (1 − β₁ᵗ)) with the d from before the step, d·lr without
    use_bias_correction; β₃ = √β₂ if it is None; p₀ are the first parameters
    With safeguard_warmup d / d₀·d takes the place of d / d₀·lr_t in s. r, d and the sums are those of all
    arrays together.

    References
    ----------
    Mishchenko and Defazio 2024, *Prodigy: an expeditiously adaptive parameter-free learner*
    (arXiv:2306.06101), algorithm 4.
    """

    shared = ("r", "d", "d_max")
    lr: float = 1.0
    _: KW_ONLY
    beta3: float | None = None
    d0: float = 1e-6
    d_coef: float = 1.0
    growth_rate: float | None = None
    use_bias_correction: bool = True
    safeguard_warmup: bool = False
    weight_decay: float = 0.0
    s = UNSET
    p0 = UNSET
    d = UNSET
    r = UNSET
    d_max = UNSET
    corrected_lr = 0.0
    old_and_new_d: dict[Any, tuple[float, float]] = field(init=False, default_factory=dict)

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

    def estimate(self, corrected_lr: float, *sums: float) -> None:
        """Update r and d by the sums over all arrays."""
        moved, size = sums
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
