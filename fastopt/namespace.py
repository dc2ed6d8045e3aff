"""Packages whose public names are imported when they are first used (PEP 562)."""

import sys
from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from typing import Any

__all__ = ["late_attributes"]


def late_attributes(
    package: str, names: Mapping[str, Iterable[str]], submodules: Iterable[str] = ()
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
    """
    module_of = {name: f"{package}.{module}" for module, own in names.items() for name in own}
    known = {*submodules}

    def __getattr__(name: str) -> Any:
        if name in known:
            return import_module(f"{package}.{name}")
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
