"""Relatives of Adam: other bounds, orders and weights of its averages."""

from dataclasses import KW_ONLY, dataclass
from math import inf, sqrt

from fastopt import kernels
from fastopt.optimizer import Optimizer, State, choice, hyperparameter
from fastopt.optimizers.common import bias_corrected

__all__ = ["ADOPT", "AMSBound", "AdaBound", "LaProp", "QHAdam"]


@dataclass(eq=False)
class AdaBound(Optimizer):
    """Adam whose step sizes are clipped to bounds that close on the learning rate of gradient descent.

    m and v as Adam; p ← p − clip(lr_t / (√v + eps), lower, upper)·m, where lr_t = lr·√(1 − β₂ᵗ) / (1 − β₁ᵗ),
    lower = final·(1 − 1 / (γ·t + 1)) and upper = final·(1 + 1 / (γ·t))

    final is final_lr, or, with base_lr, final_lr·lr / base_lr: a schedule of lr then moves the bounds, too.
    In the authors' code base_lr is the lr that the optimizer was made with. eps is added to the root of the
    uncorrected v, as there. Their ``amsbound=True`` is `AMSBound`.

    Take it when Adam learns fast at first, but SGD ends better.

    Parameters
    ----------
    lr : float, default 0.001
        Learning rate of Adam's part, at least 0.
    beta1, beta2 : float, default 0.9 and 0.999
        Decay of the moving averages of the gradients and of their squares, from 0 to below 1.
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
    m, v : dict or list of arrays, or None
        Moving averages of the gradients and of their squares.

    References
    ----------
    Luo, Xiong, Liu and Sun 2019, *Adaptive gradient methods with dynamic bound of learning rate*
    (arXiv:1902.09843), algorithm 1, with the bounds of the authors' code.

    Examples
    --------
    >>> W, dW = np.array([1.0, 1.0]), np.array([1.0, -2.0])
    >>> optimizer = fastopt.AdaBound(lr=0.1, final_lr=0.5)
    >>> optimizer.update([W], [dW])
    True
    >>> W.round(3)  # Adam's step sizes are within wide bounds at first
    array([0.9, 1.1])
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
    m = State(quantized="values")
    v = State(quantized="roots")

    def scalars(self, t: int) -> tuple[float, ...]:
        """Give 1 − β₁, 1 − β₂, lr_t, eps and the bounds."""
        beta1, beta2 = self.beta1, self.beta2
        lr_t, _ = bias_corrected(self.lr, beta1, beta2, t)
        final = self.final_lr if self.base_lr is None else self.final_lr * self.lr / self.base_lr
        lower, upper = final * (1 - 1 / (self.gamma * t + 1)), final * (1 + 1 / (self.gamma * t))
        return 1.0 - beta1, 1.0 - beta2, lr_t, self.eps, lower, upper


@dataclass(eq=False)
class AMSBound(AdaBound):
    """AdaBound with the largest v so far, so that the step sizes of Adam's part don't grow again.

    m and v as Adam; v_max ← max(v_max, v); p ← p − clip(lr_t / (√v_max + eps), lower, upper)·m,
    with the lr_t and the bounds of `AdaBound`

    Take it when AdaBound is unstable after rare, large gradients.

    Parameters
    ----------
    lr, beta1, beta2, final_lr, gamma, base_lr, eps : float
        As in `AdaBound`.

    Attributes
    ----------
    m, v : dict or list of arrays, or None
        Moving averages of the gradients and of their squares.
    v_max : dict or list of arrays, or None
        The largest v so far.

    References
    ----------
    Luo, Xiong, Liu and Sun 2019, *Adaptive gradient methods with dynamic bound of learning rate*
    (arXiv:1902.09843), algorithm 2, with the bounds of the authors' code.

    Examples
    --------
    >>> W, optimizer = np.zeros(1), fastopt.AMSBound(beta2=0.5)
    >>> for g in (4.0, 1.0):
    ...     taken = optimizer.update([W], [np.array([g])])
    >>> optimizer.v, optimizer.v_max  # v falls again, v_max doesn't
    ([array([4.5])], [array([8.])])
    """

    kernel = kernels.amsbound
    v_max = State(quantized="roots")


@dataclass(eq=False)
class ADOPT(Optimizer):
    """Adam that divides a gradient by the average of those before it, and only then averages it.

    d ← clip(g / max(√v, eps), ±(t − 1)^clip_power); m ← m + (1 − β₁)(d − m); p ← p − lr·m;
    v ← v + (1 − β₂)(g² − v)

    v is that of the step before; the first step sets v ← g², and no more. The bound of d, which is not in
    the paper's algorithm, is that of the authors' later code. optax's ``contrib.adopt``, without its
    ``nesterov``.

    Take it when Adam needs a β₂ that was found for each task: this converges with any.

    Parameters
    ----------
    lr : float, default 0.001
        Learning rate, at least 0.
    beta1 : float, default 0.9
        Decay of the moving average of the scaled gradients, from 0 to below 1.
    beta2 : float, default 0.9999
        Decay of that of the squared gradients, from 0 to below 1.
    eps : float, default 1e-6
        Least divisor, above 0.
    clip_power : float, default 0.25
        Power of the number of steps before that bounds d, from 0 to 10: with ``clip_lambda`` or
        ``clip_value_fn`` the peers take any function.
    use_clipping : bool, default True
        Whether d is bounded. Without it this is the paper's algorithm.

    Attributes
    ----------
    m : dict or list of arrays, or None
        Moving average of the scaled gradients.
    v : dict or list of arrays, or None
        Moving average of the squared gradients.

    References
    ----------
    Taniguchi et al. 2024, *ADOPT: modified Adam can converge with any β₂ with the optimal rate*
    (arXiv:2411.02853), algorithm 2, with the clipping of the authors' code.

    Examples
    --------
    >>> W, optimizer = np.zeros(1), fastopt.ADOPT(lr=0.1)
    >>> optimizer.update([W], [np.array([2.0])])
    True
    >>> W, optimizer.v  # the first step only sets v
    (array([0.]), [array([4.])])
    """

    kernel = kernels.adopt
    lr: float = hyperparameter(0.001)
    beta1: float = hyperparameter(0.9, below=1)
    beta2: float = hyperparameter(0.9999, below=1)
    _: KW_ONLY
    eps: float = hyperparameter(1e-6, above=0)
    clip_power: float = hyperparameter(0.25, most=10, repr=False)
    use_clipping: bool = choice(True, False, True)
    m = State(quantized="values")
    v = State(quantized="roots")

    def scalars(self, t: int) -> tuple[float, ...]:
        """Give 1 − β₁, 1 − β₂, lr, eps and the bound: 0 at the first step, so that m stays 0."""
        if t == 1:
            return 1.0 - self.beta1, 1.0, self.lr, self.eps, 0.0
        bound: float = (t - 1) ** self.clip_power if self.use_clipping else inf
        return 1.0 - self.beta1, 1.0 - self.beta2, self.lr, self.eps, bound


@dataclass(eq=False)
class LaProp(Optimizer):
    """Adam whose momentum is of gradients that have been scaled: each by the squares up to its own step.

    v ← v + (1 − β₂)(g² − v); d ← g / (√v̂ + eps); m ← m + (1 − β₁)(d − m); p ← p − lr·m̂,
    where m̂ = m / (1 − β₁ᵗ) and v̂ = v / (1 − β₂ᵗ)

    The authors' code has lr within m: the same steps as long as lr is constant.

    Take it when Adam is unstable with a small β₂ or a large β₁: here neither bounds the other.

    Parameters
    ----------
    lr : float, default 4e-4
        Learning rate, at least 0.
    beta1 : float, default 0.9
        Decay of the moving average of the scaled gradients, the paper's μ, from 0 to below 1.
    beta2 : float, default 0.999
        Decay of that of the squared gradients, the paper's ν, from 0 to below 1.
    eps : float, default 1e-15
        Added to the root of the corrected v.

    Attributes
    ----------
    m : dict or list of arrays, or None
        Moving average of the scaled gradients.
    v : dict or list of arrays, or None
        Moving average of the squared gradients.

    References
    ----------
    Ziyin, Wang and Ueda 2020, *LaProp: separating momentum and adaptivity in Adam* (arXiv:2002.04839),
    algorithm 1.

    Examples
    --------
    >>> W, optimizer = np.zeros(1), fastopt.LaProp(lr=0.1)
    >>> for g in (1.0, 100.0):
    ...     taken = optimizer.update([W], [np.array([g])])
    >>> optimizer.m[0].round(3)  # of scaled gradients, so that a large one can't fill it
    array([0.231])
    """

    kernel = kernels.laprop
    lr: float = hyperparameter(4e-4)
    beta1: float = hyperparameter(0.9, below=1)
    beta2: float = hyperparameter(0.999, below=1)
    _: KW_ONLY
    eps: float = hyperparameter(1e-15)
    m = State(quantized="values")
    v = State(quantized="roots")

    def scalars(self, t: int) -> tuple[float, ...]:
        """Give 1 − β₁, 1 − β₂, √(1 − β₂ᵗ), eps times that, and lr / (1 − β₁ᵗ)."""
        beta1, beta2 = self.beta1, self.beta2
        root = sqrt(1.0 - beta2**t)
        return 1.0 - beta1, 1.0 - beta2, root, self.eps * root, self.lr / (1.0 - beta1**t)


@dataclass(eq=False)
class QHAdam(Optimizer):
    """Adam with some of the plain gradient in the place of its average, and of its square likewise.

    m and v as Adam; p ← p − lr·((1 − ν₁)·g + ν₁·m̂) / (√((1 − ν₂)·g² + ν₂·v̂) + eps),
    where m̂ = m / (1 − β₁ᵗ) and v̂ = v / (1 − β₂ᵗ)

    With ν₁ = ν₂ = 1 it is `PaperAdam`, with ν₁ = β₁ and ν₂ = 1 almost `NAdam`. The defaults are those that
    the paper recommends; in its package they are Adam's.

    Take it when a slower average than Adam's is wanted, β₁ = 0.995 say, without its delay.

    Parameters
    ----------
    lr : float, default 0.001
        Learning rate, the paper's α, at least 0.
    beta1, beta2 : float, default 0.995 and 0.999
        Decay of the moving averages of the gradients and of their squares, from 0 to below 1.
    nu1 : float, default 0.7
        ν₁, from 0 to 1: weight of the average of the gradients.
    nu2 : float, default 1.0
        ν₂, from 0 to 1: weight of that of their squares.
    eps : float, default 1e-8
        Added to the root.

    Attributes
    ----------
    m : dict or list of arrays, or None
        Moving average of the gradients.
    v : dict or list of arrays, or None
        Moving average of the squared gradients.

    References
    ----------
    Ma and Yarats 2019, *Quasi-hyperbolic momentum and Adam for deep learning* (arXiv:1810.06801),
    section 5.

    Examples
    --------
    >>> W, dW = np.array([1.0, 1.0]), np.array([1.0, -2.0])
    >>> optimizer = fastopt.QHAdam(lr=0.1, nu1=0)
    >>> optimizer.update([W], [dW])
    True
    >>> W.round(3)  # with ν₁ = 0 the momentum has no part in the step
    array([0.9, 1.1])
    """

    kernel = kernels.qhadam
    lr: float = hyperparameter(0.001)
    beta1: float = hyperparameter(0.995, below=1)
    beta2: float = hyperparameter(0.999, below=1)
    nu1: float = hyperparameter(0.7, most=1)
    nu2: float = hyperparameter(1.0, most=1)
    _: KW_ONLY
    eps: float = hyperparameter(1e-8)
    m = State(quantized="values")
    v = State(quantized="roots")

    def scalars(self, t: int) -> tuple[float, ...]:
        """Give 1 − β₁, 1 − β₂, the weights of g, m, g² and v, and eps."""
        beta1, beta2, nu1, nu2 = self.beta1, self.beta2, self.nu1, self.nu2
        lr_g, lr_m = self.lr * (1 - nu1), self.lr * nu1 / (1.0 - beta1**t)
        return 1.0 - beta1, 1.0 - beta2, lr_g, lr_m, 1 - nu2, nu2 / (1.0 - beta2**t), self.eps
