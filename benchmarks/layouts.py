"""`update` on arrays of other dtypes and layouts, and on rebound ones, beside plain NumPy.

``python -m benchmarks.layouts`` prints the ratios of one run: both candidates in turn, medians of blocks.
"""

from typing import Any

import numpy as np

import fastopt
from fastopt import reference

from .timing import Step, print_ratios, read, timed

CONVOLUTIONS = [(16, 1, 3, 3), (16, 16, 3, 3), (32, 16, 3, 3), (32, 32, 3, 3), (64, 32, 3, 3), (64, 64, 3, 3)]
DENSE = [(64, 50), (50,), (50, 10), (10,)]


def arrays(
    shapes: list[tuple[int, ...]], dtype: str = "float64", scale: float = 1.0
) -> dict[str, np.ndarray]:
    """Return a dict of random arrays."""
    rng = np.random.default_rng(0)
    return {str(i): (rng.standard_normal(shape) * scale).astype(dtype) for i, shape in enumerate(shapes)}


def convolution_gradient(grad: np.ndarray) -> np.ndarray:
    """Return a gradient as the book's convolution has it: a transposed product of matrices, reshaped."""
    if grad.ndim != 4:
        return grad
    columns = np.ascontiguousarray(grad.reshape(len(grad), -1).T)
    return columns.T.reshape(grad.shape)


def cases() -> dict[str, tuple[dict[str, np.ndarray], dict[str, np.ndarray]]]:
    """Return parameters and gradients of each case."""
    simple = [(30, 1, 5, 5), (30,), (4320, 100), (100,), (100, 10), (10,)]
    deep = [shape for conv in CONVOLUTIONS for shape in (conv, conv[:1])] + [
        (1024, 50),
        (50,),
        (50, 10),
        (10,),
    ]
    result = {}
    for name, shapes in (("SimpleConvNet", simple), ("DeepConvNet", deep)):
        grads = {key: convolution_gradient(grad) for key, grad in arrays(shapes, scale=0.01).items()}
        result[name] = arrays(shapes), grads
    result["float32, gradients float64"] = arrays(DENSE, "float32"), arrays(DENSE, scale=0.01)
    fortran = {key: np.asfortranarray(param) for key, param in arrays(DENSE).items()}
    result["Fortran parameters"] = fortran, arrays(DENSE, scale=0.01)
    transposed = {key: np.ascontiguousarray(grad.T).T for key, grad in arrays(DENSE, scale=0.01).items()}
    result["transposed gradients"] = arrays(DENSE), transposed
    result["one array rebound"] = arrays(DENSE), arrays(DENSE, scale=0.01)
    return result


def make(case: str, rule: str, by: str) -> Step:
    """Return `update`, after an array was rebound where the program does."""
    params, grads = cases()[case]
    optimizer: Any = getattr(reference if by == "NumPy" else fastopt, rule)(1e-9)
    if case != "one array rebound":
        return lambda: optimizer.update(params, grads)
    spare = [params["0"].copy()]

    def step() -> None:
        params["0"], spare[0] = spare[0], params["0"]
        optimizer.update(params, grads)

    return step


class Layouts:
    """One `update`."""

    params = ([*cases()], ["SGD", "Momentum", "Adam"], ["NumPy", "fastopt"])
    param_names = ("case", "rule", "by")

    def setup_cache(self):
        return timed(make, self.params)

    setup_cache.timeout = 600

    def track_step(self, times, *case):
        return read(times, *case)

    track_step.unit = "µs"


if __name__ == "__main__":
    print_ratios(make, Layouts.params)
