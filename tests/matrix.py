"""Rules, options and containers for `test_matrix`, and the steps that are compared with the reference."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from inspect import signature
from typing import Any, NamedTuple
from unittest.mock import patch

import numpy as np
from cases import FOR_MATRICES, RULES, same_bits

import fastopt
from fastopt import reference, schedules
from fastopt.engine import memory
from fastopt.reference import options as reference_options
from fastopt.reference.options import Optimizer

__all__ = [
    "LONG",
    "OPTIONS",
    "RULES",
    "SCENARIOS",
    "VARIANTS",
    "VARIANT_PAIRS",
    "Case",
    "Run",
    "check_own_optimizers",
    "check_resumed",
    "check_steps",
    "combined",
    "has_option",
]

# For each hyperparameter a value that isn't a default. No two decays, and no sum of two, are the same.
HYPERPARAMETERS = {
    "lr": 0.1,
    "momentum": 0.7,
    "dampening": 0.45,
    "beta": 0.65,
    "beta1": 0.6,
    "beta2": 0.8,
    "beta3": 0.75,
    "decay_rate": 0.85,
    "rho": 0.9,
    "alpha": 0.55,
    "warmup_steps": 4,
    "t0": 2.0,
    "lambd": 0.15,
    "momentum_decay": 0.3,
    "trust_coefficient": 0.35,
    "clip_threshold": 0.45,
    "d0": 0.01,
    "r0": 0.05,
    "reps_rel": 0.001,
    "l1_regularization_strength": 0.05,
    "l2_regularization_strength": 0.12,
    "initial_accumulator_value": 0.2,
    "nu1": 0.72,
    "nu2": 0.83,
    "shampoo_beta": 0.7,
    "precondition_frequency": 2,
    "clip_power": 0.3,
    "final_lr": 0.02,
    "gamma": 0.4,
    "delta": 0.6,
    "wd_ratio": 0.4,
    "base_lr": 0.3,
    "eps": 0.01,
    "eps_root": 0.02,
    "lr_decay": 0.15,
    "bias_correction": True,
    "eps_outside": 0.03,
    "correction": "before",
    "corrected_eps": True,
    "threshold": 4.6,
    "rectify": True,
    "r": 0.7,
    "weight_lr_power": 1.6,
    "proximal": True,
    "alpha_warmup": 4,
    "beta3_warmup": 5,
}

# Bounds that clip some of the gradients, elements and units, and leave others as they are. (clip_value is as
# short as the gradients: see `short`.)
OPTIONS: dict[str, dict[str, Any]] = {
    "weight_decay": {"weight_decay": 0.25},
    "decoupled": {"weight_decay": 0.25, "decoupled": True},
    "coupled": {"weight_decay": 0.25, "decoupled": False},
    "decay_max_lr": {"weight_decay": 0.25, "decoupled": True, "decay_max_lr": 0.3},
    "decay_params": {"weight_decay": 0.25, "decay_params": "matrices"},
    "maximize": {"maximize": True},
    "clip_value": {"clip_value": 0.6875},
    "clip_norm_each": {"clip_norm_each": 1.3},
    "clip_rms": {"clip_rms": 0.6},
    "clip_adaptive": {"clip_adaptive": 0.6},
    "clip_adaptive_eps": {"clip_adaptive": 0.6, "clip_adaptive_eps": 1.5},
    "clip_norm": {"clip_norm": 2.3},
    "clip_norm_type": {"clip_norm": 9.5, "clip_norm_type": 1},
    "largest": {"clip_norm": 1.1, "clip_norm_type": math.inf},
    "groups": {"groups": {"b": {"lr_scale": 3.0}, "W": {"lr": 0.3, "weight_decay": 0.2}}},
    "hyperparameters": {"groups": {"W": {}}},  # of which the rule's own are filled in
    "freeze": {"groups": {"b": {"freeze": True}}},
    "schedule": {"lr": schedules.Exponential(0.2, 0.5)},
    # To which those of all the rule's own are added, and to the group.
    "schedules": {
        "weight_decay": schedules.Linear(0.25, 4, 0.5),
        "groups": {"b": {"lr_scale": schedules.Linear(0.5, 3, 2.0)}},
    },
    "lookahead": {"lookahead": (2, 0.3)},
    "lookahead_reset": {"lookahead": (2, 0.3), "lookahead_reset": True},
    "ema": {"ema": 0.75},
    "ema_every": {"ema": 0.75, "ema_init": "first", "ema_every": 2, "ema_overwrite": 4},
    "ema_overwrite": {"ema": 0.75, "ema_init": "initial", "ema_overwrite": 3},
    "swa": {"swa": 2},
    "swa_every": {"swa": 1, "swa_every": 2},
    "accumulate": {"accumulate": 2},
    "cautious": {"cautious": True},
    "skip": {"nonfinite": "skip"},
    "raise": {"nonfinite": "raise"},
    "skip_norm": {"skip_norm": 5.5},
    "bfloat16": {"state_dtype": "bfloat16"},
    "float16": {"state_dtype": "float16", "state_seed": 1},
    "int8": {"state_dtype": "int8", "state_seed": 2**40},
}

# States in fewer bytes, which here arrays of all sizes have.
QUANTIZED = {"bfloat16", "float16", "int8"}

# What changes numbers, or decides on a step, in the same way for all rules: each has one of the containers
# with it, and of the pairs only those below are made.
VARIANTS = {
    *("decay_max_lr", "clip_rms", "clip_adaptive_eps", "clip_norm_type", "largest", "lookahead_reset"),
    *("ema_every", "ema_overwrite", "swa_every", "skip_norm"),
    *QUANTIZED,
}
VARIANT_PAIRS = [
    *(("decay_max_lr", "groups"), ("decay_max_lr", "schedule")),
    *(("clip_value", "clip_rms"), ("clip_norm_each", "clip_rms"), ("clip_rms", "clip_adaptive")),
    *(("clip_rms", "clip_norm"), ("clip_norm", "lookahead_reset"), ("groups", "lookahead_reset")),
    *(("lookahead_reset", "ema"), ("lookahead_reset", "accumulate"), ("lookahead_reset", "skip")),
    *(("accumulate", "skip_norm"), ("skip", "skip_norm"), ("raise", "skip_norm"), ("freeze", "skip_norm")),
    *(("maximize", "int8"), ("decoupled", "float16"), ("clip_norm", "int8"), ("groups", "bfloat16")),
    *(("freeze", "int8"), ("schedules", "float16"), ("lookahead", "bfloat16"), ("lookahead_reset", "int8")),
    *(("ema", "int8"), ("swa", "float16"), ("accumulate", "bfloat16"), ("cautious", "int8")),
    *(("cautious", "bfloat16"), ("skip", "int8"), ("skip_norm", "float16"), ("weight_decay", "int8")),
]

SHAPES = {"W": (3, 5), "b": (4,), "s": (), "K": (2, 1, 2, 3)}
MATRICES = {"W": (3, 5), "b": (5, 3), "s": (2, 2), "K": (1, 4)}
LISTS = ("list", "packed list")
SCENARIOS = (
    "dict",
    "list",
    "packed",
    "packed list",
    "fortran",
    "strided",
    "mixed",
    "odd",
    "rebound",
    "late",
    "turns",
    "thawed",
    "forgotten",
)
# Where the last bits of a sum of squares depend on its order, and on what was rounded before.
LONG = ("fortran, long", "mixed, long")


# A finite gradient whose square isn't, in float64; in float32 it is 1e20.
HUGE = 1e200


class Case(NamedTuple):
    """A rule with some options, and how its arrays come."""

    rule: str
    options: tuple[str, ...]
    scenario: str

    def __str__(self) -> str:
        return f"{self.rule}-{'+'.join(self.options) or 'plain'}-{self.scenario}"

    @property
    def layout(self) -> str:
        """The scenario, whatever the sums of squares are."""
        return self.scenario.removesuffix(", long")

    @property
    def has_long_values(self) -> bool:
        """Whether sums of squares are rounded, and the arrays are so large that it shows."""
        return self.scenario.endswith(", long")


def has_option(rule: str, option: str) -> bool:
    """Whether a rule has an option: some have their weight decay in their formula, Rprop no schedule."""
    own = getattr(fastopt, rule)
    if option in ("schedule", "schedules"):
        return "lr" not in own.unscheduled
    if option in QUANTIZED:
        return hasattr(getattr(reference, rule), "quantized")
    shared = any(getattr(own, state).spec.is_shared for state in own.states)
    if option == "lookahead_reset" and (shared or own.n_totals):
        return False
    if option == "decay_max_lr" and own.decay_scalars is not fastopt.Optimizer.decay_scalars:
        return False
    if option in ("decoupled", "coupled") and (option == "decoupled") in own.decay_choices:
        return True
    return option not in ("decoupled", "coupled", "decay_max_lr") or own.default_decoupled is not None


def scheduled(rule: str, name: str, value: Any, first: float, last: float) -> Any:
    """Return a schedule of a hyperparameter between two shares of it, or itself if it can't have one."""
    is_number = isinstance(value, float) and value >= 0
    if not is_number or getattr(fastopt, rule)().why_unscheduled(name) is not None:
        return value
    if value > 1:  # which may be bounded below
        first, last = 2 - first, 2 - last
    return schedules.Linear(first * value, 4, last * value)


