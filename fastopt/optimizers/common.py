"""What several rules share."""

from math import sqrt

__all__ = ["BiasCorrected", "BiasCorrectedRoot", "Shape", "one"]

Shape = tuple[int, ...]


def one(shape: Shape) -> Shape:
    """Give the shape of one number an array."""
    return (1,) * len(shape)


class BiasCorrected:
    """What the rules share that add eps to the root of the corrected v, or to what stands for it."""

    lr: float
    beta1: float
    beta2: float
    eps: float

    def scalars(self, t: int) -> tuple[float, ...]:
        """Give 1 − β₁, 1 − β₂, lr_t and eps·√(1 − β₂ᵗ)."""
        beta1, beta2 = self.beta1, self.beta2
        root = sqrt(1.0 - beta2**t)
        return 1.0 - beta1, 1.0 - beta2, self.lr * root / (1.0 - beta1**t), self.eps * root


class BiasCorrectedRoot(BiasCorrected):
    """The same with eps_root, which is added to the corrected v inside of the root."""

    eps_root: float

    def scalars(self, t: int) -> tuple[float, ...]:
        """Give 1 − β₁, 1 − β₂, lr_t, eps·√(1 − β₂ᵗ) and eps_root·(1 − β₂ᵗ)."""
        return *super().scalars(t), self.eps_root * (1.0 - self.beta2**t)
