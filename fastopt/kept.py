"""The step that is like the last one: a few lines of Python around one call of compiled code.

If a step was one call into compiled code, the next step with the same keys is taken here: the arrays are
listed, options act, if there are any, and the driver is called. Micro-batches, and rules with numbers of all
arrays (Prodigy), plan each step. Sets of parameters that take turns keep a plan each, up to 16,384 arrays. A
partition keeps the plans of its members and takes them in one chain: the checks of all members, then their
updates.
"""

from collections.abc import Callable, Mapping
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from fastopt.arrays.layout import Layout
from fastopt.engine.finite import NonfiniteGradientError
from fastopt.engine.plan import Arrays, Plan
from fastopt.options.base import NEUTRAL_SCALARS
from fastopt.step import Step, plan_scalars

if TYPE_CHECKING:
    from fastopt.optimizer import Optimizer

__all__ = ["KeptStep", "keep_step"]

# Takes the optimizer, parameters and gradients. Returns True when the step was taken; None if it was, with a
# gradient that isn't finite; False, with nothing changed, if it isn't like the last one.
KeptStep = Callable[["Optimizer", Any, Any], bool | None]


def keep_step(plan: Plan, params: Any, grads: Any) -> KeptStep:
    """Return the step that `Optimizer.update` takes for containers like these.

    Parameters
    ----------
    plan : Plan
        The plan of the last step, which is a single call.
    params, grads : dict or list
        What the last step was given. They aren't kept.
    """
    keys, count_of, drive = plan.keys, plan.guard.item, plan.drive
    assert drive is not None
    kind, grads_kind, is_packed = type(params), type(grads), isinstance(keys, Layout)
    token, grouping, n_params = plan.token, plan.grouping, len(keys)
    pick = picker(keys) if isinstance(params, Mapping) else None

    def take(optimizer: "Optimizer", params: Any, grads: Any) -> bool | None:
        if type(params) is not kind or type(grads) is not grads_kind:
            return False
        if is_packed:
            if not (params.layout is grads.layout is keys):
                return False
            values, gradients = [*params.buffers.values()], [*grads.buffers.values()]
        elif pick is None:
            values, gradients = list(params), list(grads)
            if not (len(values) == len(gradients) == n_params):
                return False
        elif list(params) != keys:
            return False
        else:
            try:
                values, gradients = [*pick(params)], [*pick(grads)]
            except KeyError:
                return False
        count = count_of()
        if optimizer.is_neutral:
            return drive(values, gradients, NEUTRAL_SCALARS + optimizer.scalars(count + 1), count)
        if optimizer.is_plain:
            return drive(values, gradients, plan_scalars(optimizer, plan, grouping), count)
        step = Step(optimizer, Arrays(keys, values, gradients, params), grouping=grouping)
        try:
            step.begin()
        except NonfiniteGradientError:
            return False
        # Other arrays than those of the last step are refused by compiled code.
        if step.token is not token or step.also or step.nonfinite_key is not None:
            return False
        if step.restarts or not step.is_taken:
            return False
        scalars = plan_scalars(optimizer, plan, grouping, step.scheduled, step.grad_scale)
        is_done = drive(step.arrays.params, step.arrays.grads, scalars, count)
        if is_done is not False:
            step.end()
        return is_done

    return take


def picker(keys: Any) -> Callable[[Any], Any]:
    """Return the function that gives the values of these keys in a mapping."""
    return itemgetter(*keys) if len(keys) > 1 else lambda mapping: [mapping[key] for key in keys]
