"""`warmup`: compile before the clock starts."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from fastopt import optimizers
from fastopt.optimizer import Optimizer

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
    if isinstance(rules, str) or isinstance(dtypes, str):
        raise TypeError("rules and dtypes must be lists, not a single name")
    classes = []
    for rule in rules:
        if isinstance(rule, str):
            if rule not in optimizers.__all__:
                raise ValueError(f"{rule!r} is no rule; there are {', '.join(optimizers.__all__)}")
            rule = getattr(optimizers, rule)
        if not (isinstance(rule, type) and issubclass(rule, Optimizer)):
            raise TypeError(f"rules must be names or classes, not {rule!r}")
        classes.append(rule)
    kinds = [np.dtype(dtype) for dtype in dtypes]
    for kind in kinds:
        if kind not in ("float32", "float64"):
            raise ValueError(f"dtypes must be float32 or float64, not {kind}")
    for cls in classes:
        for kind in kinds:
            cls.compile(kind)
