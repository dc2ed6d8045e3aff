"""Networks from scratch in NumPy that `programs` trains beside `MultiLayerNet`: images, words, characters.

All have ``params``, a dict whose arrays an optimizer updates in place, and two methods: ``gradient(x, t)``
and ``accuracy(x, t)``.
"""

from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from fastopt.demo.network import Affine, Classifier, ReLU, SoftmaxWithLoss

__all__ = ["CharLSTM", "Convolution", "Pooling", "SimpleConvNet", "SkipGram"]


def normal(rng: np.random.Generator, shape: tuple[int, ...], scale: float, dtype: Any) -> np.ndarray:
    """Return normally distributed initial weights with this standard deviation."""
    return (rng.standard_normal(shape) * scale).astype(dtype)


def sigmoid(x: np.ndarray) -> np.ndarray:
    """Return 1 / (1 + exp(−x)), by the hyperbolic tangent, which doesn't overflow."""
    return 0.5 * (1 + np.tanh(0.5 * x))


class Convolution:
    """Convolution with square filters of odd width, by im2col; stride 1, output as large as the input.

    It is the network's first layer, so `backward` computes no gradient of the images.
    """

    def __init__(self, W: np.ndarray, b: np.ndarray) -> None:
        self.W = W  # (filters, channels, width, width)
        self.b = b

    def forward(self, x: np.ndarray) -> np.ndarray:
        """Return the filtered images, of shape (batch, filters, height, width)."""
        batch, _, height, width = x.shape
        filters, _, size, _ = self.W.shape
        pad = size // 2
        padded = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
        windows = sliding_window_view(padded, (size, size), axis=(2, 3))
        self.columns = windows.transpose(0, 2, 3, 1, 4, 5).reshape(batch * height * width, -1)
        out = self.columns @ self.W.reshape(filters, -1).T + self.b
        return out.reshape(batch, height, width, filters).transpose(0, 3, 1, 2)

    def backward(self, dout: np.ndarray) -> None:
        """Keep the gradients of W and b."""
        rows = dout.transpose(0, 2, 3, 1).reshape(-1, len(self.W))
        self.dW = (rows.T @ self.columns).reshape(self.W.shape)
        self.db = rows.sum(axis=0)


