"""`verify`: a user's own case by fastopt and by the reference, side by side."""

import inspect
from collections.abc import Callable, Hashable, Mapping
from typing import Any

import numpy as np

from fastopt import optimizers, reference
from fastopt.arrays.containers import match_grads
from fastopt.arrays.snapshots import Restoration
from fastopt.checks import integer, kind
from fastopt.optimizer import Optimizer

__all__ = ["ulps", "verify"]


def verify(
    optimizer: Optimizer, params: Any, grads_fn: Callable[[Any], Any], steps: int = 20
) -> dict[str, dict[Hashable, int]]:
    """Compare fastopt's steps with plain NumPy's, in the last place, on parameters and gradients of your own.

    A new optimizer with the hyperparameters of this one's rule steps on ``params``, and the class of the same
    name in `fastopt.reference` on copies of them, with the same gradients. (What is around the rule, such as
    clipping, is left out.) Nothing has changed afterwards, neither in ``params`` nor in ``optimizer``.

    Parameters
    ----------
    optimizer : Optimizer
        Whose rule and hyperparameters are used.
    params : dict or list
        The parameters.
    grads_fn : callable
        Is given params, with the values of the step, and returns the gradients. (So it may be that of a
        network whose layers refer to the arrays in params.)
    steps : int, default 20
        How many steps are taken.

    Returns
    -------
    dict
        Of ``"params"`` and of each state (``"m"``, ``"v"``), for each key the largest difference at the end,
        in units in the last place; 0 where all bits are the same (but for those of NaN).

    Raises
    ------
    TypeError, ValueError
        If there is no plain NumPy version of this optimizer, or from ``update``.

    Examples
    --------
    >>> import fastopt, numpy as np
    >>> fastopt.verify(fastopt.Momentum(), [np.ones(3)], lambda params: [2 * params[0]])
    {'params': {0: 0}, 'v': {0: 0}}
    """
    ours, theirs = again(optimizer, optimizers), again(optimizer, reference)
    keys, values, _ = match_grads(params, params)
    copies = like(
        params, keys, [np.array(v, subok=False) if isinstance(v, np.ndarray) else v for v in values]
    )
    with Restoration(params):
        for _ in range(integer("steps", steps)):
            grads = grads_fn(params)
            _, _, slopes = match_grads(params, grads)
            same = [
                np.array(grad) for grad in slopes
            ]  # theirs may be changed by the step, if they share memory
            ours.update(params, grads)
            with np.errstate(all="ignore"):
                theirs.update(copies, like(params, keys, same))
        pairs = {"params": (params, copies)}
        if ours.iter:
            pairs |= {name: (getattr(ours, name), getattr(theirs, name)) for name in type(ours).states}
        return {
            name: {key: ulps(a[key], b[key]) for key in (a if isinstance(a, Mapping) else range(len(a)))}
            for name, (a, b) in pairs.items()
        }


def like(params: Any, keys: Any, values: list[Any]) -> Any:
    """Give values in a container like that of the parameters."""
    return dict(zip(keys, values, strict=True)) if isinstance(params, Mapping) else values


def again(optimizer: Optimizer, module: Any) -> Any:
    """Give a new optimizer, fastopt's or the reference's, with the hyperparameters of the rule."""
    name = type(optimizer).__name__
    if not isinstance(optimizer, Optimizer) or name not in reference.__all__:
        there = ", ".join(reference.__all__)
        raise TypeError(f"there is no plain NumPy version of {kind(optimizer)}, only of {there}")
    arguments = (
        inspect.signature(getattr(reference, name)).parameters.keys() & type(optimizer).__dataclass_fields__
    )
    return getattr(module, name)(**{argument: getattr(optimizer, argument) for argument in arguments})


def ulps(a: Any, b: Any) -> int:
    """Give the largest distance between the elements of two arrays; NaN is as good as NaN."""
    one, other = (np.array(x, np.asarray(a).dtype.newbyteorder("="), ndmin=1, order="C") for x in (a, b))
    low, high = np.sort([ordered(one), ordered(other)], 0)
    distance = high.view(f"u{one.itemsize}") - low.view(
        f"u{one.itemsize}"
    )  # right even where signed overflows
    distance[np.isnan(one) & np.isnan(other)] = 0
    return int(distance.max(initial=0))


def ordered(array: np.ndarray) -> np.ndarray:
    """Give integers in the order of floating point numbers, neighbors one apart, -0 before 0."""
    bits = array.view(f"i{array.itemsize}")
    return np.where(bits < 0, np.iinfo(bits.dtype).min - bits - 1, bits)
