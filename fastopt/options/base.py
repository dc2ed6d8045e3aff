"""What an option may do in a step.

What the scalars ``grad_scale``, ``l2`` and ``keep`` express needs no pass over the arrays. An option that
needs a pass has an engine of its own (`Pass`, `GradientPass`). The rule of that engine is a sum of squares
or magnitudes (``clip_norm``), the clipped copy (``clip_value``, ``clip_norm_each``, ``clip_rms``) or the sum
of micro-batches. So checks, plans, threads, packed containers and Ctrl-C are those of any step. Row-sparse
gradients, overlapping arrays and ``clip_adaptive``, whose sums are NumPy's, are clipped in NumPy.

Averages are named ``ema.average`` or ``lookahead.slow``, so that no name of a rule's state collides with
them. They follow after each piece of the rule, while that is in the first cache.
"""

from collections.abc import Callable, Collection, Hashable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from fastopt.arrays.containers import compute_dtype
from fastopt.arrays.layout import Layout
from fastopt.arrays.rows import Rows
from fastopt.engine.engine import Engine
from fastopt.engine.finite import find_nonfinite
from fastopt.engine.memory import Memory, StateSpec
from fastopt.engine.plan import Arrays, Plan
from fastopt.engine.rules import Rule
from fastopt.engine.segment import Calls, Segment
from fastopt.engine.table import DONE, NONFINITE

if TYPE_CHECKING:
    from fastopt.options.groups import Grouping
    from fastopt.step import Step

__all__ = ["NEUTRAL_SCALARS", "GradientPass", "KernelPass", "Option", "Pass"]

# grad_scale, l2 and keep without options. (Joined to others with +: unpacking takes five times as long.)
NEUTRAL_SCALARS = (1.0, 0.0, 1.0)


class Option:
    """A part of a step that isn't the rule's: it knows no other option, and the engine knows none.

    Attributes
    ----------
    averages : tuple of StateSpec
        Arrays like the parameter that follow it after the rule, average ← average + weight·(p − average).
    """

    averages: ClassVar[tuple[StateSpec, ...]] = ()

    def before(self, step: "Step") -> bool:
        """Change what the step is given: gradients, their scale, the learning rate.

        Returns
        -------
        bool
            False if no step is to be taken now.
        """
        return True

    def after(self, step: "Step") -> None:
        """Note what is shown of a step that was taken."""

    def average_scalars(self, t: int) -> tuple[float, ...]:
        """Return weight and way back of each average at a parameter's step t = 1, 2, ...

        Where the way back isn't 0, the parameter becomes its average.
        """
        return ()


class Pass:
    """The job of an option that runs a kernel of its own over the arrays of a step, by an engine of its own.

    Parameters
    ----------
    arrays : Arrays
        The arrays.
    values : tuple of float
        The kernel's scalars, grad_scale, l2 and keep included.
    n_threads : callable
        Returns the number of threads for a number of elements.
    is_strict : bool
        Whether a gradient that isn't finite refuses the step.
    grouping : Grouping, optional
        Which of the parameters are frozen: these are left out.
    """

    between: Callable[[Segment], Calls] | None = None
    also: Sequence[Callable[[], Any]] = ()
    guards: Sequence[Callable[[], Any]] = ()
    restarts: Collection[Hashable] = ()

    def __init__(
        self,
        arrays: Arrays,
        values: tuple[float, ...],
        n_threads: Callable[[int], int],
        *,
        is_strict: bool = False,
        grouping: "Grouping | None" = None,
    ) -> None:
        self.arrays, self.values, self.n_threads, self.is_strict = arrays, values, n_threads, is_strict
        self.grouping = grouping
        self.token: object = is_strict if grouping is None else grouping

    def groups(self) -> Sequence[int]:
        """Return one group for all but the frozen parameters."""
        if self.grouping is None:
            return [0] * len(self.arrays.keys)
        return [min(self.grouping.which[key], 0) for key in self.arrays.keys]

    def scalars(self, plan: Plan) -> tuple[float, ...]:
        """Return the kernel's scalars for each set of parameters."""
        return self.values * len(plan.sets)

    checked_scalars = scalars

    def adapt_rule(self, rule: Rule) -> Rule:
        """Return the rule as it is."""
        return rule

    def check_current(self) -> None:
        """Do nothing: the step that it belongs to is checked."""

    def initialize(
        self, memory: Memory, new: Sequence[tuple[Hashable, Any, Any]], specs: Sequence[StateSpec]
    ) -> None:
        """Leave the states 0."""


