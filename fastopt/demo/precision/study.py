"""The runs of ``python -m fastopt verify --against full-state``: programs by rules, formats and seeds."""

import signal
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import product
from multiprocessing import active_children, get_context
from os import cpu_count
from typing import Any, NamedTuple

import numpy as np
from threadpoolctl import threadpool_limits
from tqdm import tqdm

import fastopt
from fastopt.demo.precision.criterion import Run, Trial
from fastopt.demo.precision.programs import PROGRAMS, RULES
from fastopt.tools.precompilation import compile_first

__all__ = ["FORMATS", "Case", "Moment", "compare", "decayed_moment", "train"]

FORMATS = ("bfloat16", "float16", "int8")

# More processes gain little: eight finish within three minutes, and each takes 300 MB.
MAX_PROCESSES = 8

# Number of times that the accuracy is measured in the last tenth of the steps. After the last step alone it
# depends on the last batches: the LSTM's jumped by up to 4 points.
MEASUREMENTS = 5

DECAY_STEPS = 2000


class Case(NamedTuple):
    """A training: the index of its program, and what else a process needs to carry it out."""

    program: int
    rule: str
    state_dtype: str | None
    seed: int
    is_short: bool


class Moment(NamedTuple):
    """The mean of v over its elements, and their standard deviation."""

    mean: float
    deviation: float


def make(rule: str, lr: float, state_dtype: str | None, seed: int, **others: Any) -> Any:
    """Return an optimizer with one thread. Its state is in this format; None: in that of the parameters."""
    if state_dtype is not None:
        others |= {"state_dtype": state_dtype, "state_seed": seed}
    return getattr(fastopt, rule)(lr, threads=1, **others)


def train(case: Case) -> Run:
    """Train a network, with BLAS on one thread, and return its losses and its accuracy.

    The initial weights and the batches depend on program and seed only.
    """
    program = PROGRAMS[case.program]
    steps = program.n_steps(case.is_short)
    network = program.network(case.seed)
    optimizer = make(case.rule, program.lr[case.rule], case.state_dtype, case.seed)
    every = max(1, steps // 10 // MEASUREMENTS)
    measured = {steps - every * i for i in range(MEASUREMENTS)}
    losses, accuracies = [], []
    # A format that breaks the training lets the loss overflow; this is a row in the table, not a warning.
    with threadpool_limits(1, user_api="blas"), np.errstate(all="ignore"):
        for step, (x, t) in enumerate(program.batches(case.seed, steps), start=1):
            loss, grads = network.gradient(x, t)
            optimizer.update(network.params, grads)
            losses.append(loss)
            if step in measured:
                accuracies.append(network.accuracy(*program.held_out()))
    return Run(np.array(losses), float(np.mean(accuracies)))


def compare(
    n_seeds: int,
    is_short: bool = False,
    rules: Sequence[str] = RULES,
    formats: Sequence[str] = FORMATS,
    processes: int | None = None,
) -> list[Trial]:
    """Train each program by each rule with its state in full and in each format.

    Parameters
    ----------
    n_seeds : int
        Number of seeds of weights and batches, from 0.
    is_short : bool
        Whether each program takes its `short_steps`.
    rules, formats : sequence of str
        The rules, and the values of `state_dtype`.
    processes : int, optional
        Number of processes that train at the same time, by default one for each core, at most 8. Results
        don't depend on it.
    """
    compile_first(rules, ["float32"])
    kinds = [None, *formats]
    groups = [*product(range(len(PROGRAMS)), rules)]
    cases = [
        Case(program, rule, kind, seed, is_short)
        for program, rule in groups
        for kind in kinds
        for seed in range(n_seeds)
    ]
    runs: dict[tuple[int, str, str | None], list[Run]] = {}
    n_processes = min(MAX_PROCESSES, cpu_count() or 1) if processes is None else processes
    with tqdm(total=len(cases), unit="training") as bar:
        for case, run in zip(cases, results(cases, n_processes), strict=True):
            bar.set_description(f"{PROGRAMS[case.program].name}, {case.rule}")
            runs.setdefault(case[:3], []).append(run)
            bar.update()
    return [
        Trial(PROGRAMS[program].name, rule, kind, runs[program, rule, None], runs[program, rule, kind])
        for program, rule in groups
        for kind in formats
    ]


def results(cases: Sequence[Case], processes: int) -> Iterator[Run]:
    """Yield the run of each case, in their order."""
    if processes == 1:
        yield from map(train, cases)
        return
    # A forked process would have the threads' locks of its parent, but not the threads.
    pool = ProcessPoolExecutor(processes, get_context("spawn"), ignore_interrupts)
    try:
        yield from pool.map(train, cases)
    except BaseException:
        # Ctrl-C, or an error: what is still trained is of no use, and would be waited for.
        for process in active_children():
            process.terminate()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def ignore_interrupts() -> None:
    """Leave Ctrl-C to the parent, which then ends its processes; each would print a traceback."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def decayed_moment(state_dtype: str | None) -> Moment:
    """Return what is left of Adam's v = 1 after 2,000 steps with gradients of 0 and beta2 = 0.999.

    Each step takes a thousandth of v, less than the distance between two numbers of bfloat16 or int8. If they
    were rounded to the nearest one, v would stay 1.
    """
    optimizer = make("Adam", 0.0, state_dtype, 0, beta2=0.999)
    params = {"W": np.zeros(50_000, np.float32)}
    # The first step makes v = (1 − beta2)·g² of it.
    grads = {"W": np.full_like(params["W"], np.sqrt(1 / (1 - 0.999)))}
    optimizer.update(params, grads)
    grads["W"][...] = 0
    for _ in range(DECAY_STEPS):
        optimizer.update(params, grads)
    v = np.asarray(optimizer.v["W"], np.float64)
    return Moment(float(v.mean()), float(v.std()))
