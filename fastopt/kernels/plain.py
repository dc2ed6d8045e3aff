"""Kernels in plain NumPy: the same functions, run once on whole arrays instead of once for each element."""

from collections.abc import Callable, Iterable
from types import CellType, FunctionType
from typing import Any

import numpy as np

__all__ = ["Draft", "changes", "checked_form", "elementwise_form", "numpy_form", "whole"]

# What takes the place of range: the loop over all elements is one pass, whose index stands for all.
ALL = (...,)


def whole(*bounds: int) -> tuple[Any, ...]:
    """Return the only index of a loop over all elements."""
    return ALL


class Draft:
    """An array whose new values are noted until the step is written.

    A kernel reads ``draft[...]`` and assigns an array of the same shape and dtype to it, or it reads and
    assigns some elements. The array itself is never written, so a step that fails leaves nothing to take
    back.

    Parameters
    ----------
    array : ndarray
        The parameter or state, flat.

    Attributes
    ----------
    array : ndarray
        The array as it was given.
    value : ndarray
        The current values. It may be another array of the step, its gradient included, so it must not be
        written, and must be copied before those are: see `changes`.
    """

    __slots__ = ("array", "value")

    def __init__(self, array: np.ndarray) -> None:
        self.array = self.value = array

    def copy(self) -> "Draft":
        """Return another draft of the same array, with the current values."""
        other = Draft(self.array)
        other.value = self.value
        return other

    @property
    def is_changed(self) -> bool:
        """Whether a value has been assigned."""
        return self.value is not self.array

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of the array."""
        return self.array.dtype

    @property
    def size(self) -> int:
        """The number of elements."""
        return self.array.size

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the array."""
        return self.array.shape

    def __len__(self) -> int:
        return len(self.array)

    def __getitem__(self, index: Any) -> Any:
        return self.value if index is ... else self.value[index]

    def __setitem__(self, index: Any, value: Any) -> None:
        if index is ...:
            self.value = value
        else:
            self.value = self.value.copy()
            self.value[index] = value


