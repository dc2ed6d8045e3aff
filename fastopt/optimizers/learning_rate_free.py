"""Steps that find their learning rate, from sums over all arrays."""

from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass
from math import inf, sqrt
from typing import Any

from fastopt import kernels
from fastopt.checks import choice
from fastopt.kernels.common import LANES
from fastopt.optimizer import Optimizer, State, hyperparameter
from fastopt.optimizers.common import Shape, bias_corrected, one

__all__ = ["DAdaptAdam", "DoG", "DoWG", "LDoG", "Prodigy"]


@dataclass(eq=False)
class DoG(Optimizer):
    """Distance over gradients: SGD whose learning rate comes from the distance that was covered so far.

    r ← max(r, ‖p₀ − p‖, r0, reps_rel·(1 + ‖p₀‖)); h ← h + ‖g‖²; p ← p − (lr·r / √(h + eps))·g

    Norms run over all parameters; p₀ is where they started. Take it when you want SGD without a search for a
    learning rate: leave lr at 1, without a schedule, and evaluate an average (``ema``), which its authors
    hold to be crucial.

    Parameters
    ----------
    lr : float, default 1.0
        Factor of the step, at least 0; the paper's c.
    reps_rel : float, default 1e-6
        Length of the first step in proportion to 1 + ‖p₀‖, at least 0; the authors' name; optax's
        ``init_step=("heuristic", reps_rel)``. They suggest 1e-4 with batch normalization.
    r0 : float, default 0.0
        Length of the first step, if it is larger, at least 0; with ``reps_rel=0`` optax's
        ``init_step=("distance", r0)``. If both are 0, no step is ever taken.
    eps : float, default 1e-8
        Added to h inside the root, above 0.

    Attributes
    ----------
    p0 : dict or list of arrays, or None
        Where the parameters started.
    r : dict or list of arrays, or None
        Largest distance so far, one number an array, the same for all.
    h : dict or list of arrays, or None
        Sum of the squared norms of the gradients, one number an array, the same for all.

    References
    ----------
    Ivgi, Hinder and Carmon 2023, *DoG is SGD's best friend: a parameter-free dynamic step size schedule*
    (arXiv:2302.12022), section 1.

    Examples
    --------
    >>> W, optimizer = np.zeros(1), fastopt.DoG()
    >>> for t in range(100):
    ...     taken = optimizer.update([W], [W - 1])
    >>> W.round(2)  # nearly at the minimum, without a learning rate
    array([0.94])
    """

    kernel = kernels.dog
    statistics_kernel = kernels.dog_measure
    n_additive = n_totals = 3
    ungrouped = ("reps_rel", "r0")  # on which r depends, which all parameters have alike
    lr: float = hyperparameter(1.0)
    _: KW_ONLY
    reps_rel: float = hyperparameter(1e-6)
    r0: float = hyperparameter(0.0)
    eps: float = hyperparameter(1e-8, above=0)
    p0 = State(lambda self, param, grad: param)
    r = State(shape=one, is_shared=True)
    h = State(shape=one, is_shared=True)

    def scalars(self, t: int) -> tuple[float, ...]:
        """Return lr, reps_rel, r₀ and eps."""
        return self.lr, self.reps_rel, self.r0, self.eps

    def n_statistics(self, shape: Shape) -> int:
        """Return the room for three sums."""
        return 3 * LANES


@dataclass(eq=False)
class LDoG(Optimizer):
    """Layer-wise distance over gradients: `DoG` with the norms of each array in the place of those of all.

    r ← max(r, ‖p₀ − p‖, r0, reps_rel·(1 + ‖p₀‖)); h ← h + ‖g‖²; p ← p − (lr·r / √(h + eps))·g,
    where p₀ is where the array started

    Take it when `DoG` does well and layers differ much, as in fine-tuning: leave lr at 1, without a schedule,
    and evaluate an average (``ema``), which its authors hold to be crucial.

    Parameters
    ----------
    lr : float, default 1.0
        Factor of the step, at least 0; the paper's c.
    reps_rel : float, default 1e-6
        Length of the first step in proportion to 1 + ‖p₀‖, at least 0; the authors' name. They suggest 1e-4
        with batch normalization.
    r0 : float, default 0.0
        Length of the first step, if it is larger, at least 0. If both are 0, no step is ever taken.
    eps : float, default 1e-8
        Added to h inside the root, above 0.

    Attributes
    ----------
    p0 : dict or list of arrays, or None
        Where the parameters started.
    r : dict or list of arrays, or None
        Largest distance so far, one number an array.
    h : dict or list of arrays, or None
        Sum of the squared norms of the gradients, one number an array.

    References
    ----------
    Ivgi, Hinder and Carmon 2023, *DoG is SGD's best friend: a parameter-free dynamic step size schedule*
    (arXiv:2302.12022), L-DoG.

    Examples
    --------
    >>> W, optimizer = np.zeros(1), fastopt.LDoG()
    >>> for t in range(100):
    ...     taken = optimizer.update([W], [W - 1])
    >>> W.round(2)  # nearly at the minimum, without a learning rate
    array([0.94])
    """

    kernel = kernels.ldog
    statistics_kernel = kernels.dog_measure
    n_additive = 3
    lr: float = hyperparameter(1.0)
    _: KW_ONLY
    reps_rel: float = hyperparameter(1e-6)
    r0: float = hyperparameter(0.0)
    eps: float = hyperparameter(1e-8, above=0)
    p0 = State(lambda self, param, grad: param)
    r = State(shape=one)
    h = State(shape=one)

    def scalars(self, t: int) -> tuple[float, ...]:
        """Return lr, reps_rel, r₀ and eps."""
        return self.lr, self.reps_rel, self.r0, self.eps

    def n_statistics(self, shape: Shape) -> int:
        """Return the room for three sums."""
        return 3 * LANES


