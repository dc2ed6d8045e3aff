"""The speed over the project's history, from asv's results: a picture and a table.

``python -m benchmarks.history [FILE.png]`` draws what is in ``benchmarks/results``. These are renewed, for
commits that one line of the file COMMITS each names, by::

    asv run --bench "StepTime|Start" --skip-existing-commits HASHFILE:COMMITS
"""

import sys
from datetime import UTC, datetime
from itertools import product
from math import nan
from pathlib import Path
from typing import Any, NamedTuple

RESULTS = Path(__file__).parent / "results"
STEP, START = "step.StepTime.track_step", "start.Start.track_seconds"
LABELS = {"numpy": "plain NumPy", "fastopt": "fastopt", "packed": "fastopt, packed"}
COLORS = {"numpy": "#666666", "fastopt": "#0072B2", "packed": "#D55E00"}
NETWORKS = {
    "109,810 in 10": "Adam, the book's network: 109,810 float64 in 10 arrays",
    "63 in 4": "Adam, 63 float64 in 4 arrays",
}


class Commit(NamedTuple):
    """What was measured of a commit: µs by network and implementation, seconds by start."""

    name: str
    date: datetime
    steps: dict[tuple[str, ...], float]
    starts: dict[str, float]


def numbers(results: Any, key: str) -> dict[tuple[str, ...], float]:
    """Return a benchmark's results by the values of its parameters."""
    if key not in results.get_all_result_keys():
        return {}
    params = results.get_result_params(key)
    return {
        tuple(value.strip("'") for value in case): nan if value is None else value
        for case, value in zip(product(*params), results.get_result_value(key, params), strict=True)
    }


def commits(folder: Path = RESULTS) -> list[Commit]:
    """Return what was measured, the oldest commit first."""
    from asv.results import iter_results  # asv imports this file where asv isn't

    found = []
    for results in iter_results(str(folder)):
        steps, starts = numbers(results, STEP), numbers(results, START)
        date = datetime.fromtimestamp(results.date / 1000, UTC)
        own = {case[2:]: value for case, value in steps.items() if case[:2] == ("Adam", "float64")}
        found.append(Commit(results.commit_hash[:7], date, own, {case[0]: v for case, v in starts.items()}))
    return sorted((one for one in found if one.steps), key=lambda one: one.date)


def draw(found: list[Commit], path: Path) -> None:
    """Draw steps of two networks, and the start of a process, against the commits."""
    from fastopt.figures import MARKERS, figure, label_logarithmic, save

    places = range(len(found))
    with figure(7.5, is_shown=False) as picture:
        axes = picture.subplots(len(NETWORKS) + 1, 1, sharex=True)
        for own, (network, title) in zip(axes, NETWORKS.items(), strict=False):
            for marker, (by, label) in zip(MARKERS, LABELS.items(), strict=False):
                values = [one.steps.get((network, by), nan) for one in found]
                own.plot(places, values, marker=marker, color=COLORS[by], label=label, markersize=4)
            own.set(title=title, ylabel="µs a step", yscale="log")
            own.legend(loc="best", ncols=3)
        for what, color, marker in (("import", "#009E73", "s-"), ("first step, warm", "#CC79A7", "o-")):
            values = [one.starts.get(what, nan) for one in found]
            axes[-1].plot(places, values, marker, color=color, label=what, markersize=4)
        axes[-1].set(title="A process that finds all compiled", ylabel="s beyond NumPy", yscale="log")
        axes[-1].legend(loc="best")
        names = [f"{one.name}\n{one.date:%b %d, %H:%M}" for one in found]
        axes[-1].set_xticks(places, names, rotation=90)
        axes[-1].set_xlabel("commit")
        for own in axes:
            own.grid()
            label_logarithmic(own.yaxis)
    save(picture, path)


def main() -> None:
    """Print the table, and draw the picture."""
    found = commits()
    if not found:
        sys.exit(f"there are no results in {RESULTS}: run asv first, see the docstring")
    columns = [(network, by) for network in NETWORKS for by in LABELS]
    print("commit  " + "".join(f"{network} {by:8}".rjust(24) for network, by in columns), " first step, warm")
    for one in found:
        cells = "".join(f"{one.steps.get(column, nan):24.4g}" for column in columns)
        print(f"{one.name} {cells} {one.starts.get('first step, warm', nan):17.3g}")
    path = Path(sys.argv[1] if len(sys.argv) > 1 else "history.png")
    draw(found, path)
    print(f"picture: {path}")


if __name__ == "__main__":
    main()
