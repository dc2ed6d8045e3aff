"""`warmup`: compilation before the first step."""

from collections.abc import Iterable
from typing import Any

from fastopt import optimizers
from fastopt.checks import computed, listed
from fastopt.optimizer import Optimizer
from fastopt.tools.registry import class_of

__all__ = ["warmup"]


def warmup(
    rules: Iterable[str | type[Optimizer]] = tuple(optimizers.__all__),
    dtypes: Iterable[Any] = ("float32", "float64"),
) -> None:
    """Compile rules, or read them from the disk, so that their first step is as fast as the next.

    Takes about a second for each rule and dtype and for one and several threads when nothing is compiled
    yet, and some milliseconds each from then on.

    Parameters
    ----------
    rules : iterable of str or classes
        ``["Adam", fastopt.SGD]``; by default all.
    dtypes : iterable
        float32, float64 or both, the default.

    Raises
    ------
    TypeError, ValueError
        If there is no such rule, or a dtype is another. Nothing is compiled then.
    """
    classes = [class_of(rule) for rule in listed("rules", rules)]
    kinds = [computed("dtypes", dtype) for dtype in listed("dtypes", dtypes)]
    for cls in classes:
        for kind in kinds:
            cls.compile(kind)
