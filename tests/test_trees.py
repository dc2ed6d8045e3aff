"""Nested containers and gradients under other names."""

from collections import namedtuple
from types import SimpleNamespace

import numpy as np
import pytest

import fastopt

Pair = namedtuple("Pair", "W b")


def tree(seed=0):
    rng = np.random.default_rng(seed)
    layers = [{"W": rng.standard_normal((2, 3)), "b": rng.standard_normal(3)} for _ in range(2)]
    return {"layers": layers, "head": Pair(rng.standard_normal((3, 2)), rng.standard_normal(2)), "scale": 0.5}


PATHS = ["layers.0.W", "layers.0.b", "layers.1.W", "layers.1.b", "head.0", "head.1", "scale"]


def test_paths_and_identity():
    nested = tree()
    flat = fastopt.flatten(nested)
    assert list(flat) == PATHS
    assert flat["layers.1.W"] is nested["layers"][1]["W"]
    assert flat["head.1"] is nested["head"].b


def test_a_training_of_nested_containers():
    nested, twin = tree(), fastopt.flatten(tree())
    optimizer, other = fastopt.Adam(ema=0.9), fastopt.Adam(ema=0.9)
    params = fastopt.flatten(nested)
    for seed in range(1, 4):
        optimizer.update(params, fastopt.flatten(tree(seed)))
        other.update(twin, fastopt.flatten(tree(seed)))
    # Arrays were updated where they are; what is a number in a container has its new value in the flat dict.
    assert nested["layers"][0]["W"].tobytes() == twin["layers.0.W"].tobytes()
    new = fastopt.unflatten(optimizer.average(params), nested)
    assert [type(part) for part in (new, new["layers"], new["head"])] == [dict, list, Pair]
    assert new["head"].W.tobytes() == other.average(twin)["head.0"].tobytes()
    assert fastopt.unflatten(params, nested)["scale"] == twin["scale"]


def test_layers_with_attributes():
    w, g = np.ones((2, 3)), np.full((2, 3), 2.0)
    layers = [SimpleNamespace(W=w, b=np.zeros(3), dW=g, db=np.ones(3)), SimpleNamespace(mask=None)]
    flat = fastopt.flatten(layers, ["W", "b"])
    with pytest.raises(TypeError, match="parameter '1' is a types.SimpleNamespace"):
        fastopt.SGD().update(flat, dict(flat))
    params = fastopt.flatten({"affine": layers[0], "off": None}, ["W", "b"])
    grads = fastopt.flatten({"affine": layers[0]}, {"W": "dW", "b": "db"})
    assert list(params) == list(grads) == ["affine.W", "affine.b"]
    assert params["affine.W"] is w
    assert grads["affine.W"] is g
    fastopt.SGD(0.5).update(params, grads)
    assert w.tolist() == [[0.0] * 3] * 2


def test_gradients_under_other_names():
    grads = {"dW1": np.ones(2), "db1": np.ones(1), "loss": 0.5, "d": 1.0}
    assert list(fastopt.gradients_of(grads, "d{}")) == ["W1", "b1"]
    assert fastopt.gradients_of(grads, "d{}")["W1"] is grads["dW1"]
    assert list(fastopt.gradients_of({"W/grad": 1, "W": 2}, "{}/grad")) == ["W"]


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: fastopt.gradients_of({"W": 1}, "d{}"),
            ValueError,
            "no gradient has a name like",
        ),
        (lambda: fastopt.gradients_of({"W": 1}, "d"), ValueError, r"pattern must have {} once"),
        (lambda: fastopt.gradients_of([1], "d{}"), TypeError, "grads must be a dict of gradients by name"),
        (
            lambda: fastopt.flatten({"a.b": 1.0, "a": {"b": 2.0}}),
            ValueError,
            "two arrays have the path",
        ),
        (
            lambda: fastopt.flatten([], "W"),
            TypeError,
            "attributes must be a list of names",
        ),
        (lambda: fastopt.unflatten({"a": 1}, {"b": 2.0}), KeyError, r"there is no value for 'b' in \['a'\]"),
    ],
)
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call()
