"""Steps for matrices, from products of matrices."""

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import KW_ONLY, dataclass, field
from functools import partial
from math import inf, prod
from operator import setitem
from typing import Any, ClassVar

import numpy as np

from fastopt import kernels
from fastopt.checks import choice, listed, number
from fastopt.engine.segment import Calls, Segment
from fastopt.kernels.common import LANES
from fastopt.optimizer import Optimizer, State, hyperparameter, whole
from fastopt.optimizers.common import Shape, bias_corrected
from fastopt.optimizers.turning import TurnedStep

__all__ = ["SOAP", "AdaMuon", "Muon"]

# The coefficients of Newton-Schulz's quintic: a·x + b·x³ + c·x⁵ for each singular value x.
QUINTIC = (3.4445, -4.7750, 2.0315)
# The root mean square of AdamW's updates, as Liu et al. 2025 found it.
RMS_OF_ADAMW = 0.2


def coefficients(default: tuple[float, float, float]) -> Any:
    """Return the field of a rule for the coefficients of a quintic, or those of several."""

    def three(name: str, values: Any) -> tuple[float, ...]:
        result = tuple(number(name, value, least=-inf) for value in listed(name, values))
        if len(result) != 3:
            raise ValueError(f"{name} must have three numbers for an iteration, not {len(result)}")
        return result

    def check(name: str, value: Any) -> tuple[Any, ...]:
        values = listed(name, value)
        if not any(isinstance(own, Iterable) for own in values):
            return three(name, values)
        return tuple(three(name, own) for own in values)

    return field(default=default, repr=False, metadata={"check": check})


class Orthogonalizing:
    """What the rules share whose direction, the first of the work arrays, is made orthogonal."""

    ns_steps: int
    ns_coefficients: tuple[Any, ...]
    n_work: ClassVar[int] = 1
    default_decoupled: ClassVar[bool | None] = True
    ungrouped: ClassVar[tuple[str, ...]] = ("ns_steps", "ns_coefficients")

    def check_supported(self, keys: Sequence[Hashable], params: Sequence[Any]) -> None:
        """Raise ValueError if a parameter isn't a matrix."""
        others = [key for key, param in zip(keys, params, strict=True) if np.ndim(param) != 2]
        if others:
            name = type(self).__name__
            raise ValueError(
                f"{name} takes matrices; name the rule of the others, "
                f'Partition({{lambda key, param: param.ndim == 2: {name}(), "*": AdamW()}}): {others}'
            )

    def n_statistics(self, shape: tuple[int, ...]) -> int:
        """Return the number of elements of the room for a norm."""
        return LANES

    def intermediate_calls(self, segment: Segment) -> Calls:
        """Return the products of Newton-Schulz's iterations."""
        calls: Calls = []
        given = self.ns_coefficients
        iterations = given if isinstance(given[0], tuple) else (given,) * self.ns_steps
        for i, (entry, (u_flat, *_)) in enumerate(zip(segment.entries, segment.work, strict=True)):
            if entry.is_frozen:
                continue
            u = u_flat.reshape(entry.slot.shape)
            wide = u if u.shape[0] <= u.shape[1] else u.T
            if i not in segment.scratch:
                gram, square = np.empty((2, len(wide), len(wide)), dtype=u.dtype)
                x = u if wide is u else np.empty(wide.shape, dtype=u.dtype)
                segment.scratch[i] = x, gram, square, np.empty(wide.shape, dtype=u.dtype)
            x, gram, square, product = segment.scratch[i]
            if wide is not u:
                calls.append(partial(setitem, x, ..., wide))
            for a, b, c in iterations if u.size else ():
                calls += (
                    partial(np.matmul, x, x.T, gram),
                    partial(np.matmul, gram, gram, square),
                    partial(np.multiply, square, c, square),
                    partial(np.multiply, gram, b, gram),
                    partial(np.add, gram, square, square),
                    partial(np.matmul, square, x, product),
                    partial(np.multiply, x, a, x),
                    partial(np.add, x, product, x),
                )
            if wide is not u:
                calls.append(partial(setitem, wide, ..., x))
        return calls


