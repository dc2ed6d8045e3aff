"""Steps for matrices, from products of matrices."""

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, field
from math import sqrt
from typing import Any

import numpy as np

from fastopt.reference.common import norm, pairs, put, triples, zeros

__all__ = ["Muon"]


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
                given = self.ns_coefficients
                iterations = given if isinstance(given[0], tuple) else (given,) * self.ns_steps
                o = newton_schulz(u.T, iterations).T if rows > columns else newton_schulz(u, iterations)
                kept = (1 - self.lr * self.weight_decay) * p
                put(params, key, kept - self.adjusted_lr(rows, columns) * o)

    def adjusted_lr(self, rows: int, columns: int) -> float:
        """Return lr·scale."""
        if self.adjust_lr == "match_rms_adamw":
            return 0.2 * self.lr * sqrt(max(rows, columns))
        ratios = {"original": rows / columns, "fan_out/fan_in": columns / rows, "none": 1}
        return self.lr * sqrt(max(1, ratios[self.adjust_lr]))


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
