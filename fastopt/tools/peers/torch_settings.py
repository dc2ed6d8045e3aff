"""The settings that are tried of PyTorch's constructors, and of authors' packages for it."""

__all__ = ["AUTHORS", "TORCH", "TORCH_TOO"]

# All 129 of `torch.testing._internal.common_optimizers` in 2.13, on any device.
TORCH = {
    "Adadelta": (
        "", "lr=0.01", "weight_decay=0.1", "maximize=True", "weight_decay=0.1, maximize=True",
        "rho=0.95, weight_decay=0.9", "capturable=True", "weight_decay=0.1, capturable=True",
        "lr=torch.tensor(0.001), capturable=True",
    ),
    "Adafactor": (
        "", "weight_decay=0.1, lr=0.01", "weight_decay=0.1, maximize=True", "beta2_decay=-1.0", "d=1.5",
    ),
    "Adagrad": (
        "", "weight_decay=0.1", "weight_decay=0.1, maximize=True", "lr=0.1",
        "initial_accumulator_value=0.1, weight_decay=0.1", "lr=0.1, lr_decay=0.5, weight_decay=0.1",
        "lr=torch.tensor(0.001)",
    ),
    "Adam": (
        "", "lr=0.01", "weight_decay=0.1", "weight_decay=0.1, maximize=True",
        "weight_decay=0.1, amsgrad=True", "capturable=True",
        "weight_decay=0.1, amsgrad=True, capturable=True",
        "lr=torch.tensor(0.001), amsgrad=True, capturable=True",
        "lr=torch.tensor(0.001), betas=(torch.tensor([[[0.9]]]), torch.tensor([[0.99]])), amsgrad=True, "
        "capturable=True",
        "lr=torch.tensor(0.001), betas=(torch.tensor(0.9), torch.tensor(0.99)), amsgrad=False, "
        "capturable=True",
        "lr=torch.tensor(0.01)",
    ),
    "Adamax": (
        "", "lr=0.1", "weight_decay=0.1", "maximize=True", "weight_decay=0.1, maximize=True",
        "capturable=True", "weight_decay=0.9, maximize=True, capturable=True",
        "weight_decay=0, maximize=True, capturable=True",
        "weight_decay=0.9, maximize=False, capturable=True",
        "lr=torch.tensor(0.001), weight_decay=0.9, maximize=False, capturable=True",
    ),
    "AdamW": (
        "", "lr=0.01", "weight_decay=0.1", "weight_decay=0.1, maximize=True",
        "weight_decay=0.1, amsgrad=True", "capturable=True",
        "weight_decay=0.1, amsgrad=True, capturable=True",
        "lr=torch.tensor(0.001), amsgrad=True, capturable=True",
        "lr=torch.tensor(0.001), betas=(torch.tensor([[[0.9]]]), torch.tensor([[0.99]])), amsgrad=True, "
        "capturable=True",
        "lr=torch.tensor(0.001), betas=(torch.tensor(0.9), torch.tensor(0.99)), amsgrad=False, "
        "capturable=True",
        "lr=torch.tensor(0.01)",
    ),
    "ASGD": (
        "", "lambd=0.1", "lr=0.02", "t0=100", "maximize=True", "weight_decay=0.1",
        "weight_decay=0.1, maximize=True", "capturable=True", "maximize=True, capturable=True",
        "weight_decay=0.1, capturable=True", "weight_decay=0.1, maximize=True, capturable=True",
        "lr=torch.tensor(0.001), weight_decay=0.1, maximize=True, capturable=True",
    ),
    "LBFGS": (
        "", "lr=0.01", "lr=torch.tensor(0.001)", "tolerance_grad=1e-06",
        "line_search_fn='strong_wolfe'",
    ),
    "Muon": (
        "", "lr=0.01", "lr=torch.tensor(0.001)", "weight_decay=0.2", "momentum=0.8", "ns_steps=6",
        "ns_coefficients=(3.4, -4.7, 2.0)",
    ),
    "NAdam": (
        "", "lr=0.001", "momentum_decay=0.006", "weight_decay=0.1",
        "weight_decay=0.1, momentum_decay=0.006",
        "weight_decay=0.1, momentum_decay=0.006, decoupled_weight_decay=True",
        "weight_decay=0.1, maximize=True", "capturable=True",
        "weight_decay=0.9, momentum_decay=0.006, capturable=True",
        "weight_decay=0.9, momentum_decay=0.006, decoupled_weight_decay=True, capturable=True",
        "lr=torch.tensor(0.001), weight_decay=0.9, momentum_decay=0.006, decoupled_weight_decay=True, "
        "capturable=True",
    ),
    "RAdam": (
        "", "lr=0.002", "eps=1e-06", "weight_decay=0.1",
        "weight_decay=0.1, decoupled_weight_decay=True", "weight_decay=0.1, maximize=True",
        "capturable=True", "capturable=True, weight_decay=0.1",
        "capturable=True, weight_decay=0.1, decoupled_weight_decay=True",
        "lr=torch.tensor(0.001), capturable=True, weight_decay=0.1, decoupled_weight_decay=True",
    ),
    "RMSprop": (
        "", "lr=0.001", "weight_decay=0.1", "maximize=True", "weight_decay=0.1, centered=True",
        "maximize=True, weight_decay=0.1", "weight_decay=0.1, centered=True, momentum=0.1",
        "weight_decay=0.1, centered=True, momentum=0.1, maximize=True", "capturable=True",
        "weight_decay=0.1, maximize=True, capturable=True", "lr=torch.tensor(0.001), capturable=True",
    ),
    "Rprop": (
        "", "lr=0.0002", "etas=(0.5, 1.5)", "step_sizes=(2e-06, 100)", "maximize=True",
        "capturable=True", "lr=torch.tensor(0.001), capturable=True",
    ),
    "SGD": (
        "", "lr=0.01", "lr=torch.tensor(0.001)", "weight_decay=0.5", "momentum=0.9",
        "weight_decay=0.1, maximize=True", "momentum=0.9, dampening=0.5",
        "momentum=0.9, weight_decay=0.1", "momentum=0.9, nesterov=True, weight_decay=0.1",
    ),
    "SparseAdam": (
        "", "lr=0.01", "lr=torch.tensor(0.001)", "maximize=True",
    ),
}  # fmt: skip

