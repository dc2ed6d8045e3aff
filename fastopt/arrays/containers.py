"""Containers of parameters and gradients: their keys and arrays, and what each array must be."""

import sys
from collections import OrderedDict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from fastopt.checks import kind
from fastopt.words import array_hint

__all__ = [
    "ASSIGNMENTS",
    "Keys",
    "check_grad",
    "check_param",
    "compute_dtype",
    "in_list",
    "is_masked",
    "is_sequence",
    "items",
    "keys_and_values",
    "match_grads",
]

Keys = Sequence[Hashable]

# How containers are assigned to without any Python code.
ASSIGNMENTS = (dict.__setitem__, list.__setitem__, OrderedDict.__setitem__)

# The dtype in which a parameter is updated, which is the dtype of its state.
COMPUTE_DTYPES = {np.dtype(np.float16): np.dtype(np.float32)} | {
    np.dtype(t): np.dtype(t) for t in (np.float32, np.float64)
}


def match_grads(params: Any, grads: Any) -> tuple[Keys, list[Any], list[Any]]:
    """Return the keys, parameters and gradients as three lists in the order of the parameters.

    Keys of a list are its indices.

    Raises
    ------
    KeyError
        If a gradient is missing.
    TypeError
        If params and grads aren't both mappings or both sequences.
    ValueError
        If two sequences differ in length.
    """
    if isinstance(params, (dict, Mapping)):
        if not isinstance(grads, (dict, Mapping)):
            raise TypeError(f"grads must be a dict like params, with its keys, not {kind(grads)}")
        keys = list(params)
        try:
            gradients = [grads[key] for key in keys]
        except KeyError as error:
            missing = next((key for key in keys if key not in grads), error)
            hint = renaming(list(params), list(grads))
            raise KeyError(f"no gradient for parameter {missing!r} in {list(grads)}{hint}") from None
        return keys, [params[key] for key in keys], gradients
    if not is_sequence(params):
        raise TypeError(
            f"params must be a dict or list of arrays, not {kind(params)}{as_list('params', params)}"
        )
    if not is_sequence(grads):
        raise TypeError(f"grads must be a list like params, not {kind(grads)}{as_list('grads', grads)}")
    values, gradients = list(params), list(grads)
    if len(values) != len(gradients):
        raise ValueError(f"{len(values)} parameters need as many gradients, not {len(gradients)}")
    return range(len(values)), values, gradients


def as_list(name: str, values: Any) -> str:
    """Return how what is no container becomes one."""
    if isinstance(values, np.ndarray):
        return f": write [{name}]"
    is_iterable = isinstance(values, Iterable) and not isinstance(values, str | bytes | Mapping)
    return f": write list({name})" if is_iterable else ""


def renaming(keys: list[Hashable], found: list[Hashable]) -> str:
    """Return what to write if gradients have the names of their parameters with something around them."""
    pairs = [(keys, found, True), (found, keys, False)]
    for names, longer, is_in_order in pairs:
        for name in names:
            for other in longer:
                if isinstance(name, str) and isinstance(other, str) and name != other and name in other:
                    if not is_in_order:
                        return "; are they swapped? write update(params, grads)"
                    pattern = other.replace(name, "{}", 1)
                    if all(pattern.format(key) in longer for key in names):
                        return f": write fastopt.gradients_of(grads, {pattern!r})"
    return ""


def keys_and_values(params: Any) -> tuple[Keys, list[Any]]:
    """Return the keys or indices of a container and its values as two lists."""
    keys, values, _ = match_grads(params, params)
    return keys, values


def is_sequence(container: Any) -> bool:
    """Whether a container is a sequence of arrays."""
    return type(container) is list or (
        isinstance(container, Sequence) and not isinstance(container, str | bytes)
    )


def is_masked(array: Any) -> bool:
    """Whether an array is a masked one, without importing `numpy.ma`, which takes 10 ms or more."""
    return isinstance(array, getattr(sys.modules.get("numpy.ma"), "MaskedArray", ()))


