"""What several rules share."""

from collections.abc import Hashable
from math import sqrt
from typing import Any

import numpy as np

from fastopt.engine.engine import Engine

__all__ = ["BiasCorrected", "ScheduleFree", "averaging"]


def averaging(t: int, warmup: int, lr: float) -> tuple[float, float]:
    """Give the weight of step t in the average of the schedule-free rules, and the learning rate."""
    # The sum of the squares of the factors so far, which are i / warmup, then 1.
    rising = min(t, warmup)
    total = 0.0
    if warmup:
        total = rising * (rising + 1) * (2 * rising + 1) / (6 * warmup * warmup)
    total += t - rising
    factor = min(t / warmup, 1.0) if warmup else 1.0
    return factor * factor / total, lr * factor


class ScheduleFree:
    """What the schedule-free rules share: the average that they keep."""

    engine: Engine

    def own_average(self, view: Any, key: Hashable, param: np.ndarray) -> np.ndarray:
        """Return x = (p − (1 − β)·z) / β, with the β of the parameter's group."""
        z = self.engine.memory.views("z")[key]
        result: np.ndarray = (param - (1 - view.beta) * z) / view.beta
        return result


class BiasCorrected:
    """What the rules share that add eps to the root of the corrected v, or to what stands for it."""

    lr: float
    beta1: float
    beta2: float
    eps: float

    def scalars(self, t: int) -> tuple[float, ...]:
        """Give 1 − β₁, 1 − β₂, lr_t and eps·√(1 − β₂ᵗ)."""
        beta1, beta2 = self.beta1, self.beta2
        root = sqrt(1.0 - beta2**t)
        return 1.0 - beta1, 1.0 - beta2, self.lr * root / (1.0 - beta1**t), self.eps * root
