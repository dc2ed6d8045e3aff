"""Adam and those that changed a part of it."""

from dataclasses import KW_ONLY, dataclass
from math import exp, log, sqrt
from typing import Any

import numpy as np

from fastopt.reference.common import UNSET, copies, full, pairs, put, triples, zeros
from fastopt.reference.moments import Betas, RootedMoments

__all__ = [
    "AMSGrad", "AdEMAMix", "AdaBelief", "AdaMax", "Adam", "AdamW", "Adan", "NAdam", "PaperAdam", "RAdam",
    "Yogi",
]  # fmt: skip


@dataclass(eq=False)
class Adam:
    """Adaptive moment estimation, with eps on the root of the uncorrected v as in the book.

    m ← m + (1 − β₁)·(g − m)
    v ← v + (1 − β₂)·(g² − v)
    p ← p − lr_t·m / (√v + eps)

    where lr_t = lr·√(1 − β₂ᵗ) / (1 − β₁ᵗ), lr without bias_correction

    References
    ----------
    Kingma and Ba 2015, *Adam: a method for stochastic optimization* (arXiv:1412.6980), algorithm 1 and the
    end of section 2; Saito, *Deep Learning from Scratch*, section 6.1.6.
    """

    lr: float = 0.001
    beta1: float = 0.9
    beta2: float = 0.999
    _: KW_ONLY
    eps: float = 1e-7
    bias_correction: bool = True
    iter = 0
    m = UNSET
    v = UNSET
    quantized = "m √v"

    def update(self, params: Any, grads: Any) -> None:
        """Take a step."""
        if self.m is None:
            self.m, self.v = zeros(params), zeros(params)
        self.iter += 1
        lr_t = self.lr
        if self.bias_correction:
            lr_t = self.lr * sqrt(1 - self.beta2**self.iter) / (1 - self.beta1**self.iter)
        for key, g in pairs(params, grads):
            self.m[key] += (1 - self.beta1) * (g - self.m[key])
            self.v[key] += (1 - self.beta2) * (g * g - self.v[key])
            params[key] -= lr_t * self.m[key] / (np.sqrt(self.v[key]) + self.eps)


@dataclass(eq=False)
class AdamW(RootedMoments):
    """PaperAdam with decoupled weight decay.

    m ← m + (1 − β₁)·(g − m)
    v ← v + (1 − β₂)·(g² − v)
    p ← (1 − lr·weight_decay)·p − lr_t·m / (√(v + eps_root·(1 − β₂ᵗ)) + eps_t)

    where lr_t = lr·√(1 − β₂ᵗ) / (1 − β₁ᵗ) and eps_t = eps·√(1 − β₂ᵗ)

    References
    ----------
    Loshchilov and Hutter 2019, *Decoupled weight decay regularization* (arXiv:1711.05101), algorithm 2, with
    PyTorch's product of lr and weight_decay.
    """

    _: KW_ONLY
    weight_decay: float = 0.01
    quantized = "m √v"

    def update(self, params: Any, grads: Any) -> None:
        """Take a step."""
        self.begin(params)
        lr_t, eps_t = self.corrected()
        for key, p, g in triples(params, grads):
            self.average(key, g)
            kept = (1 - self.lr * self.weight_decay) * p
            put(params, key, kept - lr_t * self.m[key] / (self.root(self.v[key]) + eps_t))


@dataclass(eq=False)
class PaperAdam(RootedMoments):
    """Adam with eps on the root of the corrected v, as in the paper.

    m ← m + (1 − β₁)·(g − m)
    v ← v + (1 − β₂)·(g² − v)
    p ← p − lr_t·m / (√(v + eps_root·(1 − β₂ᵗ)) + eps_t)

    where lr_t = lr·√(1 − β₂ᵗ) / (1 − β₁ᵗ) and eps_t = eps·√(1 − β₂ᵗ)

    References
    ----------
    Kingma and Ba 2015, *Adam: a method for stochastic optimization* (arXiv:1412.6980), algorithm 1;
    PyTorch's ``Adam``.
    """

    quantized = "m √v"

    def update(self, params: Any, grads: Any) -> None:
        """Take a step."""
        self.begin(params)
        lr_t, eps_t = self.corrected()
        for key, g in pairs(params, grads):
            self.average(key, g)
            params[key] -= lr_t * self.m[key] / (self.root(self.v[key]) + eps_t)


