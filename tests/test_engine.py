"""The engine: all kinds of arrays are updated in one compiled call from a kept plan, and all are checked."""

import copy
import gc
import time
import weakref
from collections import OrderedDict

import numpy as np
import pytest
from cases import DTYPES, RULES, same_bits, snapshot, state_bytes, takes
from test_compiled import needs_jit, python

import fastopt
from fastopt import SGD, Adam, pack, reference
from fastopt.engine.engine import Engine
from fastopt.engine.plan import Arrays
from fastopt.engine.table import DIRECT, GATHERED, NUMBER, STAGED
from fastopt.engine.threads import available
from fastopt.optimizer import Optimizer
from fastopt.reference import options
from fastopt.step import Step

# Around the lengths of pieces (4,096 elements) and of lines that are copied together (512), but few enough in
# all for one thread.
SHAPES = [(), (0, 3), (1,), (7, 5), (3, 4, 5), (2, 4100), (4100, 2), (2, 520, 2), (9, 8), (1, 6, 1)]


def moved(a):
    """Return an array with another order of axes in memory."""
    axes = np.roll(np.arange(a.ndim), 1)
    return a.transpose(axes).copy().transpose(np.argsort(axes)) if a.ndim else a.copy()


LAYOUTS = {
    "C": lambda a: a.copy(),
    "Fortran": lambda a: a.copy(order="F"),
    "moved": moved,
    "every other": lambda a: np.repeat(a[..., None], 2, -1)[..., 0],
    "part": lambda a: np.pad(a, [(1, 2)] * a.ndim)[(slice(1, -2),) * a.ndim] if a.ndim else a.copy(),
    "reversed": lambda a: np.flip(np.flip(a).copy()) if a.ndim else a.copy(),
    "some reversed": lambda a: a[::-1].copy()[::-1] if a.ndim else a.copy(),
}
BROADCAST = {
    "rows": lambda a: np.broadcast_to(a[:1], a.shape) if a.ndim else a.copy(),
    "one number": lambda a: np.broadcast_to(a.reshape(-1)[:1].reshape(()) if a.size else a, a.shape),
}


@pytest.fixture
def planned(monkeypatch):
    """Return a list that gets an element for each plan that is made."""
    return counted(monkeypatch, Engine, "_make_plan")


@pytest.fixture
def steps(monkeypatch):
    """Return a list that gets an element for each step that isn't one call from a kept plan."""
    return counted(monkeypatch, Optimizer, "take")


def counted(monkeypatch, owner, name):
    calls, method = [], getattr(owner, name)
    monkeypatch.setattr(owner, name, lambda *given: calls.append(1) or method(*given))
    return calls


def arrays(rule, rng, dtype):
    return [rng.standard_normal(shape).astype(dtype) for shape in SHAPES if takes(rule, shape)]


def assert_same(ref, opt, expected, params):
    for i, (one, other) in enumerate(zip(expected, params, strict=True)):
        assert same_bits(one, np.asarray(other, np.asarray(other).dtype.newbyteorder("="))), i
        for name in type(opt).states:
            assert same_bits(getattr(ref, name)[i], getattr(opt, name)[i]), (name, i)


