"""Rules in the order of operations of courses and other libraries, whose bits they have."""

from dataclasses import dataclass

from fastopt.kernels import peers
from fastopt.optimizer import Optimizer, hyperparameter
from fastopt.optimizers.adam import Adam, PaperAdam
from fastopt.optimizers.adaptive import AdaDelta, AdaGrad, RMSprop
from fastopt.optimizers.common import bias_corrected
from fastopt.optimizers.sgd import SGD, Momentum

__all__ = [
    "LIBRARIES",
    "AveragedAdam",
    "AveragedRMSprop",
    "CorrectedAdam",
    "DoubleMomentum",
    "QuotientAdaDelta",
    "SubtractedMomentum",
]  # fmt: skip


@dataclass(eq=False)
class CorrectedAdam(PaperAdam):
    """Adam as it is written in courses.

    m ← β₁·m + (1 − β₁)·g; v ← β₂·v + (1 − β₂)·g²; p ← p − lr·m̂ / (√(v̂ + eps_root) + eps),
    where m̂ = m / (1 − β₁ᵗ) and v̂ = v / (1 − β₂ᵗ)
    """

    kernel = peers.corrected_adam

    def scalars(self, t: int) -> tuple[float, ...]:
        """Give β₁, 1 − β₁, β₂, 1 − β₂, 1 − β₁ᵗ, 1 − β₂ᵗ, lr, eps and eps_root."""
        beta1, beta2 = self.beta1, self.beta2
        corrections = 1 - beta1**t, 1 - beta2**t
        return beta1, 1 - beta1, beta2, 1 - beta2, *corrections, self.lr, self.eps, self.eps_root


@dataclass(eq=False)
class AveragedAdam(PaperAdam):
    """scikit-learn's Adam, with eps on the root of the uncorrected v.

    m ← β₁·m + (1 − β₁)·g; v ← β₂·v + (1 − β₂)·g²; p ← p − lr_t·m / (√(v + eps_root) + eps),
    where lr_t = lr·√(1 − β₂ᵗ) / (1 − β₁ᵗ)
    """

    kernel = peers.averaged_adam
    beta2: float = hyperparameter(0.999, most=1)

    def scalars(self, t: int) -> tuple[float, ...]:
        """Give β₁, 1 − β₁, β₂, 1 − β₂, lr_t, eps and eps_root."""
        beta1, beta2 = self.beta1, self.beta2
        lr_t, _ = bias_corrected(self.lr, beta1, beta2, t)
        return beta1, 1 - beta1, beta2, 1 - beta2, lr_t, self.eps, self.eps_root


@dataclass(eq=False)
class AveragedRMSprop(RMSprop):
    """RMSprop as it is written in courses: h ← ρ·h + (1 − ρ)·(g²); p ← p − lr·g / (√(h + eps_root) + eps)."""

    kernel = peers.averaged_rmsprop


@dataclass(eq=False)
class SubtractedMomentum(Momentum):
    """numpy-ml's momentum, whose velocity is subtracted: v ← μ·v + lr·g; p ← p − v."""

    kernel = peers.subtracted_momentum
    momentum: float = hyperparameter(0.9)


@dataclass(eq=False)
class DoubleMomentum(Momentum):
    """scikit-learn's form of Nesterov's momentum: v ← μ·v − lr·g; p ← p + (μ·v − lr·g)."""

    kernel = peers.double_momentum
    momentum: float = hyperparameter(0.9)


@dataclass(eq=False)
class QuotientAdaDelta(AdaDelta):
    """DeZero's AdaDelta, with the root of a quotient."""

    kernel = peers.quotient_adadelta


# By the names of the adapters, what their steps take.
LIBRARIES: dict[str, tuple[type[Optimizer], ...]] = {
    "cs231n": (SGD, Momentum, AveragedRMSprop, CorrectedAdam),
    "dezero": (SGD, Momentum, AdaGrad, QuotientAdaDelta, Adam),
    "nnfs": (SGD, Momentum, AdaGrad, AveragedRMSprop, CorrectedAdam),
    "numpy_ml": (SubtractedMomentum, AdaGrad, AveragedRMSprop, CorrectedAdam),
    "sklearn": (Momentum, DoubleMomentum, AveragedAdam),
}
