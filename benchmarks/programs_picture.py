"""The picture of the README: a step of programs by others, by their own optimizer and by fastopt.

``python -m benchmarks.programs_picture`` draws what ``python -m benchmarks.programs --keep`` has measured,
``--out FILE.png`` to a file of your own.
"""

import json
from argparse import ArgumentParser
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .programs import RESULTS

__all__ = ["picture"]

OUT = Path(__file__).parents[1] / ".github" / "speed.png"

# Okabe and Ito's colors, which the color-blind can tell apart; the markers differ, too.
OWN, FASTOPT = "#D55E00", "#0072B2"


def picture(results: Mapping[str, Any], out: Path) -> Path:
    """Draw a row for each program, those first that gain most; save them as a picture.

    Parameters
    ----------
    results : mapping
        "steps", by program the times of a step in µs, "own" and "fastopt"; and "machine", as
        `machine.describe` returns it.
    out : Path
        The file.
    """
    # asv imports this module with older versions of fastopt, too.
    from fastopt.figures import figure, label_logarithmic, save

    steps = sorted(results["steps"].items(), key=lambda item: item[1]["fastopt"] / item[1]["own"])
    own, fast = ([times[by] for _, times in steps] for by in ("own", "fastopt"))
    rows = range(len(steps))
    machine = results["machine"]
    with figure(1.4 + 0.24 * len(steps), is_shown=False) as canvas:
        axes = canvas.subplots()
        axes.hlines(rows, own, fast, color="0.7", linewidth=3, zorder=2)
        axes.plot(
            own, rows, "o", color="white", markeredgecolor=OWN, markeredgewidth=2, label="own optimizer"
        )
        axes.plot(fast, rows, "o", color=FASTOPT, markersize=7, label="fastopt")
        factors = axes.secondary_yaxis("right")
        factors.set_yticks(rows, [f"{a / b:.1f}×" for a, b in zip(own, fast, strict=True)], weight="bold")
        for side in (axes, factors):
            side.tick_params(axis="y", length=0)
        factors.spines["right"].set_visible(False)
        axes.set_yticks(rows, [name for name, _ in steps])
        axes.set_ylim(len(steps) - 0.4, -0.6)
        axes.set_xscale("log")
        label_logarithmic(axes.xaxis)
        axes.grid(axis="x")
        axes.set_xlabel("µs a step; on the right: how many times faster fastopt is")
        canvas.suptitle("An optimizer's step in public programs: their own → fastopt", weight="bold")
        made = ("{processor}, {cores} cores, Python {Python}, NumPy {NumPy}, {date}").format(**machine)
        title = f"volumes 1 to 3: Deep Learning from Scratch; steps alone, fastest of 500 turns\n{made}"
        canvas.legend(loc="outside lower center", ncols=2, title=title)
    return save(canvas, out)


def main() -> None:
    """Draw the results that are kept."""
    parser = ArgumentParser(prog="python -m benchmarks.programs_picture", description="Draw kept results.")
    parser.add_argument("--out", type=Path, default=OUT, metavar="FILE.png", help="the picture")
    print(picture(json.loads(RESULTS.read_text("utf-8")), parser.parse_args().out))


if __name__ == "__main__":
    main()
