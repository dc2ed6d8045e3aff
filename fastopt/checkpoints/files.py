"""Checkpoint files: `.npz`, or `.safetensors` through its own library; written whole or not at all.

A file has a header in JSON and arrays named ``state/parameter``. It is read in an order in which nothing
that it claims is believed: the header, which must fit; the sizes of the arrays, which must be the
header's; the arrays; their checksum.
"""

import errno
import hashlib
import io
import json
import math
import os
import secrets
import stat
import zipfile
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple
from urllib.parse import quote

import numpy as np

from fastopt.arrays.containers import in_list, items
from fastopt.engine.compiling.folder import open_at_once, replace

__all__ = ["load", "save"]

VERSION = 1
LARGEST_HEADER = 2**26
LONGEST_LIST = 2**20
LONGEST_NAME = 2**16 - 1  # which zip archives have two bytes for
BY_KEY = {"counts", "quantized", "shapes"}  # dicts by parameter
# As safetensors calls them.
DTYPES = {"F16": "float16", "F32": "float32", "F64": "float64", "U8": "uint8", "U16": "uint16"}

Parts = dict[str, dict[Hashable, np.ndarray]]


class Entry(NamedTuple):
    """A parameter, as the header has it."""

    name: str | int
    shape: tuple[int, ...]
    dtype: str
    order: str

    @classmethod
    def of(cls, name: Hashable, array: np.ndarray) -> "Entry":
        """Describe an array, or say why its name can't be written."""
        if isinstance(name, bool) or not isinstance(name, str | int):
            raise TypeError(f"parameter {name!r}: a checkpoint takes names that are str or int")
        return cls(name, array.shape, array.dtype.name, "F" if array.flags.fnc else "C")

    @classmethod
    def parse(cls, item: Any) -> "Entry":
        """Take one from JSON, or say that it isn't one."""
        name, shape, dtype, order = item
        if (
            not isinstance(name, str | int)
            or not all(type(n) is int and n >= 0 for n in shape)
            or dtype not in DTYPES.values()
            or order not in ("C", "F")
        ):
            raise ValueError(f"its header has {item!r} for a parameter")
        return cls(name, tuple(shape), dtype, order)

    def blank(self) -> np.ndarray:
        """Give an array like it that takes no memory, whatever size it claims."""
        return np.broadcast_to(np.zeros((), self.dtype), self.shape)


def member(part: str, entry: Entry) -> str:
    """Give the name of an array in a file: the parameter's, without what a path could be made of."""
    return f"{part}/{quote(str(entry.name), safe=' ')}"


def described(state: Mapping[str, Any], prefix: str = "") -> tuple[dict[str, Any], Parts]:
    """Give the header of a state dict, and its arrays by part and parameter."""
    header = {key: value for key, value in state.items() if key not in ("state", "inner", *BY_KEY)}
    for name in BY_KEY & {*state}:
        header[name] = list(state[name].items())  # JSON would make strings of integer keys
    parts = {part: dict(items(values)) for part, values in state["state"].items() if values is not None}
    first = next(iter(state["state"].values()), None)
    header["container"] = None if first is None else "list" if isinstance(first, list) else "dict"
    header["state"] = {
        part: [Entry.of(key, array) for key, array in parts.get(part, {}).items()] for part in state["state"]
    }
    named = {f"{prefix}{part}": values for part, values in parts.items()}
    for name, other in state.get("inner", {}).items():
        inner, theirs = described(other, f"{prefix}{name}/")
        header.setdefault("inner", {})[name] = inner
        named |= theirs
    return header, named


def save(path: Any, state: Mapping[str, Any], params: Any = None) -> None:
    """Write what `Optimizer.state_dict` gives, and parameters if there are any."""
    header, parts = described(state)
    header["params"] = None
    if params is not None:
        parts["params"] = {key: np.asarray(value) for key, value in items(params)}
        header["params"] = [Entry.of(key, array) for key, array in parts["params"].items()]
    arrays: dict[str, np.ndarray] = {}
    for part, values in parts.items():
        for key, array in values.items():
            name = member(part, Entry.of(key, array))
            if name in arrays:
                raise ValueError(f"parameter {key!r} has the name of another in a file, {name!r}")
            arrays[name] = array
    write(path, header, arrays)


