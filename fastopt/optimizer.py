"""`Optimizer`: plan, check, commit; the hyperparameters that can be changed at any time."""

import sys
import warnings
from collections.abc import Callable, Hashable, Mapping, MutableMapping, MutableSequence
from dataclasses import dataclass, field, fields
from functools import partial
from operator import setitem
from pathlib import Path
from types import MethodType
from typing import Any, ClassVar

import numpy as np

from fastopt.around import FOLLOWERS, OPTIONS, UNWRAPPED
from fastopt.arrays.packing import Packed
from fastopt.arrays.rows import Rows
from fastopt.checks import choice, hyperparameter, whole
from fastopt.driver import DONE, NONFINITE, available, driver_of
from fastopt.engine.threads import allowed, check_threads
from fastopt.groups import FROZEN, Groups
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
from fastopt.schedules import Schedule
from fastopt.stateful import Buffers, Follower, State, Stateful

__all__ = ["Optimizer", "State", "hyperparameter", "whole"]

PACKAGE = str(Path(__file__).parent)

# Sets of parameters that take turns are each planned only once, if they are so many arrays at most.
MOST_PLANNED = 16_384


def callers_level() -> int:
    """Give the stack level, for the function that asks, of the first line that isn't fastopt's."""
    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(PACKAGE):
        level, frame = level + 1, frame.f_back
    return level