@dataclass(eq=False)
class DoWG(Optimizer):
    """Distance over weighted gradients: as `DoG`, but gradients count the more, the later they come.

    r ← max(r, ‖p₀ − p‖, r0); v ← v + r²·‖g‖²; p ← p − (lr·r² / (√v + eps))·g

    Norms run over all parameters; p₀ is where they started. Take it when `DoG` is too slow: its steps are
    larger. Leave lr at 1.

    Parameters
    ----------
    lr : float, default 1.0
        Factor of the step, at least 0.
    r0 : float, default 0.01
        First distance, at least 0; optax's ``init_estim_sq_dist`` is its square. With 0, no step is ever
        taken.
    eps : float, default 1e-4
        Added to the root of v, above 0; optax's. The paper has none.

    Attributes
    ----------
    p0 : dict or list of arrays, or None
        Where the parameters started.
    r : dict or list of arrays, or None
        Largest distance so far, one number an array, the same for all.
    v : dict or list of arrays, or None
        Sum of the squared norms of the gradients, times r², one number an array, the same for all.

    References
    ----------
    Khaled, Mishchenko and Jin 2023, *DoWG unleashed: an efficient universal parameter-free gradient descent
    method* (arXiv:2305.16284), algorithm 1.

    Examples
    --------
    >>> W, optimizer = np.zeros(1), fastopt.DoWG()
    >>> for t in range(100):
    ...     taken = optimizer.update([W], [W - 1])
    >>> W.round(2)  # at the minimum, without a learning rate
    array([1.])
    """

    kernel = kernels.dowg
    statistics_kernel = kernels.dowg_measure
    n_additive = n_totals = 2
    ungrouped = ("r0",)  # on which r depends, which all parameters have alike
    lr: float = hyperparameter(1.0)
    _: KW_ONLY
    r0: float = hyperparameter(0.01)
    eps: float = hyperparameter(1e-4, above=0)
    p0 = State(lambda self, param, grad: param)
    r = State(shape=one, is_shared=True)
    v = State(shape=one, is_shared=True)

    def scalars(self, t: int) -> tuple[float, ...]:
        """Return lr, r₀ and eps."""
        return self.lr, self.r0, self.eps

    def n_statistics(self, shape: Shape) -> int:
        """Return the room for two sums."""
        return 2 * LANES


