"""`Partition`: several optimizers as one, against the same optimizers each on its own arrays, bit for bit."""

import copy
import json
import os
import pickle
import re
import sys
import threading
from contextlib import nullcontext
from itertools import product
from linecache import getline

import numpy as np
import pytest
from cases import same_bits, snapshot, state_bytes
from test_compiled import needs_jit
from test_monitor import sweep
from write_checkpoints import AFTER, BEFORE, FOLDER, bytes_of, params_for, update

import fastopt
from fastopt import AdamW, Momentum, Muon, Partition, Prodigy, Rows, ScheduleFreeAdamW, schedules
from fastopt.tools.faults.interruptions import Events

SHAPES = {"a.W": (4, 3), "b": (3,), "c.W": (3, 5), "s": (), "d": (2, 3, 2)}
MATRICES = {"a.W", "c.W"}


def is_matrix(key, param):
    return np.ndim(param) == 2


def is_any(key, param):
    return True


# What selects the matrices, whatever the container; then the optimizers of these and of the others.
PAIRS = {
    "Muon, AdamW": (lambda **o: Muon(0.02, **o), lambda **o: AdamW(0.01, **o)),
    "Momentum, Prodigy": (lambda **o: Momentum(0.1, **o), lambda **o: Prodigy(d0=0.01, **o)),
    "AdamW, SGD": (
        lambda **o: AdamW(schedules.Exponential(0.1, 0.5), **o),
        lambda **o: fastopt.SGD(0.1, **o),
    ),
}
CONTAINERS = ["dict", "list", "packed", "packed list", "strided", "mixed"]
BY_ARRAY = {
    "none": {},
    "clip_value": {"clip_value": 0.5},
    "clip_norm_each": {"clip_norm_each": 0.7},
    "clip_rms": {"clip_rms": 0.5},
    "clip_adaptive": {"clip_adaptive": 0.3},
    "maximize": {"maximize": True},
    "lookahead": {"lookahead": (2, 0.3)},
    "ema": {"ema": 0.75},
    "ema_overwrite": {"ema": 0.75, "ema_init": "initial", "ema_overwrite": 2},
    "swa": {"swa": 1},
    "accumulate": {"accumulate": 2},
    "skip": {"nonfinite": "skip"},
}
PAIRED = [
    {**BY_ARRAY[one], **BY_ARRAY[other]}
    for one, other in (
        ("clip_value", "accumulate"),
        ("accumulate", "ema"),
        ("lookahead", "maximize"),
        ("clip_norm_each", "swa"),
        ("skip", "accumulate"),
    )
]
OPTIONS = [*BY_ARRAY.values(), *PAIRED]


def arrays(container, seed, scale=1.0):
    """Return arrays of all shapes in a container."""
    rng = np.random.default_rng(seed)
    values = {key: np.asarray(scale * rng.standard_normal(shape)) for key, shape in SHAPES.items()}
    if container == "mixed":
        for key in ("b", "c.W"):
            values[key] = values[key].astype("f4")
    if container == "strided":
        values["a.W"] = np.repeat(np.asfortranarray(values["a.W"]), 2, 0)[::2]
        values["b"] = np.repeat(values["b"], 2)[::2]
    result = list(values.values()) if "list" in container else values
    return fastopt.pack(result) if "packed" in container else result


def as_dict(container):
    return dict(zip(SHAPES, container.values() if isinstance(container, dict) else container, strict=True))


def own_part(values, is_first):
    return {key: value for key, value in values.items() if (key in MATRICES) is is_first}


class Apart:
    """Each optimizer on its own arrays."""

    def __init__(self, container, *optimizers):
        self.optimizers = optimizers
        self.params = {key: np.array(value, copy=True) for key, value in as_dict(container).items()}

    def update(self, grads, scale=1.0):
        grads = {key: grad * grad.dtype.type(scale) for key, grad in as_dict(grads).items()}
        return [
            optimizer.update(own_part(self.params, is_first), own_part(grads, is_first))
            for optimizer, is_first in zip(self.optimizers, (True, False), strict=True)
        ]


def pair(name, options=None, first=None, second=None, **shared):
    """Return a partition of two optimizers with the same options for all, or with some of their own."""
    one, other = PAIRS[name]
    return Partition({is_matrix: one(**(first or {})), is_any: other(**(second or {}))}, **shared)


def check_same(container, apart):
    for key, value in as_dict(container).items():
        assert same_bits(value, apart.params[key]), key


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("name", PAIRS)
def test_options_of_the_partition_are_those_of_each_optimizer(name, options, container):
    if name == "AdamW, SGD" and "lookahead" in options:
        options = {**options, "clip_value": 0.25}
    params, optimizer = arrays(container, 0), pair(name, **options)
    apart = Apart(params, *(make(**options) for make in PAIRS[name]))
    for step in range(5):
        grads = arrays(container, 1 + step)
        assert [optimizer.update(params, grads)] * 2 == apart.update(grads)
        check_same(params, apart)
    assert optimizer.iter == apart.optimizers[0].iter
    assert [member.iter for member in optimizer.members.values()] == [own.iter for own in apart.optimizers]
    if "ema" in options or "swa" in options:
        average = as_dict(optimizer.average(params))
        for own, is_first in zip(apart.optimizers, (True, False), strict=True):
            for key, value in own.average(own_part(apart.params, is_first)).items():
                assert same_bits(average[key], value)


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("name", PAIRS)
def test_clip_norm_is_of_all_arrays(name, container):
    params, optimizer = arrays(container, 0), pair(name, clip_norm=2.0)
    apart = Apart(params, *(make() for make in PAIRS[name]))
    for step in range(4):
        grads = arrays(container, 1 + step, 0.25 + step)
        probe = fastopt.SGD(0.0, clip_norm=2.0)
        probe.update({key: np.array(value) for key, value in as_dict(params).items()}, as_dict(grads))
        optimizer.update(params, grads)
        assert optimizer.grad_norm == probe.grad_norm
        apart.update(grads, min(1.0, 2.0 / (probe.grad_norm + 1e-6)))
        check_same(params, apart)


OWN = [
    {"clip_norm": 0.5},
    {"clip_value": 0.1},
    {"accumulate": 2},
    {"accumulate": 3, "clip_norm_each": 0.3, "maximize": True},
    {"lookahead": (2, 0.5), "weight_decay": 0.5},
    {"groups": {"a.W": {"lr_scale": 3.0}}},
]


