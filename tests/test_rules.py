"""Each rule against its three witnesses: the reference, values worked out by hand, a well-known library."""

import inspect
from contextlib import nullcontext
from dataclasses import fields
from fractions import Fraction
from itertools import cycle

import numpy as np
import pytest
from cases import CASES, DTYPES, RULES, both, same_bits, snapshot, takes
from golden import GOLDEN, GRADS, START, rule_of
from matrix import HYPERPARAMETERS

import fastopt
from fastopt import reference
from fastopt.demo.settings import SETTINGS
from fastopt.demo.surfaces import SURFACES
from fastopt.fields import SHOWN
from fastopt.kernels import adaptive
from fastopt.optimizers import schedule_free
from fastopt.reference.common import column_totals, cube_root, row_totals, total
from fastopt.tools import equivalents

# Empty, single, odd, around the width of vectors, large.
SHAPES = [(), (0,), (1,), (3, 0), (7,), (16, 4), (5, 3, 2), (1023,), (1, 1), (1, 63), (300, 401)]
LAYOUTS = {
    "C": lambda a: a,
    "Fortran": np.asfortranarray,
    "strided": lambda a: np.repeat(a[..., None], 2, -1)[..., 0],
    "reversed": lambda a: np.flip(np.flip(a).copy()),
    "byte-swapped": lambda a: a.astype(a.dtype.newbyteorder()),
    "unaligned": lambda a: unaligned(a),
}


def unaligned(array):
    memory = np.zeros(array.nbytes + 1, np.uint8)[1:]
    result = memory.view(array.dtype).reshape(array.shape)
    result[...] = array
    assert array.size == 0 or not result.flags.aligned
    return result


def values(rng, shape, dtype):
    """Values of all sizes, with zeros of both signs."""
    a = np.asarray(rng.standard_normal(shape) * 10.0 ** rng.integers(-12, 3, shape), dtype)
    special = np.array([0.0, -0.0, np.finfo(dtype).tiny, np.finfo(dtype).smallest_subnormal], dtype)
    return np.where(rng.random(shape) < 0.2, rng.choice(special, shape), a)


def assert_same(rule, ref, comp, p_ref, p_comp):
    keys = p_ref if isinstance(p_ref, dict) else range(len(p_ref))
    for key in keys:
        native = np.asarray(p_comp[key]).dtype.newbyteorder("=")
        assert same_bits(p_ref[key], np.asarray(p_comp[key], native)), f"parameter {key}"
        for state in CASES[rule].states:
            assert same_bits(getattr(ref, state)[key], getattr(comp, state)[key]), f"{state} of {key}"


@pytest.mark.parametrize("steps", [1, 15])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rule", RULES)
def test_same_bits_as_reference(rule, dtype, steps):
    rng = np.random.default_rng(7)
    shapes = [shape for shape in SHAPES if takes(rule, shape)]
    p_ref = {str(shape): values(rng, shape, dtype) for shape in shapes}
    p_comp = {key: p.copy() for key, p in p_ref.items()}
    arrays = dict(p_comp)
    ref, comp = both(rule)
    for _ in range(steps):
        grads = {str(shape): values(rng, shape, dtype) for shape in shapes}
        ref.update(p_ref, grads)
        comp.update(p_comp, grads)
    assert_same(rule, ref, comp, p_ref, p_comp)
    assert all(p_comp[key] is arrays[key] for key in arrays)
    assert comp.iter == steps


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rule", RULES)
def test_same_bits_as_reference_with_other_arguments(rule, dtype):
    known = inspect.signature(getattr(reference, rule)).parameters
    ref, comp = both(rule, **{name: value for name, value in HYPERPARAMETERS.items() if name in known})
    rng = np.random.default_rng(9)
    p_ref = [rng.standard_normal((5, 7)).astype(dtype)]
    p_comp = [p_ref[0].copy()]
    for _ in range(8):
        grads = [rng.standard_normal((5, 7)).astype(dtype)]
        ref.update(p_ref, grads)
        comp.update(p_comp, grads)
        assert_same(rule, ref, comp, p_ref, p_comp)


