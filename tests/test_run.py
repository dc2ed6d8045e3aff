"""``python -m fastopt run``."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from cases import both

import fastopt
from fastopt.cli.program import main
from fastopt.tools.runner.run import Cost, summary

SCRIPT = """
import sys, os
sys.path.append(os.path.join(os.path.dirname(__file__), os.pardir))
import numpy as np
import beside
from common.optimizer import *
from common.trainer import Adam as Again
params = {"W": np.ones((20, 10)), "b": np.zeros(10)}
for optimizer in (Adam(0.01), SGD(0.1)):
    for _ in range(9):
        optimizer.update(params, {key: 2 * p - 1 for key, p in params.items()})
print(__name__, sys.argv[1:], Adam.__module__, Adam is Again, params["W"][0, 0].hex())
sys.exit(7)
"""

DEZERO = """
import numpy as np
np.int = int
import dezero
import dezero.layers as L
from dezero import optimizers
model = L.Linear(2, in_size=3)
optimizer = optimizers.MomentumSGD(0.1).setup(model)
for _ in range(4):
    dezero.functions.sum(model(np.ones((1, 3))) ** 2).backward()
    dezero.optimizers.MomentumSGD.update(optimizer)
print(type(optimizer).__module__)
"""


def run(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "fastopt", "run", *map(str, arguments)], capture_output=True, text=True
    )


def rows(text):
    """Give the cells of the table by rule."""
    lines = [line.split() for line in text.splitlines()]
    return {
        line[0]: line[1:] for line in lines if line and line[0] in ("Adam", "SGD", "Momentum", "Muon", "Mine")
    }


def test_a_script_of_the_books(tmp_path):
    """Its modules are found as Python would find them; only the classes of its optimizers are replaced."""
    (tmp_path / "common").mkdir()
    (tmp_path / "ch06").mkdir()
    (tmp_path / "common" / "__init__.py").touch()
    (tmp_path / "common" / "optimizer.py").write_text("class Adam: pass\nclass SGD: pass\n")
    (tmp_path / "common" / "trainer.py").write_text("from common.optimizer import *")
    (tmp_path / "ch06" / "beside.py").touch()
    script = tmp_path / "ch06" / "train.py"
    script.write_text(SCRIPT)
    result = run(script, "--epochs", "3")
    assert result.returncode == 7, result.stderr

    params = {"W": np.ones((20, 10)), "b": np.zeros(10)}
    for optimizer in (both("Adam", lr=0.01)[0], both("SGD", lr=0.1)[0]):
        for _ in range(9):
            optimizer.update(params, {key: 2 * p - 1 for key, p in params.items()})
    value = params["W"][0, 0].hex()
    assert result.stdout == f"__main__ ['--epochs', '3'] fastopt.optimizers.adam True {value}\n"
    table = rows(result.stderr)
    assert {rule: row[0] for rule, row in table.items()} == {"Adam": "9", "SGD": "9"}
    assert all(float(cell) >= 0 for row in table.values() for cell in row)


@pytest.mark.skipif(find_spec("dezero") is None, reason="this needs dezero")
def test_a_script_of_dezero(tmp_path):
    (tmp_path / "train.py").write_text(DEZERO)
    for options, module in (([], "dezero.optimizers"), (["--dezero"], "fastopt.adapters.dezero")):
        result = run(*options, tmp_path / "train.py")
        assert result.stdout == module + "\n", result.stderr
        assert [*rows(result.stderr)] == (["Momentum"] if options else [])
        assert ("took no step" in result.stderr) is not bool(options)
        assert ("as in python -m fastopt run --dezero train.py" in result.stderr) is not bool(options)


OWN_RULE = """
import numpy as np
np.int = int
import dezero
from dezero.optimizers import *
class Half(Optimizer):
    def update_one(self, param):
        param.data -= 0.5 * param.grad.data
model = dezero.layers.Linear(2, in_size=3)
for optimizer in (Half().setup(model), SGD().setup(model)):
    dezero.functions.sum(model(np.ones((1, 3))) ** 2).backward()
    optimizer.update()
print(SGD.__module__, cuda.__name__, math.__name__)
"""


@pytest.mark.skipif(find_spec("dezero") is None, reason="this needs dezero")
def test_dezero_s_other_names(tmp_path):
    """The base of own rules, and the modules that DeZero's own imports, are handed on."""
    (tmp_path / "train.py").write_text(OWN_RULE)
    result = run("--dezero", tmp_path / "train.py")
    assert result.stdout == "fastopt.adapters.dezero dezero.cuda math\n", result.stderr


def test_a_script_that_fails(tmp_path):
    script = tmp_path / "train.py"
    script.write_text("import fastopt\nfastopt.SGD().update([1.0], [1.0])\n1 / 0\n")
    result = run(script)
    assert result.returncode == 1
    assert rows(result.stderr)["SGD"][0] == "1"
    assert result.stderr.endswith("\nZeroDivisionError: division by zero\n")
    assert result.stderr.count("  File ") == 1
    script.write_text("import fastopt\nfastopt.SGD().update({'a': 1.0}, {})\n")
    result = run(script)
    files = [line.split('"')[1] for line in result.stderr.splitlines() if line.startswith("  File ")]
    assert files[0] == str(script)
    assert not any(name.endswith(("run.py", "runpy.py")) for name in files)
    assert "fastopt:" not in result.stderr  # no step, no summary


