"""Constructors of PyTorch, optax, Keras and MLX: the same steps here, or a reason why not."""

import inspect
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from operator import attrgetter

import numpy as np
import pytest
from keras_numbers import FIVE_STEPS, ONE_STEP
from test_demo import refused

import fastopt
from fastopt.cli.program import main
from fastopt.tools import equivalents
from fastopt.tools.peers import constructors
from fastopt.tools.peers.author_rules import PACKAGES
from fastopt.tools.peers.calls import Refusal, signature_of
from fastopt.tools.peers.runs import can_run
from fastopt.tools.peers.settings import SETTINGS, calls
from fastopt.tools.peers.translation import LIBRARIES, read, rules_of, translate
from fastopt.tools.peers.translation import constructors as constructors_of
from fastopt.tools.peers.trial import SLOW, Outcome, try_call

# What belongs to no extra is compared where it is.
COMPARED = {
    name: [
        text
        for text in calls(name)
        if name in ("torch", *SLOW) or can_run(name, constructors.constructor(text))
    ]
    for name in SETTINGS
}
MODULES = {"torch": "torch.optim", "optax": "optax", "keras": "keras.optimizers", "mlx": "mlx.optimizers"}
# How many settings are tried and refused. PyTorch's own tests have 129 of those tried here.
COUNTS = {
    "torch": (176, 6),
    "optax": (192, 25),
    "keras": (111, 6),
    "mlx": (46, 2),
    "authors": (105, 9),
}


def need(library):
    if not all(map(find_spec, LIBRARIES[library].packages)):
        pytest.skip(f"{library} is not installed")


@pytest.mark.parametrize(
    ("library", "text"),
    [
        pytest.param(
            library, text, marks=[pytest.mark.long] if library in SLOW else [], id=f"{library}-{text}"
        )
        for library, texts in COMPARED.items()
        for text in texts
    ],
)
def test_the_same_steps_or_a_reason_why_not(library, text):
    need(library)
    outcome = try_call(library, text)
    assert outcome.agrees, (outcome.translation, outcome.differences)
    assert outcome.translation or len(outcome.reason) > 10


ROWS = [
    (library, rule)
    for library, known in equivalents.LIBRARIES.items()
    for rule, (name, *_) in known.rules.items()
    # A chain isn't one call; the book's rules are the same as these libraries' only with a constant lr or
    # without eps.
    if " over " not in name and rule not in ("Momentum", "Nesterov", "Adam")
]


@pytest.mark.parametrize(("library", "rule"), ROWS)
def test_equivalents_are_what_is_translated(library, rule):
    name, theirs, ours = equivalents.LIBRARIES[library].rules[rule]
    given = {"lr" if library == "PyTorch" else "learning_rate": ours.get("lr", 0.01), **theirs}
    text = f"{name}({', '.join(f'{key}={value!r}' for key, value in given.items())})"
    own = getattr(fastopt, rule)(**{"lr": 0.01, **ours})
    assert repr(translate({"PyTorch": "torch"}.get(library, library.lower()), text).build()) == repr(own)


def test_what_is_tried_and_refused():
    def is_refused(library, text):
        try:
            translate(library, text)
        except Refusal:
            return True
        return False

    refused = {name: [text for text in calls(name) if is_refused(name, text)] for name in SETTINGS}
    assert {name: (len(calls(name)), len(refused[name])) for name in SETTINGS} == COUNTS
    assert all(len(set(calls(name))) == len(calls(name)) for name in SETTINGS)


@pytest.mark.parametrize("library", SETTINGS)
def test_each_argument_is_tried(library):
    tried, known = {}, {}
    for text in calls(library):
        setting = read(library, text)
        tried.setdefault(setting.name, set()).update(setting.given)
        known[setting.name] = {*setting.arguments}
    shared = {*inspect.signature(import_module("fastopt.tools.peers.keras_rules").common).parameters}
    for name, given in tried.items():
        left_out = known[name] - given - {"lr", "learning_rate", "foreach", "fused", "differentiable"}
        left_out -= {"capturable", "mask", "mu_dtype", "accumulator_dtype", "state_dtype", "dtype_momentum"}
        left_out -= {"weight_decay_mask", "clip_value_fn", "muon_weight_dimension_numbers"}
        assert not left_out - (shared if name != "SGD" else set()), name


