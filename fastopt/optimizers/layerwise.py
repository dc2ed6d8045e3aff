"""Steps that depend on a whole array: its norm, its rows and columns."""

from dataclasses import KW_ONLY, dataclass
from math import inf, sqrt

from fastopt import kernels
from fastopt.checks import choice
from fastopt.kernels.common import LANES
from fastopt.optimizer import Optimizer, State, hyperparameter
from fastopt.optimizers.common import Shape, bias_corrected, one

__all__ = ["LAMB", "LARS", "SM3", "Adafactor", "AdafactorMomentum", "NovoGrad"]


@dataclass(eq=False)
class LARS(Optimizer):
    """Momentum with a learning rate for each array, in proportion to its norm.

    g ← g + weight_decay·p; v ← μ·v − (lr·ratio)·g; p ← p + v,
    where ratio = trust_coefficient·‖p‖ / (‖g‖ + eps), or 1 if one of the norms is 0

    Weight decay is in the gradient, as in optax; the paper adds weight_decay·‖p‖ to the divisor. Take it when
    batches are so large that `Momentum` with a larger lr diverges; biases fare better with `SGDM`, in a
    `Partition`. Nesterov's momentum isn't there.

    Parameters
    ----------
    lr : float, default 0.1
        Learning rate, at least 0.
    momentum : float, default 0.9
        μ, from 0 to 1.
    trust_coefficient : float, default 1e-3
        Length of a step in proportion to that of the parameters, with lr = 1.
    weight_decay : float, default 0.0
        Coupled: weight_decay·p is added to the gradient. With decoupled=True p shrinks by lr·weight_decay of
        itself instead.
    eps : float, default 0.0
        Added to the norm of the gradient.

    Attributes
    ----------
    v : dict or list of arrays, or None
        Velocity, in the parameters' units.

    References
    ----------
    You, Gitman and Ginsburg 2017, *Large batch training of convolutional networks* (arXiv:1708.03888),
    algorithm 1.

    Examples
    --------
    >>> W, b = np.full(4, 10.0), np.full(4, 0.1)
    >>> optimizer = fastopt.LARS(lr=1, momentum=0)
    >>> optimizer.update([W, b], [np.ones(4), np.ones(4)])
    True
    >>> (10 - W).round(4), (0.1 - b).round(6)  # in proportion to the parameters' norms
    (array([0.01, 0.01, 0.01, 0.01]), array([0.0001, 0.0001, 0.0001, 0.0001]))
    """

    kernel = kernels.lars
    default_decoupled = None
    decay_choices = (False, True)
    statistics_kernel = kernels.lars_measure
    n_additive = 2
    lr: float = hyperparameter(0.1)
    momentum: float = hyperparameter(0.9, most=1)
    trust_coefficient: float = hyperparameter(1e-3)
    _: KW_ONLY
    weight_decay: float = hyperparameter(0.0)
    eps: float = hyperparameter(0.0)
    v = State()

    def scalars(self, t: int) -> tuple[float, ...]:
        """Give μ, lr, the trust coefficient, weight_decay and eps."""
        return self.momentum, self.lr, self.trust_coefficient, self.formula_decay, self.eps

    def n_statistics(self, shape: Shape) -> int:
        """Give the room for two norms."""
        return 2 * LANES


