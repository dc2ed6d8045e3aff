"""A network learns digits with each rule, by plain NumPy and by fastopt."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from math import ceil
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
from matplotlib.patches import Patch
from threadpoolctl import threadpool_limits
from tqdm import tqdm

import fastopt
from fastopt import reference
from fastopt.demo.data import Data
from fastopt.demo.network import MultiLayerNet
from fastopt.demo.settings import SETTINGS
from fastopt.figures import MARKERS, figure, label_logarithmic, save, smoothed
from fastopt.optimizers.matrix import Orthogonalizing
from fastopt.tools.precompilation import compile_first
from fastopt.tools.report import paragraph, table

__all__ = [
    "Comparison", "Run", "make", "one_blas_thread", "picture", "quartiles", "ratio_label", "summary", "train",
]  # fmt: skip

# The machine is too busy to tell a ratio if its upper quartile is more than this factor above the lower one:
# half of the measurements then differ by more than what they are to show.
MAX_QUARTILE_RATIO = 1.5

# Number of loss curves in one panel. More can't be told apart.
MAX_CURVES = 8

NOTES = """\
Times are medians over the batches, with BLAS on one thread. A batch is gradient and step; the share is
that of the step in it. step faster, batch faster: the time of plain NumPy over fastopt's on the same
batch, the median and both quartiles. compile: before the training, or reading from the cache."""

BUSY = f"""\
–: the machine is too busy to tell: the quartiles are more than a factor of {MAX_QUARTILE_RATIO:g} apart. Run
it again when less else runs, or with more --epochs."""


@dataclass
class Run:
    """A network in training: the loss of each batch, the seconds of each step and of each whole batch."""

    net: MultiLayerNet
    optimizer: Any
    losses: list[float] = field(default_factory=list)
    steps: list[float] = field(default_factory=list)
    batches: list[float] = field(default_factory=list)

    def learn(self, x: np.ndarray, t: np.ndarray) -> None:
        """Take a step on one batch."""
        start = perf_counter()
        loss, grads = self.net.gradient(x, t)
        before = perf_counter()
        self.optimizer.update(self.net.params, grads)
        end = perf_counter()
        self.losses.append(loss)
        self.steps.append(end - before)
        self.batches.append(end - start)

    @property
    def share(self) -> float:
        """The optimizer's share of the time of a batch, by medians."""
        return median(self.steps) / median(self.batches)


@dataclass
class Comparison:
    """The runs of one rule, the final losses of both, and the accuracy on the test data."""

    rule: str
    compile_seconds: float
    ref: Run
    fast: Run
    losses: tuple[float, float]
    accuracy: float

    @property
    def step_ratios(self) -> list[float]:
        """The time of plain NumPy's step over that of fastopt's, for each batch."""
        return [slow / fast for slow, fast in zip(self.ref.steps, self.fast.steps, strict=True)]

    @property
    def batch_ratios(self) -> list[float]:
        """The time that plain NumPy takes for a batch over that of fastopt, for each batch."""
        return [slow / fast for slow, fast in zip(self.ref.batches, self.fast.batches, strict=True)]

    @property
    def same_bits(self) -> bool:
        """Whether every parameter agrees bit for bit."""
        pairs = zip(self.ref.net.params.values(), self.fast.net.params.values(), strict=True)
        return all(a.tobytes() == b.tobytes() for a, b in pairs)


def one_blas_thread() -> AbstractContextManager[Any]:
    """Return a context in which NumPy's matrix products take one thread.

    Two threads that wait for each other on a busy machine take many times as long, at random.
    """
    limits: AbstractContextManager[Any] = threadpool_limits(1, user_api="blas")
    return limits


