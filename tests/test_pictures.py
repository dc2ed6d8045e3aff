"""All pictures, as they are drawn: names on axes, nothing overlaps, one readable size, equal scales."""

import json
from datetime import UTC, datetime
from itertools import combinations

import numpy as np
import pytest
from cases import BOOK, RULES
from matplotlib import rc_context, style
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.image import imread
from matplotlib.text import Text

import fastopt
from fastopt.demo import train as training
from fastopt.demo import trajectories
from fastopt.demo.network import MultiLayerNet
from fastopt.demo.precision import picture as precision
from fastopt.demo.precision.criterion import Run as StudyRun
from fastopt.demo.precision.criterion import Trial
from fastopt.demo.surfaces import SURFACES
from fastopt.figures import figure, save
from fastopt.tools import benchmark_report
from fastopt.tools.benchmarking import Timing

# An inch of a picture has 100 px on the page, where 9 points are 12 px.
PX_AN_INCH = 100
MIN_PX = 12


def paths(function, rules):
    surface = SURFACES[function]._replace(steps=20)
    return trajectories, lambda out: trajectories.picture(trajectories.follow(surface, rules), surface, out)


def losses(rules, n_steps=200):
    """Return comparisons with random losses and times, of which some tell nothing."""
    rng, net, found = np.random.default_rng(0), MultiLayerNet([2, 2], seed=0), []
    for rule in rules:
        values = [*(2.5 * np.exp(-np.arange(n_steps) / rng.uniform(40, 90)) * rng.uniform(0.7, 1.3, n_steps))]
        fast = [1e-4 * rng.uniform(1, 3)] * n_steps
        noise = 1 + np.arange(n_steps) % 2 * float(rng.integers(0, 2))
        slow = [*(rng.uniform(0.5, 9) * fast[0] * noise)]
        runs = [
            training.Run(net, None, values, steps, [2 * step for step in steps]) for steps in (slow, fast)
        ]
        found.append(training.Comparison(rule, 0.2, *runs, (0.1, 0.1), 0.9))
    return training, lambda out: training.picture(found, out)


def times(rules, sizes):
    rng, found = np.random.default_rng(0), []
    for rule in rules:
        for dtype in ("float32", "float64"):
            for size in sizes:
                step = (2 + size * 1e-3) * 1e-6 * rng.uniform(0.8, 1.2)
                seconds = {"reference": 6 * step + 1e-5, "fastopt": 1.1 * step, "packed": step}
                seconds |= {"limit": size * 6e-10, "PyTorch": 2 * step + 2e-5, "optax": 3 * step + 4e-5}
                if rule != "Nesterov":
                    seconds["Keras"] = 4 * step + 3e-4
                found.append(Timing(rule, dtype, ((size,),), seconds, {}))
    return benchmark_report, lambda out: benchmark_report.picture(found, out)


def study():
    rng, trials = np.random.default_rng(0), []
    for program, n_steps, decades in (("digits MLP", 1000, 4), ("SimpleConvNet", 500, 2), ("LSTM", 500, 0.5)):
        for rule in ("Adam", "AdamW", "Momentum", "Lion", "AdaGrad"):
            values = 10 ** (-decades * np.arange(n_steps) / n_steps) * rng.uniform(0.8, 1.2, n_steps)
            runs = [StudyRun(values, 0.9)] * 5
            trials += [Trial(program, rule, name, runs, runs) for name in precision.STYLES]
    return precision, lambda out: precision.picture(trials, out)


def recorded(n_arrays, n_steps=30):
    rng = np.random.default_rng(0)
    names = [f"{kind}{i // 2 + 1}" for i, kind in zip(range(n_arrays), "Wb" * n_arrays, strict=False)]
    params = {name: rng.standard_normal((4, 3)) for name in names}
    optimizer = fastopt.Adam(fastopt.schedules.Cosine(0.01, n_steps))
    record = optimizer.record(1)
    for _ in range(n_steps):
        optimizer.update(params, {name: rng.standard_normal((4, 3)) * 10.0 ** -len(name) for name in names})
    return None, record.plot


