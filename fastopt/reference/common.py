"""What all rules share."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

__all__ = ["copies", "full", "pairs", "put", "triples", "zeros"]


def pairs(params: Any, grads: Any) -> Iterator[tuple[Any, np.ndarray]]:
    """Yield each key or index with its gradient, rounded to the dtype that the step computes in."""
    for key in params if isinstance(params, Mapping) else range(len(params)):
        yield key, np.asarray(grads[key], compute_dtype(params[key]))


def compute_dtype(param: Any) -> np.dtype[Any]:
    """float32 for float16 and float32, float64 for float64."""
    return np.promote_types(np.asarray(param).dtype, np.float32)


def triples(params: Any, grads: Any) -> Iterator[tuple[Any, np.ndarray, np.ndarray]]:
    """Yield each key or index with its parameter and gradient in the dtype that the step computes in."""
    for key, g in pairs(params, grads):
        yield key, np.asarray(params[key], g.dtype), g


def put(params: Any, key: Any, value: np.ndarray) -> None:
    """Give a parameter a new value: in its array, or, if it is a number, in its container."""
    if isinstance(params[key], np.ndarray):
        params[key][...] = value
    else:
        params[key] = type(params[key])(value)


def zeros(params: Any) -> Any:
    """Give a dict or list of zeros like the parameters."""
    return full(params, 0)


def full(params: Any, value: float) -> Any:
    """Give a dict or list of arrays like the parameters, filled with a value."""
    if isinstance(params, Mapping):
        return {key: np.full(np.shape(p), value, compute_dtype(p)) for key, p in params.items()}
    return [np.full(np.shape(p), value, compute_dtype(p)) for p in params]


def copies(values: Any, params: Any) -> Any:
    """Give a dict or list of copies, in the dtypes that the parameters are computed in."""
    if isinstance(params, Mapping):
        return {key: np.array(values[key], compute_dtype(p)) for key, p in params.items()}
    return [np.array(v, compute_dtype(p)) for v, p in zip(values, params, strict=True)]
