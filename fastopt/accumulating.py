"""Several micro-batches to a step: the sums of their gradients, and their mean."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastopt.arrays.packing import Packed
from fastopt.arrays.rows import Rows
from fastopt.engine.threads import launch
from fastopt.kernels.sums import accumulate
from fastopt.optimizer import Optimizer, State
from fastopt.plan import align, check_grad

__all__ = ["Accumulator"]


@dataclass(eq=False)
class Accumulator(Optimizer):
    """The rule that leaves parameters as they are and sums up gradients; a part of the optimizer's state.

    total ← total + g, or g for the first micro-batch of a step

    Its ``iter`` tells how many micro-batches are in: it is that of the optimizer times ``accumulate``, plus
    so many. So a step that is taken empties it, without another word.

    Attributes
    ----------
    total : dict or list of arrays, or None
        The sums.
    """

    kernel = accumulate
    parallel_from = 50_000
    total = State()

    def scalars(self, t: int) -> tuple[float, ...]:
        """Give whether the sums begin."""
        return (float(self._first),)

    def around(self, optimizer: Optimizer, step: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
        """Give what takes micro-batches, and the step with the mean of each ``accumulate`` of them."""
        self._optimizer, self._step = optimizer, step
        self._means: Any = None
        return self.take

    @property
    def count(self) -> int:
        """The number of micro-batches that wait for the others."""
        count = self.iter - self._optimizer.iter * self._optimizer.accumulate
        return count if 0 <= count < self._optimizer.accumulate else 0

    def take(self, params: Any, grads: Any) -> bool:
        """Add a micro-batch, or take a step with the mean if it is the last; tell whether one was taken."""
        with launch:  # so that no other thread's comes in between
            keys, _, slopes = align(params, grads)
            for key, slope in zip(keys, slopes, strict=True):
                if isinstance(slope, Rows):
                    raise TypeError(f"the gradient of {key!r} is of rows: accumulate takes whole ones")
            count = self.count
            if count and {*keys} != {*self._layout}:
                odd = [*({*keys} ^ {*self._layout})]
                raise ValueError(
                    f"the micro-batches of one step have other parameters: only one has {odd[:5]}"
                )
            if count + 1 == self._optimizer.accumulate:
                return self._step(params, self._mean(params, grads))
            if not count:
                for key in {*self._layout} - {*keys}:
                    self.forget(key)
            self.iter = self._optimizer.iter * self._optimizer.accumulate + count
            self._first = not count
            self.nonfinite = self._optimizer.nonfinite
            if not self.update(params, grads):
                self._optimizer.__dict__["_skipped"] += 1
            return False

    def _mean(self, params: Any, grads: Any) -> Any:
        """Give the mean of the micro-batches, of which this is the last, in arrays of our own."""
        keys, values, slopes = align(params, grads)
        total = self.total if isinstance(params, Mapping) else dict(enumerate(self.total))
        for key, value, slope in zip(keys, values, slopes, strict=True):
            check_grad(key, slope, np.shape(value))
        if isinstance(params, Packed):
            if getattr(self._means, "layout", None) is not params.layout:
                self._means = params.like()
            means = dict(zip(*align(self._means, self._means)[:2], strict=True))
        else:
            if not isinstance(self._means, dict) or self._means.keys() != total.keys():
                self._means = {key: np.empty_like(total[key]) for key in keys}
            means = self._means
        k = self._optimizer.accumulate
        with np.errstate(all="ignore"):
            for key, slope in zip(keys, slopes, strict=True):
                np.add(total[key], np.asarray(slope, total[key].dtype), out=means[key])
                np.divide(means[key], k, out=means[key])
        if isinstance(params, Packed):
            return self._means
        return means if isinstance(params, Mapping) else [means[key] for key in keys]
