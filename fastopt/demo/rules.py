"""``python -m fastopt rules``: what there is, as text and as the README's table."""

from itertools import groupby
from operator import attrgetter
from textwrap import wrap

from fastopt import optimizers
from fastopt.catalogue import Rule, rules
from fastopt.demo.report import table

__all__ = ["BEGIN", "END", "markdown", "renewed", "summary"]

# In a Markdown file the table is between these lines.
BEGIN, END = "<!-- rules: python -m fastopt rules --markdown README.md -->", "<!-- end of rules -->"


def costs(rule: Rule) -> tuple[str, str, str]:
    """Give the states, and the bytes moved and kept in float32 and float64."""
    dtypes = ("float32", "float64")
    moved = " / ".join(str(rule.traffic(dtype)) for dtype in dtypes)
    kept = " / ".join(str(rule.state_bytes(dtype)) for dtype in dtypes)
    return ", ".join((*rule.states, *rule.small)) or "–", moved, " + ".join((kept, *rule.small))


def summary() -> str:
    """Give the table as text."""
    rows = []
    for rule in rules():
        first, *more = wrap(rule.source.replace("*", "").replace("`", ""), 50) or [""]  # python -OO
        rows.append((rule.name, rule.family, *costs(rule), first))
        rows += [("",) * 5 + (line,) for line in more]
    header = (
        "rule",
        "family",
        "states",
        "bytes moved,\nfloat32 / 64",
        "bytes of state,\nfloat32 / 64",
        "source",
    )
    return table(header, rows, left=(0, 1, 2, 5))


def markdown() -> str:
    """Give the table in Markdown, a part for each family."""
    lines = [
        "| rule | states | bytes moved for each float32 / float64 | bytes of state | source |",
        "|---|---|---|---|---|",
    ]
    for family, members in groupby(rules(), attrgetter("family")):
        title = getattr(optimizers, family).__doc__.splitlines()[0].rstrip(".")
        lines.append(f"| **{title}** | | | | |")
        for rule in members:
            states, moved, kept = costs(rule)
            lines.append(f"| `{rule.name}` | {states} | {moved} | {kept} | {rule.source} |")
    return "\n".join(lines)


def renewed(text: str) -> str:
    """Give a Markdown text with the table of today between `BEGIN` and `END`.

    Raises
    ------
    ValueError
        If the two lines aren't there, once each and in this order.
    """
    before, begin, rest = text.partition(f"{BEGIN}\n")
    _, end, after = rest.partition(f"{END}\n")
    if not (begin and end) or BEGIN in rest or END in after:
        raise ValueError(f"there must be one line {BEGIN!r} and after it one line {END!r}")
    return f"{before}{BEGIN}\n{markdown()}\n{END}\n{after}"
