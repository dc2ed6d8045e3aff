"""Figures by matplotlib, which is imported only when one is drawn."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["figure"]


@contextmanager
def figure(**arguments: Any) -> Iterator[Any]:
    """Yield a new matplotlib figure. pyplot shows it, where pyplot is in use.

    Parameters
    ----------
    **arguments
        Those of ``matplotlib.figure.Figure``.

    Raises
    ------
    ModuleNotFoundError
        If there is no matplotlib.
    """
    try:
        import matplotlib.figure  # noqa: F401

        from fastopt.pictures import new_picture
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            'a plot needs matplotlib: python -m pip install "fastopt[demo]"', name=error.name
        ) from error
    result = new_picture(layout="constrained", **arguments)
    try:
        yield result
    except BaseException:
        # pyplot would show the half of it that was drawn.
        result.leave_pyplot()
        raise
