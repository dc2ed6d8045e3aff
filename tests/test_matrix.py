"""Every rule with every option, and all pairs of options, in every container: right to the last bit.

What is right is `fastopt.reference.options`. Thousands of cases are run without the compiler, in processes of
their own; a few are compiled. With ``FASTOPT_COMPILE=never`` and ``FASTOPT_MATRIX=full`` there are all cases;
``pytest -n0 tests/test_matrix.py -k Adam-ema-dict`` then runs one of them.
"""

import os
from collections.abc import Callable
from itertools import combinations
from typing import NamedTuple

import pytest
from matrix import (
    LONG,
    OPTIONS,
    QUANTIZED,
    RULES,
    SCENARIOS,
    VARIANT_PAIRS,
    VARIANTS,
    Case,
    Run,
    check_own_optimizers,
    check_resumed,
    check_steps,
    combined,
    has_option,
)
from uncompiled import COMPILES, check_uncompiled

import fastopt

AVERAGES = {"lookahead", "ema", "swa"}
# What a parameter has of its own, and what the optimizer counts today.
HISTORIES = {"late", "turns", "thawed", "forgotten"}
SCHEDULE_FREE = {"ScheduleFreeSGD", "ScheduleFreeAdamW", "ScheduleFreeRAdam"}


class Fault(NamedTuple):
    """What is known to be wrong, in which cases, and in which of the two tests."""

    reason: str
    has: Callable[[str, set[str], str], bool]
    tests: str = "steps"


# Mending a fault deletes its row. The arguments are the rule, its options and the scenario.
KNOWN_FAULTS: list[Fault] = []


def marked(cases, test):
    """Return the cases as parameters of a test, which has to fail where a fault is known."""
    faults = [fault for fault in KNOWN_FAULTS if test in fault.tests]
    params = []
    for case in cases:
        reasons = [fault.reason for fault in faults if fault.has(case.rule, {*case.options}, case.scenario)]
        marks = [pytest.mark.xfail(strict=True, reason=reasons[0])] if reasons else []
        params.append(pytest.param(case, marks=marks, id=str(case)))
    return params


# Rules that each option has every container with, one that goes by elements, one by whole arrays, and one by
# all arrays; the others have some of the containers in turn.
MAIN = ["Adam", "LAMB", "Prodigy"]
PAIRED = ["SGD", "Momentum", "Adam", "LAMB"]  # rules that have pairs of options
LAYOUTS = [scenario for scenario in SCENARIOS if scenario not in HISTORIES]
SCALING = {"clip_norm_each", "clip_rms", "clip_adaptive", "clip_adaptive_eps", "clip_norm", "clip_norm_type"}


def has_exact_sums(options, scenario):
    """Whether the bits don't depend on the order of sums, see `matrix.LONG`, or of elements."""
    if QUANTIZED & {*options} and scenario in ("fortran", "strided"):
        return False
    return scenario not in ("fortran", "strided") or (
        not {"clip_adaptive", "clip_adaptive_eps"} & {*options} and len(SCALING & {*options}) < 2
    )


def singles(is_full):
    """Yield the cases with one option."""
    for i, rule in enumerate(RULES):
        own = [(), *((option,) for option in OPTIONS if has_option(rule, option))]
        for j, options in enumerate(own):
            scenarios = {"dict", "mixed", LAYOUTS[(i + j) % len(LAYOUTS)], sorted(HISTORIES)[(i + j) % 4]}
            if VARIANTS & {*options} and rule not in MAIN:
                scenarios = {SCENARIOS[(i + j) % len(SCENARIOS)]}
            has_all = is_full or (rule in MAIN and not VARIANTS & {*options})
            for scenario in SCENARIOS:
                if (has_all or scenario in scenarios) and has_exact_sums(options, scenario):
                    yield Case(rule, options, scenario)
    yield from (Case("Adam", (option,), scenario) for option in sorted(SCALING) for scenario in LONG)


