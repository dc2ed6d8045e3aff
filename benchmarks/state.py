"""Adam with its state in full and in fewer bytes, beside PyTorch's fused one, and the traffic of each alone.

``python -m benchmarks.state [SIZE ...]`` prints the ratios of one run on two threads: all in turn, medians of
blocks. PyTorch is left out where it isn't installed.
"""

import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import numpy as np

import fastopt

from .timing import read, timed

FULL = "in full"
FORMATS = [FULL, "bfloat16", "float16", "int8"]
SIZES = [1_000_000, 30_000_000]
THREADS = 2


def step(size: int, state_dtype: str | None, rule: str = "Adam") -> Callable[[], Any]:
    """Return a step of fastopt's."""
    optimizer = getattr(fastopt, rule)(state_dtype=state_dtype, threads=THREADS)
    params, grads = {"w": np.ones(size, np.float32)}, {"w": gradient(size)}
    return lambda: optimizer.update(params, grads)


def gradient(size: int) -> np.ndarray:
    """Return a gradient."""
    return np.random.default_rng(0).standard_normal(size).astype(np.float32)


def torch_step(size: int) -> Callable[[], Any]:
    """Return a step of PyTorch's."""
    import torch

    torch.set_num_threads(THREADS)
    param = torch.nn.Parameter(torch.ones(size))
    param.grad = torch.from_numpy(gradient(size))
    optimizer: Any = torch.optim.Adam([param], fused=True)
    return lambda: optimizer.step()


def traffic(param, grad, m, v):
    """Read and write what Adam does, with states of any dtype."""
    for i in range(param.size):
        m[i] = m[i] ^ 1
        v[i] = v[i] ^ 1
        param[i] = param[i] + grad[i]


def traffic_step(size: int, state_dtype: str | None) -> Callable[[], Any]:
    """Return what takes the time of the memory's traffic alone, on threads that share the elements."""
    from numba import njit

    run = njit(nogil=True)(traffic)
    code = {None: np.uint32, "int8": np.uint8}.get(state_dtype, np.uint16)
    arrays = np.ones(size, np.float32), gradient(size), np.ones(size, code), np.ones(size, code)
    ends = [size * k // THREADS for k in range(THREADS + 1)]
    parts = [[array[low:high] for array in arrays] for low, high in pairwise(ends)]
    pool = ThreadPoolExecutor(THREADS)
    return lambda: [*pool.map(lambda own: run(*own), parts)]


TRAFFIC = "traffic, "


def make(size: int, what: str) -> Callable[[], Any]:
    """Return a step with the state in a format, PyTorch's, or the traffic of a format alone."""
    if what == "PyTorch":
        return torch_step(size)
    name = what.removeprefix(TRAFFIC)
    state_dtype = None if name == FULL else name
    return traffic_step(size, state_dtype) if what.startswith(TRAFFIC) else step(size, state_dtype)


class StateFormats:
    """The time of a step of Adam on two threads."""

    params = (SIZES, [*FORMATS, "PyTorch"])
    param_names = ("size", "state")

    def setup_cache(self):
        return timed(make, self.params)

    setup_cache.timeout = 600

    def track_step(self, times, *case):
        return read(times, *case)

    track_step.unit = "µs"


def report(size: int) -> str:
    """Return the times and ratios of one run."""
    times = timed(make, ([size], [*FORMATS, *(TRAFFIC + name for name in FORMATS), "PyTorch"]))
    lines = [f"Adam, {size:,} float32, {THREADS} threads"]
    for name in FORMATS:
        own = times[size, name]
        row = f"  {name:9} {own / 1000:8.3f} ms, {times[size, FULL] / own:.2f}× in full"
        if (size, "PyTorch") in times:
            row += f", {times[size, 'PyTorch'] / own:.2f}× PyTorch's fused"
        lines.append(f"{row}, {100 * times[size, TRAFFIC + name] / own:.0f}% of its limit")
    return "\n".join(lines)


if __name__ == "__main__":
    for text in sys.argv[1:] or SIZES:
        print(report(int(text)))
