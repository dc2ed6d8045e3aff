"""A learning rate for each element, from the squares of its gradients."""

from dataclasses import KW_ONLY, dataclass
from math import sqrt

from fastopt import kernels
from fastopt.optimizer import Optimizer, State, choice, hyperparameter

__all__ = ["FTRL", "MADGRAD", "AdaDelta", "AdaGrad", "RMSprop", "RMSpropGraves", "RMSpropMomentum"]


@dataclass(eq=False)
class AdaGrad(Optimizer):
    """A learning rate for each element, which falls with the squares of its gradients.

    h ← h + g²; p ← p − lr_t·g / (√(h + eps_root) + eps), where lr_t = lr / (1 + (t − 1)·lr_decay)

    Take it when gradients are sparse, as those of embeddings or bags of words; in long trainings of deep
    networks its steps get too small, and `RMSprop` or `Adam` go on.

    Parameters
    ----------
    lr : float, default 0.01
        Learning rate, at least 0.
    eps : float, default 1e-7
        Added to the root; keeps the first division defined where g is 0. PyTorch has 1e-10.
    eps_root : float, default 0.0
        Added to h inside of the root, at least 0: where Keras and optax have their 1e-7, with eps = 0.
    initial_accumulator_value : float, default 0.0
        h before the first step, at least 0. Keras and optax have 0.1.
    lr_decay : float, default 0.0
        Fall of the learning rate, at least 0: PyTorch's.

    Attributes
    ----------
    h : dict or list of arrays, or None
        Sum of the squared gradients.

    References
    ----------
    Duchi, Hazan and Singer 2011, *Adaptive subgradient methods*, JMLR 12, section 1.1;
    *Deep Learning from Scratch*, section 6.1.5.

    Examples
    --------
    >>> W, optimizer = np.zeros(1), fastopt.AdaGrad(lr=1)
    >>> for t in range(4):
    ...     taken = optimizer.update([W], [np.ones(1)])
    >>> W.round(3)  # −(1 + 1/√2 + 1/√3 + 1/2)
    array([-2.784])
    """

    kernel = kernels.adagrad
    zero_grad_is_noop = True
    step_arguments = ("lr_decay",)
    lr: float = hyperparameter(0.01)
    _: KW_ONLY
    eps: float = hyperparameter(1e-7)
    eps_root: float = hyperparameter(0.0, repr=False)
    initial_accumulator_value: float = hyperparameter(0.0, scheduled=False, repr=False)
    lr_decay: float = hyperparameter(0.0, repr=False)
    h = State(lambda self, param, grad: self.initial_accumulator_value, quantized="roots")

    def scalars(self, t: int) -> tuple[float, ...]:
        """Give lr_t, eps and eps_root."""
        return self.lr / (1 + (t - 1) * self.lr_decay), self.eps, self.eps_root


@dataclass(eq=False)
class AdaDelta(Optimizer):
    """AdaDelta: gradients scaled by the ratio of the RMS of past updates to that of past gradients.

    h ← ρ·h + (1 − ρ)·g²; d ← √(u + eps) / √(h + eps)·g; u ← ρ·u + (1 − ρ)·d²; p ← p − lr·d

    The decay is the paper's; PyTorch's default is 0.9. eps is inside both roots. Take it when an
    older result is to be repeated; rarely today.

    Parameters
    ----------
    lr : float, default 1.0
        Learning rate, at least 0.
    rho : float, default 0.95
        ρ, from 0 to 1.
    eps : float, default 1e-6
        Added inside the roots; sets the size of the first step.

    Attributes
    ----------
    h : dict or list of arrays, or None
        Moving average of the squared gradients.
    u : dict or list of arrays, or None
        Moving average of the squared steps.

    References
    ----------
    Zeiler 2012, *ADADELTA: an adaptive learning rate method* (arXiv:1212.5701), algorithm 1.

    Examples
    --------
    >>> W, optimizer = np.zeros(1), fastopt.AdaDelta()
    >>> for t in range(2):
    ...     taken = optimizer.update([W], [np.ones(1)])
    >>> optimizer.h[0].round(4), W.round(4)  # steps are short at first, as u starts at 0
    (array([0.0975]), array([-0.009]))
    """

    kernel = kernels.adadelta
    lr: float = hyperparameter(1.0)
    rho: float = hyperparameter(0.95, most=1)
    _: KW_ONLY
    eps: float = hyperparameter(1e-6)
    h = State(quantized="roots")
    u = State(quantized="roots")

    def scalars(self, t: int) -> tuple[float, ...]:
        """Give ρ, 1 − ρ, lr and eps."""
        return self.rho, 1 - self.rho, self.lr, self.eps


