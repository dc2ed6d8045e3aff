"""The path of each rule over the contours of a surface, with its measures."""

from collections.abc import Iterable, Mapping
from math import ceil, sqrt
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

import fastopt
from fastopt.demo.settings import SETTINGS
from fastopt.demo.surfaces import Surface, path
from fastopt.tools.registry import takes
from fastopt.tools.report import save, table
from fastopt.tools.trajectories import draw

__all__ = ["Measure", "follow", "measure", "picture", "summary"]


class Measure(NamedTuple):
    """The sign changes of the direction in y, length over straight line, and distance to the minimum."""

    turns: int
    detour: float
    distance: float


def follow(surface: Surface, rules: Iterable[str]) -> dict[str, np.ndarray]:
    """Return the path of each rule over a surface, except those that take no single numbers."""
    classes = {rule: getattr(fastopt, rule) for rule in rules}
    optimizers = {
        rule: cls(surface.lr[rule], **SETTINGS[rule].others)
        for rule, cls in classes.items()
        if takes(cls, ndim=0)
    }
    return {rule: path(optimizer, surface) for rule, optimizer in optimizers.items()}


def measure(points: np.ndarray, surface: Surface) -> Measure:
    """Measure a path over a surface."""
    steps = np.diff(points, axis=0)
    return Measure(
        turns=int(np.count_nonzero(steps[1:, 1] * steps[:-1, 1] < 0)),
        detour=float(np.hypot(*steps.T).sum() / np.hypot(*(points[-1] - points[0]))),
        distance=float(np.hypot(*(points[-1] - surface.minimum))),
    )


def summary(paths: Mapping[str, np.ndarray], surface: Surface) -> str:
    """Return the table of measures."""
    header = (
        "rule", "learning\nrate", "direction\nchanges in y", "path over\nstraight line",
        "distance to\nthe minimum",
    )  # fmt: skip
    rows = []
    for rule, points in paths.items():
        m = measure(points, surface)
        rows.append((rule, f"{surface.lr[rule]:g}", str(m.turns), f"{m.detour:.2f}", f"{m.distance:.3f}"))
    return table(header, rows)


def picture(paths: Mapping[str, np.ndarray], surface: Surface, out: Path) -> Path:
    """Draw the paths, one panel a rule, and save them as a picture."""
    columns = min(len(paths), max(3, ceil(sqrt(len(paths)))))
    rows = ceil(len(paths) / columns)
    figure = Figure(figsize=(4 * columns, 3.3 * rows + 0.8), layout="constrained")
    figure.suptitle(
        f"{surface.formula}\n{surface.steps} steps from ({surface.start[0]:g}, {surface.start[1]:g})",
        size=13,
    )
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
    for panel in panels[len(paths) :]:
        panel.set_axis_off()
    for panel in panels[: len(paths)][-columns:]:  # the lowest of each column, above an empty place, too
        panel.tick_params(labelbottom=True)
    for panel, (rule, points) in zip(panels, paths.items(), strict=False):
        draw(panel, surface.f, points, surface.window, SETTINGS[rule].color)
        panel.plot(*surface.minimum, "*", color="black", markersize=13, zorder=4)
        m = measure(points, surface)
        panel.set_title(rule, weight="bold", loc="left", size=11)
        numbers = f"lr {surface.lr[rule]:g} · {m.turns} turns · {m.distance:.2f} to ★"
        panel.set_title(numbers, loc="right", size=9, color="dimgrey")
    return save(figure, out)
