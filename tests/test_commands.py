"""The commands in a terminal: 80 columns, a pipe that is closed, data of the user's own, a busy machine."""

import subprocess
import sys

import numpy as np
import pytest
from cases import BOOK, RULES
from test_demo import refused

import fastopt
from fastopt.cli.program import build_parser, main
from fastopt.demo import data, distributed, trajectories
from fastopt.demo import train as training
from fastopt.demo.network import MultiLayerNet
from fastopt.demo.surfaces import SURFACES
from fastopt.demo.train import Comparison, Run, quartiles, summary
from fastopt.tools import benchmark_report
from fastopt.tools.benchmarking import Start, Timing
from fastopt.tools.comparisons import frameworks
from fastopt.tools.comparisons import reference as reference_table
from fastopt.tools.faults import invalid_inputs
from fastopt.tools.faults.subjects import subjects
from fastopt.tools.report import table


@pytest.fixture(autouse=True)
def _terminal_of_80_columns(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")


def fits(text, columns=80):
    assert max(map(len, text.splitlines())) <= columns, text


def test_a_wide_table_is_cut_into_parts_of_like_width():
    header = ("rule", "kind", *("a title\nof two lines" for _ in range(9)))
    rows = [("Adam", "x", *map(str, range(9))), ("SGD", "y", *map(str, range(9)))]
    text = table(header, rows, keys=2)
    fits(text)
    parts = [part.splitlines() for part in text.split("\n\n")]
    assert [len(part) for part in parts] == [5, 5]
    assert [part[-2].split() for part in parts] == [["Adam", "x", *"01234"], ["Adam", "x", *"5678"]]
    assert len(table(header, rows, width=200).split("\n\n")) == 1


def test_a_table_that_cannot_be_narrower_is_whole():
    assert "long" * 30 in table(("a", "b"), [("long" * 30, "1")])


def test_titles_of_three_lines():
    lines = table(("rule", "faster\nthan\nNumPy"), [("Adam", "3.0×")]).splitlines()
    assert [line.split() for line in lines[:3]] == [["faster"], ["than"], ["rule", "NumPy"]]


def comparisons(rules, ratio=3.0, noise=0.0):
    """Return comparisons of which each second step of plain NumPy takes longer by a share."""
    net, found = MultiLayerNet([2, 2], seed=0), []
    for rule in rules:
        steps = [1e-3 * ratio * (1 + noise * (i % 2)) for i in range(40)]
        slow = Run(net, None, [1.0] * 40, steps, [1e-3 + step for step in steps])
        fast = Run(net, None, [1.0] * 40, [1e-3] * 40, [2e-3] * 40)
        found.append(Comparison(rule, 0.2, slow, fast, (0.123456, 0.123456), 0.955))
    return found


@pytest.mark.parametrize("rules", [BOOK, RULES], ids=["book", "all"])
def test_tables_fit_80_columns(rules, monkeypatch):
    fits(summary(comparisons(rules)))
    seconds = {"reference": 0.1211, "fastopt": 0.0119, "packed": 0.0116, "limit": 0.0108}
    seconds |= {"PyTorch": 0.0129, "optax": 0.0239, "Keras": 0.0239}
    timings = [
        Timing(rule, "float64", ((10_000_000,), (1,)), seconds, dict.fromkeys(seconds, 0.02))
        for rule in rules
    ]
    fits(benchmark_report.summary(timings))
    fits(benchmark_report.break_even(timings, Start("Adam", 0.07, 0.10, 5.3), "float32"))
    monkeypatch.setattr(frameworks, "version_of", lambda library: "2.13.0")
    found = [
        frameworks.Comparison(rule, "PyTorch", dict.fromkeys(("float32", "float64"), 1e-16),
                              dict.fromkeys(("float32", "float64"), timings[0]))
        for rule in rules
    ]  # fmt: skip
    fits(frameworks.summary(found)[0])
    for surface in SURFACES.values():
        fits(trajectories.summary(trajectories.follow(surface, rules), surface))
    outcome = distributed.Outcome("ScheduleFreeAdamW", (0.1, 0.1), 1e-9, 0.9, (4e5, 2e5), (0.1, 0.05))
    fits(distributed.summary([outcome] * 3))


@pytest.mark.long
@pytest.mark.parametrize("function", SURFACES)
def test_trajectories_fit_80_columns(function, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(trajectories, "save", lambda figure, out: out)
    monkeypatch.chdir(tmp_path)
    assert main(["trajectories", "--rules", "all", "--function", function]) == 0
    fits(capsys.readouterr().out)


@pytest.mark.long
def test_verify_fits_80_columns(monkeypatch):
    monkeypatch.setattr(reference_table, "largest", lambda *case: 0)
    monkeypatch.setattr(reference_table, "compile_first", lambda *what: None)
    fits(reference_table.summary(RULES)[0])
    fits(invalid_inputs.summary()[0])


@pytest.mark.long
@pytest.mark.skipif(sys.platform == "win32", reason="a pipe is closed in another way there")
@pytest.mark.parametrize(
    "arguments", [["rules"], ["--help"], ["trajectories", "--help"], ["train", "--epochs", "1"]], ids=" ".join
)
def test_a_closed_pipe_ends_quietly(arguments, tmp_path):
    """Nobody reads what is written, neither while it is printed nor when the interpreter ends."""
    for unbuffered in ([], ["-u"]):
        process = subprocess.Popen(
            [sys.executable, *unbuffered, "-m", "fastopt", *arguments],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path,
        )  # fmt: skip
        process.stdout.close()
        errors = process.stderr.read()
        process.stderr.close()
        # argparse says nothing of what it couldn't print.
        assert process.wait(300) in ((0, 141) if "--help" in arguments else (141,)), errors
        assert "Traceback" not in errors
        assert "Error" not in errors
        assert "Exception" not in errors


@pytest.mark.skipif(sys.platform == "win32", reason="a pipe is closed in another way there")
def test_a_closed_pipe_for_errors_ends_quietly():
    process = subprocess.Popen(
        [sys.executable, "-m", "fastopt", "fly"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    process.stderr.close()
    assert process.wait(300) in (2, 141)


def test_blas_has_one_thread_in_a_training(monkeypatch):
    from threadpoolctl import threadpool_info

    def of_blas():
        return [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]

    samples = data.digits()  # first, as scikit-learn may bring a BLAS of its own
    seen, before, learn = [], of_blas(), Run.learn
    monkeypatch.setattr(Run, "learn", lambda self, *batch: seen.append(of_blas()) or learn(self, *batch))
    training.train(samples, ["SGD"], [4], epochs=1, batch=700)
    assert seen
    assert all(set(threads) <= {1} for threads in seen)
    assert of_blas() == before


def test_quartiles_of_the_ratios():
    assert quartiles([5.0, 1.0, 3.0, 2.0, 4.0]) == (2, 3, 4)
    assert quartiles([2.0]) == (2, 2, 2)


def test_a_quiet_machine_shows_the_quartiles_of_the_ratios():
    text = summary(comparisons(["Adam"], noise=0.2))
    cells = [line.split() for line in text.splitlines() if line.startswith("Adam")][1]
    assert cells[1:7] == ["3.300", "1.000", "3.3×", "3.0–3.6", "2.15×", "2.00–2.30"]
    assert "too busy" not in text


def test_a_busy_machine_is_told_and_no_ratio():
    """The quartiles of the step's ratio are a factor of two apart; those of the batch's are not."""
    text = summary(comparisons(["Adam"], noise=1.0, ratio=0.4))
    cells = [line.split() for line in text.splitlines() if line.startswith("Adam")][1]
    assert cells[3:7] == ["–", "0.4–0.8", "0.80×", "0.70–0.90"]
    assert "too busy to tell" in text
    assert "factor of 1.5" in " ".join(text.split())
    assert training.ratio_label(comparisons(["Adam"], noise=1.0)[0]) == "too busy to tell"
    assert training.ratio_label(comparisons(["Adam"])[0]) == "3.0× faster"
    assert training.ratio_label(comparisons(["Adam"], ratio=0.4)[0]) == "2.5× slower"


X, Y = np.random.default_rng(0).uniform(size=(6, 4)), np.array([0, 1, 2, 0, 1, 2])


def saved(folder, **changed):
    file = folder / "own.npz"
    np.savez(file, **{"x_train": X, "y_train": Y, "x_test": X, "y_test": Y, **changed})
    return file


def with_value(array, value):
    array = np.array(array, float)
    array[3] = value
    return array


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"x_train": with_value(X, np.nan)}, "x_train in {} must be finite, got nan in sample 3; "),
        ({"x_test": with_value(X, -np.inf)}, "x_test in {} must be finite, got -inf in sample 3; "),
        (
            {"x_train": with_value(X, 1e300)},
            "x_train in {} must be finite in float32, got 1e+300 in sample 3; ",
        ),
        (
            {"y_train": with_value(Y, 0.5)},
            "y_train in {} must be whole numbers 0, 1, ..., got 0.5 for sample 3; ",
        ),
        (
            {"y_train": with_value(Y, np.nan)},
            "y_train in {} must be whole numbers 0, 1, ..., got nan for sample",
        ),
        ({"y_test": Y - 1}, "y_test in {} must be whole numbers 0, 1, ..., got -1 for sample 0; "),
        (
            {"y_train": with_value(Y, 10**9)},
            "got 1000000000 for sample 3; write np.unique(labels, return_inver",
        ),
        (
            {"y_train": Y.astype(str)},
            "y_train in {} must be whole numbers 0, 1, ..., got <U21; write np.unique(l",
        ),
        (
            {"y_train": np.full((6, 3), 0.3)},
            "y_train in {} must be one-hot, as its shape is (6, 3), got [0.3, 0.3",
        ),
        (
            {"y_train": np.eye(6)[:, :3]},
            "y_train in {} must be one-hot, as its shape is (6, 3), got [0., 0., 0.] f",
        ),
        (
            {"y_train": Y[:3]},
            "y_train in {} must have a label for each of the 6 samples in x_train, got shape (3,)",
        ),
        (
            {"y_test": np.zeros((6, 2, 2))},
            "y_test in {} must have a label for each of the 6 samples in x_test",
        ),
        ({"x_test": X[:, :3]}, "x_test in {} must have samples of the size of x_train's, 4, got 3"),
        (
            {"x_test": (X * 255).astype("u1")},
            "x_test in {} must be uint8 if x_train is, got uint8 and float64; ",
        ),
        ({"x_train": X[:, 0]}, "x_train in {} must have shape (samples, ...), got (6,)"),
    ],
)
def test_bad_data_is_named(changed, message, tmp_path, capsys):
    file = saved(tmp_path, **changed)
    refused(["train", "--dtype", "float32", "--data", str(file)], message.format(file), capsys)


