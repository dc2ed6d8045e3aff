"""The rules as functions on arrays of the caller's: the steps of the classes, and nothing kept."""

import gc
import inspect
import pickle
import pydoc
import weakref

import numpy as np
import pytest
from cases import DTYPES, RULES, takes
from matrix import HYPERPARAMETERS
from test_compiled import needs_jit

import fastopt
from fastopt import functional
from fastopt.functional import calls

FUNCTIONS = {rule: getattr(functional, name) for name, rule in functional.RULES.items()}
MODES = ["never", pytest.param("now", marks=needs_jit)]


def laid_out(array, layout):
    """Return an array in a memory layout."""
    if layout == "fortran":
        return np.asfortranarray(array)
    if layout == "strided":
        return np.repeat(array, 2, axis=-1)[..., ::2]
    return array.copy()


def arrays(seed, dtype, n=4, shape=(6, 5)):
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(shape).astype(dtype) for _ in range(n)]


def step_of(rule, t):
    """Return the argument t, if the rule takes it."""
    return {"t": t} if "t" in inspect.signature(FUNCTIONS[rule]).parameters else {}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("layout", "dtype"),
    [*(("plain", dtype) for dtype in DTYPES), ("fortran", "float32"), ("strided", "float64")],
)
@pytest.mark.parametrize("rule", RULES)
def test_steps_have_the_bits_of_the_class(rule, dtype, layout, mode, monkeypatch):
    monkeypatch.setenv("FASTOPT_COMPILE", mode)
    start, *grads = arrays(1, dtype, 5)
    param, twin, step = laid_out(start, layout), laid_out(start, layout), FUNCTIONS[rule]
    optimizer, states = getattr(fastopt, rule)(), step.states(param, grads[0])
    for t, grad in enumerate(grads, 1):
        step(param, grad, *states, **step_of(rule, t))
        optimizer.update([twin], [grad])
        assert param.tobytes() == twin.tobytes(), t
        for name, state in zip(optimizer.states, states, strict=True):
            assert state.tobytes() == getattr(optimizer, name)[0].tobytes(), (t, name)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("rule", [rule for rule in RULES if takes(rule, (3,))])
def test_lists_of_arrays(rule, mode, monkeypatch):
    monkeypatch.setenv("FASTOPT_COMPILE", mode)
    shapes = [(4, 3), (3,), (2, 2, 2)]

    def some(seed):
        return [arrays(seed + i, "float64", 1, shape)[0] for i, shape in enumerate(shapes)]

    params, twins, step = some(0), some(0), FUNCTIONS[rule]
    optimizer, states = getattr(fastopt, rule)(), step.states(params, some(10))
    for t in range(1, 5):
        step(params, some(10 * t), *states, **step_of(rule, t))
        optimizer.update(twins, some(10 * t))
    assert [p.tobytes() for p in params] == [p.tobytes() for p in twins]


@needs_jit
def test_the_second_step_is_one_call(monkeypatch):
    """Also of other arrays of the same shapes, in turn."""
    param, grad, other, m, v = arrays(0, "float64", 5)
    functional.adam(param, grad, m, v**2, t=1)
    monkeypatch.setattr(calls.Calls, "take_anew", lambda *_: pytest.fail("planned anew"))
    for t in range(2, 5):
        functional.adam(param, grad, m, v**2, t=t)
        functional.adam(other, grad, *(np.zeros_like(m) for _ in "mv"), t=t, lr=0.1 / t)


@needs_jit
def test_compiled_code_takes_over(monkeypatch):
    def run(switch_at):
        param, *grads = arrays(0, "float32", 7)
        states = functional.adam.states(param)
        for t, grad in enumerate(grads, 1):
            monkeypatch.setenv("FASTOPT_COMPILE", "now" if t >= switch_at else "never")
            from fastopt.engine.compiling.background import background

            background.n_arrived += 1
            functional.adam(param, grad, *states, t=t)
        return param.tobytes(), *(state.tobytes() for state in states)

    assert len({run(switch_at) for switch_at in range(1, 8)}) == 1


@pytest.mark.parametrize("mode", MODES)
def test_states_of_other_dtypes_and_layouts(mode, monkeypatch):
    """They are rounded to and from the parameter's dtype, as nothing else can be done to them."""
    monkeypatch.setenv("FASTOPT_COMPILE", mode)
    param, grad, other = arrays(0, "float32", 3)
    twin = param.copy()
    m, v = np.zeros((6, 10))[:, ::2], np.zeros((5, 6), "float32").T
    optimizer = fastopt.Adam()
    for t in range(1, 4):
        functional.adam(param, grad, m, v, t=t)
        optimizer.update([twin], [grad])
    assert param.tobytes() == twin.tobytes()
    assert m.astype("float32").tobytes() == optimizer.m[0].tobytes()
    # Contiguous ones are a kind of their own.
    m, v = np.zeros((2, 6, 5), "float32")
    functional.adam(other, grad, m, v, t=1)
    assert m.any()


