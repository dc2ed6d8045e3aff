"""The forms of CS231n and of *Neural Networks from Scratch*, with the bits of their formulas in NumPy."""

import copy
import pickle
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from cases import same_bits

import fastopt
from fastopt.adapters import cs231n, dezero, nnfs
from fastopt.optimizers.peers import LIBRARIES

SHAPE = (4, 3)


def arrays(count, shape=SHAPE):
    rng = np.random.default_rng(0)
    return [rng.standard_normal(shape) for _ in range(count)]


def adam(w, g, m, v, t, lr, beta1, beta2, eps):
    """Kingma and Ba's algorithm 1."""
    m = beta1 * m + (1 - beta1) * g
    v = beta2 * v + (1 - beta2) * g**2
    return w - lr * (m / (1 - beta1**t)) / (np.sqrt(v / (1 - beta2**t)) + eps), m, v


def squares(w, g, h, lr, keep, add, eps):
    """RMSprop, and with keep = add = 1 AdaGrad."""
    h = keep * h + add * g**2
    return w - lr * g / (np.sqrt(h) + eps), h


class TestCS231n:
    def test_sgd(self):
        w, *grads = arrays(4)
        expected = w - 1e-2 * grads[0] - 0.1 * grads[1]
        w, config = cs231n.sgd(w, grads[0])
        config["learning_rate"] = 0.1
        w, config = cs231n.sgd(w, grads[1], config)
        assert same_bits(w, expected)

    def test_sgd_momentum(self):
        w, v, *grads = arrays(5)
        ref, speed, config = w.copy(), v.copy(), {"learning_rate": 0.1, "velocity": v}
        for g in grads:
            speed = 0.9 * speed - 0.1 * g
            ref += speed
            w, config = cs231n.sgd_momentum(w, g, config)
            assert same_bits(config["velocity"], speed)
        assert same_bits(w, ref)

    def test_rmsprop(self):
        w, *grads = arrays(4)
        ref, h, config = w.copy(), np.zeros(SHAPE), None
        for g in grads:
            ref, h = squares(ref, g, h, 1e-2, 0.99, 1 - 0.99, 1e-8)
            w, config = cs231n.rmsprop(w, g, config)
            assert same_bits(config["cache"], h)
        assert same_bits(w, ref)

    def test_adam_from_a_state_that_is_there(self):
        """As the course's notebook checks it."""
        w, m, v, *grads = arrays(6)
        v = v**2
        config = {"learning_rate": 1e-2, "m": m, "v": v, "t": 5}
        ref, m, v = w.copy(), m.copy(), v.copy()
        for t, g in enumerate(grads, 6):
            ref, m, v = adam(ref, g, m, v, t, 1e-2, 0.9, 0.999, 1e-8)
            w, config = cs231n.adam(w, g, config)
            assert same_bits(config["m"], m)
            assert same_bits(config["v"], v)
            assert config["t"] == t
        assert same_bits(w, ref)

    @pytest.mark.parametrize("again", [copy.deepcopy, lambda c: pickle.loads(pickle.dumps(c))])
    def test_a_config_goes_on_from_what_it_shows(self, again):
        w, *grads = arrays(6)
        twin, config, other = w.copy(), None, None
        for i, g in enumerate(grads):
            w, config = cs231n.adam(w, g, config)
            twin, other = cs231n.adam(twin, g, other)
            other = again(other)
            if i == 2:  # what code of one's own may do
                other["m"] = other["m"] * 1.0
        assert same_bits(w, twin)
        assert same_bits(config["m"], other["m"])

    @pytest.mark.parametrize("change", [{"m": np.zeros(SHAPE)}, {"v": np.ones(SHAPE)}, {"t": 0}])
    def test_whatever_is_put_into_a_config_counts(self, change):
        w, *grads = arrays(3)
        w, config = cs231n.adam(w, grads[0])
        config.update(change)
        expected, m, v = adam(w, grads[1], config["m"], config["v"], config["t"] + 1, 1e-3, 0.9, 0.999, 1e-8)
        w, config = cs231n.adam(w, grads[1], config)
        for value, ref in ((w, expected), (config["m"], m), (config["v"], v)):
            assert same_bits(value, ref)

    def test_errors_come_before_changes(self):
        w, g = arrays(2)
        w, config = cs231n.adam(w, g)
        before = w.copy(), copy.deepcopy(config)
        with pytest.raises(ValueError, match="the gradient of 'param' has shape"):
            cs231n.adam(w, g[0], config)
        with pytest.raises(ValueError, match="lr must be at least 0"):
            cs231n.adam(w, g, config | {"learning_rate": -1})
        assert same_bits(w, before[0])
        assert config["t"] == 1
        assert same_bits(config["m"], before[1]["m"])


