"""The step of one rank: its optimizer updates its shard, with what the other ranks have to tell of theirs.

A `RankStep` is a `Step` with other calls between its two passes, which add the statistics of the other ranks
within the same chain of C calls; with the maximum over all ranks; and with an option that replaces the norm
of ``clip_norm`` by that of all ranks. If MPI fails in there, the statistics pass has run and the parameters
haven't moved, and all ranks are ended.
"""

from collections.abc import Iterable
from functools import cache, partial
from math import inf
from operator import setitem
from typing import Any

import numpy as np

from fastopt.adapters.mpi.consensus import MPI
from fastopt.adapters.mpi.distribution import Distribution
from fastopt.adapters.mpi.sharding import Bucket, Buffers, param_key
from fastopt.engine.engine import Engine
from fastopt.engine.plan import FROZEN, Arrays
from fastopt.engine.segment import Calls, Segment
from fastopt.options.base import Option
from fastopt.options.clipping import ClipNorm
from fastopt.options.groups import Grouping
from fastopt.options.norms import norm_from, sum_of_terms
from fastopt.options.skipping import SkipLarge
from fastopt.step import Step

__all__ = ["RankStep", "global_norm", "take_step"]


class GlobalNorm(Option):
    """The norm of the gradients of all ranks, which ``clip_norm`` takes."""

    def __init__(self, comm: Any, order: float) -> None:
        self.comm, self.order = comm, order

    def before(self, step: Step) -> bool:
        """Compute the norm."""
        grouping = step.grouping
        keys, _, grads = step.by_array()
        pairs = zip(keys, grads, strict=True)
        arrays = [grad for key, grad in pairs if grouping is None or not grouping.is_frozen(key)]
        step.grad_norm = global_norm(self.comm, arrays, self.order)
        return True


def global_norm(comm: Any, grads: Iterable[np.ndarray], order: float) -> float:
    """Return the norm of the gradients of all ranks, the same on each."""
    own = np.array([sum_of_terms(grads, order)])
    if order == inf:
        parts = np.empty(comm.size)
        comm.Allgather(own, parts)
        return float(parts.max())  # NaN, if one is, which MPI's maximum may not be
    comm.Allreduce(MPI.IN_PLACE, own)
    return norm_from(float(own[0]), order)


class RankStep:
    """A step of this rank's optimizer on its shard of the parameters, one bucket after the other.

    ``also`` are C calls that belong to the step.
    """

    def __init__(
        self, optimizer: Any, comm: Any, distribution: Distribution, grouping: Grouping | None, also: Calls
    ) -> None:
        self.optimizer, self.comm, self.distribution, self.also = optimizer, comm, distribution, also
        self.grouping = distribution.group_slices(grouping)
        self.n_steps = optimizer.iter
        self.has_frozen = grouping is not None and FROZEN in grouping.which.values()

    def take(self, bucket: Bucket, params: Buffers, means: Buffers) -> RuntimeWarning | None:
        """Update this rank's elements of a bucket. Returns the warning that has become an error."""
        optimizer = self.optimizer
        optimizer.engine.memory.steps[()] = self.n_steps  # the update is the same for all buckets
        views = bucket.params.of(params)
        arrays = Arrays(bucket.keys, [*views.values()], [*bucket.grads.of(means).values()], views)
        step = Step(optimizer, arrays, grouping=self.grouping)
        step.options = tuple(
            option
            for own in step.options
            if own is not optimizer.accumulation and not isinstance(own, SkipLarge)
            for option in (
                [GlobalNorm(self.comm, own.norm.order), own] if isinstance(own, ClipNorm) else [own]
            )
        )
        step.is_strict = False  # the mean gradients of all ranks have been checked
        step.also, self.also = self.also, []
        if optimizer.n_totals or optimizer.step_rule.n_additive:
            own_calls = step.between or (lambda segment: [])
            step.between = lambda segment: self._reduce_calls(bucket, segment) + own_calls(segment)
        if optimizer.n_totals:
            step.maximum = cache(self._maximum)  # once, even if a plan of before doesn't fit
        late = take_step(optimizer, optimizer.engine, step)
        if optimizer.n_totals and self.has_frozen:
            self._share_states(bucket)
        return late

    def _reduce_calls(self, bucket: Bucket, segment: Segment) -> Calls:
        """Return the C calls that add the statistics of other ranks' slices of the same arrays, or of all."""
        reduce = partial(self.comm.Allreduce, MPI.IN_PLACE)
        sharding = self.distribution.sharding
        if self.optimizer.n_totals:
            return [partial(reduce, segment.totals)]
        if sharding.is_whole:
            return []
        positions = {key: position for position, key in enumerate(sharding.layout)}
        keys = [param_key(bucket.keys[entry.position]) for entry in segment.entries]
        own = np.array([positions[key] for key in keys], dtype=np.intp)
        n_additive = self.optimizer.step_rule.n_additive
        everything = np.zeros((len(positions), n_additive), dtype=np.float64)
        sums = np.zeros((own.size, n_additive), dtype=np.float64)
        return [
            partial(everything.fill, 0),
            partial(setitem, everything, own, segment.sums),
            partial(reduce, everything),
            partial(everything.take, own, 0, sums, "clip"),
            partial(setitem, segment.sums, ..., sums),
        ]

    def _maximum(self, value: float) -> float:
        """Return the largest of the ranks' values."""
        result = np.array([value], dtype=np.float64)
        self.comm.Allreduce(MPI.IN_PLACE, result, MPI.MAX)
        return float(result[0])

    def _share_states(self, bucket: Bucket) -> None:
        """Copy the states that all parameters have alike to ranks whose slices are all frozen."""
        memory, size, grouping = self.optimizer.engine.memory, self.comm.size, self.grouping
        keys = [key for key in bucket.keys if grouping is None or not grouping.is_frozen(key)]
        updated = [key for key in keys if memory.layout[key].size]
        source = np.array([self.comm.rank if updated else size])
        self.comm.Allreduce(MPI.IN_PLACE, source, MPI.MIN)
        if source[0] == size:
            return
        for spec in memory.specs:
            if spec.is_shared:
                views = memory.views(spec.name)
                value = np.array([views[updated[0]].item() if updated else 0.0])
                self.comm.Bcast(value, int(source[0]))
                for view in views.values() if not updated else ():
                    view[...] = value[0]


def take_step(optimizer: Any, engine: Engine, step: Step) -> RuntimeWarning | None:
    """Take a step. Returns the warning that has become an error after it was taken.

    Raises RuntimeError if the step was left out.
    """
    before, late = engine.memory.steps.item(), None
    try:
        optimizer.take(step)
    except RuntimeWarning as warning:
        late = warning
    if engine.memory.steps.item() == before:
        raise RuntimeError("the step was left out on this rank alone") from late
    return late
