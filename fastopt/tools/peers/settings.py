"""The settings that are tried: those of the libraries' own tests, and what these leave out."""

from fastopt.tools.peers.torch_settings import AUTHORS, TORCH, TORCH_TOO

__all__ = ["SETTINGS", "calls"]

# Each argument of those of optax's constructors whose rules fastopt has.
OPTAX = {
    "sgd": ("0.1", "0.1, momentum=0.9", "0.1, momentum=0.9, nesterov=True", "0.1, momentum=0.0"),
    "sign_sgd": ("0.01",),
    "signum": ("0.01", "0.01, beta=0.5"),
    "optimistic_gradient_descent": ("0.1", "0.1, alpha=0.5", "0.1, beta=0.25"),
    "adagrad": (
        "0.1", "0.1, initial_accumulator_value=0.0, eps=0.0", "0.1, eps=0.0",
        "0.1, initial_accumulator_value=0.5, eps=1e-3",
    ),
    "adadelta": ("1.0", "learning_rate=None", "0.5, rho=0.95", "1.0, eps=1e-3", "1.0, weight_decay=0.1"),
    "rmsprop": (
        "0.01", "0.01, eps_in_sqrt=False", "0.01, decay=0.99, eps_in_sqrt=False",
        "0.01, eps=1e-3, eps_in_sqrt=False", "0.01, initial_scale=1.0", "0.01, centered=True",
        "0.01, centered=True, eps_in_sqrt=False", "0.01, momentum=0.9", "0.01, momentum=0.9, nesterov=True",
        "0.001, centered=True, momentum=0.9, eps_in_sqrt=False", "0.01, bias_correction=True",
        "0.01, momentum=0.9, eps_in_sqrt=False", "0.01, bias_correction=True, eps_in_sqrt=False",
    ),
    "adam": (
        "0.001", "0.001, b1=0.8", "0.001, b2=0.9", "0.001, eps=1e-3", "0.001, eps_root=1e-3",
        "0.001, nesterov=True", "0.001, mu_dtype='bfloat16'",
    ),
    "nadam": ("0.001", "0.001, b1=0.8, b2=0.9, eps=1e-3", "0.001, nesterov=False", "0.001, eps_root=1e-3"),
    "adamw": (
        "0.001", "0.001, eps_root=1e-3", "0.001, weight_decay=0.1", "0.001, nesterov=True",
        "0.001, b1=0.8, b2=0.9, eps=1e-3",
    ),
    "nadamw": (
        "0.001", "0.001, weight_decay=0.1", "0.001, b1=0.8, b2=0.9, eps=1e-3, eps_root=1e-3",
        "0.001, nesterov=False",
    ),
    "adamax": ("0.001", "0.001, b1=0.8", "0.001, b2=0.9", "0.001, eps=1e-3"),
    "adamaxw": ("0.001", "0.001, weight_decay=0.1", "0.001, b1=0.8, b2=0.9, eps=1e-3"),
    "amsgrad": (
        "0.001", "0.001, eps_root=1e-3", "0.001, b1=0.8", "0.001, b2=0.9", "0.001, eps=1e-3",
        "0.001, bias_correction_mu=False", "0.001, bias_correction_nu=False",
        "0.001, bias_correction_mu=False, bias_correction_nu=False",
    ),
    "radam": (
        "0.001", "0.001, b1=0.8", "0.001, b2=0.99", "0.001, eps=1e-3", "0.001, eps=0.0",
        "0.001, threshold=4.0", "0.001, nesterov=True", "0.001, eps_root=1e-3",
    ),
    "adabelief": (
        "0.001", "0.001, b1=0.8", "0.001, b2=0.9", "0.001, eps=1e-8, eps_root=1e-8",
        "0.001, eps=1e-8, eps_root=1e-16", "0.001, nesterov=True",
    ),
    "yogi": ("0.01", "0.01, b1=0.8", "0.01, b2=0.9", "0.01, eps=1e-8"),
    "adan": (
        "0.001", "0.001, eps_root=0.0", "0.001, b2=0.5, eps_root=0.0",
        "0.001, b1=0.9, b2=0.5, b3=0.9, eps=1e-3, eps_root=0.0, weight_decay=0.1",
    ),
    "lion": ("0.001", "0.001, b1=0.8", "0.001, b2=0.9", "0.001, weight_decay=0.1"),
    "rprop": ("0.01", "0.01, eta_minus=0.4, eta_plus=1.3", "0.01, min_step_size=0.009, max_step_size=0.1"),
    "lars": (
        "0.1", "0.1, weight_decay=0.1", "0.1, trust_coefficient=0.5", "0.1, eps=1e-3", "0.1, momentum=0.5",
        "0.1, nesterov=True", "0.1, trust_ratio_mask=False", "0.1, weight_decay_mask=False",
    ),
    "lamb": (
        "0.001", "0.001, b1=0.8", "0.001, b2=0.9", "0.001, eps=1e-3", "0.001, weight_decay=0.1",
        "0.001, eps_root=1e-3",
    ),
    "novograd": (
        "0.001", "0.001, b1=0.8", "0.001, b2=0.9", "0.001, eps=1e-3", "0.001, weight_decay=0.1",
        "0.001, eps_root=1e-3",
    ),
    "sm3": ("0.1", "0.1, momentum=0.5"),
    "adafactor": (
        "0.01", "learning_rate=None", "0.01, min_dim_size_to_factor=1",
        "0.01, decay_rate=0.5, min_dim_size_to_factor=2",
        "0.01, multiply_by_parameter_scale=False, min_dim_size_to_factor=1",
        "0.01, clipping_threshold=None, min_dim_size_to_factor=1",
        "0.01, momentum=0.9, min_dim_size_to_factor=1",
        "0.01, momentum=0.9, dtype_momentum='float64', min_dim_size_to_factor=1",
        "0.01, weight_decay_rate=0.001, min_dim_size_to_factor=1", "0.01, factored=False",
        "0.01, decay_offset=-1", "0.01, eps=1e-3",
    ),
    "contrib.ademamix": (
        "0.001", "0.001, b1=0.8", "0.001, b2=0.9", "0.001, b3=0.99, alpha=2.0", "0.001, eps=1e-3",
        "0.001, weight_decay=0.1", "0.001, eps_root=1e-3",
    ),
    "contrib.madgrad": ("0.01", "0.01, momentum=0.5", "0.01, weight_decay=0.1", "0.01, eps=1e-3"),
    "contrib.adopt": (
        "0.001", "0.001, b1=0.8", "0.001, b2=0.9", "0.001, eps=1e-3", "0.001, nesterov=True",
        "0.001, use_clipping=False",
    ),
    "contrib.muon": (
        "0.01", "0.01, nesterov=False", "0.01, nesterov=False, beta=0.9, weight_decay=0.1, eps=1e-7",
        "0.01, nesterov=False, ns_coeffs=(3.4, -4.7, 2.0), ns_steps=4",
        "0.01, nesterov=False, consistent_rms=0.1, weight_decay=0.1", "0.01, nesterov=False, adaptive=True",
        "0.01, nesterov=False, preconditioning='aol'", "0.01, nesterov=False, adam_learning_rate=0.1",
        "0.01, nesterov=False, adam_b1=0.8, adam_b2=0.9, adam_eps_root=1e-3, adam_weight_decay=0.1",
    ),
    "contrib.prodigy": (
        "", "estim_lr0=0.1", "0.5, estim_lr0=0.1, betas=(0.8, 0.99)", "estim_lr0=0.1, beta3=0.9",
        "estim_lr0=0.1, eps=1e-3", "estim_lr0=0.1, estim_lr_coef=2.0", "estim_lr0=0.1, weight_decay=0.1",
        "estim_lr0=0.1, safeguard_warmup=True",
    ),
    "contrib.dadapt_adamw": (
        "", "estim_lr0=0.1", "0.5, estim_lr0=0.1, betas=(0.8, 0.99)", "estim_lr0=0.1, eps=1e-3",
        "estim_lr0=0.1, weight_decay=0.1",
    ),
    "contrib.dog": (
        "", "0.5, init_step=('heuristic', 0.1)", "init_step=('distance', 0.5)",
        "init_step=('learning_rate', 0.1)", "init_step=('distance', 0.5), eps=1e-3",
        "init_step=('distance', 0.5), weight_decay=0.1",
    ),
    "contrib.dowg": (
        "", "0.5", "init_estim_sq_dist=0.25", "eps=1e-2", "init_estim_sq_dist=0.25, weight_decay=0.1",
    ),
    "contrib.schedule_free_sgd": (
        "0.1", "0.1, warmup_steps=5", "0.1, b1=0.8", "0.1, weight_decay=0.1", "0.1, weight_lr_power=0.0",
    ),
    "contrib.schedule_free_adamw": (
        "0.01", "0.01, warmup_steps=5", "0.01, b1=0.8", "0.01, b2=0.9", "0.01, eps=1e-3",
        "0.01, weight_decay=0.1", "0.01, weight_lr_power=0.0",
    ),
}  # fmt: skip

