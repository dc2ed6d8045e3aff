"""Rules that find their learning rate, from numbers of all arrays: what is special about them."""

import numpy as np
import pytest
from cases import same_bits

import fastopt
from fastopt.tools import equivalents

START = [[1.0, -2.0, 0.5], [0.25, 3.0, -1.5]]
GRAD = [[0.5, -1.0, 2.0], [-0.25, 0.125, 1.5]]

# For growth_rate and decouple, the parameters and d after eight steps of dadaptation 3.2,
#     DAdaptAdam([param], 1.0, (0.8, 0.9), 1e-3, 0.1, d0=0.01, growth_rate=..., decouple=...)
# with param = torch.nn.Parameter(torch.tensor(START, dtype=torch.float64)), whose gradient in step t, from 0,
# is torch.tensor(GRAD, dtype=torch.float64) * (1 + t % 3). It doesn't correct for the start.
DADAPTATION = {
    (None, True): (
        [
            [0.6898041550012, -1.6417095434168163, 0.2134430887857551],
            [0.4999256842620402, 2.595239561060309, -1.6907418314887406],
        ],
        0.2391864017461489,
    ),
    (None, False): (
        [
            [0.729625554849181, -1.7289064963890446, 0.23187225326965896],
            [0.5123035554117675, 2.7164160665865045, -1.7650993491049305],
        ],
        0.24031836892033018,
    ),
    (1.02, True): (
        [
            [0.9167461785438342, -1.9082667361396923, 0.4208333990552909],
            [0.3225980322451926, 2.9003923096315503, -1.5623473966963666],
        ],
        0.011486856676492801,
    ),
}


@pytest.mark.parametrize(("growth_rate", "decouple"), DADAPTATION)
def test_d_adaptation_as_its_authors_have_it(growth_rate, decouple):
    optimizer = fastopt.DAdaptAdam(
        1.0, 0.8, 0.9, eps=1e-3, weight_decay=0.1, decoupled=None if decouple else False, d0=0.01,
        growth_rate=growth_rate, use_bias_correction=False,
    )  # fmt: skip
    params = [np.array(START)]
    for t in range(8):
        optimizer.update(params, [np.array(GRAD) * (1 + t % 3)])
    expected, d = DADAPTATION[growth_rate, decouple]
    np.testing.assert_allclose(params[0], expected, 1e-12)
    np.testing.assert_allclose(optimizer.d[0].item(), d, 1e-12)


def test_layer_wise_dog_as_its_authors_have_it():
    """After eight steps of dog 1.0.3, LDoG(params, 0.01, eps=1e-3), with tensors of the same numbers."""
    optimizer, params = fastopt.LDoG(reps_rel=0.01, eps=1e-3), [np.array(START), np.array([0.5, -0.25])]
    for t in range(8):
        optimizer.update(params, [np.array(GRAD) * (1 + t % 3), np.array([2.0, -3.0]) * (2 + t % 2)])
    expected = [
        [0.8555046962516517, -1.7110093925033034, -0.07798121499339317],
        [0.32224765187417415, 2.9638761740629125, -1.933485911245045],
    ]
    np.testing.assert_allclose(params[0], expected, 1e-12)
    np.testing.assert_allclose(params[1], [0.36043689362714065, -0.04065534044071092], 1e-12)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("rule", "ours", "theirs", "number", "growth"),
    [
        ("DoG", {"reps_rel": 1e-4}, {"init_step": ("heuristic", 1e-4)}, "r", 100),
        ("DoWG", {"r0": 0.1}, {"init_estim_sq_dist": 0.01}, "r", 10),
        ("DAdaptAdam", {"d0": 1e-4}, {"estim_lr0": 1e-4}, "d", 10),
    ],
)
def test_what_grows_is_that_of_all_arrays(rule, ours, theirs, number, growth):
    """In optax it is one number."""
    pytest.importorskip("optax")
    rng = np.random.default_rng(10)
    params = [rng.uniform(1, 2, shape) for shape in [(20, 30), (7,), (), (3, 4, 5)]]
    optimizer = getattr(fastopt, rule)(**ours)
    name = equivalents.OPTAX[rule][0]
    first = None
    with equivalents.by_optax(name, 1.0, theirs, params) as twin:
        for _ in range(20):
            grads = [np.asarray(1 + 0.5 * rng.standard_normal(p.shape)) for p in params]
            optimizer.update(params, grads)
            twin.give(grads)
            twin.step()
            first = getattr(optimizer, number)[0].item() if first is None else first
        expected = twin.params()
    assert getattr(optimizer, number)[0].item() > growth * first
    for ref, comp, own in zip(expected, params, getattr(optimizer, number), strict=True):
        np.testing.assert_allclose(comp, ref, 1e-12)
        assert own.item() == getattr(optimizer, number)[0].item()


@pytest.mark.parametrize(
    ("rule", "first"), [("DoG", {"reps_rel": 0.0}), ("LDoG", {"reps_rel": 0.0}), ("DoWG", {})]
)
def test_distance_is_that_of_the_present_and_of_the_past(rule, first):
    """It never shrinks, whatever way the parameters go, and zero gradients move nothing."""
    optimizer, params = getattr(fastopt, rule)(r0=0.5, **first), {"W": np.ones((2, 2)), "b": np.zeros(3)}
    seen = []
    for sign in (1, 1, -1, -1, 0):
        before = {key: p.copy() for key, p in params.items()}
        optimizer.update(params, {key: np.full_like(p, sign) for key, p in params.items()})
        seen.append(optimizer.r["b"].item())
        assert all(same_bits(params[key], before[key]) for key in params) is (sign == 0)
    assert seen == sorted(seen)
    assert seen[0] == 0.5 < seen[-1]
