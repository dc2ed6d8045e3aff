"""State dicts of shards: made of an ordinary state dict, and joined to one again."""

from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import Any

import numpy as np

from fastopt.adapters.mpi.sharding import ParamSlice, Sharding, param_key
from fastopt.arrays.containers import in_list, items
from fastopt.arrays.layout import Layout
from fastopt.checkpoints.upgrades import SUMS

__all__ = ["Shapes", "StateAssembler", "join_states", "slice_state", "with_names", "with_slices"]

# For each state the function that returns its shape from the parameter's; None if the shapes are equal.
Shapes = Mapping[str, Callable[[tuple[int, ...]], tuple[int, ...]] | None]


class StateAssembler:
    """The arrays of one state, assembled from slices, for the parameters or slices in ``slots``.

    ``shape`` returns the shape of a state that is the same for all slices of an array.
    """

    def __init__(self, layout: Layout, slots: Layout, shape: Any) -> None:
        self.layout, self.slots, self.shape = layout, slots, shape
        self._flats: dict[Hashable, np.ndarray] = {}
        self._n_missing: dict[Hashable, int] = {}
        self._transposed: dict[Hashable, list[tuple[ParamSlice, np.ndarray]]] = {}
        self._wanted: dict[Hashable, list[ParamSlice]] = {}
        for key, slot in slots.items():
            own = key if isinstance(key, ParamSlice) else ParamSlice(key, 0, slot.size, slot.order)
            self._wanted.setdefault(own.key, []).append(own)

    def add(self, slices: Iterable[tuple[ParamSlice, np.ndarray]]) -> None:
        """Copy the wanted elements of some slices."""
        for own, array in slices:
            for wanted in self._wanted.get(own.key, ()):
                if self.shape is not None:
                    self._flats[wanted] = array
                elif own.order == wanted.order:
                    self._copy(wanted, own.first, array)
                elif wanted is self._wanted[own.key][0]:
                    self._transposed.setdefault(own.key, []).append((own, array))

    def _copy(self, wanted: ParamSlice, start: int, array: np.ndarray) -> None:
        """Copy the wanted elements of an array that has those from ``start`` on."""
        if wanted not in self._flats:
            self._n_missing[wanted] = wanted.last - wanted.first
            self._flats[wanted] = np.empty(self._n_missing[wanted], dtype=array.dtype)
        low, high = max(start, wanted.first), min(start + array.size, wanted.last)
        if low < high:
            self._flats[wanted][low - wanted.first : high - wanted.first] = array[low - start : high - start]
            self._n_missing[wanted] -= high - low

    def arrays(self, name: str) -> dict[Hashable, np.ndarray]:
        """Return the wanted arrays, except those of which there is no slice. Raises if one is incomplete."""
        for key, slices in self._transposed.items():  # saved in the other order of the elements
            slot = self.layout[key]
            flat = np.concatenate([array for _, array in sorted(slices, key=lambda pair: pair[0].first)])
            if flat.size == slot.size:
                flat = flat.reshape(slot.shape, order=slices[0][0].order).reshape(-1, order=slot.order)
                for wanted in self._wanted[key]:
                    self._copy(wanted, 0, flat)
        result: dict[Hashable, np.ndarray] = {}
        for key, slot in self.slots.items():
            wanted = key if isinstance(key, ParamSlice) else self._wanted[key][0]
            if self._n_missing.get(wanted, 0):
                raise ValueError(
                    f"{name} of {key!r} must be complete, but {self._n_missing[wanted]} elements of it are "
                    "missing"
                )
            if wanted in self._flats:
                shape = slot.shape if self.shape is None else self.shape(slot.shape)
                result[key] = self._flats[wanted].reshape(shape, order=slot.order)
        return result


def slice_state(state: Mapping[str, Any], sharding: Sharding, shapes: Shapes) -> dict[str, Any]:
    """Return an ordinary state dict as that of a rank whose slices are all parameters."""
    if state.get("quantized"):
        raise ValueError("its states are quantized: load and save it by an optimizer without state_dtype")
    if sharding.is_whole:
        return dict(state)
    layout, result = sharding.layout, dict(state)
    result["state"] = {}
    for name, arrays in state["state"].items():
        slices, shape = {}, shapes.get(name)
        for key, array in items(arrays or {}):
            slot = layout.get(key)
            if slot is None:
                raise ValueError(f"{name} of {key!r} has no parameter here")
            wanted = slot.shape if shape is None else shape(slot.shape)
            if (array.shape, array.dtype) != (wanted, slot.dtype):
                raise ValueError(
                    f"{name} of {key!r} must be {slot.dtype} of shape {wanted} for the parameter here, "
                    f"got {array.dtype} of shape {array.shape}"
                )
            slices[ParamSlice(key, 0, array.size, slot.order)] = array.reshape(-1, order=slot.order)
        result["state"][name] = None if arrays is None else slices
    if "counts" in state:
        result["counts"] = {
            ParamSlice(key, 0, layout[key].size, layout[key].order): count
            for key, count in state["counts"].items()
            if key in layout
        }
    return result


