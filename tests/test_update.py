"""`update` as a drop-in: containers, numbers, aliases, attributes; and what it refuses."""

import copy
import gc
import pickle
from collections import OrderedDict, UserDict, UserList, deque
from types import MappingProxyType

import numpy as np
import pytest
from cases import (
    BOOK,
    CASES,
    DTYPES,
    RULES,
    both,
    hyperparameters,
    same_bits,
    snapshot,
    state_bytes,
    takes,
)

import fastopt
from fastopt import SGD, Adam, Momentum, reference
from fastopt.engine.engine import MAX_CACHED_ARRAYS, Engine
from fastopt.engine.plan import Plan
from fastopt.engine.structs import is_layout_known
from fastopt.reference.options import Optimizer


def network(rng, dtype="float64"):
    shapes = {"W1": (8, 5), "b1": (5,), "W2": (5, 3), "b2": (3,)}
    return {key: rng.standard_normal(shape).astype(dtype) for key, shape in shapes.items()}


def copied(params):
    return {key: np.copy(p) for key, p in params.items()}


@pytest.mark.parametrize("rule", BOOK)
def test_volume_1_passes_dicts(rule):
    rng = np.random.default_rng(0)
    p_ref = network(rng)
    p_comp = copied(p_ref)
    ref, comp = both(rule)
    for _ in range(200):
        grads = network(rng) | {"extra": None}
        ref.update(p_ref, grads)
        comp.update(p_comp, dict(reversed(grads.items())))
    assert snapshot(p_ref) == snapshot(p_comp)
    for name in CASES[rule].states:
        assert type(getattr(comp, name)) is dict
        assert list(getattr(comp, name)) == list(p_comp)


@pytest.mark.parametrize("rule", BOOK)
def test_volume_2_passes_new_lists_each_step(rule):
    rng = np.random.default_rng(1)
    p_ref = list(network(rng).values())
    p_comp = [p.copy() for p in p_ref]
    ref, comp = both(rule)
    for _ in range(200):
        grads = list(network(rng).values())
        ref.update(p_ref[:], grads[:])
        comp.update(p_comp[:], grads[:])
    assert snapshot(p_ref) == snapshot(p_comp)
    for name in CASES[rule].states:
        assert type(getattr(comp, name)) is list
        assert [a.shape for a in getattr(comp, name)] == [p.shape for p in p_comp]


@pytest.mark.parametrize("rule", BOOK)
def test_the_trajectory_script_rebinds_numbers(rule):
    ref, comp = both(rule)
    paths = []
    for optimizer in (ref, comp):
        params = {"x": -7.0, "y": np.float64(2.0)}
        path = []
        for _ in range(30):
            path.append((params["x"], params["y"]))
            optimizer.update(params, {"x": params["x"] / 10.0, "y": 2.0 * params["y"]})
        paths.append(path)
    assert paths[0] == paths[1]
    assert len(set(paths[1])) == 30
    assert type(params["x"]) is float
    assert type(params["y"]) is np.float64


def test_float32_scalars_keep_their_type():
    params = [np.float32(1.0)]
    ref = [np.float32(1.0)]
    for _ in range(3):
        Adam(0.1).update(params, [np.float32(0.3)])
        reference.Adam(0.1).update(ref, [np.float32(0.3)])
    assert type(params[0]) is np.float32
    assert params == ref


@pytest.mark.parametrize("rule", BOOK)
def test_mixed_dtypes_numbers_and_layouts_in_one_call(rule):
    rng = np.random.default_rng(2)

    def make():
        return {
            "a": rng.standard_normal((4, 3)).astype("float32"),
            "b": rng.standard_normal(5),
            "c": 0.5,
            "d": np.asfortranarray(rng.standard_normal((3, 4))),
            "e": np.array(0.25, "float32"),
            "f": rng.standard_normal(9).astype("float32"),
            "g": np.empty((0, 2)),
        }

    p_ref = make()
    p_comp = {key: p if isinstance(p, float) else p.copy(order="K") for key, p in p_ref.items()}
    ref, comp = both(rule)
    for _ in range(5):
        grads = make()
        ref.update(p_ref, grads)
        comp.update(p_comp, grads)
    assert all(same_bits(p_ref[key], p_comp[key]) for key in p_ref)
    for name in CASES[rule].states:
        for key in p_ref:
            assert same_bits(getattr(ref, name)[key], getattr(comp, name)[key])


