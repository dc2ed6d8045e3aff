"""What Adam and its kin share: arguments, averages, and the correction of their bias."""

from dataclasses import KW_ONLY, dataclass
from math import sqrt
from typing import Any

import numpy as np

from fastopt.reference.common import UNSET, zeros

__all__ = ["Betas", "Moments", "RootedMoments"]


@dataclass(eq=False)
class Betas:
    """The arguments of Adam and its kin, the number of steps, and the average m."""

    lr: float = 0.001
    beta1: float = 0.9
    beta2: float = 0.999
    _: KW_ONLY
    eps: float = 1e-8
    iter = 0
    m = UNSET

    def corrected(self) -> tuple[float, float]:
        """Return lr_t = lr·√(1 − β₂ᵗ) / (1 − β₁ᵗ) and eps_t = eps·√(1 − β₂ᵗ)."""
        root = sqrt(1 - self.beta2**self.iter)
        return self.lr * root / (1 - self.beta1**self.iter), self.eps * root

    def rectified(self, threshold: float) -> tuple[float, bool]:
        """Return the learning rate of `RAdam`, and whether there is a divisor."""
        t = self.iter
        most = 2 / (1 - self.beta2) - 1
        rho = most - 2 * t * self.beta2**t / (1 - self.beta2**t)
        lr_t = self.lr / (1 - self.beta1**t)
        if rho > threshold:
            r = sqrt((rho - 4) * (rho - 2) * most / ((most - 4) * (most - 2) * rho))
            lr_t = lr_t * sqrt(1 - self.beta2**t) * r
        return lr_t, rho > threshold


@dataclass(eq=False)
class Moments(Betas):
    """The same with v, the average of the squared gradients."""

    v = UNSET

    def begin(self, params: Any) -> None:
        """Count the step; before the first, make m and v."""
        if self.m is None:
            self.m, self.v = zeros(params), zeros(params)
        self.iter += 1

    def average(self, key: Any, g: np.ndarray) -> None:
        """Update m and v."""
        self.m[key] += (1 - self.beta1) * (g - self.m[key])
        self.v[key] += (1 - self.beta2) * (g * g - self.v[key])


@dataclass(eq=False)
class RootedMoments(Moments):
    """The same with eps_root, which is added to the corrected v inside of the root."""

    _: KW_ONLY
    eps_root: float = 0.0

    def root(self, v: np.ndarray) -> np.ndarray:
        """Return √(v + eps_root·(1 − β₂ᵗ)), with which √(v̂ + eps_root) is multiplied by √(1 − β₂ᵗ)."""
        result: np.ndarray = np.sqrt(v + self.eps_root * (1 - self.beta2**self.iter))
        return result
