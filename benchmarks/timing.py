"""Timings of several candidates in turn."""

from collections.abc import Callable, Sequence
from statistics import median
from time import perf_counter
from typing import Any

__all__ = ["Step", "in_turn", "warmed"]

Step = Callable[[], Any]


def warmed(make: Callable[[], Step]) -> Step:
    """Return a step that has been taken some times; asv leaves out those whose library isn't there."""
    try:
        step = make()
    except ImportError as error:
        raise NotImplementedError(f"this needs {error.name}") from None
    for _ in range(3):
        step()
    return step


def in_turn(calls: Sequence[Callable[[], Any]], n: int, n_blocks: int) -> list[float]:
    """Return the time of each call in µs: medians of blocks of n calls, taken in turn."""
    times: list[list[float]] = [[] for _ in calls]
    for _ in range(n_blocks):
        for call, seconds in zip(calls, times, strict=True):
            start = perf_counter()
            for _ in range(n):
                call()
            seconds.append((perf_counter() - start) / n * 1e6)
    return [*map(median, times)]
