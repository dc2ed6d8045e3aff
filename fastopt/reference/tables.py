"""Rules for tables, such as embeddings, of which a step changes some rows."""

from dataclasses import KW_ONLY, dataclass
from typing import Any

import numpy as np

from fastopt.reference.common import UNSET, double, full, one, pairs, put, row_totals, triples

__all__ = ["RowAdaGrad"]


@dataclass(eq=False)
class RowAdaGrad:
    """AdaGrad with one number of h for each first index.

    h ← h + mean of g²
    p ← p − lr_t / (√h + eps)·g

    where lr_t = lr / (1 + (t − 1)·lr_decay)

    References
    ----------
    Duchi, Hazan and Singer 2011, *Adaptive subgradient methods for online learning and stochastic
    optimization*, JMLR 12, section 1.1, by rows as in Lerer et al. 2019, *PyTorch-BigGraph: a large-scale
    graph embedding system* (arXiv:1903.12287).
    """

    lr: float = 0.01
    _: KW_ONLY
    eps: float = 1e-10
    initial_accumulator_value: float = 0.0
    lr_decay: float = 0.0
    iter = 0
    h = UNSET

    def update(self, params: Any, grads: Any) -> None:
        """Take a step."""
        if self.h is None:
            self.h = full(params, self.initial_accumulator_value, lambda p: np.shape(p)[:1] + one(p)[1:])
        self.iter += 1
        lr_t = self.lr / (1 + (self.iter - 1) * self.lr_decay)
        for key, g in pairs(params, grads):
            if g.size:
                h = self.h[key]
                rows = np.square(double(g)).reshape(h.size, -1)
                h[...] = double(h) + (row_totals(rows) / rows.shape[1]).reshape(h.shape)
        for key, p, g in triples(params, grads):
            if p.size:
                put(params, key, p - (lr_t / (np.sqrt(double(self.h[key])) + self.eps)).astype(p.dtype) * g)
