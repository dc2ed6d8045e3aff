"""Checkpoints: resuming, atomic saves, and files that must be refused."""

import io
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
import tracemalloc
import zipfile
from itertools import cycle, product
from pathlib import Path

import numpy as np
import pytest
from cases import FOR_MATRICES, RULES, made, snapshot, state_bytes

import fastopt
from fastopt import Adam, Momentum, pack
from fastopt.checkpoints import files

SUFFIXES = ["npz", "safetensors"]


def network(container=dict, seed=0):
    rng = np.random.default_rng(seed)
    params = {
        "W1": rng.standard_normal((4, 3)),
        "b1": rng.standard_normal(3).astype("f4"),
        "../F": np.asfortranarray(rng.standard_normal((3, 2))),
        "h/0": rng.standard_normal(3).astype("f2"),
        "e": np.empty((0, 3)),
        "scalar": float(rng.standard_normal()),
        7: np.array(rng.standard_normal()),
    }
    return params if container is dict else list(params.values())


def network_for(rule, container=dict, seed=0):
    """Return a network that a rule takes: Muon and AdaMuon have matrices only."""
    params = network(dict, seed)
    if rule in FOR_MATRICES:
        params = {key: param for key, param in params.items() if np.ndim(param) == 2}
    if container == "packed":
        return pack(params)
    return params if container is dict else list(params.values())


def slopes(params, seed):
    rng = np.random.default_rng(seed)
    if isinstance(params, dict):
        return {key: np.asarray(rng.standard_normal(np.shape(p))) for key, p in params.items()}
    return [np.asarray(rng.standard_normal(np.shape(p))) for p in params]


def train(opt, params, steps):
    for seed in steps:
        opt.update(params, slopes(params, seed))


# Each rule with one container and suffix, in turn; backwards, so that two processes compile from both ends.
@pytest.mark.parametrize(
    ("rule", "container", "suffix"),
    [(rule, *ways) for rule, ways in zip(RULES[::-1], cycle(product([dict, list, "packed"], SUFFIXES)))],
)
def test_row_33_resumed_is_bit_for_bit_the_uninterrupted_run(rule, container, suffix, tmp_path):
    pytest.importorskip("safetensors")
    path = tmp_path / f"run.{suffix}"
    params = network_for(rule, container)
    opt = made(fastopt, rule, 0.02, nonfinite="skip")
    train(opt, params, range(3))
    opt.lr = 0.03
    opt.save(path, params)
    train(opt, params, range(3, 6))
    again = network_for(rule, container, 1)
    resumed = made(fastopt, rule)
    resumed.load(path, again)
    assert resumed.iter == 3
    train(resumed, again, range(3, 6))
    assert snapshot(params) == snapshot(again)
    assert state_bytes(opt) == state_bytes(resumed)
    assert repr(opt) == repr(resumed)
    assert resumed.nonfinite == "skip"
    if container is dict and rule not in FOR_MATRICES:
        assert type(again["scalar"]) is float


@pytest.mark.parametrize("rule", RULES)
def test_state_dict_is_independent_and_complete(rule):
    params = network_for(rule)
    opt = made(fastopt, rule, 0.02)
    train(opt, params, range(2))
    state, kept = opt.state_dict(), state_bytes(opt)
    assert (state["class"], state["iter"], state["skipped"]) == (rule, 2, 0)
    twin = made(fastopt, rule)
    twin.load_state_dict(state)
    for values in state["state"].values():
        assert list(values) == list(params)
        for array in values.values():
            array[...] = 9
    assert state_bytes(opt) == kept
    assert state_bytes(twin) == kept
    twins = {key: np.copy(p) if isinstance(p, np.ndarray) else p for key, p in params.items()}
    train(opt, params, [2])
    train(twin, twins, [2])
    assert snapshot(params) == snapshot(twins)


def test_a_fresh_optimizer_can_be_saved(tmp_path):
    Adam(0.5).save(tmp_path / "a.npz")
    opt = Adam()
    opt.load(tmp_path / "a.npz")
    assert opt.lr == 0.5
    assert opt.iter == 0
    assert opt.m is None


def test_an_optimizer_of_no_parameters_can_be_saved(tmp_path):
    opt = Adam()
    opt.update([], [])
    assert opt.state_dict()["state"] == {"m": [], "v": []}
    opt.save(tmp_path / "a.npz")
    opt = Adam()
    opt.load(tmp_path / "a.npz")
    assert (opt.iter, opt.m) == (1, [])


