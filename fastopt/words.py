"""Words of other libraries, and what to write here instead: the hints of error messages."""

from collections.abc import Iterable, Mapping
from typing import Any

__all__ = ["argument_hint", "array_hint", "attribute_hint", "near"]

# Arguments of PyTorch, Keras, optax and others, for rules that have no argument of that name.
ARGUMENTS = {
    **dict.fromkeys(("learning_rate", "alpha", "eta", "step_size", "rate", "lrate"), "write lr=..."),
    "betas": "write beta1=..., beta2=...",
    "nus": "write nu1=..., nu2=...",
    **dict.fromkeys(("decouple_decay", "decouple_weight_decay"), "write decoupled=True"),
    **dict.fromkeys(("beta_1", "b1", "beta"), "write beta1=..."),
    **dict.fromkeys(("beta_2", "b2"), "write beta2=..."),
    **dict.fromkeys(("epsilon", "eps_root", "e"), "write eps=..."),
    **dict.fromkeys(("initial_scale", "initial_accumulator"), "write initial_accumulator_value=..."),
    "eps_in_sqrt": "write eps=0, eps_root=...",
    "momentum": "write fastopt.Momentum(lr, momentum)",
    "nesterov": "write fastopt.Nesterov(lr, momentum), or fastopt.NAG(lr, momentum)",
    "dampening": "write fastopt.SGDM(lr, momentum, dampening)",
    "amsgrad": "write fastopt.AMSGrad(...)",
    "centered": "write fastopt.RMSpropGraves(...)",
    "rho": "write decay_rate=...",
    "params": "parameters go to update(params, grads)",
    "clipnorm": "write clip_norm_each=...",
    "global_clipnorm": "write clip_norm=...",
    **dict.fromkeys(("clipvalue", "clip"), "write clip_value=..."),
    "use_ema": "write ema=0.999",
    "ema_momentum": 'write ema=..., ema_init="first"',
    "ema_overwrite_frequency": "write ema_overwrite=...",
    "swa_start": "write swa=...",
    "swa_freq": "write swa_every=...",
    **dict.fromkeys(("sync_period", "slow_step_size"), "write lookahead=(6, 0.5)"),
    "reset_state": "write lookahead_reset=True",
    **dict.fromkeys(
        ("max_norm", "max_grad_norm", "grad_clip_norm", "grad_clip", "gradient_clip"), "write clip_norm=..."
    ),
    "norm_type": "write clip_norm_type=...",
    "max_squared_norm": "write skip_norm=..., which is its root",
    "gradient_accumulation_steps": "write accumulate=...",
    **dict.fromkeys(
        ("lr_scheduler", "scheduler", "schedule", "lr_schedule"),
        "write lr=fastopt.schedules.Cosine(0.1, 1000)",
    ),
    **dict.fromkeys(
        ("decay", "lr_decay"), "write lr=fastopt.schedules.InverseTime(...), or weight_decay=..."
    ),
    **dict.fromkeys(("l2", "lambda_", "wd", "weight_decay_rate"), "write weight_decay=..."),
    **dict.fromkeys(
        ("decoupled_weight_decay", "weight_decouple", "decouple", "decoupled_decay"), "write decoupled=True"
    ),
    **dict.fromkeys(("mask", "weight_decay_mask"), 'write decay_params="matrices", or groups={...}'),
    **dict.fromkeys(("mu_dtype", "accumulator_dtype"), 'write state_dtype="bfloat16"'),
    **dict.fromkeys(("capturable", "differentiable"), "leave it out: there is no graph of a step here"),
    "etas": "write eta_minus=..., eta_plus=...",
    "step_sizes": "write step_min=..., step_max=...",
    "min_step_size": "write step_min=...",
    "max_step_size": "write step_max=...",
    "clipping_threshold": "write clip_threshold=...",
    "beta_2_decay": "write beta2_decay=...",
    "epsilon_1": "write eps1=...",
    "epsilon_2": "write eps2=...",
    "scale_parameter": "write multiply_by_parameter_scale=...",
    "ns_coeffs": "write ns_coefficients=(a, b, c)",
    "adjust_lr_fn": "write adjust_lr=...",
    "correct_bias": "write bias_correction=...",
    "no_prox": "write proximal=True",
    "foreach": "leave it out: all arrays are updated in one call",
    "fused": "leave it out: all rules are fused",
}
# These mean another argument in the rules of a name.
OF_RULES = {
    ("Partition", "state_dtype"): "give it to its members",
    ("AdaBound", "amsbound"): "write fastopt.AMSBound(...)",
    ("AggMo", "betas"): "write beta1=..., beta2=..., beta3=...",
    ("ScheduleFreeAdamW", "betas"): "write beta=..., beta2=...",
    ("ScheduleFreeRAdam", "betas"): "write beta=..., beta2=...",
    ("ScheduleFreeRAdam", "warmup_steps"): "leave it out: no step needs a warm-up",
    **{("ADOPT", name): "write clip_power=..." for name in ("clip_lambda", "clip_value_fn")},
    ("MADGRAD", "decouple_decay"): "leave it out: weight decay is a part of the gradient",
    ("LaProp", "centered"): "it has none; fastopt.RMSpropGraves(...) has the variance",
    ("Adam", "eps_root"): "write fastopt.PaperAdam(...)",
    ("RMSprop", "alpha"): "write decay_rate=...",
    ("RMSprop", "momentum"): "write fastopt.RMSpropMomentum(...)",
    ("RMSpropMomentum", "alpha"): "write decay_rate=...",
    **{(f"RMSprop{kind}", "decay"): "write decay_rate=..." for kind in ("", "Momentum", "Graves")},
    ("FTRL", "learning_rate_power"): "it is -0.5, as other powers have other bits in NumPy than compiled",
    ("RMSpropGraves", "alpha"): "write decay_rate=...",
    **{(rule, "nesterov"): "write fastopt.NAdam(...)" for rule in ("Adam", "PaperAdam", "AdamW")},
    ("SGD", "dampening"): "write fastopt.SGDM(lr, momentum, dampening)",
    ("AdaGrad", "momentum"): "it has none; fastopt.Adam(...) has an average of the gradients",
    ("AdamP", "nesterov"): "it has none; fastopt.NAdam(...) has",
    (
        "MARS",
        "optimize_1d",
    ): "leave it out: all arrays are updated; fastopt.Partition has other rules for some",
    ("DoG", "init_step"): "write reps_rel=... for a heuristic one, r0=... for a distance",
    ("DoWG", "init_estim_sq_dist"): "write r0=..., its root",
    **{(rule, "estim_lr0"): "write d0=..." for rule in ("Prodigy", "DAdaptAdam")},
    ("LARS", "trust_ratio_mask"): "write a fastopt.Partition that has fastopt.SGDM(...) for the others",
    **{(rule, "eps"): "write eps1=..., eps2=..." for rule in ("Adafactor", "AdafactorMomentum")},
    **{(rule, "d"): "write clip_threshold=..." for rule in ("Adafactor", "AdafactorMomentum")},
    **{(rule, "decay_rate"): "write beta2_decay=..." for rule in ("Adafactor", "AdafactorMomentum")},
    ("Adafactor", "momentum"): "write fastopt.AdafactorMomentum(...)",
    ("Prodigy", "estim_lr_coef"): "write d_coef=...",
    ("Muon", "beta"): "write momentum=...",
    **{
        ("Muon", name): "write a fastopt.Partition that has fastopt.AdamW(...) for the others"
        for name in (
            *("adam_b1", "adam_b2", "adam_eps_root", "adam_weight_decay", "adam_learning_rate"),
            *("adam_beta_1", "adam_beta_2", "adam_lr_ratio", "exclude_layers", "exclude_embeddings"),
        )
    },
    **{("Muon", f"muon_{letter}"): "write ns_coefficients=(a, b, c)" for letter in "abc"},
    **{("Muon", name): 'write adjust_lr="match_rms_adamw"' for name in ("consistent_rms", "rms_rate")},
    ("Prodigy", "decouple"): "write decoupled=False, or leave it out",
    ("DAdaptAdam", "decouple"): "write decoupled=False, or leave it out",
}

