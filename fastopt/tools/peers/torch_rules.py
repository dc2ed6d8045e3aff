"""PyTorch's constructors: for each its signature, and the same in fastopt."""

from typing import Any

from fastopt.tools.peers.calls import Refusal, Translation, found, refuse_unless

__all__ = ["WITHOUT_EFFECT"]

# Arguments that don't change what is computed, and why they are left out.
WITHOUT_EFFECT = {
    "foreach": "left out: all arrays are updated in one call",
    "fused": "left out: all rules are fused",
    "capturable": "left out: it is for CUDA's graphs",
    "differentiable": "left out: gradients don't pass through a step here",
}
Betas = tuple[float, float]


def SGD(
    lr: float = 0.001, momentum: float = 0, dampening: float = 0, weight_decay: float = 0,
    nesterov: bool = False, *, maximize: bool = False, foreach: Any = None, differentiable: bool = False,
    fused: Any = None,
) -> Translation:  # fmt: skip
    """Return SGD, or momentum with the learning rate outside of the velocity."""
    common = {"lr": lr, "weight_decay": weight_decay, "maximize": maximize}
    if not momentum:
        return found("SGD", **common)
    refuse_unless(not (nesterov and dampening), "Nesterov's momentum has no dampening, there as here")
    if nesterov:
        return found("NAG", momentum=momentum, **common)
    return found("SGDM", momentum=momentum, dampening=dampening, **common)


def Adadelta(
    lr: float = 1.0, rho: float = 0.9, eps: float = 1e-6, weight_decay: float = 0, foreach: Any = None, *,
    capturable: bool = False, maximize: bool = False, differentiable: bool = False,
) -> Translation:  # fmt: skip
    """Return AdaDelta."""
    return found("AdaDelta", lr=lr, rho=rho, eps=eps, weight_decay=weight_decay, maximize=maximize)


def Adafactor(
    lr: float = 0.01, beta2_decay: float = -0.8, eps: tuple[float | None, float] = (None, 0.001),
    d: float = 1.0, weight_decay: float = 0.0, *, foreach: Any = None, maximize: bool = False,
) -> Translation:  # fmt: skip
    """Return Adafactor."""
    return found(
        "Adafactor", lr=lr, beta2_decay=beta2_decay, eps1=eps[0], eps2=eps[1], clip_threshold=d,
        weight_decay=weight_decay, maximize=maximize,
    )  # fmt: skip


def Adagrad(
    lr: float = 0.01, lr_decay: float = 0, weight_decay: float = 0, initial_accumulator_value: float = 0,
    eps: float = 1e-10, foreach: Any = None, *, maximize: bool = False, differentiable: bool = False,
    fused: Any = None,
) -> Translation:  # fmt: skip
    """Return AdaGrad."""
    return found(
        "AdaGrad", lr=lr, lr_decay=lr_decay, initial_accumulator_value=initial_accumulator_value, eps=eps,
        weight_decay=weight_decay, maximize=maximize,
    )  # fmt: skip


def Adam(
    lr: float = 0.001, betas: Betas = (0.9, 0.999), eps: float = 1e-8, weight_decay: float = 0,
    amsgrad: bool = False, *, foreach: Any = None, maximize: bool = False, capturable: bool = False,
    differentiable: bool = False, fused: Any = None, decoupled_weight_decay: bool = False,
) -> Translation:  # fmt: skip
    """Return PaperAdam, AMSGrad or AdamW: eps is added to the root of the corrected v."""
    rule = "AMSGrad" if amsgrad else "AdamW" if decoupled_weight_decay else "PaperAdam"
    return found(
        rule, lr=lr, beta1=betas[0], beta2=betas[1], eps=eps, weight_decay=weight_decay,
        decoupled=decoupled_weight_decay, maximize=maximize,
    )  # fmt: skip


def AdamW(
    lr: float = 0.001, betas: Betas = (0.9, 0.999), eps: float = 1e-8, weight_decay: float = 0.01,
    amsgrad: bool = False, *, maximize: bool = False, foreach: Any = None, capturable: bool = False,
    differentiable: bool = False, fused: Any = None,
) -> Translation:  # fmt: skip
    """Return AdamW, or AMSGrad with decoupled weight decay."""
    return Adam(lr, betas, eps, weight_decay, amsgrad, maximize=maximize, decoupled_weight_decay=True)


def Adamax(
    lr: float = 0.002, betas: Betas = (0.9, 0.999), eps: float = 1e-8, weight_decay: float = 0,
    foreach: Any = None, *, maximize: bool = False, differentiable: bool = False, capturable: bool = False,
) -> Translation:  # fmt: skip
    """Return AdaMax."""
    return found(
        "AdaMax", lr=lr, beta1=betas[0], beta2=betas[1], eps=eps, weight_decay=weight_decay, maximize=maximize
    )