def test_a_script_that_needs_what_is_missing(tmp_path):
    """The error is the script's, even if it is a module that fastopt can use."""
    (tmp_path / "train.py").write_text("import sys\nsys.modules['torch'] = None\nimport torch\n")
    result = run(tmp_path / "train.py")
    assert result.returncode == 1
    assert result.stderr.startswith("Traceback")
    assert "this needs" not in result.stderr


def test_a_script_without_a_common(tmp_path):
    script = tmp_path / "own.py"
    script.write_text("from common.optimizer import Adam\nprint(Adam.__module__)\nimport common.trainer\n")
    result = run(script)
    assert result.stdout == "fastopt.optimizers.adam\n"
    assert "No module named 'common.trainer'" in result.stderr
    script.write_text("from common.optimizer import Adma\n")
    result = run(script)
    assert result.returncode == 1
    assert "cannot import name 'Adma'" in result.stderr
    assert "has SGD, Momentum, " in result.stderr.splitlines()[-1]


def test_a_rule_of_one_s_own_is_metered(tmp_path):
    """It has no equivalent in plain NumPy; the book's rules in the same script have."""
    (tmp_path / "own.py").write_text(
        "import fastopt, numpy as np\n"
        "from dataclasses import dataclass\n"
        "from fastopt.optimizer import Optimizer, hyperparameter\n"
        "@dataclass(eq=False)\n"
        "class Mine(Optimizer):\n"
        "    kernel = fastopt.SGD.kernel\n"
        "    lr: float = hyperparameter(0.5)\n"
        "    def scalars(self, t):\n"
        "        return (self.lr,)\n"
        "params = [np.ones((2, 2))]\n"
        "for optimizer in (Mine(), fastopt.Muon()):\n"
        "    for _ in range(4):\n"
        "        optimizer.update(params, [np.ones((2, 2))])\n"
        "print(params[0][0, 0])\n"
    )
    result = run(tmp_path / "own.py")
    assert result.returncode == 0, result.stderr
    table = rows(result.stderr)
    assert [len(table[rule]) for rule in ("Mine", "Muon")] == [4, 6]
    assert [table[rule][0] for rule in ("Mine", "Muon")] == ["4", "4"]


def test_no_script(tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["run", str(tmp_path / "none.py")])
    assert stop.value.code == 2
    assert "there is no file" in capsys.readouterr().err


def test_the_summary_by_hand():
    costs = {"Adam": Cost([0.5, 2e-6, 3e-6, 4e-6], [8e-6, 1e-5, 1e-5]), "SGD": Cost([0.25])}
    text = summary(costs, 12.3456)
    table = rows(text)
    assert table["Adam"] == ["4", "0.500", "3.0", "0.500", "10.0", "0.000"]
    assert table["SGD"] == ["1", "0.250", "250,000.0", "0.250"]
    assert "took 12.35 s" in text
    assert "Over all fastopt was 0.500 s slower than plain NumPy by fastopt.reference." in text
    assert "pays back: Adam after about 71,428 steps." in text
    text = summary({"SGD": Cost([3.0, 1.0, 1.0], [2.0])}, 5.0)
    assert "fastopt was 1.000 s faster" in text
    assert "SGD after about 2 steps." in text
    assert "SGD never." in summary({"SGD": Cost([3.0, 1.0, 1.0], [0.5])}, 5.0)


def test_a_script_that_changes_the_folder_and_closes_its_output(tmp_path):
    script = tmp_path / "s.py"
    script.write_text(
        "import os, sys\n"
        "os.chdir(os.path.dirname(__file__))\n"
        "print(sys.argv[1:], flush=True)\n"
        "from common.optimizer import SGD\n"
        "import numpy as np\n"
        "SGD().update([np.ones(1)], [np.ones(1)])\n"
        "sys.stdout.close()\n"
    )
    for given in (["--", "a"], ["--"], ["a", "--"]):
        command = [sys.executable, "-m", "fastopt", "run", "s.py", *given]
        environment = os.environ | {
            "PYTHONPATH": str(Path(fastopt.__file__).parent.parent),
            "PYTHONSAFEPATH": "1",
        }
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert (done.returncode, done.stdout) == (0, f"{given}\n"), done.stderr


def test_metering_a_step_takes_no_long_look_at_the_rule():
    """It took as long as dozens of small steps."""
    code = (
        "import cProfile, pstats, numpy as np, fastopt\n"
        "from fastopt.tools.runner import run\n"
        "run.meter({})\n"
        "optimizer, w = fastopt.SGD(), [np.ones(2)]\n"
        "with cProfile.Profile() as profile:\n"
        "    for _ in range(100): optimizer.update(w, w)\n"
        "stats = pstats.Stats(profile).stats\n"
        "print(sum(own[0] for key, own in stats.items() if key[2] == 'rule_of'))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) <= 8
