"""``python -m fastopt run``: the modules of a program whose optimizers it replaces."""

import subprocess
import sys

import pytest

from fastopt.cli.program import main

# In the form of a module of the books, with what forks add to it.
MODULE = """
import math
import numpy as np

DEFAULT = "sgd"
SECRET = _hidden = 1


class Base:
    def __init__(self, lr=0.01):
        self.lr = lr


class SGD(Base):
    def __init__(self, lr=0.01):
        super(SGD, self).__init__(lr)

    def update(self, params, grads):
        for key in params.keys():
            params[key] -= self.lr * grads[key]


class Adam(SGD):
    pass


class Halving(SGD):
    def __init__(self, lr=0.01):
        super(Halving, self).__init__(lr)

    def update(self, params, grads):
        SGD.update(self, params, grads)
        self.lr *= 0.5


def choose(name=DEFAULT, lr=0.1, *, scale=1.0):
    return {"sgd": SGD, "adam": Adam}[name](lr=lr * scale)
"""

# In the form of chapter 6's comparison: everything, np included, comes from the optimizers' module.
COMPARISON = """
from IMPORTED import *

start = {"x": -7.0, "y": 2.0}
paths = {}
for name, optimizer in {"SGD": SGD(lr=0.95), "Adam": Adam(lr=0.3)}.items():
    params = dict(start)
    path = []
    for _ in range(30):
        path.append((params["x"], params["y"]))
        optimizer.update(params, {"x": params["x"] / 10, "y": 2 * params["y"]})
    paths[name] = np.array(path)
print(SGD.__module__, np.__name__, paths["SGD"].shape, paths["SGD"][-1, 0].hex())
"""


def run(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "fastopt", "run", *map(str, arguments)], capture_output=True, text=True
    )


@pytest.mark.parametrize("name", ["common.optimizer", "optimizer", "pkg.common.optimizer"])
def test_the_module_is_named(tmp_path, name):
    *packages, last = name.split(".")
    folder = tmp_path.joinpath(*packages)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{last}.py").write_text(MODULE)
    script = tmp_path / "train.py"
    script.write_text(COMPARISON.replace("IMPORTED", name))
    plain = subprocess.run([sys.executable, script], capture_output=True, text=True)
    options = [] if name == "common.optimizer" else ["--module", name]
    result = run(*options, script)
    assert result.returncode == plain.returncode == 0, result.stderr + plain.stderr
    assert plain.stdout.startswith(f"{name} numpy (30, 2) ")
    assert result.stdout == plain.stdout.replace(name, "fastopt.optimizers.sgd")
    for rule in ("SGD", "Adam"):
        assert [line.split()[1] for line in result.stderr.splitlines() if line.startswith(f"{rule} ")] == [
            "30"
        ]


def test_a_module_that_the_script_s_package_imports(tmp_path):
    """The module's whole name counts, however it is imported."""
    (tmp_path / "pkg" / "common").mkdir(parents=True)
    (tmp_path / "pkg" / "common" / "optimizer.py").write_text(MODULE)
    (tmp_path / "pkg" / "common" / "trainer.py").write_text(
        "from .optimizer import *\nused = SGD.__module__\n"
    )
    script = tmp_path / "train.py"
    script.write_text(
        "import pkg.common.trainer as trainer\nprint(trainer.used)\n"
        "from pkg.common import optimizer\nprint(optimizer.SGD is trainer.SGD)\n"
    )
    assert run("--module=pkg.common.optimizer", script).stdout == "fastopt.optimizers.sgd\nTrue\n"


def test_what_fastopt_does_not_have_stays(tmp_path):
    """Other names are the program's; its functions make fastopt's optimizers, its subclasses stay whole."""
    (tmp_path / "optimizer.py").write_text(MODULE)
    script = tmp_path / "train.py"
    script.write_text(
        "from optimizer import *\n"
        "import optimizer\n"
        "print(math.pi, DEFAULT, optimizer._hidden, Base.__module__, optimizer.__file__)\n"
        "print('_hidden' in globals(), 'Lion' in globals(), optimizer.Lion.__module__)\n"
        "for rule in (choose(), choose('adam', scale=0.5)):\n"
        "    print(type(rule).__module__, rule.lr)\n"
        "halving, params = Halving(lr=0.5), {'x': 1.0}\n"
        "halving.update(params, {'x': 1.0})\n"
        "print(params['x'], halving.lr)\n"
    )
    result = run("--module", "optimizer", script)
    assert result.stdout.splitlines() == [
        f"3.141592653589793 sgd 1 optimizer {tmp_path / 'optimizer.py'}",
        "False False fastopt.optimizers.sign",
        "fastopt.optimizers.sgd 0.1",
        "fastopt.optimizers.adam 0.05",
        "0.5 0.25",
    ], result.stderr