@pytest.mark.parametrize("rule", RULES)
def test_row_18_an_array_listed_twice_is_updated_twice(rule):
    rng = np.random.default_rng(3)
    start = rng.standard_normal((6, 4))
    results = []
    for optimizer in both(rule):
        a = start.copy()
        params = [p for p in (a, a, a[1:3].T, np.empty(0), np.empty((0, 2))) if takes(rule, p.shape)]
        for step in range(4):
            g = np.random.default_rng(step)
            optimizer.update(params, [g.standard_normal(p.shape) for p in params])
        results.append([a, *(getattr(optimizer, name)[1] for name in CASES[rule].states)])
    assert snapshot(results[0]) == snapshot(results[1])


@pytest.mark.parametrize("rule", RULES)
def test_row_18_gradients_that_share_memory_with_parameters(rule):
    results = []
    for optimizer in both(rule):
        a, b = np.linspace(1, 2, 33), np.linspace(3, 4, 32)
        shape = 32 if takes(rule, (32,)) else (4, 8)
        early, late, other = (array.reshape(shape) for array in (a[:-1], a[1:], b))
        for _ in range(3):  # itself shifted, an earlier parameter, itself
            optimizer.update([other, late], [late, early])
            optimizer.update([other, late], [other, other])
        states = [getattr(optimizer, name) for name in CASES[rule].states]
        results.append([a, b, *(state[i] for state in states for i in range(2))])
    assert snapshot(results[0]) == snapshot(results[1])


