"""`Optimizer`: plan, check, commit; the state; the hyperparameters that can be changed at any time."""

from collections.abc import Hashable, Mapping, MutableMapping, MutableSequence, Sequence
from math import inf, isfinite
from numbers import Real
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from fastopt.plan import Plan, Slot, align

__all__ = ["Hyperparameter", "Optimizer", "State"]


class Hyperparameter:
    """A finite number from 0 up to a bound, checked whenever it is assigned; it counts at once.

    Parameters
    ----------
    most : float
        The largest value.
    below : float
        A bound that the value must stay below.

    Raises
    ------
    TypeError
        On assigning anything but a real number.
    ValueError
        On assigning NaN or a number out of range.
    """

    def __init__(self, *, most: float = inf, below: float = inf) -> None:
        self.most = most
        self.below = below

    def __set_name__(self, owner: type["Optimizer"], name: str) -> None:
        self.name = name
        owner.hyperparameters = (*owner.hyperparameters, name)

    if TYPE_CHECKING:  # at run time the value is found in the instance, at no cost

        def __get__(self, instance: object, owner: type) -> float: ...

    def __set__(self, instance: object, value: Any) -> None:
        if isinstance(value, bool) or not isinstance(value, Real):
            raise TypeError(f"{self.name} must be a number, not {value!r}")
        number = float(value)
        if not (isfinite(number) and 0 <= number <= self.most and number < self.below):
            most = "" if self.most == inf else f" and at most {self.most:g}"
            below = "" if self.below == inf else f" and below {self.below:g}"
            raise ValueError(f"{self.name} must be at least 0{most or below or ' and finite'}, not {value}")
        instance.__dict__[self.name] = number


class State:
    """An array of state for each parameter, in the order in which the kernel takes them.

    Reads as None before the first step, then as a dict or list like the caller's, of arrays in the
    parameters' shapes. The arrays are views, so that writing into them changes the state; the
    container is made at each reading.
    """

    def __set_name__(self, owner: type["Optimizer"], name: str) -> None:
        self.index = len(owner.states)
        owner.states = (*owner.states, name)

    def __get__(self, instance: "Optimizer | None", owner: type) -> Any:
        if instance is None:
            return self
        return instance._state(self.index)

    def __set__(self, instance: object, value: Any) -> None:
        raise AttributeError("the state can't be replaced; write into its arrays: opt.v[key][...] = value")


class Optimizer:
    """What all rules share: a subclass names its kernel, its state and its scalars.

    Attributes
    ----------
    iter : int
        The number of steps taken.
    """

    kernel: ClassVar[Any]
    hyperparameters: ClassVar[tuple[str, ...]] = ()
    states: ClassVar[tuple[str, ...]] = ()

    def __init__(self) -> None:
        self.iter = 0
        self._plan: Plan | None = None
        self._slots: Mapping[Hashable, Slot] = {}
        self._buffers: dict[np.dtype[Any], tuple[np.ndarray, ...]] = {}
        self._container: type | None = None

    def scalars(self, t: int) -> tuple[float, ...]:
        """Give what the kernel takes after grad_scale, l2 and keep, at step t = 1, 2, ..."""
        raise NotImplementedError

    def update(self, params: Any, grads: Any) -> None:
        """Take one step: update the parameters in place.

        Parameters
        ----------
        params : dict or list
            Arrays of any shape and layout, float32 or float64, which keep their identity; or Python
            floats and NumPy scalars, which are replaced in the container. (float16 is updated in
            float32 and rounded.)
        grads : dict or list, as ``params``
            For each parameter an array of its shape, of real numbers of any dtype, rounded to the
            parameter's. Never written to. Keys without a parameter are ignored.

        Raises
        ------
        KeyError
            If a gradient is missing.
        TypeError
            If a container, a parameter or a gradient is of a kind that can't be taken.
        ValueError
            If shapes or lengths differ, a parameter is read-only, or it has changed its shape or dtype.

        Notes
        -----
        Whatever is raised is raised before anything has changed. The same array listed twice is
        updated twice, in order, each time with a state of its own.
        """
        keys, values, slopes = align(params, grads)
        scalars = (1.0, 0.0, 1.0, *self.scalars(self.iter + 1))
        plan = self._plan
        if plan is None or plan.keys != keys or not plan.commit(values, slopes, self._buffers, scalars):
            plan = self._make_plan(keys, values, slopes, params)
            if not plan.commit(values, slopes, self._buffers, scalars):
                raise RuntimeError("the arrays were changed during the step")
        for place in plan.numbers:
            params[keys[place]] = values[place]
        self.iter += 1

    def _make_plan(self, keys: Sequence[Any], values: list[Any], slopes: list[Any], params: Any) -> Plan:
        container = dict if isinstance(params, Mapping) else list
        if self._container not in (None, container):
            raise TypeError(f"params was a {self._container.__name__} at earlier steps, now it is not")
        assignable = isinstance(params, MutableMapping | MutableSequence)
        plan = Plan(type(self).kernel, keys, values, slopes, self._slots, assignable)
        if plan.slots.keys() != self._slots.keys():
            self._buffers = self._grown(plan.slots)
            self._slots = plan.slots
        self._container = container
        self._plan = plan if plan.reusable else None
        return plan

    def _grown(self, slots: Mapping[Hashable, Slot]) -> dict[np.dtype[Any], tuple[np.ndarray, ...]]:
        """Give state buffers with room for these slots, the new ones zero."""
        buffers = {}
        for dtype in {slot.dtype for slot in slots.values()}:
            size = sum(slot.size for slot in slots.values() if slot.dtype == dtype)
            buffers[dtype] = tuple(np.zeros(size, dtype) for _ in self.states)
            for new, old in zip(buffers[dtype], self._buffers.get(dtype, ()), strict=False):
                new[: old.size] = old
        return buffers

    def _state(self, index: int) -> Any:
        """Give views of one state, as a dict or list."""
        if self._container is None:
            return None
        views = {key: slot.shaped(self._buffers[slot.dtype][index]) for key, slot in self._slots.items()}
        return views if self._container is dict else list(views.values())

    def __getstate__(self) -> dict[str, Any]:
        # A plan knows arrays by their addresses, which are this process's.
        return {**self.__dict__, "_plan": None}

    def __repr__(self) -> str:
        values = ", ".join(f"{name}={getattr(self, name)!r}" for name in self.hyperparameters)
        return f"{type(self).__name__}({values})"
