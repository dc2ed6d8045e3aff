"""Schedules against values worked out by hand, and against optax's and PyTorch's over 1,000 steps."""

import json
import pickle
from dataclasses import FrozenInstanceError
from math import inf, nan

import numpy as np
import pytest

from fastopt import schedules
from fastopt.schedules import (
    Constant,
    Cosine,
    CosineRestarts,
    Cyclic,
    Exponential,
    InverseSqrt,
    InverseTime,
    Join,
    Linear,
    OneCycle,
    Piecewise,
    Plateau,
    Polynomial,
    Product,
    Schedule,
    Step,
    Warmup,
)

STEPS = 1000
EXAMPLES = [
    Constant(0.1),
    Step(0.1, 30, 0.5),
    Piecewise([100, 400, 900], [0.1, 0.01, 0.03, 0.0]),
    Exponential(0.1, 0.9, 50),
    Polynomial(0.1, 700, 0.01, 2.0),
    Linear(0.1, 700, 0.3),
    Cosine(0.1, 700, 0.01),
    CosineRestarts(0.1, 40, 2.0, 0.001),
    OneCycle(0.1, 1000),
    Cyclic(0.01, 0.1, 40, 60, 0.5),
    InverseSqrt(0.1, 100),
    InverseTime(0.1, 0.01),
    Warmup(Cosine(0.1, 600), 100),
    Join([Linear(0.1, 50), Constant(0.2)], [70]),
    Product([Linear(0.1, 50, 0.05), Exponential(1, 0.99)]),
    Plateau(0.1),
]


def run(schedule):
    return np.array([schedule(t) for t in range(1, STEPS + 1)])


