"""Several ranks on one machine, started as a user would: what each of them checks is in ``ranks.py``."""

import os
import shutil
import signal
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

pytest.importorskip("mpi4py", exc_type=ImportError)
TESTS = Path(__file__).parent
FOUND = shutil.which("mpiexec", path=sysconfig.get_path("scripts")) or shutil.which("mpiexec")
pytestmark = pytest.mark.skipif(FOUND is None, reason="there is no mpiexec")

COUNTS = [1, 2, 3, 4]


def mpiexec(count, *arguments, timeout=120):
    """Run Python on so many ranks."""
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(TESTS.parent), str(TESTS)]),
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
    }
    return subprocess.run(
        [FOUND, "-n", str(count), sys.executable, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=timeout,
        env=environment,
    )


def ranks(count, *arguments):
    """Let the ranks check something."""
    result = mpiexec(count, "-m", "mpi4py", TESTS / "ranks.py", *arguments)
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == ["done"]


@pytest.mark.parametrize("count", COUNTS)  # the first compiles for all
def test_ranks(count):
    checks = "bits,batch,around,share"
    if count < 4:  # which take turns on fewer cores
        checks += ",kinds,grouped,frozen,flushed,as_the_rule,changes,micro,lean,faults,warn,calls,fortran"
    ranks(count, checks)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved")
    ranks(3, "save", folder)
    return folder


@pytest.mark.parametrize("count", COUNTS)
def test_resume(saved, count):
    ranks(count, "resume,between,turned,some,thawed", saved)


@pytest.mark.parametrize(
    ("how", "words", "started"),
    [
        ("killed", "signal 9", ()),
        ("raises", "bad luck", ("-m", "mpi4py")),
        ("fails", "ZeroDivisionError", ()),
    ],
)
def test_a_lost_rank_ends_all(how, words, started):
    result = mpiexec(3, *started, TESTS / "ranks.py", "dies", how, timeout=60)
    assert result.returncode != 0
    assert words in result.stdout + result.stderr


@pytest.mark.parametrize("started", [(), ("-m", "mpi4py")])
def test_a_rank_whose_program_ends_early_is_named(started):
    result = mpiexec(3, *started, TESTS / "ranks.py", "early", timeout=60)
    assert result.returncode != 0
    assert "the call must be the same on all ranks, but is the end of the program on rank 2" in result.stderr


@pytest.mark.long
def test_communicators_are_few():
    ranks(2, "many")


@pytest.mark.parametrize("count", [1, 3])
def test_folders_and_files_of_several_ranks(count, tmp_path):
    ranks(count, "shards,mosaic", tmp_path)


def test_main_job():
    result = mpiexec(
        2, "-m", "fastopt", "train", "--mpi", "--epochs", 1, "--rules", "Adam,LAMB", "--batch", 75
    )
    assert result.returncode == 0, result.stderr
    assert "step/s" in result.stderr
    rows = [line.split() for line in result.stdout.splitlines() if line.startswith(("Adam ", "LAMB "))]
    assert len(rows) == 4  # of two tables
    for _, _, one, both, apart, _ in rows[:2]:
        assert one == both
        assert float(apart) < 1e-10
    for _, alone, each, *_ in rows[2:]:
        assert float(each) < 0.6 * float(alone)


def test_more_ranks_than_samples():
    result = mpiexec(2, "-m", "fastopt", "train", "--mpi", "--batch", 1)
    assert result.returncode == 2
    assert "too small for 2 ranks" in result.stderr


# Shells have interrupts ignored by what they start in the background, and Python then ignores them, too.
INTERRUPTIBLE = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
from fastopt.cli.program import enter
enter()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="it has other signals")
def test_ctrl_c_ends_all_ranks_without_a_traceback():
    arguments = ["train", "--mpi", "--epochs", "9999", "--rules", "SGD"]
    with subprocess.Popen(
        [FOUND, "-n", "2", sys.executable, "-c", INTERRUPTIBLE, *arguments],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=os.environ | {"PYTHONPATH": str(TESTS.parent)},
    ) as process:  # fmt: skip
        seen = b""
        while b"step/s" not in seen:
            part = process.stderr.read1(1000)
            assert part, seen
            seen += part
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=120)
    assert process.returncode != 0
    assert b"Traceback" not in errors
    assert errors.count(b"interrupted\n") == 1


def test_muon_needs_a_partition():
    result = mpiexec(1, "-m", "fastopt", "train", "--mpi", "--rules", "Muon")
    assert result.returncode != 0
    assert "--rules: Muon needs a Partition here" in result.stderr


@pytest.mark.parametrize(
    "run", ["from fastopt.adapters.mpi import DataParallel", "program.main(['train', '--mpi'])"]
)
def test_without_mpi4py(run):
    code = f"import sys; sys.modules['mpi4py'] = None; from fastopt.cli import program; {run}"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert "this needs mpi4py and an MPI" in result.stderr
    assert 'pip install "fastopt[mpi]"' in result.stderr
    assert ("Traceback" in result.stderr) == ("main(" not in run)
