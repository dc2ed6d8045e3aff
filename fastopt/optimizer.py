"""`Optimizer`: plan, check, commit; the state; the hyperparameters that can be changed at any time."""

from collections.abc import Mapping, MutableMapping, MutableSequence
from dataclasses import dataclass, field, fields
from functools import partial
from math import inf, isfinite
from numbers import Real
from typing import Any, ClassVar

import numpy as np

from fastopt.driver import available, driver_of
from fastopt.packing import Packed
from fastopt.plan import Layout, Plan, align, aligned_zeros, kind, survey
from fastopt.threads import allowed, check_threads

__all__ = ["Optimizer", "State", "hyperparameter"]


def hyperparameter(default: float, *, most: float = inf, below: float = inf) -> Any:
    """Give the field of a rule for a finite number from 0 up to a bound.

    Parameters
    ----------
    default : float
        The value if none is given.
    most : float
        The largest value.
    below : float
        A bound that the value must stay below.
    """

    def check(name: str, value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, Real):
            shown = repr(value) if isinstance(value, str | bool) else kind(value)
            raise TypeError(f"{name} must be a number, not {shown}")
        number = float(value)
        if not (isfinite(number) and 0 <= number <= most and number < below):
            limit = f" and at most {most:g}" if most < inf else f" and below {below:g}" if below < inf else ""
            raise ValueError(f"{name} must be at least 0{limit or ' and finite'}, not {value}")
        return number

    return field(default=default, metadata={"check": check})


# grad_scale, l2 and keep with nothing wrapped around the rule. (Joined to the others with +, as unpacking
# takes five times as long.)
UNWRAPPED = (1.0, 0.0, 1.0)


class State:
    """An array of state for each parameter, in the order in which the kernel takes them.

    Reads as None before the first step, then as a dict or list like the caller's, of arrays in the
    parameters' shapes. The arrays are views, so that writing into them changes the state; the
    container is made at each reading.
    """

    def __set_name__(self, owner: type["Optimizer"], name: str) -> None:
        self.name, self.index = name, len(owner.states)
        owner.states = (*owner.states, name)

    def __get__(self, instance: "Optimizer | None", owner: type) -> Any:
        if instance is None:
            return self
        return instance._state(self.index)

    def __set__(self, instance: object, value: Any) -> None:
        raise AttributeError(
            f"the state can't be replaced; write into its arrays: optimizer.{self.name}[key][...] = value"
        )


