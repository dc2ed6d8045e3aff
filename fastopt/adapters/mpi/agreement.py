"""That all ranks do the same: what one can't do is raised on all."""

import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

try:
    from mpi4py import MPI
    from mpi4py.util import pkl5
except ImportError as error:
    raise ModuleNotFoundError(
        f'this needs mpi4py and an MPI ({error}): python -m pip install "fastopt[mpi]", '
        "and mpich if the machine has no MPI",
        name="mpi4py",
    ) from error
except RuntimeError as error:  # mpi4py without an MPI
    raise ModuleNotFoundError(
        f"this needs an MPI ({str(error).splitlines()[0]}): python -m pip install mpich", name="mpi4py"
    ) from None

__all__ = ["MPI", "Agreement", "committed"]

# What a rank can fail with before a step, so that all raise it.
ERRORS = (
    *(KeyError, TypeError, FloatingPointError, MemoryError, ValueError),
    *(FileNotFoundError, FileExistsError, IsADirectoryError, NotADirectoryError, PermissionError, OSError),
)


@contextmanager
def committed(comm: Any) -> Iterator[None]:
    """End all processes if something fails that can't be taken back: the others would wait forever."""
    try:
        yield
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        comm.Abort(1)
        raise


class Agreement:
    """The ranks of a communicator, which go on only together.

    Parameters
    ----------
    comm : mpi4py.MPI.Comm
        The processes.
    """

    def __init__(self, comm: Any) -> None:
        self.comm = comm

    def on(
        self,
        action: Callable[[], Any],
        number: Callable[[], int] = lambda: 0,
        details: Callable[[], dict[str, Any]] = dict,
    ) -> bool:
        """Do something on each rank, and tell all whether it gave something true on any.

        Parameters
        ----------
        action : callable
            What to do.
        number : callable
            Gives a number afterwards that has to be the same on all ranks.
        details : callable
            Gives a dict of what the number stands for.

        Raises
        ------
        KeyError, TypeError, FloatingPointError, MemoryError, OSError, ValueError, RuntimeError
            On all ranks, the first rank's that failed; or ValueError if the numbers differ.
        """
        comm, error, flag = self.comm, None, False
        try:
            flag = bool(action())
        except Exception as caught:
            error = caught
        result = np.array([error is not None, flag, number(), -number()], np.int64)
        with committed(comm):
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
        for rank, (_, theirs) in enumerate(everyone):
            for name in [*first, *theirs]:
                if theirs.get(name) != first.get(name):
                    raise ValueError(
                        f"{name} must be the same on all ranks, but is {theirs.get(name, 'missing')} on rank "
                        f"{rank}, {first.get(name, 'missing')} on rank 0"
                    )
        raise ValueError("the ranks are about to take different steps")

    def anywhere(self, here: bool) -> bool:
        """Whether something is so on any rank."""
        return self.on(lambda: here)

    def collect(self, own: Any) -> list[Any]:
        """Give rank 0 what each rank has; the others nothing."""
        messages = pkl5.Intracomm(self.comm)  # of any size
        if self.comm.rank:
            messages.send(own, 0)
            return []
        return [own, *(messages.recv(source=rank) for rank in range(1, self.comm.size))]
