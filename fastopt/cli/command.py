"""Commands as functions, whose options are declared by decorators above them, over argparse."""

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from inspect import signature
from typing import Any, NoReturn, Protocol, TypeVar

__all__ = ["Argument", "Command", "Parser", "UsageError", "argument", "command", "exclusive", "option"]

Function = TypeVar("Function", bound=Callable[..., "int | None"])

# Arguments of a command's function that aren't options: the command line's words, and the program's name.
CONTEXT = ("given", "prog")


class UsageError(Exception):
    """A command line that can't be carried out: its message is shown with the command's name, exit code 2."""


class Parser(argparse.ArgumentParser):
    """A parser that says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        """Exit with code 2."""
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


class Defaults(argparse.ArgumentDefaultsHelpFormatter):
    """Help with the defaults of the options that have one."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        known = action.default is not None and action.default is not False
        return super()._get_help_string(action) if known else action.help


class Target(Protocol):
    """A parser, or a group within it."""

    def add_argument(self, *names: str, **settings: Any) -> Any:
        """Add an argument."""


class Declaration:
    """A decorator that declares something of the command below it."""

    def __call__(self, function: Function) -> Function:
        """Add this declaration to a function, before those that stand nearer to it."""
        vars(function).setdefault("declarations", []).insert(0, self)
        return function

    def add_to(self, parser: argparse.ArgumentParser) -> None:
        """Add what is declared to a parser."""
        raise NotImplementedError


class Argument(Declaration):
    """An option, or an argument without a name of its own on the command line."""

    def __init__(self, *names: str, **settings: Any) -> None:
        self.names, self.settings = names, settings

    def add_to(self, parser: Target) -> None:
        """Add the argument to a parser or a group."""
        parser.add_argument(*self.names, **self.settings)


class Exclusive(Declaration):
    """Options of which a command line may have one at most."""

    def __init__(self, options: tuple[Argument, ...]) -> None:
        self.options = options

    def add_to(self, parser: argparse.ArgumentParser) -> None:
        """Add the options to a parser."""
        group = parser.add_mutually_exclusive_group()
        for one in self.options:
            one.add_to(group)


def option(*names: str, **settings: Any) -> Argument:
    """Return a decorator that declares an option, with the arguments of argparse's ``add_argument``."""
    return Argument(*names, **settings)


# The same for an argument that is known by its place; the word tells readers of a command which it is.
argument = option


def exclusive(*options: Argument) -> Exclusive:
    """Return a decorator that declares options of which a command line may have one at most."""
    return Exclusive(options)


@dataclass(frozen=True)
class Command:
    """A command: a function that takes each of its options by name, and returns the exit code or None.

    Attributes
    ----------
    name : str
        The word on the command line: the function's name.
    summary : str
        What it does, for the list of commands.
    more : str
        Further sentences for the command's own help.
    function : callable
        Is called with the options. With an argument ``given`` it gets the words of the command line, too,
        with ``prog`` the program's name, such as ``fastopt run``.
    declarations : tuple of Declaration
        The options, in the order of the help.
    """

    name: str
    summary: str
    more: str
    function: Callable[..., int | None]
    declarations: tuple[Declaration, ...]

    def add_to(self, commands: Any) -> None:
        """Add the command to the subparsers of a parser."""
        text = f"{self.summary[0].upper()}{self.summary[1:]}. {self.more}".strip()
        parser = commands.add_parser(self.name, help=self.summary, description=text, formatter_class=Defaults)
        for declaration in self.declarations:
            declaration.add_to(parser)
        parser.set_defaults(command=self, parser=parser)

    def run(self, options: argparse.Namespace) -> int:
        """Carry out the command, and return the exit code."""
        parser: Parser = options.parser
        values = {name: value for name, value in vars(options).items() if name not in ("command", "parser")}
        context = {"given": values.pop("given"), "prog": parser.prog}
        wanted = signature(self.function).parameters
        values |= {name: context[name] for name in CONTEXT if name in wanted}
        try:
            return self.function(**values) or 0
        except UsageError as error:
            parser.error(str(error))


def command(summary: str, more: str = "") -> Callable[[Callable[..., int | None]], Command]:
    """Return a decorator that makes a command of the function below; it stands above all options.

    Parameters
    ----------
    summary : str
        What the command does, without a capital and a period.
    more : str
        Further sentences for the command's own help.
    """

    def make(function: Callable[..., int | None]) -> Command:
        declared = tuple(vars(function).get("declarations", ()))
        return Command(function.__name__, summary, more, function, declared)

    return make
