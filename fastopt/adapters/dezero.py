"""DeZero, of *Deep Learning from Scratch 3*: its optimizers and hooks.

``from fastopt.adapters.dezero import Adam`` stands where ``from dezero.optimizers import Adam`` stood.
`Optimizer` is DeZero's own, the base of rules with an ``update_one``.
`SGD`, `MomentumSGD`, `AdaGrad`, `AdaDelta` and `Adam` have DeZero's arguments and defaults, all other rules
(``AdamW``, ``Lion``, ...) fastopt's.

Examples
--------
>>> from fastopt.adapters.dezero import Lion
>>> from dezero import Layer, Parameter, Variable
>>> model = Layer()
>>> model.W = Parameter(np.ones(2))
>>> model.W.grad = Variable(np.array([3.0, 4.0]))
>>> Lion(lr=0.1).setup(model).update(), model.W.data
(True, array([0.9, 0.9]))
"""

from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass
from math import sqrt
from types import MappingProxyType
from typing import Any
from weakref import ref

import numpy as np

from fastopt import optimizers
from fastopt.adapters.common import in_form_of, library
from fastopt.optimizer import Optimizer as Rule
from fastopt.optimizer import hyperparameter
from fastopt.optimizers.peers import QuotientAdaDelta
from fastopt.options.base import NEUTRAL_SCALARS

__all__ = ["ClipGrad", "FreezeParam", "MomentumSGD", "WeightDecay", *optimizers.RULES]


def __getattr__(name: str) -> Any:
    if name == "Optimizer":  # for rules of one's own, with their `update_one`
        return library("dezero.optimizers", "dezero").Optimizer
    return in_form_of(InDeZero, name)


class Walk:
    """The parameters of a layer or model, found again as long as it has the same layers.

    Parameters
    ----------
    target : Layer
        The layer or model.

    Attributes
    ----------
    names : list of str
        Those that the parameters have in DeZero's files of weights.
    """

    def __init__(self, target: Any) -> None:
        self.names: list[str] = []
        self.places: list[tuple[dict[str, Any], str]] = []
        self.layers: list[tuple[dict[str, Any], str, Any]] = []
        self.names_of: list[tuple[Any, set[str]]] = []
        self._add(target, "")

    def _add(self, layer: Any, prefix: str) -> None:
        """Note where the parameters of a layer are."""
        own = vars(layer)
        self.names_of.append((layer, set(layer._params)))
        for name in sorted(layer._params):
            if hasattr(own[name], "_params"):
                self.layers.append((own, name, own[name]))
                self._add(own[name], f"{prefix}{name}/")
            else:
                self.names.append(prefix + name)
                self.places.append((own, name))

    def is_current(self) -> bool:
        """Whether there are the same layers, with parameters of the same names."""
        # Lists, as a generator takes longer than these few comparisons.
        other = [name for own, name, layer in self.layers if own.get(name) is not layer]
        return not other and not [names for layer, names in self.names_of if layer._params != names]

    def params(self) -> list[Any]:
        """Return the parameters."""
        return [own[name] for own, name in self.places]


def grads_of(params: list[Any]) -> list[Any]:
    """Return the gradients of parameters, of which some may be None."""
    return [None if param is None else param.grad for param in params]


