"""optax's constructors: for each its signature, and the same in fastopt."""

from typing import Any

from fastopt.tools.peers.calls import Refusal, Translation, found, refuse_unless

__all__ = ["MISSING", "NO_DTYPE", "NO_MASK", "WITHOUT_EFFECT", "adamw"]

WITHOUT_EFFECT: dict[str, str] = {}
# Constructors of rules that fastopt hasn't, and what comes near.
MISSING = {
    "lbfgs": "it computes the loss several times a step; scipy.optimize.minimize(method='L-BFGS-B') does so",
    "noisy_sgd": "add the noise to the gradients, and write SGD",
    "dpsgd": "it needs the gradient of each sample; clip and add noise, and write SGD",
    "contrib.dpsgd": "it needs the gradient of each sample; clip and add noise, and write SGD",
    "polyak_sgd": "it needs the loss; assign optimizer.lr before each step, and write SGD",
    "contrib.momo": "it needs the loss",
    "contrib.momo_adam": "it needs the loss",
    "fromage": "LARS and LAMB go by norms, too",
    "optimistic_adam": "OptimisticGD is for plain gradients",
    "optimistic_adam_v2": "OptimisticGD is for plain gradients",
    "contrib.acprop": "AdaBelief divides by the same average, of this step",
    "contrib.simplified_ademamix": "AdEMAMix has both averages",
    "contrib.sophia": "it needs the diagonal of the Hessian; AdaBelief, Lion",
    "contrib.sam": "it needs two gradients a step",
    "contrib.mechanize": "Prodigy finds a learning rate, too",
    "contrib.galore": "Adafactor or SM3 have small states, too",
    "contrib.cocob": "Prodigy needs no learning rate either",
}
NO_DTYPE = "state_dtype rounds all states of a rule, at random; leave this dtype out"
RATE_IN_VELOCITY = "optax's velocity has the learning rate in it"
NO_MASK = "write decay_params='matrices', or groups={...} with a weight_decay for each, instead of a mask"


def sgd(
    learning_rate: float, momentum: float | None = None, nesterov: bool = False, accumulator_dtype: Any = None
) -> Translation:
    """Return SGD, or momentum with the learning rate outside of the velocity."""
    refuse_unless(accumulator_dtype is None, NO_DTYPE)
    if momentum is None:
        return found("SGD", lr=learning_rate)
    return found("NAG" if nesterov else "SGDM", lr=learning_rate, momentum=momentum)


def sign_sgd(learning_rate: float) -> Translation:
    """Return Signum without momentum."""
    return found("Signum", lr=learning_rate, momentum=0.0)


def signum(learning_rate: float, beta: float = 0.9, accumulator_dtype: Any = None) -> Translation:
    """Return Signum: an average has the same signs as a sum that decays."""
    refuse_unless(accumulator_dtype is None, NO_DTYPE)
    return found("Signum", lr=learning_rate, momentum=beta)


def optimistic_gradient_descent(learning_rate: float, alpha: float = 1.0, beta: float = 1.0) -> Translation:
    """Return OptimisticGD."""
    return found("OptimisticGD", lr=learning_rate, alpha=alpha, beta=beta)


def adagrad(learning_rate: float, initial_accumulator_value: float = 0.1, eps: float = 1e-7) -> Translation:
    """Return AdaGrad; optax adds eps within the root."""
    return found(
        "AdaGrad", lr=learning_rate, eps=0.0, eps_root=eps,
        initial_accumulator_value=initial_accumulator_value,
    )  # fmt: skip


def adadelta(
    learning_rate: float | None = None, rho: float = 0.9, eps: float = 1e-6, weight_decay: float = 0.0,
    weight_decay_mask: Any = None,
) -> Translation:  # fmt: skip
    """Return AdaDelta."""
    refuse_unless(learning_rate is not None, "without learning_rate optax's adadelta goes uphill; give one")
    refuse_unless(weight_decay_mask is None, NO_MASK)
    return found("AdaDelta", lr=learning_rate, rho=rho, eps=eps, weight_decay=weight_decay)


