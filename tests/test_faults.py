"""The scoreboard: each row of what a step must withstand, by its number.

``verify --against faults`` shows the wrong inputs as a table, whose rows have the numbers. Each row is a
test with its number in its name: ``pytest -k row_13``; `test_every_row_has_a_test_with_its_number` checks
that. Row 19 is shown by sparse files of 8 GiB and by machine code without indices of 32 bits. Row 28 is the
tests of `update` and `pack`, run again in each mode. Row 30 is a save that is killed (SIGKILL), and
interrupted, at about a hundred of its calls, one after the other.
"""

import copy
import os
import re
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import numpy as np
import pytest
from cases import BOOK, snapshot, state_bytes
from test_compiled import needs_jit, python

import fastopt
from fastopt import Adam, pack
from fastopt.arrays.layout import Layout
from fastopt.engine.compiled_plan import CompiledPlan
from fastopt.engine.memory import Memory
from fastopt.engine.plan import Arrays
from fastopt.engine.table import CHECK, DONE, UPDATE
from fastopt.engine.threads import ROUND, UNUSED, available
from fastopt.tools.faults import invalid_inputs, subjects

# A third parameter, for which the step goes another way.
COMPANIONS = {
    "alone": None,
    "float32": lambda: np.ones(4, "f4"),
    "strided": lambda: np.ones((4, 2))[:, 0],
    "number": lambda: 1.0,
}


@pytest.mark.parametrize("companion", COMPANIONS)
@pytest.mark.parametrize("rule", ["SGD", "Adam"])
@pytest.mark.parametrize("fault", invalid_inputs.FAULTS, ids=lambda fault: f"row_{fault.row:02} {fault.name}")
def test_bad_input(fault, rule, companion):
    def begin():
        params, grads = invalid_inputs.start(fault.container)
        if make := COMPANIONS[companion]:
            for container in (params, grads):
                if fault.container is dict:
                    container["c"] = make()
                else:
                    container.append(make())
        opt = getattr(fastopt, rule)(0.1, nonfinite="raise")
        if not fault.first:
            opt.update(params, grads)
        return opt, params, grads

    (opt, params, grads), (twin, twins, _) = begin(), begin()
    wrong = fault.wrong(params, grads)
    before = snapshot(wrong[0])
    with pytest.raises(Exception) as raised:  # noqa: PT011
        opt.update(*wrong)
    assert raised.type.__name__ == fault.error
    named = {2: "parameters need", 3: "grads must be a"}.get(fault.row)
    key = str(len(params) - 1) if fault.container is list else "'[ab]'"
    assert re.search(named or f"(of|parameter) {key}", str(raised.value)), raised.value
    assert snapshot(wrong[0]) == before
    for p in params.values() if isinstance(params, dict) else params:
        if isinstance(p, np.ndarray):
            p.flags.writeable = True
    for _ in range(2):
        assert snapshot(params) == snapshot(twins)
        assert state_bytes(opt) == state_bytes(twin)
        opt.update(params, grads)
        twin.update(twins, grads)


def test_every_row_has_a_test_with_its_number():
    text = "".join(file.read_text() for file in Path(__file__).parent.glob("test_*.py"))
    named = re.findall(r"^def (test_\w+)", text, re.MULTILINE)
    rows = {int(row) for name in named for row in re.findall(r"row_(\d\d)", name)}
    assert rows | {fault.row for fault in invalid_inputs.FAULTS} == set(range(1, 34))


def test_verify_prints_the_table_and_sees_a_fault_let_through(monkeypatch, capsys):
    from fastopt.cli.program import main

    assert main(["verify", "--against", "faults"]) == 0
    out = capsys.readouterr().out
    assert all(fault.name in out for fault in invalid_inputs.FAULTS)
    assert "KeyError, 1 changed" in out, "the book's code should fail half way"
    monkeypatch.setattr(invalid_inputs.optimizers, "Adam", lambda **options: subjects.Book())
    monkeypatch.setattr(invalid_inputs, "subjects", lambda: subjects.subjects()[:2])
    assert main(["verify", "--against", "faults"]) == 1


