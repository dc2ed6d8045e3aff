"""Hyperparameters as functions of the number of updates.

A checkpoint has what a dataclass' constructor makes from its fields. Of any other function it has the name,
and who loads it must have the function: to go on with a number would be another training.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from fastopt.display import format_value
from fastopt.options.base import Option
from fastopt.options.groups import GroupSchedule
from fastopt.schedules.base import StepFunction

if TYPE_CHECKING:
    from fastopt.step import Step

__all__ = ["ScheduledValues", "Schedules", "checked_value", "value_at"]


class Schedules(Mapping[str, StepFunction]):
    """The schedules of an optimizer by the names of the hyperparameters, read-only.

    Two of them are equal if they have the same objects: what one is told isn't told to an equal one.
    """

    def __init__(self, known: Mapping[str, StepFunction] | None = None) -> None:
        self.known = dict(known or {})

    def __getitem__(self, name: str) -> StepFunction:
        return self.known[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.known)

    def __len__(self) -> int:
        return len(self.known)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Schedules) or {*self.known} != {*other.known}:
            return False
        return all(other.known[name] is schedule for name, schedule in self.known.items())

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return format_value(self.known)

    def replaced(self, name: str, schedule: StepFunction | None) -> "Schedules":
        """Return these with another schedule of a hyperparameter, or without one."""
        rest = {key: own for key, own in self.known.items() if key != name}
        return Schedules(rest if schedule is None else {**rest, name: schedule})


def checked_value(
    value: Any, schedule: StepFunction, t: int, label: str, check: Callable[[str, Any], Any]
) -> float:
    """Return the value that a schedule gives at step t, checked.

    Raises
    ------
    TypeError, ValueError
        If it isn't what the hyperparameter must be.
    """
    try:
        result: float = check(label, value)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{error}: that is {format_value(schedule)} at step {t}") from None
    return result


def value_at(schedule: StepFunction, t: int, label: str, check: Callable[[str, Any], Any]) -> float:
    """Return the checked value of a schedule at step t = 1, 2, ..."""
    return checked_value(schedule(t), schedule, t, label, check)


class ScheduledValues(Option):
    """The values of a step by schedules. The optimizer shows its own when the step was taken.

    Parameters
    ----------
    schedules : Schedules
        Those of the optimizer. (Those of groups come with the step, whose grouping has them.)
    check_of : callable
        Returns the check of a hyperparameter.
    """

    def __init__(self, schedules: Schedules, check_of: Callable[[str], Callable[[str, Any], Any]]) -> None:
        self.schedules = schedules
        self.checked = [(name, schedule, check_of(name)) for name, schedule in schedules.items()]

    def before(self, step: "Step") -> bool:
        """Compute the values, each once."""
        t, known = step.number if step.time is None else step.time, dict[str | GroupSchedule, float]()
        for name, schedule, check in self.checked:
            known[name] = value_at(schedule, t, name, check)
        for own in () if step.grouping is None else step.grouping.schedules:
            known[own] = value_at(own.schedule, t, own.label, own.check)
        step.scheduled = known
        return True

    def after(self, step: "Step") -> None:
        """Show them, but for those of which something else has been assigned during the step."""
        now = step.optimizer.schedules
        for name, schedule, _ in self.checked:
            if now is self.schedules or now.get(name) is schedule:
                step.show(name, step.scheduled[name])
