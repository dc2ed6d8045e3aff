"""`pack`: the views, what may be assigned, and that steps give the same bits as unpacked ones."""

import copy
import pickle

import numpy as np
import pytest
from cases import BOOK, DTYPES, same_bits, snapshot

import fastopt
from fastopt import pack
from fastopt.engine.structs import is_layout_known


def network(rng, dtype="float64"):
    shapes = {"W1": (8, 5), "b1": (5,), "s": (), "e": (0, 3), "W2": (5, 3)}
    return {key: np.asarray(rng.standard_normal(shape), dtype) for key, shape in shapes.items()}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rule", BOOK)
@pytest.mark.parametrize("cls", [dict, list])
def test_packed_steps_give_the_same_bits(rule, dtype, cls):
    rng = np.random.default_rng(0)
    make = (lambda: network(rng, dtype)) if cls is dict else (lambda: list(network(rng, dtype).values()))
    plain = make()
    packed = pack(plain)
    grads = packed.like()
    one, other = getattr(fastopt, rule)(), getattr(fastopt, rule)()
    for _ in range(6):
        slopes = make()
        for key in slopes if cls is dict else range(len(slopes)):
            grads[key] = slopes[key]
        one.update(plain, slopes)
        other.update(packed, grads)
    assert snapshot(plain) == snapshot(packed)
    assert other.iter == 6
    for name in type(one).states:
        assert type(getattr(other, name)) is cls
        assert snapshot(getattr(one, name)) == snapshot(getattr(other, name))
    if is_layout_known():  # else nothing is compiled
        assert len(other.engine.plan.main.entries) == 1, "not a single pass"
        assert other.engine.plan.drive is not None


@pytest.mark.parametrize("rule", ["LAMB", "Adafactor", "Prodigy"])
def test_rules_that_measure_take_packed_arrays_one_by_one(rule):
    rng = np.random.default_rng(0)
    plain = network(rng, "float32")
    packed = pack(plain)
    one, other = getattr(fastopt, rule)(), getattr(fastopt, rule)()
    for _ in range(3):
        slopes = network(rng, "float32")
        one.update(plain, slopes)
        other.update(packed, pack(slopes))
    assert snapshot(plain) == snapshot(packed)


def test_packed_and_plain_steps_can_take_turns():
    rng = np.random.default_rng(1)
    plain, slopes = network(rng), network(rng)
    packed = pack(plain)
    grads = pack(slopes)
    one, other = fastopt.Adam(), fastopt.Adam()
    for step in range(6):
        one.update(plain, slopes)
        other.update(packed, grads if step % 2 else slopes)
    assert snapshot(plain) == snapshot(packed)


def test_a_layout_unlike_the_state_is_still_right():
    rng = np.random.default_rng(2)
    plain = network(rng)
    one, other = fastopt.Adam(), fastopt.Adam()
    packed = pack(dict(reversed(plain.items())))
    first = {key: packed[key] for key in plain}
    slopes = network(rng)
    grads = pack(dict(reversed(slopes.items())))
    for _ in range(3):
        one.update(plain, slopes)
        other.update(first, slopes)  # the state lies in the other order
        one.update(plain, slopes)
        other.update(packed, grads)
    assert all(same_bits(plain[key], packed[key]) for key in plain)


def test_mixed_dtypes_have_a_buffer_each():
    start = {"a": np.ones((2, 3), "float32"), "b": np.full(4, 2.0), "c": np.full(2, 3.0, "float32")}
    packed = pack(start)
    assert {str(dtype): buffer.tolist() for dtype, buffer in packed.buffers.items()} == {
        "float32": [1.0] * 6 + [3.0] * 2,
        "float64": [2.0] * 4,
    }
    with pytest.raises(ValueError, match=r"float32.*float64.*\.buffers"):
        packed.buffer  # noqa: B018
    grads = packed.like()
    grads.update({"a": np.ones((2, 3)), "b": np.ones(4), "c": np.ones(2)})
    opt = fastopt.SGD(0.5)
    opt.update(packed, grads)
    opt.update(packed, grads)
    assert snapshot(packed) == snapshot(
        {"a": np.zeros((2, 3), "float32"), "b": np.ones(4), "c": np.full(2, 2.0, "float32")}
    )
    assert opt.iter == 2


