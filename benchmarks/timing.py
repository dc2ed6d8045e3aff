"""Timings of several candidates in turn."""

from collections.abc import Callable, Sequence
from statistics import median
from time import perf_counter
from typing import Any

__all__ = ["in_turn"]


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
