"""What is there to look at: trajectories, the range test, the comparison with the reference."""

import sys

import numpy as np
import pytest
from cases import snapshot, state_bytes

import fastopt
from fastopt.demo.surfaces import SURFACES


@pytest.mark.parametrize("surface", SURFACES.values(), ids=SURFACES)
def test_trajectory_by_differences_is_that_by_the_gradient(surface):
    given = fastopt.trajectory(fastopt.SGD(1e-3), surface.f, surface.start, 20, surface.gradient)
    numeric = fastopt.trajectory(fastopt.SGD(1e-3), surface.f, surface.start, 20)
    assert given.points.shape == (21, 2)
    assert not np.array_equal(given.points, numeric.points)
    np.testing.assert_allclose(numeric.points, given.points, rtol=1e-8)


def test_trajectory_plot(tmp_path):
    path = fastopt.trajectory(fastopt.Adam(0.3), lambda x, y: x**2 / 20 + y**2 - 5, (-7, 2), 30)
    path.plot().savefig(tmp_path / "path.png")
    figure = path.plot(window=(-8, 8, -3, 3))
    line = next(line for line in figure.axes[0].lines if len(line.get_xdata()) == 31)
    assert np.array_equal(line.get_xydata(), path.points)
    assert figure.axes[0].get_xlim() == (-8, 8)
    standing = fastopt.trajectory(fastopt.SGD(0.0), lambda x, y: 0 * x + 3, (1, 1), 5)
    standing.plot().savefig(tmp_path / "standing.png")


def test_trajectory_with_a_wrong_start():
    for start in (3.0, (1, 2, 3), "xy"):
        with pytest.raises(ValueError, match="start must be two numbers"):
            fastopt.trajectory(fastopt.SGD(), lambda x, y: x, start, 3)


def test_plots_say_what_they_need(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    path = fastopt.trajectory(fastopt.SGD(), lambda x, y: x, (0, 0), 3)
    with pytest.raises(ModuleNotFoundError, match=r'python -m pip install "fastopt\[demo\]"'):
        path.plot()


def regression(optimizer, seed=3):
    """Give parameters and a step of training on them, in which the gradient grows with the curvature."""
    rng = np.random.default_rng(seed)
    x, y = rng.standard_normal((64, 5)), rng.standard_normal(64)
    params = {"w": rng.standard_normal(5), "b": 0.5, "F": np.asfortranarray(rng.standard_normal((3, 2)))}

    def step():
        error = x @ params["w"] + params["b"] - y
        grads = {"w": x.T @ error / 64, "b": error.mean(), "F": np.ones((3, 2))}
        optimizer.update(params, grads)
        return float((error**2).mean())

    return params, step


@pytest.mark.parametrize("before", [0, 3])
def test_lr_finder_puts_everything_back(before):
    optimizer = fastopt.Momentum(1e-4, nonfinite="raise")
    params, step = regression(optimizer)
    for _ in range(before):
        step()
    w, known, state = params["w"], snapshot(params), state_bytes(optimizer)
    found = fastopt.lr_finder(step, optimizer, params, 1e-5, 1e3, 80)
    assert len(found.losses) < 80  # it saw the loss explode
    assert params["w"] is w
    assert snapshot(params) == known
    assert state_bytes(optimizer) == state
    assert (optimizer.lr, optimizer.nonfinite, optimizer.skipped) == (1e-4, "raise", 0)
    assert 1e-3 < found.suggestion < 1

    calls = []

    def interrupted():
        calls.append(step())
        if len(calls) == 5:
            raise KeyboardInterrupt
        return calls[-1]

    with pytest.raises(KeyboardInterrupt):
        fastopt.lr_finder(interrupted, optimizer, params)
    assert snapshot(params) == known
    assert state_bytes(optimizer) == state


def test_lr_finder_plot(tmp_path):
    optimizer = fastopt.SGD()
    params, step = regression(optimizer)
    found = fastopt.lr_finder(step, optimizer, params)
    figure = found.plot()
    figure.savefig(tmp_path / "lr.png")
    assert np.array_equal(figure.axes[0].lines[0].get_ydata(), found.losses)


def test_lr_finder_without_a_fall():
    optimizer = fastopt.SGD()
    assert fastopt.lr_finder(lambda: 1.0, optimizer, {}).suggestion is None
    with pytest.raises(ValueError, match="the first loss is nan"):
        fastopt.lr_finder(lambda: np.nan, optimizer, {})
    with pytest.raises(ValueError, match="high must be above 0.1"):
        fastopt.lr_finder(lambda: 1.0, optimizer, {}, low=0.1, high=0.01)
