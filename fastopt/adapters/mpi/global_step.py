"""The step of all ranks: agreement, gradients reduced, shards updated, parameters gathered.

Large buffers go in buckets: a sub-range of each rank's shard, two of them on their way at a time, so that
only two need memory for what arrives. Each is updated when its mean is there, while that is in the cache,
and gathered. The engine keeps a plan for each. The first step takes all at once, so that the state is made
in one go. MPI makes progress by itself only where network or library do; between processes of one machine
nothing overlaps. ``nonfinite="raise"`` or ``"skip"``, ``clip_norm`` and rules with statistics have to wait
for all means. Each rank adds up its micro-batches by itself, by the core's own `Accumulation`.
"""

from typing import Any

from fastopt.adapters.mpi.agreement import Agreement, nonfinite_key
from fastopt.adapters.mpi.consensus import MPI, abort_on_error
from fastopt.adapters.mpi.rank_step import RankStep, global_norm, take_step
from fastopt.arrays.containers import match_grads
from fastopt.arrays.packing import Packed
from fastopt.engine.plain import all_finite
from fastopt.engine.plan import Arrays
from fastopt.engine.segment import Calls
from fastopt.options.nonfinite import describe_nonfinite
from fastopt.step import Step

__all__ = ["GlobalStep"]


class GlobalStep:
    """The step that all ranks take together."""

    def __init__(self, agreement: Agreement) -> None:
        self.agreement, self.optimizer, self.comm = agreement, agreement.optimizer, agreement.comm

    def take(self, params: Any, grads: Any, *, is_flush: bool = False) -> bool:
        """Take a step, or add a micro-batch. Returns whether a step was taken."""
        optimizer, agreement = self.optimizer, self.agreement
        if agreement.on_arrays("flush" if is_flush else "update", params, grads):
            optimizer.count_skipped()
            return False
        if is_flush and not agreement.n_accumulated:
            return False
        if agreement.is_accumulating and not is_flush:
            self._accumulate(params, grads)
            return False
        distribution, sharding = agreement.distribution, agreement.distribution.sharding
        is_strict = optimizer.nonfinite != "warn"
        # Whether all elements have to be known before any changes; all state is made at once, at first.
        is_joint = is_strict or optimizer.clip_norm is not None or optimizer.skip_norm is not None
        is_joint = is_joint or sharding.is_joint or not agreement.has_stepped or optimizer.restart_every > 0
        is_finite = True
        with abort_on_error(self.comm):
            also: Calls = []
            if optimizer.accumulation is not None:
                grads, also = self._mean_of_micro_batches(params, grads, is_flush)
            flats = distribution.buffers.of(params, "params", only_shard=True)
            buckets = distribution.exchange.reduce(distribution.buffers.of(grads, "grads"))
            for bucket in buckets if is_joint else ():
                if is_strict:
                    is_finite &= all(map(all_finite, distribution.exchange.means_of(bucket)))
        if is_strict and agreement.consensus.run_on_all(lambda: not is_finite):
            return self._refuse(params, grads)
        if optimizer.skip_norm is not None and not self._norm() <= optimizer.skip_norm:
            optimizer.count_skipped()
            return False
        with abort_on_error(self.comm):
            step = RankStep(optimizer, self.comm, distribution, agreement.grouping, also)
            late, gathers = None, []
            for bucket in [sharding.combined] if is_joint else buckets:
                late = step.take(bucket, flats, distribution.exchange.means) or late
                gathers += distribution.exchange.gather(bucket, flats)
            MPI.Request.Waitall(gathers)
            distribution.buffers.copy_back(params)
            agreement.has_stepped = True
        if late is not None:
            raise late
        return True

    def _norm(self) -> float:
        """Return the norm of the mean gradients of all ranks but the frozen ones."""
        distribution, bucket = self.agreement.distribution, self.agreement.distribution.sharding.combined
        with abort_on_error(self.comm):
            grouping = distribution.group_slices(self.agreement.grouping)
            means = bucket.grads.of(distribution.exchange.means)
            return global_norm(
                self.comm,
                [means[key] for key in bucket.keys if grouping is None or not grouping.is_frozen(key)],
                2.0,
            )

    def _arrays(self, params: Any, grads: Any) -> Arrays:
        """Return the arrays of a micro-batch: the buffers of packed ones, if the sums are packed alike."""
        known = self.optimizer.accumulation.engine.memory.layout
        buffers = self.agreement.distribution.buffers
        is_fit = isinstance(params, Packed) and buffers.fits(params) and buffers.fits(grads)
        if is_fit and (not known or known == params.layout):
            return Arrays(params.layout, [*params.buffers.values()], [*grads.buffers.values()], params)
        return Arrays(*match_grads(params, grads), params)

    def _accumulate(self, params: Any, grads: Any) -> None:
        """Add a micro-batch to this rank's sums."""
        optimizer = self.optimizer
        with abort_on_error(self.comm):
            step = Step(optimizer, self._arrays(params, grads), grouping=self.agreement.grouping)
            step.is_strict = False  # its gradients have been checked
            late = take_step(optimizer, optimizer.accumulation.engine, step)
        if late is not None:
            raise late

    def _mean_of_micro_batches(self, params: Any, grads: Any, is_flush: bool) -> tuple[Any, Calls]:
        """Return the mean of this rank's micro-batches, and the calls that empty the sums."""
        accumulation, grouping = self.optimizer.accumulation, self.agreement.grouping
        arrays = self._arrays(params, grads)
        step = Step(self.optimizer, arrays, is_flush=is_flush, grouping=grouping)
        step.is_strict = False  # its gradients have been checked
        accumulation.before(step)
        keys, _, means = step.by_array()
        return dict(zip(keys, means, strict=True)), list(step.also)

    def _refuse(self, params: Any, grads: Any) -> bool:
        """Leave a step out, or raise FloatingPointError that names the gradient."""
        optimizer = self.optimizer
        if optimizer.nonfinite == "skip":
            optimizer.count_skipped()
            return False
        keys = self.comm.allgather(nonfinite_key(params, grads, self.agreement.distribution.layout))
        for rank, key in enumerate(keys):
            if key is not None:
                raise FloatingPointError(f"rank {rank}: {describe_nonfinite(key, optimizer.iter + 1)}")
        raise FloatingPointError(f"the mean of the gradients must be finite at step {optimizer.iter + 1}")