@pytest.mark.parametrize("rule", BOOK)
def test_row_08_rebound_parameter(rule):
    one, other = (getattr(fastopt, rule)(0.1) for _ in range(2))
    params, grads = invalid_inputs.start(dict)
    same, _ = invalid_inputs.start(dict)
    for _ in range(3):
        one.update(params, grads)
        other.update(same, grads)
        same = {key: p.copy() for key, p in same.items()}
    assert snapshot(params) == snapshot(same)
    assert state_bytes(one) == state_bytes(other)


@pytest.mark.parametrize("container", [dict, list])
def test_row_09_added_late_removed_and_forgotten(container):
    def some(n):
        params = {"a": np.ones(2), "b": np.ones(3, "f4"), "c": np.ones(4)}
        names = list(params)[:n]
        params = {name: params[name] for name in names}
        return params if container is dict else list(params.values())

    key = "b" if container is dict else 1
    opt = Adam(0.1)
    opt.update(some(2), some(2))
    kept = opt.m[key].tobytes()
    opt.update(some(1), some(1))
    assert opt.m[key].tobytes() == kept, "a removed parameter's state is kept"
    opt.update(some(3), some(3))
    assert opt.m[key].tobytes() != kept
    others = [opt.v[k].tobytes() for k in opt.v if k != key] if container is dict else None
    opt.drop_state(key)
    if container is dict:
        assert list(opt.m) == ["a", "c"]
        assert [a.tobytes() for a in opt.v.values()] == others
    opt.update(some(3), some(3))
    fresh = np.float32(1) * np.float32(1 - 0.9)
    assert opt.m[key].tolist() == [fresh] * 3, "state from zero"
    assert [a.shape for a in (opt.m.values() if container is dict else opt.m)].count((3,)) == 1
    with pytest.raises(KeyError, match="no state of 'z'"):
        opt.drop_state("z")
    assert opt.iter == 4


@pytest.mark.parametrize("container", [dict, list])
@pytest.mark.parametrize("rule", BOOK)
def test_row_09_each_parameter_goes_on_as_if_alone(rule, container):
    rng = np.random.default_rng(0)
    start = {"a": np.ones(2), "b": np.ones(3, "f4"), "c": np.ones((2, 2))}
    params, twins = copy.deepcopy(start), copy.deepcopy(start)
    opt, alone = getattr(fastopt, rule)(0.1), {key: getattr(fastopt, rule)(0.1) for key in start}
    for names in ("ab", "a", "abc", "ab", *(("cb", "bca") if container is dict else ("a", "abc"))):
        grads = {key: rng.standard_normal(start[key].shape).astype(start[key].dtype) for key in names}
        for key in names:
            alone[key].update({key: twins[key]}, {key: grads[key]})
        if container is dict:
            opt.update({key: params[key] for key in names}, grads)
        else:
            opt.update([params[key] for key in names], list(grads.values()))
    assert snapshot(params) == snapshot(twins)


def test_row_09_forgetting_keeps_packed_steps_right():
    params = pack({"a": np.ones(3), "b": np.ones(2)})
    grads = params.like()
    grads.buffer = np.full(5, 0.5)
    opt = Adam(0.1)
    opt.update(params, grads)
    opt.drop_state("a")
    opt.update(params, grads)
    assert opt.m["a"].tolist() == [0.5 * (1 - 0.9)] * 3, "state from zero"
    assert (opt.m["b"] > opt.m["a"][0]).all()


@pytest.mark.parametrize("rule", BOOK)
def test_row_10_order_of_the_dict(rule):
    opts = [getattr(fastopt, rule)(0.1) for _ in range(2)]
    results = []
    for opt, turned in zip(opts, (False, True), strict=True):
        params, grads = invalid_inputs.start(dict)
        for _ in range(4):
            opt.update(params, grads)
            if turned:
                params = dict(reversed(params.items()))
        results.append([params["a"].tobytes(), params["b"].tobytes()])
    assert results[0] == results[1]


def test_row_11_nothing_to_do():
    for params in ({}, [], {"e": np.empty((0, 3))}):
        opt = Adam()
        for step in (1, 2):
            assert opt.update(params, copy.deepcopy(params)) is True
            assert opt.iter == step


