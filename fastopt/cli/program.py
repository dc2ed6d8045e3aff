"""The program: finds the command, runs it, and ends quietly at Ctrl-C and where nobody reads its output."""

import argparse
import io
import signal
import sys
from collections.abc import Iterable, Sequence
from importlib import import_module
from typing import NoReturn

import fastopt
from fastopt.cli.command import Command, Parser
from fastopt.cli.pipes import CLOSED_PIPE, discard_output

__all__ = ["COMMANDS", "build_parser", "enter", "main"]

# In the order of the help. Each is a function in the module of its name.
COMMANDS = ("train", "trajectories", "bench", "verify", "rules", "warmup", "run", "guide")

# The extra that brings each optional module.
EXTRAS = {
    **dict.fromkeys(("matplotlib", "tqdm", "sklearn", "threadpoolctl"), "demo"),
    **dict.fromkeys(("torch", "optax", "keras", "jax"), "frameworks"),
}

# The exit code that a shell reports for programs that SIGINT has ended.
INTERRUPTED = 130


def build_parser(prog: str = "fastopt", names: Iterable[str] = COMMANDS) -> Parser:
    """Return the parser of the command line of a program that is called by this name, with some commands."""
    parser = Parser(
        prog=prog,
        description="Optimizers of networks written from scratch in NumPy, as fused Numba kernels.",
    )
    parser.add_argument("--version", action="version", version=f"fastopt {fastopt.__version__}")
    subparsers = parser.add_subparsers(required=True, metavar="COMMAND")
    for name in names:
        command: Command = getattr(import_module(f"fastopt.cli.{name}"), name)
        command.add_to(subparsers)
    return parser


def enter(prog: str = "fastopt") -> NoReturn:
    """Run the command line of this process, and end the process: the script ``fastopt``."""
    if sys.argv[1:2] != ["run"]:  # whose script finds the streams as Python has made them
        replace_unknown_signs()
    code = main(prog=prog)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        # A further Ctrl-C ends the process at once. Python would print a traceback while it shuts down.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    sys.exit(code)


def replace_unknown_signs() -> None:
    """Let signs that an output's encoding lacks become question marks.

    Windows has encodings without the signs of formulas for files and pipes, cp932 in Japan for example.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def main(arguments: Sequence[str] | None = None, prog: str = "fastopt") -> int:
    """Run a command line, and return the exit code.

    Ctrl-C ends it with one line and code 130. Where nobody reads the output (``| head``), it ends quietly.

    Parameters
    ----------
    arguments : sequence of str, optional
        The words after the program's name; by default those of the process.
    prog : str
        How the program was called, for its help.
    """
    try:
        try:
            try:
                return execute(arguments, prog)
            finally:  # also after --help, which exits
                if sys.stdout is not None and not sys.stdout.closed:  # as without a console, or by a script
                    sys.stdout.flush()
        except KeyboardInterrupt as interrupt:
            if sys.stderr is not None and not sys.stderr.closed:
                # Commands tell by the message what is kept or where it was.
                print(": ".join(["interrupted", *map(str, interrupt.args)]), file=sys.stderr, flush=True)
            return INTERRUPTED
    except BrokenPipeError:
        discard_output()
        return CLOSED_PIPE


def execute(arguments: Sequence[str] | None, prog: str) -> int:
    """Run a command line, and return the exit code."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    # A command's module is imported here, where Ctrl-C ends quietly; others aren't needed.
    names = given[:1] if given and given[0] in COMMANDS else COMMANDS
    options = build_parser(prog, names).parse_args(given, argparse.Namespace(given=given))
    try:
        code: int = options.command.run(options)
    except ModuleNotFoundError as error:
        module = (error.name or "").split(".")[0]
        if module == "mpi4py":
            print(error, file=sys.stderr)
            return 1
        if module not in EXTRAS:
            raise
        print(f'this needs {module}: python -m pip install "fastopt[{EXTRAS[module]}]"', file=sys.stderr)
        return 1
    return code
