"""What all schedules share: checked fields, their form in a checkpoint, and time in steps or epochs."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import KW_ONLY, dataclass, field, fields
from functools import partial
from math import floor, inf
from typing import Any, ClassVar

from fastopt.checks import integer, kind, number, renamed, shortened

__all__ = [
    "Schedule", "Timed", "check_boundaries", "check_schedule", "checked", "count_periods", "length",
    "resume_calls", "scaled_power", "several",
]  # fmt: skip


class Schedule:
    """A function of the step. A subclass is a dataclass of numbers, so that a checkpoint can have it.

    A checkpoint with a schedule of your own is loaded by an optimizer that has one of this class, or after
    ``Schedule.register``, which is also a decorator:

    >>> from dataclasses import dataclass
    >>> from fastopt.schedules import Schedule
    >>> @Schedule.register
    ... @dataclass(frozen=True)
    ... class Half(Schedule):
    ...     start: float
    ...
    ...     def __call__(self, t):
    ...         return self.start / (1 if t < 1000 else 2)
    """

    registered: ClassVar[dict[str, type["Schedule"]]] = {}
    # What arguments were called at commit 9d3eba2, and are today.
    old_names: ClassVar[dict[str, str]] = {}

    def __post_init__(self) -> None:
        for known in fields(self):  # type: ignore[arg-type]
            if (check := known.metadata.get("check")) is not None:
                object.__setattr__(self, known.name, check(known.name, getattr(self, known.name)))

    def __call__(self, t: int) -> float:
        """Return the value at step t = 1, 2, ..."""
        raise NotImplementedError

    def to_dict(self) -> dict[str, Any]:
        """Return the name of the class and its arguments, in types that JSON has."""
        return {"class": type(self).__name__} | {
            known.name: plain(getattr(self, known.name))
            for known in fields(self)  # type: ignore[arg-type]
        }

    @staticmethod
    def register(schedule: type["Schedule"]) -> type["Schedule"]:
        """Let checkpoints make schedules of a class; return the class.

        Parameters
        ----------
        schedule : type
            A subclass of Schedule. What it is called with may come from a file.

        Raises
        ------
        TypeError
            If it is no such class.
        """
        if not (isinstance(schedule, type) and issubclass(schedule, Schedule)):
            raise TypeError(f"register takes a subclass of Schedule, not {kind(schedule)}")
        Schedule.registered[schedule.__name__] = schedule
        return schedule

    @staticmethod
    def from_dict(data: Any, like: "Schedule | None" = None) -> "Schedule":
        """Return the schedule that `to_dict` was called on, today or at commit 9d3eba2.

        Parameters
        ----------
        data : dict
            What `to_dict` returned.
        like : Schedule, optional
            One whose classes may be made, besides those of fastopt and the registered ones.

        Raises
        ------
        ValueError, TypeError
            If the class isn't known, or has other arguments.
        """
        from fastopt import schedules  # late, as its modules import this one

        if not isinstance(data, Mapping):
            raise TypeError(f"a schedule's dict must be a dict, not {kind(data)}")
        abstract = "Schedule", "Timed"
        known = {name: getattr(schedules, name) for name in schedules.__all__ if name not in abstract}
        known |= Schedule.registered | {cls.__name__: cls for cls in classes_of(like)}
        result: Schedule = built(data, known)
        return result

    @classmethod
    def from_arguments(cls: Any, data: Mapping[str, Any]) -> "Schedule":
        """Return the schedule with arguments as `to_dict` has them."""
        arguments = renamed(data, cls.old_names, {known.name for known in fields(cls)})
        if "larger" in {*data} & {*cls.old_names} and isinstance(arguments.get("mode"), bool):
            arguments["mode"] = "max" if arguments["mode"] else "min"
        return cls(**arguments)


def resume_calls(schedule: Schedule, saved: Schedule) -> list[Callable[[], Any]] | None:
    """Return the C calls after which a schedule, and those in it, have the values of a saved one.

    So the object on which the caller calls ``report`` stays in use. None if a frozen one has other values.
    """
    if type(schedule) is not type(saved):
        return None
    is_frozen = vars(type(schedule))["__dataclass_params__"].frozen
    calls: list[Callable[[], Any]] = []
    values = {}
    for name, new in vars(saved).items():
        old = vars(schedule).get(name)
        olds, news = (old, new) if isinstance(old, tuple) and isinstance(new, tuple) else ((old,), (new,))
        if any(isinstance(value, Schedule) for value in olds):
            if len(olds) != len(news):
                return None
            for pair in zip(olds, news, strict=True):
                inner = resume_calls(*pair)
                if inner is None:
                    return None
                calls += inner
        elif is_frozen and old != new:
            return None
        else:
            values[name] = new
    return calls if is_frozen else [*calls, partial(vars(schedule).update, values)]


def plain(value: Any) -> Any:
    """Return a schedule's argument in types that JSON has."""
    if isinstance(value, Schedule):
        return value.to_dict()
    return [plain(item) for item in value] if isinstance(value, tuple) else value


