"""Modules of a program in which fastopt's optimizers replace the program's own of the same names."""

import sys
from collections.abc import Iterable, Mapping
from functools import update_wrapper
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import module_from_spec
from types import FunctionType, ModuleType
from typing import Any

import numpy as np

__all__ = ["Parents", "Substitutes", "gpu_message"]


class Substitutes(MetaPathFinder, Loader):
    """An importer that runs a program's modules, and replaces their optimizers by fastopt's.

    All other names of a module stay as the program defines them: ``np``, base classes, functions.

    Parameters
    ----------
    modules : dict of str to str
        For each module of the program, the module of fastopt whose public names replace its own.

    Attributes
    ----------
    imported : set of str
        Those of the modules that have been imported.
    """

    def __init__(self, modules: Mapping[str, str]) -> None:
        self.modules = modules
        self.imported: set[str] = set()

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        """Return a spec for the names in ``modules``."""
        if fullname not in self.modules:
            return None
        found = (finder.find_spec(fullname, path, target) for finder in sys.meta_path if finder is not self)
        own = next((spec for spec in found if spec is not None), None)
        spec = ModuleSpec(fullname, self, loader_state=own)
        if own is not None:
            spec.origin, spec.has_location = own.origin, own.has_location
            spec.submodule_search_locations = own.submodule_search_locations
        return spec

    def exec_module(self, module: ModuleType) -> None:
        """Fill the new module with fastopt's optimizers and with the other names of the program's own."""
        name, names = module.__name__, vars(module)
        source = import_module(self.modules[name])
        rules = {rule: getattr(source, rule) for rule in source.__all__}
        names.update(rules)  # first, as the program's own may import modules that import this one
        spec = module.__spec__.loader_state if module.__spec__ is not None else None
        if spec is None or spec.loader is None:
            names.update(np=np, __all__=[*rules, "np"])
        else:
            own = module_from_spec(spec)
            spec.loader.exec_module(own)
            hand_on(vars(own), names, rules)
            # What `from module import *` hands on is the same as without fastopt.
            names.setdefault("__all__", [key for key in vars(own) if not key.startswith("_")])
        self.imported.add(name)
        if getattr(names.get("np"), "__name__", "") == "cupy":
            raise SystemExit(
                gpu_message(name)
                or f"fastopt: {name}.np must be NumPy, as fastopt updates NumPy arrays, got CuPy; "
                f"write import numpy as np in {name.replace('.', '/')}.py"
            )


class Parents(MetaPathFinder, Loader):
    """An importer of empty packages, for the parents of modules that exist under fastopt only.

    Parameters
    ----------
    modules : iterable of str
        The names of the modules.
    """

    def __init__(self, modules: Iterable[str]) -> None:
        parts = [name.split(".") for name in modules]
        self.packages = {".".join(names[:i]) for names in parts for i in range(1, len(names))}

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        """Return a spec for the packages."""
        return ModuleSpec(fullname, self, is_package=True) if fullname in self.packages else None

    def exec_module(self, module: ModuleType) -> None:
        """Leave the package empty."""


def hand_on(own: dict[str, Any], names: dict[str, Any], rules: Mapping[str, type]) -> None:
    """Add the names of a program's module that fastopt doesn't have.

    Functions find fastopt's classes under the names of the program's, and dicts have them as values. The
    methods of classes still find the program's own: a subclass of an own optimizer calls its own base.
    """
    replaced = {id(own[rule]): fastopt_rule for rule, fastopt_rule in rules.items() if rule in own}
    for name, value in own.items():
        if name in names and name != "__doc__":
            continue
        if isinstance(value, FunctionType) and value.__globals__ is own:
            value = rebound(value, names)
        elif type(value) is dict:
            value = {key: replaced.get(id(item), item) for key, item in value.items()}
        names[name] = value


def rebound(function: FunctionType, names: dict[str, Any]) -> FunctionType:
    """Return the same function with other globals."""
    copy = FunctionType(
        function.__code__, names, function.__name__, function.__defaults__, function.__closure__
    )
    copy.__kwdefaults__ = function.__kwdefaults__
    update_wrapper(copy, function)
    return copy


def gpu_message(module: str) -> str | None:
    """Return what to change in a program of volume 2 that asks for a GPU, or None if it doesn't.

    Parameters
    ----------
    module : str
        The module of the program's optimizers, beside which its module ``config`` is.
    """
    config = ".".join([*module.split(".")[:-1], "config"])
    if not getattr(sys.modules.get(config), "GPU", False):
        return None
    return (
        f"fastopt: {config}.GPU must be False, as fastopt updates NumPy arrays, got True; "
        f"set GPU = False in {config.replace('.', '/')}.py, and where the script sets config.GPU"
    )
