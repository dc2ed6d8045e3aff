"""The time of a step: plain NumPy (`fastopt.reference`), fastopt, and fastopt packed, in turn.

``python -m benchmarks.step`` prints it. It runs on every commit since the first, so it asks no more of
fastopt than these have.
"""

import tracemalloc
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

import fastopt
from fastopt import reference

from .timing import IS_ALL, Step, print_ratios, read, timed, warmed

WIDTHS = (784, 100, 100, 100, 100, 10)
# The number of parameters, and of arrays.
NETWORKS: dict[str, Sequence[tuple[int, ...]]] = {
    "63 in 4": [(2, 10), (10,), (10, 3), (3,)],
    "109,810 in 10": [shape for n, m in pairwise(WIDTHS) for shape in ((n, m), (m,))],  # the book's
    "21,000 in 100": [(20, 20), (20,)] * 50,
    "1,000,000 in 1": [(1_000_000,)],
}
RULES, DTYPES = ["SGD", "Momentum", "AdaGrad", "Adam"], ["float64", "float32"]
if IS_ALL:
    from fastopt import optimizers

    RULES = [*optimizers.RULES]
    NETWORKS["30,000,000 in 1"] = [(30_000_000,)]
BY = ["numpy", "fastopt", "packed"]


def make(rule: str, dtype: str, network: str, by: str) -> Step:
    """Return a step."""
    rng = np.random.default_rng(0)
    params, grads = (
        {str(i): rng.standard_normal(shape).astype(dtype) for i, shape in enumerate(NETWORKS[network])}
        for _ in range(2)
    )
    module: Any = reference if by == "numpy" else fastopt
    if by == "packed":
        if not hasattr(fastopt, "pack"):
            raise NotImplementedError
        params, grads = fastopt.pack(params), fastopt.pack(grads)
    optimizer = getattr(module, rule)(1e-4)
    try:
        optimizer.update(params, grads)
    except ValueError:  # Muon takes no vectors
        raise NotImplementedError from None
    return lambda: optimizer.update(params, grads)


class StepTime:
    """A warm step."""

    params = (RULES, DTYPES, [*NETWORKS], BY)
    param_names = ("rule", "dtype", "parameters in arrays", "by")

    def setup_cache(self):
        return timed(make, self.params)

    setup_cache.timeout = 7_200

    def track_step(self, times, *case):
        return read(times, *case)

    track_step.unit = "µs"


class StepMemory:
    """Bytes for each parameter that a warm step takes and gives back, beside its own arrays."""

    params = (["SGD", "Adam"], ["numpy", "fastopt"])
    param_names = ("rule", "by")

    def track_bytes(self, rule, by):
        step = warmed(lambda: make(rule, "float64", "109,810 in 10", by))
        tracemalloc.start()
        try:
            step()
            return tracemalloc.get_traced_memory()[1] / 109_810
        finally:
            tracemalloc.stop()

    track_bytes.unit = "bytes"


class Limit:
    """Percent of the limit: the time of the memory's traffic alone, over that of the step, both packed."""

    params = (["SGD", "Adam"] if not IS_ALL else RULES, ["float32"] if not IS_ALL else DTYPES, [10_000_000])
    param_names = ("rule", "dtype", "size")
    unit = "percent"
    timeout = 300

    def track_percent(self, rule, dtype, size):
        try:
            (timing,) = fastopt.bench([[(size,)]], [rule], [dtype], blocks=5)
        except ValueError as error:
            raise NotImplementedError from error
        return 100 * timing.bandwidth_fraction


if __name__ == "__main__":
    print_ratios(make, StepTime.params)
