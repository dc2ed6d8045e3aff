"""The picture of ``python -m fastopt verify --against full-state``: loss curves, a row for each program."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.ticker import LogLocator, NullLocator

from fastopt.demo.precision.criterion import Run, Trial
from fastopt.figures import figure
from fastopt.tools.report import save

__all__ = ["picture"]

# Dashes that leave room for each other, so that curves on top of one another can all be seen.
STYLES = {
    "bfloat16": ("#0072B2", (0, (3, 6))),
    "float16": ("#D55E00", (3, (3, 6))),
    "int8": ("#009E73", (6, (3, 6))),
}


def curve(runs: Sequence[Run]) -> tuple[np.ndarray, np.ndarray]:
    """Return steps and the mean loss over the seeds, as a moving average over a fortieth of the steps."""
    losses = np.mean([run.losses for run in runs], axis=0)
    window = max(1, len(losses) // 40)
    smoothed = np.convolve(losses, np.ones(window) / window, "valid")
    return np.arange(window, len(losses) + 1), smoothed


def picture(trials: Sequence[Trial], out: Path) -> Path:
    """Draw the loss curves, a row for each program and a column for each rule; save them as a picture."""
    programs = [*dict.fromkeys(trial.program for trial in trials)]
    rules = [*dict.fromkeys(trial.rule for trial in trials)]
    n_seeds = len(trials[0].full)
    size = (3 * len(rules) + 0.5, 2.5 * len(programs) + 1)
    with figure(figsize=size) as drawn:
        grid = drawn.subplots(len(programs), len(rules), sharex="row", sharey="row", squeeze=False)
        for trial in trials:
            axes = grid[programs.index(trial.program), rules.index(trial.rule)]
            if not axes.lines:
                axes.plot(*curve(trial.full), color="lightgrey", linewidth=5, label="full (float32)")
            color, style = STYLES[trial.state_dtype]
            axes.plot(*curve(trial.low), color=color, linestyle=style, linewidth=1.6, label=trial.state_dtype)
            axes.spines[["top", "right"]].set_visible(False)
        for rule, axes in zip(rules, grid[0], strict=True):
            axes.set_title(rule, weight="bold", size=11)
        for program, row in zip(programs, grid, strict=True):
            row[0].set_ylabel(f"{program}\nloss of the batches", size=10)
            # The axes fit the curves in full, so that a curve that leaves them has failed.
            full = [axes.lines[0].get_ydata() for axes in row]
            low, high = 0.7 * np.min(full), 1.4 * np.max(full)
            row[0].set(yscale="log", ylim=(low, high))
            row[0].yaxis.set_major_locator(LogLocator(subs=(1,) if high > 50 * low else (1, 2, 5)))
            row[0].yaxis.set_minor_locator(NullLocator())
            row[0].yaxis.set_major_formatter("{x:g}")
        for axes in grid.flat:
            axes.set_xlabel("step", size=9)
        what = "seed 0" if n_seeds == 1 else f"mean of {n_seeds} seeds"
        drawn.suptitle(
            f"Training loss, {what}: state in full precision (grey), in 2 or 1 bytes (dashed, on top of it)",
            size=13,
        )
        handles, labels = grid[0, 0].get_legend_handles_labels()
        drawn.legend(
            handles, labels, loc="outside lower center", ncols=len(labels), frameon=False, handlelength=5
        )
        path = save(drawn, out)
        drawn.leave_pyplot()
    return path
