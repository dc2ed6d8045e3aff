"""Hyperparameters by schedules: of an optimizer, of groups, of a partition; by functions; in every copy."""

import copy
import pickle
from dataclasses import dataclass

import numpy as np
import pytest

import fastopt
from fastopt.schedules import Constant, Cyclic, Exponential, Linear, Plateau, Product, Schedule, Step, Warmup

KEYS = ("W", "b")


def params():
    return {"W": np.linspace(1, 2, 6).reshape(2, 3), "b": np.linspace(-1, 1, 3)}


def grads(step):
    rng = np.random.default_rng(step)
    return {"W": rng.standard_normal((2, 3)), "b": rng.standard_normal(3)}


def stepped(optimizer, values, first, last):
    for step in range(first, last):
        optimizer.update(values, grads(step))
    return {key: value.tobytes() for key, value in values.items()}


# By hand.


def test_each_step_has_the_values_of_its_number():
    """g = 1; p ← p − lr·(g + weight_decay·p), lr = 1/2, 1/4, 1/8 and weight_decay = 1, 1/2, 0."""
    optimizer, p = fastopt.SGD(lambda t: 0.5**t, weight_decay=Linear(1, 2)), [np.array([2.0])]
    assert (optimizer.lr, optimizer.weight_decay) == (0.5, 1.0)
    for expected in (0.5, 0.1875, 0.0625):
        optimizer.update(p, [np.ones(1)])
        assert p[0] == expected
    assert (optimizer.lr, optimizer.weight_decay) == (0.125, 0.0)


def test_the_momentum_cycles():
    """v ← μ·v − lr·g with μ = 1/2, 1/4, 1/2 and g = 1, lr = 1."""
    optimizer, p = fastopt.Momentum(1, Cyclic(0.5, 0.25, 1)), [np.zeros(1)]
    velocities = []
    for _ in range(3):
        optimizer.update(p, [np.ones(1)])
        velocities.append(optimizer.v[0].item())
    assert velocities == [-1, -1.25, -1.625]


def test_groups_have_schedules_of_their_own():
    """lr is 1, 1/2; that of "a" 4, 2; that of "b" twice, then four times the optimizer's."""
    groups = {"a": {"lr": Step(4, 1, 0.5)}, "b": {"lr_scale": lambda t: 2.0**t}}
    optimizer = fastopt.SGD(Step(1, 1, 0.5), groups=groups)
    p = {key: np.zeros(1) for key in "abc"}
    assert optimizer.describe(p).split()[2::3] == ["lr=4.0", "lr=2.0", "lr=1.0"]
    optimizer.update(p, {key: np.ones(1) for key in p})
    assert [value.item() for value in p.values()] == [-4, -2, -1]
    optimizer.update(p, {key: np.ones(1) for key in p})
    assert [value.item() for value in p.values()] == [-6, -4, -1.5]
    assert optimizer.describe(p).split()[2::3] == ["lr=2.0", "lr=2.0", "lr=0.5"]


def test_lr_scale_multiplies_a_groups_own_lr():
    optimizer = fastopt.SGD(1, groups={"*": {"lr": lambda t: t, "lr_scale": lambda t: 10.0 * t}})
    p = {"w": np.zeros(1)}
    for expected in (-10, -50):
        optimizer.update(p, {"w": np.ones(1)})
        assert p["w"] == expected


def test_a_groups_own_number_is_not_scheduled():
    """v ← μ·v − g with μ = 1/2, 1/4 and g = 1, but 1/8 for "b"."""
    optimizer = fastopt.Momentum(1, Step(0.5, 1, 0.5), groups={"b": {"momentum": 0.125}})
    for _ in range(2):
        optimizer.update({"a": np.zeros(1), "b": np.zeros(1)}, {"a": np.ones(1), "b": np.ones(1)})
    assert (optimizer.v["a"], optimizer.v["b"]) == (-1.25, -1.125)


@pytest.mark.parametrize(
    ("group", "expected"),
    # g = 0; p ← p − lr·(lr / γ)·p / 2: lr = 1, 2 and γ = 2, 4; or lr = 1, 2 and γ = 2, as lr has a schedule
    [({"lr_scale": lambda t: t}, [0.75, 0.375]), ({"lr": lambda t: t}, [0.75, 0.0])],
)
def test_the_largest_rate_of_a_corrected_decay_follows_lr_scale(group, expected):
    optimizer = fastopt.SGD(1, weight_decay=0.5, decoupled=True, decay_max_lr=2, groups={"*": group})
    p = {"w": np.ones(1)}
    for value in expected:
        optimizer.update(p, {"w": np.zeros(1)})
        assert p["w"] == value


