"""A million steps, and what they leave behind: `python -m pytest -m soak -n0 -s` takes some minutes."""

import gc
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from numba.core import event

import fastopt
from fastopt import pack

STEPS = 1_000_000
KINDS = {
    "plain": lambda: {"W": np.ones((3, 4)), "b": np.zeros(4)},
    "mixed": lambda: {"W": np.ones((3, 4), "f4"), "b": np.zeros(4)},
    "strided": lambda: {"W": np.ones((4, 3)).T[::2], "b": np.zeros(4), "s": 0.5},
    "packed": lambda: pack({"W": np.ones((3, 4)), "b": np.zeros(4)}),
}
MEMORY = Path("/proc/self/statm")


def resident():
    """Give the pages of memory that the process occupies, and Python's blocks."""
    gc.collect()
    return int(MEMORY.read_text().split()[1]), sys.getallocatedblocks()


@pytest.mark.soak
@pytest.mark.skipif(not MEMORY.exists(), reason="only Linux tells how much memory there is in use")
@pytest.mark.parametrize("kind", KINDS)
def test_a_million_steps_leave_nothing_behind(kind):
    opt, params = fastopt.Adam(1e-4), KINDS[kind]()
    rng = np.random.default_rng(0)
    slopes = [
        {key: rng.standard_normal(np.shape(p)).astype(np.asarray(p).dtype) for key, p in params.items()}
        for _ in range(8)
    ]

    def train(steps):
        for step in range(steps):
            slope = slopes[step % len(slopes)]
            if kind == "packed":
                grads = params.like()  # new arrays at each step, as in a training
                grads.update(slope)
            else:
                grads = {key: slope[key].copy() for key in params}
            opt.update(params, grads)

    train(STEPS // 20)
    pages, blocks = resident()
    with event.install_recorder("numba:compile") as recorder:
        began = time.perf_counter()
        train(STEPS)
        took = time.perf_counter() - began
    pages, blocks = (now - before for now, before in zip(resident(), (pages, blocks), strict=True))
    print(f"{kind}: {took / STEPS * 1e6:.1f} µs a step; {pages:+} pages, {blocks:+} blocks")
    assert opt.iter == STEPS + STEPS // 20
    assert recorder.buffer == []
    assert abs(blocks) < STEPS // 1000
    assert pages < 64
    assert all(np.isfinite(p).all() for p in params.values())