@pytest.mark.parametrize(
    "library",
    [pytest.param(name, marks=[pytest.mark.long] * (name in SLOW)) for name in COMPARED if COMPARED[name]],
)
def test_signatures_are_the_librarys(library, monkeypatch):
    need(library)
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    for name in {constructors.constructor(text): None for text in COMPARED[library]}:
        module = import_module(PACKAGES[name] if library == "authors" else MODULES[library])
        theirs = inspect.signature(attrgetter(name)(module)).parameters
        known = constructors_of(library)[name]
        ours = signature_of(known, getattr(rules_of(library), "common", None)).parameters
        assert {*theirs} - {"params", "kwargs"} == {*ours}, name
        for argument in ours:
            default = theirs[argument].default
            if isinstance(default, int | float | str | bool | tuple | list | None):
                expected = tuple(default) if isinstance(default, list) else default
                assert ours[argument].default == expected, (name, argument)


@pytest.mark.parametrize("library", [pytest.param(name, marks=pytest.mark.long) for name in MODULES])
def test_no_constructor_is_forgotten(library, monkeypatch):
    """What takes a learning rate is translated, or it is known that fastopt hasn't it."""
    if not all(map(find_spec, LIBRARIES[library].packages)):
        return  # as MLX, without which nothing is compared
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    module = import_module(MODULES[library])
    found = {**vars(module)}
    if library == "optax":
        found |= {f"contrib.{name}": value for name, value in vars(module.contrib).items()}
    rates = {"lr", "learning_rate", "max_learning_rate", "optimizers", "optimizer_map", "inner_optimizer"}
    theirs = {
        name
        for name, value in found.items()
        if (inspect.isfunction(value) or inspect.isclass(value) or isinstance(value, partial))
        and not name.startswith(("scale_by", "contrib.scale_by", "ScaleBy", "_"))
        and rates & {*inspect.signature(value).parameters}
    }
    known = {*constructors_of(library), *getattr(rules_of(library), "MISSING", {})}
    assert theirs - known - {"Optimizer", "OptimizerMap", "contrib.schedule_free"} == set()


@pytest.mark.parametrize("text", FIVE_STEPS)
def test_five_steps_of_kerass_tests(text):
    optimizer, param = translate("keras", text).build(), np.ones(10)
    for t, expected in enumerate(FIVE_STEPS[text]):
        optimizer.update([param], [np.full(10, 0.01) if t == 0 else np.linspace(0.1, 1, 10)])
        # Keras's own tolerance is 5e-4; those of two rules are of another rule.
        most = 5e-4 if text in ("Lamb()", "Adam(amsgrad=True)") else 0.0
        np.testing.assert_allclose(param, expected, most, most or 5.1e-5)


@pytest.mark.parametrize("text", ONE_STEP)
def test_one_step_of_kerass_tests(text):
    optimizer, expected = translate("keras", text).build(), np.array(ONE_STEP[text])
    param = np.array([1.0, 2.0, 3.0, 4.0]).reshape(expected.shape)
    optimizer.update([param], [np.array([1.0, 6.0, 7.0, 2.0]).reshape(expected.shape)])
    np.testing.assert_allclose(param, expected, 0, 1e-4)


