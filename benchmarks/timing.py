"""Steps timed in turn in one process, for asv, whose `track_` benchmarks read the times, and for the scripts.

A benchmark that asv times itself is alone in its process, and so beside another state of the machine than
what it is to be compared with. asv keeps what `setup_cache` returns by the line of the source at which that
is defined, so that each class has one of its own.
"""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import product
from math import nan
from statistics import median
from time import perf_counter
from typing import Any

__all__ = ["IS_ALL", "IS_QUICK", "Step", "Times", "in_turn", "print_ratios", "read", "timed", "warmed"]

Step = Callable[[], Any]
Times = Mapping[tuple[Any, ...], float]

# FASTOPT_BENCH=all takes every rule and size, which is hours; quick only looks whether everything runs.
MODE = os.environ.get("FASTOPT_BENCH", "some")
IS_ALL, IS_QUICK = MODE == "all", MODE == "quick"
N_BLOCKS, BLOCK_SECONDS = (1, 1e-4) if IS_QUICK else (11, 0.01)


def warmed(make: Callable[[], Step]) -> Step:
    """Return a step that has been taken some times; NotImplementedError if its library isn't there."""
    try:
        step = make()
    except ImportError as error:
        raise NotImplementedError(f"this needs {error.name}") from None
    for _ in range(3):
        step()
    return step


def in_turn(calls: Sequence[Step], n: int | Sequence[int], n_blocks: int) -> list[float]:
    """Return the time of each call in µs: medians of blocks of n calls, taken in turn."""
    times: list[list[float]] = [[] for _ in calls]
    numbers = [n] * len(calls) if isinstance(n, int) else n
    for _ in range(n_blocks):
        for call, seconds, number in zip(calls, times, numbers, strict=True):
            start = perf_counter()
            for _ in range(number):
                call()
            seconds.append((perf_counter() - start) / number * 1e6)
    return [*map(median, times)]


def timed(make: Callable[..., Step], axes: Sequence[Iterable[Any]], cycle: int = 1) -> dict[Any, float]:
    """Time steps, those that differ in the last axis in turn.

    Parameters
    ----------
    make : callable
        Returns a step, given a value of each axis, or raises ImportError or NotImplementedError, if there is
        none.
    axes : sequence of iterables
        As asv's ``params``.
    cycle : int
        A block is a multiple of so many steps, of which some do more than the others.

    Returns
    -------
    dict
        The µs of a step by its values of the axes.
    """
    *outer, last = axes
    found: dict[Any, float] = {}
    for case in product(*outer):
        steps = {}
        for by in last:
            try:
                steps[by] = warmed(lambda case=case, by=by: make(*case, by))
            except NotImplementedError:
                continue
        about = in_turn([*steps.values()], cycle, 1)
        numbers = [max(1, round(BLOCK_SECONDS * 1e6 / (one * cycle))) * cycle for one in about]
        times = in_turn([*steps.values()], numbers, N_BLOCKS)
        found |= {(*case, by): one for by, one in zip(steps, times, strict=True)}
    return found


def read(times: Times, *case: Any) -> float:
    """Return what was measured of a case, in four digits; asv shows NaN as not available."""
    return float(f"{times.get(case, nan):.4g}")


def print_ratios(make: Callable[..., Step], axes: Sequence[Iterable[Any]], cycle: int = 1) -> None:
    """Print the times of each case, and how many times faster the last value of the last axis is."""
    *outer, last = [[*axis] for axis in axes]
    for case in product(*outer):
        times = timed(make, [*([one] for one in case), last], cycle)
        shown = [f"{by} {times[*case, by]:.1f} µs" for by in last if (*case, by) in times]
        if len(shown) == len(last):
            shown.append(f"{times[*case, last[0]] / times[*case, last[-1]]:.2f}×")
        print(f"{', '.join(map(str, case))}: {', '.join(shown) or 'not available here'}", flush=True)
