"""What the ranks do in the tests of MPI: ``mpiexec -n N python -m mpi4py ranks.py JOB,JOB [FOLDER]``.

Every rank checks for itself; one that fails ends all.
"""

import os
import sys
import warnings

import numpy as np
from cases import CASES
from mpi4py import MPI

import fastopt
from fastopt import optimizers
from fastopt.adapters import shares
from fastopt.adapters.mpi import DataParallel

COMM = MPI.COMM_WORLD
RANK, RANKS = COMM.rank, COMM.size
SHAPES = {"W1": (30, 40), "b1": (40,), "W2": (40, 10), "b2": (10,)}


def rule(name, **more):
    """Give a rule with its test's hyperparameters."""
    if name == "Muon":
        more["fallback"] = fastopt.AdamW()
    return getattr(fastopt, name)(**CASES[name].arguments, **more)


def start(seed=0, shapes=SHAPES, dtype="float64"):
    """Give parameters, the same on all ranks."""
    rng = np.random.default_rng(seed)
    return {key: rng.standard_normal(shape).astype(dtype) for key, shape in shapes.items()}


def slopes(step, params):
    """Give this rank's gradients and their mean, which any order of summing gives exactly on 1 to 4 ranks."""
    all_ranks = [
        {
            key: (np.random.default_rng([step, rank, i]).integers(-99, 99, np.shape(p)) * 12 / 64).astype(
                np.asarray(p).dtype
            )
            for i, (key, p) in enumerate(params.items())
        }
        for rank in range(RANKS)
    ]
    return all_ranks[RANK], {key: sum(own[key] for own in all_ranks) / RANKS for key in params}


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
            check(own["state"][name], values)


def bits():
    """Every rule, packed and not: given the same mean gradient, the bits of the plain optimizer."""
    for name in optimizers.__all__:
        for pack in (dict, fastopt.pack):
            params, ref, plain = pack(start(RANK)), start(), rule(name)
            opt = DataParallel(rule(name))
            opt.broadcast(params)
            same(params, ref)
            for step in range(3):
                mine, mean = slopes(step, ref)
                assert opt.update(params, pack(mine)) is True
                plain.update(ref, mean)
            check = close if name == "Prodigy" and RANKS > 1 else same
            check(params, ref)
            same_state(opt, plain, check)
            if hasattr(plain, "average"):
                same(opt.average(params), plain.average(ref))


