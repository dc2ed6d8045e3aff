"""The table of cases: for each rule, what its tests need to know. A new rule adds a row."""

from dataclasses import fields
from math import sqrt
from typing import Any, NamedTuple

import numpy as np

import fastopt
from fastopt import reference


class Case(NamedTuple):
    """A rule's hyperparameters, and two steps from p = 1 worked out by hand."""

    arguments: dict[str, float]
    grads: tuple[float, float]
    params: tuple[float, float]
    states: dict[str, tuple[float, float]]


CASES = {
    "SGD": Case({"lr": 0.1}, (0.5, -1), (0.95, 1.05), {}),
    "Momentum": Case({"lr": 0.1, "momentum": 0.9}, (0.5, -1), (0.95, 1.005), {"v": (-0.05, 0.055)}),
    # 1 - 1.9·0.1·0.5; then 0.905 - 0.81·0.05 + 1.9·0.1·1
    "Nesterov": Case({"lr": 0.1, "momentum": 0.9}, (0.5, -1), (0.905, 1.0545), {"v": (-0.05, 0.055)}),
    # 1 - 0.3 / (3 + 1); then 0.925 - 0.4 / (5 + 1)
    "AdaGrad": Case({"lr": 0.1, "eps": 1}, (3, 4), (0.925, 0.925 - 0.2 / 3), {"h": (9, 25)}),
    # h = 0.25·4; then 0.75·1 + 0.25·1
    "RMSprop": Case({"lr": 0.1, "decay_rate": 0.75, "eps": 1}, (2, 1), (0.9, 0.85), {"h": (1, 1)}),
    # lr_t = 0.1·√0.25 / 0.5; then 0.1·√0.4375 / 0.75
    "Adam": Case(
        {"lr": 0.1, "beta1": 0.5, "beta2": 0.75, "eps": 1},
        (2, 1),
        (0.95, 0.95 - 0.1 * sqrt(0.4375) / 0.75 / 2),
        {"m": (1, 1), "v": (1, 1)},
    ),
}
RULES = list(CASES)
DTYPES = ["float32", "float64"]


def both(rule: str, **arguments: float) -> tuple[Any, Any]:
    """Make the reference's optimizer and the fast one."""
    return getattr(reference, rule)(**arguments), getattr(fastopt, rule)(**arguments)


def same_bits(ref: Any, comp: Any) -> bool:
    """Whether two numbers or arrays have one shape, one dtype and the same bits."""
    ref, comp = np.asarray(ref), np.asarray(comp)
    return ref.shape == comp.shape and ref.dtype == comp.dtype and ref.tobytes() == comp.tobytes()


def snapshot(container: Any) -> list[bytes]:
    """Give the bytes of all values of a dict or list."""
    values = container.values() if isinstance(container, dict) else container
    return [np.asarray(value).tobytes() for value in values]


def state_bytes(optimizer: Any) -> list[Any]:
    """Give the bytes of the whole state, and the counter."""
    names = type(optimizer).states
    states = [getattr(optimizer, name) for name in names]
    return [optimizer.iter, *(None if state is None else snapshot(state) for state in states)]


def hyperparameters(optimizer):
    """Give the names of a rule's own arguments."""
    return [field.name for field in fields(optimizer) if not field.kw_only]
