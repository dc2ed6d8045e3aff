"""`Partition`: several optimizers as one, each with its own part of the arrays."""

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, fields, replace
from functools import partial
from math import nan
from typing import Any, ClassVar

import numpy as np

from fastopt.arrays.containers import keys_and_values, match_grads
from fastopt.arrays.rows import Rows
from fastopt.averaging import Averaging
from fastopt.checkpoints import state_dict
from fastopt.checkpoints.saving import Saving
from fastopt.checks import choice
from fastopt.configuration import gradient_options
from fastopt.engine.driver import DONE, NONFINITE
from fastopt.engine.engine import Engine, NonfiniteGradientError, find_nonfinite, take_together
from fastopt.engine.plan import Arrays, run_calls
from fastopt.engine.rules import Rule
from fastopt.engine.threads import allowed, check_threads, step_lock
from fastopt.fields import SHOWN, CheckedFields
from fastopt.members import Members, check_members, scale_grad
from fastopt.optimizer import Optimizer
from fastopt.options.accumulation import Accumulation, AccumulationFields
from fastopt.options.averages import AverageFields
from fastopt.options.base import Option
from fastopt.options.clipping import ClipNorm, ClippingFields, GradientCopies
from fastopt.options.groups import Grouping
from fastopt.options.history import Record
from fastopt.options.nonfinite import NonfiniteFields, describe_nonfinite, warn_of_nonfinite
from fastopt.options.sparse import SparseFields
from fastopt.step import Step

__all__ = ["Partition"]

# Options that go by the array: the members do what these say.
HANDED_DOWN = ("threads", "nonfinite", "maximize", "rows", "lookahead", "ema", "swa")

# Options of a member that look at gradients, and so must be given those that the partition has scaled.
LOOKING = Accumulation, GradientCopies, ClipNorm


class Derived:
    """What a partition has besides its fields, as an `Optimizer` has it."""

    engine: Engine  # which counts the updates; the members' engines have the state
    lock: Any
    token: object
    options: tuple[Option, ...]
    accumulation: Accumulation | None
    history: Record | None
    inner: Mapping[str, Optimizer]