def classes_of(value: Any) -> Iterator[type[Schedule]]:
    """Yield the classes of a schedule and of those within it."""
    if isinstance(value, Schedule):
        yield type(value)
    inner = vars(value).values() if isinstance(value, Schedule) else value if isinstance(value, tuple) else ()
    for item in inner:
        yield from classes_of(item)


def built(value: Any, known: Mapping[str, type[Schedule]]) -> Any:
    """Return the argument that `plain` was called on."""
    if isinstance(value, list):
        return tuple(built(item, known) for item in value)
    if not isinstance(value, Mapping):
        return value
    name = value.get("class")
    if not isinstance(name, str) or name not in known:
        shown = shortened(dict(value))
        raise ValueError(
            f"{shown} is no schedule; there are {', '.join(sorted(known))}, and those of your own after "
            "fastopt.schedules.Schedule.register(...)"
        )
    return known[name].from_arguments(
        {key: built(own, known) for key, own in value.items() if key != "class"}
    )


def several(check: Callable[[str, Any], Any], name: str, values: Any) -> tuple[Any, ...]:
    """Check each of several values; give them as a tuple."""
    if not isinstance(values, tuple | list):
        raise TypeError(f"{name} must be a list, not {kind(values)}")
    return tuple(check(f"{name}[{i}]", value) for i, value in enumerate(values))


def check_schedule(name: str, value: Any) -> Schedule:
    """Return a schedule, or say that it is none."""
    if not isinstance(value, Schedule):
        raise TypeError(f"{name} must be a schedule, not {kind(value)}")
    return value


def checked(check: Callable[[str, Any], Any] = number, **arguments: Any) -> Any:
    """Return the field of a schedule whose value is checked; ``default`` is the field's.

    If the default is None, so may the value be.
    """
    default = {"default": arguments.pop("default")} if "default" in arguments else {}
    check = partial(check, **arguments)
    if default.get("default", 0) is None:
        check = partial(unless_none, check)
    return field(metadata={"check": check}, **default)


def unless_none(check: Callable[[str, Any], Any], name: str, value: Any) -> Any:
    """Check a value that may be None."""
    return None if value is None else check(name, value)


length = partial(number, above=0)


@dataclass(frozen=True)
class Timed(Schedule):
    """A schedule that depends on time alone."""

    _: KW_ONLY
    steps_per_epoch: int = checked(integer, least=1, default=1)

    def __call__(self, t: int) -> float:
        """Return the value at step t = 1, 2, ..."""
        return self.at((t - 1) / self.steps_per_epoch)

    def at(self, c: float) -> float:
        """Return the value after c steps, or epochs."""
        raise NotImplementedError


def check_boundaries(boundaries: tuple[float, ...], name: str, pieces: int) -> None:
    """Say what is wrong with the boundaries between several pieces, if something is."""
    if pieces != len(boundaries) + 1:
        raise ValueError(f"{len(boundaries)} boundaries need {len(boundaries) + 1} {name}, not {pieces}")
    if sorted(set(boundaries)) != list(boundaries):
        raise ValueError(f"boundaries must increase, not {list(boundaries)}")


def count_periods(c: float, period: float) -> int:
    """Return how many whole periods have passed after c steps, or epochs.

    In floating point 0.3 // 0.1 is 2, though the third period is over after 0.3 epochs: so what is short of a
    whole number by rounding counts as that number.
    """
    exact = c / period
    nearest = round(exact)
    return nearest if abs(exact - nearest) <= ROUNDING * exact else floor(exact)


# The relative error of a quotient of lengths that were computed in a few operations.
ROUNDING = 1e-12


def scaled_power(value: float, base: float, exponent: float) -> float:
    """Return value·base^exponent; inf if that is too large for a float, which the power alone isn't then."""
    try:
        return float(value * base**exponent)
    except OverflowError:
        pass
    try:
        root = base ** (exponent / 2)
    except OverflowError:
        return inf if value else 0.0
    return value * root * root
