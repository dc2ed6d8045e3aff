"""Schedules that fall, by steps or smoothly."""

from dataclasses import dataclass, field
from functools import partial
from math import sqrt

from fastopt.checks import choice, number
from fastopt.schedules.base import (
    ROUNDING,
    Timed,
    check_boundaries,
    checked,
    count_periods,
    length,
    scaled_power,
    several,
)
from fastopt.schedules.lines import SHAPES

__all__ = [
    "Constant",
    "Exponential",
    "InverseSqrt",
    "InverseTime",
    "Linear",
    "Piecewise",
    "Polynomial",
    "Step",
]


@dataclass(frozen=True)
class Constant(Timed):
    """The same at every step.

    Parameters
    ----------
    value : float
        The value.

    Examples
    --------
    >>> schedule = fastopt.schedules.Constant(0.1)
    >>> schedule(1), schedule(1000)
    (0.1, 0.1)
    """

    value: float = checked()

    def at(self, c: float) -> float:
        """Return the value after c steps, or epochs."""
        return self.value


def bounded(value: float, factor: float, end: float | None) -> float:
    """Return a value that factors of one size lead to, no further than the end."""
    if end is None:
        return value
    return max(value, end) if factor < 1 else min(value, end)


@dataclass(frozen=True)
class Step(Timed):
    """Smaller by a factor every so many steps: value·factorⁿ, n = ⌊c / steps⌋ (PyTorch's ``StepLR``).

    optax's ``exponential_decay`` with ``staircase``.

    Parameters
    ----------
    value : float
        At the first step.
    steps : float
        After so many steps, or epochs, it changes.
    factor : float, default 0.1
        By this.
    end : float, optional
        The smallest value, or, with a factor of at least 1, the largest.

    Examples
    --------
    >>> schedule = fastopt.schedules.Step(1.0, 30, factor=0.5)
    >>> schedule(30), schedule(31), schedule(61)
    (1.0, 0.5, 0.25)
    """

    value: float = checked()
    steps: float = checked(length)
    factor: float = checked(default=0.1)
    end: float | None = checked(default=None)

    def at(self, c: float) -> float:
        """Return the value after c steps, or epochs."""
        value = scaled_power(self.value, self.factor, count_periods(c, self.steps))
        return bounded(value, self.factor, self.end)


