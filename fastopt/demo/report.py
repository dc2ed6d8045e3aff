"""Text tables and pictures."""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

__all__ = ["COLORS", "save", "table"]

# One color a rule in every picture: for the book's Okabe and Ito's, which the color-blind can tell apart; for
# the others shades of their family's.
COLORS = {
    "SGD": "#D55E00",
    "Momentum": "#E69F00",
    "Nesterov": "#009E73",
    "AdaGrad": "#0072B2",
    "RMSprop": "#56B4E9",
    "Adam": "#CC79A7",
    "OptimisticGD": "#FDAE61",
    "ASGD": "#F4A582",
    "ScheduleFreeSGD": "#8C2D04",
    "AdaDelta": "#08306B",
    "RMSpropGraves": "#9ECAE1",
    "FTRL": "#41B6C4",
    "AdamW": "#7B3294",
    "AMSGrad": "#C2A5CF",
    "AdaMax": "#E7298A",
    "NAdam": "#980043",
    "RAdam": "#DF65B0",
    "AdaBelief": "#54278F",
    "Yogi": "#9E9AC8",
    "Adan": "#67001F",
    "AdEMAMix": "#F768A1",
    "ScheduleFreeAdamW": "#3F007D",
    "Rprop": "#1B7837",
    "Signum": "#7FBC41",
    "Lion": "#A6761D",
    "LARS": "#525252",
    "LAMB": "#969696",
    "NovoGrad": "#000000",
    "SM3": "#8C6D31",
    "Adafactor": "#67A9CF",
    "Prodigy": "#FDB863",
    "Muon": "#B2182B",
}


def table(header: Sequence[str], rows: Sequence[Sequence[str]], left: Collection[int] = (0,)) -> str:
    """Give a table as text.

    Parameters
    ----------
    header : sequence of str
        Titles; a line break splits one over two lines.
    rows : sequence of sequences of str
        The cells; a row of one cell is a heading over all columns.
    left : collection of int
        The columns whose cells go to the left; those of the others go to the right.
    """
    titles = [(("\n" + title).split("\n"))[-2:] for title in header]
    lines = [[title[0] for title in titles], [title[1] for title in titles], *rows]
    widths = [
        max(len(line[column]) for line in lines if len(line) == len(header)) for column in range(len(header))
    ]
    texts = [
        "  ".join(
            cell.ljust(width) if column in left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        if len(line) == len(header)
        else line[0]
        for line in lines
    ]
    texts.insert(2, "  ".join("─" * width for width in widths))
    return "\n".join(texts if texts[0] else texts[1:])  # no title has two lines


def save(figure: Any, out: Path) -> Path:
    """Save a matplotlib figure and give the path."""
    figure.savefig(out, dpi=160)
    return out
