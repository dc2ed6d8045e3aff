"""`Optimizer`: plan, check, commit; the state; the hyperparameters that can be changed at any time."""

import warnings
from collections.abc import Callable, Hashable, Iterator, Mapping, MutableMapping, MutableSequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from functools import partial
from operator import setitem
from types import MethodType
from typing import Any, ClassVar

import numpy as np

from fastopt import checkpoint
from fastopt.around import FOLLOWERS, OPTIONS, UNWRAPPED, Around
from fastopt.checks import choice, hyperparameter, kind, whole
from fastopt.driver import DONE, NONFINITE, available, driver_of
from fastopt.groups import FROZEN, Groups
from fastopt.packing import Packed
from fastopt.plan import (
    Calls,
    Layout,
    Plan,
    Slot,
    align,
    aligned_zeros,
    compute_dtype,
    finite,
    gathering,
    run,
    survey,
)
from fastopt.recording import Record
from fastopt.rows import Rows
from fastopt.schedules import Schedule
from fastopt.statedict import MOST_STEPS, check_state, copied, copies
from fastopt.threads import allowed, check_threads, launch

__all__ = ["Optimizer", "State", "hyperparameter", "whole"]

Buffers = dict[np.dtype[Any], tuple[np.ndarray, ...]]


class State:
    """An array of state for each parameter, in the order in which the kernel takes them.

    Reads as None before the first step, then as a dict or list like the caller's, of arrays in the
    parameters' shapes. The arrays are views, so that writing into them changes the state; the
    container is made at each reading.

    Parameters
    ----------
    start : callable, optional
        Gives the values before a parameter's first step, from the optimizer, the parameter and its gradient;
        else they are 0.
    shape : callable, optional
        Gives the shape of the state from that of the parameter; else they are the same. The shapes of all
        states of a parameter, broadcast, are its own.
    """

    def __init__(
        self,
        start: Callable[[Any, Any, Any], Any] | None = None,
        *,
        shape: Callable[[tuple[int, ...]], tuple[int, ...]] | None = None,
    ) -> None:
        self.start = start
        self.shape = shape

    def __set_name__(self, owner: type["Optimizer"], name: str) -> None:
        self.name, self.index = name, len(owner.states)
        owner.states = (*owner.states, name)

    def layout(self, params: Layout) -> Layout:
        """Give the layout of the state, from that of the parameters."""
        if self.shape is None:
            return params
        own = Layout()
        for key, slot in params.items():
            own.place(key, self.shape(slot.shape), slot.dtype)
        return own

    def __get__(self, instance: "Optimizer | None", owner: type) -> Any:
        if instance is None:
            return self
        return instance._state(self.index)

    def __set__(self, instance: object, value: Any) -> None:
        raise AttributeError(
            f"the state can't be replaced; write into its arrays: optimizer.{self.name}[key][...] = value"
        )


class Follower(State):
    """An array for each parameter that follows it after the rule; None if the option is off."""

    def __set_name__(self, owner: type["Optimizer"], name: str) -> None:
        self.name = name

    def __get__(self, instance: "Optimizer | None", owner: type) -> Any:
        if instance is None:
            return self
        return instance._state(instance.states.index(self.name)) if self.name in instance.states else None


