"""``python -m fastopt``: the optimizers at work."""

import argparse
import sys
from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path
from shutil import get_terminal_size
from typing import NoReturn

import fastopt
from fastopt import optimizers
from fastopt.demo.surfaces import SURFACES
from fastopt.tools.registry import check_rule

# The extra that brings each optional module.
EXTRAS = {
    **dict.fromkeys(("matplotlib", "tqdm", "sklearn"), "demo"),
    **dict.fromkeys(("torch", "optax", "keras", "jax"), "frameworks"),
}

BOOK = "SGD,Momentum,Nesterov,AdaGrad,RMSprop,Adam"  # in the book's order


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        """Exit with code 2."""
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


class Defaults(argparse.ArgumentDefaultsHelpFormatter):
    """Shows the defaults of the options that have one."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        known = action.default is not None and action.default is not False
        return super()._get_help_string(action) if known else action.help


def positive(text: str) -> int:
    """Read a whole number from 1, such as 100 or 1e6."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not value.is_integer() or value < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number from 1, not {text!r}")
    return int(value)


def seed(text: str) -> int:
    """Read a whole number from 0."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"must be a whole number from 0, not {text!r}")
    return int(text)


def widths(text: str) -> list[int]:
    """Read whole numbers from 1 with commas between them."""
    return [positive(part) for part in text.split(",")]


def rules(text: str) -> list[str]:
    """Read names of rules with commas between them, or all."""
    if text == "all":
        return [rule.name for rule in fastopt.rules()]
    try:
        return list(dict.fromkeys(map(check_rule, text.split(","))))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def shape(text: str) -> tuple[int, ...]:
    """Read whole numbers from 1 with an x between them."""
    try:
        return tuple(positive(part) for part in text.split("x"))
    except argparse.ArgumentTypeError:
        raise argparse.ArgumentTypeError(f"must be shapes like 784x100,100, not {text!r}") from None


def shapes(text: str) -> list[tuple[int, ...]]:
    """Read shapes with commas between them."""
    return [shape(part) for part in text.split(",")]


def dtypes(text: str) -> list[str]:
    """Read names of dtypes with commas between them."""
    for name in text.split(","):
        if name not in ("float32", "float64"):
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


def train(options: argparse.Namespace, parser: Parser) -> None:
    """Run the main job."""
    from fastopt.demo.data import digits, load

    try:
        data = load(options.data, options.dtype) if "data" in options else digits(options.dtype)
    except ValueError as error:
        parser.error(f"argument --data: {error}")
    sizes = data.widths(options.hidden)
    heading = (
        f"{len(data.x_train)} training samples, {len(data.x_test)} for the test; "
        f"network {'-'.join(map(str, sizes))}, {options.dtype}"
    )
    how = options.rules, options.hidden, options.epochs, options.batch, options.dtype, options.seed
    if options.mpi:
        from fastopt.demo import distributed

        try:
            report = distributed.report(data, *how)
        except ValueError as error:
            parser.error(f"argument --batch: {error}")
        if report:
            print(f"{heading}\n\n{report}")
        return
    from fastopt.demo import train as job

    print(heading)
    comparisons = job.train(data, *how, options.packed)
    print(f"\n{job.summary(comparisons)}\n\npicture: {job.picture(comparisons, options.out)}")


def trajectories(options: argparse.Namespace, parser: Parser) -> None:
    """Draw the book's picture."""
    from fastopt.demo import trajectories as job

    surface = SURFACES[options.function]
    paths = job.follow(surface, options.rules)
    if not paths:
        parser.error(f"argument --rules: {', '.join(options.rules)} can't take x and y, which are numbers")
    print(f"{surface.formula}, {surface.steps} steps from {surface.start}, minimum at {surface.minimum}\n")
    print(f"{job.summary(paths, surface)}\n\npicture: {job.picture(paths, surface, options.out)}")
    left_out = [rule for rule in options.rules if rule not in paths]
    if left_out:
        print(f"left out, as they can't take x and y, which are numbers: {', '.join(left_out)}")


