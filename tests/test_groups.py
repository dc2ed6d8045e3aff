"""Groups: each parameter's step is that of an optimizer of its own, with its group's hyperparameters."""

import copy
import pickle

import numpy as np
import pytest
from cases import same_bits, snapshot, state_bytes

import fastopt
from fastopt.options.groups import Grouping, GroupViews
from fastopt.schedules import Exponential


def problem(dtype="float64"):
    rng = np.random.default_rng(1)
    shapes = {"W1": (7, 9), "b1": (9,), "embed": (5, 3), "W2": (9, 2), "b2": (2,), "scale": ()}
    params = {key: np.asarray(rng.standard_normal(shape), dtype) for key, shape in shapes.items()}
    grads = [
        {key: np.asarray(rng.standard_normal(shape), dtype) for key, shape in shapes.items()}
        for _ in range(5)
    ]
    return params, grads


GROUPS = {
    "b*": {"lr_scale": 2.0, "weight_decay": 0.0},
    "embed": {"freeze": True},
    "W2": {"beta1": 0.5, "eps": 1e-3},
    lambda key, array: np.ndim(array) == 0: {"lr": 0.5, "decoupled": False},
}
# What each parameter's own optimizer would be.
ALONE = {
    "W1": {"lr": 0.1, "weight_decay": 0.3},
    "b1": {"lr": 0.2, "weight_decay": 0.0},
    "W2": {"lr": 0.1, "weight_decay": 0.3, "beta1": 0.5, "eps": 1e-3},
    "b2": {"lr": 0.2, "weight_decay": 0.0},
    "scale": {"lr": 0.5, "weight_decay": 0.3, "decoupled": False},
}


@pytest.mark.parametrize("copies", [copy.deepcopy, lambda old: pickle.loads(pickle.dumps(old))])
def test_no_groups_can_be_copied_like_some(copies):
    assert copies(fastopt.SGD(groups={})).groups == {}


@pytest.mark.parametrize("kind", ["arrays", "threads", "packed", "two dtypes", "strided and numbers"])
def test_each_parameter_has_its_own(kind):
    params, grads = problem()
    if kind == "threads":
        for values in (params, *grads):
            values["W1"], values["b2"] = np.resize(values["W1"], (700, 90)), np.resize(values["b2"], 30_000)
    if kind == "two dtypes":
        params["W2"], params["b1"] = params["W2"].astype("float32"), params["b1"].astype("float32")
    start = {key: param.copy() for key, param in params.items()}
    if kind == "packed":
        params = fastopt.pack(params)
    if kind == "strided and numbers":
        params["W1"] = np.repeat(params["W1"][..., None], 2, -1)[..., 0]
        params["embed"] = np.repeat(params["embed"][..., None], 2, -1)[..., 0]
        params["scale"] = float(params["scale"])
    threads = 2 if kind == "threads" else 1
    optimizer = fastopt.AdamW(0.1, weight_decay=0.3, groups=GROUPS, threads=threads)
    for now in grads:
        given = params.like() if kind == "packed" else now
        if kind == "packed":
            given.update(now)
        optimizer.update(params, given)
    assert same_bits(params["embed"], start["embed"])
    for key, arguments in ALONE.items():
        alone, own = fastopt.AdamW(**arguments), {key: start[key]}
        for now in grads:
            alone.update(own, {key: now[key]})
        assert same_bits(own[key], params[key]), key
    assert optimizer.iter == 5


def test_groups_of_a_rule_that_measures_and_of_one_with_a_memory():
    for rule in ("LAMB", "NAdam", "Yogi"):
        params, grads = problem("float32")
        start = {key: param.copy() for key, param in params.items()}
        groups = {"b*": {"lr": 0.5}, "W2": {"beta1": 0.5}}
        if rule == "Yogi":
            groups["W1"] = {"initial_accumulator_value": 2.0}
        optimizer = getattr(fastopt, rule)(groups=groups)
        for now in grads:
            optimizer.update(params, now)
        for key in start:
            own = groups.get("b*" if key[0] == "b" else key, {})
            alone, mine = getattr(fastopt, rule)(**own), {key: start[key]}
            for now in grads:
                alone.update(mine, {key: now[key]})
            assert same_bits(mine[key], params[key]), (rule, key)


