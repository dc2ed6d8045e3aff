"""The networks and programs of the study of optimizer state in low precision."""

import numpy as np
import pytest
from test_demo import slope

from fastopt.demo.precision.networks import CharLSTM, SimpleConvNet, SkipGram
from fastopt.demo.precision.programs import CHARACTERS, PROGRAMS, RULES, additions


def numbers(*shape, below=None, seed=0):
    rng = np.random.default_rng([seed, *shape])
    return rng.standard_normal(shape) if below is None else rng.integers(below, size=shape)


NETWORKS = {
    "images": (SimpleConvNet(4, 3, 3, 5, 4, "float64"), numbers(6, 16), numbers(6, below=4)),
    "words": (SkipGram(7, 3, "float64"), numbers(9, below=7), numbers(9, 4, below=7)),
    "characters": (CharLSTM(5, 3, 4, "float64"), numbers(6, 2, below=5), numbers(6, 2, below=5)),
}


@pytest.mark.parametrize(("net", "x", "t"), NETWORKS.values(), ids=NETWORKS)
def test_gradients_of_the_networks(net, x, t):
    start = numbers(2, 4), numbers(2, 4, seed=1)

    def loss():
        net.state = start  # of the LSTM
        return net.loss(x, t)

    net.state = start
    value, grads = net.gradient(x, t)
    assert value == loss()
    grads = {key: grad.copy() for key, grad in grads.items()}
    assert grads.keys() == net.params.keys()
    for key, param in net.params.items():
        numeric = [slope(loss, param, i, 1e-6) for i in range(param.size)]
        np.testing.assert_allclose(grads[key].ravel(), numeric, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.name)
def test_programs_depend_on_the_seed_only(program):
    def first(seed):
        net = program.network(seed)
        (x, t), *_ = program.batches(seed, 2)
        loss, grads = net.gradient(x, t)
        return net, loss, grads

    net, loss, grads = first(0)
    assert (
        {grad.dtype.name for grad in grads.values()}
        == {"float32"}
        == {p.dtype.name for p in net.params.values()}
    )
    assert loss == first(0)[1] != first(1)[1]
    assert any(param.size >= 4096 for param in net.params.values())
    assert set(program.lr) == set(RULES)
    assert 0 <= net.accuracy(*program.held_out()) < 0.6


def test_text_of_additions():
    text = "".join(CHARACTERS[i] for i in additions(np.random.default_rng(0), 1000))
    assert len(text) == 1000
    for line in text.split("\n")[:-1]:
        terms, total = line.split("=")
        assert sum(map(int, terms.split("+"))) == int(total)
