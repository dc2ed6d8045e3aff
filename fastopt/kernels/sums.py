"""Sums of gradients: of rows, in the order in which they are given, of micro-batches, and of ranks."""

import numpy as np

from fastopt.kernels.common import kernel, loop_range
from fastopt.kernels.jit import compiled

__all__ = ["accumulate", "add_rows", "assign", "mean_of_ranks", "mean_with"]


def add_rows_in_numpy(indices, values, places, rows, sums):
    """Add all values of a row to its sum, as `add_rows`."""
    order = np.arange(1, indices.size + 1)
    places[indices[::-1]] = order[::-1]  # of equal indices the last one holds, which is the first here
    is_first = places[indices] == order
    first_rows = indices[is_first]
    count = first_rows.size
    places[first_rows] = order[:count]
    rows[:count] = first_rows
    sums[:count] = 0 + values[is_first]
    np.add.at(sums, places[indices[~is_first]] - 1, values[~is_first])
    return count


@compiled(numpy=add_rows_in_numpy)
def add_rows(indices, values, places, rows, sums):
    """Note each row once, in the order in which they first come, and add all its values to its sum.

    places, with zeros for all rows of the table, then has where in rows and sums each one is, counted from 1.
    Returns how many there are.
    """
    count, zero = 0, values.dtype.type(0)
    for k in range(indices.size):
        row = indices[k]
        place = places[row] - 1
        if place < 0:
            place = count
            count += 1
            places[row] = count
            rows[place] = row
            for j in range(values.shape[1]):
                sums[place, j] = zero + values[k, j]  # which makes +0 of -0, as a sum
        else:
            for j in range(values.shape[1]):
                sums[place, j] += values[k, j]
    return count


@kernel
def accumulate(param, grad, total, grad_scale, l2, keep, first):
    """Add a gradient: total ← total + g, g itself if it is the first."""
    for i in range(param.size):
        total[i] = grad[i] if first else total[i] + grad[i]


@kernel
def mean_with(param, grad, mean, grad_scale, l2, keep, number):
    """Mean ← (param + g) / number, where param is the sum of the gradients before the last one."""
    for i in range(param.size):
        mean[i] = (param[i] + grad[i]) / number


@compiled
def assign(total, values):
    """Begin a total: total ← values."""
    for i in range(total.size):
        total[i] = values[i]


@compiled
def add(total, values):
    """Add to a total: total ← total + values."""
    for i in range(total.size):
        total[i] += values[i]


@compiled
def divide(result, total, number):
    """Divide a total: result ← total / number."""
    for i in range(result.size):
        result[i] = total[i] / number


@compiled
def mean_of_ranks(own, rank, received, work, result):
    """Take the mean of the ranks' values, in their order and in the dtype of work, a piece of memory.

    result ← ((g₀ + g₁) + ...) / N, where received has the others' g, a row each.
    """
    ranks = received.shape[0] + 1
    for first in loop_range(0, result.size, work.size):
        last = min(first + work.size, result.size)
        total = work[: last - first]
        for k in loop_range(ranks):
            values = own[first:last] if k == rank else received[k - (k > rank), first:last]
            if k == 0:
                assign(total, values)
            else:
                add(total, values)
        divide(result[first:last], total, work.dtype.type(ranks))
