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

from fastopt.schedules.base import Schedule, Timed
from fastopt.schedules.composed import Join, Warmup
from fastopt.schedules.decays import Constant, Exponential, InverseSqrt, Linear, Piecewise, Polynomial, Step
from fastopt.schedules.plateau import Plateau
from fastopt.schedules.waves import Cosine, CosineRestarts, OneCycle

__all__ = [
    "Constant", "Cosine", "CosineRestarts", "Exponential", "InverseSqrt", "Join", "Linear", "OneCycle",
    "Piecewise", "Plateau", "Polynomial", "Schedule", "Step", "Timed", "Warmup",
]  # fmt: skip
