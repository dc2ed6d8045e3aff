"""``fastopt bench``: times of steps on this machine."""

from collections.abc import Sequence
from itertools import product
from math import prod
from pathlib import Path

from fastopt.cli.arguments import dtypes_option, out_option, rules_option, shapes, whole, widths
from fastopt.cli.command import UsageError, command, exclusive, option

__all__ = ["bench"]

SIZES = "100,10000,1000000"  # with the book's rules all is done within two minutes


@command(
    "time the steps of your own shapes on this machine",
    "Compares plain NumPy, fastopt, fastopt packed, and PyTorch, optax and Keras where installed, in "
    "turn, with the traffic of the memory alone (% of limit: its time over the packed step's); tells "
    "when the start is paid back; draws time against size.",
)
@rules_option()
@out_option("bench.png")
@dtypes_option()
@option("--blocks", type=whole, default=15, metavar="N", help="turns of each implementation")
@exclusive(
    option("--sizes", type=widths, default=SIZES, metavar="N,N", help="sizes of networks of one array"),
    option("--shapes", type=shapes, metavar="784x100,100,...", help="the arrays of one network"),
)
def bench(
    rules: Sequence[str],
    out: Path,
    dtypes: Sequence[str],
    blocks: int,
    sizes: Sequence[int],
    shapes: list[tuple[int, ...]] | None,
) -> None:
    """Measure on this machine."""
    from tqdm import tqdm

    from fastopt.tools import benchmark_report as job
    from fastopt.tools import benchmarking

    networks: list[list[tuple[int, ...]]] = [[(size,)] for size in sizes] if shapes is None else [shapes]
    try:
        for rule, network in product(rules, networks):
            benchmarking.taken(rule, network)
    except ValueError as error:
        raise UsageError(f"argument --rules: {error}") from None
    timings = benchmarking.Timings()
    with tqdm(total=len(rules) * len(dtypes) * len(networks) + 1) as bar:
        for rule in rules:
            for dtype, network in product(dtypes, networks):
                size = sum(map(prod, benchmarking.taken(rule, network)))
                bar.set_description(f"{rule} {dtype} {size:,}")
                timings += benchmarking.bench([network], [rule], [dtype], blocks)
                bar.update()
        # With one rule, as it takes ten seconds, most of it for the step that all rules share.
        begin = rules[0], dtypes[0]
        bar.set_description(f"{begin[0]}, start of a process")
        start = benchmarking.start(*begin)
        bar.update()
    print(f"{job.summary(timings)}\n\n{job.break_even(timings, start, begin[1])}")
    print(f"\npicture: {job.picture(timings, out)}")
