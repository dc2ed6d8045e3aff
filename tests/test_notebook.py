"""What a notebook, a script with pyplot and the prompt show: one picture a cell, short texts."""

import copy
import json
import os
import pickle
import re
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from matplotlib import rc_context, use
from uncompiled import COMPILES

import fastopt
from fastopt import schedules
from fastopt.display import format_value
from fastopt.pictures import Picture

MODE = "compiled" if COMPILES else "in plain NumPy"

SETUP = """
import numpy as np
import fastopt

rng = np.random.default_rng(0)
x, t = rng.standard_normal((64, 5)), rng.standard_normal(64)
params = {"W": rng.standard_normal(5), "b": np.zeros(1)}
optimizer = fastopt.Adam(lr=0.01, clip_norm=1.0)
record = optimizer.record(every=2)

def step():
    error = x @ params["W"] + params["b"] - t
    optimizer.update(params, {"W": x.T @ error / 64, "b": error.mean(keepdims=True)})
    return float((error**2).mean())

for _ in range(20):
    step()
"""
FIND = "found = fastopt.lr_finder(step, optimizer, params)\n"
FOLLOW = "path = fastopt.trajectory(fastopt.SGD(0.1), lambda x, y: x**2 + 3 * y**2, (3.0, 2.0), 10)\n"

# Each cell with the number of its pictures.
CELLS = [
    (SETUP, 0),
    ("record.plot()", 1),
    (FIND + "found.plot()", 1),
    (FOLLOW + "path.plot()", 1),
    ("record.plot();", 1),
    ("figure = found.plot()\nfigure", 1),
    ("figure", 1),
    ("for each in (record, found):\n    each.plot()", 2),
    ("import matplotlib.pyplot as plt\nrecord.plot()", 1),
    ("record.plot()\nplt.show()", 1),
    ("plt.plot([1, 2])\nrecord.plot()", 2),
    ("display(record.plot())", 1),
    ("try:\n    path._replace(f=float).plot()\nexcept TypeError:\n    print('refused')", 0),
    ("%config InlineBackend.close_figures = False\nrecord.plot()", 1),
    ("%config InlineBackend.close_figures = True\n%config InlineBackend.figure_format = 'svg'", 0),
    ("record.plot()", 0),
    ("optimizer", 0),
    ("record", 0),
]


def executed(*sources):
    """Return the outputs of a notebook's cells."""
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    cells = [nbformat.v4.new_code_cell(source) for source in sources]
    notebook = nbformat.v4.new_notebook(cells=cells)
    root = str(Path(fastopt.__file__).parents[1])
    # A notebook's kernel sets its backend unless something else did.
    environment = {name: value for name, value in os.environ.items() if name != "MPLBACKEND"}
    environment |= {"PYTHONPATH": root}
    nbclient.NotebookClient(notebook, timeout=120, kernel_name="python3").execute(env=environment)
    return [cell.outputs for cell in cells]


def n_of(outputs, kind):
    return sum(kind in output.get("data", {}) for output in outputs)


def texts_of(outputs):
    return [output.data["text/plain"] for output in outputs if output.output_type == "execute_result"]


@pytest.fixture(autouse=True, scope="module")
def kernel_of_this_python(tmp_path_factory):
    """Have the kernel that is called python3 run this Python, whichever kernels are installed."""
    folder = tmp_path_factory.mktemp("jupyter")
    spec = folder / "kernels" / "python3"
    spec.mkdir(parents=True)
    argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    (spec / "kernel.json").write_text(
        json.dumps({"argv": argv, "display_name": "Python 3", "language": "python"})
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JUPYTER_PATH", str(folder))
        patch.setenv("JUPYTER_PLATFORM_DIRS", "1")  # without it, jupyter_core 5 warns
        patch.setenv("IPYTHONDIR", str(folder / "ipython"))
        yield


@pytest.mark.long
def test_a_cell_shows_a_picture_once():
    outputs = executed(*(source for source, _ in CELLS))
    for (source, n_pictures), own in zip(CELLS, outputs, strict=True):
        assert n_of(own, "image/png") == n_pictures, source
        assert [output for output in own if output.output_type in ("stream", "error")] == [
            output for output in own if output.get("text") == "refused\n"
        ], source
    by_source = dict(zip((source for source, _ in CELLS[-3:]), outputs[-3:], strict=True))
    assert n_of(by_source["record.plot()"], "image/svg+xml") == 1
    (text,) = texts_of(by_source["optimizer"])
    assert text.startswith("Adam(lr=0.01, beta1=0.9, beta2=0.999, eps=1e-07, clip_norm=1.0)  # step 20, ")
    (text,) = texts_of(by_source["record"])
    assert text.startswith("<Record: 10 steps of 2 arrays; step 19 ")


def test_a_cell_shows_a_picture_once_with_a_backend_for_files():
    first, second = executed(
        f"import fastopt, matplotlib\nmatplotlib.use('agg')\n{FOLLOW}path.plot()", "path.plot()"
    )
    assert (n_of(first, "image/png"), n_of(second, "image/png")) == (1, 1)


def test_the_quick_start_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # where it saves its file
    monkeypatch.setenv("FASTOPT_COMPILE", "never")  # compiling would take longer than the training
    path = Path(fastopt.__file__).parent / "guide" / "quickstart.ipynb"
    cells = [cell for cell in json.loads(path.read_text("utf-8"))["cells"] if cell["cell_type"] == "code"]
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in cells)
    outputs = executed(*("".join(cell["source"]) for cell in cells))
    assert sum(n_of(own, "image/png") for own in outputs) == 3
    printed = "".join(output.get("text", "") for own in outputs for output in own)
    accuracies = [float(number) for number in re.findall(r"([\d.]+)%", printed)]
    assert len(accuracies) == 2
    assert min(accuracies) > 85
    assert texts_of(outputs[-1]) == ["(300, True)"]
    assert (tmp_path / "digits.npz").is_file()


