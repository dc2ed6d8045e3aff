"""What an option may do in a step."""

from typing import TYPE_CHECKING, ClassVar

from fastopt.engine.memory import StateSpec

if TYPE_CHECKING:
    from fastopt.step import Step

__all__ = ["Option"]


class Option:
    """A part of a step that isn't the rule's: it knows no other option, and the engine knows none.

    Attributes
    ----------
    averages : tuple of StateSpec
        Arrays like the parameter that follow it after the rule, average ← average + weight·(p − average).
    """

    averages: ClassVar[tuple[StateSpec, ...]] = ()

    def before(self, step: "Step") -> bool:
        """Change what the step is given: gradients, their scale, the learning rate.

        Returns
        -------
        bool
            False if no step is to be taken now.
        """
        return True

    def after(self, step: "Step") -> None:
        """Note what is shown of a step that was taken."""

    def average_scalars(self, t: int) -> tuple[float, ...]:
        """Return weight and way back of each average at a parameter's step t = 1, 2, ...

        Where the way back isn't 0, the parameter becomes its average.
        """
        return ()
