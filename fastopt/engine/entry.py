"""Builtin functions by which Python enters the compiled step."""

import ctypes
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, NamedTuple

import numpy as np

__all__ = ["Entries", "make_entries", "object_addresses"]

METH_FASTCALL = 0x0080


class Entries(NamedTuple):
    """The functions of one table, from `fastopt.engine.native.entry`.

    Attributes
    ----------
    drive : callable
        ``drive(params, grads, scalars, count)`` takes a step. Returns True; None if a gradient wasn't finite;
        False if it was refused, with nothing changed.
    run_phases : callable
        ``run_phases(params, grads, scalars, count, phases)`` takes some phases of it. Returns DONE, NONFINITE
        or REFUSED.
    """

    drive: Callable[[Any, Any, Any, int], bool | None]
    run_phases: Callable[[Any, Any, Any, int, int], int]


class MethodDef(ctypes.Structure):
    """CPython's PyMethodDef."""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("function", ctypes.c_void_p),
        ("flags", ctypes.c_int),
        ("doc", ctypes.c_char_p),
    )


@cache
def definition(name: str, address: int) -> MethodDef:
    """Return the definition of a builtin function, which lives as long as the process."""
    return MethodDef(name.encode(), address, METH_FASTCALL, None)


@cache
def maker() -> Any:
    """Return the function that makes builtin functions."""
    make = ctypes.pythonapi.PyCFunction_NewEx
    make.restype, make.argtypes = ctypes.py_object, (ctypes.c_void_p, ctypes.py_object, ctypes.py_object)
    return make


def make_entries(step: Mapping[str, int], header: np.ndarray, owner: object) -> Entries:
    """Return the functions for the table with this header, which keep its owner alive."""
    # The owner takes the place of a builtin's module.
    return Entries(
        *(
            maker()(ctypes.addressof(definition(name, step[name])), header, owner)
            for name in ("drive", "run_phases")
        )
    )


@cache
def object_addresses() -> dict[str, int]:
    """Return the fields of a header that lead to functions and objects of CPython."""
    functions = {"as_long": "PyLong_AsLongLong", "from_long": "PyLong_FromLongLong"}
    found = {
        f"{field}_address": ctypes.cast(getattr(ctypes.pythonapi, name), ctypes.c_void_p).value or 0
        for field, name in functions.items()
    }
    return found | {
        "true_address": id(True), "false_address": id(False), "none_address": id(None),
        "ndarray_class": id(np.ndarray), "float_class": id(float),
    }  # fmt: skip