@pytest.mark.parametrize("own", OWN, ids=str)
@pytest.mark.parametrize("clip_norm", [None, 0.25])
def test_options_of_a_member_come_after_those_of_the_partition(own, clip_norm):
    """They are given what the partition makes of the gradients."""
    params, second = arrays("dict", 0), {} if "groups" in own else {"clip_value": 0.2}
    optimizer = pair("Muon, AdamW", first=own, second=second, clip_norm=clip_norm)
    make = PAIRS["Muon, AdamW"]
    apart = Apart(params, make[0](**own), make[1](**second))
    for step in range(6):
        grads = arrays("dict", 1 + step)
        scale = 1.0
        if clip_norm is not None:
            probe = fastopt.SGD(0.0, clip_norm=clip_norm)
            probe.update(copy.deepcopy(params), grads)
            scale = min(1.0, clip_norm / (probe.grad_norm + 1e-6))
        assert optimizer.update(params, grads) is any(apart.update(grads, scale))
        check_same(params, apart)
    assert [member.iter for member in optimizer.members.values()] == [one.iter for one in apart.optimizers]
    assert optimizer.iter == 6


def test_a_part_of_the_window_is_flushed():
    for shared, own in (({"accumulate": 3}, {}), ({}, {"accumulate": 3})):
        params = arrays("list", 0)
        optimizer = pair("Muon, AdamW", first=own, second=own, **shared)
        apart = Apart(params, *(make(accumulate=3) for make in PAIRS["Muon, AdamW"]))
        assert not optimizer.flush(params)
        for step in range(4):
            grads = arrays("list", step)
            assert optimizer.update(params, grads) is apart.update(grads)[0]
        assert optimizer.flush(params)
        for one, is_first in zip(apart.optimizers, (True, False), strict=True):
            assert one.flush(own_part(apart.params, is_first))
        check_same(params, apart)
        assert (optimizer.iter, optimizer.flush(params)) == (2, False)


def test_only_the_member_with_micro_batches_is_flushed():
    params = arrays("dict", 0)
    optimizer = pair("Muon, AdamW", second={"accumulate": 4}, clip_norm=1.0)
    optimizer.update(params, arrays("dict", 1))
    norm, before = optimizer.grad_norm, {key: value.copy() for key, value in params.items()}
    assert optimizer.flush(params)
    changed = {key for key in params if not same_bits(params[key], before[key])}
    assert (changed, optimizer.grad_norm) == ({*SHAPES} - MATRICES, norm)
    assert [member.iter for member in optimizer.members.values()] == [1, 1]


@pytest.mark.parametrize("way", ["save", "safetensors", "state dict", "pickle", "deepcopy"])
@pytest.mark.parametrize("container", ["dict", "list", "packed"])
@pytest.mark.parametrize(
    "options",
    [{}, {"accumulate": 3, "clip_norm": 1.0, "ema": 0.5}, {"lookahead": (3, 0.5), "nonfinite": "skip"}],
)
def test_it_goes_on_from_any_step(way, container, options, tmp_path):
    def made():
        rate = schedules.Exponential(0.1, 0.5)
        members = {0: Muon(rate), "a*": Muon(rate), is_matrix: Prodigy(), is_any: AdamW(0.01)}
        return Partition(members, **options)

    if way == "safetensors":
        pytest.importorskip("safetensors")
    params, optimizer, copies = arrays(container, 0), made(), []
    for step in range(8):
        for other, again in copies:
            assert other.update(again, arrays(container, step)) == (
                step % 3 == 2 or "accumulate" not in options
            )
        optimizer.update(params, arrays(container, step))
        for other, again in copies:
            assert snapshot(list(as_dict(again).values())) == snapshot(list(as_dict(params).values()))
            assert state_bytes(other) == state_bytes(optimizer)
        again = copy.deepcopy(params)
        if way == "pickle":
            twin = pickle.loads(pickle.dumps(optimizer))
        elif way == "deepcopy":
            twin = copy.deepcopy(optimizer)
        else:
            twin = made()
            if way == "state dict":
                twin.load_state_dict(optimizer.state_dict())
            else:
                path = tmp_path / f"x.{'npz' if way == 'save' else way}"
                optimizer.save(path, params)
                again = copy.deepcopy(arrays(container, 99))
                twin.load(path, again)
        copies.append((twin, again))
    assert optimizer.iter == (2 if "accumulate" in options else 8)


def test_bytes_hold_all():
    optimizer = Partition({"*.W": Muon(ema=0.5), "*": AdamW()}, clip_norm=1.0, accumulate=2)
    record, params = optimizer.record(1), arrays("dict", 0)
    for step in range(5):
        optimizer.update(params, arrays("dict", step))
    twin = pickle.loads(pickle.dumps(optimizer))
    assert state_bytes(twin) == state_bytes(optimizer)
    assert (twin.grad_norm, twin.iter, twin["*.W"].iter) == (optimizer.grad_norm, 2, 2)
    assert (twin.recorded.steps, twin.recorded is record, list(twin.members)) == ([1, 2], False, ["*.W", "*"])
    again = copy.deepcopy(params)
    for one, values in ((twin, again), (optimizer, params)):
        assert one.update(values, arrays("dict", 9))
    assert snapshot(params) == snapshot(again)
    assert twin.recorded.steps == record.steps == [1, 2, 3]


def test_a_file_tells_what_is_missing(tmp_path):
    params, optimizer = arrays("dict", 0), pair("Muon, AdamW")
    optimizer.update(params, arrays("dict", 1))
    optimizer.save(tmp_path / "x.npz", params)
    for other, message in (
        (pair("Momentum, Prodigy"), "its members.0: it is the state of 'Muon', not of Momentum"),
        (Partition({"*": AdamW()}), r"saved with members.0, members.1, this is Partition\(members.0\)"),
        (pair("Muon, AdamW", accumulate=2), r"this is Partition\(accumulate=2, members.0, members.1\)"),
        (AdamW(), "it is the state of 'Partition', not of AdamW"),
    ):
        before = state_bytes(other)
        with pytest.raises(ValueError, match=message):
            other.load(tmp_path / "x.npz", params)
        assert state_bytes(other) == before


