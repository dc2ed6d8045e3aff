"""Adam and those that changed a part of it."""

from dataclasses import KW_ONLY, dataclass
from math import exp, log, sqrt

from fastopt import kernels
from fastopt.optimizer import Optimizer, State, choice, hyperparameter, whole
from fastopt.optimizers.common import BiasCorrected, BiasCorrectedRoot, bias_corrected, rectification

__all__ = [
    "AMSGrad",
    "AdEMAMix",
    "AdaBelief",
    "AdaMax",
    "Adam",
    "AdamW",
    "Adan",
    "NAdam",
    "PaperAdam",
    "RAdam",
    "Yogi",
]


@dataclass(eq=False)
class Adam(Optimizer):
    """Adaptive moment estimation.

    m ← m + (1 − β₁)(g − m); v ← v + (1 − β₂)(g² − v); p ← p − lr_t·m / (√v + eps),
    where lr_t = lr·√(1 − β₂ᵗ) / (1 − β₁ᵗ)

    The correction of the bias is folded into the step size, so that eps is added to the root of the
    uncorrected v, as in the book (the paper's epsilon hat). PyTorch adds its eps to the root of the
    corrected v: eps here = eps there · √(1 − β₂ᵗ). Take it when there is no reason for another one: it learns
    fast with the learning rate that it has, and needs no tuning to learn at all.

    Parameters
    ----------
    lr : float, default 0.001
        Learning rate, at least 0.
    beta1, beta2 : float, default 0.9 and 0.999
        Decay of the two moving averages, from 0 to below 1.
    eps : float, default 1e-7
        Added to the root.
    bias_correction : bool, default True
        Whether lr_t makes up for the start, at which m and v are 0; else it is lr: MLX's default, also of its
        ``AdamW``, which is ``Adam(weight_decay=0.01, decoupled=True)`` here.

    Attributes
    ----------
    m, v : dict or list of arrays, or None
        Moving averages of the gradients and of their squares.

    References
    ----------
    Kingma and Ba 2015, *Adam: a method for stochastic optimization* (arXiv:1412.6980), algorithm 1
    and the end of section 2; *Deep Learning from Scratch*, section 6.1.6.

    Examples
    --------
    >>> params, grads = {"W": np.array([1.0, 1.0])}, {"W": np.array([0.01, -20.0])}
    >>> optimizer = fastopt.Adam(lr=0.1)
    >>> optimizer.update(params, grads)
    True
    >>> params["W"].round(3)  # the first step is lr, whatever the gradient's size
    array([0.9, 1.1])
    """

    kernel = kernels.adam
    lr: float = hyperparameter(0.001)
    beta1: float = hyperparameter(0.9, below=1)
    beta2: float = hyperparameter(0.999, below=1)
    _: KW_ONLY
    eps: float = hyperparameter(1e-7)
    bias_correction: bool = choice(True, False, True)
    m = State(quantized="values")
    v = State(quantized="roots")

    def scalars(self, t: int) -> tuple[float, ...]:
        """Give 1 − β₁, 1 − β₂, lr_t, eps, and 0 inside of the root."""
        beta1, beta2 = self.beta1, self.beta2
        lr_t = self.lr
        if self.bias_correction:
            lr_t, _ = bias_corrected(lr_t, beta1, beta2, t)
        return 1.0 - beta1, 1.0 - beta2, lr_t, self.eps, 0.0


