"""A script whose optimizers are fastopt's, and what their steps cost."""

import runpy
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import wraps
from importlib import import_module
from pathlib import Path
from statistics import median
from time import perf_counter
from traceback import walk_tb
from types import TracebackType
from typing import Any

import numpy as np

from fastopt import optimizers, reference
from fastopt.arrays.containers import match_grads
from fastopt.optimizer import Optimizer
from fastopt.tools.report import table
from fastopt.tools.runner import substitutes
from fastopt.tools.runner.substitutes import Parents, Substitutes, gpu_message
from fastopt.tools.verification import like

__all__ = ["Cost", "run", "summary"]

DEZERO = "dezero.optimizers"
# The optimizers of the books, by which a program's module is found that wasn't named.
BOOK = ("SGD", "Momentum", "Nesterov", "AdaGrad", "RMSprop", "Adam")


@dataclass
class Cost:
    """The seconds of a rule's steps, and those of plain NumPy at some of the steps, on copies."""

    steps: list[float] = field(default_factory=list)
    plain: list[float] = field(default_factory=list)


def rule_of(kind: type[Optimizer]) -> str:
    """Return the name of the rule that a class is, or, if it is an adapter's, has."""
    names = [cls.__name__ for cls in kind.__mro__ if cls is getattr(optimizers, cls.__name__, 0)]
    return names[0] if names else kind.__name__


def plain(optimizer: Optimizer, params: Any, grads: Any, turns: int = 3) -> list[float]:
    """Return the seconds of some steps of plain NumPy on copies, with the same hyperparameters."""
    naive = like(optimizer, getattr(reference, rule_of(type(optimizer))))
    keys, values, grad_list = match_grads(params, grads)
    copies = {key: np.array(value) for key, value in zip(keys, values, strict=True)}
    seconds = []
    for _ in range(1 + turns):
        start = perf_counter()
        naive.update(copies, dict(zip(keys, grad_list, strict=True)))
        seconds.append(perf_counter() - start)
    return seconds[1:]  # the first makes the state


def meter(costs: dict[str, Cost]) -> None:
    """Measure the steps of every optimizer of fastopt."""
    update = Optimizer.update
    names: dict[type[Optimizer], str] = {}  # as finding one takes longer than most steps

    @wraps(update)
    def step(self: Optimizer, params: Any, grads: Any) -> bool:
        start = perf_counter()
        taken = update(self, params, grads)
        seconds = perf_counter() - start
        rule = names.get(type(self)) or names.setdefault(type(self), rule_of(type(self)))
        cost = costs.get(rule) or costs.setdefault(rule, Cost())
        cost.steps.append(seconds)
        n = len(cost.steps)
        if n > 1 and n & (n - 1) == 0 and rule in optimizers.RULES:  # at steps 2, 4, 8, ...
            with np.errstate(all="ignore"):
                cost.plain += plain(self, params, grads)
        return taken

    Optimizer.update = step  # type: ignore[method-assign, assignment]


def summary(costs: Mapping[str, Cost], seconds: float) -> str:
    """Return the table of what the steps of each rule cost in a script that took some seconds."""
    rows, verdicts = [], []
    ours = theirs = 0.0
    for rule, cost in costs.items():
        step, total = median(cost.steps[1:] or cost.steps), sum(cost.steps)
        row = [rule, f"{len(cost.steps):,}", f"{cost.steps[0]:.3f}", f"{1e6 * step:,.1f}", f"{total:.3f}"]
        if cost.plain:
            naive = median(cost.plain)
            ours, theirs = ours + total, theirs + naive * len(cost.steps)
            row += [f"{1e6 * naive:,.1f}", f"{naive * len(cost.steps):.3f}"]
            paid = f"after about {(cost.steps[0] - step) / (naive - step):,.0f} steps" if naive > step else ""
            verdicts.append(f"{rule} {paid or 'never'}")
        rows.append([*row, "", ""][:7])
    header = (
        "rule", "steps", "first step,\ns", "a step,\nµs", "all steps,\ns", "a step in\nplain NumPy, µs",
        "all steps in\nplain NumPy, s",
    )  # fmt: skip
    lines = [f"fastopt: the script took {seconds:.2f} s, in which\n", table(header, rows), ""]
    if theirs:
        kind = "faster" if ours < theirs else "slower"
        gain = f"{abs(theirs - ours):.3f} s {kind}"
        lines.append(f"Over all fastopt was {gain} than plain NumPy by fastopt.reference.")
        lines.append(f"The first step pays back: {', '.join(verdicts)}.")
    lines.append(
        "A rule that isn't compiled takes its first steps in NumPy, while another process compiles it."
    )
    return "\n".join(lines)


