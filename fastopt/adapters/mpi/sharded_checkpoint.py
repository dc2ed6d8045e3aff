"""Checkpoints of several ranks: a folder with a file of each, and an index of those that belong together."""

import re
import secrets
from contextlib import suppress
from pathlib import Path
from typing import Any

from fastopt.adapters.mpi.consensus import Consensus
from fastopt.checkpoints import files
from fastopt.checkpoints.state_dict import copy_params
from fastopt.checks import shortened

__all__ = ["save", "shard_paths"]

INDEX = "index.npz"

# Steps, what sets apart two checkpoints of as many steps, rank, and number of ranks.
SHARD = re.compile(r"(\d+-[0-9a-f]{8})-(\d+)-of-(\d+)\.npz")
# What a rank that was killed while it wrote leaves behind.
UNFINISHED = re.compile(rf"\.({SHARD.pattern}|{re.escape(INDEX)})\.[0-9a-f]{{8}}\.tmp")


def shard_paths(folder: Path) -> list[Path]:
    """Return the files that belong together, in the order of the ranks that wrote them.

    Raises
    ------
    ValueError
        If the index names others than a save would: it may not be ours.
    OSError
        If there is no index.
    """
    names, _, _ = files.read(folder / INDEX, lambda header: {}, bool)
    shards = names.get("shards")
    listed: list[Any] = shards if isinstance(shards, list) else []
    found = [SHARD.fullmatch(name) for name in listed if isinstance(name, str)]
    parts = [match and (match[1], int(match[2]), int(match[3])) for match in found]
    stem = parts[0] and parts[0][0] if parts else None
    if stem is None or parts != [(stem, rank, len(listed)) for rank in range(len(listed))]:
        raise ValueError(f"{str(folder / INDEX)!r} is no index of shards, it names {shortened(shards)}")
    paths = [folder / name for name in listed]
    for path in paths:
        if path.is_symlink():
            raise ValueError(f"{str(path)!r} is a link: a shard must be a file of its folder")
    return paths


def save(folder: Path, state: dict[str, Any], params: Any, consensus: Consensus) -> None:
    """Write each rank's state dict to a file, on rank 0 with the parameters.

    The files of the last checkpoint stay until all new ones are there.
    """
    comm, is_first = consensus.comm, consensus.comm.rank == 0
    stem = f"{state['iter']}-{comm.bcast(secrets.token_hex(4))}"
    names = [f"{stem}-{rank}-of-{comm.size}.npz" for rank in range(comm.size)]
    own = folder / names[comm.rank]

    def write() -> None:
        folder.mkdir(parents=True, exist_ok=True)
        files.save(own, state, copy_params(params) if is_first else None)

    def publish() -> None:
        if is_first:
            files.write(folder / INDEX, {"shards": names}, {})

    def clean() -> None:
        if is_first:
            remove_others(folder, names)

    try:
        consensus.run_on_all(write)
        consensus.run_on_all(publish)
    except BaseException:
        # The index may be in its place already, and only its way to the disk have failed.
        if own not in indexed(folder):
            own.unlink(missing_ok=True)
        raise
    consensus.run_on_all(clean)


def indexed(folder: Path) -> list[Path]:
    """Return the files that an index names, if there is one."""
    with suppress(ValueError, OSError):
        return shard_paths(folder)
    return []


def remove_others(folder: Path, names: list[str]) -> None:
    """Remove the shards of other checkpoints, and what saves that were killed have left; no other file."""
    for path in folder.iterdir():
        is_old = SHARD.fullmatch(path.name) and path.name not in names
        if (is_old or UNFINISHED.fullmatch(path.name)) and path.is_file() and not path.is_symlink():
            path.unlink(missing_ok=True)
