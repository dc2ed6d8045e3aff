"""`bench`: the time of a step on this machine, beside NumPy, other libraries and the memory itself."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from inspect import signature
from math import prod
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np

from fastopt import optimizers, reference
from fastopt.arrays.packing import pack
from fastopt.checks import computed, hyperparameter, integer, listed, number
from fastopt.kernels.jit import compiled
from fastopt.optimizer import Optimizer, State
from fastopt.tools import equivalents
from fastopt.tools.precompilation import compile_first
from fastopt.tools.registry import class_of, describe, takes

__all__ = ["Start", "Timing", "bench", "start", "taken"]

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


@compiled
def stream_5(param, grad, a, b, c, d, e, grad_scale, l2, keep):
    """Read and write what a rule with five states does."""
    for i in range(param.size):
        a[i] = a[i] + grad[i]
        b[i] = b[i] + grad[i]
        c[i] = c[i] + grad[i]
        d[i] = d[i] + grad[i]
        e[i] = e[i] + grad[i]
        param[i] = param[i] + a[i] + b[i] + c[i] + d[i] + e[i]


@compiled
def stream_6(param, grad, a, b, c, d, e, f, grad_scale, l2, keep):
    """Read and write what a rule with six states does."""
    for i in range(param.size):
        a[i] = a[i] + grad[i]
        b[i] = b[i] + grad[i]
        c[i] = c[i] + grad[i]
        d[i] = d[i] + grad[i]
        e[i] = e[i] + grad[i]
        f[i] = f[i] + grad[i]
        param[i] = param[i] + a[i] + b[i] + c[i] + d[i] + e[i] + f[i]


@dataclass(eq=False)
class Stream(Optimizer):
    """The limit of a rule: memory traffic only, by the step's own way."""

    lr: float = hyperparameter(0.0)

    def scalars(self, t: int) -> tuple[float, ...]:
        """Return no scalars."""
        return ()


def limit(kernel: Any) -> type[Optimizer]:
    """Return the class for a stream, whose states are the kernel's."""
    states = [*signature(kernel).parameters][2:-3]
    return type(kernel.__name__, (Stream,), {"kernel": kernel, **{name: State() for name in states}})


# By the number of states.
LIMITS = tuple(map(limit, (stream_0, stream_1, stream_2, stream_3, stream_4, stream_5, stream_6)))

# The book's 784-100-100-100-100-10: ten arrays with 109,810 parameters.
NETWORK = ((784, 100), (100,), *((100, 100), (100,)) * 3, (100, 10), (10,))


# Number of timings in the `repr` of a list of them.
MAX_SHOWN = 5


@dataclass(frozen=True)
class Timing:
    """The times of a step.

    Attributes
    ----------
    rule, dtype : str
        What was measured.
    shapes : tuple of shapes
        Of the arrays.
    seconds : dict of str to float
        For each implementation the median over the blocks: "reference" (plain NumPy), "fastopt", "packed",
        "limit", and "PyTorch", "optax" and "Keras" where they are installed and have the rule.
    spread : dict of str to float
        Quartile distance over median.
    rule_class : type, optional
        The class, where it isn't fastopt's own of that name.
    """

    rule: str
    dtype: str
    shapes: tuple[tuple[int, ...], ...]
    seconds: Mapping[str, float]
    spread: Mapping[str, float]
    rule_class: type[Optimizer] | None = None

    def __repr__(self) -> str:
        times = ", ".join(f"{name} {1e6 * own:.3g} µs" for name, own in self.seconds.items())
        sizes = f"{self.elements:,} elements in {len(self.shapes)} arrays"
        return f"<Timing: {self.rule}, {self.dtype}, {sizes}; {times}>"

    @property
    def elements(self) -> int:
        """The number of parameters."""
        return sum(map(prod, self.shapes))

    @property
    def bytes(self) -> int:
        """The bytes that a step has to read and write."""
        return self.elements * describe(self.rule_class or class_of(self.rule)).bytes_per_element(self.dtype)

    @property
    def gigabytes_per_second(self) -> float:
        """The traffic of fastopt's step, 10⁹ bytes a second."""
        return self.bytes / self.seconds["fastopt"] / 1e9

    @property
    def bandwidth_fraction(self) -> float:
        """The time of the traffic alone, over the time of the step, both packed."""
        return self.seconds["limit"] / self.seconds["packed"]


class Timings(list[Timing]):
    """The times of several rules, of which the first are shown."""

    def __repr__(self) -> str:
        lines = [repr(timing) for timing in self[:MAX_SHOWN]]
        if len(self) > MAX_SHOWN:
            lines.append(f"... {len(self) - MAX_SHOWN} more")
        return "[" + ",\n ".join(lines) + "]"


def taken(rule: str | type[Optimizer], network: Shapes) -> tuple[tuple[int, ...], ...]:
    """Return the shapes of the arrays of a network that a rule takes. Raises ValueError if it takes none."""
    cls: Any = class_of(rule)
    shapes = tuple(shape for shape in network if takes(cls, len(shape)))
    if not shapes:
        raise ValueError(f"{cls.__name__} takes no array of shape {' or '.join(map(str, network))}")
    return shapes


def networks_of(shapes: Any) -> list[Shapes]:
    """Return networks as lists of shapes. The error of what is none shows the form."""
    try:
        lists = [[listed("a shape", s) for s in listed("a network", net)] for net in listed("shapes", shapes)]
        return [[tuple(integer("a length", n, 1) for n in shape) for shape in net] for net in lists]
    except (TypeError, ValueError) as error:
        text = f"shapes must be networks, each a list of shapes, like [[(784, 100), (100,)]]: {error}"
        raise type(error)(text) from None


