"""Communicators: one duplicate of each that is trained on, and the end of the program."""

import atexit
import os
from typing import Any

from fastopt.adapters.mpi.consensus import MPI, Consensus

__all__ = ["Shared", "shared"]

# Where a communicator has its duplicate.
KEY = MPI.Comm.Create_keyval()


class Shared:
    """The duplicate of a communicator, for the messages of all that train on it.

    Parameters
    ----------
    origin : mpi4py.MPI.Comm
        The communicator.
    """

    def __init__(self, origin: Any) -> None:
        self.origin, self.comm, self.n_users = origin, origin.Dup(), 0

    def release(self) -> None:
        """Free the duplicate if nobody uses it any more; all ranks do this together."""
        self.n_users -= 1
        if not self.n_users:
            alive.remove(self)
            self.origin.Delete_attr(KEY)
            self.comm.Free()


alive: list[Shared] = []


def shared(comm: Any) -> Shared:
    """Return the duplicate of a communicator, which is made if there is none yet."""
    found: Shared | None = comm.Get_attr(KEY)
    if found is None:
        found = Shared(comm)
        comm.Set_attr(KEY, found)
        alive.append(found)
    found.n_users += 1
    return found


@atexit.register
def end(process: int = os.getpid()) -> None:
    """Tell ranks that wait for this one that its program has ended, instead of letting them wait."""
    if os.getpid() != process or MPI.Is_finalized():
        return
    for one in alive:
        while not has_ended(one.comm):
            pass


def has_ended(comm: Any) -> bool:
    """Whether all ranks have come to the end; those that haven't raise an error."""
    try:
        Consensus(comm).agree_on_call("the end of the program")
    except ValueError:
        return False
    return True
