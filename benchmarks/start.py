"""What a process pays once: the import of fastopt and its first step."""

from fastopt import optimizers
from fastopt.tools import benchmarking


class Start:
    """Seconds with nothing compiled, and with all on the disk."""

    params = tuple(optimizers.__all__)
    param_names = ("rule",)
    unit = "s"
    timeout = 120

    def track_cold(self, rule):
        return benchmarking.start(rule, "float64").cold

    def track_warm(self, rule):
        return benchmarking.start(rule, "float64").warm
