"""A network learns digits on several processes, each from its part of every batch."""

import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from statistics import median
from time import perf_counter, sleep
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from fastopt.adapters.mpi import MPI, DataParallel, abort_on_error
from fastopt.adapters.mpi.consensus import rank_threads
from fastopt.demo.data import Data
from fastopt.demo.network import MultiLayerNet
from fastopt.demo.settings import SETTINGS
from fastopt.demo.train import make, one_blas_thread
from fastopt.tools.precompilation import compile_first
from fastopt.tools.report import table

__all__ = ["Outcome", "report", "summary", "train"]


class Outcome(NamedTuple):
    """The results of one rule, by one rank alone and by all.

    Final losses, the largest difference between two parameters, accuracy on the test data, bytes of state
    that a rank holds at most, and seconds of a step.
    """

    rule: str
    losses: tuple[float, ...]
    apart: float
    accuracy: float
    state: tuple[int, ...]
    steps: tuple[float, ...]


class TrainingRun:
    """A network that some ranks train."""

    def __init__(
        self, rule: str, sizes: Sequence[int], dtype: str, seed: int, comm: MPI.Comm, threads: int
    ) -> None:
        self.net = MultiLayerNet(sizes, dtype, seed, packed=True)
        optimizer = make(rule)
        optimizer.threads = threads
        self.optimizer = DataParallel(optimizer, comm)
        self.optimizer.broadcast(self.net.params)
        self.comm = comm
        self.steps: list[float] = []

    def train_step(self, x: np.ndarray, t: np.ndarray) -> None:
        """Take a step on one batch, of which this rank has its part."""
        mine = slice(self.comm.rank, None, self.comm.size)
        _, grads = self.net.gradient(x[mine], t[mine])
        for grad in grads.values():
            # The mean of the ranks' means is that of the batch, if each counts by its number of samples.
            grad *= len(t[mine]) * self.comm.size / len(t)
        start = perf_counter()
        self.optimizer.update(self.net.params, grads)
        self.steps.append(perf_counter() - start)

    def state_bytes(self) -> int:
        """Return the number of bytes of state of the rank that holds most."""
        state = self.optimizer.optimizer.state_dict()["state"]
        own = sum(array.nbytes for arrays in state.values() for array in (arrays or {}).values())
        return self.comm.allreduce(own, MPI.MAX)


def report(
    data: Data, rules: Sequence[str], hidden: Sequence[int], epochs: int, batch: int, *how: Any
) -> str:
    """Return the table of `train` on rank 0, "" on the others. An error on one rank ends all."""
    comm = MPI.COMM_WORLD
    if min(batch, len(data.x_train)) < comm.size:
        raise ValueError(
            f"a batch of {batch} is too small for {comm.size} ranks, of which each needs a sample"
        )
    with ended_by_interrupt(comm), abort_on_error(comm):
        outcomes = train(data, rules, hidden, epochs, batch, *how)
    return summary(outcomes) if outcomes else ""


@contextmanager
def ended_by_interrupt(comm: MPI.Comm) -> Iterator[None]:
    """Let Ctrl-C end the process at once: an exception would be printed by every rank."""
    before = signal.getsignal(signal.SIGINT)

    def end(number: int, frame: Any) -> None:
        if comm.rank == 0:
            print("interrupted", file=sys.stderr, flush=True)
        os._exit(130)

    if before is signal.default_int_handler:
        signal.signal(signal.SIGINT, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def train(
    data: Data,
    rules: Sequence[str],
    hidden: Sequence[int],
    epochs: int,
    batch: int,
    dtype: str = "float64",
    seed: int = 0,
) -> list[Outcome]:
    """Train a network with each rule by one process, then by all, from the same weights and batches.

    The progress bar and the outcomes are rank 0's; the others get an empty list.
    """
    comm = MPI.COMM_WORLD
    sizes, batches = data.widths(hidden), data.steps(batch)
    threads = rank_threads(comm)  # as many for one rank alone
    outcomes = []
    bar_of_rank_0 = tqdm(total=len(rules) * epochs * 2 * batches, unit="step", disable=comm.rank > 0)
    with one_blas_thread(), bar_of_rank_0 as bar:
        for rule in rules:
            compile_first([rule], [dtype])
            runs, held = [], []
            for ranks in (1, comm.size):
                bar.set_description(f"{rule}, {ranks} of {comm.size} ranks")
                some = comm.Split(0 if comm.rank < ranks else 1, comm.rank)
                if comm.rank < ranks:
                    run = TrainingRun(rule, sizes, dtype, seed, some, threads)
                    rng = np.random.default_rng(seed)
                    for _ in range(epochs):
                        for chosen in data.shuffled(batch, rng):
                            run.train_step(data.x_train[chosen], data.y_train[chosen])
                            bar.update()
                    runs.append(run)
                    held.append(run.state_bytes())
                everyone = comm.Ibarrier()
                while not everyone.Test():  # without a core that spins
                    sleep(0.01)
            if comm.rank == 0:
                one, several = (run.net for run in runs)
                outcomes.append(
                    Outcome(
                        rule,
                        tuple(net.loss(data.x_train, data.y_train) for net in (one, several)),
                        float(np.abs(one.params.buffer - several.params.buffer).max()),
                        several.accuracy(data.x_test, data.y_test),
                        tuple(held),
                        tuple(median(run.steps) for run in runs),
                    )
                )
    return outcomes


def summary(outcomes: Sequence[Outcome]) -> str:
    """Return the table, with a row for each rule."""
    size = MPI.COMM_WORLD.size
    ranks = f"{size} rank" + "s" * (size > 1)
    header = (
        "rule", "learning\nrate", "loss,\n1 rank", f"loss,\n{ranks}", "parameters\napart by",
        "test\naccuracy", "state, kB,\n1 rank", f"state, kB,\neach of {size}", "step, ms,\n1 rank",
        f"step, ms,\n{ranks}",
    )  # fmt: skip
    return table(
        header,
        [
            (
                o.rule,
                f"{SETTINGS[o.rule].digits:g}",
                *(f"{loss:.6f}" for loss in o.losses),
                f"{o.apart:.0e}",
                f"{o.accuracy:.1%}",
                *(f"{size / 1e3:.1f}" for size in o.state),
                *(f"{seconds * 1e3:.3f}" for seconds in o.steps),
            )
            for o in outcomes
        ],
    )