@dataclass(eq=False)
class AdamW(BiasCorrectedRoot, Optimizer):
    """Adam with decoupled weight decay.

    p ← (1 − lr·weight_decay)·p, then Adam with eps on the corrected root:
    p ← p − lr·m̂ / (√(v̂ + eps_root) + eps), computed as for `PaperAdam`

    Take it when a network is trained with weight decay: the standard for transformers. Keras' ``AdamW`` has
    the book's eps, as ``Adam(weight_decay=0.004, decoupled=True)`` here.

    Parameters
    ----------
    lr : float, default 0.001
        Learning rate, at least 0.
    beta1, beta2 : float, default 0.9 and 0.999
        Decay of the moving averages of the gradients and of their squares, from 0 to below 1.
    eps : float, default 1e-8
        Added to the root of the corrected v, as in PyTorch.
    weight_decay : float, default 0.01
        Decoupled: p shrinks by lr·weight_decay of itself, whatever the gradient.
    eps_root : float, default 0.0
        Added to the corrected v inside of the root, at least 0: optax's.

    Attributes
    ----------
    m, v : dict or list of arrays, or None
        Moving averages of the gradients and of their squares.

    References
    ----------
    Loshchilov and Hutter 2019, *Decoupled weight decay regularization* (arXiv:1711.05101), algorithm 2,
    with PyTorch's product of lr and weight_decay.

    Examples
    --------
    >>> W = np.ones(2)
    >>> fastopt.AdamW(lr=0.1, weight_decay=0.5).update([W], [np.zeros(2)])
    True
    >>> W  # decoupled: p ← (1 − 0.1·0.5)·p, also without a gradient
    array([0.95, 0.95])
    """

    kernel = kernels.adam
    default_decoupled = True
    lr: float = hyperparameter(0.001)
    beta1: float = hyperparameter(0.9, below=1)
    beta2: float = hyperparameter(0.999, below=1)
    _: KW_ONLY
    eps: float = hyperparameter(1e-8)
    eps_root: float = hyperparameter(0.0, repr=False)
    weight_decay: float = hyperparameter(0.01)
    m = State(quantized="values")
    v = State(quantized="roots")


@dataclass(eq=False)
class PaperAdam(BiasCorrectedRoot, Optimizer):
    """Adam with eps on the root of the corrected v, as in the paper, in PyTorch and in most courses.

    m ← m + (1 − β₁)(g − m); v ← v + (1 − β₂)(g² − v); p ← p − lr·m̂ / (√(v̂ + eps_root) + eps),
    where m̂ = m / (1 − β₁ᵗ) and v̂ = v / (1 − β₂ᵗ)

    It is computed as p ← p − lr_t·m / (√(v + eps_root·(1 − β₂ᵗ)) + eps·√(1 − β₂ᵗ)), where
    lr_t = lr·√(1 − β₂ᵗ) / (1 − β₁ᵗ), by `Adam`'s kernel. `Adam` is the book's, with eps on the root of the
    uncorrected v. Take it when results of PyTorch, optax or a course are to be repeated, or eps is large.

    Parameters
    ----------
    lr : float, default 0.001
        Learning rate, at least 0.
    beta1, beta2 : float, default 0.9 and 0.999
        Decay of the two moving averages, from 0 to below 1.
    eps : float, default 1e-8
        Added to the root of the corrected v.
    eps_root : float, default 0.0
        Added to the corrected v inside of the root, at least 0: optax's.

    Attributes
    ----------
    m, v : dict or list of arrays, or None
        Moving averages of the gradients and of their squares.

    References
    ----------
    Kingma and Ba 2015 (arXiv:1412.6980), algorithm 1; PyTorch's ``Adam``

    Examples
    --------
    >>> W, tiny = np.zeros(1), np.array([1e-8])
    >>> fastopt.PaperAdam(lr=1).update([W], [tiny])
    True
    >>> W  # eps, 1e-8, is as large as the root of the corrected v
    array([-0.5])
    """

    kernel = kernels.adam
    lr: float = hyperparameter(0.001)
    beta1: float = hyperparameter(0.9, below=1)
    beta2: float = hyperparameter(0.999, below=1)
    _: KW_ONLY
    eps: float = hyperparameter(1e-8)
    eps_root: float = hyperparameter(0.0, repr=False)
    m = State(quantized="values")
    v = State(quantized="roots")


