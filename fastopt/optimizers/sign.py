"""Steps whose length doesn't depend on the size of the gradient."""

from dataclasses import KW_ONLY, dataclass
from typing import ClassVar

from fastopt import kernels
from fastopt.optimizer import Optimizer, State, hyperparameter

__all__ = ["Lion", "Rprop", "Signum"]


@dataclass(eq=False)
class Rprop(Optimizer):
    """Steps of a size that each element finds from the signs of its gradients.

    step_size grows by η₊ where g kept its sign and shrinks by η₋ where it changed, where g then counts as 0;
    p ← p − sign(g)·step_size

    Take it when a batch is all of the data: in small ones the signs are noise. PyTorch's, which doesn't take
    back the last step (iRprop−).

    Parameters
    ----------
    lr : float, default 0.01
        Size of the first step, at least 0. It can't have a schedule; ``step_max`` can.
    eta_minus : float, default 0.5
        η₋, above 0 and below 1.
    eta_plus : float, default 1.2
        η₊, above 1.
    step_min : float, default 1e-6
        The smallest size.
    step_max : float, default 50.0
        The largest size.

    Attributes
    ----------
    prev_grad : dict or list of arrays, or None
        The gradient of the step before.
    step_size : dict or list of arrays, or None
        Size of the step.

    References
    ----------
    Riedmiller and Braun 1993, *A direct adaptive method for faster backpropagation learning*; Igel and
    Hüsken 2000 for this variant.

    Examples
    --------
    >>> W, optimizer = np.zeros(1), fastopt.Rprop(lr=0.1)
    >>> for g in (5.0, 3.0, -1.0):
    ...     taken = optimizer.update([W], [np.array([g])])
    >>> optimizer.step_size[0].round(2)  # 0.1·1.2 as the sign stayed, then times 0.5 as it changed
    array([0.06])
    """

    kernel = kernels.rprop
    unscheduled: ClassVar = {"lr": "is the size of the first step only (step_max bounds the others)"}
    lr: float = hyperparameter(0.01)
    eta_minus: float = hyperparameter(0.5, above=0, below=1)
    eta_plus: float = hyperparameter(1.2, above=1)
    step_min: float = hyperparameter(1e-6)
    step_max: float = hyperparameter(50.0)
    prev_grad = State(quantized="values")
    step_size = State(lambda self, param, grad: self.lr)

    def scalars(self, t: int) -> tuple[float, ...]:
        """Give η₋, η₊ and the bounds of the size."""
        return self.eta_minus, self.eta_plus, self.step_min, self.step_max


@dataclass(eq=False)
class Signum(Optimizer):
    """Steps by the sign of the momentum.

    m ← μ·m + g; p ← p − lr·sign(m)

    The paper averages, m ← μ·m + (1 − μ)·g: the same signs. Take it when only signs are exchanged between
    machines, or for a first look at what `Lion` does; rarely today.

    Parameters
    ----------
    lr : float, default 1e-4
        Learning rate, at least 0.
    momentum : float, default 0.9
        μ, from 0 to 1.

    Attributes
    ----------
    m : dict or list of arrays, or None
        Sum of the gradients, which decays.

    References
    ----------
    Bernstein et al. 2018, *signSGD: compressed optimisation for non-convex problems* (arXiv:1802.04434),
    algorithm 2.

    Examples
    --------
    >>> W, dW = np.array([1.0, 1.0]), np.array([1.0, -2.0])
    >>> optimizer = fastopt.Signum(lr=0.1)
    >>> optimizer.update([W], [dW])
    True
    >>> W  # only the gradients' signs count
    array([0.9, 1.1])
    """

    kernel = kernels.signum
    min_parallel_size = 50_000
    lr: float = hyperparameter(1e-4)
    momentum: float = hyperparameter(0.9, most=1)
    m = State(quantized="values")

    def scalars(self, t: int) -> tuple[float, ...]:
        """Give μ and lr."""
        return self.momentum, self.lr


@dataclass(eq=False)
class Lion(Optimizer):
    """Steps by the sign of an average that looks ahead.

    p ← (1 − lr·weight_decay)·p − lr·sign(β₁·m + (1 − β₁)·g); m ← β₂·m + (1 − β₂)·g

    Take it when `AdamW` works and memory is short: with a third to a tenth of its lr, and three to ten times
    its weight_decay.

    Parameters
    ----------
    lr : float, default 1e-4
        Learning rate, at least 0.
    beta1 : float, default 0.9
        Weight of m in the step, from 0 to below 1.
    beta2 : float, default 0.99
        Decay of m, from 0 to below 1.
    weight_decay : float, default 0.0
        Decoupled: p shrinks by lr·weight_decay of itself, whatever the gradient.

    Attributes
    ----------
    m : dict or list of arrays, or None
        Moving average of the gradients.

    References
    ----------
    Chen et al. 2023, *Symbolic discovery of optimization algorithms* (arXiv:2302.06675), program 1.

    Examples
    --------
    >>> W, dW = np.array([1.0, 1.0]), np.array([1.0, -2.0])
    >>> optimizer = fastopt.Lion(lr=0.1)
    >>> optimizer.update([W], [dW])
    True
    >>> W, optimizer.m  # only signs count, of an average that starts at 0
    (array([0.9, 1.1]), [array([ 0.01, -0.02])])
    """

    kernel = kernels.lion
    default_decoupled = True
    min_parallel_size = 50_000
    lr: float = hyperparameter(1e-4)
    beta1: float = hyperparameter(0.9, below=1)
    beta2: float = hyperparameter(0.99, below=1)
    _: KW_ONLY
    weight_decay: float = hyperparameter(0.0)
    m = State(quantized="values")

    def scalars(self, t: int) -> tuple[float, ...]:
        """Give β₁, 1 − β₁, β₂, 1 − β₂ and lr."""
        return self.beta1, 1 - self.beta1, self.beta2, 1 - self.beta2, self.lr
