"""Schedule-free rules: an average over the steps takes the place of a schedule.

The sum of weights is computed from t and the hyperparameters in use, see `fastopt.rule`. So the authors'
greatest learning rate so far, in whose power they weigh a step, is that of the warm-up here.
"""

from collections.abc import Callable, Hashable
from dataclasses import KW_ONLY, dataclass
from math import sqrt
from typing import Any

import numpy as np

from fastopt import kernels
from fastopt.checks import choice
from fastopt.engine.engine import Engine
from fastopt.optimizer import Optimizer, State, hyperparameter, whole
from fastopt.optimizers.common import rectification

__all__ = ["ScheduleFreeAdamW", "ScheduleFreeRAdam", "ScheduleFreeSGD"]


def averaging(t: int, warmup: int, lr: float, r: float = 0.0, power: float = 2.0) -> tuple[float, float]:
    """Give the weight of step t in the average of the schedule-free rules, and the learning rate."""
    factor = min(t / warmup, 1.0) if warmup else 1.0
    if r != 0 or power != 2:

        def weight(step: int) -> float:
            return weight_of(step, warmup, r, power)

        return weight(t) / sum_of_weights(t, (warmup, r, power), weight), lr * factor
    # The sum of the squares of the factors so far, which are i / warmup, then 1.
    rising = min(t, warmup)
    total = 0.0
    if warmup:
        total = rising * (rising + 1) * (2 * rising + 1) / (6 * warmup * warmup)
    total += t - rising
    return factor * factor / total, lr * factor


def weight_of(t: int, warmup: int, r: float, power: float) -> float:
    """Return the weight of step t, not yet divided by the sum."""
    factor = min(t / warmup, 1.0) if warmup else 1.0
    result: float = t**r * (factor * factor if power == 2 else factor**power)
    return result


# The sums of the last steps for each kind of weights, so that a step adds one more.
SUMS: dict[Hashable, dict[int, float]] = {}


