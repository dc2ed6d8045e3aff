"""Arguments of the rules of whole arrays: against the reference, by hand, and against other libraries."""

from math import hypot, sqrt

import numpy as np
import pytest
from cases import DTYPES, both, diagonal, same_bits, takes

import fastopt
from fastopt.tools import equivalents

SHAPES = [(), (7,), (6, 5), (5, 6), (70, 3), (3, 4, 5)]
ROOT = sqrt(0.4375)  # √(1 − β₂) for β₂ = 0.5625

DION = (4.0848, -6.8946, 2.9270)  # the first of the coefficients that optax calls so

DECAY = {"weight_decay": 0.1}
ADAFACTOR = {"min_dim_size_to_factor": 1, "dtype_momentum": None}  # as in the paper
# A rule with arguments other than the defaults.
VARIANTS = [
    ("Prodigy", {"d0": 0.01, "beta3": 0.9, "d_coef": 2.0, "use_bias_correction": False}),
    ("Prodigy", {"d0": 0.01, "growth_rate": 1.02}),
    ("Prodigy", {"d0": 0.01, "lr": 0.5, "safeguard_warmup": True}),
    ("LAMB", {"eps_root": 0.01}),
    ("NovoGrad", {"eps_root": 0.01}),
    ("Adafactor", {"lr": 0.7, "relative_step": False}),
    ("Adafactor", {"lr": 0.7, "multiply_by_parameter_scale": False, "clip_threshold": 0.5}),
    ("AdafactorMomentum", {"relative_step": False, "multiply_by_parameter_scale": False}),
    ("Muon", {"nesterov": False, "adjust_lr": "match_rms_adamw"}),
    ("Muon", {"adjust_lr": "fan_out/fan_in", "ns_coefficients": (2.0, -1.5, 0.5)}),
    ("Muon", {"adjust_lr": "none", "ns_coefficients": (DION, (2.0, -1.5, 0.5))}),
]

# A library, our rule, its name there, and the arguments there and here with which both are the same.
THEIRS = [
    (
        "optax", "Prodigy", "contrib.prodigy",
        {"estim_lr0": 0.1, "estim_lr_coef": 2.0, "beta3": 0.9, "safeguard_warmup": True},
        {"d0": 0.1, "d_coef": 2.0, "beta3": 0.9, "safeguard_warmup": True},
    ),
    (
        "PyTorch", "Muon", "Muon",
        {"nesterov": False, "adjust_lr_fn": "match_rms_adamw", "ns_coefficients": (3.0, -4.0, 2.0)},
        {"nesterov": False, "adjust_lr": "match_rms_adamw", "ns_coefficients": (3.0, -4.0, 2.0)},
    ),
    (
        "optax", "Muon", "contrib.muon",
        {"nesterov": False, "ns_coeffs": (DION, (2.0, -1.5, 0.5)), "eps": 1e-12},
        {"nesterov": False, "adjust_lr": "fan_out/fan_in", "ns_coefficients": [DION, (2.0, -1.5, 0.5)],
         "weight_decay": 0},
    ),
    (
        "optax", "Muon", "contrib.muon",
        {"nesterov": False, "consistent_rms": 0.2, "eps": 1e-12, "weight_decay": 0.1},
        {"nesterov": False, "adjust_lr": "match_rms_adamw"},
    ),
    (
        "optax", "AdafactorMomentum", "adafactor",
        {**ADAFACTOR, "momentum": 0.5, "multiply_by_parameter_scale": False, "weight_decay_rate": 0.001},
        {
            **{"momentum": 0.5, "weight_decay": 0.1},
            **{"relative_step": False, "multiply_by_parameter_scale": False},
        },
    ),
    ("optax", "LAMB", "lamb", {"eps_root": 0.1, **DECAY}, {"eps_root": 0.1, **DECAY}),
    ("optax", "NovoGrad", "novograd", {"eps_root": 0.1}, {"eps_root": 0.1}),
    (
        "Keras", "LAMB", "Lamb",
        {"epsilon": 1e-6, **DECAY}, {"lr": 0.0078125, "decoupled": True, **DECAY},
    ),
    ("optax", "Adafactor", "adafactor", ADAFACTOR, {"relative_step": False}),
    ("Keras", "Adafactor", "Adafactor", {}, {"lr": 0.0078125}),
    ("Keras", "Muon", "Muon", {"weight_decay": 0.1}, {"adjust_lr": "match_rms_adamw"}),
    ("Keras", "Muon", "Muon", {"weight_decay": 0.1, "rms_rate": None}, {"adjust_lr": "none"}),
]  # fmt: skip

