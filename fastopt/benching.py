"""`bench`: what a step costs on this machine, beside NumPy, PyTorch, optax and the memory itself."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np

from fastopt import optimizers, reference
from fastopt.compiling import compiled
from fastopt.optimizer import Optimizer, State
from fastopt.packing import pack
from fastopt.threads import allowed

__all__ = ["Start", "Timing", "bench", "start"]

Shapes = Sequence[tuple[int, ...]]


@compiled
def stream_0(param, grad, grad_scale, l2, keep):
    """Read and write what a rule without state does, with next to no arithmetic."""
    for i in range(param.size):
        param[i] = param[i] + grad[i]


@compiled
def stream_1(param, grad, a, grad_scale, l2, keep):
    """Read and write what a rule with one state does."""
    for i in range(param.size):
        a[i] = a[i] + grad[i]
        param[i] = param[i] + a[i]


@compiled
def stream_2(param, grad, a, b, grad_scale, l2, keep):
    """Read and write what a rule with two states does."""
    for i in range(param.size):
        a[i] = a[i] + grad[i]
        b[i] = b[i] + grad[i]
        param[i] = param[i] + a[i] + b[i]


@compiled
def stream_3(param, grad, a, b, c, grad_scale, l2, keep):
    """Read and write what a rule with three states does."""
    for i in range(param.size):
        a[i] = a[i] + grad[i]
        b[i] = b[i] + grad[i]
        c[i] = c[i] + grad[i]
        param[i] = param[i] + a[i] + b[i] + c[i]


@compiled
def stream_4(param, grad, a, b, c, d, grad_scale, l2, keep):
    """Read and write what a rule with four states does."""
    for i in range(param.size):
        a[i] = a[i] + grad[i]
        b[i] = b[i] + grad[i]
        c[i] = c[i] + grad[i]
        d[i] = d[i] + grad[i]
        param[i] = param[i] + a[i] + b[i] + c[i] + d[i]


@dataclass(eq=False)
class Stream0(Optimizer):
    """The limit of rules without state: the step's own way, memory traffic only."""

    kernel = stream_0

    def scalars(self, t: int) -> tuple[float, ...]:
        """Give nothing."""
        return ()


@dataclass(eq=False)
class Stream1(Stream0):
    """The limit of rules with one state."""

    kernel = stream_1
    a = State()


@dataclass(eq=False)
class Stream2(Stream0):
    """The limit of rules with two states."""

    kernel = stream_2
    a = State()
    b = State()


@dataclass(eq=False)
class Stream3(Stream0):
    """The limit of rules with three states."""

    kernel = stream_3
    a = State()
    b = State()
    c = State()


@dataclass(eq=False)
class Stream4(Stream0):
    """The limit of rules with four states."""

    kernel = stream_4
    a = State()
    b = State()
    c = State()
    d = State()


LIMITS: tuple[type[Optimizer], ...] = (Stream0, Stream1, Stream2, Stream3, Stream4)


@dataclass(frozen=True)
class Timing:
    """What a step took.

    Attributes
    ----------
    rule, dtype : str
        What was measured.
    shapes : tuple of shapes
        Of the arrays.
    seconds : dict of str to float
        For each implementation the median over the blocks: "reference", "fastopt", "packed", "limit",
        and "PyTorch" and "optax" where they are installed and have the rule.
    spread : dict of str to float
        Quartile distance over median.
    """

    rule: str
    dtype: str
    shapes: tuple[tuple[int, ...], ...]
    seconds: Mapping[str, float]
    spread: Mapping[str, float]

    @property
    def elements(self) -> int:
        """The number of parameters."""
        return sum(map(prod, self.shapes))

    @property
    def bytes(self) -> int:
        """What a step has to read and write: gradients once, parameters and states twice."""
        streams = 3 + 2 * len(getattr(optimizers, self.rule).states)
        return streams * self.elements * np.dtype(self.dtype).itemsize

    @property
    def gigabytes_per_second(self) -> float:
        """The traffic of fastopt's step, 10⁹ bytes a second."""
        return self.bytes / self.seconds["fastopt"] / 1e9

    @property
    def share_of_limit(self) -> float:
        """The time of the traffic alone, over the time of the step, both packed."""
        return self.seconds["limit"] / self.seconds["packed"]


def torch_step(rule: str, params: list[np.ndarray], grads: list[np.ndarray]) -> Callable[[], Any] | None:
    """Give PyTorch's step, fused where it has that, or None."""
    try:
        import torch
    except ImportError:
        return None
    classes: dict[str, tuple[str, dict[str, Any]]] = {
        "SGD": ("SGD", {"fused": True}),
        "Momentum": ("SGD", {"momentum": 0.9, "fused": True}),
        "Nesterov": ("SGD", {"momentum": 0.9, "nesterov": True, "fused": True}),
        "AdaGrad": ("Adagrad", {"fused": True}),
        "RMSprop": ("RMSprop", {"foreach": True}),
        "Adam": ("Adam", {"fused": True}),
    }
    if rule not in classes:
        return None
    name, arguments = classes[rule]
    torch.set_num_threads(allowed())
    tensors = [torch.nn.Parameter(torch.from_numpy(p.copy())) for p in params]
    for tensor, grad in zip(tensors, grads, strict=True):
        tensor.grad = torch.from_numpy(grad.copy())
    step: Callable[[], Any] = getattr(torch.optim, name)(tensors, lr=1e-4, **arguments).step
    return step