def test_groups_with_equal_schedules_stay_two():
    """What one is told isn't told to the other."""
    plateaus = [Plateau(1, 0.5, patience=0) for _ in range(2)]
    optimizer = fastopt.SGD(groups=dict(zip(KEYS, ({"lr": own} for own in plateaus), strict=True)))
    p = {key: np.zeros(1) for key in KEYS}
    for _ in range(2):
        plateaus[1].report(1)
    optimizer.update(p, {key: np.ones(1) for key in KEYS})
    assert [value.item() for value in p.values()] == [-1, -0.5]


@pytest.mark.parametrize(
    ("name", "values"),
    [("clip_value", [2, 1]), ("clip_norm", [2, 1]), ("clip_norm_each", [2, 1]), ("clip_adaptive", [2, 1])],
)
@pytest.mark.parametrize("wrap", [lambda one: one, lambda one: fastopt.Partition({"*": one})])
def test_bounds_of_clipping_have_schedules(name, values, wrap):
    made = [wrap(fastopt.SGD(1.0)) for _ in range(2)]
    ps = [{"w": np.ones(2)} for _ in made]
    setattr(made[0], name, lambda t: values[t - 1])
    for value in values:
        setattr(made[1], name, value)
        for optimizer, p in zip(made, ps, strict=True):
            optimizer.update(p, {"w": np.array([30.0, 40.0])})
        assert getattr(made[0], name) == value
    assert ps[0]["w"].tobytes() == ps[1]["w"].tobytes()
    assert ps[0]["w"].tolist() != [-69, -79]


def test_a_decay_that_begins_later_is_seen_by_row_sparse_gradients():
    optimizer = fastopt.SGD(weight_decay=lambda t: 0.0 if t < 3 else 0.1)
    with pytest.raises(ValueError, match="weight decay changes the others"):
        optimizer.update({"E": np.ones((3, 2))}, {"E": fastopt.Rows([1], np.ones((1, 2)))})


def growing(t):
    return float(t)


@pytest.mark.parametrize("way", ["npz", "state dict", "pickle", "deepcopy"])
def test_schedules_of_members_go_by_the_updates_of_the_partition(way, tmp_path):
    """The second member's arrays come at the third step: lr is 1/4, then 1/8, its group's 3, then 4."""

    def make():
        late = fastopt.SGD(Step(1, 1, 0.5), groups={"c": {"lr": growing}})
        return fastopt.Partition({"a": fastopt.SGD(1), "*": late})

    partition, p = make(), {key: np.zeros(1) for key in "abc"}
    for keys in ("a", "a", "abc"):
        partition.update({key: p[key] for key in keys}, {key: np.ones(1) for key in keys})
    assert ([value.item() for value in p.values()], partition["*"].lr) == ([-3, -0.25, -3], 0.25)
    other = WAYS[way](partition, make, tmp_path)
    assert (other["*"].lr, other["*"].iter, other.iter) == (0.25, 1, 3)
    assert other.describe(p).count("lr=3.0") == 1
    other.update(p, {key: np.ones(1) for key in p})
    assert [value.item() for value in p.values()] == [-4, -0.375, -7]
    other["*"].lr = Step(1, 1, 0.5)
    assert other["*"].lr == 0.125


# Assignments, and what is shown.


def test_a_number_ends_a_schedule_and_no_other():
    optimizer, p = fastopt.Momentum(Linear(1, 8), Linear(0.8, 8)), params()
    assert dict(optimizer.schedules) == {"lr": Linear(1, 8), "momentum": Linear(0.8, 8)}
    stepped(optimizer, p, 0, 2)
    optimizer.momentum = 0.25
    assert dict(optimizer.schedules) == {"lr": Linear(1, 8)}
    stepped(optimizer, p, 2, 3)
    assert (optimizer.lr, optimizer.momentum) == (0.75, 0.25)
    optimizer.momentum = Constant(0.5)
    optimizer.lr = optimizer.lr
    assert (optimizer.lr, optimizer.momentum, optimizer.schedule) == (0.75, 0.5, None)
    assert "schedules" in dir(optimizer)


