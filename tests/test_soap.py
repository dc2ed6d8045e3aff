"""SOAP's bases: when they change, for which sides there are any, and what a failure leaves behind."""

import numpy as np
import pytest
from cases import same_bits, snapshot, state_bytes

import fastopt
from fastopt import optimizers, reference

SHAPES = {"W": (4, 3), "row": (1, 3), "column": (3, 1), "K": (2, 3, 2), "b": (5,), "one": (1,), "s": ()}


def network(rng, dtype="float64"):
    return {key: np.asarray(rng.standard_normal(shape), dtype) for key, shape in SHAPES.items()}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_bases_are_orthogonal_and_change_as_often_as_said(dtype):
    rng = np.random.default_rng(30)
    params, optimizer = network(rng, dtype), fastopt.SOAP(0.1, precondition_frequency=3)
    changes = []
    for t in range(1, 9):
        before = {} if t == 1 else {key: q.copy() for key, q in optimizer.q_left.items()}
        optimizer.update(params, network(rng, dtype))
        for key in ("W", "row", "column", "K"):
            for q in (optimizer.q_left[key], optimizer.q_right[key]):
                if t > 1:
                    np.testing.assert_allclose(q.T @ q, np.eye(len(q)), atol=20 * np.finfo(dtype).eps)
        if before and not same_bits(before["W"], optimizer.q_left["W"]):
            changes.append(t)
    assert changes == [2, 5, 8]
    assert optimizer.q_right["K"].shape == (6, 6)
    assert [optimizer.left[key].size for key in ("b", "one", "s")] == [0, 0, 0]


def test_vectors_are_updated_as_by_adam_a_step_later():
    rng = np.random.default_rng(31)
    ours = rng.standard_normal(7)
    theirs = ours.copy()
    soap, adam = fastopt.SOAP(0.1, weight_decay=0), fastopt.Adam(0.1, 0.95, 0.95, eps=1e-8)
    for t in range(5):
        grad = rng.standard_normal(7)
        soap.update([ours], [grad])
        if t:
            adam.update([theirs], [grad])
        np.testing.assert_allclose(ours, theirs, 1e-14)


def test_long_sides_have_no_basis(monkeypatch):
    for module in (optimizers.matrix, reference.matrix):
        monkeypatch.setattr(module, "LONGEST", 3)
    rng = np.random.default_rng(32)
    ours, ref = network(rng), reference.SOAP(0.1, precondition_frequency=2)
    comp = fastopt.SOAP(0.1, precondition_frequency=2)
    theirs = {key: p.copy() for key, p in ours.items()}
    for _ in range(6):
        grads = network(rng)
        comp.update(ours, grads)
        ref.update(theirs, grads)
        assert snapshot(ours) == snapshot(theirs)
    assert (comp.left["W"].shape, comp.right["W"].shape) == ((0, 0), (3, 3))


@pytest.mark.parametrize(("function", "step"), [("eigh", 2), ("qr", 4)])
def test_a_basis_that_cannot_be_computed_leaves_all_as_it_was(monkeypatch, function, step):
    rng = np.random.default_rng(33)
    params, optimizer = network(rng), fastopt.SOAP(0.1, precondition_frequency=2)
    twin, copies = fastopt.SOAP(0.1, precondition_frequency=2), {key: p.copy() for key, p in params.items()}

    def interrupted(matrix):
        raise KeyboardInterrupt

    for t in range(1, 7):
        grads = network(rng)
        if t == step:
            before = snapshot(params), state_bytes(optimizer)
            with monkeypatch.context() as patch:
                patch.setattr(np.linalg, function, interrupted)
                with pytest.raises(KeyboardInterrupt):
                    optimizer.update(params, grads)
            assert (snapshot(params), state_bytes(optimizer)) == before
        optimizer.update(params, grads)
        twin.update(copies, grads)
    assert snapshot(params) == snapshot(copies)
    assert state_bytes(optimizer) == state_bytes(twin)


def test_a_saved_state_of_any_shape_goes_on(tmp_path):
    rng = np.random.default_rng(34)
    params, optimizer = network(rng), fastopt.SOAP(0.1, precondition_frequency=2)
    for _ in range(3):
        optimizer.update(params, network(rng))
    optimizer.save(tmp_path / "soap.npz", params)
    again, copies = fastopt.SOAP(), network(rng)
    again.load(tmp_path / "soap.npz", copies)
    for _ in range(3):
        grads = network(rng)
        optimizer.update(params, grads)
        again.update(copies, grads)
    assert snapshot(params) == snapshot(copies)
    assert state_bytes(optimizer) == state_bytes(again)
