"""`try_call`: the same steps by another library and by what fastopt has in its place."""

from typing import Any, NamedTuple

import numpy as np

from fastopt import schedules
from fastopt.arrays.rows import Rows
from fastopt.optimizer import Optimizer
from fastopt.partition import Partition
from fastopt.tools.peers.calls import Refusal, Translation
from fastopt.tools.peers.runs import RUNS
from fastopt.tools.peers.translation import read, translate
from fastopt.tools.registry import takes

__all__ = ["SLOW", "STEPS", "Outcome", "difference", "try_call"]

STEPS = 20
# The step from which on the learning rate changes.
SWITCH = 11
SHAPES = ((3, 4), (4,), (5, 2))
# An operation of JAX's takes as long as a step of PyTorch's: of these libraries fewer arrays are tried, and a
# constant learning rate only in the first half of the steps, unless the other half has it, too.
SLOW = ("optax", "keras")


class Outcome(NamedTuple):
    """What came of a setting.

    Attributes
    ----------
    library, text : str
        The library and the call.
    translation : Translation or None
        What fastopt has in its place.
    reason : str
        Why it has nothing; else "".
    differences : tuple of float
        The largest relative differences, with a constant learning rate and with a schedule.
    """

    library: str
    text: str
    translation: Translation | None
    reason: str
    differences: tuple[float, ...]

    @property
    def agrees(self) -> bool:
        """Whether the differences are within the tolerance."""
        most = -1.0 if self.translation is None else self.translation.tolerance
        return all(apart <= most for apart in self.differences)

    @property
    def verdict(self) -> str:
        """Whether it is refused, the same, the same with a constant learning rate, or differing."""
        if self.translation is None:
            return "refused"
        if not self.agrees:
            return "differing"
        return "constant" if self.translation.constant else "same"


def try_call(library: str, text: str) -> Outcome:
    """Take `STEPS` steps by a library and by fastopt, and again with a schedule from step `SWITCH` on."""
    try:
        translation = translate(library, text)
    except Refusal as refusal:
        return Outcome(library, text, None, str(refusal), ())
    ways = (False,) if translation.constant else (True,) if library in SLOW else (False, True)
    return Outcome(library, text, translation, "", tuple(difference(library, text, way) for way in ways))


def schedule(lr: float, lag: int = 0) -> schedules.Schedule:
    """Return a learning rate that falls and rises from step `SWITCH` on, or so many steps later."""
    changing = schedules.Linear(lr / 2, STEPS - SWITCH, 1.5 * lr)
    return schedules.Join((schedules.Constant(lr), changing), (SWITCH - 1 + lag,))


def rows_of(grad: np.ndarray) -> Rows:
    """Return the rows of a gradient that aren't zero."""
    indices = np.flatnonzero(grad.reshape(len(grad), -1).any(1))
    return Rows(indices, grad[indices])


def switch(optimizer: Optimizer | Partition, lag: int) -> None:
    """Switch the schedule on."""
    members: list[Any] = [optimizer] if isinstance(optimizer, Optimizer) else [*optimizer.members.values()]
    for member in members:
        member.lr = schedule(member.lr, lag)


def difference(library: str, text: str, is_scheduled: bool) -> float:
    """Return the largest relative difference between a call and what fastopt has in its place.

    It is the largest magnitude of a difference after any of `STEPS` steps, over that of a parameter in the
    same array, in float64. Parameters start between 1 and 2, gradients are normally distributed.

    Parameters
    ----------
    library, text : str
        As for `translate`.
    is_scheduled : bool
        Whether the learning rate changes from step `SWITCH` on.

    Raises
    ------
    Refusal
        If there is nothing in its place.
    """
    setting = read(library, text)
    lr = setting.lr
    translation = translate(library, text)
    ours: Any = translation.build()
    cls: Any = type(ours)
    rng = np.random.default_rng(19)
    shapes = [
        tuple(max(side, translation.side) for side in shape) if len(shape) > 1 else shape
        for shape in SHAPES[: 2 if library in SLOW else 3]
        if isinstance(ours, Partition) or takes(cls, len(shape))
    ]
    params = [rng.uniform(1, 2, shape) for shape in shapes]
    grads = [[rng.standard_normal(shape) for shape in shapes] for _ in range(STEPS)]
    is_sparse = getattr(ours, "rows", None) == "lazy"
    for own in grads if is_sparse else ():
        for grad in own:
            grad[rng.integers(len(grad))] = 0.0
    rates = [schedule(lr)(t) for t in range(1, STEPS + 1)] if is_scheduled and lr else None
    theirs = RUNS[library](setting, params, grads, rates)
    worst = 0.0
    for t, (given, expected) in enumerate(zip(grads, theirs, strict=True), 1):
        if rates and t == SWITCH:
            switch(ours, translation.lag)
        ours.update(params, [rows_of(grad) for grad in given] if is_sparse else given)
        for param, other in zip(params, expected, strict=True):
            apart = np.abs(param - other).max() / np.abs(other).max()
            worst = float(np.maximum(worst, apart))  # which keeps NaN
    return worst
