"""``fastopt run``: a script of the user's with fastopt's optimizers."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from fastopt.cli.arguments import module as read_module
from fastopt.cli.command import UsageError, argument, command, option

__all__ = ["run"]


@command(
    "run a script of yours with fastopt's optimizers in its module common.optimizer",
    "Says at the end what the optimizer's steps cost, and what they would have cost in plain NumPy, "
    "as timed on copies at some of the steps. Its options come before the script.",
)
@option(
    "--module",
    type=read_module,
    default="common.optimizer",
    metavar="NAME",
    help="the module whose optimizers are replaced, as the script imports it, such as optimizer for a "
    "file optimizer.py beside it; its other names stay",
)
@option("--dezero", action="store_true", help="dezero.optimizers is fastopt, too (fastopt.adapters.dezero)")
@argument("script", type=Path, metavar="SCRIPT", help="a Python file")
@argument("arguments", nargs=argparse.REMAINDER, metavar="...", help="the script's arguments")
def run(
    module: str, dezero: bool, script: Path, arguments: Sequence[str], given: Sequence[str], prog: str
) -> int:
    """Run a script with fastopt's optimizers."""
    from fastopt.tools.runner import run as job

    if not script.is_file():
        raise UsageError(f"argument SCRIPT: there is no file {str(script)!r}")
    # A first "--" after the script is the script's, which the parser leaves out.
    before = given[: len(given) - len(arguments)]
    own = [*before[-1:], *arguments] if before[-1:] == ["--"] else arguments
    return job.run(script, own, module, dezero, prog)
