"""Groups: parameters whose hyperparameters differ from the others'."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

import numpy as np

from fastopt.checks import kind

__all__ = ["FROZEN", "Groups", "check_groups"]

FROZEN = -1

Selector = str | int | Callable[[Any, Any], bool]


def check_groups(name: str, groups: Any) -> dict[Any, dict[str, Any]] | None:
    """Give groups, or say what they have to be; an optimizer checks the names and values."""
    if groups is None:
        return None
    if not isinstance(groups, Mapping):
        raise TypeError(f'{name} must be a dict such as {{"b*": {{"lr_scale": 2.0}}}}, not {kind(groups)}')
    for selector, values in groups.items():
        if isinstance(selector, bool) or not (isinstance(selector, str | int) or callable(selector)):
            raise TypeError(
                f"{name}: {selector!r} must be a pattern of names, an index or a function of name and array"
            )
        if not isinstance(values, Mapping) or not all(isinstance(key, str) for key in values):
            raise TypeError(f"{name}: {selector!r} must have a dict of hyperparameters, not {kind(values)}")
    return {selector: dict(values) for selector, values in groups.items()}


def selects(selector: Selector, key: Hashable, param: Any) -> bool:
    """Whether a parameter belongs to a group."""
    if isinstance(selector, str):
        return isinstance(key, str) and fnmatchcase(key, selector)
    return bool(selector(key, param)) if callable(selector) else selector == key


class Groups:
    """Which of these parameters gets what.

    Parameters
    ----------
    groups : dict
        From `check_groups`. Where several select a parameter, later ones take precedence.
    matrices : bool
        Whether parameters of less than two dimensions have no weight decay.
    keys, params : list
        From `fastopt.plan.align`.
    known : container
        The keys that earlier steps had.

    Attributes
    ----------
    keys : list
        As above.
    sets : list of dict
        What differs from the optimizer's hyperparameters, each set once.
    which : dict
        The place in ``sets`` for each key; FROZEN for those that stay as they are.

    Raises
    ------
    ValueError
        If a group has no parameter.
    """

    def __init__(
        self,
        groups: Mapping[Any, Any],
        matrices: bool,
        keys: Sequence[Hashable],
        params: list[Any],
        known: Any,
    ) -> None:
        self.keys = list(keys)
        self.sets: list[dict[str, Any]] = []
        self.which: dict[Hashable, int] = {}
        for selector in groups:
            if not any(map(selects, [selector] * len(keys), keys, params)) and not any(
                selects(selector, key, None) for key in known if not callable(selector)
            ):
                raise ValueError(f"groups: {selector!r} selects none of the parameters {self.keys}")
        for key, param in zip(keys, params, strict=True):
            own: dict[str, Any] = {"weight_decay": 0.0} if matrices and np.ndim(param) < 2 else {}
            for selector, values in groups.items():
                if selects(selector, key, param):
                    own |= values
            if own.pop("freeze", False):
                self.which[key] = FROZEN
                continue
            if own not in self.sets:
                self.sets.append(own)
            self.which[key] = self.sets.index(own)
        self.views: list[Any] = []

    def part(self, key: Hashable, scalars: tuple[float, ...]) -> tuple[float, ...]:
        """Give a parameter's own scalars, from those of all sets; () if it is frozen."""
        place, count = self.which[key], len(scalars) // max(len(self.sets), 1)
        return () if place == FROZEN else scalars[place * count : (place + 1) * count]

    def views_of(self, optimizer: Any) -> list[Any]:
        """Give an optimizer for each set, with its hyperparameters, to ask for scalars."""
        fields = optimizer.__dataclass_fields__
        if not self.views:
            self.views = [object.__new__(type(optimizer)) for _ in self.sets]
            for view in self.views:
                view.__dict__.update(optimizer.__dict__)
        for view, own in zip(self.views, self.sets, strict=True):
            now = {name: value for name, value in optimizer.__dict__.items() if name in fields} | own
            now["lr"] *= now.pop("lr_scale", 1.0)
            view.__dict__.update(now)
        return self.views
