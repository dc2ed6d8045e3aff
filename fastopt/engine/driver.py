"""The compiled step: one call that checks every array, then updates them all and counts the step.

The arrays stay objects of the caller's: compiled code is given the ids of two lists, which are addresses, and
reads the C struct of each array, for which Python needs 0.5 µs an array. It is compiled once for all rules,
which it calls by their addresses.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

from numba import float64, int64, prange

from fastopt.engine.checking import check_arrays, check_finite, check_scalars, is_finite
from fastopt.engine.pointers import address_of, array_at, call, pointer
from fastopt.engine.strided import ROW_TYPE, gather, scatter
from fastopt.engine.table import GATHERED, SPARSE
from fastopt.engine.threads import launch
from fastopt.engine.updating import (
    HEADER_TYPE,
    take_statistics,
    update_averages,
    update_contiguous,
    update_elements,
    update_indices,
    update_whole,
)
from fastopt.kernels.jit import compiled, internal

__all__ = ["ALL", "CHECK", "COUNT", "DONE", "NONFINITE", "REFUSED", "STATISTICS", "UPDATE", "get_driver"]

# What a call returns.
DONE, REFUSED, NONFINITE = range(3)

# What a call does, a sum of these.
CHECK, STATISTICS, UPDATE, COUNT = 1, 2, 4, 8
ALL = CHECK | STATISTICS | UPDATE | COUNT

# Threads share the elements at multiples of this, so that they share no cache line of the state.
BLOCK = 64


@internal
def run_part(table, phase, part, n_parts):
    """Do one thread's part of a phase. Returns 1 if it met a gradient that isn't finite, else 0."""
    header = array_at(table, 1, HEADER_TYPE)[0]
    rows = array_at(header.rows_address, header.n_rows, ROW_TYPE)
    pool = pointer(header.pool_address, int64)
    room = header.scratch_address + part * header.scratch_bytes
    n_elements = header.n_elements
    first = n_elements * part // n_parts // BLOCK * BLOCK
    last = n_elements if part + 1 == n_parts else n_elements * (part + 1) // n_parts // BLOCK * BLOCK
    found = 0
    for i in range(header.n_rows):
        row = rows[i]
        if row.is_frozen:
            continue
        if row.is_whole:
            if row.thread == part:
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
def sum_totals(header, rows):
    """Sum the statistics of all arrays, one array after the other."""
    totals = pointer(header.totals_address, float64)
    is_first = True
    for k in range(header.n_totals):
        totals[k] = 0.0
    for i in range(rows.size):
        row = rows[i]
        if row.is_whole and not row.is_frozen:
            statistics = pointer(row.statistics_address, float64)
            for k in range(header.n_totals):
                totals[k] = statistics[k] if is_first else totals[k] + statistics[k]
            is_first = False


@internal
def check(params, grads, table, scalars, count):
    """Whether all is as the table says."""
    header = array_at(table, 1, HEADER_TYPE)[0]
    rows = array_at(header.rows_address, header.n_rows, ROW_TYPE)
    pool = pointer(header.pool_address, int64)
    return (
        pointer(header.guard_address, int64)[0] == count
        and pointer(header.is_retired_address, int64)[0] == 0
        and check_scalars(scalars, header)
        and check_arrays(params, grads, header, rows, pool)
        and (not header.is_strict or check_finite(header, rows, pool))
    )


@internal
def begin_pass(table, phase):
    """Return the number of threads, or 0 if there is nothing to do in a phase."""
    header = array_at(table, 1, HEADER_TYPE)[0]
    if phase != STATISTICS:
        return header.n_threads
    rows = array_at(header.rows_address, header.n_rows, ROW_TYPE)
    return header.n_threads if rows.size and rows[0].is_whole else 0


@internal
def finish(table, phases, found):
    """Sum the statistics, or count the step. Returns NONFINITE or DONE."""
    header = array_at(table, 1, HEADER_TYPE)[0]
    rows = array_at(header.rows_address, header.n_rows, ROW_TYPE)
    if phases & CHECK:
        header.found_nonfinite = found
    elif found:
        header.found_nonfinite = 1
    if phases & COUNT:
        pointer(header.steps_address, int64)[0] += 1
        counts = pointer(header.counts_address, int64)
        for i in range(rows.size):
            row = rows[i]
            if not row.is_frozen:
                first = row.count
                for k in range(first, first + row.n_counts):
                    counts[k] += 1
    return NONFINITE if header.found_nonfinite else DONE


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
    if phases & CHECK and not check(params, grads, table, scalars, count):
        return REFUSED
    found = 0
    if phases & STATISTICS and begin_pass(table, STATISTICS):
        found |= run_part(table, STATISTICS, 0, 1)
        total(table)
    if phases & UPDATE:
        found |= run_part(table, UPDATE, 0, 1)
    return finish(table, phases, found)


def run_step_in_threads(params, grads, table, scalars, count, phases):
    """Do as `run_step` does, in threads."""
    if phases & CHECK and not check(params, grads, table, scalars, count):
        return REFUSED
    found = 0
    if phases & STATISTICS:
        n_threads = begin_pass(table, STATISTICS)
        if n_threads:  # as a loop over nothing would wake the threads, too
            for part in prange(n_threads):
                found += run_part(table, STATISTICS, int64(part), n_threads)
            total(table)
    if phases & UPDATE:
        n_parts = begin_pass(table, UPDATE)
        for part in prange(n_parts):
            found += run_part(table, UPDATE, int64(part), n_parts)
    return finish(table, phases, 1 if found else 0)


@internal
def total(table):
    """Sum the statistics of all arrays of a table."""
    header = array_at(table, 1, HEADER_TYPE)[0]
    sum_totals(header, array_at(header.rows_address, header.n_rows, ROW_TYPE))


@cache
def dispatcher(is_parallel: bool) -> Any:
    """Compile the step, or read it from the disk."""
    with launch:
        function = compiled(run_step_in_threads, parallel=True) if is_parallel else compiled(run_step)
        function.compile((int64,) * 6)
    return function


@cache
def get_driver(is_parallel: bool) -> Callable[..., int]:
    """Return the compiled step."""
    # What `compile` returns doesn't look at the types of its arguments, which takes half of a short call.
    driver: Callable[..., int] = dispatcher(is_parallel).compile((int64,) * 6)
    return driver


def driver_address() -> int:
    """Return the address of the compiled step for one thread."""
    return address_of(dispatcher(False), 6)


@cache
def routines() -> dict[str, int]:
    """Compile what the step calls by its address. Returns the fields of a table's header."""
    with launch:
        return {
            "is_finite_address": address_of(is_finite, 3),
            "gather_address": address_of(gather, 10),
            "scatter_address": address_of(scatter, 9),
            "averages_address": address_of(update_averages, 6),
            "elements_address": address_of(update_elements, 5),
        }
