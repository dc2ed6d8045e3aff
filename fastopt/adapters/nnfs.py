"""*Neural Networks from Scratch in Python* (Kinsley and Kukieła): its optimizers, over its layers.

    optimizer.pre_update_params()
    optimizer.update_params(dense1)
    optimizer.update_params(dense2)
    optimizer.post_update_params()

The state lives in the layers under the book's names: weight_momentums, bias_momentums, weight_cache and
bias_cache.
"""

from dataclasses import dataclass, field
from typing import Any, ClassVar

from fastopt import optimizers
from fastopt.adapters.common import PaperAdam, step_from
from fastopt.optimizer import Optimizer

__all__ = ["Optimizer_Adagrad", "Optimizer_Adam", "Optimizer_RMSprop", "Optimizer_SGD"]


@dataclass(eq=False)
class OverLayers:
    """What they share: iterations, and current_learning_rate, which falls with decay."""

    rule: ClassVar[type[Optimizer]]
    states: ClassVar[tuple[str, ...]]  # what the book calls the rule's states
    named: ClassVar[dict[str, str]]  # and its hyperparameters

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
        step_from(
            vars(layer),
            self.rule,
            self.iterations + 1,
            [layer.weights, layer.biases],
            [layer.dweights, layer.dbiases],
            [(f"weight_{state}", f"bias_{state}") for state in self.states],
            lr=self.current_learning_rate,
            **{own: getattr(self, name) for own, name in self.named.items()},
        )

    def post_update_params(self) -> None:
        """Call this after the layers' updates."""
        self.iterations += 1


@dataclass(eq=False)
class Optimizer_SGD(OverLayers):
    """Gradient descent with momentum, `fastopt.Momentum`."""

    rule = optimizers.Momentum
    states = ("momentums",)
    named: ClassVar = {"momentum": "momentum"}

    learning_rate: float = 1.0
    momentum: float = 0.0


@dataclass(eq=False)
class Optimizer_Adagrad(OverLayers):
    """`fastopt.AdaGrad`."""

    rule = optimizers.AdaGrad
    states = ("cache",)
    named: ClassVar = {"eps": "epsilon"}

    learning_rate: float = 1.0
    epsilon: float = 1e-7


@dataclass(eq=False)
class Optimizer_RMSprop(OverLayers):
    """`fastopt.RMSprop`."""

    rule = optimizers.RMSprop
    states = ("cache",)
    named: ClassVar = {"decay_rate": "rho", "eps": "epsilon"}

    learning_rate: float = 0.001
    epsilon: float = 1e-7
    rho: float = 0.9


@dataclass(eq=False)
class Optimizer_Adam(OverLayers):
    """Adam with eps on the corrected root, `fastopt.AdamW` without decay."""

    rule = PaperAdam
    states = ("momentums", "cache")
    named: ClassVar = {"beta1": "beta_1", "beta2": "beta_2", "eps": "epsilon"}

    learning_rate: float = 0.001
    epsilon: float = 1e-7
    beta_1: float = 0.9
    beta_2: float = 0.999