def test_hyperparameters_and_schedules_reach_the_groups():
    optimizer = fastopt.SGD(Exponential(1.0, 0.5), groups={1: {"lr_scale": 4.0}})
    params = [np.zeros(()), np.zeros(())]
    for _ in range(2):
        optimizer.update(params, [np.ones(()), np.ones(())])
    assert [*map(float, params)] == [-1.5, -6.0]
    optimizer.lr = 0.25
    optimizer.update(params, [np.ones(()), np.ones(())])
    assert [*map(float, params)] == [-1.75, -7.0]
    optimizer.groups = None
    optimizer.update(params, [np.ones(()), np.ones(())])
    assert [*map(float, params)] == [-2.0, -7.25]
    optimizer.groups = {0: {"freeze": True}}
    optimizer.update(params, [np.ones(()), np.ones(())])
    assert [*map(float, params)] == [-2.0, -7.5]


def test_decay_of_matrices_only():
    params, grads = problem()
    optimizer = fastopt.SGD(0.1, weight_decay=0.3, decay_params="matrices")
    start = {key: param.copy() for key, param in params.items()}
    optimizer.update(params, grads[0])
    for key, param in params.items():
        decay = 0.3 if param.ndim > 1 else 0.0
        expected = start[key] - 0.1 * (grads[0][key] + decay * start[key])
        np.testing.assert_allclose(param, expected, rtol=1e-14)


def test_frozen_gradients_are_no_part_of_the_norm():
    params, grads = problem()
    optimizer = fastopt.SGD(clip_norm=1.0, groups={"[bWs]*": {"freeze": True}})
    optimizer.update(params, grads[0])
    assert optimizer.grad_norm == pytest.approx(np.linalg.norm(grads[0]["embed"]), rel=1e-14)


def test_packed_steps_before_and_after():
    params, grads = problem()
    packed, twin = fastopt.pack(params), {key: param.copy() for key, param in params.items()}
    optimizers = [fastopt.Momentum(0.1), fastopt.Momentum(0.1)]
    for t, now in enumerate(grads):
        given = packed.like()
        given.update(now)
        optimizers[0].update(packed, given)
        optimizers[1].update(twin, now)
        for optimizer in optimizers:
            optimizer.groups = {"b*": {"lr_scale": 3.0}} if t % 2 else None
    assert snapshot(dict(packed)) == snapshot(twin)


def test_frozen_arrays_are_looked_at_too():
    params, grads = problem()
    optimizer = fastopt.Momentum(groups={"embed": {"freeze": True}})
    optimizer.update(params, grads[0])
    before, state = snapshot(params), state_bytes(optimizer)
    with pytest.raises(ValueError, match="gradient of 'embed' has shape"):
        optimizer.update(params, {**grads[1], "embed": np.ones((4, 3))})
    assert snapshot(params) == before
    assert state_bytes(optimizer) == state


def test_describe():
    params, _ = problem()
    text = fastopt.Momentum(0.1, groups={"b*": {"lr_scale": 2.0}, "embed": {"freeze": True}}).describe(params)
    lines = [line.split() for line in text.splitlines()]
    assert [line[0] for line in lines] == [repr(key) for key in params]
    assert "lr=0.1," in lines[0]
    assert "lr=0.2," in lines[1]
    assert lines[2][-1] == "frozen"
    assert "momentum=0.9" in text
    assert "lr=0.01" in fastopt.SGD().describe([np.ones(3)])


