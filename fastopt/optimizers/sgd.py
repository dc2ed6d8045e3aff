"""Gradient descent and its momentum."""

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastopt import kernels
from fastopt.optimizer import Optimizer, State, hyperparameter

__all__ = ["ASGD", "NAG", "SGD", "SGDM", "AggMo", "Momentum", "Nesterov", "OptimisticGD"]


@dataclass(eq=False)
class SGD(Optimizer):
    """Stochastic gradient descent.

    p ← p − lr·g

    Take it when there is no memory for state, or as the yardstick of others, with a tuned lr and a schedule.

    Parameters
    ----------
    lr : float, default 0.01
        Learning rate, at least 0.

    References
    ----------
    Saito, *Deep Learning from Scratch*, section 6.1.2.

    Examples
    --------
    >>> W, dW = np.array([1.0, 1.0]), np.array([1.0, -2.0])
    >>> fastopt.SGD(lr=0.1).update([W], [dW])
    True
    >>> W
    array([0.9, 1.2])
    """

    kernel = kernels.sgd
    min_parallel_size = 50_000
    zero_grad_is_noop = True
    lr: float = hyperparameter(0.01)

    def scalars(self, t: int) -> tuple[float, ...]:
        """Give lr."""
        return (self.lr,)


@dataclass(eq=False)
class Momentum(Optimizer):
    """Gradient descent with momentum.

    v ← μ·v − lr·g; p ← p + v

    PyTorch keeps the learning rate out of the velocity, as `SGDM` does: the same steps as long as lr is
    constant. Take it when there is time to tune lr: on images it often ends better than `Adam`.

    Parameters
    ----------
    lr : float, default 0.01
        Learning rate, at least 0.
    momentum : float, default 0.9
        μ, from 0 to 1.

    Attributes
    ----------
    v : dict or list of arrays, or None
        Velocity, in the parameters' units.

    References
    ----------
    Saito, *Deep Learning from Scratch*, section 6.1.4; Polyak 1964.

    Examples
    --------
    >>> W, optimizer = np.zeros(1), fastopt.Momentum(lr=0.1)
    >>> for t in range(2):
    ...     taken = optimizer.update([W], [np.ones(1)])
    >>> optimizer.v  # −0.1, then 0.9·(−0.1) − 0.1
    [array([-0.19])]
    """

    kernel = kernels.momentum
    min_parallel_size = 50_000
    lr: float = hyperparameter(0.01)
    momentum: float = hyperparameter(0.9, most=1)
    v = State(quantized="values")

    def scalars(self, t: int) -> tuple[float, ...]:
        """Give μ and lr."""
        return self.momentum, self.lr


@dataclass(eq=False)
class Nesterov(Optimizer):
    """Nesterov's accelerated gradient, in terms of the point looked ahead to.

    p ← p + μ²·v; p ← p − ((1 + μ)·lr)·g; v ← μ·v − lr·g

    The parameter moves by the velocity of the step before. This is the book's rule as its code on
    GitHub has it since 2021; earlier copies, and volume 2's, update v first, which is another rule. Take it
    when `Momentum` would do: it overshoots less, at the same cost.

    Parameters
    ----------
    lr : float, default 0.01
        Learning rate, at least 0.
    momentum : float, default 0.9
        μ, from 0 to 1.

    Attributes
    ----------
    v : dict or list of arrays, or None
        Velocity, in the parameters' units.

    References
    ----------
    Bengio, Boulanger-Lewandowski and Pascanu 2013, *Advances in optimizing recurrent networks*
    (arXiv:1212.0901), equation 7.

    Examples
    --------
    >>> W, optimizer = np.zeros(1), fastopt.Nesterov(lr=0.1)
    >>> for t in range(2):
    ...     taken = optimizer.update([W], [np.ones(1)])
    >>> W  # −1.9·0.1, then 0.9²·(−0.1) − 1.9·0.1
    array([-0.461])
    """

    kernel = kernels.nesterov
    min_parallel_size = 50_000
    lr: float = hyperparameter(0.01)
    momentum: float = hyperparameter(0.9, most=1)
    v = State(quantized="values")

    def scalars(self, t: int) -> tuple[float, ...]:
        """Give μ, lr, μ² and (1 + μ)·lr."""
        mu, lr = self.momentum, self.lr
        return mu, lr, mu * mu, (1 + mu) * lr


