"""What all rules share."""

from collections.abc import Callable, Iterator, Mapping
from math import sqrt
from typing import Any

import numpy as np

__all__ = [
    "UNSET",
    "column_totals",
    "copies",
    "cube_root",
    "double",
    "full",
    "norm",
    "one",
    "pairs",
    "put",
    "row_totals",
    "total",
    "triples",
    "zeros",
]  # fmt: skip

LANES = 64

# What a state is until the first step.
UNSET: Any = None


def pairs(params: Any, grads: Any) -> Iterator[tuple[Any, np.ndarray]]:
    """Yield each key or index with its gradient, rounded to the dtype that the step computes in."""
    for key in params if isinstance(params, Mapping) else range(len(params)):
        yield key, np.asarray(grads[key], compute_dtype(params[key]))


def compute_dtype(param: Any) -> np.dtype[Any]:
    """Return float32 for float16 and float32, float64 for float64."""
    return np.promote_types(np.asarray(param).dtype, np.float32)


def triples(params: Any, grads: Any) -> Iterator[tuple[Any, np.ndarray, np.ndarray]]:
    """Yield each key or index with its parameter and gradient in the dtype that the step computes in."""
    for key, g in pairs(params, grads):
        yield key, np.asarray(params[key], g.dtype), g


def put(params: Any, key: Any, value: np.ndarray) -> None:
    """Set a parameter to a new value: in its array, or, if it is a number, in its container."""
    if isinstance(params[key], np.ndarray):
        params[key][...] = value
    else:
        params[key] = type(params[key])(value)


def zeros(params: Any, shape: Callable[[Any], tuple[int, ...]] = np.shape) -> Any:
    """Return a dict or list of zeros like the parameters, or of the shapes that a function returns."""
    return full(params, 0, shape)


def full(params: Any, value: float, shape: Callable[[Any], tuple[int, ...]] = np.shape) -> Any:
    """Return a dict or list of arrays like the parameters, filled with a value."""
    if isinstance(params, Mapping):
        return {key: np.full(shape(p), value, compute_dtype(p)) for key, p in params.items()}
    return [np.full(shape(p), value, compute_dtype(p)) for p in params]


def one(param: Any) -> tuple[int, ...]:
    """Return the shape of a single number that has as many dimensions as the parameter."""
    return (1,) * np.ndim(param)


def copies(values: Any, params: Any) -> Any:
    """Return a dict or list of copies, in the dtypes that the parameters are computed in."""
    if isinstance(params, Mapping):
        return {key: np.array(values[key], compute_dtype(p)) for key, p in params.items()}
    return [np.array(v, compute_dtype(p)) for v, p in zip(values, params, strict=True)]


def double(x: Any) -> np.ndarray:
    """Return an array in float64, in which all sums over arrays are taken."""
    return np.asarray(x, np.float64, order="C")


def total(x: np.ndarray) -> float:
    """Return the sum of an array, in the order of `row_totals` as if it were one row."""
    return row_totals(x.reshape(1, -1)).item()


def row_totals(x: np.ndarray) -> np.ndarray:
    """Return the sums over the last axis, which then has length 1.

    Lane i of 64 takes the elements i, i + 64, i + 128, … one after the other; then the second half of
    the lanes is added to the first, and so on. This is easy to vectorize, and the same on every machine.
    """
    *rows, length = x.shape
    blocks = -(-length // LANES)
    padded = np.zeros((*rows, blocks * LANES))
    padded[..., :length] = double(x)
    # NumPy adds one after the other along an axis that isn't the innermost.
    lanes = np.add.reduce(padded.reshape(*rows, blocks, LANES), axis=-2, initial=0.0)
    while lanes.shape[-1] > 1:
        half = lanes.shape[-1] // 2
        lanes = lanes[..., :half] + lanes[..., half:]
    return lanes


def column_totals(x: np.ndarray) -> np.ndarray:
    """Return the sums over the last axis but one, which then has length 1: the rows one after the other."""
    return np.add.accumulate(double(x), axis=-2)[..., -1:, :]


def norm(x: np.ndarray) -> float:
    """Return the square root of the sum of squares."""
    return sqrt(total(np.square(double(x))))


def cube_root(x: np.ndarray) -> np.ndarray:
    """Return the cube root of numbers from 0, off by less than an ulp, from roots, products and quotients.

    So it has the same bits everywhere, which powers and `numpy.cbrt` have not. x^(1/3) is the limit of
    y ← x^(1/4)·y^(1/4), whose error in the exponent falls to a quarter; then come steps of Halley's
    iteration.
    """
    with np.errstate(all="ignore"):
        quarter = np.sqrt(np.sqrt(x))
        y = quarter
        for _ in range(4):
            y = quarter * np.sqrt(np.sqrt(y))
        for _ in range(3):
            ratio = x / (y * y)
            y = y + y * (ratio - y) / (y + y + ratio)
        return np.where((x > 0) & (x < np.inf), y, x)
