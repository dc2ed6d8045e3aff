"""The table of rules, as text and as that of the guide: ``fastopt rules``."""

from collections.abc import Iterator
from inspect import Signature, signature
from itertools import chain, groupby, zip_longest
from operator import attrgetter
from textwrap import wrap

from fastopt import optimizers, reference
from fastopt.tools.registry import Rule, rules
from fastopt.tools.report import table

__all__ = ["BEGIN", "END", "markdown", "renewed", "summary"]

# The widest column of states, in characters.
STATES = 24
# In a Markdown file the table is between these lines.
BEGIN = "<!-- rules: python -m fastopt rules --markdown fastopt/guide/rules.md -->"
END = "<!-- end of rules -->"


def arguments(rule: Rule) -> str:
    """Return the arguments of a rule's own with their defaults, as in a call."""
    own = signature(getattr(reference, rule.name)).parameters
    found = signature(getattr(optimizers, rule.name)).parameters.values()
    return str(Signature([p.replace(annotation=p.empty) for p in found if p.name in own]))[1:-1]


def costs(rule: Rule) -> tuple[str, str]:
    """Return the states, and the bytes moved in float32 and float64."""
    moved = " / ".join(str(rule.bytes_per_element(dtype)) for dtype in ("float32", "float64"))
    return ", ".join((*rule.states, *rule.reduced_states)) or "–", moved


def families() -> Iterator[tuple[str, list[Rule]]]:
    """Yield the title of each family with its rules."""
    for family, members in groupby(rules(), attrgetter("family")):
        title = (getattr(optimizers, family).__doc__ or family).splitlines()[0]  # python -OO has none
        yield title.rstrip("."), [*members]


def summary(width: int) -> str:
    """Return the table as text, in lines of a width if it isn't too small."""
    found = rules()
    states = {rule.name: wrap(costs(rule)[0], STATES) for rule in found}
    before = max(map(len, states)) + max(map(len, chain(*states.values()))) + len("float32 / 64")
    rest = max(20, width - before - 6)
    rows: list[tuple[str, ...]] = []
    for title, members in families():
        rows += [("",), *((line,) for line in wrap(title, width))]
        for rule in members:
            source = rule.source.replace("*", "").replace("`", "")
            lines = wrap(arguments(rule), rest) + wrap(source, rest)
            first, *more = zip_longest(states[rule.name], lines, fillvalue="")
            rows.append((rule.name, first[0], costs(rule)[1], first[1]))
            rows += [("", own, "", line) for own, line in more]
    titles = ("rule", "states", "bytes moved,\nfloat32 / 64", "arguments, source")
    return table(titles, rows, left=(0, 1, 3), width=before + rest + 6)


def markdown() -> str:
    """Return the table in Markdown, a part for each family."""
    lines = ["| rule | arguments | states | bytes moved, float32 / 64 | source |", "|---|---|---|---|---|"]
    for title, members in families():
        lines.append(f"| **{title}** | | | | |")
        for rule in members:
            states, moved = costs(rule)
            lines.append(f"| `{rule.name}` | `{arguments(rule)}` | {states} | {moved} | {rule.source} |")
    return "\n".join(lines)


def renewed(text: str) -> str:
    """Return a Markdown text with the present table between `BEGIN` and `END`."""
    before, begin, rest = text.partition(f"{BEGIN}\n")
    _, end, after = rest.partition(f"{END}\n")
    if not (begin and end) or BEGIN in rest or END in after:
        raise ValueError(f"there must be one line {BEGIN!r} and after it one line {END!r}")
    return f"{before}{BEGIN}\n{markdown()}\n{END}\n{after}"