@pytest.mark.parametrize("grad_dtype", ["float64", "float32", "float16", "int64", "uint8", "longdouble"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_row_13_gradients_of_other_dtypes_are_rounded_once(dtype, grad_dtype):
    grad = (np.arange(12).reshape(3, 4) * 1.1).astype(grad_dtype)
    grad.flags.writeable = False
    p_ref, p_comp = [np.ones((3, 4), dtype)], [np.ones((3, 4), dtype)]
    ref, comp = both("Adam")
    for _ in range(3):
        ref.update(p_ref, [grad.astype(dtype)])
        comp.update(p_comp, [grad])
    assert same_bits(p_ref[0], p_comp[0])
    assert comp.m[0].dtype == dtype


def test_row_14_half_precision_is_updated_in_single():
    rng = np.random.default_rng(4)
    start, grad = rng.standard_normal((2, 50)).astype("float16")
    p_ref, p_comp = [start.copy()], [start.copy()]
    ref, comp = both("Adam")
    for _ in range(5):
        ref.update(p_ref, [grad])
        comp.update(p_comp, [grad])
    assert same_bits(p_ref[0], p_comp[0])
    assert comp.v[0].dtype == np.float32


@pytest.mark.parametrize(
    ("make", "args"),
    [
        (OrderedDict, dict),
        (UserDict, dict),
        (MappingProxyType, dict),
        (UserList, list),
        (tuple, list),
        (deque, list),
    ],
)
def test_any_mapping_or_sequence(make, args):
    ref = np.ones(3)
    SGD(0.5).update([ref], [np.ones(3)])
    p = np.ones(3)
    params, grads = ({"p": p}, {"p": np.ones(3)}) if args is dict else ([p], [np.ones(3)])
    SGD(0.5).update(make(params), make(grads))
    assert same_bits(p, ref)


@pytest.mark.parametrize("kind", [np.matrix, np.memmap])
def test_row_15_subclasses_of_arrays(kind, tmp_path):
    if kind is np.memmap:
        p = np.memmap(tmp_path / "p", "float64", "w+", shape=(2, 3))
        p[...] = 1
    else:
        with pytest.warns(PendingDeprecationWarning):
            p = np.matrix(np.ones((2, 3)))
    ref = np.ones((2, 3))
    for opt, param in zip(both("Adam"), (ref, p), strict=True):
        opt.update([param], [np.full((2, 3), 0.5)])
    assert np.array_equal(np.asarray(p), ref)


def test_empty_containers():
    opt = Adam()
    opt.update({}, {})
    assert opt.iter == 1
    assert opt.m == {}


def test_attributes_before_and_after_the_first_step():
    opt = Adam()
    assert opt.iter == 0
    assert opt.m is None
    assert opt.v is None
    opt.update({"a": np.ones((2, 2))}, {"a": np.ones((2, 2))})
    assert opt.iter == 1
    assert opt.m["a"].shape == (2, 2)
    opt.m["a"][...] = 0  # views: what is written counts
    assert not opt.m["a"].any()
    with pytest.raises(AttributeError, match="write into its arrays"):
        opt.m = None


@pytest.mark.parametrize("rule", BOOK)
def test_hyperparameters_may_change_between_steps(rule):
    rng = np.random.default_rng(5)
    p_ref = network(rng)
    p_comp = copied(p_ref)
    ref, comp = both(rule)
    for step in range(10):
        for name in hyperparameters(comp):
            value = 1e-3 / (1 + step) if name in ("lr", "eps") else 0.9 - 0.05 * step
            setattr(ref, name, value)
            setattr(comp, name, value)
        grads = network(rng)
        ref.update(p_ref, grads)
        comp.update(p_comp, grads)
    assert snapshot(p_ref) == snapshot(p_comp)


@pytest.mark.parametrize("rule", BOOK)
def test_rebound_late_and_reordered_parameters(rule):
    rng = np.random.default_rng(6)
    p_ref = network(rng)
    p_comp = copied(p_ref)
    ref, comp = both(rule)
    for step in range(9):
        if step == 3:  # a network that was loaded
            p_comp = copied(p_comp)
        if step == 6:
            p_comp = dict(reversed(p_comp.items()))
        grads = network(rng)
        ref.update(p_ref, grads)
        comp.update(p_comp, grads)
    assert all(same_bits(p_ref[key], p_comp[key]) for key in p_ref)
    # Each parameter counts its own steps.
    late_ref, late_comp = {"late": np.ones(4)}, {"late": np.ones(4)}
    new = both(rule)[0]
    for _ in range(3):
        new.update(late_ref, {"late": np.full(4, 0.5)})
        ref.update(p_ref, grads)
        comp.update(p_comp | late_comp, grads | {"late": np.full(4, 0.5)})
    assert same_bits(late_ref["late"], late_comp["late"])
    assert all(same_bits(p_ref[key], p_comp[key]) for key in p_ref)
    for name in CASES[rule].states:
        assert set(getattr(comp, name)) == {*p_ref, "late"}


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda opt: pickle.loads(pickle.dumps(opt))])
def test_row_29_copies_are_independent_and_go_on_alike(duplicate):
    rng = np.random.default_rng(7)
    params = network(rng)
    opt = Adam(0.01)
    opt.update(params, network(rng))
    twin, twins = duplicate(opt), copied(params)
    for _ in range(3):
        grads = network(rng)
        opt.update(params, grads)
        twin.update(twins, grads)
    assert snapshot(params) == snapshot(twins)
    assert state_bytes(opt) == state_bytes(twin)
    opt.m["W1"][...] = 0
    assert twin.m["W1"].any()


def test_representation():
    assert repr(Adam(0.01)) == "Adam(lr=0.01, beta1=0.9, beta2=0.999, eps=1e-07)"


def frozen():
    a = np.ones(3)
    a.flags.writeable = False
    return a