def test_schedules_are_shown():
    def cooled(t):
        return 0.5 / t

    optimizer, p = fastopt.Momentum(cooled, Linear(0.8, 8), clip_norm=Exponential(1, 0.5)), params()
    call = "Momentum(lr=cooled, momentum=Linear(0.8, 8.0), clip_norm=Exponential(1.0, 0.5))"
    assert repr(optimizer) == call
    stepped(optimizer, p, 0, 2)
    assert repr(optimizer).startswith(f"{call}  # step 2, ")
    assert repr(optimizer).endswith(", lr 0.25, clip_norm 0.5, momentum 0.7")
    assert repr(optimizer.unused()) == call
    assert (
        repr(optimizer.schedules)
        == "{'clip_norm': Exponential(1.0, 0.5), 'lr': cooled, 'momentum': Linear(0.8, 8.0)}"
    )
    assert repr(fastopt.SGD(groups={"b": {"lr": cooled}})) == "SGD(lr=0.01, groups={'b': {'lr': cooled}})"


def test_a_refused_step_shows_no_value():
    optimizer, p = (
        fastopt.Momentum(0.1, Linear(0.8, 8), nonfinite="skip", weight_decay=Linear(1, 4)),
        params(),
    )
    stepped(optimizer, p, 0, 1)
    optimizer.update(p, {"W": np.full((2, 3), np.inf), "b": np.ones(3)})
    assert (optimizer.momentum, optimizer.weight_decay, optimizer.iter) == (0.8, 1.0, 1)


def test_the_record_and_micro_batches_go_by_updates():
    calls = []
    optimizer, p = fastopt.SGD(lambda t: calls.append(t) or 1 / t, accumulate=2), params()
    record = optimizer.record(1)
    stepped(optimizer, p, 0, 6)
    assert record.lr == [1, 1 / 2, 1 / 3]
    assert calls == [1, 1, 2, 3]  # the first to show a value before the first step


# What can't have one, and functions that aren't any.


class Layer:
    def __call__(self, x):
        return x.dot(self)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: fastopt.Rprop(Linear(1, 2)),
            "lr can't have a schedule: it is the size of the first step only",
        ),
        (
            lambda: fastopt.Rprop(groups={"b": {"lr": len}}),
            "groups: lr of 'b' can't have a schedule: it is the",
        ),
        (
            lambda: fastopt.Rprop(groups={"b": {"lr_scale": len}}),
            "groups: lr_scale of 'b' can't have a schedule",
        ),
        (
            lambda: fastopt.FTRL(initial_accumulator_value=Constant(1)),
            "initial_accumulator_value can't have a schedule",
        ),
        (
            lambda: fastopt.Yogi(initial_accumulator_value=Constant(1)),
            "initial_accumulator_value can't have a schedule",
        ),
        (
            lambda: fastopt.Prodigy(beta2=Constant(0.9)),
            "beta2 can't have a schedule: it is the same for all para",
        ),
        (
            lambda: fastopt.Muon(ns_steps=Constant(5)),
            "ns_steps can't have a schedule: it is the same for all par",
        ),
        (
            lambda: fastopt.SGD(ema=Constant(0.5)),
            "ema can't have a schedule: it can't change after the first st",
        ),
        (
            lambda: fastopt.SGD(nonfinite=Constant(1)),
            "nonfinite can't have a schedule: it is the same in all steps$",
        ),
        (
            lambda: fastopt.ScheduleFreeSGD(warmup_steps=Constant(1)),
            "warmup_steps can't have a schedule: it is",
        ),
        (
            lambda: fastopt.ScheduleFreeSGD(r=Constant(1)),
            "r can't have a schedule: it is the same in all steps; give it",
        ),
        (
            lambda: fastopt.AdamW(decay_max_lr=Constant(1)),
            "decay_max_lr can't have a schedule: it is the same in all",
        ),
        (lambda: fastopt.SGD(ema=lambda t: 0.5), "ema must be a number, not a function"),
        (
            lambda: fastopt.SGD(lr=Linear),
            r"lr must be a number, not a type: write an object of it, lr=Linear",
        ),
        (
            lambda: fastopt.SGD(Layer()),
            "lr must be a number or a function of the step's number .*AttributeError",
        ),
        (
            lambda: fastopt.SGD(lambda: 1),
            "as lambda t: 0.1 / t does, but <lambda> called with 1 raised TypeError",
        ),
        (lambda: fastopt.SGD(lambda t: None), "lr must be a number, not None: that is <lambda> at step 1"),
        (
            lambda: fastopt.SGD(groups={"b": {"lr": len}}),
            "groups: lr of 'b' must be a number or a function of th",
        ),
        (
            lambda: fastopt.functional.sgd(np.ones(1), np.ones(1), lr=Linear(1, 2)),
            r"a Linear: write lr=schedule\(t",
        ),
    ],
)
def test_what_cannot_have_a_schedule(make, message):
    with pytest.raises(TypeError, match=message):
        make()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: fastopt.Momentum(0.1, Linear(1.5, 9)),
            "momentum must be at least 0 and at most 1, not 1.5: that",
        ),
        (
            lambda: fastopt.SGD(lambda t: -t),
            "lr must be at least 0 and finite, not -1: that is <lambda> at step 1",
        ),
        (
            lambda: fastopt.SGD(groups={"b": {"lr_scale": lambda t: -t}}),
            "groups: lr_scale of 'b' must be at least",
        ),
        (lambda: fastopt.SGD(groups={"b": {"beta": len}}), "groups: 'b' can't have 'beta'; there are"),
    ],
)
def test_values_out_of_bounds(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    "make",
    [
        lambda bad: fastopt.Momentum(0.1, bad),
        lambda bad: fastopt.Momentum(0.1, groups={"W": {"momentum": bad}}),
        lambda bad: fastopt.Momentum(0.1, groups={"W": {"momentum": bad}}, clip_norm=1.0),
        lambda bad: fastopt.Partition({"*": fastopt.Momentum(0.1, bad)}),
    ],
)
def test_a_step_with_a_value_out_of_bounds_changes_nothing(make):
    optimizer, p = make(lambda t: 0.5 if t < 3 else 1.5), params()
    before = stepped(optimizer, p, 0, 2)
    with pytest.raises(
        ValueError, match="momentum.* must be at least 0 and at most 1, not 1.5: that is .* at step 3"
    ):
        optimizer.update(p, grads(2))
    assert {key: value.tobytes() for key, value in p.items()} == before
    assert optimizer.iter == 2


