"""Text tables."""

from collections.abc import Collection, Sequence
from itertools import zip_longest
from shutil import get_terminal_size
from textwrap import fill

__all__ = ["paragraph", "table"]

GAP = "  "


def table(
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    left: Collection[int] = (0,),
    keys: int = 1,
    width: int | None = None,
) -> str:
    """Return a table as text, in lines of the terminal's width where its columns allow that.

    A table that is wider is cut into parts, one below the other. Each begins with the first columns.

    Parameters
    ----------
    header : sequence of str
        The titles, one a column. A line break begins a new line of a title.
    rows : sequence of sequences of str
        The cells. A row of one cell is a heading over all columns.
    left : collection of int
        Indices of the columns whose cells begin on the left.
    keys : int
        Number of first columns that each part repeats.
    width : int, optional
        Length of a line in characters; by default that of the terminal, or 80 if there is none.
    """
    width = get_terminal_size().columns if width is None else width
    titles = [title.split("\n")[::-1] for title in header]
    lines = [*map(list, zip_longest(*titles, fillvalue=""))][::-1]
    n_titles = len(lines)
    lines += map(list, rows)
    full = [line for line in lines if len(line) == len(header)]
    widths = [max(map(len, column)) for column in zip(*full, strict=True)]

    def part(columns: Sequence[int]) -> str:
        def text(line: Sequence[str]) -> str:
            if len(line) != len(header):
                return line[0]
            cells = ((line[i].ljust if i in left else line[i].rjust)(widths[i]) for i in columns)
            return GAP.join(cells).rstrip()

        texts = [*map(text, lines)]
        texts.insert(n_titles, GAP.join("─" * widths[i] for i in columns))
        # A part may have shorter titles than another.
        while not texts[0]:
            del texts[0]
        return "\n".join(texts)

    return "\n\n".join(map(part, cut(widths, keys, width)))


def cut(widths: Sequence[int], keys: int, width: int) -> list[list[int]]:
    """Return the columns of each part: as few parts as fit, of widths that differ little."""

    def parts(limit: int) -> list[list[int]]:
        found, used = [[*range(keys)]], sum(widths[:keys]) + len(GAP) * (keys - 1)
        taken = used
        for i, columns in enumerate(widths[keys:], keys):
            if taken + len(GAP) + columns > limit and len(found[-1]) > keys:
                found.append([*range(keys)])
                taken = used
            found[-1].append(i)
            taken += len(GAP) + columns
        return found

    fewest = parts(width)
    limits = range(width)
    return next((found for limit in limits if len(found := parts(limit)) == len(fewest)), fewest)


def paragraph(text: str) -> str:
    """Return a text in lines of the terminal's width."""
    return fill(text, get_terminal_size().columns, break_long_words=False, break_on_hyphens=False)