# Values at some steps, t = 1, 2, ...; (1 + cos(π·x)) / 2 is 3/4, 1/2, 1/4 at a third, the half, two thirds.
BY_HAND = [
    (Constant(0.25), {1: 0.25, 1000: 0.25}),
    (Step(8, 3, 0.5), {1: 8, 3: 8, 4: 4, 6: 4, 7: 2}),
    (Step(8, 2), {2: 8, 3: 0.8}),
    (Piecewise([2, 5], [4, 3, 1]), {1: 4, 2: 4, 3: 3, 5: 3, 6: 1, 9: 1}),
    (Exponential(8, 0.25, 2), {1: 8, 2: 4, 3: 2, 5: 0.5}),
    (Exponential(8, 0.5), {1: 8, 2: 4, 3: 2}),
    (Polynomial(9, 4, 1, 2), {1: 9, 2: 5.5, 3: 3, 4: 1.5, 5: 1, 6: 1, 9: 1}),
    (Polynomial(8, 4), {1: 8, 2: 6, 3: 4, 5: 0, 6: 0}),
    (Polynomial(8, 4, power=0.5), {1: 8, 4: 4, 5: 0}),
    (Linear(9, 4, 1), {1: 9, 2: 7, 4: 3, 5: 1, 6: 1, 9: 1}),
    (Linear(1, 4, 9), {1: 1, 2: 3, 5: 9, 6: 9}),
    (Linear(8, 4), {1: 8, 2: 6, 3: 4, 5: 0, 6: 0}),
    (Cosine(9, 6, 1), {1: 9, 3: 7, 4: 5, 5: 3, 7: 1, 8: 1, 12: 1}),
    (Cosine(8, 6), {1: 8, 3: 6, 4: 4, 7: 0, 8: 0}),
    (CosineRestarts(9, 6, end=1), {1: 9, 3: 7, 4: 5, 5: 3, 7: 9, 9: 7, 13: 9}),
    (CosineRestarts(8, 6), {1: 8, 4: 4, 5: 2, 7: 8}),
    # waves of 3, 9, 27 and 81 steps
    (CosineRestarts(9, 3, 3, 1), {1: 9, 2: 7, 3: 3, 4: 9, 7: 7, 10: 3, 13: 9, 22: 7, 31: 3, 40: 9, 67: 7}),
    # up to t = 4, down to t = 10
    (OneCycle(10, 10, 0.4, 5, 2), {1: 2, 2: 4, 3: 8, 4: 10, 6: 7.75, 7: 5.5, 8: 3.25, 10: 1, 11: 1, 20: 1}),
    (OneCycle(25, 10), {1: 1, 2: 13, 3: 25, 10: 1e-4, 11: 1e-4}),
    (OneCycle(25, 10, 0.1), {1: 25, 4: 18.750025, 10: 1e-4}),
    (OneCycle(8, 8, 0.5, 0.5, 0.25), {1: 16, 2: 14, 3: 10, 4: 8, 6: 36, 8: 64}),
    (OneCycle(10, 11, 0.4, 5, 2, shape="linear", three_phase=True),
     {1: 2, 2: 2 + 8 / 3.4, 4: 2 + 8 * 3 / 3.4, 5: 10 - 8 * 0.6 / 3.4, 7: 10 - 8 * 2.6 / 3.4,
      8: 2 - 0.2 / 3.2, 11: 1, 12: 1}),
    (Exponential(8, 0.5, end=3), {1: 8, 2: 4, 3: 3, 9: 3}),
    (Exponential(1, 2, end=3), {1: 1, 2: 2, 3: 3, 9: 3}),
    (Step(8, 2, 0.5, end=3), {1: 8, 2: 8, 3: 4, 5: 3, 9: 3}),
    # to 1 after 4, 8 and 12 steps, each in a straight line from 9
    (Polynomial(9, 4, 1, cycle=True), {1: 9, 4: 3, 5: 1, 6: 4, 9: 1, 10: 3, 13: 1, 14: 2.5}),
    (Polynomial(1, 0.1, cycle=True, steps_per_epoch=30), {1: 1, 4: 0, 5: 1 / 3, 7: 0, 28: 0, 29: 1 / 15}),
    (Cosine(9, 6, 1, 2), {1: 9, 3: 5.5, 4: 3, 5: 1.5, 7: 1, 9: 1}),
    (CosineRestarts(9, 6, end=1, peak_decay=0.5), {1: 9, 3: 7, 7: 5, 9: 4, 13: 3, 15: 2.5}),
    (CosineRestarts(9, 3, 2, 1, 0.25), {1: 9, 2: 7, 4: 3, 6: 2.5, 7: 2, 10: 1.5, 14: 1.375}),
    (Cyclic(2, 10, 4), {1: 2, 2: 4, 5: 10, 7: 6, 9: 2, 10: 4, 13: 10}),
    (Cyclic(2, 10, 4, 2), {1: 2, 2: 4, 5: 10, 6: 6, 7: 2, 8: 4, 11: 10}),
    (Cyclic(10, 2, 3, 6, shape="cosine"), {1: 10, 2: 8, 3: 4, 4: 2, 6: 4, 7: 6, 8: 8, 10: 10}),
    (Cyclic(2, 10, 2, 2, 0.5), {1: 2, 3: 10, 5: 2, 6: 4, 7: 6, 9: 2, 11: 4}),
    (Cyclic(2, 10, 2, 2, 0.5, "step"), {1: 2, 2: 4, 3: 4, 4: 2.5, 5: 2, 6: 2 + 4 / 32}),
    (InverseTime(6, 0.5), {1: 6, 2: 4, 3: 3, 5: 2}),
    (InverseTime(6, 1, 2, staircase=True), {1: 6, 2: 6, 3: 3, 4: 3, 5: 2}),
    (InverseTime(6, 1, power=0.5), {1: 6, 4: 3, 9: 2}),
    (Piecewise([2, 4, 8], [1, 5, 4, 2], "linear"), {1: 1, 2: 3, 3: 5, 4: 4.5, 5: 4, 6: 3.5, 9: 2, 20: 2}),
    (Piecewise([6], [9, 1], "cosine"), {1: 9, 3: 7, 4: 5, 5: 3, 7: 1, 9: 1}),
    (Product([Linear(8, 4), Exponential(1, 0.5), Constant(3)]), {1: 24, 2: 9, 3: 3, 5: 0}),
    (InverseSqrt(6, 4), {1: 6, 6: 4, 13: 3}),
    (Warmup(Linear(8, 4), 0), {1: 8, 2: 6, 5: 0}),
    (Join([Constant(7), Linear(8, 4)], [0]), {1: 8, 2: 6, 5: 0}),
    (Join([Constant(7), Linear(8, 4), Constant(9)], [0, 2]), {1: 8, 2: 6, 3: 9}),
    (Warmup(Linear(8, 4), 4), {1: 0, 2: 2, 3: 4, 4: 6, 5: 8, 6: 6, 9: 0}),
    (Warmup(Constant(9), 4, 1), {1: 1, 2: 3, 4: 7, 5: 9, 6: 9}),
    (Warmup(Constant(6), 1.3, steps_per_epoch=2), {1: 0, 2: 2, 3: 4, 4: 6}),
    (Join([Linear(8, 4), Constant(5), Linear(1, 2)], [2, 5]), {1: 8, 2: 6, 3: 5, 5: 5, 6: 1, 7: 0.5, 8: 0}),
    (Join([Constant(1), Linear(8, 4)], [1.3], steps_per_epoch=2), {3: 1, 4: 8, 5: 6}),
]  # fmt: skip


