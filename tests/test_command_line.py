"""The command line itself: how commands are declared, called and interrupted, their help, and the guide."""

import io
import os
import re
import signal
import subprocess
import sys
import tomllib
from importlib import import_module
from inspect import signature
from pathlib import Path

import pytest
from test_demo import refused

import fastopt
from fastopt.cli import program, verify
from fastopt.cli.command import Command, argument, command, exclusive, option
from fastopt.cli.program import COMMANDS, build_parser, main
from fastopt.demo.precision import study
from fastopt.tools import guide
from fastopt.tools.comparisons import frameworks, reference
from fastopt.tools.faults import interruptions
from fastopt.tools.faults.subjects import Book, Subject

ROOT = Path(fastopt.__file__).parents[1]
posix = pytest.mark.skipif(sys.platform == "win32", reason="it has other signals and pipes")

# What pip writes as the script, which has interrupts as a terminal's programs have them.
SCRIPT = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from {module} import {name}
sys.argv[0] = "/somewhere/bin/fastopt"
sys.exit({name}())
"""


def script(*arguments, **how):
    """Start the script that an installation has, and return the process."""
    entry = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["scripts"]["fastopt"]
    module, name = entry.split(":")
    code = SCRIPT.format(module=module, name=name)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "80"}
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, **how,
    )  # fmt: skip


def commands():
    return {name: getattr(import_module(f"fastopt.cli.{name}"), name) for name in COMMANDS}


# Declarations.


@command("do it", "It is done.")
@option("--first", type=int, default=3, metavar="N", help="a number")
@exclusive(
    option("--left", action="store_true", help="to the left"),
    option("--right", action="store_true", help="to the right"),
)
@argument("words", nargs="*", metavar="WORD", help="some words")
def example(first, left, right, words, prog):
    print(first, left, right, words, prog)
    return first


def run_example(monkeypatch, *arguments):
    module = type(sys)("fastopt.cli.example")
    module.example = example
    monkeypatch.setitem(sys.modules, "fastopt.cli.example", module)
    monkeypatch.setattr(program, "COMMANDS", ("example",))
    return main(["example", *arguments])


def test_a_function_gets_its_options_by_name(monkeypatch, capsys):
    assert (example.name, example.summary) == ("example", "do it")
    assert run_example(monkeypatch, "--first", "5", "--left", "a", "b") == 5
    assert capsys.readouterr().out == "5 True False ['a', 'b'] fastopt example\n"
    refused_by = ["example", "--left", "--right"]
    refused(refused_by, "--right: not allowed with argument --left", capsys)


def test_options_are_shown_as_they_are_declared(monkeypatch, capsys):
    with pytest.raises(SystemExit):
        run_example(monkeypatch, "--help")
    text = capsys.readouterr().out
    assert [text.index(word) for word in ("--first N  ", "--left  ", "--right  ")] == sorted(
        text.index(word) for word in ("--first N  ", "--left  ", "--right  ")
    )
    assert "Do it. It is done." in text
    assert "a number (default: 3)" in text
    assert "to the left\n" in text


def test_every_command_takes_what_it_declares():
    for name, found in commands().items():
        assert isinstance(found, Command)
        assert found.name == name
        options = vars(build_parser().parse_args([name, *(["script.py"] if name == "run" else [])]))
        known = {*options} - {"command", "parser"} | {"prog", "given"}
        parameters = signature(found.function).parameters.values()
        names = {p.name for p in parameters if p.kind is not p.VAR_KEYWORD and p.default is p.empty}
        assert names <= known, name


# The program's name, and help.


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_each_command(name, capsys):
    for prog in ("fastopt", "python -m fastopt"):
        with pytest.raises(SystemExit) as stop:
            main([name, "--help"], prog)
        assert stop.value.code == 0
        text = capsys.readouterr().out
        assert text.startswith(f"usage: {prog} {name} [-h]")
        assert commands()[name].summary[1:] in " ".join(text.split())
        assert "(default: None)" not in text
        assert "(default: False)" not in text
        options = [line.split()[0] for line in text.splitlines() if line.startswith("  -")]
        for shown in options:  # each says something
            assert text.split(f"\n  {shown}")[1].split("\n  -")[0].split()[1:], shown


def test_help_of_the_program_lists_every_command(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    assert text.startswith("usage: fastopt [-h] [--version] COMMAND ...\n")
    assert re.findall(r"^    (\w+)", text, re.MULTILINE) == [*COMMANDS]


def test_the_script_and_the_module_are_the_same_program():
    with script("--version") as process:
        assert process.communicate(timeout=300) == (f"fastopt {fastopt.__version__}\n", "")
        assert process.returncode == 0
    with script("guide", "--help") as process:
        shown = process.communicate(timeout=300)[0]
    command = [sys.executable, "-m", "fastopt", "guide", "--help"]
    environment = {**os.environ, "COLUMNS": "80"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=ROOT)
    assert shown.startswith("usage: fastopt guide [-h] [PAGE]\n")
    assert done.stdout.startswith("usage: python -m fastopt guide [-h] [PAGE]\n")
    assert shown.partition("\n")[2] == done.stdout.partition("\n")[2]
    with script("train", "--epochs", "0") as process:
        errors = process.communicate(timeout=300)[1]
    assert process.returncode == 2
    wrong = "argument --epochs: must be a whole number from 1, not '0'"
    assert errors == f"fastopt train: {wrong} (see fastopt train --help)\n"


def test_a_command_loads_the_modules_of_no_other():
    code = (
        "import sys\nfrom fastopt.cli.program import main\nmain(['guide'])\n"
        "print([name for name in ('numpy', 'numba', 'fastopt.cli.train') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_advice_names_the_program_as_it_was_called(tmp_path):
    (tmp_path / "own.py").touch()
    with script("run", "own.py", cwd=tmp_path) as process:
        errors = process.communicate(timeout=300)[1]
    assert errors.endswith("as in fastopt run --module NAME own.py\n")


# Ctrl-C.


@pytest.mark.parametrize("name", COMMANDS)
def test_ctrl_c_ends_a_command_with_one_line(name, monkeypatch, capsys):
    def interrupted(self, options):
        print("so far")
        raise KeyboardInterrupt

    monkeypatch.setattr(Command, "run", interrupted)
    assert main([name, *(["script.py"] if name == "run" else [])]) == 130
    assert capsys.readouterr() == ("so far\n", "interrupted\n")


def test_ctrl_c_without_a_console(monkeypatch, capsys):
    monkeypatch.setattr(Command, "run", lambda self, options: signal.raise_signal(signal.SIGINT))
    monkeypatch.setattr(sys, "stderr", None)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        assert main(["guide"]) == 130
    finally:
        signal.signal(signal.SIGINT, before)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("handler", "then"), [(signal.default_int_handler, signal.SIG_DFL), (signal.SIG_IGN, signal.SIG_IGN)]
)
def test_a_second_ctrl_c_ends_the_process_at_once(handler, then, monkeypatch):
    """Unless whoever started it has interrupts ignored."""
    monkeypatch.setattr(program, "main", lambda prog: 7)
    before = signal.signal(signal.SIGINT, handler)
    try:
        with pytest.raises(SystemExit) as stop:
            program.enter()
        assert signal.getsignal(signal.SIGINT) is then
    finally:
        signal.signal(signal.SIGINT, before)
    assert stop.value.code == 7


@posix
def test_ctrl_c_while_the_script_works():
    """It is pressed when the command has shown that it works."""
    with script("verify", "--rules", "SGD,LAMB,SOAP,Adam,Muon") as process:
        assert process.stderr.read(4) == "SGD "
        process.send_signal(signal.SIGINT)
        out, errors = process.communicate(timeout=300)
    assert process.returncode == 130
    assert out == ""
    assert errors.splitlines()[-1] == "interrupted"
    assert "Traceback" not in errors
    assert len(errors.splitlines()) == 2  # the first are the rules


@posix
def test_ctrl_c_in_a_script_that_runs_tells_the_line(tmp_path):
    (tmp_path / "own.py").write_text(
        "import time\n"
        "from common.optimizer import SGD\n"
        "def wait():\n"
        "    print('here', flush=True)\n"
        "    while True:\n"
        "        time.sleep(0.01)\n"
        "wait()\n"
    )
    with script("run", "own.py", cwd=tmp_path) as process:
        assert process.stdout.readline() == "here\n"
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=300)
    assert process.returncode == 130
    assert re.fullmatch(r"interrupted: own\.py, line [4-6]", errors.splitlines()[-1])
    assert "Traceback" not in errors


def test_a_real_interrupt_ends_the_study_of_interrupts(monkeypatch):
    """Only the simulated ones belong to it."""
    subject = Subject("book", Book, "")
    assert re.fullmatch(r"\d+ of \d+ wrong", interruptions.ctrl_c(subject))
    assert issubclass(interruptions.SimulatedInterrupt, KeyboardInterrupt)

    def real():
        raise KeyboardInterrupt

    monkeypatch.setattr(interruptions, "interrupt", real)
    with pytest.raises(KeyboardInterrupt):
        interruptions.ctrl_c(subject)


def test_an_interrupted_study_ends_its_processes(monkeypatch):
    ended = []

    class Process:
        def terminate(self):
            ended.append(self)

    class Pool:
        def __init__(self, *how):
            pass

        def map(self, function, cases):
            yield 1
            raise KeyboardInterrupt

        def shutdown(self, cancel_futures):
            ended.append(cancel_futures)

    child = Process()
    monkeypatch.setattr(study, "ProcessPoolExecutor", Pool)
    monkeypatch.setattr(study, "active_children", lambda: [child])
    with pytest.raises(KeyboardInterrupt):
        [*study.results([], 2)]
    assert ended == [child, True]


# | head.


@posix
@pytest.mark.parametrize("arguments", [["guide"], ["rules"], ["guide", "state"]], ids=" ".join)
def test_a_closed_pipe_ends_the_script_quietly(arguments):
    with script(*arguments) as process:
        process.stdout.close()
        errors = process.stderr.read()
        assert process.wait(300) == 141
    assert errors == ""


# verify.


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--against", "numpy"],
            "--against: invalid choice: 'numpy' (choose from ",
        ),
        (
            ["--against", "faults", "--rules", "SGD"],
            "argument --rules: requires --against reference or --against frameworks; --against faults takes "
            "Adam alone: leave --rules out (see fastopt verify --help)",
        ),
        (
            ["--against", "full-state", "--rules", "SGD"],
            "--against full-state takes the five rules of its programs: leave --rules out",
        ),
        (
            ["--against", "faults", "--seeds", "2"],
            "--seeds: requires --against full-state, got --against faults",
        ),
        (["--short"], "--short: requires --against full-state, got --against reference"),
        (
            ["--against", "frameworks", "--out", "a.png"],
            "--out: requires --against full-state, got --against fr",
        ),
        (["--rules", "Sgd"], "--rules: 'Sgd' is no rule; did you mean SGD"),
        (
            ["--against", "frameworks", "--rules", "AggMo,LDoG"],
            "--rules: must have a rule that a framework has, got AggMo, LDoG; choose from SGD, ",
        ),
        (["--faults"], "unrecognized arguments: --faults"),
    ],
)
def test_verify_names_the_wrong_option(arguments, message, capsys, monkeypatch):
    monkeypatch.setattr(reference, "summary", lambda rules: ("", True))
    refused(["verify", *arguments], message, capsys)


def test_verify_takes_the_rules_that_are_named(monkeypatch, capsys):
    asked = []
    monkeypatch.setattr(reference, "summary", lambda rules: asked.append(rules) or ("table", False))
    assert main(["verify", "--rules", "Adam,SGD"]) == 1
    assert main(["verify", "--against", "reference"]) == 1
    assert asked == [["Adam", "SGD"], fastopt.optimizers.RULES]
    assert capsys.readouterr().out == "table\ntable\n"


def test_verify_tells_which_rules_no_framework_has(monkeypatch, capsys):
    monkeypatch.setattr(frameworks, "compare", lambda rules: rules)
    monkeypatch.setattr(frameworks, "summary", lambda rules: (",".join(rules), True))
    assert main(["verify", "--against", "frameworks", "--rules", "AggMo,SGD,LDoG"]) == 0
    assert capsys.readouterr().out == "SGD\n\nleft out, as no framework has them: AggMo, LDoG\n"
    assert main(["verify", "--against", "frameworks", "--rules", "SGD"]) == 0
    assert capsys.readouterr().out == "SGD\n"


def test_a_framework_that_no_chosen_rule_needs_may_be_missing(monkeypatch):
    """SGD's equivalent is PyTorch's; only what has the equivalent must be there."""
    monkeypatch.setattr(frameworks, "version_of", lambda name: "1" if name == "PyTorch" else None)
    monkeypatch.setattr(frameworks, "difference", lambda *case: 0.0)
    monkeypatch.setattr(frameworks, "bench", lambda *case: ["timing"])
    assert [found.library for found in frameworks.compare(["SGD"])] == ["PyTorch"]
    monkeypatch.setattr(frameworks, "version_of", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match="PyTorch is not installed"):
        frameworks.compare(["SGD"])


def test_the_full_state_has_defaults_of_its_own(monkeypatch, capsys):
    asked = []
    monkeypatch.setitem(verify.OUTCOMES, "full-state", lambda **how: asked.append(how) or ("table", True))
    assert main(["verify", "--against", "full-state"]) == 0
    assert main(["verify", "--against", "full-state", "--seeds", "2", "--short", "--out", "own.png"]) == 0
    assert asked == [{}, {"seeds": 2, "short": True, "out": Path("own.png")}]


# guide.

PAGE = """\
# A title with `code`

