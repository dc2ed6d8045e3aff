"""``python -m fastopt rules --from`` and ``--peers``: constructors of other libraries in fastopt."""

from collections import Counter
from collections.abc import Iterable
from textwrap import wrap

from fastopt.demo.report import paragraph, table
from fastopt.tools.peers.calls import Refusal
from fastopt.tools.peers.runs import can_run
from fastopt.tools.peers.settings import calls
from fastopt.tools.peers.translation import LIBRARIES, translate
from fastopt.tools.peers.trial import Outcome, try_call
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
    found = tuple(found)
    tried: Counter[str] = Counter()
    agreed, constant, refused, differing = tried.copy(), tried.copy(), tried.copy(), tried.copy()
    reasons: dict[str, list[str]] = {}
    wrong = []
    for outcome in found:
        key = f"{LIBRARIES[outcome.library].title}\t{constructor(outcome.text)}"
        tried[key] += 1
        if outcome.translation is None:
            refused[key] += 1
            reasons.setdefault(outcome.reason, []).append(outcome.text)
        elif not outcome.agrees:
            differing[key] += 1
            wrong.append(f"{outcome.text} differs from {outcome.translation.line()}: {outcome.differences}")
        else:
            (constant if outcome.translation.constant else agreed)[key] += 1
    counts = agreed, constant, refused, differing
    rows = [
        (*key.split("\t"), str(number), *(str(count[key] or "–") for count in counts))
        for key, number in tried.items()
    ]
    rows.append(("all", "", *(str(sum(count.values())) for count in (tried, *counts))))
    header = ("library", "constructor", "settings", "the same", "with a\nconstant lr", "refused", "differing")
    parts = [table(header, rows, left=(0, 1))]
    if reasons:
        parts.append("refused:")
    for reason, texts in reasons.items():
        lines = wrap(f"{', '.join(texts)}: {reason}", 76, break_long_words=False)
        parts.append("\n".join(("- " if i == 0 else "  ") + line for i, line in enumerate(lines)))
    missing = {
        LIBRARIES[name].title
        for name in LIBRARIES
        for text in calls(name)
        if not can_run(name, constructor(text))
    }
    if missing:
        parts.append(f"not installed, or not all: {', '.join(sorted(missing))}")
    return "\n\n".join([parts[0], "\n".join(parts[1:]), *wrong]).rstrip(), not wrong


def constructor(text: str) -> str:
    """Return the name of the constructor that a setting calls."""
    return text.partition("(")[0]