# Each argument of Keras's constructors; those that all share with some.
KERAS = {
    "SGD": (
        "", "0.1", "0.1, momentum=0.9", "0.1, momentum=0.9, nesterov=True", "0.1, weight_decay=0.1",
        "0.1, momentum=0.9, weight_decay=0.1", "0.1, clipnorm=1.0", "0.1, clipvalue=0.5",
        "0.1, global_clipnorm=1.0", "0.1, use_ema=True", "0.1, use_ema=True, ema_momentum=0.9",
        "0.1, use_ema=True, ema_momentum=0.9, ema_overwrite_frequency=3", "0.1, loss_scale_factor=2.0",
        "0.1, gradient_accumulation_steps=4", "0.1, name='mine'",
    ),
    "RMSprop": (
        "", "0.01, rho=0.99", "0.01, epsilon=1e-3", "0.01, momentum=0.9", "0.01, centered=True",
        "0.01, centered=True, momentum=0.9", "0.01, weight_decay=0.1",
    ),
    "Adagrad": ("", "0.1", "0.1, initial_accumulator_value=0.5", "0.1, epsilon=1e-3",
        "0.1, weight_decay=0.1"),
    "Adadelta": ("", "1.0", "1.0, rho=0.8", "1.0, epsilon=1e-3", "1.0, weight_decay=0.1"),
    "Adam": (
        "", "0.01", "beta_1=0.8", "beta_2=0.9", "epsilon=1e-3", "amsgrad=True", "amsgrad=True, epsilon=1e-3",
        "weight_decay=0.1", "clipvalue=0.5", "gradient_accumulation_steps=4",
        "0.01, use_ema=True, ema_momentum=0.9, ema_overwrite_frequency=2",
    ),
    "AdamW": ("", "0.01", "weight_decay=0.1", "beta_1=0.8, beta_2=0.9, epsilon=1e-3", "amsgrad=True"),
    "Adamax": ("", "0.01", "beta_1=0.8", "beta_2=0.9", "epsilon=0.0", "epsilon=0.0, weight_decay=0.1"),
    "Nadam": ("", "0.01", "beta_1=0.8", "beta_2=0.9", "epsilon=1e-3", "weight_decay=0.1"),
    "Lamb": ("", "0.01", "beta_1=0.8", "beta_2=0.9", "epsilon=1e-3", "weight_decay=0.1"),
    "Lion": ("", "0.01", "beta_1=0.8", "beta_2=0.9", "weight_decay=0.1"),
    "Ftrl": (
        "", "0.1", "0.1, learning_rate_power=-0.6", "0.1, initial_accumulator_value=0.5",
        "0.1, l1_regularization_strength=0.3", "0.1, l2_regularization_strength=0.3",
        "0.1, l2_shrinkage_regularization_strength=0.3", "0.1, beta=0.5", "0.1, weight_decay=0.1",
    ),
    "Adafactor": (
        "", "0.1", "0.1, beta_2_decay=-0.6", "0.1, epsilon_1=1e-15", "0.1, epsilon_1=1e-3",
        "0.1, epsilon_2=0.1", "0.1, clip_threshold=0.5", "0.1, relative_step=False", "0.1, weight_decay=0.1",
    ),
    "Muon": (
        "", "0.01", "adam_beta_1=0.8, adam_beta_2=0.9", "adam_weight_decay=0.1", "epsilon=1e-3",
        "weight_decay=0.1", "muon_a=3.4, muon_b=-4.7, muon_c=2.0", "adam_lr_ratio=0.1", "momentum=0.9",
        "ns_steps=6", "nesterov=False", "rms_rate=None", "rms_rate=0.1", "exclude_layers=('out',)",
        "exclude_embeddings=False",
    ),
    "ScheduleFreeAdamW": (
        "", "0.01", "beta_1=0.8", "beta_2=0.9", "epsilon=1e-3", "warmup_steps=5", "weight_decay=0.1",
    ),
}  # fmt: skip