class InDeZero(Rule):
    """A rule in DeZero's form. The state of a parameter belongs to the object, whatever its name is.

    In checkpoints it has the name that the parameter had in the model at its first step. A parameter that
    the model has under several names is updated once; one whose gradient is None is left out.

    Attributes
    ----------
    target : Layer or None
        The model; None before `setup`.
    hooks : list of callable
        The functions that are called before each step.
    t : int
        The number of steps taken.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        if hasattr(self, "update_one"):
            raise TypeError(
                f"{type(self).__name__}.update_one isn't called by fastopt, which updates all parameters at "
                "once: write a hook, or a subclass of fastopt.adapters.dezero.Optimizer"
            )
        self._target: Any = None
        self._hooks: list[Callable[[list[Any]], Any]] = []
        self._forget_owners()

    def _forget_owners(self) -> None:
        """Look for parameters anew: a state belongs to the one that has its name at the next step."""
        self._walk: Walk | None = None
        self._last: tuple[list[Any], list[str]] = [], []
        self._owners: dict[str, Any] = {}

    @property
    def target(self) -> Any:
        """The model, or None before `setup`."""
        return self._target

    @target.setter
    def target(self, model: Any) -> None:
        self._target, self._walk, self._last = model, None, ([], [])

    @property
    def hooks(self) -> list[Callable[[list[Any]], Any]]:
        """The functions that are called before each step."""
        return self._hooks

    @hooks.setter
    def hooks(self, functions: list[Callable[[list[Any]], Any]]) -> None:
        self._hooks = functions

    @property
    def t(self) -> int:
        """The number of steps taken."""
        return self.iter

    def setup(self, target: Any) -> "InDeZero":
        """Take a layer or model, whose parameters `update` updates; return the optimizer."""
        self.target = target
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
        walk, params, grads = self._look()
        if self._hooks:
            own = [p for p, grad in zip(params, grads, strict=True) if grad is not None]
            own = [*{id(p): p for p in own}.values()]
            for hook in self._hooks:
                hook(own)
            grads = grads_of(params)
        known, keys = self._last
        # By identity, as lists are compared: a parameter is compared no other way.
        is_like_last = params == known and None not in grads
        if not is_like_last:
            params, grads, keys = self._keyed(walk.names, params, grads)
        arrays, gradients = [p.data for p in params], [grad.data for grad in grads]
        is_done = self._repeat(keys, arrays, gradients) if is_like_last else False
        if is_done:
            return True
        named = MappingProxyType(dict(zip(keys, arrays, strict=True)))
        named_grads = dict(zip(keys, gradients, strict=True))
        if is_done is False:
            return super().update(named, named_grads)
        self.warn_of_last(named, named_grads)
        return True

    def _look(self) -> tuple[Walk, list[Any], list[Any]]:
        """Return the walk over the model as it is now, its parameters, and their gradients."""
        walk = self._walk
        if walk is not None and walk.is_current():
            try:
                params = walk.params()
                return walk, params, grads_of(params)
            except AttributeError:  # a parameter has become a layer
                pass
        self._walk = walk = Walk(self._target)
        params = walk.params()
        return walk, params, grads_of(params)

    def _repeat(self, keys: list[str], arrays: list[Any], grads: list[Any]) -> bool | None:
        """Take a step like the last one, if no options act in it. Returns what `Engine.repeat` does."""
        with self.lock:
            plan = self.engine.plan
            if plan is None or self.kept is None or not self.is_neutral:
                return False
            count = plan.guard.item()
            scalars = NEUTRAL_SCALARS + self.scalars(count + 1)
            return self.engine.repeat(keys, arrays, grads, scalars, self.token, count)

    def _keyed(
        self, names: list[str], params: list[Any], grads: list[Any]
    ) -> tuple[list[Any], list[Any], list[str]]:
        """Return the parameters that have gradients, each once, these, and the keys of their states."""
        found: dict[int, tuple[str, Any, Any]] = {}
        for name, param, grad in zip(names, params, grads, strict=True):
            if grad is not None and id(param) not in found:  # the first name wins
                found[id(param)] = name, param, grad
        keys_of = {id(owner): key for key, ref in self._owners.items() if (owner := ref()) is not None}
        keys = [keys_of.get(i) or self._new_key(name, param) for i, (name, param, _) in found.items()]
        own, own_grads = [p for _, p, _ in found.values()], [grad for _, _, grad in found.values()]
        # Kept only if the next look at the model can be compared with it.
        self._last = (own, keys) if len(own) == len(params) else ([], [])
        return own, own_grads, keys

    def _new_key(self, name: str, param: Any) -> str:
        """Return the key of a parameter that has no state yet, or whose state was loaded under its name."""
        key, n = name, 1
        while key in self._owners and self._owners[key]() is not None:
            n += 1
            key = f"{name} #{n}"
        if key in self._owners and key in self.engine.memory.layout:  # the state of one that is gone
            self.drop_state(key)
        self._owners[key] = ref(param)
        return key

    def load(self, path: Any, params: Any = None) -> None:
        """Resume from a file; each state belongs to the parameter that has its name at the next step."""
        super().load(path, params)
        self._forget_owners()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Resume from what `state_dict` returned; as `load` has it."""
        super().load_state_dict(state)
        self._forget_owners()

    def __getstate__(self) -> dict[str, Any]:
        owners = {key: owner() for key, owner in self._owners.items()}
        return super().__getstate__() | {"model": (self._target, self._hooks, owners)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._target, self._hooks, owners = state["model"]
        self._owners = {key: ref(owner) for key, owner in owners.items() if owner is not None}


@dataclass(eq=False)
class MomentumSGD(InDeZero, optimizers.Momentum):
    """``MomentumSGD(lr=0.01, momentum=0.9)``: see `fastopt.Momentum`.

    Examples
    --------
    >>> fastopt.adapters.dezero.MomentumSGD(lr=0.1)
    MomentumSGD(lr=0.1, momentum=0.9)
    """


@dataclass(eq=False)
class AdaGrad(InDeZero, optimizers.AdaGrad):
    """``AdaGrad(lr=0.001, eps=1e-8)``: see `fastopt.AdaGrad`.

    Examples
    --------
    >>> fastopt.adapters.dezero.AdaGrad()
    AdaGrad(lr=0.001, eps=1e-08)
    """

    lr: float = hyperparameter(0.001)
    eps: float = hyperparameter(1e-8)


@dataclass(eq=False)
class AdaDelta(InDeZero, QuotientAdaDelta):
    """``AdaDelta(rho=0.95, eps=1e-6)``: see `fastopt.AdaDelta`; with the root of a quotient, as in DeZero.

    Examples
    --------
    >>> fastopt.adapters.dezero.AdaDelta()
    AdaDelta(rho=0.95, eps=1e-06, lr=1.0)
    """

    rho: float = hyperparameter(0.95, most=1)
    eps: float = hyperparameter(1e-6)
    _: KW_ONLY
    lr: float = hyperparameter(1.0)


class Adam(InDeZero, optimizers.Adam):
    """``Adam(alpha=0.001, beta1=0.9, beta2=0.999, eps=1e-8)``: see `fastopt.Adam`.

    ``lr`` is ``alpha``; DeZero's ``lr`` is the step size that the correction of the bias makes of it. As in
    DeZero the correction is that of the optimizer's number of steps, also for parameters that had fewer.

    Examples
    --------
    >>> fastopt.adapters.dezero.Adam(alpha=0.1)
    Adam(lr=0.1, beta1=0.9, beta2=0.999, eps=1e-08)
    """

    def __init__(
        self, alpha: float = 0.001, beta1: float = 0.9, beta2: float = 0.999, eps: float = 1e-8, **more: Any
    ) -> None:
        super().__init__(alpha, beta1, beta2, eps=eps, **more)

    def scalars(self, t: int) -> tuple[float, ...]:
        """Give those of Adam, for the number of this step."""
        engine = vars(self).get("engine")  # none while the class is checked
        return super().scalars(t if engine is None else engine.memory.steps.item() + 1)

    @property
    def alpha(self) -> float:
        """The learning rate."""
        return self.lr

    @alpha.setter
    def alpha(self, value: float) -> None:
        self.lr = value


class WeightDecay:
    """A hook: g ← g + rate·p. Gradients that are shared or read-only are replaced, not written to.

    Examples
    --------
    >>> from dezero import Parameter, as_variable
    >>> W = Parameter(np.ones(2))
    >>> W.grad = as_variable(np.array([3.0, 4.0]))
    >>> fastopt.adapters.dezero.WeightDecay(0.5)([W]), W.grad.data
    (None, array([3.5, 4.5]))
    """

    def __init__(self, rate: float) -> None:
        self.rate = rate

    def __call__(self, params: list[Any]) -> None:
        """Change the gradients."""
        for param in params:
            param.grad = type(param.grad)(np.asarray(param.grad.data + self.rate * param.data))


class ClipGrad:
    """A hook: g ← g·max_norm / (norm + 1e-6), where the norm of all gradients together is larger.

    Examples
    --------
    >>> from dezero import Parameter, as_variable
    >>> W = Parameter(np.ones(2))
    >>> W.grad = as_variable(np.array([3.0, 4.0]))
    >>> fastopt.adapters.dezero.ClipGrad(1.0)([W]), W.grad.data.round(3)
    (None, array([0.6, 0.8]))
    """

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
    """A hook: parameters, or those of layers, are left as they are.

    Examples
    --------
    >>> from dezero import Parameter, as_variable
    >>> W = Parameter(np.ones(2))
    >>> W.grad = as_variable(np.array([3.0, 4.0]))
    >>> fastopt.adapters.dezero.FreezeParam(W)([W]), W.grad
    (None, None)
    """

    def __init__(self, *layers: Any) -> None:
        self.freeze_params: list[Any] = []
        for layer in layers:
            self.freeze_params += layer.params() if hasattr(layer, "params") else [layer]

    def __call__(self, params: list[Any]) -> None:
        """Drop their gradients."""
        for param in self.freeze_params:
            param.grad = None