def test_row_11_an_array_without_dimensions_is_updated_in_place():
    params = {"x": np.array(1.0), "e": np.empty(0)}
    array = params["x"]
    fastopt.SGD(0.25).update(params, {"x": np.array(2.0), "e": np.empty(0)})
    assert params["x"] is array
    assert array == 0.5


def test_row_17_a_read_only_gradient_is_fine():
    params, grads = invalid_inputs.start(dict)
    twin, _ = invalid_inputs.start(dict)
    Adam().update(twin, grads)
    for grad in grads.values():
        grad.flags.writeable = False
    Adam().update(params, grads)
    assert snapshot(params) == snapshot(twin)


@needs_jit
@pytest.mark.skipif(sys.platform == "win32", reason="files there aren't sparse by themselves")
@pytest.mark.parametrize("grad_dtype", ["float32", "float64"])
def test_row_19_more_elements_than_32_bits_count(grad_dtype, tmp_path):
    """The last of 2²⁰ parts, as one of so many threads would take it, of sparse files of 8 and 16 GiB."""
    size, parts = 2**31 + 2**12, 2**20
    param, grad = (
        np.asarray(np.memmap(tmp_path / name, dtype, "w+", shape=(size,)))
        for name, dtype in (("p", "float32"), ("g", grad_dtype))
    )
    grad[-4:] = 1
    layout = Layout()
    layout.place(0, param.shape, param.dtype)
    arrays = Arrays([0], [param], [grad], [param])
    rule, scalars = fastopt.SGD.rule(), (1.0, 0.0, 1.0, 0.5)
    code = rule.code([param.dtype], 0)
    plan = CompiledPlan(
        code, lambda n: 1, False, rule, Memory([], layout, list), arrays, [0], n_averages=0
    )  # fmt: skip
    assert plan.main.entry_points.run_phases(arrays.params, arrays.grads, scalars, 0, CHECK) == DONE
    # In round 1 all parts are done but one.
    for name, value in (("phase", UPDATE), ("n_parts", parts), ("n_finished", parts - 1)):
        plan.main.header[name] = value
    plan.main.header["round"] = (1 << 32) + parts - 1
    ROUND(code.step["share"])(*UNUSED, plan.main.address, 1, 0)
    assert plan.main.header["n_finished"] == parts
    assert param[-5:].tolist() == [0, -0.5, -0.5, -0.5, -0.5]


KINDS = {
    "plain": lambda: [np.ones(5), np.ones((2, 3))],
    "mixed": lambda: [np.ones(5), np.ones((2, 3), "f4")],
    "strided": lambda: [np.ones(5), np.ones((6, 2))[:, 0]],
    "packed": lambda: pack([np.ones(5), np.ones((2, 3))]),
    "large": lambda: [np.ones(30_000), np.ones(9000)],
}
BAD_VALUES = {"NaN": np.nan, "infinity": -np.inf, "a large square": 2e19}


@pytest.mark.parametrize("bad", BAD_VALUES)
@pytest.mark.parametrize("kind", KINDS)
def test_row_20_nonfinite_warns_once_and_goes_on(kind, bad):
    params = KINDS[kind]()
    grads = copy.deepcopy(params)
    value = BAD_VALUES[bad]
    if bad == "a large square" and params[1].dtype == np.float64:
        value = 2e154
    opt, ref = fastopt.Momentum(0.1), fastopt.reference.Momentum(0.1)
    twin = [np.array(p) for p in params]
    opt.update(params, grads)
    ref.update(twin, [np.array(g) for g in grads])
    grads[1][(0,) * grads[1].ndim] = value
    with pytest.warns(RuntimeWarning, match=r"gradient of 1 has NaN.* at step 2; nonfinite='raise'") as seen:
        assert opt.update(params, grads) is True
    assert [w.filename for w in seen] == [__file__]
    with np.errstate(all="ignore"):
        ref.update(twin, [np.array(g) for g in grads])
        opt.update(params, grads)  # no second warning
        ref.update(twin, [np.array(g) for g in grads])
    assert all(np.array_equal(p, t, equal_nan=True) for p, t in zip(params, twin, strict=True))


