"""``fastopt verify``: fastopt beside what it must agree with, and what it must not let through."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from fastopt import optimizers
from fastopt.cli.arguments import png, rules_option, whole
from fastopt.cli.command import UsageError, command, option

__all__ = ["verify"]

SEEDS, OUT = 5, Path("state.png")

# The options that some comparisons alone have. They are left out of the namespace where they aren't given.
ONLY_WITH = {
    "rules": ("reference", "frameworks"),
    "seeds": ("full-state",),
    "short": ("full-state",),
    "out": ("full-state",),
}

# What the other comparisons take instead of rules.
FIXED_RULES = {
    "faults": "takes Adam alone",
    "full-state": "takes the five rules of its programs",
}


@command(
    "compare fastopt with plain NumPy, or with other libraries",
    "By default it takes 20 steps of every rule in every dtype and layout by fastopt and in plain NumPy, "
    "and shows the largest differences, as proof after an installation. Exits with 1 if there is one, if "
    "fastopt differs from a framework or lets a fault through, or if a training suffers from its state.",
)
@option(
    "--against",
    choices=["reference", "frameworks", "faults", "full-state"],
    default="reference",
    help="reference: plain NumPy; differences in units in the last place. frameworks: the equivalents of the "
    "rules in PyTorch, optax and Keras; the largest relative differences over 20 steps, and the times of a "
    "step on the book's network. faults: wrong input, interrupts and damaged files, given to Adam with its "
    "defaults by fastopt, the book's code and the frameworks that are installed; what is raised, and how "
    "many parameters have changed. full-state: four networks trained by five rules, with the state in full "
    "and in 2 or 1 bytes a number; losses, accuracies and the correlation of the loss curves, which are "
    "drawn, too (up to 20 minutes on two cores)",
)
@rules_option(
    "with --against reference or frameworks: these rules alone (default: all)", default=argparse.SUPPRESS
)
@option(
    "--seeds",
    type=whole,
    default=argparse.SUPPRESS,
    metavar="N",
    help=f"with --against full-state: seeds of weights and batches (default: {SEEDS})",
)
@option(
    "--short",
    action="store_true",
    default=argparse.SUPPRESS,
    help="with --against full-state: about a tenth of the steps",
)
@option(
    "--out",
    type=png,
    default=argparse.SUPPRESS,
    metavar="FILE.png",
    help=f"with --against full-state: the picture (default: {OUT})",
)
def verify(against: str, **options: object) -> int:
    """Compare fastopt with something, print the tables, and return 1 if they aren't as they should be."""
    check_options(against, options)
    text, right = OUTCOMES[against](**options)
    print(text)
    return 0 if right else 1


def check_options(against: str, options: dict[str, object]) -> None:
    """Raise UsageError if an option was given that this comparison doesn't have."""
    for name in options:
        if against in ONLY_WITH[name]:
            continue
        choices = " or ".join(f"--against {choice}" for choice in ONLY_WITH[name])
        if name == "rules":
            raise UsageError(
                f"argument --rules: requires {choices}; --against {against} {FIXED_RULES[against]}: "
                "leave --rules out"
            )
        raise UsageError(f"argument --{name}: requires {choices}, got --against {against}")


def against_reference(rules: Sequence[str] | None = None) -> tuple[str, bool]:
    """Return the table of differences from plain NumPy, and whether there are none."""
    from fastopt.tools.comparisons import reference

    return reference.summary(optimizers.RULES if rules is None else rules)


def against_frameworks(rules: Sequence[str] | None = None) -> tuple[str, bool]:
    """Return the table of differences from frameworks, and whether all are within the tolerances."""
    from fastopt.tools.comparisons import frameworks
    from fastopt.tools.equivalents import first_library
    from fastopt.tools.report import paragraph

    chosen = optimizers.RULES if rules is None else rules
    compared = [rule for rule in chosen if first_library(rule)]
    left_out = [rule for rule in chosen if rule not in compared]
    if not compared:
        known = ", ".join(rule for rule in optimizers.RULES if first_library(rule))
        raise UsageError(
            f"argument --rules: must have a rule that a framework has, got {', '.join(left_out)}; "
            f"choose from {known}"
        )
    text, right = frameworks.summary(frameworks.compare(compared))
    if left_out:
        told = paragraph(f"left out, as no framework has them: {', '.join(left_out)}")
        text = f"{text}\n\n{told}"
    return text, right


def against_faults() -> tuple[str, bool]:
    """Return the tables of faults, and whether fastopt lets none through."""
    from fastopt.tools.faults import invalid_inputs

    return invalid_inputs.summary()


def against_full_state(seeds: int = SEEDS, short: bool = False, out: Path = OUT) -> tuple[str, bool]:
    """Return the tables of states in fewer bytes, and whether no training suffers; draw the curves."""
    from fastopt.demo.precision.picture import picture
    from fastopt.demo.precision.report import summary
    from fastopt.demo.precision.study import FORMATS, compare, decayed_moment

    trials = compare(seeds, short)
    text, right = summary(trials, {name: decayed_moment(name) for name in FORMATS}, short)
    return f"{text}\n\npicture: {picture(trials, out)}", right


OUTCOMES = {
    "reference": against_reference,
    "frameworks": against_frameworks,
    "faults": against_faults,
    "full-state": against_full_state,
}