# Arguments that PyTorch's tests leave out, or don't have together.
TORCH_TOO = {
    "Adadelta": ("eps=1e-3, foreach=True", "differentiable=True"),
    "Adafactor": ("eps=(1e-6, 0.1)", "foreach=True"),
    "Adagrad": (
        "eps=1e-3, foreach=True", "initial_accumulator_value=0.5, lr_decay=0.1, differentiable=True",
        "fused=True",
    ),
    "Adam": (
        "weight_decay=0.1, decoupled_weight_decay=True", "eps=1e-3, betas=(0.8, 0.9)", "fused=True",
        "amsgrad=True, maximize=True, foreach=True", "differentiable=True",
    ),
    "Adamax": ("betas=(0.8, 0.9)", "eps=1e-3, foreach=True", "differentiable=True"),
    "AdamW": (
        "eps=1e-3, betas=(0.8, 0.9)", "weight_decay=0.0, fused=True", "foreach=True", "differentiable=True",
    ),
    "ASGD": ("alpha=0.5, lambd=0.1, t0=5", "foreach=True", "differentiable=True"),
    "LBFGS": ("max_iter=4, max_eval=5, tolerance_change=1e-5, history_size=10",),
    "Muon": (
        "nesterov=False", "eps=1.0", "adjust_lr_fn='original'", "adjust_lr_fn='match_rms_adamw'",
        "lr=0.01, weight_decay=0.0, momentum=0.9, nesterov=False, ns_steps=3",
    ),
    "NAdam": ("betas=(0.8, 0.9)", "eps=1e-3, foreach=True", "differentiable=True"),
    "RAdam": ("betas=(0.8, 0.9)", "eps=1e-3, foreach=True", "differentiable=True"),
    "RMSprop": (
        "alpha=0.9, eps=1e-3", "momentum=0.9", "momentum=0.9, weight_decay=0.1, maximize=True",
        "centered=True, foreach=True", "differentiable=True",
    ),
    "Rprop": ("lr=0.01, etas=(0.4, 1.3), step_sizes=(1e-3, 0.1), foreach=True", "differentiable=True"),
    "SGD": (
        "nesterov=True, momentum=0.9, maximize=True", "momentum=0.9, dampening=0.9, weight_decay=0.1",
        "lr=0.1, momentum=0.9, nesterov=True, fused=True", "foreach=True", "differentiable=True",
    ),
    "SparseAdam": ("betas=(0.8, 0.9), eps=1e-3",),
}  # fmt: skip