# Each argument of MLX's constructors.
MLX = {
    "SGD": (
        "0.1", "0.1, momentum=0.9", "0.1, momentum=0.9, dampening=0.5", "0.1, momentum=0.9, nesterov=True",
        "0.1, weight_decay=0.1", "0.1, momentum=0.9, weight_decay=0.1",
    ),
    "RMSprop": ("0.01", "0.01, alpha=0.9", "0.01, eps=1e-3"),
    "Adagrad": ("0.1", "0.1, eps=1e-3"),
    "AdaDelta": ("1.0", "1.0, rho=0.95", "1.0, eps=1e-3"),
    "Adam": (
        "0.001", "0.001, betas=(0.8, 0.9), eps=1e-3", "0.001, bias_correction=True",
        "0.001, betas=(0.8, 0.9), bias_correction=True",
        "0.001, eps=1e-3, bias_correction=True",
    ),
    "AdamW": (
        "0.001", "0.001, weight_decay=0.1", "0.001, bias_correction=True",
        "0.001, weight_decay=0.1, bias_correction=True",
        "0.001, betas=(0.8, 0.9), eps=1e-3, bias_correction=True",
    ),
    "Adamax": ("0.001", "0.001, betas=(0.8, 0.9)", "0.001, eps=1e-3"),
    "Lion": ("0.001", "0.001, betas=(0.8, 0.9)", "0.001, weight_decay=0.1"),
    "Adafactor": (
        "", "0.01, relative_step=False", "0.01", "eps=(1e-15, 0.1)", "clip_threshold=0.5", "decay_rate=-0.6",
        "beta_1=0.9", "weight_decay=0.1", "scale_parameter=False", "warmup_init=True",
        "0.01, scale_parameter=False, relative_step=False, weight_decay=0.1",
    ),
    "Muon": (
        "0.01", "0.01, momentum=0.9", "0.01, weight_decay=0.0", "0.01, nesterov=False, weight_decay=0.0",
        "0.01, ns_steps=6, weight_decay=0.0",
    ),
}  # fmt: skip

SETTINGS: dict[str, dict[str, tuple[str, ...]]] = {
    "torch": {name: own + TORCH_TOO[name] for name, own in TORCH.items()},
    "optax": OPTAX,
    "keras": KERAS,
    "mlx": MLX,
    "authors": AUTHORS,
}  # fmt: skip


def calls(library: str) -> list[str]:
    """Return the calls that are tried of a library's constructors."""
    return [f"{name}({given})" for name, all_given in SETTINGS[library].items() for given in all_given]
