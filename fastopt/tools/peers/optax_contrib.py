"""The constructors in optax.contrib: for each its signature, and the same in fastopt."""

from math import sqrt
from typing import Any

from fastopt.tools.peers.calls import Translation, found, refuse_unless
from fastopt.tools.peers.optax_rules import NO_DTYPE, NO_MASK, adamw

__all__: list[str] = []

WARMUP = "in the warm-up optax's step has the learning rate of the step before, its average that of this one"
WEIGHTS = "optax weighs the steps in the average by the largest learning rate so far"


def contrib_ademamix(
    learning_rate: float, b1: float = 0.9, b2: float = 0.999, b3: float = 0.9999, alpha: float = 5.0,
    eps: float = 1e-8, eps_root: float = 0.0, mu_dtype: Any = None, weight_decay: float = 0.0,
    mask: Any = None,
) -> Translation:  # fmt: skip
    """Return AdEMAMix."""
    refuse_unless(mu_dtype is None, NO_DTYPE)
    refuse_unless(mask is None, NO_MASK)
    return found(
        "AdEMAMix", lr=learning_rate, beta1=b1, beta2=b2, beta3=b3, alpha=alpha, eps=eps,
        eps_root=eps_root, weight_decay=weight_decay, decoupled=True,
    )  # fmt: skip


def contrib_prodigy(
    learning_rate: float = 1.0, betas: tuple[float, float] = (0.9, 0.999), beta3: float | None = None,
    eps: float = 1e-8, estim_lr0: float = 1e-6, estim_lr_coef: float = 1.0, weight_decay: float = 0.0,
    safeguard_warmup: bool = False,
) -> Translation:  # fmt: skip
    """Return Prodigy."""
    return found(
        "Prodigy", lr=learning_rate, beta1=betas[0], beta2=betas[1], beta3=beta3, eps=eps, d0=estim_lr0,
        d_coef=estim_lr_coef, weight_decay=weight_decay, safeguard_warmup=safeguard_warmup,
    )  # fmt: skip


def contrib_dadapt_adamw(
    learning_rate: float = 1.0, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8,
    estim_lr0: float = 1e-6, weight_decay: float = 0.0,
) -> Translation:  # fmt: skip
    """Return DAdaptAdam."""
    return found(
        "DAdaptAdam", lr=learning_rate, beta1=betas[0], beta2=betas[1], eps=eps, d0=estim_lr0,
        weight_decay=weight_decay,
    )  # fmt: skip


def contrib_dog(
    learning_rate: float = 1.0, init_step: tuple[str, float] = ("heuristic", 1e-6), eps: float = 1e-8,
    weight_decay: float | None = None, mask: Any = None,
) -> Translation:  # fmt: skip
    """Return DoG."""
    refuse_unless(mask is None, NO_MASK)
    kind, first = init_step
    refuse_unless(
        kind in ("heuristic", "distance"),
        "the first step has no learning rate of its own; give init_step=('distance', r)",
    )
    return found(
        "DoG", lr=learning_rate, reps_rel=first if kind == "heuristic" else 0.0,
        r0=first if kind == "distance" else 0.0, eps=eps, weight_decay=weight_decay or 0.0,
    )  # fmt: skip


def contrib_dowg(
    learning_rate: float = 1.0, init_estim_sq_dist: float | None = None, eps: float = 1e-4,
    weight_decay: float | None = None, mask: Any = None,
) -> Translation:  # fmt: skip
    """Return DoWG."""
    refuse_unless(mask is None, NO_MASK)
    first = eps if init_estim_sq_dist is None else init_estim_sq_dist
    return found("DoWG", lr=learning_rate, r0=sqrt(first), eps=eps, weight_decay=weight_decay or 0.0)


def contrib_schedule_free_sgd(
    learning_rate: float = 1.0, warmup_steps: int | None = None, b1: float = 0.9,
    weight_decay: float | None = None, weight_lr_power: float = 2.0, state_dtype: Any = None,
) -> Translation:  # fmt: skip
    """Return ScheduleFreeSGD."""
    refuse_unless(not warmup_steps, WARMUP)
    refuse_unless(state_dtype is None, NO_DTYPE)
    result = found(
        "ScheduleFreeSGD", lr=learning_rate, beta=b1, weight_decay=weight_decay or 0.0,
        weight_lr_power=weight_lr_power,
    )  # fmt: skip
    return result._replace(constant=WEIGHTS if weight_lr_power else "")


