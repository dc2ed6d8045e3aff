"""``python -m fastopt``: the optimizers at work."""

import argparse
import sys
from collections.abc import Callable, Sequence
from functools import partial
from itertools import product
from math import prod
from pathlib import Path
from shutil import get_terminal_size

import fastopt
from fastopt import optimizers
from fastopt.demo.arguments import DTYPES, Defaults, Parser, dtypes, module, png, rules, shapes, whole, widths
from fastopt.demo.pipes import CLOSED_PIPE, discard_output
from fastopt.demo.precision import command as state_study
from fastopt.demo.surfaces import SURFACES

# The extra that brings each optional module.
EXTRAS = {
    **dict.fromkeys(("matplotlib", "tqdm", "sklearn", "threadpoolctl"), "demo"),
    **dict.fromkeys(("torch", "optax", "keras", "jax"), "frameworks"),
}

SIZES = "100,10000,1000000"  # with the book's rules all is done within two minutes
BOOK = "SGD,Momentum,Nesterov,AdaGrad,RMSprop,Adam"  # in the book's order


def train(options: argparse.Namespace, parser: Parser) -> None:
    """Train a network with each rule."""
    from fastopt.demo.data import digits, load
    from fastopt.demo.report import paragraph

    try:
        data = load(options.data, options.dtype) if "data" in options else digits(options.dtype)
    except ValueError as error:
        parser.error(f"argument --data: {error}")
    sizes = data.widths(options.hidden)
    heading = paragraph(
        f"{len(data.x_train)} training samples, {len(data.x_test)} for the test; "
        f"network {'-'.join(map(str, sizes))}, {options.dtype}"
    )
    if data.one_hot:
        verb = "is" if len(data.one_hot) == 1 else "are"
        heading += f"\n{' and '.join(data.one_hot)} {verb} one-hot: the labels are their argmax"
    how = options.rules, options.hidden, options.epochs, options.batch, options.dtype, options.seed
    if options.mpi:
        from fastopt.demo import distributed
        from fastopt.optimizers.matrix import Orthogonalizing

        for rule in options.rules:
            if issubclass(getattr(fastopt, rule), Orthogonalizing):
                no_ranks = f"{rule} needs a Partition here, which several ranks can't have"
                parser.error(f"argument --rules: {no_ranks}")
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
    from fastopt.demo.report import paragraph

    surface = SURFACES[options.function]
    paths = job.follow(surface, options.rules)
    if not paths:
        parser.error(f"argument --rules: {', '.join(options.rules)} can't take x and y, which are numbers")
    print(surface.formula)
    print(f"{surface.steps} steps from {surface.start}, minimum at {surface.minimum}\n")
    print(f"{job.summary(paths, surface)}\n\npicture: {job.picture(paths, surface, options.out)}")
    left_out = [rule for rule in options.rules if rule not in paths]
    if left_out:
        print(paragraph(f"left out, as they can't take x and y, which are numbers: {', '.join(left_out)}"))


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
    timings = benchmarking.Timings()
    with tqdm(total=len(options.rules) * len(options.dtypes) * len(networks) + 1) as bar:
        for rule in options.rules:
            for dtype, network in product(options.dtypes, networks):
                size = sum(map(prod, benchmarking.taken(rule, network)))
                bar.set_description(f"{rule} {dtype} {size:,}")
                timings += benchmarking.bench([network], [rule], [dtype], options.blocks)
                bar.update()
        # With one rule, as it takes ten seconds, most of it for the step that all rules share.
        begin = options.rules[0], options.dtypes[0]
        bar.set_description(f"{begin[0]}, start of a process")
        start = benchmarking.start(*begin)
        bar.update()
    print(f"{job.summary(timings)}\n\n{job.break_even(timings, start, begin[1])}")
    print(f"\npicture: {job.picture(timings, options.out)}")


def verify(options: argparse.Namespace, parser: Parser) -> int:
    """Compare fastopt with plain NumPy or other libraries, give it wrong input, or train with small state."""
    state_study.check_arguments(options, parser)
    if options.state:
        text, right = state_study.outcome(options)
    elif options.faults:
        from fastopt.demo import invalid_inputs

        text, right = invalid_inputs.summary()
    elif options.rules:
        from fastopt.demo import comparison

        text, right = comparison.summary(comparison.compare(rules("all")))
    else:
        from fastopt.demo import agreement

        text, right = agreement.summary(optimizers.RULES)
    print(text)
    return 0 if right else 1


