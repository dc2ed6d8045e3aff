"""Steps that find their learning rate, from sums over all arrays."""

from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass
from math import sqrt
from typing import Any

from fastopt import kernels
from fastopt.kernels.common import LANES
from fastopt.optimizer import Optimizer, State, hyperparameter
from fastopt.optimizers.common import Shape, one

__all__ = ["Prodigy"]


@dataclass(eq=False)
class Prodigy(Optimizer):
    """Adam that finds its learning rate: d grows to what the distance from the start asks for.

    m and v as Adam of d·g; s ← √β₂·s + (d / d₀·lr_t)·g; r ← √β₂·r + (d / d₀·lr_t)·⟨g, p₀ − p⟩;
    d ← max(d, r / ‖s‖₁); p ← (1 − lr_t·weight_decay)·p − lr_t·m / (√v + d·eps),
    where lr_t = d·lr·√(1 − β₂ᵗ) / (1 − β₁ᵗ) with the d from before the step

    Sums run over all parameters; p₀ is where they started.

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
    d0 : float, default 1e-6
        d before the first step, above 0.
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
    ungrouped = ("beta2", "d0")  # on which r and d depend, which all parameters have alike
    lr: float = hyperparameter(1.0)
    beta1: float = hyperparameter(0.9, below=1)
    beta2: float = hyperparameter(0.999, below=1)
    _: KW_ONLY
    eps: float = hyperparameter(1e-8)
    d0: float = hyperparameter(1e-6, above=0)
    weight_decay: float = hyperparameter(0.0)
    m = State()
    v = State()
    s = State()
    p0 = State(lambda self, param, grad: param)
    d = State(lambda self, param, grad: self.d0, shape=one, is_shared=True)
    r = State(shape=one, is_shared=True)

    def scalars(self, t: int) -> tuple[float, ...]:
        """Give 1 − β₁, 1 − β₂, √β₂, lr·√(1 − β₂ᵗ) / (1 − β₁ᵗ), d₀, eps and weight_decay."""
        beta1, beta2 = self.beta1, self.beta2
        lr = corrected_lr(self, t)
        # r is the same for all parameters, so it goes by the largest lr.
        shared = vars(self).get("shared_lr", lr)
        share = lr / shared if shared else 0.0
        return 1 - beta1, 1 - beta2, sqrt(beta2), lr, self.d0, self.eps, self.weight_decay, shared, share

    def share(self, sets: Sequence[tuple[Any, int]], maximum: Callable[[float], float]) -> None:
        """Let each set of parameters know the largest lr, corrected for the start."""
        largest = maximum(max((corrected_lr(own, t) for own, t in sets), default=0.0))
        for own, _ in sets:
            vars(own)["shared_lr"] = largest

    def n_statistics(self, shape: Shape) -> int:
        """Give the room for two sums."""
        return 2 * LANES


def corrected_lr(prodigy: Prodigy, t: int) -> float:
    """Return lr·√(1 − β₂ᵗ) / (1 − β₁ᵗ), the learning rate without d."""
    return prodigy.lr * sqrt(1 - prodigy.beta2**t) / (1 - prodigy.beta1**t)
