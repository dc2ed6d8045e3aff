"""A segment of a step: some of its arrays, and the room that a rule needs to update them."""

from collections.abc import Callable, Hashable, Sequence
from functools import cached_property
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from fastopt.arrays.containers import ASSIGNMENTS
from fastopt.arrays.layout import Slot, aligned_zeros
from fastopt.engine.arrayinfo import ArrayInfo
from fastopt.engine.memory import Memory
from fastopt.engine.rules import Rule
from fastopt.engine.table import NUMBER, SPARSE, STAGED

__all__ = ["Calls", "Entry", "Segment", "rehearse"]

Calls = list[Callable[[], Any]]

# Types whose objects are made without any Python code.
NUMBERS = frozenset((float, np.float16, np.float32, np.float64))


class Entry(NamedTuple):
    """One array of a step.

    Attributes
    ----------
    position : int
        Position in the lists of parameters and gradients.
    slot : Slot
        Where its state lies.
    param, grad : ArrayInfo
        How its arrays reach the kernel.
    states : sequence of Slot
        Where each of its states lies; those of the options come last.
    scalar_set : int
        Which of several sets of scalars it takes.
    is_frozen : bool
        Whether it is checked, but not updated.
    count_at, n_counts : int
        Position in the memory's counts, and how many count together.
    apart : sequence of array or QuantizedArray
        Its states, if these lie apart.
    """

    position: int
    slot: Slot
    param: ArrayInfo
    grad: ArrayInfo
    states: Sequence[Slot]
    scalar_set: int
    is_frozen: bool
    count_at: int
    n_counts: int = 1
    apart: Sequence[Any] = ()


class Segment:
    """Some arrays of a step.

    Parameters
    ----------
    rule : Rule
        The rule.
    memory : Memory
        The state.
    entries : list of Entry
        The arrays.
    n_averages : int
        Number of averages, whose states come after the rule's.
    n_sets : int
        Number of sets of scalars.
    is_strict : bool
        Whether a gradient that isn't finite refuses the step.

    Attributes
    ----------
    statistics : list of float64 arrays
        One for each entry.
    totals : float64 array
        Sums of the first statistics over all arrays.
    scalars : float64 array
        Those of the last step.
    work : list of tuple of flat arrays
        The rule's work arrays, for each entry.
    guard : int64 array without dimensions
        The count of its first parameter.
    scratch : dict
        What a rule wants to find again at the next step.
    """

    def __init__(
        self,
        rule: Rule,
        memory: Memory,
        entries: list[Entry],
        *,
        n_averages: int,
        n_sets: int,
        is_strict: bool,
    ) -> None:
        self.rule, self.memory, self.entries = rule, memory, entries
        self.n_averages, self.is_strict = n_averages, is_strict
        self.n_set_scalars = rule.n_step_scalars + 2 * n_averages
        self.scalars = np.zeros(n_sets * self.n_set_scalars, dtype=np.float64)
        self.totals = np.zeros(rule.n_totals, dtype=np.float64)
        self.scratch: dict[int, Any] = {}
        self.guard = memory.guard(next((entry.count_at for entry in entries if not entry.is_frozen), None))
        self._make_statistics()
        self.work = [
            tuple(aligned_zeros(entry.slot.size, entry.slot.dtype) for _ in range(rule.n_work))
            for entry in entries
        ]

    def _make_statistics(self) -> None:
        """Make room for the statistics: whole cache lines, and equal ones if they are sums over elements."""
        sizes = [
            self.rule.n_statistics(entry.slot.shape) if self.rule.is_whole else 0 for entry in self.entries
        ]
        if self.rule.n_additive:
            sizes = [max(sizes, default=0)] * len(sizes)
        ends = np.cumsum([0] + [-(-size // 8) * 8 for size in sizes]).tolist()
        room = aligned_zeros(ends[-1], np.dtype(np.float64))
        self.statistics = [room[a:b] for a, b in pairwise(ends)]
        n = self.rule.n_additive
        self.sums = room.reshape(len(sizes), -1)[:, :n] if n and sizes else np.zeros((0, n), dtype=np.float64)

    def scalars_of(self, entry: Entry) -> tuple[np.ndarray, np.ndarray]:
        """Return the scalars of an entry: the rule's, and those of the averages."""
        first = entry.scalar_set * self.n_set_scalars
        own = self.scalars[first : first + self.n_set_scalars]
        return own[: self.rule.n_scalars], own[self.rule.n_step_scalars :]

    def random_key_of(self, entry: Entry) -> int:
        """Return the key of an entry's random bits, if the rule has states in fewer bytes."""
        return int(self.scalars[entry.scalar_set * self.n_set_scalars + self.rule.n_scalars])

    @cached_property
    def has_copies(self) -> bool:
        """Whether Python has to copy arrays before or after the call."""
        return any(
            mode in (STAGED, NUMBER, SPARSE)
            for entry in self.entries
            for mode in (entry.param.mode, entry.grad.mode)
        )


def rehearse(container: Any, key: Hashable, number: Any) -> None:
    """Assign a number that is there, as it is, where Python code may refuse this in the middle of a step."""
    if type(number) not in NUMBERS:
        number = type(number)(number)
    if type(container).__setitem__ not in ASSIGNMENTS or type(number) not in NUMBERS:
        container[key] = number
