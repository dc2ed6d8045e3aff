"""DeZero: its examples with the import changed, and what its own optimizers stumble over."""

# ruff: noqa: E402

import copy
import gc
import pickle
from itertools import pairwise

import numpy as np
import pytest
from cases import same_bits

vars(np).setdefault("int", int)  # DeZero 0.0.13 wants it, and NumPy has had none since 1.24
pytest.importorskip("dezero")

import dezero.functions as F
import dezero.layers as L
from dezero import Layer, Model, Parameter, Variable, datasets, optimizers
from dezero.models import MLP

from fastopt import Lion
from fastopt.adapters import dezero as fast
from fastopt.optimizers import __all__ as RULES

# Losses may differ by this where DeZero mixes dtypes (under NumPy 2 its layers of float32 have weights of
# float64 and biases of float32); where all is float64, the same order of operations gives the same bits.
BOUND = 1e-8

ARGUMENTS = {
    "SGD": [0.1],
    "MomentumSGD": [0.1, 0.8],
    "AdaGrad": [0.01, 1e-6],
    "AdaDelta": [0.9, 1e-5],
    "Adam": [0.01, 0.8, 0.9, 1e-6],
}


def seed():
    np.random.seed(0)  # noqa: NPY002 - the generator that DeZero uses


def named(layer):
    """Return the names and the parameters of a layer."""
    walk = fast.Walk(layer)
    return [*zip(walk.names, walk.params(), strict=True)]


class Net(Model):
    """Two layers in float64."""

    def __init__(self, sizes):
        super().__init__()
        self.first = L.Linear(sizes[0], dtype=np.float64)
        self.last = L.Linear(sizes[1], dtype=np.float64)

    def forward(self, x):
        return self.last(F.sigmoid(self.first(x)))


def digits(optimizer, model=MLP, hooks=()):
    """Train as the book's example of MNIST does, on smaller digits; give the losses."""
    load_digits = pytest.importorskip("sklearn.datasets").load_digits
    x, t = load_digits(return_X_y=True)
    seed()
    net = model((30, 10))
    optimizer.setup(net)
    for hook in hooks:
        optimizer.add_hook(hook)
    losses = []
    for step in range(60):
        batch = slice(step % 15 * 100, step % 15 * 100 + 100)
        loss = F.softmax_cross_entropy(net(x[batch] / 16), t[batch])
        net.cleargrads()
        loss.backward()
        optimizer.update()
        losses.append(loss.data.item())
    return losses


@pytest.mark.parametrize("rule", ARGUMENTS)
@pytest.mark.parametrize("defaults", [True, False], ids=["defaults", "arguments"])
def test_digits(rule, defaults):
    arguments = [] if defaults else ARGUMENTS[rule]
    ref, comp = (digits(getattr(module, rule)(*arguments)) for module in (optimizers, fast))
    assert ref[-1] < ref[0]
    np.testing.assert_allclose(comp, ref, rtol=BOUND)


@pytest.mark.parametrize("rule", ARGUMENTS)
def test_digits_in_float64(rule):
    ref, comp = (digits(getattr(module, rule)(*ARGUMENTS[rule]), Net) for module in (optimizers, fast))
    assert ref == comp


def test_spiral():
    def train(module):
        seed()
        net = MLP((10, 3))
        optimizer = module.SGD(1.0).setup(net)
        x, t = (np.array(values) for values in zip(*datasets.Spiral(train=True), strict=True))
        losses = []
        for step in range(100):
            batch = np.arange(30) + step % 10 * 30
            loss = F.softmax_cross_entropy(net(x[batch]), t[batch])
            net.cleargrads()
            loss.backward()
            optimizer.update()
            losses.append(loss.data.item())
        return losses

    ref, comp = train(optimizers), train(fast)
    np.testing.assert_allclose(comp, ref, rtol=1e-4)
    assert np.mean(ref[-10:]) < np.mean(ref[:10])


