"""The path of each rule over the contours of a surface, with its measures."""

from collections.abc import Iterable, Mapping
from math import ceil
from pathlib import Path
from typing import NamedTuple

import matplotlib.figure  # noqa: F401  # If it is missing, this is said before the work, not after it.
import numpy as np

import fastopt
from fastopt.demo.settings import SETTINGS
from fastopt.demo.surfaces import Surface, path
from fastopt.figures import WIDTH, figure, n_columns, save
from fastopt.tools.registry import takes
from fastopt.tools.report import paragraph, table
from fastopt.tools.trajectories import draw

__all__ = ["Measure", "follow", "measure", "picture", "summary"]


class Measure(NamedTuple):
    """The sign changes of the direction in y, length, length over straight line, distance to the minimum."""

    turns: int
    length: float
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
    length = float(np.hypot(*steps.T).sum())
    return Measure(
        turns=int(np.count_nonzero(steps[1:, 1] * steps[:-1, 1] < 0)),
        length=length,
        detour=float(length / np.hypot(*(points[-1] - points[0]))),
        distance=float(np.hypot(*(points[-1] - surface.minimum))),
    )


def window_of(paths: Iterable[np.ndarray], surface: Surface) -> tuple[float, ...]:
    """Return the part of a surface's window that shows all paths: left, right, bottom, top."""
    left, right, bottom, top = surface.window
    points = np.array([*np.concatenate([*paths]), surface.minimum])
    low, high = np.nanmin(points, 0), np.nanmax(points, 0)
    margin = 0.08 * (high - low).max()
    (left, bottom), (right, top) = (
        np.maximum(low - margin, (left, bottom)),
        np.minimum(high + margin, (right, top)),
    )
    return float(left), float(right), float(bottom), float(top)


def summary(paths: Mapping[str, np.ndarray], surface: Surface) -> str:
    """Return the table of measures, and what there is to say about the surface."""
    header = (
        "rule", "learning\nrate", "direction\nchanges in y", "length\nof path", "path over\nstraight line",
        "distance to\nthe minimum",
    )  # fmt: skip
    rows = []
    for rule, points in paths.items():
        m = measure(points, surface)
        numbers = (str(m.turns), f"{m.length:.1f}", f"{m.detour:.2f}", f"{m.distance:.3f}")
        rows.append((rule, f"{surface.lr[rule]:g}", *numbers))
    return "\n\n".join([table(header, rows), *map(paragraph, surface.notes)])


def picture(paths: Mapping[str, np.ndarray], surface: Surface, out: Path) -> Path:
    """Draw the paths, one panel a rule, and save them as a picture."""
    columns = n_columns(len(paths))
    rows = ceil(len(paths) / columns)
    window = window_of(paths.values(), surface)
    left, right, bottom, top = window
    width = WIDTH / min(3, columns)
    height = (width - 0.3) * (top - bottom) / (right - left) + 0.5
    size = rows * height + 0.8, columns * width
    with figure(*size, is_shown=False, layout="compressed") as canvas:
        canvas.get_layout_engine().set(h_pad=0.07)  # between a title and the axes above it
        start = "({:g}, {:g})".format(*surface.start).replace("-", "−")
        canvas.suptitle(
            f"{surface.formula}: {surface.steps} steps from {start}, ○, to ■; the minimum is ★\n"
            "turns: direction changes in y · path: its length · last number: distance from ■ to ★"
        )
        panels = canvas.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
        for panel in panels[len(paths) :]:
            panel.set_axis_off()
        for panel in panels[: len(paths)][-columns:]:  # the lowest of each column, above an empty place, too
            panel.tick_params(labelbottom=True)
            panel.set_xlabel("x")
        for panel in panels[::columns]:
            panel.set_ylabel("y")
        for panel, (rule, points) in zip(panels, paths.items(), strict=False):
            draw(panel, surface.f, points, window, SETTINGS[rule].color)
            panel.plot(*surface.minimum, "*", color="black", markersize=12, zorder=2)  # below the path
            panel.locator_params(steps=[1, 2, 5, 10])
            m = measure(points, surface)
            panel.set_title(rule, pad=19)
            panel.set_title(f"lr {surface.lr[rule]:g}", loc="right", weight="normal", pad=19)
            numbers = f"{m.turns} turn{'s'[: m.turns != 1]} · path {m.length:.1f} · {m.distance:.2f} to ★"
            panel.annotate(numbers, (0, 1), (0, 5), xycoords="axes fraction", textcoords="offset points")
    return save(canvas, out)
