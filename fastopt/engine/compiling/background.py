"""The process that compiles while this one trains."""

import errno
import os
import sys
from contextlib import suppress
from threading import RLock
from time import monotonic
from typing import Any, NamedTuple

from fastopt.engine.compiling.folder import cache_folder, is_refusal, stamps_of, writable_folder
from fastopt.engine.compiling.units import has_numba

__all__ = ["Background", "background"]

# Seconds between two looks at what has been compiled.
PERIOD = 0.01

# What the process runs, with the requests as lines of its input. It gets the paths of this process.
COMMAND = "import sys; sys.path[:] = sys.argv[1:]; from fastopt.engine.compiling.code import serve; serve()"


# Such a process, but as no child of this one: a program that waits for its children doesn't wait for it.
APART = ["/bin/sh", "-c", 'exec 3<&0; "$@" <&3 3<&- &', "sh"]

# Number of processes that are started, as one may have been killed.
MAX_STARTS = 2


class Wish(NamedTuple):
    """What was asked for, and the files that there were before."""

    request: str
    before: list[tuple[str, int]]


class Background:
    """What was asked of the process that compiles, and what has come of it.

    Attributes
    ----------
    n_arrived : int
        Goes up when something has been compiled, or can't be: then steps look anew.
    failed : set of str
        Prefixes of files that the process has ended without.
    waiting : dict of str to Wish
        What was asked for, by the prefix of its file.
    """

    def __init__(self) -> None:
        self.n_arrived = 0
        self.failed: set[str] = set()
        self.next_look = 0.0
        self._begin()

    def _begin(self) -> None:
        """Begin without a process. After a fork it is the parent's, whose requests it compiles."""
        self.pid, self.n_starts, self.lock = os.getpid(), 0, RLock()
        self.waiting: dict[str, Wish] = {}
        self.process: Any = None
        self.folder: str | None = None  # where the process keeps what it compiles

    def can_compile(self, prefix: str) -> bool:
        """Whether a process can be started that keeps what it compiles for this one.

        Not in frozen programs, whose executable is no Python; nor in children of pools, which are many.
        """
        name = os.path.basename(sys.executable or "").lower()
        processes: Any = sys.modules.get("multiprocessing.process")
        is_child = processes is not None and processes.current_process().name != "MainProcess"
        is_python = name.startswith(("python", "pypy")) and not getattr(sys, "frozen", False)
        can_start = is_python and not is_child and prefix not in self.failed
        return can_start and has_numba() and writable_folder() is not None

    def request(self, prefix: str, request: str, before: list[tuple[str, int]]) -> None:
        """Ask for a file, unless that was done.

        Parameters
        ----------
        prefix : str
            How the name of the file begins.
        request : str
            What is to be compiled.
        before : list of tuple of str and int
            The files with this prefix that can't be used, from `stamps_of`.
        """
        if self.pid != os.getpid():
            self._begin()
        with self.lock:
            if prefix in self.waiting:
                return
            wish = Wish(request, before)
            # Noted afterwards: an interrupt in between makes it ask twice, which costs nothing.
            is_sent = self._send({prefix: wish})
            self.waiting[prefix] = wish
            if not is_sent:
                self._give_up()

    def _send(self, wishes: dict[str, Wish]) -> bool:
        """Write requests, to another process if there is none. Returns False if that can't be done."""
        try:
            if not self._is_alive():
                if self.n_starts == MAX_STARTS:
                    return False
                self.n_starts += 1
                self.process, self.folder = start(), cache_folder()
                wishes = {**self.waiting, **wishes}
            for prefix, wish in wishes.items():
                # A short line is written as a whole or not at all, whatever interrupts this.
                os.write(self.process.stdin.fileno(), f"{prefix} {wish.request}\n".encode())
        except OSError as error:
            if not is_refusal(error):
                raise
            return False
        return True

    def _is_alive(self) -> bool:
        """Whether there is a process, which keeps what it compiles where it is looked for."""
        return self.process is not None and self.folder == cache_folder() and not is_over(self.process)

    def look(self) -> int:
        """Return a number that is another one when something has been compiled."""
        if self.waiting and monotonic() >= self.next_look:
            if self.pid != os.getpid():
                self._begin()
            with self.lock:
                self._look()
        return self.n_arrived

    def _look(self) -> None:
        """Look for what was asked for."""
        self.next_look = monotonic() + PERIOD
        was_alive = self._is_alive()
        arrived = [prefix for prefix, wish in self.waiting.items() if stamps_of(prefix) != wish.before]
        if arrived:  # counted first: what an interrupt leaves is found again
            self.n_arrived += 1
        for prefix in arrived:
            del self.waiting[prefix]
        if not was_alive and self.waiting and not self._send({}):
            self._give_up()

    def _give_up(self) -> None:
        """Note that no process will compile what was asked for."""
        self.failed |= set(self.waiting)
        self.n_arrived += 1
        self.waiting = {}


def start() -> Any:
    """Start the process."""
    import atexit
    import subprocess  # which a process that finds all compiled need not import

    if not hasattr(subprocess, "Popen"):
        raise OSError(errno.ENOENT, "the program hides Python's module", "subprocess")
    folder = writable_folder() or ""  # an absolute path: the program may change its directory
    variables = {"FASTOPT_COMPILE": "now", "FASTOPT_CACHE_DIR": folder, "OPENBLAS_NUM_THREADS": "1"}
    paths = [os.path.abspath(path) for path in sys.path]
    flags = ["-" + "O" * sys.flags.optimize] if sys.flags.optimize else []
    is_apart = sys.platform != "win32" and os.path.exists(APART[0])
    process = subprocess.Popen(
        [*(APART if is_apart else []), sys.executable, *flags, "-c", COMMAND, *paths],
        stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        env={**os.environ, **variables},
        start_new_session=True,  # an interrupt of the program doesn't end it: the next run needs its work
        creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
    )  # fmt: skip
    if is_apart:
        process.wait()

    def leave() -> None:
        with suppress(OSError):
            assert process.stdin is not None
            process.stdin.close()  # after which it ends when it has done what it was asked for
        process.returncode = process.returncode or 0  # else its end would be warned of

    atexit.register(leave)
    return process


def is_over(process: Any) -> bool:
    """Whether a process has ended, which need not be a child of this one."""
    if sys.platform == "win32":
        return process.poll() is not None
    import select

    pipe = select.poll()
    # That nobody reads it is told whatever is asked for, but on macOS only if something is.
    pipe.register(process.stdin.fileno(), select.POLLOUT)
    return any(event & ~select.POLLOUT for _, event in pipe.poll(0))


background = Background()
