"""Steps by other libraries in float64, each setting from its own constructor."""

import os
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from importlib import import_module
from importlib.util import find_spec
from operator import attrgetter
from typing import Any
from warnings import catch_warnings, simplefilter

import numpy as np

from fastopt.tools.equivalents import unrounded
from fastopt.tools.peers.author_rules import PACKAGES
from fastopt.tools.peers.translation import LIBRARIES, Setting

__all__ = ["RUNS", "can_run"]

Arrays = Sequence[np.ndarray]
# The learning rates of all steps, if they change.
Rates = Sequence[float] | None
# Called with a setting, the parameters, the gradients of all steps, and their learning rates. It returns the
# parameters after each step.
Run = Callable[[Setting, Arrays, Sequence[Arrays], Rates], list[list[np.ndarray]]]

# Arguments of PyTorch's that don't change what is computed, but need a GPU, or gradients of their own.
FLAGS = ("foreach", "fused", "capturable", "differentiable")
# optax's that have a condition or a loop.
CONDITIONAL = ("novograd", "contrib.muon")


def run_torch(
    setting: Setting, params: Arrays, grads: Sequence[Arrays], rates: Rates
) -> list[list[np.ndarray]]:
    """Take steps by PyTorch, Muon without its rounding to bfloat16."""
    import torch

    return run_module(torch.optim, setting, params, grads, rates)


def run_authors(
    setting: Setting, params: Arrays, grads: Sequence[Arrays], rates: Rates
) -> list[list[np.ndarray]]:
    """Take steps by an author's package for PyTorch."""
    with catch_warnings():
        simplefilter("ignore")  # of methods that were called in another way once
        return run_module(import_module(PACKAGES[setting.name]), setting, params, grads, rates)


def run_module(
    module: Any, setting: Setting, params: Arrays, grads: Sequence[Arrays], rates: Rates
) -> list[list[np.ndarray]]:
    """Take steps by an optimizer of PyTorch's kind."""
    import torch

    before, found = torch.get_default_dtype(), []
    torch.set_default_dtype(torch.float64)  # in which ASGD keeps its step size
    try:
        tensors = [torch.nn.Parameter(torch.from_numpy(param.copy())) for param in params]
        given = {name: value for name, value in setting.given.items() if name not in FLAGS}
        with redirect_stdout(None):  # some tell what they were given
            optimizer = getattr(module, setting.name)(tensors, **given)
        if hasattr(optimizer, "train"):  # the schedule-free ones
            optimizer.train()
        with unrounded():
            for t, own in enumerate(grads):
                for tensor, grad in zip(tensors, own, strict=True):
                    dense = torch.from_numpy(grad.copy())  # as some add their weight decay to it
                    tensor.grad = dense.to_sparse(1) if setting.name == "SparseAdam" else dense
                if rates:
                    optimizer.param_groups[0]["lr"] = rates[t]
                optimizer.step()
                found.append([tensor.detach().numpy().copy() for tensor in tensors])
    finally:
        torch.set_default_dtype(before)
    return found


def run_optax(
    setting: Setting, params: Arrays, grads: Sequence[Arrays], rates: Rates
) -> list[list[np.ndarray]]:
    """Take steps by optax, with a rule for each learning rate: the state is the same."""
    import jax
    import optax

    make, found = attrgetter(setting.name)(optax), []

    def step(rate: Any, grads: Any, params: Any, state: Any) -> tuple[Any, Any]:
        given = setting.given if rate is None else setting.given_with(rate)
        updates, state = make(**given).update(grads, state, params)
        return optax.apply_updates(params, updates), state

    with jax.enable_x64(True):
        now: Any = [jax.numpy.array(param) for param in params]
        state = make(**setting.given).init(now)
        # Compiling takes longer than all steps, but where each step would compile a condition or a loop.
        take = jax.jit(step) if setting.name in CONDITIONAL else step
        for t, own in enumerate(grads):
            rate = rates[t] if rates else None
            now, state = take(rate, [jax.numpy.array(grad) for grad in own], now, state)
            found.append([np.array(param) for param in now])
    return found


def run_keras(
    setting: Setting, params: Arrays, grads: Sequence[Arrays], rates: Rates
) -> list[list[np.ndarray]]:
    """Take steps by Keras on JAX."""
    os.environ.setdefault("KERAS_BACKEND", "jax")
    import jax
    import keras

    if keras.backend.backend() != "jax":
        raise RuntimeError("Keras must run on JAX here: set KERAS_BACKEND=jax before it is imported")
    before, found = keras.config.floatx(), []
    with jax.enable_x64(True):
        keras.config.set_floatx("float64")  # in which the learning rate is kept
        try:
            variables = [keras.Variable(param, dtype="float64") for param in params]
            optimizer = getattr(keras.optimizers, setting.name)(**setting.given)
            optimizer.build(variables)
            for t, own in enumerate(grads):
                if rates:
                    optimizer.learning_rate = rates[t]
                optimizer.apply([jax.numpy.array(grad) for grad in own], variables)
                found.append([np.array(variable.value) for variable in variables])
        finally:
            keras.config.set_floatx(before)
    return found


def run_mlx(
    setting: Setting, params: Arrays, grads: Sequence[Arrays], rates: Rates
) -> list[list[np.ndarray]]:
    """Take steps by MLX on the CPU, which has float64."""
    import mlx.core
    import mlx.optimizers

    def own(array: Any) -> Any:
        return mlx.core.array(array, mlx.core.float64)

    found = []
    with mlx.core.stream(mlx.core.cpu):
        now = {str(i): own(param) for i, param in enumerate(params)}
        optimizer = getattr(mlx.optimizers, setting.name)(**setting.given)
        for t, given in enumerate(grads):
            if setting.lr is not None:  # which MLX would keep in float32
                optimizer.state["learning_rate"] = own(rates[t] if rates else setting.lr)
            now = optimizer.apply_gradients({str(i): own(grad) for i, grad in enumerate(given)}, now)
            found.append([np.array(param) for param in now.values()])
    return found


RUNS: dict[str, Run] = {
    "torch": run_torch,
    "optax": run_optax,
    "keras": run_keras,
    "mlx": run_mlx,
    "authors": run_authors,
}


def can_run(library: str, name: str) -> bool:
    """Whether the packages are installed that a library's constructor takes."""
    own = (PACKAGES[name],) if library == "authors" else ()
    return all(find_spec(package.partition(".")[0]) for package in LIBRARIES[library].packages + own)
