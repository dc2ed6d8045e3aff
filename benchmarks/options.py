"""Options beside the plain step, in turn: over as many steps as the slowest of them has a cycle.

``python -m benchmarks.options`` prints how many times as long a step takes.
"""

from typing import Any

import numpy as np

import fastopt
from fastopt.schedules import Cosine

from .timing import IS_ALL, Step, read, timed

OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "lr schedule": {"lr": Cosine(1e-4, 1_000)},
    "weight_decay": {"weight_decay": 0.01},
    "clip_norm": {"clip_norm": 1.0},
    "clip_value": {"clip_value": 1.0},
    "accumulate": {"accumulate": 4},
    "record": {},
    "ema": {"ema": 0.999},
    "lookahead": {"lookahead": (6, 0.5)},
    "cautious": {"cautious": True},
    "groups": {"groups": {"1": {"lr_scale": 2.0}}},
}
CYCLE = 60  # steps: every 4th, 6th or 10th does more
SIZES = [1_000, 1_000_000, *([30_000_000] if IS_ALL else [])]


def make(size: int, option: str) -> Step:
    """Return a step, or micro-batch, over two arrays that make up the size."""
    rng = np.random.default_rng(0)
    params = {str(i): rng.standard_normal(size // 2, np.float32) for i in range(2)}
    grads = {key: rng.standard_normal(param.size, np.float32) for key, param in params.items()}
    optimizer: Any = fastopt.Adam(**{"lr": 1e-4, **OPTIONS[option]})
    if option == "record":
        optimizer.record(every=10)
    return lambda: optimizer.update(params, grads)


class OptionTime:
    """The mean over a cycle."""

    params = (SIZES, [*OPTIONS])
    param_names = ("size", "option")

    def setup_cache(self):
        return timed(make, self.params, CYCLE)

    setup_cache.timeout = 3_600

    def track_step(self, times, *case):
        return read(times, *case)

    track_step.unit = "µs"


if __name__ == "__main__":
    for size, option in (times := timed(make, OptionTime.params, CYCLE)):
        own, plain = times[size, option], times[size, "plain"]
        print(f"{size:10,} {option:12} {own:9.1f} µs, {own / plain:5.2f}× plain")
