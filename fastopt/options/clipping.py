"""Clipping of the gradients: by element, by array, by unit, and all of them as one vector."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from typing import TYPE_CHECKING, Any

import numpy as np

from fastopt.arrays.containers import check_grad, compute_dtype
from fastopt.arrays.rows import Rows
from fastopt.checks import hyperparameter
from fastopt.engine.interpreted import all_finite
from fastopt.engine.threads import allowed, launch
from fastopt.kernels.norms import BLOCK, squares, squares_parallel
from fastopt.options.base import Option

if TYPE_CHECKING:
    from fastopt.step import Step

__all__ = ["ClipNorm", "ClippingFields", "GradientCopies", "clip", "sum_of_squares"]

# What `squares` takes as it is. (Looked up in a set, as NumPy compares a dtype with a class slowly.)
SUMMABLE = frozenset((np.dtype(np.float32), np.dtype(np.float64)))


@dataclass(eq=False, kw_only=True)
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
        self.packed: Any = None
        self.copies: dict[Any, np.ndarray] = {}

    def before(self, step: "Step") -> bool:
        """Put clipped copies in the place of the gradients."""
        keys, params, grads = step.by_array()
        if step.is_packed:
            if self.packed is None or self.packed.layout is not step.arrays.keys:
                self.packed = step.arrays.container.like()
            copies: list[Any] = list(self.packed.values() if isinstance(self.packed, dict) else self.packed)
        else:
            copies = [self._copy(*item) for item in zip(keys, params, grads, strict=True)]
        with np.errstate(all="ignore"):
            for key, param, grad, copy in zip(keys, params, grads, copies, strict=True):
                values = copy
                if isinstance(copy, Rows):
                    values = copy.values
                else:
                    values[...] = grad
                if not all_finite(values):
                    step.note_nonfinite(key)
                clip(values, np.asarray(param, values.dtype), *self.bounds)
        step.replace_grads(self.packed.flats if step.is_packed else copies)
        return True

    def _copy(self, key: Any, param: Any, grad: Any) -> Any:
        """Return an array for the clipped gradient."""
        shape, dtype = compute_dtype(key, param)
        if isinstance(grad, Rows):
            return Rows(grad.indices, grad.values.copy())
        check_grad(key, grad, shape)
        copy = self.copies.get(key)
        if copy is None or (copy.shape, copy.dtype) != (shape, dtype):
            copy = self.copies[key] = np.empty(shape, dtype=dtype)
        return copy


class ClipNorm(Option):
    """All gradients scaled down to a norm, by the scale that the kernels take.

    Parameters
    ----------
    bound : float
        The largest norm.
    threads : int, optional
        Number of threads.
    """

    def __init__(self, bound: float, threads: int | None) -> None:
        self.bound, self.threads = bound, threads
        self.norm = 0.0

    def before(self, step: "Step") -> bool:
        """Scale the gradients."""
        if step.grad_norm is None:
            arrays = [
                rounded(key, param, grad)
                for key, param, grad in zip(*step.by_array(), strict=True)
                if step.grouping is None or not step.grouping.is_frozen(key)
            ]
            with np.errstate(all="ignore"):
                step.grad_norm = sqrt(sum_of_squares(arrays, self.threads))
        step.grad_scale *= rate(self.bound, step.grad_norm)
        return True

    def after(self, step: "Step") -> None:
        """Show the norm."""
        step.show("grad_norm", step.grad_norm)


def rounded(key: Any, param: Any, grad: Any) -> np.ndarray:
    """Return a gradient in the dtype in which its parameter is updated, aligned."""
    if isinstance(grad, Rows):
        return grad.values
    is_rounded = type(grad) is np.ndarray and type(param) is np.ndarray and grad.dtype is param.dtype
    if is_rounded and grad.dtype in SUMMABLE and grad.flags.aligned:
        return grad
    shape, dtype = compute_dtype(key, param)
    check_grad(key, grad, shape)
    with np.errstate(all="ignore"):
        return np.require(grad, dtype, "A")


def rate(bound: float, norm: float) -> float:
    """Return the factor that brings a norm down to a bound, as the book has it; 1 for NaN."""
    factor = bound / (norm + 1e-6)
    return factor if factor < 1 else 1.0


@np.errstate(all="ignore")
def clip(
    grad: np.ndarray, param: np.ndarray, value: float | None, each: float | None, adaptive: float | None
) -> None:
    """Clip the gradient of one array in place: by element, by its norm, by the norms of its units."""
    own = np.ascontiguousarray(grad).reshape(grad.shape)
    if value is not None:
        np.clip(own, -value, value, out=own)
    if each is not None:
        own *= own.dtype.type(rate(each, sqrt(sum_of_squares([own]))))
    if adaptive is not None:
        axes = unit_axes(param.shape)
        most = adaptive * np.maximum(
            norms_along(axes, np.ascontiguousarray(param).reshape(param.shape)), 1e-3
        )
        norms = norms_along(axes, own)
        np.multiply(own, most / np.maximum(norms, 1e-6), out=own, where=norms > most)
    if own is not grad:
        grad[...] = own


def unit_axes(shape: tuple[int, ...]) -> tuple[int, ...] | None:
    """Return the axes over which one output unit's norm is taken, or None for all axes."""
    if sum(n != 1 for n in shape) <= 1:  # all that belongs to a vector belongs to one unit
        return None
    return (0,) if len(shape) < 4 else tuple(range(len(shape) - 1))


def norms_along(axes: tuple[int, ...] | None, array: np.ndarray) -> np.ndarray:
    """Return the norms along axes, in a shape that broadcasts to the array's."""
    norms: np.ndarray = np.sqrt(np.sum(np.square(array), axis=axes, keepdims=True))
    return norms


def sum_of_squares(grads: Sequence[np.ndarray], threads: int | None = None) -> float:
    """Return the sum of squares of float32 and float64 arrays, whatever their layout in the order "C"."""
    flats = [grad.reshape(-1) for grad in grads]
    total, many = 0.0, allowed(threads, sum(map(len, flats)))
    for flat in flats:
        if many == 1 or flat.size <= BLOCK:
            total += squares(flat)
        else:
            with launch:
                total += squares_parallel(flat, many)
    return total