def contrib_schedule_free_adamw(
    learning_rate: float = 0.0025, warmup_steps: int | None = None, b1: float = 0.9, b2: float = 0.999,
    eps: float = 1e-8, weight_decay: float = 0.0, weight_lr_power: float = 2.0, state_dtype: Any = None,
) -> Translation:  # fmt: skip
    """Return ScheduleFreeAdamW."""
    refuse_unless(not warmup_steps, WARMUP)
    refuse_unless(state_dtype is None, NO_DTYPE)
    result = found(
        "ScheduleFreeAdamW", lr=learning_rate, beta=b1, beta2=b2, eps=eps, weight_decay=weight_decay,
        weight_lr_power=weight_lr_power,
    )  # fmt: skip
    return result._replace(constant=WEIGHTS if weight_lr_power else "")


def contrib_adopt(
    learning_rate: float, b1: float = 0.9, b2: float = 0.9999, eps: float = 1e-6, mu_dtype: Any = None, *,
    nesterov: bool = False, use_clipping: bool = True, clip_value_fn: Any = None,
) -> Translation:  # fmt: skip
    """Return ADOPT."""
    refuse_unless(mu_dtype is None, NO_DTYPE)
    refuse_unless(not nesterov, "ADOPT has no Nesterov's momentum; NAdam has")
    refuse_unless(clip_value_fn is None, "the bound is a power of t here; give ADOPT(clip_power=...)")
    return found("ADOPT", lr=learning_rate, beta1=b1, beta2=b2, eps=eps, use_clipping=use_clipping)


def contrib_muon(
    learning_rate: float, ns_coeffs: Any = (3.4445, -4.7750, 2.0315), ns_steps: int = 5, beta: float = 0.95,
    eps: float = 1e-8, weight_decay: float = 0.0, weight_decay_mask: Any = None, mu_dtype: Any = None, *,
    nesterov: bool = True, adaptive: bool = False, preconditioning: str = "frobenius", adam_b1: float = 0.9,
    adam_b2: float = 0.999, adam_eps_root: float = 0.0, adam_weight_decay: float = 0.0,
    adam_learning_rate: float | None = None, muon_weight_dimension_numbers: Any = None,
    consistent_rms: float | None = None,
) -> Translation:  # fmt: skip
    """Return Muon for matrices, PaperAdam or AdamW for the others."""
    refuse_unless(mu_dtype is None, NO_DTYPE)
    refuse_unless(weight_decay_mask is None, NO_MASK)
    refuse_unless(
        not nesterov,
        "optax's Nesterov corrects average and gradient for the start, which changes their ratio; "
        "give nesterov=False, or take fastopt.Muon(adjust_lr='fan_out/fan_in'), which corrects nothing",
    )
    refuse_unless(not isinstance(ns_coeffs, str), "write the coefficients as numbers")
    is_plain = not adaptive and preconditioning == "frobenius" and muon_weight_dimension_numbers is None
    refuse_unless(is_plain, "Muon divides matrices by their norm, and has no further factor")
    scale = 1.0 if consistent_rms is None else consistent_rms / 0.2
    matrices = found(
        "Muon", lr=learning_rate * scale, momentum=beta, weight_decay=weight_decay / scale, eps=eps,
        ns_steps=ns_steps, ns_coefficients=ns_coeffs, nesterov=nesterov,
        adjust_lr="fan_out/fan_in" if consistent_rms is None else "match_rms_adamw",
    )  # fmt: skip
    lr = learning_rate if adam_learning_rate is None else adam_learning_rate
    others = adamw(lr, adam_b1, adam_b2, eps, adam_eps_root, None, adam_weight_decay)
    constant = "" if adam_learning_rate is None else "that of the other arrays is adam_learning_rate"
    return matrices._replace(others=others, constant=constant, tolerance=1e-6).remark(
        "eps is added to the norm in optax; here it is the smallest norm"
    )


def contrib_madgrad(
    learning_rate: float, momentum: float = 0.9, weight_decay: float = 0.0, eps: float = 1e-6
) -> Translation:
    """Return MADGRAD."""
    return (
        found("MADGRAD", lr=learning_rate, momentum=momentum, eps=eps, weight_decay=weight_decay)
        ._replace(tolerance=1e-6)
        .remark("optax takes √t in float32")
    )
