"""`record`: what is kept is what NumPy finds, and the step is the same."""

import copy
import pickle

import numpy as np
import pytest
from cases import same_bits, state_bytes

import fastopt
from fastopt.options.history import SAMPLE


def problem(steps=7):
    rng = np.random.default_rng(2)
    params = {"W": rng.standard_normal((6, 4)), "b": np.zeros(4), "s": 0.5}
    grads = [{key: rng.standard_normal(np.shape(p)) for key, p in params.items()} for _ in range(steps)]
    for grad in grads:
        grad["W"][:3] = 0
    return params, grads


def close(one, other):
    return one == pytest.approx(other, rel=1e-12)


def test_it_keeps_what_numpy_finds_and_steps_the_same():
    params, grads = problem()
    plain, other = copy.deepcopy(params), fastopt.Adam(lr=fastopt.schedules.Linear(0.1, 10))
    optimizer = fastopt.Adam(lr=fastopt.schedules.Linear(0.1, 10))
    record = optimizer.record(every=3)
    assert str(record) == "no step is recorded yet"
    norms = []
    for grad in grads:
        before = copy.deepcopy(params)
        assert optimizer.update(params, grad)
        other.update(plain, grad)
        assert all(same_bits(np.asarray(params[key]), np.asarray(plain[key])) for key in params)
        norms.append({key: (np.linalg.norm(grad[key]), np.linalg.norm(params[key] - before[key]),
                            np.linalg.norm(before[key])) for key in params})  # fmt: skip
    assert optimizer.recorded is record
    assert record.steps == [1, 4, 7]
    assert record.lr == [fastopt.schedules.Linear(0.1, 10)(t) for t in record.steps]
    assert record.skipped == [0, 0, 0]
    assert list(record.arrays) == list(params)
    for key, trace in record.arrays.items():
        for k, t in enumerate(record.steps):
            grad, update, param = norms[t - 1][key]
            assert close(
                [trace.grad_norm[k], trace.update_norm[k], trace.param_norm[k]], [grad, update, param]
            )
            ratio = trace.update_ratio[k]
            assert np.isnan(ratio) if param == 0 else close(ratio, update / param)
        assert trace.zero_fraction == [0.5 if key == "W" else 0] * 3
    all_of = [np.sqrt(sum(own[k] ** 2 for own in norms[-1].values())) for k in range(3)]
    line = f"step 7 · lr {record.lr[-1]:.3g} · |g| {all_of[0]:.3g} · |Δp|/|p| {all_of[1] / all_of[2]:.2g}"
    assert str(record) == line


def test_large_arrays_are_estimated():
    rng = np.random.default_rng(0)
    param, grad = rng.standard_normal((2, 400, 500), np.float32)
    grad[:100] = 0
    assert param.size > 10 * SAMPLE
    optimizer = fastopt.SGD(0.1)
    trace = optimizer.record(1).arrays
    before = param.copy()
    optimizer.update([np.asfortranarray(param), param], [grad, grad])
    for key in (0, 1):
        assert trace[key].grad_norm[0] == pytest.approx(np.linalg.norm(grad), rel=0.03)
        assert trace[key].param_norm[0] == pytest.approx(np.linalg.norm(before), rel=0.03)
        assert trace[key].update_norm[0] == pytest.approx(0.1 * np.linalg.norm(grad), rel=0.03)
        assert trace[key].zero_fraction[0] == pytest.approx(0.25, abs=0.01)


def test_it_sees_means_of_micro_batches_rows_and_what_comes_later():
    params, grads = problem()
    optimizer = fastopt.SGD(0.1, accumulate=2)
    record = optimizer.record(1)
    for grad in grads[:4]:
        optimizer.update(params, grad)
    assert record.steps == [1, 2]
    mean = (grads[2]["W"] + grads[3]["W"]) / 2
    assert close(record.arrays["W"].grad_norm[-1], np.linalg.norm(mean))
    optimizer = fastopt.SGD(0.1, nonfinite="skip")
    record = optimizer.record(1)
    table, rows = np.ones((4, 2)), fastopt.Rows([1, 1], np.ones((2, 2)))
    optimizer.update({"b": np.ones(2)}, {"b": np.full(2, np.nan)})
    optimizer.update({"b": np.ones(2)}, {"b": np.ones(2)})
    optimizer.update({"W": table}, {"W": rows})
    assert record.steps == [1, 2]
    assert record.skipped == [1, 1]
    trace = record.arrays["W"]
    assert np.isnan(trace.zero_fraction[0])
    assert trace.zero_fraction[1] == 0.75
    assert close([trace.grad_norm[1], trace.update_norm[1]], [8**0.5, 0.08**0.5])
    assert str(record).endswith("· 1 skipped")
    optimizer.update({"W": table}, {"W": np.full((4, 2), np.inf)})
    optimizer.update({"W": table}, {"W": np.full((4, 2), 3.0)})
    assert record.skipped == [1, 1, 2]
    assert str(record).endswith("· 2 skipped")
    assert "last ‖g‖ 8.49, ‖Δp‖ 0.849" in repr(trace)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda both: pickle.loads(pickle.dumps(both))])
def test_copies_record_for_themselves(copied):
    params, grads = problem()
    optimizer = fastopt.Adam()
    optimizer.record(1)
    optimizer.update(params, grads[0])
    other, theirs = copied((optimizer, params))
    other.update(theirs, grads[1])
    assert (optimizer.iter, other.iter) == (1, 2)
    assert (optimizer.recorded.steps, other.recorded.steps) == ([1], [1, 2])


def test_faults_are_those_of_the_step_and_leave_all_as_it_was():
    params, grads = problem()
    optimizer = fastopt.Adam()
    record = optimizer.record(1)
    before = state_bytes(optimizer)
    for wrong, error in [({}, KeyError), (grads[0] | {"W": np.ones(3)}, ValueError),
                         (grads[0] | {"W": "no"}, TypeError)]:  # fmt: skip
        with pytest.raises(error, match="'W'"):
            optimizer.update(params, wrong)
    assert state_bytes(optimizer) == before
    assert record.steps == []
    with pytest.raises(ValueError, match="every must be at least 1"):
        optimizer.record(0)
    with pytest.raises(ValueError, match="no step is recorded"):
        record.plot()


def test_the_picture(tmp_path):
    pytest.importorskip("matplotlib")
    params, grads = problem()
    optimizer = fastopt.Adam()
    record = optimizer.record(1)
    for grad in grads:
        optimizer.update(params, grad)
    figure = record.plot()
    panels = figure.axes[:4]
    for panel, name in zip(panels, ("grad_norm", "update_ratio", "param_norm", "zero_fraction"), strict=True):
        lines = {line.get_label(): line for line in panel.lines}
        for key, trace in record.arrays.items():
            np.testing.assert_array_equal(lines[key].get_ydata(), getattr(trace, name))
            assert list(lines[key].get_xdata()) == record.steps
    figure.savefig(tmp_path / "record.png")
    assert (tmp_path / "record.png").stat().st_size > 10_000