@dataclass(eq=False)
class RMSprop(Optimizer):
    """Root mean square propagation: AdaGrad with a moving average of the squared gradients, not their sum.

    h ← ρ·h + (1 − ρ)·g²; p ← p − lr·g / (√(h + eps_root) + eps)

    As in PyTorch's, eps is added to the root; Keras and optax have it inside. Take it when momentum does
    harm, as in some reinforcement learning, or for half of `Adam`'s memory.

    Parameters
    ----------
    lr : float, default 0.01
        Learning rate, at least 0.
    decay_rate : float, default 0.99
        ρ, from 0 to 1.
    eps : float, default 1e-7
        Added to the root.
    eps_root : float, default 0.0
        Added to h inside of the root, at least 0: where Keras and optax have their eps, with eps = 0 here.
    initial_accumulator_value : float, default 0.0
        h before the first step, at least 0: optax's ``initial_scale``. With 1.0, as in TensorFlow 1, the
        first steps are short.
    bias_correction : bool, default False
        Whether h / (1 − ρᵗ) takes the place of h, as in `PaperAdam` and in optax's argument of that name.

    Attributes
    ----------
    h : dict or list of arrays, or None
        Moving average of the squared gradients.

    References
    ----------
    Tieleman and Hinton 2012, *Neural Networks for Machine Learning*, lecture 6.5.

    Examples
    --------
    >>> W, dW = np.array([1.0, 1.0]), np.array([1.0, -2.0])
    >>> optimizer = fastopt.RMSprop(lr=0.01, decay_rate=0.99)
    >>> optimizer.update([W], [dW])
    True
    >>> W.round(3)  # the first step is lr / √0.01 = 0.1 for any gradient
    array([0.9, 1.1])
    """

    kernel = kernels.rmsprop
    step_arguments = ("bias_correction",)
    lr: float = hyperparameter(0.01)
    decay_rate: float = hyperparameter(0.99, most=1)
    _: KW_ONLY
    eps: float = hyperparameter(1e-7)
    eps_root: float = hyperparameter(0.0, repr=False)
    initial_accumulator_value: float = hyperparameter(0.0, scheduled=False, repr=False)
    bias_correction: bool = choice(False, False, True)
    h = State(lambda self, param, grad: self.initial_accumulator_value, quantized="roots")

    def scalars(self, t: int) -> tuple[float, ...]:
        """Give ρ, 1 − ρ, lr, eps and eps_root."""
        root, eps, eps_root = corrected_eps(self, t)
        return self.decay_rate, 1 - self.decay_rate, self.lr * root, eps, eps_root


@dataclass(eq=False)
class RMSpropMomentum(Optimizer):
    """RMSprop with momentum.

    h ← ρ·h + (1 − ρ)·g²; v ← μ·v + g / (√(h + eps_root) + eps); p ← p − lr·v

    PyTorch's ``RMSprop(momentum=0.9)``. Keras has lr in v: the same steps as long as lr is constant. Take it
    when a training was tuned with it, as those of MobileNets and EfficientNets.

    Parameters
    ----------
    lr : float, default 0.01
        Learning rate, at least 0.
    decay_rate : float, default 0.99
        ρ, from 0 to 1.
    momentum : float, default 0.9
        μ, from 0 to 1.
    eps : float, default 1e-8
        Added to the root.
    eps_root : float, default 0.0
        Added to h inside of the root, at least 0: where Keras and optax have their eps, with eps = 0 here.
    initial_accumulator_value : float, default 0.0
        h before the first step, at least 0: optax's ``initial_scale``.
    bias_correction : bool, default False
        Whether h / (1 − ρᵗ) takes the place of h, as in `PaperAdam` and in optax's argument of that name.

    Attributes
    ----------
    h : dict or list of arrays, or None
        Moving average of the squared gradients.
    v : dict or list of arrays, or None
        Velocity, without the learning rate.

    References
    ----------
    Tieleman and Hinton 2012, *Neural Networks for Machine Learning*, lecture 6.5; PyTorch's ``RMSprop``.

    Examples
    --------
    >>> W, optimizer = np.zeros(1), fastopt.RMSpropMomentum(lr=0.01)
    >>> for t in range(2):
    ...     taken = optimizer.update([W], [np.ones(1)])
    >>> optimizer.v[0].round(2)  # 1/√0.01 = 10, then 0.9·10 + 1/√0.0199
    array([16.09])
    """

    kernel = kernels.rmsprop_momentum
    step_arguments = ("bias_correction",)
    lr: float = hyperparameter(0.01)
    decay_rate: float = hyperparameter(0.99, most=1)
    momentum: float = hyperparameter(0.9, most=1)
    _: KW_ONLY
    eps: float = hyperparameter(1e-8)
    eps_root: float = hyperparameter(0.0, repr=False)
    initial_accumulator_value: float = hyperparameter(0.0, scheduled=False, repr=False)
    bias_correction: bool = choice(False, False, True)
    h = State(lambda self, param, grad: self.initial_accumulator_value, quantized="roots")
    v = State(quantized="values")

    def scalars(self, t: int) -> tuple[float, ...]:
        """Give ρ, 1 − ρ, μ, the weight of the gradient, lr, eps and eps_root."""
        root, eps, eps_root = corrected_eps(self, t)
        return self.decay_rate, 1 - self.decay_rate, self.momentum, root, self.lr, eps, eps_root


