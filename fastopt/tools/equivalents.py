"""The rules of PyTorch, optax and Keras that are the same as ours, to compare results and times.

They are compiled as a whole and get gradients as arguments, not as constants, which XLA would fold; buffers
are donated. PyTorch's are fused where it has that, else foreach, on as many threads as fastopt. Differences
are measured on the same step functions as the times.
"""

import inspect
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from importlib.metadata import PackageNotFoundError, version
from operator import attrgetter
from typing import Any, NamedTuple

import numpy as np

from fastopt import optimizers
from fastopt.engine.threads import n_threads_for
from fastopt.tools.registry import takes

__all__ = [
    "LIBRARIES", "STEPS", "TOLERANCES", "Equivalent", "difference", "equivalent", "first_library",
    "version_of",
]  # fmt: skip

# For each rule its name there, and the arguments, theirs and ours, with which both are the same.
Table = dict[str, tuple[str, dict[str, Any], dict[str, Any]]]
DECAY = {"weight_decay": 0.1}

TORCH: Table = {
    "SGD": ("SGD", {}, {}),
    "Momentum": ("SGD", {"momentum": 0.9}, {}),
    "Nesterov": ("SGD", {"momentum": 0.9, "nesterov": True}, {}),
    "SGDM": ("SGD", {"momentum": 0.9, "dampening": 0.5}, {"dampening": 0.5}),
    "NAG": ("SGD", {"momentum": 0.9, "nesterov": True}, {}),
    "AdaGrad": (
        "Adagrad",
        {"eps": 1e-7, "lr_decay": 0.1, "initial_accumulator_value": 0.25},
        {"lr_decay": 0.1, "initial_accumulator_value": 0.25},
    ),
    "RMSprop": ("RMSprop", {"eps": 1e-7}, {}),
    "Adam": ("Adam", {"eps": 0.0}, {"eps": 0.0}),  # PyTorch has it elsewhere
    "ASGD": ("ASGD", {"lambd": 0.1, "t0": 5}, {"lambd": 0.1, "t0": 5}),
    "AdaDelta": ("Adadelta", {"rho": 0.95}, {}),
    "RMSpropMomentum": ("RMSprop", {"momentum": 0.9}, {}),
    # With a larger learning rate some of its parameters come close to 0.
    "RMSpropGraves": ("RMSprop", {"alpha": 0.95, "centered": True, "momentum": 0.9}, {"lr": 0.001}),
    "PaperAdam": ("Adam", {}, {}),
    "AdamW": ("AdamW", {}, {}),
    "AMSGrad": ("Adam", {"amsgrad": True}, {}),
    "AdaMax": ("Adamax", {}, {}),
    "NAdam": ("NAdam", {}, {}),
    "RAdam": ("RAdam", {}, {}),
    "Rprop": ("Rprop", {}, {}),
    "Adafactor": ("Adafactor", DECAY, DECAY),
    "Muon": ("Muon", {}, {}),
}
OPTAX: Table = {
    "SGD": ("sgd", {}, {}),
    "Momentum": ("sgd", {"momentum": 0.9}, {}),
    "Nesterov": ("sgd", {"momentum": 0.9, "nesterov": True}, {}),
    "SGDM": ("sgd", {"momentum": 0.9}, {}),
    "NAG": ("sgd", {"momentum": 0.9, "nesterov": True}, {}),
    "AdaGrad": (
        "adagrad",
        {"eps": 0.01},
        {"eps": 0.0, "eps_root": 0.01, "initial_accumulator_value": 0.1},
    ),
    "RMSprop": (
        "rmsprop",
        {"decay": 0.99, "eps": 0.01, "initial_scale": 0.5, "bias_correction": True},
        {"eps": 0.0, "eps_root": 0.01, "initial_accumulator_value": 0.5, "bias_correction": True},
    ),
    "RMSpropMomentum": (
        "rmsprop",
        {"decay": 0.99, "momentum": 0.9, "eps": 0.01, "eps_in_sqrt": False, "bias_correction": True},
        {"eps": 0.01, "bias_correction": True},
    ),
    "RMSpropGraves": (
        "rmsprop",
        {"decay": 0.95, "momentum": 0.9, "eps": 0.01, "initial_scale": 0.5, "centered": True},
        {"eps": 0.0, "eps_root": 0.01, "initial_accumulator_value": 0.5},
    ),
    "Adam": ("adam", {"eps": 0.0}, {"eps": 0.0}),
    "PaperAdam": ("adam", {"eps_root": 0.01}, {"eps_root": 0.01}),
    "AMSGrad": ("amsgrad", {"eps_root": 0.01}, {"correction": "before", "eps_root": 0.01}),
    "NAdam": ("nadam", {"eps_root": 0.01}, {"momentum_decay": 1e6, "eps_root": 0.01}),
    "RAdam": (
        "radam",
        {"eps": 0.01, "eps_root": 0.01, "threshold": 8.0},
        {"eps": 0.01, "eps_root": 0.01, "threshold": 8.0, "corrected_eps": True},
    ),
    "OptimisticGD": ("optimistic_gradient_descent", {"beta": 0.5}, {"beta": 0.5}),
    "ScheduleFreeSGD": ("contrib.schedule_free_sgd", {}, {}),
    "AdaBelief": ("adabelief", {"eps": 0.01, "eps_root": 0.001}, {"eps": 0.01, "eps_root": 0.001}),
    "Yogi": ("yogi", {}, {}),
    # With another β₂ optax differs from the paper; see Adan's docstring.
    "Adan": ("adan", {"b2": 0.5, "eps_root": 0.01, **DECAY}, {"beta2": 0.5, "eps_root": 0.01, **DECAY}),
    "ADOPT": ("contrib.adopt", {"eps": 0.5}, {"eps": 0.5}),
    "AdEMAMix": ("contrib.ademamix", {"eps_root": 0.01}, {"eps_root": 0.01}),
    "ScheduleFreeAdamW": ("contrib.schedule_free_adamw", DECAY, DECAY),
    "Signum": ("sign_sgd over trace", {"decay": 0.9}, {}),
    "Lion": ("lion", DECAY, DECAY),
    "LARS": ("lars", {"trust_coefficient": 0.5, **DECAY}, {"trust_coefficient": 0.5, **DECAY}),
    "LAMB": ("lamb", DECAY, DECAY),
    "NovoGrad": ("novograd", DECAY, DECAY),
    "SM3": ("sm3", {}, {}),
    "DoG": ("contrib.dog", {"init_step": ("distance", 0.5)}, {"lr": 1.0, "reps_rel": 0.0, "r0": 0.5}),
    "DoWG": ("contrib.dowg", {"init_estim_sq_dist": 0.25}, {"lr": 1.0, "r0": 0.5}),
    "DAdaptAdam": ("contrib.dadapt_adamw", {"estim_lr0": 0.1, **DECAY}, {"d0": 0.1, **DECAY}),
    "Prodigy": ("contrib.prodigy", {"estim_lr0": 0.1, **DECAY}, {"d0": 0.1, **DECAY}),
}
FTRL = {  # numbers that Keras's float32 has exactly
    "initial_accumulator_value": 0.125,
    "l1_regularization_strength": 0.25,
    "l2_regularization_strength": 0.5,
    "l2_shrinkage_regularization_strength": 0.0625,
    "beta": 0.5,
}
KERAS: Table = {
    "FTRL": ("Ftrl", FTRL, {"lr": 0.0625, **FTRL}),
    "AMSGrad": (
        "Adam",
        {"amsgrad": True, "epsilon": 0.125},
        {"lr": 0.0625, "eps": 0.125, "corrected_eps": False},
    ),
    "AdaMax": ("Adamax", {"epsilon": 0.125}, {"lr": 0.0625, "eps": 0.0, "eps_outside": 0.125}),
}

