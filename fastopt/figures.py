"""Figures by matplotlib, which is asked for only when one is drawn."""

from typing import Any

__all__ = ["figure"]


def figure(**arguments: Any) -> Any:
    """Give a new matplotlib figure, or say how to get matplotlib."""
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            'a plot needs matplotlib: python -m pip install "fastopt[demo]"', name=error.name
        ) from error
    return Figure(layout="constrained", **arguments)
