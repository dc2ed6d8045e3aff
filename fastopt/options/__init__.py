"""What every optimizer can be told besides its rule's hyperparameters: one module an option.

``help("fastopt.options.clipping")`` documents the arguments of clipping, and so on:

- `decay`: weight_decay, decoupled, decay_max_lr, decay_params, maximize;
- `groups`: other hyperparameters for some parameters, frozen ones;
- `clipping`: clip_value, clip_norm_each, clip_rms, clip_adaptive, clip_norm;
- `cautious`; `skipping`: skip_norm; `nonfinite`; `denormals`;
- `averages`: lookahead, ema, swa;
- `accumulation`: accumulate; `sparse`: rows; `quantization`: state_dtype.
"""