@dataclass(eq=False)
class AMSGrad(BiasCorrectedRoot, Optimizer):
    """Adam whose step sizes never grow again.

    m and v as Adam; v_max ← max(v_max, v); p ← p − lr·m̂ / (√(v_max / (1 − β₂ᵗ) + eps_root) + eps)

    PyTorch's ``Adam(amsgrad=True)``; optax and the paper have the bias corrected elsewhere. Take it when Adam
    doesn't settle because rare large gradients are soon forgotten; rarely today.

    Parameters
    ----------
    lr : float, default 0.001
        Learning rate, at least 0.
    beta1, beta2 : float, default 0.9 and 0.999
        Decay of the moving averages of the gradients and of their squares, from 0 to below 1.
    eps : float, default 1e-8
        Added to the root of the corrected v, as in PyTorch.
    eps_root : float, default 0.0
        Added to the corrected v inside of the root, at least 0: optax's.
    correction : {"after", "before", "none"}, default "after"
        Where the bias is corrected: after the maximum is taken, as in PyTorch; before, so that v_max is the
        largest v̂, as in optax; or nowhere, not that of m either, as in the paper.
    corrected_eps : bool, default True
        Whether eps is added to the root of the corrected v_max, where the correction is after. In Keras'
        ``Adam(amsgrad=True)`` it is to that of the uncorrected one.

    Attributes
    ----------
    m, v : dict or list of arrays, or None
        Moving averages of the gradients and of their squares.
    v_max : dict or list of arrays, or None
        The largest v so far; with ``correction="before"`` the largest v̂.

    References
    ----------
    Reddi, Kale and Kumar 2018, *On the convergence of Adam and beyond* (arXiv:1904.09237), algorithm 2.

    Examples
    --------
    >>> W, optimizer = np.zeros(1), fastopt.AMSGrad(beta2=0.5)
    >>> for g in (4.0, 1.0, 1.0):
    ...     taken = optimizer.update([W], [np.array([g])])
    >>> optimizer.v, optimizer.v_max  # v falls again, v_max doesn't
    ([array([2.75])], [array([8.])])
    """

    kernel = kernels.amsgrad
    lr: float = hyperparameter(0.001)
    beta1: float = hyperparameter(0.9, below=1)
    beta2: float = hyperparameter(0.999, below=1)
    _: KW_ONLY
    eps: float = hyperparameter(1e-8)
    eps_root: float = hyperparameter(0.0, repr=False)
    correction: str = choice("after", "after", "before", "none")
    corrected_eps: bool = choice(True, False, True)
    m = State(quantized="values")
    v = State(quantized="roots")
    v_max = State(quantized="roots")

    def scalars(self, t: int) -> tuple[float, ...]:
        """Give 1 − β₁, 1 − β₂, lr_t, eps, eps_root, and the factor with which v is in the maximum."""
        if self.correction == "after":
            *others, eps, eps_root = super().scalars(t)
            return *others, eps if self.corrected_eps else self.eps, eps_root, 1.0
        lr_t, factor = self.lr, 1.0
        if self.correction == "before":
            lr_t, factor = self.lr / (1.0 - self.beta1**t), 1 / (1.0 - self.beta2**t)
        return 1.0 - self.beta1, 1.0 - self.beta2, lr_t, self.eps, self.eps_root, factor


@dataclass(eq=False)
class AdaMax(Optimizer):
    """Adam with the infinity norm.

    m ← m + (1 − β₁)(g − m); u ← max(β₂·u, |g| + eps); p ← p − lr / (1 − β₁ᵗ)·m / (u + eps_outside)

    eps is in the norm, as in PyTorch and optax; Keras adds it to u, the paper has none. Take it when
    gradients are sparse, as those of embeddings, and Adam's steps after a pause are too long; rarely today.

    Parameters
    ----------
    lr : float, default 0.002
        Learning rate, at least 0.
    beta1 : float, default 0.9
        Decay of the moving average of the gradients, from 0 to below 1.
    beta2 : float, default 0.999
        Decay of the norm, from 0 to below 1.
    eps : float, default 1e-8
        Added to the magnitude of the gradient.
    bias_correction : bool, default True
        Whether lr is divided by 1 − β₁ᵗ, as m starts at 0. MLX's ``Adamax`` has lr itself.
    eps_outside : float, default 0.0
        Added to u where it divides, at least 0: where Keras has its 1e-7, with eps = 0 here.

    Attributes
    ----------
    m : dict or list of arrays, or None
        Moving average of the gradients.
    u : dict or list of arrays, or None
        Largest magnitude of the gradients, which decays.

    References
    ----------
    Kingma and Ba 2015 (arXiv:1412.6980), algorithm 2.

    Examples
    --------
    >>> W, optimizer = np.zeros(1), fastopt.AdaMax(lr=0.1)
    >>> for g in (4.0, 1.0):
    ...     taken = optimizer.update([W], [np.array([g])])
    >>> optimizer.u[0].round(3)  # the largest gradient, which is forgotten by 0.999 a step
    array([3.996])
    """

    kernel = kernels.adamax
    lr: float = hyperparameter(0.002)
    beta1: float = hyperparameter(0.9, below=1)
    beta2: float = hyperparameter(0.999, below=1)
    _: KW_ONLY
    eps: float = hyperparameter(1e-8)
    bias_correction: bool = choice(True, False, True)
    eps_outside: float = hyperparameter(0.0, repr=False)
    m = State(quantized="values")
    u = State(quantized="roots")

    def scalars(self, t: int) -> tuple[float, ...]:
        """Give 1 − β₁, β₂, lr / (1 − β₁ᵗ), eps and eps_outside."""
        lr_t = self.lr / (1.0 - self.beta1**t) if self.bias_correction else self.lr
        return 1.0 - self.beta1, self.beta2, lr_t, self.eps, self.eps_outside