@dataclass(eq=False)
class AMSGrad(RootedMoments):
    """PaperAdam with the largest v so far.

    m ← m + (1 − β₁)·(g − m)
    v ← v + (1 − β₂)·(g² − v)
    v_max ← max(v_max, v)
    p ← p − lr_t·m / (√(v_max + eps_root·(1 − β₂ᵗ)) + eps_t)

    where lr_t = lr·√(1 − β₂ᵗ) / (1 − β₁ᵗ) and eps_t = eps·√(1 − β₂ᵗ), eps without corrected_eps

    With correction="before"

    v_max ← max(v_max, v / (1 − β₂ᵗ))
    p ← p − lr / (1 − β₁ᵗ)·m / (√(v_max + eps_root) + eps)

    and with "none" the same without both corrections.

    References
    ----------
    Reddi, Kale and Kumar 2018, *On the convergence of Adam and beyond* (arXiv:1904.09237), algorithm 2.
    """

    _: KW_ONLY
    correction: str = "after"
    corrected_eps: bool = True
    v_max = UNSET
    quantized = "m √v √v_max"

    def update(self, params: Any, grads: Any) -> None:
        """Take a step."""
        if self.v_max is None:
            self.v_max = zeros(params)
        self.begin(params)
        lr_t, eps = self.corrected()
        eps = eps if self.corrected_eps else self.eps
        factor, eps_root = 1.0, self.eps_root * (1 - self.beta2**self.iter)
        if self.correction == "before":
            lr_t, eps, eps_root = self.lr / (1 - self.beta1**self.iter), self.eps, self.eps_root
            factor = 1 / (1 - self.beta2**self.iter)
        elif self.correction == "none":
            lr_t, eps, eps_root = self.lr, self.eps, self.eps_root
        for key, p, g in triples(params, grads):
            self.average(key, g)
            self.v_max[key] = np.maximum(self.v_max[key], factor * self.v[key])
            put(params, key, p - lr_t * self.m[key] / (np.sqrt(self.v_max[key] + eps_root) + eps))


@dataclass(eq=False)
class AdaMax(Betas):
    """Adam with the infinity norm.

    m ← m + (1 − β₁)·(g − m)
    u ← max(β₂·u, |g| + eps)
    p ← p − lr_t·m / (u + eps_outside)

    where lr_t = lr / (1 − β₁ᵗ), lr without bias_correction

    References
    ----------
    Kingma and Ba 2015, *Adam: a method for stochastic optimization* (arXiv:1412.6980), algorithm 2.
    """

    lr: float = 0.002
    _: KW_ONLY
    bias_correction: bool = True
    eps_outside: float = 0.0
    u = UNSET
    quantized = "m √u"

    def update(self, params: Any, grads: Any) -> None:
        """Take a step."""
        if self.m is None:
            self.m, self.u = zeros(params), zeros(params)
        self.iter += 1
        lr_t = self.lr / (1 - self.beta1**self.iter) if self.bias_correction else self.lr
        for key, p, g in triples(params, grads):
            self.m[key] += (1 - self.beta1) * (g - self.m[key])
            self.u[key] = np.maximum(self.beta2 * self.u[key], abs(g) + self.eps)
            put(params, key, p - lr_t * self.m[key] / (self.u[key] + self.eps_outside))


