"""The agreement before a step: what every rank must have alike, and the check that it has.

Each method first says which it is, with the number of steps. So ranks whose calls differ raise an error that
names both calls, instead of taking each other's messages. At the end of its program a rank goes on saying so
(`communicators`), until all ranks have come to theirs.

Before anything else, one ``Allreduce`` of four integers tells whether a rank has failed, whether one's
micro-batch isn't finite, and a checksum of parameters, options and step number, as minimum and as maximum.
Only if that is bad, messages are gathered (pickled) and raised on all ranks. With ``nonfinite="raise"`` or
``"skip"``, each rank checks its shard of the mean in one pass, and one more ``Allreduce`` decides. Which
rank's gradient it was is found only then. What fails after that can't be taken back, so it ends all ranks
(`abort_on_error`).
"""

import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from fastopt.adapters.mpi.consensus import Consensus
from fastopt.adapters.mpi.distribution import Distribution
from fastopt.arrays.containers import keys_and_values, match_grads
from fastopt.arrays.layout import Layout
from fastopt.engine.finite import find_nonfinite
from fastopt.engine.plan import Arrays
from fastopt.options.groups import Grouping
from fastopt.options.nonfinite import describe_nonfinite
from fastopt.options.schedule import value_at
from fastopt.schedules.base import form_of

__all__ = ["WHOLE", "Agreement", "nonfinite_key"]

# Options that need whole arrays.
WHOLE_FIELDS = ("clip_norm_each", "clip_rms", "clip_adaptive")
WHOLE = "clip_norm_each, clip_rms and clip_adaptive need whole arrays:"