@pytest.mark.parametrize("mode", MODES)
def test_options_and_schedules(mode, monkeypatch):
    monkeypatch.setenv("FASTOPT_COMPILE", mode)
    param, *grads = arrays(0, "float64")
    twin, (v,) = param.copy(), functional.momentum.states(param)
    optimizer = fastopt.Momentum(weight_decay=0.1, maximize=True)
    for t, grad in enumerate(grads, 1):
        optimizer.lr = 0.1 / t
        functional.momentum(param, grad, v=v, lr=0.1 / t, weight_decay=0.1, maximize=True)
        optimizer.update([twin], [grad])
    assert param.tobytes() == twin.tobytes()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("rule", "arguments"),
    [
        ("SGDM", {"dampening": 0.25}),
        ("AdaGrad", {"lr_decay": 0.5}),
        ("RMSprop", {"bias_correction": True}),
        ("RMSpropMomentum", {"bias_correction": True}),
    ],
)
def test_arguments_with_which_a_function_needs_the_step(rule, arguments, mode, monkeypatch):
    monkeypatch.setenv("FASTOPT_COMPILE", mode)
    param, *grads = arrays(0, "float64")
    twin, states = param.copy(), FUNCTIONS[rule].states(param, **arguments)
    optimizer = getattr(fastopt, rule)(**arguments)
    for t, grad in enumerate(grads, 1):
        optimizer.update([twin], [grad])
        FUNCTIONS[rule](param, grad, *states, t=t, **arguments)
        assert param.tobytes() == twin.tobytes(), t
    FUNCTIONS[rule](param, grad, *states)  # without them it needs none


@pytest.mark.parametrize("rule", RULES)
def test_no_function_forgets_an_argument_with_which_it_needs_the_step(rule):
    cls = getattr(fastopt, rule)
    if "t" in inspect.signature(FUNCTIONS[rule]).parameters and not cls.step_arguments:
        return  # it always needs it
    own = [name for name in HYPERPARAMETERS if name in inspect.signature(cls).parameters]
    optimizers = {name: cls(**{name: HYPERPARAMETERS[name]}) for name in own}
    found = [name for name, some in optimizers.items() if some.scalars(1) != some.scalars(7)]
    assert sorted(found) == sorted(cls.step_arguments)


@needs_jit
def test_threads_of_large_arrays_and_of_the_caller():
    from concurrent.futures import ThreadPoolExecutor

    fastopt.set_num_threads(2)
    try:
        starts = [arrays(i, "float32", 2, (40_000,)) for i in range(6)]

        def train(start):
            param, grad = (array.copy() for array in start)
            states = functional.adam.states(param)
            for t in range(1, 30):
                functional.adam(param, grad, *states, t=t)
            return param.tobytes()

        expected = [*map(train, starts)]
        with ThreadPoolExecutor(4) as pool:
            assert [*pool.map(train, starts)] == expected
    finally:
        fastopt.set_num_threads(None)


@pytest.mark.parametrize("mode", MODES)
def test_no_array_is_kept(mode, monkeypatch):
    monkeypatch.setenv("FASTOPT_COMPILE", mode)
    given = arrays(0, "float64")
    given[3] **= 2
    for t in range(1, 4):
        functional.adam(*given, t=t)
    seen = [weakref.ref(array) for array in given]
    del given
    gc.collect()
    assert [array() for array in seen] == [None] * 4


