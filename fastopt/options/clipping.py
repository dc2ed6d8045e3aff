"""Clipping of the gradients: by element, by array, by unit, and all of them as one vector."""

from dataclasses import dataclass, field
from math import inf, sqrt
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fastopt.arrays.rows import Rows
from fastopt.checks import hyperparameter, number
from fastopt.engine.plain import all_finite, are_finite
from fastopt.engine.rules import Rule
from fastopt.kernels.norms import clip_grad, clip_statistics
from fastopt.options.base import NEUTRAL_SCALARS, GradientPass, Option
from fastopt.options.norms import GradientNorm, room_for_sums, rounded, sum_of_squares

if TYPE_CHECKING:
    from fastopt.step import Step

__all__ = ["CLIP", "Bounds", "ClipNorm", "ClippingFields", "GradientCopies"]

# The dtypes that gradients are computed in.
NATIVE = (np.dtype(np.float32), np.dtype(np.float64))

# Clipping of copies, with one state.
CLIP = Rule(clip_grad, clip_statistics, 6, n_statistics=room_for_sums, is_reading=True)


def check_norm_type(name: str, value: Any) -> float:
    """Return the order of a norm; raise TypeError or ValueError if it is none that there is."""
    if isinstance(value, str) or value != inf:
        value = number(name, value)
    if value not in (1, 2, inf):
        raise ValueError(f"{name} must be 1, 2 or math.inf, not {value:g}")
    return float(value)


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
        Largest magnitude of an element, greater than 0 (Keras's ``clipvalue``).
    clip_norm_each : float, optional
        Largest norm of the gradient of one array, greater than 0 (Keras's ``clipnorm``). A larger one is
        scaled by clip_norm_each / (norm + 10⁻⁶).
    clip_rms : float, optional
        Largest root mean square of the elements of one array, greater than 0. A larger one is scaled
        down to it (optax's ``clip_by_block_rms``). With clip_norm_each both factors are computed, then
        applied at once.
    clip_adaptive : float, optional
        Largest ratio of gradient norm to parameter norm, greater than 0. Each output unit has norms of
        its own (Brock et al. 2021, arXiv:2102.06171; optax's ``adaptive_grad_clip``). A unit is a vector, a
        column of a matrix, or, of an array with four dimensions, all elements with the same last index.
    clip_adaptive_eps : float, default 0.001
        What the norm of a unit's parameters counts as at least for clip_adaptive, at least 0, so that a unit
        of zeros can be learned (optax's ``eps``).
    clip_norm : float, optional
        Largest norm of all gradients as one vector, greater than 0. If the norm is larger, all
        gradients are scaled by clip_norm / (norm + 10⁻⁶) (PyTorch's ``clip_grad_norm_``, the book's
        ``clip_grads``, Keras's ``global_clipnorm``). Frozen arrays don't count. The norm is bitwise identical
        for any number of threads; ``grad_norm`` shows it when the step was taken.
    clip_norm_type : {1, 2, inf}, default 2
        Which norm clip_norm bounds: the sum of the magnitudes, the root of the sum of the squares, or, with
        ``math.inf``, the largest magnitude (PyTorch's ``norm_type``).
    """

    clip_value: float | None = hyperparameter(None, above=0, repr=False)
    clip_norm_each: float | None = hyperparameter(None, above=0, repr=False)
    clip_rms: float | None = hyperparameter(None, above=0, repr=False)
    clip_adaptive: float | None = hyperparameter(None, above=0, repr=False)
    clip_adaptive_eps: float = hyperparameter(1e-3, repr=False, of="clip_adaptive")
    clip_norm: float | None = hyperparameter(None, above=0, repr=False)
    clip_norm_type: float = field(
        default=2.0, repr=False, metadata={"check": check_norm_type, "of": "clip_norm"}
    )


class Bounds(NamedTuple):
    """The bounds of clipping to copies: the fields without ``clip_``."""

    value: float | None
    norm_each: float | None
    rms: float | None
    adaptive: float | None
    adaptive_eps: float


CLIP_NAMES = [f"clip_{name}" for name in Bounds._fields]
CLIPPING = frozenset(CLIP_NAMES)


class GradientCopies(Option):
    """Clipping that the kernels' scalars can't express: it is done to copies of the gradients.

    Parameters
    ----------
    bounds : Bounds
        The bounds, at least one of which there is. Those of a step by schedules take their place.
    """

    def __init__(self, bounds: Bounds) -> None:
        self.bounds = bounds
        self.copies = GradientPass(CLIP)

    def before(self, step: "Step") -> bool:
        """Put clipped copies in the place of the gradients."""
        bounds = self.bounds
        if not CLIPPING.isdisjoint(step.scheduled):
            bounds = Bounds(*map(step.scheduled.get, CLIP_NAMES, bounds))  # type: ignore[arg-type]
        scalars = NEUTRAL_SCALARS + tuple(inf if bound is None else bound for bound in bounds[:3])
        if bounds.adaptive is not None or not self.copies.replace(step, scalars):
            self._clip_one_by_one(step, bounds)
        return True

    def _clip_one_by_one(self, step: "Step", bounds: Bounds) -> None:
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
                clip(values, param, bounds)
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
        The largest norm, where a step has no other by a schedule.
    order : {1.0, 2.0, inf}
        Which norm.
    """

    def __init__(self, bound: float, order: float) -> None:
        self.bound = bound
        self.norm = GradientNorm(order)

    def before(self, step: "Step") -> bool:
        """Scale the gradients."""
        if step.grad_norm is None:
            step.grad_norm = self.norm.of(step)
        step.grad_scale *= rate(step.scheduled.get("clip_norm", self.bound), step.grad_norm)
        return True

    def after(self, step: "Step") -> None:
        """Show the norm."""
        step.show("grad_norm", step.grad_norm)


def rate(bound: float, norm: float) -> float:
    """Return the factor that brings a norm down to a bound, as the book has it; 1 for NaN."""
    factor = bound / (norm + 1e-6)
    return factor if factor < 1 else 1.0


def clip(grad: np.ndarray, param: np.ndarray, bounds: Bounds) -> None:
    """Clip the gradient of one array, in C order, in place: by element, its norm, the norms of its units."""
    value = bounds.value
    if value is not None:
        np.minimum(np.maximum(grad, -value, out=grad), value, out=grad)  # `np.clip` takes twice as long
    if bounds.norm_each is not None or bounds.rms is not None:
        # Of row-sparse gradients the others are 0.
        grad *= grad.dtype.type(array_factor(sqrt(sum_of_squares([grad])), np.size(param), bounds))
    if bounds.adaptive is not None:
        param = np.asarray(param, grad.dtype)
        axes = unit_axes(param.shape)
        param_norms = norms_along(axes, np.ascontiguousarray(param).reshape(param.shape))
        most = bounds.adaptive * np.maximum(param_norms, bounds.adaptive_eps)
        norms = norms_along(axes, grad)
        np.multiply(grad, most / np.maximum(norms, 1e-6), out=grad, where=norms > most)


def array_factor(norm: float, size: int, bounds: Bounds) -> float:
    """Return the factor of a gradient with a norm and a size: that of its norm, times that of its RMS."""
    factor = 1.0 if bounds.norm_each is None else rate(bounds.norm_each, norm)
    rms = factor * norm / sqrt(size) if size else 0.0
    return factor * (bounds.rms / rms) if bounds.rms is not None and rms > bounds.rms else factor


def unit_axes(shape: tuple[int, ...]) -> tuple[int, ...] | None:
    """Return the axes over which one output unit's norm is taken, or None for all axes."""
    if sum(n != 1 for n in shape) <= 1:  # all that belongs to a vector belongs to one unit
        return None
    return (0,) if len(shape) < 4 else tuple(range(len(shape) - 1))


def norms_along(axes: tuple[int, ...] | None, array: np.ndarray) -> np.ndarray:
    """Return the norms along axes, in a shape that broadcasts to the array's."""
    norms: np.ndarray = np.sqrt(np.sum(np.square(array), axis=axes, keepdims=True))
    return norms