def test_values_are_views_in_their_own_order():
    fortran = np.asfortranarray(np.arange(6.0).reshape(2, 3))
    packed = pack([fortran, np.arange(2.0)])
    assert packed[0].flags.f_contiguous
    assert packed.buffer.tolist() == [0, 3, 1, 4, 2, 5, 0, 1]
    packed.buffer[:] = 7
    assert (packed[0] == 7).all()
    assert (packed[1] == 7).all()
    assert packed.buffer.ctypes.data % 64 == 0
    assert fortran[0, 1] == 1, "pack copies"


def test_assigning_copies_into_the_view():
    packed = pack({"a": np.zeros((2, 2)), "x": 0.5})
    view = packed["a"]
    packed["a"] = [[1, 2], [3, 4]]
    packed["x"] = 2
    packed["a"] += 1
    assert packed["a"] is view
    assert packed.buffer.tolist() == [2, 3, 4, 5, 2]
    packed |= {"x": 3}
    packed.update(a=np.ones((2, 2)))
    assert packed.buffer.tolist() == [1, 1, 1, 1, 3]
    listed = pack([np.zeros(2), np.zeros(3)])
    listed[:] = [np.ones(2), np.full(3, 2.0)]
    listed[-1][0] = 5
    assert listed.buffer.tolist() == [1, 1, 5, 2, 2]


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda d, _: d.__setitem__("a", np.ones(2)), ValueError, r"'a' is packed with shape \(2, 2\)"),
        (lambda d, _: d.__setitem__("a", 1.0), ValueError, r"shape \(\)"),
        (
            lambda d, _: d.__setitem__("a", np.ones((2, 2), complex)),
            TypeError,
            "real numbers, not complex128",
        ),
        (lambda d, _: d.__setitem__("new", 1.0), KeyError, "'new' is not packed here"),
        (lambda d, _: d.pop("a"), TypeError, "keeps the arrays"),
        (lambda d, _: d.clear(), TypeError, "keeps the arrays"),
        (lambda d, _: d.setdefault("b", 1), TypeError, "keeps the arrays"),
        (lambda d, _: d.__delitem__("a"), TypeError, "keeps the arrays"),
        (lambda _, x: x.append(1), TypeError, "keeps the arrays"),
        (lambda _, x: x.reverse(), TypeError, "keeps the arrays"),
        (lambda _, x: x.__iadd__([1]), TypeError, "keeps the arrays"),
        (lambda _, x: x.__setitem__(slice(None), []), ValueError, "1 arrays can't take 0 values"),
    ],
)
def test_what_would_break_the_layout_is_refused(change, error, message):
    packed, listed = pack({"a": np.ones((2, 2))}), pack([np.ones(2)])
    with pytest.raises(error, match=message):
        change(packed, listed)
    assert packed.buffer.tolist() == [1] * 4
    assert listed.buffer.tolist() == [1] * 2
    assert (list(packed), len(listed)) == (["a"], 1)


@pytest.mark.parametrize("params", [3, None, "ab", np.ones(3)])
def test_only_dicts_and_lists_are_packed(params):
    with pytest.raises(TypeError, match="params must be a dict or list of arrays"):
        pack(params)


def test_integers_are_refused_by_name():
    with pytest.raises(TypeError, match="'n' is int64"):
        pack({"n": np.arange(3)})


@pytest.mark.parametrize("clone", [copy.copy, copy.deepcopy, lambda p: pickle.loads(pickle.dumps(p))])
@pytest.mark.parametrize("start", [{"a": np.ones((2, 2)), "b": np.zeros(2)}, [np.ones((2, 2)), np.zeros(2)]])
def test_copies_have_buffers_of_their_own(clone, start):
    packed = pack(start)
    other = clone(packed)
    assert type(other) is type(packed)
    assert snapshot(other) == snapshot(packed)
    other.buffer[:] = 5
    assert packed.buffer.tolist() == [1] * 4 + [0] * 2
    first = other["a" if isinstance(start, dict) else 0]
    assert (first == 5).all()