def compute_dtype(key: Hashable, param: Any) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Return the shape of a parameter and the dtype in which it is updated.

    Raises
    ------
    TypeError
        If it can't be a parameter.
    """
    dtype = None
    if is_masked(param):
        raise TypeError(f"parameter {key!r} is a masked array: pass its data, or a filled copy")
    if isinstance(param, np.ndarray):
        dtype = param.dtype
    elif isinstance(param, float | np.floating):
        dtype = np.asarray(param).dtype
    elif isinstance(param, int | np.integer) and not isinstance(param, bool):
        raise TypeError(f"parameter {key!r} is the integer {param}: make it {float(param)}")
    if dtype is None:
        hint = array_hint(param)
        raise TypeError(
            f"parameter {key!r} is {full_kind(param)}: it must be a NumPy array or a float"
            f"{hint and '; '}{hint}"
        )
    compute = COMPUTE_DTYPES.get(dtype.newbyteorder("="))
    if compute is None:
        hint = (
            f"; keep it as floats: params[{key!r}] = params[{key!r}].astype(float)"
            if dtype.kind in "iu"
            else ""
        )
        raise TypeError(f"parameter {key!r} is {dtype}: it must be float32 or float64{hint}")
    return np.shape(param), compute


def check_param(key: Hashable, param: Any, is_assignable: bool) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Return the shape of a parameter and the dtype of its state.

    Raises
    ------
    TypeError, ValueError
        If it can't be updated in place, nor be replaced in its container.
    """
    shape, dtype = compute_dtype(key, param)
    if isinstance(param, np.ndarray):
        if not param.flags.writeable:
            raise ValueError(
                f"parameter {key!r} is read-only, but is updated in place: keep a copy instead, "
                f"params[{key!r}] = params[{key!r}].copy()"
            )
    elif not is_assignable:
        raise TypeError(
            f"parameter {key!r} is a number in a container that can't be assigned to: "
            "make it a 0-d array, or use a dict or a list"
        )
    return shape, dtype


def check_grad(key: Hashable, grad: Any, shape: tuple[int, ...]) -> None:
    """Raise TypeError or ValueError if a gradient isn't an array of real numbers of the parameter's shape."""
    if is_masked(grad):
        raise TypeError(f"the gradient of {key!r} is a masked array: pass its data, or a filled copy")
    if not isinstance(grad, np.ndarray | np.number | float | int) or isinstance(grad, bool):
        hint = array_hint(grad)
        raise TypeError(
            f"the gradient of {key!r} is {full_kind(grad)}: it must be a NumPy array of numbers"
            f"{hint and '; '}{hint}"
        )
    array = np.asarray(grad)
    if array.dtype.kind not in "fiu":
        raise TypeError(f"the gradient of {key!r} is {array.dtype}: it must be real numbers")
    if array.shape != shape:
        raise ValueError(
            f"the gradient of {key!r} has shape {array.shape}, its parameter {shape}"
            f"{leading_axes(array.shape, shape)}"
        )


def leading_axes(grad: tuple[int, ...], param: tuple[int, ...]) -> str:
    """Return what to write if shapes differ by axes of length one in front only."""
    n = len(param) - len(grad)
    if n > 0 and param == (1,) * n + grad:
        return ": sum with keepdims=True"
    if n < 0 and grad == (1,) * -n + param:
        return ": sum without keepdims=True"
    return ""


def full_kind(value: Any) -> str:
    """Name a value's type with its article, and its module if that isn't Python's."""
    module = type(value).__module__.partition(".")[0]
    if value is None or module in ("builtins", "fastopt", "__main__"):
        return kind(value)
    return f"a {module}.{type(value).__name__}"


def items(container: Any) -> list[tuple[Hashable, Any]]:
    """Return the keys or indices of a dict or list, with the values that are there."""
    pairs = container.items() if isinstance(container, Mapping) else enumerate(container)
    return [(key, value) for key, value in pairs if value is not None]


def in_list(values: Mapping[Any, Any]) -> list[Any]:
    """Return the list with these values at their indices, and None where there is none: `items` undone."""
    return [values.get(index) for index in range(max(values, default=-1) + 1)]
