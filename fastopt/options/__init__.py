"""What every optimizer can be told besides its rule's hyperparameters: one module an option.

``help("fastopt.options.clipping")`` documents the arguments of clipping, and so on:

- `decay`: weight_decay, decoupled, decay_max_lr, decay_params, maximize;
- `groups`: other hyperparameters for some parameters, frozen ones;
- `clipping`: clip_value, clip_norm_each, clip_rms, clip_adaptive, clip_norm;
- `cautious`; `skipping`: skip_norm; `nonfinite`; `denormals`;
- `averages`: lookahead, ema, swa;
- `accumulation`: accumulate; `sparse`: rows; `quantization`: state_dtype.

Examples
--------
>>> params, grads = {"W": np.ones(2), "b": np.ones(2)}, {"W": np.array([3.0, 4.0]), "b": np.zeros(2)}
>>> optimizer = fastopt.SGD(lr=1, clip_norm=1, weight_decay=0.1, decay_params="matrices", ema=0.9)
>>> optimizer.update(params, grads)
True
>>> optimizer.grad_norm, params["W"].round(3), optimizer.average(params)["b"]
(5.0, array([0.4, 0.2]), array([1., 1.]))
"""
