"""Keras's constructors: for each its signature, and the same in fastopt."""

from typing import Any

from fastopt.tools.peers.calls import Translation, found, refuse_unless

__all__ = ["MISSING", "WITHOUT_EFFECT"]

MISSING = {
    "LossScaleOptimizer": "losses aren't scaled here; with nonfinite='skip' steps that overflow are left out",
    "MultiOptimizer": "write a Partition of optimizers",
}
WITHOUT_EFFECT = {"name": "left out: optimizers have no names here"}
RATE_IN_VELOCITY = "Keras's velocity has the learning rate in it"
# Of clipping by norms: fastopt divides by norm + 1e-6, as PyTorch does.
CLIPPED = "clip_norm and clip_norm_each divide by the norm + 1e-6, Keras by the norm"


def common(
    weight_decay: float | None = None, clipnorm: float | None = None, clipvalue: float | None = None,
    global_clipnorm: float | None = None, use_ema: bool = False, ema_momentum: float = 0.99,
    ema_overwrite_frequency: int | None = None, loss_scale_factor: float | None = None,
    gradient_accumulation_steps: int | None = None, name: str | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Return the arguments that all of Keras's optimizers share, of which the decay is decoupled."""
    refuse_unless(loss_scale_factor is None, "losses aren't scaled here: divide the gradients by the factor")
    given: dict[str, Any] = {
        "weight_decay": weight_decay or 0.0, "decoupled": True, "clip_norm_each": clipnorm,
        "clip_value": clipvalue, "clip_norm": global_clipnorm,
        "accumulate": gradient_accumulation_steps or 1,
    }  # fmt: skip
    if use_ema:
        given |= {"ema": ema_momentum, "ema_init": "first", "ema_overwrite": ema_overwrite_frequency}
    return given


def same(rule: str, kwargs: dict[str, Any], **arguments: Any) -> Translation:
    """Return a class of fastopt with arguments of its own and those that all share."""
    result = found(rule, **arguments, **common(**kwargs))
    if {"clip_norm", "clip_norm_each"} & {*result.arguments}:
        result = result._replace(tolerance=1e-4).remark(CLIPPED)
    if "accumulate" in result.arguments:
        result = result._replace(constant="schedules count updates here, micro-batches in Keras")
    return result


def SGD(
    learning_rate: float = 0.01, momentum: float = 0.0, nesterov: bool = False, **kwargs: Any
) -> Translation:
    """Return SGD, the book's momentum, whose velocity has the learning rate in it, or NAG."""
    if not momentum:
        return same("SGD", kwargs, lr=learning_rate)
    if not nesterov:
        return same("Momentum", kwargs, lr=learning_rate, momentum=momentum)
    return same("NAG", kwargs, lr=learning_rate, momentum=momentum)._replace(constant=RATE_IN_VELOCITY)


def RMSprop(
    learning_rate: float = 0.001, rho: float = 0.9, momentum: float = 0.0, epsilon: float = 1e-7,
    centered: bool = False, **kwargs: Any,
) -> Translation:  # fmt: skip
    """Return RMSprop, RMSpropMomentum, or RMSpropGraves if it is centered; eps is within the root."""
    own = {"lr": learning_rate, "decay_rate": rho, "eps": 0.0, "eps_root": epsilon}
    if not (momentum or centered):
        return same("RMSprop", kwargs, **own)
    result = same("RMSpropGraves" if centered else "RMSpropMomentum", kwargs, **own, momentum=momentum)
    return result._replace(constant=RATE_IN_VELOCITY) if momentum else result


def Adagrad(
    learning_rate: float = 0.001, initial_accumulator_value: float = 0.1, epsilon: float = 1e-7,
    **kwargs: Any,
) -> Translation:  # fmt: skip
    """Return AdaGrad; eps is within the root."""
    return same(
        "AdaGrad", kwargs, lr=learning_rate, eps=0.0, eps_root=epsilon,
        initial_accumulator_value=initial_accumulator_value,
    )  # fmt: skip


def Adadelta(
    learning_rate: float = 0.001, rho: float = 0.95, epsilon: float = 1e-7, **kwargs: Any
) -> Translation:
    """Return AdaDelta."""
    return same("AdaDelta", kwargs, lr=learning_rate, rho=rho, eps=epsilon)


def Adam(
    learning_rate: float = 0.001, beta_1: float = 0.9, beta_2: float = 0.999, epsilon: float = 1e-7,
    amsgrad: bool = False, **kwargs: Any,
) -> Translation:  # fmt: skip
    """Return the book's Adam, whose eps is added to the root of the uncorrected v, too; or AMSGrad."""
    own = {"lr": learning_rate, "beta1": beta_1, "beta2": beta_2, "eps": epsilon}
    if not amsgrad:
        return same("Adam", kwargs, **own)
    return same("AMSGrad", kwargs, **own, corrected_eps=False)


def AdamW(
    learning_rate: float = 0.001, weight_decay: float = 0.004, beta_1: float = 0.9, beta_2: float = 0.999,
    epsilon: float = 1e-7, amsgrad: bool = False, **kwargs: Any,
) -> Translation:  # fmt: skip
    """Return the book's Adam with decoupled weight decay: AdamW has eps on the root of the corrected v."""
    return Adam(learning_rate, beta_1, beta_2, epsilon, amsgrad, **kwargs, weight_decay=weight_decay)


def Adamax(
    learning_rate: float = 0.001, beta_1: float = 0.9, beta_2: float = 0.999, epsilon: float = 1e-7,
    **kwargs: Any,
) -> Translation:  # fmt: skip
    """Return AdaMax; eps is added to the norm."""
    return same("AdaMax", kwargs, lr=learning_rate, beta1=beta_1, beta2=beta_2, eps=0.0, eps_outside=epsilon)


def Nadam(
    learning_rate: float = 0.001, beta_1: float = 0.9, beta_2: float = 0.999, epsilon: float = 1e-7,
    **kwargs: Any,
) -> Translation:  # fmt: skip
    """Return NAdam, whose μ rises within some hundred steps."""
    return same(
        "NAdam", kwargs, lr=learning_rate, beta1=beta_1, beta2=beta_2, eps=epsilon, momentum_decay=1.0
    )


def Lamb(
    learning_rate: float = 0.001, beta_1: float = 0.9, beta_2: float = 0.999, epsilon: float = 1e-7,
    **kwargs: Any,
) -> Translation:  # fmt: skip
    """Return LAMB, whose weight decay is outside of the ratio."""
    return same("LAMB", kwargs, lr=learning_rate, beta1=beta_1, beta2=beta_2, eps=epsilon)


def Lion(
    learning_rate: float = 0.001, beta_1: float = 0.9, beta_2: float = 0.99, **kwargs: Any
) -> Translation:
    """Return Lion."""
    return same("Lion", kwargs, lr=learning_rate, beta1=beta_1, beta2=beta_2)


def Ftrl(
    learning_rate: float = 0.001, learning_rate_power: float = -0.5, initial_accumulator_value: float = 0.1,
    l1_regularization_strength: float = 0.0, l2_regularization_strength: float = 0.0,
    l2_shrinkage_regularization_strength: float = 0.0, beta: float = 0.0, **kwargs: Any,
) -> Translation:  # fmt: skip
    """Return FTRL."""
    refuse_unless(
        learning_rate_power == -0.5, "another power than the paper's has other bits in NumPy than compiled"
    )
    return same(
        "FTRL", kwargs, lr=learning_rate, initial_accumulator_value=initial_accumulator_value,
        l1_regularization_strength=l1_regularization_strength,
        l2_regularization_strength=l2_regularization_strength,
        l2_shrinkage_regularization_strength=l2_shrinkage_regularization_strength, beta=beta,
    )  # fmt: skip


def Adafactor(
    learning_rate: float = 0.001, beta_2_decay: float = -0.8, epsilon_1: float = 1e-30,
    epsilon_2: float = 1e-3, clip_threshold: float = 1.0, relative_step: bool = True, **kwargs: Any,
) -> Translation:  # fmt: skip
    """Return Adafactor; the learning rate is bounded by 1 / √t whatever relative_step is."""
    refuse_unless(epsilon_1 <= 1e-15, "epsilon_1 is added to g² there, here it bounds the root from below")
    refuse_unless(not kwargs.get("weight_decay"), "here steps are in proportion to p before the weight decay")
    result = same(
        "Adafactor", kwargs, lr=learning_rate, beta2_decay=beta_2_decay, eps1=epsilon_1, eps2=epsilon_2,
        clip_threshold=clip_threshold,
    )  # fmt: skip
    return result._replace(tolerance=1e-6).remark("Keras on JAX computes means in float32")


def Muon(
    learning_rate: float = 0.001, adam_beta_1: float = 0.9, adam_beta_2: float = 0.999,
    adam_weight_decay: float | None = 0.004, epsilon: float = 1e-7, weight_decay: float | None = 0.004,
    exclude_layers: Any = None, exclude_embeddings: bool = True, muon_a: float = 3.4445,
    muon_b: float = -4.7750, muon_c: float = 2.0315, adam_lr_ratio: float = 1, momentum: float = 0.95,
    ns_steps: int = 5, nesterov: bool = True, rms_rate: float | None = 0.2, **kwargs: Any,
) -> Translation:  # fmt: skip
    """Return Muon for matrices, the book's Adam for the others."""
    refuse_unless(not exclude_layers, "write a Partition, whose selectors say which arrays are Adam's")
    refuse_unless(
        all(value is None or value is False or name == "ema_momentum" for name, value in kwargs.items()),
        "give the options that all arrays share to the Partition",
    )
    scale = 1.0 if rms_rate is None else rms_rate / 0.2
    matrices = found(
        "Muon", lr=learning_rate * scale, momentum=momentum, weight_decay=(weight_decay or 0.0) / scale,
        ns_steps=ns_steps, ns_coefficients=(muon_a, muon_b, muon_c), nesterov=nesterov,
        adjust_lr="none" if rms_rate is None else "match_rms_adamw",
    )  # fmt: skip
    decay = (adam_weight_decay or 0.0) / adam_lr_ratio
    others = found(
        "Adam", lr=learning_rate * adam_lr_ratio, beta1=adam_beta_1, beta2=adam_beta_2, eps=epsilon,
        weight_decay=decay, decoupled=True,
    )  # fmt: skip
    result = matrices._replace(others=others, tolerance=1e-6)
    if exclude_embeddings:
        result = result.remark("matrices with 'embedding' in their name are Adam's in Keras")
    return result.remark("Keras adds 1e-7 to the norm; here it is the smallest norm")


def ScheduleFreeAdamW(
    learning_rate: float = 0.0025, beta_1: float = 0.9, beta_2: float = 0.999, epsilon: float = 1e-8,
    warmup_steps: int = 0, **kwargs: Any,
) -> Translation:  # fmt: skip
    """Return ScheduleFreeAdamW."""
    refuse_unless(not kwargs.get("weight_decay"), "Keras's weight decay doesn't reach z")
    return same(
        "ScheduleFreeAdamW", kwargs, lr=learning_rate, beta=beta_1, beta2=beta_2, eps=epsilon,
        warmup_steps=warmup_steps, weight_lr_power=0.0 if warmup_steps else 2.0,
    )  # fmt: skip
