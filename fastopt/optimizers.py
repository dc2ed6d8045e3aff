"""The optimizers, simplest first: one thin class a rule.

A class names its kernel, its state and the scalars of a step; `fastopt.optimizer.Optimizer` does the rest,
and gives each rule the keyword ``threads``.
Scalars that depend on hyperparameters or the step only are worked out here, in double precision.
"""

from dataclasses import KW_ONLY, dataclass
from math import sqrt

from fastopt import kernels
from fastopt.optimizer import Optimizer, State, hyperparameter

__all__ = ["SGD", "AdaGrad", "Adam", "Momentum", "Nesterov", "RMSprop"]  # the rules, and nothing else


@dataclass(eq=False)
class SGD(Optimizer):
    """Stochastic gradient descent.

    p ← p − lr·g

    Parameters
    ----------
    lr : float, default 0.01
        Learning rate, at least 0.

    Raises
    ------
    TypeError, ValueError
        If a hyperparameter is no number or out of range, here or when it is assigned later.

    References
    ----------
    Saito, *Deep Learning from Scratch*, section 6.1.2.
    """

    kernel = kernels.sgd
    parallel_from = 50_000
    lr: float = hyperparameter(0.01)

    def scalars(self, t: int) -> tuple[float, ...]:
        """Give lr."""
        return (self.lr,)


@dataclass(eq=False)
class Momentum(Optimizer):
    """Gradient descent with momentum.

    v ← μ·v − lr·g; p ← p + v

    PyTorch keeps the learning rate out of the velocity (v ← μ·v + g; p ← p − lr·v): the same
    steps as long as lr is constant.

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

    Raises
    ------
    TypeError, ValueError
        If a hyperparameter is no number or out of range, here or when it is assigned later.

    References
    ----------
    Saito, *Deep Learning from Scratch*, section 6.1.4; Polyak 1964.
    """

    kernel = kernels.momentum
    parallel_from = 50_000
    lr: float = hyperparameter(0.01)
    momentum: float = hyperparameter(0.9, most=1)
    v = State()

    def scalars(self, t: int) -> tuple[float, ...]:
        """Give μ and lr."""
        return self.momentum, self.lr


@dataclass(eq=False)
class Nesterov(Optimizer):
    """Nesterov's accelerated gradient, in terms of the point looked ahead to.

    p ← p + μ²·v; p ← p − ((1 + μ)·lr)·g; v ← μ·v − lr·g

    The parameter moves by the velocity of the step before. This is the book's rule as its code on
    GitHub has it since 2021; earlier copies, and volume 2's, update v first, which is another rule.

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

    Raises
    ------
    TypeError, ValueError
        If a hyperparameter is no number or out of range, here or when it is assigned later.

    References
    ----------
    Bengio, Boulanger-Lewandowski and Pascanu 2013, *Advances in optimizing recurrent networks*
    (arXiv:1212.0901), equation 7.
    """

    kernel = kernels.nesterov
    parallel_from = 50_000
    lr: float = hyperparameter(0.01)
    momentum: float = hyperparameter(0.9, most=1)
    v = State()

    def scalars(self, t: int) -> tuple[float, ...]:
        """Give μ, lr, μ² and (1 + μ)·lr."""
        mu, lr = self.momentum, self.lr
        return mu, lr, mu * mu, (1 + mu) * lr


