"""The engine: the state of some parameters, and the plans by which steps update them."""

from collections.abc import Callable, Collection, Hashable, Mapping, MutableMapping, MutableSequence, Sequence
from functools import partial
from itertools import takewhile
from operator import call, is_not, setitem
from types import BuiltinFunctionType
from typing import Any, Protocol

import numpy as np

from fastopt.arrays.containers import check_grad, check_param
from fastopt.arrays.layout import Layout, order_of
from fastopt.arrays.packing import Packed
from fastopt.arrays.rows import Rows
from fastopt.engine.finite import check_finite
from fastopt.engine.memory import Memory, StateSpec, is_apart
from fastopt.engine.overlap import overlapping_jobs, take_on_copies
from fastopt.engine.plan import FROZEN, Arrays, Plan, run_calls
from fastopt.engine.planning import make_plan
from fastopt.engine.rules import Rule
from fastopt.engine.segment import Calls, Segment
from fastopt.engine.table import CHECK, DONE, NONFINITE

__all__ = ["CHANGED", "Engine", "Job", "OutdatedStepError", "take_together"]

CHANGED = "params, grads and options must not change while update() runs; no step was taken"

# Whether a step was taken, given what its only call returns: False if it was refused.
was_taken = partial(is_not, False)

# Sets of parameters that take turns are each planned only once, if they are so many arrays at most.
MAX_CACHED_ARRAYS = 16_384


class OutdatedStepError(RuntimeError):
    """Another step was taken, by a signal's handler, after this one had begun."""


class Job(Protocol):
    """What the engine asks of a step."""

    arrays: Arrays
    also: Sequence[Callable[[], Any]]
    guards: Sequence[Callable[[], Any]]
    # Parameters whose states get their first values again.
    restarts: Collection[Hashable]
    token: object
    grouping: Any
    is_strict: bool
    between: Callable[[Segment], Calls] | None

    def adapt_rule(self, rule: Rule) -> Rule:
        """Return the rule with what the options change of it."""

    def groups(self) -> Sequence[int]:
        """Return the group of each parameter."""

    def scalars(self, plan: Plan) -> tuple[float, ...]:
        """Return the scalars of a step; compiled code refuses others than as many floats as planned."""

    def checked_scalars(self, plan: Plan) -> tuple[float, ...]:
        """Return the same; raise ValueError if a rule has given something else."""

    def check_current(self) -> None:
        """Raise OutdatedStepError if another step was taken since this one began."""

    def n_threads(self, n_elements: int) -> int:
        """Return the number of threads for a number of elements."""

    def initialize(
        self, memory: Memory, new: Sequence[tuple[Hashable, Any, Any]], specs: Sequence[StateSpec]
    ) -> None:
        """Give these states of new parameters, which are 0, their first values."""


