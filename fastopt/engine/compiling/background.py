"""The process that compiles while this one trains."""

import os
import sys
from contextlib import suppress
from time import monotonic
from typing import Any

from fastopt.engine.compiling.folder import files_of, writable_folder
from fastopt.engine.compiling.units import has_numba

__all__ = ["Background", "background"]

# Seconds between two looks at what has been compiled.
PERIOD = 0.01

# What the process runs, with the requests as lines of its input. It gets the paths of this process.
COMMAND = "import sys; sys.path[:] = sys.argv[1:]; from fastopt.engine.compiling.code import serve; serve()"


class Background:
    """What was asked of the process that compiles, and what has come of it.

    Attributes
    ----------
    n_arrived : int
        Goes up when something has been compiled, or can't be: then steps look anew.
    failed : set of str
        Prefixes of files that the process has ended without.
    """

    def __init__(self) -> None:
        self.n_arrived = 0
        self.failed: set[str] = set()
        self.waiting: dict[str, list[str]] = {}
        self.process: Any = None
        self.pid = os.getpid()
        self.next_look = 0.0

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

    def request(self, prefix: str, request: str) -> None:
        """Ask for a file, of which the prefix of its name is known, unless that was done."""
        if self.pid != os.getpid():  # a fork: the process is the parent's, whose requests it compiles
            self.pid, self.process, self.waiting = os.getpid(), None, {}
        if prefix in self.waiting:
            return
        self.waiting[prefix] = files_of(prefix)
        try:
            if self.process is None or self.process.poll() is not None:
                self.process = start()
            self.process.stdin.write(f"{request}\n".encode())
            self.process.stdin.flush()
        except OSError:
            self._give_up()

    def look(self) -> int:
        """Return a number that is another one when something has been compiled."""
        if self.waiting and monotonic() >= self.next_look:
            self.next_look = monotonic() + PERIOD
            is_over = self.process is None or self.process.poll() is not None
            arrived = [prefix for prefix, before in self.waiting.items() if files_of(prefix) != before]
            for prefix in arrived:
                del self.waiting[prefix]
            self.n_arrived += bool(arrived)
            if is_over and self.waiting:
                self._give_up()
        return self.n_arrived

    def _give_up(self) -> None:
        """Note that the process won't compile what was asked for."""
        self.failed |= set(self.waiting)
        self.waiting = {}
        self.n_arrived += 1


def start() -> Any:
    """Start the process."""
    import atexit
    import subprocess  # which a process that finds all compiled need not import

    environment = {**os.environ, "FASTOPT_COMPILE": "now", "OPENBLAS_NUM_THREADS": "1"}
    paths = [os.path.abspath(path) for path in sys.path]
    process = subprocess.Popen(
        [sys.executable, "-c", COMMAND, *paths],
        stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment,
        start_new_session=True,  # an interrupt of the program doesn't end it: the next run needs its work
        creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
    )  # fmt: skip

    def leave() -> None:
        with suppress(OSError):
            assert process.stdin is not None
            process.stdin.close()  # after which it ends when it has done what it was asked for
        process.returncode = process.returncode or 0  # else its end would be warned of

    atexit.register(leave)
    return process


background = Background()
