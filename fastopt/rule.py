"""`UpdateRule`: what a class of optimizers says of its rule.

``scalars(t)`` depends on a parameter's count of steps t and on the hyperparameters in use, and on nothing
else. So a refused step leaves nothing to take back, and the only state is arrays. What is computed over all
steps so far (NAdam's product of μ, the schedule-free rules' sum of weights) takes the hyperparameters in use
as if they had always been.

Statistics come before the update: norms, sums of rows, columns or all parameters, and products of matrices
are one notion. ``statistics_kernel`` runs over all arrays, as wholes, before ``kernel`` does. It may change
the state, and leaves a few doubles an array; the update gets these, and their totals over all arrays. Both
are phases of one compiled step. What NumPy does in between, such as Muon's products, is in the same chain of
C calls (``intermediate_calls``). Element-wise rules know nothing of it. Sums have
`fastopt.kernels.common.LANES` lanes, so they are vectorized and have the same bits for every number of
threads and in `fastopt.reference`. Scalars of such kernels are doubles; where they meet the elements they
are rounded to the elements' dtype. States lie in C order; strided arrays are gathered as wholes.

A class answers these questions, not its instances: a step is planned for the class's rule.
"""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import Field, fields
from functools import cache
from types import CodeType, MappingProxyType
from typing import Any, ClassVar

import numpy as np

from fastopt.checks import kind
from fastopt.engine.compiling.units import Unit
from fastopt.engine.rules import Rule
from fastopt.engine.segment import Calls, Segment
from fastopt.engine.threads import MIN_PARALLEL
from fastopt.kernels.common import kernel
from fastopt.kernels.jit import Compiled

__all__ = ["UpdateRule"]


@cache
def as_kernel(function: Any) -> Any:
    """Return a kernel: the function itself, or, if Numba compiled it without `fastopt.kernel`, one of it."""
    return function if isinstance(function, Compiled) else kernel(getattr(function, "py_func", function))


