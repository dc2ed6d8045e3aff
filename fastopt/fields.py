"""`CheckedFields`: dataclass fields whose values are checked, also when they are assigned later.

Rules are dataclasses, so a rule's constructor needs no code and takes all options. ``__setattr__`` runs a
field's check, so reading costs nothing: Python reads plain attributes faster than descriptors.
"""

from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import fields
from inspect import CO_VARARGS, CO_VARKEYWORDS
from typing import TYPE_CHECKING, Any, ClassVar

from fastopt.display import format_call
from fastopt.state import State
from fastopt.words import argument_hint, attribute_hint

__all__ = ["CheckedFields", "is_same"]


# First arguments that are numbers: what is passed there instead may be parameters.
NUMBERS = ("lr", "rho", "alpha")


class CheckedFields:
    """Hyperparameters and options as fields, whose metadata has their check, and whether they are saved."""

    # Of the class's own, or, where it isn't a dataclass itself, of one that it is made from.
    __dataclass_fields__: ClassVar[dict[str, Any]]

    def __new__(cls, *values: Any, **named: Any) -> Any:
        """Raise TypeError, with what to write instead, for arguments that the constructor hasn't."""
        code = getattr(cls.__init__, "__code__", None)
        if code is None:  # it isn't written in Python
            return super().__new__(cls)
        known = code.co_varnames[1 : code.co_argcount + code.co_kwonlyargcount]
        is_number = known[:1] and known[0] in NUMBERS
        is_number = is_number and getattr(values[0] if values else None, "ndim", 1) > 0
        if values and is_number and isinstance(values[0], Iterable) and not isinstance(values[0], str):
            raise TypeError(
                f"{cls.__name__} takes no parameters: write optimizer = {cls.__name__}(...), and at each "
                "step optimizer.update(params, grads)"
            )
        if len(values) >= code.co_argcount and not code.co_flags & CO_VARARGS:
            by_position = ", ".join(known[: code.co_argcount - 1]) or "nothing"
            told = f"{by_position} by position, and all else by name, got {len(values)} values"
            raise TypeError(f"{cls.__name__} takes {told}")
        unknown = [] if code.co_flags & CO_VARKEYWORDS else [name for name in named if name not in known]
        if unknown:
            hint = argument_hint(cls.__name__, unknown[0], known)
            raise TypeError(f"{cls.__name__} has no argument {unknown[0]!r}: {hint}")
        if len(named) < len(known):  # else it is made like another one, whose options were assigned apart
            cls.check_together(named)
        return super().__new__(cls)

    if not TYPE_CHECKING:

        def __getattr__(self, name):
            if name.startswith("_"):
                raise AttributeError(f"{type(self).__name__} has no {name!r}")
            if hasattr(type(self), name):  # a property, which has raised the same: its own words are better
                return object.__getattribute__(self, name)
            raise AttributeError(self.describe_missing(name))

    def __init_subclass__(cls) -> None:
        # Else `dataclass` makes a representation, of all hyperparameters and of no option.
        if "__repr__" not in vars(cls):
            cls.__repr__ = cls.__repr__  # type: ignore[method-assign]

    def constructor_call(self, hidden: Container[str] = (), positional: Sequence[str] = ()) -> str:
        """Return the call that makes such an object: hyperparameters, then options other than the defaults.

        Parameters
        ----------
        hidden : container of str
            Names of fields that aren't shown.
        positional : sequence of str
            Texts of the first arguments.
        """
        # In the order of the arguments: a base's field that a rule declares anew stays at its old place.
        ordered = sorted(fields(self), key=lambda known: known.kw_only is True)
        own, known = vars(self), {known.name: known for known in ordered}
        values = {name: own[name] for name in known if name in own and name not in hidden}
        values |= own.get("schedules", {})
        shown = {name: value for name, value in values.items() if known[name].repr and value is not None}
        changed = {name for name, value in values.items() if not is_same(known[name].default, value)}
        # Without the argument that it is of, which a loaded object may lack, one can't be given.
        shown |= {
            name: value
            for name, value in values.items()
            if name in changed and not known[name].repr and known[name].metadata.get("of") in {None, *changed}
        }
        return format_call(type(self).__name__, positional, shown)

    @classmethod
    def check_together(cls, named: Mapping[str, Any]) -> None:
        """Raise ValueError if arguments of the constructor say how another is meant that isn't given."""
        for name, value in named.items():
            known = cls.__dataclass_fields__.get(name)
            needed = known and known.metadata.get("of")
            if known and needed and not is_same(known.default, value) and needed not in named:
                raise ValueError(
                    f"{name}={value!r} has no effect without {needed}: give {needed}, too, or leave it out"
                )

    def check_of(self, name: str) -> Callable[[str, Any], Any]:
        """Return the check of a field: a function of a name and a value, which returns the value to keep."""
        check: Callable[[str, Any], Any] = type(self).__dataclass_fields__[name].metadata["check"]
        return check

    def saved_fields(self) -> dict[str, Callable[[str, Any], Any]]:
        """Return the names of the fields that checkpoints have, and their checks."""
        known = [known for known in fields(self) if known.metadata.get("saved", True)]
        return {field.name: field.metadata["check"] for field in known}

    def checked(self, name: str, value: Any) -> dict[str, Any]:
        """Return the attributes that a field's new value changes."""
        return {name: self.check_of(name)(name, value)}

    def check_change(self, name: str, changes: dict[str, Any]) -> None:
        """Raise ValueError or TypeError if a field can't change now, or not to this value."""

    def apply_changes(self, name: str, changes: dict[str, Any]) -> None:
        """Assign a field's new value together with all that depends on it."""
        vars(self).update(changes)

    def describe_missing(self, name: str) -> str:
        """Return what is wrong with an attribute that there isn't, and which there are."""
        if name in self.__dataclass_fields__:
            return f"{name} must be a checked field; write {name}: float = fastopt.hyperparameter(...)"
        there = [shown for shown in dir(self) if not shown.startswith("_")]
        hint = attribute_hint(name, there)
        if not hint:
            hint = f"there are {', '.join(known.name for known in fields(self))}"
        return f"{type(self).__name__} has no {name!r}: {hint}"

    def __setattr__(self, name: str, value: Any) -> None:
        # A descriptor would do this too, but every read of a hyperparameter would take longer.
        known = type(self).__dataclass_fields__.get(name)
        if known is None or "check" not in known.metadata:
            own = getattr(type(self), name, None)
            is_method = callable(own) and callable(value)  # as programs put theirs around `update`
            if not (name.startswith("_") or is_method or isinstance(own, property | State)):
                raise AttributeError(self.describe_missing(name))
            super().__setattr__(name, value)
            return
        own = vars(self)
        if "lock" not in own:  # in the constructor
            own.update(self.checked(name, value))
            return
        with own["lock"]:
            changes = self.checked(name, value)
            # Nothing depends anew on a value that is there already.
            if all(key in own and is_same(own[key], new) for key, new in changes.items()):
                return
            self.check_change(name, changes)
            self.apply_changes(name, changes)

    def __dir__(self) -> list[str]:
        """Return what users call: what a rule has of its own, and what is documented for all."""
        bases = [base for base in type(self).__mro__ if base.__module__ in HIDING]
        own = {field.name for field in fields(self)}
        hidden = {*vars(self), *(name for base in bases for name in (*vars(base), *base.__annotations__))}
        hidden -= own | SHOWN
        return sorted(name for name in super().__dir__() if name.startswith("__") or name not in hidden)


# What `dir` shows besides the fields, and the modules whose classes have more than that.
SHOWN = frozenset(
    (
        *("average", "averaged", "describe", "drop_state", "flush", "grad_norm", "iter", "load"),
        *(
            "load_state_dict",
            "record",
            "recorded",
            "save",
            "schedule",
            "schedules",
            "skipped",
            "state_dict",
            "update",
        ),
    )
)
FILES = (
    *("averaging", "checkpoints.saving", "configuration", "consistency", "fields", "optimizer", "partition"),
    *("rule", "scheduling", "stepping"),
)
HIDING = {f"fastopt.{name}" for name in FILES}


def is_same(old: Any, new: Any) -> bool:
    """Whether two values of a field are the same, of the same type."""
    if old is new:
        return True
    return type(old) is type(new) and bool(old == new)
