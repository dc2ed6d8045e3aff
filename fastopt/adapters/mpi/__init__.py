"""Training in several processes, also on several machines, by MPI: each holds a shard of the state."""

from fastopt.adapters.mpi.consensus import MPI, abort_on_error
from fastopt.adapters.mpi.parallel import DataParallel

__all__ = ["MPI", "DataParallel", "abort_on_error"]
