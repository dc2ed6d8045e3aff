"""Constructors of authors' own packages for PyTorch: for each its signature, and the same in fastopt."""

from math import inf
from typing import Any

from fastopt.tools.peers.calls import Translation, found, refuse_unless

__all__ = ["PACKAGES", "WITHOUT_EFFECT"]

# The module of each constructor.
PACKAGES = {
    "AdaBelief": "adabelief_pytorch",
    "AdaBound": "adabound",
    "AdamP": "adamp",
    "AdamWScheduleFree": "schedulefree",
    "DAdaptAdam": "dadaptation",
    "DoG": "dog",
    "LDoG": "dog",
    "Lion": "lion_pytorch",
    "MADGRAD": "madgrad",
    "Prodigy": "prodigyopt",
    "QHAdam": "qhoptim.pyt",
    "RAdamScheduleFree": "schedulefree",
    "SGDScheduleFree": "schedulefree",
    "StableAdamW": "optimi",
}
WITHOUT_EFFECT = {
    **dict.fromkeys(("kahan_sum", "triton", "gradient_release"), "left out: it is for other dtypes and GPUs"),
    "foreach": "left out: all arrays are updated in one call",
    "fsdp_in_use": "left out: fastopt.adapters.mpi has optimizers of several processes",
    "log_every": "left out: optimizer.d tells",
    "print_change_log": "left out",
    "use_triton": "left out: all rules are fused",
}
WEIGHTS = "the package weighs the steps in the average by the largest learning rate so far"
Betas = tuple[float, float]


def SGDScheduleFree(
    lr: float = 1.0, momentum: float = 0.9, weight_decay: float = 0, warmup_steps: int = 0, r: float = 0.0,
    weight_lr_power: float = 2.0, foreach: Any = True,
) -> Translation:  # fmt: skip
    """Return ScheduleFreeSGD."""
    result = found(
        "ScheduleFreeSGD", lr=lr, beta=momentum, warmup_steps=warmup_steps, r=r,
        weight_lr_power=weight_lr_power, weight_decay=weight_decay,
    )  # fmt: skip
    return result._replace(constant=WEIGHTS if weight_lr_power else "")


def AdamWScheduleFree(
    lr: float = 0.0025, betas: Betas = (0.9, 0.999), eps: float = 1e-8, weight_decay: float = 0,
    warmup_steps: int = 0, r: float = 0.0, weight_lr_power: float = 2.0, foreach: Any = True,
) -> Translation:  # fmt: skip
    """Return ScheduleFreeAdamW."""
    result = found(
        "ScheduleFreeAdamW", lr=lr, beta=betas[0], beta2=betas[1], eps=eps, warmup_steps=warmup_steps, r=r,
        weight_lr_power=weight_lr_power, weight_decay=weight_decay,
    )  # fmt: skip
    return result._replace(constant=WEIGHTS if weight_lr_power else "")


def RAdamScheduleFree(
    lr: float = 0.0025, betas: Betas = (0.9, 0.999), eps: float = 1e-8, weight_decay: float = 0,
    r: float = 0.0, weight_lr_power: float = 2.0, foreach: Any = True, silent_sgd_phase: bool = True,
) -> Translation:  # fmt: skip
    """Return ScheduleFreeRAdam."""
    result = found(
        "ScheduleFreeRAdam", lr=lr, beta=betas[0], beta2=betas[1], eps=eps, r=r,
        weight_lr_power=weight_lr_power, weight_decay=weight_decay, silent_sgd_phase=silent_sgd_phase,
    )  # fmt: skip
    return result._replace(constant=WEIGHTS if weight_lr_power else "")


def Prodigy(
    lr: float = 1.0, betas: Betas = (0.9, 0.999), beta3: float | None = None, eps: float = 1e-8,
    weight_decay: float = 0, decouple: bool = True, use_bias_correction: bool = False,
    safeguard_warmup: bool = False, d0: float = 1e-6, d_coef: float = 1.0, growth_rate: float = inf,
    fsdp_in_use: bool = False, slice_p: int = 1,
) -> Translation:  # fmt: skip
    """Return Prodigy."""
    refuse_unless(slice_p == 1, "all elements count for d here")
    return found(
        "Prodigy", lr=lr, beta1=betas[0], beta2=betas[1], beta3=beta3, eps=eps, weight_decay=weight_decay,
        use_bias_correction=use_bias_correction, safeguard_warmup=safeguard_warmup, d0=d0, d_coef=d_coef,
        growth_rate=None if growth_rate == inf else growth_rate, **({} if decouple else {"decoupled": False}),
    )  # fmt: skip


def Lion(
    lr: float = 1e-4, betas: Betas = (0.9, 0.99), weight_decay: float = 0.0, use_triton: bool = False,
    decoupled_weight_decay: bool = False,
) -> Translation:  # fmt: skip
    """Return Lion; with decoupled_weight_decay the package divides it by the first lr."""
    decay = weight_decay / lr if decoupled_weight_decay else weight_decay
    return found("Lion", lr=lr, beta1=betas[0], beta2=betas[1], weight_decay=decay)


def MADGRAD(
    lr: float = 1e-2, momentum: float = 0.9, weight_decay: float = 0, eps: float = 1e-6,
    decouple_decay: bool = False,
) -> Translation:  # fmt: skip
    """Return MADGRAD."""
    refuse_unless(not (decouple_decay and weight_decay), "MADGRAD's weight decay is a part of the gradient")
    return found("MADGRAD", lr=lr, momentum=momentum, eps=eps, weight_decay=weight_decay)


