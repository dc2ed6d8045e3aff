"""numpy-ml: its optimizers, for its layers: ``FullyConnected(n_out=3, optimizer=Adam())``.

`SGD`, `AdaGrad`, `RMSProp` and `Adam` are numpy-ml's own classes, whose steps fastopt takes with the same
bits. All else is theirs: ``set_params``, ``copy``, ``str``, schedulers, ``cache``. Parameters and state are
updated in place.

Examples
--------
>>> from fastopt.adapters.numpy_ml import SGD
>>> W = np.ones(2)
>>> SGD(lr=0.1, momentum=0.9).update(W, np.ones(2), "W")
array([0.9, 0.9])
>>> W
array([0.9, 0.9])
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from fastopt.adapters import rules
from fastopt.adapters.common import library

__all__ = ["SGD", "AdaGrad", "Adam", "RMSProp"]  # noqa: F822 - which are made when they are asked for


def clipped(grad: np.ndarray, bound: float | None) -> np.ndarray:
    """Return a gradient whose norm is at most the bound."""
    if bound is None:
        return grad
    norm = np.linalg.norm(grad)
    return grad * bound / norm if norm > bound else grad


def updating(rule: Callable[..., None], **names: str) -> Callable[..., Any]:
    """Return the ``update`` of a rule with one state, given what numpy-ml calls its hyperparameters."""

    def update(self: Any, param: Any, param_grad: Any, param_name: str, cur_loss: float | None = None) -> Any:
        """Update a parameter in place."""
        known, lr = self.hyperparameters, self.lr_scheduler(self.cur_step, cur_loss)
        state = self.cache.get(param_name)
        if state is None:
            state = self.cache[param_name] = np.zeros_like(param)
        others = {ours: known[theirs] for ours, theirs in names.items()}
        rule(param, clipped(param_grad, known["clip_norm"]), state, lr=lr, **others)
        return param

    return update


def adam(self: Any, param: Any, param_grad: Any, param_name: str, cur_loss: float | None = None) -> Any:
    """Update a parameter in place; each parameter counts its own steps."""
    known, lr = self.hyperparameters, self.lr_scheduler(self.cur_step, cur_loss)
    own = self.cache.get(param_name)
    if own is None:
        own = self.cache[param_name] = {"t": 0, "mean": np.zeros_like(param), "var": np.zeros_like(param)}
    t = own["t"] + 1
    rules.corrected_adam(
        param, clipped(param_grad, known["clip_norm"]), own["mean"], own["var"],
        t=t, lr=lr, beta1=known["decay1"], beta2=known["decay2"], eps=known["eps"],
    )  # fmt: skip
    own["t"] = t
    return param


EXAMPLE = """

    Examples
    --------
    >>> from fastopt.adapters.numpy_ml import {name}
    >>> W = np.ones(2)
    >>> W is {name}(lr=0.1).update(W, np.ones(2), "W"), bool((W < 1).all())  # W is updated in place
    (True, True)
    """

UPDATES = {
    "SGD": updating(rules.subtracted_momentum, momentum="momentum"),
    "AdaGrad": updating(rules.adagrad, eps="eps"),
    "RMSProp": updating(rules.averaged_rmsprop, decay_rate="decay", eps="eps"),
    "Adam": adam,
}


def __getattr__(name: str) -> Any:
    if name not in UPDATES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    base = getattr(library("numpy_ml.neural_nets.optimizers", "numpy-ml"), name)
    document = (base.__init__.__doc__ or "").rstrip() + EXAMPLE.format(name=name)
    parts = {"update": UPDATES[name], "__module__": __name__, "__doc__": document}
    globals()[name] = made = type(name, (base,), parts)
    return made