# Each argument of the constructors of authors' packages.
AUTHORS = {
    "SGDScheduleFree": (
        "", "lr=0.1", "lr=0.1, momentum=0.8", "lr=0.1, weight_decay=0.1", "lr=0.1, warmup_steps=5",
        "lr=0.1, warmup_steps=5, r=1.0", "lr=0.1, warmup_steps=5, weight_lr_power=0.0, foreach=False",
    ),
    "AdamWScheduleFree": (
        "", "lr=0.01", "betas=(0.8, 0.9)", "eps=1e-3", "weight_decay=0.1", "warmup_steps=5",
        "warmup_steps=5, r=1.0", "warmup_steps=5, weight_lr_power=0.0, foreach=False",
    ),
    "RAdamScheduleFree": (
        "", "lr=0.01", "betas=(0.8, 0.99)", "eps=1e-3", "weight_decay=0.1", "r=1.0",
        "weight_lr_power=0.0, foreach=False", "silent_sgd_phase=False",
    ),
    "Prodigy": (
        "", "d0=0.1", "lr=0.5, d0=0.1, betas=(0.8, 0.99)", "d0=0.1, beta3=0.9", "d0=0.1, eps=1e-3",
        "d0=0.1, d_coef=2.0", "d0=0.1, weight_decay=0.1", "d0=0.1, weight_decay=0.1, decouple=False",
        "d0=0.1, use_bias_correction=True", "d0=0.1, safeguard_warmup=True", "d0=0.01, growth_rate=1.02",
        "slice_p=11", "fsdp_in_use=False",
    ),
    "Lion": (
        "", "lr=0.001", "betas=(0.8, 0.9)", "weight_decay=0.1", "use_triton=False",
        "lr=0.001, weight_decay=0.001, decoupled_weight_decay=True",
    ),
    "MADGRAD": (
        "", "lr=0.1", "momentum=0.5", "weight_decay=0.1", "eps=1e-3", "weight_decay=0.1, decouple_decay=True",
    ),
    "AdaBound": (
        "", "lr=0.01", "betas=(0.8, 0.9)", "final_lr=0.01", "gamma=0.1", "eps=1e-3", "weight_decay=0.1",
        "amsbound=True",
    ),
    **dict.fromkeys(
        ("DoG", "LDoG"),
        (
            "", "lr=0.5, reps_rel=0.1", "reps_rel=0.1, eps=1e-3", "reps_rel=0.1, weight_decay=0.1",
            "init_eta=0.1",
        ),
    ),
    "DAdaptAdam": (
        "", "lr=0.5, d0=0.1", "d0=0.1, betas=(0.8, 0.99)", "d0=0.1, eps=1e-3",
        "d0=0.1, weight_decay=0.1", "d0=0.1, weight_decay=0.1, decouple=True, log_every=0",
        "d0=0.1, use_bias_correction=True", "d0=0.01, growth_rate=1.02, fsdp_in_use=False",
    ),
    "QHAdam": (
        "", "lr=0.01", "betas=(0.995, 0.99)", "nus=(0.7, 0.9)", "weight_decay=0.1", "eps=1e-3",
        "weight_decay=0.1, decouple_weight_decay=True",
    ),
    "AdamP": (
        "", "lr=0.01", "betas=(0.8, 0.9)", "eps=1e-3", "weight_decay=0.1", "delta=10.0, weight_decay=0.1",
        "delta=10.0, wd_ratio=0.5, weight_decay=0.1", "nesterov=True",
    ),
    "AdaBelief": (
        "print_change_log=False", "lr=0.01, print_change_log=False",
        "betas=(0.8, 0.99), print_change_log=False", "eps=1e-3, print_change_log=False",
        "weight_decay=0.1, print_change_log=False",
        "weight_decay=0.1, weight_decouple=False, print_change_log=False",
        "weight_decay=0.001, fixed_decay=True, print_change_log=False",
        "rectify=False, print_change_log=False", "amsgrad=True, print_change_log=False",
        "degenerated_to_sgd=False, print_change_log=False",
    ),
    "StableAdamW": (
        "lr=0.01", "lr=0.01, betas=(0.8, 0.9)", "lr=0.01, weight_decay=0.1",
        "lr=0.01, eps=1e-3, foreach=False", "lr=0.01, decouple_lr=True, max_lr=0.02",
        "lr=0.01, kahan_sum=False, triton=False, gradient_release=False",
    ),
}  # fmt: skip