def corrected_eps(own: RMSprop | RMSpropMomentum, t: int) -> tuple[float, float, float]:
    """Return √(1 − ρᵗ), with which g counts instead of h being corrected, and eps and eps_root for that h."""
    if not own.bias_correction:
        return 1.0, own.eps, own.eps_root
    correction = 1 - own.decay_rate**t or 1.0
    root = sqrt(correction)
    return root, own.eps * root, own.eps_root * correction


@dataclass(eq=False)
class RMSpropGraves(Optimizer):
    """RMSprop with the variance instead of the mean square, and with momentum.

    h ← ρ·h + (1 − ρ)·g²; m ← ρ·m + (1 − ρ)·g; v ← μ·v + g / (√(h − m² + eps_root) + eps); p ← p − lr·v

    PyTorch's ``RMSprop(centered=True, momentum=0.9)``. A difference h − m² that rounding makes negative
    counts as 0; PyTorch's gives NaN there. The paper, Keras and optax have eps inside the root. Take it when
    `RMSprop` is used and gradients have a mean that differs from 0 for long; rarely today.

    Parameters
    ----------
    lr : float, default 0.01
        Learning rate, at least 0.
    decay_rate : float, default 0.95
        ρ, from 0 to 1.
    momentum : float, default 0.9
        μ, from 0 to 1.
    eps : float, default 1e-8
        Added to the root.
    eps_root : float, default 0.0
        Added to h − m² inside of the root, at least 0. The paper has 1e-4 there.
    initial_accumulator_value : float, default 0.0
        h before the first step, at least 0: optax's ``initial_scale``.

    Attributes
    ----------
    h : dict or list of arrays, or None
        Moving average of the squared gradients.
    m : dict or list of arrays, or None
        Moving average of the gradients.
    v : dict or list of arrays, or None
        Velocity, without the learning rate.

    References
    ----------
    Graves 2013, *Generating sequences with recurrent neural networks* (arXiv:1308.0850), equations 38
    to 45.

    Examples
    --------
    >>> W, optimizer = np.zeros(1), fastopt.RMSpropGraves(lr=0.01, momentum=0)
    >>> for t in range(1000):
    ...     taken = optimizer.update([W], [np.ones(1)])
    >>> bool(optimizer.h[0] - optimizer.m[0] ** 2 < 1e-6)  # a constant gradient has no variance
    True
    """

    kernel = kernels.rmsprop_graves
    lr: float = hyperparameter(0.01)
    decay_rate: float = hyperparameter(0.95, most=1)
    momentum: float = hyperparameter(0.9, most=1)
    _: KW_ONLY
    eps: float = hyperparameter(1e-8)
    eps_root: float = hyperparameter(0.0, repr=False)
    initial_accumulator_value: float = hyperparameter(0.0, scheduled=False, repr=False)
    h = State(lambda self, param, grad: self.initial_accumulator_value)
    m = State()
    v = State(quantized="values")

    def scalars(self, t: int) -> tuple[float, ...]:
        """Give ρ, 1 − ρ, μ, lr, eps and eps_root."""
        return self.decay_rate, 1 - self.decay_rate, self.momentum, self.lr, self.eps, self.eps_root


