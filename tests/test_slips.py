"""Slips of beginners, and of those who come from another library: one line each says what to write here."""

import numpy as np
import pytest

import fastopt
from fastopt.schedules import Cosine

W, B = np.ones((2, 3)), np.ones((1, 3))
PARAMS = {"W": W, "b": B}
GRADS = {"W": np.ones((2, 3)), "b": np.ones((1, 3))}
Adam = fastopt.Adam


def update(params, grads, optimizer=Adam):
    return optimizer().update(params, grads)


SLIPS = {
    # Constructors.
    "learning_rate": (lambda: Adam(learning_rate=0.1), "Adam has no argument 'learning_rate': write lr=..."),
    "alpha": (lambda: Adam(alpha=0.1), "write lr=..."),
    "RMSprop's alpha": (lambda: fastopt.RMSprop(alpha=0.9), "write decay_rate=..."),
    "betas": (lambda: Adam(betas=(0.9, 0.99)), "write beta1=..., beta2=..."),
    "betas of AggMo": (lambda: fastopt.AggMo(betas=(0, 0.9, 0.99)), "beta1=..., beta2=..., beta3=..."),
    "betas of a schedule-free rule": (
        lambda: fastopt.ScheduleFreeRAdam(betas=(0.9, 0.99)),
        "write beta=..., beta2=...",
    ),
    "a warm-up of ScheduleFreeRAdam": (
        lambda: fastopt.ScheduleFreeRAdam(warmup_steps=5),
        "leave it out: no step needs a warm-up",
    ),
    "amsbound": (lambda: fastopt.AdaBound(amsbound=True), "write fastopt.AMSBound(...)"),
    "nus": (lambda: fastopt.QHAdam(nus=(0.7, 1)), "write nu1=..., nu2=..."),
    "decouple_decay": (lambda: fastopt.MADGRAD(decouple_decay=True), "leave it out: weight decay is a part"),
    "decouple_weight_decay": (lambda: fastopt.QHAdam(decouple_weight_decay=1), "write decoupled=True"),
    "clip_lambda": (lambda: fastopt.ADOPT(clip_lambda=None), "write clip_power=..."),
    "LaProp's centered": (lambda: fastopt.LaProp(centered=True), "fastopt.RMSpropGraves(...) has the var"),
    "beta_1": (lambda: Adam(beta_1=0.9), "write beta1=..."),
    "epsilon": (lambda: Adam(epsilon=1e-8), "write eps=..."),
    "momentum": (lambda: fastopt.SGD(momentum=0.9), "write fastopt.Momentum(lr, momentum)"),
    "nesterov": (lambda: fastopt.Momentum(nesterov=True), "write fastopt.Nesterov(lr, momentum)"),
    "dampening": (lambda: fastopt.SGD(dampening=0.5), "write fastopt.SGDM(lr, momentum, dampening)"),
    "RMSprop's momentum": (lambda: fastopt.RMSprop(momentum=0.9), "write fastopt.RMSpropMomentum(...)"),
    "Adam's nesterov": (lambda: fastopt.AdamW(nesterov=True), "write fastopt.NAdam(...)"),
    "eps_root": (lambda: Adam(eps_root=1e-8), "write fastopt.PaperAdam(...)"),
    "eps_in_sqrt": (lambda: fastopt.RMSprop(eps_in_sqrt=True), "write eps=0, eps_root=..."),
    "initial_scale": (lambda: fastopt.RMSprop(initial_scale=1.0), "write initial_accumulator_value=..."),
    "learning_rate_power": (
        lambda: fastopt.FTRL(learning_rate_power=-0.4),
        "it is -0.5, as other powers have other bits in NumPy than compiled",
    ),
    "decoupled_weight_decay": (lambda: Adam(decoupled_weight_decay=True), "write decoupled=True"),
    "init_step": (
        lambda: fastopt.DoG(init_step=("distance", 1.0)),
        "write reps_rel=... for a heuristic one, r0=... for a distance",
    ),
    "init_estim_sq_dist": (lambda: fastopt.DoWG(init_estim_sq_dist=0.01), "write r0=..., its root"),
    "estim_lr0": (lambda: fastopt.DAdaptAdam(estim_lr0=0.01), "write d0=..."),
    "decouple": (lambda: fastopt.DAdaptAdam(decouple=True), "write decoupled=False, or leave it out"),
    "AdamP's nesterov": (lambda: fastopt.AdamP(nesterov=True), "it has none; fastopt.NAdam(...) has"),
    "optimize_1d": (lambda: fastopt.MARS(optimize_1d=True), "leave it out: all arrays are updated"),
    "etas": (lambda: fastopt.Rprop(etas=(0.5, 1.2)), "write eta_minus=..., eta_plus=..."),
    "mask": (lambda: fastopt.Lion(mask=None), 'write decay_params="matrices", or groups={...}'),
    "no_prox": (lambda: fastopt.Adan(no_prox=False), "write proximal=True"),
    "mu_dtype": (lambda: Adam(mu_dtype="bfloat16"), 'write state_dtype="bfloat16"'),
    "state_dtype": (lambda: fastopt.Partition({"*": Adam()}, state_dtype="int8"), "give it to its members"),
    "amsgrad": (lambda: Adam(amsgrad=True), "write fastopt.AMSGrad(...)"),
    "clipnorm": (lambda: Adam(clipnorm=1.0), "write clip_norm_each=..."),
    "ema_momentum": (lambda: Adam(ema_momentum=0.9), 'write ema=..., ema_init="first"'),
    "sync_period": (lambda: Adam(sync_period=6), "write lookahead=(6, 0.5)"),
    "norm_type": (lambda: Adam(clip_norm=1.0, norm_type=1), "write clip_norm_type=..."),
    "max_squared_norm": (lambda: Adam(max_squared_norm=1e4), "write skip_norm=..., which is its root"),
    "parameters": (
        lambda: Adam(PARAMS, lr=0.1),
        "Adam takes no parameters: write optimizer = Adam(",
    ),
    "a generator": (lambda: Adam(iter([W])), "optimizer.update(params, grads)"),
    "a misspelt option": (lambda: Adam(clip_nrom=1), "did you mean clip_norm or clip_"),
    "no such argument": (lambda: Adam(zzzz=1), "there are lr, beta1, beta2"),
    "a function without the step as lr": (
        lambda: Adam(lr=lambda: 0.1),
        "as lambda t: 0.1 / t does, but <lambda>",
    ),
    "a network as lr": (lambda: Adam(str.join), "a function of the step's number that returns one"),
    "a class as lr": (lambda: Adam(lr=Cosine), "write an object of it, lr=Cosine(...)"),
    "a text as lr": (lambda: Adam(lr="0.1"), "lr must be a number, not '0.1': write lr=0.1"),
    # Names.
    "Adagrad": (lambda: fastopt.Adagrad, "module 'fastopt' has no attribute 'Adagrad': write AdaGrad"),
    "RMSProp": (lambda: fastopt.RMSProp, "write RMSprop"),
    # Methods and attributes.
    "step": (lambda: Adam().step(), "Adam has no 'step': write update(params, grads)"),
    "zero_grad": (lambda: Adam().zero_grad(), "leave it out: gradients aren't kept here"),
    "param_groups": (lambda: Adam().param_groups, "write groups={...}"),
    "a misspelt attribute": (lambda: Adam().beta_1, "did you mean beta1"),
    "a misspelt assignment": (lambda: setattr(Adam(), "beta_1", 0.5), "did you mean beta1"),
    "no object": (lambda: Adam.update(PARAMS, GRADS), "update is a method of an object: write optimizer ="),
    "no gradients": (lambda: Adam().update(PARAMS), "write optimizer.update(params, grads)"),
    # Containers.
    "values()": (lambda: update(PARAMS.values(), GRADS), "not a dict_values: write list(params)"),
    "a generator of arrays": (lambda: update(iter([W]), [W]), "write list(params)"),
    "values() of gradients": (lambda: update([W], GRADS.values()), "write list(grads)"),
    "an array": (lambda: update(W, W), "write [params]"),
    "nested": (lambda: update({"l": PARAMS}, {"l": GRADS}), "write fastopt.flatten(params)"),
    "pairs": (lambda: update([(W, B)], [(W, B)]), "write fastopt.flatten(params)"),
    "dW": (
        lambda: update(PARAMS, {f"d{key}": g for key, g in GRADS.items()}),
        "write fastopt.gradients_of(grads, 'd{}')",
    ),
    "W_grad": (
        lambda: update(PARAMS, {f"{key}_grad": g for key, g in GRADS.items()}),
        "write fastopt.gradients_of(grads, '{}_grad')",
    ),
    "swapped": (lambda: update({"dW": W}, {"W": W}), "are they swapped? write update(params, grads)"),
    # Arrays.
    "no keepdims": (
        lambda: update({"b": B}, {"b": B.sum(0)}),
        "its parameter (1, 3): sum with keepdims=True",
    ),
    "keepdims": (lambda: update({"b": B[0]}, {"b": B}), "its parameter (3,): sum without keepdims=True"),
    "integers": (
        lambda: update([np.arange(3)], [np.ones(3)]),
        "keep it as floats: params[0] = params[0].astype(float)",
    ),
    "read-only": (
        lambda: update([np.broadcast_to(1.0, 3)], [np.ones(3)]),
        "keep a copy instead, params[0] = params[0].copy()",
    ),
    "arguments by position": (
        lambda: fastopt.Adam(0.1, 0.9, 0.999, 1e-8),
        "Adam takes lr, beta1, beta2 by position, and all else by name, got 4 values",
    ),
    "save, swapped": (lambda: fastopt.Adam().save({"W": W}, "a.npz"), "write optimizer.save(path, params)"),
    "load, swapped": (lambda: fastopt.Adam().load({"W": W}, "a.npz"), "write optimizer.load(path, params)"),
    "a list of lists": (lambda: update([[[1.0, 2.0]]], [W]), "write np.array(x, float)"),
    "a gradient that is a list": (lambda: update([np.ones(2)], [[1.0, 2.0]]), "write np.array(x, float)"),
    "None": (lambda: update([W], [None]), "the gradient of 0 is None: it must be a NumPy array"),
}


