"""`Averaging`: the averaged parameters, of an optimizer, of several as one, and of one for all ranks."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

import numpy as np

from fastopt.arrays.containers import keys_and_values
from fastopt.arrays.snapshots import Restoration
from fastopt.consistency import Consistent
from fastopt.engine.memory import Memory
from fastopt.engine.plan import Arrays

__all__ = ["Averaging", "averages_in"]


class Averaging(Consistent):
    """What can be asked of an optimizer that keeps an average of the parameters."""

    def average(self, params: Any) -> Any:
        """Return the averaged parameters, to be used for predictions; the training goes on from ``params``.

        That is the average of ``ema`` or ``swa``, else the one that the rule itself keeps.

        Parameters
        ----------
        params : dict or list
            What `update` has stepped on.

        Returns
        -------
        dict or list
            New arrays; with several ranks, on every one.

        Raises
        ------
        ValueError
            If there is no average, or none of these parameters.
        """
        return self.read_whole(partial(self.average_in_container, params))

    def average_in_container(self, params: Any) -> Any:
        """Return the average of each parameter in a new dict or list."""
        keys, values = keys_and_values(params)
        result = self.averages_of(Arrays(keys, values, values, params))
        return dict(zip(keys, result, strict=True)) if isinstance(params, Mapping) else result

    def averages_of(self, arrays: Arrays) -> list[np.ndarray]:
        """Return the average of each parameter."""
        raise NotImplementedError

    def averaged(self, params: Any) -> AbstractContextManager[None]:
        """Put the average in the place of the parameters for as long as the block lasts.

        ``with optimizer.averaged(params): evaluate()``. The parameters come back whatever happens, also if
        Ctrl-C is pressed at any moment; what is done to them within the block is lost. (Only where numbers
        are in a container whose ``__setitem__`` is Python code, a second Ctrl-C can interrupt their return.)

        Parameters
        ----------
        params : dict or list
            What is updated.

        Raises
        ------
        ValueError
            If there is no average, or none of these parameters.
        """
        return Restoration(params, values=partial(self.average, params))


def averages_in(
    memory: Memory,
    name: str | None,
    arrays: Arrays,
    own_averages: Sequence[Callable[[Hashable, np.ndarray], np.ndarray | None]],
) -> list[np.ndarray]:
    """Return the average of each parameter; before the first step that is the parameter.

    Parameters
    ----------
    memory : Memory
        The state.
    name : str or None
        The state that is the average; None: what ``own_averages`` return, given key and parameter.

    Raises
    ------
    ValueError
        If there is no average of a parameter.
    """
    views: Mapping[Any, np.ndarray] = memory.views(name) if name and memory.layout else {}
    result = []
    for key, value, own_average in zip(arrays.keys, arrays.params, own_averages, strict=True):
        array = np.asarray(value)
        if not memory.layout:
            result.append(array.copy())
            continue
        if key not in memory.layout or memory.layout[key].shape != array.shape:
            raise ValueError(f"there is no average of {key!r} in this shape, but of {list(memory.layout)}")
        result.append(np.array(views[key] if name else own_average(key, array), array.dtype, order="C"))
    return result
