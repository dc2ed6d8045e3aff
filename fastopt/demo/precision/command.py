"""The arguments of ``python -m fastopt verify --state``, and what it prints and draws."""

import argparse
from functools import partial
from pathlib import Path
from typing import Any

from fastopt.demo.arguments import Parser, png, whole

__all__ = ["add_arguments", "check_arguments", "outcome"]

# What the parser leaves out where it isn't given, so that it can be refused without --state.
DEFAULTS = {"seeds": 5, "short": False, "out": Path("state.png")}


def add_arguments(parser: Parser, exclusive: Any) -> None:
    """Add ``--state`` to a group of the parser whose arguments exclude each other, and its own arguments."""
    exclusive.add_argument(
        "--state",
        action="store_true",
        help="train four networks by five rules, with the state in full and in 2 or 1 bytes a number; show "
        "losses, accuracies and the correlation of the loss curves, and draw these (up to 20 minutes on two "
        "cores)",
    )
    add = partial(parser.add_argument, default=argparse.SUPPRESS)
    seeds, out = DEFAULTS["seeds"], DEFAULTS["out"]
    add(
        "--seeds",
        type=whole,
        metavar="N",
        help=f"with --state: seeds of weights and batches (default: {seeds})",
    )
    add("--short", action="store_true", help="with --state: about a tenth of the steps")
    add("--out", type=png, metavar="FILE.png", help=f"with --state: the picture (default: {out})")


def check_arguments(options: argparse.Namespace, parser: Parser) -> None:
    """Set the defaults of the study's arguments; exit with code 2 if one is given without ``--state``."""
    for name, default in DEFAULTS.items():
        if name in options and not options.state:
            parser.error(f"argument --{name}: requires --state")
        vars(options).setdefault(name, default)


def outcome(options: argparse.Namespace) -> tuple[str, bool]:
    """Carry out the study, and draw it; return the tables, and whether no training has suffered."""
    from fastopt.demo.precision.picture import picture
    from fastopt.demo.precision.report import summary
    from fastopt.demo.precision.study import FORMATS, compare, decayed_moment

    trials = compare(options.seeds, options.short)
    text, right = summary(trials, {name: decayed_moment(name) for name in FORMATS}, options.short)
    return f"{text}\n\npicture: {picture(trials, options.out)}", right