@dataclass(eq=False, kw_only=True)
class Optimizer:
    """What all rules share: a subclass names its kernel, its state and its scalars.

    Parameters
    ----------
    threads : int, optional
        How many threads a large step may use; by default what `fastopt.set_num_threads` says.

    Attributes
    ----------
    iter : int
        The number of steps taken.
    """

    kernel: ClassVar[Any]
    states: ClassVar[tuple[str, ...]] = ()
    # With fewer elements two threads take longer than one. Rules without root and division have
    # less to share out.
    parallel_from: ClassVar[int] = 20_000

    threads: int | None = field(default=None, repr=False, metadata={"check": check_threads})

    def __post_init__(self) -> None:
        self._counter = np.zeros((), np.int64)  # counted up by compiled code, together with the update
        self._plan: Plan | None = None
        self._layout = Layout()
        self._buffers: dict[np.dtype[Any], tuple[np.ndarray, ...]] = {}
        self._container: type | None = None

    def __setattr__(self, name: str, value: Any) -> None:
        # A descriptor would do this too, but every read of a hyperparameter would take longer.
        known = self.__dataclass_fields__.get(name)
        if known is not None and "check" in known.metadata:
            value = known.metadata["check"](name, value)
        elif not (name.startswith("_") or hasattr(type(self), name)):
            there = ", ".join(known.name for known in fields(self))
            raise AttributeError(f"{type(self).__name__} has no {name!r}; there are {there}")
        super().__setattr__(name, value)

    @property
    def iter(self) -> int:
        """The number of steps taken."""
        return int(self._counter)

    @iter.setter
    def iter(self, value: int) -> None:
        if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 0:
            raise ValueError(f"iter must be a whole number from 0, not {value!r}")
        self._counter[()] = value

    @classmethod
    def compile(cls, dtype: Any) -> None:
        """Compile what steps on arrays of one dtype will use, or read it from the disk."""
        dtype = np.dtype(dtype)
        scalars = 3 + len(cls().scalars(1))
        if available():
            for parallel in {False, allowed() > 1}:
                driver_of(cls.kernel, dtype, len(cls.states), scalars, parallel)
        else:
            cls.kernel(*[np.empty(0, dtype)] * (2 + len(cls.states)), *[dtype.type(0)] * scalars)

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
        Whatever is raised is raised before anything has changed, KeyboardInterrupt too. The same
        array listed twice is updated twice, in order, each time with a state of its own. If both are
        packed (`fastopt.pack`), the step is one pass over the whole buffer.
        """
        if (
            isinstance(params, Packed)
            and isinstance(grads, Packed)
            and (params.layout is grads.layout is self._layout or self._one_pass(params, grads))
        ):
            keys: Any = params.layout
            values, slopes = params.flats, grads.flats
        else:
            keys, values, slopes = align(params, grads)
        scalars = UNWRAPPED + self.scalars(self._counter.item() + 1)
        plan = self._plan
        if (
            plan is None
            or (plan.keys is not keys and plan.keys != keys)
            or (plan.large and plan.threads != allowed(self.threads, plan.elements))
            or not plan.commit(values, slopes, scalars)
        ):
            plan = self._make_plan(keys, values, slopes, params, grads, len(scalars))
            scalars = tuple(map(float, scalars))  # whatever a rule gives
            if not plan.commit(values, slopes, scalars):
                raise RuntimeError("the arrays were changed during the step")

    def _make_plan(
        self, keys: Any, values: list[Any], slopes: list[Any], params: Any, grads: Any, scalars: int
    ) -> Plan:
        container = dict if isinstance(params, Mapping) else list
        if self._container not in (None, container):
            raise TypeError(f"params was a {self._container.__name__} at earlier steps, now it is not")
        assignable = isinstance(params, MutableMapping | MutableSequence)
        packed = isinstance(keys, Layout)
        layout = survey(*align(params, grads), self._layout, assignable)
        if layout != self._layout:
            self._buffers = self._grown(layout)
            self._layout = keys if packed else layout
        if packed:  # each buffer is one array
            layout = Layout()
            for flat in values:
                layout.place(flat.dtype, flat, flat.shape, flat.dtype)
        plan = Plan(
            type(self).kernel,
            list(layout) if packed else keys,
            values,
            slopes,
            layout,
            self._buffers,
            self._counter,
            params,
            scalars,
            partial(allowed, self.threads),
            self.parallel_from,
        )
        plan.keys = keys
        self._container = container
        self._plan = plan if plan.reusable else None
        return plan

    def _one_pass(self, params: Packed, grads: Packed) -> bool:
        """Whether parameters, gradients and state are packed alike."""
        layout = params.layout
        if grads.layout is not layout:
            if grads.layout != layout:
                return False
            grads.layout = layout  # found at once from now on
        return layout is self._layout or not self._layout or layout == self._layout

    def _grown(self, layout: Layout) -> dict[np.dtype[Any], tuple[np.ndarray, ...]]:
        """Give state buffers with room for this layout, the new part zero."""
        buffers = {}
        for dtype, size in layout.sizes().items():
            buffers[dtype] = tuple(aligned_zeros(size, dtype) for _ in self.states)
            for new, old in zip(buffers[dtype], self._buffers.get(dtype, ()), strict=False):
                new[: old.size] = old
        return buffers

    def _state(self, index: int) -> Any:
        """Give views of one state, as a dict or list."""
        if self._container is None:
            return None
        views = {key: slot.shaped(self._buffers[slot.dtype][index]) for key, slot in self._layout.items()}
        return views if self._container is dict else list(views.values())

    def __getstate__(self) -> dict[str, Any]:
        # A plan knows arrays by their addresses, which are this process's.
        return {**self.__dict__, "_plan": None}
