"""The article's picture: the path of each rule over the contours of a surface, and numbers to it."""

from collections.abc import Iterable, Mapping
from math import ceil, sqrt
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

import fastopt
from fastopt.catalogue import takes
from fastopt.demo.report import COLORS, save, table
from fastopt.demo.surfaces import Surface, path

__all__ = ["Measure", "follow", "measure", "picture", "summary"]


class Measure(NamedTuple):
    """What a path is like.

    Attributes
    ----------
    turns : int
        How often the direction in y changes its sign.
    detour : float
        Length of the path over the straight line from its start to its end.
    distance : float
        From the end to the minimum.
    """

    turns: int
    detour: float
    distance: float


def follow(surface: Surface, rules: Iterable[str]) -> dict[str, np.ndarray]:
    """Give the path of each rule over a surface, without those that take no single numbers."""
    classes = {rule: getattr(fastopt, rule) for rule in rules}
    return {rule: path(cls(surface.lr[rule]), surface) for rule, cls in classes.items() if takes(cls, ndim=0)}


def measure(points: np.ndarray, surface: Surface) -> Measure:
    """Measure a path over a surface."""
    steps = np.diff(points, axis=0)
    return Measure(
        turns=int(np.count_nonzero(steps[1:, 1] * steps[:-1, 1] < 0)),
        detour=float(np.hypot(*steps.T).sum() / np.hypot(*(points[-1] - points[0]))),
        distance=float(np.hypot(*(points[-1] - surface.minimum))),
    )


def summary(paths: Mapping[str, np.ndarray], surface: Surface) -> str:
    """Give the table of measures."""
    header = (
        "rule",
        "learning\nrate",
        "direction\nchanges in y",
        "path over\nstraight line",
        "distance to\nthe minimum",
    )
    rows = []
    for rule, points in paths.items():
        m = measure(points, surface)
        rows.append((rule, f"{surface.lr[rule]:g}", str(m.turns), f"{m.detour:.2f}", f"{m.distance:.3f}"))
    return table(header, rows)


def picture(paths: Mapping[str, np.ndarray], surface: Surface, out: Path) -> Path:
    """Draw the paths, one panel a rule, and save them as a picture."""
    left, right, bottom, top = surface.window
    x, y = np.meshgrid(np.linspace(left, right, 400), np.linspace(bottom, top, 400))
    z = surface.f(x, y) + 1e-9
    levels = np.geomspace(max(z.min(), z.max() * 1e-5), z.max(), 22)
    columns = min(len(paths), max(3, ceil(sqrt(len(paths)))))
    rows = ceil(len(paths) / columns)
    figure = Figure(figsize=(4 * columns, 3.3 * rows + 0.8), layout="constrained")
    figure.suptitle(
        f"{surface.formula}\n{surface.steps} steps from ({surface.start[0]:g}, {surface.start[1]:g})",
        size=13,
    )
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).flat
    for panel in panels[len(paths) :]:
        panel.set_axis_off()
    for panel, (rule, points) in zip(panels, paths.items(), strict=False):
        panel.contourf(x, y, z, levels, norm=LogNorm(), cmap="Greys", alpha=0.2, extend="both")
        panel.contour(x, y, z, levels, norm=LogNorm(), colors="white", linewidths=0.7)
        panel.plot(*points.T, "-", color=COLORS[rule], linewidth=1.6)
        # Earlier steps are paler, so that the direction can be seen without arrows.
        panel.scatter(
            *points.T,
            s=max(5, 480 / surface.steps),
            color=COLORS[rule],
            alpha=np.linspace(0.3, 1, len(points)),
            zorder=3,
            linewidths=0,
        )
        panel.plot(*surface.start, "o", color="white", markeredgecolor=COLORS[rule], markersize=8, zorder=4)
        panel.plot(*surface.minimum, "*", color="black", markersize=13, zorder=4)
        m = measure(points, surface)
        panel.set_title(rule, weight="bold", loc="left", size=11)
        numbers = f"lr {surface.lr[rule]:g} · {m.turns} turns · {m.distance:.2f} to ★"
        panel.set_title(numbers, loc="right", size=9, color="dimgrey")
        panel.set(xlim=(left, right), ylim=(bottom, top))
        panel.spines[:].set_visible(False)
        panel.tick_params(length=0, labelcolor="dimgrey")
    return save(figure, out)