def run(code, **environment):
    """Return what a script prints as JSON; it may print nothing else."""
    own = {name: value for name, value in os.environ.items() if name != "MPLBACKEND"} | environment
    command = [sys.executable, "-W", "error::RuntimeWarning", "-c", code]
    result = subprocess.run(command, env=own, capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (0, "")
    return json.loads(result.stdout)


PATH = """
import fastopt, json, os, sys
path = fastopt.trajectory(fastopt.SGD(0.1), lambda x, y: x**2 + y**2, (3.0, 2.0), 3)
"""
OPEN = "print(json.dumps(plt.get_fignums()))"


def test_a_script_without_pyplot_does_not_get_it():
    code = PATH + "path.plot().savefig(os.devnull, format='png')\n"
    assert run(code + "print(json.dumps('matplotlib.pyplot' in sys.modules))") is False
    # A backend that writes files shows nothing.
    assert run(code + "print(json.dumps('matplotlib.pyplot' in sys.modules))", MPLBACKEND="Agg") is False


def test_pyplot_shows_the_figures_of_a_script():
    code = "import matplotlib.pyplot as plt\n" + PATH + "figure = path.plot()\nassert plt.gcf() is figure\n"
    assert run(code + OPEN) == [1]


# Counts its windows in the place of a graphical backend.
BACKEND = """
from matplotlib.backend_bases import FigureManagerBase
from matplotlib.backends.backend_agg import FigureCanvasAgg

class FigureManager(FigureManagerBase):
    def show(self):
        print("[", self.num, "]", sep="")

    @classmethod
    def pyplot_show(cls, *, block=None):
        import matplotlib.pyplot as plt
        print(plt.get_fignums())

class FigureCanvas(FigureCanvasAgg):
    manager_class = FigureManager
"""


def test_a_chosen_backend_shows_the_figures_of_a_script(tmp_path):
    (tmp_path / "windows.py").write_text(BACKEND)
    code = PATH + "path.plot()\npath.plot()\nimport matplotlib.pyplot as plt\nplt.show()"
    root = str(Path(fastopt.__file__).parents[1])
    paths = os.pathsep.join((str(tmp_path), root))
    assert run(code, PYTHONPATH=paths, MPLBACKEND="module://windows") == [1, 2]


def test_a_backend_that_fails_leaves_a_figure_for_files():
    code = PATH + "path.plot().savefig(os.devnull, format='png')\nprint(1)"
    assert run(code, PYTHONPATH=str(Path(fastopt.__file__).parents[1]), MPLBACKEND="module://nowhere") == 1


@pytest.fixture
def plt():
    use("agg")
    from matplotlib import pyplot

    pyplot.close("all")
    yield pyplot
    pyplot.close("all")


def follow(steps=3):
    return fastopt.trajectory(fastopt.SGD(0.1), lambda x, y: x**2 + y**2, (3.0, 2.0), steps)


def test_a_loop_opens_no_more_figures_than_pyplot_takes(plt):
    path, own = follow(), plt.figure()
    with rc_context({"figure.max_open_warning": 5}):
        figures = [path.plot() for _ in range(8)]
        assert len(plt.get_fignums()) == 5
        assert plt.fignum_exists(own.number)
        assert plt.gcf() is figures[-1]
        plt.close("all")
        assert path.plot() in map(plt.figure, plt.get_fignums())


def test_a_figure_that_is_not_drawn_is_closed(plt):
    with pytest.raises(TypeError):
        follow()._replace(f=float).plot()
    assert plt.get_fignums() == []


def test_another_thread_opens_no_window(plt):
    from threading import Thread

    path, figures = follow(), []
    thread = Thread(target=lambda: figures.append(path.plot()))
    thread.start()
    thread.join()
    assert isinstance(figures[0], Picture)
    assert plt.get_fignums() == []


def test_a_figure_is_pickled():
    figure = follow().plot()
    assert len(pickle.loads(pickle.dumps(figure)).axes) == len(figure.axes)


# Representations.


def network():
    return {"W": np.ones((2, 3)), "b": np.ones(3)}


def test_an_optimizer_shows_what_differs_from_the_defaults():
    adam = "lr=0.001, beta1=0.9, beta2=0.999, eps=1e-07"
    assert repr(fastopt.Adam()) == f"Adam({adam})"
    optimizer = fastopt.Adam(
        0.1 * 0.1 * 0.1,
        clip_norm=1,
        weight_decay=0.01,
        decoupled=True,
        groups={"b*": {"lr_scale": 2.0}},
        lookahead=(5, 0.5),
        nonfinite="skip",
        threads=2,
    )
    text = repr(optimizer)
    assert text.startswith(f"Adam({adam}, ")
    shown = {"weight_decay=0.01", "decoupled=True", "groups={'b*': {'lr_scale': 2.0}}", "clip_norm=1.0"}
    shown |= {"lookahead=(5, 0.5)", "nonfinite='skip'", "threads=2"}
    assert {*re.split(r", (?=\w+=)", text.removeprefix(f"Adam({adam}, ").removesuffix(")"))} == shown
    assert repr(eval(text, vars(fastopt))) == text


def test_an_optimizer_shows_its_schedule_and_its_last_step():
    optimizer, params = fastopt.SGD(schedules.Warmup(schedules.Cosine(0.1, 1000), 100)), network()
    assert repr(optimizer) == "SGD(lr=Warmup(Cosine(0.1, 1000.0), 100.0))"
    optimizer.iter = 5
    assert repr(optimizer) == "SGD(lr=Warmup(Cosine(0.1, 1000.0), 100.0))  # step 5"
    optimizer.iter = 0
    for _ in range(3):
        optimizer.update(params, network())
    text = f"SGD(lr=Warmup(Cosine(0.1, 1000.0), 100.0))  # step 3, {MODE}, lr 0.002"
    assert repr(optimizer) == text
    # A copy has taken no step.
    assert repr(copy.deepcopy(optimizer)) == text.replace(f", {MODE}, lr 0.002", "")


def test_a_step_in_numpy_is_shown():
    code = "import fastopt, numpy as np, json\noptimizer = fastopt.SGD()\n"
    code += "optimizer.update([np.ones(3)], [np.ones(3)])\nprint(json.dumps(repr(optimizer)))"
    assert run(code, FASTOPT_COMPILE="never") == "SGD(lr=0.01)  # step 1, in plain NumPy"
    # Overlapping arrays are updated on copies.
    code = "import fastopt, numpy as np, json\narrays = [np.ones((2, 2)), np.ones(3)]\n"
    code += "optimizer = fastopt.Partition({0: fastopt.Muon(), 1: fastopt.AdamW()})\n"
    code += "optimizer.update(arrays, arrays)\nprint(json.dumps(repr(optimizer)))"
    text = run(code, FASTOPT_COMPILE="never")
    assert "AdamW(lr=0.001, beta1=0.9, beta2=0.999, weight_decay=0.01, eps=1e-08)" in text
    assert text.endswith(")  # step 1, in plain NumPy")


def test_a_partition_shows_each_option_once():
    members = {"W": fastopt.Momentum(0.1), "*": fastopt.SGD(clip_value=2.0)}
    optimizer = fastopt.Partition(members, ema=0.9, clip_norm=1.0)
    text = "Partition({'W': Momentum(lr=0.1, momentum=0.9), '*': SGD(lr=0.01, clip_value=2.0)}, "
    assert repr(optimizer).startswith(text)
    assert repr(optimizer).count("ema=0.9") == repr(optimizer).count("clip_norm=1.0") == 1
    optimizer.update(network(), network())
    assert repr(optimizer).endswith(f")  # step 1, {MODE}")


def test_a_representation_of_its_own_stays():
    from dataclasses import dataclass

    @dataclass(eq=False)
    class Own(fastopt.SGD):
        def __repr__(self):
            return "Own"

    @dataclass(eq=False)
    class Other(Own):
        pass

    assert repr(Own()) == repr(Other()) == "Own"
    assert repr(object.__new__(fastopt.Adam)) == "Adam()"  # as a debugger shows it


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0010000000000000002, "0.001"),
        (1.0000000000000002, "1.0"),
        (0.9999999, "0.9999999"),
        (0.004641588833612777, "0.00464159"),
        (1e-7, "1e-07"),
        (0.0, "0.0"),
        (-2.5, "-2.5"),
        (float("nan"), "nan"),
        (float("inf"), "inf"),
        (np.float32(0.5), "0.5"),
        ((1, 0.1 + 0.2), "(1, 0.3)"),
        ((1,), "(1,)"),
        ([True, "a"], "[True, 'a']"),
        ({len: {"lr": 0.30000000000000004}}, "{len: {'lr': 0.3}}"),
        (schedules.Step(0.1, 30, steps_per_epoch=10), "Step(0.1, 30.0, steps_per_epoch=10)"),
        (schedules.Join([schedules.Constant(1), schedules.Constant(2)], [3]), None),
    ],
)
def test_values_are_short(value, text):
    text = text or "Join((Constant(1.0), Constant(2.0)), (3.0,))"
    assert format_value(value) == text


