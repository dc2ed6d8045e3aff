"""Clipping of the gradients: by element, by array, by unit, and all of them as one vector."""

from collections.abc import Iterable
from dataclasses import dataclass
from math import inf, sqrt
from typing import TYPE_CHECKING, Any

import numpy as np

from fastopt.arrays.containers import check_grad, compute_dtype
from fastopt.arrays.rows import Rows
from fastopt.checks import hyperparameter
from fastopt.engine.plain import all_finite, are_finite
from fastopt.engine.rules import Rule
from fastopt.kernels.common import LANES
from fastopt.kernels.norms import clip_grad, clip_statistics, grad_squares, no_update, squares
from fastopt.options.base import NEUTRAL_SCALARS, GradientPass, KernelPass, Option

if TYPE_CHECKING:
    from fastopt.step import Step

__all__ = ["CLIP", "NORM", "ClipNorm", "ClippingFields", "GradientCopies", "sum_of_squares"]


def room_for_squares(shape: tuple[int, ...]) -> int:
    """Return the number of statistics of an array: one, and room to compute it."""
    return 1 + LANES


# The dtypes that gradients are computed in.
NATIVE = (np.dtype(np.float32), np.dtype(np.float64))

# Clipping of copies, with one state, and the norm.
CLIP = Rule(clip_grad, clip_statistics, 5, n_statistics=room_for_squares, is_reading=True)
NORM = Rule(no_update, grad_squares, 3, n_totals=1, n_statistics=room_for_squares, is_reading=True)


@dataclass(init=False, repr=False, eq=False, kw_only=True)
class ClippingFields:
    """The fields of these options.

    The gradients are rounded to their parameter's dtype, then clipped in the order below; the caller's
    arrays aren't written. Sums are taken in C order, in float64 for all norms but those of
    ``clip_adaptive``, so that a gradient has the same bits in every memory layout. A non-finite gradient is
    found before it is clipped.

    Parameters
    ----------
    clip_value : float, optional
        Largest magnitude of an element, greater than 0.
    clip_norm_each : float, optional
        Largest norm of the gradient of one array, greater than 0. A larger one is scaled by
        clip_norm_each / (norm + 10⁻⁶).
    clip_adaptive : float, optional
        Largest ratio of the gradient's norm to the parameter's for one output unit, greater than 0 (Brock
        et al. 2021, arXiv:2102.06171; optax's ``adaptive_grad_clip``). A unit is a vector, a column of a
        matrix, or, of an array with four dimensions, all elements with the same last index. The norm of a
        parameter counts as at least 0.001.
    clip_norm : float, optional
        Largest norm of the gradients of all arrays as one vector, greater than 0. If the norm is larger, all
        gradients are scaled by clip_norm / (norm + 10⁻⁶) (PyTorch's ``clip_grad_norm_``, the book's
        ``clip_grads``). Frozen arrays don't count. The norm is bitwise identical for any number of threads;
        ``grad_norm`` shows it when the step was taken.
    """

    clip_value: float | None = hyperparameter(None, above=0, repr=False)
    clip_norm_each: float | None = hyperparameter(None, above=0, repr=False)
    clip_adaptive: float | None = hyperparameter(None, above=0, repr=False)
    clip_norm: float | None = hyperparameter(None, above=0, repr=False)


class GradientCopies(Option):
    """Clipping that the kernels' scalars can't express: it is done to copies of the gradients.

    Parameters
    ----------
    value, each, adaptive : float, optional
        The bounds of ``clip_value``, ``clip_norm_each`` and ``clip_adaptive``.
    """

    def __init__(self, value: float | None, each: float | None, adaptive: float | None) -> None:
        self.bounds = value, each, adaptive
        bounds = inf if value is None else value, inf if each is None else each
        self.scalars = NEUTRAL_SCALARS + bounds
        self.copies = GradientPass(CLIP)

    def before(self, step: "Step") -> bool:
        """Put clipped copies in the place of the gradients."""
        if self.bounds[2] is not None or not self.copies.replace(step, self.scalars):
            self._clip_one_by_one(step)
        return True

    def _clip_one_by_one(self, step: "Step") -> None:
        """Clip copies of the gradients in NumPy."""
        step.split()
        keys, params, grads, _ = step.arrays
        with np.errstate(all="ignore"):
            copies = [copied(*item) for item in zip(keys, params, grads, strict=True)]
            arrays = [copy.values if isinstance(copy, Rows) else copy for copy in copies]
            if not are_finite([values.reshape(-1) for values in arrays]):
                for key, values in zip(keys, arrays, strict=True):
                    if not all_finite(values):
                        step.note_nonfinite(key)
            for param, values in zip(params, arrays, strict=True):
                clip(values, param, *self.bounds)
        step.replace_grads(copies)