GOOD, GRAD = np.ones((2, 3)), np.full((2, 3), 0.5)
BAD = {
    "missing": ({"a": GOOD, "b": GOOD * 1}, {"a": GRAD}, KeyError, "'b'"),
    "None": ({"a": GOOD}, {"a": None}, TypeError, "'a' is None"),
    "broadcastable": ({"a": GOOD}, {"a": np.ones(3)}, ValueError, r"'a' has shape \(3,\).*\(2, 3\)"),
    "number": ({"a": GOOD}, {"a": 1.0}, ValueError, "'a' has shape"),
    "same size": ({"a": GOOD}, {"a": np.ones((3, 2))}, ValueError, "'a' has shape"),
    "transposed": ({"a": GOOD}, {"a": GRAD.T}, ValueError, "'a' has shape"),
    "list as gradient": ({"a": GOOD}, {"a": [[1.0] * 3] * 2}, TypeError, "'a' is a list"),
    "bool gradient": ({"a": GOOD}, {"a": GRAD > 0}, TypeError, "'a' is bool"),
    "complex gradient": ({"a": GOOD}, {"a": GRAD * 1j}, TypeError, "'a' is complex128"),
    "object gradient": ({"a": GOOD}, {"a": GRAD.astype(object)}, TypeError, "'a' is object"),
    "masked gradient": ({"a": GOOD}, {"a": np.ma.masked_array(GRAD)}, TypeError, "'a' is a masked"),
    "int": ({"a": np.ones(3, int)}, {"a": np.ones(3)}, TypeError, "'a' is int64"),
    "bool": ({"a": np.ones(3, bool)}, {"a": np.ones(3)}, TypeError, "'a' is bool"),
    "complex": ({"a": np.ones(3, complex)}, {"a": np.ones(3)}, TypeError, "'a' is complex128"),
    "longdouble": ({"a": np.ones(3, np.longdouble)}, {"a": np.ones(3)}, TypeError, "'a' is"),
    "string": ({"a": np.array("x")}, {"a": np.ones(())}, TypeError, "'a' is <U1"),
    "datetime": ({"a": np.zeros(3, "M8[s]")}, {"a": np.ones(3)}, TypeError, "'a' is datetime64"),
    "structured": ({"a": np.zeros(3, "f4,f4")}, {"a": np.ones(3)}, TypeError, "'a' is"),
    "Python int": ({"a": -7}, {"a": 1.0}, TypeError, "'a' is the integer -7: make it -7.0"),
    "Python bool": ({"a": True}, {"a": 1.0}, TypeError, "'a' is a bool"),
    "nested list": ({"a": [1.0]}, {"a": np.ones(1)}, TypeError, "'a' is a list"),
    "masked": ({"a": np.ma.masked_array(GOOD)}, {"a": GRAD}, TypeError, "'a' is a masked array"),
    "read-only": ({"a": frozen()}, {"a": np.ones(3)}, ValueError, "'a' is read-only"),
    "unassignable": ((1.0,), (1.0,), TypeError, "0 is a number in a container"),
    "lengths": ([GOOD, GOOD * 1], [GRAD], ValueError, "2 parameters need as many gradients, not 1"),
    "dict with list": ({"a": GOOD}, [GRAD], TypeError, "grads must be a dict"),
    "list with dict": ([GOOD], {"a": GRAD}, TypeError, "grads must be a list"),
    "an array": (GOOD, GRAD, TypeError, "params must be a dict or list"),
    "None as params": (None, None, TypeError, "params must be a dict or list of arrays, not None"),
    "the last of many": ([*np.ones((20, 3)), np.ones(4)], [*np.ones((21, 3))], ValueError, "of 20 has shape"),
}  # fmt: skip


@pytest.mark.parametrize("started", [False, True])
@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_refused_and_changes_nothing(name, started):
    params, grads, error, message = copy.deepcopy(BAD[name])
    if name == "read-only":
        params = {"a": frozen()}
    opt = Adam(0.1)
    good = {"W": np.ones((2, 2))} if isinstance(params, dict) else [np.ones(3)]
    if started:
        opt.update(good, copy.deepcopy(good))
    before = state_bytes(opt)
    values = list(params.values()) if isinstance(params, dict) else params
    bytes_before = None if values is None else snapshot(values)
    with pytest.raises(error, match=message):
        opt.update(params, grads)
    assert state_bytes(opt) == before
    assert bytes_before is None or snapshot(values) == bytes_before


CHANGES = {
    "retyped": lambda p: p.astype("float32"),
    "resized": lambda p: np.ones((3, 3)),
    "reshaped": lambda p: p.reshape(3, 2),
    "a number": lambda p: 1.0,
}


@pytest.mark.parametrize("change", CHANGES)
def test_row_07_a_parameter_that_became_another(change):
    opt = Momentum()
    params = {"a": np.ones((2, 3)), "b": np.ones((2, 3))}
    grads = {"a": GRAD, "b": GRAD}
    opt.update(params, grads)
    params["b"] = CHANGES[change](params["b"])
    grads["b"] = np.ones_like(params["b"])
    before, bits = state_bytes(opt), snapshot(params)
    with pytest.raises(ValueError, match="parameter 'b' is now"):
        opt.update(params, grads)
    assert state_bytes(opt) == before
    assert snapshot(params) == bits


