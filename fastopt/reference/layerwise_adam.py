"""Relatives of Adam that need numbers of whole arrays.

Each step looks at all arrays first and moves the parameters then, as in `fastopt.reference.layerwise`.
"""

from dataclasses import KW_ONLY, dataclass
from math import sqrt
from typing import Any

import numpy as np

from fastopt.reference.common import UNSET, copies, double, norm, one, put, row_totals, total, triples, zeros
from fastopt.reference.moments import Betas, Moments

__all__ = ["MARS", "AdaMini", "AdamP", "StableAdamW"]


@dataclass(eq=False)
class StableAdamW(Moments):
    """AdamW with a smaller step for an array whose squares v underestimates.

    m ← m + (1 − β₁) / (1 − β₁ᵗ)·(g − m)
    v ← v + (1 − β₂) / (1 − β₂ᵗ)·(g² − v)
    p ← (1 − η·weight_decay)·p − η·m / (√v + eps)

    where η = lr / max(1, rms), and rms is the root mean square of g / √max(v, eps²) in the array

    References
    ----------
    Wortsman et al. 2023, *Stable and low-precision training for large-scale vision-language models*
    (arXiv:2304.13013), algorithm 2.
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
    """AdamW of gradients that are corrected by their change since the step before.

    c = g + gamma·β₁ / (1 − β₁)·(g − prev_grad)
    c = c / max(1, ‖c‖)
    prev_grad ← g
    m ← m + (1 − β₁)·(c − m)
    v ← v + (1 − β₂)·(c² − v)
    p ← (1 − lr·weight_decay)·p − lr_t·m / (√v + eps_t)

    where lr_t = lr·√(1 − β₂ᵗ) / (1 − β₁ᵗ) and eps_t = eps·√(1 − β₂ᵗ); prev_grad begins as the first gradient

    References
    ----------
    Yuan et al. 2024, *MARS: unleashing the power of variance reduction for training large models*
    (arXiv:2411.10438), algorithm 2.
    """

    lr: float = 0.003
    beta1: float = 0.95
    beta2: float = 0.99
    gamma: float = 0.025
    _: KW_ONLY
    weight_decay: float = 0.0
    prev_grad = UNSET

    def update(self, params: Any, grads: Any) -> None:
        """Take a step."""
        if self.prev_grad is None:
            self.prev_grad = copies(grads, params)
        self.begin(params)
        lr_t, eps_t = self.corrected()
        weight = self.gamma * self.beta1 / (1 - self.beta1)
        norms = {key: norm(g + weight * (g - self.prev_grad[key])) for key, _, g in triples(params, grads)}
        for key, p, g in triples(params, grads):
            c = g + weight * (g - self.prev_grad[key])
            self.average(key, (1 / norms[key] if norms[key] > 1 else 1.0) * c)
            self.prev_grad[key][...] = g
            kept = (1 - self.lr * self.weight_decay) * p
            put(params, key, kept - lr_t * self.m[key] / (np.sqrt(self.v[key]) + eps_t))


@dataclass(eq=False)
class AdaMini(Betas):
    """AdamW with one number of v for each first index.

    v ← v + (1 − β₂)·(mean of g² − v)
    m ← m + (1 − β₁)·(g − m)
    p ← (1 − lr·weight_decay)·p − lr_t·m / (√v + eps_t)

    where lr_t = lr·√(1 − β₂ᵗ) / (1 − β₁ᵗ) and eps_t = eps·√(1 − β₂ᵗ)
    An array with less than two dimensions has one number of v.

    References
    ----------
    Zhang et al. 2024, *Adam-mini: use fewer learning rates to gain more* (arXiv:2406.16793), algorithm 1.
    """

    _: KW_ONLY
    weight_decay: float = 0.0
    v = UNSET

    def update(self, params: Any, grads: Any) -> None:
        """Take a step."""
        if self.m is None:
            self.m, self.v = zeros(params), zeros(params, blocks)
        self.iter += 1
        lr_t, eps_t = self.corrected()
        for key, _, g in triples(params, grads):
            if g.size:
                v = self.v[key]
                sums = row_totals(np.square(double(g)).reshape(v.size, -1)).reshape(v.shape)
                v[...] = double(v) + (1 - self.beta2) * (sums / (g.size // v.size) - double(v))
        for key, p, g in triples(params, grads):
            self.m[key] += (1 - self.beta1) * (g - self.m[key])
            divisor = (np.sqrt(double(self.v[key])) + eps_t).astype(g.dtype)
            put(params, key, (1 - self.lr * self.weight_decay) * p - lr_t * self.m[key] / divisor)


def blocks(param: Any) -> tuple[int, ...]:
    """Return the shape of AdaMini's v."""
    shape = np.shape(param)
    return (*shape[:1], *one(param)[1:]) if len(shape) > 1 else one(param)


