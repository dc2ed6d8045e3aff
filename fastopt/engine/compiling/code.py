"""Compiled code for steps: loaded, compiled here, or asked of another process."""

import gc
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from fastopt.engine.compiling.background import background
from fastopt.engine.compiling.folder import (
    files_of,
    is_refusal,
    locked,
    read,
    remove,
    stamps_of,
    warn_once,
    write,
)
from fastopt.engine.compiling.loading import UnusableError, addresses_in, pack, uninterrupted, unpack
from fastopt.engine.compiling.units import Unit, has_numba, read_request
from fastopt.engine.threads import compiling

__all__ = ["build", "compile_mode", "find", "find_kept", "is_compiling", "serve"]

MODES = ("background", "now", "never")

# Held by the thread that has `compiling`, which could take that again.
working = threading.Lock()

# Addresses of the functions of each unit that this process has.
loaded: dict[Unit, dict[str, int]] = {}

# Units that can't be had here: Numba can't be imported.
lacking: set[Unit] = set()

# Units that another process compiles, and how much had arrived when they were last looked for.
asked: dict[Unit, int] = {}


def compile_mode() -> str:
    """Return what ``FASTOPT_COMPILE`` says: "background", "now" or "never".

    Raises
    ------
    ValueError
        If it says anything else.
    """
    mode = os.environ.get("FASTOPT_COMPILE") or "background"
    if mode not in MODES:
        raise ValueError(f"FASTOPT_COMPILE must be background, now or never, not {mode!r}")
    is_disabled = os.environ.get("NUMBA_DISABLE_JIT", "0") not in ("", "0")
    return "never" if is_disabled or not has_numba() else mode


def is_compiling() -> bool:
    """Whether this process is compiling, which a signal's handler may have interrupted."""
    return working.locked()


def find(unit: Unit, *, is_needed: bool = False) -> dict[str, int] | None:
    """Return the addresses of a unit's functions; None where it isn't compiled yet, or can't be.

    If it is needed now, no other process is asked for it.
    """
    found = loaded.get(unit)
    if found is not None:
        return found
    mode = "now" if is_needed and compile_mode() == "background" else compile_mode()
    if mode == "never" or unit in lacking:
        return None
    if mode == "background" and asked.get(unit) == background.look():
        return None
    with compiling:
        if working.locked():  # a signal's handler takes a step while this thread is at it: not yet
            background.n_arrived += 1  # the next step looks again
            return None
        with working:
            before = stamps_of(unit.prefix)
            found = find_kept(unit)
            if found is None:
                if mode == "background" and background.can_compile(unit.prefix):
                    n_arrived = background.n_arrived  # which goes up if the request fails
                    background.request(unit.prefix, unit.request, before)
                    asked[unit] = n_arrived
                    return None
                found = compiled(unit)
    return found


def find_kept(unit: Unit) -> dict[str, int] | None:
    """Return the addresses of a unit's functions if these are compiled, here or in the cache."""
    found = loaded.get(unit)
    # Without a file LLVM, which knows the CPU, needn't be imported.
    if found is None and unit.is_lasting and files_of(unit.prefix):
        found = load(unit)
    return found


def load(unit: Unit) -> dict[str, int] | None:
    """Load a unit from its file, if that is there and whole."""
    try:
        content = read(unit.file)
        if content is None:
            return None
        found = addresses_in(*unpack(unit.file, content), unit.names)
    except ImportError:  # of llvmlite
        return None
    except UnusableError as error:
        remove(unit.file)
        warn_once(f"the cache has a file {unit.file} that can't be used ({error}); it is compiled anew")
        return None
    if found is not None:
        loaded[unit] = found
    return found


def build(unit: Unit) -> dict[str, int] | None:
    """Compile a unit in this process, unless another does: then wait for it. None if there is no Numba."""
    with compiling, working:
        return compiled(unit)


def compiled(unit: Unit) -> dict[str, int] | None:
    """Do what `build` does, for who holds its locks."""
    with locked(unit.file):
        found = load(unit) if unit.is_lasting else None
        if found is not None:
            return found
        try:
            with uninterrupted():
                from numba.core.errors import NumbaError

                from fastopt.engine.native.emission import addresses_here, emit, load_registries

                functions, text = unit.functions(), unit.code()
                load_registries()
        except (ImportError, AttributeError) as error:  # the latter as a module may hide one of Python's
            lacking.add(unit)
            warn_once(f"steps are taken in plain NumPy, as Numba can't be imported ({error})")
            return None
        with interruptible():
            try:
                data, needed = emit(functions, text)
            except NumbaError as error:
                if unit.request:
                    raise
                raise TypeError(f"kernel {unit.title!r} can't be compiled: {reason(error)}") from error
            except OSError as error:
                if not is_refusal(error):
                    raise
                lacking.add(unit)
                warn_once(f"steps are taken in plain NumPy, as Numba can't compile here ({error})")
                return None
        # A kernel that allocates memory needs Numba's runtime, which other processes don't have.
        is_alone = unit.is_lasting and not any(symbol.startswith(("NRT_", "numba_")) for symbol in needed)
        found = addresses_in(data, needed, unit.names) if is_alone else None
        if found is None:
            found = addresses_here(functions)
        elif not write(unit.file, pack(unit.file, data, needed)):
            loaded[unit] = found  # first, as a warning may raise
            others = files_of(unit.prefix)
            there = f" (there is only code for another CPU: {others[0]})" if others else ""
            warn_once(
                f"compiled code can't be kept, so each process compiles it anew{there}; name a folder that "
                "can be written by FASTOPT_CACHE_DIR"
            )
    loaded[unit] = found
    return found


def reason(error: Exception) -> str:
    """Return the line of Numba's error that says what is wrong."""
    lines = [line for line in str(error).splitlines() if line and not line.startswith("Failed in ")]
    text = lines[0] if lines else type(error).__name__
    missing = "; write @fastopt.kernel above that function, too" if "Untyped global name" in text else ""
    return text + missing


@contextmanager
def interruptible() -> Iterator[None]:
    """Let an interrupt end what is compiled in the block, also where LLVM swallows it.

    In its callbacks an exception is only printed.
    """
    own = signal.getsignal(signal.SIGINT)
    if own is not signal.default_int_handler or threading.current_thread() is not threading.main_thread():
        yield
        return
    interrupts: list[int] = []

    def note(number: int, frame: Any) -> None:
        interrupts.append(number)
        signal.default_int_handler(number, frame)

    signal.signal(signal.SIGINT, note)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, own)
    if interrupts:
        raise KeyboardInterrupt


def serve() -> None:
    """Compile what the lines of the standard input ask for: what the process in the background does."""
    if hasattr(os, "nice"):
        os.nice(5)  # the training comes first
    gc.set_threshold(100_000)  # Numba makes so many objects that looking for cycles takes a tenth of the time
    for line in sys.stdin:
        prefix, _, request = line.strip().partition(" ")
        unit = read_request(request)
        # It can't compile at all, can't keep that, or has other sources: who waits for it must know.
        if unit.prefix != prefix or build(unit) is None or read(unit.file) is None:
            sys.exit(1)
