"""scikit-learn's networks, trained by its own steps and by fastopt's."""

import os
import pickle
import subprocess
import sys
import warnings
from functools import partial
from pathlib import Path
from threading import Thread

import numpy as np
import pytest

pytest.importorskip("sklearn")

import sklearn
from sklearn.base import clone
from sklearn.neural_network import MLPClassifier, MLPRegressor, _stochastic_optimizers

import fastopt
from fastopt.adapters import rules
from fastopt.adapters.sklearn import current, install, patch, unpatch

pytestmark = pytest.mark.filterwarnings("ignore:Stochastic Optimizer:UserWarning")

RNG = np.random.default_rng(0)
X = RNG.standard_normal((200, 12))
Y = (X @ RNG.standard_normal((12, 4))).argmax(1)


# Whether parameters have scikit-learn's bits: its Adam computes a part of float32 in float64.
def has_same_bits(solver, dtype):
    return solver != "adam" or dtype == "float64"


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


def check(ref, comp, dtype="float64", *, is_exact=None):
    is_exact = has_same_bits(ref.solver, dtype) if is_exact is None else is_exact
    for a, b in zip(weights(ref), weights(comp), strict=True):
        assert a.dtype == b.dtype == dtype
        assert a.tobytes() == b.tobytes() if is_exact else abs(a - b).max() <= 1e-5 * abs(a).max()
    assert ref.n_iter_ == comp.n_iter_
    np.testing.assert_allclose(ref.loss_curve_, comp.loss_curve_, rtol=0 if is_exact else 1e-5)
    assert ref._optimizer.learning_rate == comp._optimizer.learning_rate
    assert type(ref._optimizer.learning_rate) is type(comp._optimizer.learning_rate)


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


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("solver", SOLVERS)
def test_the_same_training(solver, dtype):
    ref, comp = both(partial(fit, dtype=dtype), **SOLVERS[solver])
    check(ref, comp, dtype)
    assert ref.score(X, Y) == comp.score(X, Y)
    assert ref._optimizer.learning_rate < 0.01 or solver in ("constant", "plain momentum", "no momentum")
    assert vars(ref._optimizer).keys() == vars(comp._optimizer).keys()


@pytest.mark.parametrize("solver", ["adam", "constant"])
def test_a_regressor(solver):
    target = X[:, :2] * X[:, 2:4]
    ref, comp = both(lambda model: model.fit(X, target), estimator=MLPRegressor, **SOLVERS[solver])
    check(ref, comp)


@pytest.mark.parametrize("solver", ["adam", "adaptive"])
def test_early_stopping(solver):
    arguments = {"early_stopping": True, "n_iter_no_change": 2, "max_iter": 60, "tol": 0.01}
    ref, comp = both(fit, **SOLVERS[solver] | arguments)
    assert ref.n_iter_ < 60
    check(ref, comp)
    assert ref.validation_scores_ == comp.validation_scores_


@pytest.mark.parametrize("solver", ["adam", "constant", "plain momentum"])
def test_warm_start(solver):
    def twice(model):
        fit(model)
        fit(model)

    check(*both(twice, warm_start=True, **SOLVERS[solver]))


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
    check(ref, comp)


def test_clones_are_trained_anew():
    with patch():
        model = fit(new())
        assert same(model, fit(clone(model)))


def steps_of(train):
    """Return how many steps of a training fastopt has taken."""
    taken, own = [], rules.momentum
    with pytest.MonkeyPatch.context() as context:
        context.setattr(rules, "momentum", lambda *a, **k: taken.append(1) or own(*a, **k))
        train()
    return len(taken)


def test_only_this_block_and_this_thread():
    def train():
        fit(new(solver="sgd", nesterovs_momentum=False))

    def elsewhere():
        thread = Thread(target=train)
        thread.start()
        thread.join()

    assert steps_of(train) == 0
    with patch():
        assert steps_of(train) == 100
        assert steps_of(elsewhere) == 0
    assert steps_of(train) == 0
    with pytest.raises(KeyError), patch():
        raise KeyError
    assert steps_of(train) == 0


def test_patch_and_unpatch():
    def train():
        fit(new(solver="sgd", nesterovs_momentum=False))

    patch()
    try:
        with patch(fastopt.SGD(0)):
            start = new(solver="sgd", max_iter=1).fit(X, Y)
            assert same(start, fit(new(solver="sgd")))
        assert steps_of(train) == 100
    finally:
        unpatch()
    assert steps_of(train) == 0


WORKERS = """
import joblib, numpy as np
from sklearn.model_selection import cross_val_score
from sklearn.neural_network import MLPClassifier
from fastopt.adapters.sklearn import patch

def is_patched():
    from fastopt.adapters.sklearn import current
    return current.get() is not None

X = np.random.default_rng(0).standard_normal((60, 4))
model = MLPClassifier((5,), max_iter=2, random_state=0)
scores = []
for options in ({}, {"initializer": patch}):
    with joblib.parallel_config("loky", n_jobs=2, **options):
        print(joblib.Parallel()(joblib.delayed(is_patched)() for _ in range(2)))
        scores.append(cross_val_score(model, X, X[:, 0] > 0, cv=2).tolist())
print(scores[0] == scores[1])
"""


def test_workers_of_joblib_can_be_patched(tmp_path):
    """They are other processes, which joblib patches when it starts them."""
    script = tmp_path / "workers.py"
    script.write_text(WORKERS)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(script)],
        env={**os.environ, "PYTHONPATH": str(Path(fastopt.__file__).parents[1]), "PYTHONWARNINGS": "ignore"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines() == ["[False, False]", "[True, True]", "True"]


PLUGIN = """
from fastopt.adapters.sklearn import patch
patch()
"""


def test_the_librarys_own_tests_pass_with_the_patch(tmp_path):
    (tmp_path / "patched.py").write_text(PLUGIN)
    modules = [f"sklearn.neural_network.tests.{name}" for name in ("test_mlp", "test_stochastic_optimizers")]
    paths = os.pathsep.join([str(tmp_path), str(Path(fastopt.__file__).parents[1])])
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "patched",
            "-p",
            "no:cacheprovider",
            "--pyargs",
            *modules,
        ],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": paths, "OPENBLAS_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-2000:]
    assert "passed" in done.stdout


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
        check(ref, fit(new(**SOLVERS["invscaling"])), is_exact=False)


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


def test_a_patch_can_be_entered_again_and_in_other_threads():
    def patched():
        return current.get()

    one = patch()
    for _ in range(2):
        with one:
            assert patched() is one
        assert patched() is None
    with one, one:
        with patch(fastopt.SGD()) as other:
            assert patched() is other
        assert patched() is one
    assert patched() is None
    seen = []

    def work():
        with one:
            seen.append(patched())
        seen.append(patched())

    thread = Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [one, None]


@pytest.mark.parametrize("solver", ["adam", "sgd"])
def test_a_template_keeps_its_schedule(solver):
    X, y = np.random.default_rng(0).standard_normal((60, 4)), np.arange(60) % 2
    network = MLPClassifier((5,), max_iter=3, batch_size=20, solver=solver)
    with patch(fastopt.SGD(fastopt.schedules.Exponential(0.5, 0.5))), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        network.fit(X, y)
    own = network._optimizer.fastopt
    assert (own.iter, own.lr) == (9, 0.5**9)
