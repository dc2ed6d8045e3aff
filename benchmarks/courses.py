"""Steps of courses and libraries that keep the state themselves: their own formulas beside the adapters.

``python -m benchmarks.courses`` prints the ratios of one run: both in turn, medians of blocks. The formulas
of CS231n and of *Neural Networks from Scratch* are written here; numpy-ml and DeZero take part where they are
installed.
"""

import collections
import collections.abc
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np

from fastopt.adapters import cs231n, nnfs

from .timing import Step, print_ratios, read, timed

SIZES = ("tiny", "small", "network")
SHAPES = {
    "tiny": [(1, 1)],
    "small": [(2, 64), (1, 64), (64, 3), (1, 3)],
    "network": [(784, 128), (1, 128), (128, 10), (1, 10)],
}
Arrays = tuple[list[np.ndarray], list[np.ndarray]]


def arrays(shapes: list[tuple[int, ...]], dtype: str = "float64") -> Arrays:
    """Return parameters and gradients."""
    rng = np.random.default_rng(0)
    params = [rng.standard_normal(shape).astype(dtype) for shape in shapes]
    return params, [(1e-3 * rng.standard_normal(param.shape)).astype(dtype) for param in params]


# CS231n: a function of an array, its gradient and a dict.


def own_sgd(w: Any, dw: Any, config: dict[str, Any] | None = None) -> Any:
    """Descend."""
    config = {} if config is None else config
    config.setdefault("learning_rate", 1e-2)
    w -= config["learning_rate"] * dw
    return w, config


def own_sgd_momentum(w: Any, dw: Any, config: dict[str, Any] | None = None) -> Any:
    """Descend with a velocity."""
    config = {} if config is None else config
    config.setdefault("learning_rate", 1e-2)
    config.setdefault("momentum", 0.9)
    v = config.get("velocity", np.zeros_like(w))
    config["velocity"] = v = config["momentum"] * v - config["learning_rate"] * dw
    return w + v, config


def own_rmsprop(w: Any, dw: Any, config: dict[str, Any] | None = None) -> Any:
    """Divide by the root of an average."""
    config = {} if config is None else config
    config.setdefault("learning_rate", 1e-2)
    config.setdefault("decay_rate", 0.99)
    config.setdefault("epsilon", 1e-8)
    config.setdefault("cache", np.zeros_like(w))
    rho, cache = config["decay_rate"], config["cache"]
    config["cache"] = cache = rho * cache + (1 - rho) * dw**2
    return w - config["learning_rate"] * dw / (np.sqrt(cache) + config["epsilon"]), config


def own_adam(w: Any, dw: Any, config: dict[str, Any] | None = None) -> Any:
    """Correct the bias of both averages."""
    config = {} if config is None else config
    config.setdefault("learning_rate", 1e-3)
    config.setdefault("beta1", 0.9)
    config.setdefault("beta2", 0.999)
    config.setdefault("epsilon", 1e-8)
    config.setdefault("m", np.zeros_like(w))
    config.setdefault("v", np.zeros_like(w))
    config.setdefault("t", 0)
    config["t"] += 1
    beta1, beta2, t = config["beta1"], config["beta2"], config["t"]
    config["m"] = m = beta1 * config["m"] + (1 - beta1) * dw
    config["v"] = v = beta2 * config["v"] + (1 - beta2) * dw**2
    root = np.sqrt(v / (1 - beta2**t)) + config["epsilon"]
    return w - config["learning_rate"] * (m / (1 - beta1**t)) / root, config


CONFIG = {
    "learning_rate": 1e-6, "momentum": 0.9, "decay_rate": 0.99, "epsilon": 1e-8, "beta1": 0.9, "beta2": 0.999,
}  # fmt: skip


def by_cs231n(rule: str, arrays: Arrays, by: str) -> Step:
    """Return a step over all arrays."""
    update = globals()[f"own_{rule}"] if by == "own" else getattr(cs231n, rule)
    params, grads = arrays
    items = [[param, grad, dict(CONFIG)] for param, grad in zip(params, grads, strict=True)]

    def step() -> None:
        for item in items:
            item[0], item[2] = update(*item)

    return step


# Neural Networks from Scratch: methods of an optimizer, on layers.


class OwnSGD:
    """The book's, with momentum."""

    def __init__(self) -> None:
        self.rate, self.momentum, self.iterations = 1e-6, 0.9, 0

    def update_params(self, layer: Any) -> None:
        """Update a layer."""
        if not hasattr(layer, "weight_momentums"):
            layer.weight_momentums = np.zeros_like(layer.weights)
            layer.bias_momentums = np.zeros_like(layer.biases)
        updates = self.momentum * layer.weight_momentums - self.rate * layer.dweights
        layer.weight_momentums = updates
        bias_updates = self.momentum * layer.bias_momentums - self.rate * layer.dbiases
        layer.bias_momentums = bias_updates
        layer.weights += updates
        layer.biases += bias_updates