class KernelPass:
    """A kernel of an option's own, which runs over the arrays of each step.

    Parameters
    ----------
    rule : Rule
        The kernel.
    specs : sequence of StateSpec, optional
        Arrays like the parameters for what it computes.
    """

    def __init__(self, rule: Rule, specs: Sequence[StateSpec] = ()) -> None:
        self.rule, self.specs = rule, specs
        self.engine = Engine(rule, specs)

    def run(
        self, step: "Step", scalars: tuple[float, ...], *, params: list[Any] | None = None,
        is_strict: bool = False, grouping: "Grouping | None" = None,
    ) -> int | None:  # fmt: skip
        """Run over the arrays of a step.

        Parameters
        ----------
        step : Step
            The step.
        scalars : tuple of float
            The kernel's, grad_scale, l2 and keep included.
        params : list of arrays, optional
            What the kernel gets as parameters, by default those of the step.
        is_strict : bool
            Whether a gradient that isn't finite refuses the step.
        grouping : Grouping, optional
            Which parameters are frozen, and left out.

        Returns
        -------
        int or None
            DONE or NONFINITE; None where only NumPy can compute it.

        Raises
        ------
        NonfiniteGradientError
            If a gradient isn't finite and the step has to refuse it.
        """
        keys, own, grads = step.by_array()
        own = own if params is None else params
        # What `Pass` has as its token, without making one.
        if self.engine.repeat(keys, own, grads, scalars, is_strict if grouping is None else grouping):
            return DONE
        dtypes = {compute_dtype(key, param)[1] for key, param in zip(keys, own, strict=True)}
        if Rows in map(type, grads) or self.rule.code(dtypes, len(self.specs)) is None:
            return None
        arrays = Arrays(keys, own, grads, step.arrays.container)
        job = Pass(arrays, scalars, step.optimizer.threads_for, is_strict=is_strict, grouping=grouping)
        try:
            status = self.engine.take(job)
        except (TypeError, ValueError):
            # Of arrays that had other shapes at earlier steps it need not know.
            self.engine = Engine(self.rule, self.specs)
            status = self.engine.take(job)
        return None if self.engine.plan is None else status


class GradientPass(KernelPass):
    """A kernel whose results take the place of the gradients.

    Parameters
    ----------
    rule : Rule
        The kernel, which has one state: its result.
    """

    spec = StateSpec("gradient")

    def __init__(self, rule: Rule) -> None:
        super().__init__(rule, [self.spec])

    def replace(self, step: "Step", scalars: tuple[float, ...], params: list[Any] | None = None) -> bool:
        """Replace the gradients of a step, as `run` has it. Returns False where only NumPy can."""
        status = self.run(step, scalars, params=params, is_strict=step.is_strict)
        if status is None:
            return False
        memory, keys = self.engine.memory, step.arrays.keys
        if status == NONFINITE:
            step.note_nonfinite(find_nonfinite(step.arrays, memory.layout))
        if isinstance(keys, Layout) and memory.layout == keys and [*memory.buffers] == [*keys.sizes]:
            step.replace_grads([buffers[0] for buffers in memory.buffers.values()])
        else:
            step.split()
            step.replace_grads(memory.views_of(self.spec.name, step.arrays.keys))
        return True
