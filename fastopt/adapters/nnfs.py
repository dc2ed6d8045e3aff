"""*Neural Networks from Scratch in Python* (Kinsley and Kukieła): its optimizers, over its layers.

The state lives in the layers under the book's names: weight_momentums, bias_momentums, weight_cache and
bias_cache. Weights, biases and state are updated in place and have the bits of the book's formulas.

Examples
--------
>>> from types import SimpleNamespace
>>> from fastopt.adapters.nnfs import Optimizer_SGD
>>> ones = np.ones((1, 2))
>>> layer = SimpleNamespace(weights=ones.copy(), biases=ones.copy(), dweights=ones, dbiases=ones)
>>> optimizer = Optimizer_SGD(learning_rate=0.1, decay=1.0)
>>> for step in range(2):
...     optimizer.pre_update_params()
...     optimizer.update_params(layer)
...     optimizer.post_update_params()
>>> optimizer.current_learning_rate, layer.weights
(0.05, array([[0.85, 0.85]]))
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fastopt.adapters import rules

__all__ = ["Optimizer_Adagrad", "Optimizer_Adam", "Optimizer_RMSprop", "Optimizer_SGD"]

# Of layers with fewer elements NumPy takes a difference sooner than it can be asked for.
SMALL = 2_000

# Where the states of weights and of biases are.
MOMENTUMS, CACHE = ("weight_momentums", "bias_momentums"), ("weight_cache", "bias_cache")


def states_of(layer: Any, *names: tuple[str, str]) -> list[list[np.ndarray]]:
    """Return states of a layer's weights and biases; all are 0 if the last ones aren't there yet.

    As in the book, Adam begins anew with the momentums that another optimizer has left.
    """
    if not hasattr(layer, names[-1][0]):
        for weights, biases in names:
            setattr(layer, weights, np.zeros_like(layer.weights))
            setattr(layer, biases, np.zeros_like(layer.biases))
    return [[getattr(layer, weights), getattr(layer, biases)] for weights, biases in names]


@dataclass(eq=False)
class OverLayers:
    """What they share: iterations, and current_learning_rate, which falls with decay."""

    learning_rate: float
    decay: float = 0.0
    current_learning_rate: float = field(init=False)
    iterations: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        self.current_learning_rate = self.learning_rate

    def pre_update_params(self) -> None:
        """Call this before the layers' updates."""
        if self.decay:
            self.current_learning_rate = self.learning_rate * (1.0 / (1.0 + self.decay * self.iterations))

    def update_params(self, layer: Any) -> None:
        """Update the weights and biases of a layer in place."""
        raise NotImplementedError

    def post_update_params(self) -> None:
        """Call this after the layers' updates."""
        self.iterations += 1


@dataclass(eq=False)
class Optimizer_SGD(OverLayers):
    """Gradient descent, with or without momentum: `fastopt.Momentum`, `fastopt.SGD`.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> from fastopt.adapters import nnfs
    >>> ones = np.ones((1, 2))
    >>> layer = SimpleNamespace(weights=ones.copy(), biases=ones.copy(), dweights=ones, dbiases=ones)
    >>> nnfs.Optimizer_SGD(0.1, momentum=0.9).update_params(layer)
    >>> layer.weights, layer.weight_momentums
    (array([[0.9, 0.9]]), array([[-0.1, -0.1]]))
    """

    learning_rate: float = 1.0
    momentum: float = 0.0

    def update_params(self, layer: Any) -> None:
        """Update the weights and biases of a layer in place."""
        params, lr = [layer.weights, layer.biases], self.current_learning_rate
        if self.momentum:
            (v,) = states_of(layer, MOMENTUMS)
            grads = [layer.dweights, layer.dbiases]
            rules.momentum(params, grads, v, lr=lr, momentum=self.momentum)
            return
        (weights, biases), dweights, dbiases = params, layer.dweights, layer.dbiases
        is_plain = weights.dtype is biases.dtype is dweights.dtype is dbiases.dtype and lr >= 0
        is_plain = is_plain and weights.shape == dweights.shape and biases.shape == dbiases.shape
        if is_plain and weights.size < SMALL and weights.flags.writeable and biases.flags.writeable:
            weights -= lr * dweights
            biases -= lr * dbiases
        else:
            rules.sgd(params, [dweights, dbiases], lr=lr)


@dataclass(eq=False)
class Optimizer_Adagrad(OverLayers):
    """`fastopt.AdaGrad`.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> from fastopt.adapters import nnfs
    >>> ones = np.ones((1, 2))
    >>> layer = SimpleNamespace(weights=ones.copy(), biases=ones.copy(), dweights=ones, dbiases=ones)
    >>> nnfs.Optimizer_Adagrad(0.5).update_params(layer)
    >>> layer.weights.round(3), layer.weight_cache
    (array([[0.5, 0.5]]), array([[1., 1.]]))
    """

    learning_rate: float = 1.0
    epsilon: float = 1e-7

    def update_params(self, layer: Any) -> None:
        """Update the weights and biases of a layer in place."""
        params, grads = [layer.weights, layer.biases], [layer.dweights, layer.dbiases]
        (h,) = states_of(layer, CACHE)
        rules.adagrad(params, grads, h, lr=self.current_learning_rate, eps=self.epsilon)


@dataclass(eq=False)
class Optimizer_RMSprop(OverLayers):
    """RMSprop.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> from fastopt.adapters import nnfs
    >>> ones = np.ones((1, 2))
    >>> layer = SimpleNamespace(weights=ones.copy(), biases=ones.copy(), dweights=ones, dbiases=ones)
    >>> nnfs.Optimizer_RMSprop(0.001).update_params(layer)
    >>> layer.weights.round(3), layer.weight_cache.round(3)
    (array([[0.997, 0.997]]), array([[0.1, 0.1]]))
    """

    learning_rate: float = 0.001
    epsilon: float = 1e-7
    rho: float = 0.9

    def update_params(self, layer: Any) -> None:
        """Update the weights and biases of a layer in place."""
        params, grads = [layer.weights, layer.biases], [layer.dweights, layer.dbiases]
        (h,) = states_of(layer, CACHE)
        rate, rho, eps = self.current_learning_rate, self.rho, self.epsilon
        rules.averaged_rmsprop(params, grads, h, lr=rate, decay_rate=rho, eps=eps)


@dataclass(eq=False)
class Optimizer_Adam(OverLayers):
    """Adam with eps on the corrected root.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> from fastopt.adapters import nnfs
    >>> ones = np.ones((1, 2))
    >>> layer = SimpleNamespace(weights=ones.copy(), biases=ones.copy(), dweights=ones, dbiases=ones)
    >>> nnfs.Optimizer_Adam(0.1).update_params(layer)
    >>> layer.weights.round(3), layer.weight_momentums.round(3)
    (array([[0.9, 0.9]]), array([[0.1, 0.1]]))
    """

    learning_rate: float = 0.001
    epsilon: float = 1e-7
    beta_1: float = 0.9
    beta_2: float = 0.999

    def update_params(self, layer: Any) -> None:
        """Update the weights and biases of a layer in place."""
        params, grads = [layer.weights, layer.biases], [layer.dweights, layer.dbiases]
        m, v = states_of(layer, MOMENTUMS, CACHE)
        rules.corrected_adam(
            params, grads, m, v, t=self.iterations + 1, lr=self.current_learning_rate,
            beta1=self.beta_1, beta2=self.beta_2, eps=self.epsilon,
        )  # fmt: skip
