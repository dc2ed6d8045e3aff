"""`warmup`: compilation before the first step."""

import sys
from collections.abc import Iterable
from typing import Any

import numpy as np

from fastopt import optimizers
from fastopt.checks import computed, listed
from fastopt.engine.compiling.background import background
from fastopt.engine.compiling.code import build, compile_mode, find_kept
from fastopt.engine.compiling.folder import files_of, stamps_of
from fastopt.engine.compiling.units import Unit, driver_unit
from fastopt.engine.rules import Rule
from fastopt.optimizer import Optimizer
from fastopt.optimizers.peers import LIBRARIES
from fastopt.options.accumulation import ACCUMULATE, MEAN
from fastopt.options.clipping import CLIP
from fastopt.options.norms import NORMS
from fastopt.tools.registry import class_of

__all__ = ["compile_first", "warmup"]

# The book's six.
BOOK = ("SGD", "Momentum", "Nesterov", "AdaGrad", "RMSprop", "Adam")
DTYPES = ("float32", "float64")

# Options that have kernels of their own, each with its number of states.
OPTIONS: dict[str, list[tuple[Rule, int]]] = {
    "accumulate": [(ACCUMULATE, 1), (MEAN, 1)],
    "clip_norm": [(NORMS[2.0], 0)],
    "clip_norm_each": [(CLIP, 1)],
    "clip_rms": [(CLIP, 1)],
    "clip_value": [(CLIP, 1)],
}


def warmup(
    rules: Iterable[str | type[Optimizer]] | None = None,
    dtypes: Iterable[Any] | None = None,
    *,
    progress: bool = True,
) -> None:
    """Compile rules, so that their first step is compiled code in this and in every later process.

    Parameters
    ----------
    rules : iterable of str or classes, optional
        ``["Adam", fastopt.SGD]``; also the options that have kernels of their own: "clip_norm",
        "clip_norm_each", "clip_rms", "clip_value" and "accumulate"; and the adapters whose libraries have
        rules of their own: "cs231n", "dezero", "nnfs", "numpy_ml" and "sklearn". By default what programs of
        this user have compiled so far, also with other versions; the book's six rules if these are all of it,
        or there is nothing.
    dtypes : iterable, optional
        float32, float64 or both; by default both.
    progress : bool, default True
        Whether to tell on the standard error stream what is being compiled.

    Raises
    ------
    TypeError, ValueError
        If there is no such rule, or a dtype is another. Nothing is compiled then.
    RuntimeError
        If nothing can be compiled: ``FASTOPT_COMPILE`` is "never", or there is no Numba.

    Notes
    -----
    What is compiled lies in the folder that ``FASTOPT_CACHE_DIR`` names, by default one in the user's cache
    (``~/.cache/fastopt`` on Linux). A file that is damaged, or made for another CPU, isn't used, nor is one
    that others may write to, or in such a folder. Where nothing can be kept, each process compiles before its
    first step, with one warning. An interrupt (Ctrl-C) loses no more than what is being compiled.

    Examples
    --------
    >>> import fastopt
    >>> fastopt.warmup(["SGD"], ["float64"], progress=False)
    """
    kinds = [computed("dtypes", dtype) for dtype in listed("dtypes", DTYPES if dtypes is None else dtypes)]
    chosen = used() if rules is None else listed("rules", rules)
    units = dict.fromkeys(unit for name in chosen for kind in kinds for unit in units_of(name, kind))
    if compile_mode() == "never":
        raise RuntimeError('nothing can be compiled: FASTOPT_COMPILE is "never", or Numba is not installed')
    step, left = driver_unit(), [unit for unit in units if find_kept(unit) is None]
    if step in left and len(left) > 1 and background.can_compile(step.prefix):
        # It takes as long as a dozen kernels, which are compiled here meanwhile.
        background.request(step.prefix, step.request, stamps_of(step.prefix))
        left = [*(unit for unit in left if unit is not step), step]
    for number, unit in enumerate(left, 1):
        if progress:
            tell(f"compiling {unit.title} ({number} of {len(left)})")
        build(unit)
    if progress:
        tell("" if left else "all of it is compiled already")


def compile_first(rules: Iterable[Any], dtypes: Iterable[str]) -> None:
    """Compile rules where that can be done, so that what is timed next isn't steps in plain NumPy."""
    if compile_mode() != "never":
        warmup([*rules], [*dtypes], progress=False)


def units_of(name: Any, dtype: str) -> list[Unit]:
    """Return what has to be compiled for a rule or an option."""
    kinds = [np.dtype(dtype)]
    if isinstance(name, str) and name in OPTIONS:
        return [unit for rule, n_states in OPTIONS[name] for unit in rule.units(kinds, n_states)]
    if isinstance(name, str) and name in LIBRARIES:
        return [unit for rule in LIBRARIES[name] for unit in rule.units(kinds)]
    if isinstance(name, str) and name in Optimizer.__dataclass_fields__:
        raise ValueError(f"{name} has no code of its own: it needs none but its rule's")
    try:
        return class_of(name).units(kinds)
    except ValueError as error:
        others = f"the options {', '.join(OPTIONS)}, and the adapters {', '.join(LIBRARIES)}"
        raise ValueError(f"{error}; {others}") from None


def used() -> list[Any]:
    """Return the rules and options that the cache has files of, of whatever version; or the book's."""
    titles = {"-".join(name.split("-")[:2]) for name in files_of("")}

    def is_used(name: Any) -> bool:
        return any(all(unit.title in titles for unit in units_of(name, dtype)[1:-1]) for dtype in DTYPES)

    peers = {rule for rules in LIBRARIES.values() for rule in rules} - {*map(class_of, optimizers.RULES)}
    found = [name for name in (*optimizers.RULES, *OPTIONS, *peers) if is_used(name)]
    # A part of the book's rules may be what an interrupted call has left.
    return found if set(found) - set(BOOK) else list(BOOK)


def tell(line: str) -> None:
    """Write a line in the place of the one before; or, where that can't be done, below it."""
    if sys.stderr.isatty():
        print(f"\r\033[K{line}", end="", file=sys.stderr, flush=True)
    elif line:
        print(line, file=sys.stderr, flush=True)
