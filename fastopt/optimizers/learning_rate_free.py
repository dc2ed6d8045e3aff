"""Steps that find their learning rate, from sums over all arrays."""

from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass
from math import inf, sqrt
from typing import Any

from fastopt import kernels
from fastopt.checks import choice
from fastopt.kernels.common import LANES
from fastopt.optimizer import Optimizer, State, hyperparameter
from fastopt.optimizers.common import Shape, one

__all__ = ["Prodigy"]


@dataclass(eq=False)
class Prodigy(Optimizer):
    """Adam that finds its learning rate: d grows to what the distance from the start asks for.

    m and v as Adam of d·g; s ← β₃·s + (d / d₀·lr_t)·g; r ← β₃·r + (d / d₀·lr_t)·⟨g, p₀ − p⟩;
    d ← max(d, d_coef·r / ‖s‖₁); p ← (1 − lr_t·weight_decay)·p − lr_t·m / (√v + d·eps),
    where lr_t = d·lr·√(1 − β₂ᵗ) / (1 − β₁ᵗ) with the d from before the step

    Sums run over all parameters; p₀ is where they started. Take it when you don't want to search for a
    learning rate: leave lr at 1, and give a schedule that only falls.

    The authors' own program leaves out the correction √(1 − β₂ᵗ) / (1 − β₁ᵗ) unless it is asked for it;
    this class makes it, as the paper's algorithm and optax do, unless use_bias_correction=False.

    Parameters
    ----------
    lr : float, default 1.0
        Factor of d, at least 0.
    beta1 : float, default 0.9
        Decay of the moving average of the gradients, from 0 to below 1.
    beta2 : float, default 0.999
        Decay of that of their squares, from 0 to below 1.
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
        Whether lr_t has the factor √(1 − β₂ᵗ) / (1 − β₁ᵗ). The authors' program has False as its default.
    safeguard_warmup : bool, default False
        Whether s grows by (d / d₀·d)·g, without lr and the correction: so that d isn't estimated too large
        while a schedule warms lr up.
    weight_decay : float, default 0.0
        Decoupled: p shrinks by lr_t·weight_decay of itself, whatever the gradient.

    Attributes
    ----------
    m : dict or list of arrays, or None
        Moving average of the gradients, times d.
    v : dict or list of arrays, or None
        Moving average of their squares.
    s : dict or list of arrays, or None
        Sum of the gradients, which decays.
    p0 : dict or list of arrays, or None
        Where the parameters started.
    d : dict or list of arrays, or None
        d, one number an array, the same for all.
    r : dict or list of arrays, or None
        r, one number an array, the same for all.
    d_max : dict or list of arrays, or None
        Largest estimate of d, one number an array, the same for all; d itself without growth_rate.

    Raises
    ------
    TypeError, ValueError
        If a hyperparameter is no number or out of range, here or when it is assigned later.

    References
    ----------
    Mishchenko and Defazio 2024, *Prodigy: an expeditiously adaptive parameter-free learner*
    (arXiv:2306.06101), algorithm 4.
    """

    kernel = kernels.prodigy
    default_decoupled = None
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
    d_coef: float = hyperparameter(1.0, above=0)
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
        lr = corrected_lr(self, t)
        # r is the same for all parameters, so it goes by the largest lr.
        shared = vars(self).get("shared_lr", lr)
        share = lr / shared if shared else 0.0
        return (
            1 - self.beta1, 1 - self.beta2, beta3, lr, 1.0 if self.safeguard_warmup else lr, self.d0,
            self.d_coef, inf if self.growth_rate is None else self.growth_rate,
            self.eps, self.weight_decay, shared, share,
        )  # fmt: skip

    def share(self, sets: Sequence[tuple[Any, int]], maximum: Callable[[float], float]) -> None:
        """Let each set of parameters know the largest lr, corrected for the start."""
        largest = maximum(max((corrected_lr(own, t) for own, t in sets), default=0.0))
        for own, _ in sets:
            vars(own)["shared_lr"] = largest

    def n_statistics(self, shape: Shape) -> int:
        """Give the room for two sums."""
        return 2 * LANES


def corrected_lr(prodigy: Prodigy, t: int) -> float:
    """Return lr_t / d."""
    if not prodigy.use_bias_correction:
        return prodigy.lr
    return prodigy.lr * sqrt(1 - prodigy.beta2**t) / (1 - prodigy.beta1**t)
