"""The ways from one value to another: a straight line, and half a wave of the cosine."""

from collections.abc import Callable
from math import cos, pi

__all__ = ["SHAPES", "line", "wave"]


def line(start: float, end: float, share: float) -> float:
    """Return the value after a share of the way from start to end in a straight line."""
    return end + (start - end) * (1 - share)


def wave(start: float, end: float, share: float) -> float:
    """Return the value after a share of the way from start to end along half a wave of the cosine."""
    return end + (start - end) * (1 + cos(pi * share)) / 2


SHAPES: dict[str, Callable[[float, float, float], float]] = {"linear": line, "cosine": wave}