@dataclass(eq=False, kw_only=True)
class Optimizer(Around):
    """What all rules share: a subclass names its kernel, its state and its scalars.

    Parameters
    ----------
    threads : int, optional
        How many threads a large step may use; by default what `fastopt.set_num_threads` says.
    nonfinite : {"warn", "raise", "skip"}
        What to do when a gradient has NaN, infinity, or a value whose square overflows: "warn" (the default)
        takes the step, with NumPy's results, and warns the first time; "raise" raises FloatingPointError
        and "skip" leaves the step out, both at the price of reading the gradients twice.

    Attributes
    ----------
    iter : int
        The number of steps taken.
    skipped : int
        The number of steps, or micro-batches, left out.
    """

    kernel: ClassVar[Any]
    # For a rule that has to know something of whole arrays: the kernel that finds it out. It runs over all
    # arrays before any is updated, and may change the state.
    measure: ClassVar[Any] = None
    # How many of the numbers that it finds, the first, are summed over all arrays.
    totals: ClassVar[int] = 0
    # How many further arrays like the parameter both kernels get after the states, as room for work.
    work: ClassVar[int] = 0
    states: ClassVar[tuple[str, ...]] = ()
    # With fewer elements two threads take longer than one. Rules without root and division have
    # less to share out.
    parallel_from: ClassVar[int] = 20_000

    threads: int | None = field(default=None, repr=False, metadata={"check": check_threads, "saved": False})
    nonfinite: str = choice("warn", "warn", "raise", "skip")

    # The step of each row's last gradient, if there have been any of rows.
    touched = Follower(shape=lambda shape: shape[:1] + (1,) * (len(shape) - 1))
    slow = Follower(lambda self, param, grad: param)
    average = Follower(lambda self, param, grad: param)

    def __post_init__(self) -> None:
        # The number of the next step, which compiled code counts up together with the update; negative
        # during a step of several calls, so that no other comes in between.
        self._turn = np.ones((), np.int64)
        self._skipped = 0
        self._warned = False
        self._plan: Plan | None = None
        self._layout = Layout()
        self._buffers: Buffers = {}
        self._container: type | None = None
        self._accumulator: Any = None
        self._record: Record | None = None
        # Where other processes have further parameters: the C function that adds theirs to totals.
        self._pool: Callable[[np.ndarray], Any] | None = None
        self._check_options()
        self.__dict__.update(self._arranged({}))
        self._hook(self.accumulate)

    def _hook(self, accumulate: int) -> None:
        """Put what happens around whole steps in the place of `update`."""
        from fastopt.accumulating import Accumulator  # an optimizer itself

        step: Callable[[Any, Any], bool] = MethodType(type(self).update, self)
        if self._record is not None:
            step = self._record.around(self, step)
        if accumulate > 1:
            self._accumulator = self._accumulator or Accumulator()
            step = self._accumulator.around(self, step)
        else:
            self._accumulator = None
        # Nothing is asked at a step without them.
        self.__dict__.pop("update", None)
        if accumulate > 1 or self._record is not None:
            self.__dict__["update"] = step

    @property
    def recorded(self) -> Record | None:
        """What `record` has kept so far; None without it."""
        return self._record

    def record(self, every: int = 10) -> Record:
        """Keep what happens to each array at every so many steps, from now on.

        Parameters
        ----------
        every : int, default 10
            How often, from 1.

        Returns
        -------
        Record
            With ``steps``, ``lr``, ``arrays``, ``plot()``; also in ``recorded``. ``str`` gives a line for a
            progress bar.

        Raises
        ------
        TypeError, ValueError
            If ``every`` is no whole number from 1.
        """
        self._record = Record(every)
        self._hook(self.accumulate)
        return self._record

    def __setattr__(self, name: str, value: Any) -> None:
        # A descriptor would do this too, but every read of a hyperparameter would take longer.
        known = self.__dataclass_fields__.get(name)
        if known is not None and "check" in known.metadata:
            check = known.metadata["check"]
            changes: dict[str, Any] = {}
            if name == "lr" and (isinstance(value, Schedule) or self._schedule is not None):
                changes["_schedule"] = value if isinstance(value, Schedule) else None
                value = self._lr_of(value, self.iter) if isinstance(value, Schedule) else value
            changes[name] = check(name, value)
            if name == "groups":
                self._check_groups(changes[name])
            if name in FOLLOWERS and self.iter and changes[name] != getattr(self, name):
                raise ValueError(f"{name} can't change after the first step: make another optimizer with it")
            if "_turn" in self.__dict__:
                if name == "accumulate":
                    if self._accumulator is not None and self._accumulator.count:
                        there = self._accumulator.count
                        raise ValueError(f"accumulate can't change now: {there} micro-batches are in")
                    self._hook(changes[name])
                if name in OPTIONS or "_schedule" in changes:
                    changes = self._arranged(changes) | changes
                if name == "nonfinite":
                    changes["_plan"] = None  # which has it in its table
            self.__dict__.update(changes)
            return
        if not (name.startswith("_") or isinstance(getattr(type(self), name, None), property | State)):
            there = ", ".join(known.name for known in fields(self))
            raise AttributeError(f"{type(self).__name__} has no {name!r}; there are {there}")
        super().__setattr__(name, value)

    @property
    def iter(self) -> int:
        """The number of steps taken."""
        return abs(self._turn.item()) - 1 if "_turn" in self.__dict__ else 0

    @iter.setter
    def iter(self, value: int) -> None:
        if isinstance(value, bool) or not isinstance(value, int | np.integer) or not 0 <= value < MOST_STEPS:
            raise ValueError(f"iter must be a whole number from 0 to below 2⁶², not {value!r}")
        self._turn[()] = value + 1

    @property
    def skipped(self) -> int:
        """The number of steps left out because of gradients that weren't finite."""
        return self._skipped

    @classmethod
    def compile(cls, dtype: Any) -> None:
        """Compile what steps on arrays of one dtype will use, or read it from the disk."""
        dtype, some = np.dtype(dtype), cls()
        arrays, scalars = 2 + len(cls.states) + cls.work, 3 + len(some.scalars(1))
        whole = cls.measure is not None
        for kernel in cls._passes():
            if available():
                look = kernel is cls._passes()[0]
                for parallel in {False, allowed() > 1}:
                    driver_of(kernel, dtype, arrays - 2, scalars, parallel, whole, look)
            else:
                measures = [np.zeros(some.measures((0,)))] * 2
                arguments = [np.empty(0, dtype)] * arrays, [dtype.type(0)] * scalars
                if whole:
                    kernel(1, 0, *arguments[0], *measures, *arguments[1])
                else:
                    kernel(*arguments[0], *arguments[1])

    @classmethod
    def _passes(cls) -> list[Any]:
        """Give what runs over all arrays, one after the other."""
        return [cls.kernel] if cls.measure is None else [cls.measure, cls.kernel]

    def scalars(self, t: int) -> tuple[float, ...]:
        """Give what the kernels take after grad_scale, l2 and keep, at step t = 1, 2, ..."""
        raise NotImplementedError

    def measures(self, shape: tuple[int, ...]) -> int:
        """Give how many numbers `measure` finds out about an array, those it needs on its way included."""
        return 0

    def between(self, plan: Plan) -> Calls:
        """Give the C calls to make between measuring and updating."""
        return []

    def update(self, params: Any, grads: Any) -> bool:
        """Take one step: update the parameters in place.

        Parameters
        ----------
        params : dict or list
            Arrays of any shape and layout, float32 or float64, which keep their identity; or Python
            floats and NumPy scalars, which are replaced in the container. (float16 is updated in
            float32 and rounded.)
        grads : dict or list, as ``params``
            For each parameter an array of its shape, of real numbers of any dtype, rounded to the
            parameter's; or `fastopt.Rows`. Never written to. Keys without a parameter are ignored.

        Returns
        -------
        bool
            True; False if the step was left out (``nonfinite="skip"``), or the gradients are those of a
            micro-batch that others follow (``accumulate``).

        Raises
        ------
        KeyError
            If a gradient is missing.
        TypeError
            If a container, a parameter or a gradient is of a kind that can't be taken.
        ValueError
            If shapes or lengths differ, a parameter is read-only, or it has changed its shape or dtype.
        FloatingPointError
            With ``nonfinite="raise"``, if a gradient has values that aren't finite or whose squares aren't.

        Warns
        -----
        RuntimeWarning
            With ``nonfinite="warn"``, at the first such gradient, when the step has been taken.

        Notes
        -----
        Whatever is raised is raised before anything has changed, KeyboardInterrupt too. The same
        array listed twice is updated twice, in order, each time with a state of its own. If both are
        packed (`fastopt.pack`), the step is one pass over the whole buffer. Steps of one optimizer in
        several Python threads are taken one after the other.
        """
        plain = self._plain
        if (
            isinstance(params, Packed)
            and isinstance(grads, Packed)
            and (params.layout is grads.layout is self._layout or self._one_pass(params, grads))
        ):
            keys: Any = params.layout
            values, slopes = params.flats, grads.flats
        else:
            keys, values, slopes = align(params, grads)
        # In this order: a plan that another thread has outdated since is refused for its turn.
        turn = self._turn.item()
        plan = self._plan
        # What `_current` asks, which would take a twentieth of a small step to call.
        if (
            plan is not None
            and plan.single is not None
            and turn > 0
            and (plan.keys is keys or plan.keys == keys)
            and not (plan.large and plan.threads != allowed(self.threads, plan.elements))
        ):
            scalars = UNWRAPPED + self.scalars(turn) if plain else self._wrapped(turn, keys, values, slopes)
            result = plan.single(id(values), id(slopes), plan.address, id(scalars), turn)
            if result == DONE:
                return True
            if result == NONFINITE:
                self._warn(self._culprit(params, grads, self._layout), turn)
                return True
        return self._update(keys, values, slopes, params, grads)

    def _current(self, keys: Any) -> Plan | None:
        """Give the plan if it is for these keys and for as many threads as a step may take now."""
        plan = self._plan
        if plan is None or (plan.keys is not keys and plan.keys != keys):
            return None
        return None if plan.large and plan.threads != allowed(self.threads, plan.elements) else plan

    def _update(
        self,
        keys: Any,
        values: list[Any],
        slopes: list[Any],
        params: Any,
        grads: Any,
        also: Calls | None = None,
    ) -> bool:
        """Take a step that needs a new plan or several calls, and make others with it."""
        also = also or []
        with self._exclusive() as turn:
            arguments = keys, values, slopes, params, grads
            plan = self._current(keys)
            culprit = ""
            if plan is None or not run(self._calls(turn, plan, *arguments)[1] + also):
                try:
                    plan, calls = self._calls(turn, None, *arguments)
                except FloatingPointError:
                    if self.nonfinite != "skip":
                        raise
                    self._skipped += 1
                    return False
                if plan.unseen:
                    culprit = self._culprit(params, grads, plan.layout)
                if not run(calls + also):
                    raise RuntimeError("the arrays were changed during the step")
            if culprit or plan.found:
                culprit = culprit or self._culprit(params, grads, self._layout) or "a sum of rows"
                self._warn(culprit, turn, 4)
        return True

    def _calls(
        self,
        turn: int,
        plan: Plan | None,
        keys: Any,
        values: list[Any],
        slopes: list[Any],
        params: Any,
        grads: Any,
    ) -> tuple[Plan, Calls]:
        """Give a plan, a new one if there is none, and the calls that take its step."""
        if self._owing or any(isinstance(slope, Rows) for slope in slopes):
            slopes = self._summed(keys, values, slopes)
            grads = dict(zip(keys, slopes, strict=True)) if isinstance(params, Mapping) else slopes
        if self._copies:
            grads = self._copied(params, grads)
            slopes = grads.flats if isinstance(keys, Layout) else align(params, grads)[2]
        self._own[list] = slopes  # the drivers have its id only
        scalars = tuple(map(float, self._wrapped(turn, keys, values, slopes)))  # whatever a rule gives
        new = plan is None
        if plan is None:
            plan = self._make_plan(keys, values, slopes, params, grads, scalars)
        calls = plan.calls(values, slopes, scalars, turn, self._between)
        if self._owing:
            drivers = len(plan.drivers[0])  # which come first, as they may refuse
            parts = self._parts(plan.layout, plan.buffers, Slot.shaped)
            for key, value, slope in zip(keys, values, slopes, strict=True):
                if isinstance(slope, Rows):
                    calls[drivers:drivers] = self._paying(turn, key, value, slope.indices, parts[key])
                    calls.append(partial(setitem, parts[key][-1], slope.indices, turn))
        return plan, [*calls, plan.adopt] if new else calls

    def _between(self, plan: Plan) -> Calls:
        """Give the C calls to make when the totals are known."""
        pooled = [partial(self._pool, plan.running[-1])] if self._pool else []
        return pooled + self.between(plan)

    def _paying(
        self, turn: int, key: Hashable, param: np.ndarray, rows: np.ndarray, states: tuple[np.ndarray, ...]
    ) -> Calls:
        """Give the calls that do to rows what the steps before this one owe them."""
        place = 0 if self._groups is None else self._groups.which[key]
        if place == FROZEN:
            return []
        view = self if self._groups is None else self._groups.views_of(self)[place]
        velocity, touched = states
        if not touched.any():  # until now the gradients were whole ones
            return [partial(setitem, touched, ..., turn - 1)]
        a, b = (x.astype(velocity.dtype) for x in view.owed(turn - 1 - touched[rows].astype(np.float64)))
        p, v, change = (np.empty((rows.size, *param.shape[1:]), velocity.dtype) for _ in range(3))
        return [
            *gathering(param, rows, p),
            *gathering(velocity, rows, v),
            partial(np.multiply, v, a, change),
            partial(np.add, p, change, p),
            partial(np.multiply, v, b, v),
            partial(setitem, param, rows, p),
            partial(setitem, velocity, rows, v),
            partial(setitem, touched, rows, turn - 1),
        ]

    def settle(self, params: Any, rows: Mapping[Any, Any] | None = None) -> None:
        """Do to rows what they are owed (``rows="exact"``), before they are read.

        Parameters
        ----------
        params : dict or list
            What is updated.
        rows : dict, optional
            For keys, or indices in a list, the indices of their rows; by default all rows.

        Raises
        ------
        KeyError, TypeError, ValueError
            If there are no such rows.
        """
        keys, values, _ = align(params, params)
        given = dict(zip(keys, values, strict=True))
        with self._exclusive() as turn:
            calls: Calls = []
            parts = self._parts(self._layout, self._buffers, Slot.shaped)
            for key in given if rows is None else rows:
                if key not in given:
                    raise KeyError(f"there is no parameter {key!r} in {list(given)}")
                shape, dtype = compute_dtype(key, given[key])
                indices = np.arange(shape[0] if shape else 0) if rows is None else np.asarray(rows[key])
                if self._owing and self._in_rows(key):
                    zeros = np.broadcast_to(np.zeros((), dtype), indices.shape + shape[1:])
                    once = Rows(indices, zeros).summed(key, shape, dtype)
                    calls += self._paying(turn, key, given[key], once.indices, parts[key])
            run(calls)

    @contextmanager
    def _exclusive(self) -> Iterator[int]:
        """Keep other threads' steps away; give the number of the next step."""
        with launch:
            turn = abs(self._turn.item())
            self._turn[()] = -turn
            try:
                yield turn
            finally:
                if self._turn.item() < 0:
                    self._turn[()] = turn

    @staticmethod
    def _culprit(params: Any, grads: Any, layout: Layout) -> str:
        """Name the first gradient that has values that aren't finite; "" if there is none."""
        for key, _, grad in zip(*align(params, grads), strict=True):
            if not finite(grad, layout[key].dtype):
                return f"the gradient of {key!r}"
        return ""

    def _warn(self, culprit: str, turn: int, level: int = 3) -> None:
        """Warn of a gradient that isn't finite, the first time."""
        if not self._warned:
            self._warned = True
            warnings.warn(
                f"{culprit} has NaN, infinity, or a value whose square overflows at step {turn}; "
                "nonfinite='raise' or 'skip' refuses such steps",
                RuntimeWarning,
                stacklevel=level,
            )

    def _allowed(self, elements: int) -> int:
        """Give the number of threads for a large step of so many elements."""
        return allowed(self.threads, elements)

    def _make_plan(
        self,
        keys: Any,
        values: list[Any],
        slopes: list[Any],
        params: Any,
        grads: Any,
        scalars: tuple[float, ...],
    ) -> Plan:
        container = dict if isinstance(params, Mapping) else list
        if self._container not in (None, container):
            raise TypeError(f"params was a {self._container.__name__} at earlier steps, now it is not")
        assignable = isinstance(params, MutableMapping | MutableSequence)
        packed = isinstance(keys, Layout)
        layout = survey(*align(params, grads), self._layout, assignable, self.measure is not None)
        if self.nonfinite != "warn" and (culprit := self._culprit(params, grads, layout)):
            turn = abs(self._turn.item())
            raise FloatingPointError(
                f"{culprit} has NaN, infinity, or a value whose square overflows at step {turn}"
            )
        groups = None if packed else self._grouped(keys, values)
        buffers, known = self._buffers, self._layout
        if layout != known:
            buffers = self._grown(layout, params, grads, scalars, groups)
            known = keys if packed else layout
        if packed:  # each buffer is one array
            layout = Layout()
            for flat in values:
                layout.place(flat.dtype, flat.shape, flat.dtype)
        states = buffers if packed else self._parts(layout, buffers, Slot.of)
        plan = Plan(
            self._passes(),
            list(layout) if packed else keys,
            values,
            slopes,
            layout,
            {
                key: (
                    *own[: len(type(self).states)],
                    *(aligned_zeros(layout[key].size, layout[key].dtype) for _ in range(self.work)),
                    *own[len(type(self).states) : len(own) - self._owing],
                )
                for key, own in states.items()
            },
            self._turn,
            params,
            len(scalars) // (1 if groups is None else max(len(groups.sets), 1)),
            len(self.states) - len(type(self).states) - self._owing,
            [0] * len(layout) if groups is None else [groups.which[key] for key in keys],
            self._allowed,
            self.parallel_from,
            self.nonfinite != "warn",
            [self.measures(slot.shape) for slot in layout.values()],
            self.totals,
        )
        plan.keys = keys
        if self._copies or self._owing:
            plan.single = None  # which would be called with the gradients themselves
        plan.layout, plan.buffers = known, buffers
        # Nothing is new before the step is taken, of which this is a part.
        now = {"_buffers": buffers, "_layout": known, "_container": container}
        plan.adopt = partial(self.__dict__.update, now | {"_plan": plan if plan.reusable else None})
        return plan

    def _one_pass(self, params: Packed, grads: Packed) -> bool:
        """Whether parameters, gradients and state are packed alike, and the rule doesn't need the arrays."""
        layout = params.layout
        if self.measure is not None or self.groups is not None or self.decay != "all":
            return False
        if grads.layout is not layout:
            if grads.layout != layout:
                return False
            grads.layout = layout  # found at once from now on
        return layout is self._layout or not self._layout or layout == self._layout

    def _grown(
        self, layout: Layout, params: Any, grads: Any, scalars: tuple[float, ...], groups: Groups | None
    ) -> Buffers:
        """Give state buffers with room for this layout, the new part as before a first step."""
        buffers = self._zeros(layout)
        starts = [getattr(type(self), name).start for name in self.states]
        if any(starts):
            views = self._parts(layout, buffers, Slot.shaped)
            for key, param, grad in zip(*align(params, grads), strict=True):
                own = scalars if groups is None else groups.part(key, scalars)
                view = groups.views[groups.which[key]] if groups is not None and own else self
                own = own or UNWRAPPED  # if it is frozen
                grad_scale, l2 = map(layout[key].dtype.type, own[:2])
                grad = grad.dense(layout[key].shape) if isinstance(grad, Rows) else grad
                grad = grad_scale * np.asarray(grad, layout[key].dtype)
                if l2:
                    grad = grad + l2 * np.asarray(param, layout[key].dtype)
                for start, state in zip(starts, views[key], strict=True):
                    if start is not None:
                        state[...] = start(view, param, grad)
        for dtype, old in self._buffers.items():
            for new, values in zip(buffers[dtype], old, strict=True):
                new[: values.size] = values
        return buffers

    def _state(self, index: int) -> Any:
        """Give views of one state, as a dict or list."""
        if self._container is None:
            return None
        views: dict[Any, np.ndarray] = self._views()[self.states[index]]
        return views if self._container is dict else [views[index] for index in sorted(views)]

    def forget(self, key: Hashable) -> None:
        """Drop the state of a parameter; the next step with it starts from zero.

        The state of a parameter that steps no longer mention is kept until then.

        Parameters
        ----------
        key : hashable
            The parameter's key, or its index in a list.

        Raises
        ------
        KeyError
            If there is no state of that key.
        """
        with self._exclusive() as turn:
            if key not in self._layout:
                raise KeyError(f"there is no state of {key!r}, but of {list(self._layout)}")
            if self._accumulator is not None and key in self._accumulator._layout:
                self._accumulator.forget(key)
            left = Layout()
            for name, slot in self._layout.items():
                if name != key:
                    left[name] = slot._replace(offset=left.sizes().get(slot.dtype, 0))
            run(self._replacing(turn, _layout=left, _buffers=self._filled(left, self._views())))

    def state_dict(self) -> dict[str, Any]:
        """Give all that the next steps depend on, but for the parameters.

        Returns
        -------
        dict
            "class"; "iter" and "skipped"; "hyperparameters", a dict; "state", a dict with, for each name of
            `states`, copies of the arrays in a dict or list like the parameters, or None before the first
            step; for a rule with others inside, "inner", a dict of their state dicts.
        """
        with self._exclusive() as turn:
            return self._snapshot(turn)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` gave: the next steps have the same bits.

        Parameters
        ----------
        state : dict
            Of an optimizer of this class. It is copied.

        Raises
        ------
        TypeError, ValueError
            If it is none, or of other parameters than this optimizer has stepped on. Nothing has changed.
        """
        with self._exclusive():
            run(self._restoring(state))

    def save(self, path: Any, params: Any = None) -> None:
        """Write the state, and parameters if given, to a file.

        Parameters
        ----------
        path : str or path
            It ends in ``.npz``, or in ``.safetensors`` (needs the extra of that name). A file that is there
            is replaced when the new one is whole and on the disk; until then it stays as it was.
        params : dict or list, optional
            What is updated.

        Raises
        ------
        ValueError, TypeError
            If the path ends otherwise, or a parameter's key is neither str nor int.
        OSError
            If it can't be written.
        """
        checkpoint.path_of(path)
        with self._exclusive() as turn:
            state = self._snapshot(turn)
            if params is not None:
                params = copied(params)
        checkpoint.save(path, state, params)

    def load(self, path: Any, params: Any = None) -> None:
        """Go on from a file that `save` wrote: the next steps have the same bits.

        Parameters
        ----------
        path : str or path
            The file.
        params : dict or list, optional
            Arrays to copy the saved parameters into.

        Raises
        ------
        ValueError
            If the file is damaged, no checkpoint, or of another class, or of other parameters than ``params``
            or those that this optimizer has stepped on. Nothing has changed.
        OSError
            If it can't be read.
        """
        with self._exclusive():
            state, saved = checkpoint.load(
                path, lambda state, saved: (self._check_state(state), copies(saved, params))
            )
            run(copies(saved, params) + self._restoring(state))

    def _layouts(self, layout: Layout) -> list[Layout]:
        """Give the layout of each state."""
        return [getattr(type(self), name).layout(layout) for name in self.states]

    def _parts(
        self, layout: Layout, buffers: Buffers, view: Callable[[Slot, np.ndarray], np.ndarray]
    ) -> dict[Hashable, tuple[np.ndarray, ...]]:
        """Give views of each parameter's state, flat (`Slot.of`) or in shape (`Slot.shaped`)."""
        layouts = self._layouts(layout)
        return {
            key: tuple(
                view(own[key], buffer) for own, buffer in zip(layouts, buffers[slot.dtype], strict=True)
            )
            for key, slot in layout.items()
        }

    def _views(self) -> dict[str, dict[Hashable, np.ndarray]]:
        """Give the arrays of each state."""
        parts = self._parts(self._layout, self._buffers, Slot.shaped)
        return {name: {key: own[i] for key, own in parts.items()} for i, name in enumerate(self.states)}

    def _snapshot(self, turn: int) -> dict[str, Any]:
        """Give the state dict."""
        state: dict[str, Any] = {}
        for name, views in self._views().items():
            copies: dict[Any, np.ndarray] = {key: view.copy(order="K") for key, view in views.items()}
            if self._container is list:
                state[name] = [copies.get(index) for index in range(max(copies, default=-1) + 1)]
            else:
                state[name] = None if self._container is None else copies
        whole = {
            "class": type(self).__name__,
            "iter": turn - 1,
            "skipped": self._skipped,
            "hyperparameters": self._hyperparameters(),
            "state": state,
        }
        inner = {name: other._snapshot(other.iter + 1) for name, other in self._inner().items()}
        return {**whole, "inner": inner} if inner else whole

    def _inner(self) -> "dict[str, Optimizer]":
        """Give the optimizers that take a part of this one's parameters, by the names of the attributes."""
        return {} if self._accumulator is None else {"accumulated": self._accumulator}

    def _hyperparameters(self) -> dict[str, Any]:
        """Give the hyperparameters, with the schedule in the place of the learning rate."""
        scheduled = {} if self._schedule is None else {"lr": self._schedule.to_dict()}
        return {name: getattr(self, name) for name in self._checks()} | scheduled

    def _unused(self) -> Any:
        """Give an optimizer with the same hyperparameters and without state."""
        own = {name: other for name, other in self._inner().items() if name in self.__dataclass_fields__}
        changes: dict[str, Any] = {name: other._unused() for name, other in own.items()}
        if self._schedule is not None:
            changes["lr"] = self._schedule
        return replace(self, **changes)

    def _checks(self) -> dict[str, Callable[[str, Any], Any]]:
        """Give the hyperparameters and their checks; the number of threads is the machine's."""
        saved = [known for known in fields(self) if known.metadata.get("saved", True)]
        checks = {known.name: known.metadata["check"] for known in saved}

        def check_lr(name: str, value: Any) -> Any:
            return Schedule.from_dict(value) if isinstance(value, Mapping) else checks[name](name, value)

        return checks | {"lr": check_lr} if "lr" in checks else checks

    def _check_state(self, state: Mapping[str, Any]) -> tuple[dict[str, Any], Layout, type | None]:
        """Give hyperparameters, layout and container of a state dict, or say what is wrong with it."""
        own, inner = type(self).__name__, self._inner()
        theirs = state.get("inner", {}) if isinstance(state, Mapping) else {}
        if not isinstance(theirs, Mapping) or theirs.keys() != inner.keys():
            here = ", ".join(f"{name}={type(other).__name__}()" for name, other in inner.items())
            there = ", ".join(map(str, theirs)) if isinstance(theirs, Mapping) else kind(theirs)
            raise ValueError(
                f"it was saved with {there or 'no optimizer inside'}, this is {own}({here}): make one like it"
            )
        for name, other in inner.items():
            try:
                other._check_state(theirs[name])
            except ValueError as error:
                raise ValueError(f"its {name}: {error}") from None
        if inner:
            state = {name: value for name, value in state.items() if name != "inner"}
        shapes = {name: getattr(type(self), name).shape for name in self.states}
        by_rows = self.measure is not None
        return check_state(state, own, shapes, self._checks(), self._layout, self._container, by_rows)

    def _restoring(self, state: Mapping[str, Any]) -> Calls:
        """Give the calls that put a state dict in place of the state."""
        checked, layout, container = self._check_state(state)
        parts = {name: dict(checkpoint.items(values or {})) for name, values in state["state"].items()}
        schedule = checked.get("lr")
        schedule = schedule if isinstance(schedule, Schedule) else None
        if schedule is not None:
            checked["lr"] = self._lr_of(schedule, state["iter"])
        checked |= {"_schedule": schedule}
        own = {"_layout": layout, "_container": container, "_skipped": state["skipped"]}
        own["_buffers"] = self._filled(layout, parts)
        calls = self._replacing(state["iter"] + 1, **self._arranged(checked) | checked | own)
        for name, other in self._inner().items():
            calls += other._restoring(state["inner"][name])
        return calls

    def _lr_of(self, schedule: Schedule, steps: int) -> float:
        """Give what a schedule says for the last of so many steps, or for the first if there are none yet."""
        lr: float = self.__dataclass_fields__["lr"].metadata["check"]("lr", schedule(max(steps, 1)))
        return lr

    def _replacing(self, turn: int, **attributes: Any) -> Calls:
        """Give the calls that change attributes, so that no other thread's step falls in between."""
        new = np.array(turn, np.int64)  # a plan that another thread is about to use has the old one
        old = partial(setitem, self._turn, (), 0)
        return [partial(self.__dict__.update, {"_turn": new, "_plan": None, **attributes}), old]

    def _filled(self, layout: Layout, parts: Mapping[str, Any]) -> Buffers:
        """Give state buffers with these values."""
        buffers = self._zeros(layout)
        for key, own in self._parts(layout, buffers, Slot.shaped).items():
            for name, view in zip(self.states, own, strict=True):
                view[...] = parts[name][key]
        return buffers

    def _zeros(self, layout: Layout) -> Buffers:
        """Give state buffers of zeros."""
        sizes = [own.sizes() for own in self._layouts(layout)]
        return {dtype: tuple(aligned_zeros(own[dtype], dtype) for own in sizes) for dtype in layout.sizes()}

    def __getstate__(self) -> dict[str, Any]:
        # A plan knows arrays by their addresses, which are this process's.
        return {
            **self.__dict__,
            "_plan": None,
            "_own": {},
            "_groups": None,
            "_pool": None,
            "_norm": None,
            "_turn": np.array(abs(self._turn.item())),
        }