def path(lr, f, start, steps):
    return None, fastopt.trajectory(fastopt.SGD(lr), f, start, steps).plot


def range_test():
    params = {"w": np.ones(3)}
    optimizer = fastopt.SGD()

    def step():
        optimizer.update(params, {"w": params["w"].copy()})
        return float((params["w"] ** 2).sum())

    return None, fastopt.lr_finder(step, optimizer, params).plot


PICTURES = {
    **{f"paths, {name}": lambda name=name: paths(name, BOOK) for name in SURFACES},
    "paths, one": lambda: paths("valley", ["Adam"]),
    "paths, seven": lambda: paths("valley", [*BOOK, "Lion"]),
    "losses": lambda: losses(BOOK),
    "losses, one": lambda: losses(["Adam"]),
    "losses, eleven": lambda: losses([*BOOK, "ScheduleFreeAdamW", "RMSpropMomentum", "Lion", "Muon", "FTRL"]),
    "times": lambda: times(BOOK, [100, 10_000, 1_000_000]),
    "times, one": lambda: times(["Adam"], [100, 10_000, 1_000_000]),
    "times, one size": lambda: times(BOOK, [109_810]),
    "times, one size, one": lambda: times(["Adam"], [109_810]),
    "study": study,
    "record": lambda: recorded(6),
    "record, one": lambda: recorded(1),
    "record, many": lambda: recorded(70),
    "path": lambda: path(0.9, lambda x, y: x**2 / 20 + y**2, (-7, 2), 30),
    "path, along x": lambda: path(0.1, lambda x, y: x**2 + y**2, (-3, 0), 10),
    "path, no steps": lambda: path(0.1, lambda x, y: x**2 + y**2, (1, 1), 0),
    "range test": range_test,
}
LONG = {
    "paths, many": lambda: paths("valley", RULES[:20]),
    "losses, many": lambda: losses(RULES[:20]),
    "times, many": lambda: times(RULES[:20], [100, 1_000_000]),
}
ALL = [*PICTURES, *(pytest.param(name, marks=pytest.mark.long) for name in LONG)]


@pytest.fixture
def drawn(monkeypatch, tmp_path):
    """Return a function that draws a picture, and returns it with the texts that are on it."""

    def draw(module, make):
        seen = []
        if module is None:
            seen.append(make())
        else:
            monkeypatch.setattr(module, "save", lambda picture, out: seen.append(picture))
            make(tmp_path / "a.png")
        return seen[0], texts_on(seen[0])

    return draw


def texts_on(picture):
    """Return the texts of a picture with their boxes in px, as on the page."""
    texts, original = {}, Text.draw

    def draw(self, renderer):
        if self.get_visible() and self.get_text().strip():
            texts[self] = self.get_window_extent(renderer)
        original(self, renderer)

    picture.set_dpi(PX_AN_INCH)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Text, "draw", draw)
        FigureCanvasAgg(picture).draw()
    return texts


def overlapping(texts, legends=()):
    """Return the pairs of texts that overlap by more than a pixel, and texts within others' legends."""

    def meet(a, b):
        return min(a.x1, b.x1) - max(a.x0, b.x0) > 1 and min(a.y1, b.y1) - max(a.y0, b.y0) > 1

    found = [
        (a.get_text(), b.get_text())
        for (a, box), (b, other) in combinations(texts.items(), 2)
        if meet(box, other)
    ]
    for legend in legends:
        own = set(legend.findobj(Text))
        box = legend.get_window_extent()
        found += [("legend", text.get_text()) for text in texts if text not in own and meet(box, texts[text])]
    return found


