"""`update` on moments that have decayed into denormals, kept and flushed, beside ordinary ones.

``python -m benchmarks.denormals`` prints the ratios of one run: all in turn, medians of blocks.
"""

import numpy as np

import fastopt

from .timing import Step, print_ratios, read, timed

N = 20_000
RULES = ["Momentum", "RMSprop", "Adam", "Lion"]
STATES = ["ordinary", "denormal, kept", "denormal, flushed"]


def make(rule: str, dtype: str, state: str) -> Step:
    """Return a step on a state that stays as it is named."""
    optimizer = getattr(fastopt, rule)(
        denormals="flush" if state == "denormal, flushed" else "keep", threads=1
    )
    params, grads = {"w": np.ones(N, dtype)}, {"w": np.full(N, 1e-3, dtype)}
    optimizer.update(params, grads)
    if state != "ordinary":
        # Moments of 4 of the smallest denormals are rounded back to themselves: nothing decays further.
        grads["w"][:] = 0
        smallest = np.finfo(dtype).smallest_subnormal
        for name in type(optimizer).states:
            getattr(optimizer, name)["w"][:] = 4 * smallest
    return lambda: optimizer.update(params, grads)


class Denormals:
    """A step over 20,000 elements."""

    params = (RULES, ["float32", "float64"], STATES)
    param_names = ("rule", "dtype", "state")

    def setup_cache(self):
        return timed(make, self.params)

    setup_cache.timeout = 600

    def track_step(self, times, *case):
        return read(times, *case)

    track_step.unit = "µs"


if __name__ == "__main__":
    print_ratios(make, Denormals.params)