@dataclass(eq=False)
class DAdaptAdam(Optimizer):
    """Adam by D-Adaptation: it finds its learning rate from how well gradients agree with their sum.

    r ← β₃·r + (1 − β₃)·d·lr_t·Σ g·s / (√v + eps), with s and v from before the step, and β₃ = √β₂;
    m and s average d·lr_t·g with β₁ and β₃, v averages g² with β₂; d̂ = r / ((1 − β₃)·‖s‖₁);
    p ← (1 − d·lr_t·weight_decay)·p − m / (√v + eps); d ← max(d, min(d̂, d·growth_rate)),
    where lr_t = lr·√(1 − β₂ᵗ) / (1 − β₁ᵗ)

    Sums run over all parameters. The authors' program and optax take v from before the step in r, where the
    paper has the new one; so does this class. Take it when you don't want to search for a learning rate:
    leave lr at 1, and give a schedule that only falls; `Prodigy` finds it sooner.

    Parameters
    ----------
    lr : float, default 1.0
        Factor of d, at least 0.
    beta1, beta2 : float, default 0.9 and 0.999
        Decay of the moving averages of the gradients and of their squares, from 0 to below 1.
    eps : float, default 1e-8
        Added to the root of v, above 0.
    d0 : float, default 1e-6
        d before the first step, above 0; optax's ``estim_lr0``.
    growth_rate : float or None, default None
        Largest factor by which d grows in a step, at least 1; None is no bound. The authors suggest 1.02 for
        a kind of warmup.
    use_bias_correction : bool, default True
        Whether lr is corrected for the start by √(1 − β₂ᵗ) / (1 − β₁ᵗ), as in optax; the authors' program
        does it only if it is asked for it.
    weight_decay : float, default 0.0
        Decoupled: p shrinks by d·lr_t·weight_decay of itself, whatever the gradient; the authors'
        ``decouple=True``. With decoupled=False weight_decay·p is added to the gradient instead.

    Attributes
    ----------
    m : dict or list of arrays, or None
        Moving average of the gradients, times d·lr_t.
    v : dict or list of arrays, or None
        Moving average of their squares.
    s : dict or list of arrays, or None
        Moving average of the gradients, times d·lr_t, which lasts longer.
    d, r : dict or list of arrays, or None
        d and r, one number an array, the same for all.

    References
    ----------
    Defazio and Mishchenko 2023, *Learning-rate-free learning by D-Adaptation* (arXiv:2301.07733),
    algorithm 5.

    Examples
    --------
    >>> W, optimizer = np.zeros(1), fastopt.DAdaptAdam()
    >>> for t in range(100):
    ...     taken = optimizer.update([W], [W - 1])
    >>> W.round(2)  # nearly at the minimum, without a learning rate
    array([0.99])
    """

    kernel = kernels.dadapt_adam
    default_decoupled = None
    decay_choices = (False,)
    statistics_kernel = kernels.dadapt_adam_measure
    n_additive = n_totals = 2
    ungrouped = ("beta2", "d0", "growth_rate")  # r and d depend on these, and all parameters have them alike
    lr: float = hyperparameter(1.0)
    beta1: float = hyperparameter(0.9, below=1)
    beta2: float = hyperparameter(0.999, below=1)
    _: KW_ONLY
    eps: float = hyperparameter(1e-8, above=0)
    d0: float = hyperparameter(1e-6, above=0)
    growth_rate: float | None = hyperparameter(None, least=1)
    use_bias_correction: bool = choice(True, False, True)
    weight_decay: float = hyperparameter(0.0)
    m = State()
    v = State()
    s = State()
    d = State(lambda self, param, grad: self.d0, shape=one, is_shared=True)
    r = State(shape=one, is_shared=True)

    def scalars(self, t: int) -> tuple[float, ...]:
        """Return 1 − β₁, 1 − β₂, β₃, lr_t, growth_rate, eps, weight_decay, and what r goes by."""
        growth_rate = inf if self.growth_rate is None else self.growth_rate
        lr, *shared = shared_rates(self, t)
        moments = 1 - self.beta1, 1 - self.beta2, sqrt(self.beta2)
        return *moments, lr, growth_rate, self.eps, self.formula_decay, *shared

    def share(self, sets: Sequence[tuple[Any, int]], maximum: Callable[[float], float]) -> None:
        """Let each set of parameters know the largest lr, corrected for the start."""
        share_largest_rate(sets, maximum)

    def n_statistics(self, shape: Shape) -> int:
        """Return the room for a sum."""
        return LANES