def peers(options: argparse.Namespace, parser: Parser) -> int:
    """Say what to write instead of another library's constructor, or try many of them."""
    from fastopt.demo import constructors

    if options.peers:
        text, right = constructors.summary(constructors.outcomes())
        print(text)
        return 0 if right else 1
    try:
        print(constructors.answer(*options.call))
    except ValueError as error:
        parser.error(f"argument --from: {error}")
    return 0


def catalogue(options: argparse.Namespace, parser: Parser) -> int:
    """List the rules, or renew the list in a Markdown file; or what `peers` does."""
    if options.call is not None or options.peers:
        return peers(options, parser)
    from fastopt.demo import rules as job

    if options.markdown is None:
        print(job.summary(get_terminal_size().columns))
        return 0
    try:
        options.markdown.write_text(job.renewed(options.markdown.read_text("utf-8")), "utf-8")
    except (OSError, ValueError) as error:
        parser.error(f"argument --markdown: {options.markdown}: {error}")
    return 0


def run(options: argparse.Namespace, parser: Parser) -> int:
    """Run a script with fastopt's optimizers."""
    from fastopt.demo import run as job

    if not options.script.is_file():
        parser.error(f"argument SCRIPT: there is no file {str(options.script)!r}")
    # A first "--" after the script is the script's, which the parser leaves out.
    before = options.given[: len(options.given) - len(options.arguments)]
    own = [*before[-1:], *options.arguments] if before[-1:] == ["--"] else options.arguments
    return job.run(options.script, own, options.module, options.dezero)


def warmup(options: argparse.Namespace, parser: Parser) -> int:
    """Compile rules for later processes."""
    from fastopt.engine.compiling.folder import cache_folder, writable_folder

    if writable_folder() is None:
        parser.error(
            f"nothing can be kept in {cache_folder() or 'a cache, as there is no home folder'}: name a "
            "folder that can be written by FASTOPT_CACHE_DIR"
        )
    try:
        fastopt.warmup(options.rules or None, options.dtypes)
    except (ValueError, RuntimeError) as error:
        parser.error(str(error))
    except KeyboardInterrupt:
        print("interrupted: what has been compiled so far is kept", file=sys.stderr)
        return 130
    return 0