def copied(key: Any, param: Any, grad: Any) -> Any:
    """Return a copy of a gradient in the dtype in which its parameter is updated, in C order."""
    is_alike = type(grad) is type(param) is np.ndarray and grad.shape == param.shape
    if is_alike and grad.dtype == param.dtype and grad.dtype in NATIVE:  # no further look is needed
        return grad.copy("C")
    copy = np.array(rounded(key, param, grad), order="C")
    return Rows(grad.indices, copy) if isinstance(grad, Rows) else copy


class ClipNorm(Option):
    """All gradients scaled down to a norm, by the scale that the kernels take.

    Parameters
    ----------
    bound : float
        The largest norm.
    """

    def __init__(self, bound: float) -> None:
        self.bound = bound
        self.norm = KernelPass(NORM)

    def before(self, step: "Step") -> bool:
        """Scale the gradients."""
        if step.grad_norm is None:
            step.grad_norm = sqrt(self._sum_of_squares(step))
        step.grad_scale *= rate(self.bound, step.grad_norm)
        return True

    def _sum_of_squares(self, step: "Step") -> float:
        """Return the sum of squares of all gradients but the frozen ones."""
        if self.norm.run(step, NEUTRAL_SCALARS, grouping=step.grouping) is not None:
            plan = self.norm.engine.plan
            assert plan is not None
            return float(plan.main.totals[0])
        with np.errstate(all="ignore"):
            return sum_of_squares(
                rounded(key, param, grad)
                for key, param, grad in zip(*step.by_array(), strict=True)
                if step.grouping is None or not step.grouping.is_frozen(key)
            )

    def after(self, step: "Step") -> None:
        """Show the norm."""
        step.show("grad_norm", step.grad_norm)


def rounded(key: Any, param: Any, grad: Any) -> np.ndarray:
    """Return a gradient in the dtype in which its parameter is updated, aligned."""
    if isinstance(grad, Rows):
        return grad.values
    shape, dtype = compute_dtype(key, param)
    check_grad(key, grad, shape)
    return np.require(grad, dtype, "A")


def rate(bound: float, norm: float) -> float:
    """Return the factor that brings a norm down to a bound, as the book has it; 1 for NaN."""
    factor = bound / (norm + 1e-6)
    return factor if factor < 1 else 1.0


def clip(
    grad: np.ndarray, param: np.ndarray, value: float | None, each: float | None, adaptive: float | None
) -> None:
    """Clip the gradient of one array, in C order, in place: by element, its norm, the norms of its units."""
    if value is not None:
        np.minimum(np.maximum(grad, -value, out=grad), value, out=grad)  # `np.clip` takes twice as long
    if each is not None:
        grad *= grad.dtype.type(rate(each, sqrt(sum_of_squares([grad]))))
    if adaptive is not None:
        param = np.asarray(param, grad.dtype)
        axes = unit_axes(param.shape)
        most = adaptive * np.maximum(
            norms_along(axes, np.ascontiguousarray(param).reshape(param.shape)), 1e-3
        )
        norms = norms_along(axes, grad)
        np.multiply(grad, most / np.maximum(norms, 1e-6), out=grad, where=norms > most)


def unit_axes(shape: tuple[int, ...]) -> tuple[int, ...] | None:
    """Return the axes over which one output unit's norm is taken, or None for all axes."""
    if sum(n != 1 for n in shape) <= 1:  # all that belongs to a vector belongs to one unit
        return None
    return (0,) if len(shape) < 4 else tuple(range(len(shape) - 1))


def norms_along(axes: tuple[int, ...] | None, array: np.ndarray) -> np.ndarray:
    """Return the norms along axes, in a shape that broadcasts to the array's."""
    norms: np.ndarray = np.sqrt(np.sum(np.square(array), axis=axes, keepdims=True))
    return norms


def sum_of_squares(grads: Iterable[np.ndarray]) -> float:
    """Return the sum of squares of float32 and float64 arrays, whatever their layout in the order "C"."""
    total: float = sum((squares.in_numpy(grad.reshape(-1)) for grad in grads), 0.0)
    return total
