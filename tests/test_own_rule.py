"""The guide's rule of one's own, in a file outside of the package as a user would write it."""

import importlib
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numba import njit
from pages import blocks_of, read
from uncompiled import COMPILES

import fastopt
from fastopt.engine.threads import available
from fastopt.reference import options
from fastopt.schedules import Cosine

ROOT = Path(fastopt.__file__).parents[1]
[CODE] = [block.text for block in blocks_of(read("own-rule.md")) if block.file == "qhm.py"]
SHAPES = {"W": (7, 5), "b": (5,), "filters": (3, 2, 2, 2)}
needs_jit = pytest.mark.skipif(not COMPILES, reason="nothing is compiled")


class Plain:
    """Quasi-hyperbolic momentum in plain NumPy."""

    def __init__(self, lr=0.1, beta=0.999, nu=0.7):
        self.lr, self.beta, self.nu, self.m = lr, beta, nu, {}

    def update(self, params, grads):
        for key, g in grads.items():
            m = self.beta * self.m.get(key, np.zeros_like(g)) + (1 - self.beta) * g
            self.m[key] = m
            params[key] -= self.lr * ((1 - self.nu) * g + self.nu * m)


@pytest.fixture(scope="module")
def qhm(tmp_path_factory):
    folder = tmp_path_factory.mktemp("own")
    (folder / "qhm.py").write_text(CODE)
    sys.path.insert(0, str(folder))
    yield importlib.import_module("qhm").QHM
    sys.path.remove(str(folder))
    del sys.modules["qhm"]


def arrays(seed, dtype="float64", shapes=SHAPES):
    rng = np.random.default_rng(seed)
    return {key: rng.standard_normal(shape).astype(dtype) for key, shape in shapes.items()}


def check_bits(params, expected):
    for key, value in expected.items():
        assert params[key].dtype == value.dtype
        assert params[key].tobytes() == value.tobytes(), key


def check_steps(optimizer, plain, params, expected, seeds=range(8), change=lambda grad: grad):
    for seed in seeds:
        grads = arrays(seed, next(iter(expected.values())).dtype)
        plain.update(expected, grads)
        optimizer.update(params, {key: change(grad) for key, grad in grads.items()})
    check_bits(params, expected)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_it_has_the_bits_of_plain_numpy(qhm, dtype):
    params, expected = arrays(9, dtype), arrays(9, dtype)
    optimizer, plain = qhm(0.05, beta=0.9), options.Optimizer(Plain, 0.05, beta=0.9)
    check_steps(optimizer, plain, params, expected)
    check_bits(optimizer.m, {key: rule.m[key] for key, rule in plain.rules.items()})
    how = "compiled" if COMPILES else "in plain NumPy"
    assert repr(optimizer) == f"QHM(lr=0.05, beta=0.9, nu=0.7)  # step 8, {how}"


@pytest.mark.parametrize(
    "chosen",
    [
        {"weight_decay": 0.1},
        {"weight_decay": 0.1, "decoupled": True, "decay_params": "matrices", "maximize": True},
        {"clip_norm": 0.5, "ema": 0.9},
        {"clip_value": 0.5, "clip_norm_each": 1.0, "clip_adaptive": 0.1, "swa": 2},
        {"accumulate": 3, "lookahead": (2, 0.25)},
        {"lookahead": (2, 0.25), "lookahead_reset": True, "ema": 0.9, "ema_every": 2, "clip_rms": 0.5},
        {"groups": {"b": {"lr_scale": 0.5, "nu": 0.2}, "filters": {"freeze": True}}, "lr": Cosine(0.1, 6)},
    ],
    ids=lambda chosen: " ".join(chosen),
)
def test_it_takes_every_option(qhm, chosen):
    params, expected = arrays(9), arrays(9)
    optimizer, plain = qhm(**chosen), options.Optimizer(Plain, **chosen)
    check_steps(optimizer, plain, params, expected)
    if "ema" in chosen or "swa" in chosen:
        check_bits(optimizer.average(params), plain.averages)


