"""numpy-ml's own layers, trained by its own optimizers and by fastopt's."""

# ruff: noqa: E402

import collections
import collections.abc
import pickle

import numpy as np
import pytest
from cases import same_bits

vars(collections).setdefault("Hashable", collections.abc.Hashable)  # numpy-ml 0.1.2 looks for it there
layers = pytest.importorskip("numpy_ml.neural_nets.layers")

from numpy_ml.neural_nets import optimizers, schedulers

from fastopt.adapters import numpy_ml

RULES = {
    "SGD": {"momentum": 0.9},
    "AdaGrad": {"eps": 1e-3},
    "RMSProp": {"decay": 0.8},
    "Adam": {"decay1": 0.8, "decay2": 0.9},
}
X = np.random.default_rng(0).standard_normal((8, 5))
Y = np.random.default_rng(1).standard_normal((8, 3))


def network(optimizer):
    """Return two layers, of which each has its own optimizer."""
    np.random.seed(0)  # noqa: NPY002 - the generator that numpy-ml uses
    first = layers.FullyConnected(n_out=7, act_fn="tanh", optimizer=optimizer.copy())
    return [first, layers.FullyConnected(n_out=3, optimizer=optimizer.copy())]


def train(net, n_steps=5):
    """Train and return all that there is: parameters, and the caches of the optimizers."""
    for _ in range(n_steps):
        out = X
        for layer in net:
            out = layer.forward(out)
        grad, loss = (out - Y) / len(Y), float(((out - Y) ** 2).mean())
        for layer in reversed(net):
            grad = layer.backward(grad)
        for layer in net:
            layer.update(loss)
    return net


def check(net, expected):
    for layer, other in zip(net, expected, strict=True):
        assert layer.parameters.keys() == other.parameters.keys()
        for name, value in other.parameters.items():
            assert same_bits(layer.parameters[name], value), name
        ours, theirs = layer.optimizer, other.optimizer
        assert ours.cur_step == theirs.cur_step
        assert ours.hyperparameters == theirs.hyperparameters
        assert str(ours) == str(theirs)
        for name, value in theirs.cache.items():
            values = value if isinstance(value, dict) else {"": value}
            own = ours.cache[name] if isinstance(value, dict) else {"": ours.cache[name]}
            assert all(np.array_equal(own[key], values[key]) for key in values), name


@pytest.mark.parametrize("options", [{}, {"clip_norm": 0.1}, {"lr_scheduler": "noam"}])
@pytest.mark.parametrize("name", RULES)
def test_layers_are_trained_with_the_same_bits(name, options):
    options = dict(options)
    if "lr_scheduler" in options:
        options["lr_scheduler"] = schedulers.NoamScheduler(model_dim=16, warmup_steps=3)
    arguments = {"lr": 0.05, **RULES[name], **options}
    net = train(network(getattr(numpy_ml, name)(**arguments)))
    check(net, train(network(getattr(optimizers, name)(**arguments))))
    assert isinstance(net[0].optimizer, getattr(optimizers, name))


def test_a_layer_takes_the_optimizer_that_it_is_given():
    layer = layers.FullyConnected(n_out=3, optimizer=numpy_ml.Adam())
    assert type(layer.optimizer) is numpy_ml.Adam
    assert "Adam(lr=0.001" in str(layer.optimizer)


def test_set_params():
    ours, theirs = numpy_ml.SGD(), optimizers.SGD()
    for one in (ours, theirs):
        one.set_params({"lr": 0.5, "momentum": 0.5, "lr_scheduler": "ConstantScheduler(lr=0.5)"})
    net, expected = train(network(ours)), train(network(theirs))
    check(net, expected)
    for one in (net, expected):
        one[0].optimizer.set_params(cache_dict={"W": np.ones((5, 7))})
    check(train(net), train(expected))


def test_parameters_and_states_are_updated_in_place():
    optimizer, param = numpy_ml.Adam(), X.copy()
    assert optimizer(param, X, "W") is param
    mean = optimizer.cache["W"]["mean"]
    optimizer(param, X, "W")
    assert optimizer.cache["W"]["mean"] is mean


@pytest.mark.parametrize("name", RULES)
def test_a_network_is_pickled_and_goes_on(name):
    net = train(network(getattr(numpy_ml, name)(**RULES[name])))
    again = pickle.loads(pickle.dumps([layer.optimizer for layer in net]))
    assert [type(one) for one in again] == [getattr(numpy_ml, name)] * 2
    twin, grad = net[0].parameters["W"].copy(), np.ones((5, 7))
    net[0].optimizer(net[0].parameters["W"], grad, "W")
    again[0](twin, grad, "W")
    assert same_bits(net[0].parameters["W"], twin)


def test_what_there_is_not():
    with pytest.raises(AttributeError, match="has no attribute 'Lion'"):
        _ = numpy_ml.Lion
