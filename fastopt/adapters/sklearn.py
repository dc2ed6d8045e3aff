"""scikit-learn: the steps of ``MLPClassifier`` and ``MLPRegressor`` with ``solver="adam"`` or ``"sgd"``.

All that changes is how scikit-learn's own optimizers take a step. Their state stays in their attributes, so
that an estimator can be pickled, cloned and trained on, with fastopt or without, at any time.

Examples
--------
>>> from sklearn.neural_network import MLPRegressor
>>> from fastopt.adapters.sklearn import patch
>>> x = np.linspace(-1, 1, 50)[:, None]
>>> model = MLPRegressor(hidden_layer_sizes=[4], random_state=0)
>>> with patch():
...     model.partial_fit(x, x[:, 0]).n_iter_
1

One place is patched, ``BaseOptimizer.update_params``. It asks a context variable whether the step is
fastopt's, so objects and pickles stay scikit-learn's own.
"""

from contextvars import ContextVar
from dataclasses import fields
from functools import cache, wraps
from typing import Any

import numpy as np

from fastopt.adapters import rules
from fastopt.adapters.common import library
from fastopt.checks import kind
from fastopt.optimizer import Optimizer

__all__ = ["patch", "unpatch"]

TESTED = ("1.5", "1.6", "1.7", "1.8", "1.9")

current: ContextVar["patch | None"] = ContextVar("current", default=None)


class patch:
    """Let fastopt take the steps of scikit-learn's networks in this thread, to the block's end or `unpatch`.

    Parameters
    ----------
    optimizer : Optimizer, optional
        A rule to train with instead of the estimator's solver; by default the solver's own, with its
        hyperparameters. Each estimator gets a copy without state; lr and the others can be changed during the
        training. With ``solver="sgd"`` lr is multiplied by what the estimator's learning_rate mode makes of
        learning_rate_init, unless it is a schedule.

    Raises
    ------
    RuntimeError
        If this version of scikit-learn hasn't been tested.
    ModuleNotFoundError
        If there is none.
    TypeError
        If optimizer is no optimizer of fastopt.

    Notes
    -----
    The bits are scikit-learn's own, but for Adam in float32, of which NumPy 2 computes a part in float64
    there. Other threads and processes are not affected. The workers of ``n_jobs`` are patched by joblib:

        with joblib.parallel_config("loky", initializer=patch):
            cross_val_score(classifier, X, y, n_jobs=2)

    Examples
    --------
    >>> from fastopt.adapters.sklearn import patch
    >>> from sklearn.neural_network import MLPRegressor
    >>> x = np.linspace(-1, 1, 50)[:, None]
    >>> model = MLPRegressor(hidden_layer_sizes=[4], random_state=0)
    >>> with patch(fastopt.Lion(0.001)):
    ...     model.partial_fit(x, x[:, 0]).n_iter_
    1
    """

    def __init__(self, optimizer: Optimizer | None = None) -> None:
        if not (optimizer is None or isinstance(optimizer, Optimizer)):
            raise TypeError(f"optimizer must be one of fastopt's, not {kind(optimizer)}")
        install()
        self.optimizer = optimizer
        # What was there before, for each block that it is entered for; the first one may be entered already.
        self.before, self.is_entered = [current.get()], False
        current.set(self)

    def __enter__(self) -> "patch":
        if self.is_entered or current.get() is not self:
            self.before.append(current.get())
            current.set(self)
        self.is_entered = True
        return self

    def __exit__(self, *error: object) -> None:
        current.set(self.before.pop() if self.before else None)


def unpatch() -> None:
    """Let scikit-learn take its own steps again, in this thread.

    Examples
    --------
    >>> from fastopt.adapters.sklearn import patch, unpatch
    >>> from sklearn.neural_network import MLPRegressor
    >>> own = patch()  # from here on, without a block
    >>> unpatch()
    >>> x = np.linspace(-1, 1, 50)[:, None]
    >>> MLPRegressor(random_state=0).partial_fit(x, x[:, 0]).n_iter_
    1
    """
    current.set(None)


@cache
def install() -> None:
    """Wrap the step of scikit-learn's optimizers, once."""
    version = library("sklearn", "scikit-learn").__version__
    if ".".join(version.split(".")[:2]) not in TESTED:
        raise RuntimeError(
            f"scikit-learn {version} is left as it is: fastopt has been tested with {', '.join(TESTED)}"
        )
    module = library("sklearn.neural_network._stochastic_optimizers", "scikit-learn")
    own = {module.SGDOptimizer: sgd_step, module.AdamOptimizer: adam_step}
    original = module.BaseOptimizer.update_params

    @wraps(original)
    def update_params(self: Any, params: list[Any], grads: list[Any]) -> None:
        active = current.get()
        if active is None or type(self) not in own:
            original(self, params, grads)
        elif active.optimizer is None:
            own[type(self)](self, params, grads)
        else:
            other_step(self, active.optimizer, params, grads)

    module.BaseOptimizer.update_params = update_params


def sgd_step(solver: Any, params: list[Any], grads: list[Any]) -> None:
    """Take a step of ``SGDOptimizer``."""
    rule = rules.double_momentum if solver.nesterov else rules.momentum
    rule(list(params), list(grads), solver.velocities, lr=solver.learning_rate, momentum=solver.momentum)


def adam_step(solver: Any, params: list[Any], grads: list[Any]) -> None:
    """Take a step of ``AdamOptimizer``."""
    t, lr, beta1, beta2 = solver.t + 1, solver.learning_rate_init, solver.beta_1, solver.beta_2
    rules.averaged_adam(
        list(params), list(grads), solver.ms, solver.vs,
        t=t, lr=lr, beta1=beta1, beta2=beta2, eps=solver.epsilon,
    )  # fmt: skip
    solver.t, solver.learning_rate = t, lr * np.sqrt(1 - beta2**t) / (1 - beta1**t)


def other_step(solver: Any, optimizer: Optimizer, params: list[Any], grads: list[Any]) -> None:
    """Take a step of another rule, which is kept by the solver and pickled with it."""
    rule = vars(solver).get("fastopt")
    if type(rule) is not type(optimizer):
        rule = solver.fastopt = optimizer.unused()
    names = {field.name for field in fields(optimizer)}
    wanted = {name: getattr(optimizer, name) for name in names}
    for name in optimizer.schedules:
        del wanted[name]  # the copy has the schedule, and counts its own steps
    if "lr" in wanted and hasattr(solver, "lr_schedule"):
        wanted["lr"] *= solver.learning_rate / solver.learning_rate_init
    for name, value in wanted.items():
        if getattr(rule, name) != value:
            setattr(rule, name, value)
    rule.update(params, grads)
