"""How many threads a step may use, and the threads that help with large ones.

A phase of a step is cut into parts at multiples of 256 elements, a block of quantized states. The bits don't
depend on where. Each thread takes the next part by an atomic operation. The thread that takes the step does
parts itself and then waits, in compiled code, for parts that others have begun. So a helper that comes late,
or never, as after a fork, costs nothing. A ticket has the number of its round, after which it is worthless.
Helpers are Python threads, which let go of the GIL in compiled code. They need no library of threads: the
layers of those end a process in some combinations of forks and threads.

A rule of whole arrays has one thread for each array, and arrays are distributed by size. So one large array
doesn't gain from a second core.

Measured on two cores: in steps alone, rules with root and division gain from about 20,000 elements (float64
Adam from 10,000), other rules from about 50,000. In a training loop, two threads gained nothing at any size
up to 35 million parameters (float64 Adam, batches of 100, OpenBLAS on both cores). Where GNU's OpenMP waits
actively, which is its default, the whole loop took five to eight times as long (109,810 parameters). Hence
`UNASKED`.
"""

import ctypes
import os
import sys
import threading
from _queue import SimpleQueue
from collections.abc import Callable
from functools import partial
from typing import Any
from weakref import ref

__all__ = [
    "MIN_PARALLEL", "available", "check_threads", "compiling", "cores", "n_threads_for", "round_calls",
    "set_num_threads", "stays_one", "step_lock", "wait_address",
]  # fmt: skip

# With fewer elements a step takes one thread unless more are asked for: in a training loop the cores are
# BLAS's, whose threads wait actively, and two groups of threads that wait for each other cost milliseconds.
UNASKED = 1_000_000

# Steps of fewer elements take one thread even if more are asked for: two would take longer.
MIN_PARALLEL = 20_000

# Held while code is compiled or loaded.
compiling = threading.RLock()

# None: one below a million elements, above as many as are available.
chosen: int | None = None


def cores() -> set[int]:
    """Return the cores that this process may run on."""
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else {*range(os.cpu_count() or 1)}


def available() -> int:
    """Return the number of threads that a step may use at most: one a core that this process may run on.

    ``NUMBA_NUM_THREADS`` can make it fewer, as it does in joblib's workers.
    """
    n_cores = len(cores())
    given = os.environ.get("NUMBA_NUM_THREADS", "")
    return max(1, min(n_cores, int(given))) if given.isdigit() else n_cores


def set_num_threads(n: int | None) -> None:
    """Set how many threads a step may use, for every optimizer without ``threads`` of its own.

    Parameters
    ----------
    n : int or None
        At most so many, from 1; never more than there are cores that this process may run on, or
        ``NUMBA_NUM_THREADS`` says. None, as at the start: one below a million parameters, above it one a
        core.

    Raises
    ------
    TypeError, ValueError
        If n is no whole number or out of range.

    Notes
    -----
    The results are the same to the last bit whatever the number. Steps of less than some 20,000 elements
    always use one thread.

    Examples
    --------
    >>> fastopt.set_num_threads(1)  # for all optimizers but those with threads of their own
    >>> fastopt.set_num_threads(None)  # as at the start
    >>> fastopt.set_num_threads(0)
    Traceback (most recent call last):
    ValueError: n must be at least 1, not 0
    """
    global chosen
    chosen = check_threads("n", n)
    for owner in living_owners():  # whose next step may be for another number
        vars(owner)["kept"] = None


def check_threads(name: str, n: int | None) -> int | None:
    """Return a number of threads, or say what it must be."""
    if n is None:
        return None
    if isinstance(n, bool) or not isinstance(n, int):
        raise TypeError(f"{name} must be a whole number or None, not {n!r}")
    if n < 1:
        raise ValueError(f"{name} must be at least 1, not {n}")
    return n


def n_threads_for(own: int | None, n_elements: int) -> int:
    """Return the number of threads for a step over so many elements by an optimizer with ``threads=own``."""
    if stays_one(own, n_elements):
        return 1
    return min(own or chosen or available(), available())


def stays_one(own: int | None, elements: int) -> bool:
    """Whether steps over so many elements take one thread until another number is set."""
    wanted = own or chosen
    return wanted == 1 or (wanted is None and elements < UNASKED)


