"""The picture of ``python -m fastopt verify --against full-state``: loss curves, a row for each program."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib.figure  # noqa: F401  # If it is missing, this is said before the work, not after it.
import numpy as np

from fastopt.demo.precision.criterion import Run, Trial
from fastopt.figures import WIDTH, figure, label_logarithmic, save, smoothed

__all__ = ["picture"]

# Dashes that leave room for each other, so that curves on top of one another can all be seen.
STYLES = {
    "bfloat16": ("#0072B2", (0, (3, 6))),
    "float16": ("#D55E00", (3, (3, 6))),
    "int8": ("#009E73", (6, (3, 6))),
}


def curve(runs: Sequence[Run]) -> tuple[np.ndarray, np.ndarray]:
    """Return steps and the mean loss over the seeds, as a moving average over a fortieth of the steps."""
    return smoothed(np.mean([run.losses for run in runs], axis=0))


def picture(trials: Sequence[Trial], out: Path) -> Path:
    """Draw the loss curves, a row for each program and a column for each rule; save them as a picture."""
    programs = [*dict.fromkeys(trial.program for trial in trials)]
    rules = [*dict.fromkeys(trial.rule for trial in trials)]
    n_seeds = len(trials[0].full)
    with figure(1.7 * len(programs) + 1.0, WIDTH, is_shown=False) as drawn:
        drawn.get_layout_engine().set(w_pad=0.08)  # between the numbers of neighboring axes
        grid = drawn.subplots(len(programs), len(rules), sharex="row", sharey="row", squeeze=False)
        for trial in trials:
            axes = grid[programs.index(trial.program), rules.index(trial.rule)]
            if not axes.lines:
                axes.plot(*curve(trial.full), color="lightgrey", linewidth=5, label="full (float32)")
            color, style = STYLES[trial.state_dtype]
            axes.plot(*curve(trial.low), color=color, linestyle=style, linewidth=1.6, label=trial.state_dtype)
        for rule, axes in zip(rules, grid[0], strict=True):
            axes.set_title(rule)
        for program, row in zip(programs, grid, strict=True):
            row[0].set_ylabel(f"{program}\nloss")
            # The axes fit the curves in full, so that a curve that leaves them has failed.
            full = [axes.lines[0].get_ydata() for axes in row]
            row[0].set(yscale="log", ylim=(0.7 * np.min(full), 1.4 * np.max(full)))
            label_logarithmic(row[0].yaxis)
            row[0].locator_params(axis="x", nbins=2)
        for axes in grid[-1]:
            axes.set_xlabel("step")
        what = "seed 0" if n_seeds == 1 else f"mean of {n_seeds} seeds"
        drawn.suptitle(
            f"Training loss, {what}: state in full precision, and in 2 or 1 bytes (dashed, on top)"
        )
        handles, labels = grid[0, 0].get_legend_handles_labels()
        drawn.legend(handles, labels, loc="outside lower center", ncols=len(labels), handlelength=5)
    return save(drawn, out)