@dataclass(eq=False)
class NAdam(Optimizer):
    """Adam with Nesterov's momentum.

    m and v as Adam; p ← p − lr·((1 − μₜ) / (1 − Mₜ)·g + μₜ₊₁ / (1 − Mₜ₊₁)·m) / (√(v̂ + eps_root) + eps),
    where μₜ = β₁·(1 − 0.96^(t·momentum_decay) / 2) and Mₜ = μ₁·…·μₜ

    Mₜ is that of the hyperparameters in use, also if they were others before. Take it when `PaperAdam` works:
    it is often a little faster, with the same arguments.

    Parameters
    ----------
    lr : float, default 0.002
        Learning rate, at least 0.
    beta1, beta2 : float, default 0.9 and 0.999
        Decay of the moving averages of the gradients and of their squares, from 0 to below 1.
    eps : float, default 1e-8
        Added to the root of the corrected v, as in PyTorch.
    momentum_decay : float, default 4e-3
        Rate at which μ rises from β₁ / 2 to β₁: PyTorch's. Keras' ``Nadam`` has 1.0, by which μ rises 250
        times faster. With 1e6 μ is β₁ from the first step: optax's ``nadam``, and with ``decoupled=True`` its
        ``nadamw``.
    eps_root : float, default 0.0
        Added to the corrected v inside of the root, at least 0: optax's.

    Attributes
    ----------
    m, v : dict or list of arrays, or None
        Moving averages of the gradients and of their squares.

    References
    ----------
    Dozat 2016, *Incorporating Nesterov momentum into Adam*, with PyTorch's schedule of μ

    Examples
    --------
    >>> W, optimizer = np.zeros(1), fastopt.NAdam(lr=0.1)
    >>> for t in range(2):
    ...     taken = optimizer.update([W], [np.ones(1)])
    >>> W.round(3)  # Adam would be at −0.2
    array([-0.184])
    """

    kernel = kernels.nadam
    lr: float = hyperparameter(0.002)
    beta1: float = hyperparameter(0.9, below=1)
    beta2: float = hyperparameter(0.999, below=1)
    _: KW_ONLY
    eps: float = hyperparameter(1e-8)
    eps_root: float = hyperparameter(0.0, repr=False)
    momentum_decay: float = hyperparameter(4e-3)
    m = State(quantized="values")
    v = State(quantized="roots")

    def _mu(self, t: int) -> float:
        """Give μₜ."""
        return self.beta1 * (1 - 0.5 * 0.96 ** (t * self.momentum_decay))

    def _product(self, t: int) -> float:
        """Give Mₜ."""
        last, product = last_product(self.beta1, self.momentum_decay, t)
        for i in range(last + 1, t + 1):
            # From here on 1 − Mₜ is 1 to the last bit. (Mₜ never gets 0, as the least number is rounded up.)
            if product < 2**-64:
                break
            product *= self._mu(i)
        PRODUCTS[self.beta1, self.momentum_decay, t] = product
        return product

    def scalars(self, t: int) -> tuple[float, ...]:
        """Give 1 − β₁, 1 − β₂, the weights of g and m, eps·√(1 − β₂ᵗ) and eps_root·(1 − β₂ᵗ)."""
        now, ahead = self._mu(t), self._mu(t + 1)
        product = self._product(t)
        correction = 1.0 - self.beta2**t
        root = sqrt(correction)
        lr_g = self.lr * root * (1 - now) / (1 - product)
        lr_m = self.lr * root * ahead / (1 - product * ahead)
        eps, eps_root = self.eps * root, self.eps_root * correction
        return 1.0 - self.beta1, 1.0 - self.beta2, lr_g, lr_m, eps, eps_root


