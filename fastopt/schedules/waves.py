"""Schedules along waves: half a one of the cosine, restarts, cycles."""

from dataclasses import dataclass, field
from math import log
from typing import ClassVar

from fastopt.checks import choice
from fastopt.schedules.base import ROUNDING, Timed, checked, count_periods, length, scaled_power
from fastopt.schedules.lines import SHAPES, wave

__all__ = ["Cosine", "CosineRestarts", "Cyclic", "OneCycle"]


def shape_field(default: str) -> str:
    """Return the field for the way from one value to another."""
    result: str = field(default=default, metadata=choice(default, *SHAPES).metadata)
    return result


@dataclass(frozen=True)
class Cosine(Timed):
    """Down half a wave: end + (value − end)·((1 + cos(π·c / steps)) / 2)^power, then end.

    optax's ``cosine_decay_schedule``. PyTorch's ``CosineAnnealingLR`` goes up again after its end, as
    ``Cyclic(value, end, steps, shape="cosine")`` does.

    Parameters
    ----------
    value : float
        At the first step.
    steps : float
        After so many steps, or epochs, it is at its end.
    end : float, default 0
        The last value.
    power : float, default 1
        The exponent of the wave.

    References
    ----------
    Loshchilov and Hutter 2017, *SGDR: stochastic gradient descent with warm restarts* (arXiv:1608.03983),
    eq. 5.

    Examples
    --------
    >>> schedule = fastopt.schedules.Cosine(1.0, 100)
    >>> schedule(1), schedule(51), schedule(101), schedule(1000)
    (1.0, 0.5, 0.0, 0.0)
    """

    value: float = checked()
    steps: float = checked(length)
    end: float = checked(default=0.0)
    power: float = checked(above=0, default=1.0)

    def at(self, c: float) -> float:
        """Return the value after c steps, or epochs."""
        share = min(c / self.steps, 1.0)
        if self.power == 1:
            return wave(self.value, self.end, share)
        return self.end + (self.value - self.end) * wave(1.0, 0.0, share) ** self.power


@dataclass(frozen=True)
class CosineRestarts(Timed):
    """Cosine annealing with restarts: each period is `Cosine`, ``period_growth`` times as long as the last.

    PyTorch's ``CosineAnnealingWarmRestarts``, Keras' ``CosineDecayRestarts``.

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
    peak_decay : float, default 1
        By this factor each wave is lower than the one before: wave n = 0, 1, ... begins at
        end + (value − end)·peak_decayⁿ.

    References
    ----------
    Loshchilov and Hutter 2017, *SGDR: stochastic gradient descent with warm restarts* (arXiv:1608.03983).

    Examples
    --------
    >>> schedule = fastopt.schedules.CosineRestarts(1.0, 100, period_growth=2)
    >>> schedule(51), schedule(101), schedule(201), schedule(301)
    (0.5, 1.0, 0.5, 1.0)
    """

    value: float = checked()
    old_names: ClassVar = {"steps": "period", "factor": "period_growth"}
    period: float = checked(length)
    period_growth: float = checked(least=1, default=1.0)
    end: float = checked(default=0.0)
    peak_decay: float = checked(default=1.0)

    def at(self, c: float) -> float:
        """Return the value after c steps, or epochs."""
        n, share = self.place(c)
        value = self.value
        if self.peak_decay != 1:
            value = self.end + scaled_power(self.value - self.end, self.peak_decay, n)
        return wave(value, self.end, share)

    def place(self, c: float) -> tuple[int, float]:
        """Return the number of the period after c steps, or epochs, and the share of it that is over."""
        period, growth = self.period, self.period_growth
        if growth == 1:
            n = count_periods(c, period)
            return n, max(c - n * period, 0.0) / period

        def start_of(n: int) -> float:
            return period * (growth**n - 1) / (growth - 1)

        # The logarithm may be off in its last bits, and so one period too early or too late.
        n = max(int(log(c * (growth - 1) / period + 1, growth)) - 1, 0)
        while start_of(n + 1) <= c * (1 + ROUNDING):
            n += 1
        return n, max(c - start_of(n), 0.0) / (period * growth**n)


