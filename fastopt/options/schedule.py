"""The learning rate as a function of the number of updates."""

from typing import TYPE_CHECKING, Any

from fastopt.options.base import Option
from fastopt.schedules.base import Schedule

if TYPE_CHECKING:
    from fastopt.step import Step

__all__ = ["ScheduledRate"]


class ScheduledRate(Option):
    """The learning rate of a step by a schedule. The optimizer shows it when the step was taken."""

    def __init__(self, schedule: Schedule, check: Any) -> None:
        self.schedule, self.check = schedule, check

    def rate(self, n_steps: int) -> float:
        """Return the learning rate of the last of so many updates, or of the first if there were none."""
        lr: float = self.check("lr", self.schedule(max(n_steps, 1)))
        return lr

    def before(self, step: "Step") -> bool:
        """Set the learning rate."""
        step.lr = self.rate(step.number)
        return True

    def after(self, step: "Step") -> None:
        """Show it, unless another learning rate has been assigned during the step."""
        if step.optimizer.schedule is self.schedule:
            step.show("lr", step.lr)