def test_results_are_short():
    params, optimizer = network(), fastopt.Adam(0.01)
    record = optimizer.record(1)
    assert repr(record) == "<Record: no step is recorded yet>"
    for _ in range(500):
        optimizer.update(params, network())
    path = follow(1000)
    found = fastopt.lr_finder(lambda: 1.0, optimizer, params)
    assert repr(found) == "<RangeTest: no suggestion; 100 steps, lr 1e-07 to 10, loss 1 to 1>"
    assert repr(found._replace(suggestion=0.1)).startswith("<RangeTest: suggestion 0.1; 100 steps, lr ")
    assert repr(path).startswith("<Trajectory: 1000 steps from (3, 2) to (")
    assert repr(record) == f"<Record: 500 steps of 2 arrays; {record}>"
    trace = repr(record.arrays["W"])
    assert trace.startswith("<Trace: 500 steps; last ‖g‖ 2.45, ‖Δp‖ ")
    assert repr(type(record.arrays["W"])()) == "<Trace: no steps>"
    for result in (found, path, record, record.arrays["W"]):
        assert len(repr(result)) < 120
        assert "\n" not in repr(result)


def test_rules_are_short():
    rules = fastopt.rules()
    assert isinstance(rules, tuple)
    lines = repr(rules).splitlines()
    assert lines[0] == f"<{len(rules)} rules, with name, family, states, reduced_states, source:"
    assert len(lines) == 1 + len({rule.family for rule in rules})
    assert lines[1].strip().startswith("sgd: SGD, Momentum, Nesterov")
    assert repr(rules[0]).startswith("Rule(name='SGD'")


