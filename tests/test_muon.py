"""Muon with a fallback: two optimizers, one step."""

from contextlib import nullcontext

import numpy as np
import pytest
from cases import same_bits, snapshot, state_bytes

import fastopt
from fastopt import reference


def network(rng, keys="WVUb"):
    return {key: rng.standard_normal(3 if key == "b" else (4, 3)) for key in keys}


def both():
    return (
        reference.Muon(fallback=reference.AdamW()),
        fastopt.Muon(fallback=fastopt.AdamW()),
    )


def test_matrices_that_come_later_and_that_are_left_out():
    rng = np.random.default_rng(0)
    params, optimizer = network(rng), fastopt.Muon(fallback=fastopt.AdamW())
    for keys in ("WVUb", "WVb", "Wb", "b", "WVUb", "UWb"):
        twin = fastopt.Muon(fallback=fastopt.AdamW())
        twin.load_state_dict(optimizer.state_dict())
        own, theirs = ({key: params[key].copy() for key in keys} for _ in range(2))
        grads = network(rng, keys)
        optimizer.update(own, grads)
        twin.update(theirs, grads)
        assert snapshot(own) == snapshot(theirs)
        assert all(not same_bits(own[key], params[key]) for key in keys)
        params |= own
    assert {*optimizer.m} == {*"WVU"}


def test_keys_that_change_places_are_other_parameters():
    rng = np.random.default_rng(1)
    params, grads = network(rng), network(rng)
    ref, comp = both()
    theirs = {key: p.copy() for key, p in params.items()}
    for _ in range(2):
        ref.update(theirs, grads)
        comp.update(params, grads)
        for container in (theirs, params):
            container["W"], container["V"] = container["V"], container["W"]
    assert snapshot(params) == snapshot(theirs)


@pytest.mark.parametrize("bad", [np.full((4, 3), np.nan), np.ones((3, 4)), None])
@pytest.mark.parametrize("nonfinite", ["raise", "skip"])
def test_a_refused_step_leaves_the_fallback_as_it_was(bad, nonfinite):
    rng = np.random.default_rng(2)
    params = network(rng)
    optimizer = fastopt.Muon(nonfinite=nonfinite, fallback=fastopt.Prodigy())
    for _ in range(2):  # before the first step, and after it
        before = snapshot(params), state_bytes(optimizer), state_bytes(optimizer.fallback)
        skipped = nonfinite == "skip" and np.shape(bad) == (4, 3)
        errors = (FloatingPointError, TypeError, ValueError)
        with nullcontext() if skipped else pytest.raises(errors, match="'U'"):
            assert not optimizer.update(params, network(rng) | {"U": bad})
        assert (snapshot(params), state_bytes(optimizer), state_bytes(optimizer.fallback)) == before
        optimizer.update(params, network(rng))


def test_a_number_that_cannot_be_replaced_is_refused():
    params, optimizer = (np.ones((2, 2)), 1.0), fastopt.Muon(fallback=fastopt.AdamW())
    with pytest.raises(TypeError, match="parameter 1 is a number in a container that can't be assigned to"):
        optimizer.update(params, params)
    assert (optimizer.iter, optimizer.fallback.iter, params[0].tolist()) == (0, 0, [[1, 1], [1, 1]])


def test_lists_may_lose_what_is_not_a_matrix():
    params, optimizer = [np.ones((2, 2)), np.ones(3)], fastopt.Muon(fallback=fastopt.AdamW())
    for some in (params, params[:1], params):
        optimizer.update(some, [p * 0.5 for p in some])
    assert (optimizer.iter, [*optimizer.m], [*optimizer.fallback.m]) == (3, [0], [1])


def test_what_was_saved_with_a_fallback_asks_for_it(tmp_path):
    optimizer = fastopt.Muon(fallback=fastopt.AdamW())
    optimizer.update({"W": np.ones((2, 2))}, {"W": np.ones((2, 2))})
    optimizer.save(tmp_path / "run.npz")
    with pytest.raises(ValueError, match=r"saved with fallback, this is Muon\(\): make one like it"):
        fastopt.Muon().load(tmp_path / "run.npz")
    with pytest.raises(ValueError, match="its fallback: it is the state of 'AdamW', not of SGD"):
        fastopt.Muon(fallback=fastopt.SGD()).load(tmp_path / "run.npz")


def test_an_unused_copy_has_a_fallback_of_its_own():
    rule = fastopt.Muon(0.5, fallback=fastopt.AdamW(eps=1))
    rule.update([np.ones((2, 2)), np.ones(2)], [np.ones((2, 2)), np.ones(2)])
    unused = rule._unused()
    assert (unused.lr, unused.fallback.eps, unused.iter, unused.fallback.iter) == (0.5, 1, 0, 0)
    assert unused.fallback is not rule.fallback


def test_the_widest_array_is_no_measure_for_the_others():
    shapes = [(1, 50_000), *[(8, 8)] * 60]
    params = [np.ones(shape, "f4") for shape in shapes]
    optimizer = fastopt.SM3()
    optimizer.update(params, [p * 0.5 for p in params])
    assert optimizer._plan is None or sum(a.nbytes for a in optimizer._plan.measured) < 500_000
