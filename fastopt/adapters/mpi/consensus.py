"""Consensus of the ranks: an action succeeds on all of them, or all raise the same error."""

import sys
import traceback
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from fastopt.engine.threads import available, cores

try:
    from mpi4py import MPI
    from mpi4py.util import pkl5
except ImportError as error:
    raise ModuleNotFoundError(
        f'this needs mpi4py and an MPI ({error}): python -m pip install "fastopt[mpi]", '
        "and mpich if the machine has no MPI",
        name="mpi4py",
    ) from error
except RuntimeError as error:  # mpi4py is there, but no MPI
    raise ModuleNotFoundError(
        f"this needs an MPI ({str(error).splitlines()[0]}): python -m pip install mpich", name="mpi4py"
    ) from None

__all__ = ["MPI", "Consensus", "abort_on_error", "rank_threads"]

# The kinds of errors that are raised on all ranks as what they are on one; others become RuntimeError.
ERRORS = (
    *(KeyError, TypeError, FloatingPointError, MemoryError, ValueError),
    *(FileNotFoundError, FileExistsError, IsADirectoryError, NotADirectoryError, PermissionError, OSError),
)


@contextmanager
def abort_on_error(comm: Any) -> Iterator[None]:
    """End all processes if something fails that can't be undone: the other ranks would wait forever."""
    try:
        yield
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        comm.Abort(1)
        raise


class Consensus:
    """The ranks of a communicator, which continue only together.

    Each call of a method begins with an agreement on what is called, so that ranks whose calls differ don't
    take each other's messages.
    """

    def __init__(self, comm: Any) -> None:
        self.comm = comm

    def run_on_all(
        self,
        action: Callable[[], Any],
        number: Callable[[], int] = lambda: 0,
        details: Callable[[], dict[str, Any]] = dict,
    ) -> bool:
        """Run an action on each rank. Returns whether its result was true on any of them.

        ``number`` returns, after the action, a number that has to be the same on all ranks, and ``details``
        what it stands for. Raises, on all ranks, the error of the first rank that failed, or ValueError if
        the numbers differ.
        """
        comm, error, flag = self.comm, None, False
        try:
            flag = bool(action())
        except Exception as caught:
            error = caught
        result = np.array([error is not None, flag, number(), -number()], dtype=np.int64)
        with abort_on_error(comm):
            comm.Allreduce(MPI.IN_PLACE, result, MPI.MAX)
            if not result[0] and result[2] == -result[3]:
                return bool(result[1])
            failure = None
            if error is not None:
                known = next((kind for kind in ERRORS if isinstance(error, kind)), RuntimeError)
                failure = known, str(error.args[0] if len(error.args) == 1 else error)
            everyone = comm.allgather((failure, details()))
        failures = [(rank, failure) for rank, (failure, _) in enumerate(everyone) if failure]
        if failures:
            rank, (known, message) = failures[0]
            more = f" (and {len(failures) - 1} more)" if len(failures) > 1 else ""
            raise known(f"rank {rank}{more}: {message}") from error
        first = everyone[0][1]
        for rank, (_, other) in enumerate(everyone):
            for name in [*first, *other]:
                if other.get(name) != first.get(name):
                    raise ValueError(
                        f"{name} must be the same on all ranks, but is {other.get(name, 'missing')} on rank "
                        f"{rank}, {first.get(name, 'missing')} on rank 0"
                    )
        raise ValueError("all ranks must take the same step, but their arguments or states differ")

    def agree_on_call(self, call: str, action: Callable[[], Any] = bool, **others: Any) -> None:
        """Run an action on each rank if all are about to make the same call, with the same other values."""
        common = {"the call": call, **others}
        self.run_on_all(action, lambda: zlib.crc32(f"{common}".encode()), lambda: common)

    def gather(self, value: Any) -> list[Any]:
        """Return the values of all ranks on rank 0, an empty list on the other ranks."""
        messages = pkl5.Intracomm(self.comm)  # takes messages of any size
        if self.comm.rank:
            messages.send(value, 0)
            return []
        return [value, *(messages.recv(source=rank) for rank in range(1, self.comm.size))]


def rank_threads(comm: Any) -> int:
    """Return this process's share of the cores that it may run on."""
    mine = cores()
    node = comm.Split_type(MPI.COMM_TYPE_SHARED)
    n_sharing = sum(not mine.isdisjoint(other) for other in node.allgather(mine))
    node.Free()
    return max(1, min(available(), len(mine) // n_sharing))
