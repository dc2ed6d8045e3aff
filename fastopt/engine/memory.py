"""The state of an optimizer: flat buffers, and how many steps each parameter has taken.

Each parameter has its own history: state, averages, micro-batches and count of steps. Parameters of one
group and count share a set of scalars. Three things belong to the whole optimizer: the schedules, which go
by ``iter``; the norm of ``clip_norm``; and Prodigy's r and d (``State(is_shared=True)``). The state of a
frozen parameter begins when it is thawed (`Memory.unstarted`).

The counts also guard a step. A plan compares one count, that of its first parameter, with what the caller
read. All other counts must differ from it by what they did when the plan was made. So two Python threads, or
a handler within a step, can't take the same step twice. A memory whose place another one has taken (`load`,
`drop_state`, more parameters) is retired: a plan for it that an interrupted step still has is refused.
"""

from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from functools import partial
from math import prod
from operator import setitem
from typing import Any, NamedTuple

import numpy as np

from fastopt.arrays.layout import Layout, Slot, aligned_zeros
from fastopt.engine.quantized import QuantizedArray, Rounding, SavedCodes
from fastopt.kernels.quantization import MIN_SIZE

__all__ = ["Memory", "StateSpec", "is_apart"]

# A state of one parameter, flat.
Storage = np.ndarray | QuantizedArray


class StateSpec(NamedTuple):
    """One array of state for each parameter.

    Attributes
    ----------
    name : str
        Unique among the states of the rule and of its options: those of an option are named
        ``"lookahead.slow"``.
    init : callable, optional
        Returns the values before a parameter's first step, from the optimizer, the parameter and its
        gradient; without it they are 0.
    shape : callable, optional
        Returns the shape of the state from the parameter's; without it they are equal.
    is_shared : bool
        Whether all parameters have the same values, which a step computes from all of them.
    quantized : str, optional
        What may be rounded, as `State` has it: "values" or "roots".
    format : str, optional
        How large parameters have it in fewer bytes, see `fastopt.kernels.quantization`.
    """

    name: str
    init: Callable[[Any, Any, Any], Any] | None = None
    shape: Callable[[tuple[int, ...]], tuple[int, ...]] | None = None
    is_shared: bool = False
    quantized: str | None = None
    format: str | None = None

    @property
    def rounding(self) -> Rounding | None:
        """How large parameters have it in fewer bytes, if they have."""
        return None if self.format is None else self.rounding_in(self.format)

    def rounding_in(self, name: str) -> Rounding | None:
        """Return how it is in a format, if it may be rounded."""
        return None if self.quantized is None else Rounding(name, self.quantized == "roots")

    def layout(self, params: Layout) -> Layout:
        """Return the layout of the state, given that of the parameters."""
        if self.shape is None:
            return params
        own = Layout()
        for key, slot in params.items():
            own.place(key, self.shape(slot.shape), slot.dtype)
        return own

    def storage(self, slot: Slot) -> Storage:
        """Return room for the state of a parameter whose states lie apart."""
        if self.rounding is None:
            return aligned_zeros(slot.size, slot.dtype)
        return QuantizedArray(slot.size, slot.dtype, self.rounding)


def is_apart(specs: Iterable[StateSpec], shape: tuple[int, ...]) -> bool:
    """Whether the states of a parameter of a shape lie apart: it is large enough for fewer bytes."""
    return prod(shape) >= MIN_SIZE and any(spec.rounding is not None for spec in specs)


def array_of(storage: Storage) -> np.ndarray:
    """Return the array that all of a state is in."""
    return storage.data if isinstance(storage, QuantizedArray) else storage


