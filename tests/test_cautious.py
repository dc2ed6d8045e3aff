"""``cautious=True``: no move against the gradient, the others scaled by their share."""

from dataclasses import dataclass

import numpy as np
import pytest
from cases import DTYPES, same_bits

import fastopt

ROWS = np.array([[1.0, -2.0, 0.5], [3.0, -0.25, -1.0]])
GRADS = (
    [[1.0, -1.0, 0.5], [2.0, -0.5, 1.0]],
    [[-0.25, -1.0, 0.5], [-2.0, 0.5, 1.0]],
    [[0.5, -0.25, -1.0], [1.0, 1.0, -0.5]],
)


@fastopt.kernel
def heavy(param, grad, v, grad_scale, l2, keep, lr):
    for i in range(param.size):
        v[i] = 0.9 * v[i] - lr * (grad_scale * grad[i] + l2 * param[i])
        param[i] = keep * param[i] + v[i]


@dataclass(eq=False)
class Heavy(fastopt.Optimizer):
    kernel = heavy
    lr: float = fastopt.hyperparameter(0.1)
    v = fastopt.State()

    def scalars(self, t):
        return (self.lr,)


def steps(optimizer, param, grads=GRADS):
    """Return a parameter after some steps."""
    param = np.array(param)
    for grad in grads:
        optimizer.update([param], [np.array(grad, param.dtype)])
    return param


def test_two_steps_by_hand():
    # Velocities -0.1 each, so that the second step would be -0.09 + 0.02, -0.09 + 0.2, -0.09 - 0.1, -0.09.
    found = steps(fastopt.Momentum(0.1, cautious=True), np.ones(4), [[1, 1, 1, 1], [-0.2, -2, 1, 0]])
    # The second and third go down their gradients: half of them, so that they go twice as far.
    np.testing.assert_allclose(found, [0.9, 0.9 + 2 * 0.11, 0.9 - 2 * 0.19, 0.9], rtol=1e-12)


def test_it_is_that_of_the_authors():
    # What timm 1.0.31 has for AdamWLegacy(lr=0.1, betas=(0.5, 0.75), weight_decay=0.1, caution=True).
    expected = [
        [0.8019861850820846, -1.6348611921981024, 0.3248910661828283],
        [2.8316318146007413, -0.28595756249213106, -1.1871089978319],
    ]
    optimizer = fastopt.AdamW(0.1, beta1=0.5, beta2=0.75, weight_decay=0.1, cautious=True)
    np.testing.assert_allclose(steps(optimizer, ROWS), expected, rtol=1e-13)


@pytest.mark.parametrize("dtype", DTYPES)
def test_where_all_elements_agree_the_step_is_the_rules_own(dtype):
    ones = np.linspace(0.1, 2, 5000, dtype=dtype)
    plain, cautious = fastopt.Adam(), fastopt.Adam(cautious=True)
    assert same_bits(*(steps(own, ones, [ones, 2 * ones, ones]) for own in (plain, cautious)))


def test_where_none_agrees_only_decoupled_decay_is_left():
    optimizer = fastopt.AdamW(0.1, weight_decay=0.5, cautious=True)
    found = steps(optimizer, np.ones(3), [np.ones(3)])
    after = steps(optimizer, found, [np.full(3, -1e-9)])
    assert (after == found * 0.95).all()


def test_a_tenth_of_a_percent_is_the_smallest_share():
    grad = np.zeros(5000)
    grad[7] = 2.0
    found = steps(fastopt.SGD(0.25, cautious=True), np.ones(5000), [grad])
    assert found[7] == 1 - 1000 * 0.5
    assert (np.delete(found, 7) == 1).all()


def test_nan_is_passed_on():
    with pytest.warns(RuntimeWarning):
        found = steps(fastopt.SGD(0.25, cautious=True), np.ones(3), [[1, np.nan, 0]])
    assert np.isnan(found).tolist() == [False, True, False]


@pytest.mark.parametrize("rule", ["Adam", "LARS", "Muon", "Prodigy"])
def test_it_can_be_switched_between_steps_in_any_layout(rule):
    rng = np.random.default_rng(3)
    grads = [rng.standard_normal((70, 90)) for _ in range(6)]
    results = []
    for order, threads in (("C", 1), ("F", 1), ("C", 2)):
        optimizer, param = getattr(fastopt, rule)(threads=threads), np.full((70, 90), 0.5, order=order)
        for step, grad in enumerate(grads):
            optimizer.cautious = 2 <= step < 4
            optimizer.update({"W": param}, {"W": np.array(grad, order="CF"[step % 2])})
        results.append(np.ascontiguousarray(param))
    assert same_bits(results[0], results[1])
    assert same_bits(results[0], results[2])


def test_packed_parameters_have_a_share_of_each_array():
    given = {"W": ROWS, "b": np.array([0.5, 1.0])}
    grads = [{"W": np.array(g), "b": np.array([1.0, g[0][0]])} for g in GRADS]
    plain, packed = {key: p.copy() for key, p in given.items()}, fastopt.pack(given)
    own, other = fastopt.Momentum(cautious=True), fastopt.Momentum()
    other.update(packed, fastopt.pack({key: np.zeros_like(p) for key, p in given.items()}))
    other.cautious = True  # after a step in one pass
    for grad in grads:
        own.update(plain, grad)
        other.update(packed, fastopt.pack(grad))
    assert all(same_bits(plain[key], packed[key]) for key in given)


def test_a_kernel_of_ones_own():
    expected = steps(fastopt.Momentum(0.1, cautious=True), ROWS)
    np.testing.assert_allclose(steps(Heavy(0.1, cautious=True), ROWS), expected, rtol=1e-15)


def test_it_is_saved_and_loaded():
    optimizer = fastopt.Adam(cautious=True)
    param = steps(optimizer, ROWS)
    other = fastopt.Adam()
    other.load_state_dict(optimizer.state_dict())
    assert other.cautious is True
    assert "cautious=True" in repr(other)
    assert same_bits(steps(other, param), steps(optimizer, param))


def test_rows_are_refused():
    with pytest.raises(ValueError, match="'E' is of rows, but cautious=True needs whole arrays"):
        fastopt.SGD(cautious=True).update({"E": ROWS.copy()}, {"E": fastopt.Rows([0], ROWS[:1])})
    with pytest.raises(TypeError, match="cautious must be False or True, not 1"):
        fastopt.SGD(cautious=1)
