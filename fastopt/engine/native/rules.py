"""What calls a kernel: functions that the step calls by their address. See also `quantized`."""

from typing import Any

import numpy as np

from fastopt.engine.native.checking import finite_array
from fastopt.engine.native.pointers import arrays_at, scalars_at, word_at
from fastopt.engine.native.quantized import quantized_caller
from fastopt.engine.table import PIECE
from fastopt.kernels.cautious import count_agreeing, move_agreeing
from fastopt.kernels.jit import internal, with_names
from fastopt.kernels.sums import assign

__all__ = ["caller"]


def rule(*arguments):
    """Stand for the kernel: `caller` puts one in its place."""
    raise NotImplementedError


# `caller` gives each copy of these functions its own.
DTYPE, N_ARRAYS, N_GIVEN, N_SCALARS = np.dtype(np.float64), 2, 2, 3
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
    arrays = arrays_at(arguments + 16, N_ARRAYS, DTYPE, 0, -1)[:N_GIVEN]
    room = arrays_at(arguments + 16 + 16 * N_ARRAYS, 2, DOUBLE, 0, -1)
    rule(word_at(arguments), word_at(arguments + 8), *arrays, *room, *scalars_at(scalars, N_SCALARS, DOUBLE))
    return 0


# Cautious steps: the last array is a copy of the parameter, which the rule updates in its place.


def run_on_elements_of_copy(arguments, scalars):
    """Run an element-wise kernel on a copy, piece by piece; note how many elements agree."""
    values = scalars_at(scalars, N_SCALARS, DTYPE)
    size, count = word_at(arguments + 24), 0
    for first in range(0, size, PIECE):
        arrays = arrays_at(arguments + 16, N_ARRAYS, DTYPE, first, min(PIECE, size - first))
        assign(arrays[-1], arrays[0])
        rule(arrays[-1], *arrays[1:-1], *values)
        count += count_agreeing(arrays[0], arrays[-1], arrays[1], *values[:3])
    room = arrays_at(arguments + 16 + 16 * N_ARRAYS, 2, DOUBLE, 0, -1)
    # Where ranks have slices of an array, both are summed over these.
    room[0][0], room[0][1] = count, size
    return 0


def run_move(arguments, scalars):
    """Move a parameter by what its copy was moved."""
    arrays = arrays_at(arguments + 16, N_ARRAYS, DTYPE, 0, -1)
    room = arrays_at(arguments + 16 + 16 * N_ARRAYS, 2, DOUBLE, 0, -1)
    rule(arrays[0], arrays[-1], arrays[1], room[0][0], room[0][1], *scalars_at(scalars, N_SCALARS, DTYPE)[:3])
    return 0


def run_on_copy(arguments, scalars):
    """Run a kernel of whole arrays on a copy, and move the parameter."""
    arrays = arrays_at(arguments + 16, N_ARRAYS, DTYPE, 0, -1)
    room = arrays_at(arguments + 16 + 16 * N_ARRAYS, 2, DOUBLE, 0, -1)
    rows, columns = word_at(arguments), word_at(arguments + 8)
    param, grad, target = arrays[0], arrays[1], arrays[-1]
    assign(target, param)
    rule(rows, columns, target, *arrays[1:-1], *room, *scalars_at(scalars, N_SCALARS, DOUBLE))
    first = scalars_at(scalars, 3, DTYPE)
    count = count_agreeing(param, target, grad, *first)
    move_agreeing(param, target, grad, count, param.size, *first)
    return 0


TEMPLATES = {
    "elements": run_on_elements,
    "arrays": run_on_arrays,
    "elements-of-copy": run_on_elements_of_copy,
    "without-copy": run_on_arrays,
    "copy": run_on_copy,
    "move": run_move,
}


def caller(kernel: Any, dtype: np.dtype[Any], n_arrays: int, n_scalars: int, form: str) -> Any:
    """Return the function ``run(arguments, scalars)`` that calls a kernel, given as to `kernel_unit`."""
    own = {"rule": kernel, "DTYPE": dtype, "N_ARRAYS": n_arrays, "N_SCALARS": n_scalars}
    form, *quantized = form.split(":")
    if quantized:
        name, kinds = quantized
        return quantized_caller(kernel, own, name, kinds, is_cautious=form == "elements-of-copy")
    own["N_GIVEN"] = n_arrays - (form == "without-copy")  # a statistics pass doesn't know of the copy
    return internal(with_names(TEMPLATES[form], own, kernel.__name__))