def test_lstm():
    class Recurrent(Model):
        def __init__(self):
            super().__init__()
            self.rnn = L.LSTM(8)
            self.fc = L.Linear(1)

        def forward(self, x):
            return self.fc(self.rnn(x))

    def train(module):
        seed()
        net = Recurrent()
        optimizer = module.Adam().setup(net)
        wave = np.sin(np.linspace(0, 12, 121)).reshape(-1, 1, 1)
        losses = []
        for _ in range(2):
            net.rnn.reset_state()
            loss = 0
            for i, (x, t) in enumerate(pairwise(wave), 1):
                loss = loss + F.mean_squared_error(net(x), t)
                if i % 15 == 0:  # the first forward pass makes the weights
                    net.cleargrads()
                    loss.backward()
                    loss.unchain_backward()
                    optimizer.update()
                    losses.append(loss.data.item())
                    loss = 0
        return losses

    ref, comp = train(optimizers), train(fast)
    np.testing.assert_allclose(comp, ref, rtol=BOUND)
    assert ref[8] < ref[0]


@pytest.mark.parametrize("source", [fast, optimizers], ids=["fastopt's hooks", "DeZero's hooks"])
def test_hooks(source):
    def hooks(module):
        return [module.WeightDecay(1e-2), module.ClipGrad(0.2)]

    ref = digits(optimizers.Adam(), Net, hooks(optimizers))
    comp = digits(fast.Adam(), Net, hooks(source))
    np.testing.assert_allclose(comp, ref, rtol=1e-13)
    assert ref != digits(optimizers.Adam(), Net)


def trained(optimizer, steps=3, net=None):
    """Take steps on a small network; give it."""
    rng = np.random.default_rng(0)
    if net is None:
        seed()
        net = Net((4, 2))
    optimizer.setup(net)
    for _ in range(steps):
        loss = F.mean_squared_error(net(rng.standard_normal((5, 3))), rng.standard_normal((5, 2)))
        net.cleargrads()
        loss.backward()
        optimizer.update()
    return net


@pytest.mark.parametrize("what", ["layer", "parameter"])
def test_frozen_parameters_stay(what):
    net = trained(fast.Adam(), 1)
    frozen = net.first if what == "layer" else net.first.W
    before = {name: p.data.copy() for name, p in named(net)}
    optimizer = fast.Adam()
    optimizer.add_hook(fast.FreezeParam(frozen))
    trained(optimizer, 2, net)
    still = {name for name, p in named(net) if same_bits(p.data, before[name])}
    assert still == ({"first/W", "first/b"} if what == "layer" else {"first/W"})


def test_state_by_name_and_late_parameters():
    optimizer = fast.Adam()
    net = trained(optimizer)
    assert optimizer.m.keys() == {"first/W", "first/b", "last/W", "last/b"}
    net.extra = Parameter(np.ones(3))
    optimizer.update()
    assert optimizer.m.keys() == {"first/W", "first/b", "last/W", "last/b"}
    net.extra.grad = Variable(np.ones(3))
    optimizer.update()
    assert "extra" in optimizer.m
    assert optimizer.iter == 5
    assert (net.extra.data < 1).all()


def test_names_do_not_depend_on_the_order_of_a_set_and_each_parameter_is_updated_once():
    for order in ["c", "a", "b", "tied"], ["tied", "b", "a", "c"]:
        net = Layer()
        for name in "abc":
            setattr(net, name, Parameter(np.ones(2)))
            getattr(net, name).grad = Variable(np.ones(2))
        net.tied = net.b
        net._params = order  # which is a set
        optimizer = fast.MomentumSGD().setup(net)
        optimizer.update()
        assert optimizer.v.keys() == {"a", "b", "c"}
        assert [net.a.data[0], net.b.data[0], net.c.data[0]] == [0.99] * 3


@pytest.mark.parametrize("hooks", [False, True], ids=["no hooks", "hooks"])
def test_gradients_of_every_kind(hooks):
    """Read-only, of stride 0, of another dtype, shared: each counts as its values do and stays as it is."""
    shared = Variable(np.arange(4.0))
    readonly = np.arange(4.0)
    readonly.flags.writeable = False
    grads = [Variable(readonly), Variable(np.broadcast_to(3.0, 4)), Variable(np.arange(4, dtype="f4"))]
    grads += [shared, shared, None]
    net, copy = Model(), Model()
    for model, plain in ((net, False), (copy, True)):
        for i, grad in enumerate(grads):
            p = Parameter(np.ones(4))
            p.grad = grad if grad is None or not plain else Variable(np.array(grad.data, float))
            setattr(model, f"p{i}", p)
    values = [None if grad is None else grad.data.copy() for grad in grads]
    comp, ref = fast.MomentumSGD(0.1).setup(net), optimizers.MomentumSGD(0.1).setup(copy)
    if hooks:
        comp.add_hook(fast.WeightDecay(0.1))
        ref.add_hook(optimizers.WeightDecay(0.1))
    comp.update()
    ref.update()
    for i, (grad, value) in enumerate(zip(grads, values, strict=True)):
        assert same_bits(getattr(net, f"p{i}").data, getattr(copy, f"p{i}").data)
        assert grad is None or same_bits(grad.data, value)


