"""Files that others made, or that can't be written: each is refused by name, with nothing changed."""

import json
import os
import pickle
import signal
import subprocess
import sys
import time
import zipfile
from dataclasses import dataclass

import numpy as np
import pytest

import fastopt
from fastopt.checkpoints import files
from fastopt.schedules import Cosine, Schedule, Timed, Warmup

SUFFIXES = ["npz", "safetensors"]


def stepped(rule=fastopt.Adam, **options):
    """Return an optimizer that has taken two steps, and its parameters."""
    optimizer, params = rule(**options), {"W": np.zeros(4), "b": np.zeros(2)}
    for _ in range(2):
        optimizer.update(params, {key: np.ones_like(param) for key, param in params.items()})
    return optimizer, params


def with_header(path, change):
    """Write a file anew, with a right checksum, after its header was changed."""
    with zipfile.ZipFile(path) as archive:
        header = json.loads(archive.read("fastopt.json"))
        names = [name for name in archive.namelist() if name.endswith(".npy")]
        arrays = {name[:-4]: np.lib.format.read_array(archive.open(name)) for name in names}
    del header["sha256"], header["fastopt"]
    change(header)
    files.write(path, header, arrays)


def many_names(header):
    for part in header["state"]:
        header["state"][part] = [[f"n{i}", [1], "float64", "C"] for i in range(20_000)]


def hyperparameter(name, value, **more):
    return lambda header: header.update(more) or header["hyperparameters"].update({name: value})


HEADERS = {
    "names": (many_names, "its arrays aren't those of its header"),
    "counts": (lambda h: h.update(counts=[[f"n{i}", 1] for i in range(20_000)]), "its counts are {'n0': 1"),
    "hyperparameters": (
        lambda h: h["hyperparameters"].update({f"n{i}": 1 for i in range(20_000)}),
        "its hyperparameters are",
    ),
    "ema": (hyperparameter("ema", 0.5), r"saved with ema=0.5, this is Adam\(ema=None\)"),
    "swa": (hyperparameter("swa", 5), "saved with swa=5, this is"),
    "lookahead": (hyperparameter("lookahead", [5, 0.5]), r"lookahead=\(5, 0.5\), this is"),
    "accumulate": (hyperparameter("accumulate", 4), r"accumulate=4, this is Adam\(accumulate=1\)"),
    "abstract": (hyperparameter("lr", {"class": "Timed", "steps_per_epoch": 1}), "is no schedule"),
    "abstract inside": (
        hyperparameter("lr", {"class": "Warmup", "schedule": {"class": "Schedule"}, "steps": 3}),
        "{'class': 'Schedule'} is no schedule",
    ),
    "infinite": (
        hyperparameter(
            "lr", {"class": "Exponential", "value": 0.001, "factor": 2.0, "steps": 1.0}, iter=10**5
        ),
        r"lr must be at least 0 and finite, not inf: that is Exponential\(0.001, 2.0\) at step 100000",
    ),
    "overflow": (
        hyperparameter("lr", {"class": "InverseTime", "value": 0.001, "rate": 2.0, "power": 1e5}, iter=10**5),
        "its lr can't be computed at step 100000",
    ),
    "iter": (lambda h: h.update(iter=2**63), "which is no number of steps"),
    "no shapes": (lambda h: h.update(shapes=[["W", [-1]]]), "its shapes are {'W': \\[-1\\]}"),
    "large shapes": (lambda h: h.update(shapes=[["W", [4, 10**30]]]), "its shapes are {'W': "),
    "other shapes": (lambda h: h.update(shapes=[["W", [5]]]), "its [mv] of 'W' is unlike its other states"),
}


@pytest.mark.parametrize("name", HEADERS)
def test_headers_that_are_refused(name, tmp_path):
    change, message = HEADERS[name]
    path = tmp_path / "a.npz"
    optimizer, params = stepped()
    optimizer.save(path, params)
    with_header(path, change)
    before = pickle.dumps(optimizer), params["W"].tobytes()
    for refusing in (optimizer, fastopt.Adam()):
        start = time.thread_time()
        with pytest.raises(ValueError, match=message) as refused:
            refusing.load(path, params)
        assert time.thread_time() - start < 2
        assert str(path) in str(refused.value)
        assert len(str(refused.value)) < 2_000
    assert before == (pickle.dumps(optimizer), params["W"].tobytes())


