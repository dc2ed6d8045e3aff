"""The step in plain NumPy on small arrays that is like the last one, with as little Python as can be."""

from collections.abc import Callable, Sequence
from functools import partial
from math import isfinite
from operator import attrgetter, is_, is_not
from typing import Any

import numpy as np

from fastopt.engine.compiling.background import background
from fastopt.engine.overlap import are_apart
from fastopt.engine.plain import PlainStep, quick_sum_of_squares
from fastopt.engine.plan import Scalars, run_quietly
from fastopt.engine.segment import Calls

__all__ = ["quick_step"]

# What must be the same of an array if a step is to be like another one.
LOOK = attrgetter("__class__", "dtype", "shape", "strides", "flags.num")


def quick_step(
    plain: PlainStep,
    arrays: list[Any],
    n_arrived: int,
    guard_calls: Callable[[int], Calls],
    count_calls: Calls,
) -> Callable[..., bool | None]:
    """Return the step, as `Plan.drive` is, for arrays that are all in batches.

    Those that are written to own their memory, and the gradients are apart from them.

    Parameters
    ----------
    plain : PlainStep
        What takes other steps of these arrays.
    arrays : list of arrays
        The parameters and the gradients of the first step, and states that are given.
    n_arrived : int
        How much had been compiled when the code was looked for.
    guard_calls : callable
        Returns the C calls that refuse the step if the guard isn't a count.
    count_calls : list of callable
        The C calls that count the step.

    Returns
    -------
    callable
        ``step(params, grads, scalars, count, states)``, states being those that are given, if any are.
    """
    segment, batches, look = plain.segment, plain.batches, background.look
    seen, n_arrays, n_params = [*map(LOOK, arrays)], len(arrays), len(segment.entries)
    copies = [pair for batch in batches for pair in zip(batch.positions, batch.grad_copies, strict=True)]
    flats = [batch.grads for batch in batches]
    # The calls of the last step, and for which parameters, scalars and tapes they are.
    last: tuple[list[Any], Scalars, bytes, list[Any], Calls] = [], (), b"", [], []
    # Whose gradients have been copied: a step of a signal's handler may come in between.
    turn: list[Any] = [None]

    def step(
        params: list[Any], grads: list[Any], scalars: Scalars, count: int, states: Sequence[Any] = ()
    ) -> bool | None:
        nonlocal last
        given, written_to = [*params, *grads, *states], [*params, *states]
        try:
            is_alike = [*map(LOOK, given)] == seen
        except AttributeError:  # of what is no array
            return False
        are_as_many = len(params) == len(grads) == n_params and len({*map(id, given)}) == n_arrays
        if not (is_alike and are_as_many and look() == n_arrived and are_apart(written_to, grads)):
            return False
        known, before, written, tapes, updates = last
        is_new = scalars != before or segment.scalars.tobytes() != written
        if is_new and (len(scalars) != segment.scalars.size or {*map(type, scalars)} != {float}):
            return False
        turn[0] = mine = object()
        with np.errstate(all="ignore"):
            for position, copy in copies:
                copy[...] = grads[position]
            if not isfinite(sum(map(quick_sum_of_squares, flats))):
                return False
            if is_new or not all(map(is_, written_to, known)):
                segment.scalars[:] = scalars
                now = [plain.tapes_of(batch.entries[0]) for batch in batches]  # with these scalars
                if now != tapes or not all(map(is_, written_to, known)):
                    updates = []
                    for number, batch in enumerate(batches):
                        updates += batch.calls(number, params, None, now[number], states)
                last = written_to, scalars, segment.scalars.tobytes(), now, updates
            is_others_turn = partial(next, map(int, map(is_not, turn, [mine])))
            return run_quietly([*guard_calls(count), is_others_turn, *updates, *count_calls])

    return step