def ASGD(
    lr: float = 0.01, lambd: float = 1e-4, alpha: float = 0.75, t0: float = 1e6, weight_decay: float = 0,
    foreach: Any = None, maximize: bool = False, differentiable: bool = False, capturable: bool = False,
) -> Translation:  # fmt: skip
    """Return ASGD."""
    same = found("ASGD", lr=lr, lambd=lambd, alpha=alpha, t0=t0, weight_decay=weight_decay, maximize=maximize)
    return same._replace(lag=1).remark(
        "PyTorch heeds a learning rate that is assigned one step later than fastopt"
    )


def LBFGS(
    lr: float = 1, max_iter: int = 20, max_eval: Any = None, tolerance_grad: float = 1e-7,
    tolerance_change: float = 1e-9, history_size: int = 100, line_search_fn: Any = None,
) -> Translation:  # fmt: skip
    """Refuse: it isn't a rule of one gradient."""
    raise Refusal(
        "LBFGS computes the loss several times in a step, which update(params, grads) can't; "
        "use scipy.optimize.minimize(method='L-BFGS-B')"
    )


def Muon(
    lr: float = 0.001, weight_decay: float = 0.1, momentum: float = 0.95, nesterov: bool = True,
    ns_coefficients: tuple[float, float, float] = (3.4445, -4.7750, 2.0315), eps: float = 1e-7,
    ns_steps: int = 5, adjust_lr_fn: Any = None,
) -> Translation:  # fmt: skip
    """Return Muon, which computes in the parameters' dtype."""
    return found(
        "Muon", lr=lr, weight_decay=weight_decay, momentum=momentum, nesterov=nesterov, eps=eps,
        ns_coefficients=ns_coefficients, ns_steps=ns_steps, adjust_lr=adjust_lr_fn or "original",
    ).remark("PyTorch rounds the iterations to bfloat16; here they have the parameters' dtype")  # fmt: skip


def NAdam(
    lr: float = 0.002, betas: Betas = (0.9, 0.999), eps: float = 1e-8, weight_decay: float = 0,
    momentum_decay: float = 4e-3, decoupled_weight_decay: bool = False, *, foreach: Any = None,
    maximize: bool = False, capturable: bool = False, differentiable: bool = False,
) -> Translation:  # fmt: skip
    """Return NAdam."""
    return found(
        "NAdam", lr=lr, beta1=betas[0], beta2=betas[1], eps=eps, weight_decay=weight_decay,
        decoupled=decoupled_weight_decay, momentum_decay=momentum_decay, maximize=maximize,
    )  # fmt: skip


def RAdam(
    lr: float = 0.001, betas: Betas = (0.9, 0.999), eps: float = 1e-8, weight_decay: float = 0,
    decoupled_weight_decay: bool = False, *, foreach: Any = None, maximize: bool = False,
    capturable: bool = False, differentiable: bool = False,
) -> Translation:  # fmt: skip
    """Return RAdam."""
    return found(
        "RAdam", lr=lr, beta1=betas[0], beta2=betas[1], eps=eps, weight_decay=weight_decay,
        decoupled=decoupled_weight_decay, maximize=maximize,
    )  # fmt: skip


def RMSprop(
    lr: float = 0.01, alpha: float = 0.99, eps: float = 1e-8, weight_decay: float = 0, momentum: float = 0,
    centered: bool = False, capturable: bool = False, foreach: Any = None, maximize: bool = False,
    differentiable: bool = False,
) -> Translation:  # fmt: skip
    """Return RMSprop, or RMSpropGraves if it is centered."""
    common = {
        "lr": lr, "decay_rate": alpha, "eps": eps, "weight_decay": weight_decay, "maximize": maximize
    }  # fmt: skip
    if centered:
        return found("RMSpropGraves", momentum=momentum, **common)
    if momentum:
        return found("RMSpropMomentum", momentum=momentum, **common)
    return found("RMSprop", **common)


def Rprop(
    lr: float = 0.01, etas: tuple[float, float] = (0.5, 1.2), step_sizes: tuple[float, float] = (1e-6, 50), *,
    capturable: bool = False, foreach: Any = None, maximize: bool = False, differentiable: bool = False,
) -> Translation:  # fmt: skip
    """Return Rprop."""
    same = found(
        "Rprop", lr=lr, eta_minus=etas[0], eta_plus=etas[1], step_min=step_sizes[0], step_max=step_sizes[1],
        maximize=maximize,
    )  # fmt: skip
    return same._replace(constant="lr is the size of the first step only, so that a schedule is refused")


def SparseAdam(
    lr: float = 0.001, betas: Betas = (0.9, 0.999), eps: float = 1e-8, maximize: bool = False
) -> Translation:
    """Return Adam, whose eps is added to the root of the uncorrected v, for gradients that are Rows."""
    return found(
        "Adam", lr=lr, beta1=betas[0], beta2=betas[1], eps=eps, rows="lazy", maximize=maximize
    ).remark("a gradient of rows is fastopt.Rows(indices, values)")
