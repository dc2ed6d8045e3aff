"""Steps that depend on a whole array: its norm, its rows and columns.

Each step looks at all arrays first and moves the parameters then. Sums, and the few numbers made of them, are
float64; where such a number meets the elements, it is rounded to their dtype.
"""

from dataclasses import KW_ONLY, dataclass
from math import sqrt
from typing import Any

import numpy as np

from fastopt.reference.common import (
    UNSET,
    column_totals,
    double,
    norm,
    one,
    put,
    row_totals,
    total,
    triples,
    zeros,
)
from fastopt.reference.moments import Betas, Moments

__all__ = ["LAMB", "LARS", "SM3", "Adafactor", "AdafactorMomentum", "NovoGrad"]


@dataclass(eq=False)
class LARS:
    """Momentum with a learning rate for each array, from the norms of parameter and gradient.

    g' = g + weight_decay·p
    v ← μ·v − lr·ratio·g'
    p ← p + v

    where ratio = trust_coefficient·‖p‖ / (‖g'‖ + eps), 1 if one of the norms is 0

    References
    ----------
    You, Gitman and Ginsburg 2017, *Large batch training of convolutional networks* (arXiv:1708.03888),
    algorithm 1.
    """

    lr: float = 0.1
    momentum: float = 0.9
    trust_coefficient: float = 0.001
    _: KW_ONLY
    weight_decay: float = 0.0
    eps: float = 0.0
    v = UNSET

    def update(self, params: Any, grads: Any) -> None:
        """Take a step."""
        if self.v is None:
            self.v = zeros(params)
        lengths = {}
        for key, p, g in triples(params, grads):
            of_p, of_g = norm(p), norm(g + self.weight_decay * p)
            zero = of_p == 0 or of_g == 0
            lengths[key] = self.lr * (1.0 if zero else self.trust_coefficient * of_p / (of_g + self.eps))
        for key, p, g in triples(params, grads):
            self.v[key] = self.momentum * self.v[key] - lengths[key] * (g + self.weight_decay * p)
            put(params, key, p + self.v[key])


@dataclass(eq=False)
class LAMB(Moments):
    """Adam with a learning rate for each array, from the norms of parameter and step.

    m ← m + (1 − β₁)·(g − m)
    v ← v + (1 − β₂)·(g² − v)
    d = a·m / (√(v + eps_root·(1 − β₂ᵗ)) + eps_t) + weight_decay·p
    p ← p − lr·ratio·d

    where a = √(1 − β₂ᵗ) / (1 − β₁ᵗ), eps_t = eps·√(1 − β₂ᵗ) and ratio = ‖p‖ / ‖d‖, 1 if one of the norms is 0

    References
    ----------
    You et al. 2020, *Large batch optimization for deep learning: training BERT in 76 minutes*
    (arXiv:1904.00962), algorithm 2.
    """

    _: KW_ONLY
    eps: float = 1e-6
    weight_decay: float = 0.0
    eps_root: float = 0.0

    def update(self, params: Any, grads: Any) -> None:
        """Take a step."""
        self.begin(params)
        square = 1 - self.beta2**self.iter
        root = sqrt(square)
        a = root / (1 - self.beta1**self.iter)
        eps_t, shift = self.eps * root, self.eps_root * square

        def direction(key: Any, p: np.ndarray) -> np.ndarray:
            root_of_v = np.sqrt(self.v[key] + shift)
            d: np.ndarray = a * self.m[key] / (root_of_v + eps_t) + self.weight_decay * p
            return d

        lengths = {}
        for key, p, g in triples(params, grads):
            self.average(key, g)
            of_p, of_d = norm(p), norm(direction(key, p))
            lengths[key] = self.lr * (1.0 if of_p == 0 or of_d == 0 else of_p / of_d)
        for key, p, _ in triples(params, grads):
            put(params, key, p - lengths[key] * direction(key, p))


