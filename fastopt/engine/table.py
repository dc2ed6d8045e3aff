"""The table that the compiled step reads: a header, a row for each array, and a pool of integers.

Compiled code reads the fields by name. All are int64; a field whose name ends in ``_address`` is an address,
one that ends in ``_at`` a position in the pool.

An array reaches the kernel in one of five ways: directly; gathered in pieces into a scratch in the first
cache (any strides; float32 and float64 are converted to the parameter's dtype), and scattered back if it is
the parameter; through a copy that Python makes before the step; as a number; as some rows of a table. Only
the third and fourth take Python time, for that array alone. A parameter that overlaps another one, or any
gradient, is updated apart, one after the other in the caller's order (`overlap`).
"""

import numpy as np

__all__ = [
    "ALL", "CHECK", "COUNT", "DIRECT", "DONE", "GATHERED", "HEADER", "MAX_LINES", "NONFINITE", "NUMBER",
    "PIECE", "PIECE_ROOM", "REFUSED", "ROOM", "ROW", "SPARSE", "STAGED", "STATISTICS", "TILE_LINES",
    "TILE_PITCH", "TILE_WIDTH", "UPDATE", "offset_of",
]  # fmt: skip

# What a call returns.
DONE, REFUSED, NONFINITE = range(3)

# What a call does, a sum of these.
CHECK, STATISTICS, UPDATE, COUNT = 1, 2, 4, 8
ALL = CHECK | STATISTICS | UPDATE | COUNT

# Number of elements of a piece: with six arrays of float64 a piece fills 200 kB.
PIECE = 4096
MAX_LINES = 512

# A tile of an array whose lines are closer neighbors than the elements of a line: whole cache lines are read.
# Lines lie in the scratch at a distance that isn't a power of 2, else they share the same few places of the
# first cache.
TILE_LINES, TILE_WIDTH, TILE_PITCH = 16, 256, 264
ROOM = TILE_LINES * TILE_PITCH

# The rooms of a thread: the lines of a block, a piece of the gradient, a piece of the parameter, and the
# addresses and sizes that a rule is given.
GRAD_ROOM = 8 * MAX_LINES
PARAM_ROOM = GRAD_ROOM + 8 * ROOM
PIECE_ROOM = PARAM_ROOM + 8 * ROOM

# How an array reaches the kernel: directly; piece by piece through a scratch in the first cache; through a
# copy that Python makes before the step; as a number, copied likewise; as the rows that have a gradient.
DIRECT, GATHERED, STAGED, NUMBER, SPARSE = range(5)


def record(*names: str) -> np.dtype[np.void]:
    """Return a structured dtype whose fields are all int64."""
    return np.dtype([(name, np.int64) for name in names])


HEADER = record(
    "n_params",  # length of the lists of parameters and gradients
    "n_scalars",  # length of the tuple of scalars
    "ndarray_class",  # id of numpy.ndarray
    "float_class",  # id of float
    "n_rows",
    "rows_address",
    "pool_address",
    "ranges_address",  # room for the sorted address ranges of the parameters
    "is_moved",  # whether a parameter has moved since these were sorted
    "steps_address",  # number of steps of the optimizer so far
    "counts_address",  # number of steps of each parameter so far
    "guard_address",  # the count that must be as the caller read it
    "is_retired_address",  # whether another memory has taken the place of the one with these states
    "scalars_address",  # room for the scalars of a step
    "is_strict",  # whether a gradient that isn't finite refuses the step
    "flushes_denormals",  # whether denormals count as 0
    "float_mode",  # that of the thread that takes the step, in which all work
    "n_parts",  # into which threads divide a phase
    *("phase", "round", "n_finished"),  # what they do now, what was claimed of it, and what is done
    "wait_address",  # a C function that lets other threads go on
    "is_whole",  # whether the rule takes whole arrays
    "n_elements",  # in rows that are updated element by element
    "n_totals",  # number of statistics that are summed over all arrays
    "totals_address",
    "scratch_address",  # room for each thread
    "scratch_bytes",
    # Compiled functions.
    *("run_step_address", "is_finite_address", "gather_address", "scatter_address", "averages_address"),
    "elements_address",
    # Functions and objects of CPython.
    *("as_long_address", "from_long_address", "true_address", "false_address", "none_address"),
    "found_nonfinite",  # whether the last step met a gradient that isn't finite
)

ROW = record(
    "address",  # of the row
    *("param_index", "grad_index"),  # positions in the lists
    "size",
    "itemsize",
    "is_frozen",  # whether the array is checked, but not updated
    "ndim",
    "shape_at",
    # The parameter: how it reaches the kernel, its class, dtype and byte order, the flags that it needs, its
    # strides (-1: its flags tell all), the bytes that it spans around its first element.
    *("param_mode", "param_class", "param_type", "param_order", "param_flags", "param_strides_at"),
    *("param_low", "param_high", "param_address", "param_copy_address", "param_copy_bytes"),
    *("grad_mode", "grad_class", "grad_type", "grad_order", "grad_flags", "grad_strides_at"),
    *("grad_low", "grad_high", "grad_address", "grad_copy_address", "grad_copy_bytes"),
    "grad_itemsize",
    # The fewest loops that run through both, innermost first: size, strides of parameter and gradient.
    *("n_axes", "axes_at"),
    # Pairs of address and size of each state, then of each average.
    *("arrays_at", "n_states", "n_averages"),
    "is_quantized",  # whether states are in fewer bytes: then these pairs have the address of the scales
    # States that come in the list of parameters: position there, dtype, flags, axes, and where the shape is.
    *("given_at", "n_given"),
    # The rule's addresses, and the position of its scalars and the number of those before the averages' own.
    *("rule_address", "statistics_rule_address", "scalars", "n_rule_scalars"),
    # A rule of whole arrays: rows and columns of the matrices, room for the statistics, and the part
    # of a step.
    *("is_whole", "n_matrix_rows", "n_matrix_columns", "statistics_address", "n_statistics", "part"),
    *("start",),  # number of elements in the rows before this one
    *("count", "n_counts", "count_difference"),  # where its steps are counted, and how many others' with it
    *("n_indices", "indices_address"),  # of a sparse gradient
)


def offset_of(name: str) -> int:
    """Return the distance in bytes of a field from the start of the header."""
    return 8 * HEADER.names.index(name) if HEADER.names is not None else 0