def rmsprop(
    learning_rate: float, decay: float = 0.9, eps: float = 1e-8, initial_scale: float = 0.0,
    eps_in_sqrt: bool = True, centered: bool = False, momentum: float | None = None, nesterov: bool = False,
    bias_correction: bool = False,
) -> Translation:  # fmt: skip
    """Return RMSprop, RMSpropMomentum, or RMSpropGraves if it is centered."""
    refuse_unless(momentum is None or not nesterov, "RMSprop has no Nesterov's momentum; NAdam has")
    refuse_unless(not (centered and bias_correction), "a variance isn't corrected here")
    own = {
        "lr": learning_rate, "decay_rate": decay, "eps": 0.0 if eps_in_sqrt else eps,
        "eps_root": eps if eps_in_sqrt else 0.0, "initial_accumulator_value": initial_scale,
    }  # fmt: skip
    if centered:
        same = found("RMSpropGraves", momentum=momentum or 0.0, **own)
    elif momentum is None:
        return found("RMSprop", **own, bias_correction=bias_correction)
    else:
        same = found("RMSpropMomentum", momentum=momentum, **own, bias_correction=bias_correction)
    return same._replace(constant=RATE_IN_VELOCITY) if momentum else same


def adam(
    learning_rate: float, b1: float = 0.9, b2: float = 0.999, eps: float = 1e-8, eps_root: float = 0.0,
    mu_dtype: Any = None, *, nesterov: bool = False,
) -> Translation:  # fmt: skip
    """Return PaperAdam, or NAdam whose μ is β₁ from the beginning."""
    return adamw(learning_rate, b1, b2, eps, eps_root, mu_dtype, 0.0, nesterov=nesterov)


def nadam(
    learning_rate: float, b1: float = 0.9, b2: float = 0.999, eps: float = 1e-8, eps_root: float = 0.0,
    mu_dtype: Any = None, *, nesterov: bool = True,
) -> Translation:  # fmt: skip
    """Return NAdam whose μ is β₁ from the beginning."""
    return adamw(learning_rate, b1, b2, eps, eps_root, mu_dtype, 0.0, nesterov=nesterov)


def adamw(
    learning_rate: float, b1: float = 0.9, b2: float = 0.999, eps: float = 1e-8, eps_root: float = 0.0,
    mu_dtype: Any = None, weight_decay: float = 1e-4, mask: Any = None, *, nesterov: bool = False,
) -> Translation:  # fmt: skip
    """Return AdamW, or NAdam whose μ is β₁ from the beginning."""
    refuse_unless(mu_dtype is None, NO_DTYPE)
    refuse_unless(mask is None, NO_MASK)
    common = {
        "lr": learning_rate, "beta1": b1, "beta2": b2, "eps": eps, "eps_root": eps_root,
        "weight_decay": weight_decay,
    }  # fmt: skip
    if nesterov:
        # 0.96^(t·10⁶) is 0 in double precision.
        return found("NAdam", **common, decoupled=True, momentum_decay=1e6)
    return found("AdamW" if weight_decay else "PaperAdam", **common)


def nadamw(
    learning_rate: float, b1: float = 0.9, b2: float = 0.999, eps: float = 1e-8, eps_root: float = 0.0,
    mu_dtype: Any = None, weight_decay: float = 1e-4, mask: Any = None, *, nesterov: bool = True,
) -> Translation:  # fmt: skip
    """Return NAdam whose μ is β₁ from the beginning, with decoupled weight decay."""
    return adamw(learning_rate, b1, b2, eps, eps_root, mu_dtype, weight_decay, mask, nesterov=nesterov)


def adamax(learning_rate: float, b1: float = 0.9, b2: float = 0.999, eps: float = 1e-8) -> Translation:
    """Return AdaMax."""
    return found("AdaMax", lr=learning_rate, beta1=b1, beta2=b2, eps=eps)


