"""What several rules share."""

from collections.abc import Hashable
from typing import Any

import numpy as np

from fastopt.engine.engine import Engine

__all__ = ["ScheduleFree", "averaging"]


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