@dataclass(eq=False, repr=False)
class Partition(
    CheckedFields, Derived, Averaging, Saving,
    ClippingFields, AverageFields, AccumulationFields, SparseFields, NonfiniteFields,
):  # fmt: skip
    """Several optimizers as one: each array goes to the first that selects it, and stays with it.

    A step is taken by all members or by none. One checkpoint has the state of all. The options of the
    partition hold for all arrays: ``clip_norm`` bounds one norm of all gradients. The options of a member
    hold for its own arrays, and act after those of the partition. Each member has its own learning rate. A
    schedule goes by its member's ``iter``, the number of steps in which that had arrays.

    Parameters
    ----------
    members : dict
        New optimizers by what selects their arrays: a name or a pattern of names (as in `fnmatch`), an index,
        or a function of key and array that returns a bool.
    threads, nonfinite, maximize, rows, lookahead, ema, swa : optional
        As for an `Optimizer`; all members get these values.
    clip_value, clip_norm_each, clip_adaptive, clip_norm, accumulate : optional
        As for an `Optimizer`.

    Attributes
    ----------
    members : dict
        As given, read-only. ``partition[selector]`` returns one of them.
    iter, skipped, grad_norm
        As for an `Optimizer`.

    Raises
    ------
    TypeError, ValueError
        If a member is no optimizer, isn't new, or has another value of an option that it gets.

    Examples
    --------
    >>> import fastopt, numpy as np
    >>> params = {"l1.W": np.ones((2, 3)), "l1.b": np.zeros(3)}
    >>> optimizer = fastopt.Partition({"*.W": fastopt.Muon(0.02), "*": fastopt.AdamW(0.001)}, clip_norm=1.0)
    >>> optimizer.update(params, {key: np.ones_like(value) for key, value in params.items()})
    True
    >>> optimizer["*.W"].lr, optimizer.grad_norm
    (0.02, 3.0)
    """

    grad_norm: ClassVar[float | None] = None
    schedule: ClassVar[None] = None  # a learning rate and a sign of the gradients are the members'
    grad_sign: ClassVar[float] = 1.0

    members: Members = field(metadata={"check": check_members, "saved": False})
    maximize: bool = field(default=False, kw_only=True, metadata=choice(False, False, True).metadata)
    threads: int | None = field(default=None, kw_only=True, metadata={"check": check_threads, "saved": False})

    def __post_init__(self) -> None:
        own = vars(self)
        own.update(lock=step_lock(self), token=object(), accumulation=None, history=None)
        own.update(_skipped=0, _has_warned=False, engine=Engine(Rule(None, None, 3), []))
        own["inner"] = {f"members.{i}": member for i, member in enumerate(self.members.values())}
        defaults = {known.name: known.default for known in fields(self) if known.name in HANDED_DOWN}
        self.members.check_accumulate(self.accumulate)
        for name, default in defaults.items():
            self.members.check_option(name, default, own[name])
        for name, default in defaults.items():
            if own[name] != default:
                self.members.set_option(name, own[name])
        self.members.adopt(self.lock)
        self.arrange()

    # The options.

    def arrange(self) -> None:
        """Note which options are on, in the order in which they act."""
        vars(self)["options"] = tuple(gradient_options(self))

    def check_change(self, name: str, changes: dict[str, Any]) -> None:
        """Raise ValueError or TypeError if a field can't change now, or not to this value."""
        if name == "members":
            raise ValueError("members can't change: make another partition with them")
        if self.__dataclass_fields__[name].metadata.get("fixed") and self.iter:
            raise ValueError(f"{name} can't change after the first step: make another partition with it")
        if name == "accumulate":
            self.members.check_accumulate(changes[name])
            if self.accumulation is not None and self.accumulation.filled:
                there = max(self.accumulation.filled.values())
                raise ValueError(f"accumulate can't change now: {there} micro-batches are in")
        if name in HANDED_DOWN:
            self.members.check_option(name, getattr(self, name), changes[name])

    def apply_changes(self, name: str, changes: dict[str, Any]) -> None:
        """Assign a field's new value together with all that depends on it."""
        if name in HANDED_DOWN:
            self.members.set_option(name, changes[name])
        vars(self).update(changes)
        self.arrange()

    # What is shown.

    @property
    def iter(self) -> int:
        """Number of updates taken."""
        return max(self.engine.memory.steps.item(), 0)

    @property
    def skipped(self) -> int:
        """Number of steps left out because of gradients that weren't finite."""
        skipped: int = vars(self)["_skipped"]
        return skipped

    @property
    def recorded(self) -> Record | None:
        """What `record` has kept so far; None without it."""
        return self.history

    def record(self, every: int = 10) -> Record:
        """Keep what happens to each array at every so many steps, as `Optimizer.record` does.

        Parameters
        ----------
        every : int, default 10
            Number of steps between two that are recorded, from 1.

        Returns
        -------
        Record
            As `Optimizer.record`; ``lr`` is that of the first member with arrays.
        """
        record = Record(every)
        with self.lock:
            vars(self)["history"] = record
            self.arrange()
        return record

    def describe(self, params: Any) -> str:
        """Return a table (str) of the hyperparameters of each parameter, as `Optimizer.describe` does."""
        keys, values = keys_and_values(params)
        return self.members.describe(Arrays(keys, values, values, params))

    def __getitem__(self, selector: Any) -> Optimizer:
        return self.members[selector]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.members!r})"

    def __dir__(self) -> list[str]:
        """Return what users call."""
        shown = [name for name in dir(type(self)) if name.startswith("__")]
        return sorted([*shown, *SHOWN - {"schedule"}, *(known.name for known in fields(self))])

    # A step.

    def update(self, params: Any, grads: Any) -> bool:
        """Take one step of all members, as `Optimizer.update` says.

        Parameters
        ----------
        params, grads : dict or list
            Parameters, which are updated in place, and their gradients.

        Returns
        -------
        bool
            True; False if the step was left out, or the gradients are those of a micro-batch.

        Raises
        ------
        ValueError
            If no member selects an array. This and what `Optimizer.update` raises is raised before anything
            has changed.
        """
        with self.lock:
            keys, values, gradients = match_grads(params, grads)
            owner: Any = self
            arrays = Arrays(keys, values, gradients, params)
            sums = self.accumulation
            if sums is not None:
                done = sums.add(keys, values, gradients, self.nonfinite != "warn")
                if done is not False:
                    if done is None:
                        self._warn_of(Step(owner, arrays), NONFINITE)
                    return False
            return self.take(Step(owner, arrays))

    def flush(self, params: Any) -> bool:
        """Take a step with the mean of the micro-batches that are in, also of those that members have.

        Parameters
        ----------
        params : dict or list
            What is updated.

        Returns
        -------
        bool
            Whether there were any.
        """
        with self.lock:
            keys, values = keys_and_values(params)
            sums = [self.accumulation, *(member.accumulation for member in self.members.values())]
            if not any(any(own.counts(keys)) for own in sums if own is not None):
                return False
            owner: Any = self
            step = Step(owner, Arrays(keys, values, list(values), params), is_flush=True)
            if self.accumulation is None:
                step.options = ()  # the micro-batches were clipped when they came in
            return self.take(step)

    def take(self, step: Step) -> bool:
        """Take a step of all members, or of none."""
        parts: list[Step] = []
        try:
            self._coalesce(step)
            is_complete = all(option.before(step) for option in step.options)
            if is_complete:
                parts = self._parts(step)
                for part in parts:
                    part.begin()
                step.other_jobs = [job for part in parts for job in part.jobs]
            is_taken = is_complete and (not parts or any(part.is_taken for part in parts))
            if is_taken:
                steps = self.engine.memory.steps
                step.add(partial(np.add, steps, 1, steps))
            for _, last in step.jobs[-1:]:
                last.also = [*last.also, *step.also]
            statuses = take_together(step.jobs)
        except NonfiniteGradientError as error:
            if step.nonfinite == "skip":
                vars(self)["_skipped"] += 1
                return False
            raise FloatingPointError(describe_nonfinite(error.args[0], step.number)) from None
        if not step.jobs:  # there are no arrays
            run_calls([*step.also])
        with ExitStack() as stack:  # what comes last goes first, and all of it, even if a warning is an error
            stack.callback(self._warn_of, step, DONE if parts else max(statuses, default=DONE))
            if is_taken:
                step.lr = next((vars(p.optimizer)["lr"] if p.lr is None else p.lr for p in parts), nan)
                stack.callback(step.end)
            for part in reversed(parts):
                done = [statuses.pop() for _ in part.jobs]
                stack.callback(part.optimizer.finish, part, max(done, default=DONE))
        return is_taken

    def _parts(self, step: Step) -> list[Step]:
        """Return the steps of the members that have arrays in this one."""
        parts = []
        is_flush = step.is_flush and self.accumulation is None
        for member, arrays in self.members.split(step.arrays):
            sums = member.accumulation
            if is_flush and (sums is None or not any(sums.counts(list(arrays.keys)))):
                continue
            part = Step(member, arrays, is_flush=is_flush)
            part.is_strict = step.is_strict
            if step.grad_scale != 1 and any(isinstance(option, LOOKING) for option in part.options):
                part.replace_grads([*map(partial(scale_grad, step.grad_scale), *arrays[:3])])
            else:
                part.grad_scale *= step.grad_scale
            parts.append(part)
        return parts

    def _coalesce(self, step: Step) -> None:
        """Let each row occur once in row-sparse gradients."""
        if Rows in map(type, step.arrays.grads):
            if self.accumulation is not None:
                self.accumulation.check_dense(step)
            grads = dict(zip(step.arrays.keys, step.arrays.grads, strict=True))
            for part in self._parts(step):
                part.coalesce()
                grads.update(zip(part.arrays.keys, part.arrays.grads, strict=True))
            step.replace_grads(list(grads.values()))

    def _warn_of(self, step: Step, status: int) -> None:
        """Warn, the first time, if an option met a gradient that isn't finite."""
        key, own = step.nonfinite_key, vars(self)
        if own["_has_warned"] or (key is None and status != NONFINITE):
            return
        if key is None and self.accumulation is not None:
            key = find_nonfinite(step.arrays, self.accumulation.engine.memory.layout)
        own["_has_warned"] = True
        warn_of_nonfinite(key, step.number)

    # What a step asks.

    def grouping_of(self, arrays: Arrays) -> Grouping | None:
        """Return which parameters are frozen by their members, if there are any."""
        return self.members.frozen(arrays)

    def calls_between(self) -> None:
        """Return None, as the members have calls of their own."""

    def threads_for(self, n_elements: int) -> int:
        """Return the number of threads for a number of elements."""
        return allowed(self.threads, n_elements) if n_elements >= Optimizer.min_parallel_size else 1

    def averages_of(self, arrays: Arrays) -> list[np.ndarray]:
        """Return the average of each parameter."""
        return self.members.averages(arrays)

    # State that is saved.

    def drop_state(self, key: Any) -> None:
        """Drop the state of a parameter, as `Optimizer.drop_state` does; then it is selected anew."""
        with self.lock:
            calls = self.members.drop_state_calls(key)
            run_calls(calls if self.accumulation is None else calls + self.accumulation.drop_calls(key))

    def changed_attributes(self, checked: Mapping[str, Any], _: None, skipped: int) -> dict[str, Any]:
        """Return all attributes that change with saved hyperparameters."""
        other = object.__new__(type(self))
        vars(other).update({**vars(self), **checked, "_skipped": skipped, "token": object()})
        other.arrange()
        return {
            name: vars(other)[name] for name in (*checked, "_skipped", "token", "accumulation", "options")
        }

    def unused(self) -> "Partition":
        """Return a partition with the same hyperparameters and without state."""
        members: Any = {selector: member.unused() for selector, member in self.members.items()}
        return replace(self, members=members)

    def __getstate__(self) -> dict[str, Any]:
        with self.lock:
            shown = ("history", "grad_norm", "_has_warned")
            return {
                # The members have their state with them.
                "fields": {known.name: vars(self)[known.name] for known in fields(self)},
                "shown": {name: vars(self).get(name) for name in shown},
                "state": state_dict.capture(self, with_inner=False),
            }

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state["fields"])
        self.__post_init__()
        vars(self).update(state["shown"])
        self.arrange()
        own = state["state"]
        inner = own.get("inner", {}) | {name: member.capture() for name, member in self.inner.items()}
        run_calls(self.restore_calls(own | {"inner": inner}))
