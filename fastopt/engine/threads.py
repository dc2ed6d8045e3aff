"""How many threads a step may use."""

import os
import threading
import warnings
from functools import cache
from typing import Any
from weakref import ref

import numba

__all__ = ["MIN_PARALLEL", "allowed", "check_threads", "launch", "set_num_threads", "stays_one", "step_lock"]

# With fewer elements a step takes one thread unless more are asked for: in a training loop the cores are
# BLAS's, whose threads wait actively, and two groups of threads that wait for each other cost milliseconds.
UNASKED = 1_000_000

# Steps of fewer elements take one thread even if more are asked for: two would take longer.
MIN_PARALLEL = 20_000

# Held while Numba compiles or starts threads, and during steps of several calls. Numba lets go of the GIL
# while its threads run, and its workqueue layer ends the process if a second Python thread starts some
# meanwhile.
launch = threading.RLock()

# None: as many as Numba is allowed.
chosen: int | None = None

# Whether Numba's threads can't be used: it finds no threading layer; or this process was forked from one
# that had started them, so that they exist no longer, and GNU's OpenMP ends a process that calls for them.
alone = False


def set_num_threads(n: int | None) -> None:
    """Set how many threads a step may use, for every optimizer without ``threads`` of its own.

    Parameters
    ----------
    n : int or None
        From 1 to the number that Numba started with (``numba.config.NUMBA_NUM_THREADS``, by default one a
        core). None, as at the start: one below a million parameters, above as many as Numba is allowed to
        use (``numba.get_num_threads()``).

    Raises
    ------
    TypeError, ValueError
        If n is no whole number or out of range.

    Notes
    -----
    The results are the same to the last bit whatever the number. Steps of less than some 20,000 elements
    always use one thread.
    """
    global chosen
    chosen = check_threads("n", n)
    for owner in living_owners():  # whose next step may be for another number
        vars(owner)["kept"] = None


def check_threads(name: str, n: int | None) -> int | None:
    """Give a number of threads, or say why it can't be had."""
    if n is None:
        return None
    if isinstance(n, bool) or not isinstance(n, int):
        raise TypeError(f"{name} must be a whole number or None, not {n!r}")
    most = numba.config.NUMBA_NUM_THREADS
    if not 1 <= n <= most:
        raise ValueError(f"{name} must be from 1 to {most}, as many as Numba started with, not {n}")
    return n


def allowed(own: int | None = None, elements: int = UNASKED) -> int:
    """Give the number of threads for a step over so many elements by an optimizer with ``threads=own``."""
    wanted = own or chosen
    if wanted == 1 or (wanted is None and elements < UNASKED):
        return 1
    with launch:  # as another thread may be starting them
        start()
    return 1 if alone else wanted or int(numba.get_num_threads())


def stays_one(own: int | None, elements: int) -> bool:
    """Whether steps over so many elements take one thread until another number is set."""
    wanted = own or chosen
    return wanted == 1 or (wanted is None and elements < UNASKED)


@cache
def start() -> None:
    """Start Numba's threads, if that can be."""
    global alone
    # GNU's OpenMP reads this when it is loaded. Threads that wait actively take the cores from whatever
    # comes after the step.
    unset = "OMP_WAIT_POLICY" not in os.environ
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    try:
        numba.get_num_threads()
    except ValueError as error:
        warnings.warn(
            f"fastopt uses one thread: {' '.join(str(error).split())}", RuntimeWarning, stacklevel=2
        )
        alone = True
    finally:
        if unset:
            del os.environ["OMP_WAIT_POLICY"]


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
        locks = [launch, *(vars(owner)["lock"] for owner in living_owners() if "lock" in vars(owner))]
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
    """Notice in a forked child whether the parent had started threads."""
    global alone, held
    held = []
    launch.release()
    fresh: dict[int, Any] = {}  # those that share a lock go on to share one
    for owner in living_owners():
        vars(owner)["lock"] = fresh.setdefault(id(vars(owner).get("lock")), threading.RLock())
    try:
        numba.threading_layer()
    except ValueError:  # none was started
        return
    alone = True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=before_fork, after_in_parent=after_fork_in_parent, after_in_child=after_fork)