NNFS = {
    "Optimizer_SGD": ((0.5, 0.1, 0.9), ("momentums",)),
    "Optimizer_Adagrad": ((0.5, 0.1, 1e-3), ("cache",)),
    "Optimizer_RMSprop": ((0.5, 0.1, 1e-3, 0.8), ("cache",)),
    "Optimizer_Adam": ((0.5, 0.1, 1e-3, 0.8, 0.9), ("momentums", "cache")),
}


class TestNeuralNetworksFromScratch:
    @pytest.mark.parametrize("name", NNFS)
    def test_two_layers(self, name):
        arguments, states = NNFS[name]
        optimizer = getattr(nnfs, name)(*arguments)
        values = arrays(4)
        layers = [SimpleNamespace(weights=w, biases=w[:1].copy()) for w in values[:2]]
        refs = [[w.copy(), np.zeros(SHAPE), np.zeros(SHAPE)] for w in values[:2]]
        for step, g in enumerate([values[2], values[3], values[2] ** 2]):
            lr = 0.5 / (1 + 0.1 * step)
            optimizer.pre_update_params()
            assert optimizer.current_learning_rate == pytest.approx(lr, rel=1e-15)
            for layer, ref in zip(layers, refs, strict=True):
                layer.dweights, layer.dbiases = g, g[:1]
                optimizer.update_params(layer)
                if name == "Optimizer_SGD":
                    ref[1] = 0.9 * ref[1] - lr * g
                    ref[0] = ref[0] + ref[1]
                elif name == "Optimizer_Adam":
                    ref[:] = adam(ref[0], g, ref[1], ref[2], step + 1, lr, 0.8, 0.9, 1e-3)
                else:
                    keep, add = (0.8, 1 - 0.8) if name == "Optimizer_RMSprop" else (1, 1)
                    ref[:2] = squares(ref[0], g, ref[1], lr, keep, add, 1e-3)
            optimizer.post_update_params()
            if step == 1:  # as a model is saved
                optimizer, layers = copy.deepcopy((optimizer, layers))
        assert optimizer.iterations == 3
        for layer, ref in zip(layers, refs, strict=True):
            assert same_bits(layer.weights, ref[0])
            assert same_bits(layer.biases, ref[0][:1])
            for state, expected in zip(states, ref[1:], strict=False):
                assert same_bits(getattr(layer, f"weight_{state}"), expected)
                assert same_bits(getattr(layer, f"bias_{state}"), expected[:1])

    def test_defaults_are_the_books(self):
        made = {name: vars(getattr(nnfs, name)()) for name in nnfs.__all__}
        rates = {name: one["learning_rate"] for name, one in made.items()}
        assert rates == {
            "Optimizer_SGD": 1.0,
            "Optimizer_Adagrad": 1.0,
            "Optimizer_RMSprop": 0.001,
            "Optimizer_Adam": 0.001,
        }
        assert all(one["epsilon"] == 1e-7 for name, one in made.items() if name != "Optimizer_SGD")
        assert (made["Optimizer_RMSprop"]["rho"], made["Optimizer_SGD"]["momentum"]) == (0.9, 0)


@pytest.mark.parametrize("name", NNFS)
def test_a_pickled_model_of_the_book_needs_no_fastopt(name):
    optimizer = getattr(nnfs, name)(*NNFS[name][0])
    w, g = arrays(2)
    layer = SimpleNamespace(weights=w, biases=w[:1].copy(), dweights=g, dbiases=g[:1])
    optimizer.update_params(layer)
    assert b"fastopt" not in pickle.dumps(layer)
    states = [f"{kind}_{state}" for state in NNFS[name][1] for kind in ("weight", "bias")]
    assert sorted(vars(layer)) == sorted(["weights", "biases", "dweights", "dbiases", *states])


def test_a_config_has_nothing_but_the_courses_entries():
    w, g = arrays(2)
    _, config = cs231n.adam(w, g)
    assert sorted(config) == ["beta1", "beta2", "epsilon", "learning_rate", "m", "t", "v"]