@dataclass(eq=False)
class NAdam(RootedMoments):
    """Adam with Nesterov's momentum.

    m ← m + (1 − β₁)·(g − m)
    v ← v + (1 − β₂)·(g² − v)
    p ← p − (lr_g·g + lr_m·m) / (√(v + eps_root·(1 − β₂ᵗ)) + eps_t)

    where lr_g = lr·√(1 − β₂ᵗ)·(1 − μₜ) / (1 − Mₜ), lr_m = lr·√(1 − β₂ᵗ)·μₜ₊₁ / (1 − Mₜ₊₁),
    eps_t = eps·√(1 − β₂ᵗ), μₜ = β₁·(1 − 0.96^(t·momentum_decay) / 2) and Mₜ = μ₁·…·μₜ

    References
    ----------
    Dozat 2016, *Incorporating Nesterov momentum into Adam*, with PyTorch's schedule of μ.
    """

    lr: float = 0.002
    _: KW_ONLY
    momentum_decay: float = 4e-3
    quantized = "m √v"

    def update(self, params: Any, grads: Any) -> None:
        """Take a step."""
        self.begin(params)
        mu = [self.beta1 * (1 - 0.5 * 0.96 ** (i * self.momentum_decay)) for i in range(1, self.iter + 2)]
        product = 1.0
        for factor in mu[:-1]:
            product *= factor
        root = sqrt(1 - self.beta2**self.iter)
        lr_g = self.lr * root * (1 - mu[-2]) / (1 - product)
        lr_m = self.lr * root * mu[-1] / (1 - product * mu[-1])
        for key, p, g in triples(params, grads):
            self.average(key, g)
            step = (lr_g * g + lr_m * self.m[key]) / (self.root(self.v[key]) + self.eps * root)
            put(params, key, p - step)


@dataclass(eq=False)
class RAdam(RootedMoments):
    """Adam that divides by the root of v only when v has seen enough gradients.

    m ← m + (1 − β₁)·(g − m)
    v ← v + (1 − β₂)·(g² − v)
    p ← p − lr / (1 − β₁ᵗ)·m, until ρₜ > threshold; then
    p ← p − r·lr_t·m / (√(v + eps_root·(1 − β₂ᵗ)) + eps)

    where lr_t = lr·√(1 − β₂ᵗ) / (1 − β₁ᵗ), ρ∞ = 2 / (1 − β₂) − 1, ρₜ = ρ∞ − 2·t·β₂ᵗ / (1 − β₂ᵗ) and
    r = √((ρₜ − 4)·(ρₜ − 2)·ρ∞ / ((ρ∞ − 4)·(ρ∞ − 2)·ρₜ)); with corrected_eps eps·√(1 − β₂ᵗ) for eps

    References
    ----------
    Liu et al. 2020, *On the variance of the adaptive learning rate and beyond* (arXiv:1908.03265), algorithm
    2.
    """

    _: KW_ONLY
    threshold: float = 5.0
    corrected_eps: bool = False
    quantized = "m √v"

    def update(self, params: Any, grads: Any) -> None:
        """Take a step."""
        self.begin(params)
        lr_t, is_rectified = self.rectified(self.threshold)
        eps = self.corrected()[1] if self.corrected_eps else self.eps
        for key, p, g in triples(params, grads):
            self.average(key, g)
            divisor = self.root(self.v[key]) + eps if is_rectified else 1
            put(params, key, p - lr_t * self.m[key] / divisor)