@dataclass(eq=False)
class Muon(Orthogonalizing, Optimizer):
    """Momentum made orthogonal: steps in which all directions of a matrix count the same.

    m ← m + (1 − μ)(g − m); u ← g + μ·(m − g); o is u / max(‖u‖, eps) after ns_steps iterations
    x ← a·x + (b·x·xᵀ + c·(x·xᵀ)²)·x, which bring its singular values near to 1;
    p ← (1 − lr·weight_decay)·p − lr·scale·o, where scale = √max(1, rows / columns), or as adjust_lr says

    Take it when a network has large weight matrices: for those of hidden layers, with `AdamW` for all else in
    a `Partition`.

    It is PyTorch's, which computes the iterations in bfloat16 whatever the dtype; here they are in the
    parameter's.

    Parameters
    ----------
    lr : float, default 0.001
        Learning rate, at least 0.
    momentum : float, default 0.95
        μ, from 0 to 1.
    weight_decay : float, default 0.1
        Decoupled: p shrinks by lr·weight_decay of itself, whatever the gradient.
    ns_steps : int, default 5
        Newton-Schulz iterations.
    nesterov : bool, default True
        Whether u looks ahead; else it is m.
    ns_coefficients : tuple of float, default (3.4445, -4.775, 2.0315)
        a, b and c of the iteration; or one such tuple for each iteration, and ns_steps counts for nothing.
        optax's ``ns_coeffs``, whose preset "dion" has to be written out.
    adjust_lr : {"original", "match_rms_adamw", "fan_out/fan_in", "none"}, default "original"
        The scale: √max(1, rows / columns); 0.2·√max(rows, columns), with which updates are as large as those
        of `AdamW`, so that its lr and weight_decay fit; √max(1, columns / rows), which is that of "original"
        for matrices of shape (inputs, outputs), as optax has it; or 1. PyTorch's ``adjust_lr_fn`` has the
        first two. optax's ``consistent_rms`` and Keras's ``rms_rate`` r are "match_rms_adamw" with lr·r / 0.2
        and weight_decay·0.2 / r; Keras's None is "none".
    eps : float, default 1e-7
        Smallest norm that u is divided by.

    Attributes
    ----------
    m : dict or list of arrays, or None
        Moving average of the gradients.

    References
    ----------
    Jordan et al. 2024, *Muon: an optimizer for hidden layers in neural networks*; PyTorch's ``Muon``.

    Examples
    --------
    >>> W, dW = np.zeros((2, 2)), np.diag([100.0, 1.0])
    >>> fastopt.Muon(lr=0.1).update([W], [dW])
    True
    >>> np.diag(W).round(1)  # all directions count about the same
    array([-0.1, -0.1])
    """

    kernel = kernels.muon
    statistics_kernel = kernels.muon_measure
    lr: float = hyperparameter(0.001)
    momentum: float = hyperparameter(0.95, most=1)
    _: KW_ONLY
    weight_decay: float = hyperparameter(0.1)
    ns_steps: int = whole(5)
    nesterov: bool = choice(True, False, True)
    ns_coefficients: tuple[Any, ...] = coefficients(QUINTIC)
    adjust_lr: str = choice("original", "original", "match_rms_adamw", "fan_out/fan_in", "none")
    eps: float = hyperparameter(1e-7)
    m = State()

    def scalars(self, t: int) -> tuple[float, ...]:
        """Return how far u looks ahead, 1 − μ, lr at the place of its scale, and eps."""
        rates = {"original": 0.0, "fan_out/fan_in": 0.0, "match_rms_adamw": 0.0, "none": 0.0}
        rates[self.adjust_lr] = RMS_OF_ADAMW * self.lr if self.adjust_lr == "match_rms_adamw" else self.lr
        ahead = self.momentum if self.nesterov else 1.0
        return ahead, 1 - self.momentum, *rates.values(), self.eps


