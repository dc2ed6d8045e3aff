"""Groups: parameters whose hyperparameters differ from the others'.

Groups are sets of scalars in one tuple; a row of the table has the position of its own set. A group's
scalars come from a view of the optimizer with the other hyperparameters (`GroupViews`). A frozen array is
checked, not updated. With groups a packed container is updated array by array. Groups are copied and
read-only, so that what plans depend on can't change unseen.
"""

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from fastopt.checks import kind, number
from fastopt.display import format_value
from fastopt.engine.plan import FROZEN
from fastopt.schedules.base import StepFunction, is_schedule

__all__ = [
    "GroupFields", "GroupSchedule", "GroupViews", "Grouping", "check_group_values", "describe_groups",
    "group_schedules", "selects",
]  # fmt: skip

Selector = str | int | Callable[[Any, Any], bool]
Check = Callable[[str, Any], Any]


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
        Hyperparameters that differ for some parameters, or freeze them, by their names. An example is
        ``{"b*": {"lr_scale": 2.0, "weight_decay": 0.0}, "embed": {"freeze": True}}``. A key of the dict
        selects parameters: a name or a pattern of names (as in `fnmatch`), an index, or a function of key and
        array that returns a bool. Of several groups that select a parameter, later ones take precedence. A
        group may contain:

        - the rule's hyperparameters, weight_decay, decoupled and decay_max_lr. What a group has of its own
          isn't that of the optimizer's schedule, but may be a schedule itself. All parameters share what sums
          over them depend on (Prodigy's ``beta2`` and ``d0``) and what isn't a scalar of a kernel (Muon's
          ``ns_steps``);
        - ``lr_scale``, a factor of the learning rate, also of a scheduled one, or a schedule of that factor;
        - ``freeze``: whether the parameter stays unchanged. It needs a gradient as the others do, which
          doesn't count in ``clip_norm``. Its state and its count of steps begin when it is thawed.

        The dicts are copied and read-only: assign a new dict to ``groups`` to change them. Checkpoints don't
        contain groups, nor what a `Plateau` in a group was told; create the optimizer with the same ones.
        `describe` returns a table of the result.
    """

    groups: Mapping[Any, Mapping[str, Any]] | None = field(
        default=None, repr=False, metadata={"check": check_groups, "saved": False}
    )


def selects(selector: Selector, key: Hashable, param: Any) -> bool:
    """Whether a parameter belongs to a group."""
    if isinstance(selector, str):
        return selector == "*" or (isinstance(key, str) and (key == selector or fnmatchcase(key, selector)))
    return bool(selector(key, param)) if callable(selector) else selector == key


class GroupSchedule:
    """The schedule of a group's hyperparameter.

    Parameters
    ----------
    label : str
        What errors call it.
    name : str
        The hyperparameter, or "lr_scale".
    schedule : Schedule or function
        The schedule.
    check : callable
        The check of its values.
    """

    def __init__(self, label: str, name: str, schedule: StepFunction, check: Check) -> None:
        self.label, self.name, self.schedule, self.check = label, name, schedule, check

    def present_value(self, optimizer: Any) -> float:
        """Return the value at the last update of an optimizer, or at the first."""
        value: float = self.check(self.label, self.schedule(max(optimizer.n_updates, 1)))
        return value

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, GroupSchedule) or self.schedule is not other.schedule:
            return False
        return (self.label, self.name) == (other.label, other.name)

    def __hash__(self) -> int:
        return hash((self.label, self.name))

    def __repr__(self) -> str:
        return format_value(self.schedule)


def group_schedules(groups: Mapping[Any, Mapping[str, Any]] | None) -> list[StepFunction]:
    """Return all schedules in groups."""
    return [value for own in (groups or {}).values() for value in own.values() if is_schedule(value)]


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
    check_of : callable, optional
        Returns the check of a hyperparameter; needed if there are schedules.

    Attributes
    ----------
    keys : list
        As above.
    sets : list of dict
        What differs from the optimizer's hyperparameters, each set once.
    which : dict
        For each key the position in ``sets``; FROZEN for those that stay as they are.
    schedules : list of GroupSchedule
        What stands in the sets for values that differ from step to step.

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
        check_of: Callable[[str], Check] | None = None,
    ) -> None:
        self.keys: list[Hashable] = list(keys)
        self.schedules: list[GroupSchedule] = []
        self.sets: list[dict[str, Any]] = []
        self.which: dict[Hashable, int] = {}
        earlier = list(known)
        for selector in groups:
            if not any(map(selects, [selector] * len(keys), keys, params)) and not any(
                selects(selector, key, None) for key in earlier if not callable(selector)
            ):
                raise ValueError(f"groups: {selector!r} selects none of the parameters {self.keys}")
        items = [*groups.items()]
        if check_of is not None and group_schedules(groups):
            items = [(selector, self._with_schedules(selector, own, check_of)) for selector, own in items]
        for key, param in zip(keys, params, strict=True):
            own: dict[str, Any] = {"weight_decay": 0.0} if only_matrices and np.ndim(param) < 2 else {}
            for selector, values in items:
                if selects(selector, key, param):
                    own |= values
            if own.pop("freeze", False):
                self.which[key] = FROZEN
                continue
            if own not in self.sets:
                self.sets.append(own)
            self.which[key] = self.sets.index(own)

    def _with_schedules(
        self, selector: Any, values: Mapping[str, Any], check_of: Callable[[str], Check]
    ) -> dict[str, Any]:
        """Return a group with what stands for its schedules in their place; note these."""
        result = dict(values)
        for name, value in values.items():
            if is_schedule(value):
                check = number if name == "lr_scale" else check_of(name)
                result[name] = GroupSchedule(label_of(selector, name), name, value, check)
                self.schedules.append(result[name])
        return result

    def __eq__(self, other: object) -> bool:
        """Whether the parameters have the same hyperparameters, as functions may choose otherwise later."""
        if self is other or not isinstance(other, Grouping):
            return self is other
        return (self.which, self.sets) == (other.which, other.sets)

    __hash__ = object.__hash__

    def is_frozen(self, key: Hashable) -> bool:
        """Whether a parameter stays as it is."""
        return self.which[key] == FROZEN


def label_of(selector: Any, name: str) -> str:
    """Return what errors call a group's hyperparameter."""
    return f"groups: {name} of {selector!r}"


def check_group_values(
    groups: Mapping[Any, Mapping[str, Any]] | None,
    names: Sequence[str],
    check_of: Callable[[str], Check],
    lr: float,
    present_value: Callable[[str, str, StepFunction], Any],
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
    present_value : callable
        Returns the present value of a schedule, given what errors call it and the name of the hyperparameter,
        or raises an error if that can't have one.
    """
    for selector, values in (groups or {}).items():
        for name, value in values.items():
            where = label_of(selector, name)
            if is_schedule(value) and name in {*names, "lr_scale"}:
                value = present_value(where, name, value)
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


class View(NamedTuple):
    """The hyperparameters of a group, and what a step by schedules changes of them.

    Attributes
    ----------
    optimizer : Optimizer
        What has them, and is asked for scalars only.
    shared : frozenset of str
        The names of those that are the optimizer's.
    schedules : dict
        The group's own schedules, by name.
    lr : float
        The learning rate, if it has no schedule.
    max_lr : float or None
        That of ``decay_max_lr``.
    lr_scale : float
        The factor of both, if it has no schedule.
    """

    optimizer: Any
    shared: frozenset[str]
    schedules: dict[str, GroupSchedule]
    lr: float
    max_lr: float | None
    lr_scale: float

    def set_values(self, scheduled: Mapping[Any, float]) -> None:
        """Set the values of a step, and present ones of the group's schedules that have none there."""
        lr, scale, values = self.lr, self.lr_scale, vars(self.optimizer)
        for name, value in scheduled.items():
            if name in self.shared:
                values[name] = value
        lr = scheduled["lr"] if "lr" in scheduled and "lr" in self.shared else lr
        for name, own in self.schedules.items():
            value = scheduled[own] if own in scheduled else own.present_value(self.optimizer)
            values[name] = value
            lr, scale = value if name == "lr" else lr, value if name == "lr_scale" else scale
        values["lr"] = lr * scale
        if self.max_lr is not None:
            values["decay_max_lr"] = self.max_lr * scale


class GroupViews:
    """Optimizers with the hyperparameters of each group, which are asked for scalars only."""

    def __init__(self) -> None:
        # The grouping, its views, and what schedules may change. A signal's handler finds all or none.
        self.known: tuple[Grouping | None, list[Any], list[View]] = None, [], []

    def of(self, optimizer: Any, grouping: Grouping | None, scheduled: Mapping[Any, float]) -> list[Any]:
        """Return one for each set of a grouping.

        What a group has of its own isn't that of the optimizer's schedule; ``lr_scale`` multiplies the
        learning rate of the step.

        Parameters
        ----------
        optimizer : Optimizer
            Whose hyperparameters they have where a group has no own.
        grouping : Grouping or None
            None: there is one set, of all parameters.
        scheduled : dict
            Values by schedules: those of the optimizer by their names, those of groups by their
            `GroupSchedule`.
        """
        last, optimizers, views = self.known
        if last is not grouping or not optimizers:
            own, fields = vars(optimizer), type(optimizer).__dataclass_fields__
            common = {name: own[name] for name in fields if name in own}
            common |= {"engine": own["engine"], "clock": own.get("clock")}
            sets: list[dict[str, Any]] = [{}] if grouping is None else grouping.sets
            views = [view_of(type(optimizer), common, different) for different in sets]
            optimizers = [view.optimizer for view in views]
            self.known = grouping, optimizers, views
        if scheduled or (grouping is not None and grouping.schedules):
            for view in views:
                view.set_values(scheduled)
        return optimizers


def view_of(cls: type, common: Mapping[str, Any], own: Mapping[str, Any]) -> View:
    """Return the view of a group, given the optimizer's hyperparameters and the group's own."""
    schedules = {name: value for name, value in own.items() if isinstance(value, GroupSchedule)}
    numbers = {name: value for name, value in own.items() if name not in schedules}
    values = {**common, **numbers}
    scale, lr, max_lr = values.pop("lr_scale", 1.0), values["lr"], values["decay_max_lr"]
    if max_lr is not None and "lr" in numbers and "decay_max_lr" not in own:
        max_lr = lr
    view: Any = object.__new__(cls)
    vars(view).update(values, lr=lr * scale, decay_max_lr=None if max_lr is None else max_lr * scale)
    return View(view, frozenset({*common} - {*own}), schedules, lr, max_lr, scale)


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