# Methods and attributes.
ATTRIBUTES = {
    "step": "write update(params, grads)",
    "zero_grad": "leave it out: gradients aren't kept here, each step is given its own",
    "minimize": "compute the gradients, then write update(params, grads)",
    "apply_gradients": "write update(params, grads)",
    "param_groups": "write groups={...}, or the hyperparameter, as optimizer.lr = 0.01",
    "parameters": "parameters go to update(params, grads)",
    "learning_rate": "write optimizer.lr",
    "init": "leave it out: states begin with the first step",
    "backward": "gradients are the program's; then write update(params, grads)",
}

# How arrays of other libraries become NumPy's.
CONVERSIONS = {
    "torch": "{}.detach().numpy(), which shares its memory",
    "jax": "np.array({})",
    "jaxlib": "np.array({})",
    "cupy": "cupy.asnumpy({}), or in volume 2 of the book GPU = False in common/config.py",
    "pandas": "{}.to_numpy()",
    "polars": "{}.to_numpy()",
    "tensorflow": "{}.numpy()",
    "keras": "np.array({})",
    "mygrad": "{}.data, or fastopt.adapters.mygrad",
    "dezero": "{}.data, or fastopt.adapters.dezero",
    "scipy": "{}.toarray()",
}


def near(name: str, there: Iterable[str]) -> str:
    """Return "did you mean ..." with the names that are nearest, or nothing."""
    from difflib import get_close_matches  # which takes milliseconds that only an error needs

    lower = {known.lower(): known for known in there}
    if name.lower() in lower:
        return f"write {lower[name.lower()]}"
    found = [lower[close] for close in get_close_matches(name.lower(), lower)]
    return f"did you mean {' or '.join(found)}?" if found else ""