def unnamed(picture, texts):
    """Return the axes with numbers whose column or row has no name."""

    def is_number(text):
        try:
            float(text.get_text().replace("−", "-").replace(",", ""))
        except ValueError:
            return False
        return True

    found = []
    panels = [panel for panel in picture.findobj(Axes) if panel.get_visible()]
    for place, (axis, shared) in enumerate((("xaxis", "x0"), ("yaxis", "y0"))):
        for panel in panels:
            numbers = [
                text for text in getattr(panel, axis).get_ticklabels() if text in texts and is_number(text)
            ]
            where = round(getattr(panel.get_window_extent(), shared))
            peers = [one for one in panels if abs(getattr(one.get_window_extent(), shared) - where) < 3]
            has_name = any(getattr(one, axis).label in texts for one in peers)
            common = (panel.figure.get_supxlabel(), panel.figure.get_supylabel())[place]
            if numbers and not has_name and not common:
                found.append((panel.get_title("left"), axis))
    return found


@pytest.mark.parametrize("name", ALL)
def test_pictures_can_be_read(name, drawn):
    picture, texts = drawn(*(PICTURES | LONG)[name]())
    legends = picture.findobj(lambda artist: type(artist).__name__ == "Legend")
    assert overlapping(texts, legends) == []
    whole = picture.bbox
    outside = [t.get_text() for t, b in texts.items() if not (-1 < b.x0 < b.x1 < whole.x1 + 1)]
    outside += [t.get_text() for t, b in texts.items() if not (-1 < b.y0 < b.y1 < whole.y1 + 1)]
    assert outside == []
    assert unnamed(picture, texts) == []
    sizes = {text.get_size() for text in texts}
    assert len(sizes) == 1
    assert sizes.pop() / 72 * PX_AN_INCH >= MIN_PX
    if name not in LONG:
        assert 6 <= picture.get_figwidth() <= 8.3


@pytest.mark.parametrize("name", ["losses", "times"])
def test_lines_differ_without_their_colors(name, drawn):
    picture, _ = drawn(*PICTURES[name]())
    (legend,) = [
        legend for legend in picture.findobj(lambda a: type(a).__name__ == "Legend") if legend.get_lines()
    ]
    styles = [(line.get_marker(), line.get_linestyle()) for line in legend.get_lines()]
    assert len(set(styles)) == len(styles) >= 6


@pytest.mark.parametrize("name", ["paths, valley", "paths, beale", "paths, rosenbrock", "path"])
def test_paths_have_equal_scales(name, drawn):
    picture, _ = drawn(*PICTURES[name]())
    for panel in picture.axes:
        if panel.axison:
            (x, y), (right, top) = panel.transData.transform([(0, 0), (1, 1)])
            assert right - x == pytest.approx(top - y)


def test_a_path_that_would_be_a_line_has_its_own_scales(drawn):
    picture, _ = drawn(*path(0.1, lambda x, y: x**2 + y**2 / 1e6, (1000, 1), 20))
    (panel,) = picture.axes
    assert panel.get_aspect() == "auto"
    picture, _ = drawn(*path(0.1, lambda x, y: x**2 + y**2 / 1e6, (1000, 0), 20))
    left, right = picture.axes[0].get_xlim()
    bottom, top = picture.axes[0].get_ylim()
    assert (top - bottom) / (right - left) == pytest.approx(1 / 3)


def test_numbers_on_the_picture_are_those_of_the_table(drawn):
    surface = SURFACES["valley"]
    found = trajectories.follow(surface, BOOK)
    _, texts = drawn(trajectories, lambda out: trajectories.picture(found, surface, out))
    shown = {text.get_text() for text in texts}
    for rule in BOOK:
        m = trajectories.measure(found[rule], surface)
        assert {rule, f"lr {surface.lr[rule]:g}"} <= shown
        assert f"{m.turns} turns · path {m.length:.1f} · {m.distance:.2f} to ★" in shown


def test_a_dark_style_of_the_users_changes_nothing(tmp_path):
    """A file is opaque, and its text black on white."""
    files = [tmp_path / "a.png", tmp_path / "b.png"]
    for file, context in zip(files, (rc_context(), style.context("dark_background")), strict=True):
        with context, rc_context({"xtick.labelsize": 20} if file == files[1] else {}):
            _, plot = range_test()
            save(plot(), file)
    pixels, others = map(imread, files)
    assert (pixels[..., 3] == 1).all()
    assert (pixels[0, 0] == 1).all()
    assert np.array_equal(pixels, others)