@dataclass(eq=False)
class Prodigy(Optimizer):
    """Adam that finds its learning rate: d grows to what the distance from the start asks for.

    m and v as Adam of d·g; s ← β₃·s + (d / d₀·lr_t)·g; r ← β₃·r + (d / d₀·lr_t)·⟨g, p₀ − p⟩;
    d ← max(d, d_coef·r / ‖s‖₁); p ← (1 − lr_t·weight_decay)·p − lr_t·m / (√v + d·eps),
    where lr_t = d·lr·√(1 − β₂ᵗ) / (1 − β₁ᵗ) with the d from before the step

    Sums run over all parameters; p₀ is where they started. Take it when you don't want to search for a
    learning rate: leave lr at 1, and give a schedule that only falls.

    Parameters
    ----------
    lr : float, default 1.0
        Factor of d, at least 0.
    beta1, beta2 : float, default 0.9 and 0.999
        Decay of the moving averages of the gradients and of their squares, from 0 to below 1.
    eps : float, default 1e-8
        Added to the root, times d.
    beta3 : float or None, default None
        Decay of s and r, from 0 to below 1; None is √beta2.
    d0 : float, default 1e-6
        d before the first step, above 0. optax's ``estim_lr0``.
    d_coef : float, default 1.0
        Factor of the estimate of d, above 0: the authors prefer it to a change of lr. optax's
        ``estim_lr_coef``.
    growth_rate : float or None, default None
        How much larger d may be than at the step before, as a factor of at least 1; from d0 it may grow to
        any size at once. None is no limit, the authors' inf.
    use_bias_correction : bool, default True
        Whether lr_t has the factor √(1 − β₂ᵗ) / (1 − β₁ᵗ), as in the paper's algorithm and in optax. The
        authors' program has False as its default.
    safeguard_warmup : bool, default False
        Whether s grows by (d / d₀·d)·g, without lr and the correction: so that d isn't estimated too large
        while a schedule warms lr up.
    weight_decay : float, default 0.0
        Decoupled: p shrinks by lr_t·weight_decay of itself, whatever the gradient. With decoupled=False
        weight_decay·p is added to the gradient instead, the authors' ``decouple=False``.

    Attributes
    ----------
    m, v : dict or list of arrays, or None
        Moving averages of the gradients, times d, and of their squares.
    s, p0 : dict or list of arrays, or None
        Sum of the gradients, which decays; and where the parameters started.
    d, r, d_max : dict or list of arrays, or None
        d, r and the largest estimate of d (d itself without growth_rate): one number an array, the same for
        all.

    References
    ----------
    Mishchenko and Defazio 2024, *Prodigy: an expeditiously adaptive parameter-free learner*
    (arXiv:2306.06101), algorithm 4.

    Examples
    --------
    >>> W, optimizer = np.zeros(1), fastopt.Prodigy()
    >>> for t in range(30):
    ...     taken = optimizer.update([W], [W - 1])
    >>> optimizer.d[0].round(2)  # it began at 1e-6
    array([0.06])
    """

    kernel = kernels.prodigy
    default_decoupled = None
    decay_choices = (False,)
    statistics_kernel = kernels.prodigy_measure
    n_additive = n_totals = 2
    # r and d depend on these, and all parameters have them alike.
    ungrouped = ("beta2", "beta3", "d0", "d_coef", "growth_rate")
    lr: float = hyperparameter(1.0)
    beta1: float = hyperparameter(0.9, below=1)
    beta2: float = hyperparameter(0.999, below=1)
    _: KW_ONLY
    eps: float = hyperparameter(1e-8)
    beta3: float | None = hyperparameter(None, below=1)
    d0: float = hyperparameter(1e-6, above=0)
    d_coef: float = hyperparameter(1.0, above=0, repr=False)
    growth_rate: float | None = hyperparameter(None, least=1)
    use_bias_correction: bool = choice(True, False, True)
    safeguard_warmup: bool = choice(False, False, True)
    weight_decay: float = hyperparameter(0.0)
    m = State()
    v = State()
    s = State()
    p0 = State(lambda self, param, grad: param)
    d = State(lambda self, param, grad: self.d0, shape=one, is_shared=True)
    r = State(shape=one, is_shared=True)
    d_max = State(lambda self, param, grad: self.d0, shape=one, is_shared=True)

    def scalars(self, t: int) -> tuple[float, ...]:
        """Give 1 − β₁, 1 − β₂, β₃, lr_t / d, what it is for s, d₀, and the others as they are."""
        beta3 = sqrt(self.beta2) if self.beta3 is None else self.beta3
        lr, shared, share = shared_rates(self, t)
        return (
            1 - self.beta1, 1 - self.beta2, beta3, lr, 1.0 if self.safeguard_warmup else lr, self.d0,
            self.d_coef, inf if self.growth_rate is None else self.growth_rate,
            self.eps, self.formula_decay, shared, share,
        )  # fmt: skip

    def share(self, sets: Sequence[tuple[Any, int]], maximum: Callable[[float], float]) -> None:
        """Let each set of parameters know the largest lr, corrected for the start."""
        share_largest_rate(sets, maximum)

    def n_statistics(self, shape: Shape) -> int:
        """Give the room for two sums."""
        return 2 * LANES


def corrected_lr(rule: Any, t: int) -> float:
    """Return lr_t / d."""
    lr: float = rule.lr
    return bias_corrected(lr, rule.beta1, rule.beta2, t)[0] if rule.use_bias_correction else lr


def shared_rates(rule: Any, t: int) -> tuple[float, float, float]:
    """Return lr_t / d, that by which r goes, which is the same for all parameters, and their ratio."""
    lr = corrected_lr(rule, t)
    shared = vars(rule).get("shared_lr", lr)
    return lr, shared, lr / shared if shared else 0.0


def share_largest_rate(sets: Sequence[tuple[Any, int]], maximum: Callable[[float], float]) -> None:
    """Let each set of parameters know the largest lr, corrected for the start."""
    largest = maximum(max((corrected_lr(own, t) for own, t in sets), default=0.0))
    for own, _ in sets:
        vars(own)["shared_lr"] = largest
