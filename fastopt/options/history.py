"""`Record`: what happens to each array at every so many steps, and its picture."""

from collections.abc import Hashable
from dataclasses import dataclass, field
from math import hypot, nan, sqrt
from typing import TYPE_CHECKING, Any

import numpy as np

from fastopt.arrays.containers import check_grad, compute_dtype
from fastopt.arrays.rows import Rows
from fastopt.checks import integer
from fastopt.figures import MARKERS, figure, label_logarithmic
from fastopt.kernels.norms import squares
from fastopt.options.base import Option

if TYPE_CHECKING:
    from fastopt.step import Step

__all__ = ["Record", "Recording", "Trace"]

# Of larger arrays so many elements are looked at, in blocks all over them.
SAMPLE, BLOCK = 16_384, 64

# Number of lines that the legend of a picture names. Of more arrays it names some, evenly spread.
MAX_ENTRIES = 32


@dataclass
class Trace:
    """What happened to one array at the recorded steps; NaN where it wasn't among the parameters.

    Attributes
    ----------
    grad_norm : list of float
        Norm of the gradient, before clipping.
    update_norm : list of float
        Norm of what the step changed.
    param_norm : list of float
        Norm of the parameter before the step.
    zero_fraction : list of float
        Fraction of the gradient's elements that are exactly 0.
    """

    grad_norm: list[float] = field(default_factory=list)
    update_norm: list[float] = field(default_factory=list)
    param_norm: list[float] = field(default_factory=list)
    zero_fraction: list[float] = field(default_factory=list)

    def __repr__(self) -> str:
        if not self.zero_fraction:
            return "<Trace: no steps>"
        grad, update, param = self.grad_norm[-1], self.update_norm[-1], self.param_norm[-1]
        return (
            f"<Trace: {len(self.zero_fraction)} steps; last ‖g‖ {grad:.3g}, ‖Δp‖ {update:.3g}, "
            f"‖p‖ {param:.3g}, {self.zero_fraction[-1]:.1%} zeros>"
        )

    @property
    def update_ratio(self) -> list[float]:
        """The norm of the update over that of the parameter: about 0.001 is usual."""
        pairs = zip(self.update_norm, self.param_norm, strict=True)
        return [update / param if param else nan for update, param in pairs]