# A rule with arguments, the gradients of some steps from 1, and where they lead, worked out by hand.
MUON = hypot(0.75, 5)
LAMB = 0.1 * sqrt(2) / hypot(0.5, sqrt(20) / 7)
PRODIGY = {"lr": 4, "beta1": 0.5, "beta2": 0.5625, "eps": 2 * ROOT, "d0": 0.125}
BY_HAND = {
    # u is 1, whose rms is cut to 1/2, and so is that of (4 / √10, 1) in step 2
    "Adafactor": (
        "Adafactor",
        {
            **{"lr": 2, "beta2_decay": -1, "clip_threshold": 0.5},
            **{"relative_step": False, "multiply_by_parameter_scale": False},
        },
        [[2, 1], [4, 1]],
        [-4 / sqrt(10) / sqrt(1.3), -1 / sqrt(1.3)],
    ),
    # corrected, m and v are g and g², so that d = g / (√(g² + 16) + 1) = (1/2, √20 / 7); ‖p‖ = √2
    "LAMB": (
        "LAMB",
        {"lr": 0.1, "eps": 1, "eps_root": 16},
        [[3, sqrt(20)]],
        [1 - LAMB * 0.5, 1 - LAMB * sqrt(20) / 7],
    ),
    # ‖g‖² = 9, so that the divisor is √(9 + 16) + 1
    "NovoGrad": ("NovoGrad", {"lr": 0.1, "eps": 1, "eps_root": 16}, [[0, 3]], [1, 0.95]),
    # u is g / 2, of norm 5 / 2 for g = (3, 4), then (0.75, 5); x + x³ and 2·x, and √max(2, 2)
    "Muon": (
        "Muon",
        {
            **{"lr": 0.1, "momentum": 0.5, "weight_decay": 0, "nesterov": False},
            **{"ns_coefficients": ((1, 1, 0), (2, 0, 0)), "adjust_lr": "match_rms_adamw"},
        },
        [diagonal(3, 4), diagonal(0, 8)],
        diagonal(
            1 - 0.02 * sqrt(2) * (2 * (0.6 + 0.6**3) + 2 * (0.75 / MUON + (0.75 / MUON) ** 3)),
            1 - 0.02 * sqrt(2) * (2 * (0.8 + 0.8**3) + 2 * (5 / MUON + (5 / MUON) ** 3)),
            1,
        ),
    ),
    # lr_t = 0.5, m = 1/8 and √v = eps·d = ROOT / 4
    "Prodigy, uncorrected": (
        "Prodigy",
        {**PRODIGY, "use_bias_correction": False},
        [2],
        1 - 0.125 / ROOT,
    ),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("rule", "arguments"), VARIANTS, ids=lambda value: str(value))
def test_same_bits_as_reference(rule, arguments, dtype):
    rng = np.random.default_rng(20)
    shapes = [shape for shape in SHAPES if takes(rule, shape)]
    theirs = [np.asarray(rng.standard_normal(shape), dtype) for shape in shapes]
    ours = [p.copy() for p in theirs]
    directions = [rng.standard_normal(shape) for shape in shapes]
    ref, comp = both(rule, **arguments)
    for _ in range(6):
        grads = [np.asarray(d + 0.5 * rng.standard_normal(d.shape), dtype) for d in directions]
        ref.update(theirs, grads)
        comp.update(ours, grads)
        assert all(map(same_bits, theirs, ours))
    for name in comp.states:
        assert all(map(same_bits, getattr(ref, name), getattr(comp, name)))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("library", "rule", "name", "theirs", "ours"),
    # JAX compiles each of its own for a second.
    [pytest.param(*row, marks=[pytest.mark.long] * (row[0] != "PyTorch")) for row in THEIRS],
)
def test_agrees_with_other_libraries(monkeypatch, library, rule, name, theirs, ours):
    if not equivalents.version_of(library):
        pytest.skip(f"{library} is not installed")
    monkeypatch.setitem(equivalents.LIBRARIES[library].rules, rule, (name, theirs, ours))
    # Keras's Muon adds 1e-7 to the norm; both libraries' Adafactor has t^-0.8 in single precision.
    is_rough = library == "Keras" or "Adafactor" in rule
    tolerance = 1e-8 if is_rough else equivalents.TOLERANCES["float64"]
    assert equivalents.difference(rule, library, "float64") <= tolerance