def train(
    data: Data,
    rules: Sequence[str],
    hidden: Sequence[int],
    epochs: int,
    batch: int,
    dtype: str = "float64",
    seed: int = 0,
    packed: bool = False,
) -> list[Comparison]:
    """Train a network with each rule twice, from the same weights and with the same batches.

    The two take turns epoch by epoch, so a slow moment of the machine meets both. BLAS has one thread. With
    ``packed`` the network that fastopt trains has packed parameters.
    """
    sizes, batches = data.widths(hidden), data.steps(batch)
    comparisons = []
    with one_blas_thread(), tqdm(total=len(rules) * epochs * 2 * batches, unit="step") as bar:
        for rule in rules:
            bar.set_description(f"{rule}, compiling")
            compile_seconds = first_step(rule, sizes, dtype)
            ref = Run(MultiLayerNet(sizes, dtype, seed), make(rule, reference))
            fast = Run(MultiLayerNet(sizes, dtype, seed, packed), make(rule))
            rng = np.random.default_rng(seed)
            for epoch in range(epochs):
                order = data.shuffled(batch, rng)
                for run in (ref, fast) if epoch % 2 else (fast, ref):
                    for chosen in order:
                        run.learn(data.x_train[chosen], data.y_train[chosen])
                        bar.update()
                bar.set_description(f"{rule}, loss {np.mean(fast.losses[-batches:]):.4f}")
            losses = (ref.net.loss(data.x_train, data.y_train), fast.net.loss(data.x_train, data.y_train))
            accuracy = fast.net.accuracy(data.x_test, data.y_test)
            comparisons.append(Comparison(rule, compile_seconds, ref, fast, losses, accuracy))
    return comparisons


def make(rule: str, module: Any = fastopt) -> Any:
    """Return an optimizer of fastopt or of `fastopt.reference`; for all but matrices Adam helps out."""
    optimizer = getattr(module, rule)(SETTINGS[rule].digits, **SETTINGS[rule].digits_others)
    if not issubclass(getattr(fastopt, rule), Orthogonalizing):
        return optimizer
    if module is reference:
        return PlainPartition(optimizer, make("Adam", module))
    members: Any = {lambda key, param: param.ndim == 2: optimizer, "*": make("Adam")}
    return fastopt.Partition(members)


class PlainPartition:
    """The same partition in plain NumPy."""

    def __init__(self, muon: Any, adam: Any) -> None:
        self.muon, self.adam = muon, adam

    def update(self, params: Any, grads: Any) -> None:
        """Take a step."""
        self.muon.update({key: p for key, p in params.items() if p.ndim == 2}, grads)
        self.adam.update({key: p for key, p in params.items() if p.ndim != 2}, grads)


def first_step(rule: str, sizes: Sequence[int], dtype: str) -> float:
    """Return the seconds in which a rule is compiled, or read from the cache, and takes a step."""
    params = MultiLayerNet(sizes, dtype).params
    start = perf_counter()
    compile_first([rule], [dtype])
    make(rule).update(params, {key: p * 0 for key, p in params.items()})
    return perf_counter() - start


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """Return the lower quartile, the median and the upper quartile."""
    low, middle, high = np.quantile(values, [0.25, 0.5, 0.75])
    return float(low), float(middle), float(high)


def is_telling(ratios: Sequence[float]) -> bool:
    """Whether the quartiles of some ratios are close enough for their median to mean something."""
    low, _, high = quartiles(ratios)
    return high <= MAX_QUARTILE_RATIO * low


def ratio_cells(ratios: Sequence[float], digits: int) -> tuple[str, str]:
    """Return the median of some ratios, or a dash if it tells nothing, and the quartiles."""
    low, middle, high = quartiles(ratios)
    shown = f"{middle:.{digits}f}×" if is_telling(ratios) else "–"
    return shown, f"{low:.{digits}f}–{high:.{digits}f}"


def ratio_label(comparison: Comparison) -> str:
    """Return what the picture says about fastopt's steps."""
    if not is_telling(comparison.step_ratios):
        return "too busy to tell"
    ratio = median(comparison.step_ratios)
    return f"{ratio:.1f}× faster" if ratio >= 1 else f"{1 / ratio:.1f}× slower"


def summary(comparisons: Sequence[Comparison]) -> str:
    """Return what was learned and what it took as two tables, with a row for each rule."""
    learned = [
        (
            c.rule,
            f"{SETTINGS[c.rule].digits:g}",
            *(f"{loss:.6f}" for loss in c.losses),
            "yes" if c.same_bits else "NO",
            f"{c.accuracy:.1%}",
            f"{c.compile_seconds:.2f}",
        )
        for c in comparisons
    ]
    timed = [
        (
            c.rule,
            *(f"{median(run.steps) * 1e3:.3f}" for run in (c.ref, c.fast)),
            *ratio_cells(c.step_ratios, 1),
            *ratio_cells(c.batch_ratios, 2),
            *(f"{run.share:.0%}" for run in (c.ref, c.fast)),
        )
        for c in comparisons
    ]
    titles = (
        "rule", "learning\nrate", "loss,\nplain NumPy", "loss,\nfastopt", "same\nbits", "test\naccuracy",
        "compile,\ns",
    )  # fmt: skip
    time_titles = (
        "rule", "step,\nms,\nNumPy", "step,\nms,\nfastopt", "step\nfaster", "\nquartiles",
        "batch\nfaster", "\nquartiles", "share,\nNumPy", "share,\nfastopt",
    )  # fmt: skip
    parts = [table(titles, learned), table(time_titles, timed), paragraph(" ".join(NOTES.split()))]
    if not all(is_telling(ratios) for c in comparisons for ratios in (c.step_ratios, c.batch_ratios)):
        parts.append(paragraph(" ".join(BUSY.split())))
    return "\n\n".join(parts)


