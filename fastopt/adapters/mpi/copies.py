"""Containers as flat buffers: those of packed ones, or of copies."""

from typing import Any

import numpy as np

from fastopt.adapters.mpi.shares import Buffers, Part, Shares
from fastopt.arrays.packing import Packed, PackedDict
from fastopt.arrays.snapshots import assign

__all__ = ["Copies"]


class Copies:
    """The copies of containers whose own buffers can't be shared out.

    Parameters
    ----------
    shares : Shares
        What is whose.
    """

    def __init__(self, shares: Shares) -> None:
        self.shares = shares
        self._packed: dict[str, PackedDict] = {}

    def fit(self, container: Any) -> bool:
        """Whether a container's own buffers can be used."""
        layout = self.shares.layout
        if self.shares.whole or not isinstance(container, Packed):
            return False
        return container.layout is layout or container.layout == layout

    def of(self, container: Any, role: str) -> Buffers:
        """Give the flat buffers of a container, or of its copy.

        Parameters
        ----------
        container : dict or list
            Arrays as in the layout.
        role : {"params", "own", "grads"}
            Of parameters that are "own", only this rank's share is copied: the rest will be gathered.
        """
        if self.fit(container):
            return container.buffers
        place = role.replace("own", "params")
        if place not in self._packed:
            self._packed[place] = PackedDict(self.shares.ordered)
        copy, parts = self._packed[place], self.shares.all.params
        with np.errstate(all="ignore"):
            for key, view in (parts.of(copy.buffers) if role == "own" else copy).items():
                if isinstance(key, Part):
                    flat = np.asarray(container[key.key]).reshape(-1, order=key.order)
                    view[...] = flat[key.first : key.last]
                else:
                    view[...] = container[key]
        return copy.buffers

    def hand_back(self, params: Any) -> None:
        """Copy parameters that have been updated in their copy."""
        if self.fit(params):
            return
        with np.errstate(all="ignore"):
            assign(params, self._packed["params"])