class UpdateRule:
    """What a rule says of itself: a subclass is a dataclass that names kernel, states and scalars."""

    __dataclass_fields__: ClassVar[dict[str, Any]]
    kernel: ClassVar[Any]
    # For a rule that needs statistics of whole arrays: the kernel that takes them. It runs over all arrays
    # before any is updated, and may change the state.
    statistics_kernel: ClassVar[Any] = None
    # How many of the statistics, the first, are sums over the elements; how many are summed over all arrays.
    n_additive: ClassVar[int] = 0
    n_totals: ClassVar[int] = 0
    # Number of further arrays like the parameter that both kernels get after the states.
    n_work: ClassVar[int] = 0
    # Smaller steps use one thread: two would take longer. No less than this.
    min_parallel_size: ClassVar[int] = MIN_PARALLEL
    # Whether weight_decay is decoupled by default; None: it is a part of the rule's own formula.
    default_decoupled: ClassVar[bool | None] = False
    # Whether a rule of whole arrays updates each row (what has one index along the first dimension) by that
    # row alone, so that it takes `Rows`. Then its statistics kernel leaves the state as it is.
    takes_rows: ClassVar[bool] = False
    # Values of decoupled that take the weight decay out of the rule's own formula.
    decay_choices: ClassVar[tuple[bool, ...]] = ()
    # Whether a zero gradient changes nothing.
    zero_grad_is_noop: ClassVar[bool] = False
    # Hyperparameters that groups can't have, as not only scalars depend on them.
    ungrouped: ClassVar[tuple[str, ...]] = ()
    # Hyperparameters with which, unless they have their default, scalars depend on the step.
    step_arguments: ClassVar[tuple[str, ...]] = ()
    # Hyperparameters that can't have a schedule, as not each step depends on them, and why.
    unscheduled: ClassVar[Mapping[str, str]] = MappingProxyType({})
    # Names of the states, in the order of the kernel's arguments.
    states: ClassVar[tuple[str, ...]] = ()

    def scalars(self, t: int) -> tuple[float, ...]:
        """Return the kernel's scalars after grad_scale, l2 and keep, at step t = 1, 2, ... of a parameter."""
        raise NotImplementedError

    def n_statistics(self, shape: tuple[int, ...]) -> int:
        """Return the number of statistics of an array of a shape, room to compute them included."""
        return 0

    def check_supported(self, keys: Sequence[Hashable], params: Sequence[Any]) -> None:
        """Raise ValueError if the rule doesn't support the shape of a parameter."""

    def intermediate_calls(self, segment: Segment) -> Calls:
        """Return the C calls between the statistics pass and the update."""
        return []

    def share(self, sets: Sequence[tuple[Any, int]], maximum: Callable[[float], float]) -> None:
        """Let sets of parameters know of each other, given an optimizer and a step for each.

        ``maximum`` returns the largest of a number over all ranks.
        """

    @property
    def formula_decay(self) -> float:
        """The weight decay in the rule's own formula."""
        own: Any = self
        decay: float = own.weight_decay
        return 0.0 if own.decoupled in self.decay_choices else decay

    @property
    def outer_decay(self) -> float:
        """The weight decay outside of the rule's own formula."""
        own: Any = self
        decay: float = own.weight_decay
        is_outer = self.default_decoupled is not None or own.decoupled in self.decay_choices
        return decay if is_outer else 0.0

    def decay_scalars(self, decay: float) -> tuple[float, float]:
        """Return l2 and keep for a weight decay."""
        own: Any = self
        if decay and (self.default_decoupled if own.decoupled is None else own.decoupled):
            is_corrected = own.decay_max_lr is not None and own.lr
            return 0.0, 1 - own.lr * (decay * (own.lr / own.decay_max_lr) if is_corrected else decay)
        return decay, 1.0

    def own_average(self, view: Any, key: Hashable, param: np.ndarray) -> np.ndarray | None:
        """Return the average that the rule itself keeps of a parameter, if it does."""
        return None

    @classmethod
    def check_class(cls) -> None:
        """Raise TypeError if the class has not all that a rule needs."""
        has_hash = object.__hash__ is cls.__hash__  # which @dataclass without eq=False takes away
        is_decorated = has_hash and not any(isinstance(value, Field) for value in vars(cls).values())
        has_lr, has_kernel = "lr" in cls.__dataclass_fields__, hasattr(cls, "kernel")
        specs = [getattr(cls, name).spec for name in cls.states]
        is_fitting = cls.rule_is_whole() or not any(spec.shape or spec.is_shared for spec in specs)
        for is_met, requirement in (
            (is_decorated, "be a dataclass; write @dataclass(eq=False) above it"),
            (has_lr, "have a field lr; write lr: float = fastopt.hyperparameter(0.01)"),
            (has_kernel, "have a kernel; write kernel = a function under @fastopt.kernel"),
            (cls.scalars is not UpdateRule.scalars, "have a method scalars(self, t), for the kernel"),
            (is_fitting, "have states like the parameter; leave shape and is_shared of its State out"),
        ):
            if not is_met:
                raise TypeError(f"class {cls.__name__} must {requirement}")

    @classmethod
    def rule_is_whole(cls) -> bool:
        """Whether the rule needs whole arrays."""
        return cls.statistics_kernel is not None

    @classmethod
    def rule(cls) -> Rule:
        """Return what the engine must know of the rule."""
        some = object.__new__(cls)
        vars(some).update({known.name: known.default for known in fields(cls)})
        scalars: Any = some.scalars(1)
        if not isinstance(scalars, tuple):
            raise TypeError(f"{cls.__name__}.scalars(t) must return a tuple of floats, got {kind(scalars)}")
        kernel = as_kernel(cls.kernel)
        if not cls.rule_is_whole():
            cls.check_kernel(kernel.py_func.__code__, len(scalars))
        return Rule(
            kernel, cls.statistics_kernel and as_kernel(cls.statistics_kernel),
            3 + len(scalars), cls.n_work, cls.n_additive,
            cls.n_totals, some.n_statistics,
        )  # fmt: skip

    @classmethod
    def check_kernel(cls, code: CodeType, n_scalars: int) -> None:
        """Raise TypeError if a kernel hasn't as many arguments as it is called with."""
        arrays = ", ".join(("param", "grad", *cls.states))
        n_wanted = 2 + len(cls.states) + cls.n_work + 3 + n_scalars
        if code.co_argcount != n_wanted:
            raise TypeError(
                f"kernel {code.co_name!r} takes {code.co_argcount} arguments, but gets {n_wanted} from "
                f"{cls.__name__}: {arrays}, grad_scale, l2, keep, and the {n_scalars} of scalars(t)"
            )

    @classmethod
    def units(cls, dtypes: Sequence[np.dtype[Any]]) -> list[Unit]:
        """Return what has to be compiled for steps on arrays of these dtypes."""
        return cls.rule().units(dtypes, len(cls.states))
