"""Lookahead whose rule begins anew after each synchronization."""

import copy

import numpy as np
import pytest
from cases import same_bits, snapshot, state_bytes

import fastopt


def problem(seed=0):
    rng = np.random.default_rng(seed)
    return {key: rng.standard_normal(shape) for key, shape in (("W", (6, 7)), ("b", (7,)), ("K", (2, 3)))}


def test_values_worked_out_by_hand():
    """With a momentum of 1/2 and gradients of 1: v is -1, -3/2, then anew; slow is half of the way."""
    optimizer = fastopt.Momentum(1.0, 0.5, lookahead=(2, 0.5), lookahead_reset=True, ema=0.5)
    params = [np.array([8.0]), np.array([[16.0]])]
    for value, average in ((7, 7), (6.75, 41 / 6), (5.75, 87 / 14), (5.5, 35 / 6), (4.5, None)):
        assert optimizer.update(params, [np.ones(1), np.zeros((1, 1))])
        assert params[0].item() == value
        assert params[1].item() == 16
        if average is not None:  # which goes on
            assert optimizer.average(params)[0].item() == pytest.approx(average, rel=1e-15)
    assert optimizer.iter == 5
    assert optimizer.state_dict()["state"]["lookahead.slow"][0].tolist() == [5.5]


@pytest.mark.parametrize(
    "make",
    [
        lambda: fastopt.Adam(0.1),
        lambda: fastopt.Rprop(0.1),  # whose step sizes begin at lr
        lambda: fastopt.Adan(0.1),  # which begins with its first gradient
        lambda: fastopt.RAdam(0.1),
        lambda: fastopt.SOAP(0.1, precondition_frequency=1),  # which counts steps between both passes
    ],
)
def test_the_rule_is_that_of_a_new_optimizer(make):
    optimizer, params, others = make(), problem(), problem()
    optimizer.lookahead, optimizer.lookahead_reset = (3, 0.25), True
    for step in range(10):
        if step % 3 == 0:
            slow, twin = copy.deepcopy(others), make()
        for values, own in ((params, optimizer), (others, twin)):
            own.update(values, problem(step + 1))
        if step % 3 == 2:
            for key in others:
                others[key][...] = slow[key] + 0.25 * (others[key] - slow[key])
        assert snapshot(params) == snapshot(others)


@pytest.mark.filterwarnings("ignore")
def test_agrees_with_optax():
    jax, optax = pytest.importorskip("jax"), pytest.importorskip("optax")
    for inner, rule in (
        (optax.adam(0.1, eps=1e-8), fastopt.PaperAdam(0.1, eps=1e-8)),
        (optax.sgd(0.1, 0.9), fastopt.SGDM(0.1, 0.9)),
    ):
        with jax.enable_x64(True):
            twin = optax.lookahead(inner, 3, 0.25, reset_state=True)
            now = optax.LookaheadParams.init_synced(problem())
            state = twin.init(now)
            for step in range(8):
                updates, state = twin.update(problem(step + 1), state, now)
                now = optax.apply_updates(now, updates)
            theirs = jax.tree.map(np.asarray, now.fast)
        rule.lookahead, rule.lookahead_reset = (3, 0.25), True
        params = problem()
        for step in range(8):
            rule.update(params, problem(step + 1))
        for key in params:
            np.testing.assert_allclose(params[key], theirs[key], rtol=1e-12)


KINDS = ["list", "packed", "strided", "threads", "without compiler"]


@pytest.mark.parametrize("kind", KINDS)
def test_all_containers_have_the_same_bits(kind, monkeypatch):
    results = []
    for own in ("dict", kind):
        if own == "without compiler":
            monkeypatch.setenv("FASTOPT_COMPILE", "never")
        threads = 2 if own == "threads" else 1
        optimizer = fastopt.Adam(
            0.1, lookahead=(2, 0.5), lookahead_reset=True, clip_norm=5.0, threads=threads
        )
        params = problem()
        if own == "strided":
            params["W"] = np.asfortranarray(params["W"])
        params = list(params.values()) if own == "list" else params
        params = fastopt.pack(params) if own == "packed" else params
        for step in range(6):
            grads = problem(step + 1)
            given = list(grads.values()) if own == "list" else grads
            if own == "packed":
                given = params.like()
                given.update(grads)
            optimizer.update(params, given)
        assert own != "without compiler" or not optimizer.compiled
        values = params if own == "list" else params.values()
        results.append([np.array(value) for value in values])
    assert all(map(same_bits, *results))


