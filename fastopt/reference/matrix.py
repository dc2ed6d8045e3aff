"""Steps for matrices, from products of matrices."""

from dataclasses import KW_ONLY, dataclass, field
from math import sqrt
from typing import Any

import numpy as np

from fastopt.reference.common import norm, pairs, put, triples, zeros

__all__ = ["Muon"]


@dataclass(eq=False)
class Muon:
    """m ← m + (1 − μ)(g − m); u = g + μ·(m − g); p ← (1 − lr·weight_decay)·p − (lr·scale)·o.

    o is u / max(‖u‖, eps) after Newton-Schulz iterations, which bring its singular values near to 1;
    scale = √max(1, rows / columns).
    """

    lr: float = 0.001
    momentum: float = 0.95
    _: KW_ONLY
    weight_decay: float = 0.1
    ns_steps: int = 5
    eps: float = 1e-7
    m: Any = field(init=False, default=None)

    def update(self, params: Any, grads: Any) -> None:
        """Take a step."""
        if self.m is None:
            self.m = zeros(params)
        directions = {}
        for key, g in pairs(params, grads):
            self.m[key] += (1 - self.momentum) * (g - self.m[key])
            u = g + self.momentum * (self.m[key] - g)
            directions[key] = u / max(norm(u), self.eps)
        for key, p, _ in triples(params, grads):
            u = directions[key]
            rows, columns = u.shape
            if u.size:
                o = newton_schulz(u.T, self.ns_steps).T if rows > columns else newton_schulz(u, self.ns_steps)
                scale = sqrt(max(1, rows / columns))
                put(params, key, (1 - self.lr * self.weight_decay) * p - self.lr * scale * o)


def newton_schulz(x: np.ndarray, steps: int) -> np.ndarray:
    """X ← a·x + (b·A + c·A·A)·x, where A = x·xᵀ; for a matrix with no more rows than columns."""
    # What BLAS rounds depends on the call: these calls, in this order, on arrays in C order.
    x = np.array(x, order="C")
    gram, polynomial = np.empty((2, len(x), len(x)), x.dtype)
    product = np.empty_like(x)
    for _ in range(steps):
        np.matmul(x, x.T, out=gram)
        np.matmul(gram, gram, out=polynomial)
        np.multiply(polynomial, 2.0315, out=polynomial)
        np.multiply(gram, -4.7750, out=gram)
        np.add(gram, polynomial, out=polynomial)
        np.matmul(polynomial, x, out=product)
        np.multiply(x, 3.4445, out=x)
        np.add(x, product, out=x)
    return x
