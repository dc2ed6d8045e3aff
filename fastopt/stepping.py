"""`Stepping`: what an optimizer, and several as one, share: their steps, what is shown, and assignments."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import fields
from functools import partial
from operator import is_
from typing import Any, ClassVar

import numpy as np

from fastopt.arrays.containers import keys_and_values
from fastopt.arrays.layout import Layout
from fastopt.averaging import Averaging
from fastopt.checkpoints import state_dict
from fastopt.checkpoints.saving import Saving
from fastopt.consistency import MAX_ATTEMPTS
from fastopt.display import format_value
from fastopt.engine.engine import Engine, OutdatedStepError
from fastopt.engine.finite import NonfiniteGradientError, find_nonfinite
from fastopt.engine.plan import Arrays, run_calls
from fastopt.engine.segment import Calls, Segment
from fastopt.engine.table import NONFINITE
from fastopt.engine.threads import n_threads_for, step_lock
from fastopt.options.accumulation import Accumulation
from fastopt.options.base import Option
from fastopt.options.groups import group_schedules
from fastopt.options.history import Record, Recording
from fastopt.options.nonfinite import describe_nonfinite, warn_of_nonfinite
from fastopt.options.schedule import Schedules
from fastopt.schedules.base import restore_calls
from fastopt.scheduling import Scheduling
from fastopt.step import Step

__all__ = ["Flushing", "Stepping"]

# What `arrange` assigns.
ARRANGED = {
    *("accumulation", "averaging", "grad_sign", "is_neutral", "is_plain", "is_repeatable"),
    *("kept", "options", "restart_every", "views"),
}


class Flushing(Averaging):
    """What an optimizer for all ranks shares with one for its own process."""

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
        KeyError, TypeError, ValueError, FloatingPointError
            As `update`.
        """
        with self.lock:
            return self.take_rest(params)

    def take_rest(self, params: Any) -> bool:
        """Take a step with the micro-batches that are in. Returns whether there were any."""
        raise NotImplementedError