A paragraph of **two**
lines, see [Options](options.md) and [the site](https://example.org).
<!-- a note for
the tests -->

- an item that is longer than one line
  of it
- another

1. first
```python
if long:  # a line of code, which is not filled however long it is
    pass

# a comment
```
## Numbers
| rule | a | b |
|---|---|---|
| Adam | 1 | `x\\|y` |
| SGD | 22 | |

![curves](state.png)
"""

TEXT = """\
A title with `code`
===================

A paragraph of two lines, see Options
(page options) and the site
(https://example.org).

- an item that is longer than one line
  of it
- another

1. first

    if long:  # a line of code, which is not filled however long it is
        pass

    # a comment

Numbers
-------

rule  a   b
────  ──  ─────
Adam  1   `x|y`
SGD   22

(picture state.png: curves)"""


def test_a_page_as_text():
    assert guide.page_text(PAGE, 40) == TEXT


def test_wide_tables():
    prose = "| option | what it does |\n|---|---|\n| `lr` | the learning rate as a function of the step |\n"
    assert guide.page_text(prose, 30) == "- `lr`: the learning rate as a\n  function of the step"
    three = prose.replace("|\n", "| more |\n").replace("step | more", "step | PyTorch")
    assert guide.page_text(three, 50) == (
        "- `lr`: what it does: the learning rate as a\n  function of the step; more: PyTorch"
    )
    # Texts aren't cut, though both parts would fit.
    assert guide.page_text(three, 55).startswith("- `lr`: what it does: the learning rate")
    numbers = "| a | b | c |\n|---|---|---|\n" + "".join(f"| x | {n} | {'9' * 20} |\n" for n in range(2))
    assert guide.page_text(numbers, 30).splitlines()[2:] == [f"x  {n}  {'9' * 20}" for n in range(2)]
    head, line, *rows = numbers.splitlines()
    wider = "\n".join([f"{head} d |", f"{line}---|", *(f"{row} {'8' * 20} |" for row in rows)])
    parts = guide.page_text(wider, 30)
    assert [line.split()[:2] for line in parts.split("\n\n")[1].splitlines()[2:]] == [["x", "0"], ["x", "1"]]


def test_pages_are_listed_in_the_order_of_reading(monkeypatch, capsys, tmp_path):
    folder = tmp_path / "guide"
    folder.mkdir()
    for name in ("zebra", "state", "ant", "options", "start"):
        (folder / f"{name}.md").write_text(f"# Title of {name}\n\ntext\n", "utf-8")
    (folder / "picture.png").touch()
    monkeypatch.setattr(guide, "files", lambda package: tmp_path)
    assert main(["guide"], "python -m fastopt") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[2:7]] == ["start", "options", "state", "ant", "zebra"]
    assert lines[2] == "start    Title of start"
    assert lines[-1] == "Read one by python -m fastopt guide PAGE."


def test_every_page_has_a_title_and_fits_a_terminal(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert dict(guide.contents()).get("state") == "Optimizer state in 2 and in 1 bytes"
    for name, title in guide.contents():
        assert title, name
        assert main(["guide", name]) == 0
        out = capsys.readouterr().out
        assert out.startswith(f"{title}\n===")
        # Code stays as it is, and a word may be longer.
        wide = [
            line
            for line in out.splitlines()
            if len(line) > 80 and line[:4].strip() and " " in line.strip("- ")
        ]
        assert wide == [], name


def test_a_page_that_is_not_there(capsys):
    refused(
        ["guide", "sate"],
        "argument PAGE: must be a page of the guide, got 'sate'; did you mean state? there are ",
        capsys,
    )


def test_a_page_may_have_its_file_name(capsys):
    assert main(["guide", "state.md"]) == 0
    assert capsys.readouterr().out.startswith("Optimizer state")


def test_a_terminal_gets_a_pager(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    shown = []
    monkeypatch.setattr("pydoc.pager", shown.append)
    monkeypatch.setattr(sys, "stdout", terminal := Terminal())
    assert main(["guide", "state"]) == 0
    assert terminal.getvalue() == ""
    assert shown[0].startswith("Optimizer state")