def combined(*options: str) -> dict[str, Any] | None:
    """Return the arguments of several options, or None if they exclude each other."""
    result: dict[str, Any] = {}
    for option in options:
        for name, value in OPTIONS[option].items():
            if name == "groups":
                value = {**result.get(name, {}), **value}
                if any(OPTIONS[other].get(name, value) == {} for other in options):
                    return None
            elif result.get(name, value) != value:
                return None
            result[name] = value
    return None if "ema" in result and "swa" in result else result


def arguments_of(case: Case) -> dict[str, Any]:
    """Return all arguments of a case, without the class."""
    own = signature(getattr(reference, case.rule)).parameters
    values = {name: value for name, value in HYPERPARAMETERS.items() if name in own}
    if getattr(fastopt, case.rule).n_totals:
        values["lr"] = 1.5  # with less, Prodigy's d takes longer to grow
    options = combined(*case.options)
    assert options is not None
    groups = {key: dict(group) for key, group in options.get("groups", {}).items()}
    if "hyperparameters" in case.options:
        ungrouped = ("lr", *getattr(fastopt, case.rule).ungrouped)
        own_values = {
            name: value * 0.9 if isinstance(value, float) else value
            for name, value in values.items()
            if name not in ungrouped
        }
        groups["W"] = {"lr_scale": 0.5} | groups["W"] | own_values
        if "warmup_steps" in values:
            groups["W"]["warmup_steps"] = 3
    if "schedules" in case.options:
        # Before other options, as two that give the same hyperparameter exclude each other.
        given = [*values.items()]
        values = {name: scheduled(case.rule, name, value, 1, 0.75) for name, value in given}
        own_values = {name: scheduled(case.rule, name, value, 0.9, 1) for name, value in given}
        groups["b"] |= {name: own for name, own in own_values.items() if callable(own) and name != "lr"}
    if case.layout == "thawed":
        groups["K"] = {"freeze": True}
    values |= options
    if groups:
        values["groups"] = {key_of(case, key): group for key, group in groups.items()}
    return values