@dataclass(frozen=True)
class Cyclic(Timed):
    """To another value and back, again and again (PyTorch's ``CyclicLR``).

    value + (peak − value)·scale·share, where share goes from 0 to 1 within ``steps_up`` and back within
    ``steps_down``. For the momentum, the peak is below the first value.

    Parameters
    ----------
    value : float
        At the first step, and at the end of each cycle.
    peak : float
        In the middle of the first cycle.
    steps_up : float
        After so many steps, or epochs, it is at its peak.
    steps_down : float, optional
        After so many more it is back; by default ``steps_up``.
    factor : float, default 1
        By this scale, which is 1 at first, changes. PyTorch's mode "triangular2" has 0.5, "exp_range" its
        gamma.
    factor_per : {"cycle", "step"}, default "cycle"
        Whether scale changes after each cycle, as in "triangular2", or all the time: it is then factor^c, as
        in "exp_range".
    shape : {"linear", "cosine"}, default "linear"
        The way there and back: straight, or half a wave each.

    References
    ----------
    Smith 2017, *Cyclical learning rates for training neural networks* (arXiv:1506.01186), section 3.

    Examples
    --------
    >>> schedule = fastopt.schedules.Cyclic(0.0, 1.0, 10)
    >>> schedule(1), schedule(6), schedule(11), schedule(16), schedule(21)
    (0.0, 0.5, 1.0, 0.5, 0.0)
    """

    value: float = checked()
    peak: float = checked()
    steps_up: float = checked(length)
    steps_down: float | None = checked(length, default=None)
    factor: float = checked(default=1.0)
    factor_per: str = field(default="cycle", metadata=choice("cycle", "cycle", "step").metadata)
    shape: str = shape_field("linear")

    def at(self, c: float) -> float:
        """Return the value after c steps, or epochs."""
        up = self.steps_up
        down = up if self.steps_down is None else self.steps_down
        n = count_periods(c, up + down)
        done = max(c - n * (up + down), 0.0)
        share = done / up if done < up else max(1 - (done - up) / down, 0.0)
        scale = 1.0
        if self.factor != 1:
            scale = scaled_power(1.0, self.factor, n if self.factor_per == "cycle" else c)
        return self.value + (self.peak - self.value) * scale * SHAPES[self.shape](0.0, 1.0, share)


@dataclass(frozen=True)
class OneCycle(Timed):
    """Up, then down far below the start, both along half a wave (PyTorch's ``OneCycleLR``).

    From peak / div_factor to peak, which is reached at c = pct_start·steps − 1, then to
    peak / div_factor / final_div_factor at c = steps − 1, and no further. With ``three_phase`` it is at
    peak / div_factor again at c = 2·pct_start·steps − 2.

    PyTorch's also cycles the momentum. Here that has a schedule of its own: from 0.95 to 0.85 and back it is
    ``momentum=OneCycle(0.85, steps, div_factor=0.85 / 0.95, final_div_factor=1)``.

    Parameters
    ----------
    peak : float
        The largest value.
    steps : float
        How many steps, or epochs, the cycle has; at least two steps.
    pct_start : float, default 0.3
        The share of them that goes up, from above 0 to below 1; with ``three_phase`` at most 0.5.
    div_factor : float, default 25
        peak over the first value.
    final_div_factor : float, default 1e4
        The first value over the last. (optax's ``cosine_onecycle_schedule`` has peak over the last.)
    three_phase : bool, default False
        Whether it goes down to the first value as fast as up, and in a third phase to the last.
    shape : {"cosine", "linear"}, default "cosine"
        The way up and down: half a wave each, or straight.

    References
    ----------
    Smith and Topin 2018, *Super-convergence* (arXiv:1708.07120).

    Examples
    --------
    >>> schedule = fastopt.schedules.OneCycle(1.0, 100, div_factor=10)
    >>> round(schedule(1), 9), schedule(30), round(schedule(100), 9)
    (0.1, 1.0, 1e-05)
    """

    peak: float = checked()
    steps: float = checked(length)
    pct_start: float = checked(above=0, below=1, default=0.3)
    div_factor: float = checked(above=0, default=25.0)
    final_div_factor: float = checked(above=0, default=1e4)
    three_phase: bool = field(default=False, metadata=choice(False, False, True).metadata)
    shape: str = shape_field("cosine")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.steps * self.steps_per_epoch <= 1:
            least = "1" if self.steps_per_epoch == 1 else f"1/{self.steps_per_epoch} of an epoch"
            raise ValueError(f"steps must be above {least} and finite, not {self.steps:g}")
        if self.three_phase and self.pct_start > 0.5:
            raise ValueError(f"pct_start must be at most 0.5 with three_phase, not {self.pct_start:g}")

    def at(self, c: float) -> float:
        """Return the value after c steps, or epochs."""
        # PyTorch counts the steps themselves, of which the last has the last value.
        one = 1 / self.steps_per_epoch
        top, last = self.pct_start * self.steps - one, self.steps - one
        first = self.peak / self.div_factor
        phases = [(top, self.peak), (last, first / self.final_div_factor)]
        if self.three_phase:
            phases.insert(1, (2 * top, first))
        begin, start = 0.0, first
        for end, value in phases[:-1]:
            if c < end:
                return SHAPES[self.shape](start, value, (c - begin) / (end - begin))
            begin, start = end, value
        end, value = phases[-1]
        return SHAPES[self.shape](start, value, min((c - begin) / (end - begin), 1.0))