class Engine:
    """Takes the steps of a rule on the parameters whose state it has.

    Parameters
    ----------
    rule : Rule
        The rule.
    specs : sequence of StateSpec
        Its states, then those of the averages.
    n_averages : int
        Number of averages.

    Attributes
    ----------
    memory : Memory
        The state.
    plan : Plan or None
        The plan of the last step, if it is kept.
    was_compiled : bool or None
        Whether the step that was planned last is compiled code; None before the first.
    """

    def __init__(self, rule: Rule, specs: Sequence[StateSpec], n_averages: int = 0) -> None:
        self.rule, self.n_averages = rule, n_averages
        self.own_specs = specs[: len(specs) - n_averages]
        self.has_shared = any(spec.is_shared for spec in specs)
        self.memory = Memory(specs)
        self.plan: Plan | None = None
        self.was_compiled: bool | None = None
        self.plans: dict[tuple[Hashable, ...], Plan] = {}

    @property
    def is_compiled(self) -> bool:
        """Whether the last step was compiled code."""
        return bool(self.was_compiled) if self.plan is None else self.plan.is_compiled

    def copy(self) -> "Engine":
        """Return an engine with a copy of the state."""
        new = Engine(self.rule, self.memory.specs, self.n_averages)
        new.memory = self.memory.copy()
        return new

    def find(self, job: Job) -> Plan | None:
        """Return the plan that is kept for the parameters of a step and their groups."""
        plan, keys = self.plan, job.arrays.keys
        if plan is None or (plan.keys is not keys and plan.keys != keys):
            plan = self.plans.get(tuple(keys))
            if plan is None or plan.keys != keys:
                return None
        # What is drafted, or computed in between, looks at the states before the calls that clear them.
        is_early = plan.is_drafted or job.between is not None or any(spec.init for spec in self.own_specs)
        if job.restarts and is_early:
            return None
        return plan if plan.token is job.token and plan.grouping == job.grouping and plan.recount() else None

    def repeat(
        self, keys: Any, params: list[Any], grads: list[Any], scalars: tuple[float, ...], token: object,
        count: int | None = None,
    ) -> bool | None:  # fmt: skip
        """Take a step by the plan of the last one, if that takes a single call and one set of scalars.

        ``count`` is what the plan's guard was, if something was decided by it; by default it is now.

        Returns
        -------
        bool or None
            True if it was taken; None if it was, and a gradient isn't finite; False if it wasn't.
        """
        plan = self.plan
        if plan is None or plan.drive is None or plan.token is not token or plan.n_threads > 1:
            return False
        if len(plan.sets) != 1 or not (plan.keys is keys or plan.keys == keys):
            return False
        return plan.drive(params, grads, scalars, plan.guard.item() if count is None else count)

    def unpack_calls(self) -> Calls:
        """Return the C calls after which a step decides anew whether packed parameters take one pass."""
        return [partial(setattr, self.memory, "layout", Layout(self.memory.layout))]

    def is_one_pass(self, params: Packed, grads: Packed) -> bool:
        """Whether parameters, gradients and state are packed alike, and the rule doesn't need the arrays."""
        layout, memory = params.layout, self.memory
        if self.rule.is_whole:
            return False
        if grads.layout is not layout:
            if grads.layout != layout or [*grads.buffers] != [*params.buffers]:
                return False
            grads.layout = layout  # found at once from now on
        if len({*memory.counts_of(layout)}) > 1:
            return False
        return layout is memory.layout or not memory.layout or layout == memory.layout

    def take(self, job: Job) -> int:
        """Take a step: check everything, then update the parameters in one chain of C calls.

        Returns
        -------
        int
            DONE, or NONFINITE if a gradient wasn't finite.

        Raises
        ------
        KeyError, TypeError, ValueError
            If an array can't be taken, with nothing changed.
        NonfiniteGradientError
            If a gradient isn't finite and has to be, with nothing changed.
        """
        arrays = job.arrays
        known = self.find(job)
        drive = None if known is None or self.has_shared else known.drive
        # With a single call nothing is left that compiled code can't see, but the number of threads.
        if (
            known is not None
            and drive is not None
            and not job.guards
            and not job.restarts
            and (known.is_small or known.fits(arrays, job.n_threads))
        ):
            self.plan = known
            count = known.guard.item()  # before anything that a step in between would change
            job.check_current()
            scalars = job.scalars(known)
            if job.also and not isinstance(drive, BuiltinFunctionType):  # a chain has C functions only
                return run_together([(self, job)], [known])[0]
            done: bool | None
            if job.also:
                calls: list[Any] = [partial(drive, arrays.params, arrays.grads, scalars, count), *job.also]
                done = [*takewhile(was_taken, map(call, calls)), False][0]
            else:
                done = drive(arrays.params, arrays.grads, scalars, count)
            if done is not False:
                return DONE if done else NONFINITE
            known = None
        return run_together([(self, job)], [known])[0]

    def prepare(
        self, job: Job, known: Plan | None = None, *, is_alone: bool = True
    ) -> tuple[Plan, Calls, Calls]:
        """Return the plan of a step, the C calls that come first, and those that take it.

        Those that come first may refuse the step; if it is alone in its chain, one of the others may, too.
        Raises what `take` does.
        """
        also, first = job.also, [*job.guards]
        restart: Calls = []
        if known is not None and known.fits(job.arrays, job.n_threads):
            self.plan = known
            restart = known.memory.clear_calls(job.restarts, self.own_specs)
        else:
            first += self.unchanged_calls()
            known, adopt = self._make_plan(job)
            also = [*adopt, *also]
        count = known.guard.item()  # before anything that a step in between would change
        job.check_current()
        if not job.arrays.is_current:
            raise OutdatedStepError(CHANGED)
        scalars = job.checked_scalars(known)
        also = [*self._share_calls(known), *also]
        if is_alone and not restart:
            return known, first, known.calls(job.arrays, scalars, count, also, CHECK)
        first += known.check_calls(job.arrays, scalars, count)
        return known, first, [*restart, *known.calls(job.arrays, scalars, count, also, 0)]

    def unchanged_calls(self) -> Calls:
        """Return the C calls that refuse the step if the state isn't what it is now."""
        steps, is_other = self.memory.steps, np.zeros((), dtype=np.int64)
        compare = partial(np.not_equal, steps, steps.item(), is_other)
        return [self.memory.is_retired.item, compare, is_other.item]

    def _make_plan(self, job: Job) -> tuple[Plan, Calls]:
        """Return a plan for these arrays, and the C calls that make it and its state the engine's."""
        arrays = job.arrays
        container = dict if isinstance(arrays.container, Mapping) else list
        memory = self.memory  # once, as a signal's handler may step in between
        if memory.container not in (None, container):
            raise TypeError(f"params was a {memory.container.__name__} at earlier steps, now it is not")
        layout, new = self._check_arrays(arrays, memory.layout)
        if job.is_strict:
            check_finite(arrays, layout)
        groups = job.groups()
        frozen = {key for key, group in zip(arrays.keys, groups, strict=True) if group == FROZEN}
        started: list[Hashable] = []
        if new or job.restarts or memory.container is None:
            memory = memory.extended(layout, container)
            memory.unstarted |= {key for key, _, _ in new if key in frozen}
            self._initialize(memory, new, job)
        if job.restarts:
            restarted = [item for item in zip(*arrays.by_array(), strict=True) if item[0] in job.restarts]
            run_calls(memory.clear_calls(job.restarts, self.own_specs))
            job.initialize(memory, restarted, self.own_specs)
        if memory.unstarted and not isinstance(arrays.keys, Layout):
            # The state of a frozen parameter begins when it is thawed.
            thawed = [
                item
                for item in zip(arrays.keys, arrays.params, arrays.grads, strict=True)
                if item[0] in memory.unstarted and item[0] not in frozen
            ]
            if thawed and memory is self.memory:  # where a handler may step until this step is taken
                memory = memory.extended(layout, memory.container)
            self._initialize(memory, thawed, job)
            started = [key for key, _, _ in thawed]
        if isinstance(arrays.keys, Layout):
            memory.layout = arrays.keys  # found at once from now on
        plan = make_plan(
            job.adapt_rule(self.rule), memory, arrays, groups,
            n_threads=job.n_threads, is_strict=job.is_strict,
            n_averages=self.n_averages, between=job.between, token=job.token, grouping=job.grouping,
        )  # fmt: skip
        # Nothing is new before the step is taken, of which this is a part.
        now: dict[str, Any] = {"memory": memory}
        place = tuple(arrays.keys)
        others = {keys: other for keys, other in self.plans.items() if keys != place}
        is_full = sum(map(len, others)) + len(place) > MAX_CACHED_ARRAYS
        others = {} if memory is not self.memory or plan.rule.n_work or is_full else others
        now["plan"], now["was_compiled"] = plan if plan.is_kept else None, plan.is_compiled
        now["plans"] = others | {place: plan} if plan.is_kept else others
        start = partial(memory.unstarted.difference_update, started)
        adopt: Calls = [partial(self.__dict__.update, now), start]
        return plan, adopt if memory is self.memory else adopt + self.retire_calls()

    def _check_arrays(self, arrays: Arrays, known: Layout) -> tuple[Layout, list[tuple[Hashable, Any, Any]]]:
        """Check every parameter and gradient. Returns the known layout with the new ones, and these."""
        if isinstance(arrays.keys, Layout):
            for name, given in (("parameters", arrays.params), ("gradients", arrays.grads)):
                sizes = [(flat.dtype, flat.shape) for flat in given if isinstance(flat, np.ndarray)]
                wanted = {dtype: (size,) for dtype, size in arrays.keys.sizes.items()}
                if len(sizes) != len(given) or len(given) != len(wanted) or dict(sizes) != wanted:
                    raise ValueError(f"buffers of packed {name} were replaced; pack them again")
        is_assignable = isinstance(arrays.container, MutableMapping | MutableSequence)
        layout, new = known, []
        for key, param, grad in zip(*arrays.by_array(), strict=True):
            shape, dtype = check_param(key, param, is_assignable)
            if not isinstance(grad, Rows):  # which has been checked
                check_grad(key, grad, shape)
            slot = layout.get(key)
            if slot is None:
                layout = Layout(known) if layout is known else layout
                order = "C" if self.rule.is_whole else order_of(param)
                layout.place(key, shape, dtype, order, is_apart=is_apart(self.memory.specs, shape))
                new.append((key, param, grad))
            elif (shape, dtype) != (slot.shape, slot.dtype):
                raise ValueError(
                    f"parameter {key!r} is now {dtype} of shape {shape}, but its state is {slot.dtype} "
                    f"of shape {slot.shape}: a new parameter needs a new key or a new optimizer"
                )
        return layout, new

    def _initialize(self, memory: Memory, items: Sequence[tuple[Hashable, Any, Any]], job: Job) -> None:
        """Give parameters their first values, and the present ones of states that all have alike."""
        job.initialize(memory, items, memory.specs)
        starting = {key for key, _, _ in items}
        source = next((key for key in memory.layout if key not in starting), None)
        for spec in memory.specs if source is not None else ():
            if spec.is_shared:
                views = memory.views(spec.name)
                for key in starting:
                    views[key][...] = views[source].item() if views[source].size else 0

    def _share_calls(self, plan: Plan) -> Calls:
        """Return the calls that copy shared states to the parameters that weren't updated."""
        memory = plan.memory
        calls: Calls = []
        if not self.has_shared:
            return []
        shared = [i for i, spec in enumerate(memory.specs) if spec.is_shared]
        updated = [entry for entry in plan.entries if not entry.is_frozen and entry.slot.size]
        if not updated or len(updated) == len(memory.layout):
            return []
        for i in shared:
            for dtype, buffers in memory.buffers.items():
                entry = next((e for e in updated if e.slot.dtype == dtype), updated[0])
                value = entry.states[i].flat_view(memory.buffers[entry.slot.dtype][i])
                calls.append(partial(setitem, buffers[i], ..., value))
        return calls

    def replace_calls(self, memory: Memory) -> Calls:
        """Return the C calls that put another state in the place of this one."""
        now: dict[str, Any] = {"memory": memory, "plan": None, "plans": {}}
        return [partial(self.__dict__.update, now), *self.retire_calls()]

    def retire_calls(self) -> Calls:
        """Return the C calls after which every plan for the present memory refuses its step.

        A step that a signal interrupted, and whose handler changes the memory, has one of these.
        """
        return [partial(setitem, self.memory.is_retired, ..., 1)]