@pytest.mark.parametrize("slip", SLIPS)
def test_what_to_write_is_said_in_one_line(slip):
    call, message = SLIPS[slip]
    with pytest.raises((TypeError, ValueError, KeyError, AttributeError)) as raised:
        call()
    text = str(raised.value)
    assert message in text
    assert "\n" not in text
    assert (W == 1).all()
    assert (B == 1).all()


class Tensor:
    """An array of a library that isn't there."""


@pytest.mark.parametrize(
    ("module", "hint"),
    [
        ("torch", "write x.detach().numpy(), which shares its memory"),
        ("cupy", "write cupy.asnumpy(x), or in volume 2 of the book GPU = False in common/config.py"),
        ("jaxlib", "write np.array(x)"),
        ("pandas.core.frame", "write x.to_numpy()"),
        ("mygrad.tensor", "write x.data, or fastopt.adapters.mygrad"),
    ],
)
def test_arrays_of_other_libraries(module, hint):
    kind = type("Tensor", (), {"__module__": module})
    name = f"a {module.partition('.')[0]}.Tensor"
    for params, grads, what in (
        ([kind()], [W], "parameter 0 is"),
        ([W], [kind()], "the gradient of 0 is"),
    ):
        with pytest.raises(TypeError) as raised:
            update(params, grads)
        assert str(raised.value).startswith(f"{what} {name}: it must be a NumPy array")
        assert str(raised.value).endswith(hint)


