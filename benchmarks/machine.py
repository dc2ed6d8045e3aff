"""What a measurement depends on: machine, versions, date, and how busy the machine was."""

import os
import platform
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

__all__ = ["describe"]


def describe() -> dict[str, str | int | float]:
    """Return the processor, the number of cores, versions, the date, and the load of the last minute.

    The load is the mean number of processes that wanted a core; NaN where the system doesn't tell it.
    """
    usable = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    return {
        "processor": processor(),
        "cores": len(usable),
        "load": round(load, 2),
        "date": datetime.now(UTC).date().isoformat(),
        "Python": platform.python_version(),
        **{name: version(name.lower()) for name in ("NumPy", "Numba")},
    }


def processor() -> str:
    """Return the processor's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