def test_the_buffer_takes_what_its_operators_give():
    packed = pack({"a": np.ones(3), "b": np.ones((2, 2))})
    buffer = packed.buffer
    packed.buffer *= 3
    assert packed.buffer is buffer
    assert packed["b"].tolist() == [[3, 3], [3, 3]]
    packed.buffer = np.arange(7)
    assert packed["a"].tolist() == [0, 1, 2]
    with pytest.raises(ValueError, match=r"'buffer' .*shape \(7,\)"):
        packed.buffer = 0


def test_gradients_packed_in_another_order():
    params = pack({"a": np.zeros(3), "b": np.zeros(3, "float32")})
    grads = pack({"b": np.ones(3, "float32"), "a": np.full(3, 2.0)})
    opt = fastopt.SGD(lr=1.0)
    for step in (1, 2):
        opt.update(params, grads)
        assert params["a"].tolist() == [-2 * step] * 3
        assert params["b"].tolist() == [-step] * 3


class Layer:
    def __init__(self, W):
        self.W = W


class Network:
    def __init__(self, is_params_first):
        params = fastopt.pack({"W": np.ones((2, 3)), "b": np.zeros(3)})
        if is_params_first:
            self.params = params
        self.layers = [Layer(params["W"]), {"b": params["b"]}, [params["W"]]]
        self.flat = params.buffer
        if not is_params_first:
            self.params = params


@pytest.mark.parametrize("is_params_first", [True, False])
@pytest.mark.parametrize("is_list", [True, False])
def test_a_deep_copy_of_a_network_keeps_what_its_layers_hold(is_params_first, is_list):
    network = Network(is_params_first)
    if is_list:
        network.params = fastopt.pack([np.ones(2)])
        network.layers = [Layer(network.params[0])]
        network.flat = network.params.buffer
    new = copy.deepcopy([network])[0]
    place = 0 if is_list else "W"
    new.params.buffer[:] = 7
    assert (new.layers[0].W == 7).all()
    assert new.layers[0].W is new.params[place]
    assert (new.flat == 7).all()
    assert (network.params[place] == 1).all()
    if not is_list:
        assert new.layers[1]["b"] is new.params["b"]
        assert new.layers[2][0] is new.params["W"]
    optimizer = fastopt.SGD(lr=1.0)
    grads = new.params.like()
    grads.buffer[:] = 1
    optimizer.update(new.params, grads)
    assert (new.layers[0].W == 6).all()


def test_what_is_assigned_together_is_checked_first():
    params = fastopt.pack({"a": np.zeros(2), "b": np.zeros(3)})
    for wrong, error in (
        ({"b": np.ones(4)}, ValueError),
        ({"c": np.ones(3)}, KeyError),
        ({"b": "x"}, TypeError),
    ):
        with pytest.raises(error):
            params.update({"a": np.ones(2)} | wrong)
        assert not params.buffer.any()
    values = fastopt.pack([np.zeros(2), np.zeros(3)])
    with pytest.raises(ValueError, match="packed with shape"):
        values[:] = [np.ones(2), np.ones(4)]
    assert not values.buffer.any()
    with pytest.raises(TypeError, match="'a' can't take a masked array"):
        params["a"] = np.ma.masked_array([1.0, 2.0], [False, True])
    params.update(a=[1, 2], b=params["b"])
    assert params.buffer.tolist() == [1, 2, 0, 0, 0]


@pytest.mark.parametrize("rule", ["SGD", "Momentum"])
def test_parameters_with_other_counts_are_told_apart_after_loading(rule):
    """A rule without states knows them from the file only."""
    params = fastopt.pack({"a": np.ones(3), "b": np.ones(3)})
    grads = params.like()
    optimizer = getattr(fastopt, rule)()
    for _ in range(2):
        optimizer.update(params, grads)
    optimizer.drop_state("b")
    again = pickle.loads(pickle.dumps(optimizer))
    assert again.update(params, grads)
    assert again.update(params, grads)
    assert again.state_dict()["counts"] == {"a": 4, "b": 2}