def test_a_step_that_is_refused_changes_no_state():
    optimizer, params = (
        fastopt.Adam(0.1, lookahead=(2, 0.5), lookahead_reset=True, nonfinite="skip"),
        problem(),
    )
    twin, others = copy.deepcopy(optimizer), problem()
    for step in range(7):
        before = snapshot(params), state_bytes(optimizer)
        assert not optimizer.update(params, problem(step) | {"b": np.full(7, np.nan)})
        with pytest.raises(KeyError, match="'K'"):
            optimizer.update(params, {key: grad for key, grad in problem(step).items() if key != "K"})
        assert (snapshot(params), state_bytes(optimizer)) == before
        optimizer.update(params, problem(step))
        twin.update(others, problem(step))
    assert snapshot(params) == snapshot(others)


@pytest.mark.parametrize(
    ("make", "is_in_place"),
    [
        (fastopt.Adam, True),
        (fastopt.LAMB, True),
        (fastopt.Adan, False),  # whose first state is its first gradient
        (fastopt.SOAP, False),  # whose bases are computed before the calls of the step
    ],
)
def test_states_are_cleared_where_they_are_if_nothing_looks_at_them_before(make, is_in_place):
    optimizer, params = make(0.1, lookahead=(2, 0.5), lookahead_reset=True), problem()
    for step in range(5):
        memory = optimizer.engine.memory
        optimizer.update(params, problem(step + 1))
        assert (optimizer.engine.memory is memory) is (step in (1, 3) or (is_in_place and step > 0))


@pytest.mark.parametrize("at", [1, 2, 3])
def test_it_goes_on_from_a_file(at, tmp_path):
    arguments = {"lookahead": (2, 0.5), "lookahead_reset": True}
    results = []
    for is_resumed in (False, True):
        optimizer, params = fastopt.Adam(0.1, **arguments), problem()
        for step in range(6):
            if is_resumed and step == at:
                optimizer.save(tmp_path / "run.npz", params)
                optimizer, params = fastopt.Adam(lookahead=(2, 0.5)), problem(9)
                optimizer.load(tmp_path / "run.npz", params)
                assert optimizer.lookahead_reset
            optimizer.update(params, problem(step + 1))
        results.append(snapshot(params))
    assert results[0] == results[1]


def test_each_parameter_has_its_own_beginnings():
    """One comes late, one is thawed: each begins anew after every second step of its own."""
    options = {"lookahead": (2, 0.5), "lookahead_reset": True}
    optimizer = fastopt.Adam(0.1, **options, groups={"W": {"freeze": True}})
    params, others = problem(), problem()
    twins = {key: fastopt.Adam(0.1, **options) for key in params}
    for step in range(9):
        names = [key for key in params if key != "K" or step >= 3]
        if step == 3:
            optimizer.groups = None
        grads = problem(step + 1)
        optimizer.update({key: params[key] for key in names}, grads)
        for key in names:
            if key != "W" or step >= 3:
                twins[key].update({key: others[key]}, grads)
    assert snapshot(params) == snapshot(others)


def test_a_partition():
    members = {"W": fastopt.Momentum(0.1), "*": fastopt.Adam(0.1)}
    optimizer = fastopt.Partition(members, lookahead=(2, 0.5), lookahead_reset=True)
    own = {"W": fastopt.Momentum(0.1, lookahead=(2, 0.5), lookahead_reset=True)}
    own["b"] = own["K"] = fastopt.Adam(0.1, lookahead=(2, 0.5), lookahead_reset=True)
    params, others = problem(), problem()
    for step in range(6):
        grads = problem(step + 1)
        optimizer.update(params, grads)
        own["W"].update({"W": others["W"]}, grads)
        own["b"].update({"b": others["b"], "K": others["K"]}, grads)
    assert snapshot(params) == snapshot(others)


def test_rules_that_share_numbers_have_none():
    message = "lookahead_reset can't be had with Prodigy, whose parameters share"
    with pytest.raises(ValueError, match=message):
        fastopt.Prodigy(lookahead=(2, 0.5), lookahead_reset=True)
    prodigy = fastopt.Prodigy()
    with pytest.raises(ValueError, match=message):
        fastopt.Partition({"W": prodigy, "*": fastopt.SGD()}, lookahead=(2, 0.5), lookahead_reset=True)
    assert (prodigy.lookahead, prodigy.lookahead_reset) == (None, False)
    with pytest.raises(ValueError, match="lookahead_reset=True has no effect without lookahead"):
        fastopt.Adam(lookahead_reset=True)
    optimizer, params = fastopt.Adam(lookahead=(2, 0.5)), problem()
    optimizer.update(params, params)
    with pytest.raises(ValueError, match="lookahead_reset can't change after the first step"):
        optimizer.lookahead_reset = True
