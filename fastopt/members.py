"""`Members`: the optimizers of a partition, and which of them has which arrays."""

from collections.abc import Hashable, Iterator, Mapping
from operator import is_
from typing import Any
from weakref import WeakSet

import numpy as np

from fastopt.arrays.containers import check_grad, compute_dtype
from fastopt.arrays.layout import Layout
from fastopt.arrays.rows import Rows
from fastopt.checks import kind
from fastopt.engine.plan import Arrays
from fastopt.optimizer import Optimizer
from fastopt.options.groups import selects

__all__ = ["Members", "check_members", "scale_grad"]

# The optimizers that are in a partition.
TAKEN: WeakSet[Optimizer] = WeakSet()


def check_members(name: str, members: Any) -> "Members":
    """Return the members of a partition.

    Raises
    ------
    TypeError, ValueError
        If they aren't a dict of optimizers that are unused, each in one place.
    """
    if not isinstance(members, Mapping) or not members:
        raise TypeError(f'{name} must be a dict such as {{"*.W": Muon(), "*": AdamW()}}, got {kind(members)}')
    for selector, member in members.items():
        if isinstance(selector, bool) or not (isinstance(selector, str | int) or callable(selector)):
            raise TypeError(
                f"{name}: {selector!r} must be a pattern of names, an index or a function of name and array"
            )
        where = f"{name}[{selector!r}]"
        if not isinstance(member, Optimizer):
            raise TypeError(f"{where} must be an optimizer such as AdamW(), got {member!r}")
        if member in TAKEN:
            raise ValueError(f"{where} must be a new optimizer, got one that is in another partition")
        if member.iter or member.engine.memory.layout:
            raise ValueError(f"{where} must be a new optimizer, got one that has taken {member.iter} steps")
    if len({*map(id, members.values())}) < len(members):
        raise ValueError(f"{name} must be different optimizers, got one of them twice")
    return Members(members)


class Members(Mapping[Any, Optimizer]):
    """The optimizers by what selects their arrays, in the order in which they are asked.

    Parameters
    ----------
    members : dict
        As `check_members` takes it.
    """

    def __init__(self, members: Mapping[Any, Optimizer]) -> None:
        self._members = dict(members)
        # Of the last arrays that all had a state: their keys, the layouts of the states, and their positions.
        self._known: tuple[list[Hashable], list[Layout], list[list[int]]] = [], [], []

    def __getitem__(self, selector: Any) -> Optimizer:
        if selector not in self._members:
            raise KeyError(f"there is no member {selector!r}, but {list(self._members)}")
        return self._members[selector]

    def __iter__(self) -> Iterator[Any]:
        return iter(self._members)

    def __len__(self) -> int:
        return len(self._members)

    def __repr__(self) -> str:
        return repr(self._members)

    def adopt(self, partition: Any) -> None:
        """Let all have the partition's lock and its count of updates, and no other one have one of them."""
        TAKEN.update(self.values())
        for member in self.values():
            vars(member).update(lock=partition.lock, clock=partition)

    # Options that they get from the partition.

    def check_option(self, name: str, before: Any, value: Any) -> None:
        """Raise ValueError or TypeError if a member has, or can't have, another value of an option.

        Parameters
        ----------
        name : str
            Of the option.
        before : object
            The value that they have got so far.
        value : object
            The value that they are to get.
        """
        for selector, member in self.items():
            own = getattr(member, name)
            # All members take a step or none does: a single one can't decide what is to be done.
            if own != before and own != value and (value != before or name == "nonfinite"):
                remedy = "the partition" if name == "nonfinite" else "one of them"
                raise ValueError(
                    f"{name} must be given once, got {value!r} for the partition and {own!r} for "
                    f"members[{selector!r}]; give it to {remedy}"
                )
            if own != value and value != before:
                setattr(member.unused(), name, value)

    def check_accumulate(self, value: int) -> None:
        """Raise ValueError if a member accumulates, too."""
        for selector, member in self.items():
            if value > 1 and member.accumulate > 1:
                raise ValueError(
                    f"accumulate must be given once, got {value} for the partition and {member.accumulate} "
                    f"for members[{selector!r}]; give it to the partition"
                )

    def check_skip_norm(self) -> None:
        """Raise ValueError if a member would leave steps out, of which others take their part."""
        for selector, member in self.items():
            if member.skip_norm is not None:
                raise ValueError(
                    f"skip_norm must be given to the partition, got {member.skip_norm} for "
                    f"members[{selector!r}]"
                )

    # Their arrays.

    def split(self, arrays: Arrays) -> list[tuple[Optimizer, Arrays]]:
        """Return those that have some of these arrays, with these; raise ValueError as `positions` does."""
        pairs = zip(self.values(), self.positions(arrays), strict=True)
        return [(member, arrays.select(own)) for member, own in pairs if own]

    def positions(self, arrays: Arrays) -> list[list[int]]:
        """Return the positions of each member's arrays, which are kept if all of them have a state.

        Raises
        ------
        ValueError
            If no member selects an array.
        """
        keys, layouts = list(arrays.keys), [member.engine.memory.layout for member in self.values()]
        known_keys, known_layouts, positions = self._known
        if keys != known_keys or not known_layouts or not all(map(is_, layouts, known_layouts)):
            positions = self._find_positions(keys, arrays.params, layouts)
            if all(any(key in layout for layout in layouts) for key in keys):
                self._known = keys, layouts, positions
        return positions

    def _find_positions(
        self, keys: list[Hashable], params: list[Any], layouts: list[Layout]
    ) -> list[list[int]]:
        """Return the positions of each member's arrays."""
        positions: list[list[int]] = [[] for _ in layouts]
        missing = []
        for i, (key, param) in enumerate(zip(keys, params, strict=True)):
            own = next((k for k, layout in enumerate(layouts) if key in layout), None)
            if own is None:
                # A function may ask for the shape, which Python's numbers don't have.
                array = param if isinstance(param, np.ndarray) else np.asarray(param)
                own = next((k for k, selector in enumerate(self) if selects(selector, key, array)), None)
            if own is None:
                missing.append(key)
            else:
                positions[own].append(i)
        if missing:
            raise ValueError(
                f"each array must have an optimizer, got {missing} without one; "
                f'add "*": AdamW() to {list(self)}'
            )
        return positions


def scale_grad(scale: float, key: Hashable, param: Any, grad: Any) -> Any:
    """Return a gradient multiplied by a number, in the dtype in which its parameter is updated."""
    shape, dtype = compute_dtype(key, param)
    with np.errstate(all="ignore"):
        if isinstance(grad, Rows):
            return Rows(grad.indices, grad.values * dtype.type(scale))
        check_grad(key, grad, shape)
        return np.asarray(grad, dtype) * dtype.type(scale)
