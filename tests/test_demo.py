"""The demonstrations: parts against independent values, and both commands as a user runs them."""

import re
import subprocess
import sys
from contextlib import contextmanager
from inspect import signature
from itertools import groupby
from pathlib import Path

import numpy as np
import pytest
from cases import BOOK, CASES, DTYPES, FOR_MATRICES, RULES

import fastopt
from fastopt import reference
from fastopt.cli.program import build_parser, main
from fastopt.demo import settings, trajectories
from fastopt.demo.data import Data, digits, load
from fastopt.demo.network import MultiLayerNet
from fastopt.demo.settings import SETTINGS
from fastopt.demo.surfaces import SURFACES, path
from fastopt.demo.train import Comparison, Run, summary, train
from fastopt.demo.trajectories import follow, measure
from fastopt.optimizers import FAMILIES
from fastopt.tools import benchmark_report, equivalents
from fastopt.tools.benchmarking import LIMITS, Timing
from fastopt.tools.comparisons import frameworks
from fastopt.tools.registry import describe, takes
from fastopt.tools.rule_table import BEGIN, END, costs, renewed

PNG = b"\x89PNG\r\n"


def run(*arguments):
    """Run the command line as a user does."""
    command = [sys.executable, "-m", "fastopt", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


def slope(f, point, i, step):
    """Central difference of f along the i-th of some numbers, which are put back."""
    at = point.flat[i]
    point.flat[i] = at + step
    above = f()
    point.flat[i] = at - step
    below = f()
    point.flat[i] = at
    return (above - below) / (2 * step)


def test_gradient_of_the_network():
    rng = np.random.default_rng(0)
    net = MultiLayerNet([5, 7, 6, 3], seed=1)
    x, t = rng.standard_normal((8, 5)), rng.integers(0, 3, 8)
    loss, grads = net.gradient(x, t)
    assert loss == net.loss(x, t)
    for key, param in net.params.items():
        numeric = [slope(lambda: net.loss(x, t), param, i, 1e-6) for i in range(param.size)]
        np.testing.assert_allclose(grads[key].ravel(), numeric, rtol=1e-5, atol=1e-9)


def test_the_network_keeps_its_arrays_and_its_dtype():
    net = MultiLayerNet([4, 3, 2], "float32")
    assert net.layers[0].W is net.params["W1"]
    _, grads = net.gradient(np.ones((5, 4), "float32"), np.zeros(5, int))
    assert {grad.dtype.name for grad in grads.values()} == {"float32"}


@pytest.mark.parametrize("surface", SURFACES.values(), ids=SURFACES)
def test_surfaces(surface):
    for point in ((0.3, -0.7), (1.2, 0.4), surface.start):
        here = np.array(point)
        numeric = [slope(lambda here=here: surface.f(*here), here, i, 1e-6) for i in range(2)]
        np.testing.assert_allclose(surface.gradient(*point), numeric, rtol=1e-6, atol=1e-7)
    assert surface.f(*surface.minimum) == 0
    assert surface.gradient(*surface.minimum) == (0, 0)


@pytest.mark.parametrize("surface", SURFACES.values(), ids=SURFACES)
def test_paths_are_the_references_and_come_down(surface):
    paths = follow(surface, RULES)
    assert set(paths) == set(RULES) - {*FOR_MATRICES} <= set(surface.lr)
    for rule, points in paths.items():
        twin = getattr(reference, rule)(surface.lr[rule], **SETTINGS[rule].others)
        assert np.array_equal(points, path(twin, surface))
        assert points.shape == (surface.steps + 1, 2)
        assert surface.f(*points[-1]) < surface.f(*surface.start) / 5
        if rule in BOOK:
            start = np.hypot(*np.subtract(surface.start, surface.minimum))
            assert measure(points, surface).distance < 0.6 * start


def test_the_articles_claims():
    """SGD zigzags most, Momentum less, AdaGrad less still; Adam is efficient."""
    surface = SURFACES["valley"]
    paths = follow(surface, BOOK)
    m = {rule: measure(points, surface) for rule, points in paths.items()}
    book_rates = {"SGD": 0.95, "Momentum": 0.1, "AdaGrad": 1.5, "Adam": 0.3}
    assert {rule: surface.lr[rule] for rule in book_rates} == book_rates
    assert (surface.start, surface.steps) == ((-7, 2), 30)
    # AdaGrad begins with large steps, and each is smaller than the one before.
    steps = np.hypot(*np.diff(paths["AdaGrad"], axis=0).T)
    assert (np.diff(steps) < 0).all()
    assert steps[0] > 50 * steps[-1]
    assert m["Adam"].length < m["SGD"].length / 4
    assert m["SGD"].turns > m["Momentum"].turns > m["AdaGrad"].turns
    assert m["SGD"].detour > m["Momentum"].detour > m["AdaGrad"].detour
    assert m["Adam"].turns < m["Momentum"].turns
    assert m["Adam"].detour < m["Momentum"].detour
    assert m["Adam"].distance < min(m["SGD"].distance, m["Momentum"].distance)


def test_measures_of_a_path_by_hand():
    points = np.array([[0, 0], [3, 4], [6, 0], [6, 5]])
    turns, length, detour, distance = measure(points, SURFACES["valley"])
    assert turns == 2
    assert length == 15
    assert detour == pytest.approx(15 / np.hypot(6, 5))
    assert distance == pytest.approx(np.hypot(6, 5))


@pytest.mark.parametrize("dtype", DTYPES)
def test_training_agrees_bit_for_bit_and_learns(dtype):
    comparisons = train(digits(dtype), BOOK, [30], epochs=6, batch=50, dtype=dtype)
    assert [c.rule for c in comparisons] == BOOK
    for c in comparisons:
        assert c.same_bits
        assert c.ref.losses == c.fast.losses
        assert c.losses[0] == c.losses[1] < 0.7 < c.fast.losses[0]
        assert c.accuracy > 0.85
        assert len(c.ref.steps) == len(c.fast.steps) == 6 * (1438 // 50)
        assert len(c.fast.batches) == len(c.fast.steps)
        assert all(step < batch for step, batch in zip(c.fast.steps, c.fast.batches, strict=True))
    comparisons[0].fast.net.params["W1"][0, 0] += 1
    assert not comparisons[0].same_bits


def test_muon_learns_the_matrices_and_adam_the_rest():
    (comparison,) = train(digits("float64"), ["Muon"], [20], epochs=2, batch=50, packed=True)
    assert comparison.same_bits
    assert comparison.accuracy > 0.7
    counts = [member.iter for member in comparison.fast.optimizer.members.values()]
    assert counts == [2 * (1438 // 50)] * 2


def test_times_of_a_training_are_medians():
    """One slow batch of six changes nothing; the share is the step's of the batch."""
    net = MultiLayerNet([2, 2], seed=0)
    slow = Run(net, None, [1.0] * 6, [0.004] * 5 + [9.0], [0.010] * 5 + [9.9])
    fast = Run(net, None, [1.0] * 6, [0.001] * 6, [0.005] * 6)
    table = summary([Comparison("Adam", 0.5, slow, fast, (1.0, 1.0), 0.9)])
    learned, timed = (line.split()[1:] for line in table.splitlines() if line.startswith("Adam"))
    assert learned == ["0.002", "1.000000", "1.000000", "yes", "90.0%", "0.50"]
    assert timed == ["4.000", "1.000", "4.0×", "4.0–4.0", "2.00×", "2.00–2.00", "40%", "20%"]


def test_rules_of_the_demonstrations():
    assert set(SETTINGS) == set(CASES)


def test_a_rule_without_a_row_has_a_setting_of_its_family(monkeypatch):
    monkeypatch.delitem(settings.ROWS, "Signum")
    # The lower rates of Rprop and Lion; a color halfway from Rprop's to light gray.
    assert settings.derived("Signum") == settings.Setting("#7CAA8A", 0.0001, 0.18, 0.004, 0.0013)
    for rule in ("Rprop", "Lion"):
        monkeypatch.delitem(settings.ROWS, rule)
    assert settings.derived("Signum") == settings.Setting("#AAAAAA", *[1e-4] * 4)
    for rule in RULES:
        assert re.fullmatch("#[0-9A-F]{6}", settings.derived(rule).color)
        assert min(settings.derived(rule)[1:5]) > 0


def test_digits_are_split():
    data = digits()
    assert [a.shape for a in data[:4]] == [(1438, 64), (1438,), (359, 64), (359,)]
    assert data.x_train.max() == 1
    assert data.classes == 10


@pytest.mark.parametrize("kind", ["uint8", "float64"])
def test_data_of_the_users_own(tmp_path, kind):
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (60, 4, 4)).astype(kind)
    y = (x.reshape(60, -1)[:, 0] > 127).astype(np.uint8)
    np.savez(tmp_path / "own.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    data = load(tmp_path / "own.npz", "float32")
    assert isinstance(data, Data)
    assert data.x_train.shape == (60, 16)
    assert data.x_train.dtype == np.float32
    assert data.x_train.max() == np.float32(x.max() / (255 if kind == "uint8" else 1))
    out = tmp_path / "own.png"
    result = run("train", "--data", tmp_path / "own.npz", "--epochs", 1, "--rules", "SGD", "--out", out)
    assert result.returncode == 0, result.stderr
    assert "16-100-100-2" in result.stdout


X, Y = np.ones((6, 4)), np.zeros(6, int)
BAD_DATA = {
    "no array y_test": {"x_train": X, "y_train": Y, "x_test": X},
    "x_train in": {"x_train": X.astype(str), "y_train": Y, "x_test": X, "y_test": Y},
    "y_train in": {"x_train": X, "y_train": Y[:3], "x_test": X, "y_test": Y},
    "y_test in": {"x_train": X, "y_train": Y, "x_test": X, "y_test": Y - 1},
    "must have samples of the size": {"x_train": X, "y_train": Y, "x_test": X[:, :2], "y_test": Y},
    "Object arrays": {"x_train": X.astype(object), "y_train": Y, "x_test": X, "y_test": Y},
}


@pytest.mark.parametrize("message", BAD_DATA)
def test_bad_data(message, tmp_path, capsys):
    np.savez(tmp_path / "bad.npz", **BAD_DATA[message])
    refused(["train", "--data", str(tmp_path / "bad.npz")], message, capsys)


def test_data_that_is_no_archive(tmp_path, capsys):
    (tmp_path / "bad.npz").write_bytes(b"no archive")
    np.save(tmp_path / "one.npy", X)
    for name in ("bad.npz", "one.npy"):
        refused(["train", "--data", str(tmp_path / name)], "can't be read as an .npz file", capsys)


def test_data_that_was_cut_or_damaged(tmp_path, capsys):
    np.savez(tmp_path / "own.npz", x_train=X, y_train=Y, x_test=X, y_test=Y)
    content = bytearray((tmp_path / "own.npz").read_bytes())
    (tmp_path / "cut.npz").write_bytes(content[: len(content) // 2])
    content[200] ^= 1
    (tmp_path / "flipped.npz").write_bytes(content)
    refused(["train", "--data", str(tmp_path / "cut.npz")], "can't be read", capsys)
    refused(["train", "--data", str(tmp_path / "flipped.npz")], "is damaged", capsys)


def refused(arguments, message, capsys):
    with pytest.raises(SystemExit) as exit_:
        main(arguments)
    assert exit_.value.code == 2
    stdout, stderr = capsys.readouterr()
    assert stdout == ""
    assert message in stderr
    assert stderr.count("\n") == 1


BAD_OPTIONS = [
    (["train", "--epochs", "0"], "--epochs: must be a whole number from 1, not '0'"),
    (["train", "--batch", "ten"], "--batch: must be a whole number from 1, not 'ten'"),
    (["train", "--hidden", "100,"], "--hidden: must be a whole number from 1, not ''"),
    (
        ["train", "--rules", "SGD,Adma"],
        "--rules: 'Adma' is no rule; did you mean AdaMax or Adan or Adam? there are SGD, ",
    ),
    (["train", "--dtype", "float16"], "--dtype: invalid choice: 'float16'"),
    (["train", "--seed", "-1"], "--seed: must be a whole number from 0, not '-1'"),
    (["train", "--out", "loss.pdf"], "--out: must end in .png, not 'loss.pdf'"),
    (["train", "--out", "no/such/folder.png"], "--out: there is no folder 'no/such'"),
    (["train", "--epoch-count", "1"], "unrecognized arguments"),
    (["trajectories", "--function", "saddle"], "--function: invalid choice: 'saddle'"),
    (["fly"], "invalid choice: 'fly'"),
    ([], "required: COMMAND"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD_OPTIONS)
def test_bad_options_end_with_one_line(arguments, message, capsys):
    refused(arguments, message, capsys)


@pytest.mark.long
def test_train_as_a_user_runs_it(tmp_path):
    out = tmp_path / "loss.png"
    result = run("train", "--epochs", 1, "--hidden", "16", "--dtype", "float32", "--out", out)
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    table = [line.split() for line in lines if line.split() and line.split()[0] in BOOK]
    assert [row[0] for row in table] == BOOK * 2
    assert all(row[2] == row[3] and row[4] == "yes" for row in table[: len(BOOK)])
    assert lines[-1] == f"picture: {out}"
    assert out.read_bytes().startswith(PNG)
    assert "100%" in result.stderr


@pytest.mark.long
@pytest.mark.parametrize("function", SURFACES)
def test_trajectories_as_a_user_runs_them(function, tmp_path):
    out = tmp_path / "paths.png"
    result = run("trajectories", "--function", function, "--out", out)
    assert result.returncode == 0, result.stderr
    assert all(f"\n{rule} " in result.stdout for rule in BOOK)
    assert result.stdout.splitlines()[-1] == f"picture: {out}"
    assert out.read_bytes().startswith(PNG)


def test_trajectories_of_chosen_rules(tmp_path, capsys, monkeypatch):
    """Of seven: the last line of panels isn't full."""
    seen = []
    monkeypatch.setattr(trajectories, "save", lambda figure, out: seen.append(figure) or out)
    chosen = [*BOOK, "Lion"]
    assert main(["trajectories", "--rules", ",".join(chosen), "--out", str(tmp_path / "a.png")]) == 0
    names = [line.split()[0] for line in capsys.readouterr().out.splitlines() if line[:1].isalpha()]
    assert [name for name in names if name in RULES] == chosen
    assert [axes.get_title("left") for axes in seen[0].axes] == [*chosen, "", ""]
    assert [axes.axison for axes in seen[0].axes] == [True] * 7 + [False] * 2


def test_all_rules_can_be_asked_for():
    options = build_parser().parse_args(["trajectories", "--rules", "all"])
    assert options.rules == [rule.name for rule in fastopt.rules()]
    assert set(options.rules) == set(RULES)


def test_muon_takes_matrices_only(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(equivalents, "version_of", lambda library: None)
    assert [takes(fastopt.Muon, ndim) for ndim in range(4)] == [False, False, True, False]
    (timing,) = fastopt.bench([[(3, 2), (2,)]], ["Muon"], ["float64"], blocks=1, block_seconds=0.001)
    assert timing.shapes == ((3, 2),)
    refused(["bench", "--rules", "Adam,Muon", "--sizes", "5"], "Muon takes no array of shape (5,)", capsys)
    refused(["trajectories", "--rules", "Muon"], "Muon can't take x and y, which are numbers", capsys)
    assert main(["trajectories", "--rules", "Muon,Adam", "--out", str(tmp_path / "a.png")]) == 0
    assert "left out, as they can't take x and y, which are numbers: Muon\n" in capsys.readouterr().out


@pytest.mark.parametrize("module", ["matplotlib", "tqdm", "sklearn", "threadpoolctl"])
def test_a_missing_extra_is_named(module):
    code = (
        f"import sys; sys.modules[{module!r}] = None; "
        "from fastopt.cli.program import main; sys.exit(main(['train']))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 1
    assert result.stderr == f'this needs {module}: python -m pip install "fastopt[demo]"\n'


def test_help_is_complete(capsys):
    for arguments in ([], ["train"], ["trajectories"], ["bench"], ["verify"], ["rules"]):
        with pytest.raises(SystemExit) as exit_:
            main([*arguments, "--help"])
        assert exit_.value.code == 0
        text = capsys.readouterr().out
        assert "(default: False)" not in text
        assert "(default: None)" not in text
        if not arguments:
            commands = ("train", "trajectories", "bench", "verify", "rules")
            assert all(f"\n    {command}" in text for command in commands)
        if arguments:
            options = [line.split()[0] for line in text.splitlines() if line.startswith("  -")]
            for option in options:  # each says something
                assert text.split(f"\n  {option}")[1].split("\n  -")[0].split()[1:], option


def test_a_packed_network_learns_the_same_bits():
    rng = np.random.default_rng(0)
    x, t = rng.standard_normal((20, 5)), rng.integers(0, 3, 20)
    nets = [MultiLayerNet([5, 7, 3], seed=1, packed=packed) for packed in (False, True)]
    for net in nets:
        opt = fastopt.Adam()
        for _ in range(5):
            _, grads = net.gradient(x, t)
            opt.update(net.params, grads)
    assert all(nets[0].params[key].tobytes() == nets[1].params[key].tobytes() for key in nets[0].params)
    assert nets[1].layers[0].W.base is not None
    assert np.shares_memory(nets[1].layers[0].W, nets[1].params.buffer)
    assert np.shares_memory(nets[1].layers[0].dW, grads.buffer)


@pytest.mark.long
def test_bench_measures_and_draws(tmp_path):
    out = tmp_path / "bench.png"
    command = [sys.executable, "-m", "fastopt", "bench", "--rules", "SGD", "--dtypes", "float32"]
    command += ["--shapes", "30x20,20,20x1", "--blocks", "3", "--out", str(out)]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    for shown in ("SGD float32 640", "SGD, start of a process", "2/2"):
        assert shown in result.stderr
    rows = [line.split() for line in result.stdout.splitlines()]
    assert ["SGD", "float32", "640"] in [row[:3] for row in rows]
    assert "pays back" in result.stdout
    assert out.read_bytes().startswith(b"\x89PNG")


def test_the_picture_of_one_size_has_bars(tmp_path, monkeypatch):
    """The limit is seen in both kinds of picture, and sits where its time says."""
    seen = []
    monkeypatch.setattr(benchmark_report, "save", lambda figure, out: seen.append(figure))
    seconds = {"reference": 3e-5, "fastopt": 1e-5, "packed": 9e-6, "limit": 8e-6}
    timings = [Timing("Adam", "float32", ((n,),), seconds, {}) for n in (100, 1000)]
    benchmark_report.picture(timings[:1], tmp_path)
    benchmark_report.picture(timings, tmp_path)
    (bars,), (lines,) = (figure.axes for figure in seen)
    labels = [label.get_text() for label in bars.get_yticklabels()]
    widths = dict(zip(labels, [bar.get_width() for bar in bars.patches], strict=True))
    assert widths["limit: the traffic alone"] == pytest.approx(8)
    assert widths["plain NumPy"] == pytest.approx(30)
    assert [text.get_text() for text in bars.texts] == ["30.0", "10.0", "9.0", "8.0"]
    assert "limit: the traffic alone" in [line.get_label() for line in lines.lines]
    assert lines.yaxis.get_major_formatter()(10) == "10"


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("784x100",), TypeError, r"\[\[\(784, 100\), \(100,\)\]\]: shapes must be a list, not '784x100'"),
        (([(784, 100)],), TypeError, "a shape must be a list, not 784"),
        (([[(784, 0)]],), ValueError, "a length must be at least 1, not 0"),
        (([[(3,)]], "Adam"), TypeError, "rules must be a list, not 'Adam'"),
        (([[(3,)]], ["sgd"]), ValueError, "'sgd' is no rule; did you mean SGD"),
        (([[(3,)]], [3]), ValueError, "3 is no rule; there are SGD"),
        (([[(3,)]], ["SGD"], ["float16"]), ValueError, "dtypes must be float32 or float64, not float16"),
        (([[(3,)]], ["SGD"], ["float63"]), ValueError, "dtypes must be float32 or float64, not 'float63'"),
        (([[(3,)]], ["SGD"], ["float32"], 0), ValueError, "blocks must be at least 1, not 0"),
        (([[(3,)]], ["SGD"], ["float32"], 1, 0), ValueError, "block_seconds must be above 0"),
    ],
)
def test_bench_names_the_wrong_argument(arguments, error, message):
    with pytest.raises(error, match=message):
        fastopt.bench(*arguments)


def test_sizes_may_have_an_exponent(capsys):
    options = build_parser().parse_args(["bench", "--sizes", "100,1e6"])
    assert options.sizes == [100, 1_000_000]
    refused(["bench", "--sizes", "1e-6"], "must be a whole number from 1, not '1e-6'", capsys)


@pytest.mark.parametrize("rule", BOOK)
def test_a_timing_knows_its_traffic(rule):
    (timing,) = fastopt.bench([[(10, 5), (5,)]], [rule], ["float32"], blocks=3, block_seconds=0.001)
    assert timing.elements == 55
    assert timing.bytes == 55 * 4 * {0: 3, 1: 5, 2: 7}[len(CASES[rule].states)]
    assert {"reference", "fastopt", "packed", "limit"} <= set(timing.seconds)
    assert all(seconds > 0 for seconds in timing.seconds.values())
    seconds = timing.seconds
    assert timing.bandwidth_fraction == seconds["limit"] / seconds["packed"]
    assert timing.gigabytes_per_second == timing.bytes / seconds["fastopt"] / 1e9


@pytest.mark.parametrize("rule", RULES)
def test_every_rule_has_its_limit(rule):
    states = describe(getattr(fastopt, rule)).states
    stream = LIMITS[len(states)]
    assert len(stream.states) == len(states)
    params = [np.ones(3, "float32")]
    stream().update(params, [np.ones(3, "float32")])
    assert params[0].tolist() == [1 + max(1, len(states))] * 3


def test_limits_of_up_to_six_states():
    assert [len(stream.states) for stream in LIMITS] == list(range(7))
    assert [len(signature(stream.kernel).parameters) for stream in LIMITS] == list(range(5, 12))


def test_the_catalogue():
    found = fastopt.rules()
    assert {rule.name for rule in found} == set(RULES)
    assert [rule.name for rule in found][:2] == ["SGD", "Momentum"]
    assert [family for family, _ in groupby(rule.family for rule in found)] == list(FAMILIES)
    adam = next(rule for rule in found if rule.name == "Adam")
    assert adam[1:4] == ("adam", ("m", "v"), ())
    assert adam.source.startswith("Kingma and Ba 2015, *Adam")
    assert adam.source.endswith("6.1.6")
    assert (adam.bytes_per_element("float32"), adam.state_bytes("float32")) == (28, 8)
    assert (adam.bytes_per_element("float64"), adam.state_bytes("float64")) == (56, 16)
    for rule in found:
        assert rule.source
        assert {*rule.states, *rule.reduced_states} == set(CASES[rule.name].states)


def test_reduced_states_are_told_apart():
    rule = describe(fastopt.SM3)
    assert (rule.states, rule.reduced_states) == (("m",), ("row", "col"))
    assert rule.bytes_per_element("float32") == 20
    assert costs(rule) == ("m, row, col", "20 / 40")


def test_the_guide_has_the_rules_of_today():
    text = (Path(fastopt.__file__).parent / "guide" / "rules.md").read_text("utf-8")
    assert renewed(text) == text
    assert all(f"| `{rule}` |" in text for rule in RULES)


def test_rules_as_a_user_lists_them(tmp_path, capsys, monkeypatch):
    for width in (80, 130):
        monkeypatch.setenv("COLUMNS", str(width))
        assert main(["rules"]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert width - 10 < max(map(len, lines)) <= width
    names = {line.split()[0] for line in lines if line[:1].isalpha()}
    assert set(RULES) <= names
    assert "Adam and those that changed a part of it" in lines
    assert "lr=0.001, beta1=0.9, beta2=0.999, *, eps=1e-07" in next(
        line for line in lines if line.startswith("Adam  ")
    )
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n", "utf-8")
    assert main(["rules", "--markdown", str(page)]) == 0
    text = page.read_text("utf-8")
    assert text.startswith(f"before\n{BEGIN}\n| rule |")
    assert text.endswith(f"|\n{END}\nafter\n")
    assert "\nold\n" not in text


@pytest.mark.parametrize("text", ["", f"{BEGIN}\n", f"{END}\n{BEGIN}\n", f"{BEGIN}\n{BEGIN}\n{END}\n"])
def test_a_page_without_a_place_for_the_rules(text, tmp_path, capsys):
    page = tmp_path / "page.md"
    page.write_text(text, "utf-8")
    refused(["rules", "--markdown", str(page)], "there must be one line", capsys)
    assert page.read_text("utf-8") == text


def test_comparisons_with_witnesses(monkeypatch):
    """With no library: a twin that is fastopt's reference, once right and once wrong."""
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(equivalents, "version_of", lambda library: "1.0")
    monkeypatch.setattr(frameworks, "version_of", lambda library: "1.0")
    for lr, right in ((1.0, True), (1.001, False)):

        @contextmanager
        def run(name, rate, arguments, params, lr=lr):
            optimizer, params, held = reference.SGD(rate * lr), [p.copy() for p in params], []
            yield equivalents.Equivalent(
                lambda grads: held.__setitem__(slice(None), grads),
                lambda: optimizer.update(params, held),
                lambda: [p.copy() for p in params],
            )

        libraries = equivalents.LIBRARIES
        monkeypatch.setitem(libraries, "PyTorch", libraries["PyTorch"]._replace(run=run))
        for name in ("optax", "Keras"):
            monkeypatch.setitem(libraries, name, libraries[name]._replace(rules={}))
        results = frameworks.compare(["SGD"], blocks=1)
        (result,) = results
        _, library, differences, _ = result
        assert (library, set(differences)) == ("PyTorch", set(DTYPES))
        assert (result.differences["float64"] == 0) is right
        table, verdict = frameworks.summary(results)
        assert verdict is right
        row = table.splitlines()[-1].split()
        assert row[:3] == ["SGD", "PyTorch", "1.0"]
        seconds = result.timings["float32"].seconds
        assert row[7] == f"{seconds['PyTorch'] / seconds['fastopt']:.1f}×"


def test_witnesses_that_are_missing(monkeypatch, capsys):
    monkeypatch.setattr(frameworks, "version_of", lambda library: None if library == "optax" else "1.0")
    assert main(["verify", "--against", "frameworks"]) == 1
    assert capsys.readouterr().err == 'this needs optax: python -m pip install "fastopt[frameworks]"\n'


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--shapes", "3,3x0"], "must be shapes like 784x100,100, not '3x0'"),
        (["--shapes", "3", "--sizes", "3"], "not allowed with argument"),
        (["--sizes", "0"], "must be a whole number from 1, not '0'"),
        (["--dtypes", "float16"], "'float16' is neither float32 nor float64"),
    ],
)
def test_bench_refuses_what_it_cannot_measure(arguments, message, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["bench", *arguments])
    assert stop.value.code == 2
    assert message in capsys.readouterr().err
