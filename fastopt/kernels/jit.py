"""How functions here are compiled: by Numba, which is imported when the first of them is.

Scalars are cast to the parameters' dtype, else float32 would be computed in float64. Complements such as 1 −
β are computed in Python. Measured: with the check for a zero divisor a step takes 4 times as long, with
scalars of float64 on float32 arrays 2 times. ``tests/test_compiled.py`` looks at the compiled code for this.
"""

import os
from collections.abc import Callable, Mapping
from functools import cached_property, partial, update_wrapper
from types import FunctionType
from typing import Any

from fastopt.kernels.plain import checked_form, numpy_form

__all__ = ["IS_CHECKED", "Compiled", "compiled", "internal", "with_names"]

# Whether compiled code checks each index and address, which takes time: for who looks for a fault.
IS_CHECKED = os.environ.get("FASTOPT_CHECKED", "0") not in ("", "0")


class Compiled:
    """A function that Numba compiles when it is first called, from Python or from compiled code.

    Parameters
    ----------
    function : function
        The function.
    fastmath : bool or set of str
        As Numba has it.
    is_internal : bool
        Whether only compiled code calls it: it gets no entry for Python, which takes a fifth of the time to
        compile. (A call from Python would end the process.)
    numpy : function, optional
        What does the same in plain NumPy, with the same bits, if it isn't the function itself: see
        `fastopt.kernels.plain`.

    Notes
    -----
    ``error_model="numpy"``, since the check for a zero divisor stops vectorization; no ``fastmath``, since
    each of its flags costs bits or NaN.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        fastmath: Any = False,
        is_internal: bool = False,
        numpy: Callable[..., Any] | None = None,
    ) -> None:
        update_wrapper(self, function)
        self.py_func, self.fastmath, self.is_internal, self.numpy = function, fastmath, is_internal, numpy

    @cached_property
    def dispatcher(self) -> Any:
        """Numba's function."""
        from numba import njit

        return njit(
            error_model="numpy", fastmath=self.fastmath, no_cfunc_wrapper=True,
            no_cpython_wrapper=self.is_internal, boundscheck=IS_CHECKED,
        )(self.py_func)  # fmt: skip

    @cached_property
    def in_numpy(self) -> Any:
        """The function in plain NumPy, which writes nothing that it is given as a `Draft`."""
        if self.numpy is not None:
            return self.numpy
        return numpy_form(self.py_func) if self.is_own else checked_form(self.py_func)

    @cached_property
    def inlined(self) -> Any:
        """Numba's function, of which LLVM puts all code into its caller."""
        from numba import njit

        options = {"fastmath": self.fastmath, "boundscheck": IS_CHECKED, "forceinline": True}
        return njit(error_model="numpy", **options)(self.py_func)

    @property
    def is_own(self) -> bool:
        """Whether it is the package's, so that it is known to run on whole arrays."""
        return (self.py_func.__module__ or "").startswith("fastopt.")

    @property
    def _numba_type_(self) -> Any:
        """The type that Numba takes this for in the code that calls it."""
        return self.dispatcher._numba_type_

    def __call__(self, *arguments: Any) -> Any:
        """Call the compiled function."""
        return self.dispatcher(*arguments)


def compiled(function: Callable[..., Any] | None = None, **options: Any) -> Any:
    """Let Numba compile a function, as `Compiled` has it; without one, return a decorator."""
    return partial(compiled, **options) if function is None else Compiled(function, **options)


internal = partial(compiled, is_internal=True)


def with_names(function: Any, names: Mapping[str, Any], title: str) -> Any:
    """Return a copy of a function, under a title, in which some global names stand for something else.

    Numba takes globals for a part of the code: so a template gets its functions, dtypes and numbers.
    """
    return FunctionType(function.__code__, {**function.__globals__, **names}, title)