def test_files_in_the_users_words(tmp_path):
    optimizer = Adam(ema=0.9)
    params = {"W": np.ones(3)}
    optimizer.update(params, {"W": np.ones(3)})
    with pytest.raises(FileNotFoundError, match="there is no such folder: make it first: .*runs"):
        optimizer.save(tmp_path / "runs" / "a.npz", params)
    np.savez(tmp_path / "other.npz", a=np.ones(3))
    with pytest.raises(ValueError, match="it is not a checkpoint of fastopt's, but another file of arrays"):
        optimizer.load(tmp_path / "other.npz", params)
    optimizer.save(tmp_path / "a.npz", params)
    for own, message in (
        (Adam(swa=3), "this optimizer has swa"),
        (Adam(), "this optimizer has none of these"),
    ):
        with pytest.raises(ValueError, match=f"it was saved with ema, {message}; make it with the same"):
            own.load(tmp_path / "a.npz", params)


def test_attributes_are_asked_for_as_ever():
    assert not hasattr(Adam(), "step")
    assert getattr(Adam(), "zero_grad", None) is None
    assert not hasattr(Adam, "step")


def test_what_a_property_raises_is_not_hidden():
    class Own(fastopt.SGD):
        @property
        def broken(self):
            return {}.missing

    with pytest.raises(AttributeError, match="'dict' object has no attribute 'missing'"):
        _ = Own().broken
    with pytest.raises(TypeError, match="lr must be a number, not a"):
        Adam(np.array(0.1))
