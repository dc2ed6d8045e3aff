"""`Rows`: the gradient of a table of which only some rows were used."""

from collections.abc import Hashable
from math import prod
from typing import Any

import numpy as np

from fastopt.arrays.containers import is_masked
from fastopt.checks import kind
from fastopt.kernels.sums import add_rows

__all__ = ["Rows"]


class Rows:
    """The gradient of an array of which only some rows have one: an embedding's.

    It stands in ``grads`` for the array that ``np.add.at(zeros, indices, values)`` makes of zeros. Only these
    rows, and their state, are read and written; ``rows`` of the optimizer says what that means.

    Parameters
    ----------
    indices : array of int
        Which rows (what comes first in the parameter's shape), in any shape, from 0. A row may be there more
        than once: the sum counts, taken in the order given, in the parameter's dtype.
    values : array
        For each index the gradient of its row: of shape ``indices.shape + parameter.shape[1:]``.

    Examples
    --------
    >>> import fastopt, numpy as np
    >>> params = {"embed": np.ones((4, 2))}
    >>> fastopt.SGD(lr=1).update(params, {"embed": fastopt.Rows([3, 0, 3], np.full((3, 2), 0.25))})
    True
    >>> params["embed"][:, 0].tolist()
    [0.75, 1.0, 1.0, 0.5]
    """

    def __init__(self, indices: Any, values: Any) -> None:
        self.indices = np.asarray(indices)
        self.values = np.asanyarray(values)

    def __repr__(self) -> str:
        return f"Rows({self.indices!r}, {self.values!r})"

    def coalesce(self, key: Hashable, shape: tuple[int, ...], dtype: np.dtype[Any]) -> "Rows":
        """Return an equivalent gradient in which each row occurs once.

        Raises
        ------
        TypeError, ValueError
            If it can't be the gradient of a parameter of this key, shape and dtype.
        """
        name, indices, values = f"the gradient of {key!r}", self.indices, self.values
        if not shape:
            raise ValueError(f"{name} is of rows, but its parameter is a number: it must be one, too")
        if indices.dtype.kind not in "iu" and indices.size:
            raise TypeError(f"{name} has indices of {indices.dtype}: they must be whole numbers")
        if is_masked(values):
            raise TypeError(f"{name} has {kind(values)} of values: pass its data, or a filled copy")
        if values.dtype.kind not in "fiu":
            raise TypeError(f"{name} has values of {values.dtype}: they must be real numbers")
        if values.shape != indices.shape + shape[1:]:
            raise ValueError(
                f"{name} has values of shape {values.shape}; for indices of shape {indices.shape} and a "
                f"parameter of shape {shape} it must be {indices.shape + shape[1:]}"
            )
        flat = indices.astype(np.intp).reshape(-1)
        low, high = (flat.min(), flat.max()) if flat.size else (0, 0)
        if low < 0 or high >= max(shape[0], 1):
            odd = low if low < 0 else high
            raise ValueError(f"{name} has index {odd}: it must be from 0 to {shape[0] - 1}")
        width = prod(shape[1:])
        with np.errstate(all="ignore"):
            rounded = np.ascontiguousarray(values, dtype).reshape(flat.size, width)
        rows, sums = np.empty_like(flat), np.empty_like(rounded)
        # So many zeros cost nothing: the system has them ready, and only those that are used are touched.
        count = add_rows.in_numpy(flat, rounded, np.zeros(shape[0], np.intp), rows, sums)
        return Rows(rows[:count], sums[:count].reshape(count, *shape[1:]))

    def dense(self, shape: tuple[int, ...]) -> np.ndarray:
        """Give the whole gradient of a parameter, once the rows are summed."""
        result = np.zeros(shape, self.values.dtype)
        result[self.indices] = self.values
        return result