def test_errors_name_the_parameter_before_anything_has_changed():
    optimizer = fast.Adam()
    net = trained(optimizer, 1)
    before = {name: p.data.copy() for name, p in named(net)}
    net.last.W.grad = Variable(np.ones(7))
    with pytest.raises(ValueError, match="the gradient of 'last/W' has shape"):
        optimizer.update()
    net.last.W.grad = None
    net.number = Parameter(np.ones(()))
    net.number.data, net.number.grad = np.float64(1), Variable(np.ones(()))
    with pytest.raises(TypeError, match="parameter 'number' is a number in a container"):
        optimizer.update()
    assert all(same_bits(net_p.data, before[name]) for name, net_p in named(net) if name in before)
    assert optimizer.iter == 1
    with pytest.raises(RuntimeError, match=r"setup\(model\) first"):
        fast.SGD().update()


def test_hyperparameters_and_checkpoints(tmp_path):
    optimizer = fast.Adam(alpha=0.5)
    assert optimizer.alpha == optimizer.lr == 0.5
    optimizer.alpha = 0.25
    assert optimizer.lr == 0.25
    net = trained(optimizer)
    optimizer.save(tmp_path / "state.npz")
    net.save_weights(tmp_path / "weights.npz")
    other, twin = fast.Adam(), trained(fast.SGD(0))
    other.load(tmp_path / "state.npz")
    twin.load_weights(tmp_path / "weights.npz")
    trained(optimizer, 3, net)
    trained(other, 3, twin)
    ref, comp = dict(named(net)), dict(named(twin))
    assert all(same_bits(p.data, comp[name].data) for name, p in ref.items())


def test_all_other_rules_are_there():
    assert set(fast.__all__) == {*RULES, "MomentumSGD", "WeightDecay", "ClipGrad", "FreezeParam"}
    for name in fast.__all__:
        assert getattr(fast, name).__name__ == name
    assert (fast.Lion(0.5).lr, fast.AdamW().weight_decay) == (0.5, 0.01)
    net = trained(fast.Lion(0.01), 1)
    plain = trained(optimizers.SGD(0), 1)
    rule = Lion(0.01)
    params = {name: p.data for name, p in named(plain)}
    rule.update(params, {name: p.grad.data for name, p in named(net)})
    assert all(same_bits(p.data, params[name]) for name, p in named(net))
    with pytest.raises(AttributeError, match=r"module 'fastopt\.adapters\.dezero' has no attribute 'Eve'"):
        fast.Eve  # noqa: B018


def two_models():
    """Return two models with the same names and values, with gradients."""
    nets = []
    for _ in range(2):
        seed()
        net = Net((3, 2))
        net(np.ones((2, 4)))
        for _, param in named(net):
            param.grad = Variable(np.ones_like(param.data))
        nets.append(net)
    return nets


@pytest.mark.parametrize("module", [optimizers, fast])
def test_another_model_begins_anew(module):
    first, second = two_models()
    optimizer = module.MomentumSGD(0.1).setup(first)
    optimizer.update()
    optimizer.update()
    optimizer.setup(second)
    optimizer.update()
    once = module.MomentumSGD(0.1).setup(two_models()[0])
    once.update()
    for (_, param), (_, expected) in zip(named(second), named(once.target), strict=True):
        assert same_bits(param.data, expected.data)
    optimizer.target = first  # which goes on where it was
    optimizer.update()
    speed = sum(0.1 * 0.9**k for k in range(3))
    weights = dict(named(first))["first/b"].data
    assert weights == pytest.approx([-0.1 - 0.19 - speed] * 3)


def test_the_state_of_a_model_that_is_gone_is_dropped():
    first, second = two_models()
    optimizer = fast.MomentumSGD(0.1).setup(first)
    optimizer.update()
    del first
    optimizer.setup(second)
    gc.collect()
    optimizer.update()
    assert sorted(optimizer.v) == sorted(name for name, _ in named(second))
    assert optimizer.v["first/b"].tolist() == pytest.approx([-0.1] * 3)