class Pooling:
    """Maximum of each square of 2 × 2 pixels."""

    def forward(self, x: np.ndarray) -> np.ndarray:
        """Return the maxima, of shape (batch, channels, height / 2, width / 2)."""
        batch, channels, height, width = x.shape
        squares = x.reshape(batch, channels, height // 2, 2, width // 2, 2).transpose(0, 1, 2, 4, 3, 5)
        squares = squares.reshape(batch, channels, height // 2, width // 2, 4)
        self.largest = squares.argmax(axis=-1, keepdims=True)
        return np.take_along_axis(squares, self.largest, axis=-1)[..., 0]

    def backward(self, dout: np.ndarray) -> np.ndarray:
        """Return the gradient of x; where several pixels are the maximum, the first one has it all."""
        batch, channels, height, width = dout.shape
        dx = np.zeros((*dout.shape, 4), dout.dtype)
        np.put_along_axis(dx, self.largest, dout[..., None], axis=-1)
        dx = dx.reshape(batch, channels, height, width, 2, 2).transpose(0, 1, 2, 4, 3, 5)
        return dx.reshape(batch, channels, 2 * height, 2 * width)


class SimpleConvNet(Classifier):
    """The network of chapter 7: convolution, ReLU, pooling, affine, ReLU, affine, softmax.

    Parameters
    ----------
    size : int
        Height and width of the images, which have one channel; even.
    filters, width : int
        Number of filters, and their height and width, which is odd.
    hidden, outputs : int
        Widths of both affine layers.
    dtype : dtype-like
        Dtype of the parameters.
    seed : int
        Seed of the weights.
    """

    def __init__(
        self,
        size: int = 8,
        filters: int = 30,
        width: int = 3,
        hidden: int = 100,
        outputs: int = 10,
        dtype: Any = np.float32,
        seed: int = 0,
    ) -> None:
        rng = np.random.default_rng(seed)
        self.size = size
        pooled = filters * (size // 2) ** 2
        self.params = {
            "W1": normal(rng, (filters, 1, width, width), np.sqrt(2) / width, dtype),
            "b1": np.zeros(filters, dtype),
            "W2": normal(rng, (pooled, hidden), np.sqrt(2 / pooled), dtype),
            "b2": np.zeros(hidden, dtype),
            "W3": normal(rng, (hidden, outputs), np.sqrt(2 / hidden), dtype),
            "b3": np.zeros(outputs, dtype),
        }
        p = self.params
        self.convolution, self.pooling = Convolution(p["W1"], p["b1"]), Pooling()
        self.affines = [Affine(p["W2"], p["b2"]), Affine(p["W3"], p["b3"])]
        self.relus = [ReLU(), ReLU()]
        self.last = SoftmaxWithLoss()

    def predict(self, x: np.ndarray) -> np.ndarray:
        """Return the scores of flat images, of shape (batch, classes)."""
        x = self.convolution.forward(x.reshape(len(x), 1, self.size, self.size))
        x = self.pooling.forward(self.relus[0].forward(x))
        x = self.affines[0].forward(x.reshape(len(x), -1))
        return self.affines[1].forward(self.relus[1].forward(x))

    def gradient(self, x: np.ndarray, t: np.ndarray) -> tuple[float, dict[str, np.ndarray]]:
        """Return the loss and, by backpropagation, its gradient for each parameter."""
        loss = self.loss(x, t)
        dout = self.relus[1].backward(self.affines[1].backward(self.last.backward()))
        dout = self.affines[0].backward(dout).reshape(self.pooling.largest.shape[:-1])
        self.convolution.backward(self.relus[0].backward(self.pooling.backward(dout)))
        first, (second, third) = self.convolution, self.affines
        return loss, {
            **{"W1": first.dW, "b1": first.db},
            **{"W2": second.dW, "b2": second.db},
            **{"W3": third.dW, "b3": third.db},
        }


class SkipGram:
    """Word2vec with negative sampling: the score of two words is the product of their vectors.

    Parameters
    ----------
    words, size : int
        Number of words, and of components of a vector; there are two tables of this shape.
    dtype : dtype-like
        Dtype of the parameters.
    seed : int
        Seed of the weights.
    """

    def __init__(self, words: int = 10_000, size: int = 100, dtype: Any = np.float32, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.params = {key: normal(rng, (words, size), 0.1, dtype) for key in ("W_in", "W_out")}
        self.grads = {key: np.zeros_like(param) for key, param in self.params.items()}

    def scores(self, x: np.ndarray, t: np.ndarray) -> np.ndarray:
        """Return the scores of words x, of shape (batch,), with words t, of shape (batch, candidates)."""
        self.x, self.t = x, t
        self.h, self.w = self.params["W_in"][x], self.params["W_out"][t]
        product: np.ndarray = (self.w @ self.h[:, :, None])[..., 0]
        return product

    def loss(self, x: np.ndarray, t: np.ndarray) -> float:
        """Return the cross-entropy over the candidates, of which the first is right; mean over the batch."""
        self.s = self.scores(x, t)
        signs = np.ones(t.shape[1], self.s.dtype)
        signs[0] = -1
        return float(np.logaddexp(0, signs * self.s).sum(axis=1).mean())

    def accuracy(self, x: np.ndarray, t: np.ndarray) -> float:
        """Return the share of the pairs whose right word has a higher score than each wrong one."""
        scores = self.scores(x, t)
        return float((scores[:, :1] > scores[:, 1:]).all(axis=1).mean())

    def gradient(self, x: np.ndarray, t: np.ndarray) -> tuple[float, dict[str, np.ndarray]]:
        """Return the loss and its gradient for each table, which is dense: zeros for all other words."""
        loss = self.loss(x, t)
        ds = sigmoid(self.s)
        ds[:, 0] -= 1
        ds /= ds.dtype.type(len(x))
        dh = (ds[:, None, :] @ self.w)[:, 0]
        dw = ds[:, :, None] * self.h[:, None, :]
        add_rows(self.grads["W_in"], x, dh)
        add_rows(self.grads["W_out"], t.ravel(), dw.reshape(-1, dw.shape[-1]))
        return loss, self.grads


def add_rows(out: np.ndarray, rows: np.ndarray, values: np.ndarray) -> None:
    """Fill an array with zeros, and add each of the values to its row."""
    out.fill(0)
    size = out.shape[1]
    # np.add.at takes 2.5 times as long for whole rows (NumPy 2.4).
    places = rows[:, None] * size + np.arange(size)
    np.add.at(out.reshape(-1), places.ravel(), values.ravel())


class CharLSTM:
    """Characters to vectors, an LSTM, and scores of the next character.

    The state goes on from batch to batch, and backpropagation ends at the batch's first character (truncated
    backpropagation through time).

    Parameters
    ----------
    characters, size, hidden : int
        Number of characters, of components of their vectors, and of the LSTM's units.
    dtype : dtype-like
        Dtype of the parameters.
    seed : int
        Seed of the weights.
    """

    def __init__(
        self, characters: int, size: int = 32, hidden: int = 128, dtype: Any = np.float32, seed: int = 0
    ) -> None:
        rng = np.random.default_rng(seed)
        self.params = {
            "embed": normal(rng, (characters, size), 0.1, dtype),
            "Wx": normal(rng, (size, 4 * hidden), 1 / np.sqrt(size), dtype),
            "Wh": normal(rng, (hidden, 4 * hidden), 1 / np.sqrt(hidden), dtype),
            "b": np.zeros(4 * hidden, dtype),
            "W": normal(rng, (hidden, characters), 1 / np.sqrt(hidden), dtype),
            "c": np.zeros(characters, dtype),
        }
        self.hidden = hidden
        self.last = SoftmaxWithLoss()
        self.state: tuple[np.ndarray, np.ndarray] | None = None  # of h and c; None: zeros

    def predict(self, x: np.ndarray) -> np.ndarray:
        """Return the scores of the characters after x, of shape (time, batch, characters).

        x has shape (time, batch).
        """
        p = self.params
        zeros = np.zeros((x.shape[1], self.hidden), p["Wh"].dtype)
        h, c = (zeros, zeros) if self.state is None else self.state
        self.x, self.vectors = x, p["embed"][x]
        inputs = self.vectors @ p["Wx"] + p["b"]
        self.hs, self.cs, self.gates = [h], [c], list[tuple[np.ndarray, ...]]()
        for a in inputs:
            a += h @ p["Wh"]
            # In the book's order: forget, candidate, input, output.
            forget, candidate, input_, output = np.split(a, 4, axis=1)
            f, g, i, o = sigmoid(forget), np.tanh(candidate), sigmoid(input_), sigmoid(output)
            c = f * c + g * i
            squashed = np.tanh(c)
            h = o * squashed
            self.hs.append(h)
            self.cs.append(c)
            self.gates.append((f, g, i, o, squashed))
        self.state = h, c
        return np.stack(self.hs[1:]) @ p["W"] + p["c"]

    def loss(self, x: np.ndarray, t: np.ndarray) -> float:
        """Return the mean cross-entropy with the next characters t, of the shape of x."""
        scores = self.predict(x)
        return self.last.forward(scores.reshape(t.size, -1), t.ravel())

    def accuracy(self, x: np.ndarray, t: np.ndarray) -> float:
        """Return the share of the characters that are predicted, from a state of zeros on."""
        kept, self.state = self.state, None
        share = float((self.predict(x).argmax(axis=-1) == t).mean())
        self.state = kept
        return share

    def gradient(self, x: np.ndarray, t: np.ndarray) -> tuple[float, dict[str, np.ndarray]]:
        """Return the loss and, by backpropagation, its gradient for each parameter."""
        p, loss = self.params, self.loss(x, t)
        dscores = self.last.backward()
        hs = np.stack(self.hs)
        grads = {"W": hs[1:].reshape(len(dscores), -1).T @ dscores, "c": dscores.sum(axis=0)}
        dhs = (dscores @ p["W"].T).reshape(*x.shape, -1)
        das = np.empty((*x.shape, 4 * self.hidden), dhs.dtype)
        dh = dc = np.zeros_like(dhs[0])
        for time in reversed(range(len(x))):
            f, g, i, o, squashed = self.gates[time]
            dh = dh + dhs[time]
            dc = dc + dh * o * (1 - squashed**2)
            parts = (
                dc * self.cs[time] * f * (1 - f),
                dc * i * (1 - g**2),
                dc * g * i * (1 - i),
                dh * squashed * o * (1 - o),
            )
            np.concatenate(parts, axis=1, out=das[time])
            dh, dc = das[time] @ p["Wh"].T, dc * f
        flat = das.reshape(-1, 4 * self.hidden)
        grads["b"] = flat.sum(axis=0)
        grads["Wh"] = hs[:-1].reshape(len(flat), -1).T @ flat
        grads["Wx"] = self.vectors.reshape(len(flat), -1).T @ flat
        grads["embed"] = np.zeros_like(p["embed"])
        add_rows(grads["embed"], x.ravel(), flat @ p["Wx"].T)
        return loss, grads