# Refused steps.

BAD = {
    "missing": (lambda grads, key: grads.pop(key), KeyError),
    "shape": (lambda grads, key: grads.update({key: np.ones(7)}), ValueError),
    "kind": (lambda grads, key: grads.update({key: None}), TypeError),
    "nonfinite": (lambda grads, key: grads.update({key: np.full(SHAPES[key], np.nan)}), FloatingPointError),
    "overflow": (lambda grads, key: grads.update({key: np.full(SHAPES[key], 1e200)}), FloatingPointError),
}


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("key", ["c.W", "b"])
@pytest.mark.parametrize("nonfinite", ["raise", "skip"])
@pytest.mark.parametrize("options", [{}, {"clip_norm": 1.0}, {"clip_value": 0.5}, {"accumulate": 2}])
def test_a_refused_step_changes_nothing(bad, key, nonfinite, options):
    members = {"*.W": Muon(schedules.Exponential(0.1, 0.5)), "*": AdamW(schedules.Linear(0.1, 9))}
    optimizer, params = Partition(members, nonfinite=nonfinite, **options), arrays("dict", 0)
    record = optimizer.record(1)
    change, error = BAD[bad]
    for step in range(4):
        grads = arrays("dict", 1 + step)
        change(grads, key)
        before = seen(optimizer, params)
        if error is FloatingPointError and nonfinite == "skip":
            assert optimizer.update(params, grads) is False
        else:
            with pytest.raises(error, match=f"'{key}'"):
                optimizer.update(params, grads)
        assert seen(optimizer, params) == before
        optimizer.update(params, arrays("dict", 7 + step))
    assert optimizer.skipped == (4 if error is FloatingPointError and nonfinite == "skip" else 0)
    assert record.steps == list(range(1, optimizer.iter + 1))


def seen(optimizer, params):
    members = optimizer.members.values()
    own = [(one.lr, one.grad_norm, one.iter, one.skipped) for one in members]
    return snapshot(params), state_bytes(optimizer), own, (optimizer.iter, optimizer.grad_norm)


@needs_jit
def test_the_second_refuses_before_the_first_has_changed():
    """Also when its gradient is finite until the first member's step."""
    shared = np.full(4, 1e150)
    params, grads = {"a": shared, "b": np.ones(4)}, {"a": np.full(4, -1e152), "b": shared}
    optimizer = Partition({"a": fastopt.SGD(1e3), "b": fastopt.SGD(1e-155)}, nonfinite="raise")
    for step in range(3):
        with nullcontext() if step else pytest.warns(RuntimeWarning, match="'b'"):
            assert optimizer.update(params, grads)
        assert params["a"][0] == pytest.approx(1e155, rel=1e-4)  # whose square overflows
        assert params["b"][0] == pytest.approx(-step, abs=1e-3)
        params["a"][:] = 1e150
    assert [member.iter for member in optimizer.members.values()] == [3, 3]
    before = snapshot(params)
    with pytest.raises(FloatingPointError, match="'b'"):
        optimizer.update(params, {"a": np.ones(4), "b": np.full(4, np.nan)})
    assert snapshot(params) == before


@pytest.mark.long
@pytest.mark.parametrize("is_planned", [True, False])
@pytest.mark.parametrize("is_plain", [True, False])
def test_interrupted_at_any_line(is_planned, is_plain):
    """A step is taken by all members, or by none."""
    params, grads = arrays("dict", 0), arrays("dict", 3)
    optimizer = pair("Muon, AdamW", clip_norm=1.0)
    if is_plain:
        optimizer = Partition({is_matrix: AdamW(), is_any: Momentum()})
    for _ in range(2):
        optimizer.update(params, grads)
    done, line, taken = False, 0, set()
    while not done:
        one = optimizer if is_planned else copy.deepcopy(optimizer)
        before, steps = copy.deepcopy(params), counts(one)
        line += 1 if is_planned else 3  # planning takes hundreds of lines, in which nothing has changed
        done = update_until(line, one, params, grads)
        changed = {not same_bits(params[key], before[key]) for key in params}
        assert changed == {counts(one) != steps}
        assert [now - then for now, then in zip(counts(one), steps, strict=True)] in ([0] * 3, [1] * 3)
        taken |= changed
    assert taken == {False, True}
    assert line > (20 if is_plain and is_planned else 100)


def counts(optimizer):
    return [optimizer.iter, *(member.iter for member in optimizer.members.values())]


def update_until(line, optimizer, params, grads):
    """Take a step that is interrupted before a line of fastopt's. Returns whether it was over sooner."""
    count = 0

    def trace(frame, event, argument):
        nonlocal count
        if "fastopt" not in frame.f_code.co_filename:
            return None
        # At the line of a `with` Python would leave its lock held: no signal's handler runs there.
        if event == "line" and not getline(frame.f_code.co_filename, frame.f_lineno).lstrip().startswith(
            "with "
        ):
            count += 1
            if count == line:
                raise KeyboardInterrupt
        return trace

    sys.settrace(trace)
    try:
        optimizer.update(params, grads)
    except KeyboardInterrupt:
        return False
    finally:
        sys.settrace(None)
    return True


