"""The house: which package may import which, how long files are, and that private names stay in them."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import fastopt

ROOT = Path(fastopt.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))

# The floors, from below: each imports from those below it only, and from itself without a circle.
FLOORS = [
    ["checks", "display", "documentation", "figures", "namespace", "pictures", "schedules", "words"],
    ["kernels", "reference"],
    ["arrays"],
    ["engine"],
    ["options"],
    ["consistency"],
    ["checkpoints"],
    ["averaging", "fields", "kept", "rule", "scheduling", "state", "step", "stepping"],
    ["configuration"],
    ["optimizer"],
    ["optimizers"],
    ["members", "partition"],
    ["functional"],
    ["tools"],
    ["adapters"],
    ["__init__"],
    ["demo"],  # uses the package as its readers do
    ["cli"],
    ["__main__"],
]
MAX_LINES = 400


def module_of(file: Path) -> str:
    parts = file.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def floor_of(module: str) -> int:
    parts = module.split(".")
    name = parts[1] if len(parts) > 1 else "__init__"
    return next(number for number, names in enumerate(FLOORS) if name in names)


def imports_of(tree: ast.AST, known: set[str]) -> Iterator[str]:
    """Yield the modules of fastopt that a module imports, wherever; not those for the type checker only."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            for late in node.orelse:
                yield from imports_of(late, known)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "fastopt":
            for name in node.names:
                inner = f"{node.module}.{name.name}"
                yield inner if inner in known else str(node.module)
        elif isinstance(node, ast.Import):
            yield from (name.name for name in node.names if name.name.split(".")[0] == "fastopt")
        else:
            yield from imports_of(node, known)


def graph() -> dict[str, set[str]]:
    known = set(map(module_of, FILES))
    return {module_of(file): set(imports_of(ast.parse(file.read_text()), known)) for file in FILES}


def test_imports_go_downwards():
    wrong = [
        (module, imported)
        for module, all_imported in graph().items()
        for imported in all_imported
        if module not in ("fastopt", "fastopt.__main__") and floor_of(imported) > floor_of(module)
    ]
    assert wrong == []


def test_imports_have_no_circle():
    edges, done = graph(), set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, " -> ".join((*path, module))
        if module not in done:
            for imported in edges.get(module, ()):
                visit(imported, (*path, module))
            done.add(module)

    for module in edges:
        visit(module, ())


def test_kernels_and_reference_are_independent():
    edges = graph()
    for own, other in (("kernels", "reference"), ("reference", "kernels")):
        for module, imported in edges.items():
            if module.startswith(f"fastopt.{own}"):
                assert not [name for name in imported if name.startswith(f"fastopt.{other}")]


@pytest.mark.parametrize("file", FILES, ids=module_of)
def test_a_file_is_read_in_one_sitting(file):
    in_families = file.parent.name in (
        "optimizers",
        "reference",
        "demo",
    )  # a family is as long as its rules are
    lines = len(file.read_text().splitlines())
    assert lines <= MAX_LINES or in_families


# Whose underscored attributes are documented.
PUBLIC = {"_fields", "_replace", "_asdict"}


def private_names(tree: ast.AST) -> set[str]:
    """Return the underscored names that a file defines or assigns."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            names.add(node.attr)
        elif isinstance(node, ast.keyword) and node.arg:
            names.add(node.arg)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            names.add(node.value)  # own["_name"] = ...
    return names


@pytest.mark.parametrize("file", FILES, ids=module_of)
def test_what_is_private_stays_in_its_file(file):
    tree = ast.parse(file.read_text())
    own = private_names(tree)
    foreign = [
        (node.lineno, ast.unparse(node))
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and node.attr.startswith("_")
        and not node.attr.endswith("__")
        and node.attr not in own | PUBLIC
        and not ast.unparse(node).startswith(("threading.", "os.", "sys."))
        and not is_foreign_library(node)
    ]
    assert foreign == []
    assert "type: ignore[attr-defined]" not in file.read_text()


def is_foreign_library(node: ast.Attribute) -> bool:
    """Whether an attribute is of an object that isn't fastopt's."""
    # Numba's dispatchers and caches, ndarrays, locks and DeZero's layers have no public way to these.
    return node.attr in {
        *("_cache", "_cache_file", "_impl", "_at_fork_reinit", "_is_gil_enabled", "_getframe", "_getvalue"),
        *("_params", "_basic_hash"),
    }
