"""`Partition`: several optimizers as one, each with its own part of the arrays."""

from collections.abc import Callable, Container, Hashable, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import partial
from itertools import chain
from math import nan
from operator import itemgetter
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np

from fastopt.arrays.containers import match_grads
from fastopt.arrays.rows import Rows
from fastopt.checks import choice
from fastopt.configuration import gradient_options
from fastopt.display import format_value
from fastopt.engine.compiled_plan import CompiledPlan
from fastopt.engine.engine import Engine, take_together
from fastopt.engine.plan import FROZEN, Arrays, run_calls
from fastopt.engine.rules import Rule
from fastopt.engine.segment import Calls
from fastopt.engine.table import CHECK, COUNT, STATISTICS, UPDATE
from fastopt.engine.threads import check_threads
from fastopt.fields import is_same
from fastopt.members import Members, check_members, scale_grad
from fastopt.optimizer import Optimizer
from fastopt.options.accumulation import Accumulation, AccumulationFields
from fastopt.options.averages import AverageFields
from fastopt.options.clipping import ClipNorm, ClippingFields, GradientCopies
from fastopt.options.denormals import DenormalFields
from fastopt.options.groups import Grouping
from fastopt.options.nonfinite import NonfiniteFields
from fastopt.options.skipping import SkippingFields
from fastopt.options.sparse import SparseFields
from fastopt.step import Step, plan_scalars
from fastopt.stepping import Stepping

__all__ = ["Partition"]

# Options that go by the array: the members do what these say.
HANDED_DOWN = frozenset(
    ("threads", "nonfinite", "denormals", "maximize", "rows", *AverageFields.__dataclass_fields__)
)

# Options of a member that look at gradients, and so must be given those that the partition has scaled.
LOOKING = Accumulation, GradientCopies, ClipNorm


class KeptPart(NamedTuple):
    """What the next step takes of a member if it is like the last one."""

    member: Optimizer
    plan: CompiledPlan
    select: Callable[[Sequence[Any]], Sequence[Any]]


