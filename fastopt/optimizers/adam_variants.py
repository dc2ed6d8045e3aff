"""Relatives of Adam: other bounds, orders and weights of its averages."""

from dataclasses import KW_ONLY, dataclass
from math import sqrt

from fastopt import kernels
from fastopt.optimizer import Optimizer, State, hyperparameter

__all__ = ["AdaBound"]


@dataclass(eq=False)
class AdaBound(Optimizer):
    """Adam whose step sizes are clipped to bounds that close on the learning rate of gradient descent.

    m and v as Adam; p ← p − clip(lr_t / (√v + eps), lower, upper)·m, where lr_t = lr·√(1 − β₂ᵗ) / (1 − β₁ᵗ),
    lower = final·(1 − 1 / (γ·t + 1)) and upper = final·(1 + 1 / (γ·t))

    final is final_lr, or, with base_lr, final_lr·lr / base_lr: a schedule of lr then moves the bounds, too.
    In the authors' code base_lr is the lr that the optimizer was made with. eps is added to the root of the
    uncorrected v, as there.

    Take it when Adam learns fast at first, but SGD ends better.

    Parameters
    ----------
    lr : float, default 0.001
        Learning rate of Adam's part, at least 0.
    beta1 : float, default 0.9
        Decay of the moving average of the gradients, from 0 to below 1.
    beta2 : float, default 0.999
        Decay of that of their squares, from 0 to below 1.
    final_lr : float, default 0.1
        The step size that both bounds come to: the learning rate of gradient descent, at least 0.
    gamma : float, default 1e-3
        γ, above 0, below 1: how fast they come, in 1 / step.
    base_lr : float or None, default None
        The lr at which the bounds are those of final_lr, above 0. None: they don't depend on lr.
    eps : float, default 1e-8
        Added to the root of the uncorrected v.

    Attributes
    ----------
    m : dict or list of arrays, or None
        Moving average of the gradients.
    v : dict or list of arrays, or None
        Moving average of their squares.

    Raises
    ------
    TypeError, ValueError
        If a hyperparameter is no number or out of range, here or when it is assigned later.

    References
    ----------
    Luo, Xiong, Liu and Sun 2019, *Adaptive gradient methods with dynamic bound of learning rate*
    (arXiv:1902.09843), algorithm 1, with the bounds of the authors' code.
    """

    kernel = kernels.adabound
    lr: float = hyperparameter(0.001)
    beta1: float = hyperparameter(0.9, below=1)
    beta2: float = hyperparameter(0.999, below=1)
    _: KW_ONLY
    final_lr: float = hyperparameter(0.1)
    gamma: float = hyperparameter(1e-3, above=0, below=1)
    base_lr: float | None = hyperparameter(None, above=0)
    eps: float = hyperparameter(1e-8)
    m = State()
    v = State()

    def scalars(self, t: int) -> tuple[float, ...]:
        """Give 1 − β₁, 1 − β₂, lr_t, eps and the bounds."""
        beta1, beta2 = self.beta1, self.beta2
        lr_t = self.lr * sqrt(1.0 - beta2**t) / (1.0 - beta1**t)
        final = self.final_lr if self.base_lr is None else self.final_lr * self.lr / self.base_lr
        lower, upper = final * (1 - 1 / (self.gamma * t + 1)), final * (1 + 1 / (self.gamma * t))
        return 1.0 - beta1, 1.0 - beta2, lr_t, self.eps, lower, upper
