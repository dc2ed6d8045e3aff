"""A script in which ``common.optimizer`` is fastopt, and what its steps cost."""

import runpy
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import wraps
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from inspect import signature
from pathlib import Path
from statistics import median
from time import perf_counter
from types import ModuleType
from typing import Any

import numpy as np

from fastopt import optimizers, reference
from fastopt.demo.report import table
from fastopt.optimizer import Optimizer
from fastopt.plan import align

__all__ = ["Cost", "run", "summary"]


class Substitutes(MetaPathFinder, Loader):
    """Imports modules of other names with the contents of fastopt's.

    Parameters
    ----------
    modules : dict of str to str
        For each name the module that has what is to be found under it.
    """

    def __init__(self, modules: Mapping[str, str]) -> None:
        self.modules = modules

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> ModuleSpec | None:
        """Give a spec for the names that are known."""
        return ModuleSpec(fullname, self) if fullname in self.modules else None

    def exec_module(self, module: ModuleType) -> None:
        """Fill the new module."""
        source = import_module(self.modules[module.__name__])
        vars(module).update({name: getattr(source, name) for name in source.__all__})


@dataclass
class Cost:
    """The seconds that the steps of a rule took.

    Attributes
    ----------
    steps : list of float
        Each step's; the first compiles or reads what is compiled.
    plain : list of float
        Those of plain NumPy, at some of the steps, on copies.
    """

    steps: list[float] = field(default_factory=list)
    plain: list[float] = field(default_factory=list)


def plain(optimizer: Optimizer, rule: str, params: Any, grads: Any, turns: int = 3) -> list[float]:
    """Give the seconds of some steps of plain NumPy with these hyperparameters on copies of these arrays."""
    cls = getattr(reference, rule)
    naive = cls(**{name: getattr(optimizer, name) for name in signature(cls).parameters})
    keys, values, slopes = align(params, grads)
    copies = {key: np.array(value) for key, value in zip(keys, values, strict=True)}
    seconds = []
    for _ in range(1 + turns):
        start = perf_counter()
        naive.update(copies, dict(zip(keys, slopes, strict=True)))
        seconds.append(perf_counter() - start)
    return seconds[1:]  # the first makes the state


def meter(costs: dict[str, Cost]) -> None:
    """Let every optimizer of fastopt note what its steps cost."""
    update = Optimizer.update

    @wraps(update)
    def timed(self: Optimizer, params: Any, grads: Any) -> bool:
        start = perf_counter()
        taken = update(self, params, grads)
        seconds = perf_counter() - start
        rule = next(cls.__name__ for cls in type(self).__mro__ if cls is getattr(optimizers, cls.__name__, 0))
        cost = costs.setdefault(rule, Cost())
        cost.steps.append(seconds)
        n = len(cost.steps)
        if n > 1 and n & (n - 1) == 0:  # at steps 2, 4, 8, ...
            with np.errstate(all="ignore"):
                cost.plain += plain(self, rule, params, grads)
        return taken

    Optimizer.update = timed  # type: ignore[method-assign]


def summary(costs: Mapping[str, Cost], seconds: float) -> str:
    """Give the table of what the steps cost.

    Parameters
    ----------
    costs : dict of str to Cost
        For each rule.
    seconds : float
        What the whole script took.
    """
    if not costs:
        return "fastopt: the script took no step of an optimizer of fastopt's"
    rows = []
    for rule, cost in costs.items():
        step = median(cost.steps[1:] or cost.steps)
        naive = median(cost.plain) if cost.plain else None
        rows.append(
            [
                rule,
                f"{len(cost.steps):,}",
                f"{cost.steps[0]:.3f}",
                f"{1e6 * step:,.1f}",
                f"{1e6 * naive:,.1f}" if naive else "",
                f"{sum(cost.steps):.3f}",
                f"{naive * len(cost.steps):.3f}" if naive else "",
            ]
        )
    header = (
        "rule",
        "steps",
        "first\ns",
        "a step\nµs",
        "plain NumPy\nµs",
        "all steps\ns",
        "plain NumPy\ns",
    )
    return f"fastopt: the script took {seconds:.2f} s, in which\n\n{table(header, rows)}"


def run(script: Path, arguments: Sequence[str], dezero: bool) -> None:
    """Run a script as Python does, then print the summary to stderr. The process is the script's from here.

    Parameters
    ----------
    script : path
        A Python file.
    arguments : sequence of str
        Its arguments.
    dezero : bool
        Whether ``dezero.optimizers`` is replaced, too.
    """
    modules = {"common.optimizer": "fastopt.optimizers"}
    if dezero:
        modules["dezero.optimizers"] = "fastopt.adapters.dezero"
    sys.meta_path.insert(0, Substitutes(modules))
    sys.argv[:] = [str(script), *arguments]
    sys.path[0] = str(script.resolve().parent)
    costs: dict[str, Cost] = {}
    meter(costs)
    start = perf_counter()
    try:
        runpy.run_path(str(script), run_name="__main__")
    finally:
        print(f"\n{summary(costs, perf_counter() - start)}", file=sys.stderr)
