"""Denormals: numbers so near 0 that processors take up to a hundred times as long for them."""

from dataclasses import dataclass

from fastopt.checks import choice

__all__ = ["DenormalFields"]


@dataclass(init=False, repr=False, eq=False, kw_only=True)
class DenormalFields:
    """The field of this option.

    Parameters
    ----------
    denormals : {"keep", "flush"}, default "keep"
        What the rule and the averages compute with numbers below 1.2e-38 (float32) or 2.2e-308 (float64) in
        magnitude, into which the moments of a parameter decay whose gradient stays 0. "keep" has NumPy's
        bits. "flush" takes them for 0 within the step, so that they don't slow it down; it needs compiled
        code from the first step on, for which that waits.
    """

    denormals: str = choice("keep", "keep", "flush")
