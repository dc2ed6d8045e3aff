"""`update` on arrays of other dtypes and layouts, and on rebound ones, beside plain NumPy.

``python -m benchmarks.layouts`` prints the ratios of one run: both candidates in turn, medians of blocks.
"""

from typing import Any

import numpy as np

import fastopt
from fastopt import reference

from .timing import in_turn

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


class Layouts:
    """One `update`."""

    params = (list(cases()), ["SGD", "Momentum", "Adam"], ["NumPy", "fastopt"])
    param_names = ("case", "rule", "by")

    def setup(self, case: str, rule: str, by: str) -> None:
        self.params, self.grads = cases()[case]
        self.optimizer: Any = getattr(reference if by == "NumPy" else fastopt, rule)(1e-9)
        self.spare = [self.params["0"].copy()] if case == "one array rebound" else []
        for _ in range(3):
            self.time_update()

    def time_update(self, *_: str) -> None:
        """Update the parameters; rebind an array before, where the program does."""
        if self.spare:
            self.params["0"], self.spare[0] = self.spare[0], self.params["0"]
        self.optimizer.update(self.params, self.grads)


def main() -> None:
    """Print for each program and rule the times of both, and how many times faster fastopt is."""
    for case in Layouts.params[0]:
        for rule in Layouts.params[1]:
            sides = [Layouts(), Layouts()]
            for side, by in zip(sides, Layouts.params[2], strict=True):
                side.setup(case, rule, by)
            plain, ours = in_turn([side.time_update for side in sides], 3 if "Net" in case else 200, 25)
            print(f"{case:28} {rule:9} {plain:9.1f} µs → {ours:7.1f} µs  {plain / ours:5.2f}×")


if __name__ == "__main__":
    main()
