"""`verify --against full-state`: gradients of its networks, what it calls harm, and its shortest form."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from test_demo import refused, slope

import fastopt
from fastopt.cli.program import main
from fastopt.demo.precision import report, study
from fastopt.demo.precision.criterion import COARSE, FINE, Run, Trial, standard_error
from fastopt.demo.precision.networks import CharLSTM, SimpleConvNet, SkipGram
from fastopt.demo.precision.picture import picture
from fastopt.demo.precision.programs import CHARACTERS, PROGRAMS, RULES, additions
from fastopt.demo.precision.study import Moment


def numbers(*shape, below=None, seed=0):
    rng = np.random.default_rng([seed, *shape])
    return rng.standard_normal(shape) if below is None else rng.integers(below, size=shape)


NETWORKS = {
    "images": (SimpleConvNet(4, 3, 3, 5, 4, "float64"), numbers(6, 16), numbers(6, below=4)),
    "words": (SkipGram(7, 3, "float64"), numbers(9, below=7), numbers(9, 4, below=7)),
    "characters": (CharLSTM(5, 3, 4, "float64"), numbers(6, 2, below=5), numbers(6, 2, below=5)),
}


@pytest.mark.parametrize(("net", "x", "t"), NETWORKS.values(), ids=NETWORKS)
def test_gradients_of_the_networks(net, x, t):
    start = numbers(2, 4), numbers(2, 4, seed=1)

    def loss():
        net.state = start  # of the LSTM
        return net.loss(x, t)

    net.state = start
    value, grads = net.gradient(x, t)
    assert value == loss()
    grads = {key: grad.copy() for key, grad in grads.items()}
    assert grads.keys() == net.params.keys()
    for key, param in net.params.items():
        numeric = [slope(loss, param, i, 1e-6) for i in range(param.size)]
        np.testing.assert_allclose(grads[key].ravel(), numeric, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.name)
def test_programs_depend_on_the_seed_only(program):
    def first(seed):
        net = program.network(seed)
        (x, t), *_ = program.batches(seed, 2)
        loss, grads = net.gradient(x, t)
        return net, loss, grads

    net, loss, grads = first(0)
    assert (
        {grad.dtype.name for grad in grads.values()}
        == {"float32"}
        == {p.dtype.name for p in net.params.values()}
    )
    assert loss == first(0)[1] != first(1)[1]
    assert any(param.size >= 4096 for param in net.params.values())
    assert set(program.lr) == set(RULES)
    assert 0 <= net.accuracy(*program.held_out()) < 0.6


def test_text_of_additions():
    text = "".join(CHARACTERS[i] for i in additions(np.random.default_rng(0), 1000))
    assert len(text) == 1000
    for line in text.split("\n")[:-1]:
        terms, total = line.split("=")
        assert sum(map(int, terms.split("+"))) == int(total)


def curves(n_seeds=5, offset=0.0, noise=0.0, accuracy=0.97):
    """Return runs whose loss falls to 0.1 + offset; the accuracies of the seeds are 0.2 points apart."""
    rng = np.random.default_rng(0)
    steps = np.arange(100)
    return [
        Run(
            np.exp(-steps / 20) + 0.1 + 0.001 * seed + offset + noise * rng.standard_normal(100),
            accuracy + 0.002 * seed,
        )
        for seed in range(n_seeds)
    ]


def trial(low, full=None, state_dtype="int8"):
    full = curves(len(low)) if full is None else full
    return Trial("digits MLP", "Adam", state_dtype, full, low)


def test_what_is_within_noise():
    assert trial(curves()).faults(FINE) == []
    assert trial(curves(noise=0.005)).faults(FINE) == []
    assert trial(curves(accuracy=0.967)).faults(FINE) == []
    # Better isn't harm.
    assert trial(curves(offset=-0.05, accuracy=0.99)).faults(FINE) == []


def test_what_is_harm():
    (fault,) = trial(curves(accuracy=0.96)).faults(FINE)
    # Standard deviation 0.316 points, hence 4 standard errors are 0.566.
    assert fault == "accuracy lower by 1.00 points, allowed are 0.57"
    (fault,) = trial(curves(offset=0.02)).faults(FINE)
    assert fault == "final loss higher by 18.0%, allowed are 5.0%"
    (fault,) = trial(curves(noise=0.1)).faults(FINE)
    assert fault == "correlation 0.9285, at least 0.99 is needed"
    assert len(trial(curves(1, offset=0.2, noise=0.3, accuracy=0.9)).faults(COARSE)) == 3


def test_one_seed_that_fails_is_not_excused_by_its_own_spread():
    low = curves()
    low[2] = Run(low[2].losses * 0 + 2.3, 0.1)
    accuracy, loss, correlation = trial(low).faults(FINE)
    assert "accuracy lower by" in accuracy
    assert "final loss higher" in loss
    assert "at least 0.99" in correlation


def test_a_training_that_overflows_is_harm():
    low = [Run(run.losses * np.inf, 0.1) for run in curves()]
    assert len(trial(low).faults(FINE)) == 3


def test_standard_error():
    assert standard_error([3.0]) == 0
    assert standard_error([1.0, 2.0, 3.0]) == pytest.approx(1 / np.sqrt(3))


def test_the_report_names_what_is_wrong(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    trials = [trial(curves()), trial(curves(accuracy=0.9), state_dtype="float16")]
    text, right = report.summary(trials, {"int8": Moment(0.1352, 0.03), "float16": Moment(1.0, 0.0)}, False)
    assert not right
    assert "digits MLP, Adam, float16: accuracy lower by 7.00 points" in text
    assert "float16: v must decay to 0.1352, got 1.0000" in text
    assert max(map(len, text.splitlines())) <= 80
    text, right = report.summary(trials[:1], {"int8": Moment(0.1352, 0.03)}, False)
    assert right
    assert "All trainings are within noise." in text


def test_a_state_that_is_rounded_to_the_nearest_does_not_decay(monkeypatch):
    """The test of the decay would see formats without stochastic rounding."""

    class Nearest:
        def __init__(self, lr, threads, beta2):
            self.adam = fastopt.Adam(lr, threads=threads, beta2=beta2)

        def update(self, params, grads):
            self.adam.update(params, grads)
            self.v = self.adam.v
            bits = self.v["W"].view(np.uint32)
            bits += 0x8000
            bits &= 0xFFFF0000

    monkeypatch.setattr(study, "fastopt", SimpleNamespace(Adam=Nearest))
    assert study.decayed_moment(None) == (1, 0)


def test_the_state_in_full_decays():
    mean, deviation = study.decayed_moment(None)
    assert mean == pytest.approx(report.EXPECTED_MOMENT, rel=1e-3)
    assert deviation == 0


def test_options_of_the_study_need_it(capsys):
    for option in (["--seeds", "2"], ["--short"], ["--out", "a.png"]):
        message = f"argument {option[0]}: requires --against full-state, got --against reference"
        refused(["verify", *option], message, capsys)


def test_a_short_study(monkeypatch, tmp_path):
    """Each program takes some steps with its state in the format, and the report is about all of them."""
    monkeypatch.setattr(study, "PROGRAMS", [replace(program, short_steps=8) for program in PROGRAMS])
    trials = study.compare(1, is_short=True, rules=["Adam"], formats=["int8"], processes=1)
    assert [trial.program for trial in trials] == [program.name for program in PROGRAMS]
    for own in trials:
        assert own.faults(COARSE) == []
        # The state takes part: all programs have an array that is large enough.
        assert own.full[0].losses[0] == own.low[0].losses[0]
        assert not np.array_equal(own.full[0].losses, own.low[0].losses)
    moments = {"int8": study.decayed_moment("int8")}
    text, right = report.summary(trials, moments, is_short=True)
    assert right
    assert "4 of 4" in text
    assert picture(trials, tmp_path / "state.png").read_bytes()[:4] == b"\x89PNG"


def test_results_depend_on_the_case_only():
    case = study.Case(0, "Momentum", "int8", 0, is_short=True)
    runs = [*study.results([case, case._replace(seed=1), case], 1)]
    assert np.array_equal(runs[0].losses, runs[2].losses)
    assert not np.array_equal(runs[0].losses, runs[1].losses)
    assert runs[0].accuracy == runs[2].accuracy > 0.9


@pytest.mark.soak
def test_the_command(tmp_path, capsys):
    out = tmp_path / "own.png"
    assert main(["verify", "--against", "full-state", "--seeds", "1", "--short", "--out", str(out)]) == 0
    assert "All trainings are within noise." in capsys.readouterr().out
    assert out.exists()