def test_what_compiled_code_must_notice_between_steps():
    """The second step is checked in compiled code; each change must still be seen."""

    def step(change):
        opt = Momentum()
        params, grads = [np.ones((2, 3)), np.ones((2, 3))], [GRAD.copy(), GRAD.copy()]
        opt.update(params, grads)
        bits = [p.tobytes() for p in params]
        change(params, grads)
        opt.update(params, grads)
        assert params[0].tobytes() != bits[0]

    def freeze(params, grads):
        params[1].flags.writeable = False

    with pytest.raises(ValueError, match="parameter 1 is read-only"):
        step(freeze)
    with pytest.raises(ValueError, match="gradient of 1 has shape"):
        step(lambda p, g: g.__setitem__(1, np.ones((3, 2))))
    with pytest.raises(ValueError, match="gradient of 1 has shape"):
        step(lambda p, g: g.__setitem__(1, np.ones(6)))
    with pytest.raises(TypeError, match="gradient of 1 is None"):
        step(lambda p, g: g.__setitem__(1, None))
    with pytest.raises(TypeError, match="gradient of 1 is complex"):
        step(lambda p, g: g.__setitem__(1, GRAD * 1j))
    step(lambda p, g: g.__setitem__(1, np.asfortranarray(GRAD)))
    step(lambda p, g: g.__setitem__(1, GRAD.astype("float32")))
    step(lambda p, g: g.__setitem__(1, p[0]))


def test_row_21_upper_bounds_of_hyperparameters():
    with pytest.raises(ValueError, match="beta1 must be at least 0 and below 1, not 1.0"):
        Adam(beta1=1.0)
    with pytest.raises(ValueError, match="momentum must be at least 0 and at most 1, not 1.5"):
        Momentum(momentum=1.5)
    assert Momentum(lr=np.float32(0.5), momentum=1).lr == 0.5


def test_a_misspelt_hyperparameter():
    with pytest.raises(AttributeError, match="Adam has no 'learning_rate': write optimizer.lr"):
        Adam().learning_rate = 0.1


def test_a_dict_after_a_list():
    opt = SGD()
    opt.update([np.ones(1)], [np.ones(1)])
    with pytest.raises(TypeError, match="params was a list"):
        opt.update({0: np.ones(1)}, {0: np.ones(1)})


def test_a_caller_who_lets_numpy_raise_gets_a_whole_step():
    params = [np.ones(3), np.ones(3, "float32"), np.ones(3, "float16"), np.ones(3)]
    grads = [np.ones(3), np.full(3, 1e300), np.full(3, -1e30), np.full(3, 1e200)]
    with np.errstate(all="raise"), pytest.warns(RuntimeWarning, match="gradient of 1 has NaN"):
        SGD(1.0).update(params, grads)
    assert [p[0] for p in params] == [0.0, -np.inf, np.inf, -1e200]


@pytest.mark.parametrize("value", [-1, 1.5, True, "3", None])
def test_iter_is_a_whole_number(value):
    opt = fastopt.Adam()
    with pytest.raises(ValueError, match="whole number from 0"):
        opt.iter = value
    opt.iter = np.int64(7)
    assert opt.iter == 7


def planned(monkeypatch):
    """Return a list that gets an element for each plan that is made."""
    made = []
    make = Engine._make_plan
    monkeypatch.setattr(Engine, "_make_plan", lambda *arguments: made.append(1) or make(*arguments))
    return made


def test_parameters_that_take_turns_are_planned_once(monkeypatch):
    """As the two networks of a GAN do, with one optimizer."""
    made = planned(monkeypatch)
    comp = Momentum()
    sets = [{"a": np.ones(5), "b": np.ones((2, 3))}, {"c": np.ones(4)}]
    refs = [(reference.Momentum(), copy.deepcopy(params)) for params in sets]
    for step in range(5):
        for params, (ref, expected) in zip(sets, refs, strict=True):
            grads = {key: np.full_like(p, step + 1) for key, p in params.items()}
            comp.update(params, grads)
            ref.update(expected, grads)
            assert all(params[key].tobytes() == expected[key].tobytes() for key in params)
    # The first set's twice, as the second's state has come in between; without the compiler always.
    assert len(made) == (3 if is_layout_known() else 10)
    comp.nonfinite = "raise"
    comp.update(sets[0], sets[0])
    assert len(made) == (4 if is_layout_known() else 11)  # no plan from before is used