@dataclass(eq=False)
class AdaMuon(Orthogonalizing, Optimizer):
    """Muon whose elements are scaled by a second moment, as Adam's are.

    m ← m + (1 − μ)(g − m); u ← sign(g + μ·(m − g)); o is u / (‖u‖ + 10⁻⁷) after the iterations of `Muon`;
    v ← v + (1 − β₂)(o² − v); d ← o / (√v + eps);
    p ← (1 − lr·weight_decay)·p − (0.2·lr·√(rows·columns) / (‖d‖ + eps))·d

    The rms of an update is 0.2·lr, as large as those of `AdamW`. Take it when you would take `Muon` and there
    is memory for one more state: elements whose directions vary much get shorter steps.

    The authors' program computes the iterations in bfloat16; here they are in the parameter's dtype.

    Parameters
    ----------
    lr : float, default 0.02
        Learning rate, at least 0.
    momentum : float, default 0.95
        μ, from 0 to 1.
    beta2 : float, default 0.95
        Decay of the moving average of o², from 0 to 1; in the authors' program it is μ.
    weight_decay : float, default 0.01
        Decoupled: p shrinks by lr·weight_decay of itself, whatever the gradient.
    ns_steps : int, default 5
        Newton-Schulz iterations.
    nesterov : bool, default True
        Whether u looks ahead; else it is the sign of m.
    ns_coefficients : tuple of float, default (3.4445, -4.775, 2.0315)
        a, b and c of the iteration; or one such tuple for each iteration, and ns_steps counts for nothing.
    eps : float, default 1e-8
        Added to the root, and to the norm of d.

    Attributes
    ----------
    m : dict or list of arrays, or None
        Moving average of the gradients.
    v : dict or list of arrays, or None
        Moving average of the squares of what has been made orthogonal.

    References
    ----------
    Si, Zhang and Shen 2025, *AdaMuon: adaptive Muon optimizer* (arXiv:2507.11005), algorithm 1.

    Examples
    --------
    >>> W, dW = np.zeros((2, 2)), np.array([[3.0, 1.0], [-1.0, 2.0]])
    >>> fastopt.AdaMuon(lr=1).update([W], [dW])
    True
    >>> round(float(np.sqrt((W**2).mean())), 3)  # the rms of an update is 0.2·lr
    0.2
    """

    kernel = kernels.ada_muon
    statistics_kernel = kernels.ada_muon_measure
    lr: float = hyperparameter(0.02)
    momentum: float = hyperparameter(0.95, most=1)
    beta2: float = hyperparameter(0.95, most=1)
    _: KW_ONLY
    weight_decay: float = hyperparameter(0.01)
    ns_steps: int = whole(5)
    nesterov: bool = choice(True, False, True)
    ns_coefficients: tuple[Any, ...] = coefficients(QUINTIC)
    eps: float = hyperparameter(1e-8)
    m = State()
    v = State()

    def scalars(self, t: int) -> tuple[float, ...]:
        """Return how far u looks ahead, 1 − μ, 1 − β₂, lr and eps."""
        ahead = self.momentum if self.nesterov else 1.0
        return ahead, 1 - self.momentum, 1 - self.beta2, self.lr, self.eps


# The longest side that has an eigenbasis; that of a longer one would need more memory than the parameter.
LONGEST = 10_000


def sides(shape: Shape) -> tuple[int, int]:
    """Return the lengths of both sides of an array as a matrix; 0 for a side without an eigenbasis."""
    if len(shape) < 2 or not prod(shape):
        return 0, 0
    rows, columns = (n if n <= LONGEST else 0 for n in (shape[0], prod(shape[1:])))
    return rows, columns


def left_square(shape: Shape) -> Shape:
    """Return the shape of what belongs to the rows."""
    return (sides(shape)[0],) * 2


def right_square(shape: Shape) -> Shape:
    """Return the shape of what belongs to the columns."""
    return (sides(shape)[1],) * 2


