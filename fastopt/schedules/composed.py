"""Schedules made of others."""

from dataclasses import dataclass
from functools import partial
from math import prod

from fastopt.checks import number
from fastopt.schedules.base import (
    Schedule,
    StepFunction,
    Timed,
    check_boundaries,
    check_schedule,
    checked,
    several,
)

__all__ = ["Join", "Product", "Warmup"]


@dataclass(frozen=True)
class Warmup(Timed):
    """In a straight line to the first value of another schedule, then that schedule from its beginning.

    optax's ``warmup_cosine_decay_schedule`` counts it among its ``decay_steps``; here they come after it.

    Parameters
    ----------
    schedule : Schedule or function
        What follows; if it counts epochs, it has a ``steps_per_epoch`` of its own.
    steps : float
        After so many steps, or epochs, it follows; with 0 at once.
    start : float, default 0
        At the first step.

    Examples
    --------
    >>> schedule = fastopt.schedules.Warmup(fastopt.schedules.Linear(0.1, 1000), 100)
    >>> schedule(1), schedule(51), schedule(101), schedule(1101)
    (0.0, 0.05, 0.1, 0.0)
    """

    schedule: StepFunction = checked(check_schedule)  # noqa: RUF009 (it gives a field)
    steps: float = checked()
    start: float = checked(default=0.0)

    def __call__(self, t: int) -> float:
        """Return the value at step t = 1, 2, ..."""
        steps = round(self.steps * self.steps_per_epoch)
        if t > steps:
            return self.schedule(t - steps)
        return self.start + (self.schedule(1) - self.start) * ((t - 1) / steps)


@dataclass(frozen=True)
class Join(Timed):
    """One schedule after the other, each from its beginning (optax's ``join_schedules``).

    Parameters
    ----------
    schedules : list of Schedule or function
        If they count epochs, they have a ``steps_per_epoch`` of their own.
    boundaries : list of float
        After so many steps, or epochs, the next one begins; increasing. The first may be 0: then the first
        schedule isn't used.

    Examples
    --------
    >>> from fastopt.schedules import Constant, Join, Linear
    >>> schedule = Join([Constant(0.1), Linear(0.1, 100)], [50])
    >>> schedule(50), schedule(51), schedule(101), schedule(151)
    (0.1, 0.1, 0.05, 0.0)
    """

    schedules: tuple[StepFunction, ...] = checked(partial(several, check_schedule))
    boundaries: tuple[float, ...] = checked(partial(several, number))

    def __post_init__(self) -> None:
        super().__post_init__()
        check_boundaries(self.boundaries, "schedules", len(self.schedules))

    def __call__(self, t: int) -> float:
        """Return the value at step t = 1, 2, ..."""
        starts = [0, *(round(boundary * self.steps_per_epoch) for boundary in self.boundaries)]
        n = sum(start < t for start in starts) - 1
        return self.schedules[n](t - starts[n])


@dataclass(frozen=True)
class Product(Schedule):
    """Several schedules multiplied with each other at each step.

    What PyTorch's ``ChainedScheduler`` makes of schedulers that multiply.

    Parameters
    ----------
    schedules : list of Schedule or function
        The factors.

    Examples
    --------
    >>> from fastopt.schedules import Constant, Product, Step
    >>> schedule = Product([Constant(0.5), Step(1.0, 10, factor=0.5)])
    >>> schedule(10), schedule(11)
    (0.5, 0.25)
    """

    schedules: tuple[StepFunction, ...] = checked(partial(several, check_schedule))

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.schedules:
            raise ValueError("schedules must have at least one schedule, not none")

    def __call__(self, t: int) -> float:
        """Return the value at step t = 1, 2, ..."""
        return prod(schedule(t) for schedule in self.schedules)
