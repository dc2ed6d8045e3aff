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
            names = rules.replace(" ", "").split(",")
            run(f"import fastopt; fastopt.warmup({names}, ['float64'], progress=False)", folder)
        yield folder
        # What is compiled in the background would disturb what is timed next.
        until = time.monotonic() + 30
        while any(Path(folder).glob("*.lock")) and time.monotonic() < until and is_compiling(folder):
            time.sleep(0.1)


def is_compiling(folder: str) -> bool:
    """Whether something was begun that isn't there yet."""
    return any(not lock.with_suffix("").exists() for lock in Path(folder).glob("*.lock"))


def train(n_steps: int, rules: str, state: str, n_turns: int = 3) -> tuple[list[float], list[float]]:
    """Time trainings with plain NumPy and fastopt in turn. Returns the median time at each step of both."""
    plain, ours = [], []
    with cache(rules if state == "warm" else "") as warm:
        for _ in range(n_turns):
            plain.append(run(TRAINING.format(module="fastopt.reference", rules=rules, n_steps=n_steps), warm))
            with cache() as empty:
                folder = warm if state == "warm" else empty
                ours.append(run(TRAINING.format(module="fastopt", rules=rules, n_steps=n_steps), folder))
    return tuple([*map(median, zip(*times, strict=True))] for times in (plain, ours))


def n_unpaid(plain: list[float], ours: list[float]) -> int:
    """Return the number of steps after which fastopt is ahead for good."""
    behind = [number for number, pair in enumerate(zip(plain, ours, strict=True), 1) if pair[1] > pair[0]]
    return max(behind, default=0)


class Start:
    """Seconds beyond NumPy: the import, the first step of a process, and that of a second rule."""

    params = (["import", "first step, warm", "first step, cold", "second rule, warm"],)
    param_names = ("what",)
    unit = "s"
    timeout = 300

    def track_seconds(self, what):
        with cache("" if "cold" in what or what == "import" else "SGD, Adam") as folder:
            if what == "import":
                return median(run(IMPORT, folder)[0] for _ in range(7))
            place = 1 if what.startswith("second") else 0
            turns = 1 if "cold" in what else 7  # the next would find something compiled
            return median(run(FIRST_STEPS, folder)[place] for _ in range(turns))


class Compiling:
    """Seconds to compile rules, from nothing."""

    params = (["Adam", "SGD, Momentum, Nesterov, AdaGrad, RMSprop, Adam"], [1, 2])
    param_names = ("rules", "number of dtypes")
    unit = "s"
    timeout = 300

    def track_seconds(self, rules, n_dtypes):
        names, dtypes = rules.split(", "), ["float64", "float32"][:n_dtypes]
        code = f"""
from time import perf_counter
begin = perf_counter()
import fastopt
fastopt.warmup({names}, {dtypes}, progress=False)
print(perf_counter() - begin)
"""
        with cache() as folder:
            return run(code, folder)[0]


class Training:
    """The time of chapter 6's trainings by fastopt, as a part of that by plain NumPy."""

    params = ([200, 500], ["Adam", "SGD, Momentum, AdaGrad, Adam"], ["cold", "warm"])
    param_names = ("steps", "rules", "state")
    timeout = 900

    def track_ratio(self, n_steps, rules, state):
        plain, ours = train(n_steps, rules, state)
        return ours[-1] / plain[-1]


def main() -> None:
    """Print all of it."""
    for what in Start.params[0]:
        print(f"{what:20} {Start().track_seconds(what):7.3f} s", flush=True)
    for rules in Compiling.params[0]:
        for n_dtypes in Compiling.params[1]:
            seconds = Compiling().track_seconds(rules, n_dtypes)
            print(f"compiling {rules}, {n_dtypes} dtypes: {seconds:.2f} s", flush=True)
    for n_steps, rules in ((200, "Adam"), (500, "SGD, Momentum, AdaGrad, Adam")):
        for state in ("cold", "warm"):
            plain, ours = train(n_steps, rules, state)
            print(
                f"{n_steps} steps, {rules}, {state}: plain NumPy {plain[-1]:.2f} s, "
                f"fastopt {ours[-1]:.2f} s, {ours[-1] / plain[-1]:.2f}×; "
                f"ahead after {n_unpaid(plain, ours)} steps",
                flush=True,
            )


if __name__ == "__main__":
    main()