@pytest.mark.parametrize(("schedule", "values"), BY_HAND)
def test_values_worked_out_by_hand(schedule, values):
    np.testing.assert_allclose([schedule(t) for t in values], [*values.values()], rtol=1e-14, atol=1e-15)


PLATEAUS = [
    # smaller is better: below 3, after 4; two without improvement are too many, one isn't counted then
    (
        {"value": 8, "factor": 0.5, "patience": 1, "threshold": 0.25, "cooldown": 1, "end": 3},
        [(4, 8), (3, 8), (3.5, 4), (9, 4), (3, 4), (2.9, 4), (inf, 4), (nan, 3), (2, 3), (9, 3)],
        {"best": 2, "n_bad_reports": 1, "cooling": 0},
    ),
    # larger is better: above 5, after 4
    (
        {"value": 8, "factor": 0.25, "patience": 0, "threshold": 0.25, "mode": "max", "cooldown": 2},
        [(-inf, 2), (4, 2), (5, 2), (5, 0.5), (1, 0.5), (1, 0.5), (5.5, 0.5), (inf, 0.125)],
        {"best": 5.5, "n_bad_reports": 0, "cooling": 2},
    ),
    # by default eleven in a row are too many, each time, and 1e-4 of the best is no improvement
    (
        {"value": 1},
        [(1, 1), *[(1 - 1e-4, 1)] * 10, (1, 0.1), *[(1, 0.1)] * 10, (1, 0.01)],
        {"best": 1, "n_bad_reports": 0, "cooling": 0},
    ),
    ({"value": 8, "patience": 1}, [(nan, 8), (nan, 0.8)], {"best": None, "n_bad_reports": 0, "cooling": 0}),
    ({"value": 1}, [(1, 1), (1 - 1.2e-4, 1)], {"best": 1 - 1.2e-4, "n_bad_reports": 0}),
    ({"value": 1, "mode": "max"}, [(1, 1), (1 + 1e-4, 1), (1 + 1.2e-4, 1)], {"best": 1 + 1.2e-4}),
    # negative metrics: better than -8 is below -10, or above -6
    (
        {"value": 8, "factor": 0.5, "patience": 9, "threshold": 0.25},
        [(-8, 8), (-7, 8), (-9, 8), (-10, 8)], {"best": -8, "n_bad_reports": 3},
    ),
    ({"value": 8, "patience": 9, "threshold": 0.25}, [(-8, 8), (-10.5, 8)], {"best": -10.5}),
    (
        {"value": 8, "patience": 9, "threshold": 0.25, "mode": "max"},
        [(-8, 8), (-9, 8), (-7, 8), (-6, 8)], {"best": -8, "n_bad_reports": 3},
    ),
    ({"value": 8, "patience": 9, "threshold": 0.25, "mode": "max"}, [(-8, 8), (-5.5, 8)], {"best": -5.5}),
    # absolute: below by more than 2, above by more than 2
    (
        {"value": 8, "patience": 9, "threshold": 2, "threshold_mode": "abs"},
        [(1, 8), (-1, 8), (-1.5, 8), (-3.5, 8), (-3.4, 8)], {"best": -1.5, "n_bad_reports": 2},
    ),
    (
        {"value": 8, "patience": 9, "threshold": 2, "threshold_mode": "abs", "mode": "max"},
        [(-1, 8), (1, 8), (1.5, 8)], {"best": 1.5, "n_bad_reports": 0},
    ),
    # an end above the value never raises it
    ({"value": 2, "patience": 0, "end": 5}, [(1, 2), (1, 2), (1, 2)], {"value": 2, "best": 1}),
    # a reduction by no more than eps isn't made, though the cooldown begins
    (
        {"value": 8, "factor": 0.5, "patience": 0, "eps": 2, "cooldown": 1},
        [(1, 8), (1, 4), (1, 4), (1, 4)], {"cooling": 1},
    ),
]  # fmt: skip


@pytest.mark.parametrize(("arguments", "reports", "state"), PLATEAUS)
def test_plateaus_worked_out_by_hand(arguments, reports, state):
    schedule = Plateau(**arguments)
    assert schedule(1) == arguments["value"]
    for t, (metric, value) in enumerate(reports, 1):
        schedule.report(metric)
        assert schedule(t) == schedule.value == pytest.approx(value, rel=1e-15), t
    assert {name: getattr(schedule, name) for name in state} == state


