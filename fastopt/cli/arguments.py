"""How the arguments of commands are read, and options that several commands have."""

import argparse
from keyword import iskeyword
from pathlib import Path

import fastopt
from fastopt.cli.command import Argument, option

__all__ = [
    "BOOK", "DTYPES", "dtypes", "dtypes_option", "module", "out_option", "png", "rules", "rules_option",
    "shapes", "whole", "widths",
]  # fmt: skip

DTYPES = ("float32", "float64")
BOOK = "SGD,Momentum,Nesterov,AdaGrad,RMSprop,Adam"  # in the book's order


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


def rules_option(help: str = "the rules, or all", default: str | None = BOOK) -> Argument:
    """Return the option ``--rules``."""
    return option("--rules", type=rules, default=default, metavar="RULE,RULE", help=help)


def dtypes_option() -> Argument:
    """Return the option ``--dtypes``."""
    return option(
        "--dtypes", type=dtypes, default=",".join(DTYPES), metavar="DTYPE,DTYPE", help="of the parameters"
    )


def out_option(default: str) -> Argument:
    """Return the option ``--out``, with the picture's name by default."""
    return option("--out", type=png, default=Path(default), metavar="FILE.png", help="the picture")
