"""Averages of the parameters and Lookahead, against values worked out by hand, definitions, and optax."""

import copy

import numpy as np
import pytest
from cases import same_bits, snapshot

import fastopt


def problem(dtype="float64", steps=9):
    rng = np.random.default_rng(1)
    shapes = {"W": (7, 9), "F": (9, 5), "b": (9,), "s": ()}
    params = {key: np.asarray(rng.standard_normal(shape), dtype) for key, shape in shapes.items()}
    params["F"] = np.asfortranarray(params["F"])
    grads = [
        {key: np.asarray(rng.standard_normal(shape), dtype) for key, shape in shapes.items()}
        for _ in range(steps)
    ]
    return params, grads


KINDS = ["arrays", "threads", "packed", "two dtypes", "strided and numbers"]


def stepped(optimizer, kind="arrays", dtype="float64"):
    """Yield the parameters after each step."""
    params, grads = problem(dtype)
    if kind == "threads":
        for values in (params, *grads):
            values["W"] = np.resize(values["W"], (700, 90))
    if kind == "two dtypes":
        params["b"] = params["b"].astype("float32")
    if kind == "strided and numbers":
        params["W"] = np.repeat(params["W"][..., None], 2, -1)[..., 0]
        params["s"] = float(params["s"])
    if kind == "packed":
        params = fastopt.pack(params)
    for now in grads:
        given = params.like() if kind == "packed" else now
        if kind == "packed":
            given.update(now)
        optimizer.update(params, given)
        yield params


def slow_of(optimizer):
    return optimizer.state_dict()["state"]["lookahead.slow"]


def copied(params):
    return {key: np.array(param) for key, param in params.items()}


# From p = 8, with gradients of 4, -8, 1, -5 and a learning rate of 1: parameters, slow, average.
BY_HAND = [
    ({}, [4, 12, 11, 16], None, None),
    # 12 becomes 8 + (12 - 8) / 4; 13 becomes 9 + (13 - 9) / 4
    ({"lookahead": (2, 0.25)}, [4, 9, 8, 10], [8, 9, 9, 10], None),
    # 4 becomes 8 - 4 / 4; 15 becomes 7 + 8 / 4; 8 becomes 9 - 1 / 4; 13.75 becomes 8.75 + 5 / 4
    ({"lookahead": (1, 0.25)}, [7, 9, 8.75, 10], [7, 9, 8.75, 10], None),
    ({"lookahead": (3, 0.75)}, [4, 12, 10.25, 15.25], [8, 8, 10.25, 10.25], None),
    ({"lookahead": (2, 1.0)}, [4, 12, 11, 16], [8, 12, 12, 16], None),
    # weights of 1, 1/2, 1/4, 1/8, over their sum
    ({"ema": 0.5}, [4, 12, 11, 16], None, [4, 28 / 3, 72 / 7, 200 / 15]),
    ({"ema": 0.5, "lookahead": (2, 0.25)}, [4, 9, 8, 10], [8, 9, 9, 10], [4, 22 / 3, 54 / 7, 134 / 15]),
    ({"ema": 0.5, "ema_init": "first"}, [4, 12, 11, 16], None, [4, 8, 9.5, 12.75]),
    ({"ema": 0.5, "ema_init": "initial"}, [4, 12, 11, 16], None, [6, 9, 10, 13]),
    # 12, then weights of 1/2 and 1 over their sum; p until there is one
    ({"ema": 0.5, "ema_every": 2}, [4, 12, 11, 16], None, [4, 12, 12, 44 / 3]),
    ({"ema": 0.5, "ema_every": 2, "ema_init": "first"}, [4, 12, 11, 16], None, [4, 12, 12, 14]),
    ({"ema": 0.5, "ema_every": 2, "ema_init": "initial"}, [4, 12, 11, 16], None, [8, 10, 10, 13]),
    # 12 becomes 8, the mean of 4 and 12; 12 becomes 9.75, that of 7.5 and 12
    ({"ema": 0.5, "ema_init": "first", "ema_overwrite": 2}, [4, 8, 7, 9.75], None, [4, 8, 7.5, 9.75]),
    # 9 as above, of which and of 4 the mean is 6.5; 10.5 becomes 9 + 1.5 / 4, then the mean of that and 6
    (
        {"lookahead": (2, 0.25), "ema": 0.5, "ema_init": "first", "ema_overwrite": 2},
        [4, 6.5, 5.5, 7.6875], [8, 9, 9, 9.375], [4, 6.5, 6, 7.6875],
    ),
    ({"swa": 0}, [4, 12, 11, 16], None, [4, 8, 9, 10.75]),
    ({"swa": 0, "swa_every": 2}, [4, 12, 11, 16], None, [4, 12, 12, 14]),
    ({"swa": 1, "swa_every": 2}, [4, 12, 11, 16], None, [4, 12, 11, 11]),
    ({"swa": 1}, [4, 12, 11, 16], None, [4, 12, 11.5, 13]),
    ({"swa": 2, "lookahead": (2, 0.25)}, [4, 9, 8, 10], [8, 9, 9, 10], [4, 9, 8, 9]),
]  # fmt: skip