def test_forgotten_places_of_lists_survive(tmp_path):
    opt = Adam()
    params = network(list)
    train(opt, params, range(2))
    opt.drop_state(1)
    opt.save(tmp_path / "a.npz")
    twin, twins = Adam(), [np.copy(p) if isinstance(p, np.ndarray) else p for p in params]
    twin.load(tmp_path / "a.npz")
    train(opt, params, [3])
    train(twin, twins, [3])
    assert snapshot(params) == snapshot(twins)
    assert state_bytes(opt) == state_bytes(twin)


def test_other_tools_can_read_the_files(tmp_path):
    numpy = pytest.importorskip("safetensors.numpy")
    params = {"W": np.ones((2, 3)), "b": np.zeros(3)}
    opt = Momentum()
    opt.update(params, params)
    opt.save(tmp_path / "a.npz", params)
    opt.save(tmp_path / "a.safetensors", params)
    loaded = numpy.load_file(tmp_path / "a.safetensors")
    with np.load(tmp_path / "a.npz") as archive:
        for key in params:
            assert loaded[f"params/{key}"].tobytes() == archive[f"params/{key}"].tobytes()
            assert loaded[f"v/{key}"].tobytes() == opt.v[key].tobytes()


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_saving_keeps_links_modes_and_leaves_nothing_behind(suffix, tmp_path):
    pytest.importorskip("safetensors")
    target, link = tmp_path / f"a.{suffix}", tmp_path / f"link.{suffix}"
    Adam(0.1).save(target)
    link.symlink_to(target)
    Adam(0.2).save(link)
    assert link.is_symlink()
    opt = Adam()
    opt.load(target)
    assert opt.lr == 0.2
    mask = os.umask(0)
    os.umask(mask)
    assert target.stat().st_mode & 0o777 == 0o666 & ~mask
    assert len(list(tmp_path.iterdir())) == 2


FOREVER = """
import sys, numpy as np, fastopt
opt, params = fastopt.Adam(), [np.zeros(100_000)]
opt.update(params, [np.ones(100_000)])
print("saving", flush=True)
while True:
    params[0][...] = opt.iter
    opt.save(sys.argv[1], params)
    opt.iter += 1
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_row_30_killed_while_saving(suffix, tmp_path):
    pytest.importorskip("safetensors")
    path = tmp_path / f"a.{suffix}"
    seen = []
    for n_files, wait in ((1, 0.003), (2, 0.05), (4, 0.02)):
        with subprocess.Popen([sys.executable, "-c", FOREVER, path], stdout=subprocess.PIPE) as process:
            assert process.stdout.readline() == b"saving\n"
            written = set()
            while len(written) < n_files:
                if path.exists():
                    written.add(path.stat().st_mtime_ns)
                time.sleep(0.001)
            time.sleep(wait)
            process.send_signal(signal.SIGKILL)
        params, opt = [np.zeros(100_000)], Adam()
        opt.load(path, params)
        assert np.unique(params[0]).tolist() == [opt.iter]
        seen.append(opt.iter)
    assert len(set(seen)) > 1


STOPPED = """
import os, signal, sys
import numpy as np, fastopt

DROPPED = 100
how, path = sys.argv[1:]
opt, params = fastopt.Adam(), [np.full(500, 1.0), np.full(500, 1.0, "f4")]
opt.update(params, params)
opt.save(path, params)
old = open(path, "rb").read()
opt.update(params, params)

def save(n):
    # Save, and stop at the n-th call of anything, compiled functions included; give how many there were.
    count = 0
    def stop(frame, event, function):
        nonlocal count
        count += 1
        if count == n and how == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if count == n:
            raise KeyboardInterrupt
    sys.setprofile(stop)
    try:
        opt.save(path, params)
    finally:
        sys.setprofile(None)
    return count

