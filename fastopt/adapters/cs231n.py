"""Stanford's CS231n: the functions of its ``optim.py``, ``w, config = adam(w, dw, config)``.

Hyperparameters and state are in ``config`` under the course's names. w and the state are updated in place,
and w is given back. What a config has besides, under "fastopt ...", saves time and no more.
"""

from typing import Any

import numpy as np

from fastopt import optimizers
from fastopt.adapters.common import PaperAdam, step_from
from fastopt.optimizer import Optimizer

__all__ = ["adam", "rmsprop", "sgd", "sgd_momentum"]

Config = dict[str, Any]


def step(
    rule: type[Optimizer],
    w: np.ndarray,
    dw: np.ndarray,
    config: Config | None,
    states: list[str],
    **named: tuple[str, float],
) -> tuple[np.ndarray, Config]:
    """Take a step of a rule.

    Parameters
    ----------
    rule : class
        The rule.
    w, dw, config : array, array, dict
        What the course's functions take.
    states : list of str
        The names of the rule's states in the config.
    **named : tuple of str and float
        For each hyperparameter its name in the config, and its default.
    """
    config = {} if config is None else config
    for name, value in named.values():
        config.setdefault(name, value)
    t = config.get("t", 0) + 1
    hyperparameters = {own: config[name] for own, (name, _) in named.items()}
    step_from(config, rule, t, [w], [dw], [[name] for name in states], **hyperparameters)
    config["t"] = t
    return w, config


def sgd(w: np.ndarray, dw: np.ndarray, config: Config | None = None) -> tuple[np.ndarray, Config]:
    """`fastopt.SGD` with learning_rate."""
    return step(optimizers.SGD, w, dw, config, [], lr=("learning_rate", 1e-2))


def sgd_momentum(w: np.ndarray, dw: np.ndarray, config: Config | None = None) -> tuple[np.ndarray, Config]:
    """`fastopt.Momentum` with learning_rate and momentum; its state is velocity."""
    return step(
        optimizers.Momentum,
        w,
        dw,
        config,
        ["velocity"],
        lr=("learning_rate", 1e-2),
        momentum=("momentum", 0.9),
    )


def rmsprop(w: np.ndarray, dw: np.ndarray, config: Config | None = None) -> tuple[np.ndarray, Config]:
    """`fastopt.RMSprop` with learning_rate, decay_rate and epsilon; its state is cache."""
    return step(
        optimizers.RMSprop,
        w,
        dw,
        config,
        ["cache"],
        lr=("learning_rate", 1e-2),
        decay_rate=("decay_rate", 0.99),
        eps=("epsilon", 1e-8),
    )


def adam(w: np.ndarray, dw: np.ndarray, config: Config | None = None) -> tuple[np.ndarray, Config]:
    """`fastopt.AdamW` without decay, with learning_rate, beta1, beta2, epsilon; its state is m, v and t."""
    return step(
        PaperAdam,
        w,
        dw,
        config,
        ["m", "v"],
        lr=("learning_rate", 1e-3),
        beta1=("beta1", 0.9),
        beta2=("beta2", 0.999),
        eps=("epsilon", 1e-8),
    )
