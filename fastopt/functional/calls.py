"""What stands behind a function: plans for arrays like those of the last calls."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import fields
from functools import partial
from itertools import chain
from threading import RLock
from typing import Any, NamedTuple

import numpy as np

from fastopt.checks import integer
from fastopt.configuration import Configuration
from fastopt.engine.memory import Memory
from fastopt.engine.plan import Plan
from fastopt.engine.planning import make_plan
from fastopt.functional.given import (
    arrays_of,
    check_apart,
    check_state,
    is_contiguous,
    label,
    layout_of,
    listed,
)
from fastopt.options.base import NEUTRAL_SCALARS
from fastopt.step import Step

__all__ = ["Calls"]

# Options that functions have, too.
OPTIONS = ("weight_decay", "decoupled", "maximize")

# Number of sets of hyperparameters, and of kinds of arrays, that a function knows at a time.
MAX_KNOWN = 64


class Settings(NamedTuple):
    """The hyperparameters of a call.

    Attributes
    ----------
    given : dict
        As they were given, checked.
    view : Optimizer
        What has all hyperparameters, and is asked for scalars only.
    first : tuple of float
        The kernel's first three scalars.
    constant : tuple of float or None
        All scalars, if they are the same at each step.
    """

    given: dict[str, Any]
    view: Any
    first: tuple[float, float, float]
    constant: tuple[float, ...] | None


class Calls:
    """The calls of a function.

    Parameters
    ----------
    name : str
        Of the function.
    rule : type of Optimizer
        The rule.
    """

    def __init__(self, name: str, rule: Any) -> None:
        self.name, self.rule, self.lock = name, rule, RLock()
        own = [known for known in fields(rule) if known.name not in Configuration.__dataclass_fields__]
        self.fields = {known.name: known for known in (*own, *map(rule.__dataclass_fields__.get, OPTIONS))}
        self.defaults = {name: known.default for name, known in self.fields.items()}
        self.known: dict[Any, Settings] = {}
        self.plans: dict[Any, Plan] = {}
        self.needs_step, self.last = True, Settings({}, None, NEUTRAL_SCALARS, None)
        view = self.settings({}).view
        self.needs_step = rule.n_totals > 0 or view.scalars(1) != view.scalars(7)
        self.known.clear()

    def settings(self, given: dict[str, Any]) -> Settings:
        """Return the hyperparameters of a call.

        Raises
        ------
        TypeError, ValueError
            If one is unknown, or not as it must be.
        """
        # Most that is new differs from the last in the learning rate only.
        checked, last = {}, self.last.given
        for name, value in given.items():
            if last.get(name) is value is not None:
                checked[name] = value
            elif name in self.fields:
                checked[name] = self.fields[name].metadata["check"](name, value)
            else:
                raise TypeError(f"{self.name}() has no {name!r}; there are {', '.join(self.fields)}")
        view = object.__new__(self.rule)
        own = vars(view)
        own.update(self.defaults)
        own.update(checked)
        # Where the decay is in the rule's own formula, it is nowhere else.
        decay = view.outer_decay
        first = NEUTRAL_SCALARS
        if own["maximize"] or decay:
            first = (-1.0 if own["maximize"] else 1.0, *view.decay_scalars(decay))
        needs_step = self.needs_step or any(own[n] != self.defaults[n] for n in self.rule.step_arguments)
        settings = Settings(checked, view, first, None if needs_step else first + view.scalars(1))
        if len(self.known) >= MAX_KNOWN:
            self.known.clear()
        self.last = settings
        with suppress(TypeError):  # a list can't be a key
            self.known[tuple(given.items())] = settings
        return settings

    def all_states(self, states: tuple[Any, ...], given: dict[str, Any]) -> tuple[Any, ...]:
        """Return all states, of which some are among the named arguments, from where they are taken.

        Raises
        ------
        TypeError
            If there are too many, or too few.
        """
        names = self.rule.states
        found = (*states, *(given.pop(name) for name in names[len(states) :] if name in given))
        if len(found) != len(names):
            wanted = ", ".join(("param", "grad", *names))
            raise TypeError(f"{self.name}() takes the arrays {wanted}, not {2 + len(found)} of them")
        return found

    def take(self, param: Any, grad: Any, states: tuple[Any, ...], t: Any, given: dict[str, Any]) -> None:
        """Take a step, by a plan for arrays like these if there is one."""
        try:
            settings = self.known.get(tuple(given.items())) or self.settings(given)
        except TypeError:  # a value can't be a key: which one, or what else is wrong, is named
            settings = self.settings(given)
        if type(t) is not int or t < 1:
            t = self.check_step(t, settings)
        try:
            if type(param) is list:
                key: Any = tuple([array.shape for array in param])
                lists = [grad, *states]
                # Else an array could take the place of another one.
                if [own for own in lists if type(own) is not list or len(own) != len(param)]:
                    key = None
                arrays = [*param, *chain(*lists)]
            else:
                key, arrays = (param.shape, param.dtype), [param, grad, *states]
        except (AttributeError, TypeError):  # what is no array, or no list, is named below
            key, arrays = None, []
        plan = self.plans.get(key)
        if plan is not None and plan.drive is not None:
            scalars = settings.constant or settings.first + settings.view.scalars(t)
            if plan.is_compiled and plan.n_threads == 1:
                is_done = plan.drive(arrays, arrays, scalars, plan.guard.item())
            else:
                with self.lock:  # several calls, between which no other thread may use what the plan has
                    is_done = plan.drive(arrays, arrays, scalars, plan.guard.item())
            if is_done is not False:
                return
        self.take_anew(key, param, grad, states, t, given)

    def check_step(self, t: Any, settings: Settings) -> int:
        """Return the number of a step, or say what it must be."""
        if t is None and settings.constant is None:
            reason = "" if self.needs_step else f", with {' or '.join(self.rule.step_arguments)}"
            raise TypeError(f"{self.name}() needs t, the number of this step, from 1{reason}")
        if isinstance(t, float) and t.is_integer():
            raise TypeError(f"t must be a whole number, not {t!r}: write int(t)")
        return 1 if t is None else integer("t", t, 1)

    def take_anew(
        self, key: Any, param: Any, grad: Any, states: tuple[Any, ...], t: int, given: dict[str, Any]
    ) -> None:
        """Take a step by an optimizer that is made for it, and plan the next one."""
        if isinstance(param, Mapping):
            raise TypeError(
                "param is a dict: functions take arrays and lists of arrays, such as list(params.values()); "
                f"the class {self.rule.__name__} takes dicts"
            )
        optimizer = self.rule(**given)
        engine, names = optimizer.engine, self.rule.states
        arrays = arrays_of(param, grad)
        layout = layout_of(arrays, engine.rule.is_whole)
        own = {name: listed(name, state, param) for name, state in zip(names, states, strict=True)}
        for spec in engine.memory.specs:
            slots = spec.layout(layout).values()
            for i, (state, slot) in enumerate(zip(own[spec.name], slots, strict=True)):
                check_state(label(spec.name, i, param), state, slot.shape)
        check_apart(arrays, own)
        by_key = {name: dict(zip(layout, values, strict=True)) for name, values in own.items()}
        counts = dict.fromkeys(layout, t - 1)
        engine.memory = engine.memory.with_states(layout, dict, by_key, counts, t - 1)
        step = Step(optimizer, arrays)
        for name, values in own.items():
            for state, view in zip(values, engine.memory.views(name).values(), strict=True):
                step.add(partial(np.ndarray.__setitem__, state, ..., view))
        optimizer.take(step)
        self.keep_plan(key, step, [*chain(*own.values())])

    def keep_plan(self, key: Any, step: Step, states: list[Any]) -> None:
        """Plan the next step of arrays like these, if it is a single call."""
        engine, arrays = step.optimizer.engine, step.arrays
        memory = Memory(engine.memory.specs, engine.memory.layout, dict)
        slots = [slot for layout in memory.layouts for slot in layout.values()]
        if not all(map(is_contiguous, states, slots)):
            return
        plan = make_plan(
            engine.rule, memory, arrays, step.groups(), n_threads=step.n_threads, is_strict=False,
            n_averages=0, given_states=states, between=step.between,
        )  # fmt: skip
        if plan.drive is None:
            return
        if len(self.plans) >= MAX_KNOWN:
            self.plans.clear()
        self.plans[key] = plan

    def states(self, param: Any, grad: Any = None, **hyperparameters: Any) -> tuple[Any, ...]:
        """Return the states before the first step, for a parameter or a list of them.

        Parameters
        ----------
        param : array or list of arrays
            The parameter.
        grad : array or list of arrays, optional
            Its first gradient, from which some rules' states begin; by default 0.
        **hyperparameters
            Those of the function, on which some rules' states depend.

        Returns
        -------
        tuple of arrays or lists of arrays
            One for each state, in the order of the function's arguments.
        """
        optimizer = self.rule(**hyperparameters)
        if isinstance(param, tuple):
            param, grad = list(param), None if grad is None else list(grad)
        if grad is None:
            grad = [np.zeros_like(p) for p in param] if isinstance(param, list) else np.zeros_like(param)
        arrays = arrays_of(param, grad)
        memory = optimizer.engine.memory.extended(layout_of(arrays, optimizer.engine.rule.is_whole), dict)
        Step(optimizer, arrays).initialize(memory, list(zip(*arrays[:3], strict=True)), memory.specs)
        found = [[view.copy("K") for view in memory.views(name).values()] for name in self.rule.states]
        return tuple(values if isinstance(param, list) else values[0] for values in found)