@pytest.mark.parametrize(
    ("layout", "grad_layout"), [("C", other) for other in LAYOUTS] + [(other, other) for other in LAYOUTS]
)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rule", RULES)
def test_row_15_same_bits_in_every_layout(rule, dtype, layout, grad_layout):
    rng = np.random.default_rng(8)
    shapes = [shape for shape in [(0,), (1,), (0, 2), (6, 5), (3, 4, 5)] if takes(rule, shape)]
    p_ref = [values(rng, shape, dtype) for shape in shapes]
    p_comp = [LAYOUTS[layout](p.copy()) for p in p_ref]
    arrays = list(p_comp)
    ref, comp = both(rule)
    for _ in range(3):
        grads = [values(rng, shape, dtype) for shape in shapes]
        given = [LAYOUTS[grad_layout](g.copy()) for g in grads]
        ref.update(p_ref, grads)
        comp.update(p_comp, given)
        assert all(np.array_equal(g, h) for g, h in zip(grads, given, strict=True))
    assert_same(rule, ref, comp, p_ref, p_comp)
    assert all(p is array for p, array in zip(p_comp, arrays, strict=True))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rule", RULES)
def test_value_worked_out_by_hand(rule, dtype):
    case = CASES[rule]
    for optimizer in both(rule, **case.arguments):
        params = [np.ones(np.shape(case.grads[0]) or 5, dtype)]
        for step in range(2):
            optimizer.update(params, [np.full_like(params[0], case.grads[step])])
            rtol = 4 * np.finfo(dtype).eps
            np.testing.assert_allclose(params[0], case.params[step], rtol)
            for name, expected in case.states.items():
                np.testing.assert_allclose(getattr(optimizer, name)[0], expected[step], rtol)


@pytest.mark.parametrize("rule", RULES)
def test_infinite_parameters_and_gradients_as_in_reference(rule):
    shape = (6,) if takes(rule, (6,)) else (2, 3)
    special = np.array([np.inf, -np.inf, 1e200, -0.0, 1.0, 2.0]).reshape(shape)
    p_ref, p_comp = [special.copy()], [special.copy()]
    ref, comp = both(rule)
    with np.errstate(all="ignore"):
        for grad in (np.array([1.0, 2.0, -1.0, -0.0, np.inf, np.nan]).reshape(shape), np.ones(shape)):
            ref.update(p_ref, [grad])
            with nullcontext() if np.isfinite(grad).all() else pytest.warns(RuntimeWarning, match="has NaN"):
                comp.update(p_comp, [grad])
    np.testing.assert_array_equal(p_comp[0], p_ref[0])
    numbers = ~np.isnan(p_ref[0])
    np.testing.assert_array_equal(np.signbit(p_comp[0][numbers]), np.signbit(p_ref[0][numbers]))


@pytest.mark.parametrize("rule", RULES)
def test_what_is_wrapped_around_a_rule(rule):
    """grad_scale, l2 and keep are the same as a gradient and a parameter changed beforehand."""
    rng = np.random.default_rng(9)
    param, grad = rng.standard_normal((2, 100))
    cls = getattr(fastopt, rule)
    optimizer = cls()
    scalars = tuple(map(float, optimizer.scalars(1)))
    shapes = [getattr(cls, state).shape or (lambda shape: shape) for state in CASES[rule].states]
    shapes += [lambda shape: shape] * optimizer.n_work
    states = [[np.full(shape((10, 10)), 0.5).reshape(-1) for shape in shapes] for _ in range(2)]

    def step(param, grad, states, *wrapped):
        if cls.statistics_kernel is None:
            cls.kernel(param, grad, *states, *wrapped, *scalars)
            return
        sums = np.zeros(optimizer.n_statistics((10, 10)))
        for kernel in (cls.statistics_kernel, cls.kernel):
            kernel(10, 10, param, grad, *states, sums, sums, *wrapped, *scalars)

    plain, wrapped = param * 0.75, param.copy()
    step(plain, 0.25 * grad + 0.125 * param, states[0], 1.0, 0.0, 1.0)
    step(wrapped, grad, states[1], 0.25, 0.125, 0.75)
    assert same_bits(plain, wrapped)
    for a, b in zip(*states, strict=True):
        assert same_bits(a, b)


def difference(rule, library, dtype, *shapes):
    if not equivalents.version_of(library):
        pytest.skip(f"{library} is not installed")
    return equivalents.difference(rule, library, dtype, *shapes)


EQUIVALENTS = [(library, rule) for library, known in equivalents.LIBRARIES.items() for rule in known.rules]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("library", "rule"), EQUIVALENTS)
def test_agrees_with_its_equivalents(library, rule, dtype):
    assert difference(rule, library, dtype) <= equivalents.TOLERANCES[dtype]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("rule", "shape"), [("Adafactor", (3, 40, 20)), ("Muon", (30, 20))])
def test_agrees_with_its_equivalent_in_other_shapes(rule, shape, dtype):
    library = equivalents.first_library(rule)
    assert difference(rule, library, dtype, [shape]) <= equivalents.TOLERANCES[dtype]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("rule", ["AMSGrad", "AdEMAMix"])
