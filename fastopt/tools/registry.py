"""`rules`: all rules with their states, costs and sources, read off the classes."""

import inspect
import re
from difflib import get_close_matches
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from fastopt import optimizers
from fastopt.optimizer import Optimizer
from fastopt.optimizers import FAMILIES

__all__ = ["Rule", "check_rule", "class_of", "describe", "rules", "takes"]

REFERENCES = re.compile(r"^References\n-+\n(.*?)(?:\n\n[^\n]+\n-+\n|\Z)", re.MULTILINE | re.DOTALL)


class Rule(NamedTuple):
    """A rule, what it keeps and moves, and its source.

    Attributes
    ----------
    name : str
        Of the class.
    family : str
        The module in `fastopt.kernels`, `fastopt.optimizers` and `fastopt.reference` where it is.
    states : tuple of str
        The arrays that it keeps for each parameter, of its shape.
    reduced_states : tuple of str
        Those of other shapes, mostly smaller, such as a number for each row; SOAP has squares.
    source : str
        The paper or book, as in the class's docstring.
    """

    name: str
    family: str
    states: tuple[str, ...]
    reduced_states: tuple[str, ...]
    source: str

    def state_bytes(self, dtype: Any) -> int:
        """Return the bytes of state for each number in a parameter, without those of `reduced_states`."""
        return len(self.states) * np.dtype(dtype).itemsize

    def bytes_per_element(self, dtype: Any) -> int:
        """Return the bytes to read and write for it at a step: gradient once, parameter and `states` twice.

        A rule that measures whole arrays first reads them once more, from the cache where they fit into it.
        """
        return (3 + 2 * len(self.states)) * np.dtype(dtype).itemsize


class Rules(tuple[Rule, ...]):
    """The rules, shown by their names."""

    def __repr__(self) -> str:
        lines = [f"<{len(self)} rules, with {', '.join(Rule._fields)}:"]
        for family in dict.fromkeys(rule.family for rule in self):
            lines.append(f" {family}: {', '.join(rule.name for rule in self if rule.family == family)}")
        return "\n".join(lines) + ">"


def describe(cls: type[Optimizer]) -> Rule:
    """Return a class's row in `rules`."""
    sizes: dict[bool, list[str]] = {False: [], True: []}
    for state in cls.states:
        sizes[getattr(cls, state).shape is not None].append(state)
    references = REFERENCES.search(inspect.getdoc(cls) or "")
    return Rule(
        cls.__name__,
        cls.__module__.rpartition(".")[2],
        tuple(sizes[False]),
        tuple(sizes[True]),
        " ".join(references[1].split()).rstrip(".") if references else "",
    )


def rules() -> tuple[Rule, ...]:
    """List all rules, by family, simplest first.

    Returns
    -------
    tuple of Rule
        With ``name``, ``family``, ``states``, ``reduced_states``, ``source``, and the bytes for each number
        in a parameter: ``state_bytes(dtype)`` of state, ``bytes_per_element(dtype)`` read and written.

    Examples
    --------
    >>> [rule.name for rule in fastopt.rules() if rule.family == "sign"]
    ['Rprop', 'Signum', 'Lion']
    >>> fastopt.rules()[0].name, fastopt.rules()[0].states
    ('SGD', ())
    """
    names = [name for family in FAMILIES.values() for name in family]
    return Rules(describe(getattr(optimizers, name)) for name in names)


def check_rule(name: Any) -> str:
    """Return the name of a rule; raise ValueError, which names the nearest, if it is none."""
    if isinstance(name, str) and name in optimizers.RULES:
        return name
    there = {rule.name.lower(): rule.name for rule in rules()}
    near = " or ".join(there[close] for close in get_close_matches(str(name).lower(), there))
    hint = f"did you mean {near}? " if near else ""
    raise ValueError(f"{name!r} is no rule; {hint}there are {', '.join(there.values())}")


def class_of(rule: Any) -> type[Optimizer]:
    """Return the class of a rule, which may be its name; raise ValueError if it is none."""
    is_class = isinstance(rule, type) and issubclass(rule, Optimizer)
    found: type[Optimizer] = rule if is_class else getattr(optimizers, check_rule(rule))
    return found


@cache
def takes(cls: type[Optimizer], ndim: int) -> bool:
    """Whether a rule takes arrays of so many dimensions."""
    one = [np.ones((1,) * ndim)]
    try:
        cls().update([*one], one)
    except ValueError:
        return False
    return True
