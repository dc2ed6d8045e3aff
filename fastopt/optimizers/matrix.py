"""Steps for matrices, from products of matrices."""

from collections.abc import Hashable, Sequence
from dataclasses import KW_ONLY, dataclass
from functools import partial
from operator import setitem
from typing import Any

import numpy as np

from fastopt import kernels
from fastopt.engine.segment import Calls, Segment
from fastopt.kernels.common import LANES
from fastopt.optimizer import Optimizer, State, hyperparameter, whole

__all__ = ["Muon"]

# The coefficients of Newton-Schulz's quintic: a·x + b·x³ + c·x⁵ for each singular value x.
A, B, C = 3.4445, -4.7750, 2.0315


@dataclass(eq=False)
class Muon(Optimizer):
    """Momentum made orthogonal: steps in which all directions of a matrix count the same.

    m ← m + (1 − μ)(g − m); u ← g + μ·(m − g); o is u / max(‖u‖, eps) after ns_steps iterations
    x ← a·x + (b·x·xᵀ + c·(x·xᵀ)²)·x, which bring its singular values near to 1;
    p ← (1 − lr·weight_decay)·p − lr·√max(1, rows / columns)·o

    PyTorch's, which computes the iterations in bfloat16 whatever the dtype; here they are in the
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
    eps : float, default 1e-7
        Smallest norm that u is divided by.

    Attributes
    ----------
    m : dict or list of arrays, or None
        Moving average of the gradients.

    Raises
    ------
    TypeError, ValueError
        If a hyperparameter is no number or out of range, here or when it is assigned later.

    References
    ----------
    Jordan et al. 2024, *Muon: an optimizer for hidden layers in neural networks*; PyTorch's ``Muon``.
    """

    kernel = kernels.muon
    statistics_kernel = kernels.muon_measure
    n_work = 1
    default_decoupled = True
    ungrouped = ("ns_steps",)
    lr: float = hyperparameter(0.001)
    momentum: float = hyperparameter(0.95, most=1)
    _: KW_ONLY
    weight_decay: float = hyperparameter(0.1)
    ns_steps: int = whole(5)
    eps: float = hyperparameter(1e-7)
    m = State()

    def check_supported(self, keys: Sequence[Hashable], params: Sequence[Any]) -> None:
        """Raise ValueError if a parameter isn't a matrix."""
        others = [key for key, param in zip(keys, params, strict=True) if np.ndim(param) != 2]
        if others:
            raise ValueError(
                "Muon takes matrices; name the rule of the others, "
                f'Partition({{lambda key, param: param.ndim == 2: Muon(), "*": AdamW()}}): {others}'
            )

    def scalars(self, t: int) -> tuple[float, ...]:
        """Return μ, 1 − μ, lr and eps."""
        return self.momentum, 1 - self.momentum, self.lr, self.eps

    def n_statistics(self, shape: tuple[int, ...]) -> int:
        """Return the number of elements of the room for a norm."""
        return LANES

    def intermediate_calls(self, segment: Segment) -> Calls:
        """Return the products of Newton-Schulz's iterations."""
        calls: Calls = []
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
            for _ in range(self.ns_steps if u.size else 0):
                calls += (
                    partial(np.matmul, x, x.T, gram),
                    partial(np.matmul, gram, gram, square),
                    partial(np.multiply, square, C, square),
                    partial(np.multiply, gram, B, gram),
                    partial(np.add, gram, square, square),
                    partial(np.matmul, square, x, product),
                    partial(np.multiply, x, A, x),
                    partial(np.add, x, product, x),
                )
            if wide is not u:
                calls.append(partial(setitem, wide, ..., x))
        return calls
