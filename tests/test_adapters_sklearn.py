"""scikit-learn's networks, trained by its own steps and by fastopt's."""

import pickle
from functools import partial
from threading import Thread

import numpy as np
import pytest

pytest.importorskip("sklearn")

import sklearn
from sklearn.base import clone
from sklearn.neural_network import MLPClassifier, MLPRegressor, _stochastic_optimizers

import fastopt
from fastopt.adapters.sklearn import install, patch, unpatch

pytestmark = pytest.mark.filterwarnings("ignore:Stochastic Optimizer:UserWarning")

RNG = np.random.default_rng(0)
X = RNG.standard_normal((200, 12))
Y = (X @ RNG.standard_normal((12, 4))).argmax(1)

# How far parameters may be from scikit-learn's after 100 steps, as a part of the largest.
BOUND = {"float64": 1e-13, "float32": 1e-5}


def new(estimator=MLPClassifier, **arguments):
    defaults = {"batch_size": 20, "max_iter": 10, "learning_rate_init": 0.01, "random_state": 0}
    return estimator(hidden_layer_sizes=(16, 8), **defaults | arguments)


def both(train, **arguments):
    """Give an estimator trained by scikit-learn's steps and one by fastopt's."""
    ref, comp = new(**arguments), new(**arguments)
    train(ref)
    with patch():
        train(comp)
    return ref, comp


def fit(model, dtype="float64"):
    return model.fit(X.astype(dtype), Y)


def weights(model):
    return [*model.coefs_, *model.intercepts_]


def assert_close(ref, comp, dtype="float64"):
    for a, b in zip(weights(ref), weights(comp), strict=True):
        assert a.dtype == b.dtype == dtype
        assert abs(a - b).max() <= BOUND[dtype] * abs(a).max()
    assert ref.n_iter_ == comp.n_iter_
    np.testing.assert_allclose(ref.loss_curve_, comp.loss_curve_, rtol=BOUND[dtype])
    np.testing.assert_allclose(ref._optimizer.learning_rate, comp._optimizer.learning_rate, rtol=1e-15)


def same(ref, comp):
    return all(a.tobytes() == b.tobytes() for a, b in zip(weights(ref), weights(comp), strict=True))


SOLVERS = {
    "adam": {"solver": "adam"},
    "constant": {"solver": "sgd"},
    "invscaling": {"solver": "sgd", "learning_rate": "invscaling"},
    "adaptive": {"solver": "sgd", "learning_rate": "adaptive", "tol": 10, "n_iter_no_change": 1},
    "plain momentum": {"solver": "sgd", "nesterovs_momentum": False},
    "no momentum": {"solver": "sgd", "momentum": 0},
}


@pytest.mark.parametrize("dtype", BOUND)
@pytest.mark.parametrize("solver", SOLVERS)
def test_the_same_training_within_rounding(solver, dtype):
    ref, comp = both(partial(fit, dtype=dtype), **SOLVERS[solver])
    assert_close(ref, comp, dtype)
    assert ref.score(X, Y) == comp.score(X, Y)
    assert ref._optimizer.learning_rate < 0.01 or solver in ("constant", "plain momentum", "no momentum")
    assert vars(ref._optimizer).keys() == vars(comp._optimizer).keys()


@pytest.mark.parametrize("solver", ["adam", "constant"])
def test_a_regressor(solver):
    target = X[:, :2] * X[:, 2:4]
    ref, comp = both(lambda model: model.fit(X, target), estimator=MLPRegressor, **SOLVERS[solver])
    assert_close(ref, comp)


@pytest.mark.parametrize("solver", ["adam", "adaptive"])
def test_early_stopping(solver):
    arguments = {"early_stopping": True, "n_iter_no_change": 2, "max_iter": 60, "tol": 0.01}
    ref, comp = both(fit, **SOLVERS[solver] | arguments)
    assert ref.n_iter_ < 60
    assert_close(ref, comp)
    assert ref.validation_scores_ == comp.validation_scores_