def argument_hint(rule: str, name: str, there: Iterable[str]) -> str:
    """Return what to write instead of an argument that a rule hasn't."""
    known = list(there)
    own = OF_RULES.get((rule, name)) or ARGUMENTS.get(name)
    if own is not None and (not own.startswith("write ") or is_there(own, known)):
        return own
    return near(name, known) or f"there are {', '.join(known)}"


def is_there(hint: str, there: list[str]) -> bool:
    """Whether what a hint names are arguments that there are, or it names none."""
    names = [part.split("=")[0].split()[-1] for part in hint.split(", ") if "=" in part]
    return all(name in there or "(" in name for name in names)


def attribute_hint(name: str, there: Iterable[str]) -> str:
    """Return what to write instead of an attribute that there isn't."""
    return ATTRIBUTES.get(name) or near(name, there)


def array_hint(value: Any, name: str = "x") -> str:
    """Return how something that isn't NumPy's becomes an array, or nothing."""
    module = type(value).__module__.partition(".")[0]
    if module in CONVERSIONS:
        return f"write {CONVERSIONS[module].format(name)}"
    if hasattr(value, "data") and hasattr(value, "grad"):
        return (
            "write fastopt.flatten(params, ['data']), and fastopt.flatten(params, {'data': 'grad'}) as grads"
        )
    if isinstance(value, list | tuple) and value and not isinstance(value[0], Mapping):
        has_numbers = isinstance(value[0], float | int | list)
        return f"write np.array({name}, float)" if has_numbers else "write fastopt.flatten(params)"
    return "write fastopt.flatten(params)" if isinstance(value, Mapping | list | tuple) else ""
