"""What a process pays once, and when that is paid back: import, first step, and whole trainings.

``python -m benchmarks.start`` prints all of it, with both candidates in turn and medians. A cold process
finds nothing compiled, and trains in plain NumPy until another process has compiled; a warm one finds all.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

from .timing import IS_ALL, IS_QUICK, read

N_TURNS = 1 if IS_QUICK else 7
COMPILED = ["Adam", "SGD, Momentum, Nesterov, AdaGrad, RMSprop, Adam"]
# The number of steps of each rule.
TRAININGS = {"SGD, Momentum, AdaGrad, Adam": 20 if IS_QUICK else 500, **({"Adam": 200} if IS_ALL else {})}

# Later runs of it find the rules compiled.
WARM = """
from time import perf_counter
import numpy as np
begin = perf_counter()
from fastopt import {rules}
for make in ({rules},):
    make().update([np.ones((50, 20)), np.ones(50)], [np.ones((50, 20)), np.ones(50)])
print(perf_counter() - begin)
"""

IMPORT = """
from time import perf_counter
import numpy
begin = perf_counter()
from fastopt import Adam
print(perf_counter() - begin)
"""

FIRST_STEPS = """
from time import perf_counter
import numpy as np
begin = perf_counter()
from fastopt import SGD, Adam
params, grads = [np.ones((50, 20)), np.ones(50)], [np.ones((50, 20)), np.ones(50)]
Adam().update(params, grads)
middle = perf_counter()
SGD().update(params, grads)
print(middle - begin, perf_counter() - middle)
"""

# Chapter 6's network, 784-100-100-100-100-10 with ReLU, on random images in batches of 128; the time since
# the optimizers' import at each step.
TRAINING = """
from time import perf_counter
import numpy as np
rng = np.random.default_rng(0)
widths = [784, 100, 100, 100, 100, 10]
images, labels = rng.random((1280, 784)), rng.integers(10, size=1280)
begin = perf_counter()
from {module} import {rules}
times = []
for make in ({rules},):
    params = {{}}
    for k, (n, m) in enumerate(zip(widths, widths[1:])):
        params[f"W{{k}}"], params[f"b{{k}}"] = rng.standard_normal((n, m)) * np.sqrt(2 / n), np.zeros(m)
    optimizer, n_layers = make(), len(widths) - 1
    for step in range({n_steps}):
        batch = slice(step % 10 * 128, step % 10 * 128 + 128)
        x, t, inputs = images[batch], labels[batch], []
        for k in range(n_layers):
            inputs.append(x)
            x = x @ params[f"W{{k}}"] + params[f"b{{k}}"]
            if k < n_layers - 1:
                x = np.maximum(x, 0)
        e = np.exp(x - x.max(axis=1, keepdims=True))
        d = e / e.sum(axis=1, keepdims=True)
        d[np.arange(128), t] -= 1
        d /= 128
        grads = {{}}
        for k in reversed(range(n_layers)):
            grads[f"W{{k}}"], grads[f"b{{k}}"] = inputs[k].T @ d, d.sum(axis=0)
            d = d @ params[f"W{{k}}"].T * (inputs[k] > 0)
        optimizer.update(params, grads)
        times.append(perf_counter() - begin)
print(*times)
"""


def run(code: str, folder: str, mode: str = "background") -> list[float]:
    """Run code in a fresh process on one BLAS thread. Returns the numbers that it prints."""
    # Bytecode is written, as where fastopt is installed.
    environment = {"FASTOPT_CACHE_DIR": folder, "FASTOPT_COMPILE": mode, "OPENBLAS_NUM_THREADS": "1"}
    environment["PYTHONDONTWRITEBYTECODE"] = ""
    command = [sys.executable, "-c", code]
    output = subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True, text=True, check=True
    )
    return [float(word) for word in output.stdout.split()]


@contextmanager
def cache(rules: str = "") -> Iterator[str]:
    """Make an empty folder, or one in which these rules are compiled for float64."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        if rules:
            run(WARM.format(rules=rules), folder, "now")
        yield folder
        # What is compiled in the background would disturb what is timed next.
        until = time.monotonic() + 30
        while any(Path(folder).glob("*.lock")) and time.monotonic() < until and is_compiling(folder):
            time.sleep(0.1)