@dataclass(eq=False)
class SGDM(Optimizer):
    """Gradient descent with momentum, as in PyTorch: the learning rate isn't in the velocity.

    v ← μ·v + (1 − dampening)·g, at the first step v ← g; p ← p − lr·v

    A new lr acts on the whole velocity at once. In `Momentum`'s the gradients keep the lr of their step:
    after a drop of lr it goes on for some steps at the old pace. With constant lr and no dampening both take
    the same steps. Take it when a training was tuned in PyTorch or optax and lr has a schedule.

    Parameters
    ----------
    lr : float, default 0.01
        Learning rate, at least 0.
    momentum : float, default 0.9
        μ, from 0 to 1.
    dampening : float, default 0.0
        Share of each gradient but the first that is left out of the velocity, from 0 to 1: PyTorch's. With
        dampening = μ the velocity is an average of the gradients.

    Attributes
    ----------
    v : dict or list of arrays, or None
        Velocity, in the gradients' units.

    References
    ----------
    Sutskever, Martens, Dahl and Hinton 2013, *On the importance of initialization and momentum in deep
    learning*, section 2; PyTorch's ``SGD(momentum=0.9)``.

    Examples
    --------
    >>> W, optimizer = np.zeros(1), fastopt.SGDM(lr=0.1)
    >>> for t in range(2):
    ...     taken = optimizer.update([W], [np.ones(1)])
    >>> optimizer.lr = 0.01  # acts on the whole velocity at once
    >>> optimizer.v, W
    ([array([1.9])], array([-0.29]))
    """

    kernel = kernels.sgdm
    min_parallel_size = 50_000
    step_arguments = ("dampening",)
    lr: float = hyperparameter(0.01)
    momentum: float = hyperparameter(0.9, most=1)
    dampening: float = hyperparameter(0.0, most=1, repr=False)
    v = State(quantized="values")

    def scalars(self, t: int) -> tuple[float, ...]:
        """Give μ, the weight of the gradient and lr."""
        return self.momentum, 1 - self.dampening if t > 1 else 1.0, self.lr


@dataclass(eq=False)
class NAG(Optimizer):
    """Nesterov's accelerated gradient, as in PyTorch: the learning rate isn't in the velocity.

    v ← μ·v + g; p ← p − lr·(g + μ·v)

    With constant lr it takes `Nesterov`'s steps. Take it when a training was tuned in PyTorch or optax with
    ``nesterov=True`` and lr has a schedule.

    Parameters
    ----------
    lr : float, default 0.01
        Learning rate, at least 0.
    momentum : float, default 0.9
        μ, from 0 to 1.

    Attributes
    ----------
    v : dict or list of arrays, or None
        Velocity, in the gradients' units.

    References
    ----------
    Sutskever, Martens, Dahl and Hinton 2013, *On the importance of initialization and momentum in deep
    learning*, section 2; PyTorch's ``SGD(momentum=0.9, nesterov=True)``.

    Examples
    --------
    >>> W, optimizer = np.zeros(1), fastopt.NAG(lr=0.1)
    >>> for t in range(2):
    ...     taken = optimizer.update([W], [np.ones(1)])
    >>> optimizer.v, W  # −0.1·(1 + 0.9), then −0.1·(1 + 0.9·1.9)
    ([array([1.9])], array([-0.461]))
    """

    kernel = kernels.nag
    min_parallel_size = 50_000
    lr: float = hyperparameter(0.01)
    momentum: float = hyperparameter(0.9, most=1)
    v = State(quantized="values")

    def scalars(self, t: int) -> tuple[float, ...]:
        """Give μ and lr."""
        return self.momentum, self.lr


@dataclass(eq=False)
class OptimisticGD(Optimizer):
    """Gradient descent that expects the next gradient to differ from this as this from the one before.

    p ← p − lr·((α + β)·g − β·g of the step before), which is g itself at the first

    Take it when two networks play against each other: around saddle points gradient descent circles. optax's
    ``optimistic_gradient_descent``; the paper's has α = β = 1.

    Parameters
    ----------
    lr : float, default 0.01
        Learning rate, at least 0.
    alpha : float, default 1.0
        α, at least 0: weight of the gradient.
    beta : float, default 1.0
        β, at least 0: weight of its difference from the one before.

    Attributes
    ----------
    prev_grad : dict or list of arrays, or None
        The gradient of the step before.

    References
    ----------
    Mokhtari, Ozdaglar and Pattathil 2020, *A unified analysis of extra-gradient and optimistic gradient
    methods for saddle point problems* (arXiv:1901.08511).

    Examples
    --------
    >>> W, optimizer = np.zeros(1), fastopt.OptimisticGD(lr=0.1)
    >>> for g in (1.0, 0.5):
    ...     taken = optimizer.update([W], [np.array([g])])
    >>> W  # −0.1·1, then −0.1·(2·0.5 − 1): the gradient is expected to fall to 0
    array([-0.1])
    """

    kernel = kernels.optimistic_gd
    min_parallel_size = 50_000
    lr: float = hyperparameter(0.01)
    alpha: float = hyperparameter(1.0)
    beta: float = hyperparameter(1.0)
    prev_grad = State(lambda self, param, grad: grad, quantized="values")

    def scalars(self, t: int) -> tuple[float, ...]:
        """Give α + β, β and lr."""
        return self.alpha + self.beta, self.beta, self.lr