@pytest.mark.parametrize(
    ("groups", "error", "message"),
    [
        ({"c*": {"lr": 1.0}}, ValueError, r"'c\*' selects none of the parameters"),
        ({7: {"lr": 1.0}}, ValueError, "7 selects none of the parameters"),
        (
            {"b*": {"momentum": 1.0}},
            ValueError,
            r"'b\*' can't have 'momentum'; there are beta1, beta2",
        ),
        ({"b*": {"clip_norm": 1.0}}, ValueError, "can't have 'clip_norm'"),
        ({"b*": {"beta1": 1.0}}, ValueError, "beta1 of 'b.*' must be at least 0 and below 1, not 1"),
        ({"b*": {"lr_scale": -1}}, ValueError, "lr_scale of 'b.*' must be at least 0"),
        ({"b*": {"freeze": 1}}, TypeError, "freeze of 'b.*' must be False or True, not 1"),
        ({"b*": 2.0}, TypeError, "must have a dict of hyperparameters, not a float"),
        ({2.5: {}}, TypeError, "2.5 must be a pattern of names, an index or a function"),
        ([{"lr": 1}], TypeError, "groups must be a dict such as"),
    ],
)
def test_wrong_groups(groups, error, message):
    params, grads = problem()
    before = snapshot(params)
    with pytest.raises(error, match=message):
        fastopt.Adam(groups=groups).update(params, grads[0])
    assert snapshot(params) == before
    if "selects none" not in message:
        with pytest.raises(error, match=message):
            fastopt.Adam().groups = groups


@pytest.mark.parametrize(
    "options", [{"groups": {"a": {"lr_scale": 0.0}}}, {"decay_params": "matrices", "weight_decay": 0.5}]
)
def test_parameters_that_take_turns_have_their_own_groups(options):
    """Whatever others were stepped on, or described, in between."""
    opt = fastopt.SGD(lr=1.0, **options)
    a, b = {"a": np.ones((2, 2))}, {"b": np.ones(3)}
    expected = {"a": 1.0, "b": 1.0}
    for step, params in enumerate([a | b, b, a, b, a | b, b, b, a, a, b] * 20):
        if step == 3:
            opt.clip_norm = 1e9  # which begins anew
        if step % 7 == 4:
            opt.describe(a | b)
        opt.update(params, {key: np.full_like(p, 0.25) for key, p in params.items()})
        for key in params:
            if "groups" in options:
                expected[key] -= 0.25 * (key == "b")
            else:
                expected[key] -= 0.25 + 0.5 * expected[key] * (key == "a")
            assert (params[key] == expected[key]).all()


def test_groups_that_are_chosen_anew_are_planned_anew():
    """A function may choose otherwise when other parameters have been stepped on in between."""
    chosen = {"a", "b"}
    opt = fastopt.SGD(lr=1.0, groups={lambda key, array: key in chosen: {"lr_scale": 0.0}})
    params, others = {"a": np.ones(3), "b": np.ones(3)}, {"b": np.ones(3), "c": np.ones(3)}
    grads = {key: np.ones(3) for key in "abc"}
    for _ in range(3):
        opt.update(params, grads)
        opt.update(others, grads)
    chosen.remove("a")
    opt.update(params, grads)
    assert params["a"].tolist() == [0, 0, 0]
    assert params["b"].tolist() == [1, 1, 1]


def test_a_parameter_that_comes_back_otherwise_is_grouped_anew():
    opt = fastopt.SGD(lr=1.0, decay_params="matrices", weight_decay=0.5)
    opt.update({"w": np.ones(3)}, {"w": np.zeros(3)})
    opt.drop_state("w")
    params = {"w": np.ones((3, 1))}
    opt.update(params, {"w": np.zeros((3, 1))})
    assert (params["w"] == 0.5).all()


def test_frozen_parameters_alone_are_looked_at_each_time():
    params, opt = {"w": np.ones(3)}, fastopt.SGD(groups={"w": {"freeze": True}}, nonfinite="raise")
    opt.update(params, params)
    for _ in range(2):
        with pytest.raises(FloatingPointError):
            opt.update(params, {"w": np.full(3, np.nan)})
    assert opt.iter == 1


