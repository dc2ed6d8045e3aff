"""Steps for matrices, from products of matrices."""

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from math import sqrt
from typing import Any

import numpy as np

from fastopt.reference.common import UNSET, double, norm, pairs, put, triples, zeros
from fastopt.reference.moments import Betas

__all__ = ["SOAP", "AdaMuon", "Muon"]


@dataclass(eq=False)
class Muon:
    """Momentum whose matrix is made orthogonal.

    m ← m + (1 − μ)·(g − m)
    u = g + μ·(m − g), m without nesterov
    o = u / max(‖u‖, eps), after ns_steps Newton–Schulz iterations, which bring its singular values near to 1
    p ← (1 − lr·weight_decay)·p − lr·scale·o

    where scale = √max(1, rows / columns), or as adjust_lr says

    References
    ----------
    Jordan et al. 2024, *Muon: an optimizer for hidden layers in neural networks*; PyTorch's ``Muon``.
    """

    lr: float = 0.001
    momentum: float = 0.95
    _: KW_ONLY
    weight_decay: float = 0.1
    ns_steps: int = 5
    nesterov: bool = True
    ns_coefficients: tuple[Any, ...] = (3.4445, -4.7750, 2.0315)
    adjust_lr: str = "original"
    eps: float = 1e-7
    m = UNSET

    def update(self, params: Any, grads: Any) -> None:
        """Take a step."""
        if self.m is None:
            self.m = zeros(params)
        directions = {}
        for key, g in pairs(params, grads):
            self.m[key] += (1 - self.momentum) * (g - self.m[key])
            u = g + self.momentum * (self.m[key] - g) if self.nesterov else self.m[key]
            directions[key] = u / max(norm(u), self.eps)
        for key, p, _ in triples(params, grads):
            u = directions[key]
            rows, columns = u.shape
            if u.size:
                o = orthogonal(u, self.ns_coefficients, self.ns_steps)
                kept = (1 - self.lr * self.weight_decay) * p
                put(params, key, kept - self.adjusted_lr(rows, columns) * o)

    def adjusted_lr(self, rows: int, columns: int) -> float:
        """Return lr·scale."""
        if self.adjust_lr == "match_rms_adamw":
            return 0.2 * self.lr * sqrt(max(rows, columns))
        ratios = {"original": rows / columns, "fan_out/fan_in": columns / rows, "none": 1}
        return self.lr * sqrt(max(1, ratios[self.adjust_lr]))


@dataclass(eq=False)
class AdaMuon:
    """Muon of the signs of the momentum, with Adam's scaled steps.

    m ← m + (1 − μ)·(g − m)
    u = sign(g + μ·(m − g)), sign(m) without nesterov
    o = u / (‖u‖ + 10⁻⁷), after ns_steps Newton–Schulz iterations
    v ← v + (1 − β₂)·(o² − v)
    d = o / (√v + eps)
    p ← (1 − lr·weight_decay)·p − 0.2·lr·√(rows·columns) / (‖d‖ + eps)·d

    References
    ----------
    Si, Zhang and Shen 2025, *AdaMuon: adaptive Muon optimizer* (arXiv:2507.11005), algorithm 1.
    """

    lr: float = 0.02
    momentum: float = 0.95
    beta2: float = 0.95
    _: KW_ONLY
    weight_decay: float = 0.01
    ns_steps: int = 5
    nesterov: bool = True
    ns_coefficients: tuple[Any, ...] = (3.4445, -4.7750, 2.0315)
    eps: float = 1e-8
    m = UNSET
    v = UNSET

    def update(self, params: Any, grads: Any) -> None:
        """Take a step."""
        if self.m is None:
            self.m, self.v = zeros(params), zeros(params)
        changes = {}
        for key, g in pairs(params, grads):
            self.m[key] += (1 - self.momentum) * (g - self.m[key])
            u = np.sign(g + self.momentum * (self.m[key] - g) if self.nesterov else self.m[key])
            u = u / (norm(u) + 1e-7)
            o = orthogonal(u, self.ns_coefficients, self.ns_steps) if u.size else u
            self.v[key] += (1 - self.beta2) * (o * o - self.v[key])
            d = o / (np.sqrt(self.v[key]) + self.eps)
            changes[key] = 0.2 * self.lr * sqrt(u.size) / (norm(d) + self.eps) * d
        for key, p, _ in triples(params, grads):
            put(params, key, (1 - self.lr * self.weight_decay) * p - changes[key])