def key_of(case: Case, name: str) -> Any:
    """Return a parameter's key, which is its index in a list."""
    return list(SHAPES).index(name) if case.layout in LISTS else name


def shapes_of(case: Case) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the parameters; Muon and AdaMuon take matrices only."""
    shapes = MATRICES if case.rule in FOR_MATRICES else SHAPES
    return {**shapes, "W": (23, 17)} if case.has_long_values else shapes


def dtype_of(case: Case, name: str) -> str:
    """Return the dtype of a parameter."""
    if case.layout == "odd" and name == "b":
        return "float16"
    own = "float32" if case.layout in ("list", "turns", "strided") else "float64"
    return "float32" if case.layout in ("mixed", "packed") and name in "bK" else own


def arranged(case: Case, name: str, array: np.ndarray, is_grad: bool) -> np.ndarray:
    """Return a copy of an array, with the dtype and the strides of the case."""
    own = dtype_of(case, name)
    if case.layout == "mixed" and is_grad:
        own = "float32" if own == "float64" else "float64"
    if dtype_of(case, name) != "float64":
        array = np.where(array == HUGE, 1e20, array)
    array = array.astype(own)
    if case.layout == "fortran" and not is_grad:
        return np.array(array, order="F")
    if case.layout == "strided" and array.ndim:
        axis = {"W": 0, "b": 0, "K": -1}.get(name, 0)
        if name == ("K" if is_grad else "W"):
            return np.ascontiguousarray(array.T).T  # transposed
        if name == "b" or name == "K":
            return np.flip(np.flip(array, axis).copy(), axis)  # reversed
        return np.repeat(array, 2, axis)[::2]  # sliced
    return array


def steps_of(case: Case) -> int:
    """Return the number of updates: enough for some steps with accumulate."""
    return 8 if {"accumulate", "skip", "raise"} & {*case.options} or case.layout == "turns" else 6


def names_at(case: Case, step: int) -> list[str]:
    """Return the parameters of an update."""
    if case.layout == "turns":
        return ["W", "b"] if step % 2 == 0 else ["s", "K"]
    if case.layout == "late" and step < 3:
        return ["W", "b", "s"]
    return list(SHAPES)


def short(array: np.ndarray) -> np.ndarray:
    """Return values so short that the sum of their squares is exact, in any order and in both dtypes."""
    return np.asarray(np.round(array * 64) / 64)


def values_of(case: Case) -> tuple[dict[str, np.ndarray], list[dict[str, np.ndarray]]]:
    """Return the parameters before the first update, and the gradients of each, not to be written."""
    has_nonfinite = bool({"skip", "raise"} & {*case.options})
    shapes = tuple(shapes_of(case).items())
    return random_values(shapes, steps_of(case), has_nonfinite, case.has_long_values)


@cache
def random_values(
    named_shapes: tuple[tuple[str, tuple[int, ...]], ...], steps: int, has_nonfinite: bool, is_long: bool
) -> tuple[dict[str, np.ndarray], list[dict[str, np.ndarray]]]:
    """Return parameters and the gradients of some updates."""
    rng = np.random.default_rng(7)
    shapes = dict(named_shapes)
    rounded = np.asarray if is_long else short
    params = {name: rounded(rng.standard_normal(shape)) for name, shape in shapes.items()}
    # Each has a direction, without which Prodigy's d wouldn't grow, and noise, so that signs change.
    directions = {name: rng.standard_normal(shape) for name, shape in shapes.items()}
    grads = [
        {
            name: rounded((directions[name] + 0.7 * rng.standard_normal(shape)) * (0.3 + 0.2 * step))
            for name, shape in shapes.items()
        }
        for step in range(steps)
    ]
    if has_nonfinite:
        grads[4]["b"].flat[1] = grads[4]["K"].flat[1] = np.nan
        grads[5]["K"].flat[2] = HUGE
        grads[6]["W"].flat[3] = np.inf
    return params, grads


class Run:
    """An optimizer with its parameters: in the containers of a case, or in a dict for the reference."""

    def __init__(self, case: Case, is_reference: bool = False) -> None:
        self.case, self.is_reference = case, is_reference
        self.values, self.grads = values_of(case)
        own, arguments = getattr(fastopt, case.rule), arguments_of(case)
        if is_reference:
            if own.default_decoupled and "cautious" in case.options:
                arguments.setdefault("decoupled", True)  # outside of the step that is cautious
            self.optimizer = Optimizer(getattr(reference, case.rule), **arguments)
        else:
            self.optimizer = own(**arguments)
        self.arrays: dict[str, Any] = {
            name: value.astype(dtype_of(case, name)) if is_reference else arranged(case, name, value, False)
            for name, value in self.values.items()
        }
        if case.layout == "odd" and case.rule not in FOR_MATRICES:
            self.arrays["s"] = float(self.arrays["s"])
        self.packed: Any = None
        if not is_reference and case.layout.startswith("packed"):
            given = list(self.arrays.values()) if case.layout in LISTS else self.arrays
            self.packed = fastopt.pack(given)

    def params_and_grads(self, step: int) -> tuple[Any, Any]:
        """Return the containers of an update."""
        case, names = self.case, names_at(self.case, step)
        grads = {
            name: np.asarray(arranged(case, name, self.grads[step][name], True), order="K") for name in names
        }
        if self.packed is not None:
            packed = self.packed.like()
            if case.layout in LISTS:
                packed[:] = list(grads.values())
            else:
                packed.update(grads)
            return self.packed, packed
        if case.layout == "rebound":
            self.arrays = {name: np.array(array) for name, array in self.arrays.items()}
        params = {name: self.arrays[name] for name in names}
        if case.layout in LISTS:
            if not self.is_reference:
                return list(params.values()), list(grads.values())
            indices = [list(SHAPES).index(name) for name in names]
            return (
                dict(zip(indices, params.values(), strict=True)),
                dict(zip(indices, grads.values(), strict=True)),
            )
        return params, grads

    def update(self, step: int) -> Any:
        """Take an update; return what it returns, or the class of what it raises."""
        if step == 3 and self.case.layout == "thawed":
            groups = {key: group for key, group in self.optimizer.groups.items() if key != "K"}
            self.optimizer.groups = groups or None
        if step == 3 and self.case.layout == "forgotten":
            self.drop_state()
        params, grads = self.params_and_grads(step)
        try:
            result: Any = self.optimizer.update(params, grads)
        except FloatingPointError as error:
            result = type(error)
        if self.packed is None and isinstance(params, dict) and "s" in params:
            self.arrays["s"] = params["s"]  # which may be a number
        return result

    def drop_state(self) -> None:
        """Drop the state of a parameter."""
        if not self.is_reference:
            self.optimizer.drop_state("K")
            return
        for history in ("rules", "counts", "sums", "slow", "averages"):
            getattr(self.optimizer, history).pop("K", None)

    def bits(self) -> list[np.ndarray]:
        """Return the values of all parameters."""
        if self.packed is not None:
            arrays = self.packed if self.case.layout in LISTS else self.packed.values()
            return [np.array(array) for array in arrays]
        return [np.array(array) for array in self.arrays.values()]

    def averages(self) -> dict[Any, np.ndarray]:
        """Return the averages of ema or swa, of the parameters that have been updated."""
        if self.is_reference:
            return dict(self.optimizer.averages)
        if self.optimizer.ema is None and self.optimizer.swa is None:
            return {}
        names = [name.split(".")[0] for name in self.optimizer.state_dict()["state"]]
        states = self.optimizer.state_dict()["state"][f"{'ema' if 'ema' in names else 'swa'}.average"]
        return dict(enumerate(states)) if isinstance(states, list) else dict(states or {})

    def shown(self) -> tuple[Any, ...]:
        """Return what the optimizer tells about itself."""
        optimizer = self.optimizer
        return optimizer.iter, optimizer.skipped, optimizer.lr, optimizer.grad_norm

    def resumed(self) -> "Run":
        """Return a run with copies of the arrays, and an optimizer that goes on from the state dict."""
        other = Run(self.case)
        if self.packed is not None:
            for new, old in zip(other.packed.buffers.values(), self.packed.buffers.values(), strict=True):
                new[...] = old
        for name, array in self.arrays.items():
            if isinstance(array, float):
                other.arrays[name] = array
            elif self.packed is None:
                other.arrays[name][...] = array
        other.optimizer.load_state_dict(self.optimizer.state_dict())
        if self.case.layout == "thawed":
            other.optimizer.groups = self.optimizer.groups
        return other


@contextmanager
def small_quantized() -> Iterator[None]:
    """Let arrays of all sizes have states in fewer bytes, if the option is on."""
    with patch.object(memory, "MIN_SIZE", 1), patch.object(reference_options, "MIN_SIZE", 1):
        yield


@small_quantized()
def check_steps(case: Case) -> None:
    """Raise AssertionError at the first update with other results than the reference's."""
    ours, theirs = Run(case), Run(case, is_reference=True)
    for step in range(steps_of(case)):
        assert ours.update(step) == theirs.update(step), step
        for name, x, y in zip(ours.values, ours.bits(), theirs.bits(), strict=True):
            assert same_bits(x, y), (step, name, x, y)
        assert ours.shown() == theirs.shown(), step
    if ours.optimizer.ema is not None or ours.optimizer.swa is not None:
        ours_by_key = ours.averages()
        for key, average in theirs.averages().items():
            assert same_bits(ours_by_key[key], average), key