def steps(fast: Any, dtype: str, shapes: Shapes, others: ExitStack) -> dict[str, Callable[[], Any]]:
    """Return a step of each implementation; those of other libraries run until the stack is closed."""
    rng = np.random.default_rng(0)

    def make() -> list[np.ndarray]:
        return [rng.standard_normal(shape).astype(dtype) for shape in shapes]

    params, grads = make(), make()
    packed_grads = pack(grads)

    def own(optimizer: Any, params: Any, grads: Any) -> Callable[[], Any]:
        return lambda: optimizer.update(params, grads)

    rule, n_states = fast.__name__, len(describe(fast).states)
    is_builtin = getattr(optimizers, rule, None) is fast
    found: dict[str, Callable[[], Any]] = {}
    if is_builtin:
        found["reference"] = own(getattr(reference, rule)(1e-4), [p.copy() for p in params], grads)
    found["fastopt"] = own(fast(1e-4), [p.copy() for p in params], grads)
    found["packed"] = own(fast(1e-4), pack(params), packed_grads)
    if n_states < len(LIMITS):
        found["limit"] = own(LIMITS[n_states](), pack([p * 0 for p in params]), packed_grads)
    for name, library in equivalents.LIBRARIES.items() if is_builtin else ():
        if rule in library.rules and equivalents.version_of(name):
            other = others.enter_context(equivalents.equivalent(name, rule, params, 1e-4))
            other.give(grads)
            found[name] = other.step
    return found


def seconds_a_step(step: Callable[[], Any], times: int) -> float:
    """Return the mean over one block."""
    begin = perf_counter()
    for _ in range(times):
        step()
    return (perf_counter() - begin) / times


def bench(
    shapes: Iterable[Shapes],
    rules: Iterable[str | type[Optimizer]] = optimizers.RULES,
    dtypes: Iterable[str] = ("float32", "float64"),
    blocks: int = 15,
    block_seconds: float = 0.01,
) -> Timings:
    """Time a step of each rule, all implementations in turn, warm.

    Parameters
    ----------
    shapes : iterable of lists of shapes
        The networks: ``[[(784, 100), (100,)], [(1_000_000,)]]``.
    rules : iterable of str or classes
        Names of rules, or subclasses of `Optimizer` whose first argument is the learning rate. A class that
        isn't fastopt's has no "reference".
    dtypes : iterable of str
        "float32", "float64" or both, the default.
    blocks : int
        How often each implementation has its turn. Results are medians.
    block_seconds : float
        About how long a turn takes.

    Returns
    -------
    list of Timing
        For each rule, dtype and network; without the arrays that the rule doesn't take, as Muon vectors.

    Raises
    ------
    TypeError, ValueError
        If an argument isn't as above, or a rule takes no array of a network. Nothing is timed then.

    Examples
    --------
    >>> import fastopt
    >>> timings = fastopt.bench([[(784, 100), (100,)]], ["SGD"], ["float64"], blocks=3)
    >>> sorted({"reference", "fastopt", "packed", "limit"} & timings[0].seconds.keys())
    ['fastopt', 'limit', 'packed', 'reference']
    """
    networks = networks_of(shapes)
    own = {class_of(rule): [taken(rule, n) for n in networks] for rule in listed("rules", rules)}
    kinds = [computed("dtypes", dtype) for dtype in listed("dtypes", dtypes)]
    blocks = integer("blocks", blocks, 1)
    block_seconds = number("block_seconds", block_seconds, above=0)
    compile_first(own, kinds)
    timings = Timings()
    for rule, arrays in own.items():
        for dtype in kinds:
            for network in arrays:
                with ExitStack() as others:
                    runs = steps(rule, dtype, network, others)
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
                own_class = None if getattr(optimizers, rule.__name__, None) is rule else rule
                timings.append(Timing(rule.__name__, dtype, network, seconds, spread, own_class))
    return timings


FIRST_STEP = """
from time import perf_counter
begin = perf_counter()
import numpy as np
middle = perf_counter()
import fastopt
fastopt.{rule}().update([np.ones((5, 2), "{dtype}")], [np.ones((5, 2), "{dtype}")])
print(perf_counter() - middle)
"""


@dataclass(frozen=True)
class Start:
    """The seconds that a process spends once on fastopt: the import and its first step.

    ``cold`` with nothing compiled, when that step is taken in plain NumPy; ``warm`` with all in the cache;
    ``compiling`` with nothing compiled and ``FASTOPT_COMPILE=now``.
    """

    rule: str
    cold: float
    warm: float
    compiling: float


def start(rule: str, dtype: str) -> Start:
    """Time the start of processes: medians of three, but for the one that compiles."""

    def run(folder: str, mode: str) -> float:
        output = subprocess.run(
            [sys.executable, "-c", FIRST_STEP.format(rule=rule, dtype=dtype)],
            env={**os.environ, "FASTOPT_CACHE_DIR": folder, "FASTOPT_COMPILE": mode},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        return float(output)

    with tempfile.TemporaryDirectory() as folder:
        # What would be asked of a process in the background would disturb what is timed next.
        cold = [run(folder, "never") for _ in range(3)]
        compiling, *warm = (run(folder, "now") for _ in range(4))
    return Start(rule, median(cold), median(warm), compiling)
