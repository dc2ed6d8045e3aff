"""Muon, which takes matrices only, alone and in a partition."""

import numpy as np
import pytest
from cases import same_bits, snapshot, state_bytes

import fastopt
from fastopt import reference


def network(rng, keys="WVU"):
    return {key: rng.standard_normal((4, 3)) for key in keys}


def test_matrices_that_come_later_and_that_are_left_out():
    rng = np.random.default_rng(0)
    params, optimizer = network(rng), fastopt.Muon()
    for keys in ("WVU", "WV", "W", "U", "WVU", "UW"):
        twin = fastopt.Muon()
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
    ref, comp = reference.Muon(), fastopt.Muon()
    theirs = {key: p.copy() for key, p in params.items()}
    for _ in range(2):
        ref.update(theirs, grads)
        comp.update(params, grads)
        for container in (theirs, params):
            container["W"], container["V"] = container["V"], container["W"]
    assert snapshot(params) == snapshot(theirs)


def test_the_message_says_what_to_write():
    rng = np.random.default_rng(2)
    params, optimizer = network(rng) | {"b": np.ones(3), "K": np.ones((2, 2, 2))}, fastopt.Muon()
    before = snapshot(params), state_bytes(optimizer)
    with pytest.raises(ValueError, match=r"Muon takes matrices.*: \['b', 'K'\]") as caught:
        optimizer.update(params, params)
    assert (snapshot(params), state_bytes(optimizer)) == before
    start = str(caught.value).index("Partition(")
    code = str(caught.value)[start:].rpartition(":")[0]
    names = {name: getattr(fastopt, name) for name in ("Partition", "Muon", "AdamW")}
    partition = eval(code, names)
    assert partition.update(params, {key: np.ones_like(p) for key, p in params.items()})
    muon, adamw = partition.members.values()
    assert ({*muon.m}, {*adamw.m}) == ({*"WVU"}, {"b", "K"})


@pytest.mark.parametrize("shape", [(3, 4), (4, 3), (1, 5), (5, 1), (1, 1), (0, 3), (6, 6)])
@pytest.mark.parametrize("ns_steps", [0, 1, 5])
def test_whatever_the_shape(shape, ns_steps):
    rng = np.random.default_rng(3)
    param = rng.standard_normal(shape)
    ref, comp = reference.Muon(0.1, ns_steps=ns_steps), fastopt.Muon(0.1, ns_steps=ns_steps)
    theirs = [param.copy()]
    ours = [np.repeat(np.asfortranarray(param), 2, 0)[::2]]
    for _ in range(3):
        grad = rng.standard_normal(shape)
        ref.update(theirs, [grad])
        comp.update(ours, [np.asfortranarray(grad)])
        assert same_bits(ours[0], theirs[0])
        assert same_bits(comp.m[0], ref.m[0])


def test_the_number_of_iterations_may_change():
    rng = np.random.default_rng(4)
    ref, comp = reference.Muon(0.1), fastopt.Muon(0.1)
    theirs, ours = [np.ones((3, 2))], [np.ones((3, 2))]
    for ns_steps in (5, 2, 5, 0):
        ref.ns_steps = comp.ns_steps = ns_steps
        grad = rng.standard_normal((3, 2))
        ref.update(theirs, [grad])
        comp.update(ours, [grad])
        assert same_bits(ours[0], theirs[0])


def test_the_widest_array_makes_no_room_for_the_others():
    shapes = [(1, 50_000), *[(8, 8)] * 60]
    params = [np.ones(shape, "f4") for shape in shapes]
    optimizer = fastopt.SM3()
    optimizer.update(params, [p * 0.5 for p in params])
    assert sum(a.nbytes for a in optimizer.engine.plan.main.statistics) < 500_000