@pytest.mark.parametrize(("options", "params", "slow", "average"), BY_HAND)
def test_values_worked_out_by_hand(options, params, slow, average):
    optimizer, values = fastopt.SGD(1.0, **options), [np.array(8.0)]
    for t, grad in enumerate([4, -8, 1, -5]):
        optimizer.update(values, [np.array(float(grad))])
        assert values[0] == params[t]
        if slow is not None:
            assert slow_of(optimizer)[0] == pytest.approx(slow[t], rel=1e-15)
        if average is not None:
            assert optimizer.average(values)[0] == pytest.approx(average[t], rel=1e-15)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_ema_has_the_bits_of_its_formula(kind, dtype):
    optimizer = fastopt.Momentum(0.1, ema=0.75, threads=2 if kind == "threads" else 1)
    expected = None
    for t, params in enumerate(stepped(optimizer, kind, dtype), 1):
        weight = (1 - 0.75) / (1 - 0.75**t)
        if expected is None:
            expected = copied(params)
        for key, param in copied(params).items():
            w = param.dtype.type(weight)
            expected[key] = expected[key] + w * (param - expected[key]) if t > 1 else param
            assert same_bits(optimizer.average(params)[key], expected[key].astype(param.dtype))


def test_ema_is_the_bias_corrected_one():
    optimizer = fastopt.SGD(0.1, ema=0.75)
    seen = [copied(params) for params in stepped(optimizer)]
    weights = 0.25 * 0.75 ** np.arange(len(seen))[::-1]
    for key, average in optimizer.average(seen[-1]).items():
        plain = sum(w * params[key] for w, params in zip(weights, seen, strict=True))
        np.testing.assert_allclose(average, plain / (1 - 0.75 ** len(seen)), rtol=1e-12)


@pytest.mark.filterwarnings("ignore")
def test_ema_and_lookahead_agree_with_optax():
    jax, optax = pytest.importorskip("jax"), pytest.importorskip("optax")
    with jax.enable_x64(True):
        params, grads = problem()
        average = optax.ema(0.75)
        twin = optax.lookahead(optax.sgd(0.1), 3, 0.25)
        now = optax.LookaheadParams.init_synced(params)
        state, mean = twin.init(now), average.init(params)
        for grad in grads:
            updates, state = twin.update(grad, state, now)
            now = optax.apply_updates(now, updates)
            smoothed, mean = average.update(now.fast, mean)
        theirs = [jax.tree.map(np.asarray, tree) for tree in (now.fast, now.slow, smoothed)]
    optimizer = fastopt.SGD(0.1, lookahead=(3, 0.25), ema=0.75)
    *_, params = stepped(optimizer)
    for ours, other in zip((params, slow_of(optimizer), optimizer.average(params)), theirs, strict=True):
        for key in ours:
            np.testing.assert_allclose(ours[key], other[key], rtol=1e-12)