def take_together(jobs: Sequence[tuple[Engine, Job]]) -> list[int]:
    """Take the steps of several engines, all or none of them. Returns what `Engine.take` does, for each."""
    if len(jobs) == 1:
        return [jobs[0][0].take(jobs[0][1])]
    return run_together(jobs, [engine.find(job) for engine, job in jobs])


def run_together(jobs: Sequence[tuple[Engine, Job]], known: Sequence[Plan | None]) -> list[int]:
    """Take steps in one chain of C calls, if need be by other plans than those that are known."""
    # A signal's handler may have taken a step or loaded a checkpoint meanwhile: plan anew.
    for plans in (known, *[[None] * len(jobs)] * 2):
        prepared = [
            engine.prepare(job, plan, is_alone=len(jobs) == 1)
            for (engine, job), plan in zip(jobs, plans, strict=True)
        ]
        # Whatever can refuse comes before anything changes.
        calls = [call for _, first, _ in prepared for call in first]
        statuses: list[int] | None = None
        if len(jobs) > 1 and any(plan.is_drafted for plan, _, _ in prepared) and overlapping_jobs(jobs):
            statuses, then = take_on_copies(jobs, [plan.memory for plan, _, _ in prepared])
            calls += then
        else:
            calls += [call for _, _, then in prepared for call in then]
        if run_calls(calls):
            return statuses or [NONFINITE if plan.found_nonfinite else DONE for plan, _, _ in prepared]
    raise RuntimeError(CHANGED)