def sum_of_weights(t: int, kind: Hashable, weight: Callable[[int], float]) -> float:
    """Return the sum of the weights until step t, which takes longer where a run is resumed.

    Parameters
    ----------
    t : int
        The step.
    kind : tuple
        All that the weights depend on besides the step.
    weight : callable
        Returns the weight of a step.
    """
    if len(SUMS) > 100:
        SUMS.clear()
    known = SUMS.setdefault(kind, {})
    if t not in known:
        last = t - 1 if t - 1 in known else 0
        total = known.get(last, 0.0)
        for i in range(last + 1, t + 1):
            total += weight(i)
        if len(known) > 1000:
            SUMS[kind] = known = dict([*known.items()][-500:])
        known[t] = total
    return known[t]


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

    p ← p + c·(z − p) + lr·(β·(1 − c) − 1)·g; z ← z − lr·g, where c = wₜ / (w₁ + … + wₜ) and
    wₜ = tʳ·min(t / warmup_steps, 1)^weight_lr_power

    p is the paper's y, where gradients are taken; `average` gives its x, which is what to use after the
    training. In optax lr is that of the step before during the warm-up, here and in the authors' code that of
    the step. c doesn't depend on lr: it is the authors' as long as lr is constant, so warm up by warmup_steps
    and not by a schedule, whose small first steps would count as much as the others.

    Leave ``lookahead`` and ``cautious`` out, which move p without z, so that x is another one; with ``ema``
    or ``swa`` `average` returns these averages of p. Take it when it isn't known how long a training will be.

    Parameters
    ----------
    lr : float, default 1.0
        Learning rate, at least 0.
    beta : float, default 0.9
        Weight of x in p, above 0, at most 1.
    warmup_steps : int, default 0
        Steps over which lr rises to its value.
    r : float, default 0.0
        Power of t in the weight of a step in the average, from 0 to 10: with more, early steps count less.
    weight_lr_power : float, default 2.0
        Power of the warm-up's factor of lr in that weight, from 0 to 10.

    Attributes
    ----------
    z : dict or list of arrays, or None
        Where gradient descent alone would be.

    References
    ----------
    Defazio et al. 2024, *The road less scheduled* (arXiv:2405.15682), equations 2 to 4.

    Examples
    --------
    >>> W, optimizer = np.zeros(1), fastopt.ScheduleFreeSGD(lr=1)
    >>> for t in range(4):
    ...     taken = optimizer.update([W], [np.ones(1)])
    >>> optimizer.z, optimizer.average([W])  # z descends, its mean is what to use
    ([array([-4.])], [array([-2.5])])
    """

    kernel = kernels.schedule_free_sgd
    min_parallel_size = 50_000
    lr: float = hyperparameter(1.0)
    beta: float = hyperparameter(0.9, above=0, most=1)
    warmup_steps: int = whole(0)
    _: KW_ONLY
    r: float = hyperparameter(0.0, most=10, scheduled=False, repr=False)
    weight_lr_power: float = hyperparameter(2.0, most=10, scheduled=False, repr=False)
    z = State(lambda self, param, grad: param)

    def scalars(self, t: int) -> tuple[float, ...]:
        """Give c, lr and lr·(β·(1 − c) − 1)."""
        c, lr = averaging(t, self.warmup_steps, self.lr, self.r, self.weight_lr_power)
        return c, lr, lr * (self.beta * (1 - c) - 1)

    def decay_scalars(self, decay: float) -> tuple[float, float]:
        """Return l2 and keep: as in the paper, decay is a part of the gradient at p, so that it reaches z."""
        return decay, 1.0


@dataclass(eq=False)
class ScheduleFreeAdamW(ScheduleFree, Optimizer):
    """Adam without a schedule: an average over the steps takes its place, and that of the momentum.

    v as Adam; d ← g / (√v̂ + eps) + weight_decay·p; p ← p + c·(z − p) + lr·(β·(1 − c) − 1)·d; z ← z − lr·d

    p is where gradients are taken; `average` gives what to use after the training. c, the warm-up, and which
    options to leave out are `ScheduleFreeSGD`'s. Take it when it isn't known how long a training will be, and
    `AdamW` would be the choice with a schedule.

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
    r : float, default 0.0
        Power of t in the weight of a step in the average, from 0 to 10: with more, early steps count less.
    weight_lr_power : float, default 2.0
        Power of the warm-up's factor of lr in that weight, from 0 to 10.

    Attributes
    ----------
    v : dict or list of arrays, or None
        Moving average of the squared gradients.
    z : dict or list of arrays, or None
        Where the steps alone would be.

    References
    ----------
    Defazio et al. 2024, *The road less scheduled* (arXiv:2405.15682), algorithm 1.

    Examples
    --------
    >>> W, optimizer = np.zeros(1), fastopt.ScheduleFreeAdamW(lr=0.1)
    >>> for t in range(4):
    ...     taken = optimizer.update([W], [np.ones(1)])
    >>> optimizer.z[0].round(3), optimizer.average([W])[0].round(3)
    (array([-0.4]), array([-0.25]))
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
    r: float = hyperparameter(0.0, most=10, scheduled=False, repr=False)
    weight_lr_power: float = hyperparameter(2.0, most=10, scheduled=False, repr=False)
    v = State(quantized="roots")
    z = State(lambda self, param, grad: param)

    def scalars(self, t: int) -> tuple[float, ...]:
        """Give 1 − β₂, √(1 − β₂ᵗ), eps times that, weight_decay, c, lr and lr·(β·(1 − c) − 1)."""
        c, lr = averaging(t, self.warmup_steps, self.lr, self.r, self.weight_lr_power)
        root = sqrt(1.0 - self.beta2**t)
        lr_y = lr * (self.beta * (1 - c) - 1)
        return 1.0 - self.beta2, root, self.eps * root, self.weight_decay, c, lr, lr_y


