"""Packages whose public names are imported when they are first used (PEP 562).

A program loads only what it uses. `fastopt`, `fastopt.optimizers` and `fastopt.schedules` have a table of
their names and import a module when one of its names is first used. Type checkers read the imports under
``TYPE_CHECKING`` instead; ``tests/test_import.py`` compares both. Measured: ``fastopt.Adam()`` takes 25 ms
besides NumPy and the compiler, of which 6 ms are the classes of its family.

Modules of the standard library that take more than 0.5 ms and serve one function, such as ``zipfile``, are
imported in that function.
"""

import sys
from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from types import MappingProxyType
from typing import Any

__all__ = ["late_attributes"]


def late_attributes(
    package: str,
    names: Mapping[str, Iterable[str]],
    submodules: Iterable[str] = (),
    others: Mapping[str, str] = MappingProxyType({}),
) -> Callable[[str], Any]:
    """Return the ``__getattr__`` of a package.

    Parameters
    ----------
    package : str
        Name of the package.
    names : dict
        The names that come from each module; the module's own name is relative to the package.
    submodules : iterable of str
        Modules in the package that are attributes, too.
    others : dict
        Modules of other packages under the names that they have here.
    """
    module_of = {name: f"{package}.{module}" for module, own in names.items() for name in own}
    known = {*submodules}

    def __getattr__(name: str) -> Any:
        if name in known:
            return import_module(f"{package}.{name}")
        if name in others:
            return import_module(others[name])
        namespace = sys.modules[package]
        if name not in module_of:
            text = f"module {package!r} has no attribute {name!r}"
            alike = [known for known in module_of if known.lower() == name.lower()]
            if alike:
                raise AttributeError(f"{text}: write {alike[0]}")
            # Python looks for a similar name in dir(obj).
            raise AttributeError(text, name=name, obj=namespace)
        value = getattr(import_module(module_of[name]), name)
        setattr(namespace, name, value)  # it isn't asked for again
        return value

    return __getattr__
