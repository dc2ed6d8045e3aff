"""Stanford's CS231n: the functions of its ``optim.py``, ``w, config = adam(w, dw, config)``.

Hyperparameters and state are in ``config`` under the course's names. w and the state are updated in place,
and w is returned. Entries "fastopt ..." save time, no more.
"""

from typing import Any

import numpy as np

from fastopt import optimizers
from fastopt.adapters.common import PaperAdam, step_from
from fastopt.optimizer import Optimizer

__all__ = ["adam", "rmsprop", "sgd", "sgd_momentum"]

Config = dict[str, Any]


NAMES = {"lr": "learning_rate", "eps": "epsilon"}  # of hyperparameters that have another name in the course


def step(
    rule: type[Optimizer],
    w: np.ndarray,
    dw: np.ndarray,
    config: Config | None,
    states: list[str],
    **defaults: float,
) -> tuple[np.ndarray, Config]:
    """Take a step of a rule whose states, and hyperparameters with these defaults, are in the config."""
    config = {} if config is None else config
    hyperparameters = {name: config.setdefault(NAMES.get(name, name), x) for name, x in defaults.items()}
    t = config.get("t", 0) + 1
    step_from(config, rule, t, [w], [dw], [[name] for name in states], **hyperparameters)
    config["t"] = t
    return w, config


def sgd(w: np.ndarray, dw: np.ndarray, config: Config | None = None) -> tuple[np.ndarray, Config]:
    """`fastopt.SGD` with learning_rate."""
    return step(optimizers.SGD, w, dw, config, [], lr=1e-2)


def sgd_momentum(w: np.ndarray, dw: np.ndarray, config: Config | None = None) -> tuple[np.ndarray, Config]:
    """`fastopt.Momentum` with learning_rate and momentum; its state is velocity."""
    return step(optimizers.Momentum, w, dw, config, ["velocity"], lr=1e-2, momentum=0.9)


def rmsprop(w: np.ndarray, dw: np.ndarray, config: Config | None = None) -> tuple[np.ndarray, Config]:
    """`fastopt.RMSprop` with learning_rate, decay_rate and epsilon; its state is cache."""
    return step(optimizers.RMSprop, w, dw, config, ["cache"], lr=1e-2, decay_rate=0.99, eps=1e-8)


def adam(w: np.ndarray, dw: np.ndarray, config: Config | None = None) -> tuple[np.ndarray, Config]:
    """`fastopt.AdamW` without decay, with learning_rate, beta1, beta2, epsilon; its state is m, v and t."""
    return step(PaperAdam, w, dw, config, ["m", "v"], lr=1e-3, beta1=0.9, beta2=0.999, eps=1e-8)
