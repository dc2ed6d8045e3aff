"""The tables and the picture of ``fastopt bench``."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from fastopt.tools.benchmarking import Start, Timing
from fastopt.tools.equivalents import LIBRARIES
from fastopt.tools.report import paragraph, save, table

__all__ = ["break_even", "picture", "summary"]

LINES = {
    "reference": ("dimgrey", "plain NumPy"),
    "PyTorch": ("#D55E00", "PyTorch"),
    "optax": ("#E69F00", "optax"),
    "Keras": ("#009E73", "Keras"),
    "fastopt": ("#0072B2", "fastopt"),
    "packed": ("#56B4E9", "fastopt, packed"),
    "limit": ("black", "limit: the traffic alone"),
}

NOTES = """\
Times of a step, medians of the turns. "faster" and "than": the column fastopt.
packed: fastopt with arrays from fastopt.pack, which lie in one buffer
spread: between the quartiles of fastopt's turns, as a share of the median
GB/s: what fastopt's step (not packed) has to read and write, over its time
% of limit: the time of the packed step's memory traffic alone, over that of the
packed step"""

PAID = """\
pays back: after as many steps plain NumPy would have taken longer, the start of a process included, if
the rule was compiled before. That start, importing fastopt and the first step, took {warm:.2f} s with {rule}
in {dtype}. Where the rule isn't compiled, it took {cold:.2f} s in NumPy, while another process compiles, and
{compiling:.1f} s if the first step waits for that (FASTOPT_COMPILE=now)."""


def micros(seconds: float) -> str:
    """Return a time in µs, with a decimal where it is below 100."""
    return f"{seconds * 1e6:,.{0 if seconds >= 1e-4 else 1}f}"


def summary(timings: Sequence[Timing]) -> str:
    """Return the table, with a row for each timing."""
    others = [name for name in LIBRARIES if any(name in t.seconds for t in timings)]
    header = [
        *("rule", "dtype", "elements", "plain\nNumPy,\nµs"),
        *(f"{name},\nµs" for name in others),
        *("fastopt,\nµs", "packed,\nµs", "spread", "faster\nthan\nNumPy"),
        *(f"than\n{name}" for name in others),
        *("packed\nthan\nNumPy", "GB/s", "% of\nlimit"),
    ]
    rows = []
    for t in timings:
        plain, own, packed = (t.seconds[name] for name in ("reference", "fastopt", "packed"))
        rows.append(
            [
                *(t.rule, t.dtype, f"{t.elements:,}", micros(plain)),
                *(micros(t.seconds[name]) if name in t.seconds else "–" for name in others),
                *(micros(own), micros(packed), f"{t.spread['fastopt']:.0%}"),
                f"{plain / own:.1f}×",
                *(f"{t.seconds[name] / own:.1f}×" if name in t.seconds else "–" for name in others),
                *(f"{plain / packed:.1f}×", f"{t.gigabytes_per_second:.1f}", f"{t.bandwidth_fraction:.0%}"),
            ]
        )
    return f"{table(header, rows, keys=3)}\n\n{NOTES}"


def break_even(timings: Sequence[Timing], start: Start, dtype: str) -> str:
    """Return the table of the steps that pay for the start of a process, which was timed with one dtype."""
    rows = []
    for t in timings:
        saved = t.seconds["reference"] - t.seconds["fastopt"]
        paid = f"{start.warm / saved:,.0f}" if saved > 0 else "never"
        rows.append([t.rule, t.dtype, f"{t.elements:,}", paid])
    costs = {"warm": start.warm, "cold": start.cold, "compiling": start.compiling}
    text = paragraph(" ".join(PAID.split()).format(rule=start.rule, dtype=dtype, **costs))
    header = ("rule", "dtype", "elements", "pays back\nafter steps")
    return f"{table(header, rows, keys=3)}\n\n{text}"


def bars(axes: Any, timing: Timing) -> None:
    """Draw the times of one size."""
    names = [name for name in reversed(LINES) if name in timing.seconds]  # the first comes on top
    times = [timing.seconds[name] * 1e6 for name in names]
    drawn = axes.barh([LINES[name][1] for name in names], times, color=[LINES[name][0] for name in names])
    axes.bar_label(drawn, [micros(time / 1e6) for time in times], padding=3, size=8)
    axes.margins(x=0.2)  # for the numbers


def lines(axes: Any, timings: Sequence[Timing]) -> None:
    """Draw time against size."""
    for name, (color, label) in LINES.items():
        points = [(t.elements, t.seconds[name] * 1e6) for t in timings if name in t.seconds]
        if points:
            axes.plot(
                *zip(*points, strict=True),
                color=color,
                label=label,
                marker="" if name == "limit" else "o",
                markersize=3.5,
                linestyle=":" if name == "limit" else "-",
            )
    axes.set(xscale="log", yscale="log")
    axes.yaxis.set_major_formatter("{x:,g}")
    axes.grid(alpha=0.3)


def picture(timings: Sequence[Timing], out: Path) -> Path:
    """Draw time against size, or bars if there is one size, a panel for each rule and dtype; save it."""
    rules, dtypes = (list(dict.fromkeys(getattr(t, name) for t in timings)) for name in ("rule", "dtype"))
    one = len(timings) == len(rules) * len(dtypes)
    figure = Figure(figsize=(4.2 * len(rules), (2.6 if one else 3.6) * len(dtypes)), layout="constrained")
    panels = figure.subplots(len(dtypes), len(rules), squeeze=False, sharex=not one, sharey=not one)
    for line, dtype in zip(panels, dtypes, strict=True):
        for axes, rule in zip(line, rules, strict=True):
            here = [t for t in timings if (t.rule, t.dtype) == (rule, dtype)]
            if one:
                bars(axes, here[0])
            else:
                lines(axes, sorted(here, key=lambda t: t.elements))
            axes.set_title(f"{rule}, {dtype}", loc="left", weight="bold", size=11)
            axes.spines[["top", "right"]].set_visible(False)
        if not one:
            line[0].set_ylabel("microseconds a step")
    for axes in panels[-1]:
        axes.set_xlabel("microseconds a step" if one else "parameters")
    if not one:
        panels[0][0].legend(frameon=False, fontsize=8)
    return save(figure, out)