# The last products of NAdam's μ, so that a step takes one more factor.
PRODUCTS: dict[tuple[float, float, int], float] = {}


def last_product(beta1: float, decay: float, t: int) -> tuple[int, float]:
    """Return the step before t, and its product; 0 and 1 if it isn't known."""
    if len(PRODUCTS) > 1000:
        PRODUCTS.clear()
    for step in (t, t - 1):
        product = PRODUCTS.get((beta1, decay, step))
        if product is not None:
            return step, product
    return 0, 1.0


@dataclass(eq=False)
class RAdam(Optimizer):
    """Adam that waits until the average of the squares has seen enough steps.

    m and v as Adam; p ← p − lr·m̂ while ρₜ ≤ threshold, then p ← p − lr·r·√(1 − β₂ᵗ)·m̂ / (√v + eps), where
    ρₜ = ρ∞ − 2·t·β₂ᵗ / (1 − β₂ᵗ), ρ∞ = 2 / (1 − β₂) − 1, r = √((ρₜ − 4)(ρₜ − 2)·ρ∞ / ((ρ∞ − 4)(ρ∞ − 2)·ρₜ))

    With the defaults the rectification starts at step 6. eps is added to the root of the uncorrected v, as in
    PyTorch; in optax of the corrected one, the paper has none. Take it when Adam needs a warm-up of its
    learning rate, and that is one number too many to choose.

    Parameters
    ----------
    lr : float, default 0.001
        Learning rate, at least 0.
    beta1, beta2 : float, default 0.9 and 0.999
        Decay of the moving averages of the gradients and of their squares, from 0 to below 1.
    eps : float, default 1e-8
        Added to the root of the uncorrected v.
    eps_root : float, default 0.0
        Added to the corrected v inside of the root, at least 0: optax's.
    threshold : float, default 5.0
        The ρₜ above which steps are rectified, at least 4. PyTorch and optax have 5, the paper has 4.
    corrected_eps : bool, default False
        Whether eps is added to the root of the corrected v, as in optax.

    Attributes
    ----------
    m, v : dict or list of arrays, or None
        Moving averages of the gradients and of their squares.

    References
    ----------
    Liu et al. 2020, *On the variance of the adaptive learning rate and beyond* (arXiv:1908.03265),
    algorithm 2.

    Examples
    --------
    >>> W, optimizer = np.zeros(1), fastopt.RAdam(lr=0.1)
    >>> optimizer.update([W], [np.array([2.0])])
    True
    >>> W  # the first five steps are momentum's: −lr·m̂
    array([-0.2])
    """

    kernel = kernels.radam
    lr: float = hyperparameter(0.001)
    beta1: float = hyperparameter(0.9, below=1)
    beta2: float = hyperparameter(0.999, below=1)
    _: KW_ONLY
    eps: float = hyperparameter(1e-8)
    eps_root: float = hyperparameter(0.0, repr=False)
    threshold: float = hyperparameter(5.0, least=4, repr=False)
    corrected_eps: bool = choice(False, False, True)
    m = State(quantized="values")
    v = State(quantized="roots")

    def scalars(self, t: int) -> tuple[float, ...]:
        """Give 1 − β₁, 1 − β₂, lr_t, eps, eps_root·(1 − β₂ᵗ) and whether it is rectified."""
        lr_t, is_rectified = rectified(self, t, self.threshold)
        correction = 1.0 - self.beta2**t
        eps = self.eps * sqrt(correction) if self.corrected_eps else self.eps
        eps_root = self.eps_root * correction
        return 1.0 - self.beta1, 1.0 - self.beta2, lr_t, eps, eps_root, float(is_rectified)


def rectified(own: "RAdam | AdaBelief", t: int, threshold: float) -> tuple[float, bool]:
    """Return the learning rate of step t, and whether the step has a divisor."""
    lr_t, r = own.lr / (1.0 - own.beta1**t), rectification(t, own.beta2, threshold)
    return lr_t * sqrt(1.0 - own.beta2**t) * r if r else lr_t, r > 0


