"""``python -m fastopt verify --faults``: wrong inputs to fastopt, the book's code, PyTorch and optax."""

import importlib.util
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from fastopt.demo.report import table
from fastopt.optimizers import Momentum

__all__ = ["FAULTS", "Fault", "Outcome", "outcome", "subjects", "summary"]

Both = tuple[Any, Any]


class Fault(NamedTuple):
    """A wrong step, after a right one on a (2, 3) and b (3,), or as the ``first``.

    ``wrong`` makes wrong parameters and gradients of right ones; for them fastopt raises ``error``, with
    nothing changed. ``row`` is the number in the scoreboard of the tests.
    """

    row: int
    name: str
    error: str
    wrong: Callable[[Any, Any], Both]
    container: type = dict
    first: bool = False


def with_grad(key: str, change: Callable[[np.ndarray], Any]) -> Callable[[Any, Any], Both]:
    """Change a gradient."""
    return lambda params, grads: (params, {**grads, key: change(grads[key])})


def with_param(key: str, change: Callable[[np.ndarray], Any]) -> Callable[[Any, Any], Both]:
    """Change a parameter, and give it a gradient of its shape."""

    def wrong(params: Any, grads: Any) -> Both:
        new = change(params[key])
        return {**params, key: new}, {**grads, key: np.ones(np.shape(new))}

    return wrong


def frozen(array: np.ndarray) -> np.ndarray:
    """Make an array read-only."""
    array.flags.writeable = False
    return array


def of_dtype(dtype: str) -> Fault:
    """Make a parameter of another dtype, from the start."""
    name = {"M8[s]": "datetime", "f8,f8": "structured", "U1": "string"}.get(dtype, dtype)
    return Fault(12, f"{name} parameter", "TypeError", with_param("b", lambda p: p.astype(dtype)), first=True)


def masked(array: np.ndarray) -> np.ndarray:
    """Mask an element."""
    return np.ma.masked_array(array, np.arange(3) == 1)


FAULTS = [
    Fault(1, "gradient missing", "KeyError", lambda p, g: (p, {"a": g["a"]})),
    Fault(2, "lists of other lengths", "ValueError", lambda p, g: (p, g[:1]), list),
    Fault(3, "dict with list", "TypeError", lambda p, g: (p, list(g.values()))),
    Fault(3, "list with dict", "TypeError", lambda p, g: (p, dict(enumerate(g))), list),
    Fault(4, "gradient None", "TypeError", with_grad("b", lambda g: None)),
    Fault(5, "broadcastable gradient", "ValueError", with_grad("b", lambda g: g[:1])),
    Fault(5, "number for a gradient", "ValueError", with_grad("b", lambda g: 1.0)),
    Fault(6, "same size, other shape", "ValueError", with_grad("a", lambda g: g.reshape(6))),
    Fault(6, "transposed gradient", "ValueError", with_grad("a", lambda g: g.T)),
    Fault(7, "parameter reshaped", "ValueError", with_param("b", lambda p: p.reshape(1, 3))),
    Fault(7, "parameter resized", "ValueError", with_param("b", lambda p: np.ones(1))),
    Fault(7, "parameter retyped", "ValueError", with_param("b", lambda p: p.astype("float32"))),
    *map(of_dtype, ["int64", "bool", "complex128", "object", "f8,f8", "M8[s]", "U1"]),
    Fault(16, "masked parameter", "TypeError", with_param("b", masked), first=True),
    Fault(16, "masked gradient", "TypeError", with_grad("b", masked)),
    Fault(17, "read-only parameter", "ValueError", with_param("b", frozen)),
    Fault(20, "NaN in a gradient", "FloatingPointError", with_grad("b", lambda g: g * np.nan)),
    Fault(20, "infinite gradient", "FloatingPointError", with_grad("b", lambda g: g * np.inf)),
    Fault(20, "square overflows", "FloatingPointError", with_grad("b", lambda g: g * 1e200)),
    Fault(22, "last of many bad", "ValueError", lambda p, g: (p, [*g[:-1], np.ones((2, 2))]), list),
]


class Book:
    """The textbook's Momentum (section 6.1.4), for dicts and lists."""

    def __init__(self, lr: float = 0.1, momentum: float = 0.9) -> None:
        self.lr = lr
        self.momentum = momentum
        self.v: Any = None

    def update(self, params: Any, grads: Any) -> None:
        """Take a step."""
        keys = params.keys() if isinstance(params, dict) else range(len(params))
        if self.v is None:
            self.v = {key: np.zeros_like(params[key]) for key in keys}
        for key in keys:
            self.v[key] = self.momentum * self.v[key] - self.lr * grads[key]
            params[key] += self.v[key]


