"""Relatives of Adam that need numbers of whole arrays."""

from dataclasses import KW_ONLY, dataclass

from fastopt import kernels
from fastopt.kernels.common import LANES
from fastopt.kernels.layerwise_adam import CHANNEL
from fastopt.optimizer import Optimizer, State, hyperparameter
from fastopt.optimizers.common import BiasCorrected, Shape, one

__all__ = ["MARS", "AdaMini", "AdamP", "StableAdamW"]


@dataclass(eq=False)
class StableAdamW(Optimizer):
    """AdamW that shortens its step in arrays whose gradients have outgrown the second moment.

    m ← m + (1 − β̂₁)(g − m); v ← v + (1 − β̂₂)(g² − v); p ← (1 − η·weight_decay)·p − η·m / (√v + eps),
    where 1 − β̂ = (1 − β) / (1 − βᵗ), so that m and v are always corrected for the start, and
    η = lr / max(1, rms), where rms is that of g / √max(v, eps²) in the array: Adafactor's clipping

    Take it when the loss has spikes: it takes the place of clipping by the norm, in each array by itself.

    Parameters
    ----------
    lr : float, default 0.001
        Learning rate, at least 0.
    beta1 : float, default 0.9
        Decay of the moving average of the gradients, from 0 to below 1.
    beta2 : float, default 0.99
        Decay of that of their squares, from 0 to below 1; optimi's and pytorch_optimizer's default.
    eps : float, default 1e-8
        Added to the root of v, at least 0; its square is the least divisor in rms.
    weight_decay : float, default 0.01
        Decoupled: p shrinks by η·weight_decay of itself, whatever the gradient. With decoupled=False
        weight_decay·p is added to the gradient instead.

    Attributes
    ----------
    m : dict or list of arrays, or None
        Moving average of the gradients, corrected for the start.
    v : dict or list of arrays, or None
        Moving average of their squares, corrected for the start.

    References
    ----------
    Wortsman et al. 2023, *Stable and low-precision training for large-scale vision-language models*
    (arXiv:2304.13013), algorithm 2.

    Examples
    --------
    >>> W, optimizer = np.zeros(1), fastopt.StableAdamW(lr=0.1)
    >>> for g in (1.0, 1000.0):
    ...     taken = optimizer.update([W], [np.array([g])])
    >>> W.round(3)  # the spike's step is about half as long as the first one
    array([-0.153])
    """

    kernel = kernels.stable_adamw
    default_decoupled = None
    decay_choices = (False,)
    statistics_kernel = kernels.stable_adamw_measure
    n_additive = 2
    lr: float = hyperparameter(0.001)
    beta1: float = hyperparameter(0.9, below=1)
    beta2: float = hyperparameter(0.99, below=1)
    _: KW_ONLY
    eps: float = hyperparameter(1e-8)
    weight_decay: float = hyperparameter(0.01)
    m = State()
    v = State()

    def scalars(self, t: int) -> tuple[float, ...]:
        """Return the weights of the new gradient and of its square, lr, eps and weight_decay."""
        new_m = (1 - self.beta1) / (1 - self.beta1**t)
        new_v = (1 - self.beta2) / (1 - self.beta2**t)
        return new_m, new_v, self.lr, self.eps, self.formula_decay

    def n_statistics(self, shape: Shape) -> int:
        """Return the room for a sum."""
        return LANES