class Agreement:
    """What the ranks have agreed on: the parameters, their distribution and their groups.

    ``has_stepped`` is whether the state of all parameters is there.
    """

    def __init__(self, optimizer: Any, comm: Any, reduce_dtype: np.dtype[Any] | None) -> None:
        self.optimizer, self.comm, self.reduce_dtype = optimizer, comm, reduce_dtype
        self.consensus = Consensus(comm)
        self.distribution = Distribution(comm, Layout(), dict, False, False, reduce_dtype)
        self.grouping: Grouping | None = None
        self.has_stepped = False
        self._token: object = None
        self._fields = {f"{type(optimizer).__name__}'s {name}": name for name in optimizer.saved_fields()}
        self._digest = 0

    @property
    def n_accumulated(self) -> int:
        """Number of micro-batches that are in."""
        accumulation = self.optimizer.accumulation
        return 0 if accumulation is None else max(accumulation.filled.values(), default=0)

    @property
    def is_accumulating(self) -> bool:
        """Whether the next gradients are those of a micro-batch that others follow."""
        accumulation = self.optimizer.accumulation
        return accumulation is not None and self.n_accumulated + 1 < accumulation.every

    def needs_whole(self, saved: Mapping[str, Any] | None = None) -> bool:
        """Whether arrays must not be cut, with hyperparameters that were saved or the optimizer's."""
        rule = self.optimizer.step_rule
        own = vars(self.optimizer) if saved is None else saved
        is_clipped = any(own.get(name) is not None for name in WHOLE_FIELDS)
        return is_clipped or (rule.is_whole and not rule.n_additive)

    def check_new(self) -> None:
        """Raise ValueError if the optimizer has state."""
        if self.optimizer.iter or self.optimizer.engine.memory.layout or self.n_accumulated:
            raise ValueError("optimizer has taken steps already: wrap a new one, and load a checkpoint")

    def check_options(self) -> None:
        """Raise ValueError if an option can't be had on several ranks."""
        if self.optimizer.recorded is not None:
            raise ValueError("record can't be had with DataParallel: a rank sees its shard only")
        if self.optimizer.state_dtype is not None:
            raise ValueError("state_dtype can't be had with DataParallel: a rank has parts of arrays")
        if self.optimizer.skip_norm is not None and self.optimizer.accumulate > 1:
            raise ValueError(
                "skip_norm can't be had with accumulate in DataParallel, where a rank doesn't see the other "
                "ranks' micro-batches: leave one of them out"
            )

    def on_arrays(self, call: str, params: Any, grads: Any) -> bool:
        """Check on all ranks that these arrays can be updated, and that all make the same call.

        Of "flush" the step is that of the micro-batches that are in, and not of these gradients. Returns
        whether a micro-batch has to be skipped. Raises the same error on all ranks.
        """
        layout, optimizer = self.distribution.layout, self.optimizer
        is_step, is_flush = call in ("update", "flush"), call == "flush"
        common: dict[str, Any] = {}

        def prepare() -> bool:
            nonlocal layout
            if is_step:
                self.check_options()
            sharding = self.distribution.sharding
            if self.has_stepped and self.needs_whole() != sharding.is_whole:
                raise ValueError(f"{WHOLE} choose before the first step")
            if len(optimizer.engine.memory.layout) > len(sharding.combined.slots):
                raise ValueError("optimizer has been stepped by itself: only DataParallel.update may")
            layout = self.distribution.check(optimizer, params, grads)
            if layout is not self.distribution.layout:
                self._digest = zlib.crc32(repr(describe_layout(layout)).encode())
            if self._token is not optimizer.token or layout is not self.distribution.layout:
                self.grouping = self._grouping_of(params)
                self._token = optimizer.token
            self._check_sums(layout)
            common.update(self._common(call, is_step))
            if is_step and not self.has_stepped:
                common.update(param_checksums(params))
            key = None
            if is_step and self.is_accumulating and not is_flush and optimizer.nonfinite != "warn":
                key = nonfinite_key(params, grads, layout)
            if key is not None and optimizer.nonfinite == "raise":
                raise FloatingPointError(describe_nonfinite(key, optimizer.iter + 1))
            return key is not None

        is_skipped = self.consensus.run_on_all(
            prepare,
            number=lambda: zlib.crc32(f"{self._digest} {common}".encode()),
            details=lambda: (
                {"the call": call} | common | {"the parameters": [*layout]} | describe_layout(layout)
            ),
        )
        is_whole = self.needs_whole()
        if layout is not self.distribution.layout or is_whole != self.distribution.sharding.is_whole:
            container = dict if isinstance(params, Mapping) else list
            self.distribution = Distribution(
                self.comm, layout, container, is_whole, optimizer.step_rule.is_whole, self.reduce_dtype
            )
        return is_skipped

    def _check_sums(self, layout: Layout) -> None:
        """Raise ValueError if the micro-batches that are in aren't those of all parameters."""
        accumulation = self.optimizer.accumulation
        if accumulation is not None and accumulation.filled:
            filled = accumulation.filled
            if filled.keys() != layout.keys() or len({*filled.values()}) > 1:
                raise ValueError(
                    "the micro-batches of a step must be of all parameters, but those that are in are of "
                    f"{filled}"
                )

    def _grouping_of(self, params: Any) -> Grouping | None:
        """Return the groups of the parameters, if there are any."""
        optimizer = self.optimizer
        if optimizer.groups is None and optimizer.decay_params == "all":
            return None
        keys, values = keys_and_values(params)
        return Grouping(
            optimizer.groups or {}, optimizer.decay_params == "matrices", keys, values,
            check_of=optimizer.check_of,
        )  # fmt: skip

    def _common(self, call: str, is_step: bool) -> dict[str, Any]:
        """Return what must be the same on all ranks, besides the parameters."""
        optimizer = self.optimizer
        common: dict[str, Any] = {
            "the call": call,
            "the rule": type(optimizer).__name__,
            "reduce_dtype": str(self.reduce_dtype),
        }
        common |= {"iter": optimizer.iter, "the number of micro-batches": self.n_accumulated}
        common |= {label: getattr(optimizer, name) for label, name in self._fields.items()}
        t = optimizer.iter + 1
        for name, schedule in optimizer.schedules.items():
            common[f"{type(optimizer).__name__}'s {name}"] = form_of(schedule)
            if is_step:
                common[f"the {name} of the schedule"] = value_at(schedule, t, name, optimizer.check_of(name))
        grouping = self.grouping
        groups = "none" if grouping is None else f"{grouping.sets} for {grouping.which}"
        for own in () if grouping is None or not is_step else grouping.schedules:
            common[own.label] = value_at(own.schedule, t, own.label, own.check)
        return common | {"groups": groups}


def describe_layout(layout: Layout) -> dict[str, str]:
    """Return a description of each parameter, which all ranks must have alike."""
    return {
        f"parameter {key!r}": f"{slot.dtype} of shape {slot.shape}, in order {slot.order}"
        for key, slot in layout.items()
    }


def param_checksums(params: Any) -> dict[str, str]:
    """Return a checksum of each parameter's values."""
    return {
        f"parameter {key!r} before the first step (broadcast makes it so)": "of checksum "
        f"{zlib.crc32(np.asarray(value).tobytes()):08x}"
        for key, value in zip(*keys_and_values(params), strict=True)
    }


def nonfinite_key(params: Any, grads: Any, layout: Layout) -> Any:
    """Return the key of the first gradient that isn't finite, or None."""
    return find_nonfinite(Arrays(*match_grads(params, grads), params), layout)
