"""The kernels in plain NumPy have the bits of the compiled ones, write nothing, and need no compiler."""

import subprocess
import sys
from itertools import cycle
from math import prod

import numba
import numpy as np
import pytest
from cases import DTYPES, FOR_MATRICES, RULES
from numba import config

import fastopt
from fastopt import kernels
from fastopt.kernels import common, norms, sums
from fastopt.kernels.plain import Draft, changes

needs_jit = pytest.mark.skipif(bool(config.DISABLE_JIT), reason="there is nothing to compare with")

SIZES = [0, 1, 2, 63, 64, 65, 1000, 20_001]
SHAPES = [
    *((n,) for n in SIZES), (), (0, 3), (3, 0), (1, 1), (5, 1), (1, 5), (300, 7), (40, 64), (33, 65),
    (2, 3, 4), (3, 40, 1), (2, 9, 300), (70, 100), (1000, 1), (2, 600, 2),
]  # fmt: skip
SPECIAL = [0.0, -0.0, np.inf, -np.inf, np.nan, 1e-45, -1e-310, 3e-20, 1e30, -3e38, 1e-20]
FINITE = [0.0, -0.0, 1e-45, -1e-310, 3e-20, 1e15]
# grad_scale, l2 and keep: neutral ones, and others.
WRAPPED = [(1.0, 0.0, 1.0), (0.75, 0.125, 0.9), (1.0, 0.01, 1.0), (-2.0, 0.0, 1.0), (1.0, 0.0, 0.999)]


@pytest.fixture(autouse=True)
def silent():
    with np.errstate(all="ignore"):
        yield