class OwnAdam:
    """The book's."""

    def __init__(self) -> None:
        self.rate, self.epsilon, self.beta_1, self.beta_2, self.iterations = 1e-6, 1e-7, 0.9, 0.999, 0

    def update_params(self, layer: Any) -> None:
        """Update a layer."""
        beta1, beta2, t = self.beta_1, self.beta_2, self.iterations + 1
        own = vars(layer)
        for name, kind in (("weight", "weights"), ("bias", "biases")):
            value, grad = own[kind], own[f"d{kind}"]
            m = own.get(f"{name}_momentums", np.zeros_like(value))
            v = own.get(f"{name}_cache", np.zeros_like(value))
            own[f"{name}_momentums"] = m = beta1 * m + (1 - beta1) * grad
            own[f"{name}_cache"] = v = beta2 * v + (1 - beta2) * grad**2
            value += -self.rate * (m / (1 - beta1**t)) / (np.sqrt(v / (1 - beta2**t)) + self.epsilon)


def by_nnfs(rule: str, arrays: Arrays, by: str) -> Step:
    """Return a step over all layers."""
    params, grads = arrays
    if len(params) == 1:
        params, grads = [*params, params[0].copy()], [*grads, grads[0]]
    layers = [
        SimpleNamespace(weights=params[i], biases=params[i + 1], dweights=grads[i], dbiases=grads[i + 1])
        for i in range(0, len(params), 2)
    ]
    ours: Any = {"sgd": nnfs.Optimizer_SGD, "adam": nnfs.Optimizer_Adam}[rule]
    theirs: Any = {"sgd": OwnSGD, "adam": OwnAdam}[rule]
    made = theirs() if by == "own" else ours(1e-6, momentum=0.9) if rule == "sgd" else ours(1e-6)

    def step() -> None:
        for layer in layers:
            made.update_params(layer)
        made.iterations += 1

    return step


# numpy-ml and DeZero, by their own classes.


def by_numpy_ml(rule: str, arrays: Arrays, by: str) -> Step:
    """Return a step over all arrays."""
    vars(collections).setdefault("Hashable", collections.abc.Hashable)  # where numpy-ml 0.1.2 looks for it
    from numpy_ml.neural_nets import optimizers

    from fastopt.adapters import numpy_ml

    optimizer = getattr(optimizers if by == "own" else numpy_ml, rule)(lr=1e-6)
    params, grads = arrays

    def step() -> None:
        for i, grad in enumerate(grads):
            params[i] = optimizer(params[i], grad, i)

    return step


def by_dezero(rule: str, arrays: Arrays, by: str) -> Step:
    """Return `update` of a model."""
    vars(np).setdefault("int", int)  # which DeZero 0.0.13 wants
    from dezero import Layer, Parameter, Variable, optimizers

    from fastopt.adapters import dezero

    model = Layer()
    for i, (param, grad) in enumerate(zip(*arrays, strict=True)):
        setattr(model, f"p{i}", Parameter(param))
        getattr(model, f"p{i}").grad = Variable(grad)
    optimizer: Any = getattr(optimizers if by == "own" else dezero, rule)().setup(model)
    update: Step = optimizer.update
    return update


COURSES: dict[str, tuple[Callable[[str, Arrays, str], Step], list[str]]] = {
    "CS231n": (by_cs231n, ["sgd", "sgd_momentum", "rmsprop", "adam"]),
    "Neural Networks from Scratch": (by_nnfs, ["sgd", "adam"]),
    "numpy-ml": (by_numpy_ml, ["SGD", "AdaGrad", "RMSProp", "Adam"]),
    "DeZero": (by_dezero, ["SGD", "MomentumSGD", "AdaGrad", "AdaDelta", "Adam"]),
}


def make(name: str, size: str, by: str) -> Step:
    """Return a step."""
    course, rule = name.split(": ")
    return COURSES[course][0](rule, arrays(SHAPES[size]), by)


class Courses:
    """One step."""

    params = (
        [f"{course}: {rule}" for course, (_, rules) in COURSES.items() for rule in rules],
        SIZES,
        ["own", "fastopt"],
    )
    param_names = ("rule", "size", "by")

    def setup_cache(self):
        return timed(make, self.params)

    setup_cache.timeout = 600

    def track_step(self, times, *case):
        return read(times, *case)

    track_step.unit = "µs"


if __name__ == "__main__":
    print_ratios(make, Courses.params)
