"""A step as a value: what it was given, what the options make of it, and what it shows afterwards."""

from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from fastopt.arrays.layout import Layout
from fastopt.arrays.rows import Rows
from fastopt.engine.engine import CHANGED, Engine, OutdatedStepError
from fastopt.engine.finite import NonfiniteGradientError
from fastopt.engine.memory import Memory, StateSpec
from fastopt.engine.plan import Arrays, Plan
from fastopt.engine.rules import Rule
from fastopt.engine.segment import Calls, Segment
from fastopt.engine.table import REFUSED
from fastopt.kernels.quantization import random_key
from fastopt.options.sparse import coalesce_grads

if TYPE_CHECKING:
    from fastopt.options.base import Option
    from fastopt.options.groups import Grouping

__all__ = ["Step", "plan_scalars"]


class Step:
    """One call of `Optimizer.update`.

    Parameters
    ----------
    optimizer : Optimizer
        Whose hyperparameters and options are read when the step begins.
    arrays : Arrays
        Keys, parameters and gradients.
    is_flush : bool
        Whether to step with the micro-batches that are in.
    grouping : Grouping, optional
        The groups of these parameters, if the optimizer's can't be told from their keys.

    Attributes
    ----------
    number : int
        That of the update, from 1.
    time : int or None
        That by which schedules go, if it is another: the partition's.
    scheduled : dict
        Values by schedules: those of the optimizer by their names, those of groups by their `GroupSchedule`.
    grad_scale : float
        What the gradients are multiplied by.
    grad_norm : float or None
        Norm of all gradients as one vector, once it is known.
    also : sequence of callables
        C calls that belong to the step, from `add`.
    guards : sequence of callables
        C calls before it, which return REFUSED if it is outdated.
    restarts : collection of hashable
        The keys of parameters whose rule begins anew with this step.
    is_taken : bool
        Whether the step itself is to be done once the options have changed it.
    is_skipped : bool
        Whether an option has left it out, for good.
    other_jobs : sequence of tuple of Engine and Job
        What is to be done instead: an option's job, or those of several optimizers.
    parts : sequence of Step
        Those of the members of a partition.
    maximum : callable
        Returns the largest of a number in all processes that take this step together.
    options : tuple of Option
        What is done before and after it, in this order.
    grouping : Grouping or None
        The groups of these parameters.
    """

    # What most steps leave as it is needs no time when a step begins.
    time: int | None = None
    scheduled: Mapping[Any, float] = MappingProxyType({})
    grad_norm: float | None = None
    also: Sequence[Callable[[], Any]] = ()
    guards: Sequence[Callable[[], Any]] = ()
    restarts: Collection[Hashable] = ()
    is_taken = False
    is_skipped = False
    other_jobs: Sequence[tuple[Engine, Any]] = ()
    nonfinite_key: Hashable | None = None
    parts: Sequence["Step"] = ()
    maximum: Callable[[float], float] = float

    def __init__(
        self,
        optimizer: Any,
        arrays: Arrays,
        *,
        is_flush: bool = False,
        grouping: "Grouping | None" = None,
    ) -> None:
        # The token comes first: whatever a signal's handler assigns from here on makes it another one.
        self.token = optimizer.token
        self.optimizer, self.arrays, self.is_flush = optimizer, arrays, is_flush
        self.memory: Memory = optimizer.engine.memory
        self.number = self.memory.steps.item() + 1
        self.grad_scale: float = optimizer.grad_sign
        self.nonfinite = optimizer.nonfinite
        self.is_strict = self.nonfinite != "warn"
        self.options: tuple[Option, ...] = optimizer.options
        if isinstance(arrays.keys, Layout):
            if optimizer.takes_single_arrays:  # as a handler has assigned since the container was looked at
                self.split()
                grouping = optimizer.grouping_of(self.arrays)
        elif grouping is None:
            grouping = optimizer.grouping_of(arrays)
        self.grouping = grouping

    def coalesce(self) -> None:
        """Let each row occur once in row-sparse gradients."""
        owner = self.optimizer
        if Rows in map(type, self.arrays.grads):
            if owner.accumulation is not None:
                owner.accumulation.check_dense(self)
            whole = owner.reason_for_whole_arrays()
            coalesce_grads(self, whole, owner.changes_of_all_rows())

    def begin(self) -> None:
        """Let the options change what the step is given. Then `jobs` has what is to be done."""
        self.coalesce()
        self.is_taken = self.apply_options()

    def apply_options(self) -> bool:
        """Let the options change what the step is given. Returns whether it is to be taken."""
        for option in self.options:  # noqa: SIM110 (`all` takes longer)
            if not option.before(self):
                return False
        return True

    def end(self) -> None:
        """Let the options note what is shown of the step, which was taken."""
        for option in self.options:
            option.after(self)

    @cached_property
    def between(self) -> Callable[[Segment], Calls] | None:
        """What gives the calls between the statistics pass and the update, if there are any."""
        return self.optimizer.calls_between()

    def check_current(self) -> None:
        """Raise OutdatedStepError if the optimizer has taken another step, or was loaded, since it began."""
        is_other = self.memory.steps.item() != self.number - 1
        if (
            is_other
            or self.optimizer.engine.memory is not self.memory
            or any(guard() is REFUSED for guard in self.guards)
        ):
            raise OutdatedStepError(CHANGED)

    def adapt_rule(self, rule: Rule) -> Rule:
        """Return the rule with what the options change of it."""
        adapted: Rule = self.optimizer.adapt_rule(rule)
        return adapted

    @property
    def is_packed(self) -> bool:
        """Whether the arrays are the buffers of a packed container."""
        return isinstance(self.arrays.keys, Layout)

    def by_array(self) -> tuple[Sequence[Hashable], list[Any], list[Any]]:
        """Return keys, parameters and gradients one by one, also of packed containers."""
        return self.arrays.by_array()

    def split(self) -> None:
        """Look at the arrays one by one, if they are those of a packed container."""
        if self.is_packed:
            self.arrays = Arrays(*self.by_array(), self.arrays.container)

    def replace_grads(self, grads: list[Any]) -> None:
        """Put other gradients in the place of those that were given."""
        keys, params, _, container = self.arrays
        self.arrays = Arrays(keys, params, grads, container)

    def note_nonfinite(self, key: Hashable) -> None:
        """Note that a gradient isn't finite, before an option hides it.

        Raises
        ------
        NonfiniteGradientError
            If the optimizer refuses these.
        """
        if self.is_strict:
            raise NonfiniteGradientError(key)
        self.nonfinite_key = key if self.nonfinite_key is None else self.nonfinite_key

    @property
    def jobs(self) -> Sequence[tuple[Engine, Any]]:
        """What is to be done: made anew, as a step that kept this would keep itself and its arrays alive."""
        return [(self.optimizer.engine, self)] if self.is_taken else self.other_jobs

    def value_of(self, name: str) -> Any:
        """Return the value of a hyperparameter in this step."""
        return self.scheduled[name] if name in self.scheduled else vars(self.optimizer)[name]

    def show(self, name: str, value: Any) -> None:
        """Show a value in an attribute of the optimizer, now that the step was taken."""
        vars(self.optimizer)[name] = value

    def add(self, call: Callable[[], Any]) -> None:
        """Add a C call that belongs to the step, and runs after it without an interrupt in between."""
        self.also = [*self.also, call]

    def groups(self) -> Sequence[int]:
        """Return the group of each parameter."""
        self.optimizer.check_supported(list(self.arrays.keys), self.arrays.params)
        if self.grouping is None:
            return [0] * len(self.arrays.keys)
        return [self.grouping.which[key] for key in self.arrays.keys]

    def scalars(self, plan: Plan) -> tuple[float, ...]:
        """Return the scalars of all sets of parameters."""
        return plan_scalars(
            self.optimizer, plan, self.grouping, self.scheduled, self.grad_scale, self.maximum
        )

    def checked_scalars(self, plan: Plan) -> tuple[float, ...]:
        """Return the same as floats.

        Raises
        ------
        ValueError
            If the rule gives more or fewer than at other steps.
        """
        values = self.scalars(plan)
        if len(values) != plan.main.scalars.size:
            n_sets, n_own = len(plan.sets), plan.main.n_set_scalars
            raise ValueError(
                f"{type(self.optimizer).__name__}.scalars(t) must return as many floats at each step, "
                f"got {len(values)} instead of {n_sets * n_own} with those of the options"
            )
        return tuple(map(float, values))  # a rule may return NumPy's, or integers

    def n_threads(self, n_elements: int) -> int:
        """Return the number of threads for a number of elements."""
        return self.optimizer.threads_for(n_elements)

    def initialize(
        self, memory: Memory, new: Sequence[tuple[Hashable, Any, Any]], specs: Sequence[StateSpec]
    ) -> None:
        """Give these states of new parameters, which are 0, their first values."""
        specs = [spec for spec in specs if spec.init is not None]
        if not specs:
            return
        states = {spec.name: memory.stored(spec.name) for spec in specs}
        views = self.optimizer.group_views(self.grouping, self.scheduled)
        for key, param, grad in new:
            dtype, view, l2 = memory.layout[key].dtype, self.optimizer, 0.0
            if self.grouping is None or not self.grouping.is_frozen(key):
                view = views[0 if self.grouping is None else self.grouping.which[key]]
                l2, _ = view.decay_scalars(view.outer_decay)
            given = grad.dense(memory.layout[key].shape) if isinstance(grad, Rows) else grad
            with np.errstate(all="ignore"):
                given = dtype.type(self.grad_scale) * np.asarray(given, dtype)
                if l2:
                    given = given + dtype.type(l2) * np.asarray(param, dtype)
            for spec in specs:
                assert spec.init is not None
                memory.assign(key, states[spec.name][key], spec.init(view, param, given))