def build_parser() -> Parser:
    """Return the parser of the command line."""
    parser = Parser(
        prog="python -m fastopt",
        description="Optimizers of networks written from scratch in NumPy, as fused Numba kernels.",
    )
    parser.add_argument("--version", action="version", version=f"fastopt {fastopt.__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, run: Callable[..., int | None], summary: str, more: str) -> Parser:
        text = f"{summary[0].upper()}{summary[1:]}. {more}"
        sub: Parser = commands.add_parser(name, help=summary, description=text, formatter_class=Defaults)
        sub.set_defaults(run=run, parser=sub)
        if name in ("train", "trajectories", "bench"):
            add, picture = sub.add_argument, Path(f"{name}.png")
            add("--rules", type=rules, default=BOOK, metavar="RULE,RULE", help="the rules, or all")
            add("--out", type=png, default=picture, metavar="FILE.png", help="the picture")
        return sub

    add = command(
        "train",
        train,
        "train a network with each rule, by plain NumPy and by fastopt",
        "Prints losses, whether the parameters agree bit for bit, and times; draws the loss curves.",
    ).add_argument
    add(
        "--data",
        type=Path,
        default=argparse.SUPPRESS,
        metavar="FILE.npz",
        help="arrays x_train, y_train, x_test, y_test, as in Keras's mnist.npz; labels may be one-hot "
        "(default: scikit-learn's digits)",
    )
    add("--hidden", type=widths, default="100,100", metavar="N,N", help="widths of the hidden layers")
    add("--epochs", type=whole, default=20, metavar="N", help="passes over the data")
    add("--batch", type=whole, default=100, metavar="N", help="samples a step")
    add("--dtype", choices=DTYPES, default="float64", help="of the parameters")
    add("--seed", type=partial(whole, least=0), default=0, metavar="N", help="of the weights and the batches")
    add("--packed", action="store_true", help="fastopt's parameters and gradients lie in one buffer each")
    add(
        "--mpi",
        action="store_true",
        help="train by all processes that mpiexec has started, each on its part of every batch, and by one "
        "of them alone (packed; no picture)",
    )

    add = command(
        "trajectories",
        trajectories,
        "draw the path of each rule over the contours of a function",
        "Prints direction changes, detour and distance to the minimum.",
    ).add_argument
    add("--function", choices=[*SURFACES], default="valley", help="the function; valley is the book's")

    sub = command(
        "bench",
        bench,
        "time the steps of your own shapes on this machine",
        "Compares plain NumPy, fastopt, fastopt packed, and PyTorch, optax and Keras where installed, in "
        "turn, with the traffic of the memory alone (% of limit: its time over the packed step's); tells "
        "when the start is paid back; draws time against size.",
    )
    add = sub.add_argument
    add("--dtypes", type=dtypes, default=",".join(DTYPES), metavar="DTYPE,DTYPE", help="of the parameters")
    add("--blocks", type=whole, default=15, metavar="N", help="turns of each implementation")
    add = sub.add_mutually_exclusive_group().add_argument
    add("--sizes", type=widths, default=SIZES, metavar="N,N", help="numbers of parameters, each in one array")
    add("--shapes", type=shapes, metavar="784x100,100,...", help="the arrays of one network")

    sub = command(
        "verify",
        verify,
        "compare fastopt with plain NumPy, or with other libraries",
        "By default it takes 20 steps of every rule in every dtype and layout by fastopt and in plain NumPy, "
        "and shows the largest differences, as proof after an installation. Exits with 1 if there is one, if "
        "fastopt has let a fault through or differs from a library, or if a training suffers from its state.",
    )
    exclusive = sub.add_mutually_exclusive_group()
    add = exclusive.add_argument
    add(
        "--faults",
        action="store_true",
        help="give wrong input to Adam with its defaults by fastopt, the book's code and, where installed, "
        "PyTorch, optax and Keras; show what is raised, and how many parameters have changed",
    )
    add(
        "--rules",
        action="store_true",
        help="run each rule beside its equivalent in a well-known library; show the largest relative "
        "difference over 20 steps, and the times of a step on the book's network",
    )
    state_study.add_arguments(sub, exclusive)

    add = (
        command(
            "rules",
            catalogue,
            "list the rules with their states, arguments and sources",
            "Bytes are those that a step reads and writes for each number in a parameter.",
        )
        .add_mutually_exclusive_group()
        .add_argument
    )
    add(
        "--from",
        nargs=2,
        metavar=("LIBRARY", "CALL"),
        dest="call",
        help="say what to write instead of another library's constructor, such as "
        "--from torch 'SGD(lr=0.1, momentum=0.9)'; libraries: torch, optax, keras, mlx, or authors for "
        "packages such as schedulefree",
    )
    add(
        "--peers",
        action="store_true",
        help="try many settings of the libraries that are installed, 20 steps each: how many are the same "
        "here, also with a schedule, and which there aren't, and why",
    )
    add("--markdown", type=Path, metavar="FILE.md", help="renew the table in this file, and print nothing")

    add = command(
        "warmup",
        warmup,
        "compile rules once, for all later processes",
        "Without names: what programs of yours have used so far, or the book's six rules. Options that have "
        "kernels of their own count as rules: clip_norm, clip_norm_each, clip_value, accumulate; so do "
        "the adapters cs231n, dezero, nnfs, numpy_ml, sklearn.",
    ).add_argument
    add("rules", nargs="*", metavar="RULE", help="names such as Adam SGD clip_norm sklearn")
    add("--dtypes", type=dtypes, default=",".join(DTYPES), metavar="DTYPE,DTYPE", help="of the parameters")

    add = command(
        "run",
        run,
        "run a script of yours with fastopt's optimizers in its module common.optimizer",
        "Says at the end what the optimizer's steps cost, and what they would have cost in plain NumPy, "
        "as timed on copies at some of the steps. Its options come before the script.",
    ).add_argument
    add(
        "--module",
        type=module,
        default="common.optimizer",
        metavar="NAME",
        help="the module whose optimizers are replaced, as the script imports it, such as optimizer for a "
        "file optimizer.py beside it; its other names stay",
    )
    add("--dezero", action="store_true", help="dezero.optimizers is fastopt, too (fastopt.adapters.dezero)")
    add("script", type=Path, metavar="SCRIPT", help="a Python file")
    add("arguments", nargs=argparse.REMAINDER, metavar="...", help="the script's arguments")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line, and return the exit code; quietly where nobody reads the output, as ``| head``."""
    try:
        try:
            return execute(arguments)
        finally:  # also after --help, which exits
            if sys.stdout is not None and not sys.stdout.closed:  # as without a console, or by a script
                sys.stdout.flush()
    except BrokenPipeError:
        discard_output()
        return CLOSED_PIPE


def execute(arguments: Sequence[str] | None) -> int:
    """Run a command line, and return the exit code."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    options = build_parser().parse_args(given, argparse.Namespace(given=given))
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