def is_compiling(folder: str) -> bool:
    """Whether something was begun that isn't there yet."""
    return any(not lock.with_suffix("").exists() for lock in Path(folder).glob("*.lock"))


def medians(code: str, folder: str) -> list[float]:
    """Return the medians of the numbers that fresh processes print."""
    return [*map(median, zip(*(run(code, folder) for _ in range(N_TURNS)), strict=True))]


def starts() -> dict[tuple[str], float]:
    """Return the seconds of each start by its name."""
    found = {}
    with cache() as folder:
        # The next would find something compiled.
        found["first step, cold",] = run(FIRST_STEPS, folder)[0]
    with cache("SGD, Adam") as folder:
        (found["import",],) = medians(IMPORT, folder)
        found["first step, warm",], found["second rule, warm",] = medians(FIRST_STEPS, folder)
    return found


def compilations() -> dict[tuple[str], float]:
    """Return the seconds that it takes to compile rules from nothing."""
    found = {}
    for rules in COMPILED:
        with cache() as folder:
            (found[rules,],) = run(WARM.format(rules=rules), folder, "now")
    return found


class Start:
    """Seconds beyond NumPy: the import, the first step of a process, and that of a second rule."""

    params = (["import", "first step, warm", "first step, cold", "second rule, warm"],)
    param_names = ("what",)

    def setup_cache(self):
        return starts()

    setup_cache.timeout = 600

    def track_seconds(self, times, what):
        return read(times, what)

    track_seconds.unit = "s"


class Compiling:
    """Seconds to compile rules, and what all rules share."""

    params = (COMPILED,)
    param_names = ("rules",)

    def setup_cache(self):
        return compilations()

    setup_cache.timeout = 600

    def track_seconds(self, times, rules):
        return read(times, rules)

    track_seconds.unit = "s"


def train(n_steps: int, rules: str) -> dict[str, list[float]]:
    """Time trainings by plain NumPy and by fastopt, cold and warm, in turn: the time since the import."""
    found: dict[str, list[list[float]]] = {"NumPy": [], "cold": [], "warm": []}
    with cache(rules) as warm:
        for _ in range(min(N_TURNS, 3)):
            ours = TRAINING.format(module="fastopt", rules=rules, n_steps=n_steps)
            found["NumPy"].append(run(ours.replace("from fastopt", "from fastopt.reference"), warm))
            found["warm"].append(run(ours, warm))
            with cache() as empty:
                found["cold"].append(run(ours, empty))
    return {by: [*map(median, zip(*times, strict=True))] for by, times in found.items()}


def n_unpaid(plain: list[float], ours: list[float]) -> int:
    """Return the number of steps after which fastopt is ahead for good."""
    behind = [number for number, pair in enumerate(zip(plain, ours, strict=True), 1) if pair[1] > pair[0]]
    return max(behind, default=0)


class Training:
    """Chapter 6's trainings, from the import to the last step."""

    params = ([*TRAININGS], ["NumPy", "cold", "warm"])
    param_names = ("rules", "by")

    def setup_cache(self):
        found = {rules: train(n_steps, rules) for rules, n_steps in TRAININGS.items()}
        return {(rules, by): own[-1] for rules, times in found.items() for by, own in times.items()}

    setup_cache.timeout = 1_800

    def track_seconds(self, times, *case):
        return read(times, *case)

    track_seconds.unit = "s"


def main() -> None:
    """Print all of it."""
    for (what,), seconds in starts().items():
        print(f"{what:20} {seconds:7.3f} s", flush=True)
    for (rules,), seconds in compilations().items():
        print(f"compiling {rules}: {seconds:.2f} s", flush=True)
    for rules, n_steps in TRAININGS.items():
        times = train(n_steps, rules)
        plain = times["NumPy"]
        for state in ("cold", "warm"):
            ours = times[state]
            print(
                f"{n_steps} steps, {rules}, {state}: plain NumPy {plain[-1]:.2f} s, "
                f"fastopt {ours[-1]:.2f} s, {ours[-1] / plain[-1]:.2f}×; "
                f"ahead after {n_unpaid(plain, ours)} steps",
                flush=True,
            )


if __name__ == "__main__":
    main()
