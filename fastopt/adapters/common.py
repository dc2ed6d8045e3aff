"""What several adapters share."""

import sys
from importlib import import_module
from typing import Any

from fastopt import optimizers
from fastopt.optimizer import Optimizer

__all__ = ["in_form_of", "library"]


def library(module: str, package: str) -> Any:
    """Import a library's module. The error of a missing one says how to install it."""
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        top = module.split(".")[0]
        if error.name != top:
            raise
        raise ModuleNotFoundError(f"this needs {top}: python -m pip install {package}", name=top) from None


def in_form_of(form: type[Optimizer], name: str) -> Any:
    """Return a rule's class with a library's methods, for the ``__getattr__`` of their module."""
    module = form.__module__
    if name not in optimizers.RULES:
        raise AttributeError(f"module {module!r} has no attribute {name!r}")
    rule = getattr(optimizers, name)
    made = type(name, (form, rule), {"__module__": module, "__doc__": vars(rule)["__doc__"]})
    setattr(sys.modules[module], name, made)
    return made
