"""Figures by matplotlib, which is imported only when one is drawn: their sizes, and how they are saved."""

from collections.abc import Iterator
from contextlib import contextmanager
from math import ceil, sqrt
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["MARKERS", "WIDTH", "figure", "label_logarithmic", "n_columns", "save", "smoothed"]

# Width of a figure in inches. A page of documentation is about 830 px wide, a notebook a bit wider, so that
# an inch has 100 px, and a text of 10 points 14.
WIDTH = 8.3

# Pixels an inch in a file: two for each on the page, for screens that have so many.
DPI = 200

# Lines that differ in their color have different markers, too: for print, and for the color-blind.
MARKERS = ("o", "s", "^", "D", "v", "X", "P", "*", "<", ">")


@contextmanager
def figure(height: float, width: float = WIDTH, is_shown: bool = True, **arguments: Any) -> Iterator[Any]:
    """Yield a new matplotlib figure. pyplot shows it, where pyplot is in use.

    Parameters
    ----------
    height, width : float
        In inches.
    is_shown : bool, default True
        Whether pyplot is to show it. It isn't if it is for a file only.
    **arguments
        Others of ``matplotlib.figure.Figure``.

    Raises
    ------
    ModuleNotFoundError
        If there is no matplotlib.
    """
    try:
        import matplotlib.figure  # noqa: F401

        from fastopt.pictures import Picture, drawing, new_picture
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            'a plot needs matplotlib: python -m pip install "fastopt[demo]"', name=error.name
        ) from error
    # In the user's style for dark pages text would be white. So the background is part of the figure.
    settings = {"layout": "constrained", "facecolor": "white", "figsize": (width, height), **arguments}
    result = new_picture(**settings) if is_shown else Picture(**settings)
    try:
        with drawing():
            yield result
    except BaseException:
        # pyplot would show the half of it that was drawn.
        result.leave_pyplot()
        raise


def n_columns(n_panels: int) -> int:
    """Return the number of columns of a grid of panels: three, or with many panels about as many as rows."""
    return min(n_panels, max(3, ceil(sqrt(n_panels))))


def label_logarithmic(axis: Any) -> None:
    """Label an axis with a logarithmic scale by numbers as 0.1 and 20, without exponents, which are small.

    The limits of the axis must have been set, or all data drawn.
    """
    from matplotlib.ticker import LogLocator, NullFormatter

    low, high = sorted(axis.get_view_interval())
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 30 * low else (1,), numticks=7))
    axis.set_major_formatter(lambda x, _=None: f"{x:,.0f}" if x >= 1 else f"{x:g}".replace("e-0", "e-"))
    axis.set_minor_formatter(NullFormatter())


def smoothed(losses: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return steps and the moving average of the losses over a fortieth of them, which ends at the step."""
    window = max(1, len(losses) // 40)
    return np.arange(window, len(losses) + 1), np.convolve(losses, np.ones(window) / window, "valid")


def save(figure: Any, out: "Path") -> "Path":
    """Save a figure as PNG, and return the path."""
    figure.savefig(out, dpi=DPI)
    return out