def changes(drafts: Iterable[Draft]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return each array that changes with its new values, which share no memory with any of these arrays."""
    changed = [(draft.array, draft.value) for draft in drafts if draft.value is not draft.array]
    arrays = [array for array, _ in changed]
    written = {id(array) for array in arrays}

    def is_written(value: np.ndarray) -> bool:
        # The result of an operation has no base, and the check of addresses takes a microsecond.
        has_base = value.base is not None
        return id(value) in written or (has_base and any(np.may_share_memory(value, a) for a in arrays))

    # A kernel that keeps the parameter of the step before assigns the parameter's own array to a state.
    return [(array, value.copy() if is_written(value) else value) for array, value in changed]


def rebuilt(function: Any, form: Callable[[Any], Any], **names: Any) -> Any:
    """Return a function with other values for some global names, and a form of each compiled function."""

    def replaced(value: Any) -> Any:
        return form(value) if hasattr(value, "py_func") else value

    code, own = function.__code__, function.__globals__
    used = {name: replaced(own[name]) for name in code.co_names if name in own}
    closure = tuple(CellType(replaced(cell.cell_contents)) for cell in function.__closure__ or ())
    copy = FunctionType(code, {**own, **names, **used}, function.__name__, function.__defaults__, closure)
    copy.__kwdefaults__ = function.__kwdefaults__
    return copy


def numpy_form(function: Any) -> Any:
    """Return the form of a function that runs a loop over ``range`` once, on whole arrays.

    Parameters
    ----------
    function : function or compiled function
        A kernel, or a function that a kernel calls.

    Returns
    -------
    function
        It takes the arrays that it writes as `Draft`, unless they may be written at once, and warns of
        overflows as NumPy does.
    """
    # A user's function may have a kernel's decorator and be called by a kernel: only that one is checked.
    explicit = getattr(function, "numpy", None)
    return explicit or rebuilt(getattr(function, "py_func", function), numpy_form, range=whole)


def elementwise_form(function: Any) -> Any:
    """Return the form of a function that Python runs element by element."""
    return rebuilt(getattr(function, "py_func", function), elementwise_form)


class Values(np.ndarray):
    """An array that behaves as a number does: ``x += 1`` makes another one, and leaves what x was."""


for name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow"):
    setattr(Values, f"__i{name}__", getattr(np.ndarray, f"__{name}__"))


class ElementDraft(Draft):
    """An array of a user's kernel, which can be read and assigned as a whole only."""

    __slots__ = ()

    def __getitem__(self, index: Any) -> Any:
        self.check(index)
        return self.value

    def __setitem__(self, index: Any, value: Any) -> None:
        self.check(index)
        # A value may be one number for all elements, of another dtype, or another draft's.
        own = np.empty_like(self.array, subok=False)
        own[...] = value
        self.value = own.view(Values)

    @staticmethod
    def check(index: Any) -> None:
        """Raise TypeError if an index isn't that of all elements."""
        # IndexError would be taken for the end by a loop over the array.
        if index is not ...:
            raise TypeError(f"index must be that of a loop over range, got {index!r}")


# Number of elements on which a user's kernel is tried: enough to show a value that is carried on.
SAMPLE_SIZE = 7
# Number of results of such trials that are kept, one for each set of scalars.
MAX_TRIED = 100


def checked_form(function: Any) -> Callable[..., None]:
    """Return the form of a user's kernel that runs on whole arrays where that has the same bits.

    Such a kernel may branch on an element, which raises, or carry a value from one element to the next, which
    is wrong. So it is tried on a few numbers, with the scalars of the call, against the form that Python runs
    element by element; that form runs where the other one fails.

    Parameters
    ----------
    function : function
        ``function(param, grad, *states, *scalars)``, or a kernel of whole arrays, whose first arguments are
        ints. The latter is always run element by element.
    """
    at_once, one_by_one = numpy_form(function), elementwise_form(function)
    tried: dict[tuple[Any, ...], bool] = {}

    def is_right(arrays: list[Any], scalars: list[Any]) -> bool:
        key = (*(array.dtype for array in arrays), *scalars)
        if key not in tried:
            if len(tried) == MAX_TRIED:  # as scalars may differ at each step
                tried.clear()
            # Numbers of both signs, but states of which there are roots.
            angles = [np.arange(SAMPLE_SIZE) * (k + 2) + 1 for k in range(len(arrays))]
            sample = [np.sin(x) if k < 2 else np.sin(x) ** 2 for k, x in enumerate(angles)]
            sample = [x.astype(array.dtype) for x, array in zip(sample, arrays, strict=True)]
            tried[key] = has_same_bits(at_once, one_by_one, sample, scalars)
        return tried[key]

    def run(*arguments: Any) -> None:
        arrays = [a for a in arguments if isinstance(a, Draft | np.ndarray)]
        scalars = list(arguments[len(arrays) :])
        # Those of whole arrays begin with their numbers of rows and columns.
        if isinstance(arguments[0], Draft) and is_right(arrays, scalars):
            run_at_once(at_once, arrays, scalars)
        else:
            try:
                run_one_by_one(one_by_one, arguments)
            except TypeError as error:
                raise TypeError(
                    f"kernel {function.__name__!r} can't run in plain NumPy ({error}): write it without what "
                    "NumPy's numbers refuse, or have it compiled (FASTOPT_COMPILE=now)"
                ) from error

    return run


def has_same_bits(at_once: Any, one_by_one: Any, sample: list[np.ndarray], scalars: list[Any]) -> bool:
    """Whether both forms of an element-wise kernel do the same to a sample."""
    expected, drafts = [array.copy() for array in sample], [Draft(array) for array in sample]
    try:
        one_by_one(*expected, *scalars)
        run_at_once(at_once, drafts, scalars)
    except Exception:  # whatever a user's function raises when it is given arrays, or these numbers
        return False
    return all(bits(d.value) == bits(e) for d, e in zip(drafts, expected, strict=True))


def bits(values: np.ndarray) -> bytes:
    """Return the bytes of an array, in which all NaN are equal."""
    return np.where(np.isnan(values), np.nan, values).tobytes()


def run_at_once(kernel: Any, arrays: list[Any], scalars: list[Any]) -> None:
    """Run a user's element-wise kernel on whole arrays, none of which it can write."""
    given = [ElementDraft((a.value if isinstance(a, Draft) else a).view(Values)) for a in arrays]
    kernel(*given, *scalars)
    for array, draft in zip(arrays, given, strict=True):
        if isinstance(array, Draft) and draft.is_changed:
            array[...] = draft.value.base


def run_one_by_one(kernel: Any, arguments: tuple[Any, ...]) -> None:
    """Run a kernel element by element, on copies."""
    copies = [a.value.copy() if isinstance(a, Draft) else a for a in arguments]
    kernel(*copies)
    for argument, copy in zip(arguments, copies, strict=True):
        if isinstance(argument, Draft):
            argument[...] = copy
