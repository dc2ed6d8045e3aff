"""The time of a step: each rule, plain NumPy (`fastopt.reference`), fastopt, and fastopt packed."""

import numpy as np

import fastopt
from fastopt import optimizers, reference
from fastopt.tools import benchmarking

RULES = optimizers.RULES
IMPLEMENTATIONS = {"numpy": reference, "fastopt": fastopt, "packed": fastopt}
DTYPES = ["float32", "float64"]


def taken(rule, shapes):
    """Give the arrays that a rule takes; if there are none, have asv leave the benchmark out."""
    try:
        return benchmarking.taken(rule, shapes)
    except ValueError as error:
        raise NotImplementedError from error


class Step:
    """A warm step; the first, which compiles, is taken in the set-up."""

    params = (RULES, list(IMPLEMENTATIONS), DTYPES)
    param_names = ("rule", "implementation", "dtype")
    shapes = ()

    def setup(self, rule, implementation, dtype, size=None):
        shapes = self.shapes if size is None else [(size,)]
        shapes = taken(rule, shapes)
        rng = np.random.default_rng(0)
        self.params = {str(i): rng.standard_normal(shape).astype(dtype) for i, shape in enumerate(shapes)}
        self.grads = {key: rng.standard_normal(p.shape).astype(dtype) for key, p in self.params.items()}
        if implementation == "packed":
            self.params, self.grads = fastopt.pack(self.params), fastopt.pack(self.grads)
        self.optimizer = getattr(IMPLEMENTATIONS[implementation], rule)(1e-4)
        for _ in range(3):
            self.optimizer.update(self.params, self.grads)


class OneArray(Step):
    """One array, from what fits in the first cache to what fits in none."""

    params = (*Step.params, [1_000, 30_000, 1_000_000, 30_000_000])
    param_names = (*Step.param_names, "size")

    def time_step(self, rule, implementation, dtype, size):
        self.optimizer.update(self.params, self.grads)

    def peakmem_step(self, rule, implementation, dtype, size):
        self.optimizer.update(self.params, self.grads)


class SmallNetwork(Step):
    """2-10-3, 63 parameters in four arrays."""

    shapes = ((2, 10), (10,), (10, 3), (3,))

    def time_step(self, rule, implementation, dtype):
        self.optimizer.update(self.params, self.grads)


class BookNetwork(Step):
    """The book's 784-100-100-100-100-10, as ten separate arrays of 109,810 parameters in all."""

    shapes = benchmarking.NETWORK

    def time_step(self, rule, implementation, dtype):
        self.optimizer.update(self.params, self.grads)


class HundredArrays(Step):
    """A hundred small arrays, of 20 by 20 and of 20."""

    shapes = ((20, 20), (20,)) * 50

    def time_step(self, rule, implementation, dtype):
        self.optimizer.update(self.params, self.grads)


class Limit:
    """Percent of the limit: the time of the memory traffic alone, over that of the step."""

    params = (RULES, DTYPES, [1_000_000, 30_000_000])
    param_names = ("rule", "dtype", "size")
    unit = "percent"
    timeout = 300

    def setup(self, rule, dtype, size):
        taken(rule, [(size,)])

    def track_percent(self, rule, dtype, size):
        (timing,) = benchmarking.bench([[(size,)]], [rule], [dtype], blocks=5)
        return 100 * timing.bandwidth_fraction
