"""Checkpoints of several ranks: a folder with a file of each, and an index of those that belong together."""

import secrets
from contextlib import suppress
from pathlib import Path
from typing import Any

from fastopt.adapters.mpi.agreement import Agreement
from fastopt.checkpoints import files
from fastopt.checkpoints.state_dict import copied

__all__ = ["files_of", "save"]

INDEX = "index.npz"


def files_of(folder: Path) -> list[Path]:
    """Give the files that belong together, in the order of the ranks that wrote them."""
    names, _ = files.read(folder / INDEX, lambda header: {})
    shards: list[str] = names["shards"]
    if any(not isinstance(name, str) or Path(name).name != name for name in shards):
        raise ValueError(f"{str(folder / INDEX)!r} names {shards}, which are no files of its folder")
    return [folder / name for name in shards]


def save(folder: Path, state: dict[str, Any], params: Any, agreement: Agreement) -> None:
    """Write each rank's state dict, and parameters with the first's.

    The files from before stay until all are there.

    Raises
    ------
    ValueError, TypeError, OSError
        As `Optimizer.save`; on every rank.
    """
    comm, first = agreement.comm, agreement.comm.rank == 0
    stem = f"{state['iter']}-{comm.bcast(secrets.token_hex(4))}"
    names = [f"{stem}-{rank}-of-{comm.size}.npz" for rank in range(comm.size)]
    own = folder / names[comm.rank]
    old: list[Path] = []

    def write() -> None:
        folder.mkdir(parents=True, exist_ok=True)
        files.save(own, state, copied(params) if first else None)

    def publish() -> None:
        if first:
            with suppress(ValueError, OSError):  # there is no index, or a damaged one
                old.extend(files_of(folder))
            files.write(folder / INDEX, {"shards": names}, {})

    def clean() -> None:
        for file in old:
            file.unlink(missing_ok=True)

    try:
        agreement.on(write)
        agreement.on(publish)
    except BaseException:
        own.unlink(missing_ok=True)
        raise
    agreement.on(clean)