def AdaBound(
    lr: float = 1e-3, betas: Betas = (0.9, 0.999), final_lr: float = 0.1, gamma: float = 1e-3,
    eps: float = 1e-8, weight_decay: float = 0, amsbound: bool = False,
) -> Translation:  # fmt: skip
    """Return AdaBound, whose bounds go with lr."""
    refuse_unless(not amsbound, "AdaBound has no largest v; AMSGrad has")
    return found(
        "AdaBound", lr=lr, beta1=betas[0], beta2=betas[1], final_lr=final_lr, gamma=gamma, base_lr=lr,
        eps=eps, weight_decay=weight_decay,
    )  # fmt: skip


def QHAdam(
    lr: float = 1e-3, betas: Betas = (0.9, 0.999), nus: tuple[float, float] = (1.0, 1.0),
    weight_decay: float = 0.0, decouple_weight_decay: bool = False, eps: float = 1e-8,
) -> Translation:  # fmt: skip
    """Return QHAdam."""
    return found(
        "QHAdam", lr=lr, beta1=betas[0], beta2=betas[1], nu1=nus[0], nu2=nus[1], eps=eps,
        weight_decay=weight_decay, decoupled=decouple_weight_decay,
    )  # fmt: skip


def AdamP(
    lr: float = 1e-3, betas: Betas = (0.9, 0.999), eps: float = 1e-8, weight_decay: float = 0,
    delta: float = 0.1, wd_ratio: float = 0.1, nesterov: bool = False,
) -> Translation:  # fmt: skip
    """Return AdamP."""
    refuse_unless(not nesterov, "AdamP has no Nesterov's momentum")
    return found(
        "AdamP", lr=lr, beta1=betas[0], beta2=betas[1], eps=eps, weight_decay=weight_decay, delta=delta,
        wd_ratio=wd_ratio,
    )  # fmt: skip


def AdaBelief(
    lr: float = 1e-3, betas: Betas = (0.9, 0.999), eps: float = 1e-16, weight_decay: float = 0,
    amsgrad: bool = False, weight_decouple: bool = True, fixed_decay: bool = False, rectify: bool = True,
    degenerated_to_sgd: bool = True, print_change_log: bool = True,
) -> Translation:  # fmt: skip
    """Return AdaBelief."""
    refuse_unless(not amsgrad, "AdaBelief has no largest s; AMSGrad has")
    refuse_unless(degenerated_to_sgd or not rectify, "the first steps are those of the average here")
    is_fixed = fixed_decay and weight_decouple
    result = found(
        "AdaBelief", lr=lr, beta1=betas[0], beta2=betas[1], eps=eps, rectify=rectify,
        weight_decay=weight_decay / lr if is_fixed else weight_decay, decoupled=weight_decouple,
    )  # fmt: skip
    constant = "with fixed_decay the package's decay doesn't go with lr" if is_fixed and weight_decay else ""
    return result._replace(constant=constant)


def DoG(
    reps_rel: float = 1e-6, lr: float = 1.0, weight_decay: float = 0.0, eps: float = 1e-8,
    init_eta: float | None = None,
) -> Translation:  # fmt: skip
    """Return DoG."""
    refuse_unless(init_eta is None, "the first step has no learning rate of its own; give reps_rel")
    return found("DoG", lr=lr, reps_rel=reps_rel, eps=eps, weight_decay=weight_decay)


def LDoG(
    reps_rel: float = 1e-6, lr: float = 1.0, weight_decay: float = 0.0, eps: float = 1e-8,
    init_eta: float | None = None,
) -> Translation:  # fmt: skip
    """Return LDoG."""
    refuse_unless(init_eta is None, "the first step has no learning rate of its own; give reps_rel")
    return found("LDoG", lr=lr, reps_rel=reps_rel, eps=eps, weight_decay=weight_decay)


def DAdaptAdam(
    lr: float = 1.0, betas: Betas = (0.9, 0.999), eps: float = 1e-8, weight_decay: float = 0,
    log_every: int = 0, decouple: bool = False, use_bias_correction: bool = False, d0: float = 1e-6,
    growth_rate: float = inf, fsdp_in_use: bool = False,
) -> Translation:  # fmt: skip
    """Return DAdaptAdam."""
    return found(
        "DAdaptAdam", lr=lr, beta1=betas[0], beta2=betas[1], eps=eps, weight_decay=weight_decay, d0=d0,
        use_bias_correction=use_bias_correction, growth_rate=None if growth_rate == inf else growth_rate,
        **({} if decouple else {"decoupled": False}),
    )  # fmt: skip


def StableAdamW(
    lr: float, betas: Betas = (0.9, 0.99), weight_decay: float = 0.01, eps: float = 1e-6,
    decouple_lr: bool = False, max_lr: float | None = None, kahan_sum: Any = None, foreach: Any = None,
    triton: Any = None, gradient_release: bool = False,
) -> Translation:  # fmt: skip
    """Return StableAdamW."""
    refuse_unless(
        not decouple_lr and max_lr is None,
        "weight decay goes with lr here; divide it by lr, and give no max_lr",
    )
    return found("StableAdamW", lr=lr, beta1=betas[0], beta2=betas[1], eps=eps, weight_decay=weight_decay)
