"""Steps for matrices, from products of matrices."""

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, field
from math import sqrt
from typing import Any

import numpy as np

from fastopt.reference.common import norm, pairs, put, triples, zeros

__all__ = ["AdaMuon", "Muon"]


@dataclass(eq=False)
class Muon:
    """m ← m + (1 − μ)(g − m); u = g + μ·(m − g); p ← (1 − lr·weight_decay)·p − (lr·scale)·o.

    Without nesterov u = m. o is u / max(‖u‖, eps) after Newton-Schulz iterations, which bring its singular
    values near to 1. scale is √max(1, rows / columns), or as adjust_lr says.
    """

    lr: float = 0.001
    momentum: float = 0.95
    _: KW_ONLY
    weight_decay: float = 0.1
    ns_steps: int = 5
    nesterov: bool = True
    ns_coefficients: tuple[Any, ...] = (3.4445, -4.7750, 2.0315)
    adjust_lr: str = "original"
    eps: float = 1e-7
    m: Any = field(init=False, default=None)

    def update(self, params: Any, grads: Any) -> None:
        """Take a step."""
        if self.m is None:
            self.m = zeros(params)
        directions = {}
        for key, g in pairs(params, grads):
            self.m[key] += (1 - self.momentum) * (g - self.m[key])
            u = g + self.momentum * (self.m[key] - g) if self.nesterov else self.m[key]
            directions[key] = u / max(norm(u), self.eps)
        for key, p, _ in triples(params, grads):
            u = directions[key]
            rows, columns = u.shape
            if u.size:
                o = orthogonal(u, self.ns_coefficients, self.ns_steps)
                kept = (1 - self.lr * self.weight_decay) * p
                put(params, key, kept - self.adjusted_lr(rows, columns) * o)

    def adjusted_lr(self, rows: int, columns: int) -> float:
        """Return lr·scale."""
        if self.adjust_lr == "match_rms_adamw":
            return 0.2 * self.lr * sqrt(max(rows, columns))
        ratios = {"original": rows / columns, "fan_out/fan_in": columns / rows, "none": 1}
        return self.lr * sqrt(max(1, ratios[self.adjust_lr]))


@dataclass(eq=False)
class AdaMuon:
    """m ← m + (1 − μ)(g − m); u = g + μ·(m − g); v ← v + (1 − β₂)(o² − v); d = o / (√v + eps); p as below.

    Without nesterov u = m. o is sign(u) / (‖sign(u)‖ + 10⁻⁷) after Newton-Schulz iterations.
    p ← (1 − lr·weight_decay)·p − (0.2·lr·√(rows·columns) / (‖d‖ + eps))·d
    """

    lr: float = 0.02
    momentum: float = 0.95
    beta2: float = 0.95
    _: KW_ONLY
    weight_decay: float = 0.01
    ns_steps: int = 5
    nesterov: bool = True
    ns_coefficients: tuple[Any, ...] = (3.4445, -4.7750, 2.0315)
    eps: float = 1e-8
    m: Any = field(init=False, default=None)
    v: Any = field(init=False, default=None)

    def update(self, params: Any, grads: Any) -> None:
        """Take a step."""
        if self.m is None:
            self.m, self.v = zeros(params), zeros(params)
        for key, p, g in triples(params, grads):
            self.m[key] += (1 - self.momentum) * (g - self.m[key])
            u = np.sign(g + self.momentum * (self.m[key] - g) if self.nesterov else self.m[key])
            u = u / (norm(u) + 1e-7)
            o = orthogonal(u, self.ns_coefficients, self.ns_steps) if u.size else u
            self.v[key] += (1 - self.beta2) * (o * o - self.v[key])
            d = o / (np.sqrt(self.v[key]) + self.eps)
            length = 0.2 * self.lr * sqrt(u.size) / (norm(d) + self.eps)
            put(params, key, (1 - self.lr * self.weight_decay) * p - length * d)


def orthogonal(u: np.ndarray, coefficients: tuple[Any, ...], steps: int) -> np.ndarray:
    """Return a matrix after its iterations: those of three coefficients, or a set of these for each."""
    iterations = coefficients if isinstance(coefficients[0], tuple) else (coefficients,) * steps
    is_tall = len(u) > u.shape[1]
    return newton_schulz(u.T, iterations).T if is_tall else newton_schulz(u, iterations)


def newton_schulz(x: np.ndarray, iterations: Sequence[tuple[float, float, float]]) -> np.ndarray:
    """X ← a·x + (b·A + c·A·A)·x, where A = x·xᵀ; for a matrix with no more rows than columns."""
    # What BLAS rounds depends on the call: these calls, in this order, on arrays in C order.
    x = np.array(x, order="C")
    gram, polynomial = np.empty((2, len(x), len(x)), x.dtype)
    product = np.empty_like(x)
    for a, b, c in iterations:
        np.matmul(x, x.T, out=gram)
        np.matmul(gram, gram, out=polynomial)
        np.multiply(polynomial, c, out=polynomial)
        np.multiply(gram, b, out=gram)
        np.add(gram, polynomial, out=polynomial)
        np.matmul(polynomial, x, out=product)
        np.multiply(x, a, out=x)
        np.add(x, product, out=x)
    return x
