"""What all schedules share: checked fields, their form in a checkpoint, and time in steps or epochs."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import KW_ONLY, Field, dataclass, field, fields, is_dataclass
from functools import partial
from math import floor, inf
from typing import Any, ClassVar

from fastopt.checks import integer, kind, number, renamed, shortened

__all__ = [
    "Schedule", "StepFunction", "Timed", "check_boundaries", "check_schedule", "checked", "count_periods",
    "fields_of", "form_of", "is_saved", "is_schedule", "length", "restore_calls", "resume_calls",
    "scaled_power", "several",
]  # fmt: skip

# What gives a value at step t = 1, 2, ...: a Schedule, or any function.
StepFunction = Callable[[int], float]

# What a checkpoint has as the class of a function, which it can't have itself.
FUNCTION = "function"


class Schedule:
    """A function of the step. A subclass is a dataclass of numbers, so that a checkpoint can have it.

    Any function of the step will do as a schedule; a subclass is what a checkpoint can have. If it is no
    dataclass, it is to a checkpoint what a function is: the optimizer that loads it must have it already.

    A checkpoint with a schedule of your own is loaded by an optimizer that has one of this class, or after
    ``Schedule.register``, which is also a decorator.

    Examples
    --------
    >>> from dataclasses import dataclass
    >>> from fastopt.schedules import Schedule
    >>> @Schedule.register
    ... @dataclass(frozen=True)
    ... class Half(Schedule):
    ...     start: float
    ...
    ...     def __call__(self, t):
    ...         return self.start / (1 if t < 1000 else 2)
    >>> Half(0.2)(999), Half(0.2)(1000)
    (0.2, 0.1)
    """

    registered: ClassVar[dict[str, type["Schedule"]]] = {}
    # What arguments were called at commit 9d3eba2, and are today.
    old_names: ClassVar[dict[str, str]] = {}

    def __post_init__(self) -> None:
        for known in fields_of(self):
            if (check := known.metadata.get("check")) is not None:
                object.__setattr__(self, known.name, check(known.name, getattr(self, known.name)))

    def __call__(self, t: int) -> float:
        """Return the value at step t = 1, 2, ..."""
        raise NotImplementedError

    def to_dict(self) -> dict[str, Any]:
        """Return the name of the class and its arguments, in types that JSON has."""
        if not is_saved(self):
            return {"class": FUNCTION, "name": name_of(self)}
        return {"class": type(self).__name__} | {
            known.name: plain(getattr(self, known.name)) for known in fields_of(self)
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
    def from_dict(data: Any, like: StepFunction | None = None) -> StepFunction:
        """Return the schedule that `to_dict` was called on, today or at commit 9d3eba2.

        Parameters
        ----------
        data : dict
            What `to_dict` returned.
        like : Schedule or function, optional
            One whose classes may be made, besides those of fastopt and the registered ones. It also has the
            functions, which a dict can't have.

        Raises
        ------
        ValueError, TypeError
            If the class isn't known, or has other arguments; or there is a function in the dict where
            ``like`` has none.
        """
        from fastopt import schedules  # late, as its modules import this one

        if not isinstance(data, Mapping):
            raise TypeError(f"a schedule's dict must be a dict, not {kind(data)}")
        abstract = "Schedule", "Timed"
        known = {name: getattr(schedules, name) for name in schedules.__all__ if name not in abstract}
        known |= Schedule.registered | {cls.__name__: cls for cls in classes_of(like)}
        result: StepFunction = built(data, known, like)
        return result

    @classmethod
    def from_arguments(cls: Any, data: Mapping[str, Any]) -> "Schedule":
        """Return the schedule with arguments as `to_dict` has them."""
        arguments = renamed(data, cls.old_names, {known.name for known in fields(cls)})
        if "larger" in {*data} & {*cls.old_names} and isinstance(arguments.get("mode"), bool):
            arguments["mode"] = "max" if arguments["mode"] else "min"
        result: Schedule = cls(**arguments)
        return result


def is_schedule(value: Any) -> bool:
    """Whether a value is a function of the step; a class isn't, but its objects may be."""
    return callable(value) and not isinstance(value, type)


def name_of(schedule: StepFunction) -> str:
    """Return the name of a function, or that of the class of a schedule."""
    return str(getattr(schedule, "__name__", type(schedule).__name__))


def fields_of(schedule: StepFunction) -> tuple[Field[Any], ...]:
    """Return the fields of a schedule; those of a function are none."""
    return fields(schedule) if is_dataclass(schedule) else ()


def is_saved(schedule: StepFunction) -> bool:
    """Whether a checkpoint can have a schedule: if a dataclass' constructor makes it from its fields."""
    own: Any = type(schedule)
    made_by = next((cls for cls in own.__mro__ if "__dataclass_params__" in vars(cls)), None)
    return isinstance(schedule, Schedule) and made_by is not None and own.__init__ is made_by.__init__