@pytest.mark.long
def test_timings_are_short():
    shapes = [[(10, 10)] * 50]
    timings = fastopt.bench(shapes, ["SGD"], ["float64"], blocks=1, block_seconds=1e-4)
    assert isinstance(timings, list)
    text = (
        r"<Timing: SGD, float64, 5,000 elements in 50 arrays; reference [\d.e+]+ µs, fastopt [\d.e+]+ µs, .*>"
    )
    assert re.fullmatch(text, repr(timings[0]))
    assert repr(timings) == f"[{timings[0]!r}]"
    many = type(timings)(timings * 40)
    lines = repr(many).splitlines()
    assert len(lines) == 6
    assert lines[-1] == " ... 35 more]"


def test_differences_are_short():
    params = [np.ones(2) for _ in range(200)]
    found = fastopt.verify(fastopt.Momentum(), params, lambda params: [2 * p for p in params])
    assert found == {name: dict.fromkeys(range(200), 0) for name in ("params", "v")}
    assert repr(found) == "<at most 0 ulps: params 0, v 0; of 200 arrays>"
    found["v"][7] = 3
    assert repr(found) == "<at most 3 ulps: params 0, v 3 (7); of 200 arrays>"
    assert repr(type(found)()) == "<no arrays>"


def test_describe_shows_options_that_are_on():
    params = network()
    assert fastopt.SGD().describe(params).splitlines()[0].endswith("(2, 3)  lr=0.01")
    optimizer = fastopt.Adam(
        0.1 * 0.1 * 0.1, weight_decay=0.1, groups={"b": {"weight_decay": 0.0, "decoupled": True}}
    )
    lines = optimizer.describe(params).splitlines()
    assert lines[0].endswith("lr=0.001, beta1=0.9, beta2=0.999, eps=1e-07, weight_decay=0.1")
    assert lines[1].endswith(", weight_decay=0.0, decoupled=True")
    frozen = fastopt.SGD(groups={"*": {"freeze": True}}).describe(params)
    assert [line.split()[-1] for line in frozen.splitlines()] == ["frozen", "frozen"]


def test_nothing_warns_of_figures():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(25):
            follow().plot()
