"""What the ranks do in the tests of MPI: ``mpiexec -n N python -m mpi4py ranks.py JOB,JOB [FOLDER]``.

Every rank checks for itself; one that fails ends all.
"""

import itertools
import os
import sys
import warnings
from dataclasses import dataclass
from math import inf
from pathlib import Path

import numpy as np
import pytest
from cases import CASES, takes

import fastopt
from fastopt import optimizers
from fastopt.adapters.mpi import MPI, DataParallel, sharding
from fastopt.arrays.containers import items
from fastopt.checkpoints import files
from fastopt.engine.threads import available
from fastopt.optimizer import Optimizer

COMM = MPI.COMM_WORLD
RANK, RANKS = COMM.rank, COMM.size
LAST = RANKS - 1 == RANK
SHAPES = {"W1": (30, 40), "b1": (40,), "W2": (40, 10), "b2": (10,)}


def rule(name, **more):
    """Give a rule with its test's hyperparameters."""
    return getattr(fastopt, name)(**CASES[name].arguments, **more)


def shapes_of(name):
    """Give the shapes of parameters that a rule takes."""
    return {key: shape for key, shape in SHAPES.items() if takes(name, shape)}


def start(seed=0, shapes=SHAPES, dtype="float64"):
    """Give parameters, the same on all ranks."""
    rng = np.random.default_rng(seed)
    return {key: rng.standard_normal(shape).astype(dtype) for key, shape in shapes.items()}


def slopes(step, params, sum_in=None):
    """Give this rank's gradients and the mean of all ranks', summed up in their order."""
    all_ranks = [
        {
            key: np.asarray(
                np.random.default_rng([step, rank, i]).standard_normal(np.shape(p)), np.asarray(p).dtype
            )
            for i, (key, p) in enumerate(params.items())
        }
        for rank in range(RANKS)
    ]
    means = {}
    for key, p in params.items():
        dtype = np.result_type(np.asarray(p).dtype, np.float32)  # that of the state
        total = all_ranks[0][key].astype(sum_in or dtype)
        for own in all_ranks[1:]:
            total = total + own[key]
        means[key] = (total / total.dtype.type(RANKS)).astype(dtype)
    return all_ranks[RANK], means


def exact(step, params):
    """Give this rank's gradients and the mean of all ranks', which doesn't depend on their number."""
    rng = np.random.default_rng(step)
    mean = {key: rng.integers(-99, 99, np.shape(p)) * 1.0 for key, p in params.items()}
    return {key: g + (RANK - (RANKS - 1) / 2) for key, g in mean.items()}, mean


def same(params, ref):
    """Check that parameters, or states, have the same bits."""
    assert params.keys() == ref.keys()
    for key in ref:
        assert np.asarray(params[key]).dtype == np.asarray(ref[key]).dtype, key
        assert np.asarray(params[key]).tobytes() == np.asarray(ref[key]).tobytes(), key


def close(params, ref):
    """Check that parameters, or states, are equal but for rounding."""
    assert params.keys() == ref.keys()
    for key in ref:
        np.testing.assert_allclose(params[key], ref[key], rtol=1e-12, atol=1e-12 * np.abs(ref[key]).max())


def same_state(opt, ref, check=same):
    """Check that the gathered state is the plain optimizer's."""
    state, expected = opt.state_dict(), ref.state_dict()
    if RANK:
        assert state is None
        return
    pairs = [
        (state, expected),
        *((state["inner"][n], other) for n, other in expected.get("inner", {}).items()),
    ]
    for own, other in pairs:
        assert (own["class"], own["iter"]) == (other["class"], other["iter"])
        for name, values in other["state"].items():
            assert type(own["state"][name]) is type(values)
            check(*(dict(items(arrays or {})) for arrays in (own["state"][name], values)))


def bits():
    """Every rule, packed and not: given the same mean gradient, the bits of the plain optimizer."""
    for name in optimizers.__all__:
        for pack in (dict, fastopt.pack):
            shapes = shapes_of(name)
            params, ref, plain = pack(start(RANK, shapes)), start(0, shapes), rule(name)
            opt = DataParallel(rule(name))
            opt.broadcast(params)
            same(params, ref)
            for step in range(3):
                mine, mean = slopes(step, ref)
                assert opt.update(params, pack(mine)) is True
                plain.update(ref, mean)
            # What is measured in parts has been summed up in another order.
            check = close if RANKS > 1 and type(plain).n_additive else same
            check(params, ref)
            assert params.keys() == {*opt.distribution.layout}
            same_state(opt, plain, check)
            if plain.own_average.__func__ is not Optimizer.own_average:
                same(opt.average(params), plain.average(ref))