def test_threads_take_one_step_after_the_other():
    params, optimizer = arrays("dict", 0), pair("Momentum, Prodigy", clip_norm=1.0)
    grads = arrays("dict", 1)
    threads = [
        threading.Thread(target=lambda: [optimizer.update(params, grads) for _ in range(50)])
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for _ in range(20):
        assert len({*counts(optimizer.unused())}) == 1
        state = optimizer.state_dict()
        assert len({state["iter"], *(inner["iter"] for inner in state["inner"].values())}) == 1
    for thread in threads:
        thread.join()
    assert counts(optimizer) == [200, 200, 200]
    apart = Apart(arrays("dict", 0), *(make() for make in PAIRS["Momentum, Prodigy"]))
    for _ in range(200):
        scale = fastopt.SGD(0.0, clip_norm=1.0)
        scale.update(copy.deepcopy(apart.params), grads)
        apart.update(grads, min(1.0, 1.0 / (scale.grad_norm + 1e-6)))
    check_same(params, apart)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
# Another test of this process may have imported JAX, which warns of forks.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_the_members_have_the_lock_of_the_partition():
    optimizer = Partition({"*.W": Muon(), "*": AdamW()})
    optimizer.ema = 0.5
    locks = [member.lock for member in optimizer.members.values()]
    assert all(lock is optimizer.lock for lock in locks)
    child = os.fork()
    if child == 0:
        locks = [member.lock for member in optimizer.members.values()]
        os._exit(0 if all(lock is optimizer.lock for lock in locks) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_gradients_that_are_others_than_planned():
    """One member's plan doesn't fit any longer."""
    params = arrays("dict", 0)
    optimizer = pair("Momentum, Prodigy", nonfinite="raise")
    apart = Apart(params, *(make() for make in PAIRS["Momentum, Prodigy"]))
    for step, key in enumerate([None, None, "b", "b", "a.W", None, "d"]):
        grads = arrays("dict", step)
        if key is not None:
            grads[key] = np.asfortranarray(grads[key].astype("f4"))
        optimizer.update(params, grads)
        apart.update(grads)
        check_same(params, apart)


def test_a_warning_that_is_an_error_comes_after_the_step():
    params, optimizer = arrays("dict", 0), pair("Muon, AdamW", clip_norm=1.0)
    record, grads = optimizer.record(1), arrays("dict", 1)
    grads["a.W"] = np.full((4, 3), np.nan)
    grads["b"] = np.full(3, np.nan)
    with pytest.raises(RuntimeWarning, match="'b'|'a.W'"):  # as pytest makes of it
        optimizer.update(params, grads)
    assert [member.iter for member in optimizer.members.values()] == [1, 1]
    assert (record.steps, np.isnan(optimizer.grad_norm)) == ([1], True)


def test_micro_batches_that_are_not_finite_are_warned_of():
    params, optimizer = arrays("dict", 0), pair("Muon, AdamW", accumulate=3)
    optimizer.update(params, arrays("dict", 1))
    for _ in range(4):
        optimizer.update(params, arrays("dict", 1))
    with pytest.warns(RuntimeWarning, match="the gradient of 'd' has NaN"):
        optimizer.update(params, arrays("dict", 1) | {"d": np.full((2, 3, 2), np.nan)})


def test_one_warning_a_partition():
    params, optimizer = arrays("dict", 0), pair("Muon, AdamW")
    bad = {key: np.full(shape, np.nan) for key, shape in SHAPES.items()}
    with pytest.warns(RuntimeWarning, match=r"'a.W' has NaN.* at step 1;") as found:
        optimizer.update(params, bad)
    assert len(found) == 1
    optimizer.update(params, bad)


@needs_jit
def test_a_step_like_the_last_one_warns():
    params, optimizer = arrays("dict", 0), Partition({"*.W": Momentum(), "*": fastopt.SGD()})
    for step in range(3):
        optimizer.update(params, arrays("dict", step))
    assert optimizer.kept is not None
    with pytest.warns(RuntimeWarning, match="'d' has NaN.* at step 4;"):
        optimizer.update(params, arrays("dict", 1) | {"d": np.full((2, 3, 2), np.nan)})
    assert counts(optimizer) == [4, 4, 4]


@needs_jit
def test_a_step_unlike_the_last_one_is_taken_by_all_or_by_none():
    """The second member's arrays are others than planned, or its gradient isn't finite."""
    other = Partition({is_matrix: Momentum(0.1), is_any: fastopt.SGD(0.1)}, nonfinite="raise")
    theirs = arrays("dict", 0)
    apart = Apart(theirs, Momentum(0.1), fastopt.SGD(0.1))
    for step in range(12):
        grads = arrays("dict", step)
        if step == 4:
            grads["d"], grads["s"] = np.asfortranarray(grads["d"].astype("f4")), np.float64(grads["s"])
        if step == 6:
            other.members[is_matrix].lr = apart.optimizers[0].lr = 0.5
        if step == 8:
            other.maximize = apart.optimizers[0].maximize = apart.optimizers[1].maximize = True
        other.update(theirs, grads)
        apart.update(grads)
        check_same(theirs, apart)
        assert (other.kept is not None) is (step != 4)
        before = seen(other, theirs)
        with pytest.raises(FloatingPointError, match="'b'"):
            other.update(theirs, grads | {"b": np.full(3, np.inf)})
        assert seen(other, theirs) == before


# Which has which.


def test_an_array_that_nobody_selects_is_named():
    params = arrays("dict", 0)
    before, optimizer = snapshot(params), Partition({"*.W": Muon(), "b": AdamW()}, accumulate=2)
    with pytest.raises(ValueError, match=r"got \['s', 'd'\] without one; add \"\*\": AdamW\(\)"):
        optimizer.update(params, params)
    assert snapshot(params) == before
    assert (optimizer.iter, optimizer.state_dict()["inner"]["members.0"]["state"]) == (0, {"m": None})


def test_the_first_that_selects_an_array_has_it():
    members = {"a.W": AdamW(), is_matrix: Muon(), "[b": Momentum(), 3: Prodigy(), "?": fastopt.SGD()}
    optimizer = Partition(members)
    params = {
        "a.W": np.ones((2, 2)),
        "c.W": np.ones((2, 2)),
        "[b": np.ones(2),
        3: np.ones(2),
        "x": np.ones(2),
    }
    optimizer.update(params, params)
    found = {key for member in members.values() for key in member.engine.memory.layout}
    assert found == {*params}
    assert [list(member.engine.memory.layout) for member in members.values()] == [[key] for key in params]


def test_a_star_selects_whatever_the_keys():
    """What the message of Muon says to write is right for lists and numbers, too."""
    optimizer = Partition({lambda key, param: param.ndim == 2: Muon(), "*": fastopt.SGD(0.5)})
    params = [np.ones((2, 2)), np.ones(3), 1.0]
    assert optimizer.update(params, [np.ones((2, 2)), np.ones(3), 1.0])
    assert ([*map(len, (optimizer["*"].engine.memory.layout,))], params[1][0], params[2]) == ([2], 0.5, 0.5)


def test_an_array_stays_where_it_began_until_it_is_forgotten():
    chosen = {"w"}
    optimizer = Partition({lambda key, param: key in chosen: Momentum(), "*": AdamW()}, accumulate=2)
    first, second = optimizer.members.values()
    params = {"w": np.ones(2), "v": np.ones(2)}
    for step in range(6):
        if step == 2:
            chosen.clear()
        optimizer.update(params, params)
    assert (list(first.v), list(second.m)) == (["w"], ["v"])
    optimizer.update(params, params)
    optimizer.drop_state("w")
    with pytest.raises(KeyError, match=r"there is no state of 'w', but of \['v'\]"):
        optimizer.drop_state("w")
    params["w"] = np.ones(3)
    optimizer.update(params, params)
    optimizer.update(params, params)
    assert {*second.m} == {"w", "v"}
    assert second.state_dict()["counts"] == {"v": 4, "w": 1}


def test_late_arrays_and_members_without_any():
    rng = np.random.default_rng(3)
    shapes = {"a.W": (3, 2), "b.W": (2, 4), "b": (3,), "c": (2, 2, 2)}
    params = {key: rng.standard_normal(shape) for key, shape in shapes.items()}
    theirs = copy.deepcopy(params)
    optimizer = Partition({"*.W": Muon(0.1), "none*": Prodigy(), "*": AdamW(0.1)}, lookahead=(2, 0.5))
    own = {key: (Muon if key.endswith("W") else AdamW)(0.1, lookahead=(2, 0.5)) for key in shapes}
    for keys in (["a.W"], ["b"], ["a.W", "b"], [*shapes], ["b.W"], ["c"], [], [*shapes], ["a.W", "c"]):
        grads = {key: rng.standard_normal(shapes[key]) for key in keys}
        optimizer.update({key: params[key] for key in keys}, grads)
        for key in keys:
            own[key].update({key: theirs[key]}, {key: grads[key]})
        assert snapshot(params) == snapshot(theirs)
    assert (optimizer.iter, optimizer["*.W"].iter, optimizer["none*"].iter, optimizer["*"].iter) == (
        9,
        6,
        0,
        6,
    )
    assert optimizer["none*"].m is None


def test_late_arrays_have_windows_of_their_own():
    optimizer = Partition({"*.W": Momentum(0.1), "*": AdamW(0.1)}, accumulate=2)
    params = {"a.W": np.ones(2), "b": np.ones(2)}
    done = [
        optimizer.update({key: params[key] for key in keys}, {key: np.ones(2) for key in keys})
        for keys in (["b"], ["a.W", "b"], ["a.W", "b"], ["b"])
    ]
    assert done == [False, True, True, True]
    assert (optimizer["*.W"].iter, optimizer["*"].iter, optimizer.iter) == (1, 2, 3)


def test_rows_go_to_their_member():
    grad = Rows(np.array([2, 0, 2]), np.arange(6.0).reshape(3, 2))
    optimizer = Partition({"E": AdamW(0.1), "*": Momentum()}, rows="lazy", clip_norm=1.0)
    other = AdamW(0.1, rows="lazy")
    params, theirs = {"E": np.ones((4, 2)), "b": np.ones(2)}, {"E": np.ones((4, 2))}
    for _ in range(3):
        optimizer.update(params, {"E": grad, "b": np.zeros(2)})
        norm = np.sqrt(2**2 + 3**2 + 4**2 + 6**2)
        assert optimizer.grad_norm == pytest.approx(norm)
        scale = 1.0 / (optimizer.grad_norm + 1e-6)
        other.update(theirs, {"E": Rows(grad.indices, grad.values * scale)})
        np.testing.assert_allclose(params["E"], theirs["E"], rtol=1e-14)
    assert (params["E"][[1, 3]] == 1).all()
    with pytest.raises(ValueError, match="AdamW changes the others, too: rows='lazy'"):
        Partition({"E": AdamW(), "*": Momentum()}).update(params, {"E": grad, "b": np.zeros(2)})
    with pytest.raises(TypeError, match="accumulate takes whole ones"):
        Partition({"*": AdamW()}, rows="lazy", accumulate=2).update(theirs, {"E": grad})


def test_frozen_arrays_are_no_part_of_the_norm():
    groups = {"b": {"freeze": True}}
    optimizer = Partition({"*.W": Momentum(), "*": AdamW(groups=groups)}, clip_norm=1.0)
    params = {"a.W": np.ones(4), "b": np.ones(4), "c": np.ones(4)}
    optimizer.update(params, {"a.W": np.full(4, 2.0), "b": np.full(4, 100.0), "c": np.zeros(4)})
    assert (optimizer.grad_norm, params["b"].tolist()) == (4.0, [1] * 4)
    assert "frozen" in optimizer.describe(params)


def test_numbers_are_replaced_in_the_caller_s_container():
    params = {"w": np.ones((2, 2)), "x": 1.0, "y": np.float32(2)}
    optimizer = Partition({is_matrix: Muon(), "x": Momentum(0.5), "*": fastopt.SGD(0.5)}, clip_norm=1e9)
    optimizer.update(params, {"w": np.ones((2, 2)), "x": 0.5, "y": 1.0})
    assert (params["x"], params["y"], type(params["y"])) == (0.75, 1.5, np.float32)
    with pytest.raises(TypeError, match="parameter 1 is a number in a container that can't be assigned to"):
        Partition({0: Muon(), 1: AdamW()}).update((np.ones((2, 2)), 1.0), (np.ones((2, 2)), 1.0))


def test_averages_of_those_that_have_one():
    params = {"a.W": np.ones((3, 2)), "b": np.ones(3)}
    optimizer = Partition({"*.W": ScheduleFreeAdamW(0.1), "*": Momentum(0.1)})
    own = ScheduleFreeAdamW(0.1)
    theirs = {"a.W": np.ones((3, 2))}
    for _ in range(3):
        optimizer.update(params, {key: np.full(p.shape, 0.5) for key, p in params.items()})
        own.update(theirs, {"a.W": np.full((3, 2), 0.5)})
    before = snapshot(params)
    average = optimizer.average(params)
    assert same_bits(average["a.W"], own.average(theirs)["a.W"])
    assert same_bits(average["b"], params["b"])
    assert average["b"] is not params["b"]
    with optimizer.averaged(params):
        assert snapshot(params) == snapshot(average)
    assert snapshot(params) == before
    with pytest.raises(ValueError, match=r"average\(\) requires a parameter average"):
        Partition({"*": Momentum()}).average(params)


def test_a_record_is_of_all_arrays():
    params = arrays("dict", 0)
    optimizer = pair("AdamW, SGD")
    record = optimizer.record(2)
    assert optimizer.recorded is record
    for step in range(5):
        optimizer.update(params, arrays("dict", step))
    assert (record.steps, list(record.arrays)) == ([1, 3, 5], list(SHAPES))
    rate = schedules.Exponential(0.1, 0.5)
    assert record.lr == [rate(1), rate(3), rate(5)]
    assert all(len(trace.update_norm) == 3 and min(trace.update_norm) > 0 for trace in record.arrays.values())


# What it is made of.


@pytest.mark.parametrize(
    ("members", "error", "message"),
    [
        ({}, TypeError, 'members must be a dict such as {"\\*.W": Muon'),
        ([AdamW()], TypeError, "members must be a dict"),
        ({"*": AdamW}, TypeError, r"members\['\*'\] must be an optimizer such as AdamW\(\), got <class"),
        ({2.5: AdamW()}, TypeError, "2.5 must be a pattern of names, an index or a function"),
        ({True: AdamW()}, TypeError, "True must be a pattern"),
    ],
)
def test_wrong_members(members, error, message):
    with pytest.raises(error, match=message):
        Partition(members)


def test_a_member_is_new_and_in_one_place():
    used, other = AdamW(), AdamW()
    used.update({"b": np.ones(2)}, {"b": np.ones(2)})
    with pytest.raises(
        ValueError, match=r"members\['\*'\] must be a new optimizer, got one that has taken 1"
    ):
        Partition({"*": used})
    with pytest.raises(ValueError, match="members must be different optimizers"):
        Partition({"a": other, "*": other})
    partition = Partition({"*": other})
    with pytest.raises(ValueError, match="got one that is in another partition"):
        Partition({"*": other})
    with pytest.raises(TypeError, match="must be an optimizer"):
        Partition({"*": partition})
    with pytest.raises(ValueError, match="members can't change"):
        partition.members = {"*": AdamW()}
    assert partition["*"] is partition.members["*"] is other
    with pytest.raises(KeyError, match=r"there is no member 'a', but \['\*'\]"):
        partition["a"]
    Partition({"*": partition.unused()["*"].unused()})


def test_options_that_are_given_twice():
    for options, own, message in (
        ({"ema": 0.5}, {"ema": 0.25}, "ema must be given once, got 0.5 for the partition and 0.25"),
        ({"ema": 0.5}, {"swa": 3}, "ema and swa are two averages"),
        ({"accumulate": 2}, {"accumulate": 3}, "accumulate must be given once"),
        ({}, {"nonfinite": "skip"}, "nonfinite must be given once.*give it to the partition"),
        ({"nonfinite": "raise"}, {"nonfinite": "skip"}, "nonfinite must be given once"),
    ):
        first, second = Muon(), AdamW(**own)
        with pytest.raises(ValueError, match=message):
            Partition({"*.W": first, "*": second}, **options)
        assert (first.ema, first.nonfinite, second.swa) == (None, "warn", own.get("swa"))
        optimizer = Partition(
            {"*.W": Muon(), "*": AdamW(**{k: v for k, v in own.items() if k != "nonfinite"})}
        )
        if "nonfinite" in own:
            continue
        for name, value in options.items():
            with pytest.raises(ValueError, match=message):
                setattr(optimizer, name, value)
            assert getattr(optimizer, name) == getattr(optimizer["*.W"], name)
    assert Partition({"*": AdamW(nonfinite="skip")}, nonfinite="skip")["*"].nonfinite == "skip"
    assert Partition({"a": AdamW(ema=0.5), "*": AdamW()}, ema=0.5)["*"].ema == 0.5
    assert Partition({"a": AdamW(ema=0.5), "*": AdamW()})["*"].ema is None


def test_options_are_assigned_to_all():
    params, optimizer = arrays("dict", 0), pair("Muon, AdamW", ema=0.5)
    optimizer.ema = 0.25
    assert [member.ema for member in optimizer.members.values()] == [0.25, 0.25]
    optimizer.update(params, arrays("dict", 1))
    for name, value, message in (
        ("ema", 0.5, "ema can't change after the first step"),
        ("clip_norm", -1, "clip_norm must be above 0"),
        ("nonfinite", "what", "nonfinite must be"),
    ):
        with pytest.raises(ValueError, match=message):
            setattr(optimizer, name, value)
    for name, message in (
        (
            "lr",
            "Partition has no 'lr', its members have: write partition[is_matrix].lr or partition[is_any].lr",
        ),
        ("beta1", "Partition has no 'beta1', its members have: write partition[is_any].beta1"),
        ("alpha", "Partition has no 'alpha': there are denormals, "),
    ):
        with pytest.raises(AttributeError, match=re.escape(message)):
            setattr(optimizer, name, 1)
        with pytest.raises(AttributeError, match=re.escape(message)):
            getattr(optimizer, name)
    optimizer.nonfinite, optimizer.clip_norm, optimizer.maximize = "skip", 0.5, True
    assert [member.nonfinite for member in optimizer.members.values()] == ["skip"] * 2
    assert optimizer.update(params, arrays("dict", 1) | {"b": np.full(3, np.inf)}) is False
    assert optimizer.update(params, arrays("dict", 1)) is True
    optimizer.accumulate = 2
    assert optimizer.update(params, arrays("dict", 1)) is False
    with pytest.raises(ValueError, match="accumulate can't change now: 1 micro-batches are in"):
        optimizer.accumulate = 3
    members = list(optimizer.members.values())
    members[0].clip_value = 0.5  # its own, whenever it likes
    members[1].nonfinite = "raise"  # but a step is the partition's
    assert optimizer.update(params, arrays("dict", 1) | {"b": np.full(3, np.inf)}) is False
    assert optimizer.update(params, arrays("dict", 1)) is True


def check_whole(optimizer, name, values):
    """Raise AssertionError if some have an option's new value and others don't, or not what comes with it."""
    assert {getattr(one, name) for one in (optimizer, *optimizer.members.values())} <= set(values)
    assert len({getattr(one, name) for one in (optimizer, *optimizer.members.values())}) == 1
    params = {"a.W": np.zeros((2, 2)), "b": np.zeros(2)}
    grads = {"a.W": np.full((2, 2), 4.0), "b": np.full(2, 4.0)}
    optimizer.update(params, grads)
    value = getattr(optimizer, name)
    if name == "maximize":
        assert params["a.W"][0, 0] == params["b"][0] == (4.0 if value else -4.0)
    elif name == "ema":
        specs = [[spec.name for spec in one.engine.memory.specs] for one in optimizer.members.values()]
        assert specs == [["ema.average"] if value else []] * 2
    elif value == "skip":
        assert optimizer.update(params, grads | {"b": np.full(2, np.nan)}) is False


def sgds():
    return [Partition({"*.W": fastopt.SGD(1.0), "*": fastopt.SGD(1.0)})]


@pytest.mark.long
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # of generators' ends
@pytest.mark.parametrize(("name", "value"), [("maximize", True), ("ema", 0.5), ("nonfinite", "skip")])
def test_an_interrupted_assignment_holds_for_all_or_for_none(name, value):
    def check(optimizer, at):
        check_whole(optimizer, name, (getattr(fastopt.SGD(), name), value))

    assert sweep(sgds, lambda optimizer: setattr(optimizer, name, value), check) > 10


@pytest.mark.long
def test_what_a_handler_assigns_meanwhile_holds_too():
    for at in range(1, 10_000):
        (optimizer,) = sgds()
        first = optimizer["*.W"]

        def assign(optimizer=optimizer, first=first):
            first.clip_value = 0.25
            optimizer.clip_norm = 1e9

        events = Events(at, assign)
        with events:
            optimizer.maximize = True
        if events.count < at:
            break
        check_whole(optimizer, "maximize", [True]) if first.clip_value is None else None
        params = {"a.W": np.zeros((2, 2)), "b": np.zeros(2)}
        optimizer.update(params, {"a.W": np.full((2, 2), 4.0), "b": np.full(2, 4.0)})
        assert (params["a.W"][0, 0], params["b"][0]) == (0.25, 4.0), at
        assert optimizer.grad_norm == np.sqrt(6 * 16)
    assert at > 10


ASSIGNED = {
    "clip_norm": lambda optimizer: setattr(optimizer, "clip_norm", 1.0),
    "nonfinite": lambda optimizer: setattr(optimizer, "nonfinite", "skip"),
    "a member's": lambda optimizer: setattr(optimizer["*.W"], "clip_value", 0.5),
    "step": lambda optimizer: optimizer.update({"a.W": np.zeros((2, 2))}, {"a.W": np.ones((2, 2))}),
    "load": lambda optimizer: optimizer.load_state_dict(optimizer.state_dict()),
    "drop_state": lambda optimizer: optimizer.drop_state("b"),
}


@needs_jit
@pytest.mark.parametrize("name", ASSIGNED)
def test_what_a_handler_does_in_a_step_like_the_last_one(name):
    for at in range(1, 10_000):
        (optimizer,) = sgds()
        params = {"a.W": np.zeros((2, 2)), "b": np.zeros(2)}
        grads = {"a.W": np.ones((2, 2)), "b": np.ones(2)}
        for _ in range(2):
            optimizer.update(params, grads)
        assert optimizer.kept is not None
        action = ASSIGNED[name]
        events = Events(at, lambda: action(optimizer))  # noqa: B023
        with events:
            optimizer.update(params, grads)
        before, n_own = params["a.W"][0, 0], name == "step" and events.count >= at
        norm = optimizer.grad_norm or 1.0  # clip_norm may hold for this step already
        assert params["b"][0] == pytest.approx(-2 - 1 / norm), at
        assert before == pytest.approx(-2 - 1 / norm) or before == -2.5, at
        assert optimizer.iter == 3 + n_own
        assert [member.iter for member in optimizer.members.values()] == [3 + n_own, 3], at
        if events.count < at:
            break
        optimizer.update(params, grads)
        moved = {"clip_norm": 6**-0.5, "a member's": 0.5}.get(name, 1.0)
        assert before - params["a.W"][0, 0] == pytest.approx(moved, rel=1e-5), at
    assert at > 10


def test_iter_is_that_of_all():
    params, optimizer = arrays("dict", 0), Partition({"*.W": AdamW(), "none": Muon(), "*": Momentum()})
    optimizer.iter = 5
    assert counts(optimizer) == [5, 5, 5, 5]
    for _ in range(3):
        optimizer.update(params, arrays("dict", 1))
    optimizer.iter = 10
    assert counts(optimizer) == [10, 10, 7, 10]
    assert optimizer["*.W"].state_dict()["counts"] == {"a.W": 5, "c.W": 5}
    optimizer.iter = 0
    assert counts(optimizer) == [0, 0, 0, 0]
    with pytest.raises(ValueError, match="iter must be a whole number"):
        optimizer.iter = -1


@pytest.mark.parametrize("options", [{}, {"accumulate": 2, "clip_norm": 1.0, "ema": 0.5}])
def test_lr_finder_multiplies_the_learning_rates(options):
    plateau = schedules.Plateau(0.5)
    optimizer = Partition({"*.W": Muon(plateau), "*": Momentum(0.25)}, **options)
    params, record = arrays("dict", 0), optimizer.record(1)
    for step in range(3):
        optimizer.update(params, arrays("dict", step))
    before, lrs = seen(optimizer, params), []

    def step():
        lrs.append([member.lr for member in optimizer.members.values()])
        optimizer.update(params, {key: np.array(value) for key, value in params.items()})
        return sum(float(np.sum(value**2)) for value in params.values())

    found = fastopt.lr_finder(step, optimizer, params, 0.01, 1.0, 9, 0.0)
    assert seen(optimizer, params) == before
    assert (optimizer.recorded, len(record.steps)) == (record, optimizer.iter)
    assert optimizer["*.W"].schedule is plateau
    assert lrs == [[0.5 * lr, 0.25 * lr] for lr in found.lrs.tolist()]
    assert 0.01 <= found.suggestion <= 1.0
    optimizer.update(params, arrays("dict", 3))


def test_what_is_shown():
    optimizer = Partition({"*.W": Muon(0.5), "*": AdamW()})
    assert repr(optimizer).startswith("Partition({'*.W': Muon(")
    public = [name for name in dir(optimizer) if not name.startswith("_")]
    plain = {name for name in dir(fastopt.SGD()) if not name.startswith("_")}
    assert {*public} - {"members"} <= plain
    assert {"update", "members", "flush", "clip_norm", "state_dict"} <= {*public}
    params = {"a.W": np.ones((2, 3)), "b": np.ones(2)}
    lines = optimizer.describe(params).splitlines()
    assert (lines[0], lines[2]) == ("'*.W': Muon", "'*': AdamW")
    assert "lr=0.5" in lines[1]
    assert lines[3].startswith("'b'  (2,)  ")


@pytest.mark.parametrize("name", ["file", "list", "accumulated"])
def test_a_checkpoint_of_muon_with_a_fallback_goes_on(name):
    """The first is a file; the others are as fastopt 0.1.0 gave them."""
    if name == "file":
        expected = json.loads((FOLDER / "expected.json").read_text())["Muon, fallback"]
        optimizer = Partition({is_matrix: Muon(), "*": Momentum()})
        params = params_for("dict")
        optimizer.load(FOLDER / "Muon-fallback.npz", params)
        for step in range(BEFORE, BEFORE + AFTER):
            update(optimizer, "dict", params, step)
        for key, found in bytes_of(params).items():
            ours, theirs = (
                np.frombuffer(bytes.fromhex(side), params[key].dtype)
                for side in (found, expected["params"][key])
            )
            np.testing.assert_allclose(ours, theirs, rtol=1e-4 if params[key].dtype == "f4" else 1e-12)
        assert (optimizer.iter, optimizer["*"].lr) == (expected["iter"], 0.25)
        return
    is_list = name == "list"
    old = old_state(is_list, 1 if is_list else 2)
    members = {is_matrix: Muon(), is_any: AdamW()}
    optimizer = Partition(members, accumulate=1 if is_list else 3)
    optimizer.load_state_dict(old)
    assert optimizer.accumulate == (1 if is_list else 2)
    assert (optimizer.iter, optimizer.skipped, optimizer.nonfinite) == (3, 1, "skip")
    muon, adamw = members.values()
    assert (muon.iter, adamw.iter, muon.lr, adamw.nonfinite) == (3, 2, 0.5, "skip")
    params = [np.ones((2, 2)), np.ones(2)] if is_list else {"W": np.ones((2, 2)), "b": np.ones(2)}
    assert optimizer.update(params, params)
    assert (muon.iter, adamw.iter, optimizer.iter) == (4, 3, 4)
    before = state_bytes(optimizer)
    others = Partition({"a": Muon(), "*": Momentum()})
    with pytest.raises(ValueError, match="it is the state of Muon and AdamW, not of Muon and Momentum"):
        others.load_state_dict(old)
    for damage in ({"inner": {}}, {"inner": {"fallback": {"class": "AdamW", "state": {}}}}, {"inner": None}):
        with pytest.raises(ValueError, match=r"^(it|its) "):
            optimizer.load_state_dict(old | damage)
        assert state_bytes(optimizer) == before


def old_state(is_list, accumulate):
    """Return the state dict of a Muon with a fallback as fastopt 0.1.0 gave it."""
    common = {"decoupled": None, "decay": "all", "maximize": False, "clip_value": None, "clip_each": None}
    common |= {"clip_adaptive": None, "clip_norm": None, "lookahead": None, "ema": None, "swa": None}
    common |= {"accumulate": 1, "rows": None, "nonfinite": "warn"}
    muon = {"weight_decay": 0.1, **common, "lr": 0.5, "momentum": 0.95, "ns_steps": 5, "eps": 1e-7}
    adamw = {"weight_decay": 0.01, **common, "lr": 0.001, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8}
    w, b = (0, 1) if is_list else ("W", "b")
    fallback = {
        "class": "AdamW",
        "iter": 2,
        "skipped": 0,
        "hyperparameters": adamw,
        "state": {"m": {b: np.full(2, 0.25)}, "v": {b: np.full(2, 0.5)}},
    }
    inner = {"fallback": fallback}
    if accumulate > 1:
        total = {w: np.full((2, 2), 0.5), b: np.full(2, 0.5)}
        inner["accumulated"] = {
            "class": "Accumulator",
            "iter": 3 * accumulate + 1,
            "skipped": 0,
            "hyperparameters": {"weight_decay": 0.0, **common},
            "state": {"total": total},
        }
    return {
        "class": "Muon",
        "iter": 3,
        "skipped": 1,
        "hyperparameters": muon | {"accumulate": accumulate, "nonfinite": "skip"},
        "state": {"m": {w: np.full((2, 2), 0.125)}},
        "inner": inner,
    }


def test_all_pairs_of_rules():
    rules = ["Muon", "Adafactor", "SM3", "Prodigy", "NAdam", "Rprop", "FTRL", "LARS"]
    params = arrays("dict", 0)
    matrices = {key: params[key] for key in MATRICES}
    for first, second in product(rules, rules[1:]):
        made = [getattr(fastopt, name) for name in (first, second)]
        optimizer = Partition({"a*": made[0](), "*": made[1]()})
        ours, apart = copy.deepcopy(matrices), copy.deepcopy(matrices)
        own = {"a.W": made[0](), "c.W": made[1]()}
        for step in range(2):
            grads = arrays("dict", step)
            optimizer.update(ours, grads)
            for key, one in own.items():
                one.update({key: apart[key]}, {key: grads[key]})
        assert snapshot(ours) == snapshot(apart), (first, second)


def test_members_with_threads_take_all_steps_or_none():
    """Whatever can refuse comes before the first member changes anything."""
    partition = fastopt.Partition({"a": fastopt.SGD(), "*": fastopt.Momentum()}, threads=2, nonfinite="raise")
    params = {key: np.ones(60_000) for key in "ab"}
    grads = {key: np.ones(60_000) for key in "ab"}
    for _ in range(2):
        partition.update(params, grads)
    before = {key: param.copy() for key, param in params.items()}
    grads["b"][-1] = np.nan
    with pytest.raises(FloatingPointError, match="'b'"):
        partition.update(params, grads)
    grads["b"] = np.ones(5)
    with pytest.raises(ValueError, match="'b'"):
        partition.update(params, grads)
    assert all((params[key] == before[key]).all() for key in params)
    assert [member.iter for member in partition.members.values()] == [2, 2]