def optax_step(rule: str, params: list[np.ndarray], grads: list[np.ndarray]) -> Callable[[], Any] | None:
    """Give optax's step, compiled as a whole with the parameters' buffers donated, or None."""
    try:
        import jax
        import optax
    except ImportError:
        return None
    makers: dict[str, Callable[[], Any]] = {
        "SGD": lambda: optax.sgd(1e-4),
        "Momentum": lambda: optax.sgd(1e-4, momentum=0.9),
        "Nesterov": lambda: optax.sgd(1e-4, momentum=0.9, nesterov=True),
        "AdaGrad": lambda: optax.adagrad(1e-4),
        "RMSprop": lambda: optax.rmsprop(1e-4),
        "Adam": lambda: optax.adam(1e-4),
    }
    if rule not in makers:
        return None
    if params[0].dtype == np.float64:
        jax.config.update("jax_enable_x64", True)
    rule_of = makers[rule]()
    slopes = [jax.numpy.asarray(grad) for grad in grads]
    held: dict[str, Any] = {"params": [jax.numpy.asarray(p) for p in params]}
    held["state"] = rule_of.init(held["params"])

    def whole(params: Any, state: Any) -> Any:
        updates, state = rule_of.update(slopes, state, params)
        return optax.apply_updates(params, updates), state

    fast = jax.jit(whole, donate_argnums=(0, 1))

    def step() -> None:
        held["params"], held["state"] = fast(held["params"], held["state"])
        jax.block_until_ready(held["params"])

    return step


def steps(rule: str, dtype: str, shapes: Shapes) -> dict[str, Callable[[], Any]]:
    """Give a step of each implementation."""
    rng = np.random.default_rng(0)

    def make() -> list[np.ndarray]:
        return [rng.standard_normal(shape).astype(dtype) for shape in shapes]

    params, grads = make(), make()
    packed_grads = pack(grads)

    def own(optimizer: Any, params: Any, grads: Any) -> Callable[[], Any]:
        return lambda: optimizer.update(params, grads)

    fast = getattr(optimizers, rule)
    found: dict[str, Callable[[], Any] | None] = {
        "reference": own(getattr(reference, rule)(1e-4), [p.copy() for p in params], grads),
        "fastopt": own(fast(1e-4), [p.copy() for p in params], grads),
        "packed": own(fast(1e-4), pack(params), packed_grads),
        "limit": own(LIMITS[len(fast.states)](), pack([p * 0 for p in params]), packed_grads),
        "PyTorch": torch_step(rule, params, grads),
        "optax": optax_step(rule, params, grads),
    }
    return {name: step for name, step in found.items() if step is not None}


def seconds_a_step(step: Callable[[], Any], times: int) -> float:
    """Give the mean over one block."""
    begin = perf_counter()
    for _ in range(times):
        step()
    return (perf_counter() - begin) / times


def bench(
    shapes: Iterable[Shapes],
    rules: Iterable[str] = tuple(optimizers.__all__),
    dtypes: Iterable[str] = ("float32", "float64"),
    blocks: int = 15,
    block_seconds: float = 0.01,
) -> list[Timing]:
    """Time a step of each rule, all implementations in turn, warm.

    Parameters
    ----------
    shapes : iterable of lists of shapes
        The networks: ``[[(784, 100), (100,)], [(1_000_000,)]]``.
    rules, dtypes : iterable of str
        What to time.
    blocks : int
        How often each implementation has its turn. Results are medians.
    block_seconds : float
        About how long a turn takes.

    Returns
    -------
    list of Timing
        For each rule, dtype and network.
    """
    networks = [tuple(network) for network in shapes]
    timings = []
    for rule in rules:
        for dtype in dtypes:
            for network in networks:
                runs = steps(rule, dtype, network)
                for step in runs.values():
                    seconds_a_step(step, 2)
                times = {n: max(1, int(block_seconds / seconds_a_step(s, 2))) for n, s in runs.items()}
                turns = [{n: seconds_a_step(s, times[n]) for n, s in runs.items()} for _ in range(blocks)]
                seconds, spread = {}, {}
                for name in runs:
                    ordered = sorted(turn[name] for turn in turns)
                    seconds[name] = median(ordered)
                    quartiles = ordered[3 * blocks // 4] - ordered[blocks // 4]
                    spread[name] = quartiles / seconds[name]
                timings.append(Timing(rule, dtype, network, seconds, spread))
    return timings


FIRST_STEP = """
from time import perf_counter
begin = perf_counter()
import numpy as np
middle = perf_counter()
import fastopt
fastopt.{rule}().update([np.ones(10, "{dtype}")], [np.ones(10, "{dtype}")])
print(perf_counter() - middle)
"""


@dataclass(frozen=True)
class Start:
    """What a process pays once for fastopt: the import and its first step, in seconds."""

    rule: str
    cold: float
    warm: float


def start(rule: str, dtype: str) -> Start:
    """Time the start of a process with nothing compiled, and (the median of three) with all on the disk."""

    def run(folder: str) -> float:
        output = subprocess.run(
            [sys.executable, "-c", FIRST_STEP.format(rule=rule, dtype=dtype)],
            env={**os.environ, "NUMBA_CACHE_DIR": folder},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        return float(output)

    with tempfile.TemporaryDirectory() as folder:
        cold, *warm = (run(folder) for _ in range(4))
    return Start(rule, cold, median(warm))
