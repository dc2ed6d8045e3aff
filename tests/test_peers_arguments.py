"""Each argument of PyTorch's, optax's and Keras' optimizers has its place here, or is known to have none."""

import inspect
import os
from functools import cache

import pytest

import fastopt

# What stands for an argument: ours, another class, or NONE if nothing is to be said here, as of how a step is
# taken, or of the dtype of a state. Arguments of the same name aren't listed.
NONE = ""
TORCH = {
    **dict.fromkeys(("params", "foreach", "fused", "capturable", "differentiable"), NONE),
    "betas": "beta1, beta2",
    "decoupled_weight_decay": "decoupled",
}
OPTAX = {
    "learning_rate": "lr",
    **{"b1": "beta1", "b2": "beta2", "b3": "beta3"},
    **dict.fromkeys(("mu_dtype", "accumulator_dtype", "state_dtype"), NONE),
    **dict.fromkeys(("mask", "weight_decay_mask"), "decay_params"),
}
KERAS = {
    **{"learning_rate": "lr", "beta_1": "beta1", "beta_2": "beta2", "epsilon": "eps"},
    **{"clipnorm": "clip_norm_each", "global_clipnorm": "clip_norm", "clipvalue": "clip_value"},
    **{"use_ema": "ema", "ema_momentum": "ema", "ema_overwrite_frequency": "ema_overwrite"},
    "gradient_accumulation_steps": "accumulate",
    **dict.fromkeys(("loss_scale_factor", "name", "kwargs"), NONE),
}
COMMON = {"torch.optim": TORCH, "optax": OPTAX, "optax.contrib": OPTAX, "keras.optimizers": KERAS}
# What no rule here can say: Nesterov's momentum after the division; states whose shapes an argument chooses,
# and weights that begin later; other norms than Frobenius', and arrays of more dimensions, in Muon.
MISSING = {
    *(("optax", name, "nesterov") for name in ("rmsprop", "adabelief", "radam", "lars")),
    ("optax.contrib", "adopt", "nesterov"),
    *(("optax", "adafactor", name) for name in ("min_dim_size_to_factor", "factored", "decay_offset")),
    *(
        ("optax.contrib", "muon", name)
        for name in ("adaptive", "preconditioning", "muon_weight_dimension_numbers")
    ),
}
# What Muon has for arrays that aren't matrices, which a Partition has here.
OPTAX_ADAM = ("adam_b1", "adam_b2", "adam_eps_root", "adam_weight_decay", "adam_learning_rate")
KERAS_ADAM = ("adam_beta_1", "adam_beta_2", "adam_weight_decay", "adam_lr_ratio")
ROWS = [
    ("torch.optim", "SGD", "SGDM", {"nesterov": "NAG"}),
    ("torch.optim", "Adagrad", "AdaGrad", {}),
    ("torch.optim", "Adadelta", "AdaDelta", {}),
    ("torch.optim", "RMSprop", "RMSpropMomentum", {"alpha": "decay_rate", "centered": "RMSpropGraves"}),
    ("torch.optim", "Adam", "PaperAdam", {"amsgrad": "AMSGrad"}),
    ("torch.optim", "AdamW", "AdamW", {"amsgrad": "AMSGrad"}),
    ("torch.optim", "Adamax", "AdaMax", {}),
    ("torch.optim", "NAdam", "NAdam", {}),
    ("torch.optim", "RAdam", "RAdam", {}),
    ("torch.optim", "ASGD", "ASGD", {}),
    (
        "torch.optim",
        "Rprop",
        "Rprop",
        {"etas": "eta_minus, eta_plus", "step_sizes": "step_min, step_max"},
    ),
    ("torch.optim", "Adafactor", "Adafactor", {"eps": "eps1, eps2", "d": "clip_threshold"}),
    ("torch.optim", "Muon", "Muon", {"adjust_lr_fn": "adjust_lr"}),
    ("optax", "sgd", "SGDM", {"nesterov": "NAG"}),
    ("optax", "optimistic_gradient_descent", "OptimisticGD", {}),
    ("optax", "adagrad", "AdaGrad", {}),
    ("optax", "adadelta", "AdaDelta", {}),
    (
        "optax",
        "rmsprop",
        "RMSpropMomentum",
        {
            "decay": "decay_rate",
            "initial_scale": "initial_accumulator_value",
            "eps_in_sqrt": "eps_root",
            "centered": "RMSpropGraves",
        },
    ),
    ("optax", "adam", "PaperAdam", {"nesterov": "NAdam"}),
    ("optax", "adamw", "AdamW", {"nesterov": "NAdam"}),
    ("optax", "amsgrad", "AMSGrad", {"bias_correction_mu": "correction", "bias_correction_nu": "correction"}),
    ("optax", "adamax", "AdaMax", {}),
    ("optax", "adamaxw", "AdaMax", {}),
    ("optax", "nadam", "NAdam", {"nesterov": NONE}),
    ("optax", "nadamw", "NAdam", {"nesterov": NONE}),
    ("optax", "radam", "RAdam", {}),
    ("optax", "adabelief", "AdaBelief", {}),
    ("optax", "yogi", "Yogi", {}),
    ("optax", "adan", "Adan", {}),
    ("optax", "rprop", "Rprop", {"min_step_size": "step_min", "max_step_size": "step_max"}),
    ("optax", "signum", "Signum", {"beta": "momentum"}),
    ("optax", "sign_sgd", "Signum", {}),
    ("optax", "lion", "Lion", {}),
    ("optax", "lars", "LARS", {"trust_ratio_mask": "Partition"}),
    ("optax", "lamb", "LAMB", {}),
    ("optax", "novograd", "NovoGrad", {}),
    ("optax", "sm3", "SM3", {}),
    (
        "optax",
        "adafactor",
        "AdafactorMomentum",
        {
            **{"decay_rate": "beta2_decay", "clipping_threshold": "clip_threshold"},
            **{"dtype_momentum": NONE, "weight_decay_rate": "weight_decay", "eps": "eps1"},
        },
    ),
    (
        "optax.contrib",
        "prodigy",
        "Prodigy",
        {"betas": "beta1, beta2", "estim_lr0": "d0", "estim_lr_coef": "d_coef"},
    ),
    (
        "optax.contrib",
        "muon",
        "Muon",
        {
            **{"ns_coeffs": "ns_coefficients", "beta": "momentum", "consistent_rms": "adjust_lr"},
            **dict.fromkeys(OPTAX_ADAM, "Partition"),
        },
    ),
    ("optax.contrib", "ademamix", "AdEMAMix", {}),
    ("optax.contrib", "adopt", "ADOPT", {"clip_value_fn": "clip_power"}),
    ("optax.contrib", "madgrad", "MADGRAD", {}),
    ("optax.contrib", "schedule_free_sgd", "ScheduleFreeSGD", {"b1": "beta"}),
    ("optax.contrib", "schedule_free_adamw", "ScheduleFreeAdamW", {"b1": "beta"}),
    ("keras.optimizers", "SGD", "Momentum", {"nesterov": "Nesterov"}),
    ("keras.optimizers", "Adagrad", "AdaGrad", {}),
    ("keras.optimizers", "Adadelta", "AdaDelta", {}),
    ("keras.optimizers", "RMSprop", "RMSpropMomentum", {"rho": "decay_rate", "centered": "RMSpropGraves"}),
    ("keras.optimizers", "Adam", "Adam", {"amsgrad": "AMSGrad"}),
    ("keras.optimizers", "AdamW", "Adam", {"amsgrad": "AMSGrad"}),
    ("keras.optimizers", "Adamax", "AdaMax", {}),
    ("keras.optimizers", "Nadam", "NAdam", {}),
    ("keras.optimizers", "Lion", "Lion", {}),
    ("keras.optimizers", "Lamb", "LAMB", {}),
    (
        "keras.optimizers",
        "Adafactor",
        "Adafactor",
        {"beta_2_decay": "beta2_decay", "epsilon_1": "eps1", "epsilon_2": "eps2"},
    ),
    (
        "keras.optimizers",
        "Muon",
        "Muon",
        {
            **dict.fromkeys(("muon_a", "muon_b", "muon_c"), "ns_coefficients"),
            **{"rms_rate": "adjust_lr", "exclude_layers": "Partition", "exclude_embeddings": "Partition"},
            **dict.fromkeys(KERAS_ADAM, "Partition"),
        },
    ),
    ("keras.optimizers", "Ftrl", "FTRL", {"learning_rate_power": NONE}),  # the error says why
]


@cache
def library_of(name):
    """Return a module of a library; without that skip the test."""
    package = name.partition(".")[0]
    if package == "keras":
        os.environ.setdefault("KERAS_BACKEND", "jax")
    module = pytest.importorskip(package)
    for part in name.split(".")[1:]:
        module = getattr(module, part)
    return module


@pytest.mark.parametrize(("library", "theirs", "ours", "own"), ROWS)
def test_each_argument_of_a_peer_has_its_place(library, theirs, ours, own):
    cls = getattr(fastopt, ours)
    known = {name for name in inspect.signature(cls).parameters if name != "self"}
    names = {**COMMON[library], **own}
    for name in inspect.signature(getattr(library_of(library), theirs)).parameters:
        if (library, theirs, name) in MISSING:
            continue
        place = names.get(name, name)
        parts = [part for part in place.split(", ") if part]
        assert all(part in known or isinstance(getattr(fastopt, part, None), type) for part in parts), name
        if name not in known:  # then the error says it
            with pytest.raises(TypeError) as raised:
                cls(**{name: None})
            assert all(part in str(raised.value).partition(":")[2] for part in parts), name
