"""Arrays that share memory are updated one after the other, by plain NumPy and by compiled code alike."""

from dataclasses import dataclass

import numpy as np
import pytest

import fastopt
from fastopt.engine import engine


@fastopt.kernel
def own_momentum(param, grad, v, grad_scale, l2, keep, lr):
    for i in range(param.size):
        v[i] = lr * v[i] + grad_scale * grad[i]
        param[i] = param[i] - lr * v[i]


@dataclass(eq=False)
class OwnMomentum(fastopt.Optimizer):
    """A rule of a user's own."""

    kernel = own_momentum
    lr: float = fastopt.hyperparameter(0.1)
    v = fastopt.State()

    def scalars(self, t):
        return (self.lr,)


MEMBERS = [
    (fastopt.SGD, fastopt.Adam),
    (fastopt.SGD, fastopt.LARS),
    (fastopt.LARS, fastopt.SGD),
    (fastopt.LARS, fastopt.NovoGrad),
    (OwnMomentum, fastopt.Prodigy),
]


def same_array(dtype):
    array = np.linspace(1, 2, 6)
    return {"w": array, "b": array}, {"w": np.ones(6), "b": np.ones(6)}


def gradient_is_parameter(dtype):
    params = {"w": np.linspace(1, 2, 6), "b": np.ones(6, dtype)}
    return params, {"w": np.ones(6), "b": params["w"]}


def gradient_is_reversed_view(dtype):
    params = {"w": np.linspace(1, 2, 6), "b": np.ones(6, dtype)}
    return params, {"w": np.ones(6), "b": params["w"][::-1]}


def gradient_of_a_number(dtype):
    params = {"w": np.linspace(1, 2, 6), "b": 1.0, "b2": np.ones(2, dtype)}
    return params, {"w": np.ones(6), "b": params["w"][1:2].reshape(()), "b2": params["w"][4:]}


CASES = [same_array, gradient_is_parameter, gradient_is_reversed_view, gradient_of_a_number]


def train(make, case, dtype, modes, monkeypatch):
    """Return all that three steps make of the arrays."""
    params, grads = case(dtype)
    optimizer = make()
    for mode in modes:
        monkeypatch.setenv("FASTOPT_COMPILE", mode)
        optimizer.update(params, grads)
    return {key: np.asarray(value).tolist() for key, value in params.items()}, repr(optimizer.state_dict())


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("members", MEMBERS, ids=lambda pair: "+".join(m.__name__ for m in pair))
def test_members_of_a_partition_share_memory(members, case, dtype, monkeypatch):
    def make():
        first, second = members
        return fastopt.Partition({"w": first(), "*": second()})

    compiled = train(make, case, dtype, ["now"] * 3, monkeypatch)
    assert train(make, case, dtype, ["never"] * 3, monkeypatch) == compiled
    assert train(make, case, dtype, ["never", "never", "now"], monkeypatch) == compiled


def test_each_member_updates_the_array_that_they_share(monkeypatch):
    monkeypatch.setenv("FASTOPT_COMPILE", "never")
    array = np.ones(4)
    optimizer = fastopt.Partition({"w": fastopt.SGD(lr=0.1), "b": fastopt.LARS(lr=0.1)})
    optimizer.update({"w": array, "b": array}, {"w": np.ones(4), "b": np.ones(4)})
    # SGD: 1 - 0.1; then LARS with trust 0.001 * norm(p) / norm(g): 0.9 - 0.1 * 0.001 * 0.9.
    assert array.tolist() == pytest.approx([0.9 - 0.1 * 0.001 * 0.9] * 4, rel=1e-9)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("rule", [fastopt.SGD, fastopt.LARS, fastopt.Prodigy, OwnMomentum])
def test_arrays_of_one_optimizer_share_memory(rule, case, monkeypatch):
    compiled = train(rule, case, np.float32, ["now"] * 3, monkeypatch)
    assert train(rule, case, np.float32, ["never"] * 3, monkeypatch) == compiled


def test_rows_of_parameters_that_share_memory(monkeypatch):
    def case(dtype):
        table = np.linspace(1, 2, 12).reshape(4, 3)
        rows = [fastopt.Rows(np.array(index), np.ones((len(index), 3))) for index in ([2, 0], [1])]
        return {"a": table, "b": table[1:], "c": np.ones(3)}, {"a": rows[0], "b": rows[1], "c": np.ones(3)}

    compiled = train(lambda: OwnMomentum(rows="lazy"), case, None, ["now"] * 3, monkeypatch)
    assert train(lambda: OwnMomentum(rows="lazy"), case, None, ["never"] * 3, monkeypatch) == compiled