def load(path: Any, check: Callable[[Mapping[str, Any], Any], Any]) -> tuple[dict[str, Any], Any, str]:
    """Read what `save` wrote.

    Parameters
    ----------
    path : path
        Of the file.
    check : callable
        Is given the state and the parameters before they are read, as arrays that take no memory; raises if
        they can't be used.

    Returns
    -------
    tuple
        The state, the parameters or None, and the checksum.

    Raises
    ------
    ValueError
        If it isn't a whole checkpoint of this version, or check raises.
    OSError
        If it can't be opened.
    """

    def part(name: str, entries: list[Any], arrays: Mapping[str, np.ndarray] | None) -> dict[Any, np.ndarray]:
        return {
            entry.name: entry.blank()
            if arrays is None
            else np.asarray(arrays[member(name, entry)], order=entry.order)  # type: ignore[call-overload]
            for entry in map(Entry.parse, entries)
        }

    def state_of(
        header: Mapping[str, Any], arrays: Mapping[str, np.ndarray] | None, prefix: str = ""
    ) -> dict[str, Any]:
        state = {key: header[key] for key in ("class", "iter", "skipped", "hyperparameters")}
        state["state"] = {
            name: part(prefix + name, entries, arrays) for name, entries in header["state"].items()
        }
        if header["container"] == "list":
            last = max((index for values in state["state"].values() for index in values), default=0)
            if last > LONGEST_LIST:
                raise ValueError(f"its list has a parameter of index {last}, more than {LONGEST_LIST}")
            state["state"] = {name: in_list(values) for name, values in state["state"].items()}
        elif header["container"] is None:
            state["state"] = dict.fromkeys(state["state"])
        state |= {name: dict(header[name]) for name in BY_KEY & {*header}}
        if "inner" in header:
            state["inner"] = {
                name: state_of(inner, arrays, f"{prefix}{name}/") for name, inner in header["inner"].items()
            }
        return state

    def built(header: Mapping[str, Any], arrays: Mapping[str, np.ndarray] | None) -> tuple[Any, Any]:
        params = header["params"]
        return state_of(header, arrays), None if params is None else part("params", params, arrays)

    def parts_of(header: Mapping[str, Any], prefix: str = "") -> dict[str, list[Any]]:
        parts = {prefix + name: entries for name, entries in header["state"].items()}
        for name, inner in header.get("inner", {}).items():
            parts |= parts_of(inner, f"{prefix}{name}/")
        return parts

    def expected(header: Mapping[str, Any]) -> dict[str, Entry]:
        parts = parts_of(header) | {"params": header["params"] or []}
        entries = [(part, Entry.parse(item)) for part, items in parts.items() for item in items]
        return {member(part, entry): entry for part, entry in entries}

    header, arrays, written = read(path, expected, lambda header: check(*built(header, None)))
    return *built(header, arrays), written


def path_of(path: Any) -> Path:
    """Give the path of a checkpoint, links followed, or say what it must end in."""
    found = Path(os.path.realpath(path))
    if found.suffix not in (".npz", ".safetensors"):
        raise ValueError(f"a checkpoint must end in .npz or .safetensors, not {str(path)!r}")
    return found


def library() -> Any:
    """Import safetensors, or say how to get it."""
    try:
        import safetensors.numpy
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            'for this choose .npz, or: python -m pip install "fastopt[safetensors]"', name=error.name
        ) from None
    return safetensors


