"""The tables and the picture of ``fastopt bench``."""

from collections.abc import Sequence
from itertools import product
from math import ceil
from pathlib import Path
from typing import Any

from matplotlib.ticker import EngFormatter

from fastopt.figures import MARKERS, WIDTH, figure, label_logarithmic, n_columns, save
from fastopt.tools.benchmarking import Start, Timing
from fastopt.tools.equivalents import LIBRARIES
from fastopt.tools.report import paragraph, table

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


def bars(axes: Any, timing: Timing, names: Sequence[str]) -> None:
    """Draw the times of one size, with the same rows in all panels."""
    places = [row for row, name in enumerate(names) if name in timing.seconds]
    times = [timing.seconds[names[row]] * 1e6 for row in places]
    drawn = axes.barh(places, times, color=[LINES[names[row]][0] for row in places])
    axes.bar_label(drawn, [micros(time / 1e6) for time in times], padding=3)
    axes.set_yticks(range(len(names)), [LINES[name][1] for name in names])
    axes.set_ylim(len(names) - 0.4, -0.6)  # the first comes on top
    axes.set_xlim(0, 1.5 * max(times))  # for the numbers


def lines(axes: Any, timings: Sequence[Timing]) -> None:
    """Draw time against size."""
    for marker, (name, (color, label)) in zip(MARKERS, LINES.items(), strict=False):
        points = [(t.elements, t.seconds[name] * 1e6) for t in timings if name in t.seconds]
        if points:
            axes.plot(
                *zip(*points, strict=True),
                color=color,
                label=label,
                marker="" if name == "limit" else marker,
                markersize=4,
                linestyle=":" if name == "limit" else "-",
            )
    axes.set(xscale="log", yscale="log")
    axes.grid()


def legend_entries(panels: Any) -> tuple[Sequence[Any], Sequence[str]]:
    """Return handles and labels of the legend: a rule may lack an implementation that another one has."""
    found = {
        label: handle
        for panel in panels.flat
        for handle, label in zip(*panel.get_legend_handles_labels(), strict=True)
    }
    labels = [label for _, label in LINES.values() if label in found]
    return [found[label] for label in labels], labels


def picture(timings: Sequence[Timing], out: Path) -> Path:
    """Draw time against size, or bars if there is one size, a panel for each rule and dtype; save it."""
    dtypes, rules = (list(dict.fromkeys(getattr(t, name) for t in timings)) for name in ("dtype", "rule"))
    is_one_size = len(timings) == len(rules) * len(dtypes)
    names = [name for name in LINES if any(name in t.seconds for t in timings)]
    columns = n_columns(len(rules))
    rows = ceil(len(rules) / columns)
    height = 0.8 + 0.22 * len(names) if is_one_size else 2.2
    size = (0.7 + height * rows * len(dtypes), WIDTH * columns / min(3, columns))
    with figure(*size, is_shown=False) as canvas:
        panels = canvas.subplots(
            rows * len(dtypes), columns, squeeze=False, sharex=not is_one_size, sharey=True
        )
        for panel in panels.flat:
            panel.set_visible(False)
        for i, (dtype, rule) in enumerate(product(dtypes, rules)):
            # Each dtype begins with a new row.
            block, place = divmod(i, len(rules))
            axes = panels[block * rows + place // columns, place % columns]
            axes.set_visible(True)
            here = [t for t in timings if (t.rule, t.dtype) == (rule, dtype)]
            if is_one_size:
                bars(axes, here[0], names)
            else:
                lines(axes, sorted(here, key=lambda t: t.elements))
            axes.set_title(f"{rule}, {dtype}")
            if place % columns == 0 and not is_one_size:
                axes.set_ylabel("µs a step")
            if place + columns >= len(rules):
                axes.tick_params(labelbottom=True)
                axes.set_xlabel("µs a step" if is_one_size else "parameters")
        if not is_one_size:
            label_logarithmic(panels[0, 0].yaxis)
            panels[0, 0].xaxis.set_major_formatter(EngFormatter(sep=""))
            canvas.legend(*legend_entries(panels), loc="outside lower center", ncols=4)
    return save(canvas, out)
