"""numpy-ml: its optimizers, ``param = optimizer(param, grad, name, loss)``.

The state is in ``optimizer.cache`` under the parameters' names (SGD's with the other sign than numpy-ml's),
the hyperparameters are in ``optimizer.hyperparameters``. param is updated in place and given back.
"""

from collections.abc import Callable
from copy import deepcopy
from typing import Any, ClassVar

import numpy as np

from fastopt import optimizers
from fastopt.adapters.common import PaperAdam, step_from
from fastopt.optimizer import Optimizer

__all__ = ["SGD", "AdaGrad", "Adam", "RMSProp"]

Bound = float | None
Scheduler = Callable[[int, float | None], float] | None


class ByName:
    """What they share: the count of steps, clipping to ``clip_norm`` and the schedule.

    ``lr_scheduler`` returns the learning rate from cur_step and the loss, as numpy-ml's schedulers.
    """

    rule: ClassVar[type[Optimizer]]
    named: ClassVar[dict[str, str]]  # what numpy-ml calls the rule's hyperparameters

    def __init__(self, lr: float, clip_norm: Bound, lr_scheduler: Scheduler, **more: float) -> None:
        if not (lr_scheduler is None or callable(lr_scheduler)):
            raise TypeError(f"lr_scheduler must be one of numpy-ml's scheduler objects, not {lr_scheduler!r}")
        self.cache: dict[str, Any] = {}
        self.cur_step = 0
        self.lr_scheduler = lr_scheduler
        self.hyperparameters = {"id": type(self).__name__, "lr": lr, "clip_norm": clip_norm, **more}

    def __call__(
        self, param: np.ndarray, param_grad: np.ndarray, param_name: str, cur_loss: float | None = None
    ) -> np.ndarray:
        """Update a parameter."""
        known: dict[str, Any] = self.hyperparameters
        clip, lr = known["clip_norm"], known["lr"]
        if self.lr_scheduler is not None:
            lr = self.lr_scheduler(self.cur_step, cur_loss)
        if clip is not None and (norm := np.linalg.norm(param_grad)) > clip:
            param_grad = param_grad * clip / norm
        hyperparameters = {"lr": lr} | {own: known[name] for own, name in self.named.items()}
        self.take(param, param_grad, param_name, hyperparameters)
        return param

    update = __call__

    def take(self, param: np.ndarray, grad: np.ndarray, name: str, hyperparameters: dict[str, float]) -> None:
        """Take a step, with the state where numpy-ml has it."""
        step_from(self.cache, self.rule, None, [param], [grad], [[name]], **hyperparameters)

    def step(self) -> None:
        """Count a step; the schedule depends on it."""
        self.cur_step += 1

    def reset_step(self) -> None:
        """Count from 0 again."""
        self.cur_step = 0

    def copy(self) -> "ByName":
        """Return a copy with a state of its own."""
        return deepcopy(self)


class SGD(ByName):
    """`fastopt.Momentum`."""

    rule = optimizers.Momentum
    named: ClassVar = {"momentum": "momentum"}

    def __init__(
        self, lr: float = 0.01, momentum: float = 0.0, clip_norm: Bound = None, lr_scheduler: Scheduler = None
    ) -> None:
        super().__init__(lr, clip_norm, lr_scheduler, momentum=momentum)


class AdaGrad(ByName):
    """`fastopt.AdaGrad`."""

    rule = optimizers.AdaGrad
    named: ClassVar = {"eps": "eps"}

    def __init__(
        self, lr: float = 0.01, eps: float = 1e-7, clip_norm: Bound = None, lr_scheduler: Scheduler = None
    ) -> None:
        super().__init__(lr, clip_norm, lr_scheduler, eps=eps)


class RMSProp(ByName):
    """`fastopt.RMSprop`."""

    rule = optimizers.RMSprop
    named: ClassVar = {"decay_rate": "decay", "eps": "eps"}

    def __init__(
        self,
        lr: float = 0.001,
        decay: float = 0.9,
        eps: float = 1e-7,
        clip_norm: Bound = None,
        lr_scheduler: Scheduler = None,
    ) -> None:
        super().__init__(lr, clip_norm, lr_scheduler, decay=decay, eps=eps)


class Adam(ByName):
    """Adam with eps on the corrected root, `fastopt.AdamW` without decay."""

    rule = PaperAdam
    named: ClassVar = {"beta1": "decay1", "beta2": "decay2", "eps": "eps"}

    def __init__(
        self,
        lr: float = 0.001,
        decay1: float = 0.9,
        decay2: float = 0.999,
        eps: float = 1e-7,
        clip_norm: Bound = None,
        lr_scheduler: Scheduler = None,
    ) -> None:
        super().__init__(lr, clip_norm, lr_scheduler, decay1=decay1, decay2=decay2, eps=eps)

    def take(self, param: np.ndarray, grad: np.ndarray, name: str, hyperparameters: dict[str, float]) -> None:
        """Take a step; each parameter counts its own."""
        home = self.cache.setdefault(name, {"t": 0})
        t = home["t"] + 1
        step_from(home, self.rule, t, [param], [grad], [["mean"], ["var"]], **hyperparameters)
        home["t"] = t
