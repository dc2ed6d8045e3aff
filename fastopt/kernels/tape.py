"""A kernel as a list of NumPy's ufuncs that write into memory that is there.

The kernel runs once on values that stand for arrays and scalars, and record what is computed. What was
recorded is then done to arrays without Python in between, where an interrupt could stop it, and without new
memory: so it is faster than the same expressions in Python.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

from fastopt.kernels.plain import Draft

__all__ = ["Tape", "kind_of"]

COMPARISONS = {np.less, np.less_equal, np.equal, np.not_equal, np.greater_equal, np.greater}


def kind_of(scalar: float) -> int:
    """Return which of the kinds that a kernel may tell apart a scalar is of: below 0, 0, up to 1, 1, ..."""
    return (scalar >= 0) + 2 * (scalar > 0) + 4 * (scalar >= 1) + 8 * (scalar > 1) + 16 * (scalar < np.inf)


class Value(NDArrayOperatorsMixin):
    """What stands for an array, a scalar or a result while a kernel is recorded.

    Parameters
    ----------
    record : callable
        ``record(ufunc, inputs, mask, otherwise)`` notes an operation, and returns what stands for its result.
    dtype : dtype
        Of the array.
    ndim : int
        1, or 0 for a scalar.
    number : float, optional
        The value of a scalar, on which the kernel may branch.
    """

    __hash__ = object.__hash__
    size = 1  # any but 0, as kernels leave at once then

    def __init__(self, record: Any, dtype: np.dtype[Any], ndim: int, number: float | None = None) -> None:
        self.record, self.dtype, self.ndim, self.number = record, dtype, ndim, number
        self.is_asked = False  # whether the kernel has branched on it

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
        """Record an operation; compare a scalar with a number at once."""
        numbers = [x.number if isinstance(x, Value) else x for x in inputs]
        if ufunc in COMPARISONS and None not in numbers:
            known: Any = numbers
            self._note(inputs)
            return bool(ufunc(*known))
        return self.record(ufunc, inputs)

    def __array_function__(self, function: Any, types: Any, arguments: Any, options: Any) -> Any:
        """Record a choice."""
        if function is not np.where:
            return NotImplemented
        mask, x, y = arguments
        return self.record(np.positive, [x], mask, y)

    def __bool__(self) -> bool:
        if self.number is None:
            raise TypeError("a kernel that branches on an element can't be recorded")
        self._note([self])
        return bool(self.number)

    def _note(self, values: Sequence[Any]) -> None:
        """Note that the kernel has branched on scalars."""
        for value in values:
            if isinstance(value, Value):
                value.is_asked = True


class Step(NamedTuple):
    """An operation as it was recorded: with a mask, the result is ``otherwise`` where that is False."""

    ufunc: np.ufunc
    inputs: list[Value]
    result: Value
    mask: Value | None
    otherwise: Value | None

    @property
    def read(self) -> list[Value]:
        """All that it reads."""
        return [*self.inputs, *(value for value in (self.mask, self.otherwise) if value is not None)]


class Operation(NamedTuple):
    """An operation on a list of arrays: the positions of its inputs, its result, and its mask or None."""

    ufunc: np.ufunc
    inputs: tuple[int, ...]
    output: int
    mask: int | None = None


class Bound:
    """A kernel for certain arrays: what doesn't depend on those that are given at a step is ready.

    Parameters
    ----------
    operations : list of Operation
        What is computed.
    arrays : list of array or None
        All that they read and write; None for those that are given.
    """

    def __init__(self, operations: Sequence[Operation], arrays: Sequence[np.ndarray | None]) -> None:
        n_given = sum(array is None for array in arrays)
        self.arrays = list(arrays[n_given:])
        self.calls: list[Any] = []
        self.open: list[tuple[int, Operation]] = []
        for k, operation in enumerate(operations):
            if min(*operation.inputs, operation.output) < n_given:
                self.open.append((k, operation))
                self.calls.append(None)
            else:
                self.calls.append(bound(operation, arrays))

    def calls_for(self, *given: np.ndarray) -> list[Callable[[], Any]]:
        """Return the C calls that run the kernel, with the scalars that the tape has by then."""
        calls, arrays = self.calls.copy(), [*given, *self.arrays]
        for k, operation in self.open:
            calls[k] = bound(operation, arrays)
        return calls


def bound(operation: Operation, arrays: Sequence[Any]) -> Callable[[], Any]:
    """Return the C call of an operation."""
    ufunc, inputs, output, mask = operation
    if mask is not None:
        return partial(ufunc, *[arrays[i] for i in inputs], out=arrays[output], where=arrays[mask])
    if len(inputs) == 2:
        return partial(ufunc, arrays[inputs[0]], arrays[inputs[1]], out=arrays[output])
    return partial(ufunc, *[arrays[i] for i in inputs], out=arrays[output])


class Tape:
    """What a kernel does to flat arrays of one dtype.

    Parameters
    ----------
    kernel : compiled function
        ``kernel(*arrays, *scalars)``, one loop that doesn't branch on elements.
    dtype : dtype
        Of the arrays.
    n_arrays : int
        Number of the arrays.
    scalars : sequence of float
        Its scalars.

    Attributes
    ----------
    kinds : list of tuple
        The indices of the scalars that the kernel branches on, and of which kinds (`kind_of`) they must be if
        the tape is to be right.
    """

    def __init__(self, kernel: Any, dtype: np.dtype[Any], n_arrays: int, scalars: Sequence[float]) -> None:
        self.dtype = dtype
        self._steps: list[Step] = []
        self._constants: dict[bytes, Value] = {}
        arrays = [Value(self._record, dtype, 1) for _ in range(n_arrays)]
        numbers = [Value(self._record, dtype, 0, float(x)) for x in scalars]
        drafts: list[Any] = [Draft(array) for array in arrays]  # type: ignore[arg-type]
        kernel.in_numpy(*drafts, *numbers)
        asked = [(i, value.number) for i, value in enumerate(numbers) if value.is_asked]
        self.kinds = [(i, kind_of(number)) for i, number in asked if number is not None]
        # Arrays, scalars, constants, and then rooms for results that live within the kernel.
        self._places = {value: i for i, value in enumerate([*arrays, *numbers, *self._constants.values()])}
        self._n_fixed = len(self._places)
        self._rooms: list[tuple[np.dtype[Any], int]] = []
        self.operations: list[Operation] = []
        self._arrange([(array, own.value) for array, own in zip(arrays, drafts, strict=True)])
        self.scalars = np.zeros(len(scalars), dtype=dtype)
        self._fixed = [self.scalars[i : i + 1].reshape(()) for i in range(len(scalars))]
        self._fixed += [np.array(value.number, dtype) for value in self._constants.values()]

    def is_for(self, scalars: Sequence[float]) -> bool:
        """Whether the kernel does the same with these scalars."""
        return all(kind_of(scalars[i]) == kind for i, kind in self.kinds)

    def rooms(self, size: int) -> list[np.ndarray]:
        """Return memory for the results within the kernel, for arrays of a size at most."""
        return [np.empty(size if ndim else (), dtype) for dtype, ndim in self._rooms]

    def bind(
        self, n_given: int, states: Sequence[np.ndarray], rooms: Sequence[np.ndarray], size: int
    ) -> "Bound":
        """Return the kernel for arrays of which the first are given at each step; the others are states."""
        known = [*[None] * n_given, *states, *self._fixed]
        known += [room[:size] if room.ndim else room for room in rooms]
        return Bound(self.operations, known)

    # Recording.

    def _record(
        self, ufunc: np.ufunc, inputs: Sequence[Any], mask: Any = None, otherwise: Any = None
    ) -> Value:
        """Note an operation. Returns what stands for its result."""
        values = [self._value(x) for x in inputs]
        others = [None if x is None else self._value(x) for x in (mask, otherwise)]
        ndim = max(value.ndim for value in (*values, *others) if value is not None)
        dtype = np.dtype(bool) if ufunc in COMPARISONS else self.dtype
        self._steps.append(Step(ufunc, values, Value(self._record, dtype, ndim), *others))
        return self._steps[-1].result

    def _value(self, x: Any) -> Value:
        """Return a value; a number becomes a constant."""
        if isinstance(x, Value):
            return x
        constant = Value(self._record, self.dtype, 0, float(x))
        return self._constants.setdefault(np.float64(x).tobytes(), constant)

    # Where results lie.

    def _arrange(self, results: list[tuple[Value, Value]]) -> None:
        """Give each result a place, given what each array becomes."""
        last_read = {value: number for number, step in enumerate(self._steps) for value in step.read}
        made = {step.result: number for number, step in enumerate(self._steps)}
        masked = {step.result for step in self._steps if step.mask is not None}
        at_once: dict[Value, Value] = {}  # results that are written into the array that they become
        copied: list[tuple[Value, Value]] = []
        for array, value in results:
            # An array may be written when it is read for the last time; with a mask, after that.
            is_free = value in made and last_read.get(array, -1) + (value in masked) <= made[value]
            if is_free and value.ndim and value not in at_once:
                at_once[value] = array
            elif value is not array:
                copied.append((array, value))
                last_read[value] = len(self._steps)
        free: list[int] = []
        for number, step in enumerate(self._steps):
            ended = {self._places[v] for v in step.read if v in made and last_read[v] == number} - {
                self._places[array] for array in at_once.values()
            }
            if step.mask is None:  # then it may be written over what it reads for the last time
                free += ended
            array_or_none = at_once.get(step.result)
            place = self._room(step.result, free) if array_or_none is None else self._places[array_or_none]
            self._places[step.result] = place
            if step.otherwise is not None:
                self.operations.append(Operation(np.positive, (self._places[step.otherwise],), place))
            inputs = tuple(self._places[value] for value in step.inputs)
            mask = None if step.mask is None else self._places[step.mask]
            self.operations.append(Operation(step.ufunc, inputs, place, mask))
            if step.mask is not None:
                free += ended
        for array, value in copied:
            self.operations.append(Operation(np.positive, (self._places[value],), self._places[array]))

    def _room(self, value: Value, free: list[int]) -> int:
        """Return the place of a room for a result: a free one of its kind, or another one."""
        first, kind = self._n_fixed, (value.dtype, value.ndim)
        for place in free:
            if self._rooms[place - first] == kind:
                free.remove(place)
                return place
        self._rooms.append(kind)
        return first + len(self._rooms) - 1