@dataclass(eq=False)
class MARS(BiasCorrected, Optimizer):
    """AdamW of gradients with less variance: a part of their last change is added, then they are clipped.

    c = g + gamma·β₁ / (1 − β₁)·(g − prev_grad); m and v as Adam, of c / max(1, ‖c‖) in the place of g;
    p ← (1 − lr·weight_decay)·p − lr_t·m / (√v + eps·√(1 − β₂ᵗ)),
    where lr_t = lr·√(1 − β₂ᵗ) / (1 − β₁ᵗ), and ‖c‖ is the norm in the array

    This is MARS-AdamW in its approximate form: prev_grad is the gradient of the step before. (The exact form
    would compute it anew, at the last parameters with the present batch.) It begins as the first gradient, by
    the paper's x₁ = x₀; in the authors' code it begins as 0. All arrays are updated like this, as with their
    ``optimize_1d=True``.

    Take it when gradients are noisy and the run is long, with a larger learning rate than AdamW's.

    Parameters
    ----------
    lr : float, default 0.003
        Learning rate, at least 0.
    beta1 : float, default 0.95
        Decay of the moving average of c, from 0 to below 1.
    beta2 : float, default 0.99
        Decay of that of its square, from 0 to below 1.
    gamma : float, default 0.025
        Share of the correction, at least 0; with 0 it is AdamW with gradients clipped to norm 1.
    eps : float, default 1e-8
        Added to the root of the corrected v.
    weight_decay : float, default 0.0
        Decoupled: p shrinks by lr·weight_decay of itself, whatever the gradient.

    Attributes
    ----------
    m : dict or list of arrays, or None
        Moving average of the corrected and clipped gradients.
    v : dict or list of arrays, or None
        Moving average of their squares.
    prev_grad : dict or list of arrays, or None
        Gradient of the step before.

    References
    ----------
    Yuan et al. 2024, *MARS: unleashing the power of variance reduction for training large models*
    (arXiv:2411.10438), algorithm 2.

    Examples
    --------
    >>> W, optimizer = np.zeros(1), fastopt.MARS(lr=0.1)
    >>> for g in (0.2, 0.3):
    ...     taken = optimizer.update([W], [np.array([g])])
    >>> optimizer.m[0].round(4)  # 0.95·0.05·0.2 + 0.05·(0.3 + 0.025·19·(0.3 − 0.2))
    array([0.0269])
    """

    kernel = kernels.mars
    default_decoupled = True
    statistics_kernel = kernels.mars_measure
    n_additive = 1
    lr: float = hyperparameter(0.003)
    beta1: float = hyperparameter(0.95, below=1)
    beta2: float = hyperparameter(0.99, below=1)
    gamma: float = hyperparameter(0.025)
    _: KW_ONLY
    eps: float = hyperparameter(1e-8)
    weight_decay: float = hyperparameter(0.0)
    m = State()
    v = State()
    prev_grad = State(lambda self, param, grad: grad)

    def scalars(self, t: int) -> tuple[float, ...]:
        """Return 1 − β₁, 1 − β₂, gamma·β₁ / (1 − β₁), lr_t and eps·√(1 − β₂ᵗ)."""
        new_m, new_v, lr_t, eps = super().scalars(t)
        return new_m, new_v, self.gamma * self.beta1 / (1 - self.beta1), lr_t, eps

    def n_statistics(self, shape: Shape) -> int:
        """Return the room for a norm."""
        return LANES


@dataclass(eq=False)
class AdaMini(BiasCorrected, Optimizer):
    """Adam-mini: Adam whose second moment is one number for each block of the parameters.

    m ← m + (1 − β₁)(g − m); v ← v + (1 − β₂)(mean(g²) − v), with the mean over a block;
    p ← (1 − lr·weight_decay)·p − lr_t·m / (√v + eps·√(1 − β₂ᵗ)), where lr_t = lr·√(1 − β₂ᵗ) / (1 − β₁ᵗ)

    A block is all that has the same first index: a row of a matrix, a filter of shape (FN, C, FH, FW). An
    array with less than two dimensions is one block. The paper has a block for each output unit. In a network
    of ``x @ W`` output units are the columns of W: for blocks of these hand over ``W.T`` and ``dW.T``, views
    through which W is updated. In a table of embeddings rows are right, one for each token.

    Take it when memory is scarce: it has half the state of AdamW, and its learning rate.

    Parameters
    ----------
    lr : float, default 0.001
        Learning rate, at least 0.
    beta1 : float, default 0.9
        Decay of the moving average of the gradients, from 0 to below 1.
    beta2 : float, default 0.999
        Decay of that of the mean of their squares in a block, from 0 to below 1.
    eps : float, default 1e-8
        Added to the root of the corrected v.
    weight_decay : float, default 0.0
        Decoupled: p shrinks by lr·weight_decay of itself, whatever the gradient.

    Attributes
    ----------
    m : dict or list of arrays, or None
        Moving average of the gradients.
    v : dict or list of arrays, or None
        Moving average of the mean of their squares in each block, of shape (n, 1, ...).

    References
    ----------
    Zhang et al. 2024, *Adam-mini: use fewer learning rates to gain more* (arXiv:2406.16793), algorithm 1.

    Examples
    --------
    >>> W, dW = np.ones((2, 2)), np.array([[1.0, -2.0], [3.0, 4.0]])
    >>> optimizer = fastopt.AdaMini()
    >>> optimizer.update([W], [dW])
    True
    >>> optimizer.v[0].ravel().round(4)  # one number a row: 0.001·mean(g²)
    array([0.0025, 0.0125])
    """

    kernel = kernels.ada_mini
    default_decoupled = True
    statistics_kernel = kernels.ada_mini_measure
    lr: float = hyperparameter(0.001)
    beta1: float = hyperparameter(0.9, below=1)
    beta2: float = hyperparameter(0.999, below=1)
    _: KW_ONLY
    eps: float = hyperparameter(1e-8)
    weight_decay: float = hyperparameter(0.0)
    m = State()
    v = State(shape=lambda shape: (*shape[:1], *one(shape)[1:]) if len(shape) > 1 else one(shape))

    def n_statistics(self, shape: Shape) -> int:
        """Return the room for a sum."""
        return LANES


