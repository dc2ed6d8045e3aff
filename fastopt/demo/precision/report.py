"""The tables of ``verify --against full-state``: one of the trainings, one of the formats."""

from collections.abc import Mapping, Sequence
from itertools import groupby

import numpy as np

from fastopt.demo.precision.criterion import COARSE, FINE, NOISE, Margins, Trial, standard_error
from fastopt.demo.precision.programs import PROGRAMS
from fastopt.demo.precision.study import Moment
from fastopt.tools.report import paragraph, table

__all__ = ["summary"]

EXPECTED_MOMENT = 0.999**2000
# Relative to it.
MOMENT_TOLERANCE = 0.02

TITLES = (
    "rule", "state", "corre-\nlation", "\nleast", "loss,\nfull", "loss,\nformat", "test %,\nfull",
    "test %,\nformat", "within\nnoise",
)  # fmt: skip

FORMAT_TITLES = (
    "state", "v after\n2,000\nsteps", "\ndevia-\ntion", "test,\npoints", "standard\nerror", "final\nloss",
    "standard\nerror", "within\nnoise",
)  # fmt: skip

NOTES = """\
Each training runs with its state in full precision and in the format, from the same weights and with the same
batches. correlation: Pearson's, of both loss curves, step by step; mean over the seeds, and the least. loss,
test %: in the last tenth of the steps, the mean over the seeds; test % is the accuracy on held-out data, ±
its standard deviation over the seeds."""

FORMAT_NOTES = f"""\
v: of Adam, 1 at first, with gradients of 0 and beta2 = 0.999; mean and standard deviation over the elements,
exactly {EXPECTED_MOMENT:.4f} and 0. test, final loss: difference between format and full precision, the mean
over all trainings above and their seeds."""


def criterion_note(margins: Margins, n_seeds: int) -> str:
    """Return in words what is within noise."""
    errors = (
        f" or {NOISE} standard errors of the mean over the seeds in full precision, whichever is larger"
        if n_seeds > 1
        else ""
    )
    return (
        f"Within noise: the format's accuracy is lower by at most {margins.accuracy * 100:g} points{errors}; "
        f"its final loss is higher by at most {margins.loss:.0%}; the correlation is at least "
        f"{margins.correlation:g}. The mean of v may differ by {MOMENT_TOLERANCE:.0%}."
    )


def accuracy_cell(values: Sequence[float]) -> str:
    """Return the mean and the standard deviation of accuracies, in percent."""
    deviation = f"±{np.std(values, ddof=1) * 100:.1f}" if len(values) > 1 else ""
    return f"{np.mean(values) * 100:.1f}{deviation}"


def loss_cell(values: np.ndarray) -> str:
    """Return the mean of some losses with at most seven characters."""
    mean = float(values.mean())
    if mean < 0.01:
        return f"{mean:.5f}"
    return f"{mean:.4f}" if mean < 100 else f"{mean:.2g}"


def row(trial: Trial, is_right: bool) -> list[str]:
    """Return the cells of a training."""
    return [
        trial.rule,
        trial.state_dtype,
        f"{np.mean(trial.correlations):.4f}",
        f"{min(trial.correlations):.4f}",
        *map(loss_cell, trial.losses),
        *map(accuracy_cell, trial.accuracies),
        "yes" if is_right else "NO",
    ]


def format_row(name: str, moment: Moment, trials: Sequence[Trial], n_right: int) -> list[str]:
    """Return the cells of a format."""
    accuracies = np.concatenate([trial.accuracies for trial in trials], axis=1)
    points = np.diff(accuracies, axis=0)[0] * 100
    # A training that failed has losses that aren't finite.
    with np.errstate(all="ignore"):
        losses = np.concatenate([trial.losses for trial in trials], axis=1)
        percent = np.diff(np.log(losses), axis=0)[0] * 100
        return [
            name,
            f"{moment.mean:.4f}",
            f"{moment.deviation:.3f}",
            *(f"{points.mean():+.2f}", f"{standard_error(points):.2f}"),
            *(f"{percent.mean():+.1f}%", f"{standard_error(percent):.1f}%"),
            f"{n_right} of {len(trials)}",
        ]


def headings(is_short: bool) -> dict[str, str]:
    """Return what stands above the rows of each program."""
    found = {}
    for program in PROGRAMS:
        size = sum(param.size for param in program.network(0).params.values())
        found[program.name] = f"{program.name}: {size:,} parameters, {program.n_steps(is_short):,} steps"
    return found


def summary(trials: Sequence[Trial], moments: Mapping[str, Moment], is_short: bool) -> tuple[str, bool]:
    """Return the tables, and whether all trainings and moments are within the margins.

    Parameters
    ----------
    trials : sequence of Trial
        The trainings, those of a program one after the other.
    moments : mapping of str to Moment
        What `decayed_moment` returns for each format.
    is_short : bool
        Whether the programs took their `short_steps`.
    """
    n_seeds, titles = len(trials[0].full), headings(is_short)
    margins = COARSE if is_short or n_seeds == 1 else FINE
    rows: list[list[str]] = []
    n_right = dict.fromkeys(moments, 0)
    wrong = []
    for program, of_program in groupby(trials, lambda trial: trial.program):
        rows.append([titles[program]])
        for trial in of_program:
            faults = trial.faults(margins)
            n_right[trial.state_dtype] += not faults
            rows.append(row(trial, not faults))
            wrong += [f"{program}, {trial.rule}, {trial.state_dtype}: {'; '.join(faults)}"] * bool(faults)
    format_rows = []
    for name, moment in moments.items():
        of_format = [trial for trial in trials if trial.state_dtype == name]
        format_rows.append(format_row(name, moment, of_format, n_right[name]))
        if not abs(moment.mean - EXPECTED_MOMENT) <= MOMENT_TOLERANCE * EXPECTED_MOMENT:
            wrong.append(f"{name}: v must decay to {EXPECTED_MOMENT:.4f}, got {moment.mean:.4f}")
    verdict = (
        "All trainings are within noise."
        if not wrong
        else "\n".join(["NOT within noise:", *map(paragraph, wrong)])
    )
    parts = [
        table(TITLES, rows, left=(0, 1), keys=2),
        paragraph(" ".join(NOTES.split())),
        table(FORMAT_TITLES, format_rows),
        paragraph(" ".join(FORMAT_NOTES.split())),
        paragraph(criterion_note(margins, n_seeds)),
        verdict,
    ]
    return "\n\n".join(parts), not wrong
