"""What `SOAP` does between its two passes: changes of basis, with Adam's step between them.

Decompositions aren't C functions, so they can't run within the chain of a step. They are computed while the
chain is made, from the state before the step alone. So SOAP renews its bases at the start of a step, its
authors at the end of the step before, with the same result.
"""

from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from operator import setitem

import numpy as np

from fastopt.engine.segment import Calls, Segment

__all__ = ["TurnedStep"]


class TurnedStep:
    """The step of one array.

    Parameters
    ----------
    segment : Segment
        The arrays of the step, with the scalars that it takes.
    i : int
        The position of the array in it.
    work : sequence of arrays
        u, which is the gradient and becomes the direction, and the new m and v, as matrices.
    """

    def __init__(self, segment: Segment, i: int, work: Sequence[np.ndarray]) -> None:
        entry = segment.entries[i]
        self.u, self.m_new, self.v_new = work
        buffers = segment.memory.buffers[entry.slot.dtype]
        states = [slot.view(buffer) for slot, buffer in zip(entry.states, buffers, strict=True)]
        self.m, self.v = (state.reshape(self.u.shape) for state in states[:2])
        self.averages, self.bases = states[2:4], states[4:6]  # of the rows, and of the columns
        self.scalars = segment.scalars_of(entry)[0].tolist()[3:]
        ends = np.cumsum([0, *(state.size for state in states[2:6])]).tolist()
        rooms = [segment.statistics[i][a:b] for a, b in pairwise(ends)]
        self.rooms = [room.reshape(state.shape) for room, state in zip(rooms, states[2:6], strict=True)]
        if i not in segment.scratch:
            like = [np.empty_like(self.u) for _ in range(3)]
            segment.scratch[i] = like, [np.empty_like(average) for average in self.averages]
        (self.half, self.turned, self.other), self.squares = segment.scratch[i]

    def calls(self, n_steps: int, frequency: int) -> Calls:
        """Return the C calls of a step, given how many the parameter has taken, and the frequency."""
        one_minus_beta1, one_minus_beta2, one_minus_beta3, _, eps = self.scalars
        calls = self.average_calls(one_minus_beta3)
        if n_steps:
            bases, m, v = self.renewed(n_steps, frequency)
            g, calls_in = self.into(self.u, bases, self.turned)
            x, out = self.other, self.m_new
            calls += [
                *calls_in,
                partial(np.subtract, g, m, x),
                partial(np.multiply, x, one_minus_beta1, x),
                partial(np.add, m, x, self.m_new),
                partial(np.multiply, g, g, x),
                partial(np.subtract, x, v, x),
                partial(np.multiply, x, one_minus_beta2, x),
                partial(np.add, v, x, self.v_new),
                partial(np.sqrt, self.v_new, x),
                partial(np.add, x, eps, x),
                partial(np.divide, out, x, x),
            ]
            direction, calls_back = self.back(x, bases, self.turned)
            calls += [*calls_back, partial(setitem, self.u, ..., direction)]
        else:
            bases = self.bases
            for new, old in ((self.u, 0), (self.m_new, self.m), (self.v_new, self.v)):
                calls.append(partial(setitem, new, ..., old))
        for room, q in zip(self.rooms[2:], bases, strict=True):
            calls.append(partial(setitem, room, ..., q))
        return calls

    def average_calls(self, weight: float) -> Calls:
        """Return the calls that average g·gᵀ and gᵀ·g."""
        calls: Calls = []
        for k, (average, x) in enumerate(zip(self.averages, self.squares, strict=True)):
            if average.size:
                first, second = (self.u, self.u.T) if k == 0 else (self.u.T, self.u)
                calls += [
                    partial(np.matmul, first, second, x),
                    partial(np.subtract, x, average, x),
                    partial(np.multiply, x, weight, x),
                    partial(np.add, average, x, x),
                    partial(setitem, self.rooms[k], ..., x),
                ]
        return calls

    def into(
        self, x: np.ndarray, bases: Sequence[np.ndarray], result: np.ndarray
    ) -> tuple[np.ndarray, Calls]:
        """Return Qₗᵀ·x·Qᵣ, and the calls that compute it."""
        left, right = bases
        return product(x, left.T, right, self.half, result)

    def back(
        self, x: np.ndarray, bases: Sequence[np.ndarray], result: np.ndarray
    ) -> tuple[np.ndarray, Calls]:
        """Return Qₗ·x·Qᵣᵀ, and the calls that compute it."""
        left, right = bases
        return product(x, left, right.T, self.half, result)

    def renewed(self, n_steps: int, frequency: int) -> tuple[Sequence[np.ndarray], np.ndarray, np.ndarray]:
        """Return the bases of the step, and m and v in these."""
        if n_steps == 1:
            return [eigenvectors(average) for average in self.averages], self.m, self.v
        if (n_steps - 1) % frequency:
            return self.bases, self.m, self.v
        found = [improved(average, q) for average, q in zip(self.averages, self.bases, strict=True)]
        bases, (rows, columns) = [q for q, _ in found], [order for _, order in found]
        with np.errstate(all="ignore"):
            straight, calls = self.back(self.m, self.bases, np.empty_like(self.m))
            for call in calls:
                call()
            m, calls = self.into(np.array(straight), bases, np.empty_like(self.m))
            for call in calls:
                call()
        v = self.v[rows] if rows.size else self.v
        return bases, m, v[:, columns] if columns.size else v


def product(
    x: np.ndarray, left: np.ndarray, right: np.ndarray, half: np.ndarray, result: np.ndarray
) -> tuple[np.ndarray, Calls]:
    """Return left·x·right and the calls that compute it; a side without elements is left out."""
    calls: Calls = []
    if left.size:
        target = half if right.size else result
        calls.append(partial(np.matmul, left, x, target))
        x = target
    if right.size:
        calls.append(partial(np.matmul, x, right, result))
        x = result
    return x, calls


def eigenvectors(x: np.ndarray) -> np.ndarray:
    """Return the eigenvectors of a symmetric matrix, those of the largest eigenvalues first."""
    if not np.isfinite(x).all() or not x.size:
        return np.full_like(x, np.nan)
    _, vectors = np.linalg.eigh(x.astype(np.float64))
    return np.array(vectors[:, ::-1], x.dtype, order="C")


def improved(x: np.ndarray, q: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return better eigenvectors by a step of power iteration, and the order of the old ones in it."""
    if not x.size:
        return q, np.arange(0)
    if not (np.isfinite(x).all() and np.isfinite(q).all()):
        return np.full_like(q, np.nan), np.arange(len(q))
    product = x @ q
    order = np.argsort(-np.sum(q * product, axis=0), kind="stable")
    return np.array(np.linalg.qr(product[:, order])[0], order="C"), order