@pytest.mark.parametrize("size", [1, 3000])
def test_plain_descent_of_any_size(size):
    """Small arrays are left to NumPy, which is sooner done."""
    w, g = np.linspace(-1, 1, size), np.linspace(2, 5, size)
    expected = w - 0.1 * g
    assert same_bits(cs231n.sgd(w, g, {"learning_rate": 0.1})[0], expected)
    layer = SimpleNamespace(weights=w.copy(), biases=w[:1].copy(), dweights=g, dbiases=g[:1])
    nnfs.Optimizer_SGD(0.1).update_params(layer)
    assert same_bits(layer.weights, expected - 0.1 * g)
    assert same_bits(layer.biases, expected[:1] - 0.1 * g[:1])


@pytest.mark.parametrize("size", [3, 300])
def test_wrong_gradients_change_nothing_at_any_size(size):
    w, before = np.ones((size, size)), np.ones((size, size))
    with pytest.raises(ValueError, match="the gradient of 'param' has shape"):
        cs231n.sgd(w, np.ones(size))
    layer = SimpleNamespace(weights=w, biases=np.zeros((1, size)), dweights=w.copy(), dbiases=np.ones((4, 4)))
    with pytest.raises(ValueError, match=r"the gradient of 'param\[1\]' has shape"):
        nnfs.Optimizer_SGD().update_params(layer)
    layer.dbiases, layer.biases.flags.writeable = np.ones((1, size)), False
    with pytest.raises(ValueError, match="read-only"):
        nnfs.Optimizer_SGD().update_params(layer)
    assert same_bits(w, before)


@pytest.mark.parametrize("library", LIBRARIES)
def test_warmup_knows_what_an_adapter_takes(library):
    if library == "dezero":
        own = [dezero.SGD, dezero.MomentumSGD, dezero.AdaGrad, dezero.AdaDelta, dezero.Adam]
        assert [rule.kernel for rule in own] == [rule.kernel for rule in LIBRARIES[library]]
        return
    source = (Path(fastopt.__file__).parent / "adapters" / f"{library}.py").read_text()
    taken = {name.replace("_", "") for name in re.findall(r"\brules\.(\w+)", source)}
    assert taken == {rule.__name__.lower() for rule in LIBRARIES[library]}


class TestNnfsStates:
    def layer(self, n=3, dtype=float):
        arrays = {"weights": (n, 2), "biases": (1, 2), "dweights": (n, 2), "dbiases": (1, 2)}
        return SimpleNamespace(**{name: np.ones(shape, dtype) for name, shape in arrays.items()})

    def test_adam_after_momentum_begins_anew(self):
        """The book's looks for the cache, and makes both."""
        layer, fresh = self.layer(), self.layer()
        sgd = nnfs.Optimizer_SGD(0.5, momentum=0.9)
        sgd.update_params(layer)
        fresh.weights, fresh.biases = layer.weights.copy(), layer.biases.copy()
        nnfs.Optimizer_Adam().update_params(layer)
        nnfs.Optimizer_Adam().update_params(fresh)
        assert same_bits(layer.weights, fresh.weights)
        assert same_bits(layer.bias_momentums, fresh.bias_momentums)

    def test_half_a_state_is_named(self):
        layer = self.layer()
        nnfs.Optimizer_Adagrad().update_params(layer)
        del layer.bias_cache
        with pytest.raises(AttributeError, match="bias_cache"):
            nnfs.Optimizer_Adagrad().update_params(layer)

    def test_layers_with_slots(self):
        class Layer:
            __slots__ = ("bias_cache", "biases", "dbiases", "dweights", "weight_cache", "weights")

        layer = Layer()
        for name, array in vars(self.layer()).items():
            setattr(layer, name, array)
        nnfs.Optimizer_Adagrad().update_params(layer)
        assert layer.weight_cache.all()

    @pytest.mark.parametrize("n", [3, 3000])
    def test_biases_that_cannot_be_updated_leave_the_weights(self, n):
        layer = self.layer(n)
        layer.biases = np.ones((1, 2), int)
        with pytest.raises(TypeError):
            nnfs.Optimizer_SGD(0.5).update_params(layer)
        assert (layer.weights == 1).all()


@pytest.mark.parametrize("n", [3, 3000])
def test_a_rate_below_0_is_refused_at_any_size(n):
    w = np.ones(n)
    with pytest.raises(ValueError, match="lr must be at least 0"):
        cs231n.sgd(w, np.ones(n), {"learning_rate": -1.0})
    assert (w == 1).all()