class Memory:
    """The state of some parameters. It doesn't change its layout: another one takes its place.

    Parameters
    ----------
    specs : sequence of StateSpec
        The states, in the order of the kernel's arguments, then those of the options.
    layout : Layout
        The parameters.
    container : {dict, list}, optional
        What the parameters are in; None before the first step.
    n_steps : int
        Number of steps taken so far.

    Attributes
    ----------
    buffers : dict of dtype to tuple of flat arrays
        One array for each state.
    apart : dict
        For parameters whose states aren't in the buffers, a flat array, or `QuantizedArray`, for each state.
    layouts : list of Layout
        One for each state.
    counts : int64 array
        Number of steps that each parameter has taken; those of one dtype are neighbors.
    positions : dict
        For each key the index of its count.
    steps : int64 array without dimensions
        Number of steps taken; compiled code counts here.
    is_retired : int64 array without dimensions
        1 when another memory has taken its place: no plan for this one takes a step any longer.
    """

    def __init__(
        self,
        specs: Sequence[StateSpec],
        layout: Layout | None = None,
        container: type | None = None,
        n_steps: int = 0,
    ) -> None:
        self.specs = tuple(specs)
        self.layout = Layout() if layout is None else layout
        self.container = container
        self.layouts = [spec.layout(self.layout) for spec in specs]
        self.buffers = {
            dtype: tuple(aligned_zeros(own.sizes[dtype], dtype) for own in self.layouts)
            for dtype in self.layout.sizes
        }
        self.apart = {
            key: tuple(spec.storage(slot) for spec in specs)
            for key, slot in self.layout.items()
            if slot.is_apart
        }
        ordered = sorted(self.layout, key=lambda key: self.layout[key].dtype.num)
        self.positions = {key: position for position, key in enumerate(ordered)}
        self.counts = np.zeros(len(ordered), dtype=np.int64)
        self.steps = np.array(n_steps, dtype=np.int64)
        self.is_retired = np.zeros((), dtype=np.int64)
        # What a checkpoint says of parameters without states, which it doesn't describe otherwise.
        self.saved_counts: Mapping[Hashable, int] = {}
        self.saved_count = 0
        self.last_views: dict[str, tuple[Any, list[np.ndarray]]] = {}
        # Parameters that have been frozen so far: their states have no first values yet.
        self.unstarted: set[Hashable] = set()

    def extended(self, layout: Layout, container: type | None) -> "Memory":
        """Return a memory with room for further parameters, whose states are 0."""
        new = Memory(self.specs, layout, container)
        new.steps = self.steps
        for dtype, buffers in self.buffers.items():
            for target, source in zip(new.buffers[dtype], buffers, strict=True):
                target[: source.size] = source
        for key, storages in self.apart.items():
            for own, other in zip(new.apart[key], storages, strict=True):
                array_of(own)[...] = array_of(other)
        new.saved_counts, new.saved_count = self.saved_counts, self.saved_count
        new.unstarted = set(self.unstarted)
        new.counts[:] = self.counts_of(new.positions)
        return new

    def counts_of(self, keys: Iterable[Hashable]) -> list[int]:
        """Return how many steps each of some parameters has taken, be it known from a checkpoint only."""
        counts, positions = self.counts.tolist(), self.positions
        return [
            counts[positions[key]] if key in positions else self.saved_counts.get(key, self.saved_count)
            for key in keys
        ]

    def copy(self) -> "Memory":
        """Return a copy that counts its own steps."""
        new = self.extended(self.layout, self.container)
        new.steps = self.steps.copy()
        return new

    def copy_calls(self, other: "Memory") -> list[Callable[[], Any]]:
        """Return the C calls that copy the states and counts of a memory with the same layout here."""
        calls: list[Callable[[], Any]] = []
        for dtype, buffers in self.buffers.items():
            calls += [partial(setitem, a, ..., b) for a, b in zip(buffers, other.buffers[dtype], strict=True)]
        for key, storages in self.apart.items():
            pairs = zip(storages, other.apart[key], strict=True)
            calls += [partial(setitem, array_of(a), ..., array_of(b)) for a, b in pairs]
        calls += [
            partial(setitem, self.counts, ..., other.counts),
            partial(setitem, self.steps, ..., other.steps),
        ]
        return [*calls, partial(self.unstarted.intersection_update, other.unstarted)]

    def clear_calls(self, keys: Collection[Hashable], specs: Sequence[StateSpec]) -> list[Callable[[], Any]]:
        """Return the C calls that set some states, the first ones, of some parameters to 0."""
        if len(keys) == len(self.layout):
            states = [*self.buffers.values(), *self.apart.values()]
            flats = [array_of(flat) for own in states for flat in own[: len(specs)]]
        else:
            flats = [array_of(self.flat_states(key)[k]) for key in keys for k in range(len(specs))]
        return [partial(flat.fill, 0) for flat in flats]

    def flat_states(self, key: Hashable) -> tuple[Storage, ...]:
        """Return flat views of the states of one parameter."""
        if key in self.apart:
            return self.apart[key]
        buffers = self.buffers[self.layout[key].dtype]
        return tuple(own[key].flat_view(b) for own, b in zip(self.layouts, buffers, strict=True))

    def stored(self, name: str) -> dict[Hashable, Any]:
        """Return one state of each parameter: views in the parameters' shapes, or a `QuantizedArray`."""
        index = next(i for i, spec in enumerate(self.specs) if spec.name == name)
        result: dict[Hashable, Any] = {}
        for key, slot in self.layouts[index].items():
            if not slot.is_apart:
                result[key] = slot.view(self.buffers[slot.dtype][index])
                continue
            own = self.apart[key][index]
            if not isinstance(own, QuantizedArray):
                own = own.reshape(slot.shape, order=slot.order)
            result[key] = own
        return result

    def views(self, name: str) -> dict[Hashable, np.ndarray]:
        """Return one state of each parameter in its shape: views, or read-only copies of quantized ones."""
        return {key: self._shown(key, own) for key, own in self.stored(name).items()}

    def _shown(self, key: Hashable, own: Any) -> np.ndarray:
        """Return a state in the parameter's shape."""
        if not isinstance(own, QuantizedArray):
            return own
        slot = self.layout[key]
        values = own.decoded().reshape(slot.shape, order=slot.order)
        values.flags.writeable = False
        return values

    def assign(self, key: Hashable, target: Any, values: Any) -> None:
        """Assign values to a state from `stored`; quantized ones as they are, if it is like them."""
        values = values.restored() if isinstance(values, SavedCodes) else values
        slot, is_coded = self.layout[key], isinstance(values, QuantizedArray)
        if isinstance(target, QuantizedArray):
            if is_coded and values.rounding == target.rounding:
                target.data[...] = values.data
            else:
                given = values.decoded() if is_coded else np.broadcast_to(values, slot.shape)
                target.data[...] = target.encoded(given.reshape(-1, order=slot.order))
        else:
            target[...] = values.decoded().reshape(slot.shape, order=slot.order) if is_coded else values

    def views_of(self, name: str, keys: Sequence[Hashable] | Layout) -> list[np.ndarray]:
        """Return views of one state, in the order of the keys; those of the last call are kept."""
        known_keys, found = self.last_views.get(name, (None, []))
        if known_keys != keys:
            views = self.views(name)
            found = [views[key] for key in keys]
            self.last_views[name] = keys, found
        return found

    def contained(self, values: Mapping[Any, Any]) -> Any:
        """Return values by key in a container like that of the parameters; None before the first step."""
        if self.container is None:
            return None
        if self.container is list:
            return [values.get(index) for index in range(max(values, default=-1) + 1)]
        return dict(values)

    def count_of(self, key: Hashable) -> int:
        """Return how many steps a parameter has taken."""
        return int(self.counts[self.positions[key]])

    def with_states(
        self, layout: Layout, container: type | None, states: Mapping[str, Mapping[Hashable, Any]],
        counts: Mapping[Hashable, int], n_steps: int,
    ) -> "Memory":  # fmt: skip
        """Return a memory of another layout that holds the given states and counts."""
        new = Memory(self.specs, layout, container, n_steps)
        for spec in new.specs:
            for key, target in new.stored(spec.name).items():
                new.assign(key, target, states[spec.name][key])
        for key, position in new.positions.items():
            new.counts[position] = counts.get(key, 0)
        new.unstarted = {key for key in layout if n_steps and not counts.get(key, 0)}
        if not self.specs:
            new.saved_counts, new.saved_count = counts, n_steps
        return new

    def without(self, key: Hashable) -> "Memory":
        """Return a memory without one parameter."""
        layout = Layout()
        for other, slot in self.layout.items():
            if other != key:
                layout.place(other, slot.shape, slot.dtype, slot.order, is_apart=slot.is_apart)
        states = {spec.name: self.stored(spec.name) for spec in self.specs}
        counts = {other: self.count_of(other) for other in layout}
        new = self.with_states(layout, self.container, states, counts, self.steps.item())
        if not self.specs:
            new.saved_counts, new.saved_count = {**self.saved_counts, **counts, key: 0}, self.saved_count
        return new

    @property
    def known(self) -> list[Hashable]:
        """The parameters that have taken steps, as far as that is known."""
        return [*dict.fromkeys([*self.layout, *(key for key, n in self.saved_counts.items() if n)])]

    def guard(self, position: int | None) -> np.ndarray:
        """Return the count that a plan compares before a step: a parameter's, else that of all steps."""
        if position is None:
            return self.steps
        return self.counts[position : position + 1].reshape(())
