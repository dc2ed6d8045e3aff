"""Training in several processes, also on several machines, by MPI: each holds a shard of the state.

`DataParallel` gets each rank the mean of its shard of the gradients, and lets the caller's own optimizer
step on that shard: a dict of slices of arrays, or of whole arrays. So state, counters, options and
checkpoints are the core's, and nothing in the core knows MPI. Groups are chosen by whole arrays, on each
rank alike. A `Partition` is no `Optimizer` and is refused.

A step is: agree (`agreement`), exchange gradients (`exchange`), update (`rank_step`), gather parameters
(`exchange`); `global_step` has this order. What more ranks cost is in ``benchmarks/distributed.py``.
"""

from fastopt.adapters.mpi.consensus import MPI, abort_on_error
from fastopt.adapters.mpi.parallel import DataParallel

__all__ = ["MPI", "DataParallel", "abort_on_error"]