@dataclass(eq=False)
class NovoGrad(Betas):
    """Momentum of gradients that are divided by the root of an average of their squared norms.

    v ← β₂·v + (1 − β₂)·‖g‖²
    m ← β₁·m + (g / (√(v + eps_root) + eps) + weight_decay·p)
    p ← p − lr·m

    At the first step v ← ‖g‖².

    References
    ----------
    Ginsburg et al. 2019, *Stochastic gradient methods with layer-wise adaptive moments for training of deep
    networks* (arXiv:1905.11286), algorithm 1.
    """

    beta2: float = 0.25
    _: KW_ONLY
    eps: float = 1e-6
    weight_decay: float = 0.0
    eps_root: float = 0.0
    v = UNSET

    def update(self, params: Any, grads: Any) -> None:
        """Take a step."""
        if self.m is None:
            self.m, self.v = zeros(params), zeros(params, one)
        self.iter += 1
        beta2 = self.beta2 if self.iter > 1 else 0.0
        for key, _, g in triples(params, grads):
            square = total(np.square(double(g)))
            self.v[key][...] = beta2 * self.v[key].item() + (1 - beta2) * square
        for key, p, g in triples(params, grads):
            divisor = sqrt(self.v[key].item() + self.eps_root) + self.eps
            self.m[key] = self.beta1 * self.m[key] + (g / divisor + self.weight_decay * p)
            put(params, key, p - self.lr * self.m[key])


@dataclass(eq=False)
class SM3:
    """AdaGrad that keeps the largest sums of rows and columns only, with momentum.

    ν = min(row, col) + g²
    row ← the largest ν of each row
    col ← the largest ν of each column
    m ← m + (1 − μ)·(g / √(ν + eps) − m)
    p ← p − lr·m

    With more than two dimensions the rows are those along the last.

    References
    ----------
    Anil, Gupta, Koren and Singer 2019, *Memory-efficient adaptive optimization* (arXiv:1901.11150), SM3-II.
    """

    lr: float = 0.1
    momentum: float = 0.9
    _: KW_ONLY
    eps: float = 1e-8
    m = UNSET
    row = UNSET
    col = UNSET

    def update(self, params: Any, grads: Any) -> None:
        """Take a step."""
        if self.m is None:
            self.m = zeros(params)
            self.row = zeros(params, lambda p: np.shape(p)[:-1] + one(p)[-1:])
            self.col = zeros(params, lambda p: one(p)[:-1] + np.shape(p)[-1:])
        for key, _, g in triples(params, grads):
            nu = np.minimum(self.row[key], self.col[key]) + g * g
            self.m[key] += (1 - self.momentum) * (g / np.sqrt(nu + self.eps) - self.m[key])
            axes = tuple(range(g.ndim))
            self.row[key] = np.max(nu, axes[-1:], keepdims=True, initial=0)
            self.col[key] = np.max(nu, axes[:-1], keepdims=True, initial=0)
        for key, p, _ in triples(params, grads):
            put(params, key, p - self.lr * self.m[key])