@needs_jit
def test_row_20_by_default_no_gradient_is_read_twice(monkeypatch):
    """The driver looks at what it updates anyway; only for "raise" and "skip" is all looked at before."""

    def passed(*_):
        raise AssertionError("another pass")

    monkeypatch.setattr("fastopt.engine.finite.all_finite", passed)
    params = KINDS["mixed"]()
    opt = Adam()
    for _ in range(2):
        opt.update(params, copy.deepcopy(params))
    assert not opt.engine.plan.main.header["is_strict"]
    with pytest.raises(AssertionError, match="another pass"):
        Adam(nonfinite="raise").update(params, params)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("started", [False, True])
@pytest.mark.parametrize("bad", BAD_VALUES)
@pytest.mark.parametrize("kind", KINDS)
def test_row_20_raise_and_skip_change_nothing(kind, bad, started, threads):
    for nonfinite in ("raise", "skip"):
        params = KINDS[kind]()
        good = copy.deepcopy(params)
        grads = copy.deepcopy(params)
        value = 2e154 if bad == "a large square" and params[1].dtype == np.float64 else BAD_VALUES[bad]
        grads[1][(-1,) * grads[1].ndim] = value
        opt = Adam(0.1, nonfinite=nonfinite, threads=min(threads, available()))
        if started:
            opt.update(params, good)
        before, bits = state_bytes(opt), snapshot(params)
        if nonfinite == "raise":
            with pytest.raises(FloatingPointError, match=f"gradient of 1 .*step {1 + started}"):
                opt.update(params, grads)
        else:
            assert opt.update(params, grads) is False
            assert opt.update(params, grads) is False
            assert opt.skipped == 2
        assert state_bytes(opt) == before
        assert snapshot(params) == bits
        twin, twins = Adam(0.1), copy.deepcopy(params)
        if started:
            twin.load_state_dict(opt.state_dict() | {"hyperparameters": twin.state_dict()["hyperparameters"]})
        assert opt.update(params, good) is True
        twin.update(twins, good)
        assert snapshot(params) == snapshot(twins)


@pytest.mark.parametrize("rule", ["SGD", "LAMB"])
@pytest.mark.parametrize("bias", COMPANIONS)
def test_row_20_the_gradient_is_named_however_it_is_read(bias, rule):
    bias = COMPANIONS[bias]() if COMPANIONS[bias] else np.zeros(3)
    params = {"W": np.ones((2, 2)), "b": bias, "c": np.ones(2)}
    grads = {"W": np.ones((2, 2)), "b": np.full(np.shape(bias), np.nan), "c": np.ones(2)}
    for groups in (None, {"W": {"lr_scale": 0.5}}, {"b": {"freeze": True}}):
        opt = getattr(fastopt, rule)(groups=groups)
        if groups == {"b": {"freeze": True}}:  # it isn't read
            opt.update(dict(params), grads)
            continue
        with pytest.warns(RuntimeWarning, match="gradient of 'b' has NaN.* at step 1"):
            opt.update(dict(params), grads)
        for nonfinite in ("raise", "skip"):
            opt = getattr(fastopt, rule)(groups=groups, nonfinite=nonfinite)
            if nonfinite == "skip":
                assert opt.update(params, grads) is False
                continue
            with pytest.raises(FloatingPointError, match="gradient of 'b' has NaN.* at step 1"):
                opt.update(params, grads)


def test_row_20_the_policy_may_change_between_steps():
    params, grads = [np.ones(3)], [np.array([1, np.nan, 1])]
    opt = Adam()
    opt.update(params, [np.ones(3)])
    opt.nonfinite = "skip"
    assert opt.update(params, grads) is False
    opt.nonfinite = "warn"
    with pytest.warns(RuntimeWarning, match="gradient of 0"):
        opt.update(params, grads)
    for wrong, error in (("ignore", ValueError), (None, TypeError)):
        with pytest.raises(error, match="nonfinite must be 'warn', 'raise' or 'skip'"):
            opt.nonfinite = wrong


def test_row_20_huge_sums_of_fine_values_are_fine():
    limit = np.sqrt(np.finfo("f4").max)
    params = [np.zeros(5000, "f4")]
    grads = [np.full(5000, 0.9 * limit, "f4")]
    with warnings.catch_warnings(action="error"):
        fastopt.SGD(1.0).update(params, grads)
        fastopt.SGD(1.0, nonfinite="raise").update(params, grads)


