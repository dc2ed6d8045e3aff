"""Stanford's CS231n: the functions of its ``optim.py``, ``w, config = adam(w, dw, config)``.

Hyperparameters and state are in ``config`` under the course's names, and have the bits of the course's
formulas. w and the state are updated in place, and w is returned.

Examples
--------
>>> from fastopt.adapters import cs231n
>>> W, dW = np.ones(2), np.array([1.0, -2.0])
>>> config = {"learning_rate": 0.1}
>>> for step in range(2):
...     W, config = cs231n.adam(W, dW, config)
>>> W.round(3), config["t"]
(array([0.8, 1.2]), 2)
"""

from typing import Any

import numpy as np

from fastopt.adapters import rules

__all__ = ["adam", "rmsprop", "sgd", "sgd_momentum"]

Config = dict[str, Any]

# Of fewer elements than this NumPy takes the difference of two arrays sooner than it can be asked for.
SMALL = 2_000


def sgd(w: np.ndarray, dw: np.ndarray, config: Config | None = None) -> tuple[np.ndarray, Config]:
    """`fastopt.SGD` with learning_rate.

    Examples
    --------
    >>> from fastopt.adapters import cs231n
    >>> W, dW = np.ones(2), np.array([1.0, -2.0])
    >>> cs231n.sgd(W, dW, {"learning_rate": 0.1})
    (array([0.9, 1.2]), {'learning_rate': 0.1})
    """
    config = {} if config is None else config
    lr = config.setdefault("learning_rate", 1e-2)
    if w.size < SMALL and w.shape == dw.shape and lr >= 0:
        w -= lr * dw
    else:
        rules.sgd(w, dw, lr=lr)
    return w, config


def sgd_momentum(w: np.ndarray, dw: np.ndarray, config: Config | None = None) -> tuple[np.ndarray, Config]:
    """`fastopt.Momentum` with learning_rate and momentum; its state is velocity.

    Examples
    --------
    >>> from fastopt.adapters import cs231n
    >>> W, dW = np.ones(2), np.array([1.0, -2.0])
    >>> W, config = cs231n.sgd_momentum(W, dW)
    >>> W, config["momentum"], config["velocity"]
    (array([0.99, 1.02]), 0.9, array([-0.01,  0.02]))
    """
    config = {} if config is None else config
    lr, momentum = config.setdefault("learning_rate", 1e-2), config.setdefault("momentum", 0.9)
    v = config.get("velocity")
    if v is None:
        config["velocity"] = v = np.zeros_like(w)
    rules.momentum(w, dw, v, lr=lr, momentum=momentum)
    return w, config


def rmsprop(w: np.ndarray, dw: np.ndarray, config: Config | None = None) -> tuple[np.ndarray, Config]:
    """RMSprop with learning_rate, decay_rate and epsilon; its state is cache.

    Examples
    --------
    >>> from fastopt.adapters import cs231n
    >>> W, dW = np.ones(2), np.array([1.0, -2.0])
    >>> W, config = cs231n.rmsprop(W, dW)
    >>> W.round(3), config["cache"].round(3)
    (array([0.9, 1.1]), array([0.01, 0.04]))
    """
    config = {} if config is None else config
    lr, rho = config.setdefault("learning_rate", 1e-2), config.setdefault("decay_rate", 0.99)
    eps, cache = config.setdefault("epsilon", 1e-8), config.get("cache")
    if cache is None:
        config["cache"] = cache = np.zeros_like(w)
    rules.averaged_rmsprop(w, dw, cache, lr=lr, decay_rate=rho, eps=eps)
    return w, config


def adam(w: np.ndarray, dw: np.ndarray, config: Config | None = None) -> tuple[np.ndarray, Config]:
    """Adam with learning_rate, beta1, beta2 and epsilon; its state is m, v and t.

    Examples
    --------
    >>> from fastopt.adapters import cs231n
    >>> W, dW = np.ones(2), np.array([1.0, -2.0])
    >>> W, config = cs231n.adam(W, dW)
    >>> W.round(4), config["t"], config["m"].round(3)
    (array([0.999, 1.001]), 1, array([ 0.1, -0.2]))
    """
    config = {} if config is None else config
    lr, eps = config.setdefault("learning_rate", 1e-3), config.setdefault("epsilon", 1e-8)
    beta1, beta2 = config.setdefault("beta1", 0.9), config.setdefault("beta2", 0.999)
    m, v = config.get("m"), config.get("v")
    m, v = np.zeros_like(w) if m is None else m, np.zeros_like(w) if v is None else v
    t = config.get("t", 0) + 1
    rules.corrected_adam(w, dw, m, v, t=t, lr=lr, beta1=beta1, beta2=beta2, eps=eps)
    config["m"], config["v"], config["t"] = m, v, t
    return w, config