@dataclass(eq=False)
class AdaGrad(Optimizer):
    """A learning rate for each element, which falls with the squares of its gradients.

    h ← h + g²; p ← p − lr·g / (√h + eps)

    Parameters
    ----------
    lr : float, default 0.01
        Learning rate, at least 0.
    eps : float, default 1e-7
        Added to the root; keeps the first division defined where g is 0. PyTorch has 1e-10.

    Attributes
    ----------
    h : dict or list of arrays, or None
        Sum of the squared gradients.

    Raises
    ------
    TypeError, ValueError
        If a hyperparameter is no number or out of range, here or when it is assigned later.

    References
    ----------
    Duchi, Hazan and Singer 2011, *Adaptive subgradient methods*, JMLR 12, section 1.1;
    *Deep Learning from Scratch*, section 6.1.5.
    """

    kernel = kernels.adagrad
    lr: float = hyperparameter(0.01)
    _: KW_ONLY
    eps: float = hyperparameter(1e-7)
    h = State()

    def scalars(self, t: int) -> tuple[float, ...]:
        """Give lr and eps."""
        return self.lr, self.eps


@dataclass(eq=False)
class RMSprop(Optimizer):
    """AdaGrad that forgets: a moving average of the squared gradients instead of their sum.

    h ← ρ·h + (1 − ρ)·g²; p ← p − lr·g / (√h + eps)

    As in PyTorch's, eps is added to the root; Keras has it inside.

    Parameters
    ----------
    lr : float, default 0.01
        Learning rate, at least 0.
    decay_rate : float, default 0.99
        ρ, from 0 to 1.
    eps : float, default 1e-7
        Added to the root.

    Attributes
    ----------
    h : dict or list of arrays, or None
        Moving average of the squared gradients.

    Raises
    ------
    TypeError, ValueError
        If a hyperparameter is no number or out of range, here or when it is assigned later.

    References
    ----------
    Tieleman and Hinton 2012, *Neural Networks for Machine Learning*, lecture 6.5.
    """

    kernel = kernels.rmsprop
    lr: float = hyperparameter(0.01)
    decay_rate: float = hyperparameter(0.99, most=1)
    _: KW_ONLY
    eps: float = hyperparameter(1e-7)
    h = State()

    def scalars(self, t: int) -> tuple[float, ...]:
        """Give ρ, 1 − ρ, lr and eps."""
        return self.decay_rate, 1 - self.decay_rate, self.lr, self.eps


@dataclass(eq=False)
class Adam(Optimizer):
    """Adaptive moment estimation.

    m ← m + (1 − β₁)(g − m); v ← v + (1 − β₂)(g² − v); p ← p − lr_t·m / (√v + eps),
    where lr_t = lr·√(1 − β₂ᵗ) / (1 − β₁ᵗ)

    The correction of the bias is folded into the step size, so that eps is added to the root of the
    uncorrected v, as in the book (the paper's epsilon hat). PyTorch adds its eps to the root of the
    corrected v: eps here = eps there · √(1 − β₂ᵗ).

    Parameters
    ----------
    lr : float, default 0.001
        Learning rate, at least 0.
    beta1, beta2 : float, default 0.9 and 0.999
        Decay of the two moving averages, from 0 to below 1.
    eps : float, default 1e-7
        Added to the root.

    Attributes
    ----------
    m, v : dict or list of arrays, or None
        Moving averages of the gradients and of their squares.

    Raises
    ------
    TypeError, ValueError
        If a hyperparameter is no number or out of range, here or when it is assigned later.

    References
    ----------
    Kingma and Ba 2015, *Adam: a method for stochastic optimization* (arXiv:1412.6980), algorithm 1
    and the end of section 2; *Deep Learning from Scratch*, section 6.1.6.
    """

    kernel = kernels.adam
    lr: float = hyperparameter(0.001)
    beta1: float = hyperparameter(0.9, below=1)
    beta2: float = hyperparameter(0.999, below=1)
    _: KW_ONLY
    eps: float = hyperparameter(1e-7)
    m = State()
    v = State()

    def scalars(self, t: int) -> tuple[float, ...]:
        """Give 1 − β₁, 1 − β₂, lr_t and eps."""
        beta1, beta2 = self.beta1, self.beta2
        lr_t = self.lr * sqrt(1 - beta2**t) / (1 - beta1**t)
        return 1 - beta1, 1 - beta2, lr_t, self.eps
