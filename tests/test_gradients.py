"""`clip_grads` and `remove_duplicate` against the book's own."""

import numpy as np
import pytest
from cases import same_bits, snapshot

import fastopt


def book_clip_grads(grads, max_norm):
    """Stand for common/util.py of *Deep Learning from Scratch 2*."""
    total_norm = 0
    for grad in grads:
        total_norm += np.sum(grad**2)
    total_norm = np.sqrt(total_norm)
    rate = max_norm / (total_norm + 1e-6)
    if rate < 1:
        for grad in grads:
            grad *= rate


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("max_norm", [0.25, 1000])
def test_clips_as_the_book(dtype, max_norm):
    rng = np.random.default_rng(1)
    ref = [rng.standard_normal(shape).astype(dtype) for shape in ((300, 41), (41,), ())]
    ref[2] = np.array(ref[2])
    comp = [grad.copy() for grad in ref]
    norm = fastopt.clip_grads(comp, max_norm)
    assert norm == pytest.approx(np.sqrt(sum(float((grad.astype(float) ** 2).sum()) for grad in ref)), 1e-6)
    before = snapshot(ref)
    book_clip_grads(ref, max_norm)
    assert (snapshot(ref) == before) == (max_norm == 1000)
    assert all(map(same_bits, ref, comp))
    as_dict = {"a": np.array([3.0, 4.0])}
    assert fastopt.clip_grads(as_dict, 1) == 5
    np.testing.assert_allclose(as_dict["a"], [0.6, 0.8], 1e-6)


@pytest.mark.parametrize(
    ("bad", "max_norm", "error", "message"),
    [
        (np.array([1, 2]), 1, TypeError, "gradient of 1 is int64: it must be of floating point numbers"),
        (2.0, 1, TypeError, "gradient of 1 is a float: it must be an array"),
        (np.broadcast_to(1.0, 3), 1, ValueError, "gradient of 1 is read-only"),
        (np.ones(3), 0, ValueError, "max_norm must be above 0"),
    ],
)
def test_nothing_is_written_before_an_error(bad, max_norm, error, message):
    grads = [np.full(3, 9.0), bad]
    with pytest.raises(error, match=message):
        fastopt.clip_grads(grads, max_norm)
    assert (grads[0] == 9).all()


def test_shared_weights_become_one():
    W, b = np.ones((2, 3)), np.zeros(3)
    params = [W, b, W, W.T, W[:], W[::-1]]
    rng = np.random.default_rng(2)
    grads = [rng.standard_normal(param.shape) for param in params]
    before = snapshot(grads)
    kept, sums = fastopt.remove_duplicate(params, grads)
    assert len(kept) == len(sums) == 3
    assert kept[0] is W
    assert kept[1] is b
    assert kept[2] is params[5]  # the same bytes in another order are another parameter
    np.testing.assert_array_equal(sums[0], grads[0] + grads[2] + grads[3].T + grads[4])
    assert sums[1] is grads[1]
    assert snapshot(grads) == before


def test_equal_values_stay_two():
    params = {"in": np.zeros((2, 3)), "out": np.zeros((3, 2)), "square": np.zeros((2, 2))}
    grads = {key: np.ones(param.shape) for key, param in params.items()}
    kept, sums = fastopt.remove_duplicate(params, grads)
    assert kept == params
    assert sums == grads


def test_rows_and_columns_with_one_element():
    W = np.zeros((1, 4))
    kept, sums = fastopt.remove_duplicate({"a": W, "b": W.T}, {"a": np.ones((1, 4)), "b": np.ones((4, 1))})
    assert list(kept) == ["a"]
    assert (sums["a"] == 2).all()


def test_a_shared_weight_with_a_gradient_of_another_shape():
    W = np.zeros((2, 3))
    with pytest.raises(ValueError, match=r"gradient of 1 has shape \(3,\), its parameter \(2, 3\)"):
        fastopt.remove_duplicate([W, W], [np.zeros((2, 3)), np.zeros(3)])
