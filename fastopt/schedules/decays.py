"""Schedules that fall, by steps or smoothly."""

from dataclasses import dataclass
from functools import partial
from math import sqrt

from fastopt.checks import number
from fastopt.schedules.base import Timed, check_boundaries, checked, length, several

__all__ = ["Constant", "Exponential", "InverseSqrt", "Linear", "Piecewise", "Polynomial", "Step"]


@dataclass(frozen=True)
class Constant(Timed):
    """The same at every step.

    Parameters
    ----------
    value : float
        The value.
    """

    value: float = checked()

    def at(self, c: float) -> float:
        """Return the value after c steps, or epochs."""
        return self.value


@dataclass(frozen=True)
class Step(Timed):
    """Smaller by a factor every so many steps: value·factorⁿ, n = ⌊c / steps⌋ (PyTorch's ``StepLR``).

    Parameters
    ----------
    value : float
        At the first step.
    steps : float
        After so many steps, or epochs, it changes.
    factor : float, default 0.1
        By this.
    """

    value: float = checked()
    steps: float = checked(length)
    factor: float = checked(default=0.1)

    def at(self, c: float) -> float:
        """Return the value after c steps, or epochs."""
        return self.value * self.factor ** (c // self.steps)


@dataclass(frozen=True)
class Piecewise(Timed):
    """A constant between any two boundaries: values[n], where n is the number of boundaries at most c.

    optax's ``piecewise_constant_schedule`` and PyTorch's ``MultiStepLR`` have the quotients of the values
    instead.

    Parameters
    ----------
    boundaries : list of float
        The values change after so many steps, or epochs; increasing.
    values : list of float
        One more than there are boundaries.
    """

    boundaries: tuple[float, ...] = checked(partial(several, length))
    values: tuple[float, ...] = checked(partial(several, number))

    def __post_init__(self) -> None:
        super().__post_init__()
        check_boundaries(self.boundaries, "values", len(self.values))

    def at(self, c: float) -> float:
        """Return the value after c steps, or epochs."""
        return self.values[sum(boundary <= c for boundary in self.boundaries)]


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
    """

    value: float = checked()
    factor: float = checked(above=0)
    steps: float = checked(length, default=1)

    def at(self, c: float) -> float:
        """Return the value after c steps, or epochs."""
        return self.value * self.factor ** (c / self.steps)


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
    """

    value: float = checked()
    steps: float = checked(length)
    end: float = checked(default=0.0)
    power: float = checked(above=0, default=1.0)

    def at(self, c: float) -> float:
        """Return the value after c steps, or epochs."""
        return self.end + (self.value - self.end) * (1 - min(c / self.steps, 1.0)) ** self.power


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
    """

    value: float = checked()
    steps: float = checked(length)
    end: float = checked(default=0.0)

    def at(self, c: float) -> float:
        """Return the value after c steps, or epochs."""
        return self.end + (self.value - self.end) * (1 - min(c / self.steps, 1.0))


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
    """

    value: float = checked()
    steps: float = checked(length)

    def at(self, c: float) -> float:
        """Return the value after c steps, or epochs."""
        return self.value * sqrt(self.steps / (self.steps + c))