def random(rng, size, dtype, special=SPECIAL):
    """Return random numbers, with special ones in between."""
    values = rng.standard_normal(size) * 10.0 ** rng.integers(-3, 3, size)
    if size and special:
        values[rng.integers(0, size, -(-size // 20))] = rng.choice(special, -(-size // 20))
    return values.astype(dtype)


def check_bits(actual, expected, *where):
    assert actual.dtype == expected.dtype, where
    assert actual.shape == expected.shape, where
    actual, expected = (np.where(np.isnan(x), np.nan, x) for x in (actual, expected))
    wrong = np.flatnonzero(actual.view(f"u{actual.itemsize}") != expected.view(f"u{actual.itemsize}"))
    assert wrong.size == 0, (*where, wrong[:5], actual[wrong[:5]], expected[wrong[:5]])


def check_kernel(kernel, arrays, scalars, where=()):
    """Run both forms of an element-wise kernel. Returns the new arrays."""
    expected = [a.copy() for a in arrays]
    kernel(*expected, *scalars)
    drafts = [Draft(a) if k != 1 else a for k, a in enumerate(arrays)]
    before = [a.tobytes() for a in arrays]
    kernel.in_numpy(*drafts, *scalars)
    for k, draft in enumerate(drafts):
        check_bits(draft.value if k != 1 else draft, expected[k], kernel.__name__, k, *where)
    assert [a.tobytes() for a in arrays] == before, where
    for array, value in changes(d for k, d in enumerate(drafts) if k != 1):
        array[...] = value
    for k, array in enumerate(arrays):
        check_bits(array, expected[k], kernel.__name__, k, *where)
    return arrays


def states_of(cls, rng, shape, dtype, special):
    """Return random states of a parameter, flat; at times none is negative, as some of them never are."""
    # The larger one of +0 and -0 is either, and which one of the two depends on the machine.
    sizes = [prod((getattr(cls, name).shape or (lambda s: s))(shape)) for name in cls.states]
    states = [random(rng, size, dtype, special) for size in sizes]
    is_positive = rng.integers(2) or cls.__name__ in ("AMSGrad", "AMSBound", "SM3", "Adafactor")
    return [abs(state) if is_positive else state for state in states]


def takes(cls, shape):
    return len(shape) == 2 if cls.__name__ in FOR_MATRICES else True


@needs_jit
@pytest.mark.parametrize(("rule", "dtype"), [*zip(RULES, cycle(DTYPES), strict=False)])
def test_every_rule_has_the_bits_of_compiled_code(rule, dtype):
    cls = getattr(fastopt, rule)
    check = check_elements if cls.statistics_kernel is None else check_arrays
    for special, some in ((SPECIAL, WRAPPED[:2]), (FINITE, WRAPPED)):
        for seed, wrapped in enumerate(some):
            scalars = (*wrapped, *map(float, cls().scalars(1 + 5 * seed)))
            for shape in SHAPES:
                if takes(cls, shape):
                    check(cls, np.random.default_rng(seed), shape, dtype, special, scalars)


def check_elements(cls, rng, shape, dtype, special, scalars):
    if shape and (len(shape) > 1 or shape[0] not in SIZES):
        return
    size = prod(shape)
    arrays = [random(rng, size, dtype, special) for _ in range(2)] + states_of(
        cls, rng, shape, dtype, special
    )
    check_kernel(cls.kernel, arrays, tuple(map(np.dtype(dtype).type, scalars)), (shape, scalars))


def check_arrays(cls, rng, shape, dtype, special, scalars):
    rule, size = cls.rule(), prod(shape)
    rows, cols = (0, *(shape or (1,)))[-2:]
    param, grad = (random(rng, size, dtype, special) for _ in range(2))
    states = states_of(cls, rng, shape, dtype, special)
    work = [np.zeros(size, dtype) for _ in range(rule.n_work)]
    compiled = [a.copy() for a in (param, grad, *states, *work)]
    drafts = [Draft(param), grad, *map(Draft, states), *work]
    given = [param, grad, *states]
    before = [a.tobytes() for a in given]
    statistics = [np.zeros(rule.n_statistics(shape)) for _ in range(2)]
    n = 0 if cls is fastopt.SM3 else max(rule.n_totals, rule.n_additive, 1)
    for kernel, _ in rule.passes:
        kernel(rows, cols, *compiled, statistics[0], statistics[0][:n].copy(), *scalars)
        kernel.in_numpy(rows, cols, *drafts, statistics[1], statistics[1][:n].copy(), *scalars)
        where = kernel.__name__, shape, scalars
        check_bits(statistics[1][:n], statistics[0][:n], "statistics", *where)
        for k, (draft, array) in enumerate(zip(drafts, compiled, strict=True)):
            check_bits(draft.value if isinstance(draft, Draft) else draft, array, k, *where)
    assert [a.tobytes() for a in given] == before


def test_every_kernel_of_the_package_is_one_of_a_rule():
    used = {kernel for rule in RULES for kernel, _ in getattr(fastopt, rule).rule().passes}
    assert used == {getattr(kernels, name) for name in kernels.__all__}


@needs_jit
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("weight", "back"), [(0.0, 0.0), (0.25, 0.0), (1.0, 0.0), (0.5, 1.0), (0.0, 1.0)])
def test_averages(weight, back, dtype):
    rng = np.random.default_rng(0)
    param, average = random(rng, 1000, dtype), random(rng, 1000, dtype)
    expected, drafts = [param.copy(), average.copy()], [Draft(param), Draft(average)]
    common.follow(*expected, weight, back)
    common.follow.in_numpy(*drafts, weight, back)
    for draft, array in zip(drafts, expected, strict=True):
        check_bits(draft.value, array)


@needs_jit
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", SIZES)
def test_sums_of_micro_batches(size, dtype):
    rng, kind = np.random.default_rng(size), np.dtype(dtype).type
    for number in (0, 1, 3):
        arrays = [random(rng, size, dtype) for _ in range(3)]
        check_kernel(sums.accumulate, [a.copy() for a in arrays], tuple(map(kind, (1, 0, 1, number))))
        check_kernel(sums.mean_with, arrays, tuple(map(kind, (1, 0, 1, number or 2))))


@needs_jit
@pytest.mark.parametrize("dtype", DTYPES)
def test_norms_and_clipping(dtype):
    rng = np.random.default_rng(0)
    for size in (*SIZES, 65_536, 131_072, 200_001):
        for special in (SPECIAL, FINITE):
            grad, param = random(rng, size, dtype, special), np.zeros(size, dtype)
            expected = norms.squares(grad)
            check_bits(np.array([norms.squares.in_numpy(grad)]), np.array([expected]), size)
            expected = norms.magnitudes(grad)
            check_bits(np.array([norms.magnitudes.in_numpy(grad)]), np.array([expected]), size)
            for bounds in (
                (np.inf, np.inf, np.inf),
                (0.5, np.inf, np.inf),
                (np.inf, 1.0, np.inf),
                (0.25, 3.0, np.inf),
                (0.0, 2.0, np.inf),
                (1.0, 1e9, 0.5),
                (np.inf, 2.0, 0.125),
            ):
                results = []
                for form in ("__call__", "in_numpy"):
                    statistics, copy = np.zeros(65), np.zeros(size, dtype)
                    for kernel in (norms.grad_magnitudes, norms.grad_squares, norms.no_update):
                        getattr(kernel, form)(0, size, param, grad, statistics, statistics, 1.0, 0.0, 1.0)
                    results += [statistics[:1].copy()]
                    for kernel in (norms.clip_statistics, norms.clip_grad):
                        target = Draft(copy) if form == "in_numpy" and bounds[0] == 0.5 else copy
                        getattr(kernel, form)(
                            0, size, param, grad, target, statistics, statistics, 1.0, 0.0, 1.0, *bounds
                        )
                        copy = target.value if isinstance(target, Draft) else copy
                    results += [statistics[:1], copy]
                for actual, wanted in zip(results[3:], results[:3], strict=True):
                    check_bits(actual, wanted, size, bounds)


@needs_jit
@pytest.mark.parametrize("size", SIZES)
def test_sums_in_lanes_go_on_from_what_is_there(size):
    values, lanes = random(np.random.default_rng(1), size, "f8", FINITE), np.linspace(-1e3, 1e3, 64)
    expected = lanes.copy()
    common.square_sums(size, expected, values)
    common.square_sums.in_numpy(size, lanes, values)
    check_bits(lanes, expected)
    check_bits(np.array([common.lane_sum.in_numpy(lanes, 0)]), np.array([common.lane_sum(expected, 0)]))


@needs_jit
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("n_rows", "n", "width"), [(1, 1, 1), (9, 0, 3), (9, 50, 3), (40, 30, 1), (5, 9, 0)])
def test_rows_are_added_in_their_order(n_rows, n, width, dtype):
    rng = np.random.default_rng(0)
    indices, values = rng.integers(0, n_rows, n), random(rng, n * width, dtype).reshape(n, width)
    values[:1] = -0.0
    results = []
    for form in (sums.add_rows, sums.add_rows.in_numpy):
        places, rows, total = np.zeros(n_rows, np.intp), np.zeros_like(indices), np.zeros_like(values)
        count = form(indices, values, places, rows, total)
        results.append((count, places.tolist(), rows.tolist(), total))
    assert results[0][:3] == results[1][:3]
    check_bits(results[1][3].reshape(-1), results[0][3].reshape(-1))


@needs_jit
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("size", "piece"), [(0, 4), (10, 4), (8, 4), (3, 512)])
@pytest.mark.parametrize("rank", [0, 2])
def test_mean_of_ranks(rank, size, piece, dtype):
    rng = np.random.default_rng(0)
    own, received = random(rng, size, dtype), random(rng, 2 * size, dtype).reshape(2, size)
    results = []
    for form in (sums.mean_of_ranks, sums.mean_of_ranks.in_numpy):
        result = np.zeros(size, dtype)
        form(own, rank, received, np.zeros(piece, dtype), result)
        results.append(result)
    check_bits(*results)