# Copies and files.


GROUPS = {"b": {"lr": Linear(0.2, 6), "lr_scale": Cyclic(1, 2, 2), "beta2": Linear(0.9, 6, 0.99)}}


def all_scheduled(groups=GROUPS):
    return fastopt.AdamW(
        Warmup(Exponential(0.1, 0.9), 3),
        Cyclic(0.9, 0.8, 2),
        weight_decay=Linear(0.1, 6),
        eps=Product([Constant(1e-6), Step(1, 2, 0.5)]),
        clip_norm=Linear(3, 6, 1),
        groups=groups,
    )


def in_a_partition():
    members = {"W": all_scheduled(groups=None), "*": fastopt.SGD(Linear(1, 9))}
    return fastopt.Partition(members, clip_norm=Linear(3, 6, 1))


WAYS = {
    "npz": lambda old, make, path: loaded(old, make(), path),
    "into other schedules": lambda old, make, path: loaded(old, without_schedules(make()), path),
    "state dict": lambda old, make, path: from_state(old, make()),
    "pickle": lambda old, make, path: pickle.loads(pickle.dumps(old)),
    "deepcopy": lambda old, make, path: copy.deepcopy(old),
}


def loaded(old, new, path):
    old.save(path / "a.npz")
    new.load(path / "a.npz")
    return new


def from_state(old, new):
    new.load_state_dict(old.state_dict())
    return new


def without_schedules(optimizer):
    for one in (optimizer, *getattr(optimizer, "members", {}).values()):
        for name in one.schedules:
            setattr(one, name, 0.5)
    return optimizer


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("make", [all_scheduled, in_a_partition])
def test_copies_go_on_with_the_same_bits(way, make, tmp_path):
    one, p = make(), params()
    stepped(one, p, 0, 3)
    again = copy.deepcopy(p)
    other = WAYS[way](one, make, tmp_path)
    assert repr(other).split("#")[0] == repr(one).split("#")[0]
    assert other.state_dict()["hyperparameters"] == one.state_dict()["hyperparameters"]
    assert stepped(other, again, 3, 8) == stepped(one, p, 3, 8)
    assert repr(one.unused()) == repr(make())


def test_a_function_is_kept_by_the_optimizer_that_loads(tmp_path):
    def cooled(t):
        return 0.5 / t

    def made():
        return fastopt.Momentum(Warmup(cooled, 2), lambda t: 0.5)

    one, p = made(), params()
    stepped(one, p, 0, 3)
    again, other = copy.deepcopy(p), loaded(one, made(), tmp_path)
    assert other.lr == one.lr == 0.5
    assert stepped(other, again, 3, 6) == stepped(one, p, 3, 6)
    saved = one.state_dict()["hyperparameters"]
    assert saved["momentum"] == {"class": "function", "name": "<lambda>"}
    assert saved["lr"]["schedule"] == {"class": "function", "name": "cooled"}
    for wrong in (
        fastopt.Momentum(),
        fastopt.Momentum(Warmup(cooled, 2)),
        fastopt.Momentum(Warmup(cooled, 2), Constant(0.5)),
        fastopt.Momentum(cooled, cooled),
        fastopt.Momentum(Warmup(Constant(1), 2), cooled),
    ):
        before = repr(wrong)
        with pytest.raises(
            ValueError, match="saved with the function '.*', which a file can't have: load it into"
        ):
            wrong.load(tmp_path / "a.npz")
        assert repr(wrong) == before
    # A number that was saved ends a function.
    plain = fastopt.Momentum(0.125)
    stepped(plain, params(), 0, 1)
    assert loaded(plain, made(), tmp_path).lr == 0.125


