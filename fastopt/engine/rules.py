"""Update rules as compiled code that the step calls by its address."""

import hashlib
from collections.abc import Callable, Iterator
from functools import cache
from types import CodeType, FunctionType
from typing import Any, NamedTuple

import numpy as np

from fastopt.engine.checking import finite_array
from fastopt.engine.pointers import address_of, arrays_at, scalars_at, word_at
from fastopt.engine.strided import PIECE
from fastopt.engine.threads import launch
from fastopt.kernels.jit import internal

__all__ = ["Rule", "rule_address"]


class Rule(NamedTuple):
    """What the engine must know of an update rule.

    Attributes
    ----------
    kernel : compiled function
        Updates the parameters.
    statistics_kernel : compiled function, optional
        Runs over all arrays before the kernel does; both then take whole arrays.
    n_scalars : int
        Number of the kernel's scalars, grad_scale, l2 and keep included.
    n_work : int
        Number of further arrays like the parameter that both kernels get after the states.
    n_additive, n_totals : int
        How many of an array's statistics, the first, are sums over elements; how many are summed over all
        arrays.
    n_statistics : callable
        Returns the number of statistics of an array of a shape, room to compute them included.
    is_reading : bool
        Whether the kernels leave the parameters as they are.
    """

    kernel: Any
    statistics_kernel: Any
    n_scalars: int
    n_work: int = 0
    n_additive: int = 0
    n_totals: int = 0
    n_statistics: Callable[[tuple[int, ...]], int] = lambda shape: 0
    is_reading: bool = False

    @property
    def is_whole(self) -> bool:
        """Whether the kernels take whole arrays."""
        return self.statistics_kernel is not None

    @property
    def passes(self) -> list[Any]:
        """The kernels, in the order in which they run."""
        return [self.statistics_kernel, self.kernel] if self.is_whole else [self.kernel]

    def addresses(self, dtype: np.dtype[Any], n_states: int) -> list[int]:
        """Compile the kernels for a dtype. Returns their addresses."""
        n_arrays = 2 + n_states + self.n_work
        return [
            rule_address(kernel, dtype, n_arrays, self.n_scalars, self.is_whole) for kernel in self.passes
        ]


def rule(*arguments):
    """Stand for the kernel: `rule_address` puts one in its place."""
    raise NotImplementedError


# Numba takes globals for a part of the code: `rule_address` gives each copy of these functions its own.
DTYPE, N_ARRAYS, N_SCALARS = np.dtype(np.float64), 2, 3
DOUBLE = np.dtype(np.float64)


def run_on_elements(elements, scalars):
    """Run an element-wise kernel piece by piece. Returns 1 if the gradient isn't finite, else 0."""
    values = scalars_at(scalars, N_SCALARS, DTYPE)
    size = word_at(elements + 24)
    found = 0
    for first in range(0, size, PIECE):
        arrays = arrays_at(elements + 16, N_ARRAYS, DTYPE, first, min(PIECE, size - first))
        if not finite_array(arrays[1]):
            found = 1
        rule(*arrays, *values)
    return found


def run_on_arrays(arguments, scalars):
    """Run a kernel of whole arrays, with the room for its statistics and their totals."""
    arrays = arrays_at(arguments + 16, N_ARRAYS, DTYPE, 0, -1)
    room = arrays_at(arguments + 16 + 16 * N_ARRAYS, 2, DOUBLE, 0, -1)
    rule(word_at(arguments), word_at(arguments + 8), *arrays, *room, *scalars_at(scalars, N_SCALARS, DOUBLE))
    return 0


@cache
def rule_address(kernel: Any, dtype: np.dtype[Any], n_arrays: int, n_scalars: int, is_whole: bool) -> int:
    """Compile a rule for a dtype, or read it from the disk, and return its address."""
    with launch:
        return address_of(rule_function(kernel, dtype, n_arrays, n_scalars, is_whole), 2)


def rule_function(kernel: Any, dtype: np.dtype[Any], n_arrays: int, n_scalars: int, is_whole: bool) -> Any:
    """Return the function ``run(arguments, scalars)`` that calls a kernel, before it is compiled.

    Parameters
    ----------
    kernel : compiled function
        ``kernel(*arrays, *scalars)``, or with ``is_whole``
        ``kernel(rows, columns, *arrays, statistics, totals, *scalars)``.
    dtype : dtype
        Of the arrays.
    n_arrays, n_scalars : int
        Number of arrays (parameter, gradient, states) and of scalars.
    is_whole : bool
        Whether it takes whole arrays, and scalars in double precision.

    Notes
    -----
    Numba's disk cache finds a function by its file, line and qualified name, and neither by its globals nor
    by its flags. So each rule has a name of its own, which tells the code of the kernel and of what it calls.
    """
    digest = hashlib.sha256("\n".join(code_parts(kernel, set())).encode()).hexdigest()[:12]
    name = f"{kernel.__name__}_{dtype}_{n_arrays}_{n_scalars}_{digest}"
    template = run_on_arrays if is_whole else run_on_elements
    own = {"rule": kernel, "DTYPE": dtype, "N_ARRAYS": n_arrays, "N_SCALARS": n_scalars}
    copy: Callable[..., Any] = FunctionType(template.__code__, {**globals(), **own}, name)
    copy.__qualname__, copy.__module__ = name, __name__
    return internal(copy)


def code_parts(function: Any, seen: set[Any]) -> Iterator[str]:
    """Yield what the compiled code of a function depends on: its code, the constants and functions it uses.

    A kernel need not be in a file, and its file may have been edited since it was imported.
    """
    function = getattr(function, "py_func", function)
    if function in seen:
        return
    seen.add(function)
    code = function.__code__
    yield function.__module__  # which Numba imports when it reads what is cached
    yield from instructions(code)
    cells = zip(code.co_freevars, function.__closure__ or (), strict=True)
    values = {name: function.__globals__[name] for name in code.co_names if name in function.__globals__}
    for name, value in {**values, **{name: cell.cell_contents for name, cell in cells}}.items():
        if isinstance(getattr(value, "py_func", value), FunctionType):
            yield from code_parts(value, seen)
        elif isinstance(value, np.ndarray):
            yield f"{name} {value.dtype} {value.shape} {value.tobytes().hex()}"
        elif isinstance(value, int | float | complex | str | tuple | np.generic | np.dtype):
            yield f"{name} {value!r}"


def instructions(code: CodeType) -> Iterator[str]:
    """Yield the instructions of a code object, and of those within it."""
    yield f"{code.co_code.hex()} {code.co_names} {code.co_varnames}"
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from instructions(constant)
        else:
            yield repr(constant)
