"""`trajectory`: the path of an optimizer over a function of two variables, and its picture."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from fastopt.checks import integer
from fastopt.figures import figure

__all__ = ["Trajectory", "draw", "trajectory"]

Function = Callable[[Any, Any], Any]
Gradient = Callable[[float, float], Sequence[float]]


class Trajectory(NamedTuple):
    """The path of an optimizer.

    Attributes
    ----------
    f : callable
        The function.
    points : array of shape (steps + 1, 2)
        The start and the point after each step.
    """

    f: Function
    points: np.ndarray

    def __repr__(self) -> str:
        first, last = map(format_point, self.points[[0, -1]])
        return f"<Trajectory: {len(self.points) - 1} steps from {first} to {last}>"

    def plot(self, window: Sequence[float] | None = None, color: str = "#D55E00") -> Any:
        """Draw the path over the contours of the function.

        Parameters
        ----------
        window : sequence of four floats, optional
            What is shown: left, right, bottom, top; by default what the path needs.
        color : str
            Of the path.

        Returns
        -------
        matplotlib.figure.Figure
            ``savefig(path)`` writes it; a notebook shows it, as does pyplot's ``show`` if pyplot was imported
            before. (Needs the extra ``demo``.)
        """
        if window is None:
            finite = self.points[np.isfinite(self.points).all(1)]
            low, high = finite.min(0), finite.max(0)
            margin = 0.15 * np.maximum(high - low, 0.1 * max(1e-6, *(high - low)))
            (left, bottom), (right, top) = low - margin, high + margin
            window = left, right, bottom, top
        with figure(figsize=(6, 5)) as canvas:
            panel = canvas.subplots()
            draw(panel, self.f, self.points, window, color)
            last = format_point(self.points[-1])
            panel.set_title(f"{len(self.points) - 1} steps, to {last}", loc="left", size=10)
        return canvas


def trajectory(
    optimizer: Any, f: Function, start: Sequence[float], steps: int, gradient: Gradient | None = None
) -> Trajectory:
    """Follow an optimizer over a function of two variables.

    Parameters
    ----------
    optimizer : object with ``update(params, grads)``
        A new one, of fastopt's or of anybody's. It goes on from here if it is used again.
    f : callable
        f(x, y), of numbers; for `Trajectory.plot` of arrays, too.
    start : pair of float
        The first x and y.
    steps : int
        How many steps are taken, from 0.
    gradient : callable, optional
        Gives (∂f/∂x, ∂f/∂y) at x, y; by default it is worked out from central differences.

    Returns
    -------
    Trajectory
        With ``points`` and ``plot()``.

    Raises
    ------
    TypeError, ValueError
        If start isn't two numbers, or steps no whole number from 0.

    Examples
    --------
    >>> import fastopt
    >>> path = fastopt.trajectory(fastopt.SGD(lr=0.25), lambda x, y: x**2 + y**2, (2.0, -4.0), 3)
    >>> path.points.round(6).tolist()
    [[2.0, -4.0], [1.0, -2.0], [0.5, -1.0], [0.25, -0.5]]
    """
    if np.shape(start) != (2,):
        raise ValueError(f"start must be two numbers, not {start!r}")
    params = {key: float(value) for key, value in zip("xy", start, strict=True)}
    points = [tuple(params.values())]
    for _ in range(integer("steps", steps)):
        grads = differences(f, *points[-1]) if gradient is None else gradient(*points[-1])
        optimizer.update(params, dict(zip("xy", grads, strict=True)))
        points.append(tuple(params.values()))
    return Trajectory(f, np.array(points))


def format_point(point: np.ndarray) -> str:
    """Return the text of a point, with four significant digits."""
    return f"({', '.join(f'{value:.4g}' for value in point)})"


def differences(f: Function, x: float, y: float) -> tuple[float, float]:
    """Return the gradient by central differences, right to about ten digits."""
    # The cube root of the precision balances rounding against the third derivative.
    h, k = (6e-6 * max(1.0, abs(value)) for value in (x, y))
    return (
        float(f(x + h, y) - f(x - h, y)) / ((x + h) - (x - h)),
        float(f(x, y + k) - f(x, y - k)) / ((y + k) - (y - k)),
    )


def draw(panel: Any, f: Function, points: np.ndarray, window: Sequence[float], color: str) -> None:
    """Draw a path over the contours of a function into one panel of a figure."""
    from matplotlib.colors import LogNorm

    left, right, bottom, top = window
    x, y = np.meshgrid(np.linspace(left, right, 400), np.linspace(bottom, top, 400))
    z = np.ma.masked_invalid(np.broadcast_to(f(x, y), x.shape))
    # Logarithms show a valley, so the lowest point seen has to be above 0.
    z = z - min(z.min(), 0.0) + 1e-9
    if z.max() > z.min():  # else there are no contours
        levels = np.geomspace(max(z.min(), z.max() * 1e-5), z.max(), 22)
        panel.contourf(x, y, z, levels, norm=LogNorm(), cmap="Greys", alpha=0.2, extend="both")
        panel.contour(x, y, z, levels, norm=LogNorm(), colors="white", linewidths=0.7)
    panel.plot(*points.T, "-", color=color, linewidth=1.6)
    # Earlier steps are paler, so that the direction can be seen without arrows.
    size, alpha = max(5, 480 / len(points)), np.linspace(0.3, 1, len(points))
    panel.scatter(*points.T, s=size, color=color, alpha=alpha, zorder=3, linewidths=0)
    panel.plot(*points[0], "o", color="white", markeredgecolor=color, markersize=8, zorder=4)
    panel.set(xlim=(left, right), ylim=(bottom, top))
    panel.spines[:].set_visible(False)
    panel.tick_params(length=0, labelcolor="dimgrey")
