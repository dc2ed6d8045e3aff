"""The compiled step: one call that checks every array, then updates them all and counts the step.

The arrays stay objects of the caller's: compiled code is given the ids of two lists, which are addresses, and
reads the C struct of each array, for which Python needs 0.5 µs an array. It is compiled once for all rules,
which it calls by their addresses.

A kernel's address, its states and its scalars are numbers in the table. So a further rule or dtype compiles
only its own loop, with the check for non-finite gradients of each piece of 4,096 elements. LLVM can't inline
a call by address; it takes 2 ns. Gathering is called by address, too, so the driver compiles in a fraction
of the time.
"""

import numpy as np
from numba import float64, int64

from fastopt.engine.native.checking import check_arrays, check_finite, check_scalars, is_finite, row_at
from fastopt.engine.native.floatmode import FLUSH, float_mode, set_float_mode, working_mode
from fastopt.engine.native.lines import ONE, ZERO
from fastopt.engine.native.pointers import (
    add_at,
    call,
    call_c,
    claim_at,
    load_at,
    pointer,
    record_at,
    store_at,
    word_at,
)
from fastopt.engine.native.strided import gather, scatter
from fastopt.engine.native.updating import (
    HEADER_TYPE,
    take_statistics,
    update_averages,
    update_contiguous,
    update_elements,
    update_indices,
    update_whole,
)
from fastopt.engine.table import (
    CHECK,
    COUNT,
    DONE,
    GATHERED,
    NONFINITE,
    REFUSED,
    SPARSE,
    STATISTICS,
    UPDATE,
    offset_of,
)
from fastopt.kernels.jit import internal
from fastopt.kernels.quantization import BLOCK

__all__ = ["OTHER_ROUTINES", "ROUTINES"]

# Parts of a step begin at multiples of `BLOCK` elements: threads share neither a cache line of the state nor
# the scale of a quantized one.

# The number of a round stands in the upper half of a word; the lower one counts the parts that were claimed.
CLAIMED = (1 << 32) - 1
STATISTICS_PASS, UPDATE_PASS = np.int64(STATISTICS), np.int64(UPDATE)
ROUND, N_FINISHED = offset_of("round"), offset_of("n_finished")


@internal
def run_part(header, table, phase, part, n_parts, room):
    """Do one part of a phase. Returns 1 if it met a gradient that isn't finite, else 0."""
    pool = pointer(header.pool_address, int64)
    n_elements = header.n_elements
    first = n_elements * part // n_parts // BLOCK * BLOCK
    last = n_elements if part + 1 == n_parts else n_elements * (part + 1) // n_parts // BLOCK * BLOCK
    found = 0
    for i in range(header.n_rows):
        row = row_at(header, i)
        if row.is_frozen:
            continue
        if row.is_whole:
            if row.part == part or n_parts == 1:
                if phase == STATISTICS:
                    found |= take_statistics(header, row, pool, room)
                else:
                    update_whole(header, row, pool, room)
        elif phase == UPDATE:
            if row.grad_mode == SPARSE:
                if part == 0:
                    found |= update_indices(header, row, pool, room)
            else:
                low, high = max(first, row.start), min(last, row.start + row.size)
                low, high = low - row.start, high - row.start
                if low >= high:
                    continue
                if row.param_mode == GATHERED or row.grad_mode == GATHERED:
                    found |= call(header.elements_address, (table, row.address, room, low, high))
                else:
                    found |= update_contiguous(header, row, pool, room, low, high)
    return found


@internal
def sum_totals(header):
    """Sum the statistics of all arrays, one array after the other."""
    totals = pointer(header.totals_address, float64)
    is_first = True
    for k in range(header.n_totals):
        totals[k] = 0.0
    for i in range(header.n_rows):
        row = row_at(header, i)
        if row.is_whole and not row.is_frozen:
            statistics = pointer(row.statistics_address, float64)
            for k in range(header.n_totals):
                totals[k] = statistics[k] if is_first else totals[k] + statistics[k]
            is_first = False