def test_an_own_all_is_kept(tmp_path):
    (tmp_path / "optimizer.py").write_text(
        "__all__ = ['SGD', '_x']\nclass SGD: pass\nclass Adam: pass\n_x = 1\n"
    )
    script = tmp_path / "train.py"
    script.write_text("from optimizer import *\nprint(SGD.__module__, _x, 'Adam' in globals())\n")
    assert run("--module", "optimizer", script).stdout == "fastopt.optimizers.sgd 1 False\n"


def test_a_module_that_fails(tmp_path):
    """Its error is the program's, with the program's lines only, and it is tried again by the next import."""
    (tmp_path / "optimizer.py").write_text("1 / 0\n")
    script = tmp_path / "train.py"
    script.write_text(
        "import sys\n"
        "try:\n    import optimizer\nexcept ZeroDivisionError:\n    print('optimizer' in sys.modules)\n"
        "import optimizer\n"
    )
    result = run("--module", "optimizer", script)
    assert result.returncode == 1
    assert result.stdout == "False\n"
    files = [line.split('"')[1] for line in result.stderr.splitlines() if line.startswith("  File ")]
    assert files == [str(script), str(tmp_path / "optimizer.py")]
    assert result.stderr.endswith("\nZeroDivisionError: division by zero\n")


def test_a_module_that_is_never_imported(tmp_path):
    """Which module was meant, and what to write."""
    (tmp_path / "optimizer.py").write_text(MODULE)
    script = tmp_path / "train.py"
    script.write_text("from optimizer import SGD\n")
    assert run(script).stderr.strip() == (
        "fastopt: train.py took no step of an optimizer of fastopt, as it imported no module "
        "common.optimizer; name the module of its optimizers, as in python -m fastopt run "
        "--module optimizer train.py"
    )
    script.write_text("from optimizer import SGD\nimport common.optimizer\n")
    assert run(script).stderr.strip() == (
        "fastopt: train.py took no step of an optimizer of fastopt, though it imported common.optimizer, "
        "which is fastopt here; call update(params, grads) of an optimizer from there, or name another "
        "module with --module"
    )


@pytest.mark.parametrize("name", ["common/optimizer.py", "optimizer.py", "a..b", ".optimizer", "", "class"])
def test_no_name_of_a_module(tmp_path, capsys, name):
    with pytest.raises(SystemExit) as stop:
        main(["run", "--module", name, str(tmp_path / "train.py")])
    assert stop.value.code == 2
    assert f"must be the name of a module as in an import, got {name!r}; write " in capsys.readouterr().err


NP = """
from common.config import GPU
if GPU:
    import cupy as np
else:
    import numpy as np
"""
OWN = "from common.np import *\nclass SGD:\n    def update(self, params, grads):\n        pass\n"


@pytest.mark.parametrize("way", ["file", "script", "off"])
@pytest.mark.parametrize("first", ["common.optimizer", "common.np"])
def test_a_gpu_is_refused_in_one_sentence(tmp_path, way, first):
    """As volume 2 switches it on: in its configuration, or in the script, before all other imports."""
    (tmp_path / "common").mkdir()
    for name, text in {"config": f"GPU = {way == 'file'}\n", "np": NP, "optimizer": OWN}.items():
        (tmp_path / "common" / f"{name}.py").write_text(text)
    script = tmp_path / "train.py"
    switch = "config.GPU = True\n" if way == "script" else ""
    script.write_text(f"from common import config\n{switch}from {first} import *\nprint(np.__name__, GPU)\n")
    result = run(script)
    if way == "off":
        assert result.stdout == "numpy False\n"
        return
    assert result.returncode == 1
    assert result.stdout == ""
    assert result.stderr == (
        "fastopt: common.config.GPU must be False, as fastopt updates NumPy arrays, got True; "
        "set GPU = False in common/config.py, and where the script sets config.GPU\n"
    )


def test_cupy_is_refused_where_it_is_installed(tmp_path):
    """With volume 2's configuration and without."""
    (tmp_path / "cupy.py").touch()
    (tmp_path / "common").mkdir()
    script = tmp_path / "train.py"
    script.write_text("from common.optimizer import *\nprint(np.__name__)\n")
    for name, text in {"config": "GPU = True\n", "np": NP, "optimizer": OWN}.items():
        (tmp_path / "common" / f"{name}.py").write_text(text)
    result = run(script)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith("fastopt: common.config.GPU must be False, ")
    (tmp_path / "common" / "optimizer.py").write_text("import cupy as np\n")
    result = run(script)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == (
        "fastopt: common.optimizer.np must be NumPy, as fastopt updates NumPy arrays, got CuPy; "
        "write import numpy as np in common/optimizer.py\n"
    )


def test_a_dict_of_optimizers(tmp_path):
    """A table in the module, from which a trainer takes the class."""
    (tmp_path / "optimizer.py").write_text(MODULE + "TABLE = {'sgd': SGD, 'halving': Halving}\n")
    script = tmp_path / "train.py"
    script.write_text("from optimizer import TABLE\nprint([rule.__module__ for rule in TABLE.values()])\n")
    assert run("--module", "optimizer", script).stdout == "['fastopt.optimizers.sgd', 'optimizer']\n"
