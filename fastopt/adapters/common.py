"""What several adapters share."""

import sys
from collections.abc import MutableMapping, Sequence
from dataclasses import KW_ONLY, dataclass
from importlib import import_module
from itertools import chain
from operator import is_
from typing import Any

import numpy as np

from fastopt import optimizers
from fastopt.optimizer import Optimizer, hyperparameter

__all__ = ["Linked", "PaperAdam", "in_form_of", "library", "step_from"]


@dataclass(eq=False)
class PaperAdam(optimizers.AdamW):
    """Adam with eps on the root of the corrected v, as in the paper and in the courses."""

    _: KW_ONLY
    weight_decay: float = hyperparameter(0.0)


def library(module: str, package: str) -> Any:
    """Import a library's module. The error of a missing one says how to install it."""
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        top = module.split(".")[0]
        if error.name != top:
            raise
        raise ModuleNotFoundError(f"this needs {top}: python -m pip install {package}", name=top) from None


def in_form_of(form: type[Optimizer], name: str) -> Any:
    """Return a rule's class with a library's methods, for the ``__getattr__`` of their module."""
    module = form.__module__
    if name not in optimizers.__all__:
        raise AttributeError(f"module {module!r} has no attribute {name!r}")
    rule = getattr(optimizers, name)
    made = type(name, (form, rule), {"__module__": module, "__doc__": rule.__doc__})
    setattr(sys.modules[module], name, made)
    return made


class Linked:
    """An optimizer whose state arrays belong to another library: it continues from those that it is shown.

    What it returns are views of its own state. As long as it is shown them again, and the count of steps
    fits, nothing is copied; whatever else it is shown becomes its state.
    """

    def __init__(self, rule: Optimizer) -> None:
        self.rule = rule
        self.held: list[list[np.ndarray]] = []

    def step(
        self,
        t: int | None,
        params: list[np.ndarray],
        grads: list[Any],
        states: Sequence[list[np.ndarray]],
        **hyperparameters: float,
    ) -> list[list[np.ndarray]]:
        """Take step t, from 1, by default the next, and return the states after it.

        ``states`` has, for each state of the rule, the arrays before the step, in the order of ``params``.
        """
        rule = self.rule
        for name, value in hyperparameters.items():
            if getattr(rule, name) != value:
                setattr(rule, name, value)
        t = rule.iter + 1 if t is None else t
        shown, held = [*chain(*states)], [*chain(*self.held)]
        if t != rule.iter + 1 or len(shown) != len(held) or not all(map(is_, shown, held)):
            rule = self._resumed(t, params, states)
        rule.update(params, grads)
        if rule is not self.rule:
            self.rule, self.held = rule, [getattr(rule, name) for name in rule.states]
        return self.held

    def _resumed(self, t: int, params: list[np.ndarray], states: Sequence[list[np.ndarray]]) -> Optimizer:
        """Return the rule as it is before step t, with copies of these states."""
        dtypes = [np.promote_types(param.dtype, np.float32) for param in params]
        copies = [[*map(np.asarray, arrays, dtypes)] for arrays in states]
        state = self.rule.state_dict()
        state.update(iter=t - 1, state=dict(zip(self.rule.states, copies, strict=True)))
        rule = type(self.rule)(threads=self.rule.threads)
        rule.load_state_dict(state)
        return rule

    def __getstate__(self) -> dict[str, Any]:
        # Copies of the views would be views no more.
        return {"rule": self.rule, "held": []}


def step_from(
    home: MutableMapping[str, Any],
    rule: type[Optimizer],
    t: int | None,
    params: list[np.ndarray],
    grads: list[Any],
    states: Sequence[Sequence[str]],
    **hyperparameters: float,
) -> None:
    """Take a step of a rule whose state is in a dict; what is missing there is 0.

    ``states`` has, for each state of the rule, its names in the dict, in the order of ``params``. An entry
    whose name begins with "fastopt" is added, to save time. The rest is as in `Linked.step`.
    """
    for names in states:
        for name, param in zip(names, params, strict=True):
            if name not in home:
                home[name] = np.zeros_like(param)
    own = " ".join(["fastopt", *chain(*states)])
    link = home.get(own)
    if link is None or type(link.rule) is not rule:
        link = Linked(rule())
    shown = [[home[name] for name in names] for names in states]
    held = link.step(t, params, grads, shown, **hyperparameters)
    home.update(zip(chain(*states), chain(*held), strict=True))
    home[own] = link
