"""Functions of two variables on which optimizers are compared, with their gradients by hand."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from fastopt.trajectories import trajectory

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
