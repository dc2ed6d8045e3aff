"""Schedules: learning rates as functions of the step.

A schedule is called with the number of a step, t = 1, 2, ..., as `Optimizer.scalars` is. optax counts from 0
and PyTorch calls ``scheduler.step()`` after the first step, so that their count is t − 1, which the formulas
here call c:

>>> from fastopt.schedules import Cosine, Warmup
>>> schedule = Warmup(Cosine(0.1, 1000), 100)
>>> schedule(1), schedule(51), schedule(101), schedule(601)
(0.0, 0.05, 0.1, 0.05)

Lengths are steps; or epochs, with ``steps_per_epoch``: c is then (t − 1) / steps_per_epoch, so that a curve
is as smooth as before.
"""

from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass, field, fields
from functools import partial
from math import cos, inf, isfinite, log, pi, sqrt
from typing import Any, ClassVar

from fastopt.checks import integer, kind, number

__all__ = [
    "Constant",
    "Cosine",
    "CosineRestarts",
    "Exponential",
    "InverseSqrt",
    "Join",
    "Linear",
    "OneCycle",
    "Piecewise",
    "Plateau",
    "Polynomial",
    "Schedule",
    "Step",
    "Warmup",
]


class Schedule:
    """A function of the step. A subclass is a dataclass of numbers, so that a checkpoint can have it."""

    known: ClassVar[dict[str, type["Schedule"]]] = {}

    def __init_subclass__(cls) -> None:
        Schedule.known[cls.__name__] = cls

    def __post_init__(self) -> None:
        for known in fields(self):  # type: ignore[arg-type]
            if (check := known.metadata.get("check")) is not None:
                object.__setattr__(self, known.name, check(known.name, getattr(self, known.name)))

    def __call__(self, t: int) -> float:
        """Give the value at step t = 1, 2, ..."""
        raise NotImplementedError

    def to_dict(self) -> dict[str, Any]:
        """Give the name of the class and its arguments, in types that JSON has."""
        return {"class": type(self).__name__} | {
            known.name: plain(getattr(self, known.name))
            for known in fields(self)  # type: ignore[arg-type]
        }

    @staticmethod
    def from_dict(data: Any) -> "Schedule":
        """Make the schedule that `to_dict` was called on.

        Raises
        ------
        ValueError, TypeError
            If the class isn't known, or has other arguments.
        """
        name = data.get("class") if isinstance(data, Mapping) else None
        if not isinstance(name, str) or name not in Schedule.known:
            raise ValueError(f"{data!r} is no schedule; there are {', '.join(sorted(Schedule.known))}")
        return Schedule.known[name](**{key: built(value) for key, value in data.items() if key != "class"})


def plain(value: Any) -> Any:
    """Give a schedule's argument in types that JSON has."""
    if isinstance(value, Schedule):
        return value.to_dict()
    return [plain(item) for item in value] if isinstance(value, tuple) else value


def built(value: Any) -> Any:
    """Give the argument that `plain` was called on."""
    if isinstance(value, Mapping):
        return Schedule.from_dict(value)
    return tuple(built(item) for item in value) if isinstance(value, list) else value


def several(check: Callable[[str, Any], Any], name: str, values: Any) -> tuple[Any, ...]:
    """Check each of several values; give them as a tuple."""
    if not isinstance(values, tuple | list):
        raise TypeError(f"{name} must be a list, not {kind(values)}")
    return tuple(check(f"{name}[{i}]", value) for i, value in enumerate(values))


def check_schedule(name: str, value: Any) -> Schedule:
    """Give a schedule, or say that it is none."""
    if not isinstance(value, Schedule):
        raise TypeError(f"{name} must be a schedule, not {kind(value)}")
    return value


def checked(check: Callable[[str, Any], Any] = number, **arguments: Any) -> Any:
    """Give the field of a schedule whose value is checked; ``default`` is the field's."""
    default = {"default": arguments.pop("default")} if "default" in arguments else {}
    return field(metadata={"check": partial(check, **arguments)}, **default)


length = partial(number, above=0)


@dataclass(frozen=True)
class Timed(Schedule):
    """A schedule that depends on time alone."""

    _: KW_ONLY
    steps_per_epoch: int = checked(integer, least=1, default=1)

    def __call__(self, t: int) -> float:
        """Give the value at step t = 1, 2, ..."""
        return self.at((t - 1) / self.steps_per_epoch)

    def at(self, c: float) -> float:
        """Give the value after c steps, or epochs."""
        raise NotImplementedError


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
        """Give the value after c steps, or epochs."""
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
        """Give the value after c steps, or epochs."""
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
        """Give the value after c steps, or epochs."""
        return self.values[sum(boundary <= c for boundary in self.boundaries)]