@dataclass(eq=False)
class LAMB(Optimizer):
    """Adam with a step for each array, in proportion to its norm.

    m and v as Adam; d ← m̂ / (√v̂ + eps) + weight_decay·p; p ← p − (lr·ratio)·d,
    where ratio = ‖p‖ / ‖d‖, or 1 if one of the norms is 0

    Take it when batches are so large that `AdamW` with a larger lr diverges.

    Parameters
    ----------
    lr : float, default 0.001
        Learning rate, at least 0: the length of a step in proportion to that of the parameters.
    beta1, beta2 : float, default 0.9 and 0.999
        Decay of the moving averages of the gradients and of their squares, from 0 to below 1.
    eps : float, default 1e-6
        Added to the root of the corrected v.
    weight_decay : float, default 0.0
        weight_decay·p is added to the direction, before its norm is taken. With decoupled=True p shrinks by
        lr·weight_decay of itself instead, whatever the ratio, as in Keras.
    eps_root : float, default 0.0
        Added to the corrected v, in the root.

    Attributes
    ----------
    m, v : dict or list of arrays, or None
        Moving averages of the gradients and of their squares.

    References
    ----------
    You et al. 2020, *Large batch optimization for deep learning: training BERT in 76 minutes*
    (arXiv:1904.00962), algorithm 2.

    Examples
    --------
    >>> W, b = np.full(4, 10.0), np.full(4, 0.1)
    >>> optimizer = fastopt.LAMB(lr=0.1)
    >>> optimizer.update([W, b], [np.ones(4), np.ones(4)])
    True
    >>> W.round(3), b.round(3)  # a tenth of each array's norm
    (array([9., 9., 9., 9.]), array([0.09, 0.09, 0.09, 0.09]))
    """

    kernel = kernels.lamb
    default_decoupled = None
    decay_choices = (False, True)
    statistics_kernel = kernels.lamb_measure
    n_additive = 2
    lr: float = hyperparameter(0.001)
    beta1: float = hyperparameter(0.9, below=1)
    beta2: float = hyperparameter(0.999, below=1)
    _: KW_ONLY
    eps: float = hyperparameter(1e-6)
    weight_decay: float = hyperparameter(0.0)
    eps_root: float = hyperparameter(0.0, repr=False)
    m = State()
    v = State()

    def scalars(self, t: int) -> tuple[float, ...]:
        """Give 1 − β₁, 1 − β₂, lr, what corrects m, eps and, last, eps_root, and weight_decay."""
        beta1, beta2 = self.beta1, self.beta2
        # m is multiplied by it before the decay is added, so lr isn't in it.
        weight, root = bias_corrected(1.0, beta1, beta2, t)
        return (
            1 - beta1, 1 - beta2, self.lr, weight, self.eps * root, self.formula_decay,
            self.eps_root * (1 - beta2**t),
        )  # fmt: skip

    def n_statistics(self, shape: Shape) -> int:
        """Give the room for two norms."""
        return 2 * LANES


@dataclass(eq=False)
class NovoGrad(Optimizer):
    """Adam whose second moment is one number an array.

    v ← β₂·v + (1 − β₂)·‖g‖², at first ‖g‖²; m ← β₁·m + (g / (√v + eps) + weight_decay·p); p ← p − lr·m

    Take it when there is no memory for `Adam`'s second moment, or batches are large.

    Parameters
    ----------
    lr : float, default 0.001
        Learning rate, at least 0.
    beta1 : float, default 0.9
        Decay of the sum of the gradients, from 0 to below 1.
    beta2 : float, default 0.25
        Decay of the average of the squared norms, from 0 to below 1.
    eps : float, default 1e-6
        Added to the root.
    weight_decay : float, default 0.0
        weight_decay·p is added to the scaled gradient. With decoupled=True p shrinks by lr·weight_decay of
        itself instead.
    eps_root : float, default 0.0
        Added to v, in the root.

    Attributes
    ----------
    m : dict or list of arrays, or None
        Sum of the scaled gradients, which decays.
    v : dict or list of arrays, or None
        Moving average of the squared norm, one number an array.

    References
    ----------
    Ginsburg et al. 2019, *Stochastic gradient methods with layer-wise adaptive moments for training of deep
    networks* (arXiv:1905.11286), algorithm 1.

    Examples
    --------
    >>> W, dW = np.array([1.0, 1.0]), np.array([1.0, -2.0])
    >>> optimizer = fastopt.NovoGrad(lr=0.1)
    >>> optimizer.update([W], [dW])
    True
    >>> optimizer.v  # one number for the whole array: ‖g‖²
    [array([5.])]
    """

    kernel = kernels.novograd
    default_decoupled = None
    decay_choices = (False, True)
    statistics_kernel = kernels.novograd_measure
    n_additive = 1
    lr: float = hyperparameter(0.001)
    beta1: float = hyperparameter(0.9, below=1)
    beta2: float = hyperparameter(0.25, below=1)
    _: KW_ONLY
    eps: float = hyperparameter(1e-6)
    weight_decay: float = hyperparameter(0.0)
    eps_root: float = hyperparameter(0.0, repr=False)
    m = State()
    v = State(shape=one)

    def scalars(self, t: int) -> tuple[float, ...]:
        """Give β₁, β₂ (0 at first), lr, eps, weight_decay and eps_root."""
        beta2 = self.beta2 if t > 1 else 0.0
        return self.beta1, beta2, self.lr, self.eps, self.formula_decay, self.eps_root

    def n_statistics(self, shape: Shape) -> int:
        """Give the room for a norm."""
        return LANES


