"""`Optimizer`: hyperparameters, options in their order, and `update`."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from fastopt.arrays.containers import match_grads
from fastopt.arrays.packing import Packed
from fastopt.averaging import averages_in
from fastopt.checks import choice, hyperparameter, whole
from fastopt.configuration import Configuration
from fastopt.engine.plan import Arrays, Plan
from fastopt.engine.segment import Calls
from fastopt.engine.threads import stays_one
from fastopt.kept import keep_step
from fastopt.options.groups import (
    Grouping,
    describe_groups,
)
from fastopt.state import State
from fastopt.step import Step

__all__ = ["Optimizer", "State", "choice", "hyperparameter", "whole"]


class Missing:
    """What stands for gradients that weren't given, as None may be what a program has for them."""

    def __repr__(self) -> str:
        return "(required)"


MISSING: Any = Missing()


def how_to_update(given: Any) -> str:
    """Return what is wrong with a call of `update` without gradients."""
    if isinstance(given, Optimizer):
        return "update takes two arguments: write optimizer.update(params, grads)"
    return "update is a method of an object: write optimizer = Adam(), then optimizer.update(params, grads)"


@dataclass(repr=False, eq=False, kw_only=True)
class Optimizer(Configuration):
    """What all rules share: hyperparameters, options, and steps.

    Attributes
    ----------
    iter : int
        Number of updates taken. Schedules go by it.
    schedules : dict
        The schedules of hyperparameters by name, read-only: `fastopt.schedules`. ``schedule`` is that of lr.
    compiled : bool
        Whether the last step was taken by compiled code; else it was taken in plain NumPy.
    skipped : int
        Number of steps, or micro-batches, left out.
    grad_norm : float or None
        Norm of all gradients at the last step, before ``clip_norm`` scaled them; None without it.

    Examples
    --------
    >>> from dataclasses import dataclass
    >>> @dataclass(eq=False)
    ... class HalvedSGD(fastopt.SGD):
    ...     def scalars(self, t):
    ...         return (self.lr / 2,)
    >>> W = np.ones(1)
    >>> HalvedSGD(lr=0.2, weight_decay=1).update([W], [np.ones(1)])
    True
    >>> W  # 1 − 0.2 / 2·(1 + 1·1)
    array([0.8])
    """

    def __post_init__(self) -> None:
        self.check_class()
        super().__post_init__()
        vars(self)["last_grouping"] = None, None
        self.begin()

    def describe_arrays(self, arrays: Arrays) -> str:
        """Return the table that `describe` returns."""
        grouping = self.grouping_of(arrays)
        views = self.shown_views(grouping)
        return describe_groups([*arrays.keys], arrays.params, grouping, views, self.group_names())

    # A step.

    def update(self, params: Any, grads: Any = MISSING) -> bool:
        """Take one step: update the parameters in place.

        Parameters
        ----------
        params : dict or list
            Arrays of any shape and layout, float32 or float64, which keep their identity; or Python
            floats and NumPy scalars, which are replaced in the container. (float16 is updated in
            float32 and rounded.)
        grads : dict or list, as ``params``
            For each parameter an array of its shape, of real numbers of any dtype, rounded to the
            parameter's; or `fastopt.Rows`. Never written to. Keys without a parameter are ignored.

        Returns
        -------
        bool
            True; False if the step was left out (``nonfinite="skip"``, ``skip_norm``), or the gradients are
            those of a micro-batch that others follow (``accumulate``).

        Raises
        ------
        KeyError
            If a gradient is missing.
        TypeError
            If a container, a parameter or a gradient is of a kind that can't be taken.
        ValueError
            If shapes or lengths differ, a parameter is read-only, or it has changed its shape or dtype.
        FloatingPointError
            With ``nonfinite="raise"``, if a gradient has values that aren't finite or whose squares aren't.

        Warns
        -----
        RuntimeWarning
            With ``nonfinite="warn"``, at the first such gradient, when the step has been taken.

        Notes
        -----
        Whatever is raised is raised before anything has changed. Only KeyboardInterrupt, or what else the
        handler of a signal raises, may come when the whole step has been taken; `iter` tells. The same
        array listed twice is updated twice, in order, with the state of each. If both are
        packed (`fastopt.pack`), the step is one pass over the whole buffer. Steps of one optimizer in
        several Python threads are taken one after the other. Each parameter counts its own steps.
        """
        if grads is MISSING:
            raise TypeError(how_to_update(self))
        with self.lock:
            kept = self.kept
            if kept is not None:
                is_done = kept(self, params, grads)
                if is_done:
                    return True
                if is_done is None:
                    self.warn_of_last(params, grads)
                    return True
            arrays = self.arrays_of(params, grads)
            if not self.update_arrays(arrays):
                return False
            plan = self.engine.plan
            if plan is not None and self.can_repeat(plan):
                vars(self)["kept"] = keep_step(plan, params, grads)
                # Only now, as a signal's handler may have assigned an option since.
                if not self.can_repeat(plan):
                    vars(self)["kept"] = None
            return True

    def warn_of_last(self, params: Any, grads: Any) -> None:
        """Warn, the first time, of the step that was just taken with a gradient that isn't finite."""
        step = Step(self, self.arrays_of(params, grads))
        step.number -= 1
        self.warn_of(step)

    def arrays_of(self, params: Any, grads: Any) -> Arrays:
        """Return the keys and arrays of a step, or the buffers of packed ones if these take one pass."""
        if isinstance(params, Packed) and isinstance(grads, Packed):
            is_known = params.layout is grads.layout is self.engine.memory.layout
            if is_known or (not self.takes_single_arrays and self.engine.is_one_pass(params, grads)):
                return Arrays(params.layout, [*params.buffers.values()], [*grads.buffers.values()], params)
        return Arrays(*match_grads(params, grads), params)

    def run(self, step: Step) -> Sequence[int]:
        """Do what there is to do in a step. Returns what the engines do, DONE or NONFINITE."""
        step.begin()
        return [engine.take(job) for engine, job in step.jobs]

    def finish(self, step: Step) -> None:
        """Show what was done."""
        if step.is_taken:
            step.end()

    def can_repeat(self, plan: Plan) -> bool:
        """Whether the next step by a plan takes no more than one call, scalars and what options do."""
        is_one = plan.n_elements < self.min_parallel_size or stays_one(self.threads, plan.n_elements)
        is_of_one_set = len(plan.sets) == 1 or not self.is_neutral
        is_single = plan.drive is not None and plan.token is self.token
        return self.is_repeatable and is_single and is_one and is_of_one_set

    def averages_of(self, arrays: Arrays, grouping: Grouping | None = None) -> list[np.ndarray]:
        """Return the average of each parameter."""
        name = "ema.average" if self.ema is not None else "swa.average" if self.swa is not None else None
        if not self.has_average:
            raise ValueError(
                "average() requires a parameter average; create the optimizer with ema=0.999 or swa=1000"
            )
        grouping = self.grouping_of(arrays) if grouping is None else grouping
        views = self.shown_views(grouping)
        which = [0 if grouping is None else max(grouping.which[key], 0) for key in arrays.keys]
        return averages_in(
            self.engine.memory, name, arrays, [partial(self.own_average, views[i]) for i in which]
        )

    # State that is saved.

    def drop_state_calls(self, key: Hashable) -> Calls:
        """Return the C calls that drop the state of a parameter."""
        memory = self.engine.memory
        if key not in memory.known:
            raise KeyError(f"there is no state of {key!r}, but of {memory.known}")
        # Options are new ones, which know no array.
        changes = self.derived_attributes({}) | {"last_grouping": (None, None)}
        calls: Calls = [partial(vars(self).update, changes)]
        return calls + self.engine.replace_calls(memory.without(key)) + self.drop_sum_calls(key)

    def unused(self) -> Any:
        """Return an optimizer with the same hyperparameters and without state."""
        schedules: dict[str, Any] = dict(self.schedules)
        return replace(self, **schedules)

    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__()
        own = self.groups
        groups = None if own is None else {key: dict(values) for key, values in own.items()}
        return state | {"fields": state["fields"] | {"groups": groups}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        groups = self.check_of("groups")("groups", state["fields"]["groups"])
        super().__setstate__(state | {"fields": state["fields"] | {"groups": groups}})
