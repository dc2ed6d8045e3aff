"""The guide's pages: each example runs and prints what the page says; links, lengths, the notebook."""

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pkgutil import iter_modules

import pages
import pytest
from pages import GUIDE, PAGES, blocks_of, read

import fastopt
from fastopt import adapters, schedules

# The modules that blocks of a page need and that fastopt's extra ``test`` doesn't bring.
NEEDS = {"libraries.md": {"autograd", "dezero", "mygrad", "numpy_ml"}}
# Modules of `fastopt.adapters` that aren't for a library of the page.
OTHER_ADAPTERS = {"common", "mpi", "rules"}
# Pages with long tables or many libraries may have more lines than others.
LONG = {"libraries.md", "rules.md", "speed.md", "state.md"}
ROOT = GUIDE.parents[1]


MPIEXEC = shutil.which("mpiexec", path=sysconfig.get_path("scripts")) or shutil.which("mpiexec")
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")


def run(folder, *arguments, launcher=()):
    """Run Python in a folder, and return what it prints; nothing is compiled, so that it starts quickly."""
    variables = {"FASTOPT_COMPILE": "never", "PYTHONPATH": str(ROOT), "MPLBACKEND": "agg"} | ONE_THREAD
    environment = os.environ | variables
    command = [*launcher, sys.executable, "-W", "error", *map(str, arguments)]
    result = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, encoding="utf-8", timeout=120
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.mark.parametrize("page", PAGES)
def test_the_examples_of_a_page_run(page, tmp_path):
    wrong, missing = json.loads(run(tmp_path, pages.__file__, page))
    assert not wrong, "\n".join(wrong)
    needed = {module for block in blocks_of(read(page)) for module in block.needs}
    assert needed == NEEDS.get(page, set())  # else blocks would be left out that nobody knows of
    assert needed.issuperset(missing)


PAGE = """# Page

```python
x = 2
print(x)
```

```text
{}
```

```python
>>> x + 1
{}
```

```python needs=nothing_of_this_name
x = 1 / 0
```

```python
# written.py
y = 1 / 0
```
{}"""
IMPORT = "\n```python\nimport {}\n```\n"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (PAGE.format(2, 3, ""), None),
        (PAGE.format(3, 3, ""), "page.md, line 4: printed\n2\ninstead of\n3\n"),
        (PAGE.format(2, 4, ""), 'File "page.md", line 13'),
        (PAGE.format(2, 3, "\n```python\nprint(1)\n```\n"), "page.md, line 27: printed\n1\ninstead of\n"),
        (PAGE.format(2, 3, IMPORT.format("written")), "ZeroDivisionError"),
        (PAGE.format(2, 3, IMPORT.format("nothing_of_this_name")), 'File "page.md", line 27'),
    ],
)
def test_an_example_that_is_wrong_is_found(text, found, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend("")
    wrong, missing = pages.run_page(text)
    sys.modules.pop("written", None)
    assert missing == ["nothing_of_this_name"]
    assert (tmp_path / "written.py").read_text().startswith("# written.py\n")
    assert len(wrong) == (found is not None)
    assert found is None or found in wrong[0]


def test_a_block_with_an_unknown_mark_is_refused():
    with pytest.raises(ValueError, match="python skip' must be a language and needs=MODULE"):
        blocks_of("```python skip\nx\n```\n")


@pytest.mark.parametrize("page", PAGES)
def test_the_form_of_a_page(page):
    text = read(page)
    title, empty, first, *_ = lines = text.splitlines()
    assert re.fullmatch(r"# \S.*", title)
    assert not empty
    assert first[:1].isalnum() or first[:1] == "`", "one sentence says what the page is for"
    assert page in LONG or 40 <= len(lines) <= 130
    assert {block.language for block in blocks_of(text)} <= {"python", "sh", "text", "dockerfile"}
    assert text.count("```") == 2 * len(blocks_of(text))
    assert len(re.findall(r"\n\n```[a-z]", text)) == len(blocks_of(text)), (
        "an empty line is before each block"
    )
    prose = pages.FENCE.sub("", text).splitlines()
    assert [line for line in prose if len(line) > 120 and not line.startswith("|")] == []
    assert [line for line in prose if line.startswith("    ")] == [], "code is in blocks with fences"
    assert not text.count("\t")
    assert text.endswith("\n")
    assert not re.search(r"[ \n]\n\Z", text)


def anchors_of(text):
    """Return what a link may name after # in a page, as GitHub makes it of the headings."""
    headings = re.findall(r"^#+ (.+)$", pages.FENCE.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES)
def test_the_links_of_a_page(page):
    for link in re.findall(r"\]\(([^)]+)\)", pages.FENCE.sub("", read(page))):
        if link.startswith("https://"):
            continue
        name, _, anchor = link.partition("#")
        assert (GUIDE / (name or page)).is_file(), link
        assert not anchor or anchor in anchors_of(read(name or page)), link


def commands_of(text):
    """Return the command lines of a page, each as a command and its options."""
    shell = "".join(block.text for block in blocks_of(text) if block.language in ("sh", "dockerfile"))
    lines = [line.partition("   #")[0] for line in shell.splitlines()]
    lines += re.findall(r"`([^`\n]+)`", pages.FENCE.sub("", text))
    found = [re.search(r"-m fastopt ([a-z]+)(.*)", line) for line in lines]
    return {(match[1], *re.findall(r"--[a-z]+\b", match[2])) for match in found if match}


def test_the_commands_of_all_pages_exist(tmp_path):
    commands = set().union(*(commands_of(read(page)) for page in PAGES))
    assert {name for name, *_ in commands} >= {"train", "verify", "guide", "rules", "warmup", "run", "bench"}
    helps = {name: run(tmp_path, "-m", "fastopt", name, "--help") for name in {name for name, *_ in commands}}
    unknown = [
        (name, option) for name, *options in commands for option in options if option not in helps[name]
    ]
    assert unknown == []


def test_the_first_page_names_all():
    linked = set(re.findall(r"\]\((\w[\w.-]*)\)", read("start.md")))
    assert linked == {*PAGES, "quickstart.ipynb"} - {"start.md"}


def test_the_guide_names_everything():
    texts = {page: read(page) for page in PAGES}
    whole = "\n".join(texts.values())
    options = texts["options.md"] + texts["averages.md"]
    for text, names in (
        (whole, set(fastopt.__all__)),
        (options, set(fastopt.Optimizer.__dataclass_fields__) - {"lr"}),
        (texts["schedules.md"], set(schedules.__all__) - {"Timed"}),
        (texts["libraries.md"], {module.name for module in iter_modules(adapters.__path__)} - OTHER_ADAPTERS),
    ):
        assert {name for name in names if not re.search(rf"\b{name}\b", text)} == set()


def test_the_guide_is_no_code():
    assert {path.suffix for path in GUIDE.iterdir()} <= {".md", ".png", ".ipynb"}


@pytest.mark.skipif(MPIEXEC is None, reason="there is no mpiexec")
def test_the_program_for_ranks(tmp_path):
    pytest.importorskip("mpi4py", exc_type=ImportError)
    [block] = [block for block in blocks_of(read("ranks.md")) if block.file]
    (tmp_path / block.file).write_text(block.text, "utf-8")
    printed = run(tmp_path, "-m", "mpi4py", block.file, launcher=[MPIEXEC, "-n", "2"])
    assert printed == "96.3% of the digits\n"
    assert printed.strip() in read("ranks.md")
    assert (tmp_path / "run.npz").is_file()