def test_further_arguments_agree_with_optax(rule, monkeypatch):
    jnp = pytest.importorskip("jax.numpy")

    def b3(count):  # the paper's, from β₁ = 0.9
        share, first, last = (jnp.float64(count) + 1) / 12, np.log(0.9), np.log(0.999)
        risen = jnp.exp(first * last / ((1 - share) * last + share * first))
        return jnp.where(share < 1, risen, 0.999)

    theirs, ours = {
        "AMSGrad": ({"bias_correction_mu": False, "bias_correction_nu": False}, {"correction": "none"}),
        "AdEMAMix": (
            {"alpha": lambda count: 5.0 * jnp.minimum((jnp.float64(count) + 1) / 8, 1), "b3": b3},
            {"beta3": 0.999, "alpha_warmup": 8, "beta3_warmup": 12},
        ),
    }[rule]
    name, *_ = equivalents.OPTAX[rule]
    monkeypatch.setitem(equivalents.OPTAX, rule, (name, theirs, ours))
    assert difference(rule, "optax", "float64", [(5,)]) <= equivalents.TOLERANCES["float64"]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("library", "rule", "theirs"),
    [
        ("PyTorch", "Adam", {"betas": (0.91, 0.999)}),
        ("optax", "Adam", {"b1": 0.91}),
        ("Keras", "FTRL", {"beta": 0.75}),
    ],
)
def test_another_rule_disagrees(monkeypatch, library, rule, theirs):
    name, before, ours = equivalents.LIBRARIES[library].rules[rule]
    monkeypatch.setitem(equivalents.LIBRARIES[library].rules, rule, (name, {**before, **theirs}, ours))
    assert difference(rule, library, "float64") > 1e-5


@pytest.mark.parametrize(
    ("rule", "theirs"), [("SGDM", {"dampening": 0.5}), ("NAG", {"nesterov": True}), ("Momentum", None)]
)
def test_momentum_of_pytorch_under_a_schedule(rule, theirs):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(10)
    param = rng.standard_normal(50)
    tensor = torch.nn.Parameter(torch.from_numpy(param.copy()))
    twin = torch.optim.SGD([tensor], lr=0.1, momentum=0.9, **theirs or {})
    optimizer = getattr(fastopt, rule)(0.1, **({"dampening": 0.5} if rule == "SGDM" else {}))
    for t in range(1, 8):
        grad = rng.standard_normal(50)
        tensor.grad = torch.from_numpy(grad.copy())
        optimizer.lr = twin.param_groups[0]["lr"] = 0.1 / t
        twin.step()
        optimizer.update([param], [grad])
    apart = np.abs(param - tensor.detach().numpy()).max()
    assert apart > 0.1 if theirs is None else apart < 1e-14  # the book's form is another rule then


def test_a_new_lr_acts_one_step_later_in_the_asgd_of_pytorch():
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(10)
    param = rng.standard_normal(50)
    twin = torch.nn.Parameter(torch.from_numpy(param.copy()))
    theirs = torch.optim.ASGD([twin], lr=0.1, lambd=0.1, t0=3)
    ours = fastopt.ASGD(0.1, lambd=0.1, t0=3)
    for t in range(1, 8):
        grad = rng.standard_normal(50)
        twin.grad = torch.from_numpy(grad.copy())
        theirs.param_groups[0]["lr"], ours.lr = 0.1 / t, 0.1 / max(t - 1, 1)
        theirs.step()
        ours.update([param], [grad])
        # PyTorch keeps its step size in float32.
        np.testing.assert_allclose(param, twin.detach().numpy(), 1e-5)
        np.testing.assert_allclose(ours.ax[0], theirs.state[twin]["ax"].numpy(), 1e-5)


@pytest.mark.parametrize("name", GOLDEN)
def test_agrees_with_the_code_of_its_authors(name):
    _, arguments, expected = GOLDEN[name]
    for optimizer in both(rule_of(name), **arguments):
        params = [np.array(START)]
        for grad, after in zip(cycle(GRADS), expected, strict=False):
            optimizer.update(params, [np.array(grad)])
            np.testing.assert_allclose(params[0], after, 1e-12)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("dtype", DTYPES)
