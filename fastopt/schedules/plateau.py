"""The schedule that goes by a metric."""

from dataclasses import KW_ONLY, dataclass
from math import inf, isfinite

from fastopt.checks import integer
from fastopt.schedules.base import Schedule, checked

__all__ = ["Plateau"]


@dataclass
class Plateau(Schedule):
    """Smaller by a factor whenever a metric has stopped improving (PyTorch's ``ReduceLROnPlateau``).

    It knows nothing of steps: call `report` with the metric, once an epoch, say. A value improves on the best
    so far if it is below best·(1 − threshold); with ``larger=True``, if it is above best·(1 + threshold).

    Parameters
    ----------
    value : float
        At first; later what it is by now.
    factor : float, default 0.1
        By this it gets smaller, below 1.
    patience : int, default 10
        How many reports without improvement are let pass.
    threshold : float, default 1e-4
        Relative; a smaller improvement is none.
    cooldown : int, default 0
        For so many reports after a change nothing is counted.
    end : float, default 0
        The smallest value.
    larger : bool, default False
        Whether larger is better.

    Attributes
    ----------
    best : float
        The best metric so far.
    bad : int
        How many reports have passed without improvement.
    cooling : int
        How many reports of the cooldown are left.
    """

    value: float = checked()
    factor: float = checked(below=1, default=0.1)
    patience: int = checked(integer, default=10)
    threshold: float = checked(below=1, default=1e-4)
    cooldown: int = checked(integer, default=0)
    end: float = checked(default=0.0)
    larger: bool = False
    _: KW_ONLY
    best: float | None = None
    bad: int = checked(integer, default=0)
    cooling: int = checked(integer, default=0)

    def __call__(self, t: int) -> float:
        """Return the value, which is the same at any step."""
        return self.value

    def report(self, metric: float) -> None:
        """Take a new value of the metric; one that isn't finite is no improvement."""
        metric = float(metric)
        best = (-inf if self.larger else inf) if self.best is None else self.best
        bound = best * (1 + self.threshold) if self.larger else best * (1 - self.threshold)
        if isfinite(metric) and (metric > bound if self.larger else metric < bound):
            self.best, self.bad = metric, 0
        else:
            self.bad += 1
        if self.cooling:
            self.cooling, self.bad = self.cooling - 1, 0
        if self.bad > self.patience:
            self.value = max(self.value * self.factor, self.end)
            self.cooling, self.bad = self.cooldown, 0
