"""The files in ``tests/checkpoints``, and the script that wrote them, once, on commit 9d3eba2.

``PYTHONPATH=.:tests NUMBA_DISABLE_JIT=1 python tests/write_checkpoints.py`` at that commit wrote a checkpoint
for each row of `ROWS` and ``expected.json``: the parameters after `AFTER` further updates, as hexadecimal
bytes. The files stay as they are. Only `ROWS` changes, where an argument gets another name.
"""

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import fastopt
from fastopt import schedules

FOLDER = Path(__file__).with_name("checkpoints")
BEFORE, AFTER = 4, 3

SHAPES = {
    # Two dtypes: a matrix of float64 and a vector of float32.
    "dict": {"W": ((3, 4), "f8"), "b": ((4,), "f4")},
    "list": [((3, 4), "f8"), ((4,), "f4")],
    "packed": {"W": ((3, 4), "f8"), "V": ((2, 2), "f8"), "b": ((4,), "f4")},
    "packed list": [((3, 4), "f8"), ((4,), "f4")],
    "matrices": {"W": ((3, 4), "f8"), "V": ((4, 2), "f4")},
    # Layouts, dtypes and names that a file has to tell.
    "fortran": {"W": ((3, 4), "f8"), "V": ((4, 2), "f4")},
    "odd": {"../F": ((2, 3), "f4"), "h/0": ((3,), "f2"), "e": ((0, 3), "f8"), "s": ((), "f8"), 7: ((), "f4")},
}