def test_prodigys_distance_is_that_of_all_arrays(dtype):
    pytest.importorskip("optax")
    rng = np.random.default_rng(10)
    params = [rng.uniform(1, 2, shape).astype(dtype) for shape in [(20, 30), (7,), (), (3, 4, 5)]]
    optimizer = fastopt.Prodigy(d0=1e-4)
    with equivalents.by_optax("contrib.prodigy", 1.0, {"estim_lr0": 1e-4}, params) as twin:
        for _ in range(20):
            grads = [np.asarray(1 + rng.standard_normal(p.shape), dtype) for p in params]
            optimizer.update(params, grads)
            twin.give(grads)
            twin.step()
        expected = twin.params()
    assert optimizer.d[0].item() > 0.01
    for ref, comp, d, r in zip(expected, params, optimizer.d, optimizer.r, strict=True):
        np.testing.assert_allclose(comp, ref, equivalents.TOLERANCES[dtype])
        assert (d.item(), r.item()) == (optimizer.d[0].item(), optimizer.r[0].item())


def test_sm3_merges_leading_dimensions():
    rng = np.random.default_rng(10)
    param = rng.standard_normal((3, 40, 20))
    merged, one, other = param.reshape(120, 20).copy(), fastopt.SM3(0.01), fastopt.SM3(0.01)
    for _ in range(5):
        grad = rng.standard_normal((3, 40, 20))
        one.update([param], [grad])
        other.update([merged], [grad.reshape(120, 20)])
    assert same_bits(param, merged.reshape(3, 40, 20))


@pytest.mark.parametrize("rule", RULES)
def test_comes_down_the_valley_of_rosenbrock(rule):
    """It arrives where f is a tenth of the 4 that it is at the valley's upper end."""
    surface, setting = SURFACES["rosenbrock"], SETTINGS[rule]
    optimizer = getattr(fastopt, rule)(setting.rosenbrock, **setting.others)
    # One matrix, for Muon takes nothing else, and where steps are in proportion to an array's norm (LARS,
    # LAMB), a number alone could never pass 0.
    point, steps = np.array([[-1.2, 1.0]]), 0
    while surface.f(*point[0]) >= 0.4 and steps < 5000:
        optimizer.update([point], [np.array([surface.gradient(*point[0].tolist())])])
        steps += 1
    remedy = f"in fastopt/demo/settings.py give {rule} another learning rate for Rosenbrock's function"
    assert surface.f(*point[0]) < 0.4, f"{remedy} than {setting.rosenbrock:g}"


@pytest.mark.parametrize("rule", ["ScheduleFreeSGD", "ScheduleFreeAdamW"])
def test_average_of_a_schedule_free_rule(rule):
    rng = np.random.default_rng(11)
    optimizer = getattr(fastopt, rule)(0.1, 0.75, 5)
    start = {"W": rng.standard_normal((3, 2)), "b": 1.5}
    params = {"W": start["W"].copy(), "b": 1.5}
    assert same_bits(optimizer.average(params)["W"], start["W"])
    weight, x = 0.0, {key: np.array(value) for key, value in start.items()}
    for t in range(1, 9):
        optimizer.update(params, {"W": rng.standard_normal((3, 2)), "b": rng.standard_normal()})
        now = min(t / 5, 1) ** 2
        weight += now
        for key in x:  # the paper's x, a running average of z
            x[key] = x[key] + now / weight * (optimizer.z[key] - x[key])
            np.testing.assert_allclose(optimizer.average(params)[key], x[key], 1e-12)


def test_average_of_schedule_free_radam_is_that_of_its_authors():
    """After `GRADS`, twice: the parameters after ``eval()`` of what is in `GOLDEN`."""
    params, optimizer = [np.array(START)], fastopt.ScheduleFreeRAdam(**GOLDEN["ScheduleFreeRAdam"].arguments)
    for grad in 2 * GRADS:
        optimizer.update(params, [np.array(grad)])
    expected = [
        [0.9950640006687106, -2.004815975854426, 0.4766007759262981],
        [0.2723462970588462, 2.999035895650155, -1.5278291517521077],
    ]
    np.testing.assert_allclose(optimizer.average(params)[0], expected, 1e-12)


def test_weights_of_a_long_schedule_free_run():
    own = fastopt.ScheduleFreeSGD(warmup_steps=7, r=0.5, weight_lr_power=1.5)
    weights = [t**0.5 * min(t / 7, 1) ** 1.5 for t in range(1, 1501)]
    total, found = 0.0, []
    for t, weight in enumerate(weights, 1):
        total += weight
        found.append(own.scalars(t)[0])
        assert found[-1] == weight / total
    # A run that is resumed, or a parameter that is late, has the same.
    assert [own.scalars(t)[0] for t in (2, 700, 1500)] == [found[1], found[699], found[1499]]
    for i in range(300):  # powers that change at each step
        own.r = i / 300
        own.scalars(3)
    assert len(schedule_free.SUMS) <= 101


