"""Which plan a step gets: a compiled one, if all code that it needs is there."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fastopt.engine.compiled_plan import CompiledPlan
from fastopt.engine.compiling.background import background
from fastopt.engine.memory import Memory
from fastopt.engine.plain_plan import PlainPlan
from fastopt.engine.plan import Arrays, Plan
from fastopt.engine.rules import Rule

__all__ = ["make_plan"]


def make_plan(
    rule: Rule,
    memory: Memory,
    arrays: Arrays,
    groups: Sequence[int],
    *,
    n_threads: Callable[[int], int],
    is_strict: bool,
    n_averages: int,
    given_states: Sequence[np.ndarray] | None = None,
    **options: Any,
) -> Plan:
    """Return a plan for these arrays.

    Parameters
    ----------
    n_threads : callable
        Returns the number of threads for a number of elements.
    is_strict : bool
        Whether a gradient that isn't finite refuses the step.
    given_states : sequence of arrays, optional
        States of the caller's, as a `PlainPlan` has them.
    rule, memory, arrays, groups, n_averages, **options
        As for a `Plan`.
    """
    what = rule, memory, arrays, groups
    options["n_averages"] = n_averages
    n_arrived = background.look()  # before the code is looked for
    code = rule.code(arrays.dtypes(memory.layout), len(memory.specs) - n_averages)
    if code is not None:
        has_given_states = given_states is not None
        plan = CompiledPlan(code, n_threads, is_strict, *what, has_given_states=has_given_states, **options)
        if code.has_others or not plan.needs_others:
            return plan
    rule.check_plain()
    return PlainPlan(n_arrived, is_strict, *what, given_states=given_states, **options)