def orthogonal(u: np.ndarray, coefficients: tuple[Any, ...], steps: int) -> np.ndarray:
    """Return a matrix after its iterations: those of three coefficients, or a set of these for each."""
    iterations = coefficients if isinstance(coefficients[0], tuple) else (coefficients,) * steps
    is_tall = len(u) > u.shape[1]
    return newton_schulz(u.T, iterations).T if is_tall else newton_schulz(u, iterations)


def newton_schulz(x: np.ndarray, iterations: Sequence[tuple[float, float, float]]) -> np.ndarray:
    """X ← a·x + (b·A + c·A·A)·x, where A = x·xᵀ; for a matrix with no more rows than columns."""
    # What BLAS rounds depends on the call: these calls, in this order, on arrays in C order.
    x = np.array(x, order="C")
    gram, polynomial = np.empty((2, len(x), len(x)), x.dtype)
    product = np.empty_like(x)
    for a, b, c in iterations:
        np.matmul(x, x.T, out=gram)
        np.matmul(gram, gram, out=polynomial)
        np.multiply(polynomial, c, out=polynomial)
        np.multiply(gram, b, out=gram)
        np.add(gram, polynomial, out=polynomial)
        np.matmul(polynomial, x, out=product)
        np.multiply(x, a, out=x)
        np.add(x, product, out=x)
    return x


# The longest side that has an eigenbasis.
LONGEST = 10_000