def bench(options: argparse.Namespace, parser: Parser) -> None:
    """Measure on this machine."""
    from tqdm import tqdm

    from fastopt.demo import bench as job
    from fastopt.tools import benchmarking

    networks = [[(size,)] for size in options.sizes] if options.shapes is None else [options.shapes]
    try:
        for rule, network in product(options.rules, networks):
            benchmarking.taken(rule, network)
    except ValueError as error:
        parser.error(f"argument --rules: {error}")
    timings, starts = [], []
    with tqdm(total=len(options.rules) * (len(options.dtypes) * len(networks) + 1)) as bar:
        for rule in options.rules:
            bar.set_description(rule)
            for dtype in options.dtypes:
                for network in networks:
                    timings += benchmarking.bench([network], [rule], [dtype], options.blocks)
                    bar.update()
            starts.append(benchmarking.start(rule, options.dtypes[0]))
            bar.update()
    print(f"{job.summary(timings)}\n\n{job.break_even(timings, starts)}")
    print(f"\npicture: {job.picture(timings, options.out)}")


def verify(options: argparse.Namespace, parser: Parser) -> int:
    """Hold fastopt against plain NumPy, wrong input, or other libraries."""
    if options.faults:
        from fastopt.demo import invalid_inputs

        text, right = invalid_inputs.summary()
    elif options.rules:
        from fastopt.demo import comparison

        text, right = comparison.summary(comparison.compare(rules("all")))
    else:
        from fastopt.demo import agreement

        text, right = agreement.summary(optimizers.__all__)
    print(text)
    return 0 if right else 1


def catalogue(options: argparse.Namespace, parser: Parser) -> None:
    """List the rules, or renew the list in a Markdown file."""
    from fastopt.demo import rules as job

    if options.markdown is None:
        print(job.summary(get_terminal_size().columns))
        return
    try:
        options.markdown.write_text(job.renewed(options.markdown.read_text("utf-8")), "utf-8")
    except (OSError, ValueError) as error:
        parser.error(f"argument --markdown: {options.markdown}: {error}")


def run(options: argparse.Namespace, parser: Parser) -> int:
    """Run a script with fastopt's optimizers."""
    from fastopt.demo import run as job

    if not options.script.is_file():
        parser.error(f"argument SCRIPT: there is no file {str(options.script)!r}")
    return job.run(options.script, options.arguments, options.dezero)


