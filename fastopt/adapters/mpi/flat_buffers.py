"""Containers of arrays as flat buffers: their own, if they are packed, or copies."""

from typing import Any, Literal

import numpy as np

from fastopt.adapters.mpi.sharding import Buffers, ParamSlice, Sharding
from fastopt.arrays.packing import Packed, PackedDict
from fastopt.arrays.snapshots import assign

__all__ = ["FlatBuffers"]


class FlatBuffers:
    """The flat buffers of parameters and gradients, with copies of what isn't packed in the right order."""

    def __init__(self, sharding: Sharding) -> None:
        self.sharding = sharding
        self._copies: dict[str, PackedDict] = {}

    def fits(self, container: Any) -> bool:
        """Whether a container's own buffers can be used."""
        layout = self.sharding.layout
        if self.sharding.is_whole or not isinstance(container, Packed):
            return False
        return container.layout is layout or container.layout == layout

    def of(self, container: Any, role: Literal["params", "grads"], *, only_shard: bool = False) -> Buffers:
        """Return the flat buffers of a container, or of its copy; parameters and gradients have a copy each.

        With ``only_shard`` no more than this rank's shard is copied, as the rest will be gathered.
        """
        if self.fits(container):
            return container.buffers
        if role not in self._copies:
            self._copies[role] = PackedDict(self.sharding.ordered)
        copy = self._copies[role]
        views = self.sharding.combined.params.of(copy.buffers) if only_shard else copy
        with np.errstate(all="ignore"):
            for key, view in views.items():
                if isinstance(key, ParamSlice):
                    flat = np.asarray(container[key.key]).reshape(-1, order=key.order)
                    view[...] = flat[key.first : key.last]
                else:
                    view[...] = container[key]
        return copy.buffers

    def copy_back(self, params: Any) -> None:
        """Copy the updated parameters from their copy to the caller's arrays."""
        if not self.fits(params):
            with np.errstate(all="ignore"):
                assign(params, self._copies["params"])