def adamaxw(
    learning_rate: float, b1: float = 0.9, b2: float = 0.999, eps: float = 1e-8, weight_decay: float = 1e-4,
    mask: Any = None,
) -> Translation:  # fmt: skip
    """Return AdaMax with decoupled weight decay."""
    refuse_unless(mask is None, NO_MASK)
    return found(
        "AdaMax", lr=learning_rate, beta1=b1, beta2=b2, eps=eps, weight_decay=weight_decay, decoupled=True
    )


def amsgrad(
    learning_rate: float, b1: float = 0.9, b2: float = 0.999, eps: float = 1e-8, eps_root: float = 0.0,
    mu_dtype: Any = None, bias_correction_mu: bool = True, bias_correction_nu: bool = True,
) -> Translation:  # fmt: skip
    """Return AMSGrad."""
    refuse_unless(mu_dtype is None, NO_DTYPE)
    refuse_unless(bias_correction_mu == bias_correction_nu, "either both averages are corrected here or none")
    return found(
        "AMSGrad", lr=learning_rate, beta1=b1, beta2=b2, eps=eps, eps_root=eps_root,
        correction="before" if bias_correction_mu else "none",
    )  # fmt: skip


def radam(
    learning_rate: float, b1: float = 0.9, b2: float = 0.999, eps: float = 1e-8, eps_root: float = 0.0,
    threshold: float = 5.0, *, nesterov: bool = False,
) -> Translation:  # fmt: skip
    """Return RAdam."""
    refuse_unless(not nesterov, "RAdam has no Nesterov's momentum; NAdam has")
    return found(
        "RAdam", lr=learning_rate, beta1=b1, beta2=b2, eps=eps, eps_root=eps_root, threshold=threshold,
        corrected_eps=True,
    )  # fmt: skip


def adabelief(
    learning_rate: float, b1: float = 0.9, b2: float = 0.999, eps: float = 1e-16, eps_root: float = 1e-16, *,
    nesterov: bool = False,
) -> Translation:  # fmt: skip
    """Return AdaBelief."""
    refuse_unless(not nesterov, "AdaBelief has no Nesterov's momentum; NAdam has")
    own = {} if eps_root == eps else {"eps_root": eps_root}
    return found("AdaBelief", lr=learning_rate, beta1=b1, beta2=b2, eps=eps, **own)


def yogi(learning_rate: float, b1: float = 0.9, b2: float = 0.999, eps: float = 1e-3) -> Translation:
    """Return Yogi."""
    return found("Yogi", lr=learning_rate, beta1=b1, beta2=b2, eps=eps)


def adan(
    learning_rate: float, b1: float = 0.98, b2: float = 0.92, b3: float = 0.99, eps: float = 1e-8,
    eps_root: float = 1e-8, weight_decay: float = 0.0, mask: Any = None,
) -> Translation:  # fmt: skip
    """Return Adan; with another β₂ than 1/2 optax's rule isn't the paper's."""
    refuse_unless(b2 == 0.5, "optax weighs the differences by 1 - b2, the paper and fastopt by b2")
    refuse_unless(mask is None, NO_MASK)
    return found(
        "Adan", lr=learning_rate, beta1=b1, beta2=b2, beta3=b3, eps=eps, eps_root=eps_root,
        weight_decay=weight_decay,
    )  # fmt: skip


def lion(
    learning_rate: float, b1: float = 0.9, b2: float = 0.99, mu_dtype: Any = None,
    weight_decay: float = 1e-3, mask: Any = None,
) -> Translation:  # fmt: skip
    """Return Lion."""
    refuse_unless(mu_dtype is None, NO_DTYPE)
    refuse_unless(mask is None, NO_MASK)
    return found("Lion", lr=learning_rate, beta1=b1, beta2=b2, weight_decay=weight_decay)