@dataclass(eq=False)
class AdaBelief(Betas):
    """Adam with the squares of what the average of the gradients did not foresee.

    m ← m + (1 − β₁)·(g − m)
    s ← s + (1 − β₂)·((g − m)² − s) + eps_root
    p ← p − lr_t·m / (√s + eps_t)

    where lr_t = lr·√(1 − β₂ᵗ) / (1 − β₁ᵗ), eps_t = eps·√(1 − β₂ᵗ), and eps_root is eps if it is None
    With rectify the last line is that of `RAdam`, with eps and threshold 5.

    References
    ----------
    Zhuang et al. 2020, *AdaBelief optimizer: adapting stepsizes by the belief in observed gradients*
    (arXiv:2010.07468), algorithm 2.
    """

    _: KW_ONLY
    eps: float = 1e-16
    eps_root: float | None = None
    rectify: bool = False
    s = UNSET
    quantized = "m √s"

    def update(self, params: Any, grads: Any) -> None:
        """Take a step."""
        if self.m is None:
            self.m, self.s = zeros(params), zeros(params)
        self.iter += 1
        (lr_t, eps), has_divisor = self.corrected(), True
        if self.rectify:
            (lr_t, has_divisor), eps = self.rectified(5), self.eps
        eps_root = self.eps if self.eps_root is None else self.eps_root
        for key, p, g in triples(params, grads):
            self.m[key] += (1 - self.beta1) * (g - self.m[key])
            surprise = g - self.m[key]
            self.s[key] = self.s[key] + (1 - self.beta2) * (surprise * surprise - self.s[key]) + eps_root
            divisor = np.sqrt(self.s[key]) + eps if has_divisor else 1
            put(params, key, p - lr_t * self.m[key] / divisor)


@dataclass(eq=False)
class Yogi(Betas):
    """Adam whose average of squares changes by amounts that do not depend on it.

    m ← m + (1 − β₁)·(g − m)
    v ← v − (1 − β₂)·sign(v − g²)·g²
    p ← p − lr_t·m / (√v + eps_t)

    where lr_t = lr·√(1 − β₂ᵗ) / (1 − β₁ᵗ) and eps_t = eps·√(1 − β₂ᵗ)

    References
    ----------
    Zaheer et al. 2018, *Adaptive methods for nonconvex optimization*, algorithm 2.
    """

    lr: float = 0.01
    _: KW_ONLY
    eps: float = 1e-3
    initial_accumulator_value: float = 1e-6
    v = UNSET
    quantized = "m √v"
    begin_at_value = "m v"

    def update(self, params: Any, grads: Any) -> None:
        """Take a step."""
        if self.m is None:
            self.m, self.v = (full(params, self.initial_accumulator_value) for _ in range(2))
        self.iter += 1
        lr_t, eps_t = self.corrected()
        for key, p, g in triples(params, grads):
            self.m[key] += (1 - self.beta1) * (g - self.m[key])
            self.v[key] -= (1 - self.beta2) * np.sign(self.v[key] - g * g) * (g * g)
            put(params, key, p - lr_t * self.m[key] / (np.sqrt(self.v[key]) + eps_t))


