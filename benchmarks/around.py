"""What the options around a step cost: Adam in float32, each option beside the plain step."""

import numpy as np

import fastopt
from fastopt.schedules import Cosine

OPTIONS = {
    "plain": {},
    "lr schedule": {"lr": Cosine(1e-4, 1_000)},
    "weight_decay": {"weight_decay": 0.01},
    "clip_norm": {"clip_norm": 1.0},
    "clip_value": {"clip_value": 1.0},
    "ema": {"ema": 0.999},
    "lookahead": {"lookahead": (6, 0.5)},
    "groups": {"groups": {"1": {"lr_scale": 2.0}}},
}


class Around:
    """A warm step over two arrays that make up the size."""

    params = (list(OPTIONS), [1_000, 1_000_000, 30_000_000])
    param_names = ("option", "size")

    def setup(self, option, size):
        rng = np.random.default_rng(0)
        self.params = {str(i): rng.standard_normal(size // 2, np.float32) for i in range(2)}
        self.grads = {key: rng.standard_normal(p.size, np.float32) for key, p in self.params.items()}
        self.optimizer = fastopt.Adam(**{"lr": 1e-4, **OPTIONS[option]})
        for _ in range(3):
            self.optimizer.update(self.params, self.grads)

    def time_step(self, option, size):
        self.optimizer.update(self.params, self.grads)