def rprop(
    learning_rate: float, eta_minus: float = 0.5, eta_plus: float = 1.2, min_step_size: float = 1e-6,
    max_step_size: float = 50.0,
) -> Translation:  # fmt: skip
    """Refuse: each of its steps is what the gradient before asked for, the first is 0."""
    raise Refusal(
        "optax's rprop takes each step one gradient late, and none at first; "
        "Rprop is the rule itself, as PyTorch has it"
    )


def lars(
    learning_rate: float, weight_decay: float = 0.0, weight_decay_mask: Any = True,
    trust_coefficient: float = 0.001, eps: float = 0.0, trust_ratio_mask: Any = True, momentum: float = 0.9,
    nesterov: bool = False,
) -> Translation:  # fmt: skip
    """Return LARS."""
    is_all = weight_decay_mask is True and trust_ratio_mask is True
    refuse_unless(is_all, "instead of masks write a Partition whose other arrays have SGD")
    refuse_unless(not nesterov, "LARS has no Nesterov's momentum")
    return found(
        "LARS", lr=learning_rate, momentum=momentum, trust_coefficient=trust_coefficient,
        weight_decay=weight_decay, eps=eps,
    )  # fmt: skip


def lamb(
    learning_rate: float, b1: float = 0.9, b2: float = 0.999, eps: float = 1e-6, eps_root: float = 0.0,
    weight_decay: float = 0.0, mask: Any = None,
) -> Translation:  # fmt: skip
    """Return LAMB."""
    refuse_unless(mask is None, NO_MASK)
    return found(
        "LAMB", lr=learning_rate, beta1=b1, beta2=b2, eps=eps, eps_root=eps_root, weight_decay=weight_decay
    )


def novograd(
    learning_rate: float, b1: float = 0.9, b2: float = 0.25, eps: float = 1e-6, eps_root: float = 0.0,
    weight_decay: float = 0.0,
) -> Translation:  # fmt: skip
    """Return NovoGrad."""
    return found(
        "NovoGrad", lr=learning_rate, beta1=b1, beta2=b2, eps=eps, eps_root=eps_root,
        weight_decay=weight_decay,
    )  # fmt: skip


def sm3(learning_rate: float, momentum: float = 0.9) -> Translation:
    """Return SM3; with more than two dimensions optax has a number for each index of each dimension."""
    return found("SM3", lr=learning_rate, momentum=momentum)


def adafactor(
    learning_rate: float | None = None, min_dim_size_to_factor: int = 128, decay_rate: float = 0.8,
    decay_offset: int = 0, multiply_by_parameter_scale: bool = True, clipping_threshold: float | None = 1.0,
    momentum: float | None = None, dtype_momentum: Any = "float32", weight_decay_rate: float | None = None,
    eps: float = 1e-30, factored: bool = True, weight_decay_mask: Any = None,
) -> Translation:  # fmt: skip
    """Return Adafactor, or AdafactorMomentum."""
    refuse_unless(factored, "the second moment is factored here; PaperAdam's isn't")
    refuse_unless(weight_decay_mask is None, NO_MASK)
    refuse_unless(not decay_offset, "steps are counted from 1 here")
    refuse_unless(eps <= 1e-15, "eps is added to g² there, here it bounds the root from below")
    lr = 1.0 if learning_rate is None else learning_rate
    decay = weight_decay_rate or 0.0
    result = found(
        "Adafactor" if momentum is None else "AdafactorMomentum", lr=lr, beta2_decay=-decay_rate, eps1=eps,
        clip_threshold=1e300 if clipping_threshold is None else clipping_threshold, relative_step=False,
        multiply_by_parameter_scale=multiply_by_parameter_scale, weight_decay=decay / lr,
        **({} if momentum is None else {"momentum": momentum}),
    )  # fmt: skip
    if decay:
        result = result._replace(constant="optax's weight decay isn't multiplied by the learning rate")
    if momentum is not None and dtype_momentum != "float64":
        result = result.remark("optax's momentum is in float32")
    return result._replace(tolerance=1e-6, side=min_dim_size_to_factor).remark(
        f"optax factors matrices of at least {min_dim_size_to_factor} rows and columns, fastopt all"
    )
