"""Groups: parameters whose hyperparameters differ from the others'."""

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from types import MappingProxyType
from typing import Any

import numpy as np

from fastopt.checks import kind, number
from fastopt.display import format_value
from fastopt.engine.plan import FROZEN

__all__ = ["GroupFields", "GroupViews", "Grouping", "check_group_values", "describe_groups", "selects"]

Selector = str | int | Callable[[Any, Any], bool]


def check_groups(name: str, groups: Any) -> Mapping[Any, Mapping[str, Any]] | None:
    """Return groups that can't be changed in place.

    Raises
    ------
    TypeError
        If they aren't a dict of dicts. (An optimizer checks names and values.)
    """
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
    return MappingProxyType({selector: MappingProxyType(dict(values)) for selector, values in groups.items()})


@dataclass(init=False, repr=False, eq=False, kw_only=True)
class GroupFields:
    """The field of this option.

    Parameters
    ----------
    groups : dict of dicts, optional
        Hyperparameters that differ for some parameters, such as
        ``{"b*": {"lr_scale": 2.0, "weight_decay": 0.0}, "embed": {"freeze": True}}``. A key of the dict
        selects parameters: a name or a pattern of names (as in `fnmatch`), an index, or a function of key and
        array that returns a bool. Of several groups that select a parameter, later ones take precedence. A
        group may contain:

        - the rule's hyperparameters, weight_decay, decoupled and decay_max_lr. A group's own ``lr`` isn't
          scheduled. All parameters share what sums over them depend on (Prodigy's ``beta2`` and ``d0``) and
          what isn't a scalar of a kernel (Muon's ``ns_steps``);
        - ``lr_scale``, a factor of the learning rate, also of a scheduled one;
        - ``freeze``: whether the parameter stays unchanged. It needs a gradient as the others do, which
          doesn't count in ``clip_norm``. Its state and its count of steps begin when it is thawed.

        The dicts are copied and read-only: assign a new dict to ``groups`` to change them. Checkpoints don't
        contain groups; create the optimizer with the same ones. `describe` returns a table of the result.
    """

    groups: Mapping[Any, Mapping[str, Any]] | None = field(
        default=None, repr=False, metadata={"check": check_groups, "saved": False}
    )


def selects(selector: Selector, key: Hashable, param: Any) -> bool:
    """Whether a parameter belongs to a group."""
    if isinstance(selector, str):
        return selector == "*" or (isinstance(key, str) and (key == selector or fnmatchcase(key, selector)))
    return bool(selector(key, param)) if callable(selector) else selector == key


class Grouping:
    """Which of these parameters has which hyperparameters.

    Parameters
    ----------
    groups : dict
        From `check_groups`. Where several select a parameter, later ones take precedence.
    only_matrices : bool
        Whether parameters of less than two dimensions have no weight decay.
    keys, params : sequence
        The parameters.
    known : iterable
        Keys of earlier steps, which a group may select as well.

    Attributes
    ----------
    keys : list
        As above.
    sets : list of dict
        What differs from the optimizer's hyperparameters, each set once.
    which : dict
        For each key the position in ``sets``; FROZEN for those that stay as they are.

    Raises
    ------
    ValueError
        If a group has no parameter.
    """

    def __init__(
        self,
        groups: Mapping[Any, Any],
        only_matrices: bool,
        keys: Sequence[Hashable],
        params: Sequence[Any],
        known: Iterable[Hashable] = (),
    ) -> None:
        self.keys: list[Hashable] = list(keys)
        self.sets: list[dict[str, Any]] = []
        self.which: dict[Hashable, int] = {}
        earlier = list(known)
        for selector in groups:
            if not any(map(selects, [selector] * len(keys), keys, params)) and not any(
                selects(selector, key, None) for key in earlier if not callable(selector)
            ):
                raise ValueError(f"groups: {selector!r} selects none of the parameters {self.keys}")
        for key, param in zip(keys, params, strict=True):
            own: dict[str, Any] = {"weight_decay": 0.0} if only_matrices and np.ndim(param) < 2 else {}
            for selector, values in groups.items():
                if selects(selector, key, param):
                    own |= values
            if own.pop("freeze", False):
                self.which[key] = FROZEN
                continue
            if own not in self.sets:
                self.sets.append(own)
            self.which[key] = self.sets.index(own)

    def __eq__(self, other: object) -> bool:
        """Whether the parameters have the same hyperparameters, as functions may choose otherwise later."""
        if self is other or not isinstance(other, Grouping):
            return self is other
        return (self.which, self.sets) == (other.which, other.sets)

    __hash__ = object.__hash__

    def is_frozen(self, key: Hashable) -> bool:
        """Whether a parameter stays as it is."""
        return self.which[key] == FROZEN


