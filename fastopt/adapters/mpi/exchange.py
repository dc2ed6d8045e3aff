"""What goes between the ranks in a step: gradients, whose mean each gets of its share, and parameters."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from fastopt.adapters.mpi.agreement import MPI
from fastopt.adapters.mpi.shares import Buffers, Piece, Shares
from fastopt.kernels.sums import mean_of_ranks
from fastopt.plan import aligned_zeros

__all__ = ["Exchange"]

# So many pieces are on their way at a time, so that there is memory for these only.
DEPTH = 2

# So many elements are summed up at a time, which stay in the first cache.
TILE = 512


class Exchange:
    """The messages of a step.

    Every rank sends each of the others its gradients of that one's share, and sums up what it gets in the
    order of the ranks: as many bytes as a reduction takes, but the bits depend on nothing else, and sums in
    double precision take no more of them.

    Parameters
    ----------
    comm : mpi4py.MPI.Comm
        The processes.
    shares : Shares
        What is whose.
    reduce_dtype : dtype, optional
        What to sum in; by default the gradients' dtype.

    Attributes
    ----------
    means : dict of dtype to flat array
        This rank's share of the mean gradients.
    """

    def __init__(self, comm: Any, shares: Shares, reduce_dtype: np.dtype[Any] | None) -> None:
        self.comm, self.shares = comm, shares
        rank = comm.rank
        total = shares.all.runs
        self.means = {dtype: aligned_zeros(run.counts[rank], dtype) for dtype, run in total.items()}
        self._starts = {dtype: run.starts[rank] for dtype, run in total.items()}
        longest = {
            dtype: max(piece.runs[dtype].counts[rank] for piece in shares.pieces if dtype in piece.runs)
            for dtype in total
        }
        self._received = [
            {dtype: np.empty((comm.size - 1) * count, dtype) for dtype, count in longest.items()}
            for _ in shares.pieces[:DEPTH]
        ]
        self._work = {dtype: np.empty(TILE, reduce_dtype or dtype) for dtype in total}

    def own(self, piece: Piece) -> list[np.ndarray]:
        """Give this rank's mean gradients of a piece, flat."""
        return [self._own(dtype, piece) for dtype in piece.runs]

    def reduce(self, slopes: Buffers) -> Iterator[Piece]:
        """Exchange gradients; give each piece when ``means`` has it."""
        pieces = self.shares.pieces
        # The requests keep what is sent, and what comes in, alive.
        sent = [self._send(piece, slopes, k) for k, piece in enumerate(pieces[:DEPTH])]
        for k, piece in enumerate(pieces):
            MPI.Request.Waitall(sent[k])
            self._average(piece, slopes, k)
            if k + DEPTH < len(pieces):
                sent.append(self._send(pieces[k + DEPTH], slopes, k + DEPTH))
            yield piece

    def gather(self, piece: Piece, buffers: Buffers) -> list[Any]:
        """Begin to send each rank's share of a piece of the parameters to all; give the requests."""
        return [
            self.comm.Iallgatherv(MPI.IN_PLACE, [buffers[dtype], (run.counts, run.starts)])
            for dtype, run in piece.runs.items()
        ]

    def _send(self, piece: Piece, slopes: Buffers, k: int) -> list[Any]:
        """Begin to send the other ranks their parts of a piece."""
        rank, requests = self.comm.rank, []
        for dtype, run in piece.runs.items():
            others = [0 if other == rank else count for other, count in enumerate(run.counts)]
            count = run.counts[rank]
            counts = [0 if other == rank else count for other in range(self.comm.size)]
            places = [count * (other - (other > rank)) for other in range(self.comm.size)]
            there = self._received[k % DEPTH][dtype]
            requests.append(
                self.comm.Ialltoallv([slopes[dtype], (others, run.starts)], [there, (counts, places)])
            )
        return requests

    def _average(self, piece: Piece, slopes: Buffers, k: int) -> None:
        """Put the mean of what has come and of this rank's own in its place."""
        rank, others = self.comm.rank, self.comm.size - 1
        for dtype, run in piece.runs.items():
            count = run.counts[rank]
            own = slopes[dtype][run.starts[rank] :][:count]
            there = self._received[k % DEPTH][dtype][: others * count].reshape(others, count)
            mean_of_ranks(own, rank, there, self._work[dtype], self._own(dtype, piece))

    def _own(self, dtype: np.dtype[Any], piece: Piece) -> np.ndarray:
        """Give this rank's mean gradients of one dtype in a piece."""
        run, rank = piece.runs[dtype], self.comm.rank
        return self.means[dtype][run.starts[rank] - self._starts[dtype] :][: run.counts[rank]]
