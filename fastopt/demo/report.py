"""Text tables and pictures."""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

__all__ = ["save", "table"]


def table(header: Sequence[str], rows: Sequence[Sequence[str]], left: Collection[int] = (0,)) -> str:
    """Return a table as text, with the cells of some columns on the left.

    A line break splits a title over two lines. A row of one cell is a heading over all columns.
    """
    titles = [(("\n" + title).split("\n"))[-2:] for title in header]
    lines = [*map(list, zip(*titles, strict=True)), *rows]
    full = [line for line in lines if len(line) == len(header)]
    widths = [max(map(len, column)) for column in zip(*full, strict=True)]

    def text(line: Sequence[str]) -> str:
        if len(line) != len(header):
            return line[0]
        cells = enumerate(zip(line, widths, strict=True))
        return "  ".join(c.ljust(w) if i in left else c.rjust(w) for i, (c, w) in cells).rstrip()

    texts = [text(line) for line in lines]
    texts.insert(2, "  ".join("─" * width for width in widths))
    return "\n".join(texts if texts[0] else texts[1:])  # no title has two lines


def save(figure: Any, out: Path) -> Path:
    """Save a matplotlib figure, and return the path."""
    figure.savefig(out, dpi=160)
    return out