@dataclass(eq=False)
class AdamP(BiasCorrected, Optimizer):
    """AdamW that doesn't let the norm of the parameters grow where it has no effect.

    m and v as Adam; u = m / (√v + eps·√(1 − β₂ᵗ)); p ← kept·p − lr_t·u,
    where lr_t = lr·√(1 − β₂ᵗ) / (1 − β₁ᵗ)

    If a gradient is almost at right angles to its parameters, as it is where their scale doesn't matter
    (before a normalization), what u has along p is taken away: u ← u − p·Σ(p·u) / (‖p‖ + eps)². This is done
    in each channel, if abs(cos(p, g)) < delta / √n holds in all of them, with n elements each; else in the
    whole array, if it holds there. Then kept = 1 − lr·weight_decay·wd_ratio, and else 1 − lr·weight_decay.

    A channel is all that has the same first index, as in PyTorch: a row of a matrix, a filter of shape
    (FN, C, FH, FW). In a network of ``x @ W`` output units are the columns of W: for channels of these hand
    over ``W.T`` and ``dW.T``, views through which W is updated. Arrays with less than two dimensions have no
    channels, and AdamW's steps.

    Take it when batch or layer normalization follows most of the layers.

    Parameters
    ----------
    lr : float, default 0.001
        Learning rate, at least 0.
    beta1, beta2 : float, default 0.9 and 0.999
        Decay of the moving averages of the gradients and of their squares, from 0 to below 1.
    delta : float, default 0.1
        Bound of the cosine, times √n, at least 0; with 0 it is AdamW.
    eps : float, default 1e-8
        Added to the root of the corrected v and to the norm of p; the least norm in the cosine. Above 0.
    wd_ratio : float, default 0.1
        Factor of the weight decay where something is taken away from u, at least 0.
    weight_decay : float, default 0.0
        Decoupled: p shrinks by lr·weight_decay of itself, or by lr·weight_decay·wd_ratio.

    Attributes
    ----------
    m, v : dict or list of arrays, or None
        Moving averages of the gradients and of their squares.

    References
    ----------
    Heo et al. 2021, *AdamP: slowing down the slowdown for momentum optimizers on scale-invariant weights*
    (arXiv:2006.08217), algorithm 2; channels as in the authors' code, without its ``nesterov``.

    Examples
    --------
    >>> W, dW = np.array([[1.0, 0.0]]), np.array([[0.0, 1.0]])
    >>> optimizer = fastopt.AdamP(lr=0.1, weight_decay=1, wd_ratio=0.1)
    >>> optimizer.update([W], [dW])
    True
    >>> W.round(3)  # the gradient is at right angles to W, so that it decays by a tenth of lr
    array([[ 0.99, -0.1 ]])
    """

    kernel = kernels.adamp
    default_decoupled = None
    statistics_kernel = kernels.adamp_measure
    lr: float = hyperparameter(0.001)
    beta1: float = hyperparameter(0.9, below=1)
    beta2: float = hyperparameter(0.999, below=1)
    delta: float = hyperparameter(0.1)
    _: KW_ONLY
    eps: float = hyperparameter(1e-8, above=0)
    wd_ratio: float = hyperparameter(0.1)
    weight_decay: float = hyperparameter(0.0)
    m = State()
    v = State()

    def scalars(self, t: int) -> tuple[float, ...]:
        """Return 1 − β₁, 1 − β₂, lr_t, eps·√(1 − β₂ᵗ), eps, delta, and both values of kept."""
        decay = self.lr * self.weight_decay
        return *super().scalars(t), self.eps, self.delta, 1 - decay, 1 - decay * self.wd_ratio

    def n_statistics(self, shape: Shape) -> int:
        """Return the room for two sums, and that for each channel, whose number the kernels see by it."""
        return 2 * LANES + CHANNEL * (shape[0] if len(shape) > 1 else 0)
