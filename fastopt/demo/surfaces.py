"""Functions of two variables on which optimizers are compared."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from fastopt.demo.settings import SETTINGS
from fastopt.tools.trajectories import trajectory

__all__ = ["SURFACES", "Surface", "path"]


class Surface(NamedTuple):
    """A function of x and y with its gradient (∂f/∂x, ∂f/∂y), and how the comparison runs on it."""

    formula: str
    f: Callable[[Any, Any], Any]
    gradient: Callable[[float, float], tuple[float, float]]
    start: tuple[float, float]
    minimum: tuple[float, float]
    steps: int
    window: tuple[float, float, float, float]  # of the picture: left, right, bottom, top
    lr: dict[str, float]  # of each rule
    notes: tuple[str, ...] = ()  # on what is measured


def learning_rates(name: str) -> dict[str, float]:
    """Return the learning rate of each rule on a surface."""
    rates = {rule: getattr(setting, name) for rule, setting in SETTINGS.items()}
    return {rule: rate for rule, rate in rates.items() if rate is not None}


def beale_gradient(x: float, y: float) -> tuple[float, float]:
    """Return the gradient of Beale's function."""
    a, b, c = 1.5 - x + x * y, 2.25 - x + x * y**2, 2.625 - x + x * y**3
    return (
        2 * (a * (y - 1) + b * (y**2 - 1) + c * (y**3 - 1)),
        2 * x * (a + 2 * b * y + 3 * c * y**2),
    )


SURFACES = {
    # The article's: start, number of steps, and the learning rates of SGD, Momentum, AdaGrad and Adam. After
    # 30 steps Adam is nearer than SGD (0.35 to 0.36) on a path of less than a quarter of the length. SGD gets
    # nearer by 10% a step, and Adam has just passed the minimum: after 40 steps SGD is at 0.13, Adam at 0.71.
    "valley": Surface(
        formula="x²/20 + y²",
        f=lambda x, y: x**2 / 20 + y**2,
        gradient=lambda x, y: (x / 10, 2 * y),
        start=(-7.0, 2.0),
        minimum=(0.0, 0.0),
        steps=30,
        window=(-8.5, 4.5, -3.2, 3.2),
        lr=learning_rates("valley"),
        notes=(
            "The start, 30 steps, and the learning rates of SGD, Momentum, AdaGrad and Adam are the book's. "
            "By then Momentum, Nesterov and Adam have passed the minimum, to which they return later: after "
            "more steps the distances have another order.",
        ),
    ),
    "rosenbrock": Surface(
        formula="(1 − x)² + 100·(y − x²)²",
        f=lambda x, y: (1 - x) ** 2 + 100 * (y - x**2) ** 2,
        gradient=lambda x, y: (-2 * (1 - x) - 400 * x * (y - x**2), 200 * (y - x**2)),
        start=(-1.2, 1.0),
        minimum=(1.0, 1.0),
        steps=300,
        window=(-1.8, 1.6, -0.6, 2.2),
        lr=learning_rates("rosenbrock"),
    ),
    "beale": Surface(
        formula="(1.5 − x + xy)² + (2.25 − x + xy²)² + (2.625 − x + xy³)²",
        f=lambda x, y: (1.5 - x + x * y) ** 2 + (2.25 - x + x * y**2) ** 2 + (2.625 - x + x * y**3) ** 2,
        gradient=beale_gradient,
        start=(1.0, 1.5),
        minimum=(3.0, 0.5),
        steps=200,
        window=(-1.6, 4.2, -2.4, 1.9),
        lr=learning_rates("beale"),
    ),
}


def path(optimizer: Any, surface: Surface) -> np.ndarray:
    """Return the points of a new optimizer's path over a surface, of shape (steps + 1, 2)."""
    return trajectory(optimizer, surface.f, surface.start, surface.steps, surface.gradient).points
