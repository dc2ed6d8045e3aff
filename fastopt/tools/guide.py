"""The guide's pages, which are Markdown files in the package, and their text in a terminal."""

import re
from collections.abc import Iterator
from importlib.resources import files
from itertools import groupby
from textwrap import fill, indent

from fastopt.tools.report import table
from fastopt.words import near

__all__ = ["contents", "page", "page_text"]

# The order in which a newcomer reads; further pages follow by name.
ORDER = (
    "start", "containers", "options", "rules", "averages", "schedules", "groups", "packed", "embeddings",
    "checkpoints", "own-rule", "functional", "ranks", "libraries", "notebook", "faults",
    "speed", "state", "how-it-works",
)  # fmt: skip

# Longer lines are tiring to read, however wide the terminal is.
MAX_WIDTH = 100

# Columns of a wide table are shown in several parts if no cell is longer, in characters.
MAX_CUT = 40


def page_names() -> list[str]:
    """Return the names of the pages, in the order in which they are read."""
    folder = files("fastopt").joinpath("guide")
    found = sorted(file.name.removesuffix(".md") for file in folder.iterdir() if file.name.endswith(".md"))
    return [*(name for name in ORDER if name in found), *(name for name in found if name not in ORDER)]


def page(name: str) -> str:
    """Return the Markdown of a page.

    Raises
    ------
    ValueError
        If there is no such page; the message has those that there are.
    """
    name = name.removesuffix(".md")
    names = page_names()
    if name not in names:
        hint = near(name, names)
        known = f"there are {', '.join(names)}"
        raise ValueError(f"must be a page of the guide, got {name!r}; {f'{hint} ' if hint else ''}{known}")
    return files("fastopt").joinpath("guide", f"{name}.md").read_text("utf-8")


def contents() -> list[tuple[str, str]]:
    """Return the name and the title of each page, in the order in which they are read."""
    return [(name, title(page(name))) for name in page_names()]


def title(markdown: str) -> str:
    """Return the title of a page: its first heading, without the number sign."""
    return next((plain(line[2:]) for line in markdown.splitlines() if line.startswith("# ")), "")


def page_text(markdown: str, width: int) -> str:
    """Return a page as text for a terminal of this width.

    Paragraphs and items are filled, code is indented, tables are aligned where they fit; what links, emphasis
    and comments are made of is left out.
    """
    return "\n\n".join(blocks(markdown, min(width, MAX_WIDTH)))


def blocks(markdown: str, width: int) -> Iterator[str]:
    """Yield the text of each block of a page."""
    for i, part in enumerate(re.split(r"^(```.*?^```) *$", markdown, flags=re.MULTILINE | re.DOTALL)):
        if i % 2:  # between the texts is what the pattern found: code
            yield indent("\n".join(part.splitlines()[1:-1]), "    ")
            continue
        # Comments are for the tests of the examples.
        text = re.sub(r"<!--.*?-->\n?", "", part, flags=re.DOTALL)
        text = re.sub(r"^(#+ .*)$", r"\n\1\n", text, flags=re.MULTILINE)
        for block in re.split(r"\n\s*\n", text):
            if block.strip():
                yield block_text(block.strip("\n").splitlines(), width)


def block_text(block: list[str], width: int) -> str:
    """Return the text of a heading, a table, a list or a paragraph."""
    if block[0].startswith("#"):
        level, _, heading = block[0].partition(" ")
        return f"{plain(heading)}\n{('=' if level == '#' else '-') * len(plain(heading))}"
    if block[0].startswith("|"):
        return table_text(block, width)
    items = [*list_items(block)]
    return "\n".join(filled(text, width, lead) for lead, text in items)


def list_items(block: list[str]) -> Iterator[tuple[str, str]]:
    """Yield the lead ("- ", or "" for a paragraph) and the text of each item in a block."""
    starts = [re.match(r" *(?:[-*]|\d+\.) +", line) for line in block]
    number = 0
    numbered = []
    for line, start in zip(block, starts, strict=True):
        number += start is not None
        numbered.append((number, line, start))
    for _, group in groupby(numbered, lambda entry: entry[0]):
        (_, first, start), *rest = group
        lead = start.group() if start else ""
        yield lead, " ".join([first[len(lead) :].strip(), *(line.strip() for _, line, _ in rest)])


def filled(text: str, width: int, lead: str = "") -> str:
    """Return a text in lines of a width, those after the first as far from the edge as its lead is wide."""
    return fill(
        plain(text),
        max(width, 30),
        initial_indent=lead,
        subsequent_indent=" " * len(lead),
        break_long_words=False,
        break_on_hyphens=False,
    )


def table_text(block: list[str], width: int) -> str:
    """Return a table with aligned columns, or, where it is too wide, an item for each row."""
    header, _, *rows = (
        [plain(cell.strip().replace(r"\|", "|")) for cell in re.split(r"(?<!\\)\|", line.strip().strip("|"))]
        for line in block
    )
    rows = [(row + [""] * len(header))[: len(header)] for row in rows]
    # Numbers may be cut into parts one below the other, texts may not. Each part has the columns that tell
    # the rows apart.
    keys = next((n for n in range(1, len(header)) if len({tuple(row[:n]) for row in rows}) == len(rows)), 1)
    longest = max(len(cell) for row in rows for cell in row)
    aligned = table(header, rows, range(len(header)), keys, width if longest <= MAX_CUT else 10_000)
    if max(map(len, aligned.splitlines())) <= width:
        return aligned
    items = []
    for first, *rest in rows:
        cells = [
            f"{name}: {cell}" if name else cell for name, cell in zip(header[1:], rest, strict=False) if cell
        ]
        # With two columns the second one's title is plain from the place.
        text = "; ".join(rest if len(header) == 2 else cells)
        items.append(filled(": ".join(part for part in (first, text) if part), width, "- "))
    return "\n".join(items)


def plain(text: str) -> str:
    """Return a line of Markdown without what its links, pictures and emphasis are made of."""
    text = re.sub(r"!\[([^]]*)\]\(([^)]*)\)", r"(picture \2: \1)", text)
    text = re.sub(r"\[([^]]*)\]\(([\w-]+)\.md(?:#[^)]*)?\)", r"\1 (page \2)", text)
    text = re.sub(r"\[([^]]*)\]\(([^)]*)\)", r"\1 (\2)", text)
    return re.sub(r"\*\*([^*]+)\*\*", r"\1", text)
