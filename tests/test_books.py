"""The books' own scripts under ``python -m fastopt run``, and without it: `python -m pytest -m books`.

FASTOPT_BOOKS names the folder with clones of the three repositories, whatever their names are there. The
scripts are shortened, and their data sets replaced by random arrays of the same shapes (`books_prelude`).
"""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BOOKS = os.environ.get("FASTOPT_BOOKS", "")

pytestmark = [
    pytest.mark.books,
    pytest.mark.skipif(
        not BOOKS, reason="FASTOPT_BOOKS must name the folder with clones of the books' repositories"
    ),
]

# A file by which the repository of each volume is found.
MARKS = {1: "ch06/optimizer_compare_naive.py", 2: "ch06/train_better_rnnlm.py", 3: "steps/step46.py"}
OPTIMIZERS = {1: "common.optimizer", 2: "common.optimizer", 3: "dezero.optimizers"}
# The modules of data sets that are replaced, each with the names that it takes from `books_prelude`.
DATASETS = {
    1: {"mnist": "load_mnist"},
    2: {
        "ptb": "load_corpus as load_data",
        "sequence": "load_sequences as load_data, vocabulary as get_vocab",
    },
    3: {},
}
# For each script the numbers that shorten it.
SCRIPTS = {
    1: {
        "ch06/optimizer_compare_naive.py": {},
        "ch06/optimizer_compare_mnist.py": {"max_iterations": 20},
        "ch06/weight_init_compare.py": {"max_iterations": 20},
        "ch06/batch_norm_test.py": {"max_epochs": 2},
        "ch06/overfit_weight_decay.py": {"max_epochs": 4},
        "ch06/overfit_dropout.py": {"epochs": 4},
        "ch06/hyperparameter_optimization.py": {"optimization_trial": 3, "epocs": 4},
        "ch07/train_convnet.py": {"max_epochs": 2},
        "ch08/train_deepnet.py": {"epochs": 1},
    },
    2: {
        "ch01/train.py": {"max_epoch": 3},
        "ch01/train_custom_loop.py": {"max_epoch": 3, "h": 0.1},
        "ch03/train.py": {"max_epoch": 20},
        "ch04/train.py": {"max_epoch": 1},
        "ch05/train.py": {"max_epoch": 2},
        "ch05/train_custom_loop.py": {"max_epoch": 2},
        "ch06/train_rnnlm.py": {"max_epoch": 2},
        "ch06/train_better_rnnlm.py": {"max_epoch": 1},
        "ch07/train_seq2seq.py": {"max_epoch": 3},
        "ch08/train.py": {"max_epoch": 2},
    },
    3: {
        "steps/step46.py": {"max_iter": 50},
        "steps/step48.py": {"max_epoch": 3, "h": 0.1},
        "steps/step49.py": {"max_epoch": 3},
        "steps/step50.py": {"max_epoch": 3},
        "steps/step51.py": {"max_epoch": 2},
        "steps/step52.py": {"max_epoch": 2},
        "steps/step53.py": {"max_epoch": 2},
        "steps/step59.py": {"max_epoch": 1},
        "steps/step60.py": {"max_epoch": 2},
        "examples/mnist.py": {"max_epoch": 2},
        "examples/spiral.py": {"max_epoch": 3, "h": 0.1},
        "examples/gan.py": {"max_epoch": 1},
        "examples/vae.py": {"max_epoch": 1},
        "examples/style_transfer.py": {"iterations": 3, "model_input_size": (32, 32)},
    },
}
# The scripts whose optimizers compute float32 parameters in float64, where fastopt stays in float32: those
# with Adam in volume 2, because of its step size, and all of volume 3, because of their gradients. When the
# books' steps are rounded likewise, the bits are the same.
ROUNDED = {
    1: set(),
    2: {"ch03/train.py", "ch04/train.py", "ch07/train_seq2seq.py", "ch08/train.py"},
    3: set(SCRIPTS[3]),
}
CASES = [(volume, name) for volume, names in SCRIPTS.items() for name in names]