def test_renamed_and_replaced_layers():
    net, other = two_models()
    optimizer = fast.MomentumSGD(0.1).setup(net)
    optimizer.update()
    net.head = net.last  # under a new name, and another layer under the old one
    net.last = other.last
    optimizer.update()
    assert net.head.b.data.tolist() == pytest.approx([-0.1 - 0.19] * 2)
    assert net.last.b.data.tolist() == pytest.approx([-0.1] * 2)
    net.last.b = Parameter(np.zeros(2))
    net.last.b.grad = Variable(np.ones(2))
    optimizer.update()
    assert net.last.b.data.tolist() == pytest.approx([-0.1] * 2)


def test_a_rule_of_ones_own_has_dezeros_base():
    class Signs(fast.Optimizer):
        def update_one(self, param):
            param.data -= 0.5 * np.sign(param.grad.data)

    (net, _), optimizer = two_models(), Signs()
    optimizer.setup(net).update()
    assert dict(named(net))["last/b"].data.tolist() == [-0.5, -0.5]


def test_the_number_of_steps_the_hooks_and_the_model():
    net, _ = two_models()
    optimizer = fast.Adam()
    assert (optimizer.t, optimizer.hooks, optimizer.target) == (0, [], None)
    optimizer.setup(net).update()
    assert (optimizer.t, optimizer.target) == (1, net)


def small(*shapes):
    """Return a model with parameters p0, p1, ... and gradients of 1."""
    model = Layer()
    for i, shape in enumerate(shapes):
        param = Parameter(np.zeros(shape))
        param.grad = Variable(np.ones(shape))
        setattr(model, f"p{i}", param)
    return model


def test_adam_has_one_t_for_all_parameters():
    """As DeZero's, so that one that has no gradient at first has another correction of the bias."""
    ends = []
    for module in (optimizers, fast):
        model = small(1, 1)
        optimizer = module.Adam(alpha=0.1).setup(model)
        for step in range(4):
            model.cleargrads()
            for i in (0, 1) if step == 3 else (0,):
                getattr(model, f"p{i}").grad = Variable(np.ones(1))
            optimizer.update()
        ends.append((model.p0.data.item(), model.p1.data.item()))
    assert ends[0] == ends[1]


@pytest.mark.parametrize("keep", [True, False])
def test_a_state_that_is_loaded_is_the_next_models(keep, tmp_path):
    first = small(1)
    optimizer = fast.MomentumSGD(0.1).setup(first)
    optimizer.update()
    optimizer.update()
    optimizer.save(tmp_path / "a.npz")
    second = small(1)
    optimizer.setup(second)
    if not keep:
        del first
        gc.collect()
    optimizer.load(tmp_path / "a.npz")
    optimizer.update()
    np.testing.assert_allclose(second.p0.data, -0.271)


@pytest.mark.parametrize("copies", [copy.deepcopy, lambda pair: pickle.loads(pickle.dumps(pair))])
def test_a_copy_has_the_copied_model_and_the_hooks(copies):
    model = small(1)
    model.p0.data[:] = 10
    optimizer = fast.MomentumSGD(0.1).setup(model)
    optimizer.add_hook(fast.WeightDecay(1.0))
    optimizer.update()
    other, own = copies((model, optimizer))
    assert own.target is other
    other.p0.grad = Variable(np.ones(1))
    model.p0.grad = Variable(np.ones(1))
    optimizer.update()
    own.update()
    assert same_bits(other.p0.data, model.p0.data)
    own.hooks = []
    assert own.hooks == []


def test_a_model_whose_parameters_change_places_is_looked_at_again():
    model = small(1, 1)
    model._params.discard("p1")
    optimizer = fast.SGD(1.0).setup(model)
    optimizer.update()
    model._params.discard("p0")
    model._params.add("p1")
    optimizer.update()
    assert (model.p0.data.item(), model.p1.data.item()) == (-1, -1)
    model.p1 = small(2)  # a parameter becomes a layer
    optimizer.update()
    assert model.p1.p0.data.tolist() == [-1, -1]


def test_an_update_of_single_parameters_is_refused():
    class Clipped(fast.SGD):
        def update_one(self, param):
            raise AssertionError

    with pytest.raises(TypeError, match=r"Clipped.update_one isn't called .* a subclass of fastopt.adapters"):
        Clipped(0.1)
