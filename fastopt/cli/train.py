"""``fastopt train``: a network learns by each rule, in plain NumPy and by fastopt."""

import argparse
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import fastopt
from fastopt.cli.arguments import DTYPES, out_option, rules_option, whole, widths
from fastopt.cli.command import UsageError, command, option

if TYPE_CHECKING:
    from fastopt.demo.data import Data

__all__ = ["train"]


@command(
    "train a network with each rule, by plain NumPy and by fastopt",
    "Prints losses, whether the parameters agree bit for bit, and times; draws the loss curves.",
)
@rules_option()
@out_option("train.png")
@option(
    "--data",
    type=Path,
    default=argparse.SUPPRESS,
    metavar="FILE.npz",
    help="arrays x_train, y_train, x_test, y_test, as in Keras's mnist.npz; labels may be one-hot "
    "(default: scikit-learn's digits)",
)
@option("--hidden", type=widths, default="100,100", metavar="N,N", help="widths of the hidden layers")
@option("--epochs", type=whole, default=20, metavar="N", help="passes over the data")
@option("--batch", type=whole, default=100, metavar="N", help="samples a step")
@option("--dtype", choices=DTYPES, default="float64", help="of the parameters")
@option("--seed", type=partial(whole, least=0), default=0, metavar="N", help="of the weights and the batches")
@option("--packed", action="store_true", help="fastopt's parameters and gradients lie in one buffer each")
@option(
    "--mpi",
    action="store_true",
    help="train by all processes that mpiexec has started, each on its part of every batch, and by one "
    "of them alone (packed; no picture)",
)
def train(
    rules: Sequence[str],
    out: Path,
    hidden: Sequence[int],
    epochs: int,
    batch: int,
    dtype: str,
    seed: int,
    packed: bool,
    mpi: bool,
    data: Path | None = None,
) -> None:
    """Train a network with each rule."""
    from fastopt.demo.data import digits, load

    try:
        samples = digits(dtype) if data is None else load(data, dtype)
    except ValueError as error:
        raise UsageError(f"argument --data: {error}") from None
    text = heading(samples, hidden, dtype)
    if mpi:
        train_on_ranks(text, samples, rules, hidden, epochs, batch, dtype, seed)
        return
    from fastopt.demo import train as job

    print(text)
    comparisons = job.train(samples, rules, hidden, epochs, batch, dtype, seed, packed)
    print(f"\n{job.summary(comparisons)}\n\npicture: {job.picture(comparisons, out)}")


def heading(data: "Data", hidden: Sequence[int], dtype: str) -> str:
    """Return what is trained, and on what."""
    from fastopt.tools.report import paragraph

    text = paragraph(
        f"{len(data.x_train)} training samples, {len(data.x_test)} for the test; "
        f"network {'-'.join(map(str, data.widths(hidden)))}, {dtype}"
    )
    if data.one_hot:
        verb = "is" if len(data.one_hot) == 1 else "are"
        text += f"\n{' and '.join(data.one_hot)} {verb} one-hot: the labels are their argmax"
    return text


def train_on_ranks(
    text: str,
    data: "Data",
    rules: Sequence[str],
    hidden: Sequence[int],
    epochs: int,
    batch: int,
    dtype: str,
    seed: int,
) -> None:
    """Train by all ranks and by one of them, and print the table below a heading."""
    from fastopt.demo import distributed
    from fastopt.optimizers.matrix import Orthogonalizing

    for rule in rules:
        if issubclass(getattr(fastopt, rule), Orthogonalizing):
            raise UsageError(
                f"argument --rules: {rule} needs a Partition here, which several ranks can't have"
            )
    try:
        report = distributed.report(data, rules, hidden, epochs, batch, dtype, seed)
    except ValueError as error:
        raise UsageError(f"argument --batch: {error}") from None
    if report:
        print(f"{text}\n\n{report}")