@dataclass(eq=False)
class SM3(Optimizer):
    """AdaGrad's idea with one number a row and one a column.

    ν = min(row, col) + g²; m ← m + (1 − μ)(g / √(ν + eps) − m); p ← p − lr·m,
    where row and col are the largest ν so far of each row and of each column

    With more than two dimensions, rows are those along the last; optax has a number for each index of each
    dimension. With fewer, ν is AdaGrad's sum. Take it when there is little
    memory and many gradients are 0; it takes no `Rows`.

    Parameters
    ----------
    lr : float, default 0.1
        Learning rate, at least 0.
    momentum : float, default 0.9
        μ, from 0 to 1.
    eps : float, default 1e-8
        Added inside the root.

    Attributes
    ----------
    m : dict or list of arrays, or None
        Moving average of the scaled gradients.
    row : dict or list of arrays, or None
        The largest ν of each row.
    col : dict or list of arrays, or None
        The largest ν of each column.

    References
    ----------
    Anil, Gupta, Koren and Singer 2019, *Memory-efficient adaptive optimization* (arXiv:1901.11150), SM3-II.

    Examples
    --------
    >>> W, dW = np.ones((2, 2)), np.array([[1.0, -2.0], [3.0, 4.0]])
    >>> optimizer = fastopt.SM3()
    >>> optimizer.update([W], [dW])
    True
    >>> optimizer.row[0].ravel(), optimizer.col[0].ravel()  # the largest squares
    (array([ 4., 16.]), array([ 9., 16.]))
    """

    kernel = kernels.sm3
    statistics_kernel = kernels.sm3_measure
    lr: float = hyperparameter(0.1)
    momentum: float = hyperparameter(0.9, most=1)
    _: KW_ONLY
    eps: float = hyperparameter(1e-8)
    m = State()
    row = State(shape=lambda shape: (*shape[:-1], *one(shape)[-1:]))
    col = State(shape=lambda shape: (*one(shape)[:-1], *shape[-1:]))

    def scalars(self, t: int) -> tuple[float, ...]:
        """Give 1 − μ, lr and eps."""
        return 1 - self.momentum, self.lr, self.eps

    def n_statistics(self, shape: Shape) -> int:
        """Give the room for the largest of a row and of each column."""
        return LANES + (shape[-1] if shape else 1)


@dataclass(eq=False)
class Adafactor(Optimizer):
    """Adam's second moment from one number a row and one a column; steps in proportion to the parameters.

    row and col average the means of g² over each row and each column, with w = t^beta2_decay for the new;
    u = g / √max(v, eps₁²), where v = row / max(mean(row), eps₁)·col;
    p ← (1 − lr·weight_decay)·p − (α / max(1, rms(u) / clip_threshold))·u,
    where α = min(lr, 1 / √t)·max(eps₂, rms(p))

    With more than two dimensions, this holds for each matrix of the last two; with fewer, v is row, which
    averages g² itself. Take it when there is little memory: its state is that of two vectors a matrix.

    PyTorch's. The paper, optax and Keras add eps₁ to g², which differs where g is about as small. A schedule
    of the learning rate wants relative_step=False; Keras's divides by √t even then.

    Parameters
    ----------
    lr : float, default 0.01
        Largest relative step, at least 0.
    beta2_decay : float, default -0.8
        Power of t in w, at most 0.
    eps1 : float or None, default None
        Keeps the divisor from 0; None is the dtype's machine epsilon.
    eps2 : float, default 1e-3
        Smallest rms of the parameters that steps are in proportion to.
    clip_threshold : float, default 1.0
        Largest rms of u, above 0. PyTorch's ``d``; optax's ``clipping_threshold``, whose None is a large
        number.
    relative_step : bool, default True
        Whether steps are no longer than 1 / √t; else α has lr itself, as optax has it.
    multiply_by_parameter_scale : bool, default True
        Whether steps are in proportion to the rms of the parameters; else α is lr, or min(lr, 1 / √t).
        Transformers' ``scale_parameter``.
    weight_decay : float, default 0.0
        Decoupled: p shrinks by lr·weight_decay of itself, whatever the gradient. optax's
        ``weight_decay_rate`` is not multiplied by lr. With decoupled=False weight_decay·p is added to the
        gradient instead.

    Attributes
    ----------
    row, col : dict or list of arrays, or None
        Moving averages over each row, of shape (..., m, 1), and over each column, of shape (..., 1, n).

    References
    ----------
    Shazeer and Stern 2018, *Adafactor: adaptive learning rates with sublinear memory cost*
    (arXiv:1804.04235), algorithms 4 and 5.

    Examples
    --------
    >>> W, dW = np.ones((300, 400)), np.ones((300, 400))
    >>> optimizer = fastopt.Adafactor()
    >>> optimizer.update([W], [dW])
    True
    >>> optimizer.row[0].shape, optimizer.col[0].shape  # instead of a moment for each element
    ((300, 1), (1, 400))
    """

    kernel = kernels.adafactor
    default_decoupled = None
    decay_choices = (False,)
    statistics_kernel = kernels.adafactor_measure
    lr: float = hyperparameter(0.01)
    beta2_decay: float = hyperparameter(-0.8, least=-inf, most=0)
    _: KW_ONLY
    eps1: float | None = hyperparameter(None)
    eps2: float = hyperparameter(1e-3)
    clip_threshold: float = hyperparameter(1.0, above=0)
    relative_step: bool = choice(True, False, True)
    multiply_by_parameter_scale: bool = choice(True, False, True)
    weight_decay: float = hyperparameter(0.0)
    row = State(shape=lambda shape: (*shape[:-1], 1) if len(shape) > 1 else shape)
    col = State(shape=lambda shape: (*shape[:-2], 1, shape[-1]) if len(shape) > 1 else one(shape))

    def scalars(self, t: int) -> tuple[float, ...]:
        """Give w, lr_t, eps₁ (-1 for None), eps₂, factor of rms(p), clip_threshold, 1 − lr·weight_decay."""
        eps1 = -1.0 if self.eps1 is None else self.eps1
        lr = min(self.lr, 1 / sqrt(t)) if self.relative_step else self.lr
        scale = (self.eps2, 1.0) if self.multiply_by_parameter_scale else (1.0, 0.0)
        return (
            t**self.beta2_decay, lr, eps1, *scale, self.clip_threshold, 1 - self.lr * self.formula_decay
        )  # fmt: skip

    def n_statistics(self, shape: Shape) -> int:
        """Give the room for a sum of a row and one of each column."""
        return LANES + (shape[-1] if shape else 1)


