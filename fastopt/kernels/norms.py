"""Sums of squares, in double precision and in an order that depends on the number of elements only."""

import numpy as np

from fastopt.compiling import compiled
from fastopt.kernels.common import in_lanes, lane_sum

__all__ = ["squares"]


@in_lanes
def add_square(i, lane, values, sums):
    """Add x² to its lane."""
    x = np.float64(values[i])
    sums[lane] += x * x


@compiled
def squares(values, sums):
    """Give Σx² of a flat array, by way of room for the sums of all lanes."""
    sums[:] = 0
    add_square(values.size, values, sums)
    return lane_sum(sums, 0)
