"""Trying something out on parameters, which are then as they were before."""

import io
from collections import deque
from collections.abc import Callable, MutableMapping, MutableSequence
from functools import partial
from operator import call, setitem
from typing import Any

import numpy as np

from fastopt.arrays.containers import ASSIGNMENTS, keys_and_values

__all__ = ["Restoration", "assign"]


def assign(params: Any, new: Any) -> None:
    """Copy new values, by the same keys, into parameters; numbers are replaced in their container."""
    keys, values = keys_and_values(params)
    for key, value in zip(keys, values, strict=True):
        if isinstance(value, np.ndarray):
            value[...] = new[key]
        else:
            params[key] = type(value)(new[key])


def restore_calls(params: Any) -> list[Callable[[], Any]]:
    """Return the C calls that put the present values back; those that are Python code come last."""
    keys, values = keys_and_values(params)
    is_assignable = isinstance(params, MutableMapping | MutableSequence)
    is_direct = getattr(type(params), "__setitem__", None) in ASSIGNMENTS
    calls: list[Callable[[], Any]] = []
    for key, value in zip(keys, values, strict=True):
        if isinstance(value, np.ndarray):
            calls.append(partial(np.ndarray.__setitem__, value, ..., value.copy()))
        if is_direct:  # the array may have been replaced by another
            calls.append(partial(setitem, params, key, value))
    return calls if is_direct or not is_assignable else [*calls, partial(put_back, params, keys, values)]


def put_back(params: Any, keys: Any, values: list[Any]) -> None:
    """Put values that have been replaced back into a container."""
    for key, value in zip(keys, values, strict=True):
        if params[key] is not value:
            params[key] = value


class Restoration(io.IOBase):
    """A context after which parameters, and what an optimizer knows, are as before, whatever happens in it.

    Parameters
    ----------
    params : dict or list
        The parameters.
    optimizer : Optimizer, optional
        Works on copies of its state within the block.
    values : callable, optional
        Returns what takes the place of the parameters within the block, in a container like theirs.

    Notes
    -----
    Ctrl-C may come at any moment. An ``__exit__`` in Python could be interrupted before its first line, and
    ``contextlib.contextmanager`` adds such a one. That of an `io.IOBase` is C code that calls ``close``, here
    the C calls that put everything back. They are made once, as they are taken from an iterator. Python code
    runs only where it is the container's ``__setitem__``: an interrupt in it leaves the rest of its numbers.
    """

    def __init__(
        self, params: Any, optimizer: Any = None, *, values: Callable[[], Any] | None = None
    ) -> None:
        self.params, self.optimizer, self.values = params, optimizer, values

    def __enter__(self) -> None:  # type: ignore[override]
        values = None if self.values is None else self.values()
        calls = [] if self.optimizer is None else self.optimizer.return_calls()
        close: Callable[[], Any] = partial(deque, map(call, [*calls, *restore_calls(self.params)]), 0)
        try:
            vars(self)["close"] = close
            if self.optimizer is not None:
                self.optimizer.begin_trial()
            if values is not None:
                assign(self.params, values)
        except BaseException:
            self.close()
            raise
