"""`Picture`: a matplotlib figure that pyplot shows in a script, and a notebook shows once.

A bare ``Figure()`` is unknown to pyplot: ``plt.show()`` doesn't show it, nor does a notebook whose cell goes
on after `plot`. A figure of pyplot's is shown at the end of the cell, and a second time if it is the value
of the cell's last line. It also stays open until somebody closes it. So a picture is registered with pyplot
where pyplot is in use. It leaves pyplot when IPython shows it as a value, or when pyplot has as many figures
open as it takes without a warning. A closed picture can still be drawn, changed and saved.
"""

import sys
from contextlib import AbstractContextManager
from io import BytesIO
from os import environ
from threading import current_thread, main_thread
from typing import Any
from weakref import ref

import matplotlib
from matplotlib.figure import Figure

__all__ = ["Picture", "drawing", "new_picture"]

# All text has one size. Titles begin where their axes do.
STYLE: dict[str, Any] = {
    "font.size": 10,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "grid.color": "0.9",
    "legend.frameon": False,
    **dict.fromkeys(("axes.titlesize", "figure.titlesize", "figure.labelsize", "legend.fontsize"), "medium"),
}

# Beginnings of settings whose defaults count, not the user's, which may be for a dark background. The user's
# fonts stay.
DEFAULTS = ("axes", "figure.constrained_layout", "grid", "legend", "lines", "text.color", "xtick", "ytick")

# Backends that write files only.
FILE_BACKENDS = frozenset(("agg", "cairo", "pdf", "pgf", "ps", "svg", "template"))

# Number of open figures that doesn't use up the memory, where the user has switched pyplot's warning off.
MAX_OPEN = 20

# The pictures that were registered with pyplot, the oldest first.
REGISTERED: list[ref["Picture"]] = []


class Picture(Figure):
    """A figure that IPython shows once, and that knows how to leave pyplot."""

    def draw(self, renderer: Any) -> None:
        """Draw the figure."""
        # Ticks and their labels are made only now.
        with drawing():
            super().draw(renderer)

    def leave_pyplot(self) -> None:
        """Close the figure in pyplot, if it is open there."""
        if (pyplot := sys.modules.get("matplotlib.pyplot")) is not None:
            pyplot.close(self)

    def is_shown_by_backend(self) -> bool:
        """Whether the backend shows the figure in a notebook, and a PNG would be the second picture."""
        backend = chosen_backend()
        if "inline" in backend:
            # When it is imported it tells IPython how figures are shown, as PNG or SVG.
            return "matplotlib_inline.backend_inline" in sys.modules
        # Backends with widgets, as ipympl's, show what is registered with pyplot.
        return self.canvas.manager is not None and backend not in FILE_BACKENDS

    def _ipython_display_(self) -> None:
        # The inline backend shows what is open in pyplot at the end of the cell.
        if "inline" in chosen_backend():
            self.leave_pyplot()
        # IPython then asks its formatters, which the user may have set to SVG.
        raise NotImplementedError

    def _repr_png_(self) -> bytes | None:
        if self.is_shown_by_backend():
            return None
        file = BytesIO()
        self.savefig(file, format="png", bbox_inches="tight")
        return file.getvalue()


def drawing() -> AbstractContextManager[None]:
    """Return a context in which matplotlib has the settings of all pictures."""
    settings: dict[Any, Any] = {
        key: matplotlib.rcParamsDefault[key] for key in matplotlib.rcParamsDefault if key.startswith(DEFAULTS)
    }
    return matplotlib.rc_context(settings | STYLE)


def chosen_backend() -> str:
    """Return the name of matplotlib's backend; an empty string if none is chosen yet."""
    try:
        backend: Any = matplotlib.get_backend(auto_select=False)
    except TypeError:  # before matplotlib 3.10
        is_in_use = "matplotlib.pyplot" in sys.modules
        backend = matplotlib.get_backend() if is_in_use else environ.get("MPLBACKEND")
    return (backend or "").lower()


def is_pyplot_in_use() -> bool:
    """Whether pyplot shows figures here: it was imported, or a backend with windows or a notebook was chosen.

    Otherwise pyplot isn't imported: this would choose a backend, which takes time and may open a connection
    to the screen. GUI toolkits accept windows from the main thread only.
    """
    is_chosen = chosen_backend() not in FILE_BACKENDS | {""}
    return current_thread() is main_thread() and ("matplotlib.pyplot" in sys.modules or is_chosen)


def new_picture(**arguments: Any) -> Picture:
    """Return a new figure, the current one of pyplot where that is in use.

    Parameters
    ----------
    **arguments
        Those of ``matplotlib.figure.Figure``.
    """
    if not is_pyplot_in_use():
        return Picture(**arguments)
    try:
        from matplotlib import pyplot

        make_room(pyplot)
        figure: Any = pyplot.figure(FigureClass=Picture, **arguments)
    # A backend has exceptions of its own, as Tk's on a machine without a screen; files can be written there.
    except Exception:
        return Picture(**arguments)
    REGISTERED.append(ref(figure))
    return figure


def make_room(pyplot: Any) -> None:
    """Close the oldest pictures if pyplot would warn of the next figure; never a figure of the user's."""
    limit = matplotlib.rcParams["figure.max_open_warning"] or MAX_OPEN
    REGISTERED[:] = [known for known in REGISTERED if known() is not None]
    while REGISTERED and len(pyplot.get_fignums()) >= limit:
        if (oldest := REGISTERED.pop(0)()) is not None:
            oldest.leave_pyplot()