def test_the_callers_plateau_stays_in_use(tmp_path):
    plateau = Plateau(0.9, 0.5, patience=0)
    optimizer = fastopt.Momentum(0.1, Warmup(plateau, 1))
    optimizer.save(tmp_path / "a.npz")
    plateau.report(1)
    plateau.report(1)
    optimizer.load(tmp_path / "a.npz")
    assert (plateau.value, plateau.best) == (0.9, None)
    assert optimizer.schedules["momentum"].schedule is plateau


class Undecorated(Schedule):
    def __init__(self, start):
        self.start = start

    def __call__(self, t):
        return self.start / t


class Twice(Linear):
    """Not decorated either, but made by the constructor of one that is."""

    def at(self, c):
        return 2 * super().at(c)


class Shifted(Linear):
    """Made by a constructor of its own, which a file doesn't know."""

    def __init__(self, shift):
        super().__init__(1, 9)
        object.__setattr__(self, "shift", shift)

    def __call__(self, t):
        return super().__call__(t + self.shift)


@pytest.mark.parametrize("make", [lambda: Undecorated(0.5), lambda: Twice(0.1, 9), lambda: Shifted(2)])
def test_schedules_of_other_kinds_are_saved(make, tmp_path):
    one, p = fastopt.SGD(make()), params()
    assert "fastopt" not in repr(one)
    stepped(one, p, 0, 2)
    again, other = copy.deepcopy(p), loaded(one, fastopt.SGD(make()), tmp_path)
    assert stepped(other, again, 2, 4) == stepped(one, p, 2, 4)
    assert stepped(pickle.loads(pickle.dumps(one)), again, 4, 6) == stepped(one, p, 4, 6)


@dataclass
class Counting(Schedule):
    """It changes as it is called."""

    n: int = 0

    def __call__(self, t):
        self.n += 1
        return float(self.n)


def test_schedules_are_called_once_a_step():
    counting, of_group = Counting(), Counting()
    optimizer = fastopt.Adam(counting, groups={"b": {"eps": of_group}})
    stepped(optimizer, params(), 0, 5)
    assert (counting.n, of_group.n) == (6, 6)  # once more when they were assigned


def test_a_range_test_leaves_the_schedules():
    plateaus = [Plateau(value, 0.5, patience=0) for value in (0.5, 0.25, 0.125)]
    optimizer = fastopt.Momentum(plateaus[0], Warmup(plateaus[1], 3), groups={"b": {"momentum": plateaus[2]}})
    p = params()
    before, known = stepped(optimizer, p, 0, 2), dict(optimizer.schedules)

    def step():
        for plateau in plateaus:
            plateau.report(1)
        optimizer.update(p, grads(2))
        return 1.0

    found = fastopt.lr_finder(step, optimizer, p, steps=4)
    assert len(found.lrs) == 4
    assert {key: value.tobytes() for key, value in p.items()} == before
    assert dict(optimizer.schedules) == known
    assert [(plateau.value, plateau.best) for plateau in plateaus] == [
        (0.5, None),
        (0.25, None),
        (0.125, None),
    ]


@pytest.mark.parametrize("container", ["dict", "packed"])
def test_hyperparameters_follow_in_every_way_through_a_step(container):
    """Where one changes in each step, assigned or by schedules, the bits are the same."""
    made = [fastopt.Momentum(0.1, clip_norm=1.0, groups={"b": {"lr_scale": 0.5}}) for _ in range(2)]
    ps = [fastopt.pack(params()) if container == "packed" else params() for _ in made]
    made[0].momentum, made[0].lr = Linear(0.9, 9, 0.1), Cyclic(0.1, 0.2, 2)
    for step in range(9):
        made[1].momentum, made[1].lr = Linear(0.9, 9, 0.1)(step + 1), Cyclic(0.1, 0.2, 2)(step + 1)
        for optimizer, p in zip(made, ps, strict=True):
            optimizer.update(p, fastopt.pack(grads(step)) if container == "packed" else grads(step))
    assert [value.tobytes() for value in ps[0].values()] == [value.tobytes() for value in ps[1].values()]
