"""DeZero's examples with the import changed."""

import os
import subprocess
import sys

import numpy as np
import pytest

np.int = int  # DeZero 0.0.13 asks NumPy for it, which has had none since 1.24
pytest.importorskip("dezero")

import dezero.functions as F
import dezero.layers as L
from dezero import Model, Parameter, Variable, as_variable, datasets, optimizers
from dezero.models import MLP

from fastopt import reference
from fastopt.adapters import dezero as fast

# Where DeZero computes in float64 (under NumPy 2 also most of what is called float32), results have the same bits
# but where fastopt's order of operations is another, and for the biases, which stay float32.
BOUND = 1e-5

RULES = {
    "SGD": [0.1],
    "MomentumSGD": [0.1, 0.8],
    "AdaGrad": [0.01, 1e-6],
    "AdaDelta": [0.9, 1e-5],
    "Adam": [0.01, 0.8, 0.9, 1e-6],
}


def digits(module, rule, *arguments, hooks=()):
    """The example of the book's mnist, on smaller digits."""
    sklearn = pytest.importorskip("sklearn.datasets")
    x, t = sklearn.load_digits(return_X_y=True)
    x = (x / 16).astype(np.float32)
    np.random.seed(0)
    model = MLP((30, 10), activation=F.relu)
    optimizer = getattr(module, rule)(*arguments).setup(model)
    for hook in hooks:
        optimizer.add_hook(hook(module))
    losses = []
    for step in range(60):
        batch = slice(step % 15 * 100, step % 15 * 100 + 100)
        loss = F.softmax_cross_entropy(model(x[batch]), t[batch])
        model.cleargrads()
        loss.backward()
        optimizer.update()
        losses.append(loss.data.item())
    return losses


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("defaults", [True, False], ids=["defaults", "arguments"])
def test_the_same_losses(rule, defaults):
    arguments = [] if defaults else RULES[rule]
    ref, comp = (digits(module, rule, *arguments) for module in (optimizers, fast))
    np.testing.assert_allclose(comp, ref, rtol=BOUND)
    assert ref[-1] != ref[0]
