"""The state of an optimizer: its arrays, what is saved of it, and how it is put back."""

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, replace
from functools import partial
from operator import setitem
from typing import Any

import numpy as np

from fastopt.around import Around
from fastopt.checkpoints import files as checkpoint
from fastopt.checkpoints.state_dict import MOST_STEPS, check_state, copied, copies
from fastopt.engine.threads import launch
from fastopt.plan import Calls, Layout, Plan, Slot, aligned_zeros, run
from fastopt.schedules import Schedule

__all__ = ["Buffers", "Follower", "State", "Stateful"]

Buffers = dict[np.dtype[Any], tuple[np.ndarray, ...]]


def inside(names: Iterable[str], options: Mapping[str, Any]) -> str:
    """Tell which optimizers are inside another, as it is made."""
    told = {"accumulated": f"accumulate={options['accumulate']}"}
    return ", ".join(told.get(name, str(name)) for name in names)


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

    def __set_name__(self, owner: type["Stateful"], name: str) -> None:
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

    def __get__(self, instance: "Stateful | None", owner: type) -> Any:
        if instance is None:
            return self
        return instance._state(self.index)

    def __set__(self, instance: object, value: Any) -> None:
        raise AttributeError(
            f"the state can't be replaced; write into its arrays: optimizer.{self.name}[key][...] = value"
        )


class Follower(State):
    """An array for each parameter that follows it after the rule; None if the option is off."""

    def __set_name__(self, owner: type["Stateful"], name: str) -> None:
        self.name = name

    def __get__(self, instance: "Stateful | None", owner: type) -> Any:
        if instance is None:
            return self
        return instance._state(instance.states.index(self.name)) if self.name in instance.states else None


class Stateful(Around):
    """What an optimizer remembers."""

    _turn: np.ndarray
    _skipped: int
    _plan: Plan | None
    _plans: dict[tuple[Hashable, ...], Plan]
    _layout: Layout
    _buffers: Buffers
    _container: type | None
    _accumulator: Any

    @property
    def iter(self) -> int:
        """The number of steps taken."""
        return abs(self._turn.item()) - 1 if "_turn" in self.__dict__ else 0

    @iter.setter
    def iter(self, value: int) -> None:
        if isinstance(value, bool) or not isinstance(value, int | np.integer) or not 0 <= value < MOST_STEPS:
            raise ValueError(f"iter must be a whole number from 0 to below 2⁶², not {value!r}")
        if self._accumulator is not None:  # it is empty then
            self._accumulator.iter = value * self.accumulate
        self._turn[()] = value + 1

    @property
    def skipped(self) -> int:
        """The number of steps left out because of gradients that weren't finite."""
        return self._skipped

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
                state[name] = checkpoint.in_list(copies)
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

    def _inner(self) -> "dict[str, Stateful]":
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
        theirs = state.get("inner", {}) if isinstance(state, Mapping) else None
        if isinstance(theirs, Mapping):
            state = {name: value for name, value in state.items() if name != "inner"}
        shapes = {name: getattr(type(self), name).shape for name in self.states}
        by_rows = self.measure is not None
        known = self._layout, self._container, by_rows
        checked = check_state(state, own, shapes, self._checks(), *known)
        if theirs.keys() != inner.keys():
            there, here = inside(theirs, checked[0]), inside(inner, {"accumulate": self.accumulate})
            raise ValueError(
                f"it was saved with {there or 'nothing inside'}, this is {own}({here}): make one like it"
            )
        for name, other in inner.items():
            try:
                other._check_state(theirs[name])
            except ValueError as error:
                raise ValueError(f"its {name}: {error}") from None
        return checked

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
        return [
            partial(
                self.__dict__.update,
                {"_turn": new, "_groups": None, "_plan": None, "_plans": {}, **attributes},
            ),
            old,
        ]

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
            "_plans": {},
            "_own": {},
            "_groups": None,
            "_pool": None,
            "_norm": None,
            "_turn": np.array(abs(self._turn.item())),
        }
