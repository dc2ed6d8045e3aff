"""`trajectory`: the path of an optimizer over a function of two variables, and its picture."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from fastopt.checks import integer
from fastopt.figures import figure

__all__ = ["Trajectory", "draw", "trajectory"]

# Of a window's sides. One with a larger ratio would be drawn to the same scale as a line.
MAX_RATIO = 10

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
        left, right, bottom, top = shown = window_of(self.points) if window is None else window
        ratio = (top - bottom) / (right - left) if has_equal_scales(shown) else 0.8
        with figure(0.8 + min(5.3 * ratio, 7.0), 6.0) as canvas:
            panel = canvas.subplots()
            draw(panel, self.f, self.points, shown, color)
            panel.set(title=f"{len(self.points) - 1} steps, to {format_point(self.points[-1])}", ylabel="y")
            panel.set_xlabel("x (circle: start, square: end)")
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


def window_of(points: np.ndarray) -> tuple[float, float, float, float]:
    """Return what a path needs: left, right, bottom, top; with a margin of 15%."""
    finite = points[np.isfinite(points).all(1)]
    low, high = finite.min(0), finite.max(0)
    size, middle = high - low, (low + high) / 2
    longest = size.max() or 1.0
    # Equal scales then leave room for the contours beside the path.
    if not 0 < size.min() < longest / MAX_RATIO:
        size = np.maximum(size, longest / 3)
    (left, bottom), (right, top) = middle - 0.65 * size, middle + 0.65 * size
    return left, right, bottom, top


def has_equal_scales(window: Sequence[float]) -> bool:
    """Whether a window has sides such that x and y can be drawn to the same scale."""
    left, right, bottom, top = window
    shorter, longer = sorted((abs(right - left), abs(top - bottom)))
    return 0 < longer <= MAX_RATIO * shorter


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
        panel.contourf(x, y, z, levels, norm=LogNorm(), cmap="Greys", alpha=0.2, extend="both", zorder=0)
        panel.contour(x, y, z, levels, norm=LogNorm(), colors="white", linewidths=0.7, zorder=1)
    panel.plot(*points.T, "-", color=color, linewidth=1.6, zorder=3)
    # Earlier steps are paler, so that the direction can be seen without arrows.
    size, alpha = max(5, 480 / len(points)), np.linspace(0.3, 1, len(points))
    panel.scatter(*points.T, s=size, color=color, alpha=alpha, zorder=3, linewidths=0)
    panel.plot(*points[0], "o", color="white", markeredgecolor=color, markersize=8, zorder=4)
    panel.plot(*points[-1], "s", color=color, markeredgecolor="black", markersize=5, zorder=5)
    panel.set(xlim=(left, right), ylim=(bottom, top))
    if has_equal_scales(window):
        panel.set_aspect("equal")
    panel.spines[:].set_visible(False)
    panel.tick_params(length=0)