def own_frames(traceback: TracebackType | None) -> TracebackType | None:
    """Return a traceback without the frames of fastopt's importer, of this file, and of Python's own."""
    if traceback is None:
        return None
    rest = own_frames(traceback.tb_next)
    file = traceback.tb_frame.f_code.co_filename
    if file in (__file__, substitutes.__file__, runpy.__file__) or file.startswith("<frozen "):
        return rest
    traceback.tb_next = rest
    return traceback


def position(traceback: TracebackType | None, script: Path) -> str:
    """Return the line of the script in which an error was raised, or in what the line has called."""
    file = str(script.absolute())
    lines = [number for frame, number in walk_tb(traceback) if frame.f_code.co_filename == file]
    return f"{script.name}, line {lines[-1]}" if lines else script.name


def own_modules() -> list[str]:
    """Return the names of imported modules that define optimizers in the book's form."""
    return [
        name
        for name, module in [*sys.modules.items()]
        if not name.startswith("fastopt.")
        and any(
            isinstance(cls := getattr(module, "__dict__", {}).get(rule), type)
            and cls.__module__ == name
            and hasattr(cls, "update")
            for rule in BOOK
        )
    ]


def no_step(script: Path, module: str, imported: Collection[str], prog: str) -> str:
    """Return why a script took no step of an optimizer of fastopt, and what to write.

    Parameters
    ----------
    script : Path
        The script.
    module : str
        The module whose optimizers fastopt replaces.
    imported : collection of str
        The modules with fastopt's optimizers that the script has imported.
    prog : str
        How this command was called, such as ``fastopt run``.
    """
    if imported:
        name = " and ".join(sorted(imported))
        return (
            f"{script.name} took no step of an optimizer of fastopt, though it imported {name}, which is "
            "fastopt here; call update(params, grads) of an optimizer from there, or name another module "
            "with --module"
        )
    others = own_modules()
    option = "--dezero" if DEZERO in others else f"--module {others[0] if others else 'NAME'}"
    return (
        f"{script.name} took no step of an optimizer of fastopt, as it imported no module {module}; name the "
        f"module of its optimizers, as in {prog} {option} {script.name}"
    )


def run(script: Path, arguments: Sequence[str], module: str, dezero: bool, prog: str) -> int:
    """Run a script as Python does, print the summary to stderr, and return the exit code.

    The process is the script's from here. In the module of this name, and with ``dezero`` in
    ``dezero.optimizers``, the classes that fastopt has are fastopt's.

    Raises
    ------
    KeyboardInterrupt
        If Ctrl-C ended the script, unless it has an excepthook of its own. The message has the line.
    """
    modules = {module: "fastopt.optimizers"}
    if dezero or module == DEZERO:
        modules[DEZERO] = "fastopt.adapters.dezero"
    importer = Substitutes(modules)
    sys.meta_path.insert(0, importer)
    sys.meta_path.append(Parents([module]))
    sys.argv[:] = [str(script), *arguments]
    if not sys.flags.safe_path:
        sys.path[0] = str(script.resolve().parent)
    costs: dict[str, Cost] = {}
    meter(costs)
    failure: BaseException | None = None
    start = perf_counter()
    try:
        runpy.run_path(str(script.absolute()), run_name="__main__")
    except (Exception, KeyboardInterrupt) as error:
        failure = error
    finally:  # also at sys.exit
        seconds = perf_counter() - start
        if costs and sys.stderr is not None and not sys.stderr.closed:
            print(f"\n{summary(costs, seconds)}", file=sys.stderr)
    if isinstance(failure, ImportError) and failure.name == "cupy" and (message := gpu_message(module)):
        print(message, file=sys.stderr)
        return 1
    if isinstance(failure, KeyboardInterrupt) and sys.excepthook is sys.__excepthook__:
        raise KeyboardInterrupt(position(failure.__traceback__, script)) from None
    if failure is not None:
        if isinstance(failure, ImportError) and failure.name in modules:
            there = import_module(modules[failure.name]).__all__
            failure.add_note(f"{failure.name} is fastopt here, which has {', '.join(there)}")
        failure = failure.with_traceback(own_frames(failure.__traceback__))
        sys.excepthook(type(failure), failure, failure.__traceback__)
        return 130 if isinstance(failure, KeyboardInterrupt) else 1
    if not costs:
        print(f"\nfastopt: {no_step(script, module, importer.imported, prog)}", file=sys.stderr)
    return 0
