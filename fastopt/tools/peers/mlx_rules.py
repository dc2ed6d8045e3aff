"""MLX's constructors: for each its signature, and the same in fastopt."""

from fastopt.tools.peers.calls import Translation, found, refuse_unless

__all__ = ["MISSING", "WITHOUT_EFFECT"]

MISSING = {"MultiOptimizer": "write a Partition of optimizers"}
WITHOUT_EFFECT: dict[str, str] = {}
Betas = tuple[float, float]
ROUNDED = "MLX computes βᵗ in float32"


def SGD(
    learning_rate: float, momentum: float = 0.0, weight_decay: float = 0.0, dampening: float = 0.0,
    nesterov: bool = False,
) -> Translation:  # fmt: skip
    """Return SGD, SGDM or NAG; dampening, which MLX has from the first step on, is a part of lr."""
    if not momentum:
        return found("SGD", lr=learning_rate, weight_decay=weight_decay)
    if nesterov:
        return found("NAG", lr=learning_rate, momentum=momentum, weight_decay=weight_decay)
    lr = learning_rate * (1 - dampening)
    return found("SGDM", lr=lr, momentum=momentum, weight_decay=weight_decay)


def RMSprop(learning_rate: float, alpha: float = 0.99, eps: float = 1e-8) -> Translation:
    """Return RMSprop."""
    return found("RMSprop", lr=learning_rate, decay_rate=alpha, eps=eps)


def Adagrad(learning_rate: float, eps: float = 1e-8) -> Translation:
    """Return AdaGrad."""
    return found("AdaGrad", lr=learning_rate, eps=eps)


def AdaDelta(learning_rate: float, rho: float = 0.9, eps: float = 1e-6) -> Translation:
    """Return AdaDelta."""
    return found("AdaDelta", lr=learning_rate, rho=rho, eps=eps)


def Adam(
    learning_rate: float, betas: Betas = (0.9, 0.999), eps: float = 1e-8, bias_correction: bool = False
) -> Translation:
    """Return PaperAdam, or Adam without correction."""
    return AdamW(learning_rate, betas, eps, 0.0, bias_correction)


def AdamW(
    learning_rate: float, betas: Betas = (0.9, 0.999), eps: float = 1e-8, weight_decay: float = 0.01,
    bias_correction: bool = False,
) -> Translation:  # fmt: skip
    """Return AdamW, or Adam without correction, but with decoupled weight decay."""
    own = {
        "lr": learning_rate, "beta1": betas[0], "beta2": betas[1], "eps": eps, "weight_decay": weight_decay
    }  # fmt: skip
    if not bias_correction:
        return found("Adam", **own, decoupled=True, bias_correction=False)
    return found("AdamW" if weight_decay else "PaperAdam", **own)._replace(tolerance=1e-4).remark(ROUNDED)


def Adamax(learning_rate: float, betas: Betas = (0.9, 0.999), eps: float = 1e-8) -> Translation:
    """Return AdaMax without correction; eps is added to the norm."""
    return found(
        "AdaMax", lr=learning_rate, beta1=betas[0], beta2=betas[1], eps=0.0, eps_outside=eps,
        bias_correction=False,
    )  # fmt: skip


def Lion(learning_rate: float, betas: Betas = (0.9, 0.99), weight_decay: float = 0.0) -> Translation:
    """Return Lion."""
    return found("Lion", lr=learning_rate, beta1=betas[0], beta2=betas[1], weight_decay=weight_decay)


def Adafactor(
    learning_rate: float | None = None, eps: tuple[float, float] = (1e-30, 1e-3), clip_threshold: float = 1.0,
    decay_rate: float = -0.8, beta_1: float | None = None, weight_decay: float = 0.0,
    scale_parameter: bool = True, relative_step: bool = True, warmup_init: bool = False,
) -> Translation:  # fmt: skip
    """Return Adafactor, whose lr bounds the relative step, or AdafactorMomentum."""
    refuse_unless(not warmup_init, "a relative step doesn't rise here; give lr a schedule")
    refuse_unless(
        relative_step or learning_rate is not None, "without a relative step learning_rate is needed"
    )
    refuse_unless(eps[0] <= 1e-15, "eps[0] is added to g² there, here it bounds the root from below")
    is_plain = not (scale_parameter or relative_step)
    refuse_unless(is_plain or not weight_decay, "MLX's weight decay is in proportion to the step")
    result = found(
        "Adafactor" if beta_1 is None else "AdafactorMomentum", beta2_decay=decay_rate, eps1=eps[0],
        eps2=eps[1], clip_threshold=clip_threshold, relative_step=relative_step, weight_decay=weight_decay,
        multiply_by_parameter_scale=scale_parameter, lr=0.01 if relative_step else learning_rate,
        **({} if beta_1 is None else {"momentum": beta_1}),
    )  # fmt: skip
    constant = "MLX's relative step has no learning rate" if relative_step else ""
    return result._replace(constant=constant, tolerance=1e-5).remark("MLX computes powers of t in float32")


def Muon(
    learning_rate: float, momentum: float = 0.95, weight_decay: float = 0.01, nesterov: bool = True,
    ns_steps: int = 5,
) -> Translation:  # fmt: skip
    """Return Muon for matrices, momentum for the others; weight decay is an L2 penalty."""
    matrices = found(
        "Muon", lr=learning_rate, momentum=momentum, weight_decay=weight_decay, decoupled=False,
        nesterov=nesterov, ns_steps=ns_steps,
    )  # fmt: skip
    others = found(
        "NAG" if nesterov else "SGDM", lr=learning_rate * (1 - momentum), momentum=momentum,
        weight_decay=weight_decay,
    )  # fmt: skip
    return matrices._replace(others=others, tolerance=1e-6).remark(
        "MLX adds 1e-7 to the norm; here it is the smallest norm"
    )
