"""Adam with its defaults by fastopt, the book's code, PyTorch, optax and Keras, behind one `update`."""

import os
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from fastopt import optimizers
from fastopt.tools.equivalents import version_of

__all__ = ["NoContainer", "Subject", "subjects"]


class NoContainer(Exception):
    """The library is handed no container of gradients, so that none can be of a wrong kind or length."""


class Subject(NamedTuple):
    """An optimizer under comparison: its name, a call that makes it, and its defaults in words.

    One that is ``in_place`` changes the caller's arrays by itself.
    """

    name: str
    make: Callable[[], Any]
    defaults: str
    in_place: bool = True


def keys_of(container: Any) -> list[Any]:
    """Return the keys of a dict, or the indices of a list."""
    return [*container] if isinstance(container, dict) else [*range(len(container))]


def check_container(params: Any, grads: Any) -> None:
    """Raise NoContainer if the containers themselves don't match."""
    if type(params) is not type(grads) or (isinstance(params, list) and len(params) != len(grads)):
        raise NoContainer


class Book:
    """The textbook's Adam (section 6.1.6), for dicts and lists."""

    def __init__(self, lr: float = 0.001, beta1: float = 0.9, beta2: float = 0.999) -> None:
        self.lr = lr
        self.beta1 = beta1
        self.beta2 = beta2
        self.iter = 0
        self.m: Any = None
        self.v: Any = None

    def update(self, params: Any, grads: Any) -> None:
        """Take a step."""
        if self.m is None:
            self.m = {key: np.zeros_like(params[key]) for key in keys_of(params)}
            self.v = {key: np.zeros_like(params[key]) for key in keys_of(params)}
        self.iter += 1
        lr_t = self.lr * np.sqrt(1.0 - self.beta2**self.iter) / (1.0 - self.beta1**self.iter)
        for key in keys_of(params):
            self.m[key] += (1 - self.beta1) * (grads[key] - self.m[key])
            self.v[key] += (1 - self.beta2) * (grads[key] ** 2 - self.v[key])
            params[key] -= lr_t * self.m[key] / (np.sqrt(self.v[key]) + 1e-7)


class PyTorch:
    """PyTorch's Adam, over tensors that share the arrays' memory."""

    def __init__(self) -> None:
        import torch

        self.torch = torch
        self.tensors: dict[Any, Any] = {}
        self.optimizer: Any = None

    def update(self, params: Any, grads: Any) -> None:
        """Set the gradient of each tensor that has one, and take a step."""
        check_container(params, grads)
        torch = self.torch
        by_key = grads if isinstance(grads, dict) else dict(enumerate(grads))
        first = not self.tensors
        for key in keys_of(params):
            if key not in self.tensors or self.tensors[key][0] is not params[key]:
                tensor = torch.nn.Parameter(torch.from_numpy(params[key]))
                self.tensors[key] = params[key], tensor
                if not first:
                    self.optimizer.add_param_group({"params": [tensor]})
        if first:
            self.optimizer = torch.optim.Adam([tensor for _, tensor in self.tensors.values()])
        for key in keys_of(params):
            grad = by_key.get(key)
            self.tensors[key][1].grad = None if grad is None else torch.as_tensor(grad)
        self.optimizer.step()

    def save(self, path: Any) -> None:
        """Write the state to a file."""
        self.torch.save(self.optimizer.state_dict(), path)

    def load(self, path: Any) -> None:
        """Go on from the state in a file."""
        self.optimizer.load_state_dict(self.torch.load(path))


class Optax:
    """optax's adam. Its new arrays take the places of the old ones."""

    def __init__(self) -> None:
        import jax
        import optax

        self.jax = jax
        self.apply = optax.apply_updates
        self.rule = optax.adam(0.001)
        self.state: Any = None

    def update(self, params: Any, grads: Any) -> None:
        """Take a step."""
        with self.jax.enable_x64(True):
            if self.state is None:
                self.state = self.rule.init(params)
            updates, self.state = self.rule.update(grads, self.state, params)
            new = self.apply(params, updates)
        for key in keys_of(params):
            params[key] = np.array(new[key])


class Keras:
    """Keras's Adam on JAX, over variables of the arrays' values, which then take the arrays' places."""

    def __init__(self) -> None:
        os.environ.setdefault("KERAS_BACKEND", "jax")
        import jax
        import keras

        self.jax = jax
        self.keras = keras
        self.optimizer = keras.optimizers.Adam()
        self.variables: dict[Any, Any] = {}

    def update(self, params: Any, grads: Any) -> None:
        """Take a step on the variables; an array that is a new one is a new variable."""
        check_container(params, grads)
        by_key = grads if isinstance(grads, dict) else dict(enumerate(grads))
        with self.jax.enable_x64(True):
            for key in keys_of(params):
                if key not in self.variables or self.variables[key][0] is not params[key]:
                    dtype = getattr(params[key], "dtype", np.dtype(float)).name
                    self.variables[key] = params[key], self.keras.Variable(params[key], dtype=dtype)
            variables = {key: self.variables[key][1] for key in keys_of(params)}
            self.optimizer.apply([by_key.get(key) for key in variables], list(variables.values()))
            for key, variable in variables.items():
                params[key] = np.array(variable.value)
                self.variables[key] = params[key], variable


def subjects() -> list[Subject]:
    """Return the optimizers that can be compared here, fastopt first."""
    found = [
        Subject("fastopt", optimizers.Adam, 'fastopt.Adam(), which has nonfinite="warn"'),
        Subject("the book's code", Book, "Adam(), section 6.1.6; NumPy's own warnings"),
    ]
    libraries = (
        ("PyTorch", PyTorch, "{}: torch.optim.Adam(params)"),
        ("optax", Optax, "{}: optax.adam(0.001), lr has no default; JAX with x64"),
        ("Keras", Keras, "{}: keras.optimizers.Adam(), on JAX with x64"),
    )
    for name, make, defaults in libraries:
        if version := version_of(name):
            found.append(Subject(name, make, defaults.format(version), in_place=make is PyTorch))
    return found