def batch():
    """Every rule, on the ranks' parts of a batch: the same as one rank on all of it, but for rounding."""
    rng = np.random.default_rng(5)
    x, y = rng.standard_normal((24, 30)), rng.standard_normal((24, 40))
    mine = slice(24 // RANKS * RANK, 24 // RANKS * (RANK + 1))

    def gradient(params, part):
        error = x[part] @ params["W1"] + params.get("b1", 0.0) - y[part]
        grads = {"W1": x[part].T @ error / len(error), "b1": error.mean(0)}
        return {key: grads[key] for key in params}

    # SOAP's bases aren't continuous where eigenvalues are equal, here those that are 0.
    for name in [name for name in optimizers.__all__ if name != "SOAP"]:
        shapes = {key: shape for key, shape in shapes_of(name).items() if key in ("W1", "b1")}
        params, ref, plain = start(0, shapes), start(0, shapes), rule(name)
        opt = DataParallel(rule(name))
        for _ in range(3):
            opt.update(params, gradient(params, mine))
            plain.update(ref, gradient(ref, slice(None)))
        close(params, ref)


def kinds():
    """Containers and arrays of all kinds, reduced in several chunks; sums in another dtype."""

    def some():
        rng = np.random.default_rng(1)
        return [
            rng.standard_normal((300, 250)).astype("float32"),
            np.asfortranarray(rng.standard_normal((40, 60))),
            rng.standard_normal((33, 2)).astype("float16"),
            rng.standard_normal((20, 20))[::2, ::3],
            np.zeros((3, 0)),
            np.float64(0.5),
            2.0,
        ]

    usual, sharding.MIN_MESSAGE_SIZE = sharding.BUCKET_SIZE, 1
    for chunk in (usual, 10_000):
        sharding.BUCKET_SIZE = chunk
        for name in ("Adam", "SM3"):
            params, ref, plain = some(), some(), rule(name)
            arrays = params[:-2]
            opt = DataParallel(rule(name), reduce_dtype="float64")
            for step in range(3):
                mine, mean = slopes(step, dict(enumerate(ref)), "float64")
                assert opt.update(params, list(mine.values()))
                plain.update(ref, list(mean.values()))
            same(dict(enumerate(params)), dict(enumerate(ref)))
            assert all(a is b for a, b in zip(params, arrays, strict=False))
            assert [type(p) for p in params] == [type(p) for p in ref]
            state = opt.state_dict()
            if RANK == 0:
                same(dict(enumerate(state["state"]["m"])), dict(enumerate(plain.m)))
    sharding.BUCKET_SIZE = 512
    for name in ("Adam", "LAMB"):
        params, ref, plain, opt = fastopt.pack(start()), start(), rule(name), DataParallel(rule(name))
        for step in range(4):
            mine, mean = slopes(step, ref)
            opt.update(params, mine)
            plain.update(ref, mean)
        check = close if name == "LAMB" and RANKS > 1 else same
        check(params, ref)
        same_state(opt, plain, check)
        assert len(opt.distribution.sharding.buckets) == 3
    sharding.BUCKET_SIZE = usual


SCHEDULED_GROUPS = {
    "W*": {"lr": fastopt.schedules.Linear(0.25, 4, 0.1)},
    "b1": {"lr_scale": lambda t: 0.5 * t},
}


def around():
    """What is around the rule: decay, schedules, averages, clipping; what can't be had is refused."""
    cosine = fastopt.schedules.Exponential(0.1, 2, 0.5)
    for options, check in (
        ({"lr": cosine, "weight_decay": 0.1, "maximize": True}, same),
        ({"ema": 0.75, "lookahead": (2, 0.5)}, same),
        ({"lookahead": (2, 0.5), "lookahead_reset": True, "ema": 0.5, "ema_every": 2}, same),
        ({"clip_value": 0.5}, same),
        ({"clip_norm_each": 0.5, "clip_adaptive": 0.25}, same),
        ({"clip_norm": 0.5}, close),
        ({"clip_norm": 0.5, "clip_norm_type": 1}, close),
        ({"clip_norm": 0.5, "clip_norm_type": inf, "clip_rms": 1.0}, same),
        ({"clip_value": 0.5, "clip_norm": 0.5}, close),
        ({"clip_norm_each": 0.5, "clip_norm": 0.5}, close),
        ({"decay_params": "matrices", "weight_decay": 0.5}, same),
        ({"groups": GROUPS}, same),
        ({"groups": SCHEDULED_GROUPS, "lr": lambda t: 0.1 / t, "eps": cosine}, same),
        ({"groups": GROUPS, "clip_norm": 0.5, "decay_params": "matrices", "weight_decay": 0.5}, close),
    ):
        for name in ("Adam", "SM3", "LAMB"):
            if name == "LAMB":
                options, check = {k: v for k, v in options.items() if k != "decay_params"}, close
            params, ref = fastopt.pack(start()), start()
            plain, opt = (getattr(fastopt, name)(**options) for _ in range(2))
            opt = DataParallel(opt)
            for step in range(3):
                mine, mean = slopes(step, ref)
                opt.update(params, mine)
                plain.update(ref, mean)
            check(params, ref)
            same_state(opt, plain, check)
            for key in ("b1",) if options.get("groups") is GROUPS else ():
                assert np.array_equal(params[key], start()[key])
            if "ema" in options:
                check(opt.average(params), plain.average(ref))
            if "clip_norm" in options:
                assert abs(opt.optimizer.grad_norm / plain.grad_norm - 1) < 1e-12
    for options in ({}, {"groups": GROUPS, "clip_norm": 1.0}, {"nonfinite": "raise", "clip_rms": 1.0}):
        params, ref = fastopt.pack(start()), start()
        plain, opt = (fastopt.Adam(**options, skip_norm=60.0) for _ in range(2))
        opt = DataParallel(opt)
        for step in range(4):
            mine, mean = slopes(step, ref)
            for key in mine if step == 1 else ():
                mine[key], mean[key] = mine[key] * 1024, mean[key] * 1024
            assert opt.update(params, mine) == plain.update(ref, mean) == (step != 1)
        check = close if "clip_norm" in options else same
        check(params, ref)
        assert (opt.iter, opt.skipped) == (plain.iter, plain.skipped) == (3, 1)
    with pytest.raises(ValueError, match="skip_norm can't be had with accumulate"):
        DataParallel(fastopt.Adam(accumulate=2, skip_norm=1.0))
    params = start()
    opt = DataParallel(fastopt.Adam())
    opt.optimizer.record()
    with pytest.raises(ValueError, match="rank 0.*record"):
        opt.update(params, params)
    some = {key: fastopt.Rows([0], [p[0]]) if key == "b1" else p for key, p in params.items()}
    before = {key: p.copy() for key, p in params.items()}
    with pytest.raises(TypeError, match="'b1' must be dense, got Rows"):
        DataParallel(fastopt.SGD()).update(params, some)
    assert all(np.array_equal(params[key], p) for key, p in before.items())
    opt = DataParallel(rule("Adam"))
    opt.update(params, params)
    with pytest.raises(ValueError, match="rank 0.*requires a parameter average"):
        opt.average(params)
    opt.optimizer.clip_norm_each = 1.0
    with pytest.raises(ValueError, match="before the first step"):
        opt.update(params, params)


def fortran():
    """Arrays in the order of columns, where whole arrays are needed: the bits of one process."""
    for name, options in (
        ("Adam", {"clip_norm_each": 0.5}),
        ("Adam", {"clip_adaptive": 0.25}),
        ("SM3", {"clip_norm_each": 0.5, "clip_adaptive": 0.25}),
        ("Adafactor", {}),
        ("Muon", {}),
        ("Adam", {"cautious": True}),
        ("LARS", {"cautious": True}),
    ):
        shapes = shapes_of(name)
        params, ref = ({k: np.asfortranarray(p) for k, p in start(0, shapes).items()} for _ in range(2))
        plain, opt = rule(name, **options), DataParallel(rule(name, **options))
        for step in range(3):
            mine, mean = slopes(step, ref)
            opt.update(params, {key: np.asfortranarray(grad) for key, grad in mine.items()})
            plain.update(ref, mean)
        same(params, ref)
        same_state(opt, plain)


GROUPS = {
    "W*": {"lr": 0.25},
    "b1": {"freeze": True},
    lambda key, array: array.shape == (40, 10): {"lr_scale": 0.5},
}


def grouped():
    """Groups, which select by names and arrays as a whole, and can be changed."""
    params, ref, plain = start(), start(), fastopt.Adam(groups=GROUPS)
    opt = DataParallel(fastopt.Adam(groups=GROUPS))
    for step, groups in enumerate((GROUPS, GROUPS, {"b2": {"lr": 0.0}}, None, GROUPS)):
        plain.groups = opt.groups = groups
        mine, mean = slopes(step, ref)
        with pytest.raises(KeyError):  # after which they are still new
            opt.update(params, {} if LAST else mine)
        opt.update(params, mine)
        plain.update(ref, mean)
        same(params, ref)
    for groups in ({"*": {"lr": 0.0}, "W*": {"lr": 1.0}}, {"W*": {"lr": 1.0}, "*": {"lr": 0.0}}):
        plain.groups = opt.groups = groups  # of which the last counts
        mine, mean = slopes(9, ref)
        opt.update(params, mine)
        plain.update(ref, mean)
        same(params, ref)
    opt.groups = {"c*": {"lr": 0.5}} if LAST else plain.groups
    with pytest.raises(ValueError, match=f"rank {RANKS - 1}.*'c.' selects none"):
        opt.update(params, params)
    opt.groups = plain.groups
    opt.update(params, mine)
    plain.update(ref, mean)
    same(params, ref)
    before = {key: p.copy() for key, p in params.items()}
    opt.optimizer.groups = {"c*": {"lr": 0.5}}
    with pytest.raises(ValueError, match=r"rank 0.*'c\*' selects none"):
        opt.update(params, params)
    if RANKS > 1:
        opt.optimizer.groups = {"b1": {"lr": 0.5}} if LAST else None
        with pytest.raises(
            ValueError, match=f"groups must .*'lr': 0.5.* on rank {RANKS - 1}, none on rank 0"
        ):
            opt.update(params, params)
    same(params, before)


def frozen():
    """Parameters that are frozen for some steps have their own counts, on every rank, and in checkpoints."""
    usual, sharding.BUCKET_SIZE, sharding.MIN_MESSAGE_SIZE = sharding.BUCKET_SIZE, 512, 1
    off = {"freeze": True}
    for name in ("Adam", "Prodigy", "NovoGrad", "SM3", "SGD"):
        params, ref = fastopt.pack(start()), start()
        check = close if RANKS > 1 and rule(name).n_additive else same
        plain, opt = (rule(name, swa=1) for _ in range(2))
        opt = DataParallel(opt)
        for step, groups in enumerate(({"W1": off}, {"W1": off}, None, {"*1": off}, {"*2": off}, None)):
            plain.groups = opt.groups = groups
            mine, mean = slopes(step, ref)
            opt.update(params, mine)
            plain.update(ref, mean)
            check(params, ref)
            assert opt.iter == plain.iter == step + 1
            same_state(opt, plain, check)
            state = opt.state_dict()
            assert RANK or state.get("counts") == plain.state_dict().get("counts")
            check(opt.average(params), plain.average(ref))
    sharding.BUCKET_SIZE = usual


def flushed():
    """Micro-batches that are in are taken by flush, on all ranks."""
    for pack in (dict, fastopt.pack, lambda params: [*params.values()]):
        params, ref = pack(start()), pack(start())
        opt, plain = DataParallel(fastopt.Adam(accumulate=3)), fastopt.Adam(accumulate=3)
        assert opt.flush(params) is plain.flush(ref) is False
        for step in range(5):
            mine, mean = (pack(g) for g in slopes(step, start()))
            assert opt.update(params, mine) is plain.update(ref, mean) is (step == 2)
        assert opt.flush(params) is plain.flush(ref) is True
        assert opt.flush(params) is plain.flush(ref) is False
        assert opt.iter == plain.iter == 2
        close(*(dict(enumerate(p)) if isinstance(p, list) else p for p in (params, ref)))
        same_state(opt, plain, close)
    if RANKS > 1:
        with pytest.raises(ValueError, match="the call must be the same on all ranks"):
            opt.flush(params) if LAST else opt.update(params, params)


def as_the_rule():
    """What can be asked of the rule, and assigned to it, is DataParallel's, too; other names are refused."""
    params, opt = start(), DataParallel(fastopt.SGD(lr=0.5, ema=0.5))
    opt.lr = 0.25
    assert opt.update(params, params)
    assert (opt.optimizer.lr, opt.lr, opt.iter, opt.skipped) == (0.25, 0.25, 1, 0)
    assert "lr=0.25" in opt.describe(params)
    close(params, {key: 0.75 * p for key, p in start().items()})
    for name in ("m", "learning_rate"):
        with pytest.raises(AttributeError, match=f"has no '{name}'"):
            getattr(opt, name)
    with pytest.raises(AttributeError, match="SGD has no 'learning_rate': write optimizer.lr"):
        opt.learning_rate = 0.5
    opt.update(params, params)
    trained, average = {key: p.copy() for key, p in params.items()}, opt.average(params)
    with opt.averaged(params):
        same(params, average)
        assert not np.array_equal(params["W1"], trained["W1"])
    same(params, trained)


def changes():
    """Options that need whole arrays can be chosen until the first step; parameters that aren't any."""
    params, ref, plain, opt = start(), start(), fastopt.Adam(), DataParallel(fastopt.Adam())
    opt.broadcast({})
    assert opt.update({}, {}) is plain.update({}, {})
    opt.broadcast(params)
    opt.update(params, params)
    plain.update(ref, {key: sum([p] * RANKS) / RANKS for key, p in ref.items()})
    same(params, ref)
    params, ref, plain, opt = start(), start(), fastopt.Adam(), DataParallel(fastopt.Adam())
    opt.broadcast(params)
    plain.clip_norm_each = opt.clip_norm_each = 0.5
    for step in range(2):
        mine, mean = slopes(step, ref)
        opt.update(params, mine)
        plain.update(ref, mean)
    same(params, ref)
    opt.clip_norm_each = None
    with pytest.raises(ValueError, match="rank 0.*need whole arrays: choose before the first step"):
        opt.update(params, params)
    four = [np.full(3, i) for i in (1.0, 2.0, 3.0, 4.0)]
    opt = DataParallel(fastopt.SGD(lr=0.0, ema=0.5, clip_norm_each=1.0))
    opt.update(four, four)
    assert [array[0] for array in opt.average(four)] == [1, 2, 3, 4]
    with pytest.raises(TypeError, match="rank 0.*params must stay a list"):
        opt.update(dict(enumerate(four)), dict(enumerate(four)))
    opt, empty = DataParallel(fastopt.Adam()), []
    opt.update(empty, empty)
    state = opt.state_dict()
    assert RANK or state["state"] == {"m": [], "v": []}


def micro():
    """Micro-batches: the step is that of the plain optimizer, which gets their means."""
    for pack in (dict, fastopt.pack, lambda params: [*params.values()]):
        for name in ("Adam", "LAMB", "Adafactor"):
            for nonfinite in ("warn", "skip", "raise"):
                more = {"accumulate": 3, "nonfinite": nonfinite}
                params, ref = pack(start()), pack(start())
                plain, opt = rule(name, **more), DataParallel(rule(name, **more))
                for step in range(7):
                    mine, mean = (pack(g) for g in slopes(step, start()))
                    assert opt.update(params, mine) is plain.update(ref, mean) is (step % 3 == 2)
                    assert (opt.optimizer.iter > 0) is (step > 1)
                assert opt.optimizer.iter == plain.iter == 2
                everything = (dict(enumerate(p)) if isinstance(p, list) else p for p in (params, ref))
                close(*everything)
                same_state(opt, plain, close)
    # A bad one is left out by all, or refused on all.
    for nonfinite, last in (("skip", False), ("raise", False), ("skip", True), ("raise", True)):
        params, opt = start(), DataParallel(fastopt.SGD(accumulate=2, nonfinite=nonfinite))
        ref, plain = start(), fastopt.SGD(accumulate=2, nonfinite=nonfinite)
        if last:
            opt.update(params, params)
            plain.update(ref, ref)
        bad = start()
        bad["b1"][3] = np.inf if LAST else 1
        if nonfinite == "skip":
            assert opt.update(params, bad) is False
            assert opt.optimizer.skipped == 1
        else:
            with pytest.raises(FloatingPointError, match=f"rank {RANKS - 1}.*'b1' has NaN"):
                opt.update(params, bad)
        same(params, ref)
        for _ in range(2 - last):
            mine, mean = exact(1, ref)
            assert opt.update(params, mine) == plain.update(ref, mean)
        assert opt.optimizer.iter == 1
        close(params, ref)


def share():
    """A rank holds its share of the state, and no more than 1 % beyond."""

    def held(opt):
        return sum(array.nbytes for own in opt.engine.memory.buffers.values() for array in own)

    for name, shapes in (
        ("Adam", {"W1": (784, 100), "b1": (100,), "W2": (100, 10), "b2": (10,)}),
        ("LAMB", {"W1": (784, 100), "b1": (100,), "W2": (100, 10), "b2": (10,)}),
        ("NovoGrad", {"W1": (784, 100), "b1": (100,), "W2": (100, 10), "b2": (10,)}),
        ("Prodigy", {"W1": (784, 100), "b1": (100,), "W2": (100, 10), "b2": (10,)}),
        ("Muon", {f"W{i}": (30, 30) for i in range(12)}),
    ):
        params, plain, opt = start(0, shapes), rule(name), DataParallel(rule(name))
        opt.update(params, params)
        plain.update(params, params)
        assert held(opt.optimizer) <= (1 / RANKS + 0.01) * held(plain), name
        numbers = 8 * 2 * 4 * RANKS  # of which each rank has its own
        assert 0 <= COMM.allreduce(held(opt.optimizer)) - held(plain) <= numbers, name


def lean():
    """A step pickles nothing, and takes no more threads than there are cores for each rank."""

    def refuse(*_):
        raise RuntimeError("something is pickled")

    for name in ("Adam", "Prodigy"):
        params, opt = start(), DataParallel(rule(name, nonfinite="skip"))
        opt.update(params, start(1))
        MPI.pickle.__init__(refuse, refuse)
        try:
            with pytest.raises(RuntimeError, match="pickled"):
                MPI.pickle.dumps(None)
            assert opt.update(params, start(2))
        finally:
            MPI.pickle.__init__()
        assert opt.optimizer.threads == max(1, min(available(), len(os.sched_getaffinity(0)) // RANKS))
    assert DataParallel(rule("Adam", threads=1)).threads == 1
    assert DataParallel(rule("Adam", threads=1 if LAST else None)).threads >= 1


@dataclass(frozen=True)
class Falling(fastopt.schedules.Schedule):
    """A schedule that doesn't stop at 0."""

    value: float

    def __call__(self, t):
        return self.value * (3 - 2 * t)


def faults():
    """What one rank can't do raises the same on all, names it, and changes nothing; then it goes on."""
    culprit = f"rank {RANKS - 1}"

    def refused(opt, params, grads, kind, *words):
        """Check that a step raises, and that nothing has changed."""
        before = {key: np.array(value) for key, value in params.items()}
        state = opt.optimizer.state_dict()
        with pytest.raises(kind) as caught:
            opt.update(params, grads)
        assert all(word in str(caught.value) for word in words), caught.value
        same(params, before)
        after = opt.optimizer.state_dict()
        assert after["iter"] == state["iter"]
        for name, values in after["state"].items():
            same(values or {}, state["state"][name] or {})

    def without_b1(grads):
        del grads["b1"]

    def other_shape(grads):
        grads["b1"] = np.zeros(7)

    def none(grads):
        grads["W2"] = None

    def nan(grads):
        grads["W2"][0, 0] = np.nan

    def bad(params, change):
        """Give gradients that the last rank has something wrong with."""
        grads = {key: p * 0 for key, p in params.items()}
        if LAST:
            change(grads)
        return grads

    for nonfinite in ("raise", "skip"):
        for pack in (dict, fastopt.pack):
            params, opt = pack(start()), DataParallel(rule("Adam", nonfinite=nonfinite))
            for step in range(1, 3):
                refused(opt, params, bad(params, without_b1), KeyError, culprit, "'b1'")
                refused(opt, params, bad(params, other_shape), ValueError, culprit, "'b1'", "(7,)")
                refused(opt, params, bad(params, none), TypeError, culprit, "'W2'")
                if nonfinite == "raise":
                    words = culprit, "'W2'", f"step {step}"
                    refused(opt, params, bad(params, nan), FloatingPointError, *words)
                else:
                    before = {key: p.copy() for key, p in params.items()}
                    assert opt.update(params, bad(params, nan)) is False
                    same(params, before)
                    assert opt.optimizer.skipped == step
                good = pack(bad(params, lambda grads: None))
                if RANKS > 1:
                    lr, opt.optimizer.lr = opt.optimizer.lr, 0.5 if LAST else opt.optimizer.lr
                    refused(opt, params, good, ValueError, "lr must be the same", "0.5 on " + culprit)
                    opt.optimizer.lr = lr
                    opt.optimizer.iter += LAST
                    refused(opt, params, good, ValueError, culprit, "iter")
                    opt.optimizer.iter -= LAST
                assert opt.update(params, good) is True
                assert opt.optimizer.iter == step
    if RANKS > 1:
        for other in ({"b1": np.zeros(7)}, {"b1": np.zeros(40, "float32")}, {"c": np.zeros(3)}):
            params = start() | (other if LAST else {})
            words = culprit, *map(repr, other)
            refused(DataParallel(rule("Adam")), params, params, ValueError, *words)
        params = start()
        for own, other in (
            (rule("Adam"), rule("SGD")),
            (rule("Adam"), rule("Adam", nonfinite="raise")),
            (rule("Adam"), fastopt.Adam(beta1=0.75)),
        ):
            opt = DataParallel(other if LAST else own)
            refused(opt, params, params, ValueError, culprit, "rank 0")
        opt = DataParallel(rule("Adam"), reduce_dtype="float64" if LAST else None)
        refused(opt, params, params, ValueError, culprit, "reduce_dtype")
        reordered = dict(reversed(params.items())) if LAST else params
        refused(DataParallel(rule("Adam")), reordered, params, ValueError, culprit, "the parameters")
    params = start()
    twice = params | {"twice": params["b1"]}
    refused(DataParallel(rule("Adam")), twice, twice, ValueError, "share memory")
    opt = DataParallel(rule("Adam"))
    opt.update(params, params)
    refused(opt, {"W1": params["W1"]}, params, ValueError, "gone: ['b1'")
    with pytest.raises(ValueError, match="rank 0.*Muon takes matrices"):
        DataParallel(fastopt.Muon()).update(params, params)
    opt = DataParallel(fastopt.SGD(lr=Falling(1.0)))
    opt.update(start(), params)
    refused(opt, start(), params, ValueError, "rank 0", "lr must be")
    opt.broadcast(params)  # which takes no step
    own = fastopt.Adam()
    opt = DataParallel(own)
    opt.update(params, params)
    own.update(params, params)
    with pytest.raises(ValueError, match="stepped by itself"):
        opt.update(params, params)
    if RANKS > 1:
        opt, own = DataParallel(rule("Adam")), start(RANK)
        with pytest.raises(ValueError, match="'W1' before the first step .broadcast.*rank 1"):
            opt.update(own, params)
        opt.broadcast(own)
        opt.update(own, params)
        opt = DataParallel(fastopt.SGD(ema=0.5 if LAST else None))
        with pytest.raises(ValueError, match="SGD's ema must be the same"):
            opt.average(params)
    opt = DataParallel(rule("Adam"))
    opt.update(params, params)
    if RANK == 0:
        opt.optimizer.drop_state(next(iter(opt.optimizer.engine.memory.layout)))
    if RANKS > 1:
        with pytest.raises(ValueError, match="rank 0.*m of 'W1' must be complete, but .* are missing"):
            opt.state_dict()
    with pytest.raises(TypeError, match="not a list"):
        DataParallel([])
    accumulating = fastopt.Adam(accumulate=2)
    accumulating.update(params, params)
    for own in (opt.optimizer, accumulating):
        with pytest.raises(ValueError, match="taken steps"):
            DataParallel(own)
    with pytest.raises(ValueError, match="float16"):
        DataParallel(rule("Adam"), reduce_dtype="float16")


def warn():
    """NaN with "warn": the step is taken on all ranks, before the rank with that share warns."""
    params, opt = fastopt.pack(start()), DataParallel(rule("SGD"))
    grads = params.like()
    grads["W1"][0, 0] = np.nan
    warnings.simplefilter("error")
    if RANK == 0:
        with pytest.raises(RuntimeWarning, match=r"'W1'\[0:\d+\]"):
            opt.update(params, grads)
    else:
        opt.update(params, grads)
    assert np.isnan(params["W1"][0, 0])
    assert np.isnan(params.buffer).sum() == 1
    # Infinite norms and sums, where NumPy itself would warn: only fastopt does, after the step.
    options = [{"ema": 0.9, "clip_norm": 1.0}, {"clip_norm_each": 1.0, "clip_norm": 1.0}, {"accumulate": 2}]
    for option, sign in itertools.product(options, (1, -1)):
        params, opt, steps, grads = start(), DataParallel(fastopt.SGD(**option)), 0, start(1)
        grads["W1"][0, 0] = np.inf if LAST else sign * np.inf if sign < 0 else 1.0
        for _ in range(2 * opt.accumulate):
            try:
                opt.update(params, grads)
            except RuntimeWarning as warning:
                assert "'W1'" in str(warning)  # noqa: PT017
            steps += 1
            opt.state_dict()
        assert opt.iter * opt.accumulate == steps


SAVED = {
    "Adam": dict,
    "SGD": fastopt.pack,
    "Rprop": fastopt.pack,
    "NovoGrad": fastopt.pack,
    "Prodigy": dict,
    "Adafactor": dict,
    "Muon": dict,
}


def save(folder):
    """Two steps, written in both forms; and once more, which replaces the first."""
    for name, pack in SAVED.items():
        params, opt = pack(start(0, shapes_of(name))), DataParallel(rule(name))
        for step in range(2):
            opt.save(f"{folder}/{name}.npz", params)
            opt.save(f"{folder}/{name}", params)
            opt.update(params, exact(step, params)[0])
        opt.save(f"{folder}/{name}.npz", params)
        opt.save(f"{folder}/{name}", params)
        COMM.Barrier()
        assert len(os.listdir(f"{folder}/{name}")) == RANKS + 1
    params, opt = fastopt.pack(start()), DataParallel(fastopt.Adam(accumulate=2))
    for step in range(3):
        assert opt.update(params, exact(step, params)[0]) is (step == 1)
    opt.save(f"{folder}/between.npz", params)
    opt.save(f"{folder}/between", params)
    params, opt = mixed("F"), DataParallel(fastopt.Momentum())
    for step in range(2):
        opt.update(params, exact(step, params)[0])
    for name in ("Adam", "SGD", "Prodigy"):
        frozen, frozen_params = DataParallel(rule(name, groups={"W1": {"freeze": True}})), start()
        for step in range(2):
            frozen.update(frozen_params, exact(step, frozen_params)[0])
        frozen.save(f"{folder}/frozen{name}.npz", frozen_params)
        frozen.save(f"{folder}/frozen{name}", frozen_params)
    plain, ref = fastopt.Adam(ema=0.5), start()
    plain.update({"W1": ref["W1"]}, ref)
    if RANK == 0:
        plain.save(f"{folder}/some.npz", ref)
    opt.save(f"{folder}/mixed.npz", params)
    opt.save(f"{folder}/mixed", params)
    with pytest.raises(ValueError, match="rank 0.*must end in .npz or .safetensors, or have no suffix"):
        opt.save(f"{folder}/mixed.pkl", params)
    if RANKS > 1:
        with pytest.raises(ValueError, match="path must be the same on all ranks"):
            opt.save(f"{folder}/{RANK}", params)
    with pytest.raises(FileNotFoundError, match="rank 0"):
        opt.load(f"{folder}/nowhere.npz", params)
    interrupted(folder)
    damaged(folder)


def interrupted(folder):
    """A set that one rank can't write leaves the last one as it was."""

    def full(*_):
        raise OSError("disk full")

    params, opt = start(), DataParallel(rule("Adam"))
    opt.load(f"{folder}/Adam", params)
    before = sorted(os.listdir(f"{folder}/Adam"))
    write, files.write = files.write, full if LAST else files.write
    with pytest.raises(OSError, match=f"rank {RANKS - 1}: disk full"):
        opt.save(f"{folder}/Adam", params)
    files.write = write
    COMM.Barrier()
    assert sorted(os.listdir(f"{folder}/Adam")) == before


def damaged(folder):
    """A file that can't be loaded or written: an error on all ranks, nothing changed."""
    params, sgd, adam = start(7), DataParallel(rule("SGD")), DataParallel(rule("Adam"))
    for path in ("Adam.npz", "Adam", "none.npz", "none"):
        with pytest.raises((ValueError, OSError), match="rank 0"):
            sgd.load(f"{folder}/{path}", params)
    with pytest.raises(OSError, match="rank 0"):
        adam.save(f"{folder}/none/such.npz", params)
    if RANK == 0:  # one of the shards is missing
        os.mkdir(f"{folder}/part")
        for name in sorted(os.listdir(f"{folder}/Adam"))[1:]:
            os.link(f"{folder}/Adam/{name}", f"{folder}/part/{name}")
    COMM.Barrier()
    with pytest.raises(OSError, match="rank 0"):
        adam.load(f"{folder}/part", params)
    same(params, start(7))
    assert adam.optimizer.iter == sgd.optimizer.iter == 0


def resume(folder):
    """Go on from what other ranks have written: the bits of the plain optimizer that does."""
    for name, pack in SAVED.items():
        ref, plain = start(0, shapes_of(name)), rule(name)
        plain.load(f"{folder}/{name}.npz", ref)
        assert plain.iter == 2
        for step in range(2, 4):
            plain.update(ref, exact(step, ref)[1])
        for path in (f"{folder}/{name}.npz", f"{folder}/{name}"):
            params, opt = pack(start(9, shapes_of(name))), DataParallel(rule(name))
            opt.load(path, params)
            for step in range(2, 4):
                opt.update(params, exact(step, params)[0])
            check = close if type(plain).n_additive else same
            check(params, ref)
            same_state(opt, plain, check)


def some(folder):
    """Go on where only some parameters have been stepped on; there is no average of the others yet."""
    params, opt, ref, plain = start(), DataParallel(fastopt.Adam(ema=0.5)), start(), fastopt.Adam(ema=0.5)
    opt.load(f"{folder}/some.npz", params)
    plain.load(f"{folder}/some.npz", ref)
    with pytest.raises(ValueError, match="no average of"):
        opt.average(params)
    opt.update(params, exact(1, params)[0])
    plain.update(ref, exact(1, ref)[1])
    same(params, ref)
    same(opt.average(params), plain.average(ref))


def thawed(folder):
    """Go on with a parameter that was frozen: its own steps count."""
    for name in ("Adam", "SGD", "Prodigy"):
        ref, plain = start(), rule(name)
        plain.load(f"{folder}/frozen{name}.npz", ref)
        for step in range(2, 4):
            plain.update(ref, exact(step, ref)[1])
        for path in (f"{folder}/frozen{name}.npz", f"{folder}/frozen{name}"):
            params, opt = start(9), DataParallel(rule(name))
            opt.load(path, params)
            for step in range(2, 4):
                opt.update(params, exact(step, params)[0])
            check = close if type(plain).n_additive else same
            check(params, ref)
            same_state(opt, plain, check)
            state = opt.state_dict()
            assert RANK or state.get("counts") == plain.state_dict().get("counts")


def mixed(order):
    """Give parameters with keys that look alike, in the order of rows or of columns."""
    arrays = [np.asarray(array, order=order) for array in start(3).values()]
    return dict(zip((0, "1", "W 1", "i0"), arrays, strict=True))


def turned(folder):
    """Go on in another order of the elements than was saved; with clipping that needs whole arrays."""
    ref, plain = mixed("C"), fastopt.Momentum()
    plain.load(f"{folder}/mixed.npz", ref)
    plain.update(ref, exact(2, ref)[1])
    for path in (f"{folder}/mixed.npz", f"{folder}/mixed"):
        for order in "CF":
            params, opt = mixed(order), DataParallel(fastopt.Momentum())
            opt.load(path, params)
            opt.update(params, exact(2, params)[0])
            same(params, ref)
            same_state(opt, plain)
        with pytest.raises(ValueError, match="rank 0.*need whole arrays: make one with those"):
            DataParallel(fastopt.Momentum(clip_norm_each=1.0)).load(path, params)


def between(folder):
    """Go on between the micro-batches of a step."""
    ref, plain = start(), fastopt.Adam(accumulate=2)
    plain.load(f"{folder}/between.npz", ref)
    assert plain.update(ref, exact(3, ref)[1])
    for path in (f"{folder}/between.npz", f"{folder}/between"):
        params, opt = start(9), DataParallel(fastopt.Adam(accumulate=2))
        opt.load(path, params)
        assert opt.update(params, exact(3, params)[0])
        same(params, ref)
        same_state(opt, plain)


def dies(how):
    """One rank is lost while the others go on."""
    params, opt = start(), DataParallel(rule("Adam"))
    for step in range(1000):
        if step == 3 and LAST:
            if how == "killed":
                os.kill(os.getpid(), 9)
            if how == "raises":
                raise RuntimeError("bad luck")
            # within a step, when all have agreed
            opt.distribution.exchange.gather = lambda *_: 1 / 0
        opt.update(params, params)


def calls():
    """Ranks whose calls differ are told which, and go on; what one can't be given is an error on all."""
    params, opt = start(), DataParallel(fastopt.Adam(ema=0.5))
    opt.update(params, params)
    acts = {
        "update": lambda: opt.update(params, params),
        "flush": lambda: opt.flush(params),
        "save": lambda: opt.save("never.npz", params),
        "load": lambda: opt.load("never.npz", params),
        "average": lambda: opt.average(params),
        "broadcast": lambda: opt.broadcast(params),
        "state_dict": opt.state_dict,
        "close": opt.close,
    }
    for here, there in itertools.permutations(acts, 2) if RANKS > 1 else ():
        differ = f"is {there} on rank {RANKS - 1}, {here} on rank 0"
        with pytest.raises(ValueError, match=f"the call must be the same on all ranks, but {differ}"):
            acts[there if LAST else here]()
    culprit, given = f"rank {RANKS - 1}", None if LAST else params
    with pytest.raises(TypeError, match=culprit):
        opt.update(given, params)
    for act in (opt.broadcast, opt.average, lambda some: opt.save("never.npz", some)):
        with pytest.raises(TypeError, match=culprit):
            act(given)
    with pytest.raises(TypeError, match=culprit):
        opt.save(None if LAST else "never.npz", params)
    with pytest.raises((TypeError, OSError), match="rank 0"):
        opt.load(None if RANK == 0 else "never.npz", params)
    with pytest.raises(TypeError, match="not a DataParallel: find the learning rate in one process"):
        fastopt.lr_finder(lambda: 1.0, opt, params)
    assert opt.update(params, params)
    assert opt.iter == 2


def many():
    """One duplicate for all of a communicator, whose contexts are few; it is freed with the last user."""
    made = [DataParallel(fastopt.SGD()) for _ in range(2500)]
    assert len({opt.comm.handle for opt in made}) == 1
    for opt in made:
        opt.close()
        opt.close()
    for _ in range(2500):
        comm = COMM.Dup()
        with DataParallel(fastopt.SGD(lr=1.0), comm) as opt:
            pass
        comm.Free()
    with pytest.raises(ValueError, match="is closed"):
        opt.update(start(), start())
    with pytest.raises(ZeroDivisionError), DataParallel(fastopt.SGD()) as opt:
        raise ZeroDivisionError
    assert opt.update(start(), start())  # where others may still need it


def early():
    """The last rank's program ends before the others'."""
    params, opt = start(), DataParallel(rule("Adam"))
    for step in range(9):
        if step == 3 and LAST:
            return
        opt.update(params, params)


def shards(folder):
    """A folder keeps what isn't a checkpoint's, and the last set until the new one is on the disk."""
    folder = Path(f"{folder}/shards")
    params, opt = start(), DataParallel(rule("Adam"))
    opt.update(params, params)
    others = [
        "thesis.tex",
        "5-0123abcd-0-of-1.npz.txt",
        "x-5-0123abcd-0-of-1.npz",
        ".thesis.tex.01234567.tmp",
    ]
    left = ["5-0123abcd-0-of-1.npz", ".5-0123abcd-0-of-1.npz.01234567.tmp", ".index.npz.01234567.tmp"]
    link = "6-0123abcd-0-of-1.npz"
    if RANK == 0:
        folder.mkdir()
        for name in (*others, *left):
            (folder / name).write_text("mine")
        (folder / link).symlink_to(folder / "thesis.tex")
    COMM.Barrier()
    for named in (["thesis.tex"], ["index.npz"], [link], ["../shards/5-0123abcd-0-of-1.npz"], [], 5, [5]):
        if RANK == 0:
            files.write(folder / "index.npz", {"shards": named}, {})
        COMM.Barrier()
        with pytest.raises((ValueError, OSError), match=r"rank 0.*(no index of shards|is a link)"):
            opt.load(folder, params)
    opt.save(folder, params)
    COMM.Barrier()
    there = {path.name for path in folder.iterdir()}
    assert there >= {*others, link, "index.npz"}
    assert not there & {*left}
    assert len(there) == len(others) + 2 + RANKS
    assert (folder / "thesis.tex").read_text() == "mine"
    # The index is there, but it fails to be made durable: its shards stay.
    write = files.write

    def fail(path, *arguments):
        write(path, *arguments)
        if path.name == "index.npz":
            raise OSError("no way to the disk")

    opt.update(params, params)
    files.write = fail
    with pytest.raises(OSError, match="rank 0: no way to the disk"):
        opt.save(folder, params)
    files.write = write
    COMM.Barrier()
    again, other = start(), DataParallel(rule("Adam"))
    other.load(folder, again)
    assert other.iter == 2
    same(again, params)


def mosaic(folder):
    """Ranks that read different files are told so, with nothing changed."""
    params, opt = start(), DataParallel(rule("Adam"))
    for name in "ab":
        opt.update(params, params)
        opt.save(f"{folder}/{name}.npz", params)
    again, other = start(), DataParallel(rule("Adam"))
    if RANKS > 1:
        with pytest.raises(ValueError, match="the file that is read must be the same on all ranks"):
            other.load(f"{folder}/{'a' if LAST else 'b'}.npz", again)
        same(again, start())
        assert other.iter == 0
    other.load(f"{folder}/a.npz", again)
    assert other.iter == 1


if __name__ == "__main__":
    for job in sys.argv[1].split(","):
        globals()[job](*sys.argv[2:])
    if RANK == 0:
        print("done")
