"""The table of cases: for each rule, what its tests need to know. A new rule adds a row."""

from dataclasses import fields
from math import hypot, sqrt
from typing import Any, NamedTuple

import numpy as np

import fastopt
from fastopt import reference


class Case(NamedTuple):
    """A rule's hyperparameters, and two steps from p = 1 worked out by hand.

    Lists are arrays' values; a number is that of all five elements.
    """

    arguments: dict[str, float]
    grads: tuple[Any, Any]
    params: tuple[Any, Any]
    states: dict[str, tuple[Any, Any]]


# What the rows of Adam's kind have in common: lr_t and √(1 − β₂ᵗ) at step 2; the roots of FTRL's sums.
ROOT = sqrt(0.4375)
LR_T = 0.1 * ROOT / 0.75
ADAM = {"lr": 0.1, "beta1": 0.5, "beta2": 0.75, "eps": 1}
Z1 = 2.25 - (sqrt(5) - 1) / 2
FTRL1 = (0.5 - Z1) / (sqrt(5) / 2 + 0.75)
Z2 = Z1 + 1 + 0.25 * FTRL1 - (sqrt(6) - sqrt(5)) / 2 * FTRL1
V1 = 2 / (sqrt(0.75) + 1)
V2 = V1 / 2 + 1 / (sqrt(0.609375) + 1)
D2 = ROOT / (1 + ROOT) + 0.5 * (1 - 0.7 / 6)
S_MADGRAD = 4 + 2 * sqrt(2) * sqrt(19 / 2 / sqrt(2))
LAPROP2 = 1 / 6 + 0.5 * ROOT / (1 + ROOT)
# LARS: the length of step 2, with ‖p‖² = 0.965² + 0.995², ‖g‖ = eps = √50.
LARS2 = 0.05 * sqrt(1.92125 / 200)
# LAMB: what m and v give in step 2, d and (lr·ratio).
X2 = ROOT / 0.75 / (1 + ROOT)
LAMB2 = 0.1 * hypot(0.86, 1.02) / hypot(X2 + 0.43, 0.51 - X2)
M2 = 0.5 * 7 / 6 + 3 / (sqrt(21) + 1) + 0.5 * 53 / 60
# Adafactor: u in step 2, where v = (4.75, 0.75)·3 / 2.75 in the first column, and its root mean square.
U2 = sqrt(2.75 / 14.25), sqrt(2.75 / 2.25)
FACTOR2 = 0.1 * 0.9 * 0.5 / (hypot(*U2) / 2)
# StableAdamW: the length of step 2, where g² / max(v, eps²) = (21/13, 21/13, 1/4).
STABLE1 = 0.95 - 0.1 / 1.5, 0.95 + 0.1 / 1.5, 0.95 - 0.1 / 3
STABLE2 = 0.1 / sqrt(181 / 156)
STABLE_D2 = 7 / 3 / (sqrt(39 / 7) + 0.5)
# MARS: step 1.
MARS1 = 0.95 - 0.03 / 0.8, 0.95 - 0.04 / 0.9
# AdaMini: √v + eps·√(1 − β₂²) of the rows in step 2.
MINI2 = sqrt(10.9375) + ROOT, sqrt(0.75) + ROOT
# AdamP: the parameters after step 1; u in step 2, and what of it is along them, in the whole matrix.
ADAMP1 = [[0.975 - 1 / 12, *3 * [0.975 + 1 / 24]], [0.925, 1.025, 0.975, 0.975]]
ADAMP_M2 = [[0.75, 1.75, -0.25, -0.25], [0.25, -0.25, 0, -2]]
ADAMP_V2 = [[1.6875, 4.1875, 0.1875, 0.1875], [0.1875, 0.1875, 0, 4]]
ADAMP_U2 = np.divide(ADAMP_M2, np.sqrt(ADAMP_V2) + ROOT)
ADAMP_K2 = np.sum(ADAMP1 * ADAMP_U2) / (sqrt(np.sum(np.square(ADAMP1))) + 1) ** 2
STEP2 = 0.5 * FACTOR2 * 0.925 / 0.9
# Prodigy: lr_t in step 2, s and d after it.
P2 = 0.5 * sqrt(0.68359375) / 0.75
S2 = 1.5 * ROOT + 4 * P2
DIST2 = P2 / S2


