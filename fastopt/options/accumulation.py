"""Several micro-batches to a step: the sums of their gradients, and their mean.

The sums have an engine of their own, whose rule is the sum. They are emptied in the chain of the step that
takes their mean.
"""

from collections import deque
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import partial
from operator import call, setitem
from typing import TYPE_CHECKING, Any

import numpy as np

from fastopt.arrays.containers import check_grad, compute_dtype
from fastopt.arrays.rows import Rows
from fastopt.checks import whole
from fastopt.engine.engine import CHANGED, Engine, OutdatedStepError
from fastopt.engine.memory import Memory, StateSpec
from fastopt.engine.plan import Arrays, Plan
from fastopt.engine.rules import Rule
from fastopt.engine.segment import Calls
from fastopt.kernels.sums import accumulate, mean_with
from fastopt.options.base import NEUTRAL_SCALARS, GradientPass, Option, Pass

if TYPE_CHECKING:
    from fastopt.step import Step

__all__ = ["ACCUMULATE", "MEAN", "Accumulation", "AccumulationFields"]

TOTAL = StateSpec("accumulate.total")

# What adds a micro-batch, and what takes the mean: both have one state.
ACCUMULATE = Rule(accumulate, None, 4, is_reading=True)
MEAN = Rule(mean_with, None, 4, is_reading=True)

# The kernel's scalars, of which the last says whether a sum begins.
SCALARS = {is_first: (*NEUTRAL_SCALARS, float(is_first)) for is_first in (True, False)}


@dataclass(init=False, repr=False, eq=False, kw_only=True)
class AccumulationFields:
    """The field of this option.

    Parameters
    ----------
    accumulate : int, default 1
        Number of micro-batches of a step, at least 1. `update` adds the gradients to their sums and returns
        False; with the last micro-batch it takes one step with their mean and returns True. Each parameter
        has its own window: one that comes late takes its step later than the others. ``flush(params)``
        takes a step with the mean of a partial window, such as the last one of an epoch. Checkpoints
        contain the sums. With ``nonfinite="skip"`` a micro-batch with a non-finite gradient is left out of
        the mean. The value can't change while micro-batches are in.
    """

    accumulate: int = whole(1, repr=False, least=1)


class MicroBatch(Pass):
    """The job of adding a micro-batch to the sums.

    Parameters
    ----------
    step : Step
        The step.
    arrays : Arrays
        Those that aren't due.
    engine : Engine
        That of the sums.
    number : int
        How many micro-batches it had added when that was decided.
    """

    def __init__(self, step: "Step", arrays: Arrays, engine: Engine, number: int) -> None:
        super().__init__(arrays, (), step.optimizer.threads_for, is_strict=step.is_strict)
        self.engine, self.number = engine, number

    def check_current(self) -> None:
        """Raise OutdatedStepError if another micro-batch was added since."""
        if self.engine.memory.steps.item() != self.number:
            raise OutdatedStepError(CHANGED)

    def scalars(self, plan: Plan) -> tuple[float, ...]:
        """Return, for parameters with the same number of micro-batches in, whether their sums begin."""
        counts = plan.memory.counts
        return sum((SCALARS[counts.item(own.count_at) == 0] for own in plan.sets), ())

    checked_scalars = scalars