@dataclass(eq=False)
class SOAP(Optimizer):
    """Adam in the eigenbases of Shampoo's preconditioner.

    g' = Qₗᵀ·g·Qᵣ; m and v as Adam of g'; p ← (1 − lr·weight_decay)·p − lr_t·Qₗ·(m / (√v + eps))·Qᵣᵀ,
    where lr_t = lr·√(1 − β₂ᵏ) / (1 − β₁ᵏ) with k = t − 1;
    then left ← left + (1 − β₃)(g·gᵀ − left) and right ← right + (1 − β₃)(gᵀ·g − right)

    Qₗ and Qᵣ are the eigenvectors of left and right, renewed by a step of power iteration and a QR
    decomposition every precondition_frequency steps, each parameter by its own count. As in the authors'
    program, a parameter's first gradient only gives it its bases; but weight decay acts there, too, and
    comes before the step.

    Arrays of more than two dimensions are taken as matrices of their first one and all others. Vectors,
    numbers, and sides longer than 10,000 have no bases: they are updated as by Adam.

    Take it when each gradient is dear, as with large batches: it needs fewer steps than `AdamW`, each of
    which costs some products of matrices, and memory for two squares a side.

    Parameters
    ----------
    lr : float, default 0.003
        Learning rate, at least 0.
    beta1, beta2 : float, default 0.95
        Decay of the moving averages of the gradients and of their squares, from 0 to below 1.
    shampoo_beta : float or None, default None
        β₃, decay of left and right, from 0 to below 1; None, the authors' −1, is beta2.
    eps : float, default 1e-8
        Added to the root.
    weight_decay : float, default 0.01
        Decoupled: p shrinks by lr·weight_decay of itself, whatever the gradient.
    precondition_frequency : int, default 10
        Steps between two changes of the bases, at least 1.
    bias_correction : bool, default True
        Whether lr_t is corrected for the start; else it is lr. The authors' ``correct_bias``.

    Attributes
    ----------
    m, v : dict or list of arrays, or None
        Moving averages of the gradients and of their squares, in the present bases.
    left, right : dict or list of arrays, or None
        Moving averages of g·gᵀ and gᵀ·g.
    q_left, q_right : dict or list of arrays, or None
        Eigenvectors of left and right, in columns.

    References
    ----------
    Vyas et al. 2024, *SOAP: improving and stabilizing Shampoo using Adam* (arXiv:2409.11321), algorithm 3.

    Examples
    --------
    >>> W, optimizer = np.ones((2, 2)), fastopt.SOAP(lr=0.1, weight_decay=0)
    >>> optimizer.update([W], [np.eye(2)])
    True
    >>> W  # the first gradient only gives the eigenbases
    array([[1., 1.],
           [1., 1.]])
    """

    kernel = kernels.soap
    statistics_kernel = kernels.soap_measure
    n_work = 3
    default_decoupled = True
    ungrouped = ("precondition_frequency",)
    lr: float = hyperparameter(0.003)
    beta1: float = hyperparameter(0.95, below=1)
    beta2: float = hyperparameter(0.95, below=1)
    _: KW_ONLY
    shampoo_beta: float | None = hyperparameter(None, below=1)
    eps: float = hyperparameter(1e-8)
    weight_decay: float = hyperparameter(0.01)
    precondition_frequency: int = whole(10, least=1)
    bias_correction: bool = choice(True, False, True)
    m = State()
    v = State()
    left = State(shape=left_square)
    right = State(shape=right_square)
    q_left = State(shape=left_square)
    q_right = State(shape=right_square)

    def scalars(self, t: int) -> tuple[float, ...]:
        """Return 1 − β₁, 1 − β₂, 1 − β₃, lr_t (0 at first) and eps."""
        beta3 = self.beta2 if self.shampoo_beta is None else self.shampoo_beta
        step = self.lr if t > 1 else 0.0
        if t > 1 and self.bias_correction:
            step, _ = bias_corrected(self.lr, self.beta1, self.beta2, t - 1)
        return 1 - self.beta1, 1 - self.beta2, 1 - beta3, step, self.eps

    def n_statistics(self, shape: Shape) -> int:
        """Return the number of elements of left, right, q_left and q_right."""
        rows, columns = sides(shape)
        return 2 * (rows * rows + columns * columns)

    def intermediate_calls(self, segment: Segment) -> Calls:
        """Return the changes of basis, with Adam's step between them.

        New bases are computed here, in Python, from the state before the step, which nothing changes before
        the calls are made; and these leave to the kernel what becomes the state.
        """
        calls: Calls = []
        period = self.restart_every  # after so many steps the rule begins anew
        for i, (entry, (u, m_new, v_new, *_)) in enumerate(zip(segment.entries, segment.work, strict=True)):
            if entry.is_frozen or not entry.slot.size:
                continue
            shape = entry.slot.shape
            shape = (shape[0], -1) if len(shape) > 1 else shape
            step = TurnedStep(segment, i, [array.reshape(shape) for array in (u, m_new, v_new)])
            n_steps = segment.memory.counts.item(entry.count_at)
            n_steps = n_steps % period if period else n_steps
            calls += step.calls(n_steps, self.precondition_frequency)
        return calls
