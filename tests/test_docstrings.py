"""The documentation of the public names: examples that run, and help that fits on two screens."""

import collections
import collections.abc
import doctest
import importlib.util
import inspect
import io
import os
import pydoc
import re
import subprocess
import sys
import types
import warnings
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from uncompiled import COMPILES

import fastopt
from fastopt import adapters, functional, optimizers, schedules
from fastopt.configuration import SOURCES, Configuration

vars(collections).setdefault("Hashable", collections.abc.Hashable)  # numpy-ml 0.1.2 looks for it there
vars(np).setdefault("int", int)  # DeZero 0.0.13 wants it, and NumPy has had none since 1.24

ADAPTERS = sorted(
    path.stem for path in Path(adapters.__path__[0]).glob("*.py") if path.stem not in ("__init__", "common")
)
# What an adapter's examples need, if it isn't the module's own name.
LIBRARIES = {
    "sklearn": "sklearn",
    "dezero": "dezero",
    "autograd": "autograd",
    "mygrad": "mygrad",
    "numpy_ml": "numpy_ml",
}
OPTIONS = {name for source in SOURCES for name in source.__dataclass_fields__} | {"threads"}
BOOK = ("SGD", "Momentum", "Nesterov", "AdaGrad", "RMSprop", "Adam")
# Two screens; the widest line of a docstring with what help puts before it.
MAX_LINES, MAX_COLUMNS = 96, 115


def public_names():
    """All public names: of the package, of schedules and functional, of the adapters' modules."""
    names = [f"fastopt.{name}" for name in fastopt.__all__ if name != "np"]
    names += [f"fastopt.schedules.{name}" for name in schedules.__all__]
    names += [f"fastopt.functional.{name}" for name in functional.__all__]
    names += ["fastopt", "fastopt.reference", "fastopt.adapters", "fastopt.options"]
    for stem in ADAPTERS:
        names.append(f"fastopt.adapters.{stem}")
        module = import_module(f"fastopt.adapters.{stem}")
        source = inspect.getsource(module)
        for name in module.__all__:
            # The rules that a library's module has besides have fastopt's docstrings.
            if name not in optimizers.__all__ or f"\nclass {name}(" in source:
                names.append(f"fastopt.adapters.{stem}.{name}")
    return names


def find(name):
    with_module = name
    while True:
        try:
            found = import_module(with_module)
        except ModuleNotFoundError as error:
            if not name.startswith(str(error.name)):
                raise
            with_module = with_module.rpartition(".")[0]
            continue
        for part in name[len(with_module) :].split(".")[1:]:
            found = getattr(found, part)
        return found


def examples_of(name):
    """The examples in the docstring of a public name, and where it is found."""
    library = name.split(".")[2] if name.startswith("fastopt.adapters.") else ""
    if library in LIBRARIES and importlib.util.find_spec(library) is None:
        pytest.skip(f"{library} isn't installed")
    if library in LIBRARIES:
        import_module(library)
    namespace = {"fastopt": fastopt, "np": np, "__name__": "examples"}
    text = inspect.getdoc(find(name)) or ""
    return doctest.DocTestParser().get_doctest(text, namespace, name, None, None)


