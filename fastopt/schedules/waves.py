"""Schedules along half a wave of the cosine."""

from dataclasses import dataclass
from math import cos, log, pi
from typing import ClassVar

from fastopt.schedules.base import Timed, checked, length

__all__ = ["Cosine", "CosineRestarts", "OneCycle"]


def wave(start: float, end: float, share: float) -> float:
    """Go from start to end along half a wave of the cosine."""
    return end + (start - end) * (1 + cos(pi * share)) / 2


@dataclass(frozen=True)
class Cosine(Timed):
    """Down half a wave: end + (value − end)·(1 + cos(π·c / steps)) / 2, then end.

    optax's ``cosine_decay_schedule``; PyTorch's ``CosineAnnealingLR`` goes up again after its end.

    Parameters
    ----------
    value : float
        At the first step.
    steps : float
        After so many steps, or epochs, it is at its end.
    end : float, default 0
        The last value.

    References
    ----------
    Loshchilov and Hutter 2017, *SGDR: stochastic gradient descent with warm restarts* (arXiv:1608.03983),
    eq. 5.
    """

    value: float = checked()
    steps: float = checked(length)
    end: float = checked(default=0.0)

    def at(self, c: float) -> float:
        """Return the value after c steps, or epochs."""
        return wave(self.value, self.end, min(c / self.steps, 1.0))


@dataclass(frozen=True)
class CosineRestarts(Timed):
    """Cosine annealing with restarts: each period is `Cosine`, ``period_growth`` times as long as the last.

    PyTorch's ``CosineAnnealingWarmRestarts``.

    Parameters
    ----------
    value : float
        At the first step, and at each restart.
    period : float
        Length of the first period in steps, or epochs; greater than 0.
    period_growth : float, default 1
        Length of each period over that of the one before, at least 1.
    end : float, default 0
        What each wave goes down to.

    References
    ----------
    Loshchilov and Hutter 2017, *SGDR: stochastic gradient descent with warm restarts* (arXiv:1608.03983).
    """

    value: float = checked()
    old_names: ClassVar = {"steps": "period", "factor": "period_growth"}
    period: float = checked(length)
    period_growth: float = checked(least=1, default=1.0)
    end: float = checked(default=0.0)

    def at(self, c: float) -> float:
        """Return the value after c steps, or epochs."""
        period, growth = self.period, self.period_growth
        if growth == 1:
            return wave(self.value, self.end, c % period / period)
        # Period n starts at period·(growthⁿ − 1) / (growth − 1). The logarithm may be off in its last bit.
        n = int(log(c * (growth - 1) / period + 1, growth) + 1e-9)
        start = period * (growth**n - 1) / (growth - 1)
        return wave(self.value, self.end, max(c - start, 0.0) / (period * growth**n))


@dataclass(frozen=True)
class OneCycle(Timed):
    """Up, then down far below the start, both along half a wave (PyTorch's ``OneCycleLR``).

    From peak / div_factor to peak, which is reached at c = pct_start·steps − 1, then to
    peak / div_factor / final_div_factor at c = steps − 1, and no further.

    Parameters
    ----------
    peak : float
        The largest value.
    steps : float
        How many steps, or epochs, the cycle has, at least 2.
    pct_start : float, default 0.3
        The share of them that goes up, from above 0 to below 1.
    div_factor : float, default 25
        peak over the first value.
    final_div_factor : float, default 1e4
        The first value over the last. (optax's ``cosine_onecycle_schedule`` has peak over the last.)

    References
    ----------
    Smith and Topin 2018, *Super-convergence* (arXiv:1708.07120).
    """

    peak: float = checked()
    steps: float = checked(above=1)
    pct_start: float = checked(above=0, below=1, default=0.3)
    div_factor: float = checked(above=0, default=25.0)
    final_div_factor: float = checked(above=0, default=1e4)

    def at(self, c: float) -> float:
        """Return the value after c steps, or epochs."""
        # PyTorch counts the steps themselves, of which the last has the last value.
        one = 1 / self.steps_per_epoch
        top, last = self.pct_start * self.steps - one, self.steps - one
        first = self.peak / self.div_factor
        if c < top:
            return wave(first, self.peak, c / top)
        return wave(self.peak, first / self.final_div_factor, min((c - top) / (last - top), 1.0))
