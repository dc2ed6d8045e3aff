"""The color and the learning rates of each rule in the demonstrations.

A rule needs no row in the table: without one it has a shade of its family's color, and the median of its
family's learning rates. Give it a row if it doesn't learn with them, or to give it a color of its own.
"""

from collections.abc import Mapping
from statistics import median_low
from types import MappingProxyType
from typing import Any, NamedTuple

from fastopt import optimizers

__all__ = ["SETTINGS", "Setting", "derived"]


class Setting(NamedTuple):
    """A rule's color in every picture, and its learning rates for the digits and for each surface.

    ``others`` are its other arguments on the surfaces, ``digits_others`` those for the digits.
    """

    color: str
    digits: float
    valley: float | None = None  # Muon takes no numbers
    rosenbrock: float | None = None
    beale: float | None = None
    others: Mapping[str, float] = MappingProxyType({})
    digits_others: Mapping[str, float] = MappingProxyType({})


# The book's rules have Okabe and Ito's colors, which the color-blind can tell apart; the others shades
# of their family's. On the valley the learning rates are the book's where it gives one.
ROWS = {
    "SGD": Setting("#D55E00", 0.1, 0.95, 0.0035, 0.03),
    "Momentum": Setting("#E69F00", 0.02, 0.1, 0.0016, 0.003),
    "Nesterov": Setting("#009E73", 0.02, 0.1, 0.0016, 0.0035),
    "AdaGrad": Setting("#0072B2", 0.03, 1.5, 1.0, 1.8),
    "RMSprop": Setting("#56B4E9", 0.001, 0.15, 0.08, 0.15),
    "Adam": Setting("#CC79A7", 0.002, 0.3, 0.4, 0.3),
    "SGDM": Setting("#D94801", 0.02, 0.1, 0.0016, 0.003),
    "NAG": Setting("#B35806", 0.02, 0.1, 0.0016, 0.0035),
    "OptimisticGD": Setting("#FDAE61", 0.1, 0.3, 0.001, 0.01),
    "ASGD": Setting("#F4A582", 0.1, 0.95, 0.0035, 0.03),
    "ScheduleFreeSGD": Setting("#8C2D04", 0.5, 1.0, 0.0056, 0.018),
    "AdaDelta": Setting("#08306B", 1.0, 180.0, 9.5, 24.0),
    "RMSpropMomentum": Setting("#6BAED6", 0.0005, 0.012, 0.004, 0.0056),
    "RMSpropGraves": Setting("#9ECAE1", 0.0005, 0.018, 0.004, 0.0056),
    # With a larger sum at the start it forgets the initial weights in its first step.
    "FTRL": Setting("#41B6C4", 0.05, 1.8, 1.0, 1.3, digits_others={"initial_accumulator_value": 1e-10}),
    "PaperAdam": Setting("#762A83", 0.002, 0.3, 0.4, 0.3),
    "AdamW": Setting("#7B3294", 0.005, 0.3, 0.3, 0.24),
    "AMSGrad": Setting("#C2A5CF", 0.005, 0.3, 0.4, 0.24),
    "AdaMax": Setting("#E7298A", 0.005, 0.4, 0.95, 1.0),
    "NAdam": Setting("#980043", 0.005, 0.4, 0.08, 0.32),
    "RAdam": Setting("#DF65B0", 0.02, 1.1, 0.0055, 0.003),
    "AdaBelief": Setting("#54278F", 0.002, 0.18, 0.4, 0.24),
    "Yogi": Setting("#9E9AC8", 0.01, 0.3, 0.4, 0.24),
    "Adan": Setting("#67001F", 0.01, 0.24, 0.056, 0.75),
    "AdEMAMix": Setting("#F768A1", 0.005, 0.3, 0.4, 0.13),
    "ScheduleFreeRAdam": Setting("#8C6BB1", 0.2, 10.0, 1.8, 1.8),
    "AMSBound": Setting("#B5B2DB", 0.005, 0.24, 0.42, 0.42, {"final_lr": 0.003}),
    "RowAdaGrad": Setting("#4292C6", 0.03, 1.5, 1.0, 1.8),
    "AggMo": Setting("#FEC44F", 0.1, 0.42, 0.00024, 0.00042),
    "MADGRAD": Setting("#225EA8", 0.03, 0.42, 0.032, 0.1),
    "LaProp": Setting("#DD3497", 0.005, 0.32, 1.0, 0.56),
    "ADOPT": Setting("#AE017E", 0.005, 0.56, 2.4, 1.8),
    "QHAdam": Setting("#6A51A3", 0.005, 3.2, 0.13, 0.1),
    "AdaBound": Setting("#807DBA", 0.005, 0.24, 0.42, 0.42, {"final_lr": 0.003}),
    "ScheduleFreeAdamW": Setting("#3F007D", 0.005, 1.8, 0.24, 0.18),
    "Rprop": Setting("#1B7837", 0.0001, 0.18, 0.004, 0.0013),
    "Signum": Setting("#7FBC41", 0.002, 0.24, 0.01, 0.024),
    "Lion": Setting("#A6761D", 0.003, 0.24, 0.01, 0.022),
    "LARS": Setting("#525252", 3.0, 7.8, 10.0, 3.2),
    "LAMB": Setting("#969696", 0.01, 0.3, 0.05, 0.018),
    "NovoGrad": Setting("#000000", 0.1, 0.032, 0.0018, 0.0032),
    "SM3": Setting("#8C6D31", 0.3, 1.3, 3.2, 1.8),
    "Adafactor": Setting("#67A9CF", 0.03, 0.6, 1.0, 0.1),
    "StableAdamW": Setting("#35978F", 0.005, 0.3, 0.24, 0.24),
    "MARS": Setting("#01665E", 0.005, 0.82, 0.018, 0.24),
    "AdaMini": Setting("#80CDC1", 0.005, 0.3, 0.4, 0.3),
    "AdamP": Setting("#003C30", 0.005, 0.3, 0.4, 0.3),
    "AdafactorMomentum": Setting("#4393C3", 0.03, 0.6, 1.0, 0.1),
    "DoG": Setting("#B2ABD2", 1.0, 1.0, 1.0, 1.0, {"reps_rel": 0.3}),
    "LDoG": Setting("#542788", 1.0, 1.0, 1.0, 1.0, {"reps_rel": 0.1}),
    "DoWG": Setting("#8073AC", 1.0, 1.0, 1.0, 1.0, {"r0": 1.0}, {"r0": 10.0}),
    "DAdaptAdam": Setting("#E08214", 1.0, 1.6, 1.0, 1.0, {"d0": 0.001}),
    "Prodigy": Setting("#FDB863", 1.0, 3.0, 1.0, 1.0),
    "Muon": Setting("#B2182B", 0.03, rosenbrock=0.02),
    "AdaMuon": Setting("#D6604D", 0.03, rosenbrock=0.05),
    "SOAP": Setting("#F4A6A0", 0.005, 0.25, 0.4, 0.3),
}


def derived(rule: str) -> Setting:
    """Return the setting of a rule from those of its family, or from its default if there are none."""
    (family,) = (rules for rules in optimizers.FAMILIES.values() if rule in rules)
    rows = [ROWS[known] for known in family if known in ROWS and not ROWS[known].others]
    default: float = getattr(optimizers, rule).__dataclass_fields__["lr"].default
    rates: dict[str, Any] = {}
    for task in ("digits", "valley", "rosenbrock", "beale"):
        known = [rate for row in rows if (rate := getattr(row, task)) is not None]
        rates[task] = median_low(known) if known else default
    color = rows[0].color if rows else "#777777"
    return Setting(lighter(color, (family.index(rule) + 1) / (len(family) + 1)), **rates)


def lighter(color: str, share: float) -> str:
    """Return a color mixed with a share of light gray."""
    mixed = ((1 - share) * int(color[i : i + 2], 16) + share * 0xDD for i in (1, 3, 5))
    return "#" + "".join(f"{round(part):02X}" for part in mixed)


SETTINGS = {rule: ROWS[rule] if rule in ROWS else derived(rule) for rule in optimizers.RULES}