def batch():
    """Every rule, on the ranks' parts of a batch: the same as one rank on all of it, but for rounding."""
    rng = np.random.default_rng(5)
    x, y = rng.standard_normal((24, 30)), rng.standard_normal((24, 40))
    mine = slice(24 // RANKS * RANK, 24 // RANKS * (RANK + 1))

    def gradient(params, part):
        error = x[part] @ params["W1"] + params["b1"] - y[part]
        return {"W1": x[part].T @ error / len(error), "b1": error.mean(0)}

    for name in optimizers.__all__:
        shapes = {key: SHAPES[key] for key in ("W1", "b1")}
        params, ref, plain = start(0, shapes), start(0, shapes), rule(name)
        opt = DataParallel(rule(name))
        for _ in range(3):
            opt.update(params, gradient(params, mine))
            plain.update(ref, gradient(ref, slice(None)))
        close(params, ref)


def kinds():
    """Containers and arrays of all kinds, reduced in several chunks; sums in another dtype."""
    rng = np.random.default_rng(1)
    some = [
        rng.standard_normal((70, 50)).astype("float32"),
        np.asfortranarray(rng.standard_normal((40, 60))),
        rng.standard_normal((33, 2)).astype("float16"),
        rng.standard_normal((20, 20))[::2, ::3],
        np.zeros((3, 0)),
        np.float64(0.5),
        2.0,
    ]
    for chunk in (4_000_000, 512):
        shares.CHUNK = chunk
        for name in ("Adam", "LAMB"):
            params, ref, plain = (
                [*map(np.copy, some[:-2]), *some[-2:]],
                [*map(np.copy, some[:-2]), *some[-2:]],
                rule(name),
            )
            arrays = params[:-2]
            opt = DataParallel(rule(name), reduce_dtype="float64")
            for step in range(3):
                mine, mean = slopes(step, dict(enumerate(ref)))
                assert opt.update(params, list(mine.values()))
                plain.update(ref, list(mean.values()))
            same(dict(enumerate(params)), dict(enumerate(ref)))
            assert all(a is b for a, b in zip(params, arrays, strict=False))
            assert [type(p) for p in params] == [type(p) for p in ref]
            state = opt.state_dict()
            if RANK == 0:
                for own, expected in zip(state["state"]["m"], plain.m, strict=True):
                    assert own.tobytes() == expected.tobytes()
        params, ref, plain = fastopt.pack(start()), start(), rule("Adam")
        opt = DataParallel(rule("Adam"))
        for step in range(3):
            mine, mean = slopes(step, ref)
            opt.update(params, mine)
            plain.update(ref, mean)
        same(params, ref)
        same_state(opt, plain)


def share():
    """A rank holds its share of the state, and no more than 1 % beyond."""

    def held(opt):
        return sum(array.nbytes for own in opt._buffers.values() for array in own)

    for name, shapes in (
        ("Adam", {"W1": (784, 100), "b1": (100,), "W2": (100, 10), "b2": (10,)}),
        ("LAMB", {f"W{i}": (30, 30) for i in range(12)}),
    ):
        params, plain, opt = start(0, shapes), rule(name), DataParallel(rule(name))
        opt.update(params, params)
        plain.update(params, params)
        assert held(opt.optimizer) <= (1 / RANKS + 0.01) * held(plain), name
        assert COMM.allreduce(held(opt.optimizer)) == held(plain), name


def faults():
    """What one rank can't do raises the same on all, names it, and changes nothing; then it goes on."""
    last = RANKS - 1

    def check(kind, *words, opt, params, grads):
        before = {key: np.array(value) for key, value in params.items()}
        state = opt.optimizer.state_dict()
        try:
            opt.update(params, grads)
        except kind as error:
            assert all(word in str(error) for word in words), str(error)
        else:
            raise RuntimeError(f"no {kind.__name__} on rank {RANK}")
        same(params, before)
        after = opt.optimizer.state_dict()
        assert after["iter"] == state["iter"]
        for name, values in after["state"].items():
            assert (values is None) == (state["state"][name] is None)
            same(values or {}, state["state"][name] or {})

    for nonfinite in ("raise", "skip"):
        for pack in (dict, fastopt.pack):
            params, opt = pack(start()), DataParallel(rule("Adam", nonfinite=nonfinite))
            for stage in range(2):
                good = params.like() if pack is fastopt.pack else {key: p * 0 for key, p in params.items()}

                def bad(change):
                    grads = {key: p * 0 for key, p in params.items()}
                    if RANK == last:
                        change(grads)
                    return grads

                case = {"opt": opt, "params": params}
                check(KeyError, f"rank {last}", "'b1'", grads=bad(lambda g: g.pop("b1")), **case)
                check(
                    ValueError, f"rank {last}", "'b1'", "(7,)",
                    grads=bad(lambda g: g.update(b1=np.zeros(7))), **case,
                )  # fmt: skip
                check(TypeError, f"rank {last}", "'W2'", grads=bad(lambda g: g.update(W2=None)), **case)
                grads = bad(lambda g: g["W2"].__setitem__((0, 0), np.nan))
                if nonfinite == "raise":
                    check(
                        FloatingPointError, f"rank {last}", "'W2'", f"step {stage + 1}", grads=grads, **case
                    )
                else:
                    before = {key: p.copy() for key, p in params.items()}
                    assert opt.update(params, grads) is False
                    same(params, before)
                    assert opt.optimizer.skipped == stage + 1
                if RANKS > 1:
                    lr = opt.optimizer.lr
                    opt.optimizer.lr = 0.5 if RANK == last else lr
                    check(ValueError, f"rank {last}", "lr", "0.5", grads=good, **case)
                    opt.optimizer.lr = lr
                    opt.optimizer.iter += RANK == last
                    try:
                        opt.update(params, good)
                    except ValueError as error:
                        assert "iter" in str(error)
                    opt.optimizer.iter -= RANK == last
                assert opt.update(params, good) is True
                assert opt.optimizer.iter == stage + 1
    if RANKS > 1:
        for change in ({"b1": np.zeros(7)}, {"b1": np.zeros(40, "float32")}, {"c": np.zeros(3)}):
            params = start() | (change if RANK == last else {})
            opt = DataParallel(rule("Adam"))
            check(ValueError, f"rank {last}", *map(repr, change), opt=opt, params=params, grads=params)
    params = start()
    shared = params | {"twice": params["b1"]}
    check(
        ValueError,
        "share memory",
        opt=DataParallel(rule("Adam")),
        params=shared,
        grads=start() | {"twice": np.zeros(40)},
    )
    opt = DataParallel(rule("Adam"))
    opt.update(params, params)
    check(ValueError, "other parameters", "'b1'", opt=opt, params={"W1": params["W1"]}, grads=params)
    # The mean can be at fault though no rank's gradient is.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        params, opt = start(dtype="float32"), DataParallel(rule("SGD"))
        opt.update(params, {key: np.full_like(p, np.nan) for key, p in params.items()})
        assert all(np.isnan(p).all() for p in params.values())


def warn():
    """NaN with "warn": the step is taken on all ranks, before the rank with that share warns."""
    params, opt = fastopt.pack(start()), DataParallel(rule("SGD"))
    grads = params.like()
    grads["W1"][0, 0] = np.nan
    warnings.simplefilter("error")
    try:
        opt.update(params, grads)
        warned = False
    except RuntimeWarning as warning:
        warned = True
        assert "float64 from 0" in str(warning)
    assert warned == (RANK == 0)
    assert np.isnan(params["W1"][0, 0])
    assert np.isnan(params.buffer).sum() == 1


SAVED = {
    "Adam": dict, "SGD": fastopt.pack, "Rprop": fastopt.pack, "Adafactor": dict, "Muon": dict, "Nesterov": dict,
}  # fmt: skip


def save(folder):
    """Two steps, written in both forms; and once more, which replaces the first."""
    for name, pack in SAVED.items():
        params, opt = pack(start()), DataParallel(rule(name))
        for step in range(2):
            opt.save(f"{folder}/{name}.npz", params)
            opt.save(f"{folder}/{name}", params)
            opt.update(params, slopes(step, params)[0])
        opt.save(f"{folder}/{name}.npz", params)
        opt.save(f"{folder}/{name}", params)
        COMM.Barrier()
        assert len(os.listdir(f"{folder}/{name}")) == RANKS + 1
    damaged(folder)


def damaged(folder):
    """A file that can't be loaded: an error on all ranks, nothing changed."""
    params, opt = start(7), DataParallel(rule("SGD"))
    for path in (f"{folder}/Adam.npz", f"{folder}/Adam", f"{folder}/none.npz", f"{folder}/none"):
        try:
            opt.load(path, params)
        except (ValueError, OSError) as error:
            assert "rank 0" in str(error)
        else:
            raise RuntimeError(f"{path} was loaded")
        same(params, start(7))
    if RANK == 0:
        os.mkdir(f"{folder}/part")
        names = sorted(os.listdir(f"{folder}/Adam"))
        for name in names[1:]:  # one of the shards is missing
            os.link(f"{folder}/Adam/{name}", f"{folder}/part/{name}")
    COMM.Barrier()
    opt = DataParallel(rule("Adam"))
    try:
        opt.load(f"{folder}/part", params)
    except OSError as error:
        assert "rank 0" in str(error)
    else:
        raise RuntimeError("a part was loaded")
    same(params, start(7))
    assert opt.optimizer.iter == 0
    try:
        opt.save(f"{folder}/no/such.npz", params)
    except OSError as error:
        assert "rank 0" in str(error)
    else:
        raise RuntimeError("saved nowhere")


def resume(folder):
    """Go on from what other ranks have written: the bits of the plain optimizer that does."""
    for name, pack in SAVED.items():
        ref, plain = start(), rule(name)
        plain.load(f"{folder}/{name}.npz", ref)
        assert plain.iter == 2
        for step in range(2, 4):
            plain.update(ref, slopes(step, ref)[1])
        for path in (f"{folder}/{name}.npz", f"{folder}/{name}"):
            params, opt = pack(start(9)), DataParallel(rule(name))
            opt.load(path, params)
            for step in range(2, 4):
                opt.update(params, slopes(step, params)[0])
            same(params, ref)
            same_state(opt, plain)


def dies(how):
    """One rank is lost while the others go on."""
    params, opt = start(), DataParallel(rule("Adam"))
    for step in range(1000):
        if step == 3 and RANK == RANKS - 1:
            if how == "killed":
                os.kill(os.getpid(), 9)
            if how == "raises":
                raise RuntimeError("bad luck")
            # within a step, when all have agreed
            opt.optimizer.__dict__["update"] = lambda *_: 1 / 0
        opt.update(params, params)


if __name__ == "__main__":
    for job in sys.argv[1].split(","):
        globals()[job](*sys.argv[2:])
    if RANK == 0:
        print("done")
