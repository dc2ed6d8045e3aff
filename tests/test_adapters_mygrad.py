"""Tensors of MyGrad, and the optimizers of MyNN, which is made of it."""

import numpy as np
import pytest
from cases import same_bits

pytest.importorskip("mygrad")

import mygrad as mg

import fastopt
from fastopt import reference
from fastopt.adapters import mygrad as fast

RNG = np.random.default_rng(0)
X, Y = RNG.standard_normal((20, 3)), RNG.standard_normal((20, 2))


def tensors(dtype="float64"):
    rng = np.random.default_rng(1)
    return [mg.tensor(rng.standard_normal(shape).astype(dtype)) for shape in ((3, 4), (4,), (4, 2), (2,))]


def backward(w, b, v, c):
    """Give the loss, when the gradients are there."""
    loss = mg.mean((mg.tanh(X @ w + b) @ v + c - Y) ** 2)
    loss.backward()
    return loss.item()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("rule", ["SGD", "Momentum", "Adam"])
def test_the_reference_bit_for_bit(rule, dtype):
    ref, comp = tensors(dtype), tensors(dtype)
    plain, fused = getattr(reference, rule)(0.1), getattr(fast, rule)(comp, 0.1)
    losses = []
    for _ in range(20):
        losses.append(backward(*comp))
        assert backward(*ref) == losses[-1]
        fused.step()
        params = [tensor.data for tensor in ref]
        plain.update(params, [tensor.grad for tensor in ref])
    assert all(same_bits(a.data, b.data) for a, b in zip(ref, comp, strict=True))
    assert losses[-1] < losses[0]


@pytest.mark.parametrize(
    ("theirs", "ours", "named"),
    [
        ("SGD", "Momentum", {"momentum": 0.9}),
        ("Adam", "AdamW", {"beta1": 0.8}),
    ],
)
def test_mynn(theirs, ours, named):
    mynn = pytest.importorskip("mynn.optimizers")
    ref, comp = tensors(), tensors()
    plain = getattr(mynn, theirs)(ref, learning_rate=0.01, **named)
    fused = getattr(fast, ours)(comp, lr=0.01, **named, **({"weight_decay": 0} if ours == "AdamW" else {}))
    for _ in range(20):
        backward(*ref)
        backward(*comp)
        plain.step()
        fused.step()
    for a, b in zip(ref, comp, strict=True):
        np.testing.assert_allclose(b.data, a.data, rtol=1e-11)


def test_tensors_without_gradients_are_left_out_and_may_come_late():
    unused, used = mg.tensor([1.0, 2.0]), mg.tensor([3.0])
    optimizer = fast.Adam(iter([unused, used]))
    (2 * used).backward()
    optimizer.step()
    assert (unused.data == [1, 2]).all()
    assert used.data[0] < 3
    assert optimizer.m.keys() == {1}
    mg.sum(unused).backward()
    optimizer.step()
    assert (unused.data < [1, 2]).all()
    assert optimizer.m.keys() == {0, 1}


def test_locked_tensors_are_refused():
    tensor = mg.tensor([1.0])
    (2 * tensor).backward()
    other = fast.SGD([tensor])
    tensor.data.flags.writeable = False
    with pytest.raises(ValueError, match="parameter 0 is read-only"):
        other.step()


def test_all_rules_are_there():
    assert set(fast.__all__) == set(fastopt.optimizers.__all__)
    assert all(issubclass(getattr(fast, name), getattr(fastopt, name)) for name in fast.__all__)
    with pytest.raises(AttributeError, match="no attribute 'Eve'"):
        fast.Eve  # noqa: B018