def test_a_step_on_copies_is_all_or_nothing(monkeypatch):
    monkeypatch.setenv("FASTOPT_COMPILE", "never")
    array = np.ones(4)
    params = {"w": array, "b": array, "c": 1.0}
    grads = {"w": np.ones(4), "b": np.ones(4), "c": np.inf}
    optimizer = fastopt.Partition({"w": fastopt.LARS(), "*": fastopt.Adam()}, nonfinite="raise")
    with pytest.raises(FloatingPointError, match="'c'"):
        optimizer.update(params, grads)
    assert array.tolist() == [1.0] * 4
    assert optimizer.iter == 0
    optimizer.nonfinite = "warn"
    with pytest.warns(RuntimeWarning, match="'c'"):
        optimizer.update(params, grads)
    assert optimizer.iter == 1


@pytest.mark.parametrize("mode", ["never", "now"])
def test_shared_states_are_those_of_the_first_array_of_their_dtype(mode, monkeypatch):
    monkeypatch.setenv("FASTOPT_COMPILE", mode)
    array = np.linspace(1, 2, 6)
    params = [array[:2], array[1:], np.ones(3, np.float32)]
    optimizer = fastopt.Prodigy()
    for step in range(3):
        optimizer.update(params, [np.sin(param + step) for param in params])
    # d is still its first value, 1e-6, which float32 has rounded to.
    assert [d.item() for d in optimizer.d] == [1e-6, 1e-6, float(np.float32(1e-6))]


def beside(dtype):
    """Return arrays that overlap, beside others that must be copied, too."""
    array = np.linspace(1, 2, 6)
    params = {"w": np.ones(3), "x": array, "c": np.ones((3, 2))[:, 0], "h": np.ones(3, np.float16)}
    return params, {"w": np.ones(3), "x": array, "c": np.ones(3), "h": np.ones(3)}


@pytest.mark.parametrize("rule", [fastopt.LARS, fastopt.NovoGrad, fastopt.Prodigy])
def test_arrays_beside_those_that_overlap_are_written_once(rule, monkeypatch):
    def make():
        return fastopt.Partition({"w": fastopt.SGD(), "*": rule()})

    for own in (make, rule):
        compiled = train(own, beside, None, ["now"] * 3, monkeypatch)
        assert train(own, beside, None, ["never"] * 3, monkeypatch) == compiled


def test_a_step_that_is_refused_has_written_nothing(monkeypatch):
    monkeypatch.setenv("FASTOPT_COMPILE", "never")
    params, grads = beside(None)
    before = {key: value.tolist() for key, value in params.items()}
    optimizer = fastopt.Partition({"[xch]": fastopt.LARS(lr=100.0), "w": fastopt.SGD()})
    with pytest.raises(ValueError, match="the gradient of 'w' has shape"):
        optimizer.update(params, grads | {"w": np.ones(4)})
    own = fastopt.LARS(lr=100.0)
    monkeypatch.setattr(engine, "run_calls", lambda calls: interrupt())
    with pytest.raises(KeyboardInterrupt):
        own.update(params, grads)
    assert {key: value.tolist() for key, value in params.items()} == before


def interrupt():
    raise KeyboardInterrupt


@pytest.mark.parametrize("mode", ["never", "now"])
def test_empty_arrays_of_a_step_on_copies(mode, monkeypatch):
    monkeypatch.setenv("FASTOPT_COMPILE", mode)
    array = np.ones(4)
    params = {"w": array, "b": array, "e": np.zeros(10)[::-2][:0]}
    optimizer = fastopt.Partition({"w": fastopt.SGD(), "*": fastopt.LARS()})
    assert optimizer.update(params, {"w": np.ones(4), "b": np.ones(4), "e": np.zeros(0)})


@pytest.mark.parametrize("mode", ["never", "now"])
def test_views_of_the_state_follow(mode, monkeypatch):
    monkeypatch.setenv("FASTOPT_COMPILE", mode)
    params, grads = same_array(None)
    optimizer = fastopt.Partition({"w": fastopt.Momentum(), "*": fastopt.LARS()})
    optimizer.update(params, grads)
    view = optimizer["w"].v["w"]
    before = view.copy()
    optimizer.update(params, grads)
    assert (view != before).all()
    assert np.shares_memory(view, optimizer["w"].v["w"])
    assert optimizer.compiled is (mode == "now")
