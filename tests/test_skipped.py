"""The option --skipped of conftest.py, in a folder with a conftest.py of its own."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = {
    "test_module.py": """
import pytest
pytest.importorskip("missing")
def test_a(): pass
def test_b(): pass
""",
    "test_one.py": """
import pytest
def test_always(): pass
@pytest.mark.parametrize("n", [1, 2])
def test_sometimes(n):
    if n == 2:
        pytest.importorskip("missing")
@pytest.mark.xfail
def test_fails(): assert False
""",
}


@pytest.fixture
def run(tmp_path):
    """Return a function that runs pytest there and returns its exit code and last line."""
    shutil.copy(Path(__file__).with_name("conftest.py"), tmp_path)
    for name, text in TESTS.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "pytest.ini").write_text("[pytest]\ntestpaths = .\npythonpath = .\n")

    def run(*arguments):
        command = [sys.executable, "-m", "pytest", "-p", "xdist", *arguments]
        # Other plugins would double the time of a run, which is that of its imports.
        env = os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
        result = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
        lines = (result.stdout + result.stderr).strip().splitlines()
        return result.returncode, lines[-1].strip("= ").rpartition(" in ")[0] or lines[-1]

    return run


def test_skipped_tests_run_later_or_fail(run, tmp_path):
    assert run("--skipped", "-n0") == (
        4,
        "ERROR: --skipped requires a run without it; run python -m pytest first",
    )
    assert run("-n2") == (0, "2 passed, 2 skipped, 1 xfailed")
    assert run("--skipped", "-n2", "--continue-on-collection-errors") == (1, "1 failed, 1 error")
    (tmp_path / "missing.py").touch()
    assert run("--skipped", "-n2") == (0, "3 passed")
    (tmp_path / "test_module.py").unlink()
    code, last = run("--skipped", "-n0")
    assert code == 4
    assert last == "ERROR: --skipped finds no test named test_module.py; run python -m pytest again"


def test_a_run_that_skips_nothing_leaves_nothing_to_run(run, tmp_path):
    (tmp_path / "missing.py").touch()
    assert run("-n0") == (0, "5 passed, 1 xfailed")
    assert run("--skipped", "-n0") == (0, "6 deselected")
    assert run("--skipped", "-n0", "test_one.py") == (4, "ERROR: --skipped takes no paths; select with -k")
