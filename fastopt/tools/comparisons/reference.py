"""Rules beside their reference in plain NumPy, by dtype and layout: ``verify --against reference``."""

import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fastopt import optimizers
from fastopt.arrays.packing import pack
from fastopt.tools.precompilation import compile_first
from fastopt.tools.registry import takes
from fastopt.tools.report import paragraph, table
from fastopt.tools.verification import verify

__all__ = ["LAYOUTS", "largest", "summary"]


def strided(array: np.ndarray) -> np.ndarray:
    """Return a copy whose elements lie apart."""
    return np.repeat(array[..., None], 2, -1)[..., 0]


LAYOUTS: dict[str, Callable[[dict[str, np.ndarray]], Any]] = {
    "C": dict,
    "Fortran": lambda params: {key: np.asfortranarray(p) for key, p in params.items()},
    "strided": lambda params: {key: strided(p) for key, p in params.items()},
    "list": lambda params: list(params.values()),
    "packed": pack,
}

# With the second array threads pay, so that they are used where there are several.
SHAPES = {"W": (37, 50), "large": (600, 100), "b": (50,), "scalar": (), "empty": (0,)}


def largest(rule: str, dtype: str, layout: str) -> int:
    """Return the largest difference after 20 steps of a rule, in units in the last place."""
    rng = np.random.default_rng(0)
    cls = getattr(optimizers, rule)
    shapes = {key: shape for key, shape in SHAPES.items() if takes(cls, len(shape))}
    start = {key: np.asarray(rng.standard_normal(shape), dtype) for key, shape in shapes.items()}
    params = LAYOUTS[layout](start)
    gradients = {key: rng.standard_normal((20, *shape)).astype(dtype) for key, shape in shapes.items()}
    steps = iter(range(20))

    def grads(params: Any) -> Any:
        t = next(steps)
        given = LAYOUTS[layout]({key: np.asarray(g[t]) for key, g in gradients.items()})
        if layout == "packed":
            given.layout = params.layout
        return given

    found = verify(cls(), params, grads)
    return max(max(difference.values()) for difference in found.values())


def summary(rules: Sequence[str]) -> tuple[str, bool]:
    """Return the table, and whether all bits are the same. Prints each rule, as it is compiled."""
    cases = [(dtype, layout) for dtype in ("float32", "float64") for layout in LAYOUTS]
    rows = []
    try:
        for rule in rules:
            print(rule, end=" ", file=sys.stderr, flush=True)
            compile_first([rule], ["float32", "float64"])
            rows.append([rule, *(str(largest(rule, *case)) for case in cases)])
    finally:  # also at Ctrl-C
        print(file=sys.stderr)
    same = all(cell == "0" for row in rows for cell in row[1:])
    text = table(["rule", *(f"{dtype}\n{layout}" for dtype, layout in cases)], rows)
    verdict = "the same bits throughout" if same else "NOT the same bits"
    verdict = paragraph(f"{verdict} (differences after 20 steps, in units in the last place)")
    return f"{text}\n\n{verdict}", same
