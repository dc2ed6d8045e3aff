"""A multi-layer network from scratch in NumPy, in the manner of *Deep Learning from Scratch*.

The layers hold references to the arrays in ``params``, so that an optimizer has to update them in place.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from fastopt import pack

__all__ = ["Affine", "Classifier", "MultiLayerNet", "ReLU", "SoftmaxWithLoss"]


class Affine:
    """out = x·W + b."""

    def __init__(
        self, W: np.ndarray, b: np.ndarray, dW: np.ndarray | None = None, db: np.ndarray | None = None
    ) -> None:
        self.W = W
        self.b = b
        self.out = dW, db  # where the gradients go; None: into new arrays

    def forward(self, x: np.ndarray) -> np.ndarray:
        """Return x·W + b, of shape (batch, outputs)."""
        self.x = x
        return x @ self.W + self.b

    def backward(self, dout: np.ndarray) -> np.ndarray:
        """Keep the gradients of W and b; return that of x."""
        dW, db = self.out
        self.dW = np.matmul(self.x.T, dout, out=dW)
        self.db = np.sum(dout, axis=0, out=db)
        return dout @ self.W.T


class ReLU:
    """out = max(x, 0)."""

    def forward(self, x: np.ndarray) -> np.ndarray:
        """Return x where it is positive, else 0."""
        self.positive = x > 0
        return x * self.positive

    def backward(self, dout: np.ndarray) -> np.ndarray:
        """Return the gradient of x."""
        return dout * self.positive


class SoftmaxWithLoss:
    """Cross-entropy of softmax(x) with integer labels, the mean over the batch."""

    def forward(self, x: np.ndarray, t: np.ndarray) -> float:
        """Return the loss."""
        e = np.exp(x - x.max(axis=1, keepdims=True))
        self.y = e / e.sum(axis=1, keepdims=True)
        self.t = t
        likelihood = self.y[np.arange(len(t)), t]
        return float(-np.log(likelihood + np.finfo(x.dtype).tiny).mean())

    def backward(self) -> np.ndarray:
        """Return the gradient of x: (y − t) / batch."""
        dx = self.y.copy()
        dx[np.arange(len(self.t)), self.t] -= 1
        return dx / dx.dtype.type(len(self.t))


class Classifier:
    """A network whose ``last`` layer is softmax with cross-entropy."""

    last: SoftmaxWithLoss

    def predict(self, x: np.ndarray) -> np.ndarray:
        """Return the scores, of shape (batch, classes)."""
        raise NotImplementedError

    def loss(self, x: np.ndarray, t: np.ndarray) -> float:
        """Return the mean cross-entropy with the labels t."""
        return self.last.forward(self.predict(x), t)

    def accuracy(self, x: np.ndarray, t: np.ndarray) -> float:
        """Return the share of labels that are predicted."""
        return float((self.predict(x).argmax(axis=1) == t).mean())


class MultiLayerNet(Classifier):
    """Affine and ReLU layers in turn, softmax with cross-entropy at the end.

    ``sizes`` are the widths of the input, of each hidden layer and of the output. Weights are normal with
    variance 2 / inputs (He et al. 2015, section 2.2), biases are 0; both are in ``params``, W1, b1, W2, ...
    With ``packed`` they lie in one flat buffer, and the gradients are written into another.
    """

    def __init__(
        self, sizes: Sequence[int], dtype: Any = np.float64, seed: int = 0, packed: bool = False
    ) -> None:
        rng = np.random.default_rng(seed)
        self.params: Any = {}
        self.layers: list[Affine | ReLU] = []
        for i, (inputs, outputs) in enumerate(pairwise(sizes), start=1):
            weights = rng.standard_normal((inputs, outputs)) * np.sqrt(2 / inputs)
            self.params[f"W{i}"] = weights.astype(dtype)
            self.params[f"b{i}"] = np.zeros(outputs, dtype)
        grads: dict[str, np.ndarray] = {}
        if packed:
            self.params = pack(self.params)
            grads = self.params.like()
        for i in range(1, len(sizes)):
            W, b = f"W{i}", f"b{i}"
            self.layers += [Affine(self.params[W], self.params[b], grads.get(W), grads.get(b)), ReLU()]
        self.grads = grads
        self.layers.pop()
        self.last = SoftmaxWithLoss()

    def predict(self, x: np.ndarray) -> np.ndarray:
        """Return the scores, of shape (batch, classes)."""
        for layer in self.layers:
            x = layer.forward(x)
        return x

    def gradient(self, x: np.ndarray, t: np.ndarray) -> tuple[float, dict[str, np.ndarray]]:
        """Return the loss and, by backpropagation, its gradient for each parameter."""
        loss = self.loss(x, t)
        dout = self.last.backward()
        for layer in reversed(self.layers):
            dout = layer.backward(dout)
        affine = [layer for layer in self.layers if isinstance(layer, Affine)]
        for i, layer in enumerate(affine, start=1):
            self.grads[f"W{i}"], self.grads[f"b{i}"] = layer.dW, layer.db
        return loss, self.grads
