"""``python -m fastopt run``."""

import subprocess
import sys
from importlib.util import find_spec

import numpy as np
import pytest
from cases import both

from fastopt.__main__ import main
from fastopt.demo.run import Cost, summary

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
    return {line[0]: line[1:] for line in lines if line and line[0] in ("Adam", "SGD", "Momentum")}


def test_a_script_of_the_books(tmp_path):
    """It is found as Python would find it, but for its optimizers, whose file is never run."""
    (tmp_path / "common").mkdir()
    (tmp_path / "ch06").mkdir()
    (tmp_path / "common" / "__init__.py").touch()
    (tmp_path / "common" / "optimizer.py").write_text("raise RuntimeError")
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
        assert list(rows(result.stderr)) == (["Momentum"] if options else [])
        assert ("took no step" in result.stderr) is not bool(options)


def test_a_script_that_fails(tmp_path):
    (tmp_path / "train.py").write_text("import fastopt\nfastopt.SGD().update([1.0], [1.0])\n1 / 0\n")
    result = run(tmp_path / "train.py")
    assert result.returncode == 1
    assert "ZeroDivisionError" in result.stderr
    assert rows(result.stderr)["SGD"][0] == "1"


def test_no_script(tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["run", str(tmp_path / "none.py")])
    assert stop.value.code == 2
    assert "there is no file" in capsys.readouterr().err


def test_the_summary_by_hand():
    costs = {"Adam": Cost([0.5, 2e-6, 3e-6, 4e-6], [8e-6, 1e-5, 1e-5]), "SGD": Cost([0.25])}
    table = rows(summary(costs, 12.345))
    assert table["Adam"] == ["4", "0.500", "3.0", "10.0", "0.500", "0.000"]
    assert table["SGD"] == ["1", "0.250", "250,000.0", "0.250"]
    assert "took 12.35 s" in summary(costs, 12.3456)
