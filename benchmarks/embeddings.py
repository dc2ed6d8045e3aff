"""Tables of embeddings, of which a batch touches some rows: gradients that are `Rows` beside whole ones.

The step of volume 2's chapter 4, two tables of 10,000 × 100. ``python -m benchmarks.embeddings`` prints it.
"""

import numpy as np

import fastopt

from .timing import Step, print_ratios, read, timed


def make(rule: str, gradient: str) -> Step:
    """Return a step on two tables."""
    rng = np.random.default_rng(0)
    params = [rng.standard_normal((10_000, 100), np.float32) for _ in range(2)]
    # A batch of 100: ten words of context each, and a target with five wrong ones; words as rare as rank.
    often = 1 / np.arange(1, 10_001)
    touched = [rng.choice(10_000, (100, n), p=often / often.sum()) for n in (10, 6)]
    rows = [fastopt.Rows(i, rng.standard_normal((*i.shape, 100), np.float32)) for i in touched]
    whole = [np.zeros((10_000, 100), np.float32) for _ in rows]
    for table, some in zip(whole, rows, strict=True):
        np.add.at(table, some.indices, some.values)
    grads = rows if gradient == "rows" else whole
    optimizer = getattr(fastopt, rule)(rows="lazy")
    return lambda: optimizer.update(params, grads)


class Embeddings:
    """One step."""

    params = (["SGD", "AdaGrad", "Adam"], ["whole", "rows"])
    param_names = ("rule", "gradient")

    def setup_cache(self):
        return timed(make, self.params)

    def track_step(self, times, *case):
        return read(times, *case)

    track_step.unit = "µs"


if __name__ == "__main__":
    print_ratios(make, Embeddings.params)