def test_averages_agree_with_pytorch():
    """Of every second step: PyTorch's averaged model is updated by the program, when that likes."""
    torch = pytest.importorskip("torch")
    from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

    for options, average in (
        ({"ema": 0.75, "ema_init": "first"}, get_ema_multi_avg_fn(0.75)),
        ({"swa": 0}, None),
    ):
        params, grads = problem()
        model = torch.nn.ParameterDict({key: torch.from_numpy(param) for key, param in params.items()})
        theirs, twin = AveragedModel(model, multi_avg_fn=average), torch.optim.SGD(model.parameters(), 0.1)
        for t, now in enumerate(grads, 1):
            for key, param in model.items():
                param.grad = torch.from_numpy(now[key])
            twin.step()
            if t % 2 == 0:
                theirs.update_parameters(model)
        every = {"ema_every": 2} if "ema" in options else {"swa_every": 2}
        optimizer = fastopt.SGD(0.1, **options, **every)
        *_, params = stepped(optimizer)
        for key, average in optimizer.average(params).items():
            np.testing.assert_allclose(average, theirs.module[key].detach().numpy(), rtol=1e-12)


@pytest.mark.filterwarnings("ignore")
def test_averages_agree_with_optax_and_keras(monkeypatch):
    jax, optax = pytest.importorskip("jax"), pytest.importorskip("optax")
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    keras = pytest.importorskip("keras")
    with jax.enable_x64(True):
        start, grads = problem()
        params = [keras.Variable(param, dtype="float64") for param in start.values()]
        twin = keras.optimizers.SGD(0.125, use_ema=True, ema_momentum=0.75, ema_overwrite_frequency=4)
        target, online = start, start
        for now in grads:
            twin.apply([jax.numpy.asarray(grad) for grad in now.values()], params)
            online = jax.tree.map(lambda p, g: p - 0.125 * g, online, now)
            target = optax.incremental_update(online, target, 0.25)
        theirs = dict(zip(start, map(np.array, params), strict=True))
        target = jax.tree.map(np.asarray, target)
    *_, params = stepped(fastopt.SGD(0.125, ema=0.75, ema_init="first", ema_overwrite=4))
    optimizer = fastopt.SGD(0.125, ema=0.75, ema_init="initial")
    *_, others = stepped(optimizer)
    for key in params:
        # Keras computes its momentum in single precision, of which these numbers are.
        np.testing.assert_allclose(params[key], theirs[key], rtol=1e-12)
        np.testing.assert_allclose(optimizer.average(others)[key], target[key], rtol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rule", ["Adam", "LAMB"])
def test_swa_is_the_mean_of_the_tail(rule, kind):
    optimizer = getattr(fastopt, rule)(0.1, swa=4, threads=2 if kind == "threads" else 1)
    plain = getattr(fastopt, rule)(0.1, threads=1)
    seen = []
    for params, without in zip(stepped(optimizer, kind), stepped(plain, kind), strict=True):
        assert snapshot(dict(params)) == snapshot(dict(without))
        seen.append(copied(params))
        if len(seen) < 5:
            assert snapshot(optimizer.average(params)) == snapshot(seen[-1])
    for key, average in optimizer.average(params).items():
        mean = np.mean([params[key] for params in seen[4:]], axis=0)
        np.testing.assert_allclose(average, mean, rtol=1e-5 if average.dtype == "float32" else 1e-12)


def test_averaged_always_swaps_back():
    optimizer = fastopt.Adam(0.1, ema=0.9)
    params, _ = problem()
    with optimizer.averaged(params):  # before the first step there is nothing else
        pass
    *_, params = stepped(optimizer, "strided and numbers")
    before, arrays = snapshot(params), dict(params)
    average = optimizer.average(params)
    with optimizer.averaged(params):
        for key, value in params.items():
            assert np.array_equal(value, average[key])
            assert not isinstance(value, np.ndarray) or value is arrays[key]
    assert snapshot(params) == before
    with pytest.raises(ZeroDivisionError), optimizer.averaged(params):
        params["W"][...] = 1 / int(params["W"].ndim == 0)
    assert snapshot(params) == before
    with pytest.raises(ValueError, match="no average of 'c'"), optimizer.averaged({**params, "c": 1.0}):
        pass
    with (
        pytest.raises(ValueError, match=r"average\(\) requires a parameter average"),
        fastopt.SGD().averaged(params),
    ):
        pass


@pytest.mark.parametrize("by", ["npz", "deepcopy"])
def test_they_survive_a_save(by, tmp_path):
    options = {"lookahead": (3, 0.25), "ema": 0.9, "groups": {"b": {"lr_scale": 2.0}, "F": {"freeze": True}}}
    results = []
    for resumed in (False, True):
        optimizer = fastopt.Adam(0.1, **options)
        params, grads = problem()
        for t, now in enumerate(grads):
            if resumed and t == 4:
                if by == "npz":
                    optimizer.save(tmp_path / "run.npz", params)
                    optimizer = fastopt.Adam(0.5, **options)
                    optimizer.load(tmp_path / "run.npz", params)
                else:
                    optimizer = copy.deepcopy(optimizer)
            optimizer.update(params, now)
        results.append(
            [snapshot(values) for values in (params, slow_of(optimizer), optimizer.average(params))]
        )
    assert results[0] == results[1]
    with pytest.raises(ValueError, match="states"):
        fastopt.Adam().load_state_dict(optimizer.state_dict())


def test_a_frozen_array_is_its_own_average():
    optimizer = fastopt.SGD(0.1, ema=0.9, groups={"W": {"freeze": True}})
    start, _ = problem()
    *_, params = stepped(optimizer)
    assert same_bits(optimizer.average(params)["W"], start["W"])
    assert same_bits(params["W"], start["W"])


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"ema": 1.0}, ValueError, "ema must be above 0 and below 1, not 1.0"),
        ({"ema": 0.9, "swa": 3}, ValueError, "ema and swa are two averages: choose one"),
        ({"lookahead": 6}, TypeError, r"lookahead must be a pair such as \(6, 0.5\), not 6"),
        ({"lookahead": (0, 0.5)}, ValueError, r"lookahead\[0\] must be at least 1, not 0"),
        ({"lookahead": (6, 0)}, ValueError, r"lookahead\[1\] must be above 0 and at most 1, not 0"),
        ({"lookahead": (6, 1.5)}, ValueError, r"lookahead\[1\] must be above 0 and at most 1, not 1.5"),
        ({"swa": -1}, ValueError, "swa must be at least 0, not -1"),
        ({"swa_every": 2}, ValueError, "swa_every=2 has no effect without swa: give swa, too, or leave it"),
        ({"ema": 0.9, "ema_init": "zero"}, ValueError, "ema_init must be 'corrected', 'first' or 'initial'"),
        ({"ema": 0.9, "ema_every": 2.0}, TypeError, "ema_every must be a whole number, not a float"),
        ({"swa": 0, "ema_overwrite": 2}, ValueError, "ema_overwrite=2 has no effect without ema"),
    ],
)
def test_wrong_options(options, error, message):
    with pytest.raises(error, match=message):
        fastopt.SGD(**options)


def test_they_stay_after_the_first_step():
    optimizer = fastopt.SGD()
    optimizer.ema = 0.9
    params = [np.ones(3)]
    optimizer.update(params, [np.ones(3)])
    assert optimizer.average(params)[0][0] == 0.99
    with pytest.raises(ValueError, match="ema can't change after the first step"):
        optimizer.ema = None
    assert optimizer.ema == 0.9
    with pytest.raises(ValueError, match="lookahead can't change after the first step"):
        optimizer.lookahead = (2, 0.5)
    with pytest.raises(ValueError, match="swa can't change after the first step"):
        optimizer.swa = 3


def test_what_has_lost_its_main_option_can_be_made_anew():
    optimizer = fastopt.SGD(clip_norm=1.0, clip_norm_type=1)
    optimizer.clip_norm = None
    assert optimizer.unused().clip_norm_type == 1
    optimizer = fastopt.AdamW(weight_decay=0.1, decay_max_lr=0.3)
    optimizer.decoupled = False
    partition = fastopt.Partition({"*": optimizer})
    partition.nonfinite = "skip"
    assert partition["*"].unused().decay_max_lr == 0.3
    assert fastopt.SGD(clip_norm=None, clip_norm_type=1).clip_norm is None
