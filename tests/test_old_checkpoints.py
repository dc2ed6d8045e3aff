"""Checkpoints written by commit 9d3eba2: each still loads, and the run goes on with the same bits."""

import json
from dataclasses import dataclass

import numpy as np
import pytest
from uncompiled import COMPILES, check_uncompiled
from write_checkpoints import AFTER, BEFORE, FOLDER, ROWS, SHAPES, bytes_of, params_for, path_of, update

import fastopt
from fastopt import kernels

EXPECTED = json.loads((FOLDER / "expected.json").read_text())
# The compiler takes about a second for each rule and dtype, so that its own process has these only.
COMPILED = ["SGD, lookahead", "Adam, ema", "Adam, accumulate", "Adam, odd", "Adam, packed"]


def resumed(name):
    """Return an optimizer and parameters as the file has them; what is made again has other values."""
    if path_of(name).suffix == ".safetensors":
        pytest.importorskip("safetensors")
    row = ROWS[name]
    optimizer, params = row.make(), params_for(row.kind)
    optimizer.load(path_of(name), params)
    return optimizer, params


def check_bytes(name, found, expected):
    assert found.keys() == expected.keys()
    for key in found:
        if name.startswith("Muon"):  # the bits of a product of matrices depend on the machine
            dtype = np.dtype(SHAPES[ROWS[name].kind][key][1])
            ours, theirs = (np.frombuffer(bytes.fromhex(side[key]), dtype) for side in (found, expected))
            np.testing.assert_allclose(ours, theirs, rtol=1e-12 if dtype == "f8" else 1e-4)
        else:
            assert found[key] == expected[key], key


@pytest.mark.parametrize("name", COMPILED if COMPILES else ROWS)
def test_an_old_checkpoint_goes_on_with_the_same_bits(name):
    optimizer, params = resumed(name)
    row, expected = ROWS[name], EXPECTED[name]
    assert optimizer.skipped == expected["skipped"]
    for step in range(BEFORE, BEFORE + AFTER):
        update(optimizer, row.kind, params, step)
    check_bytes(name, bytes_of(params), expected["params"])
    if "average" in expected:
        check_bytes(name, bytes_of(optimizer.average(params)), expected["average"])
    first = next(iter(optimizer.members.values())) if row.rule == "Partition" else optimizer
    assert (optimizer.iter, first.lr) == (expected["iter"], expected["lr"])


if COMPILES:

    def test_all_old_checkpoints_without_the_compiler():
        check_uncompiled(__file__)


@dataclass(eq=False)
class Own(fastopt.Optimizer):
    """A rule of the user's, whose hyperparameter and state have names that rules of fastopt once had."""

    kernel = kernels.optimistic_gd
    lr: float = fastopt.hyperparameter(0.5)
    d: float = fastopt.hyperparameter(1.0)
    before = fastopt.State(lambda self, param, grad: grad)

    def scalars(self, t):
        return 1 + self.d, self.d, self.lr


def test_names_that_rules_once_had_are_free():
    optimizer, again, params = Own(d=0.25), Own(), [np.ones(3)]
    optimizer.update(params, [np.full(3, 0.5)])
    again.load_state_dict(optimizer.state_dict())
    assert again.d == 0.25
    assert again.before[0].tolist() == [0.5] * 3


@pytest.mark.parametrize(("part", "old", "new"), [
    ("hyperparameters", "clip_each", "clip_norm_each"), ("state", "before", "prev_grad"),
])  # fmt: skip
def test_an_old_name_beside_the_new_one_is_refused(part, old, new):
    optimizer = fastopt.OptimisticGD()
    optimizer.update([np.ones(3)], [np.ones(3)])
    state = optimizer.state_dict()
    state[part][old] = state[part][new]
    with pytest.raises(ValueError, match=f"its {part[:5]}.*'{old}'"):
        optimizer.load_state_dict(state)


def test_every_file_has_a_row():
    files = {path.name for path in FOLDER.iterdir()}
    assert files == {path_of(name).name for name in ROWS} | {"expected.json"}
    assert ROWS.keys() == EXPECTED.keys()
