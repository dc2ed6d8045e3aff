"""What several rules share."""

from math import sqrt

__all__ = ["BiasCorrected", "BiasCorrectedRoot", "Shape", "bias_corrected", "one", "rectification"]

Shape = tuple[int, ...]


def one(shape: Shape) -> Shape:
    """Give the shape of one number an array."""
    return (1,) * len(shape)


def bias_corrected(lr: float, beta1: float, beta2: float, t: int) -> tuple[float, float]:
    """Return lr·√(1 − β₂ᵗ) / (1 − β₁ᵗ), by which m / √v is multiplied at step t, and √(1 − β₂ᵗ)."""
    root = sqrt(1.0 - beta2**t)
    return lr * root / (1.0 - beta1**t), root


def rectification(t: int, beta2: float, threshold: float = 4.0) -> float:
    """Return RAdam's factor of lr at step t, or 0 as long as v has seen too few steps."""
    most = 2 / (1.0 - beta2) - 1
    rho = most - 2 * t * beta2**t / (1.0 - beta2**t)
    if rho <= threshold:
        return 0.0
    return sqrt((rho - 4) * (rho - 2) * most / ((most - 4) * (most - 2) * rho))


class BiasCorrected:
    """What the rules share that add eps to the root of the corrected v, or to what stands for it."""

    lr: float
    beta1: float
    beta2: float
    eps: float

    def scalars(self, t: int) -> tuple[float, ...]:
        """Give 1 − β₁, 1 − β₂, lr_t and eps·√(1 − β₂ᵗ)."""
        beta1, beta2 = self.beta1, self.beta2
        lr_t, root = bias_corrected(self.lr, beta1, beta2, t)
        return 1.0 - beta1, 1.0 - beta2, lr_t, self.eps * root


class BiasCorrectedRoot(BiasCorrected):
    """The same with eps_root, which is added to the corrected v inside of the root."""

    eps_root: float

    def scalars(self, t: int) -> tuple[float, ...]:
        """Give 1 − β₁, 1 − β₂, lr_t, eps·√(1 − β₂ᵗ) and eps_root·(1 − β₂ᵗ)."""
        return *super().scalars(t), self.eps_root * (1.0 - self.beta2**t)
