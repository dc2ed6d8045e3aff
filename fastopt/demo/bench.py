"""The tables and the picture of ``python -m fastopt bench``."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from fastopt.benching import Start, Timing
from fastopt.demo.report import save, table
from fastopt.twins import LIBRARIES

__all__ = ["break_even", "picture", "summary"]

LINES = {
    "reference": ("dimgrey", "reference (NumPy)"),
    "PyTorch": ("#D55E00", "PyTorch"),
    "optax": ("#E69F00", "optax"),
    "Keras": ("#009E73", "Keras"),
    "fastopt": ("#0072B2", "fastopt"),
    "packed": ("#56B4E9", "fastopt, packed"),
    "limit": ("black", "limit: the traffic alone"),
}


def summary(timings: Sequence[Timing]) -> str:
    """Give the table, a row for each timing."""
    others = [name for name in LIBRARIES if any(name in t.seconds for t in timings)]
    header = [
        "rule",
        "dtype",
        "arrays",
        "elements",
        "reference,\nµs",
        *(f"{name},\nµs" for name in others),
        "fastopt,\nµs",
        "packed,\nµs",
        "spread",
        "faster than\nreference",
        *(f"than\n{name}" for name in others),
        "packed",
        "GB/s",
        "% of\nlimit",
    ]
    rows = []
    for t in timings:
        own, packed = t.seconds["fastopt"], t.seconds["packed"]
        rows.append(
            [
                t.rule,
                t.dtype,
                str(len(t.shapes)),
                f"{t.elements:,}",
                f"{t.seconds['reference'] * 1e6:,.1f}",
                *(f"{t.seconds[name] * 1e6:,.1f}" if name in t.seconds else "–" for name in others),
                f"{own * 1e6:,.1f}",
                f"{packed * 1e6:,.1f}",
                f"{t.spread['fastopt']:.0%}",
                f"{t.seconds['reference'] / own:.1f}×",
                *(f"{t.seconds[name] / own:.1f}×" if name in t.seconds else "–" for name in others),
                f"{t.seconds['reference'] / packed:.1f}×",
                f"{t.gigabytes_per_second:.1f}",
                f"{t.share_of_limit:.0%}",
            ]
        )
    return table(header, rows)


def break_even(timings: Sequence[Timing], starts: Sequence[Start]) -> str:
    """Give the table of what the start costs, and the steps of each network that pay for it."""
    rows = []
    for begin in starts:
        for t in timings:
            if t.rule == begin.rule:
                saved = t.seconds["reference"] - t.seconds["fastopt"]
                rows.append(
                    [
                        t.rule,
                        t.dtype,
                        f"{t.elements:,}",
                        f"{begin.cold:.2f}",
                        f"{begin.warm:.2f}",
                        *(f"{s / saved:,.0f}" if saved > 0 else "never" for s in (begin.cold, begin.warm)),
                    ]
                )
    header = ["rule", "dtype", "elements", "start, s,\ncold", "start, s,\nwarm"]
    return table([*header, "steps to break\neven, cold", "steps to break\neven, warm"], rows)


def picture(timings: Sequence[Timing], out: Path) -> Path:
    """Draw time against size, a panel for each rule and dtype, and save it."""
    rules, dtypes = (list(dict.fromkeys(getattr(t, name) for t in timings)) for name in ("rule", "dtype"))
    figure = Figure(figsize=(4.2 * len(rules), 3.6 * len(dtypes)), layout="constrained")
    panels = figure.subplots(len(dtypes), len(rules), squeeze=False, sharex=True, sharey=True)
    for line, dtype in zip(panels, dtypes, strict=True):
        for axes, rule in zip(line, rules, strict=True):
            here = sorted(
                (t for t in timings if (t.rule, t.dtype) == (rule, dtype)), key=lambda t: t.elements
            )
            for name, (color, label) in LINES.items():
                points = [(t.elements, t.seconds[name] * 1e6) for t in here if name in t.seconds]
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
            axes.set_title(f"{rule}, {dtype}", loc="left", weight="bold", size=11)
            axes.spines[["top", "right"]].set_visible(False)
            axes.grid(alpha=0.3)
        line[0].set_ylabel("microseconds a step")
    for axes in panels[-1]:
        axes.set_xlabel("parameters")
    panels[0][0].legend(frameon=False, fontsize=8)
    return save(figure, out)
