"""Running a test file in a process without the compiler, where hundreds of cases take seconds."""

import os
import subprocess
import sys
from pathlib import Path

from fastopt.engine.compiling.code import compile_mode

__all__ = ["COMPILES", "check_uncompiled"]

COMPILES = compile_mode() != "never"


def check_uncompiled(file: str, *options: str) -> None:
    """Raise AssertionError, with pytest's output, if a test of the file fails without the compiler."""
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-n0",
        "-p",
        "no:cacheprovider",
        "--tb=line",
        *options,
        file,
    ]
    environment = {**os.environ, "FASTOPT_COMPILE": "never"}
    # Else the process would count as a worker of the one that started it.
    environment = {name: value for name, value in environment.items() if not name.startswith("PYTEST_")}
    root = Path(file).parent.parent
    found = subprocess.run(command, env=environment, cwd=root, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout + found.stderr