# Threads that help. They wait for tickets: the function, its arguments, and what these need to live.
tickets: Any = SimpleQueue()
helpers: list[threading.Thread] = []

# Tickets that no helper has taken yet are worthless soon; of more than so many a thread none is added.
MAX_TICKETS = 8


def help_with(queue: Any) -> None:
    """Do parts of rounds, until the process ends."""
    while True:
        function, arguments, _ = queue.get()
        function(*arguments)
        del function, arguments, _  # what they belong to must not live until the next ticket


def round_calls(
    begin: int, share: int, table: int, phase: int, number: int, n_threads: int, owner: object
) -> list[Callable[[], Any]]:
    """Return the C calls that do a phase of a step in threads.

    Any thread does what the others leave: if no helper comes, this one does all.

    Parameters
    ----------
    begin, share : int
        Addresses of the compiled functions ``begin_round`` and ``share``.
    table, phase, number : int
        The address of the table, the phase, and the number of the round.
    n_threads : int
        Number of threads.
    owner : object
        What the table belongs to.
    """
    while len(helpers) < n_threads - 1:
        helpers.append(threading.Thread(target=help_with, args=(tickets,), name="fastopt", daemon=True))
        helpers[-1].start()
    function = ROUND(share)  # lets go of the GIL while it runs
    is_full = tickets.qsize() > MAX_TICKETS * n_threads
    return [
        partial(ROUND(begin), *UNUSED, table, phase, number),
        *(
            partial(tickets.put, (function, (*UNUSED, table, number, thread), owner))
            for thread in range(1, 1 if is_full else n_threads)
        ),
        partial(function, *UNUSED, table, number, 0),
    ]


# Both functions, whose result and exception nobody looks at.
ROUND = ctypes.CFUNCTYPE(ctypes.c_int, *[ctypes.c_void_p] * 2, *[ctypes.c_int64] * 3)
unused = (ctypes.c_int64 * 2)()
UNUSED = ctypes.addressof(unused), ctypes.addressof(unused) + 8


def wait_address() -> int:
    """Return the address of the C function that lets other threads go on, or 0."""
    if sys.platform == "win32":
        function = ctypes.WinDLL("kernel32").SwitchToThread
    else:
        function = getattr(ctypes.pythonapi, "sched_yield", None)
    return ctypes.cast(function, ctypes.c_void_p).value or 0 if function is not None else 0


# The optimizers and their locks, which a fork must not find held.
owners: set[ref[Any]] = set()

# The locks that a fork has taken.
held: list[Any] = []


def step_lock(owner: Any) -> Any:
    """Return a lock for the steps of an optimizer, which the same thread may take again."""
    owners.add(ref(owner, owners.discard))
    return threading.RLock()


def living_owners() -> list[Any]:
    """Return the optimizers that there are."""
    # Another thread may make one meanwhile: a set is copied without a gap, a WeakSet is not.
    return [owner for owner in (known() for known in list(owners)) if owner is not None]


def before_fork() -> None:
    """Let the steps of other threads end, so that the child has no half of one."""
    global held
    while True:
        locks = [compiling, *(vars(owner)["lock"] for owner in living_owners() if "lock" in vars(owner))]
        taken: list[Any] = []
        for lock in locks:
            if not lock.acquire(blocking=False):
                break
            taken.append(lock)
        else:
            held = taken
            return
        # Whoever has this one may wait for one of those: wait for it without them.
        for other in taken:
            other.release()
        with lock:
            pass


def after_fork_in_parent() -> None:
    """Let other threads go on."""
    global held
    locks, held = held, []
    for lock in locks:
        lock.release()


def after_fork() -> None:
    """Begin anew in a forked child, which has none of the parent's threads."""
    global held, helpers, tickets
    held = []
    helpers, tickets = [], SimpleQueue()
    compiling.release()
    fresh: dict[int, Any] = {}  # those that share a lock go on to share one
    for owner in living_owners():
        vars(owner)["lock"] = fresh.setdefault(id(vars(owner).get("lock")), threading.RLock())


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=before_fork, after_in_parent=after_fork_in_parent, after_in_child=after_fork)