@pytest.mark.parametrize("factor", [1.5, 2, 3, 5, 10])
def test_restarts_come_on_time(factor):
    """The logarithm of 3⁵ to the base 3, for one, is rounded to a little less than 5."""
    schedule, start, length = CosineRestarts(9, 4, factor, 1), 0, 4
    while start < 1e6:
        assert schedule.at(start) == pytest.approx(9, rel=1e-12)
        start, length = start + length, length * factor
        assert schedule.at(start - 1) < 3


# What the libraries' schedules are called with, and ours. All end before step 1,000, or begin anew.
OPTAX = {
    "constant_schedule": ({"value": 0.1}, Constant(0.1)),
    "piecewise_constant_schedule": (
        {"init_value": 0.1, "boundaries_and_scales": {100: 0.5, 400: 0.1}},
        Piecewise([100, 400], [0.1, 0.05, 0.005]),
    ),
    "piecewise_interpolate_schedule": (
        {"interpolate_type": "linear", "init_value": 0.1, "boundaries_and_scales": {100: 5.0, 700: 0.1}},
        Piecewise([100, 700], [0.1, 0.5, 0.05], "linear"),
    ),
    "piecewise_interpolate_schedule, cosine": (
        {"interpolate_type": "cosine", "init_value": 0.1, "boundaries_and_scales": {100: 5.0, 700: 0.1}},
        Piecewise([100, 700], [0.1, 0.5, 0.05], "cosine"),
    ),
    "linear_onecycle_schedule": (
        {"transition_steps": 700, "peak_value": 0.1, "pct_final": 0.8},
        Piecewise([210, 560, 700], [0.004, 0.1, 0.004, 4e-7], "linear"),
    ),
    "cosine_onecycle_schedule": (
        {"transition_steps": 700, "peak_value": 0.1}, Piecewise([210, 700], [0.004, 0.1, 4e-7], "cosine")
    ),
    "exponential_decay": (
        {"init_value": 0.1, "transition_steps": 50, "decay_rate": 0.9}, Exponential(0.1, 0.9, 50)
    ),
    "exponential_decay, to an end": (
        {"init_value": 0.1, "transition_steps": 50, "decay_rate": 0.9, "end_value": 0.03},
        Exponential(0.1, 0.9, 50, 0.03),
    ),
    "exponential_decay, up to an end": (
        {"init_value": 0.1, "transition_steps": 50, "decay_rate": 1.1, "end_value": 0.3},
        Exponential(0.1, 1.1, 50, 0.3),
    ),
    "exponential_decay, in steps": (
        {"init_value": 0.1, "transition_steps": 50, "decay_rate": 0.9, "end_value": 0.03, "staircase": True},
        Step(0.1, 50, 0.9, 0.03),
    ),
    "exponential_decay, later": (
        {"init_value": 0.1, "transition_steps": 50, "decay_rate": 0.9, "transition_begin": 70},
        Join([Constant(0.1), Exponential(0.1, 0.9, 50)], [70]),
    ),
    "polynomial_schedule": (
        {"init_value": 0.1, "end_value": 0.01, "power": 2.0, "transition_steps": 700},
        Polynomial(0.1, 700, 0.01, 2.0),
    ),
    "linear_schedule": (
        {"init_value": 0.1, "end_value": 0.3, "transition_steps": 700}, Linear(0.1, 700, 0.3)
    ),
    "cosine_decay_schedule": (
        {"init_value": 0.1, "decay_steps": 700, "alpha": 0.25}, Cosine(0.1, 700, 0.025)
    ),
    "cosine_decay_schedule, a power": (
        {"init_value": 0.1, "decay_steps": 700, "alpha": 0.25, "exponent": 1.5}, Cosine(0.1, 700, 0.025, 1.5)
    ),
    "warmup_constant_schedule": (
        {"init_value": 0.02, "peak_value": 0.1, "warmup_steps": 100}, Warmup(Constant(0.1), 100, 0.02)
    ),
    "warmup_cosine_decay_schedule": (
        {"init_value": 0.0, "peak_value": 0.1, "warmup_steps": 100, "decay_steps": 700},
        Warmup(Cosine(0.1, 600), 100),
    ),
    "warmup_exponential_decay_schedule": (
        {"init_value": 0.02, "peak_value": 0.1, "warmup_steps": 100, "transition_steps": 50,
         "decay_rate": 0.9},
        Warmup(Exponential(0.1, 0.9, 50), 100, 0.02),
    ),
    "sgdr_schedule": (
        {"cosine_kwargs": [
            {"init_value": 0.0, "peak_value": 0.1, "warmup_steps": 50, "decay_steps": 300},
            {"init_value": 0.01, "peak_value": 0.05, "warmup_steps": 100, "decay_steps": 400},
        ]},
        Join([Warmup(Cosine(0.1, 250), 50), Warmup(Cosine(0.05, 300), 100, 0.01)], [300]),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", [*OPTAX, "join_schedules"])
def test_agrees_with_optax(name):
    jax, optax = pytest.importorskip("jax"), pytest.importorskip("optax")
    with jax.enable_x64(True):
        if name == "join_schedules":
            parts = [optax.linear_schedule(0.1, 0.0, 50), optax.cosine_decay_schedule(0.2, 300)]
            twin = optax.join_schedules(parts, [70])
            ours = Join([Linear(0.1, 50), Cosine(0.2, 300)], [70])
        else:
            arguments, ours = OPTAX[name]
            twin = getattr(optax, name.split(",")[0])(**arguments)
        count = jax.numpy.arange(STEPS, dtype=float)
        expected = np.broadcast_to(np.asarray(jax.vmap(twin)(count), float), STEPS)
    np.testing.assert_allclose(run(ours), expected, rtol=1e-12, atol=1e-17)


TORCH = {
    "StepLR": ({"step_size": 30, "gamma": 0.5}, Step(0.1, 30, 0.5)),
    "MultiStepLR": ({"milestones": [100, 400], "gamma": 0.5}, Piecewise([100, 400], [0.1, 0.05, 0.025])),
    "ConstantLR": ({"factor": 0.5, "total_iters": 700}, Piecewise([700], [0.05, 0.1])),
    "ExponentialLR": ({"gamma": 0.99}, Exponential(0.1, 0.99)),
    "PolynomialLR": ({"total_iters": 700, "power": 2.0}, Polynomial(0.1, 700, power=2.0)),
    "LinearLR": ({"start_factor": 1.0, "end_factor": 0.2, "total_iters": 700}, Linear(0.1, 700, 0.02)),
    "LambdaLR": ({"lr_lambda": lambda c: 1 / (1 + 0.01 * c)}, InverseTime(0.1, 0.01)),
    "MultiplicativeLR": ({"lr_lambda": lambda c: (c + 1) / (c + 2)}, InverseTime(0.1, 0.5)),
    "CosineAnnealingLR": ({"T_max": 300, "eta_min": 0.01}, Cyclic(0.1, 0.01, 300, shape="cosine")),
    "CosineAnnealingWarmRestarts": (
        {"T_0": 40, "T_mult": 2, "eta_min": 0.01}, CosineRestarts(0.1, 40, 2, 0.01)
    ),
    "CyclicLR": ({"base_lr": 0.1, "max_lr": 0.5, "step_size_up": 40, "step_size_down": 70},
                 Cyclic(0.1, 0.5, 40, 70), Cyclic(0.9, 0.8, 40, 70)),
    "CyclicLR, triangular2": ({"base_lr": 0.1, "max_lr": 0.5, "step_size_up": 40, "mode": "triangular2"},
                              Cyclic(0.1, 0.5, 40, factor=0.5), Cyclic(0.9, 0.8, 40, factor=0.5)),
    "CyclicLR, exp_range": (
        {"base_lr": 0.1, "max_lr": 0.5, "step_size_up": 40, "mode": "exp_range", "gamma": 0.99},
        Cyclic(0.1, 0.5, 40, factor=0.99, factor_per="step"),
        Cyclic(0.9, 0.8, 40, factor=0.99, factor_per="step"),
    ),
    "OneCycleLR": ({"max_lr": 0.1, "total_steps": STEPS}, OneCycle(0.1, STEPS),
                   OneCycle(0.85, STEPS, div_factor=0.85 / 0.95, final_div_factor=1)),
    "OneCycleLR, linear in three phases": (
        {"max_lr": 0.1, "total_steps": STEPS, "pct_start": 0.4, "anneal_strategy": "linear",
         "three_phase": True},
        OneCycle(0.1, STEPS, 0.4, shape="linear", three_phase=True),
        OneCycle(0.85, STEPS, 0.4, 0.85 / 0.95, 1, shape="linear", three_phase=True),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", [*TORCH, "ChainedScheduler", "SequentialLR"])
def test_agrees_with_pytorch(name):
    """Until after the end of each, but for OneCycleLR, which can't go further."""
    torch = pytest.importorskip("torch")
    rates = torch.optim.lr_scheduler
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1, momentum=0.9)
    momentum = None
    if name == "ChainedScheduler":
        parts = rates.LinearLR(optimizer, 0.5, 1.0, 70), rates.ExponentialLR(optimizer, 0.99)
        twin = rates.ChainedScheduler(parts)
        ours = Product([Linear(0.5, 70, 1.0), Exponential(0.1, 0.99)])
    elif name == "SequentialLR":
        parts = rates.LinearLR(optimizer, 0.25, 1.0, 70), rates.ExponentialLR(optimizer, 0.99)
        twin = rates.SequentialLR(optimizer, parts, [70])
        ours = Join([Linear(0.025, 70, 0.1), Exponential(0.1, 0.99)], [70])
    else:
        arguments, ours, *momentum = TORCH[name]
        twin = getattr(rates, name.split(",")[0])(optimizer, **arguments)
    expected = []
    for _ in range(STEPS):
        group = optimizer.param_groups[0]
        expected.append((group["lr"], group["momentum"]))
        optimizer.step()
        if len(expected) < STEPS:
            twin.step()
    expected = np.array(expected)
    # Near 0 PyTorch's, which it computes from the value before, have the rounding of larger ones.
    np.testing.assert_allclose(run(ours), expected[:, 0], rtol=1e-12, atol=2e-17)
    if momentum:
        np.testing.assert_allclose(run(momentum[0]), expected[:, 1], rtol=1e-12)


@pytest.mark.parametrize("threshold_mode", ["rel", "abs"])
@pytest.mark.parametrize("mode", ["min", "max"])
@pytest.mark.parametrize("eps", [0, 0.005])
def test_plateau_agrees_with_pytorch(mode, threshold_mode, eps):
    torch = pytest.importorskip("torch")
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
    twin = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer,
        mode,
        factor=0.5,
        patience=3,
        threshold=0.01,
        threshold_mode=threshold_mode,
        cooldown=2,
        min_lr=0.001,
        eps=eps,
    )
    ours = Plateau(0.1, 0.5, 3, 0.01, 2, 0.001, mode, threshold_mode=threshold_mode, eps=eps)
    metrics = 2 + np.cumsum(np.random.default_rng(1).normal(0.01 if mode == "max" else -0.01, 0.2, 300))
    metrics[40] = np.nan
    if threshold_mode == "abs":
        metrics -= 2  # some are negative
    seen = set()
    for t, metric in enumerate(metrics, 1):
        optimizer.step()
        twin.step(float(metric))
        ours.report(metric)
        assert ours(t) == optimizer.param_groups[0]["lr"]
        seen.add(ours(t))
    assert len(seen) > 3


def test_growth_beyond_all_floats():
    """The power is too large before the value is: 1.1**7499 has 310 digits."""
    assert Exponential(1e-7, 1.1)(7500) == pytest.approx(1e-7 * 1.1**3749 * 1.1**3750, rel=1e-12)
    assert Exponential(1e-7, 1.1)(8000) == inf
    assert Exponential(1e-7, 1.1, end=10)(8000) == Step(1e-7, 1, 1.1, 10)(8000) == 10
    assert Exponential(1e-7, 1.1, 1e-9, 10)(10**9) == Step(1e-7, 1e-9, 1.1, 10)(10**9) == 10
    assert Exponential(0, 1.1, 1e-9)(10**9) == 0


def test_restarts_of_equal_length():
    schedule = CosineRestarts(0.1, 40)
    assert schedule(1) == schedule(41) == 0.1
    assert schedule(21) == schedule(61) == pytest.approx(0.05)


def test_inverse_sqrt_after_a_warmup_is_the_transformers():
    schedule = Warmup(InverseSqrt(0.1, 100), 100)
    assert schedule(51) == pytest.approx(0.05)
    assert schedule(101) == 0.1
    assert schedule(401) == pytest.approx(0.1 * (100 / 400) ** 0.5)


@pytest.mark.parametrize(
    ("in_epochs", "in_steps"),
    [
        (Cosine(0.1, 7, steps_per_epoch=100), Cosine(0.1, 700)),
        (Step(0.1, 3, steps_per_epoch=100), Step(0.1, 300)),
        (Piecewise([1, 4], [3, 2, 1], steps_per_epoch=70), Piecewise([70, 280], [3, 2, 1])),
        (OneCycle(0.1, 10, steps_per_epoch=100), OneCycle(0.1, 1000)),
        (CosineRestarts(0.1, 3, 2, steps_per_epoch=30), CosineRestarts(0.1, 90, 2)),
        # Fractions of an epoch, which floating point rounds.
        (CosineRestarts(1, 0.1, steps_per_epoch=100), CosineRestarts(1, 10)),
        (CosineRestarts(1, 0.1, 1.5, 0, 0.5, steps_per_epoch=40), CosineRestarts(1, 4, 1.5, 0, 0.5)),
        (CosineRestarts(1, 0.1, 3, steps_per_epoch=30), CosineRestarts(1, 3, 3)),
        (Step(1, 0.1, 0.5, steps_per_epoch=100), Step(1, 10, 0.5)),
        (Step(1, 0.07, 0.5, steps_per_epoch=100), Step(1, 7, 0.5)),
        (Piecewise([0.07, 0.1 + 0.2], [3, 2, 1], steps_per_epoch=100), Piecewise([7, 30], [3, 2, 1])),
        (Piecewise([0.3, 0.7], [3, 2, 1], "linear", steps_per_epoch=10),
         Piecewise([3, 7], [3, 2, 1], "linear")),
        (Polynomial(1, 0.7, cycle=True, steps_per_epoch=10), Polynomial(1, 7, cycle=True)),
        (InverseTime(1, 1, 0.1, staircase=True, steps_per_epoch=30), InverseTime(1, 1, 3, staircase=True)),
        (Cyclic(1, 2, 0.1, 0.2, 0.5, steps_per_epoch=10), Cyclic(1, 2, 1, 2, 0.5)),
        (OneCycle(0.1, 1, steps_per_epoch=100), OneCycle(0.1, 100)),
        (OneCycle(0.1, 0.5, three_phase=True, steps_per_epoch=100), OneCycle(0.1, 50, three_phase=True)),
        (Warmup(Cosine(0.1, 300), 0.5, steps_per_epoch=100), Warmup(Cosine(0.1, 300), 50)),
        (Join([Constant(1), Linear(1, 9)], [3], steps_per_epoch=7), Join([Constant(1), Linear(1, 9)], [21])),
    ],
)  # fmt: skip
def test_epochs(in_epochs, in_steps):
    np.testing.assert_allclose(run(in_epochs), run(in_steps), rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("schedule", EXAMPLES, ids=lambda schedule: type(schedule).__name__)
def test_survives_a_pickle_and_json(schedule):
    if isinstance(schedule, Plateau):
        for metric in (3, 4, 5):
            schedule.report(metric)
    else:
        with pytest.raises(FrozenInstanceError):
            schedule.steps_per_epoch = 2
    for copy in (
        pickle.loads(pickle.dumps(schedule)),
        Schedule.from_dict(json.loads(json.dumps(schedule.to_dict()))),
    ):
        assert type(copy) is type(schedule)
        assert copy == schedule


OLD = [
    (
        {"class": "Plateau", "value": 0.5, "factor": 0.1, "patience": 1, "threshold": 0.25, "cooldown": 0,
         "end": 0.0, "larger": True, "best": 3.0, "bad": 1, "cooling": 0},
        Plateau(0.5, 0.1, 1, 0.25, mode="max", best=3.0, n_bad_reports=1),
    ),
    ({"class": "Plateau", "value": 0.5, "larger": False, "bad": 0}, Plateau(0.5)),
    (
        {"class": "CosineRestarts", "value": 0.1, "steps": 3, "factor": 2.0, "steps_per_epoch": 30},
        CosineRestarts(0.1, 3, 2.0, steps_per_epoch=30),
    ),
]  # fmt: skip


@pytest.mark.parametrize(("data", "schedule"), OLD)
def test_dicts_with_old_names_are_read(data, schedule):
    assert Schedule.from_dict(data) == schedule
    inside = {"class": "Warmup", "schedule": data, "steps": 2, "start": 0.0, "steps_per_epoch": 1}
    assert Schedule.from_dict(inside).schedule == schedule


def test_every_schedule_has_an_example():
    there = {type(schedule).__name__ for schedule in EXAMPLES}
    assert there | {"Schedule", "Timed"} == set(schedules.__all__)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Cosine("0.1", 10), TypeError, "value must be a number, not '0.1'"),
        (lambda: Cosine(-0.1, 10), ValueError, "value must be at least 0 and finite, not -0.1"),
        (lambda: Cosine(0.1, 0), ValueError, "steps must be above 0 and finite, not 0"),
        (lambda: Cosine(0.1, 9, steps_per_epoch=0), ValueError, "steps_per_epoch must be at least 1, not 0"),
        (lambda: CosineRestarts(0.1, 9, 0.5), ValueError, "period_growth must be at least 1 and"),
        (lambda: Piecewise([1, 2], [1, 2]), ValueError, "2 boundaries need 3 values, not 2"),
        (lambda: Piecewise([2, 1], [1, 2, 3]), ValueError, "boundaries must increase, not [2.0, 1.0]"),
        (lambda: Piecewise([1], [1, -2]), ValueError, "values[1] must be at least 0 and finite, not -2"),
        (lambda: Piecewise(1, [1, 2]), TypeError, "boundaries must be a list, not an int"),
        (lambda: Join([Constant(1), 2], [1]), TypeError, "schedules[1] must be a schedule, not an int"),
        (lambda: Warmup(0.1, 10), TypeError, "schedule must be a schedule, not a float"),
        (lambda: Plateau(0.1, 1.5), ValueError, "factor must be at least 0 and below 1, not 1.5"),
        (lambda: Exponential(1, 0), ValueError, "factor must be above 0 and finite, not 0"),
        (lambda: Polynomial(1, 1, power=0), ValueError, "power must be above 0 and finite, not 0"),
        (lambda: OneCycle(1, 1), ValueError, "steps must be above 1 and finite, not 1"),
        (lambda: OneCycle(1, 0.01, steps_per_epoch=100), ValueError, "steps must be above 1/100 of an epoch"),
        (lambda: OneCycle(1, 9, 0.6, three_phase=True), ValueError, "pct_start must be at most 0.5 with"),
        (lambda: OneCycle(1, 9, shape="cos"), ValueError, "shape must be 'linear' or 'cosine', not 'cos'"),
        (lambda: Product([]), ValueError, "schedules must have at least one schedule"),
        (lambda: Cyclic(1, 2, 3, 0), ValueError, "steps_down must be above 0 and finite, not 0"),
        (lambda: Cyclic(1, 2, 3, factor_per="epoch"), ValueError, "factor_per must be 'cycle' or 'step'"),
        (lambda: Exponential(1, 0.5, end=-1), ValueError, "end must be at least 0 and finite, not -1"),
        (lambda: Warmup(Constant(1), -1), ValueError, "steps must be at least 0 and finite, not -1"),
        (lambda: Join([Constant(1)] * 3, [0, 0]), ValueError, "boundaries must increase, not [0.0, 0.0]"),
        (lambda: Plateau(1, threshold_mode="abs", threshold=-1), ValueError, "threshold must be at least 0"),
        (lambda: Plateau(1, threshold_mode="relative"), ValueError, "threshold_mode must be 'rel' or 'abs'"),
        (lambda: OneCycle(1, 9, 0), ValueError, "pct_start must be above 0 and below 1, not 0"),
        (lambda: OneCycle(1, 9, 1), ValueError, "pct_start must be above 0 and below 1, not 1"),
        (lambda: OneCycle(1, 9, 0.5, 0), ValueError, "div_factor must be above 0 and finite, not 0"),
        (lambda: OneCycle(1, 9, 0.5, 1, 0), ValueError, "final_div_factor must be above 0 and finite, not 0"),
        (lambda: Plateau(1, 1), ValueError, "factor must be at least 0 and below 1, not 1"),
        (lambda: Plateau(1, threshold=1), ValueError, "threshold must be at least 0 and below 1, not 1"),
        (lambda: Plateau(1, patience=-1), ValueError, "patience must be at least 0, not -1"),
        (lambda: Plateau(1, cooldown=-1), ValueError, "cooldown must be at least 0, not -1"),
        (lambda: Plateau(1, n_bad_reports=-1), ValueError, "n_bad_reports must be at least 0, not -1"),
        (lambda: Plateau(1, mode="larger"), ValueError, "mode must be 'min' or 'max', not 'larger'"),
        (lambda: Plateau(1, mode=True), TypeError, "mode must be 'min' or 'max', not True"),
        (lambda: Schedule.from_dict({"class": "Plateau", "value": 1, "mode": True}), TypeError, "mode"),
        (lambda: Schedule.from_dict(OLD[0][0] | {"mode": "min"}), TypeError, "'larger'"),
        (lambda: Plateau(1, cooling=-1), ValueError, "cooling must be at least 0, not -1"),
        (lambda: Piecewise([0], [1, 2]), ValueError, "boundaries[0] must be above 0 and finite, not 0"),
        (lambda: Piecewise([1, 1], [1, 2, 3]), ValueError, "boundaries must increase, not [1.0, 1.0]"),
        (lambda: Join([Constant(1)], [1]), ValueError, "1 boundaries need 2 schedules, not 1"),
        (lambda: Schedule.from_dict({"class": "os"}), ValueError, "'os'} is no schedule; there are "),
    ],
)  # fmt: skip
def test_wrong_arguments(make, error, message):
    with pytest.raises(error) as caught:
        make()
    assert message in str(caught.value)