@dataclass(eq=False)
class AdamP(Moments):
    """AdamW without the part of the step along the parameter, if the gradient is at right angles to it.

    m ← m + (1 − β₁)·(g − m)
    v ← v + (1 − β₂)·(g² − v)
    u = m / (√v + eps_t)
    u = u − (the part of u along p)
    p ← (1 − lr·weight_decay·wd_ratio)·p − lr_t·u

    where lr_t = lr·√(1 − β₂ᵗ) / (1 − β₁ᵗ) and eps_t = eps·√(1 − β₂ᵗ)
    The part is taken away for each first index (channel) if |cos(p, g)| < delta / √n in all of them, where n
    is the number of their elements; else for the whole array if it is so there. Else u keeps it, and the
    decay is lr·weight_decay.

    References
    ----------
    Heo et al. 2021, *AdamP: slowing down the slowdown for momentum optimizers on scale-invariant weights*
    (arXiv:2006.08217), algorithm 2; channels as in the authors' code, without its ``nesterov``.
    """

    delta: float = 0.1
    _: KW_ONLY
    wd_ratio: float = 0.1
    weight_decay: float = 0.0

    def update(self, params: Any, grads: Any) -> None:
        """Take a step."""
        self.begin(params)
        lr_t, eps_t = self.corrected()
        factors = {}
        for key, p, g in triples(params, grads):
            self.average(key, g)
            factors[key] = self.parts_along(p, g, self.m[key] / (np.sqrt(self.v[key]) + eps_t))
        for key, p, _ in triples(params, grads):
            u = self.m[key] / (np.sqrt(self.v[key]) + eps_t)
            decay = self.lr * self.weight_decay
            if factors[key] is not None:
                u = u - factors[key] * p
                decay = self.lr * self.weight_decay * self.wd_ratio
            put(params, key, (1 - decay) * p - lr_t * u)

    def parts_along(self, p: np.ndarray, g: np.ndarray, u: np.ndarray) -> np.ndarray | None:
        """Return what p is multiplied by to give the part of u along it, or None if that isn't taken away."""
        for totals in (self.totals_of_channels, self.totals_of_layer) if g.ndim > 1 and g.size else ():
            pg, pu, pp, gg, n = totals(p, g, u)
            norms = np.maximum(np.sqrt(pp), self.eps) * np.maximum(np.sqrt(gg), self.eps)
            if np.max(abs(pg) / norms) < self.delta / sqrt(n):
                factors: np.ndarray = (pu / np.square(np.sqrt(pp) + self.eps)).astype(g.dtype)
                return factors.reshape(-1, *one(p)[1:])
        return None

    @staticmethod
    def totals_of_channels(p: np.ndarray, g: np.ndarray, u: np.ndarray) -> tuple[Any, Any, Any, Any, int]:
        """Return Σpg, Σpu, Σp² and Σg² of each channel, and its number of elements."""
        p, g, u = (double(x).reshape(len(x), -1) for x in (p, g, u))
        return row_totals(p * g), row_totals(p * u), row_totals(p * p), row_totals(g * g), p.shape[1]

    @classmethod
    def totals_of_layer(cls, p: np.ndarray, g: np.ndarray, u: np.ndarray) -> tuple[Any, Any, Any, Any, int]:
        """Return the same of the whole array: the channels, one after the other."""
        *totals, _ = cls.totals_of_channels(p, g, u)
        pg, pu, pp, gg = (np.add.accumulate(x)[-1] for x in totals)
        return pg, pu, pp, gg, p.size