@dataclass(frozen=True)
class Piecewise(Timed):
    """Values at boundaries: constant between any two, or interpolated.

    If they are constant, the value is values[n], where n is the number of boundaries at most c: optax's
    ``piecewise_constant_schedule`` and PyTorch's ``MultiStepLR`` have the quotients of the values instead. If
    they are interpolated, values[0] is that of the first step, values[n] that of boundaries[n − 1], and the
    last one stays (optax's ``piecewise_interpolate_schedule`` and ``linear_onecycle_schedule``).

    Parameters
    ----------
    boundaries : list of float
        Numbers of steps, or epochs; increasing.
    values : list of float
        One more than there are boundaries.
    interpolation : {"constant", "linear", "cosine"}, default "constant"
        How the value goes from one to the next.

    Examples
    --------
    >>> schedule = fastopt.schedules.Piecewise([100, 200], [0.1, 0.01, 0.001])
    >>> schedule(100), schedule(101), schedule(201)
    (0.1, 0.01, 0.001)
    """

    boundaries: tuple[float, ...] = checked(partial(several, length))
    values: tuple[float, ...] = checked(partial(several, number))
    interpolation: str = field(
        default="constant", metadata=choice("constant", "constant", "linear", "cosine").metadata
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check_boundaries(self.boundaries, "values", len(self.values))

    def at(self, c: float) -> float:
        """Return the value after c steps, or epochs."""
        n = sum(boundary <= c * (1 + ROUNDING) for boundary in self.boundaries)
        if self.interpolation == "constant" or n == len(self.boundaries):
            return self.values[n]
        start, end = self.boundaries[n - 1] if n else 0.0, self.boundaries[n]
        share = max(c - start, 0.0) / (end - start)
        return SHAPES[self.interpolation](self.values[n], self.values[n + 1], share)


@dataclass(frozen=True)
class Exponential(Timed):
    """Falling all the time: value·factor^(c / steps) (optax's ``exponential_decay``).

    Parameters
    ----------
    value : float
        At the first step.
    factor : float
        By this it is smaller after ``steps``.
    steps : float, default 1
        A number of steps, or epochs.
    end : float, optional
        The smallest value, or, with a factor of at least 1, the largest.

    Examples
    --------
    >>> schedule = fastopt.schedules.Exponential(1.0, 0.5, steps=10)
    >>> schedule(1), schedule(11), schedule(21)
    (1.0, 0.5, 0.25)
    """

    value: float = checked()
    factor: float = checked(above=0)
    steps: float = checked(length, default=1)
    end: float | None = checked(default=None)

    def at(self, c: float) -> float:
        """Return the value after c steps, or epochs."""
        return bounded(scaled_power(self.value, self.factor, c / self.steps), self.factor, self.end)


@dataclass(frozen=True)
class Polynomial(Timed):
    """To another value: end + (value − end)·(1 − c / steps)^power, then end.

    optax's ``polynomial_schedule``, PyTorch's ``PolynomialLR``.

    Parameters
    ----------
    value : float
        At the first step.
    steps : float
        After so many steps, or epochs, it is at its end.
    end : float, default 0
        The last value.
    power : float, default 1
        The exponent.
    cycle : bool, default False
        Whether it goes on after its end, with ⌈c / steps⌉ times the steps: so it jumps up again, but less
        each time (Keras' ``PolynomialDecay``).

    Examples
    --------
    >>> schedule = fastopt.schedules.Polynomial(1.0, 10, power=2)
    >>> schedule(1), schedule(6), schedule(11)
    (1.0, 0.25, 0.0)
    """

    value: float = checked()
    steps: float = checked(length)
    end: float = checked(default=0.0)
    power: float = checked(above=0, default=1.0)
    cycle: bool = field(default=False, metadata=choice(False, False, True).metadata)

    def at(self, c: float) -> float:
        """Return the value after c steps, or epochs."""
        steps = self.steps
        if self.cycle and c > steps:
            n = count_periods(c, steps)
            steps *= n if n * steps >= c * (1 - ROUNDING) else n + 1
        return self.end + (self.value - self.end) * (1 - min(c / steps, 1.0)) ** self.power


@dataclass(frozen=True)
class Linear(Timed):
    """In a straight line to another value: end + (value − end)·(1 − c / steps), then end.

    optax's ``linear_schedule``, PyTorch's ``LinearLR``.

    Parameters
    ----------
    value : float
        At the first step.
    steps : float
        After so many steps, or epochs, it is at its end.
    end : float, default 0
        The last value.

    Examples
    --------
    >>> schedule = fastopt.schedules.Linear(1.0, 100, end=0.5)
    >>> schedule(1), schedule(51), schedule(101), schedule(1000)
    (1.0, 0.75, 0.5, 0.5)
    """

    value: float = checked()
    steps: float = checked(length)
    end: float = checked(default=0.0)

    def at(self, c: float) -> float:
        """Return the value after c steps, or epochs."""
        return self.end + (self.value - self.end) * (1 - min(c / self.steps, 1.0))


@dataclass(frozen=True)
class InverseTime(Timed):
    """Falling with time: value / (1 + rate·c / steps)^power (Keras' ``InverseTimeDecay``).

    Parameters
    ----------
    value : float
        At the first step.
    rate : float
        How fast it falls.
    steps : float, default 1
        A number of steps, or epochs.
    power : float, default 1
        The exponent; with 0.5 and rate 1 it falls with the root of the steps.
    staircase : bool, default False
        Whether it falls every ``steps`` only: ⌊c / steps⌋ takes the place of c / steps.

    Examples
    --------
    >>> schedule = fastopt.schedules.InverseTime(1.0, 0.5)
    >>> schedule(1), schedule(3), schedule(7)
    (1.0, 0.5, 0.25)
    """

    value: float = checked()
    rate: float = checked()
    steps: float = checked(length, default=1)
    power: float = checked(above=0, default=1.0)
    staircase: bool = field(default=False, metadata=choice(False, False, True).metadata)

    def at(self, c: float) -> float:
        """Return the value after c steps, or epochs."""
        n = count_periods(c, self.steps) if self.staircase else c / self.steps
        return self.value / (1 + self.rate * n) ** self.power


@dataclass(frozen=True)
class InverseSqrt(Timed):
    """Falling with the root of time: value·√(steps / (steps + c)).

    After a warm-up of as many steps it is the schedule of the transformer: value·√(steps / all steps so far).

    Parameters
    ----------
    value : float
        At the first step.
    steps : float
        After three times so many steps, or epochs, it is the half.

    References
    ----------
    Vaswani et al. 2017, *Attention is all you need* (arXiv:1706.03762), eq. 3.

    Examples
    --------
    >>> schedule = fastopt.schedules.InverseSqrt(1.0, 100)
    >>> schedule(1), schedule(301), schedule(1501)
    (1.0, 0.5, 0.25)
    """

    value: float = checked()
    steps: float = checked(length)

    def at(self, c: float) -> float:
        """Return the value after c steps, or epochs."""
        return self.value * sqrt(self.steps / (self.steps + c))
