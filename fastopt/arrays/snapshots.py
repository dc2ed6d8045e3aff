"""Trying something out on parameters, which are then as they were before."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from fastopt.plan import align

__all__ = ["assign", "restored"]


def assign(params: Any, new: Any) -> None:
    """Copy new values, by the same keys, into parameters; numbers are replaced in their container."""
    keys, values, _ = align(params, params)
    for key, value in zip(keys, values, strict=True):
        if isinstance(value, np.ndarray):
            value[...] = new[key]
        else:
            params[key] = type(value)(new[key])


@contextmanager
def restored(params: Any, optimizer: Any = None) -> Iterator[None]:
    """Put parameters, and what an optimizer knows, back at the end, whatever happens until then."""
    keys, values, _ = align(params, params)
    copies = [value.copy() if isinstance(value, np.ndarray) else value for value in values]
    state = optimizer.state_dict() if optimizer is not None else None
    try:
        yield
    finally:
        for key, value, copy in zip(keys, values, copies, strict=True):
            if isinstance(value, np.ndarray):
                value[...] = copy
            if params[key] is not value:
                params[key] = value
        if state is not None:
            optimizer.load_state_dict(state)
