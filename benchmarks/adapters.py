"""Trainings in scikit-learn, by its own steps and by fastopt's, in turn in one process."""

import warnings
from itertools import product
from statistics import median
from time import perf_counter

import numpy as np

try:
    from sklearn.neural_network import MLPClassifier, MLPRegressor, _stochastic_optimizers

    from fastopt.adapters.sklearn import patch
except ModuleNotFoundError:  # asv's own environments have only what fastopt needs
    MLPClassifier = MLPRegressor = None

ESTIMATORS = {"classifier": MLPClassifier, "regressor": MLPRegressor}


def measure(estimator, solver, turns=3):
    """Give for each implementation seconds of the fit, seconds of its steps, and the score.

    784-512-256-10, 5,000 samples, batches of 200, float64, 5 epochs.
    """
    rng = np.random.default_rng(0)
    centers = rng.standard_normal((10, 784))
    labels = rng.integers(0, 10, 5_000)
    x = centers[labels] + 4 * rng.standard_normal((5_000, 784))
    y = labels if estimator == "classifier" else np.eye(10)[labels]
    with patch():
        steps = _stochastic_optimizers.BaseOptimizer.update_params
    spent = []

    def timed(*arguments):
        start = perf_counter()
        steps(*arguments)
        spent.append(perf_counter() - start)

    def fit(implementation):
        model = ESTIMATORS[estimator](
            hidden_layer_sizes=(512, 256), solver=solver, learning_rate_init=0.001, max_iter=5, random_state=0
        )
        spent.clear()
        start = perf_counter()
        if implementation == "fastopt":
            with patch():
                model.fit(x, y)
        else:
            model.fit(x, y)
        return perf_counter() - start, sum(spent), model.score(x, y)

    _stochastic_optimizers.BaseOptimizer.update_params = timed
    try:
        with warnings.catch_warnings(action="ignore"):  # five epochs are too few to converge
            for implementation in ("scikit-learn", "fastopt"):
                fit(implementation)
            runs = [(fit("scikit-learn"), fit("fastopt")) for _ in range(turns)]
    finally:
        _stochastic_optimizers.BaseOptimizer.update_params = steps
    before, after = (tuple(median(run[side][what] for run in runs) for what in range(3)) for side in range(2))
    return {"scikit-learn": before, "fastopt": after}


class ScikitLearn:
    """The fit end to end, the optimizer's part of it, and the score."""

    params = (list(ESTIMATORS), ["adam", "sgd"], ["scikit-learn", "fastopt"])
    param_names = ("estimator", "solver", "implementation")

    def setup_cache(self):
        if MLPClassifier is None:
            return {}
        return {case: measure(*case) for case in product(*self.params[:2])}

    setup_cache.timeout = 1_800

    def setup(self, measured, estimator, solver, implementation):
        if not measured:
            raise NotImplementedError("this needs scikit-learn")

    def track_fit(self, measured, estimator, solver, implementation):
        return measured[estimator, solver][implementation][0]

    track_fit.unit = "s"

    def track_steps(self, measured, estimator, solver, implementation):
        return measured[estimator, solver][implementation][1]

    track_steps.unit = "s"

    def track_score(self, measured, estimator, solver, implementation):
        return measured[estimator, solver][implementation][2]

    track_score.unit = "score"
