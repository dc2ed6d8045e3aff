"""What the arguments of the command line are, and how they are read."""

import argparse
from keyword import iskeyword
from pathlib import Path
from typing import NoReturn

import fastopt

__all__ = ["DTYPES", "Defaults", "Parser", "dtypes", "module", "png", "rules", "shapes", "whole", "widths"]

DTYPES = ("float32", "float64")


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


def whole(text: str, least: int = 1) -> int:
    """Read a whole number such as 100 or 1e6."""
    try:
        value = float(text)
    except ValueError:
        value = least - 1.0
    if not value.is_integer() or value < least:
        raise argparse.ArgumentTypeError(f"must be a whole number from {least}, not {text!r}")
    return int(value)


def widths(text: str) -> list[int]:
    """Read whole numbers from 1 with commas between them."""
    return [*map(whole, text.split(","))]


def rules(text: str) -> list[str]:
    """Read names of rules with commas between them, or all."""
    # Late, as all that makes a rule is imported: 25 ms that --help doesn't need.
    from fastopt.tools.registry import check_rule

    if text == "all":
        return [rule.name for rule in fastopt.rules()]
    try:
        return list(dict.fromkeys(map(check_rule, text.split(","))))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def shape(text: str) -> tuple[int, ...]:
    """Read whole numbers from 1 with an x between them."""
    try:
        return tuple(map(whole, text.split("x")))
    except argparse.ArgumentTypeError:
        raise argparse.ArgumentTypeError(f"must be shapes like 784x100,100, not {text!r}") from None


def shapes(text: str) -> list[tuple[int, ...]]:
    """Read shapes with commas between them."""
    return [*map(shape, text.split(","))]


def dtypes(text: str) -> list[str]:
    """Read names of dtypes with commas between them."""
    for name in text.split(","):
        if name not in DTYPES:
            raise argparse.ArgumentTypeError(f"{name!r} is neither float32 nor float64")
    return text.split(",")


def png(text: str) -> Path:
    """Read the path of a picture that can be written."""
    path = Path(text)
    if path.suffix.lower() != ".png":
        raise argparse.ArgumentTypeError(f"must end in .png, not {text!r}")
    if not path.absolute().parent.is_dir():
        raise argparse.ArgumentTypeError(f"there is no folder {str(path.parent)!r}")
    return path


def module(text: str) -> str:
    """Read the dotted name of a module."""
    names = text.removesuffix(".py").replace("/", ".").replace("\\", ".").strip(".").split(".")
    if names != text.split(".") or not all(name.isidentifier() and not iskeyword(name) for name in names):
        valid = ".".join(name for name in names if name.isidentifier() and not iskeyword(name))
        raise argparse.ArgumentTypeError(
            f"must be the name of a module as in an import, got {text!r}; write {valid or 'common.optimizer'}"
        )
    return text
