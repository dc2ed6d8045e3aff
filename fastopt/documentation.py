"""How the class of an optimizer documents itself: `help`, IPython's ``Adam?``, `inspect.signature`."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import Field
from functools import cache
from inspect import Parameter, Signature, cleandoc, signature
from typing import Any

__all__ = ["DocumentedType", "OptionalArguments"]

PARAMETERS = re.compile(r"^Parameters\n-+\n(.*?)(?=^\w[\w ]*\n-{3,}\n|\Z)", re.MULTILINE | re.DOTALL)
ENTRY = re.compile(r"^(\w+(?:, \w+)*) : .*\n((?:(?:    .*)?\n)*)", re.MULTILINE)
SENTENCE = re.compile(r"\.(?=\s|$)")

OPTIONS = """Options
-------
Keyword arguments of every rule; ``help("fastopt.options")`` has all about them. A hyperparameter of another
type or out of range raises TypeError or ValueError, also when it is assigned later. Numbers that may change
from step to step take a schedule: ``lr=fastopt.schedules.Cosine(0.1, 1000)``.

{lines}

Methods: update, average, averaged, describe, drop_state, flush, record, save, load, state_dict and
load_state_dict. ``help(fastopt.Optimizer.update)`` has all about the first, and so on.
"""


def entries_of(doc: str | None) -> dict[str, str]:
    """Return the description of each parameter in a docstring."""
    section = PARAMETERS.search(cleandoc(doc or "") + "\n")
    found = ENTRY.findall(section[1]) if section else []
    return {name: cleandoc(text) for names, text in found for name in names.split(", ")}


@cache
def option_lines(sources: tuple[type, ...]) -> Mapping[str, str]:
    """Return a line for each option: its name, those that go with it, and its description's first sentence.

    Parameters
    ----------
    sources : tuple of type
        The dataclasses that declare the options and have their documentation.
    """
    lines = {}
    fields: dict[str, Field[Any]] = {}
    for source in sources:
        fields |= {name: vars(source)["__dataclass_fields__"][name] for name in source.__annotations__}
    for source in sources:
        for name, text in entries_of(vars(source).get("__doc__")).items():
            if name in fields and fields[name].metadata.get("of") is None:
                companions = [other for other, own in fields.items() if own.metadata.get("of") == name]
                also = f" (with {', '.join(companions)})" if companions else ""
                sentence = " ".join(SENTENCE.split(text, maxsplit=1)[0].split())
                lines[name] = f"- {name}{also}: {sentence[0].lower()}{sentence[1:]}"
    return lines


class OptionalArguments(Signature):
    """The signature of a constructor whose text has ``**options`` for the options of every rule.

    All options are among the parameters, after the rule's own arguments.

    Parameters
    ----------
    parameters : iterable of inspect.Parameter, optional
        All parameters.
    return_annotation : object
        As for `inspect.Signature`.
    options : frozenset of str
        Names of the parameters that the text leaves out.
    """

    __slots__ = ("options",)

    def __init__(
        self,
        parameters: Iterable[Parameter] | None = None,
        *,
        return_annotation: Any = Signature.empty,
        options: frozenset[str] = frozenset(),
    ) -> None:
        super().__init__(list(parameters or ()), return_annotation=return_annotation)
        self.options = options

    def __str__(self) -> str:
        own = [known for known in self.parameters.values() if known.name not in self.options]
        rest = [Parameter("options", Parameter.VAR_KEYWORD)] if self.options else []
        return str(Signature([known.replace(annotation=Parameter.empty) for known in own] + rest))

    def format(self, **named: Any) -> str:
        """Return the text, which Python's help takes from here since 3.13."""
        return str(self)


class DocumentedType(type):
    """The type of optimizer classes, which completes their docstrings and signatures.

    `help` prints all that a class inherits, which is ten screens for each rule. As in `enum.EnumType`,
    ``dir(Adam)`` has what such a help is to show; ``dir(Adam())`` has all that users call. Options are
    named in the docstring, from the documentation of `option_sources`, and come last in the signature.
    """

    # The dataclasses with the options' fields; `Optimizer` has them.
    option_sources: tuple[type, ...] = ()

    @property
    def __doc__(cls) -> str | None:
        own: str | None = vars(cls).get("__doc__")
        lines = option_lines(cls.option_sources)
        if not lines:  # python -OO
            return own
        known = {*entries_of(own)}
        text = "\n".join(line for name, line in lines.items() if name not in known)
        return "\n\n".join(([cleandoc(own)] if own else []) + [OPTIONS.format(lines=text)])

    @__doc__.setter
    def __doc__(cls, text: str | None) -> None:
        type.__dict__["__doc__"].__set__(cls, text)  # as `dataclass` does where there is none: python -OO

    @property
    def __signature__(cls) -> Signature:
        init: Any = cls.__init__  # type: ignore[misc]
        parameters = [*signature(init).parameters.values()][1:]
        if cls.__init__ is not vars(cls).get("__init__"):  # type: ignore[misc]
            return Signature(parameters)  # a base of another library's form has its own arguments
        options = frozenset(name for source in cls.option_sources for name in source.__annotations__)
        options -= {*entries_of(vars(cls).get("__doc__"))}
        parameters.sort(key=lambda known: known.name in options and known.kind is Parameter.KEYWORD_ONLY)
        return OptionalArguments(parameters, options=options)

    def __dir__(cls) -> list[str]:
        return ["__class__", "__doc__", "__module__", "__name__", "__qualname__"]