@dataclass(eq=False)
class AdaBelief(BiasCorrected, Optimizer):
    """Adam with the squares of what the average of the gradients didn't foresee.

    m as Adam; s ← s + (1 − β₂)((g − m)² − s) + eps_root; p ← p − lr_t·m / (√s + eps·√(1 − β₂ᵗ)),
    where lr_t = lr·√(1 − β₂ᵗ) / (1 − β₁ᵗ)

    As in optax, and in the authors' code with ``rectify=False``. Take it when `Adam` ends worse than
    `SGDM`, as on images: where gradients agree its steps are longer.

    Parameters
    ----------
    lr : float, default 0.001
        Learning rate, at least 0.
    beta1, beta2 : float, default 0.9 and 0.999
        Decay of the moving averages of the gradients and of their squares, from 0 to below 1.
    eps : float, default 1e-16
        Added to the root of the corrected s.
    eps_root : float, optional
        Added to s at each step, at least 0; by default eps, as in the authors' code.
    rectify : bool, default False
        Whether lr_t and the place of eps are `RAdam`'s, with a threshold of 5: the authors' default.

    Attributes
    ----------
    m : dict or list of arrays, or None
        Moving average of the gradients.
    s : dict or list of arrays, or None
        Moving average of the squared surprise.

    References
    ----------
    Zhuang et al. 2020, *AdaBelief optimizer* (arXiv:2010.07468), algorithm 2.

    Examples
    --------
    >>> W, optimizer = np.zeros(1), fastopt.AdaBelief(lr=0.1)
    >>> for t in range(50):
    ...     taken = optimizer.update([W], [np.ones(1)])
    >>> W.round(1)  # Adam would be at −5: where gradients agree, steps are longer
    array([-12.])
    """

    kernel = kernels.adabelief
    lr: float = hyperparameter(0.001)
    beta1: float = hyperparameter(0.9, below=1)
    beta2: float = hyperparameter(0.999, below=1)
    _: KW_ONLY
    eps: float = hyperparameter(1e-16)
    eps_root: float | None = hyperparameter(None)
    rectify: bool = choice(False, False, True)
    m = State(quantized="values")
    s = State(quantized="roots")

    def scalars(self, t: int) -> tuple[float, ...]:
        """Give 1 − β₁, 1 − β₂, lr_t, eps_root, eps·√(1 − β₂ᵗ) and whether there is a divisor."""
        one_minus_beta1, one_minus_beta2, lr_t, eps = super().scalars(t)
        has_divisor = True
        if self.rectify:
            (lr_t, has_divisor), eps = rectified(self, t, 5.0), self.eps
        eps_root = self.eps if self.eps_root is None else self.eps_root
        return one_minus_beta1, one_minus_beta2, lr_t, eps_root, eps, float(has_divisor)


@dataclass(eq=False)
class Yogi(BiasCorrected, Optimizer):
    """Adam whose average of squares changes by amounts that don't depend on it.

    m as Adam; v ← v − (1 − β₂)·sign(v − g²)·g²; p ← p − lr_t·m / (√v + eps·√(1 − β₂ᵗ))

    m and v start at the initial value and are corrected as if at 0, as in optax; in the paper m starts at 0
    and nothing is corrected. Take it when Adam's step sizes jump up again as v forgets rare large gradients;
    rarely today.

    Parameters
    ----------
    lr : float, default 0.01
        Learning rate, at least 0.
    beta1, beta2 : float, default 0.9 and 0.999
        Decay of the moving averages of the gradients and of their squares, from 0 to below 1.
    eps : float, default 1e-3
        Added to the root of the corrected v, as in PyTorch.
    initial_accumulator_value : float, default 1e-6
        m and v before the first step.

    Attributes
    ----------
    m, v : dict or list of arrays, or None
        Moving averages of the gradients and of their squares.

    References
    ----------
    Zaheer et al. 2018, *Adaptive methods for nonconvex optimization*, algorithm 2.

    Examples
    --------
    >>> W, optimizer = np.zeros(1), fastopt.Yogi(beta2=0.9)
    >>> for g in (10.0, 1.0):
    ...     taken = optimizer.update([W], [np.array([g])])
    >>> optimizer.v[0].round(2)  # it falls by 0.1·1², where Adam's falls by 0.1·(v − 1²)
    array([9.9])
    """

    kernel = kernels.yogi
    lr: float = hyperparameter(0.01)
    beta1: float = hyperparameter(0.9, below=1)
    beta2: float = hyperparameter(0.999, below=1)
    _: KW_ONLY
    eps: float = hyperparameter(1e-3)
    initial_accumulator_value: float = hyperparameter(1e-6, scheduled=False)
    m = State(lambda self, param, grad: self.initial_accumulator_value, quantized="values")
    v = State(lambda self, param, grad: self.initial_accumulator_value, quantized="roots")