@dataclass(eq=False)
class ScheduleFreeRAdam(ScheduleFree, Optimizer):
    """Schedule-free Adam that needs no warm-up, for RAdam's factor of the learning rate takes its place.

    v as Adam; d ← g / (√v̂ + eps) + weight_decay·p; p ← p + c·(z − p) + η·(β·(1 − c) − 1)·d; z ← z − η·d,
    where η = lr·rₜ with the rₜ of `RAdam`, and c = wₜ / (w₁ + … + wₜ) with wₜ = tʳ·rₜ^weight_lr_power

    While RAdam's ρₜ is at most 4, in the first four or five steps, rₜ is 0: only v is updated. Without the
    silent phase rₜ is 1 there and d ← g + weight_decay·p, and all steps count alike in c, but for tʳ. p is
    where gradients are taken; `average` gives what to use after the training. The authors' package has it as
    ``RAdamScheduleFree``.

    Take it when it isn't known how long a training will be, nor how long it should be warmed up.

    Parameters
    ----------
    lr : float, default 0.0025
        Learning rate, at least 0.
    beta : float, default 0.9
        Weight of the average in p, above 0, at most 1.
    beta2 : float, default 0.999
        Decay of the average of the squares, from 0 to below 1. With 0.6 or less no step is ever rectified.
    eps : float, default 1e-8
        Added to the root of the corrected v, as in PyTorch.
    weight_decay : float, default 0.0
        Added to d, times p.
    r : float, default 0.0
        Power of t in the weight of a step in the average, from 0 to 10: with more, early steps count less.
    weight_lr_power : float, default 2.0
        Power of rₜ in that weight, from 0 to 10.
    silent_sgd_phase : bool, default True
        Whether parameters stay as they are until steps are rectified. If not, they take steps of SGD.

    Attributes
    ----------
    v : dict or list of arrays, or None
        Moving average of the squared gradients.
    z : dict or list of arrays, or None
        Where the steps alone would be.

    References
    ----------
    Defazio et al. 2024, *The road less scheduled* (arXiv:2405.15682), algorithm 1, with the factor of
    Liu et al. 2020 (arXiv:1908.03265), algorithm 2, as in the authors' package schedulefree.

    Examples
    --------
    >>> W, optimizer = np.zeros(1), fastopt.ScheduleFreeRAdam(lr=0.1)
    >>> for t in range(4):
    ...     taken = optimizer.update([W], [np.ones(1)])
    >>> W, optimizer.v[0].round(3)  # in the first steps only v is updated
    (array([0.]), array([0.004]))
    """

    kernel = kernels.schedule_free_radam
    default_decoupled = None
    lr: float = hyperparameter(0.0025)
    beta: float = hyperparameter(0.9, above=0, most=1)
    _: KW_ONLY
    beta2: float = hyperparameter(0.999, below=1, scheduled=False)
    eps: float = hyperparameter(1e-8)
    weight_decay: float = hyperparameter(0.0)
    r: float = hyperparameter(0.0, most=10, scheduled=False, repr=False)
    weight_lr_power: float = hyperparameter(2.0, most=10, scheduled=False, repr=False)
    silent_sgd_phase: bool = choice(True, False, True)
    v = State(quantized="roots")
    z = State(lambda self, param, grad: param)

    def _weight(self, t: int) -> float:
        """Give the weight of step t in the average, not yet divided by the sum."""
        factor = rectification(t, self.beta2) if self.silent_sgd_phase else 1.0
        result: float = t**self.r * factor**self.weight_lr_power
        return result

    def scalars(self, t: int) -> tuple[float, ...]:
        """Give 1 − β₂, √(1 − β₂ᵗ), eps times that, if it is rectified, weight_decay, c, η and η of p."""
        kind = self.silent_sgd_phase, self.beta2, self.r, self.weight_lr_power
        total = sum_of_weights(t, kind, self._weight)
        c = self._weight(t) / total if total else 0.0
        factor = rectification(t, self.beta2)
        rectified = factor > 0
        lr = self.lr * (factor if rectified or self.silent_sgd_phase else 1.0)
        root = sqrt(1.0 - self.beta2**t) if rectified else 1.0
        lr_y = lr * (self.beta * (1 - c) - 1)
        return 1.0 - self.beta2, root, self.eps * root, float(rectified), self.weight_decay, c, lr, lr_y