def join_states(
    states: Iterable[Mapping[str, Any]], sharding: Sharding, slots: Layout, shapes: Shapes
) -> dict[str, Any]:
    """Join the state dicts of several ranks' optimizers, or what `slice_state` returns.

    ``slots`` is what is wanted: ``sharding.combined.slots`` for the state dict of this rank,
    ``sharding.layout`` for the ordinary one.
    """
    result: dict[str, Any] = {}
    sums: list[Mapping[str, Any]] = []
    found: dict[str, Any] = {}
    counts: dict[Hashable, int] = {}
    told: dict[Hashable, Any] = {}
    for state in states:
        if not result:
            result = {**state, "state": dict.fromkeys(state["state"])}
        told |= state.get("shapes", {})
        for name in ("iter", "skipped"):
            result[name] = max(result[name], state[name])
        counts |= {param_key(key): count for key, count in counts_of(state).items()}
        sums += [inner for name, inner in state.get("inner", {}).items() if name == SUMS]
        for name, arrays in state["state"].items():
            if arrays is None:
                continue
            if sharding.is_whole:
                found.setdefault(name, {}).update(items(arrays))
            else:
                if name not in found:
                    found[name] = StateAssembler(sharding.layout, slots, shapes.get(name))
                found[name].add(items(arrays))
    for name, there in found.items():
        arrays = there if sharding.is_whole else there.arrays(name)
        result["state"][name] = {key: arrays[key] for key in slots if key in arrays}
    if sums:
        result["inner"] = {**result["inner"], SUMS: mean_of_sums(sums)}
    result.pop("counts", None)
    if told:
        result["shapes"] = told
    known = next((there for there in result["state"].values() if there is not None), slots)
    own = {key: counts[param_key(key)] for key in known if param_key(key) in counts}
    return result if set(own.values()) <= {result["iter"]} else {**result, "counts": own}


def counts_of(state: Mapping[str, Any]) -> dict[Hashable, int]:
    """Return the number of steps of each parameter, or slice, in a state dict."""
    if "counts" in state:
        return dict(state["counts"])
    return {key: state["iter"] for arrays in state["state"].values() for key, _ in items(arrays or {})}


@np.errstate(all="ignore")
def mean_of_sums(states: list[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the state dict of sums of micro-batches, of which every rank has its own, with their mean."""
    result = {**states[0], "state": {}}
    for name, first in states[0]["state"].items():
        total = {key: array.copy("K") for key, array in items(first or {})}
        for state in states[1:]:
            for key, array in items(state["state"][name] or {}):
                total[key] += array
        for array in total.values():
            array /= len(states)
        of_container = in_list(total) if isinstance(first, list) else total
        result["state"][name] = None if first is None else of_container
    return result


def with_names(state: Mapping[str, Any]) -> dict[str, Any]:
    """Return the state dict of a rank's optimizer with names in the place of slices, as files need them."""
    return replace_keys(state, name_of)


def with_slices(state: Mapping[str, Any]) -> dict[str, Any]:
    """Return a state dict with slices in the place of their names."""
    return replace_keys(state, slice_of)


def replace_keys(state: Mapping[str, Any], new: Callable[[Any], Hashable]) -> dict[str, Any]:
    """Return a state dict with other keys."""
    states = {
        name: arrays and {new(key): array for key, array in arrays.items()}
        for name, arrays in state["state"].items()
    }
    result = {**state, "state": states}
    if "counts" in state:
        result["counts"] = {new(key): count for key, count in state["counts"].items()}
    return result


def name_of(own: ParamSlice) -> str:
    """Return the name of a slice, from which `slice_of` makes the slice."""
    if isinstance(own.key, str):
        key = "s" + str.__str__(own.key)
    elif isinstance(own.key, int | np.integer):
        key = f"i{int(own.key)}"
    else:
        raise TypeError(f"parameter {own.key!r}: a checkpoint takes names that are str or int")
    return f"{own.first} {own.last} {own.order} {key}"


def slice_of(name: str) -> ParamSlice:
    """Return the slice that has a name."""
    first, last, order, key = name.split(" ", 3)
    known = int(key[1:]) if key[0] == "i" else key[1:]
    return ParamSlice(known, int(first), int(last), "C" if order == "C" else "F")