@needs_jit
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("length", [0.0, 0.5, -0.5, np.inf, np.nan])
def test_signed(length, dtype):
    kind, x = np.dtype(dtype).type, np.array(SPECIAL, dtype)
    expected = np.array([common.signed(kind(length), y) for y in x], dtype)
    check_bits(common.signed.in_numpy(kind(length), x), expected)
    check_bits(common.signed.in_numpy(np.full(x.size, length, dtype), x), expected)


def test_a_draft_leaves_its_array_alone():
    array, other = np.arange(3.0), np.ones(3)
    draft = Draft(array)
    assert (draft.is_changed, draft.size, draft.dtype, draft.shape, len(draft)) == (
        False,
        3,
        array.dtype,
        (3,),
        3,
    )
    draft[0] = 9
    assert (array[0], draft[0], draft.is_changed) == (0, 9, True)
    draft[...] = other
    draft[1:] = 5
    assert other.tolist() == [1, 1, 1]
    assert draft[...].tolist() == [1, 5, 5]
    assert array.tolist() == [0, 1, 2]


@pytest.mark.parametrize("view", [lambda x: x, lambda x: x[::-1]], ids=["array", "view"])
def test_changes_share_no_memory_with_what_is_written(view):
    first, second = Draft(np.zeros(3)), Draft(np.ones(3))
    first[...], second[...] = view(second[...]), view(first[...])
    for array, value in changes([first, second, Draft(np.zeros(3))]):
        array[...] = value
    assert (first.array.tolist(), second.array.tolist()) == ([1, 1, 1], [0, 0, 0])


