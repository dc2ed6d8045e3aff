"""The distribution of the parameters: the layout on all ranks, the shards, the buffers and the messages."""

from collections.abc import Mapping, MutableMapping, MutableSequence
from copy import copy
from typing import Any

import numpy as np

from fastopt.adapters.mpi.exchange import Exchange
from fastopt.adapters.mpi.flat_buffers import FlatBuffers
from fastopt.adapters.mpi.sharding import Sharding, param_key
from fastopt.arrays.containers import check_grad, check_param, match_grads
from fastopt.arrays.layout import Layout, order_of
from fastopt.arrays.rows import Rows
from fastopt.engine.overlap import overlapping_indices
from fastopt.engine.plan import Arrays
from fastopt.options.groups import Grouping

__all__ = ["Distribution"]


class Distribution:
    """The parameters as the ranks share them: layout, container, sharding, buffers and messages.

    The layout is empty before the first call.
    """

    def __init__(
        self,
        comm: Any,
        layout: Layout,
        container: type,
        is_whole: bool,
        is_joint: bool,
        reduce_dtype: np.dtype[Any] | None,
    ) -> None:
        self.layout, self.container = layout, container
        self.sharding = Sharding(layout, is_whole, is_joint, comm.rank, comm.size)
        self.buffers = FlatBuffers(self.sharding)
        self.exchange = Exchange(comm, self.sharding, reduce_dtype)
        self._groupings: tuple[Grouping | None, Grouping | None] = None, None

    def check(self, optimizer: Any, params: Any, grads: Any) -> Layout:
        """Return the layout of parameters: the one that is known, unless these are the first.

        Raises an error if they can't be updated, or aren't those of the first call.
        """
        known, container = self.layout, dict if isinstance(params, Mapping) else list
        if known and container is not self.container:
            raise TypeError(f"params must stay a {self.container.__name__}, as at first")
        is_fit = self.buffers.fits(params) and self.buffers.fits(grads)
        if is_fit and all(flat.flags.writeable for flat in params.buffers.values()):
            return known
        keys, values, gradients = match_grads(params, grads)
        optimizer.check_supported(keys, values)
        is_assignable = isinstance(params, MutableMapping | MutableSequence)
        layout, new = known or Layout(), []
        for key, param, grad in zip(keys, values, gradients, strict=True):
            if isinstance(grad, Rows):
                raise TypeError(f"gradient of {key!r} must be dense, got Rows; pass the whole gradient")
            shape, dtype = check_param(key, param, is_assignable)
            check_grad(key, grad, shape)
            slot = known.get(key)
            if slot is None:
                new.append(key)
                if not known:
                    layout.place(key, shape, dtype, "C" if optimizer.rule_is_whole() else order_of(param))
            elif (shape, dtype) != (slot.shape, slot.dtype):
                raise ValueError(
                    f"parameter {key!r} must stay {slot.dtype} of shape {slot.shape}, got {dtype} of shape "
                    f"{shape}"
                )
        if known and (new or len(keys) != len(known)):
            gone = [key for key in known if key not in keys]
            raise ValueError(
                f"parameters must stay those of the first call; new: {new[:5]}, gone: {gone[:5]}"
            )
        if overlapping_indices(Arrays(keys, values, [None] * len(values), params)):
            raise ValueError("parameters share memory: several ranks can't update them in order")
        return layout

    def group_slices(self, grouping: Grouping | None) -> Grouping | None:
        """Return the groups of this rank's slices, given those of the parameters."""
        known, own = self._groupings
        if grouping is not known:
            own = copy(grouping)
            if grouping is not None and own is not None:
                own.keys = self.sharding.combined.keys
                own.which = {key: grouping.which[param_key(key)] for key in own.keys}
            self._groupings = grouping, own
        return own