def picture(comparisons: Sequence[Comparison], out: Path) -> Path:
    """Draw the loss curves, and the time of a step beside them; save them as a picture."""
    with figure(max(3.8, 1.1 + 0.4 * len(comparisons)), is_shown=False) as canvas:
        left, right = canvas.subfigures(1, 2, width_ratios=(6, 5))
        draw_losses(left, comparisons)
        draw_times(right, comparisons)
    return save(canvas, out)


def draw_losses(canvas: Any, comparisons: Sequence[Comparison]) -> None:
    """Draw the loss curves into one panel, or each into a panel of its own if there are many."""
    canvas.suptitle("Training loss: fastopt (line) on plain NumPy (band)", weight="bold")
    is_one = len(comparisons) <= MAX_CURVES
    shape = (1, 1) if is_one else (ceil(len(comparisons) / 2), 2)
    panels = canvas.subplots(*shape, sharex=True, sharey=True, squeeze=False)
    curves = [[smoothed(run.losses) for run in (c.ref, c.fast)] for c in comparisons]
    for i, c in enumerate(comparisons):
        panel = panels.flat[0 if is_one else i]
        if not is_one:
            panel.set_title(c.rule)
            for other, _ in curves:
                panel.plot(*other, color="0.85", linewidth=0.8, zorder=1)
        color, n_steps = SETTINGS[c.rule].color, len(c.ref.losses)
        panel.plot(*curves[i][0], color=color, linewidth=6, alpha=0.3)
        panel.plot(
            *curves[i][1],
            color=color,
            linewidth=1.4,
            label=c.rule,
            marker=MARKERS[i] if is_one else "",
            markersize=5,
            # Not all at the same steps, where they would cover each other.
            markevery=(n_steps * (i + 1) // (6 * MAX_CURVES), max(1, n_steps // 6)),
        )
        panel.set_yscale("log")
    label_logarithmic(panels[0, 0].yaxis)
    used = panels.flat[:1] if is_one else panels.flat[: len(comparisons)]
    for panel in panels.flat[len(used) :]:
        panel.set_visible(False)
    for panel in used[-panels.shape[1] :]:  # the lowest of each column, above an empty place, too
        panel.tick_params(labelbottom=True)
        panel.set_xlabel("step")
    canvas.supylabel("cross-entropy of the batches, smoothed")
    if is_one:
        canvas.legend(loc="outside lower center", ncols=3)


def draw_times(canvas: Any, comparisons: Sequence[Comparison]) -> None:
    """Draw a bar for each rule's step by plain NumPy, and one for fastopt's below it."""
    canvas.suptitle("Time of a step (median)", weight="bold")
    panel = canvas.subplots()
    times = [[median(run.steps) * 1e3 for run in (c.ref, c.fast)] for c in comparisons]
    for row, (c, (slow, fast)) in enumerate(zip(comparisons, times, strict=True)):
        color = SETTINGS[c.rule].color
        panel.barh(row - 0.2, slow, 0.38, color=color, alpha=0.3)
        panel.barh(row + 0.2, fast, 0.38, color=color)
        panel.text(fast, row + 0.2, f" {ratio_label(c)}", va="center")
    longest = np.max(times, axis=0)
    # Twice as long, so that there is room for the text.
    panel.set_xlim(0, max(1.05 * longest[0], 2.2 * longest[1]))
    panel.set_ylim(len(comparisons) - 0.4, -0.6)
    panel.set_yticks(range(len(comparisons)), [c.rule for c in comparisons])
    panel.set_xlabel("ms")
    handles = [Patch(color="black", alpha=0.3, label="plain NumPy"), Patch(color="black", label="fastopt")]
    canvas.legend(handles=handles, loc="outside lower center", ncols=2)