def values(count: int, offset: int, modulus: int = 17) -> np.ndarray:
    """Return multiples of 1/8 between -1 and 1, the same on every machine."""
    numbers: np.ndarray = ((7 * np.arange(count) + 5 * offset) % modulus - modulus // 2) / 8
    return numbers


def arrays_for(kind: str, offset: int) -> Any:
    """Return a container of arrays of this kind, with values that depend on the offset."""
    shapes = SHAPES[kind]
    items = shapes.items() if isinstance(shapes, dict) else enumerate(shapes)
    arrays = {
        key: values(int(np.prod(shape)), offset + 3 * i).reshape(shape).astype(dtype)
        for i, (key, (shape, dtype)) in enumerate(items)
    }
    return arrays if isinstance(shapes, dict) else list(arrays.values())


def params_for(kind: str) -> Any:
    """Return the parameters before the first update."""
    params = arrays_for(kind, 2)
    if kind == "fortran":
        params = {key: np.asfortranarray(param) for key, param in params.items()}
    if kind == "odd":
        params["s"] = float(params["s"])
    return fastopt.pack(params) if kind.startswith("packed") else params


def update(optimizer: Any, kind: str, params: Any, step: int) -> None:
    """Take one step, or take in one micro-batch; step counts from 0."""
    grads = arrays_for(kind, 11 + step)
    if kind.startswith("packed"):
        packed = params.like()
        if isinstance(grads, dict):
            packed.update(grads)
        else:
            packed[:] = grads
        grads = packed
    if isinstance(optimizer.schedule, schedules.Plateau):
        optimizer.schedule.report(1.0)
    optimizer.update(params, grads)


class Row(NamedTuple):
    """A checkpoint: the rule, what the file has of its arguments, and what has to be given again."""

    rule: str
    saved: dict[str, Any]
    given: Any = dict
    kind: str = "dict"
    suffix: str = "npz"

    def make(self, module: Any = fastopt, **arguments: Any) -> Any:
        """Return the optimizer, by default as one makes it to load the file."""
        return getattr(module, self.rule)(**arguments, **self.given())


ADAM = {"lr": 0.125, "beta1": 0.75, "beta2": 0.875}
DECAY = {"weight_decay": 0.25}

ROWS = {
    # Each rule, with hyperparameters that aren't the defaults.
    "SGD": Row("SGD", {"lr": 0.125}),
    "Momentum": Row("Momentum", {"lr": 0.125, "momentum": 0.75}),
    "Nesterov": Row("Nesterov", {"lr": 0.125, "momentum": 0.75}),
    "AdaGrad": Row("AdaGrad", {"lr": 0.125, "eps": 0.125}),
    "RMSprop": Row("RMSprop", {"lr": 0.125, "decay_rate": 0.75}),
    "Adam": Row("Adam", ADAM),
    "OptimisticGD": Row("OptimisticGD", {"lr": 0.125, "alpha": 0.75, "beta": 0.5}),
    "ASGD": Row("ASGD", {"lr": 0.125, "lambd": 0.25, "alpha": 1.0, "t0": 2.0}),
    "ScheduleFreeSGD": Row("ScheduleFreeSGD", {"lr": 0.125, "beta": 0.75, "warmup_steps": 6}),
    "AdaDelta": Row("AdaDelta", {"lr": 0.5, "rho": 0.75, "eps": 0.125}),
    "RMSpropGraves": Row("RMSpropGraves", {"lr": 0.125, "decay_rate": 0.75, "momentum": 0.5, "eps": 0.125}),
    "FTRL": Row(
        "FTRL",
        {
            "lr": 0.5,
            "initial_accumulator_value": 0.25,
            "l1_regularization_strength": 0.125,
            "l2_regularization_strength": 0.25,
            "l2_shrinkage_regularization_strength": 0.125,
            "beta": 0.5,
        },
    ),
    "AdamW": Row("AdamW", ADAM | DECAY),
    "AMSGrad": Row("AMSGrad", ADAM),
    "AdaMax": Row("AdaMax", ADAM),
    "NAdam": Row("NAdam", ADAM | {"momentum_decay": 0.5}),
    "RAdam": Row("RAdam", ADAM),
    "AdaBelief": Row("AdaBelief", ADAM | {"eps": 0.0625}),
    "Yogi": Row("Yogi", ADAM | {"initial_accumulator_value": 0.25}),
    "Adan": Row("Adan", ADAM | {"beta3": 0.5} | DECAY),
    "AdEMAMix": Row("AdEMAMix", ADAM | {"beta3": 0.9375, "alpha": 2.0}),
    "ScheduleFreeAdamW": Row(
        "ScheduleFreeAdamW", {"lr": 0.125, "beta": 0.75, "warmup_steps": 6, "beta2": 0.875} | DECAY
    ),
    "Rprop": Row("Rprop", {"lr": 0.125, "eta_minus": 0.75, "eta_plus": 1.5, "step_max": 0.25}),
    "Signum": Row("Signum", {"lr": 0.125, "momentum": 0.75}),
    "Lion": Row("Lion", {"lr": 0.125, "beta1": 0.75, "beta2": 0.5} | DECAY),
    "LARS": Row("LARS", {"lr": 0.5, "momentum": 0.75, "trust_coefficient": 0.25, "eps": 0.125} | DECAY),
    "LAMB": Row("LAMB", ADAM | DECAY),
    "NovoGrad": Row("NovoGrad", ADAM | DECAY),
    "SM3": Row("SM3", {"lr": 0.125, "momentum": 0.75}, kind="packed"),
    "Adafactor": Row(
        "Adafactor", {"lr": 0.125, "beta2_decay": -1.0, "clip_threshold": 0.5, "eps2": 0.25} | DECAY
    ),
    "Prodigy": Row("Prodigy", {"lr": 0.5, "beta1": 0.75, "beta2": 0.875, "d0": 0.125} | DECAY),
    "Muon": Row("Muon", {"lr": 0.125, "momentum": 0.75, "ns_steps": 2}, kind="matrices"),
    # Containers, layouts and formats.
    "Adam, list": Row("Adam", ADAM, kind="list"),
    "Adam, packed": Row("Adam", ADAM, kind="packed"),
    "Momentum, packed list": Row("Momentum", {"momentum": 0.75}, kind="packed list"),
    "Adam, fortran": Row("Adam", ADAM, kind="fortran"),
    "LAMB, fortran": Row("LAMB", ADAM, kind="fortran"),
    "Adafactor, fortran": Row("Adafactor", {"lr": 0.125}, kind="fortran"),
    "SM3, list": Row("SM3", {"momentum": 0.75}, kind="list"),
    "Adam, odd": Row("Adam", ADAM, kind="odd"),
    "Prodigy, odd": Row("Prodigy", {"d0": 0.125, "beta2": 0.875}, kind="odd"),
    "Adam, safetensors": Row("Adam", ADAM, suffix="safetensors"),
    "NovoGrad, safetensors": Row("NovoGrad", ADAM, kind="list", suffix="safetensors"),
    # Options without a state of their own.
    "Adam, L2": Row("Adam", ADAM | DECAY),
    "Adam, decoupled": Row("Adam", ADAM | DECAY | {"decoupled": True, "decay_params": "matrices"}),
    "AdamW, coupled": Row("AdamW", ADAM | DECAY | {"decoupled": False}),
    "Momentum, clip_value": Row("Momentum", {"clip_value": 0.625, "maximize": True}),
    "Momentum, clip_each": Row("Momentum", {"clip_norm_each": 1.5}),
    "Momentum, clip_adaptive": Row("Momentum", {"clip_adaptive": 0.75}),
    "Momentum, clip_norm": Row("Momentum", {"clip_norm": 1.5}),
    "Momentum, skip": Row("Momentum", {"nonfinite": "skip"}),
    "Adam, groups": Row(
        "Adam", ADAM, lambda: {"groups": {"b": {"lr_scale": 2.0, "beta1": 0.5, "weight_decay": 0.5}}}
    ),
    # Options with a state.
    "SGD, ema": Row("SGD", {"lr": 0.125}, lambda: {"ema": 0.75}),
    "Adam, ema": Row("Adam", ADAM, lambda: {"ema": 0.75}),
    "LAMB, ema": Row("LAMB", ADAM, lambda: {"ema": 0.75}, "list"),
    "Adam, swa": Row("Adam", ADAM, lambda: {"swa": 2}),
    "Adam, swa begins": Row("Adam", ADAM, lambda: {"swa": 5}, "packed"),
    "SGD, lookahead": Row("SGD", {"lr": 0.125}, lambda: {"lookahead": (3, 0.25)}),
    "Adam, lookahead and ema": Row(
        "Adam", ADAM, lambda: {"lookahead": (3, 0.25), "ema": 0.75}, "fortran", "safetensors"
    ),
    "Prodigy, swa": Row("Prodigy", {"d0": 0.125, "beta2": 0.875}, lambda: {"swa": 1}),
    "SGD, accumulate": Row("SGD", {"lr": 0.125}, lambda: {"accumulate": 3}),
    "Adam, accumulate": Row("Adam", ADAM | {"clip_norm": 1.5}, lambda: {"accumulate": 3, "ema": 0.75}),
    "LAMB, accumulate": Row("LAMB", ADAM, lambda: {"accumulate": 3}, "list", "safetensors"),
    "Momentum, accumulate packed": Row("Momentum", {}, lambda: {"accumulate": 3}, "packed"),
    # Schedules, which the file has in the place of the learning rate.
    "Adam, Step": Row("Adam", ADAM | {"lr": schedules.Step(0.25, 2, 0.5)}),
    "SGD, Warmup": Row("SGD", {"lr": schedules.Warmup(schedules.Linear(0.5, 8, 0.125), 3, 0.0625)}),
    "SGD, Plateau": Row("SGD", {"lr": schedules.Plateau(0.5, 0.5, 2)}),
    # Muon(0.125, ns_steps=2, fallback=Momentum(0.25, 0.75)), which is a Partition today.
    "Muon, fallback": Row(
        "Partition",
        {},
        lambda: {"members": {lambda key, param: param.ndim == 2: fastopt.Muon(), "*": fastopt.Momentum()}},
    ),
}


def path_of(name: str) -> Path:
    """Return the path of a row's file."""
    return FOLDER / f"{name.replace(', ', '-').replace(' ', '_')}.{ROWS[name].suffix}"


def bytes_of(params: Any) -> dict[str, str]:
    """Return the bytes of each parameter, little-endian, as hexadecimal text."""
    items = params.items() if hasattr(params, "items") else enumerate(params)
    arrays = {str(key): np.asarray(value) for key, value in items}
    return {key: array.astype(array.dtype.newbyteorder("<")).tobytes().hex() for key, array in arrays.items()}


def main() -> None:
    """Write all files."""
    expected = {}
    for name, row in ROWS.items():
        optimizer, params = row.make(**row.saved), params_for(row.kind)
        for step in range(BEFORE):
            update(optimizer, row.kind, params, step)
        if row.saved.get("nonfinite") == "skip":
            optimizer.update(params, {key: np.full_like(param, np.nan) for key, param in params.items()})
        optimizer.save(path_of(name), params)
        for step in range(BEFORE, BEFORE + AFTER):
            update(optimizer, row.kind, params, step)
        expected[name] = {
            "iter": optimizer.iter,
            "skipped": optimizer.skipped,
            "lr": optimizer.lr,
            "params": bytes_of(params),
        }
        if optimizer.average is not None and not callable(optimizer.average):
            expected[name]["average"] = bytes_of(optimizer.average)
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(value)}" for name, value in expected.items())
    (FOLDER / "expected.json").write_text(f"{{\n{lines}\n}}\n")


if __name__ == "__main__":
    main()
