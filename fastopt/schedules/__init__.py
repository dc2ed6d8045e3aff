"""Schedules: hyperparameters as functions of the step.

A schedule is called with the number of a step, t = 1, 2, ..., as `Optimizer.scalars` is. optax counts from 0
and PyTorch calls ``scheduler.step()`` after the first step, so that their count is t − 1, which the formulas
here call c:

>>> from fastopt.schedules import Cosine, Cyclic, Linear, Warmup
>>> schedule = Warmup(Cosine(0.1, 1000), 100)
>>> schedule(1), schedule(51), schedule(101), schedule(601)
(0.0, 0.05, 0.1, 0.05)

Lengths are steps; or epochs, with ``steps_per_epoch``: c is then (t − 1) / steps_per_epoch, so that a curve
is as smooth as before.

Each number of an optimizer that may change takes one: the learning rate, other hyperparameters, the bounds of
clipping, those of a group. Any function of t will do, and may stand within another schedule:

>>> import fastopt
>>> optimizer = fastopt.Momentum(
...     Warmup(lambda t: 0.1 / t, 100), Cyclic(0.95, 0.85, 500), weight_decay=Linear(0.001, 1000),
...     clip_norm=Linear(5, 1000, end=1), groups={"b*": {"lr_scale": Linear(2, 1000, end=1)}},
... )
>>> optimizer.lr, optimizer.momentum, optimizer.weight_decay, optimizer.clip_norm
(0.0, 0.95, 0.001, 5.0)

The attributes show the values of the last step, ``optimizer.schedules`` the schedules; a number that is
assigned ends one. Checkpoints contain the schedules of this module; of a function they have the name, so that
it is loaded by an optimizer which has the function. They contain no groups.

What a rule computes from all steps so far, such as Adam's 1 − β₁ᵗ, it computes with the value of the present
step, as those of PyTorch and optax do.

What PyTorch's schedulers are here: ``LambdaLR`` and ``MultiplicativeLR`` any function, ``StepLR`` `Step`,
``ConstantLR`` and ``MultiStepLR`` `Piecewise`, ``CosineAnnealingLR`` `Cosine` (`Cyclic` beyond its end),
``CosineAnnealingWarmRestarts`` `CosineRestarts`, ``CyclicLR`` `Cyclic` and ``OneCycleLR`` `OneCycle`, one of
lr and another of the momentum, ``ChainedScheduler`` `Product`, ``SequentialLR`` `Join`,
``ReduceLROnPlateau`` `Plateau`.
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