@internal
def count_step(header):
    """Count the step, for each of its parameters."""
    pointer(header.steps_address, int64)[0] += 1
    counts = pointer(header.counts_address, int64)
    for i in range(header.n_rows):
        row = row_at(header, i)
        if not row.is_frozen:
            for k in range(row.count, row.count + row.n_counts):
                counts[k] += 1


@internal
def run_step(params, grads, table, scalars, count, phases):
    """Update every array of a table and count the step, or do nothing.

    Parameters
    ----------
    params, grads : int
        The ``id`` of the list of parameters and of the list of gradients.
    table : int
        The address of the table.
    scalars : int
        The ``id`` of the tuple of the rules' scalars.
    count : int
        What the plan's guard must be: the number of steps that its parameters have taken.
    phases : int
        What to do, a sum of CHECK, STATISTICS, UPDATE and COUNT.

    Returns
    -------
    int
        DONE; NONFINITE if a gradient had a value that isn't finite, or whose square isn't; REFUSED if
        something isn't as the table says. Then nothing has changed.
    """
    header = record_at(table, HEADER_TYPE)
    if phases & CHECK:
        pool = pointer(header.pool_address, int64)
        if (
            word_at(header.guard_address) != count
            or word_at(header.is_retired_address) != 0
            or not check_scalars(scalars, header)
            or not check_arrays(params, grads, header, pool)
            or (header.is_strict and not check_finite(header, pool))
        ):
            return REFUSED
        header.found_nonfinite = 0
    header.float_mode = float_mode()
    if header.flushes_denormals:
        set_float_mode(header.float_mode | FLUSH)
    room = header.scratch_address
    if phases & STATISTICS and header.is_whole:
        header.found_nonfinite |= run_part(header, table, STATISTICS_PASS, ZERO, ONE, room)
        sum_totals(header)
    if phases & UPDATE:
        header.found_nonfinite |= run_part(header, table, UPDATE_PASS, ZERO, ONE, room)
    if header.flushes_denormals:
        set_float_mode(header.float_mode)
    if phases & COUNT:
        count_step(header)
    return NONFINITE if header.found_nonfinite else DONE


@internal
def begin_round(table, phase, number):
    """Offer the parts of a phase to all threads that know the number of the round."""
    header = record_at(table, HEADER_TYPE)
    header.phase = phase
    header.float_mode = float_mode()
    store_at(table + N_FINISHED, 0)
    store_at(table + ROUND, number << 32)
    return DONE


@internal
def share(table, number, thread):
    """Do parts of a round, as long as any is left. The first thread waits until all are done."""
    header = record_at(table, HEADER_TYPE)
    room = header.scratch_address + thread * header.scratch_bytes
    n_parts = header.n_parts
    mode = float_mode()
    while True:
        seen = load_at(table + ROUND)
        part = seen & CLAIMED
        if seen >> 32 != number or part >= n_parts:
            break
        if claim_at(table + ROUND, seen, seen + 1):
            set_float_mode(working_mode(header))
            if run_part(header, table, header.phase, part, n_parts, room):
                header.found_nonfinite = 1
            add_at(table + N_FINISHED, 1)
    if thread == 0:
        while load_at(table + N_FINISHED) < n_parts:
            if header.wait_address != 0:
                call_c(header.wait_address)
        if header.phase == STATISTICS:
            set_float_mode(working_mode(header))
            sum_totals(header)
    set_float_mode(mode)
    return DONE


# What Python or the table needs the address of: the function, and the number of its arguments. Some steps
# need the others, too: on arrays that aren't contiguous or of another dtype, and with averages.
ROUTINES = {
    "run_step": (run_step, 6),
    "begin_round": (begin_round, 3),
    "share": (share, 3),
    "is_finite": (is_finite, 3),
    "elements": (update_elements, 5),
}
OTHER_ROUTINES = {
    "gather": (gather, 10),
    "scatter": (scatter, 9),
    "averages": (update_averages, 6),
}
