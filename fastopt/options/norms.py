"""Norms of the gradients of all arrays as one vector."""

from collections.abc import Iterable
from math import inf, sqrt
from typing import TYPE_CHECKING, Any

import numpy as np

from fastopt.arrays.containers import check_grad, compute_dtype
from fastopt.arrays.rows import Rows
from fastopt.engine.rules import Rule
from fastopt.kernels.common import LANES
from fastopt.kernels.norms import grad_magnitudes, grad_squares, magnitudes, no_update, squares
from fastopt.options.base import NEUTRAL_SCALARS, KernelPass

if TYPE_CHECKING:
    from fastopt.step import Step

__all__ = ["NORMS", "GradientNorm", "norm_from", "room_for_sums", "rounded", "sum_of_squares", "sum_of_terms"]


def room_for_sums(shape: tuple[int, ...]) -> int:
    """Return the number of statistics of an array: one, and room to compute it."""
    return 1 + LANES


# The sums that norms are computed from, by the norms' order. (For a maximum NumPy needs no memory.)
NORMS = {
    order: Rule(no_update, kernel, 3, n_totals=1, n_statistics=room_for_sums, is_reading=True)
    for order, kernel in ((1.0, grad_magnitudes), (2.0, grad_squares))
}


class GradientNorm:
    """The norm of all gradients of a step but the frozen ones.

    Parameters
    ----------
    order : {1.0, 2.0, inf}
        The sum of the magnitudes, the root of the sum of the squares, or the largest magnitude.
    """

    def __init__(self, order: float = 2.0) -> None:
        self.order = order
        self.sums = KernelPass(NORMS[order]) if order in NORMS else None

    def of(self, step: "Step") -> float:
        """Return the norm."""
        if self.sums is not None and self.sums.run(step, NEUTRAL_SCALARS, grouping=step.grouping) is not None:
            plan = self.sums.engine.plan
            assert plan is not None
            return norm_from(float(plan.main.totals[0]), self.order)
        with np.errstate(all="ignore"):
            grads = (
                rounded(key, param, grad)
                for key, param, grad in zip(*step.by_array(), strict=True)
                if step.grouping is None or not step.grouping.is_frozen(key)
            )
            return norm_from(sum_of_terms(grads, self.order), self.order)


def rounded(key: Any, param: Any, grad: Any) -> np.ndarray:
    """Return a gradient in the dtype in which its parameter is updated, aligned."""
    if isinstance(grad, Rows):
        return grad.values
    shape, dtype = compute_dtype(key, param)
    check_grad(key, grad, shape)
    return np.require(grad, dtype, "A")


def sum_of_terms(grads: Iterable[np.ndarray], order: float) -> float:
    """Return what a norm of float32 and float64 arrays is computed from, in the order "C"."""
    if order == inf:
        # The largest is NaN if one is. (Of no elements it is 0.)
        return float(np.max([0.0, *(max(grad.max(), -grad.min()) for grad in grads if grad.size)]))
    kernel = magnitudes if order == 1 else squares
    total: float = sum((kernel.in_numpy(grad.reshape(-1)) for grad in grads), 0.0)
    return total


def sum_of_squares(grads: Iterable[np.ndarray]) -> float:
    """Return the sum of squares of float32 and float64 arrays, whatever their layout in the order "C"."""
    return sum_of_terms(grads, 2.0)


def norm_from(total: float, order: float) -> float:
    """Return the norm, given the sum of all terms."""
    return sqrt(total) if order == 2 else total
