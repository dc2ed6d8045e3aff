"""Whether all that a rule needs is there: what is missing is named with its file, and what to write."""

import inspect
import re
from collections.abc import Iterator
from dataclasses import fields
from importlib import import_module
from pathlib import Path

import pytest
from cases import CASES, RULES, hyperparameters
from golden import GOLDEN, rule_of

import fastopt
from fastopt import kernels, optimizers, reference
from fastopt.kernels.jit import Compiled
from fastopt.optimizer import Optimizer
from fastopt.tools import equivalents
from fastopt.tools.registry import describe

ROOT = Path(fastopt.__file__).parents[1]
TABLE = ROOT / "fastopt" / "guide" / "rules.md"
TWO_KERNELS = ("kernel", "statistics_kernel")


def families(package: str) -> dict[str, str]:
    """Return the rules or kernels in ``__all__`` of a package's files, and the name of the file of each."""
    kind = {"kernels": Compiled, "reference": type, "optimizers": type}[package]
    found = {}
    for path in sorted((ROOT / "fastopt" / package).glob("*.py")):
        # In the optimizers' package there are other files, too; a rule is in a file of the reference's name.
        is_family = (ROOT / "fastopt" / "reference" / path.name).exists() and path.stem not in SHARED
        if is_family:
            module = import_module(f"fastopt.{package}.{path.stem}")
            found |= {name: path.stem for name in module.__all__ if isinstance(getattr(module, name), kind)}
    return found


# Files in `reference` that are no families.
SHARED = ("__init__", "common", "moments", "options", "quantization")


def missing() -> Iterator[str]:
    """Yield what a rule lacks: where, and what to write there."""
    plain, fast, loops = families("reference"), families("optimizers"), families("kernels")
    table = {rule: family for family, rules in optimizers.FAMILIES.items() for rule in rules}
    libraries = {rule for library in equivalents.LIBRARIES.values() for rule in library.rules}
    shown = TABLE.read_text("utf-8")
    unused = {*loops}
    for rule in dict.fromkeys([*plain, *fast, *table, *CASES]):
        family = plain.get(rule) or fast.get(rule) or table.get(rule) or "FAMILY"
        if plain.get(rule) != family:
            yield f"fastopt/reference/{family}.py: write the class {rule}, and its name in __all__"
        if fast.get(rule) != family:
            yield (
                f"fastopt/optimizers/{family}.py: write the class {rule}(Optimizer) with its kernel, "
                "its fields, its states and scalars(t), and its name in __all__"
            )
        if table.get(rule) != family:
            yield f"fastopt/optimizers/__init__.py: write {rule!r} in FAMILIES[{family!r}]"
        if rule not in CASES:
            yield f"tests/cases.py: write {rule!r}: Case(...) in CASES, with two steps worked out by hand"
        if rule not in libraries and rule not in map(rule_of, GOLDEN):
            yield (
                f"fastopt/tools/equivalents.py: write {rule!r}: (its name there, their arguments, ours) in "
                "TORCH, OPTAX or KERAS; if no library has it, its authors' results in tests/golden.py"
            )
        if f"| `{rule}` |" not in shown:
            yield (
                "fastopt/guide/rules.md: let python -m fastopt rules --markdown fastopt/guide/rules.md "
                f"write {rule}"
            )
        if fast.get(rule) != family:
            continue
        cls = getattr(import_module(f"fastopt.optimizers.{family}"), rule)
        own = {kernel.__name__ for kernel in (getattr(cls, name) for name in TWO_KERNELS) if kernel}
        unused -= own
        for kernel in sorted(own):
            if loops.get(kernel) != family:
                yield f"fastopt/kernels/{family}.py: write {kernel}() under @kernel, and its name in __all__"
        if rule in CASES and {*cls.states} != {*CASES[rule].states}:
            yield f"tests/cases.py: write the values of {', '.join(cls.states)} in the states of {rule!r}"
    for kernel in sorted(unused):
        yield (
            f"fastopt/optimizers/{loops[kernel]}.py: write kernel = kernels.{kernel} in the rule that it is "
            "for; no rule has it yet"
        )


def test_every_place_names_the_same_rules():
    assert not [*missing()], "\n".join(["write what is missing:", *missing()])
    assert set(reference.__all__) == set(optimizers.__all__) == set(RULES) <= set(fastopt.__all__)
    assert set(kernels.__all__) == {*families("kernels")}