@dataclass(eq=False, repr=False)
class Partition(
    Stepping, ClippingFields, AverageFields, AccumulationFields, SparseFields,
    NonfiniteFields, SkippingFields, DenormalFields,
):  # fmt: skip
    """Several optimizers as one: each array goes to the first that selects it, and stays with it.

    A step is taken by all members or by none. One checkpoint has the state of all. The options of the
    partition hold for all arrays: ``clip_norm`` bounds one norm of all gradients. The options of a member
    hold for its own arrays, and act after those of the partition. Each member has its own learning rate,
    ``partition[selector].lr``; the partition has none. All schedules go by the partition's ``iter``, also
    those of a member whose arrays come late. (Its own ``iter`` is the number of steps in which it had
    arrays.)

    Parameters
    ----------
    members : dict
        New optimizers by what selects their arrays: a name or a pattern of names (as in `fnmatch`), an index,
        or a function of key and array that returns a bool.
    threads, nonfinite, denormals, maximize, rows : optional
        As for an `Optimizer`; all members get these values.
    lookahead, lookahead_reset, ema, ema_init, ema_every, ema_overwrite, swa, swa_every : optional
        As for an `Optimizer`; all members get these values.
    clip_value, clip_norm_each, clip_rms, clip_adaptive, clip_adaptive_eps, accumulate : optional
        As for an `Optimizer`.
    clip_norm, clip_norm_type, skip_norm : optional
        As for an `Optimizer`: of all gradients.

    Attributes
    ----------
    members : dict
        As given, read-only. ``partition[selector]`` returns one of them.
    iter, skipped, grad_norm
        As for an `Optimizer`. What is added to ``iter`` is added to that of each member, too.

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

    grad_sign: ClassVar[float] = 1.0  # that of the gradients is the members'
    min_parallel_size: ClassVar[int] = Optimizer.min_parallel_size

    members: Members = field(metadata={"check": check_members, "saved": False})
    maximize: bool = field(
        default=False, kw_only=True, repr=False, metadata=choice(False, False, True).metadata
    )
    threads: int | None = field(
        default=None, kw_only=True, repr=False, metadata={"check": check_threads, "saved": False}
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        own = vars(self)
        own["engine"] = Engine(Rule(None, None, 3), [])
        own["inner"] = {f"members.{i}": member for i, member in enumerate(self.members.values())}
        defaults = {known.name: known.default for known in fields(self) if known.name in HANDED_DOWN}
        self.members.check_accumulate(self.accumulate)
        self.members.check_skip_norm()
        for name, default in defaults.items():
            self.members.check_option(name, default, own[name])
        self.arrange()
        for name, default in defaults.items():
            if own[name] != default:
                self.apply_changes(name, {name: own[name]})
        self.members.adopt(self)

    # The options.

    def arrange(self) -> None:
        """Note which options are on, in the order in which they act."""
        vars(self).update(options=tuple(gradient_options(self)), kept=None)

    def check_change(self, name: str, changes: dict[str, Any]) -> None:
        """Raise ValueError or TypeError if a field can't change now, or not to this value."""
        if name == "members":
            raise ValueError("members can't change: make another partition with them")
        super().check_change(name, changes)
        if name == "accumulate":
            self.members.check_accumulate(changes[name])
        if name in HANDED_DOWN:
            self.members.check_option(name, getattr(self, name), changes[name])

    def receivers(self, name: str, changes: dict[str, Any]) -> Sequence[Optimizer]:
        """Return the optimizers inside that get the new value of a field, as theirs is another."""
        members = self.members.values() if name in HANDED_DOWN else ()
        return [member for member in members if not is_same(vars(member)[name], changes[name])]

    def describe_missing(self, name: str) -> str:
        """Return what is wrong with an attribute that there isn't, and which there are."""
        places = [
            f"partition[{getattr(selector, '__name__', repr(selector))}].{name}"
            for selector, member in self.members.items()
            if name in dir(member)
        ]
        if not places:
            return super().describe_missing(name)
        return f"{type(self).__name__} has no {name!r}, its members have: write {' or '.join(places)}"

    if not TYPE_CHECKING:

        def __getattr__(self, name):
            if name.startswith("_") or "members" not in vars(self):
                raise AttributeError(f"{type(self).__name__} has no {name!r}")
            raise AttributeError(self.describe_missing(name))

    # What is shown.

    def describe_arrays(self, arrays: Arrays) -> str:
        """Return the table that `describe` returns."""
        selectors = {member: selector for selector, member in self.members.items()}
        return "\n".join(
            f"{selectors[member]!r}: {type(member).__name__}\n{member.describe_arrays(own)}"
            for member, own in self.members.split(arrays)
        )

    def constructor_call(self, hidden: Container[str] = (), positional: Sequence[str] = ()) -> str:
        """Return the call that makes such a partition; its options aren't shown again in the members."""
        members = vars(self).get("members", {}).items()
        texts = []
        for key, member in members:
            same = {name for name in HANDED_DOWN if getattr(member, name) == getattr(self, name)}
            texts.append(f"{format_value(key)}: {member.constructor_call(same)}")
        return super().constructor_call({"members"}, [f"{{{', '.join(texts)}}}"])

    def __getitem__(self, selector: Any) -> Optimizer:
        return self.members[selector]

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
            arrays = Arrays(keys, values, gradients, params)
            kept = self.kept
            if kept is not None and kept[0] == keys and self._repeat(kept[1], arrays):
                return True
            return self.update_arrays(arrays)

    def _repeat(self, parts: Sequence[KeptPart], arrays: Arrays) -> bool:
        """Take a step that is like the last one. Returns False, with nothing changed, if it isn't."""
        steps = self.engine.memory.steps
        checks: Calls = []
        updates: Calls = [partial(np.add, steps, 1, steps)]
        given = []  # which lives as long as the calls, as compiled code is given ids
        for part in parts:
            member, plan, select = part
            if member.kept is not part:  # as an option of the member was assigned
                return False
            count = plan.guard.item()
            scalars = plan_scalars(member, plan, plan.grouping)
            given.append(([*select(arrays.params)], [*select(arrays.grads)], scalars, count))
            checks += plan.main.phase_calls(*given[-1], CHECK)
            updates += plan.main.phase_calls(*given[-1], STATISTICS | UPDATE | COUNT)
        if not run_calls(checks + updates):
            return False
        if any(part.plan.found_nonfinite for part in parts):
            step = Step(self, arrays)
            step.number -= 1  # it was taken
            step.parts = self._parts(step)
            self.warn_of(step)
        return True

    def run(self, step: Step) -> Sequence[int]:
        """Take a step of all members, or of none. Returns what the engines do, DONE or NONFINITE."""
        self._coalesce(step)
        is_complete = step.apply_options()
        if is_complete:
            step.parts = self._parts(step)
            step.check_current()  # what the options made of the arrays still holds
            for part in step.parts:
                part.begin()
            step.is_skipped = any(part.is_skipped for part in step.parts)
            is_complete = not step.is_skipped
        if is_complete:
            step.other_jobs = [job for part in step.parts for job in part.jobs]
        is_taken = is_complete and (not step.parts or any(part.is_taken for part in step.parts))
        if is_taken:
            steps = self.engine.memory.steps
            step.add(partial(np.add, steps, 1, steps))
        for _, first in step.jobs[:1]:
            first.guards = [*first.guards, *step.guards]
        for _, last in step.jobs[-1:]:
            last.also = [*last.also, *step.also]
        statuses = take_together(step.jobs)
        if not step.jobs:  # there are no arrays
            run_calls([*step.also])
        keys = [part.nonfinite_key for part in (step, *step.parts) if part.nonfinite_key is not None]
        step.nonfinite_key, step.is_taken = next(iter(keys), None), is_taken
        return statuses

    def finish(self, step: Step) -> None:
        """Show what was done, and keep what the next step may need."""
        for part in step.parts:
            part.optimizer.finish(part)
        if step.is_taken:
            rates = (part.value_of("lr") for part in step.parts)
            step.scheduled = {**step.scheduled, "lr": next(rates, nan)}
            step.end()
            self._keep(step)

    def _keep(self, step: Step) -> None:
        """Keep what the next step takes if it is like this one, which was taken."""
        own, parts = vars(self), []
        own["kept"] = None
        places = {key: i for i, key in enumerate(step.arrays.keys)}
        for part in step.parts:
            member, plan = part.optimizer, part.optimizer.engine.plan
            is_like = plan is not None and member.is_plain and member.can_repeat(plan)
            if not is_like or not isinstance(plan, CompiledPlan):
                return
            positions = [places[key] for key in part.arrays.keys]
            first = slice(positions[0], positions[0] + 1)
            select = itemgetter(*positions if len(positions) > 1 else [first])
            parts.append(KeptPart(member, plan, select))
            vars(member)["kept"] = parts[-1]
        own["kept"] = step.arrays.keys, parts
        # Only now, as a signal's handler may have assigned an option since.
        if self.options or not all(part.member.can_repeat(part.plan) for part in parts):
            own["kept"] = None

    def _parts(self, step: Step) -> list[Step]:
        """Return the steps of the members that have arrays in this one."""
        parts = []
        is_flush = step.is_flush and self.accumulation is None
        for member, arrays in self.members.split(step.arrays):
            sums = member.accumulation
            if is_flush and (sums is None or not any(sums.counts(list(arrays.keys)))):
                continue
            part = Step(member, arrays, is_flush=is_flush)
            part.is_strict, part.time = step.is_strict, step.number
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

    # What a step asks.

    def grouping_of(self, arrays: Arrays) -> Grouping | None:
        """Return which parameters are frozen by their members, if there are any."""
        self.members.positions(arrays)  # which raises if an array has no member
        has_groups = any(member.has_groups for member in self.members.values())
        frozen: list[Hashable] = []
        for member, own in self.members.split(arrays) if has_groups else ():
            grouping = member.grouping_of(own)
            frozen += [key for key in own.keys if grouping is not None and grouping.is_frozen(key)]
        if not frozen:
            return None
        result = Grouping({}, False, list(arrays.keys), arrays.params)
        result.which |= dict.fromkeys(frozen, FROZEN)
        return result

    def averages_of(self, arrays: Arrays) -> list[np.ndarray]:
        """Return the average of each parameter, itself if only others' members keep one."""
        split = self.members.split(arrays)
        is_any = any(member.has_average for member, _ in split)
        result: dict[Hashable, np.ndarray] = {}
        for member, own in split:
            # Without any, the member says what to do.
            is_own = member.has_average or not is_any
            averages = member.averages_of(own) if is_own else [np.array(param) for param in own.params]
            result.update(zip(own.keys, averages, strict=True))
        return [result[key] for key in arrays.keys]

    # State that is saved.

    def drop_state_calls(self, key: Hashable) -> Calls:
        """Return the C calls that drop the state of a parameter."""
        known = {member: member.engine.memory.known for member in self.members.values()}
        calls = [call for member, own in known.items() if key in own for call in member.drop_state_calls(key)]
        if not calls:
            raise KeyError(f"there is no state of {key!r}, but of {[*chain(*known.values())]}")
        calls.append(partial(vars(self).update, self.derived_attributes({})))
        return calls + self.drop_sum_calls(key)

    def unused(self) -> "Partition":
        """Return a partition with the same hyperparameters and without state."""
        members: Any = {selector: member.unused() for selector, member in self.members.items()}
        schedules: dict[str, Any] = dict(self.schedules)
        return replace(self, members=members, **schedules)