def test_a_product_over_all_steps_is_not_computed_for_ever(tmp_path):
    """NAdam's, of a file that says it has taken 2⁶¹ steps."""
    path = tmp_path / "a.npz"
    optimizer, params = stepped(fastopt.NAdam)
    optimizer.save(path, params)
    with_header(path, lambda header: header.update(iter=2**61))
    start = time.thread_time()
    optimizer.load(path, params)
    optimizer.update(params, params)
    assert time.thread_time() - start < 2


# Schedules of one's own.


@dataclass(frozen=True)
class Halving(Timed):
    start: float = 1.0

    def __post_init__(self):
        super().__post_init__()
        made.append(self)

    def at(self, c):
        return self.start / 2**c


made = []


def test_a_file_makes_no_schedule_that_nobody_named(tmp_path, monkeypatch):
    monkeypatch.setattr(Schedule, "registered", {})
    path = tmp_path / "a.npz"
    own, params = stepped(lr=Warmup(Halving(0.5), 3))
    own.save(path, params)
    made.clear()
    with pytest.raises(ValueError, match=r"no schedule; .* after fastopt.schedules.Schedule.register\("):
        fastopt.Adam().load(path)
    assert made == []
    # One that has such a schedule has named it; and so has who registers it.
    same = fastopt.Adam(lr=Warmup(Halving(0.5), 3))
    same.load(path)
    assert same.state_dict()["hyperparameters"] == own.state_dict()["hyperparameters"]
    assert pickle.loads(pickle.dumps(own)).schedule == own.schedule
    assert Schedule.register(Halving) is Halving
    other = fastopt.Adam()
    other.load(path)
    assert other.schedule == own.schedule
    with pytest.raises(TypeError, match="a subclass of Schedule, not a Cosine"):
        Schedule.register(Cosine(0.1, 5))


# Files and names.


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes")
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_pipe_is_not_waited_for(suffix, tmp_path):
    path = tmp_path / f"run.{suffix}"
    os.mkfifo(path)
    code = f"import fastopt; fastopt.Adam().load({str(path)!r})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert "OSError" in done.stderr
    assert f"it is no regular file: {str(path)!r}" in done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="other names")
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_names_as_long_as_the_disk_takes(suffix, tmp_path):
    pytest.importorskip("safetensors")
    optimizer, params = stepped()
    for name in ("x" * (254 - len(suffix)), "é" * (254 - len(suffix) >> 1)):
        path = tmp_path / f"{name}.{suffix}"
        optimizer.save(path, params)
        fastopt.Adam().load(path, params)
    assert len(list(tmp_path.iterdir())) == 2


def test_a_parameter_with_a_name_of_70_000_characters(tmp_path):
    pytest.importorskip("safetensors")
    optimizer, params = fastopt.Adam(), {"k" * 70_000: np.zeros(2)}
    optimizer.update(params, params)
    with pytest.raises(ValueError, match=r"kkk'\.\.\. is too long a name for \.npz: choose \.safetensors"):
        optimizer.save(tmp_path / "a.npz", params)
    assert list(tmp_path.iterdir()) == []
    optimizer.save(tmp_path / "a.safetensors", params)
    fastopt.Adam().load(tmp_path / "a.safetensors", params)


LIMITED = """
import resource, signal, sys
import numpy as np, fastopt
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
optimizer, params = fastopt.Adam(), {"W": np.ones(100_000)}
optimizer.update(params, params)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
try:
    optimizer.save(sys.argv[1], params)
except OSError as error:
    print("refused", error)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGXFSZ"), reason="no such limit")
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_file_that_may_not_get_so_large(suffix, tmp_path):
    pytest.importorskip("safetensors")
    path = tmp_path / f"a.{suffix}"
    command = [sys.executable, "-c", LIMITED, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("refused")
    assert "File too large" in done.stdout
    assert list(tmp_path.iterdir()) == []


def foreign_arrays(path):
    np.savez_compressed(path, W=np.zeros(4000))


def cut_off(path):
    path.write_bytes(path.read_bytes()[:-100])


def without_hyperparameters(path):
    with_header(path, lambda header: header.pop("hyperparameters"))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (cut_off, "it is cut off, or no .npz file"),
        (foreign_arrays, "it is not a checkpoint of fastopt's, but another file of arrays"),
        (without_hyperparameters, "its header has no 'hyperparameters'"),
    ],
)
def test_what_is_wrong_with_a_file_is_said_in_plain_words(damage, message, tmp_path):
    path = tmp_path / "run.npz"
    optimizer, params = stepped()
    optimizer.save(path, params)
    damage(path)
    with pytest.raises(ValueError, match=f"run.npz' can't be loaded: {message}"):
        optimizer.load(path, params)