def without(monkeypatch, file, rule):
    """Take a rule out of one of the places where it is."""
    match file:
        case "fastopt/reference/sgd.py" | "fastopt/optimizers/sgd.py":
            module = import_module(file.removesuffix(".py").replace("/", "."))
            monkeypatch.setattr(module, "__all__", [name for name in module.__all__ if name != rule])
        case "fastopt/kernels/sgd.py":
            module = import_module("fastopt.kernels.sgd")
            kernel = getattr(fastopt, rule).kernel.__name__
            monkeypatch.setattr(module, "__all__", [name for name in module.__all__ if name != kernel])
        case "fastopt/optimizers/__init__.py":
            rules = tuple(known for known in optimizers.FAMILIES["sgd"] if known != rule)
            monkeypatch.setitem(optimizers.FAMILIES, "sgd", rules)
        case "tests/cases.py":
            monkeypatch.delitem(CASES, rule)
        case "fastopt/tools/equivalents.py":
            for library in equivalents.LIBRARIES.values():
                monkeypatch.delitem(library.rules, rule, raising=False)


@pytest.mark.parametrize(
    ("file", "remedy"),
    [
        ("fastopt/reference/sgd.py", "write the class NAG, and its name in __all__"),
        ("fastopt/kernels/sgd.py", "write nag() under @kernel, and its name in __all__"),
        ("fastopt/optimizers/sgd.py", "write the class NAG(Optimizer) with its kernel"),
        ("fastopt/optimizers/__init__.py", "write 'NAG' in FAMILIES['sgd']"),
        ("tests/cases.py", "write 'NAG': Case(...) in CASES"),
        ("fastopt/tools/equivalents.py", "write 'NAG': (its name there"),
    ],
)
def test_what_is_missing_is_named_with_its_file(monkeypatch, file, remedy):
    without(monkeypatch, file, "NAG")
    found = [line for line in missing() if line.startswith(f"{file}: ")]
    assert found
    assert found[0].startswith(f"{file}: {remedy}")


def test_further_places_are_named(monkeypatch, tmp_path):
    monkeypatch.setitem(CASES, "NAG", CASES["NAG"]._replace(states={}))
    assert [*missing()] == ["tests/cases.py: write the values of v in the states of 'NAG'"]
    monkeypatch.undo()
    (tmp_path / "rules.md").write_text(TABLE.read_text("utf-8").replace("`NAG`", ""), "utf-8")
    monkeypatch.setitem(globals(), "TABLE", tmp_path / "rules.md")
    (line,) = missing()
    assert line.startswith("fastopt/guide/rules.md: let python -m fastopt rules --markdown")


@pytest.mark.parametrize("rule", RULES)
def test_docstrings_say_when_to_take_a_rule(rule):
    summary, *_ = inspect.getdoc(getattr(fastopt, rule)).split("\nParameters\n")
    remedy = f'in fastopt/{getattr(fastopt, rule).__module__.replace(".", "/")}.py write "Take it when ..."'
    assert "Take it when" in " ".join(summary.split()), remedy


@pytest.mark.parametrize("rule", RULES)
def test_docstrings_of_the_reference_have_formula_and_paper(rule):
    cls = getattr(reference, rule)
    where = f"{cls.__module__.replace('.', '/')}.py: {rule}"
    summary, formula, *_ = cls.__doc__.split("\n\n")
    assert summary.endswith("."), f"{where}: write in one sentence what it is"
    assert "←" in formula, f"{where}: write the formula after the summary, a line for each assignment"
    paper = inspect.getdoc(cls).partition("\nReferences\n----------\n")[2]
    assert re.search(r"\b(19|20)\d\d\b", paper), f"{where}: write under References the paper with its year"
    arxiv = [
        re.findall(r"arXiv:([\d.]+\d)", text) for text in (paper, describe(getattr(fastopt, rule)).source)
    ]
    assert {*arxiv[0]} & {*arxiv[1]} or not arxiv[1], f"{where}: write arXiv:{' and '.join(arxiv[1])}"


@pytest.mark.parametrize("rule", RULES)
def test_constructors_are_the_references(rule):
    ref, comp = getattr(reference, rule)(), getattr(fastopt, rule)()
    shared = Optimizer.__dataclass_fields__.values()
    own = [field.name for field in fields(comp) if field not in shared]
    assert set(own) >= {"lr", *hyperparameters(comp)}
    for name in own:
        assert getattr(comp, name) == getattr(ref, name)
