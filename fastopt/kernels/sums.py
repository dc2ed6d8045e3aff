"""Sums of gradients: of rows, in the order in which they are given, and of micro-batches."""

from fastopt.compiling import compiled
from fastopt.kernels.common import kernel

__all__ = ["accumulate", "add_rows"]


@compiled
def add_rows(indices, values, places, rows, sums):
    """Note each row once, in the order in which they first come, and add all its values to its sum.

    places, with zeros for all rows of the table, then has where in rows and sums each one is, counted from 1.
    Gives how many there are.
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
    """Total ← total + g; g itself if it is the first."""
    for i in range(param.size):
        total[i] = grad[i] if first else total[i] + grad[i]
