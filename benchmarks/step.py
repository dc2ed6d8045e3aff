"""The time of a step: each rule, plain NumPy (`fastopt.reference`) and fastopt."""

import numpy as np

import fastopt
from fastopt import reference

RULES = ("SGD", "Momentum", "Nesterov", "AdaGrad", "RMSprop", "Adam")
IMPLEMENTATIONS = {"numpy": reference, "fastopt": fastopt}
DTYPES = ["float32", "float64"]


class Step:
    """A warm step; the first, which compiles, is taken in the set-up."""

    def start(self, rule, implementation, dtype, shapes):
        rng = np.random.default_rng(0)
        self.params = {str(i): rng.standard_normal(shape).astype(dtype) for i, shape in enumerate(shapes)}
        self.grads = {key: rng.standard_normal(p.shape).astype(dtype) for key, p in self.params.items()}
        self.optimizer = getattr(IMPLEMENTATIONS[implementation], rule)(1e-4)
        for _ in range(3):
            self.optimizer.update(self.params, self.grads)


class OneArray(Step):
    """One array, from what fits in the first cache to what fits in none."""

    params = (RULES, list(IMPLEMENTATIONS), DTYPES, [1_000, 30_000, 1_000_000, 10_000_000])
    param_names = ("rule", "implementation", "dtype", "size")

    def setup(self, rule, implementation, dtype, size):
        self.start(rule, implementation, dtype, [size])

    def time_step(self, rule, implementation, dtype, size):
        self.optimizer.update(self.params, self.grads)


class BookNetwork(Step):
    """The book's 784-100-100-100-100-10, as ten separate arrays of 109,810 parameters in all."""

    params = (RULES, list(IMPLEMENTATIONS), DTYPES)
    param_names = ("rule", "implementation", "dtype")

    def setup(self, rule, implementation, dtype):
        shapes = [(784, 100), (100,), *[(100, 100), (100,)] * 3, (100, 10), (10,)]
        self.start(rule, implementation, dtype, shapes)

    def time_step(self, rule, implementation, dtype):
        self.optimizer.update(self.params, self.grads)
