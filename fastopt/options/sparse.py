"""Gradients of some rows of a table: which rules can take them.

`Rows` are checked and duplicate rows added up at the start of a step; the driver then updates these rows of
a contiguous table in place. A rule's ``zero_grad_is_noop`` says that an element with gradient 0 stays
unchanged, which makes a step on `Rows` exact.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fastopt.arrays.containers import compute_dtype
from fastopt.arrays.rows import Rows
from fastopt.checks import choice

if TYPE_CHECKING:
    from fastopt.step import Step

__all__ = ["SparseFields", "coalesce_grads"]


@dataclass(init=False, repr=False, eq=False, kw_only=True)
class SparseFields:
    """The field of this option.

    Parameters
    ----------
    rows : {None, "lazy"}, default None
        How rows without a gradient are treated if a gradient is `fastopt.Rows`. `SGD`, `AdaGrad` and
        `RowAdaGrad`, without weight decay and averages, leave such rows unchanged, so that they take the same
        step as with a dense gradient. All others raise ValueError, unless rows is "lazy": then these rows
        stay unchanged, with their states and averages (PyTorch's ``SparseAdam``). Rules that need whole
        arrays take no `Rows`, but for `RowAdaGrad`.
    """

    rows: str | None = choice(None, None, "lazy")


def coalesce_grads(step: "Step", needs_whole: str | None, others_change_by: Sequence[str]) -> None:
    """Replace row-sparse gradients by equivalent ones in which each row occurs once.

    Parameters
    ----------
    step : Step
        The step.
    needs_whole : str or None
        What needs whole arrays, if anything does.
    others_change_by : sequence of str
        What would change rows without a gradient as well.

    Raises
    ------
    TypeError, ValueError
        If such a gradient isn't valid, or the rule can't take it.
    """
    grads: list[Any] = list(step.arrays.grads)
    for i, (key, param, grad) in enumerate(zip(*step.arrays[:3], strict=True)):
        if isinstance(grad, Rows):
            grads[i] = grad.coalesce(key, *compute_dtype(key, param))
            if needs_whole is not None:
                raise ValueError(f"the gradient of {key!r} is of rows, but {needs_whole} needs whole arrays")
            if others_change_by:
                raise ValueError(
                    f"the gradient of {key!r} is of rows, but {others_change_by[0]} changes the others, too: "
                    "rows='lazy' leaves them as they are"
                )
    step.arrays = step.arrays._replace(grads=grads)
