"""Checkpoints of several ranks: a folder with a file of each, and an index of those that belong together."""

import secrets
from contextlib import suppress
from pathlib import Path
from typing import Any

from fastopt.adapters.mpi.consensus import Consensus
from fastopt.checkpoints import files
from fastopt.checkpoints.state_dict import copy_params

__all__ = ["save", "shard_paths"]

INDEX = "index.npz"


def shard_paths(folder: Path) -> list[Path]:
    """Return the files that belong together, in the order of the ranks that wrote them."""
    names, _ = files.read(folder / INDEX, lambda header: {}, bool)
    shards: list[str] = names["shards"]
    if any(not isinstance(name, str) or Path(name).name != name for name in shards):
        raise ValueError(f"{str(folder / INDEX)!r} must name files of its folder, got {shards}")
    return [folder / name for name in shards]


def save(folder: Path, state: dict[str, Any], params: Any, consensus: Consensus) -> None:
    """Write each rank's state dict to a file, on rank 0 with the parameters.

    The files of the last checkpoint stay until all new ones are there.
    """
    comm, is_first = consensus.comm, consensus.comm.rank == 0
    stem = f"{state['iter']}-{comm.bcast(secrets.token_hex(4))}"
    names = [f"{stem}-{rank}-of-{comm.size}.npz" for rank in range(comm.size)]
    own = folder / names[comm.rank]
    old: list[Path] = []

    def write() -> None:
        folder.mkdir(parents=True, exist_ok=True)
        files.save(own, state, copy_params(params) if is_first else None)

    def publish() -> None:
        if is_first:
            with suppress(ValueError, OSError):  # the index may be missing, or damaged
                old.extend(shard_paths(folder))
            files.write(folder / INDEX, {"shards": names}, {})

    def clean() -> None:
        for file in old:
            file.unlink(missing_ok=True)

    try:
        consensus.run_on_all(write)
        consensus.run_on_all(publish)
    except BaseException:
        own.unlink(missing_ok=True)
        raise
    consensus.run_on_all(clean)
