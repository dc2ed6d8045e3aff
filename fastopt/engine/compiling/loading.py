"""Object code in this process: loaded by LLVM, without Numba."""

import hashlib
import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from threading import RLock
from typing import Any

__all__ = ["MAGIC", "UnusableError", "addresses_in", "pack", "uninterrupted", "unpack"]

MAGIC = b"fastopt object code 2\n"

# Loaded code, which lives as long as the process.
engines: list[Any] = []
loading = RLock()


def pack(name: str, data: bytes, needed: list[str]) -> bytes:
    """Return the content of a file: object code and the symbols that it needs, with a digest of all.

    The name of the file is part of it, so that no file can take the place of another one.
    """
    body = f"{name}\n{' '.join(needed)}\n".encode() + data
    return MAGIC + hashlib.sha256(body).hexdigest().encode() + b"\n" + body


class UnusableError(ValueError):
    """A file can't be used."""


def unpack(name: str, content: bytes) -> tuple[bytes, list[str]]:
    """Return object code and the symbols that it needs.

    Raises
    ------
    UnusableError
        If the file isn't as `pack` made it.
    """
    magic, rest = content[: len(MAGIC)], content[len(MAGIC) :]
    digest, _, body = rest.partition(b"\n")
    if magic != MAGIC or hashlib.sha256(body).hexdigest().encode() != digest:
        raise UnusableError("damaged, or not a file of compiled code")
    own, _, rest = body.partition(b"\n")
    if own.decode() != name:
        raise UnusableError(f"it was written as {own.decode()}")
    needed, _, data = rest.partition(b"\n")
    return data, needed.decode().split()


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Let Ctrl-C and other signals' handlers come after the block.

    What they raise would cut off an import of Numba, which can't be begun again in the same process.
    """
    own, arrived = dict[int, Any](), list[Any]()
    if threading.current_thread() is threading.main_thread():
        own = {number: signal.getsignal(number) for number in signal.valid_signals()}
    own = {number: handler for number, handler in own.items() if callable(handler)}
    with ExitStack() as stack:  # which puts all back, even if one of them comes meanwhile and raises
        for number, handler in own.items():
            stack.callback(signal.signal, number, handler)
            signal.signal(number, lambda *arguments: arrived.append(arguments))
        yield
    for number, frame in arrived:
        own[number](number, frame)


@cache
def target() -> Any:
    """Return the machine that code is for."""
    import llvmlite.binding as llvm

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    return llvm.Target.from_default_triple().create_target_machine(codemodel="jitdefault", jit=True)


def addresses_in(data: bytes, needed: list[str], names: tuple[str, ...]) -> dict[str, int] | None:
    """Load object code. Returns the addresses of its functions, or None if it needs what isn't there."""
    with uninterrupted():
        import llvmlite.binding as llvm

    with loading:
        machine = target()
        # LLVM ends the process if it doesn't find a symbol.
        if any(not llvm.address_of_symbol(name) for name in needed):
            return None
        engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), machine)
        engine.add_object_file(llvm.object_file.ObjectFileRef.from_data(data))
        engine.finalize_object()
        engines.append(engine)
        found = {name: engine.get_function_address(name) for name in names}
    missing = [name for name, address in found.items() if not address]
    if missing:
        raise UnusableError(f"it has no function {missing[0]}")
    return found
