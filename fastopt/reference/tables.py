"""Rules for tables, such as embeddings, of which a step changes some rows."""

from dataclasses import KW_ONLY, dataclass, field
from typing import Any

import numpy as np

from fastopt.reference.common import double, full, one, pairs, put, row_totals, triples

__all__ = ["RowAdaGrad"]


@dataclass(eq=False)
class RowAdaGrad:
    """h ← h + mean(g²) for each index along the first dimension; p ← p − (lr_t / (√h + eps))·g.

    lr_t = lr / (1 + (t − 1)·lr_decay)
    """

    lr: float = 0.01
    _: KW_ONLY
    eps: float = 1e-10
    initial_accumulator_value: float = 0.0
    lr_decay: float = 0.0
    iter: int = field(init=False, default=0)
    h: Any = field(init=False, default=None)

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
