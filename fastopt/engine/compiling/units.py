"""What is compiled together and kept in one file: the step, or a kernel for one dtype."""

import hashlib
import importlib
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from importlib.util import find_spec
from pkgutil import iter_modules
from types import BuiltinFunctionType, CodeType, EllipsisType, FunctionType, ModuleType
from typing import Any, NamedTuple

import numpy as np

from fastopt.engine.compiling.loading import MAGIC
from fastopt.kernels.jit import IS_CHECKED

__all__ = ["Unit", "cpu", "driver_unit", "has_numba", "kernel_unit", "others_unit", "read_request"]

# The packages and modules whose sources are compiled, or say how.
SOURCES = (
    "fastopt.engine.native", "fastopt.kernels", "fastopt.engine.table", "fastopt.engine.structs",
    "fastopt.engine.machine",
)  # fmt: skip

# Variables that change what is made of a function.
VARIABLES = (
    "NUMBA_CPU_NAME", "NUMBA_CPU_FEATURES", "NUMBA_ENABLE_AVX", "NUMBA_OPT", "NUMBA_LOOP_VECTORIZE",
    "NUMBA_SLP_VECTORIZE", "NUMBA_BOUNDSCHECK", "NUMBA_DEBUGINFO",
)  # fmt: skip

# Modules of which the digest of the environment has the version.
VERSIONED = ("math", "numba", "numpy")

# The package, whose kernels another process can import.
PACKAGE = __name__.partition(".")[0]


class Unit(NamedTuple):
    """What is compiled together.

    Attributes
    ----------
    title : str
        What it is.
    digest : str
        Of all that the compiled code depends on but the CPU.
    names : tuple of str
        Names of its functions.
    request : str
        What another process needs to know in order to compile it; empty if it can't.
    functions : callable
        Imports Numba and returns, for each name, the function and its number of arguments.
    code : callable, optional
        Returns further LLVM code.
    is_lasting : bool
        Whether the digest is of all that there is: else each process compiles it for itself.
    """

    title: str
    digest: str
    names: tuple[str, ...]
    request: str
    functions: Callable[[], Mapping[str, tuple[Any, int]]]
    code: Callable[[], str] = str
    is_lasting: bool = True

    @property
    def prefix(self) -> str:
        """How the names of its files begin, of which there is one for each kind of CPU."""
        return f"{self.title}-{self.digest[:24]}-"

    @property
    def file(self) -> str:
        """The name of its file for this CPU."""
        return f"{self.prefix}{cpu_digest()}.code"


def driver_functions() -> Mapping[str, tuple[Any, int]]:
    """Return the functions of the step."""
    from fastopt.engine.native.driver import ROUTINES

    return ROUTINES


def driver_code() -> str:
    """Return the LLVM code of the step's entries."""
    from fastopt.engine.native.entry import entry_code

    return entry_code()


@cache
def driver_unit() -> Unit:
    """Return the unit of the step, which all rules share."""
    names = "drive", "run_phases", "run_step", "begin_round", "share", "is_finite", "elements"
    return Unit("step", environment_digest(), names, "step", driver_functions, driver_code)


def other_functions() -> Mapping[str, tuple[Any, int]]:
    """Return the functions that some steps need besides."""
    from fastopt.engine.native.driver import OTHER_ROUTINES

    return OTHER_ROUTINES


@cache
def others_unit() -> Unit:
    """Return the unit of what steps need on arrays that have to be gathered, and with averages.

    It is apart from `driver_unit`, so that other steps need not wait for it.
    """
    names = "gather", "scatter", "averages"
    return Unit("layouts", environment_digest(), names, "layouts", other_functions)


@cache
def kernel_unit(kernel: Any, dtype: np.dtype[Any], n_arrays: int, n_scalars: int, form: str) -> Unit:
    """Return the unit of a kernel for one dtype.

    Parameters
    ----------
    kernel : compiled function
        What is called, see ``form``.
    dtype : dtype
        Of the arrays.
    n_arrays, n_scalars : int
        Number of arrays (parameter, gradient, states) and of scalars.
    form : str
        How it is called: "elements", as ``kernel(*arrays, *scalars)`` piece by piece; "arrays", as
        ``kernel(rows, columns, *arrays, statistics, totals, *scalars)`` with scalars in double precision.
        Of cautious steps see `fastopt.engine.native.rules`.
    """

    def functions() -> Mapping[str, tuple[Any, int]]:
        from fastopt.engine.native.rules import caller

        return {"rule": (caller(kernel, dtype, n_arrays, n_scalars, form), 2)}

    module, name = kernel.__module__ or "", kernel.__name__
    numbers = f"{dtype} {n_arrays} {n_scalars} {form}"
    is_own = module.startswith(f"{PACKAGE}.") and getattr(sys.modules.get(module), name, None) is kernel
    digest, is_lasting = hashlib.sha256(environment_digest().encode() + numbers.encode()), True
    try:
        for part in code_parts(kernel, set()):
            digest.update(part.encode())
    except UnknownError:
        is_lasting = False
    title = f"{name}-{dtype}" if is_own else f"own-{name}-{dtype}"
    request = f"{module} {name} {numbers}" * (is_own and is_lasting)
    return Unit(title, digest.hexdigest(), ("rule",), request, functions, is_lasting=is_lasting)


def read_request(request: str) -> Unit:
    """Return the unit of a request."""
    for shared in (driver_unit(), others_unit()):
        if request == shared.request:
            return shared
    module, name, dtype, n_arrays, n_scalars, form = request.split()
    kernel = getattr(importlib.import_module(module), name)
    return kernel_unit(kernel, np.dtype(dtype), int(n_arrays), int(n_scalars), form)


# Digests: what the compiled code depends on.