@pytest.mark.parametrize("name", public_names())
def test_a_public_name_has_an_example_that_runs(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FASTOPT_COMPILE", "never")  # the bits are the same, and nothing has to be compiled
    if name == "fastopt.warmup":
        if not COMPILES:
            pytest.skip("nothing is compiled")
        monkeypatch.setenv("FASTOPT_COMPILE", "now")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # libraries warn of what they miss when they are imported
        test = examples_of(name)
    report = io.StringIO()
    assert test.examples, f"{name} has no example"
    assert any(example.want for example in test.examples) or name == "fastopt.warmup", f"{name} shows nothing"
    module = types.ModuleType("examples")
    module.__dict__.update(test.globs)
    monkeypatch.setitem(sys.modules, "examples", module)  # dataclasses look for the module of a class
    result = doctest.DocTestRunner().run(test, out=report.write)
    assert result.failed == 0, report.getvalue()


def help_of(cls):
    return pydoc.plain(pydoc.render_doc(cls))


@pytest.mark.parametrize("rule", optimizers.__all__)
def test_the_help_of_a_rule_fits_on_two_screens_and_names_the_options(rule):
    text = help_of(getattr(fastopt, rule))
    lines = text.splitlines()
    assert lines.index(" |  Method resolution order:") <= MAX_LINES  # nothing but class names comes after it
    assert lines[-1] == " |      builtins.object"
    if rule in BOOK:
        assert len(lines) <= MAX_LINES
    assert max(map(len, lines[4:])) <= MAX_COLUMNS
    assert {name for name in OPTIONS if not re.search(rf"\b{name}\b", text)} == set()
    assert "Raises" not in text
    assert (
        text.index("Parameters\n")
        < text.index("Examples\n")
        < text.index("Options\n")
        < text.index("Method res")
    )


def test_own_rules_have_the_same_help():
    @dataclass(eq=False)
    class Own(fastopt.SGD):
        """A rule of one's own."""

        share: float = fastopt.hyperparameter(0.5)

    assert str(inspect.signature(Own)) == "(lr=0.01, share=0.5, **options)"
    text = help_of(Own)
    assert "A rule of one's own." in text
    assert "- clip_norm (with clip_norm_type): " in text
    assert "Methods defined here" not in text


@pytest.mark.parametrize("rule", [*optimizers.__all__, "Optimizer"])
def test_a_signature_has_all_arguments_own_ones_first(rule):
    cls = getattr(fastopt, rule)
    signature = inspect.signature(cls)
    code = cls.__init__.__code__
    assert {*signature.parameters} == {*code.co_varnames[1 : code.co_argcount + code.co_kwonlyargcount]}
    assert {*OPTIONS} <= {*signature.parameters}
    for name, parameter in signature.parameters.items():
        assert parameter.default == cls.__dataclass_fields__[name].default
    are_options = [name in Configuration.__dataclass_fields__ for name in signature.parameters]
    documented = [name in str(signature) for name in signature.parameters]
    assert documented == sorted(documented, reverse=True)
    assert any(are_options)
    signature.bind(**dict.fromkeys(signature.parameters, 1))
    with pytest.raises(TypeError):
        signature.bind(unknown=1)


def test_the_methods_that_help_names_are_there():
    section = inspect.getdoc(fastopt.Adam).rpartition("Methods:")[2].split(".")[0]
    names = re.findall(r"\w+", section.replace(" and", ""))
    assert len(names) == 11
    methods = [getattr(fastopt.Adam, name) for name in names]
    assert [method for method in methods if not (callable(method) and inspect.getdoc(method))] == []
    assert {*names} <= {*dir(fastopt.Adam())}


def test_options_are_documented_where_they_are_declared():
    for source in SOURCES:
        for name in source.__annotations__:
            assert re.search(rf"^    {name} : ", source.__doc__, re.MULTILINE), name
    assert {f"`{source.__module__.split('.')[-1]}`" for source in SOURCES} <= {
        *re.findall(r"`\w+`", inspect.getdoc(import_module("fastopt.options")))
    }


def test_no_class_of_a_rule_repeats_what_all_raise():
    for rule in optimizers.__all__:
        assert "\n    Raises\n" not in vars(getattr(fastopt, rule))["__doc__"], rule
    assert "raises TypeError or ValueError" in inspect.getdoc(fastopt.Optimizer)


def test_the_reference_has_all_public_names(tmp_path):
    pytest.importorskip("pdoc")
    options = ["-W", "error", "-m", "pdoc", "fastopt", "-d", "numpy", "-o", str(tmp_path)]
    environment = {**os.environ, "FASTOPT_COMPILE": "never"}
    done = subprocess.run(
        [sys.executable, *options], capture_output=True, text=True, env=environment, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    modules = {"functional", "schedules"}
    for module, names in (
        ("", {*fastopt.__all__} - {"np"} - modules),
        ("schedules", {*schedules.__all__}),
        ("functional", {*functional.__all__}),
    ):
        page = (tmp_path / "fastopt" / f"{module}.html" if module else tmp_path / "fastopt.html").read_text()
        found = re.findall(r'<span class="def">(?:class|def)</span>\s*<span class="name">(\w+)</span>', page)
        assert names - {*found} == set()


def test_a_docstring_can_be_assigned():
    """As `dataclass` does to a class that has none, with python -OO."""

    class Own(fastopt.SGD):
        pass

    Own.__doc__ = "A rule of one's own."
    assert Own.__doc__.startswith("A rule of one's own.\n\nOptions\n")