@pytest.mark.parametrize("solver", ["adam", "constant", "plain momentum"])
def test_warm_start(solver):
    def twice(model):
        fit(model)
        fit(model)

    assert_close(*both(twice, warm_start=True, **SOLVERS[solver]))


@pytest.mark.parametrize("solver", ["adam", "constant", "plain momentum"])
def test_partial_fit_with_and_without_fastopt_in_turn(solver):
    """The state goes to and fro, also through pickles, which have nothing of fastopt."""
    ref, comp = new(**SOLVERS[solver]), new(**SOLVERS[solver])
    for turn in range(6):
        ref.partial_fit(X, Y, classes=range(4))
        if turn % 3 == 0:
            comp.partial_fit(X, Y, classes=range(4))
        else:
            with patch():
                comp.partial_fit(X, Y, classes=range(4))
        if turn % 2:
            content = pickle.dumps(comp)
            assert b"fastopt" not in content
            comp = pickle.loads(content)
    assert_close(ref, comp)


def test_clones_are_trained_anew():
    with patch():
        model = fit(new())
        assert same(model, fit(clone(model)))


def test_only_this_block_and_this_thread():
    ref = fit(new(solver="sgd"))
    with patch():
        comp = fit(new(solver="sgd"))
        assert not same(ref, comp)  # other roundings
        elsewhere = new(solver="sgd")
        thread = Thread(target=fit, args=[elsewhere])
        thread.start()
        thread.join()
    assert same(ref, elsewhere)
    assert same(ref, fit(new(solver="sgd")))
    with pytest.raises(KeyError), patch():
        raise KeyError
    assert same(ref, fit(new(solver="sgd")))


def test_patch_and_unpatch():
    ref = fit(new(solver="sgd"))
    patch()
    try:
        comp = fit(new(solver="sgd"))
        with patch(fastopt.SGD(0)):
            start = new(solver="sgd", max_iter=1).fit(X, Y)
            assert same(start, fit(new(solver="sgd")))
        assert same(comp, fit(new(solver="sgd")))
    finally:
        unpatch()
    assert not same(ref, comp)
    assert same(ref, fit(new(solver="sgd")))


def test_another_rule():
    rule = fastopt.Lion(1e-3)
    with patch(rule):
        model, other = fit(new()), fit(new())
    assert same(model, other)  # each has a state of its own
    assert rule.iter == 0
    assert rule.m is None
    assert model.loss_curve_[-1] < 0.9 * model.loss_curve_[0]
    assert not same(model, fit(new()))


def test_another_rule_follows_the_schedule():
    ref = fit(new(**SOLVERS["invscaling"], nesterovs_momentum=False))
    with patch(fastopt.Momentum(0.01, 0.9)):
        assert_close(ref, fit(new(**SOLVERS["invscaling"])))


def test_another_rule_goes_on_after_a_pickle_with_the_hyperparameters_of_now():
    models = [new(), new()]
    for turn in range(3):
        with patch(fastopt.Lion(1e-3 / (1 + turn), 0.5)):
            for model in models:
                model.partial_fit(X, Y, classes=range(4))
        rule = models[0]._optimizer.fastopt
        assert (rule.lr, rule.beta1, rule.iter) == (1e-3 / (1 + turn), 0.5, 10 * (turn + 1))
        models[0] = pickle.loads(pickle.dumps(models[0]))
    assert same(*models)


def test_unknown_versions_are_left_as_they_are(monkeypatch):
    monkeypatch.setattr(sklearn, "__version__", "1.99.0")
    before = _stochastic_optimizers.BaseOptimizer.update_params
    with pytest.raises(RuntimeError, match=r"scikit-learn 1\.99\.0 is left as it is: .* tested with 1\.5, "):
        install.__wrapped__()
    assert _stochastic_optimizers.BaseOptimizer.update_params is before


def test_what_is_no_optimizer_is_refused():
    with pytest.raises(TypeError, match="optimizer must be one of fastopt's, not a str"):
        patch("Lion")
    with pytest.raises(TypeError, match="not a type"):
        patch(fastopt.Lion)
