"""A multi-layer network from scratch in NumPy, in the manner of *Deep Learning from Scratch*.

The layers hold references to the arrays in ``params``, so that an optimizer has to update them in place.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

__all__ = ["Affine", "MultiLayerNet", "ReLU", "SoftmaxWithLoss"]


class Affine:
    """out = x·W + b."""

    def __init__(self, W: np.ndarray, b: np.ndarray) -> None:
        self.W = W
        self.b = b

    def forward(self, x: np.ndarray) -> np.ndarray:
        """Give x·W + b, of shape (batch, outputs)."""
        self.x = x
        return x @ self.W + self.b

    def backward(self, dout: np.ndarray) -> np.ndarray:
        """Keep the gradients of W and b; give that of x."""
        self.dW = self.x.T @ dout
        self.db = dout.sum(axis=0)
        return dout @ self.W.T


class ReLU:
    """out = max(x, 0)."""

    def forward(self, x: np.ndarray) -> np.ndarray:
        """Give x where it is positive, else 0."""
        self.positive = x > 0
        return x * self.positive

    def backward(self, dout: np.ndarray) -> np.ndarray:
        """Give the gradient of x."""
        return dout * self.positive


class SoftmaxWithLoss:
    """Cross-entropy of softmax(x) with integer labels, the mean over the batch."""

    def forward(self, x: np.ndarray, t: np.ndarray) -> float:
        """Give the loss."""
        e = np.exp(x - x.max(axis=1, keepdims=True))
        self.y = e / e.sum(axis=1, keepdims=True)
        self.t = t
        likelihood = self.y[np.arange(len(t)), t]
        return float(-np.log(likelihood + np.finfo(x.dtype).tiny).mean())

    def backward(self) -> np.ndarray:
        """Give the gradient of x: (y − t) / batch."""
        dx = self.y.copy()
        dx[np.arange(len(self.t)), self.t] -= 1
        return dx / dx.dtype.type(len(self.t))


class MultiLayerNet:
    """Affine and ReLU layers in turn, softmax with cross-entropy at the end.

    Parameters
    ----------
    sizes : sequence of int
        Width of the input, of each hidden layer, and of the output.
    dtype : dtype
        Of the parameters.
    seed : int
        Of the weights: normal with variance 2 / inputs (He et al. 2015, section 2.2); biases are 0.

    Attributes
    ----------
    params : dict of arrays
        ``W1``, ``b1``, ``W2``, ...
    """

    def __init__(self, sizes: Sequence[int], dtype: Any = np.float64, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.params: dict[str, np.ndarray] = {}
        self.layers: list[Affine | ReLU] = []
        for i, (inputs, outputs) in enumerate(pairwise(sizes), start=1):
            W = rng.standard_normal((inputs, outputs)) * np.sqrt(2 / inputs)
            self.params[f"W{i}"] = W.astype(dtype)
            self.params[f"b{i}"] = np.zeros(outputs, dtype)
            self.layers += [Affine(self.params[f"W{i}"], self.params[f"b{i}"]), ReLU()]
        self.layers.pop()
        self.last = SoftmaxWithLoss()

    def predict(self, x: np.ndarray) -> np.ndarray:
        """Give the scores, of shape (batch, classes)."""
        for layer in self.layers:
            x = layer.forward(x)
        return x

    def loss(self, x: np.ndarray, t: np.ndarray) -> float:
        """Give the mean cross-entropy with the labels t."""
        return self.last.forward(self.predict(x), t)

    def accuracy(self, x: np.ndarray, t: np.ndarray) -> float:
        """Give the share of labels that are predicted."""
        return float((self.predict(x).argmax(axis=1) == t).mean())

    def gradient(self, x: np.ndarray, t: np.ndarray) -> tuple[float, dict[str, np.ndarray]]:
        """Give the loss and, by backpropagation, its gradient for each parameter."""
        loss = self.loss(x, t)
        dout = self.last.backward()
        for layer in reversed(self.layers):
            dout = layer.backward(dout)
        affine = [layer for layer in self.layers if isinstance(layer, Affine)]
        grads = {}
        for i, layer in enumerate(affine, start=1):
            grads[f"W{i}"], grads[f"b{i}"] = layer.dW, layer.db
        return loss, grads
