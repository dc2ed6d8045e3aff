"""Constructors of other libraries in fastopt, as text: ``fastopt rules --from`` and ``--peers``."""

from collections import Counter
from collections.abc import Iterable
from shutil import get_terminal_size
from textwrap import fill, indent

from fastopt.tools.peers.calls import Refusal
from fastopt.tools.peers.runs import can_run
from fastopt.tools.peers.settings import calls
from fastopt.tools.peers.translation import LIBRARIES, translate
from fastopt.tools.peers.trial import Outcome, try_call
from fastopt.tools.report import paragraph, table
from fastopt.words import near

__all__ = ["answer", "outcomes", "summary"]


def answer(library: str, call: str) -> str:
    """Return what to write in the place of a call of a library's constructor, and what to know of it.

    Raises
    ------
    ValueError
        If there is no such library or constructor, or nothing in its place; the message says why.
    """
    if library not in LIBRARIES:
        hint = near(library, LIBRARIES) or f"there are {', '.join(LIBRARIES)}"
        raise Refusal(f"{library!r} is no library that is known; {hint}")
    found = translate(library, call)
    remarks = [*found.remarks]
    if found.constant:
        remarks.append(f"steps are the same as long as lr is constant: {found.constant}")
    return "\n".join([found.line(), *(paragraph(f"- {remark}") for remark in remarks)])


def outcomes() -> list[Outcome]:
    """Try all settings of the libraries that are installed."""
    from tqdm import tqdm

    texts = [(name, text) for name in LIBRARIES for text in calls(name) if can_run(name, constructor(text))]
    return [try_call(library, text) for library, text in tqdm(texts)]


def summary(found: Iterable[Outcome]) -> tuple[str, bool]:
    """Return a table of settings that agree or are refused with a reason, and whether these are all."""
    counts: dict[tuple[str, str], Counter[str]] = {}
    reasons: dict[str, list[str]] = {}
    wrong = []
    for outcome in found:
        for key in ("", ""), (outcome.library, ""), (outcome.library, constructor(outcome.text)):
            counts.setdefault(key, Counter()).update(["settings", outcome.verdict])
        if outcome.translation is None:
            reasons.setdefault(outcome.reason, []).append(outcome.text)
        elif outcome.verdict == "differing":
            wrong.append(f"{outcome.text} differs from {outcome.translation.line()}: {outcome.differences}")
    total = counts.pop(("", ""), Counter())
    rows = [
        (f"  {name}" if name else LIBRARIES[library].title, *cells(count))
        for (library, name), count in counts.items()
    ]
    header = ("constructor", "settings", "the same", "with a\nconstant\nlr", "refused", "differing")
    parts = [table(header, [*rows, ("all", *cells(total))])]
    if reasons:
        parts.append("\n".join(["refused:", *(item(reason, reasons[reason]) for reason in reasons)]))
    if missing := left_out():
        parts.append(f"not installed, or not all: {', '.join(missing)}")
    return "\n\n".join([*parts, *wrong]), not wrong


def cells(count: Counter[str]) -> list[str]:
    """Return the numbers in a row of the table."""
    return [str(count[name] or "–") for name in ("settings", "same", "constant", "refused", "differing")]


def item(reason: str, texts: Iterable[str]) -> str:
    """Return settings and why they are refused, as an item of a list."""
    width = get_terminal_size().columns - 2
    return indent(fill(f"{', '.join(texts)}: {reason}", width, break_on_hyphens=False), "  ").replace(
        "  ", "- ", 1
    )


def left_out() -> list[str]:
    """Return the libraries of which not all constructors can be run here."""
    return [
        library.title
        for name, library in LIBRARIES.items()
        if not all(can_run(name, constructor(text)) for text in calls(name))
    ]


def constructor(text: str) -> str:
    """Return the name of the constructor that a setting calls."""
    return text.partition("(")[0]
