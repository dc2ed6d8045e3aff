"""DeZero, of *Deep Learning from Scratch 3*: its optimizers and hooks.

``from fastopt.adapters.dezero import Adam`` stands where ``from dezero.optimizers import Adam`` stood.
`SGD`, `MomentumSGD`, `AdaGrad`, `AdaDelta` and `Adam` have DeZero's arguments and defaults, all other rules
(``AdamW``, ``Lion``, ...) fastopt's.
"""

from collections.abc import Callable, Iterator
from dataclasses import KW_ONLY, dataclass
from math import sqrt
from types import MappingProxyType
from typing import Any

import numpy as np

from fastopt import optimizers
from fastopt.adapters.common import in_form_of
from fastopt.optimizer import Optimizer, hyperparameter

__all__ = ["ClipGrad", "FreezeParam", "MomentumSGD", "WeightDecay", *optimizers.__all__]


def __getattr__(name: str) -> Any:
    return in_form_of(InDeZero, name)


def named(layer: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield each parameter of a layer with its name, which is the one in DeZero's files of weights."""
    for name in sorted(layer._params):
        value = layer.__dict__[name]
        if hasattr(value, "_params"):
            yield from named(value, f"{prefix}{name}/")
        elif value is not None:
            yield prefix + name, value


class InDeZero(Optimizer):
    """A rule in DeZero's form. Its state is keyed by the parameters' names in the model.

    A parameter that the model has under several names is updated once, under the first of them; one whose
    gradient is None is left out.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        self._target: Any = None
        self._hooks: list[Callable[[list[Any]], Any]] = []

    @property
    def target(self) -> Any:
        """The model, or None before `setup`."""
        return self._target

    @property
    def hooks(self) -> list[Callable[[list[Any]], Any]]:
        """The functions that are called before each step."""
        return self._hooks

    def setup(self, target: Any) -> "InDeZero":
        """Take a layer or model, whose parameters `update` updates; return the optimizer."""
        self._target = target
        return self

    def add_hook(self, f: Callable[[list[Any]], Any]) -> None:
        """Call f with the list of parameters that have gradients, before each step."""
        self._hooks.append(f)

    def update(self) -> bool:  # type: ignore[override]
        """Take a step with the parameters that have gradients.

        Raises
        ------
        RuntimeError
            Before `setup`.
        KeyError, TypeError, ValueError
            As `fastopt.Adam.update`, with the names of the parameters, before any of them has changed.
        """
        if self._target is None:
            raise RuntimeError("there is no model yet: setup(model) first")
        once = {id(p): (name, p) for name, p in reversed([*named(self._target)])}  # the first name wins
        params = {name: p for name, p in once.values() if p.grad is not None}
        for hook in self._hooks:
            hook([*params.values()])
        params = {name: p for name, p in params.items() if p.grad is not None}
        return super().update(
            MappingProxyType({name: p.data for name, p in params.items()}),
            {name: like(p.grad.data, p.data) for name, p in params.items()},
        )


def like(grad: Any, param: Any) -> Any:
    """Return a gradient as a plain array of the parameter's dtype, in which form a step is fastest."""
    plain = all(type(array) is np.ndarray and array.dtype.kind == "f" for array in (grad, param))
    return np.asarray(grad, param.dtype, "C") if plain else grad


@dataclass(eq=False)
class MomentumSGD(InDeZero, optimizers.Momentum):
    """``MomentumSGD(lr=0.01, momentum=0.9)``: see `fastopt.Momentum`."""


@dataclass(eq=False)
class AdaGrad(InDeZero, optimizers.AdaGrad):
    """``AdaGrad(lr=0.001, eps=1e-8)``: see `fastopt.AdaGrad`."""

    lr: float = hyperparameter(0.001)
    eps: float = hyperparameter(1e-8)


@dataclass(eq=False)
class AdaDelta(InDeZero, optimizers.AdaDelta):
    """``AdaDelta(rho=0.95, eps=1e-6)``: see `fastopt.AdaDelta`."""

    rho: float = hyperparameter(0.95, most=1)
    eps: float = hyperparameter(1e-6)
    _: KW_ONLY
    lr: float = hyperparameter(1.0)


class Adam(InDeZero, optimizers.Adam):
    """``Adam(alpha=0.001, beta1=0.9, beta2=0.999, eps=1e-8)``: see `fastopt.Adam`.

    ``lr`` is ``alpha``; DeZero's ``lr`` is the step size that the correction of the bias makes of it.
    """

    def __init__(
        self, alpha: float = 0.001, beta1: float = 0.9, beta2: float = 0.999, eps: float = 1e-8, **more: Any
    ) -> None:
        super().__init__(alpha, beta1, beta2, eps=eps, **more)

    @property
    def alpha(self) -> float:
        """The learning rate."""
        return self.lr

    @alpha.setter
    def alpha(self, value: float) -> None:
        self.lr = value


class WeightDecay:
    """A hook: g ← g + rate·p. Gradients that are shared or read-only are replaced, not written to."""

    def __init__(self, rate: float) -> None:
        self.rate = rate

    def __call__(self, params: list[Any]) -> None:
        """Change the gradients."""
        for param in params:
            param.grad = type(param.grad)(np.asarray(param.grad.data + self.rate * param.data))


class ClipGrad:
    """A hook: g ← g·max_norm / (norm + 1e-6), where the norm of all gradients together is larger."""

    def __init__(self, max_norm: float) -> None:
        self.max_norm = max_norm

    def __call__(self, params: list[Any]) -> None:
        """Change the gradients."""
        norm = sqrt(sum(float((param.grad.data**2).sum()) for param in params))
        rate = self.max_norm / (norm + 1e-6)
        if rate < 1:
            for param in params:
                param.grad = type(param.grad)(np.asarray(param.grad.data * rate))


class FreezeParam:
    """A hook: parameters, or those of layers, are left as they are."""

    def __init__(self, *layers: Any) -> None:
        self.freeze_params: list[Any] = []
        for layer in layers:
            self.freeze_params += layer.params() if hasattr(layer, "params") else [layer]

    def __call__(self, params: list[Any]) -> None:
        """Drop their gradients."""
        for param in self.freeze_params:
            param.grad = None