def quintic(x: float) -> float:
    """Give what a Newton-Schulz iteration makes of a singular value."""
    return 3.4445 * x - 4.7750 * x**3 + 2.0315 * x**5


def diagonal(x: float, y: float, rest: float = 0) -> list[list[float]]:
    """Give a matrix of two rows."""
    return [[x, rest], [rest, y]]


MUON1 = 0.1 * quintic(0.6), 0.1 * quintic(0.8)
MUON2 = 0.1 * quintic(2.625 / hypot(2.625, 2.75)), 0.1 * quintic(2.75 / hypot(2.625, 2.75))
# AdaMuon: what an iteration makes of 1 / (√2 + 10⁻⁷), and steps of 0.2·lr·√4 / (√2·d + 1) times d.
SIGN = quintic(1 / (sqrt(2) + 1e-7))
ADA1, ADA2 = (0.04 / (sqrt(2) * d + 1) * d for d in (SIGN / (SIGN / 2 + 1), SIGN / (SIGN * sqrt(7) / 4 + 1)))

CASES = {
    "SGD": Case({"lr": 0.1}, (0.5, -1), (0.95, 1.05), {}),
    "Momentum": Case({"lr": 0.1, "momentum": 0.9}, (0.5, -1), (0.95, 1.005), {"v": (-0.05, 0.055)}),
    # 1 - 1.9·0.1·0.5; then 0.905 - 0.81·0.05 + 1.9·0.1·1
    "Nesterov": Case({"lr": 0.1, "momentum": 0.9}, (0.5, -1), (0.905, 1.0545), {"v": (-0.05, 0.055)}),
    # 1 - 0.3 / (3 + 1); then 0.925 - 0.4 / (5 + 1)
    "AdaGrad": Case({"lr": 0.1, "eps": 1}, (3, 4), (0.925, 0.925 - 0.2 / 3), {"h": (9, 25)}),
    # h = 0.25·4; then 0.75·1 + 0.25·1
    "RMSprop": Case({"lr": 0.1, "decay_rate": 0.75, "eps": 1}, (2, 1), (0.9, 0.85), {"h": (1, 1)}),
    # lr_t = 0.1·√0.25 / 0.5; then 0.1·√0.4375 / 0.75
    "Adam": Case(
        {"lr": 0.1, "beta1": 0.5, "beta2": 0.75, "eps": 1},
        (2, 1),
        (0.95, 0.95 - 0.1 * sqrt(0.4375) / 0.75 / 2),
        {"m": (1, 1), "v": (1, 1)},
    ),
    # half of each gradient but the first
    "SGDM": Case(
        {"lr": 0.1, "momentum": 0.5, "dampening": 0.5}, (0.5, -1), (0.95, 0.975), {"v": (0.5, -0.25)}
    ),
    # 1 - 0.1·(0.5 + 0.25); then 0.925 + 0.1·(1 + 0.375)
    "NAG": Case({"lr": 0.1, "momentum": 0.5}, (0.5, -1), (0.925, 1.0625), {"v": (0.5, -0.75)}),
    # the second gradient counts as -2 - 0.5
    "OptimisticGD": Case({"lr": 0.1}, (0.5, -1), (0.95, 1.2), {"prev_grad": (0.5, -1)}),
    "ASGD": Case(
        {"lr": 0.1, "lambd": 0.5, "alpha": 1, "t0": 0}, (0.5, -1), (0.9, 1 / 1.05), {"ax": (0.9, 1 / 1.05)}
    ),
    # c = 1, then 1/2: 0.95 + 0.1·(1 - 0.25)
    "ScheduleFreeSGD": Case({"lr": 0.1, "beta": 0.5}, (0.5, -1), (0.95, 1.025), {"z": (0.95, 1.05)}),
    "AdaDelta": Case(
        {"lr": 0.1, "rho": 0.75, "eps": 1},
        (2, 1),
        (1 - 0.1 * sqrt(2), 1 - 0.1 * sqrt(2) - 0.1 * sqrt(0.75)),
        {"h": (1, 1), "u": (0.5, 0.5625)},
    ),
    "RMSpropMomentum": Case(
        {"lr": 0.1, "decay_rate": 0.75, "momentum": 0.5, "eps": 1},
        (2, 1),
        (0.9, 0.9 - 0.1),
        {"h": (1, 1), "v": (1, 1)},
    ),
    "RMSpropGraves": Case(
        {"lr": 0.1, "decay_rate": 0.75, "momentum": 0.5, "eps": 1},
        (2, 1),
        (1 - 0.1 * V1, 1 - 0.1 * V1 - 0.1 * V2),
        {"h": (1, 1), "m": (0.5, 0.625), "v": (V1, V2)},
    ),
    "FTRL": Case(
        {
            "lr": 2,
            "initial_accumulator_value": 1,
            "l1_regularization_strength": 0.5,
            "l2_regularization_strength": 0.25,
            "l2_shrinkage_regularization_strength": 0.125,
            "beta": 0.5,
        },
        (2, 1),
        (FTRL1, (0.5 - Z2) / (sqrt(6) / 2 + 0.75)),
        {"n": (5, 6), "z": (Z1, Z2)},
    ),
    "PaperAdam": Case(
        ADAM,
        (2, 1),
        (1 - 0.1 / 1.5, 1 - 0.1 / 1.5 - LR_T / (1 + ROOT)),
        {"m": (1, 1), "v": (1, 1)},
    ),
    "AdamW": Case(
        {**ADAM, "weight_decay": 0.5},
        (2, 1),
        (0.95 - 0.1 / 1.5, 0.95 * (0.95 - 0.1 / 1.5) - LR_T / (1 + ROOT)),
        {"m": (1, 1), "v": (1, 1)},
    ),
    "AMSGrad": Case(
        ADAM,
        (2, 0),
        (1 - 0.1 / 1.5, 1 - 0.1 / 1.5 - LR_T * 0.5 / (1 + ROOT)),
        {"m": (1, 0.5), "v": (1, 0.75), "v_max": (1, 1)},
    ),
    "AdaMax": Case(
        ADAM, (2, 1), (1 - 0.2 / 3, 1 - 0.2 / 3 - 0.1 / 0.75 / 2.25), {"m": (1, 1), "u": (3, 2.25)}
    ),
    # μ is 1/4 at each step
    "NAdam": Case(
        {**ADAM, "momentum_decay": 0},
        (2, 1),
        (
            1 - (0.05 * 2 + 0.0125 / 0.9375) / 1.5,
            1
            - (0.05 * 2 + 0.0125 / 0.9375) / 1.5
            - 0.1 * ROOT * (0.75 / 0.9375 + 0.25 / 0.984375) / (1 + ROOT),
        ),
        {"m": (1, 1), "v": (1, 1)},
    ),
    # not yet rectified: ρ = 1, then 13/7
    "RAdam": Case(ADAM, (2, 1), (0.8, 0.8 - 0.1 / 0.75), {"m": (1, 1), "v": (1, 1)}),
    "AdaBelief": Case(
        ADAM,
        (2, 1),
        (
            1 - 0.1 / (sqrt(1.25) + 0.5),
            1 - 0.1 / (sqrt(1.25) + 0.5) - LR_T / (sqrt(1.9375) + ROOT),
        ),
        {"m": (1, 1), "s": (1.25, 1.9375)},
    ),
    "Yogi": Case(
        {**ADAM, "initial_accumulator_value": 1},
        (2, 1),
        (
            1 - 0.15 / (sqrt(2) + 0.5),
            1 - 0.15 / (sqrt(2) + 0.5) - LR_T * 1.25 / (sqrt(1.75) + ROOT),
        ),
        {"m": (1.5, 1.25), "v": (2, 1.75)},
    ),
    # the second d is -1, g + β₂·d = 1/4
    "Adan": Case(
        {**ADAM, "beta3": 0.75},
        (2, 1),
        (1 - 0.1 / 1.5, 1 - 0.1 / 1.5 - (LR_T - 0.25 * 0.075 * ROOT / 0.4375) / (0.875 + ROOT)),
        {"m": (1, 1), "v": (0, -0.25), "n": (1, 0.765625), "prev_grad": (2, 1)},
    ),
    "AdEMAMix": Case(
        {**ADAM, "beta3": 0.5, "alpha": 2},
        (2, 1),
        (1 - 0.2 / 1.5, 1 - 0.2 / 1.5 - (LR_T + 0.2 * ROOT) / (1 + ROOT)),
        {"m": (1, 1), "m_slow": (1, 1), "v": (1, 1)},
    ),
    # not yet rectified: d is 2.5, then 1.375
    "ScheduleFreeRAdam": Case(
        {
            "lr": 0.1,
            "beta": 0.5,
            "beta2": 0.75,
            "eps": 1,
            "weight_decay": 0.5,
            "silent_sgd_phase": False,
        },
        (2, 1),
        (0.75, 0.75 - 0.075 * 1.375),
        {"v": (1, 1), "z": (0.75, 0.75 - 0.1 * 1.375)},
    ),
    # the means are 4 and 9, then 12 and 16
    "RowAdaGrad": Case(
        {"lr": 0.1, "eps": 1, "lr_decay": 0.25},
        ([[2, -2], [3, 3]], [[0, sqrt(24)], [-4, 4]]),
        (
            [[1 - 0.2 / 3, 1 + 0.2 / 3], [0.925, 0.925]],
            [[1 - 0.2 / 3, 1 + 0.2 / 3 - 0.08 * sqrt(24) / 5], [0.925 + 0.32 / 6, 0.925 - 0.32 / 6]],
        ),
        {"h": ([[4], [9]], [[16], [25]])},
    ),
    "AggMo": Case(
        {"lr": 0.3, "beta1": 0, "beta2": 0.5, "beta3": 0.75},
        (1, -2),
        (0.7, 1.175),
        {"v1": (-1, 2), "v2": (-1, 1.5), "v3": (-1, 1.25)},
    ),
    # λ is 2, then 2·√2; ∛v is 2, then ∛(8 + 19)
    "MADGRAD": Case(
        {"lr": 1, "momentum": 0.75, "eps": 1},
        (2, sqrt(19 / 2 / sqrt(2))),
        (2 / 3, 0.5 + 0.25 * (1 - S_MADGRAD / 4)),
        {"v": (8, 27), "s": (4, S_MADGRAD), "p0": (1, 1)},
    ),
    # d is (2/3, ROOT / (1 + ROOT))
    "LaProp": Case(
        ADAM,
        (2, 1),
        (1 - 0.1 * 2 / 3, 1 - 0.1 * 2 / 3 - 0.1 / 0.75 * LAPROP2),
        {"m": (1 / 3, LAPROP2), "v": (1, 1)},
    ),
    # the first step sets v only; then d = -6 / 2 is clipped to -1
    "ADOPT": Case(
        {"lr": 0.1, "beta1": 0.5, "beta2": 0.75, "eps": 0.5},
        (2, -6),
        (1, 1.05),
        {"m": (0, -0.5), "v": (4, 12)},
    ),
    # the divisors are √(2 + 2) + 1 and √(0.5 + 0.5 / 0.4375) + 1
    "QHAdam": Case(
        {**ADAM, "nu1": 0.5, "nu2": 0.5},
        (2, 1),
        (1 - 0.2 / 3, 1 - 0.2 / 3 - 0.1 * 7 / 6 / (sqrt(23 / 14) + 1)),
        {"m": (1, 1), "v": (1, 1)},
    ),
    # final is 0.03, and no bound is met
    "AMSBound": Case(
        {**ADAM, "final_lr": 0.06, "gamma": 0.5, "base_lr": 0.2},
        (2, 0),
        (0.95, 0.95 - 0.5 * LR_T / 2),
        {"m": (1, 0.5), "v": (1, 0.75), "v_max": (1, 1)},
    ),
    # final is 0.02; the upper bound is 0.06, which is above 0.1 / 2, and then 0.04, which is below LR_T / 2
    "AdaBound": Case(
        {**ADAM, "final_lr": 0.04, "gamma": 0.5, "base_lr": 0.2},
        (2, 1),
        (0.95, 0.91),
        {"m": (1, 1), "v": (1, 1)},
    ),
    "ScheduleFreeAdamW": Case(
        {"lr": 0.1, "beta": 0.5, "beta2": 0.75, "eps": 1, "weight_decay": 0.5},
        (2, 1),
        (1 - 0.7 / 6, 1 - 0.7 / 6 - 0.075 * D2),
        {"v": (1, 1), "z": (1 - 0.7 / 6, 1 - 0.7 / 6 - 0.1 * D2)},
    ),
    "Rprop": Case({"lr": 0.1}, (2, -1), (0.9, 0.9), {"prev_grad": (2, 0), "step_size": (0.1, 0.05)}),
    "Signum": Case({"lr": 0.1, "momentum": 0.5}, (2, -3), (0.9, 1), {"m": (2, -2)}),
    "Lion": Case(
        {"lr": 0.1, "beta1": 0.5, "beta2": 0.75, "weight_decay": 0.5},
        (2, -1),
        (0.85, 0.9075),
        {"m": (0.5, 0.125)},
    ),
    # g + p/2 is (7, 1), then -(7, 1)
    "LARS": Case(
        {"lr": 0.1, "momentum": 0.5, "trust_coefficient": 0.5, "weight_decay": 0.5, "eps": sqrt(50)},
        ([6.5, 0.5], [-7.4825, -1.4975]),
        ([0.965, 0.995], [0.9475 + 7 * LARS2, 0.9925 + LARS2]),
        {"v": ([-0.035, -0.005], [7 * LARS2 - 0.0175, LARS2 - 0.0025])},
    ),
    # d = (7/6, -1/6) and ratio = 6/5; then d = (x + 0.43, 0.51 - x)
    "LAMB": Case(
        {**ADAM, "weight_decay": 0.5},
        ([2, -2], [1, -1]),
        ([0.86, 1.02], [0.86 - LAMB2 * (X2 + 0.43), 1.02 - LAMB2 * (0.51 - X2)]),
        {"m": ([1, -1], [1, -1]), "v": (1, 1)},
    ),
    # g / (5 + 1) + p/2; then v = 0.75·25 + 0.25·9
    "NovoGrad": Case(
        {**ADAM, "weight_decay": 0.5},
        ([3, 4], [0, 3]),
        ([0.9, 53 / 60], [0.805, 53 / 60 - 0.1 * M2]),
        {"m": ([1, 7 / 6], [0.95, M2]), "v": (25, 21)},
    ),
    # ν = (4 1; 0 0); the smaller of row and col is that again, so then ν = (5 2; 1 0)
    "SM3": Case(
        {"lr": 0.1, "momentum": 0.5, "eps": 1},
        ([[2, 1], [0, 0]], [[1, 1], [1, 0]]),
        (
            [[1 - 0.1 / sqrt(5), 1 - 0.05 / sqrt(2)], [1, 1]],
            [
                [1 - 0.15 / sqrt(5) - 0.05 / sqrt(6), 1 - 0.075 / sqrt(2) - 0.05 / sqrt(3)],
                [1 - 0.05 / sqrt(2), 1],
            ],
        ),
        {
            "m": (
                [[1 / sqrt(5), 0.5 / sqrt(2)], [0, 0]],
                [[0.5 / sqrt(5) + 0.5 / sqrt(6), 0.25 / sqrt(2) + 0.5 / sqrt(3)], [0.5 / sqrt(2), 0]],
            ),
            "row": ([[4], [0]], [[5], [1]]),
            "col": ([[4, 1]], [[5, 2]]),
        },
    ),
    # v = (9 9; 1 1) and rms(u) = 1, cut to 1/2; then half of what was and half of (0.5, 0.5) and (1, 0)
    "Adafactor": Case(
        {"lr": 0.1, "beta2_decay": -1, "clip_threshold": 0.5, "weight_decay": 0.5},
        ([[3, 3], [1, 1]], [[1, 0], [1, 0]]),
        (0.9, [[0.855 - FACTOR2 * U2[0], 0.855], [0.855 - FACTOR2 * U2[1], 0.855]]),
        {"row": ([[9], [1]], [[4.75], [0.75]]), "col": ([[5, 5]], [[3, 2.5]])},
    ),
    # the new gradients have weight 1, then 2/3 in m and 4/7 in v; rms = √(3/4) in step 1
    "StableAdamW": Case(
        {"lr": 0.1, "beta1": 0.5, "beta2": 0.75, "eps": 0.5, "weight_decay": 0.5},
        ([1, -1, 0.25], [3, -3, 0.25]),
        (
            [*STABLE1],
            [
                (1 - STABLE2 / 2) * STABLE1[0] - STABLE2 * STABLE_D2,
                (1 - STABLE2 / 2) * STABLE1[1] + STABLE2 * STABLE_D2,
                (1 - STABLE2 / 2) * STABLE1[2] - STABLE2 / 3,
            ],
        ),
        {"m": ([1, -1, 0.25], [7 / 3, -7 / 3, 0.25]), "v": ([1, 1, 0.0625], [39 / 7, 39 / 7, 0.0625])},
    ),
    # c = (3, 4) with norm 5; then 3/2·g - (3, 4)/2, which is shorter than 1
    "MARS": Case(
        {**ADAM, "gamma": 0.5, "weight_decay": 0.5},
        ([3, 4], [1.2, 1.5]),
        (
            [*MARS1],
            [
                0.95 * MARS1[0] - LR_T * 0.3 / (0.3 + ROOT),
                0.95 * MARS1[1] - LR_T * 0.325 / (sqrt(0.135625) + ROOT),
            ],
        ),
        {
            "m": ([0.3, 0.4], [0.3, 0.325]),
            "v": ([0.09, 0.16], [0.09, 0.135625]),
            "prev_grad": ([3, 4], [1.2, 1.5]),
        },
    ),
    # the rows' means of g² are 25 and 4, then 25 and 0
    "AdaMini": Case(
        {**ADAM, "weight_decay": 0.5},
        ([[1, 7], [2, 2]], [[5, 5], [0, 0]]),
        (
            [[0.95 - 0.05 / 3, 0.95 - 0.35 / 3], [0.95 - 0.1 / 1.5, 0.95 - 0.1 / 1.5]],
            [
                [
                    0.95 * (0.95 - 0.05 / 3) - LR_T * 2.75 / MINI2[0],
                    0.95 * (0.95 - 0.35 / 3) - LR_T * 4.25 / MINI2[0],
                ],
                [0.95 * (0.95 - 0.1 / 1.5) - LR_T * 0.5 / MINI2[1]] * 2,
            ],
        ),
        {
            "m": ([[0.5, 3.5], [1, 1]], [[2.75, 4.25], [0.5, 0.5]]),
            "v": ([[6.25], [1]], [[10.9375], [0.75]]),
        },
    ),
    # both rows of g are at right angles to p, where u = (3/4, -1/2, -1/2, -1/2) has -1/12 of p; then the
    # first isn't (0.51 of its length), but both together are
    "AdamP": Case(
        {**ADAM, "delta": 1, "wd_ratio": 0.5, "weight_decay": 0.5},
        ([[3, -1, -1, -1], [1, -1, 0, 0]], [[0, 4, 0, 0], [0, 0, 0, -4]]),
        (ADAMP1, ((0.975 + LR_T * ADAMP_K2) * np.array(ADAMP1) - LR_T * ADAMP_U2).tolist()),
        {
            "m": ([[1.5, -0.5, -0.5, -0.5], [0.5, -0.5, 0, 0]], ADAMP_M2),
            "v": ([[2.25, 0.25, 0.25, 0.25], [0.25, 0.25, 0, 0]], ADAMP_V2),
        },
    ),
    # the same steps, but that the second one is in proportion to another rms(p)
    "AdafactorMomentum": Case(
        {"lr": 0.1, "beta2_decay": -1, "momentum": 0.5, "clip_threshold": 0.5, "weight_decay": 0.5},
        ([[3, 3], [1, 1]], [[1, 0], [1, 0]]),
        (
            0.925,
            [[0.87875 - STEP2 * U2[0] - 0.0125, 0.86625], [0.87875 - STEP2 * U2[1] - 0.0125, 0.86625]],
        ),
        {
            "row": ([[9], [1]], [[4.75], [0.75]]),
            "col": ([[5, 5]], [[3, 2.5]]),
            "m": (0.025, [[0.0125 + STEP2 * U2[0], 0.0125], [0.0125 + STEP2 * U2[1], 0.0125]]),
        },
    ),
    # r = 3/4 from ‖p₀‖ = 2, then ‖p₀ − p‖ = 6/5; √(h + eps) = 5, then 7
    "DoG": Case(
        {"lr": 2, "reps_rel": 0.25, "r0": 0.5, "eps": 9},
        ([2, 2, 2, 2], [4, 2, 2, 0]),
        (0.4, [0.4 - 9.6 / 7, 0.4 - 4.8 / 7, 0.4 - 4.8 / 7, 0.4]),
        {"p0": (1, 1), "r": (0.75, 1.2), "h": (16, 40)},
    ),
    # the same, with one array
    "LDoG": Case(
        {"lr": 2, "reps_rel": 0.25, "r0": 0.5, "eps": 9},
        ([2, 2, 2, 2], [4, 2, 2, 0]),
        (0.4, [0.4 - 9.6 / 7, 0.4 - 4.8 / 7, 0.4 - 4.8 / 7, 0.4]),
        {"p0": (1, 1), "r": (0.75, 1.2), "h": (16, 40)},
    ),
    # steps of 4·(1/4) / (1 + 1) and of 4·1 / (3 + 1)
    "DoWG": Case(
        {"lr": 4, "r0": 0.5, "eps": 1},
        ([1, 1, 1, 1], [2, 2, 0, 0]),
        (0.5, [-1.5, -1.5, 0.5, 0.5]),
        {"p0": (1, 1), "r": (0.5, 1), "v": (1, 9)},
    ),
    # d·lr = 1 in both steps; then r = 1/4·5/2 / (√1.75 + 1) and ‖s‖₁ = 3.125, over five elements
    "DAdaptAdam": Case(
        {
            "lr": 4,
            "beta1": 0.5,
            "beta2": 0.5625,
            "eps": 1,
            "d0": 0.25,
            "use_bias_correction": False,
            "weight_decay": 0.25,
        },
        (2, 1),
        (
            0.75 - 1 / (sqrt(1.75) + 1),
            0.75 * (0.75 - 1 / (sqrt(1.75) + 1)) - 1 / (sqrt(1.421875) + 1),
        ),
        {
            "m": (1, 1),
            "v": (1.75, 1.421875),
            "s": (0.5, 0.625),
            "d": (0.25, 0.8 / (sqrt(1.75) + 1)),
            "r": (0, 0.625 / (sqrt(1.75) + 1)),
        },
    ),
    # lr_t = √0.4375 and eps·d = √v, so that p₀ - p = 1/4; then ⟨g, p₀ - p⟩ = 5, over five elements
    "Prodigy": Case(
        {"lr": 4, "beta1": 0.5, "beta2": 0.5625, "eps": 2 * ROOT, "d0": 0.125},
        (2, 4),
        (0.75, 0.75 - P2 * 0.3125 / (sqrt(0.124755859375) + DIST2 * 2 * ROOT)),
        {
            "m": (0.125, 0.3125),
            "v": (0.02734375, 0.124755859375),
            "s": (2 * ROOT, S2),
            "p0": (1, 1),
            "d": (0.125, DIST2),
            "r": (0, 5 * P2),
            "d_max": (0.125, DIST2),
        },
    ),
    # u is (2.25, 3) with norm 3.75, then -(2.625, -2.75)
    "Muon": Case(
        {"lr": 0.1, "weight_decay": 0.5, "momentum": 0.5, "ns_steps": 1},
        (diagonal(3, 4), diagonal(-4, 3)),
        (
            diagonal(0.95 - MUON1[0], 0.95 - MUON1[1], 0.95),
            diagonal(0.9025 - 0.95 * MUON1[0] + MUON2[0], 0.9025 - 0.95 * MUON1[1] - MUON2[1], 0.9025),
        ),
        {"m": (diagonal(1.5, 2), diagonal(-1.25, 2.5))},
    ),
    # o is SIGN, then (-SIGN, SIGN), as u is (-2.625, 0.6875); v = SIGN² / 4, then 7 / 16 of it
    "AdaMuon": Case(
        {"lr": 0.1, "weight_decay": 0.5, "momentum": 0.5, "beta2": 0.75, "ns_steps": 1, "eps": 1},
        (diagonal(3, 4), diagonal(-4, 0.25)),
        (
            diagonal(0.95 - ADA1, 0.95 - ADA1, 0.95),
            diagonal(0.9025 - 0.95 * ADA1 + ADA2, 0.9025 - 0.95 * ADA1 - ADA2, 0.9025),
        ),
        {
            "m": (diagonal(1.5, 2), diagonal(-1.25, 1.125)),
            "v": (diagonal(SIGN**2 / 4, SIGN**2 / 4), diagonal(SIGN**2 * 7 / 16, SIGN**2 * 7 / 16)),
        },
    ),
    # left and right are diag(9, 16) / 4, so that both bases are (0 1; 1 0)
    "SOAP": Case(
        {"lr": 0.1, "weight_decay": 0.5, "beta1": 0.5, "beta2": 0.75, "eps": 1},
        (diagonal(3, 4), [[1, 2], [3, 4]]),
        (
            0.95,
            [[0.9025 - 0.1 / 3, 0.9025 - 0.05], [0.9025 - 0.06, 0.9025 - 0.2 / 3]],
        ),
        {
            "m": (0, [[2, 1.5], [1, 0.5]]),
            "v": (0, [[4, 2.25], [1, 0.25]]),
            "left": (diagonal(2.25, 4), [[2.9375, 2.75], [2.75, 9.25]]),
            "right": (diagonal(2.25, 4), [[4.1875, 3.5], [3.5, 8]]),
            "q_left": (0, [[0, 1], [1, 0]]),
            "q_right": (0, [[0, 1], [1, 0]]),
        },
    ),
}
RULES = list(CASES)
FOR_MATRICES = ["Muon", "AdaMuon"]
BOOK = RULES[:6]  # whatever holds for all rules alike is tested on these
DTYPES = ["float32", "float64"]