@dataclass(eq=False, kw_only=True)
class Optimizer(Stateful):
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
    # How many of the numbers that it finds, the first, are sums over the elements, so that an array may be
    # measured in parts; and how many of these are summed over all arrays.
    sums: ClassVar[int] = 0
    totals: ClassVar[int] = 0
    # How many further arrays like the parameter both kernels get after the states, as room for work.
    work: ClassVar[int] = 0
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
        self._plans: dict[tuple[Hashable, ...], Plan] = {}  # the last one, and those for other keys
        self._layout = Layout()
        self._buffers: Buffers = {}
        self._container: type | None = None
        self._accumulator: Any = None
        self._record: Record | None = None
        # Where other processes have further parameters, or parts of these: gives the C calls that add theirs
        # to what a plan has measured.
        self._pool: Callable[[Plan], Calls] | None = None
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
                    if self._accumulator is not None:  # which has counted otherwise
                        self._accumulator.iter = self.iter * changes[name]
                if name in OPTIONS or "_schedule" in changes:
                    changes = self._arranged(changes) | changes
                if name == "nonfinite":
                    changes |= {"_plan": None, "_plans": {}}  # which have it in their tables
            self.__dict__.update(changes)
            return
        if not (name.startswith("_") or isinstance(getattr(type(self), name, None), property | State)):
            there = ", ".join(known.name for known in fields(self))
            raise AttributeError(f"{type(self).__name__} has no {name!r}; there are {there}")
        super().__setattr__(name, value)

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

    def measures(self, shape: tuple[int, ...]) -> int:
        """Give how many numbers `measure` finds out about an array, those it needs on its way included."""
        return 0

    def admit(self, keys: Any, params: list[Any]) -> None:
        """Say which of these parameters the rule can't take, if there are any."""

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
        if plan is None or (plan.keys is not keys and plan.keys != keys):
            plan = self._current(keys)
        if (
            plan is not None
            and plan.single is not None
            and turn > 0
            and not (plan.large and plan.threads != allowed(self.threads, plan.elements))
        ):
            scalars = UNWRAPPED + self.scalars(turn) if plain else self._wrapped(turn, keys, values, slopes)
            if plain or plan.grouped is self._groups:
                result = plan.single(id(values), id(slopes), plan.address, id(scalars), turn)
                if result == DONE:
                    return True
                if result == NONFINITE:
                    self._warn(self._culprit(params, grads, self._layout), turn)
                    return True
        return self._update(keys, values, slopes, params, grads)

    def _current(self, keys: Any) -> Plan | None:
        """Give the plan for these keys, if there is one for as many threads as a step may take now."""
        plan = self._plan
        if plan is None or (plan.keys is not keys and plan.keys != keys):
            plan = self._plans.get(tuple(keys))
            if plan is None or plan.keys != keys:
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
            for known in dict.fromkeys([self._current(keys), None]):  # another one, if it is refused
                try:
                    plan, calls = self._calls(turn, known, *arguments)
                except FloatingPointError:
                    if self.nonfinite != "skip":
                        raise
                    self._skipped += 1
                    return False
                unseen = plan is not known and plan.unseen
                culprit = self._culprit(params, grads, plan.layout) if unseen else ""
                if run(calls + also):
                    break
            else:
                raise RuntimeError("the arrays were changed during the step")
            if culprit or plan.found:
                culprit = culprit or self._culprit(params, grads, self._layout) or "a sum of rows"
                self._warn(culprit, turn)
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
        if self._copies and self._norm is None:
            grads = self._copied(params, grads)
            slopes = grads.flats if isinstance(keys, Layout) else align(params, grads)[2]
        self._own[list] = slopes  # the drivers have its id only
        scalars = tuple(map(float, self._wrapped(turn, keys, values, slopes)))  # whatever a rule gives
        adopting = []
        if plan is None or plan.grouped is not self._groups:
            plan, adopt = self._make_plan(keys, values, slopes, params, grads, scalars)
            adopting.append(adopt)
        calls = plan.calls(values, slopes, scalars, turn, self._between)
        if self._owing:
            drivers = len(plan.drivers[0])  # which come first, as they may refuse
            parts = self._parts(plan.layout, plan.buffers, Slot.shaped)
            for key, value, slope in zip(keys, values, slopes, strict=True):
                if isinstance(slope, Rows):
                    calls[drivers:drivers] = self._paying(turn, key, value, slope.indices, parts[key])
                    calls.append(partial(setitem, parts[key][-1], slope.indices, turn))
        return plan, calls + adopting

    def _between(self, plan: Plan) -> Calls:
        """Give the C calls to make between measuring and updating."""
        return (self._pool(plan) if self._pool else []) + self.between(plan)

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

    @staticmethod
    def _culprit(params: Any, grads: Any, layout: Layout) -> str:
        """Name the first gradient that has values that aren't finite; "" if there is none."""
        for key, _, grad in zip(*align(params, grads), strict=True):
            if not finite(grad, layout[key].dtype):
                return f"the gradient of {key!r}"
        return ""

    def _warn(self, culprit: str, turn: int) -> None:
        """Warn of a gradient that isn't finite, the first time."""
        if not self._warned:
            self._warned = True
            warnings.warn(
                f"{culprit} has NaN, infinity, or a value whose square overflows at step {turn}; "
                "nonfinite='raise' or 'skip' refuses such steps",
                RuntimeWarning,
                stacklevel=callers_level(),
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
    ) -> tuple[Plan, Callable[[], Any]]:
        """Give a plan, and the C call that makes it and its state the optimizer's."""
        container = dict if isinstance(params, Mapping) else list
        if self._container not in (None, container):
            raise TypeError(f"params was a {self._container.__name__} at earlier steps, now it is not")
        assignable = isinstance(params, MutableMapping | MutableSequence)
        packed = isinstance(keys, Layout)
        aligned = align(params, grads)
        self.admit(*aligned[:2])
        layout = survey(*aligned, self._layout, assignable, self.measure is not None)
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
            [self.measures(layout[key].shape) for key in (layout if packed else keys)],
            self.sums,
            self.totals,
        )
        plan.keys, plan.grouped = keys, groups
        if self._copies or self._owing:
            plan.single = None  # which would be called with the gradients themselves
        plan.layout, plan.buffers = known, buffers
        # Nothing is new before the step is taken, of which this is a part.
        now = {"_buffers": buffers, "_layout": known, "_container": container}
        place = tuple(keys)
        others = {known: other for known, other in self._plans.items() if known != place}
        if buffers is not self._buffers or self.work or sum(map(len, others)) + len(keys) > MOST_PLANNED:
            others = {}
        now["_plan"] = plan if plan.reusable else None
        now["_plans"] = others | {place: plan} if plan.reusable else others
        return plan, partial(self.__dict__.update, now)

    def _one_pass(self, params: Packed, grads: Packed) -> bool:
        """Whether parameters, gradients and state are packed alike, and the rule doesn't need the arrays."""
        layout = params.layout
        if self.measure is not None or self.groups is not None or self.decay != "all":
            return False
        if grads.layout is not layout:
            if grads.layout != layout or [*grads.buffers] != [*params.buffers]:
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
                with np.errstate(all="ignore"):
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
