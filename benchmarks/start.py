"""What a program pays once: the import, and the first step with an empty and with a filled cache."""

import os
import shutil
import subprocess
import sys
import tempfile

from benchmarks.step import RULES

FIRST_STEP = """
import time
import numpy as np
import fastopt
params, grads = {{"a": np.ones(10)}}, {{"a": np.ones(10)}}
start = time.perf_counter()
fastopt.{rule}().update(params, grads)
print(time.perf_counter() - start)
"""


def fresh_interpreter(code, cache=None):
    """Run code in an interpreter of its own; give what it prints, in seconds."""
    environment = os.environ if cache is None else {**os.environ, "NUMBA_CACHE_DIR": cache}
    output = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    ).stdout
    return float(output)


class Import:
    """Seconds of ``import fastopt``, beside those of its two dependencies."""

    params = ["numpy", "numba", "fastopt"]
    param_names = ["module"]
    unit = "s"

    def track_import(self, module):
        clock = "import time; start = time.perf_counter(); import {}; print(time.perf_counter() - start)"
        return sorted(fresh_interpreter(clock.format(module)) for _ in range(5))[2]


class FirstStep:
    """Seconds of the first step of a process."""

    params = (RULES, ["cold", "warm"])
    param_names = ("rule", "cache")
    unit = "s"
    timeout = 120

    def setup(self, rule, cache):
        self.folder = tempfile.mkdtemp()
        self.code = FIRST_STEP.format(rule=rule)
        if cache == "warm":
            fresh_interpreter(self.code, self.folder)

    def teardown(self, rule, cache):
        shutil.rmtree(self.folder)

    def track_first_step(self, rule, cache):
        return fresh_interpreter(self.code, self.folder)
