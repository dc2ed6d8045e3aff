"""The folder where compiled code is kept: which it is, and what in it can be believed."""

import errno
import os
import stat
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from typing import IO

__all__ = [
    "cache_folder",
    "files_of",
    "is_refusal",
    "locked",
    "read",
    "remove",
    "replace",
    "stamps_of",
    "warn_once",
    "writable_folder",
    "write",
]

# Bits of a mode with which others than the owner may write.
OTHERS = stat.S_IWGRP | stat.S_IWOTH

# Seconds after which Windows is asked once more: it replaces no file that another process has open, be it to
# look for viruses.
DELAYS = 0.01, 0.03, 0.1, 0.3, 1.0


def is_refusal(error: BaseException | None) -> bool:
    """Whether the system has raised an error, and not a signal's handler, as it may a TimeoutError."""
    return isinstance(error, OSError) and error.errno is not None


class refused:
    """Suppress what the system says of files."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> bool:
        return is_refusal(error)


def cache_folder() -> str | None:
    """Return the folder: ``FASTOPT_CACHE_DIR``, or one in the user's cache. None if there is no home."""
    given = os.environ.get("FASTOPT_CACHE_DIR")
    if given:
        return absolute(given)
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA")
        return os.path.join(base, "fastopt", "Cache") if base else None
    home = os.path.expanduser("~")
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(home, ".cache")
    if sys.platform == "darwin":
        base = os.path.join(home, "Library", "Caches")
    return os.path.join(base, "fastopt") if os.path.isabs(base) else None  # else there is no home


@cache
def absolute(path: str) -> str | None:
    """Return a path as it is at the first call, whatever directory the program changes to.

    None if it is relative to a directory that is gone.
    """
    try:
        return os.path.abspath(path)
    except OSError:
        return None


def distrust(path: str, status: os.stat_result) -> str | None:
    """Return why a file or folder can't be believed, or None."""
    if not stat.S_ISREG(status.st_mode) and not stat.S_ISDIR(status.st_mode):
        return f"{path} is no regular file"
    if sys.platform == "win32":
        return None
    if status.st_uid not in (os.getuid(), 0):
        return f"{path} belongs to another user"
    return f"others may write to {path}" if status.st_mode & OTHERS else None


def trusted_folder() -> str | None:
    """Return the folder if it is there and can be believed."""
    folder = cache_folder()
    if folder is None:
        return None
    reason: str | None = "missing"
    with refused():
        reason = distrust(folder, os.stat(folder))
        if reason is not None:
            warn_once(f"compiled code isn't kept, as {reason}; name another folder by FASTOPT_CACHE_DIR")
    return folder if reason is None else None


def writable_folder() -> str | None:
    """Return the folder, made if it isn't there, if something can be kept in it."""
    folder = cache_folder()
    if folder is None:
        return None
    with refused():
        os.makedirs(folder, 0o755, exist_ok=True)
    return folder if trusted_folder() is not None and os.access(folder, os.W_OK | os.X_OK) else None


def read(name: str) -> bytes | None:
    """Return what a file has, or None if it isn't there or can't be believed."""
    folder = trusted_folder()
    if folder is None:
        return None
    path = os.path.join(folder, name)
    try:
        with open(path, "rb", opener=open_at_once) as file:
            reason = distrust(path, os.fstat(file.fileno()))
            if reason is None:
                return file.read()
    except OSError as error:
        if not is_refusal(error):
            raise
        if error.errno == errno.ENOENT:
            return None
        reason = f"{path} can't be read ({error})"
    warn_once(f"code is compiled anew, as {reason}")
    return None


def open_at_once(path: str, flags: int) -> int:
    """Open a file without waiting for anyone, as a pipe would."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0), 0o644)


def files_of(prefix: str) -> list[str]:
    """Return the names of the files that are kept, and begin in a way."""
    folder, names = trusted_folder(), list[str]()
    with refused():
        names = os.listdir(folder) if folder is not None else []
    return sorted(name for name in names if name.startswith(prefix) and name.endswith(".code"))


def stamps_of(prefix: str) -> list[tuple[str, int]]:
    """Return the same with the times of their last changes, by which a file that was replaced is known."""
    folder, stamps = cache_folder() or "", []
    for name in files_of(prefix):
        with refused():
            stamps.append((name, os.stat(os.path.join(folder, name)).st_mtime_ns))
    return stamps


def remove(name: str) -> None:
    """Remove a file that can't be used, if that can be done."""
    folder = trusted_folder()
    if folder is not None:
        with refused():
            os.unlink(os.path.join(folder, name))


def write(name: str, data: bytes) -> bool:
    """Write a file, whole or not at all. Returns whether that could be done."""
    folder = writable_folder()
    if folder is None:
        return False
    import tempfile  # which takes some milliseconds that a process with nothing to keep needn't wait

    temporary = None
    try:
        with tempfile.NamedTemporaryFile(dir=folder, prefix=f".{name}.", delete=False) as file:
            temporary = file.name
            file.write(data)
        os.chmod(temporary, 0o644)  # also for who runs what another has built
        replace(temporary, os.path.join(folder, name))
    except BaseException as error:
        if temporary is not None:
            with refused():
                os.unlink(temporary)
        if is_refusal(error):
            return False
        raise
    return True


def replace(source: str | os.PathLike[str], target: str | os.PathLike[str]) -> None:
    """Put a file in the place of another one, at once."""
    for delay in DELAYS if sys.platform == "win32" else ():
        try:
            os.replace(source, target)
        except PermissionError:
            time.sleep(delay)
        else:
            return
    os.replace(source, target)


@contextmanager
def locked(name: str) -> Iterator[None]:
    """Hold a lock that one process has at a time, where something can be kept."""
    folder = writable_folder()
    if folder is None:
        yield
        return
    with ExitStack() as stack:
        with refused():
            path = os.path.join(folder, f"{name}.lock")
            lock(stack.enter_context(open(path, "ab", opener=open_at_once)))
        yield  # the end of the file ends the lock, and so does the end of the process


def lock(file: IO[bytes]) -> None:
    """Wait for the lock of an open file."""
    if sys.platform == "win32":
        import msvcrt

        while True:
            try:
                msvcrt.locking(file.fileno(), msvcrt.LK_LOCK, 1)
                return
            except OSError as error:
                # It gives up after ten seconds; compiling the step may take longer on a slow machine.
                if error.errno != errno.EDEADLOCK:
                    raise
    else:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX)


def warn_once(message: str) -> None:
    """Warn, unless this process has been warned."""
    global has_warned
    if not has_warned:
        has_warned = True
        warnings.warn(message, RuntimeWarning, stacklevel=3)


has_warned = False