# Kernels of a user.


@numba.njit
def squared(x):
    return x * x


@fastopt.kernel
def simple(param, grad, prev, grad_scale, l2, keep, lr):
    for i in range(len(param)):
        g = grad[i]
        kept = g
        g *= grad_scale
        prev[i] = param[i]
        param[i] -= lr * squared(g) + l2 * kept


@fastopt.kernel
def branching(param, grad, m, grad_scale, l2, keep, lr):
    for i in range(param.size):
        if grad[i] > 0:
            m[i] += grad[i]
        param[i] = keep * param[i] - lr * m[i]


@fastopt.kernel
def carrying(param, grad, m, grad_scale, l2, keep, lr):
    last = param.dtype.type(0)
    for i in range(param.size):
        last = last * lr + grad[i]
        m[i] = last
        param[i] = param[i] - m[i]


@fastopt.kernel
def carrying_if_asked(param, grad, m, grad_scale, l2, keep, lr):
    last = param.dtype.type(0)
    for i in range(param.size):
        if lr > 0.5:
            last = last * lr
        last = last * l2 + grad[i]
        param[i] = param[i] - last


@fastopt.kernel
def shifting(param, grad, m, grad_scale, l2, keep, lr):
    for i in range(1, param.size):
        param[i] = param[i - 1] + grad[i]


@fastopt.kernel
def resetting(param, grad, m, grad_scale, l2, keep, lr):
    for i in range(param.size):
        m[i] = l2
        param[i] = np.float64(param[i]) - np.float64(grad[i]) * np.float64(lr)


@fastopt.kernel
def walking(param, grad, m, grad_scale, l2, keep, lr):
    i = 0
    for g in grad:
        param[i] -= lr * g
        i += 1  # noqa: SIM113


@needs_jit
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "kernel", [simple, branching, carrying, carrying_if_asked, shifting, resetting, walking]
)
def test_a_kernel_of_ones_own(kernel, dtype):
    kind = np.dtype(dtype).type
    for seed, l2 in enumerate((0.0, 0.5, 0.0)):
        rng = np.random.default_rng(seed)
        arrays = [random(rng, 65, dtype, FINITE) for _ in range(3)]
        check_kernel(kernel, arrays, tuple(map(kind, (1.5, l2, 0.9, 0.25))))


@pytest.mark.parametrize(("branches", "indices"), [(False, [..., ...]), (True, [..., *range(9)])])
def test_an_own_kernel_runs_on_whole_arrays_if_it_can(branches, indices):
    seen = []

    def noting(param, grad, grad_scale, l2, keep):
        for i in range(param.size):
            seen.append(i)
            param[i] = param[i] + grad[i] if not branches or grad[i] > 0 else param[i]

    draft, kernel = Draft(np.ones(9)), fastopt.kernel(noting)
    kernel.in_numpy(draft, np.ones(9), 1.0, 0.0, 1.0)
    trial = list(range(7))
    assert seen == trial + indices
    assert draft.value.tolist() == [2] * 9
    kernel.in_numpy(draft, np.ones(9), 1.0, 0.0, 1.0)
    assert seen == trial + indices + indices[1:]  # no further trial


def test_an_own_kernel_of_whole_arrays():
    def total(rows, cols, param, grad, sums, totals, grad_scale, l2, keep):
        for i in range(param.size):
            sums[0] += param[i] * param[i]
            param[i] += grad[i]

    draft, statistics = Draft(np.arange(4.0)), np.zeros(1)
    fastopt.kernel(total).in_numpy(0, 4, draft, np.ones(4), statistics, statistics, 1.0, 0.0, 1.0)
    assert (statistics[0], draft.value.tolist(), draft.array[0]) == (14, [1, 2, 3, 4], 0)