class PyTorch:
    """PyTorch's SGD with momentum, over tensors that share the arrays' memory."""

    def __init__(self, lr: float = 0.1) -> None:
        import torch

        self.torch = torch
        self.lr = lr
        self.tensors: dict[Any, Any] = {}
        self.optimizer: Any = None

    def update(self, params: Any, grads: Any) -> None:
        """Set the gradient of each tensor that has one, and take a step."""
        torch = self.torch
        keys = list(params.keys() if isinstance(params, dict) else range(len(params)))
        by_key = grads if isinstance(grads, dict) else dict(enumerate(grads))
        first = not self.tensors
        for key in keys:
            if key not in self.tensors or self.tensors[key][0] is not params[key]:
                tensor = torch.nn.Parameter(torch.from_numpy(params[key]))
                self.tensors[key] = params[key], tensor
                if not first:
                    self.optimizer.add_param_group({"params": [tensor]})
        if first:
            self.optimizer = torch.optim.SGD([t for _, t in self.tensors.values()], self.lr, momentum=0.9)
        for key in keys:
            grad = by_key.get(key)
            self.tensors[key][1].grad = None if grad is None else torch.as_tensor(grad)
        self.optimizer.step()


class Optax:
    """optax's sgd with momentum. Its new arrays take the places of the old ones."""

    def __init__(self, lr: float = 0.1) -> None:
        import jax
        import optax

        self.jax = jax
        self.apply = optax.apply_updates
        self.rule = optax.sgd(lr, momentum=0.9)
        self.state: Any = None

    def update(self, params: Any, grads: Any) -> None:
        """Take a step."""
        with self.jax.enable_x64(True):
            if self.state is None:
                self.state = self.rule.init(params)
            updates, self.state = self.rule.update(grads, self.state, params)
            new = self.apply(params, updates)
        for key in params if isinstance(params, dict) else range(len(params)):
            params[key] = np.array(new[key])


def subjects() -> dict[str, Callable[[], Any]]:
    """Return what makes each optimizer."""
    found: dict[str, Callable[[], Any]] = {
        "fastopt": lambda: Momentum(0.1, nonfinite="raise"),
        "the book's code": Book,
    }
    for module, name, make in (("torch", "PyTorch", PyTorch), ("optax", "optax", Optax)):
        if importlib.util.find_spec(module):
            found[name] = make
    return found


class Outcome(NamedTuple):
    """The result of a wrong step: the exception's name and text, or "", and the parameters after it."""

    error: str
    message: str
    changed: int  # how many parameters differ from before
    ruined: bool  # whether one of them isn't finite

    def __str__(self) -> str:
        if self.error and not self.changed:
            return f"{self.error}, nothing changed"
        if self.error:
            return f"{self.error}, but {self.changed} changed"
        if self.ruined:
            return "accepted: not finite any more"
        return f"accepted: {self.changed} changed" if self.changed else "ignored: nothing changed"


def start(container: type) -> Both:
    """Return right parameters and gradients."""
    params = {"a": np.ones((2, 3)), "b": np.ones(3)}
    grads = {"a": np.full((2, 3), 0.5), "b": np.full(3, 0.25)}
    return (params, grads) if container is dict else (list(params.values()), list(grads.values()))


def outcome(fault: Fault, optimizer: Any) -> Outcome:
    """Take a right step and then the wrong one."""
    params, grads = start(fault.container)
    if not fault.first:
        optimizer.update(params, grads)
    params, grads = fault.wrong(params, grads)
    arrays = [np.asarray(p) for p in (params.values() if isinstance(params, dict) else params)]
    before = [array.copy() for array in arrays]
    error, message = "", ""
    try:
        with np.errstate(all="ignore"), warnings.catch_warnings(action="ignore"):
            optimizer.update(params, grads)
    except Exception as raised:
        error, message = type(raised).__name__, str(raised)
    now = [np.asarray(p) for p in (params.values() if isinstance(params, dict) else params)]
    changed = sum(old.tobytes() != new.tobytes() for old, new in zip(before, now, strict=True))
    ruined = any(a.dtype.kind == "f" and not np.isfinite(a).all() for a in now)
    return Outcome(error, message, changed, ruined)


def summary() -> tuple[str, bool]:
    """Return the table, and whether fastopt did as it should throughout."""
    makers = subjects()
    rows, right = [], True
    for fault in FAULTS:
        found = {name: outcome(fault, make()) for name, make in makers.items()}
        right &= found["fastopt"][::2] == (fault.error, 0)
        rows.append([fault.name, *map(str, found.values())])
    return table(["fault", *makers], rows, left=range(1 + len(makers))), right
