"""What ``import fastopt`` loads, and that nothing else shows that names are imported late."""

import ast
import json
import pickle
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
from cases import RULES

import fastopt
from fastopt import optimizers, schedules

# What dir(fastopt) shows besides the names that begin with two underscores.
PUBLIC = [
    *RULES,
    "Optimizer", "PackedDict", "PackedList", "Partition", "Record", "Rows", "State", "adapters", "bench",
    "clip_grads", "flatten", "functional", "gradients_of", "hyperparameter", "kernel", "lr_finder", "np",
    "pack", "remove_duplicate", "rules", "schedules", "set_num_threads", "trajectory", "unflatten",
    "verify", "warmup",
]  # fmt: skip

# NumPy loads none of these.
HEAVY = ["json", "multiprocessing", "pathlib", "subprocess", "tempfile", "zipfile"]
EXTRAS = ["matplotlib", "sklearn", "tqdm"]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True)


def printed(code: str) -> object:
    """Return what code in a new process prints as JSON."""
    result = run("-c", code)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def loaded(code: str) -> set[str]:
    """Return the modules that there are after code in a new process."""
    modules = printed(f"{code}\nimport sys\nnames = [*sys.modules]\nimport json\nprint(json.dumps(names))")
    assert isinstance(modules, list)
    return {*modules}


def within(modules: set[str], packages: list[str]) -> list[str]:
    """Return the modules that are one of the packages, or in one."""
    return sorted(name for name in modules if any(f"{name}.".startswith(f"{own}.") for own in packages))


def test_an_import_loads_nothing_that_is_not_used():
    assert within(loaded("import fastopt"), ["fastopt"]) == [
        "fastopt",
        "fastopt.namespace",
        "fastopt.optimizers",
    ]


@pytest.mark.parametrize("code", ["import fastopt; fastopt.Adam()", "from fastopt import Adam; Adam()"])
def test_an_optimizer_loads_nothing_that_it_does_not_use(code):
    modules = loaded(code)
    families = {name for name in optimizers.FAMILIES if f"fastopt.optimizers.{name}" in modules}
    assert families == {"adam"}
    unused = ["adapters", "checkpoints.files", "demo", "partition", "reference", "tools"]
    unused += [f"schedules.{name}" for name in schedules.NAMES if name != "base"]
    assert within(modules, [*EXTRAS, *(f"fastopt.{name}" for name in unused)]) == []


def test_an_optimizer_loads_no_numba():
    assert within(loaded("import fastopt; fastopt.Adam()"), ["llvmlite", "numba", *HEAVY]) == []


def test_the_help_of_the_command_line_loads_no_library():
    code = "import sys; sys.argv = ['fastopt', '--help']\nfrom fastopt.cli.program import main"
    code += (
        "\ntry:\n    sys.stdout = sys.stderr\n    main()\nexcept SystemExit:\n    sys.stdout = sys.__stdout__"
    )
    assert within(loaded(code), ["llvmlite", "numba", "fastopt.optimizer", *EXTRAS]) == []


def test_dir_shows_what_is_public():
    shown = printed("import fastopt, json\nprint(json.dumps(dir(fastopt)))")
    assert [name for name in shown if not name.startswith("__")] == sorted(PUBLIC)
    assert {"__all__", "__doc__", "__version__"} < {*shown}
    assert "__getattr__" not in shown
    assert fastopt.__all__ == sorted({*PUBLIC} - {"adapters"})


@pytest.mark.parametrize("package", [fastopt, optimizers, schedules], ids=lambda package: package.__name__)
def test_a_name_is_that_of_its_module(package):
    names = {"fastopt.optimizers": "FAMILIES"}.get(package.__name__, "NAMES")
    module_of = {name: module for module, own in vars(package)[names].items() for name in own}
    assert {*package.__all__} - {"functional", "np", "schedules"} == {*module_of}
    for name, module in module_of.items():
        assert getattr(package, name) is getattr(import_module(f"{package.__name__}.{module}"), name)
    assert {*package.__all__} <= {*dir(package)}
    assert shown_to_type_checkers(package) == module_of


def shown_to_type_checkers(package: object) -> dict[str, str]:
    """Return the names that a package imports for type checkers, with their modules."""
    tree = ast.parse(Path(package.__file__).read_text())
    block = next(node for node in tree.body if isinstance(node, ast.If))
    module_of = {}
    for node in block.body:
        module = node.module.removeprefix(package.__name__).removeprefix(".")
        for alias in node.names:
            own = import_module(node.module).__all__ if alias.name == "*" else [alias.name]
            module_of |= dict.fromkeys((name for name in own if name in package.__all__), module)
    return {name: module for name, module in module_of.items() if module}


def test_a_star_imports_all():
    code = "from fastopt import *\nimport json; print(json.dumps([name for name in dir() if name[0] != '_']))"
    assert printed(code) == sorted([*fastopt.__all__, "json"])


def test_a_submodule_is_an_attribute():
    code = (
        "import fastopt\nfound = [fastopt.adapters, fastopt.optimizers, fastopt.reference, fastopt.schedules]"
    )
    code += "\nimport json; print(json.dumps([module.__name__ for module in found]))"
    assert printed(code) == [
        f"fastopt.{name}" for name in ("adapters", "optimizers", "reference", "schedules")
    ]


@pytest.mark.parametrize("package", ["fastopt", "fastopt.optimizers"])
def test_a_misspelled_name_is_corrected(package):
    lines = run("-c", f"import {package}; {package}.Adm").stderr.splitlines()
    assert lines[-1] == f"AttributeError: module '{package}' has no attribute 'Adm'. Did you mean: 'Adam'?"
    lines = run("-c", f"from {package} import Adm").stderr.splitlines()
    assert lines[-1].startswith(f"ImportError: cannot import name 'Adm' from '{package}'")


def test_an_optimizer_is_pickled_into_a_new_process():
    code = "import fastopt, pickle, sys; sys.stdout.buffer.write(pickle.dumps(fastopt.Adam(0.5)))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert pickle.loads(result.stdout).lr == 0.5
    read = (
        "import pickle, sys; optimizer = pickle.load(sys.stdin.buffer); print(type(optimizer), optimizer.lr)"
    )
    data = pickle.dumps(fastopt.Adam(0.25))
    result = subprocess.run([sys.executable, "-c", read], input=data, capture_output=True, check=True)
    assert result.stdout.decode().strip() == "<class 'fastopt.optimizers.adam.Adam'> 0.25"


def test_a_saved_schedule_is_found_before_it_is_imported():
    code = "from fastopt.schedules.base import Schedule\nfrom fastopt import schedules\n"
    data = schedules.Warmup(schedules.Cosine(0.5, 10), 5).to_dict()
    code += f"found = Schedule.from_dict({data!r})\nimport json; print(json.dumps(found.to_dict()))"
    assert printed(code) == data


def test_pydoc_shows_all():
    text = run("-m", "pydoc", "fastopt").stdout
    assert all(name in text for name in PUBLIC)
    assert "class Adam(" in text
    assert "def verify" in text or "verify(" in text


def test_the_changed_import_hands_on_what_the_books_does():
    """Chapter 6's comparison takes np from it."""
    code = "from fastopt import *\nSGD(0.5).update([np.ones(2)], [np.ones(2)])\nprint(np.__name__)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "numpy\n"