W, DW, M, V = arrays(0, "float64")
WRONG = {
    "integers": (lambda: functional.sgd(np.arange(3), W), TypeError, "'param' is int64: .*astype"),
    "a number": (lambda: functional.sgd(1.5, 1.0), TypeError, "'param' is a number .*make it a 0-d array"),
    "a list": (lambda: functional.sgd([W], DW), TypeError, "grad must be a list of 1 arrays, as param is"),
    "too few": (lambda: functional.adam(W, DW, M, t=1), TypeError, "param, grad, m, v, not 3 of them"),
    "no step": (lambda: functional.adam(W, DW, M, V), TypeError, r"adam\(\) needs t, the number of this"),
    "no step with dampening": (
        lambda: functional.sgdm(W, DW, M, dampening=0.5),
        TypeError,
        r"sgdm\(\) needs t, the number of this step, from 1, with dampening$",
    ),
    "step 0": (lambda: functional.adam(W, DW, M, V, t=0), ValueError, "t must be at least 1, not 0"),
    "shape": (lambda: functional.sgd(W, DW[0]), ValueError, r"gradient of 'param' has shape \(5,\)"),
    "state's shape": (
        lambda: functional.momentum([W], [DW], [M[0]]),
        ValueError,
        r"v\[0\] must have shape \(6, 5\), not \(5,\)",
    ),
    "state": (
        lambda: functional.momentum(W, DW, 0.0),
        TypeError,
        "v must be an array of floats, not a float",
    ),
    "argument": (lambda: functional.sgd(W, DW, rate=1), TypeError, r"sgd\(\) has no 'rate'; there are lr, "),
    "value": (lambda: functional.sgd(W, DW, lr=-1), ValueError, "lr must be at least 0"),
    "memory": (lambda: functional.momentum(W, DW, W), ValueError, "v shares memory with another array"),
    "read-only": (
        lambda: functional.momentum(W, DW, np.broadcast_to(1.0, W.shape)),
        ValueError,
        "v is read-only",
    ),
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("case", WRONG)
def test_errors_name_what_is_wrong_before_anything_changes(case, mode, monkeypatch):
    monkeypatch.setenv("FASTOPT_COMPILE", mode)
    functional.momentum(W.copy(), DW, M.copy())  # so that there is a plan
    call, error, message = WRONG[case]
    before = [array.tobytes() for array in (W, DW, M, V)]
    with pytest.raises(error, match=message):
        call()
    assert [array.tobytes() for array in (W, DW, M, V)] == before


@pytest.mark.parametrize("name", functional.RULES)
def test_each_function_is_documented(name):
    function = getattr(functional, name)
    text = pydoc.render_doc(function, renderer=pydoc.plaintext)
    assert f"{name}(param, grad" in text
    for parameter in inspect.signature(function).parameters:
        assert any(
            parameter in line.split(" : ")[0].replace(",", " ").split()
            for line in inspect.getdoc(function).splitlines()
            if " : " in line
        ), parameter
    assert name in dir(functional)
    assert pickle.loads(pickle.dumps(function)) is function


def test_a_function_that_there_is_not():
    with pytest.raises(AttributeError, match="has no attribute 'adm'"):
        _ = functional.adm


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("rule", ["LAMB", "LARS", "NovoGrad", "Adafactor", "ScheduleFreeAdamW", "AdamW"])
def test_the_decay_of_a_rules_own_formula_counts_once(rule, mode, monkeypatch):
    monkeypatch.setenv("FASTOPT_COMPILE", mode)
    options = {"weight_decay": 0.1, "maximize": True}
    param, *grads = arrays(0, "float64", 5)
    twin, optimizer = param.copy(), getattr(fastopt, rule)(**options)
    states = FUNCTIONS[rule].states(param, grads[0], **options)
    for t, grad in enumerate(grads, 1):
        FUNCTIONS[rule](param, grad, *states, **step_of(rule, t), **options)
        optimizer.update([twin], [grad])
        assert param.tobytes() == twin.tobytes(), t


@pytest.mark.parametrize("mode", MODES)
def test_no_array_takes_the_place_of_another(mode, monkeypatch):
    monkeypatch.setenv("FASTOPT_COMPILE", mode)

    def some(n, value):
        return [np.full(3, value) for _ in range(n)]

    for _ in range(3):
        functional.momentum(some(2, 1.0), some(2, 1.0), some(2, 0.0))
    for n_grads, n_states in ((3, 1), (1, 3)):
        given = [some(2, 1.0), some(n_grads, 2.0), some(n_states, 3.0)]
        with pytest.raises(TypeError, match="must be a list of 2 arrays"):
            functional.momentum(*given)
        assert [float(a[0]) for own in given for a in own] == [1.0] * 2 + [2.0] * n_grads + [3.0] * n_states
    with pytest.raises(TypeError, match="grad must be a list of 2 arrays, as param is, not a ndarray"):
        functional.momentum(some(2, 1.0), np.ones((2, 3)), some(2, 0.0))


@pytest.mark.parametrize("mode", MODES)
def test_a_handler_takes_a_step_of_the_same_shapes(mode, monkeypatch):
    """Within another one: both are taken as if one came after the other."""
    monkeypatch.setenv("FASTOPT_COMPILE", mode)
    own, other, grad = (np.ones(3) for _ in range(3))
    v, w = np.zeros(3), np.zeros(3)
    for _ in range(3):
        functional.momentum(own, grad, v, lr=0.25, momentum=0.0)
    done, flat = [], calls.NEUTRAL_SCALARS

    class Interrupting(dict):
        def get(self, key, default=None):
            found = super().get(key, default)
            if not done and found is not None:
                done.append(1)
                functional.momentum(other, grad, w, lr=0.5, momentum=0.0)
            return found

    owner = functional.momentum.states.__self__
    monkeypatch.setattr(owner, "plans", Interrupting(owner.plans))
    functional.momentum(own, grad, v, lr=0.25, momentum=0.0)
    assert (own.tolist(), other.tolist()) == ([0.0] * 3, [0.5] * 3)
    assert flat == (1.0, 0.0, 1.0)


def test_tuples_are_lists():
    w, g = [np.ones(2), np.ones(3)], [np.ones(2), np.ones(3)]
    functional.sgd(tuple(w), tuple(g), lr=0.5)
    m, v = functional.adam.states(tuple(w))
    functional.adam(tuple(w), tuple(g), tuple(m), tuple(v), t=1)
    assert m[1].any()
    assert w[0].tolist() == w[1].tolist()[:2] != [0.5, 0.5]


def test_a_dict_is_sent_to_the_class():
    with pytest.raises(TypeError, match=r"such as list\(params.values\(\)\); the class SGD takes dicts"):
        functional.sgd({"W": np.ones(2)}, {"W": np.ones(2)})