def checksum(header: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> str:
    """Give the SHA-256 of a header and the arrays."""
    digest = hashlib.sha256(json.dumps(header, sort_keys=True).encode())
    for name in sorted(arrays):
        digest.update(arrays[name].reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def write(path: Any, header: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
    """Write a file, or leave the old one as it was."""
    target = path_of(path)
    if target.suffix == ".safetensors":
        library()
    if not target.parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, "there is no such folder: make it first", str(target.parent))
    arrays = {name: np.asarray(array, array.dtype.newbyteorder("="), "C") for name, array in arrays.items()}
    longest = max(arrays, key=len, default="")
    if target.suffix == ".npz" and len(longest) + len(".npy") > LONGEST_NAME:
        raise ValueError(f"{longest[:40]!r}... is too long a name for .npz: choose .safetensors")
    header = {"fastopt": VERSION, **header}
    text = json.dumps({**header, "sha256": checksum(header, arrays)})
    # In the same folder, as only there a rename replaces the old file at once.
    temporary = target.with_name(f".{target.name[:40]}.{secrets.token_hex(4)}.tmp")
    try:
        if target.suffix == ".npz":
            with zipfile.ZipFile(temporary, "x") as archive:
                archive.writestr("fastopt.json", text)
                for name, array in arrays.items():
                    with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                        np.lib.format.write_array(file, array, version=(1, 0), allow_pickle=False)
        else:
            temporary.touch(exist_ok=False)
            mode = temporary.stat().st_mode
            with as_os_error(target):
                library().numpy.save_file(dict(arrays), temporary, {"fastopt": text})
            temporary.chmod(mode)  # the library makes it the owner's alone
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        replace(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if hasattr(os, "O_DIRECTORY"):  # the name must reach the disk as well
        folder = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


@contextmanager
def as_os_error(target: Path) -> Iterator[None]:
    """Raise what safetensors says of the disk as OSError."""
    try:
        yield
    except library().SafetensorError as error:
        raise OSError(errno.EIO, str(error), str(target)) from error


Expect = Callable[[Mapping[str, Any]], Mapping[str, Entry]]


@contextmanager
def opened(target: Path) -> Iterator[IO[bytes]]:
    """Open a file for reading, if it is one: a pipe would have to be waited for."""
    with open(target, "rb", opener=open_at_once) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, "it is no regular file", str(target))
        yield file


def read(
    path: Any, expect: Expect, check: Callable[[Mapping[str, Any]], Any]
) -> tuple[dict[str, Any], dict[str, np.ndarray], str]:
    """Read a file. Returns its header, its arrays and their checksum.

    Parameters
    ----------
    path : path
        Of a ``.npz`` or ``.safetensors``.
    expect : callable
        Is given the header; gives the arrays that there must be, or raises.
    check : callable
        Is given the header if the file has arrays of these names; raises if it can't be used.

    Raises
    ------
    ValueError
        If it isn't a whole checkpoint of this version, or expect or check raises.
    OSError
        If it can't be opened, or isn't a regular file.
    """
    target = path_of(path)
    with opened(target) as file:
        if target.suffix == ".safetensors":
            library()
        try:
            reader = read_npz if target.suffix == ".npz" else read_safetensors

            def expected(text: bytes, names: Iterable[str]) -> Mapping[str, Entry]:
                header = parse(text)
                entries = expect(header)
                compare(names, entries)
                check(header)
                return entries

            text, arrays = reader(file, expected)
            header = parse(text)
            written = header.pop("sha256")
            if not isinstance(written, str) or checksum(header, arrays) != written:
                raise ValueError("its checksum isn't that of its contents")
        except MemoryError:
            raise
        except Exception as error:  # of zipfile, JSON, NumPy or safetensors, whatever the damage leads to
            raise ValueError(f"{str(path)!r} can't be loaded: {reason(error)}") from error
    return header, arrays, written


def reason(error: Exception) -> str:
    """Return what is wrong with a file, in words of its own user."""
    if isinstance(error, zipfile.BadZipFile) and "not a zip file" in str(error):
        return "it is cut off, or no .npz file"
    if isinstance(error, KeyError):
        return f"its header has no {error}"
    is_told = isinstance(error, ValueError | TypeError) and not isinstance(
        error, json.JSONDecodeError | UnicodeError
    )
    return str(error) if is_told else f"it is damaged, or of another kind ({error})"


def parse(text: str | bytes) -> dict[str, Any]:
    """Give the header."""
    header = json.loads(text)
    if not isinstance(header, dict) or "fastopt" not in header:
        raise ValueError("it is not a checkpoint of fastopt's")
    if header["fastopt"] != VERSION:
        raise ValueError(f"its format is {header['fastopt']!r}, this fastopt reads {VERSION}")
    return header


def compare(there: Iterable[str], expected: Mapping[str, Entry]) -> None:
    """Refuse a file with other arrays than expected."""
    names = list(there)
    if sorted(names) != sorted(expected):
        odd = sorted({*names} ^ {*expected}) or names
        raise ValueError(f"its arrays aren't those of its header: {odd[:5]}")


# From the text of the header, and the names of the arrays that are there.
Expected = Callable[[bytes, Iterable[str]], Mapping[str, Entry]]


def read_npz(file: Any, expected: Expected) -> tuple[bytes, dict[str, Any]]:
    """Give header and arrays; no array is larger than the file."""
    size = os.fstat(file.fileno()).st_size
    with zipfile.ZipFile(file) as archive:
        members = archive.infolist()
        if "fastopt.json" not in archive.namelist():
            raise ValueError("it is not a checkpoint of fastopt's, but another file of arrays")
        for info in members:
            if info.compress_type != zipfile.ZIP_STORED or not info.compress_size == info.file_size <= size:
                raise ValueError(f"{info.filename!r} in it claims {info.file_size} bytes")
        if archive.getinfo("fastopt.json").file_size > LARGEST_HEADER:
            raise ValueError("its header is too large")
        text = archive.read("fastopt.json")
        names = [info.filename.removesuffix(".npy") for info in members if info.filename != "fastopt.json"]
        arrays = {}
        for name, entry in expected(text, names).items():
            stored = archive.getinfo(f"{name}.npy").file_size
            dtype = np.dtype(entry.dtype)
            room = stored - math.prod(entry.shape) * dtype.itemsize  # NumPy's own header
            if not 0 < room < 2**16:
                raise ValueError(f"{name!r} has {stored} bytes, too few or too many for {entry.shape}")
            data = io.BytesIO(archive.read(f"{name}.npy"))
            if np.lib.format.read_magic(data) != (1, 0):
                raise ValueError(f"{name!r} is of another version of NumPy's format")
            found = np.lib.format.read_array_header_1_0(data)
            if found != (entry.shape, False, dtype) or data.tell() != room:
                raise ValueError(f"{name!r} is {found}, not {entry}")
            arrays[name] = np.frombuffer(data.getbuffer(), dtype, offset=room).reshape(entry.shape)
    return text, arrays


def read_safetensors(file: Any, expected: Expected) -> tuple[bytes, dict[str, Any]]:
    """Give header and arrays; the library checks their sizes against the file's."""
    with library().safe_open(file.name, "numpy") as archive:
        text = (archive.metadata() or {}).get("fastopt", "null").encode()
        arrays = {}
        for name, entry in expected(text, archive.keys()).items():
            part = archive.get_slice(name)
            found = (tuple(part.get_shape()), DTYPES.get(part.get_dtype()))
            if found != (entry.shape, entry.dtype):
                raise ValueError(f"{name!r} is {found}, not {entry}")
            arrays[name] = archive.get_tensor(name)
    return text, arrays