@dataclass(eq=False)
class Adan(Optimizer):
    """Adam with Nesterov's momentum, from the differences of gradients.

    d ← g − g of the step before, 0 at the first; m, v and n are moving averages of g, d and (g + β₂·d)²;
    p ← (1 − lr·weight_decay)·p − lr·(m̂ + β₂·v̂) / (√(n̂ + eps_root) + eps)

    The decays are one minus the paper's. optax has 1 − β₂ for the factor β₂ of d and v̂; the paper (1 − its
    β₂) and the authors' code have it as here. Take it when large batches or
    learning rates are tried, as on vision transformers, and its four arrays of state fit into memory.

    Parameters
    ----------
    lr : float, default 0.001
        Learning rate, at least 0.
    beta1 : float, default 0.98
        Decay of the average of the gradients, from 0 to below 1.
    beta2 : float, default 0.92
        Decay of that of their differences, from 0 to below 1.
    beta3 : float, default 0.99
        Decay of that of the squares, from 0 to below 1.
    eps : float, default 1e-8
        Added to the root of the corrected n.
    weight_decay : float, default 0.0
        Decoupled: p shrinks by lr·weight_decay of itself, whatever the gradient.
    eps_root : float, default 0.0
        Added to the corrected n inside of the root, at least 0. optax has 1e-8.
    proximal : bool, default False
        Whether instead p and its step are both divided by 1 + lr·weight_decay, as in the paper and by default
        in the authors' code (``no_prox=False``).

    Attributes
    ----------
    m : dict or list of arrays, or None
        Moving average of the gradients.
    v : dict or list of arrays, or None
        Moving average of their differences.
    n : dict or list of arrays, or None
        Moving average of the squares.
    prev_grad : dict or list of arrays, or None
        The gradient of the step before.

    References
    ----------
    Xie et al. 2022, *Adan: adaptive Nesterov momentum algorithm* (arXiv:2208.06677), algorithm 1.

    Examples
    --------
    >>> W, optimizer = np.zeros(1), fastopt.Adan(lr=0.1)
    >>> for g in (1.0, 3.0):
    ...     taken = optimizer.update([W], [np.array([g])])
    >>> optimizer.prev_grad, optimizer.v[0].round(2)  # the average of the differences, of which one was 2
    ([array([3.])], array([0.16]))
    """

    kernel = kernels.adan
    default_decoupled = True
    lr: float = hyperparameter(0.001)
    beta1: float = hyperparameter(0.98, below=1)
    beta2: float = hyperparameter(0.92, below=1)
    beta3: float = hyperparameter(0.99, below=1)
    _: KW_ONLY
    eps: float = hyperparameter(1e-8)
    weight_decay: float = hyperparameter(0.0)
    eps_root: float = hyperparameter(0.0, repr=False)
    proximal: bool = choice(False, False, True)
    m = State(quantized="values")
    v = State(quantized="values")
    n = State(quantized="roots")
    prev_grad = State(lambda self, param, grad: grad, quantized="values")

    def scalars(self, t: int) -> tuple[float, ...]:
        """Give 1 − β₁, β₂, 1 − β₂, 1 − β₃, the weights of m and v, eps·√(1 − β₃ᵗ) and eps_root·(1 − β₃ᵗ)."""
        beta1, beta2, beta3 = self.beta1, self.beta2, self.beta3
        correction = 1.0 - beta3**t
        lr_m, root = bias_corrected(self.lr, beta1, beta3, t)
        lr_v = self.lr * beta2 * root / (1.0 - beta2**t)
        if is_proximal(self):
            _, keep = self.decay_scalars(self.weight_decay)
            lr_m, lr_v = lr_m * keep, lr_v * keep
        averages = 1.0 - beta1, beta2, 1.0 - beta2, 1.0 - beta3
        return *averages, lr_m, lr_v, self.eps * root, self.eps_root * correction

    def decay_scalars(self, decay: float) -> tuple[float, float]:
        """Return l2 and keep for a weight decay."""
        return (0.0, 1 / (1 + self.lr * decay)) if is_proximal(self) else super().decay_scalars(decay)