def test_its_hyperparameters_are_checked(qhm):
    optimizer = qhm()
    for name, value in (("beta", 1.5), ("lr", -1), ("nu", float("nan"))):
        with pytest.raises(ValueError, match=name):
            setattr(optimizer, name, value)
    with pytest.raises(AttributeError, match="no .betta.: did you mean beta"):
        optimizer.betta = 0.5


def test_a_checkpoint_resumes_with_the_same_bits(qhm, tmp_path):
    params, expected = arrays(9), arrays(9)
    optimizer, plain = qhm(0.05, ema=0.9), options.Optimizer(Plain, 0.05, ema=0.9)
    check_steps(optimizer, plain, params, expected, range(3))
    optimizer.save(tmp_path / "run.npz", params)
    resumed, loaded = qhm(ema=0.9), arrays(8)
    resumed.load(tmp_path / "run.npz", loaded)
    check_steps(resumed, plain, loaded, expected, range(3, 8))
    assert (resumed.lr, resumed.iter) == (0.05, 8)
    with pytest.raises(ValueError, match="QHM"):
        fastopt.Momentum(ema=0.9).load(tmp_path / "run.npz")


@pytest.mark.parametrize("kind", ["packed", "transposed", "other dtype", "rows"])
def test_it_takes_whatever_update_takes(qhm, kind):
    params, expected = arrays(9, "float32"), arrays(9, "float32")
    optimizer, plain = qhm(rows="lazy" if kind == "rows" else None), options.Optimizer(Plain)
    change = {
        "packed": lambda grad: grad,
        "transposed": lambda grad: np.ascontiguousarray(grad.T).T,
        "other dtype": lambda grad: grad.astype(np.float64),
        "rows": lambda grad: fastopt.Rows(np.arange(len(grad)), grad),
    }[kind]
    if kind == "packed":
        params = fastopt.pack(params)
        grads = params.like()
        for seed in range(8):
            for key, grad in arrays(seed, "float32").items():
                grads[key][...] = grad
            plain.update(expected, grads)
            optimizer.update(params, grads)
        assert isinstance(params, fastopt.PackedDict)
        check_bits(params, expected)
    else:
        check_steps(optimizer, plain, params, expected, change=change)


@pytest.mark.skipif(available() < 2, reason="one core")
def test_threads_leave_its_bits_as_they_are(qhm):
    rng = np.random.default_rng(0)
    params, expected = {"W": np.ones(50_001)}, {"W": np.ones(50_001)}
    optimizer, plain = qhm(threads=2), options.Optimizer(Plain)
    for _ in range(3):
        grads = {"W": rng.standard_normal(50_001)}
        plain.update(expected, grads)
        optimizer.update(params, grads)
    check_bits(params, expected)
    assert not COMPILES or optimizer.engine.plan.n_threads == 2


@needs_jit
def test_bench_and_warmup_take_it(qhm):
    fastopt.warmup([qhm], ["float32"])
    (timing,) = fastopt.bench([[(10, 5), (5,)]], [qhm], ["float32"], blocks=1, block_seconds=1e-4)
    assert timing.rule == "QHM"
    assert timing.seconds.keys() == {"fastopt", "packed", "limit"}
    assert timing.bytes == 55 * 4 * 5