def check_group_values(
    groups: Mapping[Any, Mapping[str, Any]] | None,
    names: Sequence[str],
    check_of: Callable[[str], Callable[[str, Any], Any]],
    lr: float,
) -> None:
    """Raise ValueError or TypeError if a group has what it can't have.

    Parameters
    ----------
    groups : dict or None
        From `check_groups`.
    names : sequence of str
        The hyperparameters that groups may have.
    check_of : callable
        Returns the check of a hyperparameter.
    lr : float
        The learning rate that ``lr_scale`` multiplies.
    """
    for selector, values in (groups or {}).items():
        for name, value in values.items():
            where = f"groups: {name} of {selector!r}"
            if name == "freeze":
                if not isinstance(value, bool):
                    raise TypeError(f"{where} must be False or True, not {value!r}")
            elif name == "lr_scale":
                check_of("lr")(where, lr * number(where, value))
            elif name in names:
                check_of(name)(where, value)
            else:
                there = ", ".join(sorted({*names, "lr_scale", "freeze"}))
                raise ValueError(f"groups: {selector!r} can't have {name!r}; there are {there}")


class GroupViews:
    """Optimizers with the hyperparameters of each group, which are asked for scalars only."""

    def __init__(self) -> None:
        # The grouping, its views, and what a schedule changes of these. A signal's handler finds all or none.
        self.known: tuple[Grouping | None, list[Any], list[tuple[dict[str, Any], float]]] = None, [], []

    def of(self, optimizer: Any, grouping: Grouping | None, lr: float | None) -> list[Any]:
        """Return one for each set of a grouping.

        A group's own lr isn't scheduled; ``lr_scale`` multiplies the scheduled one.

        Parameters
        ----------
        optimizer : Optimizer
            Whose hyperparameters they have where a group has no own.
        grouping : Grouping or None
            None: there is one set, of all parameters.
        lr : float or None
            The learning rate by a schedule.
        """
        last, views, scheduled = self.known
        if last is not grouping or not views:
            own, fields = vars(optimizer), type(optimizer).__dataclass_fields__
            common = {name: own[name] for name in fields if name in own} | {"engine": own["engine"]}
            views, scheduled = [], []
            for different in [{}] if grouping is None else grouping.sets:
                view = object.__new__(type(optimizer))
                vars(view).update(common | different)
                scale = different.get("lr_scale", 1.0)
                vars(view)["lr"] *= scale
                if view.decay_max_lr is not None:
                    is_own = "lr" in different and "decay_max_lr" not in different
                    most = different["lr"] if is_own else view.decay_max_lr
                    vars(view)["decay_max_lr"] = most * scale
                views.append(view)
                if "lr" not in different:
                    scheduled.append((vars(view), scale))
            self.known = grouping, views, scheduled
        if lr is not None:
            for hyperparameters, scale in scheduled:
                hyperparameters["lr"] = lr * scale
        return views


def describe_groups(
    keys: Sequence[Hashable],
    params: Sequence[Any],
    grouping: Grouping | None,
    views: list[Any],
    names: list[str],
) -> str:
    """Return a table (str) of the hyperparameters of each parameter."""
    lines, known = [], type(views[0]).__dataclass_fields__ if views else {}  # without views all are frozen
    # An option that is on for some parameters is shown for all, as it may be 0 for some.
    shown = [
        name
        for name in known and sorted(names, key=lambda name: (not known[name].repr, known[name].kw_only))
        if known[name].repr or any(getattr(view, name) != known[name].default for view in views)
    ]
    for key, param in zip(keys, params, strict=True):
        if grouping is not None and grouping.is_frozen(key):
            text = "frozen"
        else:
            view = views[0 if grouping is None else grouping.which[key]]
            values = ((name, getattr(view, name)) for name in shown)
            text = ", ".join(f"{name}={format_value(value)}" for name, value in values if value is not None)
        lines.append((repr(key), str(np.shape(param)), text))
    widths = [max((len(line[column]) for line in lines), default=0) for column in (0, 1)]
    return "\n".join(f"{a:<{widths[0]}}  {b:<{widths[1]}}  {c}" for a, b, c in lines)
