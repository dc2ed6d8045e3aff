"""`update` on what programs hand over, beside plain NumPy: other dtypes, other layouts, rebound arrays.

``python -m benchmarks.programs`` prints the ratios of one run: both candidates in turn, medians of blocks.
"""

from collections.abc import Callable, Sequence
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np

import fastopt
from fastopt import reference

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


def programs() -> dict[str, tuple[dict[str, np.ndarray], dict[str, np.ndarray]]]:
    """Return parameters and gradients of each program."""
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


class Program:
    """One `update`."""

    params = (list(programs()), ["SGD", "Momentum", "Adam"], ["NumPy", "fastopt"])
    param_names = ("program", "rule", "by")

    def setup(self, program: str, rule: str, by: str) -> None:
        self.params, self.grads = programs()[program]
        self.optimizer: Any = getattr(reference if by == "NumPy" else fastopt, rule)(1e-9)
        self.spare = [self.params["0"].copy()] if program == "one array rebound" else []
        for _ in range(3):
            self.time_update()

    def time_update(self, *_: str) -> None:
        """Update the parameters; rebind an array before, where the program does."""
        if self.spare:
            self.params["0"], self.spare[0] = self.spare[0], self.params["0"]
        self.optimizer.update(self.params, self.grads)


def in_turn(calls: Sequence[Callable[[], Any]], n: int, n_blocks: int) -> list[float]:
    """Return the time of each call in µs: medians of blocks of n calls, taken in turn."""
    times: list[list[float]] = [[] for _ in calls]
    for _ in range(n_blocks):
        for call, seconds in zip(calls, times, strict=True):
            start = perf_counter()
            for _ in range(n):
                call()
            seconds.append((perf_counter() - start) / n * 1e6)
    return [*map(median, times)]


def main() -> None:
    """Print for each program and rule the times of both, and how many times faster fastopt is."""
    for program in Program.params[0]:
        for rule in Program.params[1]:
            sides = [Program(), Program()]
            for side, by in zip(sides, Program.params[2], strict=True):
                side.setup(program, rule, by)
            plain, ours = in_turn([side.time_update for side in sides], 3 if "Net" in program else 200, 25)
            print(f"{program:28} {rule:9} {plain:9.1f} µs → {ours:7.1f} µs  {plain / ours:5.2f}×")


if __name__ == "__main__":
    main()
