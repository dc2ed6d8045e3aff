"""`CheckedFields`: dataclass fields whose values are checked, also when they are assigned later."""

from collections.abc import Callable
from dataclasses import fields
from typing import Any, ClassVar

from fastopt.schedules.base import Schedule
from fastopt.state import State

__all__ = ["CheckedFields", "is_same"]


class CheckedFields:
    """Hyperparameters and options as fields, whose metadata has their check, and whether they are saved."""

    # Of the class's own, or, where it isn't a dataclass itself, of one that it is made from.
    __dataclass_fields__: ClassVar[dict[str, Any]]

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
        there = ", ".join(known.name for known in fields(self))
        return f"{type(self).__name__} has no {name!r}; there are {there}"

    def __setattr__(self, name: str, value: Any) -> None:
        # A descriptor would do this too, but every read of a hyperparameter would take longer.
        known = type(self).__dataclass_fields__.get(name)
        if known is None or "check" not in known.metadata:
            if not (name.startswith("_") or isinstance(getattr(type(self), name, None), property | State)):
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
        *("load_state_dict", "record", "recorded", "save", "schedule", "skipped", "state_dict", "update"),
    )
)
FILES = "averaging checkpoints.saving configuration fields optimizer partition rule stepping"
HIDING = {f"fastopt.{name}" for name in FILES.split()}


def is_same(old: Any, new: Any) -> bool:
    """Whether two values of a field are the same, of the same type; schedules are compared by identity."""
    if old is new or isinstance(new, Schedule):
        return old is new
    return type(old) is type(new) and bool(old == new)
