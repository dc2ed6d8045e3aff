"""`Optimizer`: hyperparameters, options in their order, and `update`."""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any, ClassVar

import numpy as np

from fastopt.arrays.containers import keys_and_values, match_grads
from fastopt.arrays.layout import Layout
from fastopt.arrays.packing import Packed
from fastopt.averaging import Averaging, averages_in
from fastopt.checkpoints.saving import Saving
from fastopt.checkpoints.state_dict import MAX_STEPS
from fastopt.checks import hyperparameter, whole
from fastopt.configuration import Configuration
from fastopt.engine.driver import DONE, NONFINITE
from fastopt.engine.engine import NonfiniteGradientError, find_nonfinite
from fastopt.engine.plan import Arrays, Plan, run_calls
from fastopt.engine.segment import Calls
from fastopt.engine.threads import stays_one, step_lock
from fastopt.kept import keep_step
from fastopt.options.groups import (
    Grouping,
    GroupViews,
    describe_groups,
)
from fastopt.options.history import Record
from fastopt.options.nonfinite import describe_nonfinite, warn_of_nonfinite
from fastopt.schedules import Schedule
from fastopt.state import State
from fastopt.step import Step

__all__ = ["Optimizer", "State", "hyperparameter", "whole"]


@dataclass(eq=False, kw_only=True)
class Optimizer(Configuration, Averaging, Saving):
    """What all rules share: hyperparameters, options, and steps.

    Parameters
    ----------
    threads : int, optional
        Number of threads of a large step; by default that of `fastopt.set_num_threads`.

    Attributes
    ----------
    iter : int
        Number of updates taken. Schedules go by it.
    skipped : int
        Number of steps, or micro-batches, left out.
    grad_norm : float or None
        Norm of all gradients at the last step, before ``clip_norm`` scaled them; None without it.
    """

    grad_norm: ClassVar[float | None] = None

    def __post_init__(self) -> None:
        own = vars(self)
        own.update(
            lock=step_lock(self), token=object(), _skipped=0, _has_warned=False, last_grouping=(None, None)
        )
        self.begin()

    # What is shown.

    @property
    def iter(self) -> int:
        """Number of updates taken."""
        return self.n_steps

    @iter.setter
    def iter(self, value: int) -> None:
        is_integer = isinstance(value, int | np.integer) and not isinstance(value, bool)
        if not is_integer or not 0 <= value < MAX_STEPS:
            raise ValueError(f"iter must be a whole number from 0 to below 2⁶², not {value!r}")
        with self.lock:
            memory = self.engine.memory
            memory.counts[...] = np.maximum(memory.counts + (value - self.iter), 0)
            memory.steps[()] = value

    @property
    def skipped(self) -> int:
        """Number of steps left out because of gradients that weren't finite."""
        skipped: int = vars(self)["_skipped"]
        return skipped

    def count_skipped(self) -> None:
        """Count a step that was left out."""
        vars(self)["_skipped"] += 1

    @property
    def schedule(self) -> Schedule | None:
        """The schedule of the learning rate, if there is one."""
        return self.rate_schedule

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
            With ``steps``, ``lr``, ``arrays``, ``plot()``; also in ``recorded``. ``str`` gives a line for a
            progress bar.

        Raises
        ------
        TypeError, ValueError
            If ``every`` is no whole number from 1.
        """
        record = Record(every)
        with self.lock:
            self.apply_changes("history", {"history": record})
        return record

    def describe(self, params: Any) -> str:
        """Return a table (str) of the hyperparameters of each parameter.

        Parameters
        ----------
        params : dict or list
            What is updated.

        Raises
        ------
        ValueError
            If a group has no parameter.
        """
        keys, values = keys_and_values(params)
        grouping = self.grouping_of(Arrays(keys, values, values, params))
        views = self.group_views(grouping, None)
        return describe_groups(keys, values, grouping, views, self.group_names())

    # A step.

    def update(self, params: Any, grads: Any) -> bool:
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
            True; False if the step was left out (``nonfinite="skip"``), or the gradients are those of a
            micro-batch that others follow (``accumulate``).

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
        with self.lock:
            kept = self.kept
            if kept is not None:
                is_done = kept(self, params, grads)
                if is_done:
                    return True
                if is_done is None:
                    step = Step(self, self.arrays_of(params, grads))
                    step.number -= 1  # it was taken
                    self._warn_of(step, NONFINITE)
                    return True
            arrays = self.arrays_of(params, grads)
            if self.accumulation is not None:
                done = self.accumulation.add(*arrays[:3], self.nonfinite != "warn")
                if done is not False:
                    if done is None:
                        self._warn_of(Step(self, arrays), NONFINITE)
                    return False
            step = Step(self, arrays)
            if not self.take(step):
                return False
            plan = self.engine.plan
            if self.is_repeatable and plan is not None and plan.drive is not None:
                vars(self)["kept"] = keep_step(plan, step.grouping, params, grads)
                # Only now, as a signal's handler may have assigned an option since.
                if not self._is_repeatable(plan):
                    vars(self)["kept"] = None
            return True

    def arrays_of(self, params: Any, grads: Any) -> Arrays:
        """Return the keys and arrays of a step, or the buffers of packed ones if these take one pass."""
        if isinstance(params, Packed) and isinstance(grads, Packed):
            is_known = params.layout is grads.layout is self.engine.memory.layout
            if is_known or (not self.has_groups and self.engine.is_one_pass(params, grads)):
                return Arrays(params.layout, params.flats, grads.flats, params)
        return Arrays(*match_grads(params, grads), params)

    def flush(self, params: Any) -> bool:
        """Take a step with the mean of the micro-batches that are in, be they fewer than ``accumulate``.

        Parameters
        ----------
        params : dict or list
            What is updated.

        Returns
        -------
        bool
            Whether there were any.

        Raises
        ------
        TypeError, ValueError
            As `update`.
        """
        with self.lock:
            keys, values = keys_and_values(params)
            if self.accumulation is None or not any(self.accumulation.counts(keys)):
                return False
            return self.take(Step(self, Arrays(keys, values, list(values), params), is_flush=True))

    def take(self, step: Step) -> bool:
        """Take a step that isn't plain, or needs a new plan."""
        try:
            step.begin()
            status = max([engine.take(job) for engine, job in step.jobs], default=DONE)
        except NonfiniteGradientError as error:
            if step.nonfinite == "skip":
                self.count_skipped()
                return False
            raise FloatingPointError(describe_nonfinite(error.args[0], step.number)) from None
        return self.finish(step, status)

    def finish(self, step: Step, status: int) -> bool:
        """Show what was done, given what the engine returned. Returns whether the step was taken."""
        if step.is_taken:
            step.end()
        self._warn_of(step, status)
        return step.is_taken

    def _is_repeatable(self, plan: Plan) -> bool:
        """Whether the next step by a plan takes no more than `update` looks at."""
        is_one = plan.n_elements < self.min_parallel_size or stays_one(self.threads, plan.n_elements)
        is_of_one_set = len(plan.sets) == 1 or not self.is_neutral
        return self.is_repeatable and plan.token is self.token and is_one and is_of_one_set

    def _warn_of(self, step: Step, status: int) -> None:
        """Warn, the first time, if a step met a gradient that isn't finite."""
        key = step.nonfinite_key
        if vars(self)["_has_warned"] or (key is None and status != NONFINITE):
            return
        if key is None:
            layout = self.engine.memory.layout
            if self.accumulation is not None:
                layout = Layout({**self.accumulation.engine.memory.layout, **layout})
            key = find_nonfinite(step.arrays, layout)
        vars(self)["_has_warned"] = True
        warn_of_nonfinite(key, step.number)

    def averages_of(self, arrays: Arrays, grouping: Grouping | None = None) -> list[np.ndarray]:
        """Return the average of each parameter."""
        name = "ema.average" if self.ema is not None else "swa.average" if self.swa is not None else None
        if not self.has_average:
            raise ValueError(
                "average() requires a parameter average; create the optimizer with ema=0.999 or swa=1000"
            )
        grouping = self.grouping_of(arrays) if grouping is None else grouping
        views = self.group_views(grouping, None)
        which = [0 if grouping is None else max(grouping.which[key], 0) for key in arrays.keys]
        return averages_in(
            self.engine.memory, name, arrays, [partial(self.own_average, views[i]) for i in which]
        )

    # State that is saved.

    def drop_state(self, key: Hashable) -> None:
        """Drop the state of a parameter; its next step is as in a new optimizer.

        The state of a parameter that steps no longer mention is kept until then.

        Parameters
        ----------
        key : hashable
            The parameter's key, or its index in a list.

        Raises
        ------
        KeyError
            If there is no state of that key.
        """
        with self.lock:
            run_calls(self.drop_state_calls(key))

    def drop_state_calls(self, key: Hashable) -> Calls:
        """Return the C calls that drop the state of a parameter."""
        memory = self.engine.memory
        if key not in memory.layout:
            raise KeyError(f"there is no state of {key!r}, but of {list(memory.layout)}")
        calls: Calls = [partial(vars(self).update, {"kept": None, "last_grouping": (None, None)})]
        calls += self.engine.replace_calls(memory.without(key))
        return calls if self.accumulation is None else calls + self.accumulation.drop_calls(key)

    def unused(self) -> Any:
        """Return an optimizer with the same hyperparameters and without state."""
        changes: dict[str, Any] = {} if self.schedule is None else {"lr": self.schedule}
        return replace(self, **changes)

    def changed_attributes(
        self, checked: Mapping[str, Any], schedule: Schedule | None, skipped: int
    ) -> dict[str, Any]:
        """Return all attributes that change with saved hyperparameters."""
        other = object.__new__(type(self))
        vars(other).update({**vars(self), **checked, "rate_schedule": schedule, "token": object()})
        other.arrange()
        names = (
            "rate_schedule",
            "options",
            "averaging",
            "accumulation",
            "token",
            "grad_sign",
            "is_repeatable",
            "is_plain",
            "is_neutral",
        )
        own = {name: vars(other)[name] for name in (*checked, *names)}
        return own | {
            "_skipped": skipped,
            "kept": None,
            "views": GroupViews(self),
            "last_grouping": (None, None),
        }

    def __getstate__(self) -> dict[str, Any]:
        with self.lock:
            names = [known.name for known in fields(self)]
            groups = self.groups and {key: dict(own) for key, own in self.groups.items()}
            return {
                "hyperparameters": {name: vars(self)[name] for name in names} | {"groups": groups},
                "shown": {name: vars(self).get(name) for name in ("history", "grad_norm", "_has_warned")},
                "schedule": self.schedule,
                "state": self.capture(),
            }

    def __setstate__(self, state: dict[str, Any]) -> None:
        known = state["hyperparameters"]
        vars(self).update({name: self.check_of(name)(name, value) for name, value in known.items()})
        vars(self)["rate_schedule"] = state["schedule"]
        self.__post_init__()
        vars(self).update(state["shown"])
        self.arrange()
        run_calls(self.restore_calls(state["state"]))