def book(volume):
    """Return the folder of a volume's repository."""
    for folder in sorted(Path(BOOKS).iterdir()):
        if (folder / MARKS[volume]).is_file():
            return folder
    pytest.fail(f"FASTOPT_BOOKS must contain a clone of volume {volume}, with {MARKS[volume]}, got {BOOKS!r}")


def shortened(text, numbers):
    """Return a script in which names are assigned other numbers, and `books_prelude` is imported first."""
    for name, number in numbers.items():
        text, n = re.subn(rf"\b{name} ?= ?(\([^)]*\)|[\d.]+)", f"{name}={number}", text)
        assert n > 0, name
    return f"import books_prelude\n{text}"


@pytest.fixture(scope="module")
def copies(tmp_path_factory):
    """Return a function that copies a volume once, without its history, with random data sets."""
    made = {}

    def copy(volume):
        if volume not in made:
            folder = tmp_path_factory.mktemp(f"volume{volume}") / "book"
            shutil.copytree(
                book(volume), folder, ignore=shutil.ignore_patterns(".git", "*.npy", "*.ipynb", "tests")
            )
            shutil.copy(Path(__file__).with_name("books_prelude.py"), folder)
            for module, names in DATASETS[volume].items():
                (folder / "dataset" / f"{module}.py").write_text(f"from books_prelude import {names}\n")
            made[volume] = folder
        return made[volume]

    return copy


def record(folder, volume, name, *command, **variables):
    """Return what a script leaves after each step, how it ends, and what it prints to stderr."""
    script, steps = folder / name, folder / "record.json"
    env = os.environ | {
        # Chapter 8 of volume 2 imports a module of chapter 7 that imports another by its bare name.
        "PYTHONPATH": os.pathsep.join([str(folder), str(ROOT), *([str(folder / "ch07")] * (volume == 2))]),
        "PYTHONHASHSEED": "0",  # the order of DeZero's sets
        "MPLBACKEND": "agg",
        "BOOKS_OPTIMIZERS": OPTIMIZERS[volume],
        "BOOKS_RECORD": str(steps),
        **variables,
    }
    for left in script.parent.glob("*.npz"):  # weights from which a script would resume
        left.unlink()
    result = subprocess.run(
        [sys.executable, *command, script.name], cwd=script.parent, env=env, capture_output=True, text=True
    )
    recorded = json.loads(steps.read_text())
    steps.unlink()
    errors = [line for line in result.stderr.splitlines() if re.match(r"\w+(Error|Exception)\b", line)]
    return recorded, (result.returncode, errors[-1:]), result.stderr


@pytest.mark.parametrize(("volume", "name"), CASES)
def test_a_script_has_the_same_bits(copies, volume, name):
    """A script that can't end with this NumPy ends with the same error."""
    folder = copies(volume)
    script = shortened((book(volume) / name).read_text("utf-8"), SCRIPTS[volume][name])
    (folder / name).write_text(script, "utf-8")
    options = ["--dezero"] if volume == 3 else []
    ours, our_end, our_errors = record(folder, volume, name, "-m", "fastopt", "run", *options)
    theirs, their_end, their_errors = record(folder, volume, name)
    assert theirs, their_errors
    assert our_end == their_end, our_errors
    print(f"{len(ours)} steps, exit code {our_end[0]}", *our_end[1])  # -rP shows it
    assert {step[0].split(".")[0] for step in ours} == {"fastopt"}
    assert {step[0] for step in theirs} == {OPTIMIZERS[volume]}
    same = [step[1:] for step in ours] == [step[1:] for step in theirs]
    assert same is (name not in ROUNDED[volume])
    if not same:
        theirs, _, _ = record(folder, volume, name, BOOKS_ROUNDED="1")
        assert [step[1:] for step in ours] == [step[1:] for step in theirs]


@pytest.mark.parametrize("volume", SCRIPTS)
def test_no_script_is_missing(volume):
    """Each script of a chapter, step or example that uses an optimizer is in the list."""
    folder = book(volume)
    files = [file for pattern in ("ch*/*.py", "steps/*.py", "examples/*.py") for file in folder.glob(pattern)]
    uses = re.compile(r"optimizer|Trainer\(")
    found = {file.relative_to(folder).as_posix() for file in files if uses.search(file.read_text("utf-8"))}
    assert found == SCRIPTS[volume].keys()
