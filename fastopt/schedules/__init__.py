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

from typing import TYPE_CHECKING

from fastopt.namespace import late_attributes

# The names of each module, which is imported when one of them is first used.
NAMES = {
    "base": ("Schedule", "Timed"),
    "composed": ("Join", "Product", "Warmup"),
    "decays": (
        "Constant",
        "Exponential",
        "InverseSqrt",
        "InverseTime",
        "Linear",
        "Piecewise",
        "Polynomial",
        "Step",
    ),
    "plateau": ("Plateau",),
    "waves": ("Cosine", "CosineRestarts", "Cyclic", "OneCycle"),
}
# The same without modules, as type checkers read no other list than this.
__all__ = [
    "Constant", "Cosine", "CosineRestarts", "Cyclic", "Exponential", "InverseSqrt", "InverseTime", "Join",
    "Linear", "OneCycle", "Piecewise", "Plateau", "Polynomial", "Product", "Schedule", "Step", "Timed",
    "Warmup",
]  # fmt: skip

if TYPE_CHECKING:
    from fastopt.schedules.base import *
    from fastopt.schedules.composed import *
    from fastopt.schedules.decays import *
    from fastopt.schedules.plateau import *
    from fastopt.schedules.waves import *
else:
    __getattr__ = late_attributes(__name__, NAMES)


def __dir__() -> list[str]:
    """Show also what isn't imported yet."""
    return sorted({*globals(), *__all__, *NAMES})