# In some (Prodigy) a parameter's step depends on all parameters.
@pytest.mark.parametrize("rule", [rule for rule in RULES if not getattr(fastopt, rule).n_totals])
def test_a_late_parameter_starts_like_any(rule):
    rng = np.random.default_rng(12)
    grads = rng.standard_normal((2, 2, 2))
    together, alone = getattr(fastopt, rule)(0.5), getattr(fastopt, rule)(0.5)
    params = {"a": np.ones((2, 2)), "b": np.full((2, 2), 2.0)}
    together.update({"a": params["a"]}, {"a": grads[0]})
    together.update(params, {"a": grads[0], "b": grads[1]})
    late = {"b": np.full((2, 2), 2.0)}
    alone.update(late, {"b": grads[1]})
    assert same_bits(params["b"], late["b"])


def test_dir_shows_what_is_public():
    shown = {name for name in dir(fastopt) if not name.startswith("__")}
    assert shown == {*fastopt.__all__, "adapters"}
    assert all(hasattr(fastopt, name) for name in dir(fastopt))


def test_dir_of_an_optimizer_shows_what_users_call():
    for rule in RULES:
        optimizer = getattr(fastopt, rule)()
        shown = {name for name in dir(optimizer) if not name.startswith("_")}
        assert shown == {field.name for field in fields(optimizer)} | {*optimizer.states} | SHOWN


@pytest.mark.parametrize("shape", [(), (0,), (1,), (63,), (64,), (33, 1), (1, 133), (3, 40, 17), (700, 64)])
def test_sums_of_the_reference_have_their_order(shape):
    x = values(np.random.default_rng(14), shape, "float32")
    lanes = [0.0] * 64
    for i, value in enumerate(x.ravel().tolist()):
        lanes[i % 64] += value
    while len(lanes) > 1:
        half = len(lanes) // 2
        lanes = [a + b for a, b in zip(lanes[:half], lanes[half:], strict=True)]
    assert total(x) == total(np.asfortranarray(x)) == lanes[0]
    if x.ndim > 1:
        rows = x.reshape(-1, shape[-1])
        assert same_bits(row_totals(x), np.reshape([total(row) for row in rows], (*shape[:-1], 1)))
        columns = x[..., :1, :].astype(float)
        for i in range(1, shape[-2]):
            columns += x[..., i : i + 1, :]
        assert same_bits(column_totals(x), columns)
        assert same_bits(column_totals(np.asfortranarray(x)), columns)


@pytest.mark.parametrize("dtype", DTYPES)
def test_cube_roots_are_right_to_the_last_bit_but_one(dtype):
    """Of all sizes that there are, computed with fractions; those that no operation rounds are exact."""
    info = np.finfo(dtype)
    least = np.log2(float(info.smallest_subnormal))
    x = np.exp2(np.random.default_rng(15).uniform(least, info.maxexp, 2000)).astype(dtype)
    x = np.append(x, np.array([info.max, info.tiny, info.smallest_subnormal], dtype))
    for function in (cube_root, adaptive.cube_root.in_numpy):
        with np.errstate(all="ignore"):
            assert function(np.array([0, 1, 8, 1728, np.inf], dtype)).tolist() == [0, 1, 2, 12, np.inf]
            roots = function(x)
        assert roots.dtype == dtype
        for root, margin, value in zip(roots.tolist(), np.spacing(roots).tolist(), x.tolist(), strict=True):
            low, high = (Fraction(root) + sign * Fraction(margin) * 9 / 10 for sign in (-1, 1))
            assert low**3 < Fraction(value) < high**3, value


def test_muon_takes_matrices_only():
    params = {"W": np.ones((2, 2)), "b": np.ones(2), "c": 1.0}
    before = snapshot(params)
    optimizer = fastopt.Muon()
    for _ in range(2):
        with pytest.raises(ValueError, match=r"Muon takes matrices.*Partition.*'b', 'c'"):
            optimizer.update(params, params)
        assert snapshot(params) == before
        assert optimizer.iter == 0
    optimizer.update({"W": params["W"]}, {"W": np.eye(2)})
    with pytest.raises(ValueError, match=r"Muon takes matrices.*'b', 'c'"):
        optimizer.update(params, params)
    assert optimizer.iter == 1
    alone = np.ones((2, 2))
    fastopt.Muon().update([alone], [np.eye(2)])
    assert same_bits(params["W"], alone)
