"""What several rules share."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from fastopt.plan import align

__all__ = ["Averaging", "averaging", "coasting"]


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


def coasting(mu: float, steps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Give μ + μ² + … + μⁿ and μⁿ."""
    left = mu**steps
    return steps if mu == 1 else mu * (1 - left) / (1 - mu), left


class Averaging:
    """What can be asked of a schedule-free rule."""

    beta: float
    z: Any

    def average(self, params: Any) -> Any:
        """Give the averaged parameters, to be used for predictions; the training goes on from ``params``.

        x = (p − (1 − β)·z) / β

        Parameters
        ----------
        params : dict or list
            What `update` has stepped on.

        Returns
        -------
        dict or list
            New arrays.
        """
        keys, values, _ = align(params, params)
        z = self.z
        new = [
            np.asarray(value).copy()
            if z is None
            else ((value - (1 - self.beta) * z[key]) / self.beta).astype(np.asarray(value).dtype)
            for key, value in zip(keys, values, strict=True)
        ]
        return dict(zip(keys, new, strict=True)) if isinstance(params, Mapping) else new
