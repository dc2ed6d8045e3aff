"""`lr_finder`: the range test for the learning rate."""

from collections.abc import Callable
from math import isfinite
from typing import Any, NamedTuple

import numpy as np

from fastopt.arrays.snapshots import Restoration
from fastopt.checks import integer, kind, number
from fastopt.figures import figure, label_logarithmic
from fastopt.optimizer import Optimizer
from fastopt.partition import Partition

__all__ = ["RangeTest", "lr_finder"]


class RangeTest(NamedTuple):
    """The result of the range test.

    Attributes
    ----------
    lrs, losses : array
        Learning rate of each step, and the loss before it.
    smoothed : array
        Moving average of the losses.
    suggestion : float or None
        The learning rate at which the smoothed loss falls fastest in terms of log lr; None if it never falls.
    """

    lrs: np.ndarray
    losses: np.ndarray
    smoothed: np.ndarray
    suggestion: float | None

    def __repr__(self) -> str:
        found = "no suggestion" if self.suggestion is None else f"suggestion {self.suggestion:.3g}"
        lrs, losses = self.lrs, self.losses
        steps = f"{len(lrs)} steps, lr {lrs[0]:.3g} to {lrs[-1]:.3g}"
        return f"<RangeTest: {found}; {steps}, loss {losses.min():.3g} to {losses.max():.3g}>"

    def plot(self) -> Any:
        """Draw the losses over the learning rate.

        Returns
        -------
        matplotlib.figure.Figure
            ``savefig(path)`` writes it; a notebook shows it, as does pyplot's ``show`` if pyplot was imported
            before. (Needs the extra ``demo``.)
        """
        with figure(4.0, 6.4) as canvas:
            panel = canvas.subplots()
            panel.plot(self.lrs, self.losses, ".", color="0.65", label="loss of each step")
            panel.plot(self.lrs, self.smoothed, color="#0072B2", label="moving average")
            if self.suggestion is not None:
                label = f"suggestion {self.suggestion:.2g}"
                panel.axvline(self.suggestion, color="#D55E00", linestyle="--", label=label)
            top = self.smoothed.max()
            panel.set(xlabel="learning rate", ylabel="loss", ylim=(None, top + 0.1 * abs(top)), xscale="log")
            label_logarithmic(panel.xaxis)
            canvas.legend(loc="outside lower center", ncols=3)
        return canvas


def lr_finder(
    step: Callable[[], float],
    optimizer: Optimizer | Partition,
    params: Any,
    low: float = 1e-7,
    high: float = 10.0,
    steps: int = 100,
    smoothing: float = 0.9,
) -> RangeTest:
    """Raise the learning rate from step to step until the loss rises, and suggest a good one.

    Parameters and optimizer are afterwards as they were, bit for bit, also after an exception or Ctrl-C. What
    else ``step`` changes (the next batch, a random generator) isn't undone.

    Parameters
    ----------
    step : callable
        One step of the training: works out the gradients for a batch, calls ``optimizer.update`` and gives
        the loss of the batch.
    optimizer : Optimizer or Partition
        The one that step uses. During the test gradients that aren't finite are skipped. The learning rates
        of a partition's members are multiplied by the same factor: low, high, ``lrs`` and ``suggestion`` are
        such factors.
    params : dict or list
        What step updates.
    low, high : float
        The first and the last learning rate; they grow by the same factor at each step.
    steps : int
        How many there are at most, from 2. The test ends when the loss isn't finite any more, or its moving
        average is above four times its lowest.
    smoothing : float
        Decay of the moving average of the losses, from 0 to below 1.

    Returns
    -------
    RangeTest
        With ``suggestion``, ``lrs``, ``losses`` and ``plot()``.

    Raises
    ------
    TypeError, ValueError
        If an argument isn't as above, or the first loss isn't finite.

    References
    ----------
    Smith 2017, *Cyclical learning rates for training neural networks* (arXiv:1506.01186), section 3.3.

    Examples
    --------
    >>> W, optimizer = np.ones(1), fastopt.SGD()
    >>> def step():
    ...     optimizer.update([W], [2 * W])
    ...     return float(W[0] ** 2)
    >>> found = fastopt.lr_finder(step, optimizer, [W])
    >>> W, optimizer.iter, optimizer.lr  # all is as it was
    (array([1.]), 0, 0.01)
    """
    given: Any = optimizer
    if not isinstance(given, Optimizer | Partition):
        where = ": find the learning rate in one process" if hasattr(given, "broadcast") else ""
        raise TypeError(f"optimizer must be an Optimizer or a Partition, not {kind(given)}{where}")
    low = number("low", low, above=0)
    high = number("high", high, above=low)
    smoothing = number("smoothing", smoothing, below=1)
    lrs = np.geomspace(low, high, integer("steps", steps, 2))
    losses: list[float] = []
    smoothed: list[float] = []
    mean = 0.0
    members: list[Any] = [*optimizer.members.values()] if isinstance(optimizer, Partition) else [optimizer]
    rates = [member.lr for member in members] if isinstance(optimizer, Partition) else [1.0]
    with Restoration(params, optimizer):
        optimizer.nonfinite = "skip"
        for lr in lrs.tolist():
            for member, rate in zip(members, rates, strict=True):
                member.lr = rate * lr
            loss = float(step())
            if not isfinite(loss):
                break
            losses.append(loss)
            mean += (1 - smoothing) / (1 - smoothing ** len(losses)) * (loss - mean)
            smoothed.append(mean)
            if smoothed[-1] > 4 * min(smoothed) > 0:
                break
    if not losses:
        raise ValueError(f"the first loss is {loss}: the test needs a network whose loss is finite")
    seen = lrs[: len(losses)]
    return RangeTest(seen, np.array(losses), np.array(smoothed), steepest(seen, np.array(smoothed)))


def steepest(lrs: np.ndarray, smoothed: np.ndarray) -> float | None:
    """Return the learning rate where the curve falls fastest before its lowest point."""
    lowest = int(smoothed.argmin())
    if lowest == 0:
        return None
    slopes = np.gradient(smoothed[: lowest + 1], np.log(lrs[: lowest + 1]))
    return float(lrs[slopes.argmin()])
