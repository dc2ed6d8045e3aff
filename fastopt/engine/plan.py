"""The plan of a step: its arrays, which scalars they take, and what every plan can be asked."""

from collections.abc import Callable, Hashable, Sequence
from itertools import repeat
from operator import call, is_
from typing import Any, NamedTuple

import numpy as np

from fastopt.arrays.containers import Keys
from fastopt.arrays.layout import Layout, Slot
from fastopt.engine.arrayinfo import describe
from fastopt.engine.memory import Memory
from fastopt.engine.rules import Rule
from fastopt.engine.segment import Calls, Entry, Segment
from fastopt.engine.table import REFUSED

__all__ = ["FROZEN", "Arrays", "Given", "Plan", "ScalarSet", "Scalars", "run_calls", "run_quietly"]

FROZEN = -1

# What the calls of a step are given: the lists of parameters and gradients, the scalars, the guard's count.
Scalars = tuple[float, ...]
Given = tuple[list[Any], list[Any], Scalars, int]


class Arrays(NamedTuple):
    """What a step is given.

    Attributes
    ----------
    keys : sequence
        The keys of the parameters; a packed container's layout if its buffers take the place of the arrays.
    params, grads : list
        The arrays, in the order of the keys; or the buffers.
    container : dict or list
        Where numbers are replaced.
    """

    keys: Keys | Layout
    params: list[Any]
    grads: list[Any]
    container: Any

    def by_array(self) -> tuple[Sequence[Hashable], list[Any], list[Any]]:
        """Return keys, parameters and gradients one by one, also of packed containers."""
        keys, params, grads, _ = self
        if not isinstance(keys, Layout):
            return keys, params, grads
        views = []
        for given in (params, grads):
            flats = {flat.dtype: flat for flat in given}
            views.append([slot.view(flats[slot.dtype]) for slot in keys.values()])
        return list(keys), views[0], views[1]

    def dtypes(self, layout: Layout) -> list[np.dtype[Any]]:
        """Return the dtypes that they are updated in, given the layout of their state."""
        if isinstance(self.keys, Layout):
            return list(self.keys.sizes)
        return list(dict.fromkeys(layout[key].dtype for key in self.keys))

    def with_present_numbers(self) -> "Arrays":
        """Return the same with the numbers that the container has now in the place of parameters."""
        keys, params, grads, container = self
        if not isinstance(container, dict | list):
            return self
        numbers: Any = container
        now = [
            param if isinstance(param, np.ndarray) else numbers[key]
            for key, param in zip(keys, params, strict=False)  # a packed container has arrays only
        ]
        return Arrays(keys, now, grads, container)

    @property
    def is_current(self) -> bool:
        """Whether the container still has the numbers that were parameters."""
        return all(map(is_, self.params, self.with_present_numbers().params))

    def select(self, indices: Sequence[int]) -> "Arrays":
        """Return some of the arrays."""
        keys, params, grads = (
            [values[i] for i in indices] for values in (self.keys, self.params, self.grads)
        )
        return Arrays(keys, params, grads, self.container)


class ScalarSet(NamedTuple):
    """Parameters that take the same scalars: their group, and the position of one of their counts."""

    group: int
    count_at: int