def pairs(is_full):
    """Yield the cases with two options."""
    for i, rule in enumerate(PAIRED):
        own = [option for option in OPTIONS if has_option(rule, option)]
        if rule != "Adam":
            own.remove("schedules")  # which each rule has in all containers
        own_pairs = [
            pair
            for pair in combinations(own, 2)
            if (is_full or not VARIANTS & {*pair} or pair in VARIANT_PAIRS) and combined(*pair) is not None
        ]
        for j, pair in enumerate(own_pairs):
            scenarios = {"dict", SCENARIOS[(i + j) % len(SCENARIOS)]}
            for scenario in SCENARIOS:
                if (is_full or scenario in scenarios) and has_exact_sums(pair, scenario):
                    yield Case(rule, pair, scenario)


# Each rule and dtype takes the compiler a second.
COMPILED = [
    *(Case("Momentum", (option,), scenario) for option in OPTIONS for scenario in ("packed", "mixed")),
    *(Case("Momentum", (), scenario) for scenario in SCENARIOS),
    *(Case("LAMB", (option,), "mixed") for option in OPTIONS if has_option("LAMB", option)),
    *(Case("Prodigy", (), scenario) for scenario in ("dict", "late", "mixed")),
]
IS_FULL = os.environ.get("FASTOPT_MATRIX") == "full"
# Parts of the cases without the compiler, so that no test takes long.
N_PARTS = 16
PART = slice(int(os.environ.get("FASTOPT_MATRIX_PART", "0")), None, 1 if IS_FULL or COMPILES else N_PARTS)
SINGLES = COMPILED if COMPILES and not IS_FULL else [*singles(IS_FULL)][PART]
RESUMED = [case for case in SINGLES if case.scenario not in ("odd", "rebound", "strided", "mixed")]
RESUMED = RESUMED[:: 1 if IS_FULL or COMPILES else 2]
PAIRS = [] if COMPILES and not IS_FULL else [*pairs(IS_FULL)][PART]


@pytest.mark.parametrize("case", marked(SINGLES, "steps"))
def test_steps(case):
    check_steps(case)


@pytest.mark.parametrize("case", marked(RESUMED, "resumed"))
def test_resumed(case):
    check_resumed(case)


if COMPILES:

    @pytest.mark.parametrize("part", range(N_PARTS))
    def test_without_the_compiler(part, monkeypatch):
        monkeypatch.setenv("FASTOPT_MATRIX_PART", str(part))
        check_uncompiled(__file__)

    @pytest.mark.soak
    def test_all_without_the_compiler(monkeypatch):
        monkeypatch.setenv("FASTOPT_MATRIX", "full")
        check_uncompiled(__file__)

else:

    @pytest.mark.parametrize("case", marked(PAIRS, "steps"))
    def test_pairs(case):
        check_steps(case)

    @pytest.mark.parametrize("scenario", sorted(HISTORIES))
    @pytest.mark.parametrize("rule", [rule for rule in RULES if not getattr(fastopt, rule).n_totals][PART])
    def test_histories_of_the_reference(rule, scenario):
        """So what is right in these scenarios is known, though today's code isn't."""
        for option in ("", "lookahead", "ema", "swa", "accumulate"):
            case = Case(rule, (option,) if option else (), scenario)
            is_frozen_batch = (option, scenario) == ("accumulate", "thawed")  # which is the first of two
            if not is_frozen_batch and not any(f.has(rule, {option}, "dict") for f in KNOWN_FAULTS):
                check_own_optimizers(case)

    @pytest.mark.parametrize("scenario", sorted(HISTORIES))
    @pytest.mark.parametrize(
        ("rule", "name", "least"),
        [("Prodigy", "d", 0.02), ("DAdaptAdam", "d", 0.015), ("DoG", "r", 0.1), ("DoWG", "r", 0.1)][PART],
    )
    def test_histories_of_learning_rate_free_rules(rule, name, least, scenario):
        """In the reference r and d are the same for all arrays, and grow: from 0.01, or from 0.05."""
        run = Run(Case(rule, ("groups",), scenario), is_reference=True)
        for step in range(6):
            run.update(step)
            rules = run.optimizer.rules.items()
            for state in run.optimizer.rule.shared:
                assert len({getattr(own, state)[key].item() for key, own in rules}) == 1
        assert getattr(run.optimizer.rules["K"], name)["K"] > least