class Accumulation(Option):
    """Sums of the gradients of micro-batches, of which the last is followed by a step with their mean.

    Each parameter has a window of its own: one that comes late isn't in the step of the others.

    Parameters
    ----------
    every : int
        Number of micro-batches of a step.

    Attributes
    ----------
    engine : Engine
        Its memory holds the sums, and counts the micro-batches that are in each.
    """

    spec = TOTAL

    def __init__(self, every: int) -> None:
        self.every = every
        self.engine = Engine(ACCUMULATE, [TOTAL])
        self.means = make_means()

    def copy(self) -> "Accumulation":
        """Return one with copies of the sums."""
        new = Accumulation(self.every)
        new.engine = self.engine.copy()
        return new

    @property
    def filled(self) -> dict[Hashable, int]:
        """For each parameter the number of micro-batches in its sum, where that isn't 0."""
        memory = self.engine.memory
        counts = memory.counts.tolist()
        return {key: counts[position] for key, position in memory.positions.items() if counts[position]}

    def counts(self, keys: Sequence[Hashable], memory: Memory | None = None) -> list[int]:
        """Return how many micro-batches each of these parameters has in."""
        memory = self.engine.memory if memory is None else memory
        positions, counts = memory.positions, memory.counts.tolist()
        return [counts[positions[key]] if key in positions else 0 for key in keys]

    def add(self, keys: Any, params: list[Any], grads: list[Any], is_strict: bool) -> bool | None:
        """Add a micro-batch that is like the last one and no last one.

        Returns
        -------
        bool or None
            True if it was added; None if it was, but isn't finite; False if it wasn't.
        """
        plan = self.engine.plan
        if plan is None:
            return False
        count = plan.guard.item()
        if count + 1 >= self.every:
            return False
        return self.engine.repeat(keys, params, grads, SCALARS[count == 0], is_strict, count)

    def check_dense(self, step: "Step") -> None:
        """Raise TypeError if a gradient is of some rows."""
        for key, grad in zip(step.arrays.keys, step.arrays.grads, strict=True):
            if isinstance(grad, Rows):
                raise TypeError(f"the gradient of {key!r} is of rows: accumulate takes whole ones")

    def before(self, step: "Step") -> bool:
        """Add a micro-batch, or put the mean in the place of the last one's gradients."""
        memory = self.engine.memory  # once, as a handler may load another
        number = memory.steps.item()
        if step.is_flush:  # a micro-batch that a handler adds until then doesn't count as a step
            step.guards = self.engine.unchanged_calls()
        counts = self.counts(list(step.arrays.keys), memory)
        is_last = [count > 0 if step.is_flush else count + 1 >= self.every for count in counts]
        if all(is_last) and counts:
            self._take_mean(step, counts, memory)
            self._empty(step, memory)
            return True
        if step.is_flush:
            return False
        if not any(is_last):
            if len({*counts}) > 1 or (memory.layout and memory.layout != step.arrays.keys):
                step.split()  # the sums of packed arrays don't lie as these do, or count otherwise
            step.other_jobs = [(self.engine, MicroBatch(step, step.arrays, self.engine, number))]
            return False
        step.split()
        arrays, now = step.arrays, [i for i, is_due in enumerate(is_last) if is_due]
        others = arrays.select([i for i, is_due in enumerate(is_last) if not is_due])
        plan, first, then = self.engine.prepare(MicroBatch(step, others, self.engine, number))
        step.arrays = arrays.select(now)
        self._take_mean(step, [counts[i] for i in now], memory)
        step.add(partial(deque, map(call, [*first, *then]), 0))
        self._empty(step, plan.memory)
        return True

    def _empty(self, step: "Step", memory: Memory) -> None:
        """Empty the sums of a step's parameters when it has been taken."""
        emptied: Any = [memory.positions[key] for key in step.arrays.keys if key in memory.positions]
        step.add(partial(setitem, memory.counts, ... if len(emptied) == memory.counts.size else emptied, 0))

    def _take_mean(self, step: "Step", counts: list[int], memory: Memory) -> None:
        """Put the mean in the place of the gradients."""
        if not step.is_flush and min(counts) == max(counts) > 0:
            totals = memory.views_of(TOTAL.name, step.arrays.keys)
            if self.means.replace(step, (*NEUTRAL_SCALARS, float(counts[0] + 1)), totals):
                return
        step.split()
        keys, params, grads, _ = step.arrays
        sums = memory.views(TOTAL.name) if any(counts) else {}
        means = []
        with np.errstate(all="ignore"):
            for key, param, grad, count in zip(keys, params, grads, counts, strict=True):
                check_grad(key, grad, np.shape(param))
                mean = np.array(sums[key] if count else grad, compute_dtype(key, param)[1])
                if count and not step.is_flush:
                    mean += np.asarray(grad, mean.dtype)
                means.append(np.divide(mean, count if step.is_flush else count + 1, out=mean))
        step.replace_grads(means)

    def drop_calls(self, key: Hashable) -> Calls:
        """Return the calls that drop what is known of one parameter."""
        memory = self.engine.memory
        if key not in memory.layout:
            return []
        return [
            partial(setattr, self, "means", make_means()),
            *self.engine.replace_calls(memory.without(key)),
        ]


def make_means() -> GradientPass:
    """Return the pass that computes the means of full windows."""
    return GradientPass(MEAN)