def train_together(opt, params, grads, steps, threads):
    """Let several Python threads step with one optimizer on the same parameters."""
    barrier, errors = threading.Barrier(threads), []

    def work():
        try:
            barrier.wait()
            for _ in range(steps):
                opt.update(params, grads)
        except Exception as error:
            errors.append(error)

    workers = [threading.Thread(target=work) for _ in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not errors


@pytest.mark.parametrize("parallel", [1, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_row_25_one_optimizer_in_several_threads(kind, parallel):
    interval = sys.getswitchinterval()
    params, twins = KINDS[kind](), KINDS[kind]()
    grads = copy.deepcopy(params)
    opt = Adam(0.01, threads=min(parallel, available()))
    steps = 30 if kind == "large" else 300
    try:
        sys.setswitchinterval(1e-5)
        train_together(opt, params, grads, steps, 3)
    finally:
        sys.setswitchinterval(interval)
    twin = Adam(0.01)
    for _ in range(3 * steps):
        twin.update(twins, grads)
    assert opt.iter == 3 * steps
    assert snapshot(params) == snapshot(twins)
    assert state_bytes(opt) == state_bytes(twin)


def test_row_26_spawned_processes():
    code = """
import multiprocessing, numpy as np, fastopt
def train(seed):
    params = [np.full(30_000, float(seed))]
    opt = fastopt.Adam(threads=min(2, 2))
    for _ in range(3):
        opt.update(params, params)
    return params[0].tobytes()
"""
    out, _ = python(
        "import sys, types, pathlib, tempfile\n"
        "folder = tempfile.mkdtemp(); sys.path.insert(0, folder)\n"
        f"pathlib.Path(folder, 'job.py').write_text({code!r})\n"
        "import job, multiprocessing\n"
        "here = [job.train(seed) for seed in (1, 2)]\n"
        "with multiprocessing.get_context('spawn').Pool(2) as pool:\n"
        "    print(pool.map(job.train, (1, 2)) == here)\n"
    )
    assert out == "True\n"


# What of the tests of `update` and `pack` runs; under the second, Adam's, as compiling takes its time.
MODES = {
    "FASTOPT_COMPILE": [],
    "NUMBA_BOUNDSCHECK": ["-k", "(Adam or refused or row_13 or row_14 or row_29) and not row_18"],
}
BEYOND = """
import numpy as np, fastopt
try:
    fastopt.SGD.kernel(np.ones(3), np.ones(2), 1.0, 0.0, 1.0, 0.5)
except IndexError:
    print("IndexError")
"""


@pytest.mark.long
@needs_jit
@pytest.mark.parametrize("mode", MODES)
def test_row_28_the_tests_pass_in_other_modes(mode):
    here = Path(__file__).parent
    value = "never" if mode == "FASTOPT_COMPILE" else "1"
    environment = {**os.environ, mode: value}
    files = [here / "test_update.py", here / "test_packing.py"]
    command = [sys.executable, "-m", "pytest", "-q", "-n0", "-p", "no:cacheprovider", *files, *MODES[mode]]
    out = subprocess.run(command, cwd=here.parent, env=environment, capture_output=True, text=True)
    assert out.returncode == 0, out.stdout + out.stderr
    assert int(re.search(r"(\d+) passed", out.stdout)[1]) > 60
    if mode == "NUMBA_BOUNDSCHECK":
        assert python(BEYOND, **{mode: value})[0] == "IndexError\n"


@pytest.mark.parametrize("layout", [np.array, np.asfortranarray])
@pytest.mark.parametrize("rule", ["LAMB", "Adafactor", "Muon", "Prodigy"])
def test_row_20_rules_of_whole_arrays_warn(rule, layout):
    params = [layout(np.ones((4, 3)))]
    optimizer = getattr(fastopt, rule)()
    optimizer.update(params, [np.ones((4, 3))])
    grad = layout(np.ones((4, 3)))
    grad[3, 2] = np.nan
    with pytest.warns(RuntimeWarning, match="the gradient of 0 has NaN"):
        optimizer.update(params, [grad])