class Stepping(Scheduling, Flushing, Saving, Recording):
    """The base of `Optimizer` and `Partition`.

    Attributes
    ----------
    engine : Engine
        The state, and the plans of steps; a partition's only counts its updates.
    lock : RLock
        Held during a step, and whenever something of it is read or changed.
    token : object
        Stands for all settings that plans depend on.
    options : tuple of Option
        Those that are on, in the order in which they act.
    accumulation : Accumulation or None
        The sums of micro-batches.
    history : Record or None
        What `record` keeps.
    kept : object or None
        What takes the next step if it is like the last one.
    """

    engine: Engine
    token: object
    options: tuple[Option, ...]
    accumulation: Accumulation | None
    history: Record | None
    nonfinite: str
    skip_norm: float | None
    threads: int | None
    min_parallel_size: ClassVar[int]
    kept: Any
    grad_norm: ClassVar[float | None] = None

    def __post_init__(self) -> None:
        vars(self).setdefault("schedules", Schedules())
        vars(self).update(lock=step_lock(self), token=object(), accumulation=None, history=None)
        vars(self).update(_skipped=0, _has_warned=False)

    # What is shown.

    def __repr__(self) -> str:
        """Return the constructor call, and in a comment the last step, if there was one."""
        call, n = self.constructor_call(), self.iter
        if not n:
            return call
        # An optimizer that was loaded or copied has taken no step by itself.
        engines = [owner.engine for owner in self.inner.values() or (self,)]
        is_taken = any(engine.was_compiled is not None for engine in engines)
        how = (", compiled" if self.compiled else ", in plain NumPy") if is_taken else ""
        own = {name: vars(self)[name] for name in sorted(self.schedules, key="lr".__ne__) if is_taken}
        values = [f", {name} {format_value(value)}" for name, value in own.items()]
        return f"{call}  # step {n}{how}{''.join(values)}"

    @property
    def iter(self) -> int:
        """Number of updates taken."""
        engine = vars(self).get("engine")
        return 0 if engine is None else max(engine.memory.steps.item(), 0)

    @iter.setter
    def iter(self, value: int) -> None:
        is_integer = isinstance(value, int | np.integer) and not isinstance(value, bool)
        if not is_integer or not 0 <= value < state_dict.MAX_STEPS:
            raise ValueError(f"iter must be a whole number from 0 to below 2⁶², not {value!r}")
        with self.lock:
            run_calls(self.iter_calls(value - self.iter))

    def iter_calls(self, difference: int) -> Calls:
        """Return the C calls that add a number to all counts of steps, which stay 0 at least."""
        memory = self.engine.memory
        calls: Calls = []
        for counts in (memory.counts, memory.steps):
            calls.append(partial(np.add, counts, difference, counts))
            calls.append(partial(np.maximum, counts, 0, out=counts))
        return calls + [call for other in self.inner.values() for call in other.iter_calls(difference)]

    @property
    def compiled(self) -> bool:
        """Whether the last step was taken by compiled code; else it was, with the same bits, in NumPy."""
        engines = [owner.engine for owner in self.inner.values() or (self,)]
        used = [engine for engine in engines if engine.memory.layout]
        return bool(used) and all(engine.is_compiled for engine in used)

    @property
    def skipped(self) -> int:
        """Number of steps left out because of gradients that weren't finite, or too large."""
        return int(vars(self)["_skipped"])

    def count_skipped(self) -> None:
        """Count a step that was left out."""
        vars(self)["_skipped"] += 1

    def describe(self, params: Any) -> str:
        """Return a table (str) of the hyperparameters of each parameter.

        Parameters
        ----------
        params : dict or list
            What is updated.

        Raises
        ------
        ValueError
            If a group has no parameter, or no member of a partition selects a parameter.
        """
        keys, values = keys_and_values(params)
        return self.describe_arrays(Arrays(keys, values, values, params))

    def describe_arrays(self, arrays: Arrays) -> str:
        """Return the table that `describe` returns."""
        raise NotImplementedError

    # A step.

    def update_arrays(self, arrays: Arrays) -> bool:
        """Add a micro-batch, or take a step. Returns whether a step was taken."""
        if self.accumulation is not None and self.skip_norm is None:
            done = self.accumulation.add(*arrays[:3], self.nonfinite != "warn")
            if done is not False:
                if done is None:
                    self.warn_of(Step(self, arrays))
                return False
        return self.take(Step(self, arrays))

    def take_rest(self, params: Any) -> bool:
        """Take a step with the micro-batches that are in. Returns whether there were any."""
        keys, values = keys_and_values(params)
        sums = [owner.accumulation for owner in (self, *self.inner.values())]
        if not any(any(own.counts(keys)) for own in sums if own is not None):
            return False
        step = Step(self, Arrays(keys, values, list(values), params), is_flush=True)
        if self.accumulation is None:
            step.options = ()  # the members' micro-batches were clipped when they came in
        return self.take(step)

    def take(self, step: Step) -> bool:
        """Take a step that isn't plain, or needs a new plan."""
        try:
            step, statuses = self._run_current(step)
        except NonfiniteGradientError as error:
            if step.nonfinite == "skip":
                self.count_skipped()
                return False
            raise FloatingPointError(describe_nonfinite(error.args[0], self.iter + 1)) from None
        if step.is_skipped:
            self.count_skipped()
            return False
        self.finish(step)
        if NONFINITE in statuses or step.nonfinite_key is not None:
            self.warn_of(step)
        return step.is_taken

    def _run_current(self, step: Step) -> tuple[Step, Sequence[int]]:
        """Run a step, anew if a signal's handler has taken others meanwhile. Returns that which was run."""
        arrays, is_own = step.arrays, step.options is self.options and not step.also
        for _ in range(MAX_ATTEMPTS if is_own else 0):
            try:
                return step, self.run(step)
            except OutdatedStepError:
                step = Step(self, arrays.with_present_numbers(), is_flush=step.is_flush)
        return step, self.run(step)

    def run(self, step: Step) -> Sequence[int]:
        """Do what there is to do in a step. Returns what the engines do, DONE or NONFINITE."""
        raise NotImplementedError

    def finish(self, step: Step) -> None:
        """Show what was done, and keep what the next step may need."""
        raise NotImplementedError

    def warn_of(self, step: Step) -> None:
        """Warn, the first time, that a step met a gradient that isn't finite."""
        if vars(self)["_has_warned"]:
            return
        key = step.nonfinite_key
        for part in step.parts or [step]:
            owner, layout = part.optimizer, Layout()
            for engine in (owner.accumulation and owner.accumulation.engine, owner.engine):
                layout.update(engine.memory.layout if engine else {})
            key = find_nonfinite(part.arrays, layout) if key is None else key
        vars(self)["_has_warned"] = True
        warn_of_nonfinite(key, step.number)

    def threads_for(self, n_elements: int) -> int:
        """Return the number of threads for a number of elements."""
        return n_threads_for(self.threads, n_elements) if n_elements >= self.min_parallel_size else 1

    def calls_between(self) -> Callable[[Segment], Calls] | None:
        """Return what gives the calls between the statistics pass and the update, if there are any."""
        return None

    # Assignments.

    def check_change(self, name: str, changes: dict[str, Any]) -> None:
        """Raise ValueError or TypeError if a field can't change now, or not to this value."""
        if self.is_fixed(name) and self.iter:
            raise ValueError(f"{name} can't change after the first step: make another optimizer with it")
        if name == "accumulate" and self.accumulation is not None and self.accumulation.filled:
            n_in = self.accumulation.filled.values()
            raise ValueError(f"accumulate can't change now: {max(n_in)} micro-batches are in")

    def is_fixed(self, name: str) -> bool:
        """Whether a field can no longer change after the first step."""
        known = self.__dataclass_fields__.get(name)
        return known is not None and bool(known.metadata.get("fixed"))

    def apply_changes(self, name: str, changes: dict[str, Any]) -> None:
        """Assign a field's new value together with all that depends on it, in one chain of C calls."""
        owners = [self, *self.receivers(name, changes)]
        fields_of, is_same = [owner.__dataclass_fields__ for owner in owners], False
        # A signal's handler may assign another field in the middle: then all is arranged again.
        while not is_same:
            before = [{**vars(owner), **changes} for owner in owners]
            run_calls([call for owner in owners for call in owner.change_calls(name, changes)])
            is_same = all(
                all(map(is_, map(vars(owner).get, names), map(own.get, names)))
                for owner, own, names in zip(owners, before, fields_of, strict=True)
            )
            changes = {}

    def receivers(self, name: str, changes: dict[str, Any]) -> Sequence["Stepping"]:
        """Return the optimizers inside that get the new value of a field, as theirs is another."""
        return ()

    def change_calls(self, name: str, changes: dict[str, Any]) -> Calls:
        """Return the C calls that assign a field's new value together with all that depends on it."""
        return [partial(vars(self).update, self.derived_attributes(changes))]

    def derived_attributes(self, changes: Mapping[str, Any], *, is_new: bool = False) -> dict[str, Any]:
        """Return attributes with all others that change with them; with ``is_new`` also a new engine."""
        other = object.__new__(type(self))
        own = vars(other)
        own.update({**vars(self), **changes})
        if is_new:
            other.begin()
        else:
            other.arrange()
        names = ARRANGED | {"engine"} if is_new else ARRANGED
        return {**changes, **{name: own[name] for name in names if name in own}}

    def return_calls(self) -> Calls:
        """Return the C calls after which everything is as it is now, whatever a trial does until then."""
        own = vars(self)
        calls: Calls = [partial(own.update, {"grad_norm": getattr(self, "grad_norm", None), **own})]
        for schedule in (*self.schedules.values(), *group_schedules(own.get("groups"))):
            calls += restore_calls(schedule)
        return calls + [call for other in self.inner.values() for call in other.return_calls()]

    def begin_trial(self) -> None:
        """Go on with copies of the state, and record nothing. The calls from `return_calls` end the trial."""
        with self.lock:
            sums = None if self.accumulation is None else self.accumulation.copy()
            vars(self).update({"engine": self.engine.copy(), "accumulation": sums, "history": None})
            self.arrange()
            for other in self.inner.values():
                other.begin_trial()

    def begin(self) -> None:
        """Make options and engine anew, without state."""
        raise NotImplementedError

    def arrange(self) -> None:
        """Note which options are on, in the order in which they act."""
        raise NotImplementedError

    # State that is saved.

    def drop_state(self, key: Hashable) -> None:
        """Drop the state of a parameter; its next step is as in a new optimizer.

        Parameters
        ----------
        key : hashable
            The parameter's key, or its index in a list. The members of a partition select it anew.

        Raises
        ------
        KeyError
            If there is no state of that key.
        """
        self.change_whole(partial(self.drop_state_calls, key))

    def engines(self) -> list[Engine]:
        """Return the engines that have a part of the state: those of members and of micro-batches, too."""
        sums = [] if self.accumulation is None else [self.accumulation.engine]
        return [self.engine, *sums, *(own for other in self.inner.values() for own in other.engines())]

    def drop_state_calls(self, key: Hashable) -> Calls:
        """Return the C calls that drop the state of a parameter."""
        raise NotImplementedError

    def drop_sum_calls(self, key: Hashable) -> Calls:
        """Return the C calls that drop the micro-batches of a parameter."""
        return [] if self.accumulation is None else self.accumulation.drop_calls(key)

    def changed_attributes(
        self, checked: Mapping[str, Any], schedules: Schedules, skipped: int
    ) -> dict[str, Any]:
        """Return all attributes that change with saved hyperparameters."""
        changes = {**checked, "schedules": schedules, "token": object()}
        return self.derived_attributes(changes) | {"_skipped": skipped}

    def __getstate__(self) -> dict[str, Any]:
        def look() -> dict[str, Any]:
            return {
                "fields": {known.name: vars(self)[known.name] for known in fields(self)},
                "shown": {name: vars(self).get(name) for name in ("history", "grad_norm", "_has_warned")},
                "schedules": self.schedules,
                # Members have their state with them.
                "state": state_dict.capture(self, with_inner=False),
            }

        return self.read_whole(look)

    def __setstate__(self, state: dict[str, Any]) -> None:
        defaults = {known.name: known.default for known in fields(self)}
        vars(self).update({**defaults, **state["fields"], "schedules": state["schedules"]})
        self.__post_init__()
        vars(self).update(state["shown"])
        self.arrange()
        own = state["state"]
        inner = own.get("inner", {}) | {name: member.capture() for name, member in self.inner.items()}
        run_calls(self.restore_calls(own | ({"inner": inner} if inner else {})))