def test_a_step_with_groups_chosen_anew_is_like_any_other():
    """After another set's step: what isn't finite is seen, and odd gradients are taken."""
    sets = [{"a": np.ones(3), "s": np.ones(4)}, {"b": np.ones(3)}]
    for nonfinite in ("skip", "warn"):
        opt = fastopt.SGD(lr=1.0, groups={"a": {"lr_scale": 0.5}}, nonfinite=nonfinite)
        params, other = copy.deepcopy(sets)
        for _ in range(3):
            opt.update(params, {"a": np.ones(3), "s": np.ones(4)})
            opt.update(other, {"b": np.ones(3)})
        bad = {"a": np.ones(3), "s": np.array([1, np.nan, 1, 1])}
        if nonfinite == "skip":
            assert opt.update(params, bad) is False
            assert opt.skipped == 1
        else:
            with pytest.warns(RuntimeWarning, match="the gradient of 's' has NaN"):
                opt.update(params, bad)
        odd = {"a": np.ones(3), "s": np.repeat([1, np.nan, 1, 1], 2)[::2]}
        opt.update(other, {"b": np.ones(3)})
        vars(opt)["_has_warned"] = False
        if nonfinite == "warn":
            with pytest.warns(RuntimeWarning, match="the gradient of 's' has NaN"):
                opt.update(params, odd)
    opt = fastopt.SGD(lr=1.0, groups={"a": {"lr_scale": 0.5}})
    params, other = copy.deepcopy(sets)
    for step in range(1, 200):
        opt.update(params, {"a": np.ones(3, "float32"), "s": np.ones(8)[::2]})
        opt.update(other, {"b": np.ones(3)})
        assert [float(p[0]) for p in (*params.values(), *other.values())] == [
            1 - 0.5 * step,
            1 - step,
            1 - step,
        ]


def test_gradients_of_frozen_arrays_may_be_of_any_kind():
    params = {"a": np.ones((200, 100)), "b": np.ones(3)}
    opt = fastopt.SGD(lr=1.0, groups={"a": {"freeze": True}}, nonfinite="raise")
    for odd in (
        np.broadcast_to(0.5, (200, 100)),
        np.ones((400, 100))[::2],
        np.ones((200, 100), "float32"),
        2,
    ):
        grads = {"a": odd if np.ndim(odd) else np.full((200, 100), odd, "float16"), "b": np.ones(3)}
        assert opt.update(params, grads)
    assert (params["a"] == 1).all()
    with pytest.raises(FloatingPointError, match="'a'"):
        opt.update(params, {"a": np.broadcast_to(np.nan, (200, 100)), "b": np.ones(3)})


def test_views_that_are_asked_for_while_they_are_made_are_complete():
    """As by the handler of a signal; random histories found a step that saw the first of two."""
    seen, left = [], [1] * 9

    class Rate(float):
        def __mul__(self, scale):
            if left:
                left.pop()
                seen.append(len(views.of(optimizer, grouping, {})))
            return float(self) * scale

    optimizer = fastopt.SGD(groups={"a": {"lr_scale": 0.5}})
    grouping = Grouping(optimizer.groups, False, ["a", "b"], [np.ones(1)] * 2)
    views = GroupViews()
    vars(optimizer)["lr"] = Rate(1.0)
    assert len(views.of(optimizer, grouping, {})) == 2
    assert {*seen} == {2}


def test_a_groups_kind_of_weight_decay_is_checked():
    with pytest.raises(ValueError, match=r"groups\['W'\]: AdamP has its weight decay in its formula"):
        fastopt.AdamP(groups={"W": {"decoupled": True}})
    optimizer = fastopt.Prodigy()
    with pytest.raises(ValueError, match=r"groups\['W'\]: Prodigy has.* decoupled can't be True"):
        optimizer.groups = {"W": {"decoupled": True}}
    assert fastopt.LAMB(decoupled=True, weight_decay=0.1, decay_max_lr=0.3).decay_max_lr == 0.3
