"""Steps that are left out because their gradients are too large."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fastopt.checks import hyperparameter
from fastopt.engine.plain import all_finite
from fastopt.options.base import Option
from fastopt.options.norms import GradientNorm, rounded

if TYPE_CHECKING:
    from fastopt.step import Step

__all__ = ["SkipLarge", "SkippingFields"]


@dataclass(init=False, repr=False, eq=False, kw_only=True)
class SkippingFields:
    """The field of this option.

    Parameters
    ----------
    skip_norm : float, optional
        Largest norm of all gradients with which a step is taken, greater than 0. All arrays count as one
        vector. If the norm is larger, or NaN, `update` returns False and counts in ``skipped``, with nothing
        changed. So is a micro-batch left out of the mean (optax's ``skip_large_updates``, with the square of
        this). The norm is that of the gradients as they are given; frozen arrays don't count.
    """

    skip_norm: float | None = hyperparameter(None, above=0, repr=False, scheduled=False)


class SkipLarge(Option):
    """A step is left out if the norm of its gradients is above a bound.

    Parameters
    ----------
    bound : float
        The bound.
    """

    def __init__(self, bound: float) -> None:
        self.bound = bound
        self.norm = GradientNorm()

    def before(self, step: "Step") -> bool:
        """Leave the step out if need be; raise NonfiniteGradientError if it is to be refused anyway."""
        if step.is_flush:  # the micro-batches that are in have been looked at
            return True
        if self.norm.of(step) <= self.bound:
            return True
        if step.is_strict:
            with np.errstate(all="ignore"):
                for key, param, grad in zip(*step.by_array(), strict=True):
                    if not all_finite(rounded(key, param, grad)):
                        step.note_nonfinite(key)
        step.is_skipped = True
        return False