def takes(rule: str, shape: tuple[int, ...]) -> bool:
    """Whether a rule takes arrays of a shape: Muon and AdaMuon take matrices only."""
    return rule not in FOR_MATRICES or len(shape) == 2


def made(module: Any, rule: str, *arguments: float, **others: Any) -> Any:
    """Make an optimizer of the reference or of fastopt."""
    return getattr(module, rule)(*arguments, **others)


def both(rule: str, **arguments: float) -> tuple[Any, Any]:
    """Make the reference's optimizer and the fast one."""
    return made(reference, rule, **arguments), made(fastopt, rule, **arguments)


def same_bits(ref: Any, comp: Any) -> bool:
    """Whether two numbers or arrays have one shape, one dtype and the same bits."""
    ref, comp = np.asarray(ref), np.asarray(comp)
    return ref.shape == comp.shape and ref.dtype == comp.dtype and ref.tobytes() == comp.tobytes()


def snapshot(container: Any) -> list[bytes]:
    """Give the bytes of all values of a dict or list."""
    values = container.values() if isinstance(container, dict) else container
    return [np.asarray(value).tobytes() for value in values]


def state_bytes(optimizer: Any) -> Any:
    """Return the bytes of the whole state and all counts, with those of options and of optimizers inside."""
    return frozen(optimizer.state_dict())


def frozen(state: Any) -> Any:
    """Return a state dict without hyperparameters, with the bytes in the place of the arrays."""
    if isinstance(state, dict):
        return {
            key: frozen(value) for key, value in state.items() if key not in ("hyperparameters", "skipped")
        }
    if isinstance(state, list):
        return list(map(frozen, state))
    return state.tobytes() if isinstance(state, np.ndarray) else state


def hyperparameters(optimizer):
    """Give the names of a rule's own arguments."""
    return [field.name for field in fields(optimizer) if not field.kw_only]
