"""`update` on moments that have decayed into denormals, kept and flushed, beside ordinary ones.

``python -m benchmarks.denormals`` prints the ratios of one run: all in turn, medians of blocks.
"""

from collections.abc import Callable

import numpy as np

import fastopt

from .timing import in_turn

N = 20_000
RULES = ["Momentum", "RMSprop", "Adam", "Lion"]
STATES = ["ordinary", "denormal, kept", "denormal, flushed"]


def steps(rule: str, dtype: str, state: str) -> Callable[[], None]:
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

    def setup(self, rule: str, dtype: str, state: str) -> None:
        """Take the first step."""
        self.step = steps(rule, dtype, state)
        self.step()

    def time_step(self, rule: str, dtype: str, state: str) -> None:
        """Take a step."""
        self.step()


if __name__ == "__main__":
    for rule in RULES:
        for dtype in ("float32", "float64"):
            times = in_turn([steps(rule, dtype, state) for state in STATES], 20, 25)
            ratios = [f"{state} {t / times[0]:.1f}×" for state, t in zip(STATES, times, strict=True)][1:]
            print(f"{rule:9} {dtype}: {times[0]:5.1f} µs; {', '.join(ratios)}")
