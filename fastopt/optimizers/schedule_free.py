"""Schedule-free rules: an average over the steps takes the place of a schedule."""

from collections.abc import Hashable
from dataclasses import KW_ONLY, dataclass
from math import sqrt
from typing import Any

import numpy as np

from fastopt import kernels
from fastopt.engine.engine import Engine
from fastopt.optimizer import Optimizer, State, hyperparameter, whole

__all__ = ["ScheduleFreeAdamW", "ScheduleFreeSGD"]


def averaging(t: int, warmup: int, lr: float) -> tuple[float, float]:
    """Give the weight of step t in the average of the schedule-free rules, and the learning rate."""
    # The sum of the squares of the factors so far, which are i / warmup, then 1.
    rising = min(t, warmup)
    total = 0.0
    if warmup:
        total = rising * (rising + 1) * (2 * rising + 1) / (6 * warmup * warmup)
    total += t - rising
    factor = min(t / warmup, 1.0) if warmup else 1.0
    return factor * factor / total, lr * factor


class ScheduleFree:
    """What the schedule-free rules share: the average that they keep."""

    engine: Engine

    def own_average(self, view: Any, key: Hashable, param: np.ndarray) -> np.ndarray:
        """Return x = (p − (1 − β)·z) / β, with the β of the parameter's group."""
        z = self.engine.memory.views("z")[key]
        result: np.ndarray = (param - (1 - view.beta) * z) / view.beta
        return result


@dataclass(eq=False)
class ScheduleFreeSGD(ScheduleFree, Optimizer):
    """Gradient descent that needs no schedule, for an average over the steps takes its place.

    p ← p + c·(z − p) + lr·(β·(1 − c) − 1)·g; z ← z − lr·g, where c = rₜ² / (r₁² + … + rₜ²)

    p is the paper's y, where gradients are taken; `average` gives its x, which is what to use after the
    training. r is the factor of the warm-up, min(t / warmup_steps, 1); c doesn't depend on lr. In optax lr is
    that of the step before during the warm-up, here and in the authors' code that of the step.

    Parameters
    ----------
    lr : float, default 1.0
        Learning rate, at least 0.
    beta : float, default 0.9
        Weight of x in p, above 0, at most 1.
    warmup_steps : int, default 0
        Steps over which lr rises to its value.

    Attributes
    ----------
    z : dict or list of arrays, or None
        Where gradient descent alone would be.

    Raises
    ------
    TypeError, ValueError
        If a hyperparameter is no number or out of range, here or when it is assigned later.

    References
    ----------
    Defazio et al. 2024, *The road less scheduled* (arXiv:2405.15682), equations 2 to 4.
    """

    kernel = kernels.schedule_free_sgd
    min_parallel_size = 50_000
    lr: float = hyperparameter(1.0)
    beta: float = hyperparameter(0.9, above=0, most=1)
    warmup_steps: int = whole(0)
    z = State(lambda self, param, grad: param)

    def scalars(self, t: int) -> tuple[float, ...]:
        """Give c, lr and lr·(β·(1 − c) − 1)."""
        c, lr = averaging(t, self.warmup_steps, self.lr)
        return c, lr, lr * (self.beta * (1 - c) - 1)

    def decay_scalars(self, decay: float) -> tuple[float, float]:
        """Return l2 and keep: as in the paper, decay is a part of the gradient at p, so that it reaches z."""
        return decay, 1.0


@dataclass(eq=False)
class ScheduleFreeAdamW(ScheduleFree, Optimizer):
    """Adam without a schedule: an average over the steps takes its place, and that of the momentum.

    v as Adam; d ← g / (√v̂ + eps) + weight_decay·p; p ← p + c·(z − p) + lr·(β·(1 − c) − 1)·d; z ← z − lr·d

    p is where gradients are taken; `average` gives what to use after the training. c and the warm-up are
    `ScheduleFreeSGD`'s.

    Parameters
    ----------
    lr : float, default 0.0025
        Learning rate, at least 0.
    beta : float, default 0.9
        Weight of the average in p, above 0, at most 1.
    warmup_steps : int, default 0
        Steps over which lr rises to its value.
    beta2 : float, default 0.999
        Decay of the average of the squares, from 0 to below 1.
    eps : float, default 1e-8
        Added to the root of the corrected v, as in PyTorch.
    weight_decay : float, default 0.0
        Added to d, times p.

    Attributes
    ----------
    v : dict or list of arrays, or None
        Moving average of the squared gradients.
    z : dict or list of arrays, or None
        Where the steps alone would be.

    Raises
    ------
    TypeError, ValueError
        If a hyperparameter is no number or out of range, here or when it is assigned later.

    References
    ----------
    Defazio et al. 2024, *The road less scheduled* (arXiv:2405.15682), algorithm 1.
    """

    kernel = kernels.schedule_free_adamw
    default_decoupled = None
    lr: float = hyperparameter(0.0025)
    beta: float = hyperparameter(0.9, above=0, most=1)
    warmup_steps: int = whole(0)
    _: KW_ONLY
    beta2: float = hyperparameter(0.999, below=1)
    eps: float = hyperparameter(1e-8)
    weight_decay: float = hyperparameter(0.0)
    v = State()
    z = State(lambda self, param, grad: param)

    def scalars(self, t: int) -> tuple[float, ...]:
        """Give 1 − β₂, √(1 − β₂ᵗ), eps times that, weight_decay, c, lr and lr·(β·(1 − c) − 1)."""
        c, lr = averaging(t, self.warmup_steps, self.lr)
        root = sqrt(1.0 - self.beta2**t)
        lr_y = lr * (self.beta * (1 - c) - 1)
        return 1.0 - self.beta2, root, self.eps * root, self.weight_decay, c, lr, lr_y