@dataclass(eq=False)
class Adan(Betas):
    """Adam with averages of the gradients and of their differences.

    d = g − prev_grad
    prev_grad ← g
    m ← m + (1 − β₁)·(g − m)
    v ← v + (1 − β₂)·(d − v)
    n ← n + (1 − β₃)·((g + β₂·d)² − n)
    p ← (1 − lr·weight_decay)·p − (lr_m·m + lr_v·v) / (√(n + eps_root·(1 − β₃ᵗ)) + eps_t)

    where lr_m = lr·√(1 − β₃ᵗ) / (1 − β₁ᵗ), lr_v = lr·β₂·√(1 − β₃ᵗ) / (1 − β₂ᵗ) and eps_t = eps·√(1 − β₃ᵗ);
    prev_grad begins as the first gradient
    If it is proximal, the last line is p ← k·(p − …), where k = 1 / (1 + lr·weight_decay).

    References
    ----------
    Xie et al. 2022, *Adan: adaptive Nesterov momentum algorithm for faster optimizing deep models*
    (arXiv:2208.06677), algorithm 1.
    """

    beta1: float = 0.98
    beta2: float = 0.92
    beta3: float = 0.99
    _: KW_ONLY
    weight_decay: float = 0.0
    eps_root: float = 0.0
    proximal: bool = False
    v = UNSET
    n = UNSET
    prev_grad = UNSET
    quantized = "m v √n prev_grad"
    begin_at_gradient = "prev_grad"

    def update(self, params: Any, grads: Any) -> None:
        """Take a step."""
        if self.m is None:
            self.m, self.v, self.n = (zeros(params) for _ in range(3))
            self.prev_grad = copies(grads, params)
        self.iter += 1
        t = self.iter
        root = sqrt(1 - self.beta3**t)
        lr_m = self.lr * root / (1 - self.beta1**t)
        lr_v = self.lr * self.beta2 * root / (1 - self.beta2**t)
        kept, eps_root = 1 - self.lr * self.weight_decay, self.eps_root * (1 - self.beta3**t)
        if self.proximal:
            kept = 1 / (1 + self.lr * self.weight_decay)
            lr_m, lr_v = lr_m * kept, lr_v * kept
        for key, p, g in triples(params, grads):
            d = g - self.prev_grad[key]
            self.prev_grad[key] = np.array(g)
            self.m[key] += (1 - self.beta1) * (g - self.m[key])
            self.v[key] += (1 - self.beta2) * (d - self.v[key])
            ahead = g + self.beta2 * d
            self.n[key] += (1 - self.beta3) * (ahead * ahead - self.n[key])
            divisor = np.sqrt(self.n[key] + eps_root) + self.eps * root
            put(params, key, kept * p - (lr_m * self.m[key] + lr_v * self.v[key]) / divisor)


@dataclass(eq=False)
class AdEMAMix(RootedMoments):
    """Adam with a second, slow average of the gradients.

    m ← m + (1 − β₁)·(g − m)
    v ← v + (1 − β₂)·(g² − v)
    m_slow ← m_slow + (1 − β₃)·(g − m_slow)
    p ← p − (lr_t·m + lr·α·√(1 − β₂ᵗ)·m_slow) / (√(v + eps_root·(1 − β₂ᵗ)) + eps_t)

    where lr_t = lr·√(1 − β₂ᵗ) / (1 − β₁ᵗ) and eps_t = eps·√(1 − β₂ᵗ)
    Over alpha_warmup steps α rises in proportion to t; over beta3_warmup steps β₃ rises from β₁, and the
    number of steps to its half in proportion to t.

    References
    ----------
    Pagliardini, Ablin and Grangier 2024, *The AdEMAMix optimizer: better, faster, older* (arXiv:2409.03137),
    algorithm 1.
    """

    beta3: float = 0.9999
    alpha: float = 5.0
    _: KW_ONLY
    alpha_warmup: int = 0
    beta3_warmup: int = 0
    m_slow = UNSET
    quantized = "m m_slow √v"

    def update(self, params: Any, grads: Any) -> None:
        """Take a step."""
        if self.m_slow is None:
            self.m_slow = zeros(params)
        self.begin(params)
        lr_m, eps_t = self.corrected()
        alpha = self.alpha * min(self.iter / self.alpha_warmup, 1.0) if self.alpha_warmup else self.alpha
        lr_slow = self.lr * alpha * sqrt(1 - self.beta2**self.iter)
        beta3 = self.beta3
        if self.iter < self.beta3_warmup:
            # 1 / log(β) is in proportion to the half-life; the limit at β = 0 is 0.
            first, last = (1 / log(beta) if beta else 0.0 for beta in (self.beta1, self.beta3))
            share = self.iter / self.beta3_warmup
            now = (1 - share) * first + share * last
            beta3 = min(exp(1 / now), self.beta3) if now else 0.0
        for key, p, g in triples(params, grads):
            self.average(key, g)
            self.m_slow[key] += (1 - beta3) * (g - self.m_slow[key])
            step = lr_m * self.m[key] + lr_slow * self.m_slow[key]
            put(params, key, p - step / (self.root(self.v[key]) + eps_t))
