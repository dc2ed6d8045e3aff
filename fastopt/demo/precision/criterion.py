"""What decides whether a format of the state has hurt a training: accuracy, final loss, and the loss curve.

Both trainings begin with the same weights and take the same batches, so that they differ by the format only.
The mean accuracy over the seeds may be lower by no more than other seeds would change it: two standard errors
of each side. Both sides count with the standard error in full precision. The format's own one would excuse
a training that fails for one seed of five. The margin of the final loss is fixed, as seeds differ too much
in it: four standard errors are up to 99%.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

__all__ = ["COARSE", "FINE", "NOISE", "Margins", "Run", "Trial", "standard_error"]

# Two standard errors of each side.
NOISE = 4


class Run(NamedTuple):
    """The loss of each step of a training, and the accuracy on held-out data near its end."""

    losses: np.ndarray
    accuracy: float

    @property
    def final_loss(self) -> float:
        """The mean loss of the last tenth of the steps."""
        return float(self.losses[-max(1, len(self.losses) // 10) :].mean())


class Margins(NamedTuple):
    """What counts as equal: differences of accuracy, relative ones of final loss; the least correlation."""

    accuracy: float
    loss: float
    correlation: float


# If the initial weights differ by 0.1% at random, in full precision, the mean accuracy over five seeds
# differs by up to 0.2 points and the final loss by up to 3%; the correlation is 0.998 or more. One test image
# of the digits is 0.3 points.
FINE = Margins(accuracy=0.005, loss=0.05, correlation=0.99)

# For one seed, which has no standard error, and for short trainings, which end where the loss is steep. There
# the same change of weights changes single accuracies by up to 1.5 points; the least correlation is 0.93.
COARSE = Margins(accuracy=0.03, loss=0.1, correlation=0.9)


def standard_error(values: Any) -> float:
    """Return the standard error of the mean; 0 for a single value."""
    return float(np.std(values, ddof=1) / np.sqrt(len(values))) if len(values) > 1 else 0.0


class Trial(NamedTuple):
    """The runs of a program by one rule: with its state as the parameters, and in a format; one a seed."""

    program: str
    rule: str
    state_dtype: str
    full: Sequence[Run]
    low: Sequence[Run]

    @property
    def correlations(self) -> list[float]:
        """Pearson's correlation of both loss curves, for each seed; NaN if a loss isn't finite."""
        with np.errstate(all="ignore"):
            pairs = zip(self.full, self.low, strict=True)
            return [float(np.corrcoef(full.losses, low.losses)[0, 1]) for full, low in pairs]

    @property
    def losses(self) -> np.ndarray:
        """The final losses: a row of the runs in full, and one of those in the format."""
        return np.array([[run.final_loss for run in runs] for runs in (self.full, self.low)])

    @property
    def accuracies(self) -> np.ndarray:
        """The accuracies: a row of the runs in full, and one of those in the format."""
        return np.array([[run.accuracy for run in runs] for runs in (self.full, self.low)])

    def faults(self, margins: Margins) -> list[str]:
        """Return what is worse than allowed, in words; empty if the format hasn't hurt."""
        found = []
        full, low = self.accuracies
        fall = float(np.mean(full) - np.mean(low))
        allowed = max(NOISE * standard_error(full), margins.accuracy)
        if not fall <= allowed:
            found.append(f"accuracy lower by {fall * 100:.2f} points, allowed are {allowed * 100:.2f}")
        full, low = self.losses
        rise = float(np.mean(low) / np.mean(full)) - 1
        if not rise <= margins.loss:
            found.append(f"final loss higher by {rise:.1%}, allowed are {margins.loss:.1%}")
        correlation = float(np.mean(self.correlations))
        if not correlation >= margins.correlation:
            found.append(f"correlation {correlation:.4f}, at least {margins.correlation:g} is needed")
        return found