@dataclass(eq=False)
class SOAP(Betas):
    """Adam in the eigenbases of Shampoo's matrices left and right.

    g' = Qₗᵀ·g·Qᵣ
    m ← m + (1 − β₁)·(g' − m)
    v ← v + (1 − β₂)·(g'² − v)
    p ← (1 − lr·weight_decay)·p − lr_t·Qₗ·(m / (√v + eps))·Qᵣᵀ
    left ← left + (1 − β₃)·(g·gᵀ − left)
    right ← right + (1 − β₃)·(gᵀ·g − right)

    where lr_t = lr·√(1 − β₂ᵗ) / (1 − β₁ᵗ) with the t of Adam's steps, lr without bias_correction, and
    β₃ = shampoo_beta, β₂ if it is None
    The first step fills left and right only; the second is Adam's first. Before it Qₗ and Qᵣ are the
    eigenvectors of an exact decomposition, and then, every precondition_frequency steps, those of a QR
    decomposition of left·Qₗ and right·Qᵣ.

    References
    ----------
    Vyas et al. 2024, *SOAP: improving and stabilizing Shampoo using Adam* (arXiv:2409.11321), algorithm 3.
    """

    lr: float = 0.003
    beta1: float = 0.95
    beta2: float = 0.95
    _: KW_ONLY
    shampoo_beta: float | None = None
    eps: float = 1e-8
    weight_decay: float = 0.01
    precondition_frequency: int = 10
    bias_correction: bool = True
    v = UNSET
    left = UNSET
    right = UNSET
    q_left = UNSET
    q_right = UNSET

    def update(self, params: Any, grads: Any) -> None:
        """Take a step."""
        if self.m is None:
            self.m, self.v = zeros(params), zeros(params)
            self.left, self.q_left = (zeros(params, lambda p: sides(p)[0]) for _ in range(2))
            self.right, self.q_right = (zeros(params, lambda p: sides(p)[1]) for _ in range(2))
        self.iter += 1
        t = self.iter - 1
        step = 0.0 if t == 0 else self.lr
        if t and self.bias_correction:
            step = self.lr * sqrt(1 - self.beta2**t) / (1 - self.beta1**t)
        changes = {}
        for key, g in pairs(params, grads):
            g = np.array(g, order="C")
            g = g.reshape(len(g), -1) if g.ndim > 1 and g.size else g
            u = np.zeros_like(g)
            if t:
                self.turn(key, t, g.shape)
                m, v = self.m[key].reshape(g.shape), self.v[key].reshape(g.shape)
                turned = into(g, self.q_left[key], self.q_right[key])
                m += (1 - self.beta1) * (turned - m)
                v += (1 - self.beta2) * (turned * turned - v)
                u = back(m / (np.sqrt(v) + self.eps), self.q_left[key], self.q_right[key])
            beta3 = self.beta2 if self.shampoo_beta is None else self.shampoo_beta
            if self.left[key].size:
                self.left[key] += (1 - beta3) * (g @ g.T - self.left[key])
            if self.right[key].size:
                self.right[key] += (1 - beta3) * (g.T @ g - self.right[key])
            changes[key] = step * u
        for key, p, _ in triples(params, grads):
            put(params, key, (1 - self.lr * self.weight_decay) * p - changes[key].reshape(p.shape))

    def turn(self, key: Any, t: int, shape: tuple[int, ...]) -> None:
        """Replace the bases before Adam's step t, if it is time, and what is relative to them."""
        old = self.q_left[key], self.q_right[key]
        pairs_of_sides = (self.left[key], old[0]), (self.right[key], old[1])
        if t == 1:
            self.q_left[key], self.q_right[key] = (eigenvectors(x) for x, _ in pairs_of_sides)
        elif (t - 1) % self.precondition_frequency == 0:
            (q_left, rows), (q_right, columns) = (improved(x, q) for x, q in pairs_of_sides)
            m, v = self.m[key].reshape(shape), self.v[key].reshape(shape)
            m[...] = into(np.array(back(m, *old)), q_left, q_right)
            v[...] = v[rows] if old[0].size else v
            v[...] = v[:, columns] if old[1].size else v
            self.q_left[key], self.q_right[key] = q_left, q_right


def sides(param: Any) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return the shapes of the bases of both sides; (0, 0) for none."""
    shape = np.shape(param)
    size = int(np.prod(shape))
    if len(shape) < 2 or not size:
        return (0, 0), (0, 0)
    rows, columns = (n if n <= LONGEST else 0 for n in (shape[0], size // shape[0]))
    return (rows, rows), (columns, columns)


def into(x: np.ndarray, q_left: np.ndarray, q_right: np.ndarray) -> np.ndarray:
    """Return Qₗᵀ·x·Qᵣ."""
    x = np.matmul(q_left.T, x) if q_left.size else x
    return np.matmul(x, q_right) if q_right.size else x


def back(x: np.ndarray, q_left: np.ndarray, q_right: np.ndarray) -> np.ndarray:
    """Return Qₗ·x·Qᵣᵀ."""
    x = np.matmul(q_left, x) if q_left.size else x
    return np.matmul(x, q_right.T) if q_right.size else x


def eigenvectors(x: np.ndarray) -> np.ndarray:
    """Return the eigenvectors of a symmetric matrix, those of the largest eigenvalues first."""
    if not np.isfinite(x).all() or not x.size:
        return np.full_like(x, np.nan)
    return np.array(np.linalg.eigh(double(x))[1][:, ::-1], x.dtype, order="C")


def improved(x: np.ndarray, q: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return better eigenvectors by a power iteration, and in which order the old ones were taken."""
    if not x.size:
        return q, np.arange(0)
    if not (np.isfinite(x).all() and np.isfinite(q).all()):
        return np.full_like(q, np.nan), np.arange(len(q))
    product = x @ q
    order = np.argsort(-np.sum(q * product, axis=0), kind="stable")
    return np.array(np.linalg.qr(product[:, order])[0], order="C"), order