@dataclass(eq=False)
class ASGD(Optimizer):
    """Averaged stochastic gradient descent.

    p ← (1 − λ·η)·p − η·g; ax ← ax + μ·(p − ax),
    where η = lr / (1 + λ·lr·(t − 1))^α and μ = 1 / max(1, t − 1 − t0)

    The average ``ax`` is what to use after the training; until step t0 it is p itself. In PyTorch, which
    computes η at the end of the step before, a new lr acts one step later. Take it when a linear model is
    fitted to noisy gradients; rarely today, as ``ema`` and ``swa`` average any rule.

    Parameters
    ----------
    lr : float, default 0.01
        Learning rate, at least 0.
    lambd : float, default 1e-4
        λ, at least 0: decay of the parameters and of η.
    alpha : float, default 0.75
        α, at least 0: power of the fall of η.
    t0 : float, default 1e6
        The step after which parameters are averaged.

    Attributes
    ----------
    ax : dict or list of arrays, or None
        Average of the parameters.

    References
    ----------
    Polyak and Juditsky 1992, *Acceleration of stochastic approximation by averaging*;
    PyTorch's ``ASGD``.

    Examples
    --------
    >>> W, optimizer = np.zeros(1), fastopt.ASGD(lr=1, lambd=0, t0=0)
    >>> for t in range(3):
    ...     taken = optimizer.update([W], [np.ones(1)])
    >>> W, optimizer.average([W])  # the mean of the parameters after all steps
    (array([-3.]), [array([-2.5])])
    """

    kernel = kernels.asgd
    min_parallel_size = 50_000
    lr: float = hyperparameter(0.01)
    lambd: float = hyperparameter(1e-4)
    alpha: float = hyperparameter(0.75)
    t0: float = hyperparameter(1e6)
    ax = State(lambda self, param, grad: param)

    def scalars(self, t: int) -> tuple[float, ...]:
        """Give 1 − λ·η, η and μ."""
        eta = self.lr / (1 + self.lambd * self.lr * (t - 1)) ** self.alpha
        return 1 - self.lambd * eta, eta, 1 / max(1.0, t - 1 - self.t0)

    def own_average(self, view: Any, key: Hashable, param: np.ndarray) -> np.ndarray:
        """Return ax."""
        ax: np.ndarray = self.engine.memory.views("ax")[key]
        return ax


@dataclass(eq=False)
class AggMo(Optimizer):
    """Gradient descent with the mean of three velocities, each with a momentum of its own.

    vᵢ ← βᵢ·vᵢ − g; p ← p + lr / 3·(v₁ + v₂ + v₃)

    The slow velocities go far along a valley, the quick ones stop their swinging. The authors' code has any
    number of velocities, by default these three; there the arguments are ``betas=[0, 0.9, 0.99]``.

    Take it when Momentum with 0.99 would be fast, but swings.

    Parameters
    ----------
    lr : float, default 0.01
        Learning rate, at least 0. Where gradients don't change, a step comes to 37·lr·g with the defaults,
        one of `Momentum` to 10·lr·g.
    beta1, beta2, beta3 : float, default 0.0, 0.9 and 0.99
        Momentum of each velocity, from 0 to 1.

    Attributes
    ----------
    v1, v2, v3 : dict or list of arrays, or None
        The velocities, without the learning rate.

    References
    ----------
    Lucas, Sun, Zemel and Grosse 2019, *Aggregated momentum: stability through passive damping*
    (arXiv:1804.00325), equation 3.

    Examples
    --------
    >>> W, optimizer = np.zeros(1), fastopt.AggMo(lr=0.3)
    >>> for t in range(2):
    ...     taken = optimizer.update([W], [np.ones(1)])
    >>> optimizer.v1, optimizer.v2, optimizer.v3  # momentum 0, 0.9 and 0.99
    ([array([-1.])], [array([-1.9])], [array([-1.99])])
    """

    kernel = kernels.aggmo
    min_parallel_size = 50_000
    lr: float = hyperparameter(0.01)
    beta1: float = hyperparameter(0.0, most=1)
    beta2: float = hyperparameter(0.9, most=1)
    beta3: float = hyperparameter(0.99, most=1)
    v1 = State(quantized="values")
    v2 = State(quantized="values")
    v3 = State(quantized="values")

    def scalars(self, t: int) -> tuple[float, ...]:
        """Give the momenta and lr / 3."""
        return self.beta1, self.beta2, self.beta3, self.lr / 3