@dataclass(eq=False)
class FTRL(Optimizer):
    r"""Follow the regularized leader: AdaGrad's step sizes, and exact zeros by l₁.

    n' ← n + g²; z ← z + g + 2·l₂ₛ·p − (√n' − √n) / lr·p;
    p ← (clip(z, −l₁, l₁) − z) / (√n' / lr + 2·l₂ + β / lr)

    The parameter is worked out anew from z and n at each step. Keras's ``Ftrl`` with the paper's
    learning_rate_power, −0.5; other powers have other bits in NumPy than in compiled code. Take it when a
    linear model of many sparse features is to have few weights that aren't 0, as for predictions of clicks.

    Parameters
    ----------
    lr : float, default 0.001
        Learning rate, above 0.
    initial_accumulator_value : float, default 0.1
        n before the first step.
    l1_regularization_strength : float, default 0.0
        l₁: parameters with \|z\| below it are 0.
    l2_regularization_strength : float, default 0.0
        l₂.
    l2_shrinkage_regularization_strength : float, default 0.0
        l₂ₛ: L2 in the gradient that z takes, not in that of n.
    beta : float, default 0.0
        β of the paper's step size.

    Attributes
    ----------
    n : dict or list of arrays, or None
        Sum of the squared gradients.
    z : dict or list of arrays, or None
        What the parameter is worked out from.

    References
    ----------
    McMahan et al. 2013, *Ad click prediction: a view from the trenches*, algorithm 1.

    Examples
    --------
    >>> W, dW = np.array([1.0, 1.0]), np.array([1.0, 0.01])
    >>> optimizer = fastopt.FTRL(lr=1, l1_regularization_strength=0.5)
    >>> for _ in range(2):
    ...     taken = optimizer.update([W], [dW])
    >>> W.round(3)  # the weight with small gradients is exactly 0
    array([-0.53,  0.  ])
    """

    kernel = kernels.ftrl
    lr: float = hyperparameter(0.001, above=0)
    _: KW_ONLY
    initial_accumulator_value: float = hyperparameter(0.1, scheduled=False)
    l1_regularization_strength: float = hyperparameter(0.0)
    l2_regularization_strength: float = hyperparameter(0.0)
    l2_shrinkage_regularization_strength: float = hyperparameter(0.0)
    beta: float = hyperparameter(0.0)
    n = State(lambda self, param, grad: self.initial_accumulator_value)
    z = State()

    def scalars(self, t: int) -> tuple[float, ...]:
        """Give lr, l₁, 2·l₂ + β / lr and 2·l₂ₛ."""
        quadratic = 2 * self.l2_regularization_strength + self.beta / self.lr
        return (
            self.lr,
            self.l1_regularization_strength,
            quadratic,
            2 * self.l2_shrinkage_regularization_strength,
        )


@dataclass(eq=False)
class MADGRAD(Optimizer):
    """AdaGrad with a cube root, whose steps start at the first parameter, and with momentum.

    v ← v + λ·g²; s ← s + λ·g; z ← p₀ − s / (∛v + eps); p ← μ·p + (1 − μ)·z, where λ = (lr + eps)·√t

    p₀ is the parameter before the first step. Sums grow with √t, so that later gradients count more. With
    lr = 0 nothing is added, as in the authors' code. optax's ``contrib.madgrad`` takes √t in float32.

    weight_decay is always a part of the gradient: z depends on nothing else than the sums.

    Take it when SGD with momentum is the better choice, but gradients differ in size: embeddings, recurrent
    networks. It needs less weight decay than others.

    Parameters
    ----------
    lr : float, default 0.01
        Learning rate, at least 0; not comparable with that of other rules.
    momentum : float, default 0.9
        μ, from 0 to below 1.
    eps : float, default 1e-6
        Added to the cube root, and to lr; above 0.

    Attributes
    ----------
    v : dict or list of arrays, or None
        Weighted sum of the squared gradients.
    s : dict or list of arrays, or None
        Weighted sum of the gradients.
    p0 : dict or list of arrays, or None
        The parameters before the first step.

    References
    ----------
    Defazio and Jelassi 2022, *Adaptivity without compromise: a momentumized, adaptive, dual averaged
    gradient method for stochastic optimization* (arXiv:2101.11075), algorithm 1.

    Examples
    --------
    >>> W, dW = np.array([1.0, 1.0]), np.array([1.0, -2.0])
    >>> optimizer = fastopt.MADGRAD(lr=0.1)
    >>> optimizer.update([W], [dW])
    True
    >>> W.round(3)  # steps go with ∛g
    array([0.978, 1.027])
    """

    kernel = kernels.madgrad
    lr: float = hyperparameter(0.01)
    momentum: float = hyperparameter(0.9, below=1)
    _: KW_ONLY
    eps: float = hyperparameter(1e-6, above=0)
    v = State()
    s = State()
    p0 = State(lambda self, param, grad: param)

    def scalars(self, t: int) -> tuple[float, ...]:
        """Give μ, 1 − μ, λ and eps."""
        lr_t = (self.lr + self.eps) * sqrt(t) if self.lr else 0.0
        return self.momentum, 1 - self.momentum, lr_t, self.eps

    def decay_scalars(self, decay: float) -> tuple[float, float]:
        """Return l2 and keep: decay is a part of the gradient, so that it reaches the sums, and so z."""
        return decay, 1.0