def test_the_users_settings_are_back_afterwards():
    from matplotlib import rcParams

    before = dict(rcParams)
    with figure(3.0, is_shown=False) as picture:
        picture.subplots()
        assert rcParams["font.size"] == 10
    FigureCanvasAgg(picture).draw()
    assert dict(rcParams) == before


def test_the_picture_of_programs(drawn, tmp_path):
    picture = pytest.importorskip("benchmarks.programs_picture", exc_type=ImportError)
    names = ["volume 1, ch. 7, convolution, Adam", "Nielsen's network2, SGD", "joelnet, fizzbuzz, SGD"]
    steps = dict(zip(names, ([4000.0, 1000.0], [20.0, 25.0], [4.0, 0.5]), strict=True))
    machine = {"processor": "AMD EPYC 9000 96-Core Processor", "cores": 2, "date": "2026-11-27"}
    machine |= {"Python": "3.11.7", "NumPy": "2.4.6", "Numba": "0.68.1", "load": 0.1}
    results = {"machine": machine, "steps": {k: {"own": a, "fastopt": b} for k, (a, b) in steps.items()}}
    with pytest.MonkeyPatch.context() as patch:
        seen = []
        patch.setattr("fastopt.figures.save", lambda drawn, out: seen.append(drawn))
        picture.picture(json.loads(json.dumps(results)), tmp_path / "a.png")
    texts = texts_on(seen[0])
    assert overlapping(texts, seen[0].legends) == []
    assert unnamed(seen[0], texts) == []
    shown = sorted(texts, key=lambda text: -texts[text].y0)
    order = [text.get_text() for text in shown if text.get_text() in names]
    assert order == [names[2], names[0], names[1]]
    factors = [text.get_text() for text in shown if text.get_text().endswith("×")]
    assert factors == ["8.0×", "4.0×", "0.8×"]
    assert {text.get_size() for text in texts} == {10}


def test_the_picture_of_the_history(tmp_path, monkeypatch):
    history = pytest.importorskip("benchmarks.history", exc_type=ImportError)
    networks = [(network, by) for network in history.NETWORKS for by in history.LABELS]
    found = [
        history.Commit(
            f"{i:07x}",
            datetime(2026, 11, 1 + i, tzinfo=UTC),
            dict.fromkeys(networks, 5.0 + i),
            {"import": 0.03},
        )
        for i in range(20)
    ]
    seen = []
    monkeypatch.setattr("fastopt.figures.save", lambda drawn, out: seen.append(drawn))
    history.draw(found, tmp_path / "a.png")
    texts = texts_on(seen[0])
    assert overlapping(texts) == []
    assert unnamed(seen[0], texts) == []
    assert {text.get_size() for text in texts} == {10}


def test_the_fastest_blocks_of_programs_are_kept(tmp_path, monkeypatch):
    """Of one program: its file has machine and date, and the least time of each side."""
    programs = pytest.importorskip("benchmarks.programs", exc_type=ImportError)
    readings = iter([[9.0]] * 10 + [[30.0, 9.0], [20.0, 12.0], [25.0, 8.0]])
    monkeypatch.setattr(programs, "in_turn", lambda *_: next(readings))
    monkeypatch.setattr(programs, "N_BLOCKS", 3)
    monkeypatch.setattr(programs, "PROGRAMS", {"joelnet": programs.joelnet})
    monkeypatch.setattr(programs, "RESULTS", tmp_path / "programs.json")
    monkeypatch.setattr("sys.argv", ["programs", "--keep"])
    programs.main()
    kept = json.loads((tmp_path / "programs.json").read_text("utf-8"))
    assert kept["steps"] == {"joelnet": {"own": 20.0, "fastopt": 8.0}}
    assert {"processor", "cores", "load", "date", "Python", "NumPy"} <= set(kept["machine"])