@pytest.mark.parametrize("name", BY_HAND)
def test_value_worked_out_by_hand(name):
    rule, arguments, grads, expected = BY_HAND[name]
    for optimizer in both(rule, **arguments):
        params = [np.ones(np.shape(grads[0]) or 5)]
        for grad in grads:
            optimizer.update(params, [np.full_like(params[0], grad)])
        np.testing.assert_allclose(params[0], expected, 1e-15)


def test_coefficients_may_be_lists():
    rng = np.random.default_rng(22)
    param, grad = rng.standard_normal((2, 4, 3))
    ours, theirs, m = param.copy(), param.copy(), np.zeros((4, 3))
    optimizer = fastopt.Muon(ns_coefficients=[list(DION), [2, -1.5, 0.5]])
    assert optimizer.ns_coefficients == (DION, (2.0, -1.5, 0.5))
    optimizer.update([ours], [grad])
    fastopt.functional.muon(theirs, grad, m, ns_coefficients=[list(DION), [2, -1.5, 0.5]])
    assert same_bits(ours, theirs)
    again = fastopt.Muon()
    again.load_state_dict(optimizer.state_dict())
    assert again.ns_coefficients == optimizer.ns_coefficients


@pytest.mark.parametrize("given", ["dion", (1, 2), 5, [[1, 2, 3], 4], [(1, 2, "c")], ()])
def test_coefficients_must_be_numbers(given):
    with pytest.raises((TypeError, ValueError), match="ns_coefficients must "):
        fastopt.Muon(ns_coefficients=given)


def grads_at(t):
    """Return gradients that nobody needs a file for."""
    return np.cos(np.arange(6.0) * (t + 1)).reshape(2, 3) + 1.5


# What the authors' package gives for 8 steps from linspace(1, 2, 6) on the gradients `grads_at`, in float64:
# prodigyopt 1.1.2, Prodigy([p], d0=0.01), whose use_bias_correction is False; with growth_rate=1.05.
PRODIGYOPT = {
    None: [
        -14.532152879203103, -14.675787150565082, -14.999441874617055, -13.247217083745497,
        -12.62249590064706, -14.79310075140955,
    ],
    1.05: [
        0.2858963133716763, 0.5343448559042158, 0.7611790261671888, 0.9674347766883978,
        1.1592774073958847, 1.3524321728510695,
    ],
}  # fmt: skip


@pytest.mark.parametrize("growth_rate", PRODIGYOPT)
def test_prodigy_as_its_authors_have_it(growth_rate):
    params = [np.linspace(1, 2, 6).reshape(2, 3)]
    optimizer = fastopt.Prodigy(d0=0.01, use_bias_correction=False, growth_rate=growth_rate)
    for t in range(8):
        optimizer.update(params, [grads_at(t)])
    np.testing.assert_allclose(params[0].reshape(-1), PRODIGYOPT[growth_rate], 1e-12)
    if growth_rate:
        np.testing.assert_allclose(optimizer.d[0].item(), 0.021363895241386207, 1e-12)
        np.testing.assert_allclose(optimizer.d_max[0].item(), 0.2890298185832571, 1e-12)


def test_prodigys_state_of_before_has_no_largest_estimate():
    rng = np.random.default_rng(21)
    params, optimizer = {"W": np.ones((3, 2)), "b": np.ones(3)}, fastopt.Prodigy(d0=0.01)
    grads = [{key: 1 + rng.standard_normal(p.shape) for key, p in params.items()} for _ in range(6)]
    for grad in grads[:3]:
        optimizer.update(params, grad)
    state, again = optimizer.state_dict(), fastopt.Prodigy()
    del state["state"]["d_max"]
    for name in ("beta3", "d_coef", "growth_rate", "use_bias_correction", "safeguard_warmup"):
        del state["hyperparameters"][name]
    again.load_state_dict(state)
    theirs = {key: p.copy() for key, p in params.items()}
    for grad in grads[3:]:
        optimizer.update(params, grad)
        again.update(theirs, grad)
        assert all(map(same_bits, params.values(), theirs.values()))
    assert same_bits(optimizer.d_max["W"], again.d_max["W"])
