"""What is around a step: options beside the plain step, and gradients of rows beside whole ones."""

import numpy as np

import fastopt
from fastopt.schedules import Cosine

OPTIONS = {
    "plain": {},
    "lr schedule": {"lr": Cosine(1e-4, 1_000)},
    "weight_decay": {"weight_decay": 0.01},
    "clip_norm": {"clip_norm": 1.0},
    "clip_value": {"clip_value": 1.0},
    "accumulate": {"accumulate": 4},
    "record": {},
    "ema": {"ema": 0.999},
    "lookahead": {"lookahead": (6, 0.5)},
    "cautious": {"cautious": True},
    "groups": {"groups": {"1": {"lr_scale": 2.0}}},
}


class Around:
    """A warm step (or micro-batch, on average) over two arrays that make up the size."""

    params = (list(OPTIONS), [1_000, 1_000_000, 30_000_000])
    param_names = ("option", "size")

    def setup(self, option, size):
        rng = np.random.default_rng(0)
        self.params = {str(i): rng.standard_normal(size // 2, np.float32) for i in range(2)}
        self.grads = {key: rng.standard_normal(p.size, np.float32) for key, p in self.params.items()}
        self.optimizer = fastopt.Adam(**{"lr": 1e-4, **OPTIONS[option]})
        if option == "record":
            self.optimizer.record(every=10)
        for _ in range(3):
            self.optimizer.update(self.params, self.grads)

    def time_step(self, option, size):
        self.optimizer.update(self.params, self.grads)


class Word2vec:
    """The step of volume 2's chapter 4: two tables of 10,000 × 100, of which a batch touches some rows."""

    params = (["SGD", "AdaGrad", "Adam"], ["whole", "rows"])
    param_names = ("rule", "gradient")

    def setup(self, rule, gradient):
        rng = np.random.default_rng(0)
        self.params = [rng.standard_normal((10_000, 100), np.float32) for _ in range(2)]
        # A batch of 100: ten words of context each, and a target with five wrong ones; words as rare as rank.
        often = 1 / np.arange(1, 10_001)
        touched = [rng.choice(10_000, (100, n), p=often / often.sum()) for n in (10, 6)]
        rows = [fastopt.Rows(i, rng.standard_normal((*i.shape, 100), np.float32)) for i in touched]
        whole = [np.zeros((10_000, 100), np.float32) for _ in rows]
        for table, some in zip(whole, rows, strict=True):
            np.add.at(table, some.indices, some.values)
        self.grads = rows if gradient == "rows" else whole
        self.optimizer = getattr(fastopt, rule)(rows="lazy")
        for _ in range(3):
            self.optimizer.update(self.params, self.grads)

    def time_step(self, rule, gradient):
        self.optimizer.update(self.params, self.grads)
