"""`verify`: it finds what differs, and changes nothing."""

import numpy as np
import pytest
from cases import snapshot, state_bytes

import fastopt
from fastopt import reference
from fastopt.cli.program import main
from fastopt.demo.network import MultiLayerNet
from fastopt.tools.comparisons import reference as reference_table
from fastopt.tools.verification import ulps


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_ulps(dtype):
    one, tiny = np.ones((), dtype), np.zeros((), dtype)
    up, least = np.nextafter(one, 2, dtype=dtype), np.nextafter(tiny, 1, dtype=dtype)
    assert ulps(one, one) == ulps(np.zeros((0, 3), dtype), np.zeros((0, 3), dtype)) == 0
    assert ulps(one, up) == ulps(-up, -one) == 1
    assert ulps(np.array([one, one, tiny]), np.array([one, np.nextafter(up, 2, dtype=dtype), tiny])) == 2
    assert ulps(-tiny, tiny) == 1
    assert ulps(-least, least) == 3
    assert ulps(np.full(2, np.nan, dtype), np.full(2, np.nan, dtype)) == 0
    assert ulps(one, one * np.nan) > 10**6
    assert ulps(-one * np.inf, one * np.inf) > 10**9
    assert ulps(one.astype(one.dtype.newbyteorder()), one) == 0


def test_a_network_whose_layers_refer_to_the_parameters():
    net = MultiLayerNet([5, 7, 3], seed=1)
    rng = np.random.default_rng(0)
    x, t = rng.standard_normal((8, 5)), rng.integers(0, 3, 8)
    optimizer = fastopt.Adam(0.1)
    optimizer.update(net.params, net.gradient(x, t)[1])
    before, state = snapshot(net.params), state_bytes(optimizer)
    seen = set()

    def grads(params):
        assert params is net.params
        loss, slopes = net.gradient(x, t)
        seen.add(loss)
        return slopes

    found = fastopt.verify(optimizer, net.params, grads, 5)
    assert len(seen) == 5
    assert found == {name: dict.fromkeys(net.params, 0) for name in ("params", "m", "v")}
    assert snapshot(net.params) == before
    assert state_bytes(optimizer) == state


def test_a_difference_is_found(monkeypatch):
    class Off(reference.Momentum):
        def update(self, params, grads):
            super().update(params, grads)
            v = self.v["b"] if isinstance(params, dict) else self.v[1]
            v[2] = np.nextafter(v[2], v.dtype.type(9))

    Off.__name__ = "Momentum"
    monkeypatch.setattr(reference, "Momentum", Off)
    params = [1.5, np.ones(3)]
    found = fastopt.verify(fastopt.Momentum(0.01, 0.5), params, lambda params: [0.25, params[1]], 1)
    assert found == {"params": {0: 0, 1: 0}, "v": {0: 0, 1: 1}}
    assert params[0] == 1.5
    monkeypatch.setattr(reference_table, "SHAPES", {"W": (2, 3), "b": (3,)})
    text, same = reference_table.summary(["Momentum"])
    assert not same
    assert "NOT the same bits" in text


def test_no_reference_to_compare_with():
    with pytest.raises(TypeError, match="there is no plain NumPy version of an Own"):
        fastopt.verify(type("Own", (fastopt.SGD,), {})(), [np.ones(3)], lambda params: params)


@pytest.mark.long
def test_the_command(capsys):
    assert main(["verify", "--rules", "SGD,Adam,Muon"]) == 0
    out = capsys.readouterr().out
    assert "the same bits throughout" in out
    assert out.count(" 0") == 30
