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

__all__ = ["like", "ulps", "verify"]


class Differences(dict[str, dict[Hashable, int]]):
    """The differences in ulps, of which the largest are shown."""

    def __repr__(self) -> str:
        if not any(self.values()):
            return "<no arrays>"
        texts = []
        for name, own in self.items():
            key = max(own, key=lambda key: own[key], default=None)
            most = own.get(key, 0)
            texts.append(f"{name} {most}" + (f" ({key!r})" if most else ""))
        most = max(max(own.values(), default=0) for own in self.values())
        n_arrays = max(map(len, self.values()))
        return f"<at most {most} ulps: {', '.join(texts)}; of {n_arrays} arrays>"


def verify(optimizer: Optimizer, params: Any, grads_fn: Callable[[Any], Any], steps: int = 20) -> Differences:
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
        in units in the last place; 0 where all bits are the same (but for those of NaN). Its `repr` has the
        largest ones only.

    Raises
    ------
    TypeError, ValueError
        If there is no plain NumPy version of this optimizer, or from ``update``.

    Examples
    --------
    >>> import fastopt, numpy as np
    >>> found = fastopt.verify(fastopt.Momentum(), [np.ones(3)], lambda params: [2 * params[0]])
    >>> found
    <at most 0 ulps: params 0, v 0; of 1 arrays>
    >>> found["v"][0]
    0
    """
    name = type(optimizer).__name__
    if not isinstance(optimizer, Optimizer) or name not in optimizers.RULES:
        known = ", ".join(optimizers.RULES)
        raise TypeError(f"there is no plain NumPy version of {kind(optimizer)}, only of {known}")
    ours, theirs = (like(optimizer, getattr(module, name)) for module in (optimizers, reference))
    keys, values, _ = match_grads(params, params)

    def in_container(arrays: list[Any]) -> Any:
        return dict(zip(keys, arrays, strict=True)) if isinstance(params, Mapping) else arrays

    copies = in_container([np.array(v, subok=False) if isinstance(v, np.ndarray) else v for v in values])
    with Restoration(params):
        for _ in range(integer("steps", steps)):
            grads = grads_fn(params)
            # Copies, as our step changes gradients that share memory with the parameters.
            same = in_container([np.array(grad) for grad in match_grads(params, grads)[2]])
            ours.update(params, grads)
            with np.errstate(all="ignore"):
                theirs.update(copies, same)
        pairs = {"params": (params, copies)}
        if ours.iter:
            pairs |= {name: (getattr(ours, name), getattr(theirs, name)) for name in type(ours).states}
        differences = {
            name: {key: ulps(a[key], b[key]) for key in (a if isinstance(a, Mapping) else range(len(a)))}
            for name, (a, b) in pairs.items()
        }
        return Differences(differences)


def like(optimizer: Optimizer, cls: Any) -> Any:
    """Return a new optimizer of a class, fastopt's or the reference's, with the same hyperparameters."""
    own = getattr(reference, cls.__name__)
    names = inspect.signature(own).parameters.keys() & type(optimizer).__dataclass_fields__
    return cls(**{name: getattr(optimizer, name) for name in names})


def ulps(a: Any, b: Any) -> int:
    """Return the largest distance between the elements of two arrays; NaN equals NaN."""
    one, other = (np.array(x, np.asarray(a).dtype.newbyteorder("="), ndmin=1, order="C") for x in (a, b))
    low, high = np.sort([ordered(one), ordered(other)], 0)
    unsigned = f"u{one.itemsize}"  # in which no difference overflows
    distance = high.view(unsigned) - low.view(unsigned)
    distance[np.isnan(one) & np.isnan(other)] = 0
    return int(distance.max(initial=0))


def ordered(array: np.ndarray) -> np.ndarray:
    """Return integers in the order of floating point numbers, neighbors one apart, -0 before 0."""
    bits = array.view(f"i{array.itemsize}")
    return np.where(bits < 0, np.iinfo(bits.dtype).min - bits - 1, bits)