def build_parser() -> Parser:
    """Give the parser of the command line."""
    parser = Parser(
        prog="python -m fastopt",
        description="Optimizers of networks written from scratch in NumPy, as fused Numba kernels.",
    )
    parser.add_argument("--version", action="version", version=f"fastopt {fastopt.__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(
        name: str, run: Callable[[argparse.Namespace, Parser], int | None], summary: str, more: str
    ) -> Parser:
        sub: Parser = commands.add_parser(
            name,
            help=summary,
            description=f"{summary[0].upper()}{summary[1:]}. {more}",
            formatter_class=Defaults,
        )
        sub.set_defaults(run=run, parser=sub)
        if name in ("train", "trajectories", "bench"):
            sub.add_argument(
                "--out", type=png, default=Path(f"{name}.png"), metavar="FILE.png", help="the picture"
            )
        return sub

    sub = command(
        "train",
        train,
        "train a network with each rule, by plain NumPy and by fastopt",
        "Prints losses, whether the parameters agree bit for bit, and times; draws the loss curves.",
    )
    sub.add_argument(
        "--data",
        type=Path,
        default=argparse.SUPPRESS,
        metavar="FILE.npz",
        help="arrays x_train, y_train, x_test, y_test, as in Keras's mnist.npz "
        "(default: scikit-learn's digits)",
    )
    sub.add_argument(
        "--hidden",
        type=widths,
        default="100,100",
        metavar="N,N",
        help="widths of the hidden layers",
    )
    sub.add_argument("--epochs", type=positive, default=20, metavar="N", help="passes over the data")
    sub.add_argument("--batch", type=positive, default=100, metavar="N", help="samples a step")
    sub.add_argument(
        "--rules",
        type=rules,
        default=BOOK,
        metavar="RULE,RULE",
        help="the rules, or all",
    )
    sub.add_argument("--dtype", choices=["float32", "float64"], default="float64", help="of the parameters")
    sub.add_argument("--seed", type=seed, default=0, metavar="N", help="of the weights and the batches")
    sub.add_argument(
        "--packed",
        action="store_true",
        help="give fastopt's network one flat buffer for its parameters and one for its gradients",
    )
    sub.add_argument(
        "--mpi",
        action="store_true",
        help="train by all processes that mpiexec has started, each on its part of every batch, and by one "
        "of them alone (packed; no picture)",
    )

    sub = command(
        "trajectories",
        trajectories,
        "draw the path of each rule over the contours of a function",
        "Prints direction changes, detour and distance to the minimum.",
    )
    sub.add_argument(
        "--function",
        choices=list(SURFACES),
        default="valley",
        help="the function; valley is the book's",
    )
    sub.add_argument("--rules", type=rules, default=BOOK, metavar="RULE,RULE", help="the rules, or all")

    sub = command(
        "bench",
        bench,
        "time the steps of your own shapes on this machine",
        "Compares plain NumPy, fastopt, fastopt packed, and PyTorch, optax and Keras where installed, in "
        "turn, with the traffic of the memory alone (% of limit: its time over the packed step's); tells "
        "when the start is paid back; draws time against size.",
    )
    sub.add_argument("--rules", type=rules, default=BOOK, metavar="RULE,RULE", help="the rules, or all")
    sub.add_argument(
        "--dtypes", type=dtypes, default="float32,float64", metavar="DTYPE,DTYPE", help="of the parameters"
    )
    what = sub.add_mutually_exclusive_group()
    what.add_argument(
        "--sizes",
        type=widths,
        default="100,1000,10000,100000,1000000,10000000",
        metavar="N,N",
        help="numbers of parameters, each in one array",
    )
    what.add_argument(
        "--shapes",
        type=shapes,
        metavar="784x100,100,...",
        help="the arrays of one network, instead of --sizes",
    )
    sub.add_argument("--blocks", type=positive, default=15, metavar="N", help="turns of each implementation")

    sub = command(
        "verify",
        verify,
        "hold fastopt against plain NumPy, or other libraries",
        "By default it takes 20 steps of every rule in every dtype and layout by fastopt and in plain NumPy, "
        "and shows the largest differences, as proof after an installation. Exits with 1 if there is one, if "
        "fastopt has let a fault through, or differs from a witness.",
    )
    what = sub.add_mutually_exclusive_group()
    what.add_argument(
        "--faults",
        action="store_true",
        help="give wrong input to fastopt, the book's code and, where installed, PyTorch and "
        "optax; show what is raised, and how many parameters have changed",
    )
    what.add_argument(
        "--rules",
        action="store_true",
        help="run each rule beside its twin in a well-known library; show the largest relative difference "
        "over 20 steps, and the times of a step on the book's network",
    )

    sub = command(
        "rules",
        catalogue,
        "list the rules with their states, arguments and sources",
        "Bytes are those that a step reads and writes for each number in a parameter.",
    )
    sub.add_argument(
        "--markdown", type=Path, metavar="FILE.md", help="renew the table in this file instead of printing it"
    )

    sub = command(
        "run",
        run,
        "run a script of yours in which common.optimizer is fastopt",
        "Says at the end what the optimizer's steps cost, and what they would have cost in plain NumPy, "
        "as timed on copies at some of the steps. Its options come before the script.",
    )
    sub.add_argument(
        "--dezero", action="store_true", help="dezero.optimizers is fastopt, too (fastopt.adapters.dezero)"
    )
    sub.add_argument("script", type=Path, metavar="SCRIPT", help="a Python file")
    sub.add_argument("arguments", nargs=argparse.REMAINDER, metavar="...", help="the script's arguments")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line; give the exit code."""
    options = build_parser().parse_args(arguments)
    try:
        code: int = options.run(options, options.parser) or 0
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


if __name__ == "__main__":
    sys.exit(main())