def check_boundaries(boundaries: tuple[float, ...], name: str, pieces: int) -> None:
    """Say what is wrong with the boundaries between several pieces, if something is."""
    if pieces != len(boundaries) + 1:
        raise ValueError(f"{len(boundaries)} boundaries need {len(boundaries) + 1} {name}, not {pieces}")
    if sorted(set(boundaries)) != list(boundaries):
        raise ValueError(f"boundaries must increase, not {list(boundaries)}")


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
        """Give the value after c steps, or epochs."""
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
        """Give the value after c steps, or epochs."""
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
        """Give the value after c steps, or epochs."""
        return self.end + (self.value - self.end) * (1 - min(c / self.steps, 1.0))


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
        """Give the value after c steps, or epochs."""
        return wave(self.value, self.end, min(c / self.steps, 1.0))


def wave(start: float, end: float, share: float) -> float:
    """Go from start to end along half a wave of the cosine."""
    return end + (start - end) * (1 + cos(pi * share)) / 2


@dataclass(frozen=True)
class CosineRestarts(Timed):
    """Down half a wave, again and again: each time `Cosine`, ``factor`` times as long as the one before.

    PyTorch's ``CosineAnnealingWarmRestarts``.

    Parameters
    ----------
    value : float
        At the first step, and at each restart.
    steps : float
        After so many steps, or epochs, it starts again for the first time.
    factor : float, default 1
        At least 1.
    end : float, default 0
        What each wave goes down to.

    References
    ----------
    Loshchilov and Hutter 2017, *SGDR: stochastic gradient descent with warm restarts* (arXiv:1608.03983).
    """

    value: float = checked()
    steps: float = checked(length)
    factor: float = checked(default=1.0)
    end: float = checked(default=0.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.factor < 1:
            raise ValueError(f"factor must be at least 1, not {self.factor}")

    def at(self, c: float) -> float:
        """Give the value after c steps, or epochs."""
        if self.factor == 1:
            return wave(self.value, self.end, c % self.steps / self.steps)
        # The wave n starts at steps·(factorⁿ − 1) / (factor − 1). The logarithm may be off in its last bit.
        n = int(log(c * (self.factor - 1) / self.steps + 1, self.factor) + 1e-9)
        start = self.steps * (self.factor**n - 1) / (self.factor - 1)
        return wave(self.value, self.end, max(c - start, 0.0) / (self.steps * self.factor**n))


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
        """Give the value after c steps, or epochs."""
        # PyTorch counts the steps themselves, of which the last has the last value.
        one = 1 / self.steps_per_epoch
        top, last = self.pct_start * self.steps - one, self.steps - one
        first = self.peak / self.div_factor
        if c < top:
            return wave(first, self.peak, c / top)
        return wave(self.peak, first / self.final_div_factor, min((c - top) / (last - top), 1.0))


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
        """Give the value after c steps, or epochs."""
        return self.value * sqrt(self.steps / (self.steps + c))


@dataclass(frozen=True)
class Warmup(Timed):
    """In a straight line to the first value of another schedule, then that schedule from its beginning.

    optax's ``warmup_cosine_decay_schedule`` counts it among its ``decay_steps``; here they come after it.

    Parameters
    ----------
    schedule : Schedule
        What follows; if it counts epochs, it has a ``steps_per_epoch`` of its own.
    steps : float
        After so many steps, or epochs, it follows.
    start : float, default 0
        At the first step.
    """

    schedule: Schedule = checked(check_schedule)  # noqa: RUF009 (it gives a field)
    steps: float = checked(length)
    start: float = checked(default=0.0)

    def __call__(self, t: int) -> float:
        """Give the value at step t = 1, 2, ..."""
        steps = round(self.steps * self.steps_per_epoch)
        if t > steps:
            return self.schedule(t - steps)
        return self.start + (self.schedule(1) - self.start) * ((t - 1) / steps)


@dataclass(frozen=True)
class Join(Timed):
    """One schedule after the other, each from its beginning (optax's ``join_schedules``).

    Parameters
    ----------
    schedules : list of Schedule
        If they count epochs, they have a ``steps_per_epoch`` of their own.
    boundaries : list of float
        After so many steps, or epochs, the next one begins; increasing.
    """

    schedules: tuple[Schedule, ...] = checked(partial(several, check_schedule))
    boundaries: tuple[float, ...] = checked(partial(several, length))

    def __post_init__(self) -> None:
        super().__post_init__()
        check_boundaries(self.boundaries, "schedules", len(self.schedules))

    def __call__(self, t: int) -> float:
        """Give the value at step t = 1, 2, ..."""
        starts = [0, *(round(boundary * self.steps_per_epoch) for boundary in self.boundaries)]
        n = sum(start < t for start in starts) - 1
        return self.schedules[n](t - starts[n])


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
        """Give the value, which is the same at any step."""
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