def test_the_error_of_an_own_kernel_is_seen():
    def wrong(param, grad, grad_scale, l2, keep):
        for i in range(param.size):
            param[i] = undefined  # noqa: F821

    with pytest.raises(NameError, match="undefined"):
        fastopt.kernel(wrong).in_numpy(Draft(np.ones(3)), np.ones(3), 1.0, 0.0, 1.0)


def test_nothing_of_numba_is_used():
    code = """
import sys
import types
package = types.ModuleType("fastopt")  # whose own import brings Numba still
package.__path__ = [sys.argv[1]]
sys.modules["fastopt"] = package
sys.modules["numba"] = sys.modules["llvmlite"] = None
import numpy as np
from fastopt import kernels
from fastopt.kernels import common, norms, plain, sums
before = set(sys.modules)
for name in kernels.__all__ :
    getattr(kernels, name).in_numpy
drafts = [plain.Draft(np.ones(3)) for _ in range(3)]
kernels.adam.in_numpy(drafts[0], np.ones(3), *drafts[1:], *map(np.float64, (1, 0, 1, *[0.1] * 5)))
room = np.zeros(128)
kernels.lars_measure.in_numpy(0, 3, drafts[0], np.ones(3), drafts[1], room, room, *[1.0] * 8)
own = common.kernel(lambda param, grad, lr: [param.__setitem__(i, lr) for i in range(param.size)])
own.in_numpy(drafts[0], np.ones(3), 0.5)
print(drafts[0].value, norms.squares.in_numpy(np.ones(3)), sorted(set(sys.modules) - before))
"""
    command = [sys.executable, "-c", code, fastopt.__path__[0]]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (result.stdout, result.stderr) == ("[0.5 0.5 0.5] 3.0 []\n", "")


@pytest.mark.parametrize("rule", ["Momentum", "Adam"])
def test_arrays_of_several_pieces_beside_frozen_ones(rule, monkeypatch):
    rng = np.random.default_rng(0)
    results = []
    for mode in ("now", "never"):
        monkeypatch.setenv("FASTOPT_COMPILE", mode)
        rng = np.random.default_rng(0)
        params = {key: rng.standard_normal(n) for key, n in (("frozen", 9_000), ("a", 30_001), ("b", 9_000))}
        optimizer = getattr(fastopt, rule)(groups={"frozen": {"freeze": True}}, ema=0.5)
        for _ in range(3):
            optimizer.update(params, {key: rng.standard_normal(p.size) for key, p in params.items()})
        results.append([param.tobytes() for param in params.values()])
    assert results[0] == results[1]


def test_small_arrays_may_come_in_another_order(monkeypatch):
    """Their states are no longer side by side in the order of the step."""
    monkeypatch.setenv("FASTOPT_COMPILE", "never")
    params, plain = ({key: np.full(n, 1.0) for key, n in (("a", 3), ("b", 5), ("c", 3))} for _ in range(2))
    optimizer, one = fastopt.Momentum(), fastopt.Momentum()
    for step in range(4):
        keys = "abc" if step < 2 else "cba"
        optimizer.update(
            {k: params[k] for k in keys}, {k: np.full(params[k].size, float(ord(k))) for k in keys}
        )
        one.update(plain, {k: np.full(p.size, float(ord(k))) for k, p in plain.items()})
    for key, param in params.items():
        assert param.tobytes() == plain[key].tobytes()
        assert optimizer.v[key].tobytes() == one.v[key].tobytes()


@pytest.mark.parametrize("option", [{"clip_value": 1.0}, {"clip_norm_each": 1.0}, {"clip_adaptive": 1.0}])
def test_clipping_in_numpy_hides_no_gradient_that_is_not_finite(option, monkeypatch):
    monkeypatch.setenv("FASTOPT_COMPILE", "never")
    optimizer, params = fastopt.SGD(nonfinite="skip", **option), {"w": np.ones(3)}
    assert optimizer.update(params, {"w": np.ones(3)})
    for value in (np.nan, np.inf):  # a bound would make the latter finite
        assert not optimizer.update(params, {"w": np.array([1.0, value, 1.0])})
    assert optimizer.skipped == 2