calls = save(0)
new = open(path, "rb").read()
moments = {*range(1, calls, calls // 60), *range(calls - 40, calls - 2)}
seen = []
for n in sorted(moments):
    open(path, "wb").write(old)
    child = os.fork()
    if child == 0:
        try:
            save(n)
        except BaseException as error:  # zipfile may raise another of its own while it closes
            interrupted = KeyboardInterrupt in map(type, (error, error.__context__))
            os._exit(len(os.listdir()) - interrupted)
        os._exit(DROPPED if len(os.listdir()) == 1 else 1)  # it fell into a __del__, where Python drops it
    status = os.waitpid(child, 0)[1]
    is_dropped = how == "interrupt" and os.WEXITSTATUS(status) == DROPPED
    is_stopped = os.WTERMSIG(status) == signal.SIGKILL if how == "kill" else status == 0
    assert is_dropped or is_stopped, (n, status)
    again, arrays = fastopt.Adam(), [np.empty(500), np.empty(500, "f4")]
    again.load(path, arrays)  # it is whole
    assert again.iter in (1, 2) and np.unique(arrays[0]).size == np.unique(arrays[1]).size == 1
    if is_dropped:
        assert again.iter == 2
    else:
        seen.append(again.iter)
    for left in os.listdir():
        os.unlink(left)
assert seen == sorted(seen) and {*seen} == {1, 2}, seen
print(len(seen))
"""


@pytest.mark.long
@pytest.mark.skipif(sys.platform == "win32", reason="no fork")
@pytest.mark.parametrize("how", ["kill", "interrupt"])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_row_30_stopped_at_any_call_while_saving(suffix, how, tmp_path):
    pytest.importorskip("safetensors")
    out = subprocess.run(
        [sys.executable, "-c", STOPPED, how, f"a.{suffix}"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(fastopt.__file__).parent.parent)},
    )
    assert out.returncode == 0, out.stderr
    assert int(out.stdout) > 60


@pytest.mark.skipif(not hasattr(os, "O_DIRECTORY"), reason="folders can't be opened")
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_row_30_on_the_disk_before_the_old_file_goes(suffix, tmp_path, monkeypatch):
    pytest.importorskip("safetensors")
    order, path = [], tmp_path / f"a.{suffix}"
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda fd: (order.append(os.fstat(fd).st_ino), fsync(fd)))
    monkeypatch.setattr(os, "replace", lambda a, b: (order.append((Path(a).parent, b)), replace(a, b)))
    Adam().save(path)
    assert order == [path.stat().st_ino, (tmp_path, path), tmp_path.stat().st_ino]


FULL = """
import resource, signal, sys, numpy as np, fastopt
path = sys.argv[1]
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
opt, params = fastopt.Adam(), [np.ones(100_000)]
opt.save(path, params)
before = open(path, "rb").read()
opt.update(params, params)
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
try:
    opt.save(path, params)
except Exception as error:
    print(type(error).__name__, open(path, "rb").read() == before, opt.iter)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no limits")
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_row_30_the_disk_is_full(suffix, tmp_path):
    pytest.importorskip("safetensors")
    path = tmp_path / f"a.{suffix}"
    out = subprocess.run([sys.executable, "-c", FULL, path], capture_output=True, text=True, check=True)
    assert out.stdout in ("OSError True 1\n", "SafetensorError True 1\n")
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("call", ["fsync", "replace"])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_row_30_the_disk_fails(suffix, call, tmp_path, monkeypatch):
    pytest.importorskip("safetensors")
    path = tmp_path / f"a.{suffix}"
    Adam(0.5).save(path)
    before = path.read_bytes()

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(OSError, match="No space left"):
        Adam(0.25).save(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def untouched(opt, params, path, match=None):
    """Check that a file is refused, and nothing has changed."""
    before, bits, shown = state_bytes(opt), snapshot(params), repr(opt)
    with pytest.raises(ValueError, match=match):
        opt.load(path, params)
    assert state_bytes(opt) == before
    assert snapshot(params) == bits
    assert repr(opt) == shown


def small():
    """Make a network so small that each of its file's bytes can be damaged."""
    params = {"W": np.arange(6.0).reshape(2, 3), "b": np.ones(3, "f4")}
    opt = Momentum(0.25)
    opt.update(params, {"W": np.ones((2, 3)), "b": np.ones(3)})
    return opt, params


@pytest.mark.long
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_row_31_a_flipped_bit_or_a_missing_end(suffix, tmp_path):
    pytest.importorskip("safetensors")
    opt, params = small()
    path = tmp_path / f"a.{suffix}"
    opt.save(path, params)
    whole = path.read_bytes()
    right = state_bytes(opt), snapshot(params), repr(opt)
    target, targets = small()
    target.update(targets, targets)
    wrong = state_bytes(target), snapshot(targets), repr(target)
    refused = 0
    for place in range(len(whole)):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << place % 8
        path.write_bytes(damaged)
        try:
            target.load(path, targets)
        except ValueError:
            refused += 1
            assert (state_bytes(target), snapshot(targets), repr(target)) == wrong
        else:  # a date, say, or a blank
            assert (state_bytes(target), snapshot(targets), repr(target)) == right
            target, targets = small()
            target.update(targets, targets)
    assert refused > len(whole) // 2
    for length in [*range(0, len(whole), 7), len(whole) - 1]:
        path.write_bytes(whole[:length])
        untouched(target, targets, path)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_row_31_other_classes_versions_names_shapes_and_dtypes(suffix, tmp_path, monkeypatch):
    pytest.importorskip("safetensors")
    path = tmp_path / f"a.{suffix}"
    opt, params = small()
    opt.save(path, params)
    untouched(Adam(), params, path, "the state of 'Momentum', not of Adam")
    for other, match in (
        ({"W": params["W"]}, r"other parameters than these: only one has \['b'\]"),
        (params | {"c": np.ones(2)}, r"only one has \['c'\]"),
        ({"W": np.ones((3, 2)), "b": params["b"]}, r"'W' is float64 of shape \(2, 3\), this one .*\(3, 2\)"),
        ({"W": np.ones((2, 3), "f4"), "b": params["b"]}, "'W' is float64 .*, this one float32"),
        (list(params.values()), "only one has"),
    ):
        untouched(Momentum(), other, path, match)
        stepped = Momentum()
        stepped.update(other, other)
        before = state_bytes(stepped)
        with pytest.raises(ValueError, match="can't be loaded"):
            stepped.load(path)
        assert state_bytes(stepped) == before
    opt.save(path)
    untouched(Momentum(), params, path, "it has no parameters")
    monkeypatch.setattr(files, "VERSION", 2)
    untouched(Momentum(), params, path, "its format is 1, this fastopt reads 2")


BAD_STATES = {
    "no dict": lambda s: [s],
    "without iter": lambda s: {k: v for k, v in s.items() if k != "iter"},
    "another class": lambda s: s | {"class": "SGD"},
    "negative iter": lambda s: s | {"iter": -1},
    "bool skipped": lambda s: s | {"skipped": True},
    "a new hyperparameter": lambda s: s | {"hyperparameters": s["hyperparameters"] | {"mu": 1.0}},
    "NaN": lambda s: s | {"hyperparameters": s["hyperparameters"] | {"lr": np.nan}},
    "a missing state": lambda s: s | {"state": {"m": s["state"]["m"]}},
    "a missing parameter": lambda s: s | {"state": s["state"] | {"v": {"W": s["state"]["v"]["W"]}}},
    "a list": lambda s: s | {"state": {k: list(v.values()) for k, v in s["state"].items()}},
    "list and dict": lambda s: s | {"state": s["state"] | {"v": list(s["state"]["v"].values())}},
    "a tuple": lambda s: s | {"state": {k: tuple(v.values()) for k, v in s["state"].items()}},
    "another shape": lambda s: s | {"state": s["state"] | {"v": s["state"]["v"] | {"b": np.ones(4)}}},
    "another dtype": lambda s: s | {"state": s["state"] | {"v": s["state"]["v"] | {"b": np.ones(3, int)}}},
    "other parameters": lambda s: s | {"state": {k: {"z": np.ones(3)} for k in "mv"}},
    "other shapes": lambda s: s | {"state": {k: {"W": np.ones((3, 2)), "b": np.ones(3)} for k in "mv"}},
    "other dtypes": lambda s: s | {"state": {k: {"W": np.ones((2, 3)), "b": np.ones(3, "f4")} for k in "mv"}},
}


SAYS = {
    "no dict": "must be a dict of class, hyperparameters, iter, skipped, state",
    "without iter": "must be a dict of class",
    "another class": "the state of 'SGD', not of Adam",
    "negative iter": "its iter is -1",
    "bool skipped": "its skipped is True",
    "a new hyperparameter": r"hyperparameters are \[.*'mu'\], those of Adam are \[.*'lr', 'beta1'",
    "NaN": "lr must be at least 0 and finite, not nan",
    "a missing state": r"states are \['m'\], those of Adam are \['m', 'v'\]",
    "a missing parameter": r"its v has \['W'\], another of its states \['W', 'b'\]",
    "a list": "in a list, this optimizer's are not",
    "a tuple": "must all be dicts, or all lists",
    "list and dict": "must all be dicts, or all lists",
    "another shape": "its v of 'b' is unlike its other states",
    "another dtype": "its v of 'b' is no array of float32 or float64",
    "other parameters": r"only it has \['z'\], only this optimizer has \['W', 'b'\]",
    "other shapes": r"its state of 'W' is float64 of shape \(3, 2\), this optimizer's is float64",
    "other dtypes": r"its state of 'b' is float32 of shape \(3,\), this optimizer's is float64",
}


@pytest.mark.parametrize("name", BAD_STATES)
def test_row_31_bad_state_dicts(name):
    params = {"W": np.ones((2, 3)), "b": np.ones(3)}
    opt = Adam()
    opt.update(params, params)
    state, before = opt.state_dict(), state_bytes(opt)
    with pytest.raises(ValueError, match=SAYS[name]):
        opt.load_state_dict(BAD_STATES[name](state))
    assert state_bytes(opt) == before
    assert opt.lr == 0.001
    opt.load_state_dict(state)


class Trap:
    """Tells if it is unpickled."""

    def __reduce__(self):
        return os.mkdir, ("sprung",)


def rewritten(path, change):
    """Write an archive anew, with the header and the members changed."""
    with zipfile.ZipFile(path) as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    header = json.loads(members["fastopt.json"])
    method = change(header, members) or zipfile.ZIP_STORED
    if "fastopt.json" in members:
        header.pop("sha256")
        arrays = {
            name[:-4]: np.lib.format.read_array(io.BytesIO(data))
            for name, data in members.items()
            if name.endswith(".npy") and not data.startswith(b"claims")
        }
        header["sha256"] = files.checksum(header, arrays) if method == zipfile.ZIP_STORED else ""
        members["fastopt.json"] = members.get("raw") or json.dumps(header).encode()
        members.pop("raw", None)
    members = {name: data.removeprefix(b"claims") for name, data in members.items()}
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(name, data)


def npy(array):
    file = io.BytesIO()
    np.lib.format.write_array(file, array)
    return file.getvalue()


def terabytes(header, members):
    header["state"]["v"][0][1] = [2**40]
    header["params"] = None
    for name in [name for name in members if name.startswith("params/")]:
        del members[name]
    claim = npy(np.zeros(0)).replace(b"(0,), }     ", b"(%d,), }" % 2**40)[:128].ljust(128)
    members["v/W.npy"] = b"claims" + claim


HOSTILE = {
    "object array": lambda h, m: m.update({"v/W.npy": b"claims" + npy(np.array([Trap()], object))}),
    "a claim of terabytes": terabytes,
    "deflated": lambda h, m: zipfile.ZIP_DEFLATED,
    "deep header": lambda h, m: m.update(raw=b"[" * 100_000),
    "large header": lambda h, m: m.update(raw=b" " * (2**26 + 1)),
    "no header": lambda h, m: m.__delitem__("fastopt.json"),
    "absolute name": lambda h, m: m.update({"/tmp/x.npy": npy(np.ones(1))}),
    "name above": lambda h, m: m.update({"../x.npy": npy(np.ones(1))}),
    "dtype object": lambda h, m: h["state"]["v"][0].__setitem__(2, "object"),
    "negative shape": lambda h, m: h["state"]["v"][0].__setitem__(1, [-6]),
    "other shape": lambda h, m: h["state"]["v"][0].__setitem__(1, [6]),
    "other order": lambda h, m: h["state"]["v"][0].__setitem__(3, "K"),
    "lr of NaN": lambda h, m: h["hyperparameters"].update(lr=float("nan")),
    "lr of text": lambda h, m: h["hyperparameters"].update(lr="1"),
    "a part too many": lambda h, m: h["state"].update(w=h["state"]["v"]),
    "Fortran array": lambda h, m: m.update({"v/W.npy": npy(np.asfortranarray(np.ones((2, 3))))}),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_row_32_hostile_archives(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "a.npz"
    opt, params = small()
    opt.save(path, params)
    fresh = Momentum()
    fresh.load(path)
    rewritten(path, lambda header, members: None)
    fresh.load(path)  # it is the change that is refused
    if name == "object array":
        monkeypatch.setattr(files, "checksum", lambda *arguments: "")
        monkeypatch.setattr(np.lib.format, "read_array", lambda file: np.empty(0))
    rewritten(path, HOSTILE[name])
    tracemalloc.start()
    untouched(Momentum(), params, path, "can't be loaded")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**22
    assert not (tmp_path / "sprung").exists()


def test_row_32_a_member_that_claims_more_than_the_file(tmp_path):
    path = tmp_path / "a.npz"
    opt, params = small()
    opt.save(path, params)
    whole = bytearray(path.read_bytes())
    at = whole.index(b"PK\x01\x02")  # the first entry of the archive's directory, and its two sizes
    whole[at + 20 : at + 28] = (2**32 - 2).to_bytes(4, "little") * 2
    path.write_bytes(whole)
    untouched(Momentum(), params, path, "in it claims 4294967294 bytes")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_row_32_hostile_files(suffix, tmp_path, monkeypatch):
    pytest.importorskip("safetensors")
    monkeypatch.chdir(tmp_path)
    path = tmp_path / f"a.{suffix}"
    _, params = small()
    sparse = tmp_path / "sparse"
    with open(sparse, "wb") as file:
        file.truncate(2**33)
    claims = {
        "pickle": pickle.dumps(Trap()),
        "empty": b"",
        "zeros": bytes(1000),
        "long header": (2**34).to_bytes(8, "little") + b"{}",
        "text": b'{"fastopt": 1}' * 10,
    }
    for content in claims.values():
        path.write_bytes(content)
        untouched(Momentum(), params, path, "can't be loaded")
    shutil.move(sparse, path)
    untouched(Momentum(), params, path, "can't be loaded")
    assert not (tmp_path / "sprung").exists()


HEADERS = {
    "terabytes in the library's header": lambda h: h["v/W"].update(shape=[2**40], data_offsets=[0, 2**43]),
    "terabytes in both": lambda h: (
        h["v/W"].update(shape=[2**40], data_offsets=[0, 2**43]),
        own(h, lambda o: o["state"]["v"][0].__setitem__(1, [2**40])),
    ),
    "overlapping arrays": lambda h: h["v/W"].update(data_offsets=h["params/W"]["data_offsets"]),
    "another dtype": lambda h: h["v/W"].update(dtype="I64"),
    "an absolute name": lambda h: h.update({"/tmp/x": h.pop("v/W")}),
    "a name above": lambda h: h.update({"../x": h.pop("v/W")}),
    "no header of ours": lambda h: h.pop("__metadata__"),
    "a number of ours": lambda h: h["__metadata__"].update(fastopt="1"),
    "a deep one of ours": lambda h: h["__metadata__"].update(fastopt="[" * 100_000),
}


def own(header, change):
    """Change our header within the library's, with a checksum that is right for no arrays."""
    ours = json.loads(header["__metadata__"]["fastopt"])
    change(ours)
    header["__metadata__"]["fastopt"] = json.dumps(ours)


@pytest.mark.parametrize("name", HEADERS)
def test_row_32_hostile_safetensors(name, tmp_path, monkeypatch):
    pytest.importorskip("safetensors")
    path = tmp_path / "a.safetensors"
    opt, params = small()
    opt.save(path, params)
    whole = path.read_bytes()
    length = int.from_bytes(whole[:8], "little")
    header = json.loads(whole[8 : 8 + length])
    HEADERS[name](header)
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + whole[8 + length :])
    monkeypatch.setattr(files, "checksum", lambda *_: pytest.fail("it should be refused before"))
    tracemalloc.start()
    try:
        untouched(Momentum(), params, path, "can't be loaded")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2**22


def test_paths_and_names_that_cannot_be_written(tmp_path):
    opt = Momentum()
    for path in ("a", "a.pkl", tmp_path):
        with pytest.raises(ValueError, match=r"must end in \.npz or \.safetensors"):
            opt.save(path)
        with pytest.raises(ValueError, match=r"must end in \.npz or \.safetensors"):
            opt.load(path)
    with pytest.raises(FileNotFoundError):
        opt.load(tmp_path / "none.npz")
    with pytest.raises(FileNotFoundError):
        opt.save(tmp_path / "none" / "a.npz")
    opt.update({("a", 1): np.ones(2)}, {("a", 1): np.ones(2)})
    with pytest.raises(
        TypeError, match=r"parameter \('a', 1\): a checkpoint takes names that are str or int"
    ):
        opt.save(tmp_path / "a.npz")
    twice = Momentum()
    twice.update({"0": np.ones(1), 0: np.ones(1)}, {"0": np.ones(1), 0: np.ones(1)})
    with pytest.raises(ValueError, match="parameter 0 has the name of another"):
        twice.save(tmp_path / "a.npz")
    with pytest.raises(TypeError, match="'a' is int64"):
        fastopt.SGD().save(tmp_path / "a.npz", {"a": np.ones(2, int)})
    assert list(tmp_path.iterdir()) == []
