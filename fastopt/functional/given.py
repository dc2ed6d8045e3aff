"""The arrays that a function is given, and what each of them must be."""

from itertools import chain
from typing import Any

import numpy as np

from fastopt.arrays.containers import check_param
from fastopt.arrays.layout import Layout, Slot, order_of
from fastopt.checks import kind
from fastopt.engine.overlap import overlapping_with_states
from fastopt.engine.plan import Arrays

__all__ = ["arrays_of", "check_apart", "check_state", "is_contiguous", "label", "layout_of", "listed"]


def label(name: str, i: int, param: Any) -> str:
    """Return what an array is called."""
    return f"{name}[{i}]" if isinstance(param, list) else name


def listed(name: str, arrays: Any, param: Any) -> list[Any]:
    """Return one array, or a list of as many as there are parameters, as a list."""
    if not isinstance(param, list):
        return [arrays]
    if not isinstance(arrays, list) or len(arrays) != len(param):
        got = f"{len(arrays)}" if isinstance(arrays, list) else kind(arrays)
        raise TypeError(f"{name} must be a list of {len(param)} arrays, as param is, not {got}")
    return arrays


def arrays_of(param: Any, grad: Any) -> Arrays:
    """Return parameters and gradients with the names that errors have for them."""
    params, grads = listed("param", param, param), listed("grad", grad, param)
    keys = [label("param", i, param) for i in range(len(params))]
    return Arrays(keys, params, grads, dict(zip(keys, params, strict=True)))


def layout_of(arrays: Arrays, is_whole: bool) -> Layout:
    """Return the layout of the states of parameters, which are checked.

    ``is_whole`` says that the rule needs whole arrays, and so these in C order.
    """
    layout = Layout()
    for key, param in zip(arrays.keys, arrays.params, strict=True):
        shape, dtype = check_param(key, param, False)
        layout.place(key, shape, dtype, "C" if is_whole else order_of(param))
    return layout


def check_state(name: str, state: Any, shape: tuple[int, ...]) -> None:
    """Raise TypeError or ValueError if a state isn't an array that can be written to."""
    if not isinstance(state, np.ndarray) or state.dtype.kind != "f":
        found = f"of {state.dtype}" if isinstance(state, np.ndarray) else kind(state)
        raise TypeError(f"{name} must be an array of floats, not {found}")
    if state.shape != shape:
        raise ValueError(f"{name} must have shape {shape}, not {state.shape}")
    if not state.flags.writeable:
        raise ValueError(f"{name} is read-only: it is updated in place, so pass a copy")


def check_apart(arrays: Arrays, states: dict[str, list[Any]]) -> None:
    """Raise ValueError if a state shares memory with a parameter, a gradient or another state."""
    found = overlapping_with_states(arrays.params, arrays.grads, [*chain(*states.values())])
    beyond = [i - len(arrays.params) for i in found if i >= len(arrays.params)]
    if beyond:
        name = [*states][beyond[0] // len(arrays.params)]
        raise ValueError(f"{name} shares memory with another array: pass a copy")


def is_contiguous(state: Any, slot: Slot) -> bool:
    """Whether compiled code can update a state where it is."""
    flags = state.flags
    is_ordered = flags.c_contiguous if slot.order == "C" else flags.f_contiguous
    return type(state) is np.ndarray and state.dtype == slot.dtype and is_ordered and flags.aligned