class Plan:
    """How to update these arrays, which have been checked.

    Parameters
    ----------
    rule : Rule
        The rule.
    memory : Memory
        The state, with room for all keys.
    arrays : Arrays
        The arrays of the first step.
    groups : sequence of int
        For each key the group whose hyperparameters it has, or FROZEN.
    n_averages : int
        Number of the memory's states, the last ones, that are averages.
    between : callable, optional
        Returns the calls between the statistics pass and the update, for a segment.
    token : object
        The settings that the plan is for, by their identity.
    grouping : object
        What the groups are from, for whoever computes the scalars.

    Attributes
    ----------
    sets : list of ScalarSet
        Which scalars a step takes, in this order.
    entries : list of Entry
        The arrays.
    main : Segment
        These, but for those that are updated one by one.
    is_compiled : bool
        Whether compiled code takes the step; else plain NumPy does.
    is_drafted : bool
        Whether new values are computed before the chain of calls begins, which writes them.
    is_kept : bool
        Whether the step notices by itself what differs the next time.
    drive : callable or None
        The step, ``drive(params, grads, scalars, guard.item())``, if it is this one call. Returns True when
        it was taken; None if a gradient wasn't finite; False if it was refused, with nothing changed.
    n_threads, n_elements : int
        Number of threads, and of elements that they update.
    is_small : bool
        Whether it takes one thread, however many are allowed.
    """

    is_compiled = False
    is_drafted = False
    is_kept = False
    is_small = True
    n_threads = 1
    n_elements = 0
    count_places: tuple[np.ndarray, np.ndarray] | None = None
    main: Segment
    drive: Callable[[list[Any], list[Any], tuple[float, ...], int], bool | None] | None = None

    def __init__(
        self,
        rule: Rule,
        memory: Memory,
        arrays: Arrays,
        groups: Sequence[int],
        *,
        n_averages: int,
        between: Callable[[Segment], Calls] | None = None,
        token: object = None,
        grouping: Any = None,
    ) -> None:
        self.rule, self.memory, self.keys = rule, memory, arrays.keys
        self.n_averages, self.between, self.token = n_averages, between, token
        self.grouping = grouping
        self.sets: list[ScalarSet] = []
        self.entries = self._make_entries(arrays, groups)

    def _make_entries(self, arrays: Arrays, groups: Sequence[int]) -> list[Entry]:
        """Return an entry for each array, and note the sets of scalars."""
        memory = self.memory
        if isinstance(arrays.keys, Layout):
            return self._make_packed_entries(arrays, groups)
        slots = [memory.layout[key] for key in arrays.keys]
        positions = [memory.positions[key] for key in arrays.keys]
        sets: dict[tuple[int, int], int] = {}
        chosen: list[int] = []
        for group, position, count in zip(
            groups, positions, memory.counts[np.asarray(positions, np.intp)].tolist(), strict=True
        ):
            if group == FROZEN:
                chosen.append(FROZEN)
                continue
            if (group, count) not in sets:
                sets[group, count] = len(sets)
                self.sets.append(ScalarSet(group, position))
            chosen.append(sets[group, count])
        states = (
            zip(*([own[key] for key in arrays.keys] for own in memory.layouts), strict=True)
            if memory.layouts
            else repeat((), len(slots))
        )
        return [
            Entry(
                i, slot, describe(key, param, slot, True), describe(key, grad, slot, False), state,
                max(own, 0), own == FROZEN, position, apart=memory.apart.get(key, ()),
            )
            for i, (key, param, grad, slot, state, own, position) in enumerate(
                zip(arrays.keys, arrays.params, arrays.grads, slots, states, chosen, positions, strict=True)
            )
        ]  # fmt: skip

    def _make_packed_entries(self, arrays: Arrays, groups: Sequence[int]) -> list[Entry]:
        """Return an entry for each buffer of a packed container."""
        memory = self.memory
        self.sets = [ScalarSet(0, 0)]
        entries = []
        for i, (param, grad) in enumerate(zip(arrays.params, arrays.grads, strict=True)):
            slot = Slot((param.size,), param.dtype, "C", 0, param.size)
            counts = [memory.positions[key] for key, own in memory.layout.items() if own.dtype == param.dtype]
            entry = Entry(
                i, slot, describe(i, param, slot, True), describe(i, grad, slot, False),
                [slot] * len(memory.specs), 0, False, min(counts, default=0), len(counts),
            )  # fmt: skip
            entries.append(entry)
        return entries

    def recount(self) -> bool:
        """Note how the counts differ between sets of parameters, which some other steps may have changed.

        Returns whether each set still has one count.
        """
        if len(self.sets) < 2:
            return True
        updated = [entry for entry in self.entries if not entry.is_frozen]
        if self.count_places is None:
            own = np.array([entry.count_at for entry in updated], np.intp)
            firsts = np.array([self.sets[entry.scalar_set].count_at for entry in updated], np.intp)
            self.count_places = own, firsts
        own, firsts = self.count_places
        counts = self.memory.counts
        if (counts[own] != counts[firsts]).any():
            return False
        self.note_counts()
        return True

    def note_counts(self) -> None:
        """Note how much the counts of the parameters differ from the guard."""
        raise NotImplementedError

    @property
    def guard(self) -> np.ndarray:
        """The count of all its parameters, without dimensions."""
        return self.main.guard

    @property
    def found_nonfinite(self) -> bool:
        """Whether the last step met a gradient that isn't finite."""
        raise NotImplementedError

    def fits(self, arrays: Arrays, n_threads: Callable[[int], int]) -> bool:
        """Whether all is as planned that the calls don't notice by themselves."""
        raise NotImplementedError

    def calls(self, arrays: Arrays, scalars: Scalars, count: int, also: Calls, check: int) -> Calls:
        """Return the C calls that take the step, if the guard is the count; one of the first may refuse it.

        With ``check`` 0 instead of CHECK none does, as the calls from `check_calls` have been made.
        ``also`` are further calls that belong to the step.
        """
        raise NotImplementedError

    def check_calls(self, arrays: Arrays, scalars: Scalars, count: int) -> Calls:
        """Return the C calls that check all and change nothing; the last may refuse the step."""
        raise NotImplementedError


def run_calls(calls: Calls) -> bool:
    """Make C calls, with no interrupt in between. Returns False, with nothing changed, if one refuses."""
    # A value too large for the dtype becomes infinite, as in the kernels: a caller who lets NumPy raise
    # for it, or turns warnings into errors, must not be left with half a step.
    with np.errstate(all="ignore"):
        return run_quietly(calls)


def run_quietly(calls: Calls) -> bool:
    """Do what `run_calls` does, for who has told NumPy not to raise or warn."""
    # A driver that refuses is the first, and ends it. (By identity, as NumPy's calls return arrays.)
    return not any(map(is_, map(call, calls), repeat(REFUSED)))