def is_proximal(own: Adan) -> bool:
    """Whether there is a decay that is decoupled, and it divides."""
    return own.proximal and own.decoupled is not False and own.weight_decay > 0


@dataclass(eq=False)
class AdEMAMix(Optimizer):
    """Adam with a second, slow average of the gradients.

    m and v as Adam; m_slow ← m_slow + (1 − β₃)(g − m_slow);
    p ← p − lr·(m̂ + α·m_slow) / (√(v̂ + eps_root) + eps)

    α and β₃ are constant, as by default in optax; in the paper both rise over the training, without which it
    may diverge. Take it when a training is long, of 100,000 steps or more, as of language models.

    Parameters
    ----------
    lr : float, default 0.001
        Learning rate, at least 0.
    beta1, beta2 : float, default 0.9 and 0.999
        Decay of the moving averages of the gradients and of their squares, from 0 to below 1.
    beta3 : float, default 0.9999
        Decay of the slow average, from 0 to below 1.
    alpha : float, default 5.0
        Weight of the slow average, at least 0.
    eps : float, default 1e-8
        Added to the root of the corrected v, as in PyTorch.
    eps_root : float, default 0.0
        Added to the corrected v inside of the root, at least 0: optax's.
    alpha_warmup : int, default 0
        Steps over which α rises from 0 in proportion to t, at least 0; in the paper all of the training.
    beta3_warmup : int, default 0
        Steps over which β₃ rises from β₁, at least 0: 1 / log(β₃) in proportion to t, as the number of steps
        after which a gradient counts half. In the paper as many as for α.

    Attributes
    ----------
    m : dict or list of arrays, or None
        Moving average of the gradients.
    m_slow : dict or list of arrays, or None
        Slow moving average of the gradients.
    v : dict or list of arrays, or None
        Moving average of their squares.

    References
    ----------
    Pagliardini, Ablin and Grangier 2024, *The AdEMAMix optimizer* (arXiv:2409.03137), algorithm 1.

    Examples
    --------
    >>> W, optimizer = np.zeros(1), fastopt.AdEMAMix()
    >>> for t in range(10):
    ...     taken = optimizer.update([W], [np.ones(1)])
    >>> optimizer.m[0].round(3), optimizer.m_slow[0].round(3)  # both average the gradient 1
    (array([0.651]), array([0.001]))
    """

    kernel = kernels.ademamix
    lr: float = hyperparameter(0.001)
    beta1: float = hyperparameter(0.9, below=1)
    beta2: float = hyperparameter(0.999, below=1)
    beta3: float = hyperparameter(0.9999, below=1)
    alpha: float = hyperparameter(5.0)
    _: KW_ONLY
    eps: float = hyperparameter(1e-8)
    eps_root: float = hyperparameter(0.0, repr=False)
    alpha_warmup: int = whole(0, repr=False)
    beta3_warmup: int = whole(0, repr=False)
    m = State(quantized="values")
    m_slow = State(quantized="values")
    v = State(quantized="roots")

    def scalars(self, t: int) -> tuple[float, ...]:
        """Give 1 − β₁, 1 − β₂, 1 − β₃, the weights of m and m_slow, eps·√(1 − β₂ᵗ) and eps_root·(1 − β₂ᵗ)."""
        beta1, beta2, beta3, alpha = self.beta1, self.beta2, self.beta3, self.alpha
        if self.alpha_warmup:
            alpha = alpha * min(t / self.alpha_warmup, 1.0)
        if t < self.beta3_warmup:
            beta3 = risen_decay(beta1, beta3, t / self.beta3_warmup)
        correction = 1.0 - beta2**t
        lr_m, root = bias_corrected(self.lr, beta1, beta2, t)
        averages = 1.0 - beta1, 1.0 - beta2, 1.0 - beta3
        return *averages, lr_m, self.lr * alpha * root, self.eps * root, self.eps_root * correction


def risen_decay(first: float, last: float, share: float) -> float:
    """Return the decay on its way between two, whose half-life has come as far as a share of the way."""
    # 1 / log(β) is in proportion to the half-life; the limit at β = 0 is 0.
    start, end = (1 / log(beta) if beta else 0.0 for beta in (first, last))
    now = (1 - share) * start + share * end
    return min(exp(1 / now), last) if now else 0.0
