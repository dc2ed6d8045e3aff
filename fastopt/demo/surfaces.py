"""Functions of two variables on which optimizers are compared, with their gradients by hand."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from fastopt.tools.trajectories import trajectory

__all__ = ["SURFACES", "Surface", "path"]


class Surface(NamedTuple):
    """A function of x and y, and how the comparison runs on it.

    Attributes
    ----------
    formula : str
        The function as text.
    f : callable
        Value at (x, y), numbers or arrays.
    gradient : callable
        (∂f/∂x, ∂f/∂y) at (x, y).
    start, minimum : tuple of float
        Where the paths start, and where they should end.
    steps : int
        How many steps are taken.
    window : tuple of float
        What the picture shows: left, right, bottom, top.
    lr : dict
        Learning rate of each rule.
    """

    formula: str
    f: Callable[[Any, Any], Any]
    gradient: Callable[[float, float], tuple[float, float]]
    start: tuple[float, float]
    minimum: tuple[float, float]
    steps: int
    window: tuple[float, float, float, float]
    lr: dict[str, float]


def beale_gradient(x: float, y: float) -> tuple[float, float]:
    """Give the gradient of Beale's function."""
    a, b, c = 1.5 - x + x * y, 2.25 - x + x * y**2, 2.625 - x + x * y**3
    return (
        2 * (a * (y - 1) + b * (y**2 - 1) + c * (y**3 - 1)),
        2 * x * (a + 2 * b * y + 3 * c * y**2),
    )


SURFACES = {
    # The article's, with the book's learning rates where it gives one (SGD, Momentum, AdaGrad, Adam).
    "valley": Surface(
        formula="x²/20 + y²",
        f=lambda x, y: x**2 / 20 + y**2,
        gradient=lambda x, y: (x / 10, 2 * y),
        start=(-7.0, 2.0),
        minimum=(0.0, 0.0),
        steps=30,
        window=(-8.5, 4.5, -3.2, 3.2),
        lr={
            "SGD": 0.95,
            "Momentum": 0.1,
            "Nesterov": 0.1,
            "AdaGrad": 1.5,
            "RMSprop": 0.15,
            "Adam": 0.3,
            "OptimisticGD": 0.3,
            "ASGD": 0.95,
            "ScheduleFreeSGD": 1.0,
            "AdaDelta": 180.0,
            "RMSpropGraves": 0.018,
            "FTRL": 1.8,
            "AdamW": 0.3,
            "AMSGrad": 0.3,
            "AdaMax": 0.4,
            "NAdam": 0.4,
            "RAdam": 1.3,
            "AdaBelief": 0.18,
            "Yogi": 0.3,
            "Adan": 0.24,
            "AdEMAMix": 0.3,
            "ScheduleFreeAdamW": 1.8,
            "Rprop": 0.18,
            "Signum": 0.24,
            "Lion": 0.24,
            "LARS": 10.0,
            "LAMB": 0.3,
            "NovoGrad": 0.032,
            "Adafactor": 0.6,
            "SM3": 1.0,
            "Prodigy": 1.8,
        },
    ),
    "rosenbrock": Surface(
        formula="(1 − x)² + 100·(y − x²)²",
        f=lambda x, y: (1 - x) ** 2 + 100 * (y - x**2) ** 2,
        gradient=lambda x, y: (-2 * (1 - x) - 400 * x * (y - x**2), 200 * (y - x**2)),
        start=(-1.2, 1.0),
        minimum=(1.0, 1.0),
        steps=300,
        window=(-1.8, 1.6, -0.6, 2.2),
        lr={
            "SGD": 0.0035,
            "Momentum": 0.0016,
            "Nesterov": 0.0016,
            "AdaGrad": 1.0,
            "RMSprop": 0.08,
            "Adam": 0.4,
            "OptimisticGD": 0.001,
            "ASGD": 0.0035,
            "ScheduleFreeSGD": 0.0056,
            "AdaDelta": 9.5,
            "RMSpropGraves": 0.004,
            "FTRL": 1.0,
            "AdamW": 0.3,
            "AMSGrad": 0.4,
            "AdaMax": 0.95,
            "NAdam": 0.08,
            "RAdam": 0.0055,
            "AdaBelief": 0.4,
            "Yogi": 0.4,
            "Adan": 0.056,
            "AdEMAMix": 0.4,
            "ScheduleFreeAdamW": 0.24,
            "Rprop": 0.004,
            "Signum": 0.01,
            "Lion": 0.01,
            "LARS": 10.0,
            "LAMB": 0.05,
            "NovoGrad": 0.0018,
            "Adafactor": 1.0,
            "SM3": 3.2,
            "Prodigy": 1.0,
        },
    ),
    "beale": Surface(
        formula="(1.5 − x + xy)² + (2.25 − x + xy²)² + (2.625 − x + xy³)²",
        f=lambda x, y: (1.5 - x + x * y) ** 2 + (2.25 - x + x * y**2) ** 2 + (2.625 - x + x * y**3) ** 2,
        gradient=beale_gradient,
        start=(1.0, 1.5),
        minimum=(3.0, 0.5),
        steps=200,
        window=(-1.6, 4.2, -2.4, 1.9),
        lr={
            "SGD": 0.03,
            "Momentum": 0.003,
            "Nesterov": 0.0035,
            "AdaGrad": 1.8,
            "RMSprop": 0.15,
            "Adam": 0.3,
            "OptimisticGD": 0.01,
            "ASGD": 0.03,
            "ScheduleFreeSGD": 0.018,
            "AdaDelta": 24.0,
            "RMSpropGraves": 0.0056,
            "FTRL": 1.3,
            "AdamW": 0.24,
            "AMSGrad": 0.24,
            "AdaMax": 1.0,
            "NAdam": 0.32,
            "RAdam": 0.003,
            "AdaBelief": 0.24,
            "Yogi": 0.24,
            "Adan": 0.75,
            "AdEMAMix": 0.13,
            "ScheduleFreeAdamW": 0.18,
            "Rprop": 0.0013,
            "Signum": 0.024,
            "Lion": 0.022,
            "LARS": 3.2,
            "LAMB": 0.018,
            "NovoGrad": 0.0032,
            "Adafactor": 0.1,
            "SM3": 1.8,
            "Prodigy": 1.0,
        },
    ),
}


def path(optimizer: Any, surface: Surface) -> np.ndarray:
    """Follow an optimizer over a surface.

    Parameters
    ----------
    optimizer : object with ``update(params, grads)``
        A new one, of fastopt's or of anybody's.
    surface : Surface
        Where it goes.

    Returns
    -------
    array of shape (steps + 1, 2)
        The start and the point after each step.
    """
    return trajectory(optimizer, surface.f, surface.start, surface.steps, surface.gradient).points
