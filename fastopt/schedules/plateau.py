"""The schedule that goes by a metric."""

from dataclasses import KW_ONLY, dataclass, field
from math import isfinite
from typing import ClassVar

from fastopt.checks import choice, integer, number
from fastopt.schedules.base import Schedule, checked

__all__ = ["Plateau"]


@dataclass
class Plateau(Schedule):
    """Smaller by a factor whenever a metric has stopped improving (PyTorch's ``ReduceLROnPlateau``).

    It knows nothing of steps: call `report` with the metric, once an epoch, say. A value improves on the best
    so far if it is below best − threshold·|best|; with ``mode="max"``, if it is above
    best + threshold·|best|. (PyTorch has best instead of its magnitude, and so takes values that are worse
    than a negative best for better ones.)

    Parameters
    ----------
    value : float
        At first; later what it is by now.
    factor : float, default 0.1
        By this it gets smaller, below 1.
    patience : int, default 10
        How many reports without improvement are let pass.
    threshold : float, default 1e-4
        A smaller improvement is none. It is relative, and below 1, unless ``threshold_mode`` is "abs".
    cooldown : int, default 0
        For so many reports after a change nothing is counted.
    end : float, default 0
        The smallest value. (A ``value`` that is smaller from the first stays.)
    mode : {"min", "max"}, default "min"
        Whether a smaller metric is better, or a larger one.
    threshold_mode : {"rel", "abs"}, default "rel"
        Whether the threshold is relative, or absolute: threshold itself in the place of threshold·|best|
        (Keras' ``min_delta``).
    eps : float, default 0
        A reduction by no more than this isn't made. (PyTorch: 1e-8.)

    Attributes
    ----------
    best : float
        The best metric so far.
    n_bad_reports : int
        Number of reports since the last improvement or reduction.
    cooling : int
        How many reports of the cooldown are left.

    Examples
    --------
    >>> schedule = fastopt.schedules.Plateau(0.1, factor=0.5, patience=1)
    >>> for loss in (1.0, 1.0, 1.0):
    ...     schedule.report(loss)
    >>> schedule(1)
    0.05
    """

    old_names: ClassVar = {"larger": "mode", "bad": "n_bad_reports"}
    value: float = checked()
    factor: float = checked(below=1, default=0.1)
    patience: int = checked(integer, default=10)
    threshold: float = checked(default=1e-4)
    cooldown: int = checked(integer, default=0)
    end: float = checked(default=0.0)
    mode: str = field(default="min", metadata=choice("min", "min", "max").metadata)
    _: KW_ONLY
    threshold_mode: str = field(default="rel", metadata=choice("rel", "rel", "abs").metadata)
    eps: float = checked(default=0.0)
    best: float | None = None
    n_bad_reports: int = checked(integer, default=0)
    cooling: int = checked(integer, default=0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.threshold_mode == "rel":
            number("threshold", self.threshold, below=1)

    def __call__(self, t: int) -> float:
        """Return the value, which is the same at any step."""
        return self.value

    def report(self, metric: float) -> None:
        """Take a new value of the metric; one that isn't finite is no improvement."""
        metric = float(metric)
        if isfinite(metric) and self.is_better(metric):
            self.best, self.n_bad_reports = metric, 0
        else:
            self.n_bad_reports += 1
        if self.cooling:
            self.cooling, self.n_bad_reports = self.cooling - 1, 0
        if self.n_bad_reports > self.patience:
            smaller = max(self.value * self.factor, self.end)
            if self.value - smaller > self.eps:
                self.value = smaller
            self.cooling, self.n_bad_reports = self.cooldown, 0

    def is_better(self, metric: float) -> bool:
        """Whether a metric improves on the best."""
        best, sign = self.best, -1 if self.mode == "min" else 1
        if best is None:
            return True
        if self.threshold_mode == "abs":
            bound = best + sign * self.threshold
        else:
            bound = best * (1 + sign * self.threshold * (1 if best >= 0 else -1))
        return sign * metric > sign * bound
