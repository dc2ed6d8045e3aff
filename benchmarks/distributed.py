"""What a data-parallel step costs: ``mpiexec -n 2 python -m mpi4py benchmarks/distributed.py``.

Adam in float32 on packed parameters, one thread a rank; everything in turn, medians. Beside it: the same by
one rank alone, and the naive way, `Allreduce` of each array and the whole update on every rank. From the
figures follows what more ranks would cost on a network. It is no benchmark of asv's, which knows no mpiexec.

Measured at commit 9d3eba2 on one machine (MPICH 5.0.2), two ranks, 10,000,000 parameters in 20 arrays, five
runs. A step takes 13.9 to 17.2 ms: exchange of gradients with the mean 6.0 to 7.1, update 4.2 to 5.4 (one
rank's whole update 8.0 to 10.9), gathering 2.6 to 3.3. The naive way takes 26.3 to 43.8 ms. State: 40 of 80
MB a rank. Not packed, a step takes 28.5 to 32.3 ms, no less than the naive way.

What more ranks cost, computed, not measured: each of N ranks sends 2·(N−1)/N of the bytes of the parameters,
half for the exchange, half for gathering. That is as much as one Allreduce, and almost the same for 8 ranks
as for 512. Update and state fall as 1/N. Latency is N−1 messages a bucket for the exchange, N−1 more by a
ring for gathering or log₂N by trees, and 2·log₂N for the agreement. A message has at least 16,000 elements,
which take longer on the wire (51 µs as float32 on 10 Gbit/s) than their latency, so that the next bucket's
is hidden. The 10,000,000 parameters take 56 ms at 8 ranks and 63.9 ms at 512 on 10 Gbit/s, a tenth on 100
Gbit/s.

So data parallelism is faster as long as computing a rank's gradient takes longer than the wire. Sharding the
update saves at most (1 − 1/N)·8.2 ms of that, and memory. Next would come reducing within a machine first,
gradients in half precision, overlap with backpropagation, and sharded gradients and parameters (ZeRO 2 and
3), which need the network to know.
"""

import argparse
import os
from collections.abc import Callable
from math import log2
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np

# Seconds that a message takes on its way, and bytes a second, as they are usual. Not measured.
NETWORKS = {"10 Gbit/s Ethernet": (30e-6, 10e9 / 8), "100 Gbit/s InfiniBand": (2e-6, 100e9 / 8)}


def main() -> None:
    """Measure, and print on rank 0."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--size", type=int, default=10_000_000, help="parameters")
    parser.add_argument("--arrays", type=int, default=20, help="equal arrays that these are in")
    parser.add_argument("--turns", type=int, default=15)
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"

    from mpi4py import MPI

    import fastopt
    from fastopt.adapters.mpi import DataParallel
    from fastopt.adapters.mpi.consensus import Consensus

    comm = MPI.COMM_WORLD
    rng = np.random.default_rng(0)
    shape = (options.size // options.arrays,)
    arrays = {f"W{i}": rng.standard_normal(shape, "float32") for i in range(options.arrays)}
    params, grads = fastopt.pack(arrays), fastopt.pack(arrays)
    loose = {key: array.copy() for key, array in arrays.items()}

    class Timed(fastopt.Adam):
        """A rule that notes how long its steps take."""

        spent = 0.0

        def take(self, step: Any) -> bool:
            start = perf_counter()
            done = super().take(step)
            Timed.spent += perf_counter() - start
            return done

    alone, naive = fastopt.Adam(threads=1), fastopt.Adam(threads=1)
    ours, unpacked = DataParallel(Timed(threads=1)), DataParallel(fastopt.Adam(threads=1))
    ours.update(params, grads)
    sharding, exchange = ours.distribution.sharding, ours.distribution.exchange

    def one_rank() -> None:
        if comm.rank == 0:
            alone.update(params, grads)

    def reduce() -> None:
        for _ in exchange.reduce(grads.buffers):
            pass

    def gather() -> None:
        for_buckets = (exchange.gather(bucket, params.buffers) for bucket in sharding.buckets)
        MPI.Request.Waitall([request for requests in for_buckets for request in requests])

    consensus = Consensus(comm)
    sums = {key: np.empty_like(array) for key, array in arrays.items()}

    def allreduce() -> None:
        for key, array in arrays.items():
            comm.Allreduce(array, sums[key])
            sums[key] /= comm.size
        naive.update(loose, sums)

    works: dict[str, Callable[[], object]] = {
        "update, one rank alone, one thread": one_rank,
        "exchange of gradients, and mean": reduce,
        "allgather": gather,
        "whole step": lambda: ours.update(params, grads),
        "whole step, not packed": lambda: unpacked.update(loose, arrays),
        "naive step: allreduce of each array, whole update": allreduce,
        "consensus (allreduce of 32 bytes)": lambda: consensus.is_any(False),
    }
    times: dict[str, list[float]] = {name: [] for name in works}
    shared = times["update, each rank its shard, within the whole step"] = []
    for turn in range(options.turns + 2):
        for name, work in works.items():
            comm.Barrier()
            start, Timed.spent = perf_counter(), 0.0
            work()
            slowest, update = (comm.allreduce(t, MPI.MAX) for t in (perf_counter() - start, Timed.spent))
            if turn >= 2:
                times[name].append(slowest)
                shared += [update] if update else []
    if comm.rank:
        return
    found = {name: median(values) for name, values in times.items()}
    print(f"{comm.size} ranks, {params.buffer.size:,} parameters in {options.arrays} arrays, float32, Adam")
    for name, seconds in found.items():
        print(f"{name:52} {seconds * 1e3:9.3f} ms")
    full, _, _, whole, _, slow, _, shard = found.values()
    own = sum(array.nbytes for state in ours.optimizer.engine.memory.buffers.values() for array in state)
    print(f"\nupdate {full / shard:.2f}× one rank's; step {slow / whole:.2f}× the naive one's")
    print(f"state a rank: {own / 1e6:.1f} of {2 * params.buffer.nbytes / 1e6:.1f} MB\n")

    print(
        f"worked out for {params.buffer.size:,} parameters, from {full / params.buffer.size * 1e9:.2f} ns a"
    )
    print("parameter; the best that a ring can do, without overlap: update / N + 2·(N−1)/N·bytes / bandwidth")
    print("+ (2·(N−1) + 2·log₂N)·latency; and the same with trees, 4·log₂N latencies")
    for network, (latency, bandwidth) in NETWORKS.items():
        for ranks in (2, 8, 64, 512):
            wire = 2 * (ranks - 1) / ranks * params.buffer.nbytes / bandwidth
            ring, trees = (2 * (ranks - 1) + 2 * log2(ranks)) * latency, 4 * log2(ranks) * latency
            parts = {"update": full / ranks, "wire": wire, "latency": ring, "with trees": trees}
            costs = ", ".join(f"{name} {seconds * 1e3:.3f}" for name, seconds in parts.items())
            print(f"{network:22} {ranks:4} ranks, ms: {costs}")


if __name__ == "__main__":
    main()
