"""Training in several processes, also on several machines, by MPI: each holds its share of the state."""

from fastopt.adapters.mpi.agreement import MPI, committed
from fastopt.adapters.mpi.parallel import DataParallel

__all__ = ["MPI", "DataParallel", "committed"]