@pytest.mark.parametrize("name", ["Adafactor", "SM3", "Prodigy", "LAMB", "Muon"])
def test_measures_of_some_of_the_parameters_in_another_order(name):
    """A step on a part of what is known, and in another order, has the bits of the reference's."""
    rng = np.random.default_rng(0)
    shapes = {"wide": (2, 3000), "small": (3, 3), "tall": (40, 3)}
    params = {key: rng.standard_normal(shape) for key, shape in shapes.items()}
    expected = copy.deepcopy(params)
    comp, ref = getattr(fastopt, name)(), Optimizer(getattr(reference, name))
    ref.update(expected, params)
    comp.update(params, copy.deepcopy(params))
    for keys in (["small", "wide"], ["tall"], ["wide", "tall", "small"], ["small"]):
        grads = {key: rng.standard_normal(shapes[key]) for key in keys}
        comp.update({key: params[key] for key in keys}, grads)
        ref.update({key: expected[key] for key in keys}, grads)
        assert all(same_bits(params[key], expected[key]) for key in params)


def test_after_an_odd_step_the_short_way_is_taken_again(monkeypatch):
    calls, made = [], planned(monkeypatch)
    take = Adam.take
    monkeypatch.setattr(Adam, "take", lambda *arguments: calls.append(1) or take(*arguments))
    sets = [{"a": np.ones(5)}, {"b": np.ones(4)}]
    opt = Adam()
    for _ in range(3):
        for params in sets:
            opt.update(params, {key: p.copy() for key, p in params.items()})
    opt.update(sets[0], {"a": np.ones(10)[::2]})
    calls.clear()
    made.clear()
    for _ in range(3):
        opt.update(sets[1], {"b": np.ones(4)})
    # The first finds the plan of the other set, the others go on with it.
    assert (len(calls), len(made)) == ((1, 0) if is_layout_known() else (3, 3))


@pytest.mark.parametrize("make", [Adam, fastopt.LAMB, fastopt.Muon])
def test_no_more_plans_are_kept_than_there_are_sets(make):
    def alive():
        return sum(type(known) is Plan for known in gc.get_objects())

    opt = make()
    sets = [{"a": np.ones((2, 2)), "b": np.ones((1, 3))}, {"c": np.ones((3, 2)), "d": np.ones((2, 1))}]
    gc.collect()
    before = alive()
    gc.disable()
    try:
        for _ in range(50):
            for params in sets:
                fresh = {key: p.copy() for key, p in params.items()}
                opt.update(fresh, {key: p.copy() for key, p in params.items()})
        assert alive() - before <= 4
    finally:
        gc.enable()


def test_plans_with_arrays_of_their_own_are_not_kept():
    opt = fastopt.Muon()
    for key in "abcabc":
        opt.update({key: np.ones((2, 2))}, {key: np.ones((2, 2))})
    assert len(opt.engine.plans) <= 1


def test_many_sets_don_t_keep_all_plans():
    opt = Adam()
    params, grads = ({i: np.ones(2) for i in range(1000)} for _ in range(2))
    opt.update(params, grads)
    for first in range(0, 100, 3):
        opt.update({i: params[i] for i in range(first, 1000)}, grads)
    assert sum(map(len, opt.engine.plans)) <= MAX_CACHED_ARRAYS


def test_a_method_can_be_replaced_on_an_optimizer():
    """As programs do to log or to time the steps of an object."""
    optimizer, params, seen = fastopt.SGD(lr=1.0), {"W": np.zeros(2)}, []
    own = optimizer.update
    optimizer.update = lambda params, grads: seen.append(1) or own(params, grads)
    assert optimizer.update(params, {"W": np.ones(2)})
    assert (seen, params["W"].tolist()) == ([1], [-1, -1])
    with pytest.raises(AttributeError, match="has no 'update'"):
        optimizer.update = 1