@needs_jit
@pytest.mark.parametrize("grad_dtype", DTYPES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", [*LAYOUTS, *BROADCAST])
@pytest.mark.parametrize("rule", ["SGD", "Adam", "LAMB", "Adafactor", "Prodigy", "Muon"])
def test_gradients_of_any_layout_are_read_in_one_call(rule, layout, dtype, grad_dtype, planned, steps):
    rng = np.random.default_rng(0)
    expected = arrays(rule, rng, dtype)
    params = [p.copy() for p in expected]
    ref, opt = getattr(reference, rule)(), getattr(fastopt, rule)()
    for _ in range(3):
        grads = [(LAYOUTS | BROADCAST)[layout](g) for g in arrays(rule, rng, grad_dtype)]
        bits = snapshot(grads)
        ref.update(expected, [np.array(g, dtype) for g in grads])
        opt.update(params, grads)
        assert snapshot(grads) == bits
    assert_same(ref, opt, expected, params)
    assert len(planned) == 1
    assert (opt.engine.plan.drive is not None) is (
        rule != "Muon"
    )  # between whose passes are products of matrices
    assert len(steps) == (3 if rule in ("Muon", "Prodigy") else 1)  # whose scalars depend on all arrays


@needs_jit
@pytest.mark.parametrize("grad", ["C", "same", "moved"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("rule", ["SGD", "Adam", "LAMB", "Adafactor", "Prodigy", "Muon"])
def test_parameters_of_any_layout_are_updated_in_one_call(rule, layout, dtype, grad, planned, steps):
    rng = np.random.default_rng(0)
    expected = arrays(rule, rng, dtype)
    params = [LAYOUTS[layout](p) for p in expected]
    before = list(params)
    ref, opt = getattr(reference, rule)(), getattr(fastopt, rule)(ema=0.5)
    for _ in range(3):
        grads = arrays(rule, rng, dtype)
        ref.update(expected, grads)
        opt.update(params, [LAYOUTS[layout if grad == "same" else grad](g) for g in grads])
    assert_same(ref, opt, expected, params)
    assert all(one is other for one, other in zip(params, before, strict=True))
    assert len(planned) == 1
    assert (opt.engine.plan.drive is not None) is (rule != "Muon")


@pytest.mark.parametrize(
    "options", [{}, {"ema": 0.5, "lookahead": (2, 0.25)}, {"weight_decay": 0.25, "clip_norm": 1.0}]
)
@pytest.mark.parametrize("dtype", DTYPES)
def test_memory_around_a_strided_parameter_stays_as_it_is(dtype, options):
    rng = np.random.default_rng(0)
    for shape in ((7, 5), (2, 5000), (5000, 2), (3, 4, 5)):
        whole = rng.standard_normal(tuple(3 * n + 1 for n in shape)).astype(dtype)
        inside = tuple(slice(1, None, 3) for _ in shape)
        before, mask = whole.copy(), np.ones(whole.shape, bool)
        mask[inside] = False
        opt = Adam(0.5, **options)
        for _ in range(2):
            opt.update([whole[inside]], [rng.standard_normal(shape).T.copy().T])
        assert whole[mask].tobytes() == before[mask].tobytes()
        assert (whole[inside] != before[inside]).all()


# What compiled code can't read: for the parameter, for the gradient, or for both.
APART = {
    "float16": lambda a, is_param: a.astype("f2"),
    "byte-swapped": lambda a, is_param: a.astype(a.dtype.newbyteorder()),
    "subclass": lambda a, is_param: a.view(Sub),
    "number": lambda a, is_param: float(a.flat[0]),
    "NumPy number": lambda a, is_param: a.dtype.type(a.flat[0]),
    "unaligned": lambda a, is_param: unaligned(a),
    "integers": lambda a, is_param: a if is_param else (4 * a).astype("i4"),
}


class Sub(np.ndarray):
    pass


def unaligned(a):
    result = np.zeros(a.nbytes + 1, np.uint8)[1:].view(a.dtype).reshape(a.shape)
    result[...] = a
    return result


@needs_jit
@pytest.mark.parametrize("which", ["param", "grad", "both"])
@pytest.mark.parametrize("kind", APART)
@pytest.mark.parametrize("rule", ["SGD", "Adam", "LAMB", "Prodigy"])
def test_what_leaves_compiled_code_does_so_alone(rule, kind, which, planned):
    """The others of the step stay in it, and the plan is kept."""
    if kind in ("number", "NumPy number") and which == "param":
        which = "both"
    rng = np.random.default_rng(0)
    shapes = [(6, 5), (4, 3), (30,)]

    def change(array, is_param):
        is_wanted = which == "both" or which == ("param" if is_param else "grad")
        if not is_wanted:
            return array
        array = array if "number" not in kind.lower() else array.reshape(-1)[:1]
        return APART[kind](array, is_param)

    start = [rng.standard_normal(shape) for shape in shapes]
    params = [start[0].copy(), change(start[1].copy(), True), np.asfortranarray(start[2])]
    if "number" in kind.lower() and which == "grad":
        params[1] = np.array(start[1].flat[0])
    expected = [copy.deepcopy(p) if not isinstance(p, np.ndarray) else np.array(p, native(p)) for p in params]
    ref, opt, kinds = getattr(reference, rule)(), getattr(fastopt, rule)(), list(map(type, params))
    for _ in range(3):
        given = [rng.standard_normal(shape) for shape in shapes]
        grads = [np.asfortranarray(given[0]), change(given[1], False), given[2].astype("f4")]
        ref.update(expected, [np.array(g, native(g)) if isinstance(g, np.ndarray) else g for g in grads])
        opt.update(params, grads)
    for before, one, other in zip(kinds, expected, params, strict=True):
        assert type(other) is before
        assert np.asarray(one).tolist() == np.asarray(other).tolist()
    assert len(planned) == 1
    plan = opt.engine.plan
    assert plan is not None
    modes = [(entry.param.mode, entry.grad.mode) for entry in plan.main.entries]
    assert modes[0] == (DIRECT, GATHERED)
    assert modes[2] == (DIRECT, GATHERED)
    is_changed = which != "param" or kind != "integers"
    assert bool({STAGED, NUMBER} & {*modes[1]}) is is_changed


def native(array):
    return array.dtype.newbyteorder("=") if isinstance(array, np.ndarray) else None


@needs_jit
def test_arrays_that_are_others_at_each_step_keep_the_plan(planned, steps):
    """As weight constraints and functional code make them."""
    rng = np.random.default_rng(0)
    for make in (lambda a: a.copy(), lambda a: np.repeat(a, 2, -1)[..., ::2]):
        planned.clear()
        steps.clear()
        params = {
            "W": rng.standard_normal((6, 5)),
            "b": rng.standard_normal(5),
            "large": rng.standard_normal(900),
        }
        expected = copy.deepcopy(params)
        ref, opt = reference.Adam(), Adam()
        kept = []
        params = {key: make(p) for key, p in params.items()}
        for _ in range(20):
            grads = {key: rng.standard_normal(p.shape) for key, p in params.items()}
            ref.update(expected, grads)
            opt.update(params, {key: make(g) for key, g in grads.items()})
            kept.append(params)  # so that new arrays are elsewhere
            params = {key: make(p) for key, p in params.items()}
            assert all(np.array_equal(params[key], expected[key]) for key in params)
        assert (len(planned), len(steps)) == (1, 1)


def test_an_overlap_that_comes_later_is_noticed():
    """Arrays that share memory are updated one after the other, as the reference does it."""
    rng = np.random.default_rng(0)
    for rule in ("Momentum", "Adam", "LAMB", "Prodigy"):
        results = []
        for module in (reference, fastopt):
            rng = np.random.default_rng(0)
            opt = getattr(module, rule)()
            memory = rng.standard_normal(40)
            a, b, c = memory[:10], memory[10:20], memory[30:40]
            grads = [rng.standard_normal(10) for _ in range(3)]
            sets = [
                ([a, b, c], grads),
                ([a, memory[5:15], c], grads),  # two parameters
                ([a, b, c], grads),
                ([a, b, c], [grads[0], a, grads[2]]),  # a gradient that is an earlier parameter
                ([a, b, c], [grads[0], grads[1], memory[25:35]]),  # a part of its own parameter
                ([a, b, c], [memory[11:21], grads[1], grads[2]]),  # a part of a later one
                ([a, b, c], grads),
                ([a, a, c], grads),
                ([memory[20:30], b, c], grads),  # apart again, elsewhere
                ([memory[20:30][::-1], b, c], grads),
                ([memory[0:20:2], memory[1:20:2], c], grads),  # interleaved: only their ranges overlap
            ]
            for params, slopes in sets:
                opt.update(list(params), list(slopes))
                opt.update(list(params), list(slopes))
            results.append(
                [memory, *(getattr(opt, name)[i] for name in fastopt_states(rule) for i in range(3))]
            )
        assert snapshot(results[0]) == snapshot(results[1]), rule


def fastopt_states(rule):
    return getattr(fastopt, rule).states


@needs_jit
def test_after_an_overlap_the_step_of_before_is_still_known(planned):
    memory, opt = np.ones(40), SGD(0.5)
    a, b = memory[:10], memory[20:30]
    for params in ([a, b], [a, memory[5:15]], [a, b], [a, b]):
        opt.update(params, [np.ones(10), np.ones(10)])
    assert len(planned) == 2


# What is not as it says.


class Liar(list):
    """A list whose length is whatever it is told."""

    says = None

    def __len__(self):
        return self.says


class LyingDict(OrderedDict):
    def __len__(self):
        return 1000


@pytest.mark.parametrize("says", [0, 1, 2, 1000])
@pytest.mark.parametrize("which", ["params", "grads", "both"])
def test_lists_whose_length_lies(which, says):
    opt = Adam()
    params, grads = [np.ones(3), np.ones((2, 2))], [np.ones(3), np.ones((2, 2))]
    opt.update(params, grads)
    before = snapshot(params)
    given = [Liar(params), Liar(grads)]
    for one in given:
        one.says = says
    if which == "params":
        given[1] = grads
    elif which == "grads":
        given[0] = params
    for _ in range(3):
        try:
            opt.update(*given)
        except (ValueError, IndexError):
            assert snapshot(params) == before
        else:
            assert snapshot(params) != before
            before = snapshot(params)
    assert opt.update(params, grads) is True


def test_a_dict_whose_length_lies():
    params = LyingDict(a=np.ones(3))
    opt, ref = Adam(), Adam()
    twin = {"a": np.ones(3)}
    for _ in range(3):
        opt.update(params, LyingDict(a=np.ones(3)))
        ref.update(twin, {"a": np.ones(3)})
    assert same_bits(params["a"], twin["a"])


F8 = np.dtype("f8")
BUFFERS = {
    "emptied": lambda buffers: buffers.clear(),
    "one more": lambda buffers: buffers.update({np.dtype("f4"): buffers[F8].astype("f4")}),
    "shorter": lambda buffers: buffers.update({F8: buffers[F8][:-1]}),
    "longer": lambda buffers: buffers.update({F8: np.ones(50)}),
    "another dtype": lambda buffers: buffers.update({F8: buffers[F8].astype("f4")}),
    "None": lambda buffers: buffers.update({F8: None}),
    "read-only": lambda buffers: buffers.update({F8: np.broadcast_to(np.float64(1), buffers[F8].shape)}),
}


@pytest.mark.parametrize("started", [False, True])
@pytest.mark.parametrize("which", ["params", "grads"])
@pytest.mark.parametrize("change", BUFFERS)
def test_buffers_of_a_packed_container_that_were_changed(change, which, started):
    params = pack({"a": np.ones(3), "b": np.ones((2, 2))})
    grads = params.like()
    grads.buffer[:] = 0.5
    opt = Adam()
    if started:
        opt.update(params, grads)
        opt.update(params, grads)
    before, state, kept = snapshot(params), state_bytes(opt), params.buffer
    BUFFERS[change]({"params": params, "grads": grads}[which].buffers)
    if change == "read-only" and which == "grads":
        assert opt.update(params, grads)
        return
    match = "is read-only" if change == "read-only" else f"buffers of packed {which[:4]}.* were replaced"
    with pytest.raises(ValueError, match=match):
        opt.update(params, grads)
    assert snapshot(params) == before
    assert state_bytes(opt) == state
    assert kept.tolist() == np.concatenate([p.ravel() for p in params.values()]).tolist()


@pytest.mark.parametrize("scalars", [(), (0.5, 0.5), (0.5,) * 50, ("no",), (None,)])
@pytest.mark.parametrize("options", [{}, {"ema": 0.5}])
def test_scalars_of_a_rule_that_change_their_number(scalars, options, monkeypatch):
    params, grads, opt = [np.ones(3)], [np.ones(3)], SGD(0.5, **options)
    opt.update(params, grads)
    before, state = snapshot(params), state_bytes(opt)
    monkeypatch.setattr(SGD, "scalars", lambda self, t: scalars)
    for _ in range(2):
        with pytest.raises((ValueError, TypeError, RuntimeError)):
            opt.update(params, grads)
        assert snapshot(params) == before
        assert state_bytes(opt) == state
    monkeypatch.setattr(SGD, "scalars", lambda self, t: (np.float64(0.5),))
    opt.update(params, grads)
    assert params[0].tolist() == [0.0] * 3


def test_integers_as_scalars_are_taken(monkeypatch):
    params, grads, opt = [np.ones(3)], [np.ones(3)], SGD(0.5)
    monkeypatch.setattr(SGD, "scalars", lambda self, t: (1,))
    for _ in range(3):
        opt.update(params, grads)
    assert params[0].tolist() == [-2.0] * 3


DEFAULTS = """
import sys
import numpy as np
import fastopt
from fastopt import pack
zeros, empty, ones, full, array = np.zeros, np.empty, np.ones, np.full, np.array

def replaced():  # as nnfs.init() does, and more
    np.zeros = lambda shape, dtype=np.float32, *rest, **named: zeros(shape, dtype, *rest, **named)
    np.empty = lambda shape, dtype=np.float32, *rest, **named: empty(shape, dtype, *rest, **named)
    np.ones = lambda shape, dtype=np.float32, *rest, **named: ones(shape, dtype, *rest, **named)

def train():
    out = []
    for rule in fastopt.rules():
        for options in ({}, {"ema": 0.5, "clip_norm": 1.0, "accumulate": 2, "nonfinite": "skip"}):
            rng = np.random.default_rng(0)
            params = [rng.standard_normal((40, 30)), rng.standard_normal((5, 6)).astype("f4"),
                      rng.standard_normal((8, 6))[:, ::2]]
            opt = getattr(fastopt, rule.name)(**options)
            for _ in range(4):
                opt.update(params, [rng.standard_normal(p.shape) for p in params])
            out.append([p.tobytes() for p in params])
            if rule.name not in ("Muon", "AdaMuon") and not options:
                params = pack({"a": ones(5), "b": ones(4, "f4")})
                for _ in range(2):
                    opt = getattr(fastopt, rule.name)()
                    opt.update(params, pack({"a": ones(5), "b": ones(4, "f4")}))
                out.append([p.tobytes() for p in params.values()])
    return out

before = train()
replaced()
print(before == train())
"""


def test_functions_of_numpy_with_other_defaults():
    assert python(DEFAULTS)[0] == "True\n"


# Steps within steps, as handlers of signals, schedules and groups may take them.


class Within(Adam):
    """Adam that is asked for its scalars by someone who does something else meanwhile."""

    def scalars(self, t):
        if self.todo:
            self.todo.pop()()
        return super().scalars(t)

    todo = ()


def within(opt, *calls):
    Within.todo = list(calls)


@pytest.fixture(autouse=True)
def nothing_to_do():
    yield
    Within.todo = ()


@pytest.mark.parametrize("started", [0, 1, 2])
@pytest.mark.parametrize("kind", ["plain", "mixed", "apart", "ema", "overlapping", "sparse"])
def test_a_step_within_a_step(kind, started):
    """It comes first; the other one then goes on from there."""

    def make():
        a = np.linspace(0, 1, 40)
        return {
            "plain": [np.ones(3), np.ones((2, 2))],
            "mixed": [np.ones(3, "f4"), np.ones((2, 2)).T],
            "apart": [np.ones(3, ">f8"), 1.0, np.ones(2)],
            "ema": [np.ones(3), np.ones((2, 2))],
            "overlapping": [a[:20], a[10:30]],
            "sparse": [np.ones((4, 2)), np.ones(3)],
        }[kind]

    def slopes(value):
        grads = [np.full(np.shape(p), value) for p in make()]
        if kind == "sparse":
            grads[0] = fastopt.Rows([1, 3] if value < 1 else [0], np.full((2 if value < 1 else 1, 2), value))
        return grads

    named = {"ema": 0.5} if kind == "ema" else {"rows": "lazy"} if kind == "sparse" else {}
    params, twins = make(), make()
    opt, twin = Within(0.1, **named), Adam(0.1, **named)
    for _ in range(started):
        opt.update(params, slopes(1.0))
        twin.update(twins, slopes(1.0))
    within(opt, lambda: opt.update(params, slopes(0.5)))
    assert opt.update(params, slopes(2.0)) is True
    twin.update(twins, slopes(0.5))
    twin.update(twins, slopes(2.0))
    for value in (0.25, 3.0):
        opt.update(params, slopes(value))
        twin.update(twins, slopes(value))
    if kind == "apart":  # the outer step's number was read before the inner one: the last to write it wins
        params, twins = [params[0], params[2]], [twins[0], twins[2]]
    assert snapshot(params) == snapshot(twins)
    assert opt.iter == twin.iter == started + 4


@pytest.mark.parametrize("started", [0, 1, 2])
def test_a_step_on_others_within_a_step(started):
    params, twins = ([np.ones(3), np.ones(4)] for _ in range(2))
    params, twins = ({"a": pair[0], "b": pair[1]} for pair in (params, twins))
    opt, twin = Within(0.1), Adam(0.1)
    for _ in range(started):
        opt.update(params, {key: p * 1 for key, p in params.items()})
        twin.update(twins, {key: p * 1 for key, p in twins.items()})
    one = {"a": params["a"]}
    within(
        opt,
        lambda: opt.update({"c": np.ones(2)}, {"c": np.ones(2)}),
        lambda: opt.update(one, {"a": np.ones(3)}),
    )
    opt.update(params, {"a": np.full(3, 0.5), "b": np.full(4, 0.5)})
    within(opt)
    twin.update({"a": twins["a"]}, {"a": np.ones(3)})
    twin.update(twins, {"a": np.full(3, 0.5), "b": np.full(4, 0.5)})
    opt.update(params, params)
    twin.update(twins, twins)
    assert snapshot(params) == snapshot(twins)
    assert all(same_bits(opt.m[key], twin.m[key]) for key in "ab")


@pytest.mark.parametrize(
    "change", ["load", "load another", "drop_state", "iter", "pickle", "lr", "groups", "nonfinite"]
)
@pytest.mark.parametrize("started", [1, 2])
@pytest.mark.parametrize("strided", [False, True])
def test_a_change_within_a_step(change, started, strided):
    """The step then goes on from what there is: nothing of a checkpoint that was loaded is lost."""

    def make():
        return {"a": np.ones((3, 2)), "b": np.ones(4)}

    params, twins = make(), make()
    opt, twin = Within(0.1), Adam(0.1)
    for _ in range(started):
        opt.update(params, make())
        twin.update(twins, make())
    loaded = Adam(0.1, 0.5)
    for _ in range(5):
        loaded.update(make(), {"a": np.full((3, 2), 7.0), "b": np.full(4, 7.0)})
    state, own_state = loaded.state_dict(), opt.state_dict()
    changes = {
        "load": lambda o, own: o.load_state_dict(own_state | {"class": own}),
        "load another": lambda o, own: o.load_state_dict(state | {"class": own}),
        "drop_state": lambda o, own: o.drop_state("a"),
        "iter": lambda o, own: setattr(o, "iter", 7),
        "pickle": lambda o, own: copy.deepcopy(o),
        "lr": lambda o, own: setattr(o, "lr", 0.5),
        "groups": lambda o, own: setattr(o, "groups", {"b": {"lr_scale": 0.5}}),
        "nonfinite": lambda o, own: setattr(o, "nonfinite", "skip"),
    }
    grads = {"a": np.full((3, 4), 0.5)[:, ::2] if strided else np.full((3, 2), 0.5), "b": np.full(4, 0.5)}
    within(opt, lambda: changes[change](opt, "Within"))
    opt.update(params, grads)
    changes[change](twin, "Adam")
    twin.update(twins, grads)
    if change != "groups":  # of which the step had its own before
        assert snapshot(params) == snapshot(twins)
    assert opt.iter == twin.iter
    for _ in range(2):
        opt.update(params, make())
        twin.update(twins, make())
    if change != "groups":
        assert snapshot(params) == snapshot(twins)
    assert (
        state_bytes(opt)["counts" if "counts" in state_bytes(opt) else "iter"]
        == (state_bytes(twin)["counts" if "counts" in state_bytes(twin) else "iter"])
    )
    assert all(same_bits(opt.m[key], twin.m[key]) for key in twins)


# What a plan is for.


@pytest.mark.parametrize("rule", RULES)
def test_more_and_fewer_parameters_in_turn(rule):
    """A plan for memory that was replaced is never used again."""
    rng = np.random.default_rng(0)
    opt, ref = getattr(fastopt, rule)(), options.Optimizer(getattr(reference, rule))
    params = {key: rng.standard_normal((4, n + 1)) for n, key in enumerate("abcde")}
    expected = copy.deepcopy(params)
    gc.freeze()  # else a collection takes a second in a process that has imported much
    for names in ("a", "ab", "a", "abc", "ab", "a", "abcde", "a", "e", "de", "abcde"):
        for _ in range(2):
            grads = {key: rng.standard_normal(params[key].shape) for key in names}
            opt.update({key: params[key] for key in names}, grads)
            ref.update({key: expected[key] for key in names}, grads)
            gc.collect()
            trash = [np.full(1000, -1) for _ in range(30)]  # so that freed memory is written
            del trash
        assert all(same_bits(params[key], expected[key]) for key in params), names
    gc.unfreeze()


@pytest.mark.parametrize("kind", ["plain", "strided", "number", "options"])
def test_a_step_keeps_no_array(kind):
    opt = Adam(**({"ema": 0.5, "clip_norm": 1.0} if kind == "options" else {}))
    params = [
        np.ones((50, 2))[:, 0] if kind == "strided" else np.ones(50),
        1.0 if kind == "number" else np.ones(3),
    ]
    for _ in range(3):
        grads = [np.ones((50, 2))[:, 1], 1.0 if kind == "number" else np.ones(3)]
        seen = weakref.ref(grads[0])
        opt.update(params, grads)
        del grads
        assert seen() is None


@needs_jit
@pytest.mark.skipif(available() < 2, reason="one core")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rule", ["SGD", "Adam", "LAMB", "Adafactor", "Prodigy", "Muon"])
def test_threads_that_gather_have_the_same_bits(rule, dtype):
    rng = np.random.default_rng(0)
    shapes = [(300, 101), (2, 30_000), (30_000, 2), (9, 70, 41), (65,), (5, 4)]
    shapes = [shape for shape in shapes if takes(rule, shape)]
    layouts = list(LAYOUTS)
    start = [LAYOUTS[layouts[i % 7]](rng.standard_normal(s).astype(dtype)) for i, s in enumerate(shapes)]
    grads = [
        LAYOUTS[layouts[(3 * i + 1) % 7]](rng.standard_normal(s).astype(DTYPES[i % 2]))
        for i, s in enumerate(shapes)
    ]
    results = []
    for threads in (1, 2):
        params = [LAYOUTS[layouts[i % 7]](np.array(p)) for i, p in enumerate(start)]
        opt = getattr(fastopt, rule)(threads=threads, ema=0.5)
        for _ in range(3):
            opt.update(params, grads)
        assert opt.engine.plan.n_threads == threads
        results.append([*snapshot(params), state_bytes(opt)])
    assert results[0] == results[1]
    expected = [np.array(p) for p in start]
    ref = getattr(reference, rule)()
    for _ in range(3):
        ref.update(expected, [np.array(g, dtype) for g in grads])
    assert [np.array(p).tobytes() for p in expected] == [np.array(p).tobytes() for p in params]


@pytest.mark.long
@pytest.mark.parametrize("kind", ["plain", "groups", "strided", "overlapping"])
def test_many_arrays_are_planned_in_linear_time(kind):
    """Four times the arrays take four times as long, not sixteen."""

    def seconds(count):
        params, grads = ([np.ones(2) for _ in range(count)] for _ in range(2))
        if kind == "strided":
            grads = [np.ones(4)[::2] for _ in range(count)]
        opt = SGD(groups={0: {"lr_scale": 2.0}} if kind == "groups" else None)
        start = time.thread_time()  # other processes don't count
        opt.update(params, params[:] if kind == "overlapping" else grads)
        return time.thread_time() - start

    seconds(100)
    counts = (500, 2000) if kind == "overlapping" else (2000, 8000)  # which are updated one by one
    few, many = (min(seconds(count) for _ in range(3)) for count in counts)
    assert many / few < 8


def test_a_step_does_not_import_what_it_does_not_need():
    """`numpy.ma` takes 10 ms or more."""
    code = """
import sys, numpy as np, fastopt
for params in ([np.ones(3)], [np.ones(3), 1.0, np.ones((3, 2)).T]):
    fastopt.Adam().update(params, list(params))
print("numpy.ma" in sys.modules)
"""
    assert python(code, FASTOPT_COMPILE="now")[0] == "False\n"


def test_calls_keep_alive_what_they_have_addresses_of():
    optimizer = SGD(0.5)
    param = np.ones(3)
    step = Step(optimizer, Arrays([0], [param], [param], [param]))  # overlapping: the plan isn't kept
    plan, first, then = optimizer.engine.prepare(step)
    known = weakref.ref(plan)
    del plan, step
    gc.collect()
    assert known() is not None
    del first, then
    gc.collect()
    assert known() is None


@pytest.mark.parametrize("rule", ["SGD", "Adam"])
def test_containers_that_share_some_keys_take_turns_by_the_plans_that_are_there(rule, monkeypatch):
    """As the book's networks with and without batch normalization, of one optimizer."""
    made = []
    make = Engine._make_plan
    monkeypatch.setattr(Engine, "_make_plan", lambda *a: made.append(1) or make(*a))
    some, more = ("a", "b"), ("a", "b", "c")
    nets, refs = ([{key: np.ones(3) for key in keys} for keys in (some, more)] for _ in range(2))
    optimizer, alone = getattr(fastopt, rule)(), {}
    for step in range(30):
        for net, expected in zip(nets, refs, strict=True):
            grads = {key: np.full(3, 0.1 * step + len(net)) for key in net}
            optimizer.update(net, grads)
            for key, param in expected.items():  # each parameter has its own history
                own = alone.setdefault(key, getattr(reference, rule)())
                own.update({0: param}, {0: grads[key]})
    assert all(same_bits(nets[i][key], refs[i][key]) for i in (0, 1) for key in nets[i])
    # One each, one when the counts differ for the first time, and one when there is compiled code.
    assert len(made) <= 6