@small_quantized()
def check_resumed(case: Case) -> None:
    """Raise AssertionError if a run that is resumed from a state dict has other results."""
    run = Run(case)
    half = steps_of(case) // 2 + 1
    for step in range(half):
        run.update(step)
    other = run.resumed()
    for step in range(half, steps_of(case)):
        assert run.update(step) == other.update(step)
        assert all(map(same_bits, run.bits(), other.bits())), step
        assert run.shown() == other.shown()


@small_quantized()
def check_own_optimizers(case: Case) -> None:
    """Raise AssertionError if the reference differs from fastopt with an optimizer for each parameter.

    They know nothing of histories: one that comes late, is thawed or was forgotten is new at that step.
    """
    theirs = Run(case, is_reference=True)
    arrays = {name: theirs.values[name].astype(dtype_of(case, name)) for name in theirs.values}
    optimizers: dict[str, Any] = {}
    for step in range(steps_of(case)):
        theirs.update(step)
        for name in names_at(case, step):
            if name == "K" and step < 3 and case.layout == "thawed":
                continue
            if name not in optimizers or (name == "K" and step == 3 and case.layout == "forgotten"):
                arguments = {key: value for key, value in arguments_of(case).items() if key != "groups"}
                optimizers[name] = getattr(fastopt, case.rule)(**arguments)
            params = {name: arrays[name]}
            optimizers[name].update(params, {name: theirs.grads[step][name]})
            arrays[name] = params[name]
        for name, found in theirs.arrays.items():
            assert same_bits(np.asarray(found), np.asarray(arrays[name])), (step, name)