Arrays = Sequence[np.ndarray]


class Equivalent(NamedTuple):
    """An optimizer of another library at work.

    ``give`` takes the gradients of the steps to come, ``step`` returns when the step is done, and ``params``
    returns copies of the parameters.
    """

    give: Callable[[Arrays], None]
    step: Callable[[], Any]
    params: Callable[[], list[np.ndarray]]


@contextmanager
def by_torch(name: str, lr: float, arguments: dict[str, Any], params: Arrays) -> Iterator[Equivalent]:
    """Run PyTorch's, fused where it has that, else foreach, on as many threads as fastopt."""
    import torch

    cls = getattr(torch.optim, name)
    accepted = inspect.signature(cls).parameters
    speed = next(({option: True} for option in ("fused", "foreach") if option in accepted), {})
    before = torch.get_default_dtype(), torch.get_num_threads()
    tensors = [torch.nn.Parameter(torch.from_numpy(p.copy())) for p in params]
    torch.set_default_dtype(tensors[0].dtype)  # ASGD keeps its step size in it
    torch.set_num_threads(n_threads_for(None, sum(p.size for p in params)))
    try:
        optimizer = cls(tensors, lr=lr, **arguments, **speed)

        def give(grads: Arrays) -> None:
            for tensor, grad in zip(tensors, grads, strict=True):
                tensor.grad = torch.from_numpy(grad.copy())

        yield Equivalent(give, optimizer.step, lambda: [t.detach().numpy().copy() for t in tensors])
    finally:
        torch.set_default_dtype(before[0])
        torch.set_num_threads(before[1])


@contextmanager
def by_jax(
    params: Arrays, init: Callable[[Any], Any], update: Callable[[Any, Any, Any], tuple[Any, Any]]
) -> Iterator[Equivalent]:
    """Run a pure function, compiled as a whole, which gets its buffers of parameters and state to keep."""
    import jax

    def own(tree: Any) -> Any:
        return jax.tree.map(jax.numpy.array, tree)  # copies: no buffer may be given away twice

    with jax.enable_x64(params[0].dtype == np.float64):  # else scalars of float32 rules would be float64
        fast = jax.jit(update, donate_argnums=(1, 2))
        now = own(list(params))
        held: dict[str, Any] = {"params": now, "state": own(init(now))}

        def give(grads: Arrays) -> None:
            held["grads"] = own(list(grads))

        def step() -> None:
            held["params"], held["state"] = fast(held["grads"], held["params"], held["state"])
            jax.block_until_ready(held["params"])

        yield Equivalent(give, step, lambda: [np.array(p) for p in held["params"]])