def plan_scalars(
    optimizer: Any,
    plan: Plan,
    grouping: "Grouping | None",
    scheduled: Mapping[Any, float] = MappingProxyType({}),
    grad_scale: float | None = None,
    maximum: Callable[[float], float] = float,
) -> tuple[float, ...]:
    """Return the scalars of all sets of parameters of a plan.

    For each set these are grad_scale, l2, keep, the rule's, the key of random bits if states are rounded, and
    those of the averages.

    Parameters
    ----------
    optimizer : Optimizer
        Whose hyperparameters are used.
    plan : Plan
        The plan.
    grouping : Grouping or None
        The groups of its parameters.
    scheduled : dict, optional
        Values by schedules, as a `Step` has them.
    grad_scale : float, optional
        What the gradients are multiplied by; by default 1, or with ``maximize`` −1.
    maximum : callable
        Returns the largest of a number over all ranks.
    """
    views = optimizer.group_views(grouping, scheduled)
    counts = plan.memory.counts
    if optimizer.n_totals:
        sets = [(views[own.group], counts.item(own.count_at) + 1) for own in plan.sets]
        optimizer.share(sets, maximum)
    scale = optimizer.grad_sign if grad_scale is None else grad_scale
    is_decayed = optimizer.default_decoupled is not None or optimizer.decay_choices
    result: tuple[float, ...] = ()
    averaging, period = optimizer.averaging, optimizer.restart_every
    for group, position in plan.sets:
        view, t = views[group], counts.item(position) + 1
        decay = view.outer_decay if is_decayed else 0.0
        own = view.scalars((t - 1) % period + 1 if period else t)
        result += (scale, *(view.decay_scalars(decay) if decay else (0.0, 1.0)), *own)
        if optimizer.state_dtype is not None:
            result += (float(random_key(optimizer.state_seed, t)),)
        for option in averaging:
            result += option.average_scalars(t)
    return result
