"""`Scheduling`: hyperparameters that may be functions of the number of updates.

Every number that may change from step to step takes a function of the update's number; lr is no special
case. It is made by ``hyperparameter(...)`` without ``scheduled=False``.
`fastopt.options.schedule.ScheduledValues` computes a step's values once, before any option reads them, and
shows them when the step was taken. A rule's ``unscheduled`` names what not each step depends on, such as
`Rprop`'s lr, and the reason.
"""

from collections.abc import Mapping
from typing import Any

from fastopt.checks import number
from fastopt.display import format_value
from fastopt.fields import CheckedFields
from fastopt.options.schedule import Schedules, checked_value
from fastopt.schedules.base import Schedule, StepFunction, is_schedule

__all__ = ["Scheduling"]

NO_SCHEDULES = Schedules()


class Scheduling(CheckedFields):
    """What assigns a schedule to a hyperparameter, and ends it.

    Attributes
    ----------
    schedules : Schedules
        The schedules of hyperparameters, by name.
    iter : int
        Number of updates taken.
    clock : Partition
        That which has the optimizer, if one does.
    """

    schedules: Schedules
    iter: Any

    @property
    def schedule(self) -> Any:
        """The schedule of the learning rate, if there is one."""
        return self.schedules.get("lr")

    @property
    def n_updates(self) -> int:
        """Number of updates by which schedules go: in a partition that of the partition."""
        clock = vars(self).get("clock")
        return int(self.iter if clock is None else clock.iter)

    def checked(self, name: str, value: Any) -> dict[str, Any]:
        """Return the attributes that a field's new value changes: with its schedule, if it has or had one."""
        schedules = vars(self).get("schedules", NO_SCHEDULES)
        known = self.__dataclass_fields__[name].metadata
        if is_schedule(value) and (isinstance(value, Schedule) or known.get("scheduled")):
            present = self.present_value(name, name, value)
            return {name: present, "schedules": schedules.replaced(name, value)}
        changes = super().checked(name, value)
        return {**changes, "schedules": schedules.replaced(name, None)} if name in schedules else changes

    def present_value(self, label: str, name: str, schedule: StepFunction) -> float:
        """Return the value of a hyperparameter by a schedule at the last update, or at the first.

        Raises
        ------
        TypeError, ValueError
            If the hyperparameter can't have a schedule, or the schedule gives no such value.
        """
        why = self.why_unscheduled(name)
        if why is not None:
            remedy = "; give it a number" if "scheduled" in self.metadata_of(name) else ""
            raise TypeError(f"{label} can't have a schedule: it {why}{remedy}")
        t = max(self.n_updates, 1)
        try:
            value = schedule(t)
        except Exception as error:
            if isinstance(schedule, Schedule):
                raise
            shown = format_value(schedule)
            raise TypeError(
                f"{label} must be a number or a function of the step's number that returns one, as lambda t: "
                f"0.1 / t does, but {shown} called with {t} raised {type(error).__name__}: {error}"
            ) from error
        return checked_value(value, schedule, t, label, number if name == "lr_scale" else self.check_of(name))

    def metadata_of(self, name: str) -> Mapping[str, Any]:
        """Return what a hyperparameter's field says of it; a group's lr_scale is a learning rate."""
        metadata: Mapping[str, Any] = self.__dataclass_fields__["lr" if name == "lr_scale" else name].metadata
        return metadata

    def why_unscheduled(self, name: str) -> str | None:
        """Return why a hyperparameter can't have a schedule, or None if it can."""
        known = self.metadata_of(name)
        if known.get("scheduled"):
            return None
        return "can't change after the first step" if known.get("fixed") else "is the same in all steps"
