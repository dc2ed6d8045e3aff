"""Steps for matrices, from products of matrices."""

from collections import deque
from collections.abc import MutableMapping, MutableSequence
from dataclasses import KW_ONLY, dataclass, field
from functools import partial
from itertools import repeat
from operator import setitem
from typing import Any

import numpy as np

from fastopt import kernels
from fastopt.checks import kind
from fastopt.kernels.common import LANES
from fastopt.optimizer import Optimizer, State, hyperparameter, whole
from fastopt.plan import Calls, Plan, align, check_param
from fastopt.stateful import Stateful

__all__ = ["Muon"]

# The coefficients of Newton-Schulz's quintic: a·x + b·x³ + c·x⁵ for each singular value x.
A, B, C = 3.4445, -4.7750, 2.0315


def check_fallback(name: str, value: Any) -> Optimizer | None:
    """Give the optimizer of the arrays that aren't matrices, or say what it has to be."""
    if value is not None and (not isinstance(value, Optimizer) or isinstance(value, Muon)):
        raise TypeError(f"{name} must be a rule that takes any array, such as AdamW(), not {kind(value)}")
    return value


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
    fallback : Optimizer, optional
        The optimizer of the arrays that aren't matrices: ``Muon(fallback=AdamW())``; without one they are
        refused. It has options of its own. With it, states are dicts by name or index.

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
    measure = kernels.muon_measure
    work = 1
    decays = True
    ungrouped = ("fallback", "ns_steps")
    lr: float = hyperparameter(0.001)
    momentum: float = hyperparameter(0.95, most=1)
    _: KW_ONLY
    weight_decay: float = hyperparameter(0.1)
    ns_steps: int = whole(5)
    eps: float = hyperparameter(1e-7)
    fallback: Optimizer | None = field(default=None, metadata={"check": check_fallback, "saved": False})
    m = State()

    def update(self, params: Any, grads: Any) -> bool:
        """Take one step, as `Optimizer.update` says; arrays that aren't matrices are the fallback's."""
        other = self.fallback
        if other is None:
            return super().update(params, grads)
        keys, values, all_slopes = align(params, grads)
        parts: tuple[dict[Any, Any], dict[Any, Any]] = {}, {}
        for key, value in zip(keys, values, strict=True):
            parts[np.ndim(value) != 2][key] = value
        matrices, others = parts
        numbers = [key for key, value in others.items() if not isinstance(value, np.ndarray)]
        for key in numbers:
            check_param(key, others[key], isinstance(params, MutableMapping | MutableSequence))
        slopes = dict(zip(keys, all_slopes, strict=True))
        with other._exclusive() as turn:
            theirs = align(others, slopes)
            try:
                plan, calls = other._calls(turn, None, *theirs, others, slopes)
            except FloatingPointError:
                if other.nonfinite != "skip":
                    raise
                self._skipped += 1
                return False
            calls.append(partial(deque, map(setitem, repeat(params), numbers, map(others.get, numbers)), 0))
            done = self._update(*align(matrices, slopes), matrices, slopes, calls)
            if done and (plan.found or plan.one_by_one):
                culprit = other._culprit(others, slopes, other._layout)
                if culprit:
                    other._warn(culprit, turn)
        return done

    def admit(self, keys: Any, params: list[Any]) -> None:
        """Say which parameters aren't matrices, without a fallback."""
        others = [key for key, param in zip(keys, params, strict=True) if np.ndim(param) != 2]
        if others and self.fallback is None:
            raise ValueError(
                f"Muon takes matrices; name the rule of the others, Muon(fallback=AdamW()): {others}"
            )

    def _inner(self) -> dict[str, Stateful]:
        return super()._inner() | ({} if self.fallback is None else {"fallback": self.fallback})

    def scalars(self, t: int) -> tuple[float, ...]:
        """Give μ, 1 − μ, lr and eps."""
        return self.momentum, 1 - self.momentum, self.lr, self.eps

    def measures(self, shape: tuple[int, ...]) -> int:
        """Give the room for a norm."""
        return LANES

    def between(self, plan: Plan) -> Calls:
        """Give the products of Newton-Schulz's iterations."""
        calls: Calls = []
        for place, (slot, states) in enumerate(zip(plan.slots, plan.states, strict=True)):
            u = states[len(type(self).states)].reshape(slot.shape)
            wide = u if slot.shape[0] <= slot.shape[1] else u.T
            if place not in plan.scratch:
                gram, square = np.empty((2, len(wide), len(wide)), slot.dtype)
                x = u if wide is u else np.empty(wide.shape, slot.dtype)
                plan.scratch[place] = x, gram, square, np.empty(wide.shape, slot.dtype)
            x, gram, square, product = plan.scratch[place]
            if wide is not u:
                calls.append(partial(setitem, x, ..., wide))
            for _ in range(self.ns_steps if slot.size else 0):
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
