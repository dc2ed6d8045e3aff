"""The schedule that goes by a metric."""

from dataclasses import KW_ONLY, dataclass, field
from math import inf, isfinite
from typing import ClassVar

from fastopt.checks import choice, integer
from fastopt.schedules.base import Schedule, checked

__all__ = ["Plateau"]


@dataclass
class Plateau(Schedule):
    """Smaller by a factor whenever a metric has stopped improving (PyTorch's ``ReduceLROnPlateau``).

    It knows nothing of steps: call `report` with the metric, once an epoch, say. A value improves on the best
    so far if it is below best·(1 − threshold); with ``mode="max"``, if it is above best·(1 + threshold).

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
    mode : {"min", "max"}, default "min"
        Whether a smaller metric is better, or a larger one.

    Attributes
    ----------
    best : float
        The best metric so far.
    n_bad_reports : int
        Number of reports since the last improvement or reduction.
    cooling : int
        How many reports of the cooldown are left.
    """

    old_names: ClassVar = {"larger": "mode", "bad": "n_bad_reports"}
    value: float = checked()
    factor: float = checked(below=1, default=0.1)
    patience: int = checked(integer, default=10)
    threshold: float = checked(below=1, default=1e-4)
    cooldown: int = checked(integer, default=0)
    end: float = checked(default=0.0)
    mode: str = field(default="min", metadata=choice("min", "min", "max").metadata)
    _: KW_ONLY
    best: float | None = None
    n_bad_reports: int = checked(integer, default=0)
    cooling: int = checked(integer, default=0)

    def __call__(self, t: int) -> float:
        """Return the value, which is the same at any step."""
        return self.value

    def report(self, metric: float) -> None:
        """Take a new value of the metric; one that isn't finite is no improvement."""
        metric = float(metric)
        is_max = self.mode == "max"
        best = (-inf if is_max else inf) if self.best is None else self.best
        bound = best * (1 + self.threshold) if is_max else best * (1 - self.threshold)
        if isfinite(metric) and (metric > bound if is_max else metric < bound):
            self.best, self.n_bad_reports = metric, 0
        else:
            self.n_bad_reports += 1
        if self.cooling:
            self.cooling, self.n_bad_reports = self.cooling - 1, 0
        if self.n_bad_reports > self.patience:
            self.value = max(self.value * self.factor, self.end)
            self.cooling, self.n_bad_reports = self.cooldown, 0