@dataclass(eq=False)
class AdafactorMomentum(Adafactor):
    """Adafactor whose steps are averaged.

    m ← m + (1 − μ)(s − m); p ← (1 − lr·weight_decay)·p − m,
    where s = (α / max(1, rms(u) / clip_threshold))·u is the step of `Adafactor`

    Take it when there is memory for one state as large as the parameters: steps without momentum are noisy.

    Parameters
    ----------
    lr : float, default 0.01
        Largest relative step, at least 0.
    beta2_decay : float, default -0.8
        Power of t in w, at most 0.
    momentum : float, default 0.9
        μ, from 0 to 1. optax's ``momentum``, Transformers' ``beta1``; the paper's β₁.
    eps1 : float or None, default None
        Keeps the divisor from 0; None is the dtype's machine epsilon.
    eps2 : float, default 1e-3
        Smallest rms of the parameters that steps are in proportion to.
    clip_threshold : float, default 1.0
        Largest rms of u, above 0.
    relative_step : bool, default True
        Whether steps are no longer than 1 / √t, as in `Adafactor`.
    multiply_by_parameter_scale : bool, default True
        Whether steps are in proportion to the rms of the parameters, as in `Adafactor`.
    weight_decay : float, default 0.0
        Decoupled: p shrinks by lr·weight_decay of itself, whatever the gradient.

    Attributes
    ----------
    row : dict or list of arrays, or None
        Moving average over each row, of shape (..., m, 1).
    col : dict or list of arrays, or None
        Moving average over each column, of shape (..., 1, n).
    m : dict or list of arrays, or None
        Moving average of the steps, in the parameters' units.

    References
    ----------
    Shazeer and Stern 2018, *Adafactor: adaptive learning rates with sublinear memory cost*
    (arXiv:1804.04235), algorithms 4 and 5 with β₁ above 0, section 8.

    Examples
    --------
    >>> W, dW = np.ones((300, 400)), np.ones((300, 400))
    >>> optimizer = fastopt.AdafactorMomentum()
    >>> optimizer.update([W], [dW])
    True
    >>> optimizer.m[0].shape, optimizer.row[0].shape  # m is as large as the parameter
    ((300, 400), (300, 1))
    """

    kernel = kernels.adafactor_momentum
    statistics_kernel = kernels.adafactor_momentum_measure
    momentum: float = hyperparameter(0.9, most=1)
    m = State()

    def scalars(self, t: int) -> tuple[float, ...]:
        """Give those of `Adafactor`, and 1 − μ."""
        return *super().scalars(t), 1 - self.momentum