@pytest.mark.parametrize(
    ("library", "call", "lines"),
    [
        ("torch", "SGD(lr=0.1, momentum=0.9, nesterov=True)", ["fastopt.NAG(lr=0.1, momentum=0.9)"]),
        ("torch", "torch.optim.SGD(model.parameters(), lr=0.1)", ["fastopt.SGD(lr=0.1)"]),
        ("torch", "optimizer = optim.AdamW(params=params, lr=1e-3)", ["fastopt.AdamW(lr=0.001)"]),
        ("torch", "SGD([w, b], 0.1, 0.9)", ["fastopt.SGDM(lr=0.1, momentum=0.9)"]),
        ("torch", "Adam(lr=torch.tensor([0.1]), betas=(0.8, 0.9))",
         ["fastopt.PaperAdam(lr=0.1, beta1=0.8, beta2=0.9)"]),
        ("torch", "SGD(lr=0.1, fused=True)",
         ["fastopt.SGD(lr=0.1)", "- fused is left out: all rules are fused"]),
        ("optax", "optax.contrib.muon(0.1, nesterov=False)", [
            'fastopt.Partition({lambda key, param: param.ndim == 2: fastopt.Muon(lr=0.1, momentum=0.95, '
            "weight_decay=0.0, nesterov=False, adjust_lr='fan_out/fan_in', eps=1e-08), "
            '"*": fastopt.PaperAdam(lr=0.1)})',
            "- eps is added to the norm in optax; here it is the smallest norm",
        ]),
        ("keras", "tf.keras.optimizers.SGD(0.1, momentum=0.9, nesterov=True)", [
            "fastopt.NAG(lr=0.1, momentum=0.9)",
            "- steps are the same as long as lr is constant: Keras's velocity has the learning rate in it",
        ]),
        ("mlx", "SGD(learning_rate=0.1)", ["fastopt.SGD(lr=0.1)"]),
    ],
)  # fmt: skip
def test_what_to_write(library, call, lines, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    assert main(["rules", "--from", library, call]) == 0
    assert capsys.readouterr().out.splitlines() == lines


@pytest.mark.parametrize(
    ("library", "call", "message"),
    [
        ("tensorflow", "SGD(0.1)", "'tensorflow' is no library that is known; there are torch, optax, "),
        ("kera", "SGD(0.1)", "'kera' is no library that is known; did you mean keras?"),
        ("torch", "SGDW(lr=0.1)", "PyTorch has no 'SGDW' that is known here; did you mean SGD"),
        ("torch", "SGD(lr=0.1, momentun=0.9)", "SGD has no argument 'momentun'; did you mean momentum?"),
        ("torch", "SGD(0.1)", "the first argument of SGD are the parameters, got 0.1; write lr=..."),
        ("torch", "SGD([{'params': w, 'lr': 0.1}])", "lists of dicts are groups={'b*': {'lr': 0.01}} here"),
        ("torch", "SGD(lr=args.lr)", "lr must be a literal such as 0.1, got args.lr; write its value"),
        ("torch", "SGD(lr=0.1, **more)", "SGD: write the arguments instead of **"),
        ("torch", "SGD", "must be one call such as 'SGD(lr=0.1)', got 'SGD'"),
        ("torch", "SGD(", "must be one call such as 'SGD(lr=0.1)', got 'SGD('"),
        ("torch", "__import__('os').system('true')", "must be one call such as"),
        ("torch", "SGD(params, 0.1, lr=0.2)", "SGD: multiple values for argument 'lr'"),
        ("torch", "LBFGS()", "LBFGS computes the loss several times in a step"),
        ("optax", "sgd()", "sgd: missing a required argument: 'learning_rate'"),
        ("optax", "contrib.sophia(0.1)", "fastopt has no contrib.sophia: it needs the diagonal of"),
        ("keras", "Adam(clipnrm=1.0)", "Adam has no argument 'clipnrm'; did you mean clipnorm"),
    ],
)  # fmt: skip
def test_why_not(library, call, message, capsys):
    refused(["rules", "--from", library, call], f"argument --from: {message}", capsys)


def test_the_table(capsys, monkeypatch):
    """PyTorch's and optax's outcomes are made up; one differs, which is the exit code."""
    known = translate("torch", "SGD(lr=0.1)")
    found = [
        Outcome("torch", "SGD(lr=0.1)", known, "", (0.0, 1e-13)),
        Outcome("torch", "SGD(lr=0.2)", known, "", (0.0, 1e-11)),
        Outcome("torch", "ASGD()", known._replace(constant="of lag"), "", (0.0,)),
        Outcome("torch", "LBFGS()", None, "it has a reason " * 9, ()),
        Outcome("optax", "sgd(0.1)", known._replace(tolerance=1e-6), "", (1e-7,)),
    ]
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(constructors, "outcomes", lambda: found)
    assert main(["rules", "--peers"]) == 1
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 80
    assert [line.split() for line in out.splitlines()[4:11]] == [
        ["PyTorch", "4", "1", "1", "1", "1"],
        ["SGD", "2", "1", "–", "–", "1"],
        ["ASGD", "1", "–", "1", "–", "–"],
        ["LBFGS", "1", "–", "–", "1", "–"],
        ["optax", "1", "1", "–", "–", "–"],
        ["sgd", "1", "1", "–", "–", "–"],
        ["all", "5", "2", "1", "1", "1"],
    ]
    assert "\n- LBFGS(): it has a reason it" in out
    assert "SGD(lr=0.2) differs from fastopt.SGD(lr=0.1): (0.0, 1e-11)" in out
    monkeypatch.setattr(constructors, "outcomes", lambda: found[:1])
    assert main(["rules", "--peers"]) == 0