@cache
def has_numba() -> bool:
    """Whether Numba is installed, whether or not it can be imported."""
    return find_spec("numba") is not None


@cache
def cpu_digest() -> str:
    """Return a short digest of the CPU, its features, and of LLVM's version."""
    import llvmlite
    import llvmlite.binding as llvm

    parts = [llvmlite.__version__, llvm.get_process_triple(), *cpu()]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]


def cpu() -> tuple[str, str]:
    """Return name and features of the CPU that code is for: this one, or what Numba's variables say."""
    import llvmlite.binding as llvm

    name = os.environ.get("NUMBA_CPU_NAME") or llvm.get_host_cpu_name()
    return name, os.environ.get("NUMBA_CPU_FEATURES") or llvm.get_host_cpu_features().flatten()


@cache
def environment_digest() -> str:
    """Return a digest of the sources, of the form of files, of versions and of Numba's settings."""
    digest = hashlib.sha256(MAGIC)
    for part in (*sys.version_info[:2], sys.abiflags if hasattr(sys, "abiflags") else "", np.__version__):
        digest.update(f"{part}\n".encode())
    for name in VARIABLES:
        digest.update(f"{os.environ.get(name)}\n".encode())
    digest.update(f"{IS_CHECKED}\n".encode())
    digest.update(numba_version())
    names = []
    for name in SOURCES:
        spec = find_spec(name)
        folders = spec.submodule_search_locations if spec is not None else None
        names += [f"{name}.{module.name}" for module in iter_modules(folders)] if folders else [name]
    for name in sorted(names):
        digest.update(name.encode())
        digest.update(content_of(name))
    return digest.hexdigest()


def numba_version() -> bytes:
    """Return the file that has the version of Numba, which isn't imported, or nothing without Numba."""
    spec: Any = find_spec("numba")
    if spec is None:
        return b""
    try:
        version: bytes = spec.loader.get_data(os.path.join(os.path.dirname(spec.origin), "_version.py"))
    except (OSError, AttributeError):
        return code_bytes(spec)
    return version


def content_of(name: str) -> bytes:
    """Return the source of a module that isn't imported, or what there is instead of it."""
    spec: Any = find_spec(name)
    try:
        content: bytes = spec.loader.get_data(spec.origin)
    except (OSError, AttributeError):
        return code_bytes(spec)
    return content


def code_bytes(spec: Any) -> bytes:
    """Return the instructions of a module without a source, or of a program that was frozen."""
    code = spec.loader.get_code(spec.name)
    return "\n".join(instructions(code)).encode() if code is not None else b""


class UnknownError(Exception):
    """A kernel depends on something of which no digest can be made."""


def code_parts(function: Any, seen: set[Any]) -> Iterator[str]:
    """Yield what the compiled code of a function depends on: its code, the constants and functions it uses.

    A kernel need not be in a file, and its file may have been edited since it was imported.
    """
    function = getattr(function, "py_func", function)
    if function in seen:
        return
    seen.add(function)
    code = function.__code__
    yield from instructions(code)
    yield from value_parts("defaults", function.__defaults__, (), seen)
    for name, value in (function.__kwdefaults__ or {}).items():
        yield from value_parts(name, value, (), seen)
    names, own = names_of(code), function.__globals__
    cells = zip(code.co_freevars, function.__closure__ or (), strict=True)
    values = {name: own[name] for name in names if name in own}
    values |= {name: cell.cell_contents for name, cell in cells}
    for name, value in values.items():
        yield from value_parts(name, value, names, seen)


def value_parts(name: str, value: Any, names: Iterable[str], seen: set[Any]) -> Iterator[str]:
    """Yield what is compiled of a value that has a name; names are those of all that is asked of modules."""
    plain = int | float | complex | str | bytes | np.generic | np.dtype | slice | None | EllipsisType
    if isinstance(getattr(value, "py_func", value), FunctionType):
        yield name
        yield from code_parts(value, seen)
    elif isinstance(value, np.ndarray):
        yield f"{name} {value.dtype} {value.shape} {value.tobytes().hex()}"
    elif isinstance(value, plain):
        yield f"{name} {value!r}"
    elif isinstance(value, tuple | list):
        for i, item in enumerate(value):
            yield from value_parts(f"{name} {i}", item, names, seen)
    elif isinstance(value, ModuleType):
        yield f"{name} {value.__name__}"
        is_versioned = value.__name__.partition(".")[0] in VERSIONED
        for attribute in () if is_versioned else names:
            # Each function asks a module for attributes of its own.
            if hasattr(value, attribute) and (value, attribute) not in seen:
                seen.add((value, attribute))
                yield from value_parts(f"{name}.{attribute}", getattr(value, attribute), names, seen)
    elif isinstance(value, type | np.ufunc | BuiltinFunctionType) or is_numpys(value):
        yield f"{name} {getattr(value, '__module__', '')} {getattr(value, '__qualname__', value.__name__)}"
    else:
        raise UnknownError(name)


def is_numpys(value: Any) -> bool:
    """Whether a value is a function of NumPy's."""
    return str(getattr(value, "__module__", "")).partition(".")[0] == "numpy" and hasattr(value, "__name__")


def names_of(code: CodeType) -> list[str]:
    """Return the names of globals and attributes of a code object, and of those within it."""
    inner = [
        name for constant in code.co_consts if isinstance(constant, CodeType) for name in names_of(constant)
    ]
    return [*dict.fromkeys([*code.co_names, *inner])]


def instructions(code: CodeType) -> Iterator[str]:
    """Yield the instructions of a code object, and of those within it."""
    yield f"{code.co_code.hex()} {code.co_names} {code.co_varnames}"
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from instructions(constant)
        else:
            yield repr(constant)