class Record(Option):
    """What `Optimizer.record` keeps; ``str(record)`` is the last step in one line, for a progress bar.

    Attributes
    ----------
    every : int
        Steps 1, 1 + every, 1 + 2·every, ... are recorded.
    steps : list of int
        The numbers of the recorded steps.
    lr : list of float
        Their learning rates.
    skipped : list of int
        How many steps had been left out by then.
    arrays : dict of Trace
        For each key, or index, what happened to its array. Values of arrays with more than 16,384
        elements are estimated from so many of them.

    Examples
    --------
    >>> optimizer = fastopt.SGD(lr=0.5)
    >>> record = optimizer.record(every=1)
    >>> optimizer.update([np.ones(4)], [np.ones(4)])
    True
    >>> record.steps, record.lr
    ([1], [0.5])
    """

    def __init__(self, every: int) -> None:
        self.every = integer("every", every, 1)
        self.steps: list[int] = []
        self.lr: list[float] = []
        self.skipped: list[int] = []
        self.arrays: dict[Hashable, Trace] = {}
        self._before: list[tuple[np.ndarray, float, float]] | None = None

    def before(self, step: "Step") -> bool:
        """Keep what is known before the step."""
        is_due = (step.number - 1) % self.every == 0
        self._before = list(map(looked_at, *step.by_array())) if is_due else None
        return True

    def after(self, step: "Step") -> None:
        """Record a step that was taken."""
        before, self._before = self._before, None
        if before is None:
            return
        keys, params, _ = step.by_array()
        if not step.is_packed:  # numbers are others now
            params = [step.arrays.container[key] for key in keys]
        self.steps.append(step.number)
        self.lr.append(step.value_of("lr"))
        self.skipped.append(step.optimizer.skipped)
        for key, value, (kept, grad_norm, zero_fraction) in zip(keys, params, before, strict=True):
            trace = self.arrays.setdefault(key, Trace())
            scale, moved = scale_of(np.size(value)), sample(value, kept.dtype) - kept
            missing = len(self.steps) - 1 - len(trace.zero_fraction)
            for values, number in (
                (trace.grad_norm, grad_norm),
                (trace.update_norm, scale * norm(moved)),
                (trace.param_norm, scale * norm(kept)),
                (trace.zero_fraction, zero_fraction),
            ):
                values += [nan] * missing + [number]

    def __repr__(self) -> str:
        n_steps, n_arrays = len(self.steps), len(self.arrays)
        return f"<Record: {f'{n_steps} steps of {n_arrays} arrays; ' if n_steps else ''}{self}>"

    def __str__(self) -> str:
        if not self.steps:
            return "no step is recorded yet"
        last = [trace for trace in self.arrays.values() if len(trace.zero_fraction) == len(self.steps)]
        grad, update, param = (
            hypot(*(getattr(trace, name)[-1] for trace in last))
            for name in ("grad_norm", "update_norm", "param_norm")
        )
        ratio = update / param if param else nan
        line = f"step {self.steps[-1]} · lr {self.lr[-1]:.3g} · |g| {grad:.3g} · |Δp|/|p| {ratio:.2g}"
        return line + (f" · {self.skipped[-1]} skipped" if self.skipped[-1] else "")

    def plot(self) -> Any:
        """Draw how the arrays fared, step by step.

        Returns
        -------
        matplotlib.figure.Figure
            ``savefig(path)`` writes it; a notebook shows it, as does pyplot's ``show`` if pyplot was imported
            before.

        Raises
        ------
        ValueError
            If no step is recorded.
        ModuleNotFoundError
            If there is no matplotlib.
        """
        if not self.steps:
            raise ValueError("no step is recorded yet: record() before the training, plot() after it")
        with figure(5.4 + 0.2 * (min(len(self.arrays), MAX_ENTRIES) // 4)) as canvas:
            draw(canvas.subplots(2, 2, sharex=True), self)
        return canvas


class Recording:
    """The methods of optimizers that keep a record."""

    history: Record | None
    lock: Any
    apply_changes: Any

    @property
    def recorded(self) -> Record | None:
        """What `record` has kept so far; None without it."""
        return self.history

    def record(self, every: int = 10) -> Record:
        """Keep what happens to each array at every so many steps, from now on.

        Parameters
        ----------
        every : int, default 10
            Number of steps between two that are recorded, from 1.

        Returns
        -------
        Record
            With ``steps``, ``lr`` (a partition's is that of its first member with arrays), ``arrays``,
            ``plot()``; also in ``recorded``. ``str`` gives a line for a progress bar.

        Raises
        ------
        TypeError, ValueError
            If ``every`` is no whole number from 1.
        """
        record = Record(every)
        with self.lock:
            self.apply_changes("history", {"history": record})
        return record


def looked_at(key: Hashable, param: Any, grad: Any) -> tuple[np.ndarray, float, float]:
    """Return a copy of a parameter's sample, and the norm and fraction of zeros of its gradient."""
    shape, dtype = compute_dtype(key, param)
    if isinstance(grad, Rows):
        slope = grad.coalesce(key, shape, dtype).values.reshape(-1)
        zero_fraction = 1 - np.count_nonzero(slope) / max(np.size(param), 1)
        return sample(param, dtype).copy(), norm(slope), zero_fraction
    check_grad(key, grad, shape)
    slope = sample(grad, dtype)
    zero_fraction = np.count_nonzero(slope == 0) / max(slope.size, 1)
    return sample(param, dtype).copy(), scale_of(np.size(grad)) * norm(slope), zero_fraction


def sample(array: Any, dtype: np.dtype[Any]) -> np.ndarray:
    """Give elements of an array, flat: all, or blocks of a large one."""
    flat = np.asarray(array).ravel("K")
    if flat.size > SAMPLE:
        blocks = SAMPLE // BLOCK
        flat = flat[: flat.size // blocks * blocks].reshape(blocks, -1)[:, :BLOCK].reshape(-1)
    return np.asarray(flat, dtype)


def scale_of(size: int) -> float:
    """Give what the norm of a sample has to be multiplied by."""
    return sqrt(size / SAMPLE) if size > SAMPLE else 1.0


def norm(values: np.ndarray) -> float:
    """Give the norm of a flat array."""
    with np.errstate(all="ignore"):
        return sqrt(squares.in_numpy(values))


def draw(panels: Any, record: Record) -> None:
    """Draw a record into four panels."""
    from matplotlib import colormaps

    titles = {
        "grad_norm": ("norm of the gradient", "‖g‖"),
        "update_ratio": ("update / parameter (dotted: usual)", "‖Δp‖ / ‖p‖"),
        "param_norm": ("norm of the parameter", "‖p‖"),
        "zero_fraction": ("zeros in the gradient", "fraction"),
    }
    count, n_steps = len(record.arrays), len(record.steps)
    colors = colormaps["viridis"](np.linspace(0, 0.9, count))  # in the order of the arrays, which is of depth
    for panel, (name, (title, symbol)) in zip(panels.flat, titles.items(), strict=True):
        for i, (color, (key, trace)) in enumerate(zip(colors, record.arrays.items(), strict=True)):
            values = getattr(trace, name)
            panel.plot(
                record.steps[: len(values)],
                values,
                color=color,
                linewidth=1.2,
                alpha=0.85,
                marker=MARKERS[i % len(MARKERS)],
                markersize=4,
                # Six markers a line, not all at the same steps, where they would cover each other.
                markevery=(i * n_steps // (6 * count), max(1, n_steps // 6)),
                label=str(key),
            )
        panel.set(title=title, ylabel=symbol)
        if name == "zero_fraction":
            panel.set_ylim(-0.03, 1.03)
        elif any(value > 0 for trace in record.arrays.values() for value in getattr(trace, name)):
            panel.set_yscale("log")
            label_logarithmic(panel.yaxis)
        panel.grid()
    panels[0, 1].axhline(1e-3, color="0.4", linewidth=1, linestyle=":", zorder=1)
    rate = panels[0, 0].twinx()
    rate.plot(record.steps, record.lr, color="crimson", linewidth=1, linestyle="--")
    rate.set_ylim(bottom=0)
    rate.set_ylabel("learning rate (dashed)", color="crimson")
    rate.tick_params(labelcolor="crimson")
    for panel in panels[1]:
        panel.set_xlabel("step")
    if count > 1:
        handles, labels = panels[0, 0].get_legend_handles_labels()
        # An odd number, so that weights and biases which take turns both are among them.
        every = (count - 1) // MAX_ENTRIES
        every += 1 + every % 2
        heading = None if every == 1 else f"one of every {every} arrays"
        panels[0, 0].figure.legend(
            handles[::every], labels[::every], loc="outside lower center", title=heading, ncols=4
        )