@contextmanager
def by_optax(name: str, lr: float, arguments: dict[str, Any], params: Arrays) -> Iterator[Equivalent]:
    """Run optax's."""
    import optax

    if name == "sign_sgd over trace":
        rule = optax.chain(optax.trace(**arguments), optax.sign_sgd(lr))
    else:
        rule = attrgetter(name)(optax)(lr, **arguments)

    def update(grads: Any, params: Any, state: Any) -> tuple[Any, Any]:
        updates, state = rule.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    with by_jax(params, rule.init, update) as found:
        yield found


@contextmanager
def by_keras(name: str, lr: float, arguments: dict[str, Any], params: Arrays) -> Iterator[Equivalent]:
    """Run Keras's, on JAX."""
    os.environ.setdefault("KERAS_BACKEND", "jax")
    import keras

    if keras.backend.backend() != "jax":
        raise RuntimeError("Keras must run on JAX here: set KERAS_BACKEND=jax before it is imported")
    rule = getattr(keras.optimizers, name)(lr, **arguments)

    def init(params: Any) -> Any:
        rule.build([keras.Variable(p, dtype=p.dtype.name) for p in params])
        return [variable.value for variable in rule.variables]

    def update(grads: Any, params: Any, state: Any) -> tuple[Any, Any]:
        return rule.stateless_apply(state, grads, params)

    with by_jax(params, init, update) as found:
        yield found


class Library(NamedTuple):
    """A library: the packages that it takes, itself the first; its rules, and how they are run."""

    packages: tuple[str, ...]
    rules: Table
    run: Callable[[str, float, dict[str, Any], Arrays], AbstractContextManager[Equivalent]]


LIBRARIES = {
    "PyTorch": Library(("torch",), TORCH, by_torch),
    "optax": Library(("optax", "jax"), OPTAX, by_optax),
    "Keras": Library(("keras", "jax"), KERAS, by_keras),
}


def version_of(library: str) -> str | None:
    """Return the version of a library that is installed, or None."""
    try:
        own, *_ = map(version, LIBRARIES[library].packages)
    except PackageNotFoundError:
        return None
    return own.partition("+")[0]


def first_library(rule: str) -> str | None:
    """Return the first library that has a rule, or None."""
    return next((name for name, library in LIBRARIES.items() if rule in library.rules), None)


def equivalent(library: str, rule: str, params: Arrays, lr: float) -> AbstractContextManager[Equivalent]:
    """Run a library's equivalent of a rule on copies of some arrays."""
    name, theirs, _ = LIBRARIES[library].rules[rule]
    return LIBRARIES[library].run(name, lr, theirs, params)


STEPS = 20
TOLERANCES = {"float32": 1e-5, "float64": 1e-12}


@contextmanager
def unrounded() -> Iterator[None]:
    """Keep PyTorch's Muon from rounding to bfloat16."""
    import torch

    rounding = torch.Tensor.bfloat16
    torch.Tensor.bfloat16 = torch.Tensor.clone  # what it returns is written into
    try:
        yield
    finally:
        torch.Tensor.bfloat16 = rounding


def difference(
    rule: str, library: str, dtype: str, shapes: Sequence[tuple[int, ...]] = ((20, 30), (30,))
) -> float:
    """Return the largest relative difference between fastopt and a library's equivalent in `STEPS` steps.

    It is the largest magnitude of a difference after any step, over that of a parameter in the same array.
    Parameters start between 1 and 2, gradients are normally distributed. Arrays that the rule doesn't take
    are left out. Muon is compared without PyTorch's rounding to bfloat16.
    """
    cls = getattr(optimizers, rule)
    arguments = {"lr": 0.01, **LIBRARIES[library].rules[rule][2]}
    rng = np.random.default_rng(10)
    shapes = [shape for shape in shapes if takes(cls, len(shape))]
    params = [rng.uniform(1, 2, shape).astype(dtype) for shape in shapes]
    optimizer, worst = cls(**arguments), 0.0
    exact = unrounded() if (rule, library) == ("Muon", "PyTorch") else nullcontext()
    with exact, equivalent(library, rule, params, arguments["lr"]) as other:
        for _ in range(STEPS):
            grads = [rng.standard_normal(shape).astype(dtype) for shape in shapes]
            other.give(grads)
            other.step()
            optimizer.update(params, grads)
            for ours, theirs in zip(params, other.params(), strict=True):
                apart = np.abs(ours - theirs).max() / np.abs(theirs).max()
                worst = float(np.maximum(worst, apart))  # which keeps NaN
    return worst