def test_data_that_is_missing(tmp_path, capsys):
    refused(
        ["train", "--data", str(tmp_path / "no.npz")], f"there is no file '{tmp_path / 'no.npz'}'", capsys
    )


@pytest.mark.parametrize(
    "labels",
    [np.eye(3, dtype="u1")[Y], np.eye(3)[Y], np.eye(3, dtype=bool)[Y], Y[:, None], Y.astype(float)],
    ids=["bytes", "floats", "bools", "column", "whole floats"],
)
def test_labels_that_are_unambiguous(labels, tmp_path):
    found = data.load(saved(tmp_path, y_train=labels))
    assert found.y_train.dtype == np.intp
    assert found.y_train.tolist() == Y.tolist()


def test_one_hot_labels_are_told(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    saved(tmp_path, y_train=np.eye(3)[Y], y_test=np.eye(3)[Y])
    assert main(["train", "--data", "own.npz", "--rules", "SGD", "--epochs", "1"]) == 0
    out, _ = capsys.readouterr()
    assert "y_train and y_test are one-hot: the labels are their argmax" in out
    fits(out)


def test_the_bench_measures_three_sizes_by_default():
    options = build_parser().parse_args(["bench"])
    assert options.sizes == [100, 10_000, 1_000_000]


def test_faults_meet_everybodys_defaults(capsys, monkeypatch):
    monkeypatch.setattr(invalid_inputs, "interruptions", lambda found: ([], True))  # which take seconds
    assert main(["verify", "--against", "faults"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "fastopt fastopt.Adam(), which has" in out
    assert "NaN in a gradient warning, not finite" in out
    assert 'fastopt.Adam(nonfinite="raise") raises FloatingPointError' in out
    assert next(subject.make for subject in subjects()) is fastopt.Adam
    for subject in subjects():
        params, grads = invalid_inputs.start(list)
        subject.make().update(params, grads)
        # Adam's first step is its learning rate, whatever the gradient.
        np.testing.assert_allclose(np.concatenate([p.ravel() for p in params]), 0.999, rtol=1e-5)