MISTAKES = {
    "no lr": ("lr: float", "rate: float", "have a field lr; write lr: float = fastopt.hyperp"),
    "no dataclass": ("@dataclass(eq=False)", "", r"be a dataclass; write @dataclass\(eq=False\) above it"),
    "eq": ("(eq=False)", "", r"be a dataclass; write @dataclass\(eq=False\) above it"),
    "no kernel": ("    kernel = qhm\n", "", "have a kernel; write kernel = "),
    "no scalars": ("def scalars", "def values", r"have a method scalars\(self, t\)"),
    "shape": ("fastopt.State()", "fastopt.State(shape=lambda shape: (1,))", "have states like the parameter"),
    "shared": ("fastopt.State()", "fastopt.State(is_shared=True)", "have states like the parameter"),
    "no check": (
        "fastopt.hyperparameter(0.1)",
        "0.1",
        "lr must be a checked field; write lr: float",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_what_a_class_lacks_is_named(mistake):
    right, wrong, message = MISTAKES[mistake]
    assert CODE.count(right) == 1
    names = {"__name__": "mistaken"}
    exec(CODE.replace(right, wrong), names)
    error, start = (AttributeError, "") if mistake == "no check" else (TypeError, "class QHM must ")
    with pytest.raises(error, match=start + message):
        names["QHM"]()


def test_a_states_rounding_is_checked():
    with pytest.raises(ValueError, match="quantized must be None, 'values' or 'roots', not 'root'"):
        fastopt.State(quantized="root")


def test_it_can_be_part_of_a_partition(qhm):
    params, expected = arrays(9), arrays(9)
    optimizer = fastopt.Partition({"W": qhm(), "*": fastopt.SGD(0.5)})
    grads = arrays(1)
    optimizer.update(params, grads)
    Plain().update(expected, {"W": grads["W"]})
    for key in ("b", "filters"):
        expected[key] -= 0.5 * grads[key]
    check_bits(params, expected)


STEP = """
import numpy as np
from numba.core import event
with event.install_recorder("numba:compile") as recorder:
    {kernel}
    params = [np.ones(3)]
    Scaled().update(params, [np.ones(3)])
print(params[0][0], len(recorder.buffer))
"""

SCALED = """
from dataclasses import dataclass
import fastopt, helpers
from helpers import SCALE, times

@fastopt.kernel
def scaled(param, grad, grad_scale, l2, keep, lr):
    for i in range(param.size):
        param[i] = keep * param[i] - times(lr, grad_scale * grad[i] + l2 * param[i]) * SCALE

@dataclass(eq=False)
class Scaled(fastopt.Optimizer):
    kernel = scaled
    lr: float = fastopt.hyperparameter(0.5)
    def scalars(self, t):
        return (self.lr,)
"""


@pytest.mark.long
@needs_jit
@pytest.mark.parametrize("is_in_file", [True, False], ids=["in a file", "in no file"])
def test_it_is_compiled_once_and_anew_when_anything_in_it_changes(tmp_path, is_in_file):
    """Also a change of what another file holds, a function or a constant, while its own stays the same."""
    if is_in_file:
        (tmp_path / "scaled.py").write_text(SCALED)
    indent = "\n    ".join(SCALED.splitlines())
    code = STEP.format(kernel="from scaled import Scaled" if is_in_file else indent)
    helpers = "from numba import njit\nSCALE = {}\n@njit\ndef times(a, b):\n    return {}\n"
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    found = []
    for number, values in enumerate([(1.0, "a * b"), (1.0, "a * b"), (0.5, "a * b"), (0.5, "a * a * b")]):
        (tmp_path / "helpers.py").write_text(helpers.format(*values))
        # Else Python takes it for the one before, whose bytecode it has.
        os.utime(tmp_path / "helpers.py", ns=(1, (number + 1) * 10**9))
        result = subprocess.run(
            [sys.executable, "-W", "error", "-c", code], env=environment, capture_output=True, text=True
        )
        assert result.returncode == 0, result.stderr
        found.append(result.stdout.split())
    assert [result[0] for result in found] == ["0.5", "0.5", "0.75", "0.875"]
    assert found[1][1] == "0"


@pytest.mark.parametrize("decorated", [njit, lambda function: function], ids=["njit", "plain"])
def test_a_kernel_without_the_decorator_is_taken(decorated):
    @decorated
    def halved(param, grad, grad_scale, l2, keep, lr):
        for i in range(param.size):
            param[i] = keep * param[i] - lr * (grad_scale * grad[i])

    @dataclass(eq=False)
    class Halved(fastopt.Optimizer):
        kernel = halved
        lr: float = fastopt.hyperparameter(0.5)

        def scalars(self, t):
            return (self.lr,)

    params = [np.ones(3), np.ones((2, 2), "f4")]
    for _ in range(2):
        Halved().update(params, [np.ones(3), np.ones((2, 2))])
    assert [p.tolist() for p in params] == [[0.0] * 3, [[0.0] * 2] * 2]


def helper(x):
    return 2 * x


@fastopt.kernel
def calling(param, grad, grad_scale, l2, keep, lr):
    for i in range(param.size):
        param[i] = keep * param[i] - lr * helper(grad[i])


@dataclass(eq=False)
class Calling(fastopt.Optimizer):
    kernel = calling
    lr: float = fastopt.hyperparameter(0.1)

    def scalars(self, t):
        return (self.lr,)


@needs_jit
def test_what_numba_does_not_know_is_named():
    params = [np.ones(2)]
    with pytest.raises(
        TypeError, match=r"kernel 'own-calling-float64' can't be compiled: Untyped global name"
    ):
        Calling().update(params, [np.ones(2)])
    with pytest.raises(TypeError, match="write @fastopt.kernel above that function, too"):
        Calling().update(params, [np.ones(2)])
    assert params[0].tolist() == [1.0, 1.0]


def test_a_kernel_with_other_arguments_is_refused_when_the_optimizer_is_made():
    @dataclass(eq=False)
    class Short(Calling):
        m = fastopt.State()

    message = (
        "kernel 'calling' takes 6 arguments, but gets 7 from Short: param, grad, m, grad_scale, l2, keep, "
        r"and the 1 of scalars\(t\)"
    )
    with pytest.raises(TypeError, match=message):
        Short()


DEPENDING = """
import sys, types
from dataclasses import dataclass
import numba
import numpy as np
import fastopt

factor = float(sys.argv[1])
settings = types.ModuleType("settings")
settings.K, settings.OTHER = 1.0, factor
table = (np.array([factor]), 0)
act = np.sin if factor > 2 else np.cos

@numba.njit
def scale(x, k=factor):
    return k * x

@numba.vectorize
def vec(x):
    return factor * x

@numba.njit
def other(x):
    return settings.OTHER * x

EXPRESSIONS = (
    "settings.K / settings.K * other(grad[i])", "scale(grad[i])", "settings.OTHER * grad[i]", "act(grad[i])",
    "vec(grad[i])", "factor * grad[i]",
)
KERNEL = '''
@fastopt.kernel
def k(param, grad, grad_scale, l2, keep, lr):
    for i in range(param.size):
        param[i] = EXPRESSION
'''

for expression in EXPRESSIONS:
    own = dict(globals())
    exec(KERNEL.replace("EXPRESSION", expression), own)

    @dataclass(eq=False)
    class R(fastopt.Optimizer):
        kernel = own["k"]
        lr: float = fastopt.hyperparameter(1.0)

        def scalars(self, t):
            return (self.lr,)

    params = [np.ones(2)]
    R().update(params, [np.ones(2)])
    print(params[0][0])
"""


@pytest.mark.long
@needs_jit
def test_what_a_kernel_depends_on_is_known(tmp_path):
    """The second program isn't given the first one's code."""
    script, cache, found = tmp_path / "script.py", tmp_path / "cache", []
    script.write_text(DEPENDING)
    cache.mkdir(mode=0o755)
    for file in Path(os.environ["FASTOPT_CACHE_DIR"]).glob("step-*.code"):
        (cache / file.name).write_bytes(file.read_bytes())
    for factor in (2, 3):
        done = subprocess.run(
            [sys.executable, str(script), str(factor)],
            env={**os.environ, "FASTOPT_CACHE_DIR": str(cache), "FASTOPT_COMPILE": "now"}
            | {"PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=True,
        )
        found.append([*map(float, done.stdout.split())])
    assert found == [[2.0, 2.0, 2.0, np.cos(1.0), 2.0, 2.0], [3.0, 3.0, 3.0, np.sin(1.0), 3.0, 3.0]]


def test_a_kernel_without_a_module(monkeypatch):
    monkeypatch.setenv("FASTOPT_COMPILE", "never")
    names = {"fastopt": fastopt, "__builtins__": __builtins__}
    code = """
@fastopt.kernel
def nowhere(param, grad, grad_scale, l2, keep, lr):
    for i in range(param.size):
        param[i] = param[i] - lr * grad[i]
"""
    exec(code, names)
    made = type("Nowhere", (Calling,), {"kernel": names["nowhere"]})
    params = [np.ones(2)]
    made(lr=0.5).update(params, [np.ones(2)])
    assert params[0].tolist() == [0.5, 0.5]