def form_of(schedule: StepFunction) -> dict[str, Any]:
    """Return what a checkpoint has of a schedule, in types that JSON has: of a function it is the name."""
    if isinstance(schedule, Schedule):
        return schedule.to_dict()
    return {"class": FUNCTION, "name": name_of(schedule)}


def is_frozen(schedule: StepFunction) -> bool:
    """Whether a schedule that a checkpoint can have never changes."""
    own: Any = type(schedule)
    return bool(own.__dataclass_params__.frozen)


def resume_calls(schedule: StepFunction, saved: StepFunction) -> list[Callable[[], Any]] | None:
    """Return the C calls after which a schedule, and those in it, have the values of a saved one.

    So the object on which the caller calls ``report`` stays in use. None if a frozen one has other values.
    """
    if schedule is saved:
        return []
    if type(schedule) is not type(saved) or not is_saved(schedule):
        return None
    is_constant = is_frozen(schedule)
    calls: list[Callable[[], Any]] = []
    values = {}
    for name, new in vars(saved).items():
        old = vars(schedule).get(name)
        olds, news = (old, new) if isinstance(old, tuple) and isinstance(new, tuple) else ((old,), (new,))
        if any(map(is_schedule, olds)):
            if len(olds) != len(news):
                return None
            for pair in zip(olds, news, strict=True):
                inner = resume_calls(*pair)
                if inner is None:
                    return None
                calls += inner
        elif is_constant and old != new:
            return None
        else:
            values[name] = new
    return calls if is_constant else [*calls, partial(vars(schedule).update, values)]


def restore_calls(schedule: StepFunction) -> list[Callable[[], Any]]:
    """Return the C calls after which a schedule, and those in it, are as now; functions are left alone."""
    if not is_saved(schedule):
        return []
    own = vars(schedule)
    calls: list[Callable[[], Any]] = [] if is_frozen(schedule) else [partial(own.update, dict(own))]
    for value in own.values():
        for inner in value if isinstance(value, tuple) else (value,):
            calls += restore_calls(inner) if is_schedule(inner) else []
    return calls


def plain(value: Any) -> Any:
    """Return a schedule's argument in types that JSON has."""
    if is_schedule(value):
        return form_of(value)
    return [plain(item) for item in value] if isinstance(value, tuple) else value


def classes_of(value: Any) -> Iterator[type[Schedule]]:
    """Yield the classes of a schedule and of those within it."""
    if isinstance(value, Schedule):
        yield type(value)
    inner = vars(value).values() if isinstance(value, Schedule) else value if isinstance(value, tuple) else ()
    for item in inner:
        yield from classes_of(item)


def built(value: Any, known: Mapping[str, type[Schedule]], like: Any) -> Any:
    """Return the argument that `plain` was called on, with functions from a similar one."""
    if isinstance(value, list):
        likes = like if isinstance(like, tuple) and len(like) == len(value) else [None] * len(value)
        return tuple(built(item, known, own) for item, own in zip(value, likes, strict=True))
    if not isinstance(value, Mapping):
        return value
    name = value.get("class")
    if name == FUNCTION:
        if is_schedule(like) and not is_saved(like):
            return like
        raise ValueError(
            f"it was saved with the function {shortened(value.get('name'))}, which a file can't have: load "
            "it into an optimizer that has the function in the same place"
        )
    if not isinstance(name, str) or name not in known:
        shown = shortened(dict(value))
        raise ValueError(
            f"{shown} is no schedule; there are {', '.join(sorted(known))}, and those of your own after "
            "fastopt.schedules.Schedule.register(...)"
        )
    return known[name].from_arguments(
        {
            key: built(own, known, getattr(like, key, None) if type(like).__name__ == name else None)
            for key, own in value.items()
            if key != "class"
        }
    )


def several(check: Callable[[str, Any], Any], name: str, values: Any) -> tuple[Any, ...]:
    """Check each of several values; give them as a tuple."""
    if not isinstance(values, tuple | list):
        raise TypeError(f"{name} must be a list, not {kind(values)}")
    return tuple(check(f"{name}[{i}]", value) for i, value in enumerate(values))


def check_schedule(name: str, value: Any) -> StepFunction:
    """Return a schedule, or say that it is none."""
    if not is_schedule(value):
        raise TypeError(f"{name} must be a schedule, not {kind(value)}")
    result: StepFunction = value
    return result


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
    """A schedule that depends on time alone.

    Examples
    --------
    >>> isinstance(fastopt.schedules.Cosine(0.1, 1000), fastopt.schedules.Timed)
    True
    >>> isinstance(fastopt.schedules.Plateau(0.1), fastopt.schedules.Timed)  # depends on a metric
    False
    """

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