@dataclass(eq=False)
class Adafactor:
    """Adam's scaled gradients from the mean squares of rows and columns only.

    row ← row + w·(mean of g² in each row − row)
    col ← col + w·(mean of g² in each column − col)
    v = row / max(mean(row), eps₁)·col
    u = g / √max(v, eps₁²)
    p ← (1 − lr·weight_decay)·p − (α / max(1, rms(u) / clip_threshold))·u

    where w = t^beta2_decay, α = lr_t·max(eps₂, rms(p)), lr_t without multiply_by_parameter_scale, and
    lr_t = min(lr, 1 / √t), lr without relative_step
    With more than two dimensions this is done for each matrix; with fewer row averages g² itself, and is v.

    References
    ----------
    Shazeer and Stern 2018, *Adafactor: adaptive learning rates with sublinear memory cost*
    (arXiv:1804.04235), algorithms 4 and 5.
    """

    lr: float = 0.01
    beta2_decay: float = -0.8
    _: KW_ONLY
    eps1: float | None = None
    eps2: float = 0.001
    clip_threshold: float = 1.0
    relative_step: bool = True
    multiply_by_parameter_scale: bool = True
    weight_decay: float = 0.0
    iter = 0
    row = UNSET
    col = UNSET

    def update(self, params: Any, grads: Any) -> None:
        """Take a step."""
        lengths = self.measure(params, grads)
        for key, p, g in triples(params, grads):
            if g.size:
                kept = (1 - self.lr * self.weight_decay) * p
                put(params, key, kept - lengths[key] * self.direction(key, g))

    def measure(self, params: Any, grads: Any) -> dict[Any, float]:
        """Update row and col; return the lengths of the steps."""
        if self.row is None:
            self.row = zeros(params, lambda p: means_of_rows(np.shape(p)))
            self.col = zeros(params, lambda p: means_of_columns(np.shape(p)))
        self.iter += 1
        t = self.iter
        w = t**self.beta2_decay
        lr_t = min(self.lr, 1 / sqrt(t)) if self.relative_step else self.lr
        lengths = {}
        for key, p, g in triples(params, grads):
            if not g.size:
                continue
            row, col = self.row[key], self.col[key]
            if g.ndim > 1:
                squares = np.square(double(g))
                row[...] = double(row) + w * (row_totals(squares) / g.shape[-1] - double(row))
                col[...] = double(col) + w * (column_totals(squares) / g.shape[-2] - double(col))
            else:
                row += w * (g * g - row)
            size = max(self.eps2, norm(p) / sqrt(g.size)) if self.multiply_by_parameter_scale else 1.0
            alpha = lr_t * size
            # Row by row: the sums of the rows, one after the other.
            squares = row_totals(np.square(double(np.atleast_1d(self.direction(key, g)))))
            rms = sqrt(np.add.accumulate(squares.reshape(-1))[-1]) / sqrt(g.size)
            lengths[key] = alpha / max(1.0, rms / self.clip_threshold)
        return lengths

    def direction(self, key: Any, g: np.ndarray) -> np.ndarray:
        """Return u."""
        eps1 = float(np.finfo(g.dtype).eps) if self.eps1 is None else self.eps1
        v = self.row[key]
        if g.ndim > 1:
            mean = column_totals(v) / g.shape[-2]
            v = (double(v) / np.maximum(mean, eps1)).astype(g.dtype) * self.col[key]
        u: np.ndarray = g / np.sqrt(np.maximum(v, eps1 * eps1))
        return u


@dataclass(eq=False)
class AdafactorMomentum(Adafactor):
    """Adafactor with an average of its steps.

    m ← m + (1 − μ)·(s − m)
    p ← (1 − lr·weight_decay)·p − m

    where s = (α / max(1, rms(u) / clip_threshold))·u, as in `Adafactor`

    References
    ----------
    Shazeer and Stern 2018, *Adafactor: adaptive learning rates with sublinear memory cost*
    (arXiv:1804.04235), algorithms 4 and 5 with β₁ above 0, section 8.
    """

    momentum: float = 0.9
    m = UNSET

    def update(self, params: Any, grads: Any) -> None:
        """Take a step."""
        lengths = self.measure(params, grads)
        if self.m is None:
            self.m = zeros(params)
        for key, p, g in triples(params, grads):
            if g.size:
                step = lengths[key] * self.direction(key, g)
                self.m[key] += (1 - self.momentum) * (step - self.m[key])
                put(params, key, (1 - self.lr * self.weight_decay) * p - self.m[key])


def means_of_rows(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape of Adafactor's row."""
    return (*shape[:-1], 1) if len(shape) > 1 else shape


def means_of_columns(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape of Adafactor's col."""
    return (*shape[:-2], 1, shape[-1]) if len(shape) > 1 else (1,) * len(shape)
