"""Each rule beside its equivalent in PyTorch, optax or Keras: ``verify --against frameworks``."""

from collections.abc import Iterable
from typing import NamedTuple

from tqdm import tqdm

from fastopt.tools.benchmarking import NETWORK, Timing, bench
from fastopt.tools.equivalents import LIBRARIES, TOLERANCES, difference, first_library, version_of
from fastopt.tools.report import table

__all__ = ["Comparison", "compare", "summary"]


class Comparison(NamedTuple):
    """A rule and its equivalent: for each dtype the largest relative difference, and the times of a step."""

    rule: str
    library: str
    differences: dict[str, float]
    timings: dict[str, Timing]


def compare(names: Iterable[str], blocks: int = 15) -> list[Comparison]:
    """Compare rules with their equivalents; those that no library has are left out."""
    pairs = [(rule, library) for rule in names if (library := first_library(rule))]
    for name, (packages, *_) in LIBRARIES.items():
        if any(library == name for _, library in pairs) and not version_of(name):
            raise ModuleNotFoundError(f"{name} is not installed", name=packages[0])
    found = []
    for rule, library in tqdm(pairs):
        differences = {dtype: difference(rule, library, dtype) for dtype in TOLERANCES}
        timings = {dtype: bench([NETWORK], [rule], [dtype], blocks)[0] for dtype in TOLERANCES}
        found.append(Comparison(rule, library, differences, timings))
    return found


def summary(comparisons: Iterable[Comparison]) -> tuple[str, bool]:
    """Return the table, and whether all differences are within the tolerances."""
    rows, right = [], True
    for rule, library, differences, timings in comparisons:
        row = [rule, f"{library} {version_of(library)}"]
        for dtype, most in TOLERANCES.items():
            right &= differences[dtype] <= most
            row.append(f"{differences[dtype]:.0e}")
        for timing in timings.values():
            ours, theirs = timing.seconds["fastopt"], timing.seconds[library]
            row += [f"{ours * 1e6:,.0f}", f"{theirs * 1e6:,.0f}", f"{theirs / ours:.1f}×"]
        rows.append(row)
    header = ["rule", "equivalent", *(f"difference,\n{dtype}" for dtype in TOLERANCES)]
    for dtype in TOLERANCES:
        header += [f"fastopt,\nµs,\n{dtype}", "equivalent,\nµs", "times\nfaster"]
    return table(header, rows, left=(0, 1), keys=2), right
