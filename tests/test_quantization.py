"""`state_dtype`: states in fewer bytes, bit for bit as in the reference, in every kind of step."""

import itertools
import pickle
from copy import deepcopy
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pytest

import fastopt
from fastopt import optimizers, reference
from fastopt.engine.quantized import QuantizedArray
from fastopt.kernels.quantization import BLOCK, FORMATS, NEAREST, codec, random_bits, random_key
from fastopt.reference.options import Optimizer as Reference
from fastopt.reference.quantization import rounded

NAMES = [*FORMATS]
# The names of each rule's states that are rounded, with √ those by whose root it divides.
STATES = {
    rule: names for rule in optimizers.RULES if (names := getattr(getattr(reference, rule), "quantized", ""))
}
RULES = [*STATES]

# What is compiled, which takes a second or two each: rules with one and two states in all formats; with more,
# with some in full, and with first values, in one each.
SOME = ["AMSGrad", "AdEMAMix", "Adan", "AdaDelta", "AggMo", "Lion", "Rprop", "ScheduleFreeAdamW", "Yogi"]
COMPILED = [(rule, name, np.float32) for rule in ("Adam", "Momentum") for name in NAMES] + [
    pytest.param(rule, NAMES[i % 3], (np.float64, np.float32)[i % 2], marks=pytest.mark.long)
    for i, rule in enumerate(SOME)
]


def arrays(rng, dtype=np.float32):
    """Return parameters above and below the size from which states are rounded."""
    return {
        "W": rng.standard_normal((70, 61)).astype(dtype),
        "F": np.asfortranarray(rng.standard_normal((75, 61)).astype(dtype)),
        "b": rng.standard_normal(61).astype(dtype),
    }


def grads_of(rng, params):
    """Return gradients, one of which is strided, and one Fortran."""
    grads = {key: rng.standard_normal(p.shape).astype(p.dtype) for key, p in params.items()}
    grads["W"] = np.asfortranarray(grads["W"])
    grads["F"] = np.repeat(grads["F"], 2, axis=1)[:, ::2]
    return grads


def run(optimizer, dtype=np.float32, steps=4, seed=0, params=None):
    """Take steps on arrays of a seed. Returns the parameters."""
    rng = np.random.default_rng(seed)
    start = arrays(rng, dtype)
    params = start if params is None else params
    for _ in range(steps):
        optimizer.update(params, grads_of(rng, start))
    return params


def assert_same(a, b):
    for key in a:
        np.testing.assert_array_equal(a[key], b[key], err_msg=str(key))


def check_rule(rule, name, dtype):
    """Compare steps, and the states that they leave, with the reference."""
    optimizer = getattr(fastopt, rule)(state_dtype=name, state_seed=3)
    twin = Reference(getattr(fastopt.reference, rule), state_dtype=name, state_seed=3)
    assert_same(run(optimizer, dtype), run(twin, dtype))
    for state in STATES[rule].split():
        own = getattr(twin.rules["W"], state.removeprefix("√"))["W"]
        shown = getattr(optimizer, state.removeprefix("√"))["W"]
        assert shown.dtype == np.float32
        np.testing.assert_array_equal(shown, own)
    return optimizer


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("rule", RULES)
def test_every_rule_has_the_references_bits_in_plain_numpy(rule, name, dtype, monkeypatch):
    monkeypatch.setenv("FASTOPT_COMPILE", "never")
    assert not check_rule(rule, name, dtype).compiled


@pytest.mark.parametrize(("rule", "name", "dtype"), COMPILED)
def test_every_rule_has_the_references_bits_compiled(rule, name, dtype, monkeypatch):
    monkeypatch.setenv("FASTOPT_COMPILE", "now")
    assert check_rule(rule, name, dtype).compiled


def test_the_tables_name_the_same_states():
    for rule in optimizers.__all__:
        kind = getattr(fastopt, rule)
        own = [(name, getattr(kind, name).quantized) for name in getattr(kind, "states", ())]
        names = ["√" * (how == "roots") + name for name, how in own if how is not None]
        whole = isinstance(kind, type) and issubclass(kind, fastopt.Optimizer) and kind.rule_is_whole()
        assert getattr(getattr(reference, rule), "quantized", "").split() == ([] if whole else names)


@pytest.mark.parametrize(
    "options",
    [
        {"weight_decay": 0.01},
        {"cautious": True},
        {"clip_norm": 1.0},
        {"ema": 0.9},
        {"lookahead": (2, 0.5), "lookahead_reset": True},
        {"accumulate": 2},
        {"maximize": True, "groups": {"W": {"lr": 0.1}}},
        {"lr": fastopt.schedules.Cosine(0.1, 4)},
    ],
    ids=lambda options: "-".join(options),
)
@pytest.mark.parametrize("name", NAMES)
def test_options_have_the_references_bits(name, options):
    given = {key: value for key, value in options.items() if key != "groups"}
    twin = Reference(reference.Adam, state_dtype=name, **given)
    twin.groups = options.get("groups")
    assert_same(run(fastopt.Adam(state_dtype=name, **options)), run(twin))


@pytest.mark.parametrize("name", NAMES)
def test_plain_numpy_packing_and_threads_change_no_bit(name, monkeypatch):
    rng = np.random.default_rng(5)
    start = {"W": rng.standard_normal((300, 301)).astype(np.float32), "b": np.zeros(50, np.float32)}
    steps = [
        {key: rng.standard_normal(p.shape).astype(np.float32) for key, p in start.items()} for _ in range(3)
    ]

    def after(optimizer, is_packed=False):
        params = {key: p.copy() for key, p in start.items()}
        params = fastopt.pack(params) if is_packed else params
        for grads in steps:
            optimizer.update(params, fastopt.pack(grads) if is_packed else grads)
        return {key: np.array(p) for key, p in params.items()} | {
            "m": optimizer.m["W"],
            "v": optimizer.v["W"],
        }

    expected = after(fastopt.Adam(state_dtype=name))
    assert_same(after(fastopt.Adam(state_dtype=name), True), expected)
    monkeypatch.setattr(fastopt.Adam, "min_parallel_size", 1)
    assert_same(after(fastopt.Adam(state_dtype=name, threads=2)), expected)
    monkeypatch.setenv("FASTOPT_COMPILE", "never")
    plain = fastopt.Adam(state_dtype=name)
    assert_same(after(plain), expected)
    assert not plain.compiled


@pytest.mark.parametrize("name", NAMES)
def test_resumed_copied_and_pickled_optimizers_go_on_with_the_same_bits(name, tmp_path):
    rng = np.random.default_rng(0)
    params = arrays(rng)
    optimizer = fastopt.Adam(state_dtype=name, state_seed=2)
    optimizer.update(params, grads_of(rng, params))
    optimizer.save(tmp_path / "a.npz", params)
    optimizer.save(tmp_path / "a.safetensors", params)
    loaded = fastopt.Adam(state_dtype=name)
    loaded.load(tmp_path / "a.npz")
    other = fastopt.Adam(state_dtype=name)
    other.load(tmp_path / "a.safetensors")
    copies = [loaded, other, deepcopy(optimizer), pickle.loads(pickle.dumps(optimizer))]
    grads = grads_of(rng, params)
    starts = [deepcopy(params) for _ in copies]
    optimizer.update(params, grads)
    for copy, own in zip(copies, starts, strict=True):
        copy.update(own, grads)
        assert_same(own, params)
        assert_same(copy.v, optimizer.v)


@pytest.mark.parametrize(("saved", "wanted"), [*pairwise([*NAMES, None, *NAMES]), ("int8", None)])
def test_a_checkpoint_is_rounded_once_into_another_format(saved, wanted, tmp_path):
    optimizer = fastopt.Adam(state_dtype=saved)
    run(optimizer)
    optimizer.save(tmp_path / "a.npz")
    other = fastopt.Adam(state_dtype=wanted)
    other.load(tmp_path / "a.npz")
    for name, is_root in (("m", False), ("v", True)):
        values = getattr(optimizer, name)
        for key in ("W", "F"):
            flat = np.asarray(values[key], np.float32).reshape(-1, order="F" if key == "F" else "C")
            if wanted is not None:
                known = codec(wanted, is_root)
                with np.errstate(all="ignore"):
                    flat = known.decode_array(*known.encode_array(flat, NEAREST, FORMATS[wanted]))
            found = getattr(other, name)[key].reshape(-1, order="F" if key == "F" else "C")
            np.testing.assert_array_equal(found, flat)
        np.testing.assert_array_equal(getattr(other, name)["b"], values["b"])
    assert other.state_dtype == wanted


@pytest.mark.parametrize("name", NAMES)
def test_a_late_parameter_and_a_dropped_one(name):
    rng = np.random.default_rng(1)
    params = arrays(rng)
    optimizer = fastopt.Adam(state_dtype=name)
    optimizer.update(params, grads_of(rng, params))
    before = {key: value.copy() for key, value in optimizer.m.items()}
    params["late"] = rng.standard_normal(5000).astype(np.float32)
    optimizer.update(params, {key: np.zeros_like(p) for key, p in params.items()})
    assert optimizer.m["late"].shape == (5000,)
    assert np.abs(optimizer.m["W"] - np.float32(0.9) * before["W"]).max() < 0.1 * np.abs(before["W"]).max()
    now = {key: value.copy() for key, value in optimizer.m.items()}
    optimizer.drop_state("late")
    assert_same({key: value for key, value in now.items() if key != "late"}, optimizer.m)


# The formats.


def all_values(name, is_root, scale):
    """Return all codes of a format and their values, given one scale."""
    count = 256 if name == "int8" else 65536
    codes = np.arange(count).astype(FORMATS[name].code)
    scales = np.full(-(-count // BLOCK), scale, np.uint16)
    with np.errstate(all="ignore"):
        return codes, codec(name, is_root).decode_array(
            codes, scales if FORMATS[name].has_scales else scales[:0]
        )


@pytest.mark.parametrize("is_root", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_the_nearest_code_is_that_which_a_search_finds(name, is_root):
    rng = np.random.default_rng(4)
    x = rng.standard_normal(BLOCK).astype(np.float32) * np.float32(10) ** rng.integers(-3, 1, BLOCK)
    x = np.abs(x).astype(np.float32) if is_root else x.astype(np.float32)
    known = codec(name, is_root)
    codes, scales = known.encode_array(x, NEAREST, FORMATS[name])
    _, values = all_values(name, is_root, scales[0] if scales.size else 0)
    values = values[np.isfinite(values)]
    if name == "float16" and is_root:  # smaller ones aren't used
        values = values[values > 0]
    n_roots = (name != "bfloat16" and is_root) + (name == "int8")

    def place(y):
        """Return where a number is between the codes: its root, as the formats take it."""
        bits = np.abs(y).astype(np.float32).view(np.uint32).astype(np.int64)
        one = 0x3F800000
        size = ((bits >> n_roots) + one - (one >> n_roots)).astype(np.uint32).view(np.float32)
        return np.where(y < 0, -1, 1) * size.astype(np.float64)

    found = place(known.decode_array(codes, scales))
    distances = np.abs(place(values)[None, :] - place(x)[:, None])
    nearest = np.abs(found - place(x))
    assert (nearest <= distances.min(axis=1) * (1 + 1e-3) + 1e-7 * np.abs(place(x))).all()


@pytest.mark.parametrize("is_root", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_the_mean_of_many_roundings_is_the_number(name, is_root):
    x = np.geomspace(1e-3, 1, 100, dtype=np.float32)
    total, count = np.zeros(100), 100_000 // 100
    known = codec(name, is_root)
    for step in range(count):
        random = random_bits(100, random_key(0, step), 0)
        total += known.decode_array(*known.encode_array(x, random, FORMATS[name]))
    # The mean code is right, and a root's square is a little larger; then come four standard errors.
    steps = {"bfloat16": 2**-7, "float16": 2**-10 * (1 + is_root), "int8": None}[name]
    if steps is None:
        size = x ** (1 / (2 * (1 + is_root)))
        steps = 2 * (1 + is_root) / (255 if is_root else 127) / size * 1.2
    assert (np.abs(total / count / x - 1) < 4 * steps / np.sqrt(count) + steps**2).all()
    assert abs((total / count / x - 1).mean()) < np.mean(4 * steps / np.sqrt(100_000) + steps**2)


@pytest.mark.parametrize("name", NAMES)
def test_a_second_moment_decays(name):
    # Rounded to the nearest it would stay 1 in bfloat16.
    params = {"W": np.ones(8192, np.float32)}
    optimizer = fastopt.Adam(state_dtype=name)
    optimizer.update(params, {"W": np.full(8192, 1000**0.5, np.float32)})
    for _ in range(2000):
        optimizer.update(params, {"W": np.zeros(8192, np.float32)})
    assert optimizer.v["W"].mean() == pytest.approx(0.999**2000, rel=0.03)
    own = codec("bfloat16", True)
    v = np.ones(1, np.float32)
    for _ in range(100):
        v = own.decode_array(*own.encode_array(v * np.float32(0.999), NEAREST, FORMATS["bfloat16"]))
    assert v == 1


@pytest.mark.parametrize("name", ["float16", "int8"])
def test_no_root_becomes_0_beside_larger_ones(name):
    x = np.zeros(BLOCK, np.float32)
    x[7] = 1
    known = codec(name, True)
    assert known.decode_array(*known.encode_array(x, NEAREST, FORMATS[name])).min() > 0
    zeros = np.zeros(BLOCK, np.float32)
    with np.errstate(all="ignore"):
        assert not known.decode_array(*known.encode_array(zeros, NEAREST, FORMATS[name])).any()


@pytest.mark.parametrize("is_root", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_a_block_just_below_a_power_of_2_has_the_references_numbers(name, is_root):
    known = codec(name, is_root)
    for exponent in (-112, -40, -1, 0, 1, 60):
        top = np.nextafter(np.float32(2.0**exponent), np.float32(0))
        x = top * np.geomspace(2.0**-62, 1, BLOCK, dtype=np.float32)
        with np.errstate(all="ignore"):
            found = known.decode_array(*known.encode_array(x, NEAREST, FORMATS[name]))
            expected = rounded(x, name, is_root, NEAREST)
        np.testing.assert_array_equal(found, expected, err_msg=str(exponent))


@pytest.mark.parametrize("is_root", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_what_isnt_finite_stays_so(name, is_root):
    x = np.ones(2 * BLOCK, np.float32)
    x[3], x[5] = np.nan, np.inf
    x[4] = np.uint32(0x7FFFFFFF).view(np.float32)  # a NaN that a sum of bits would make -0
    known = codec(name, is_root)
    with np.errstate(all="ignore"):
        found = known.decode_array(*known.encode_array(x, np.uint32(0xFFFF), FORMATS[name]))
    assert np.isnan(found[3:5]).all()
    assert not np.isfinite(found[5])
    assert np.isfinite(found[BLOCK:]).all()


def test_random_bits_are_uniform_and_independent():
    bits = np.array(
        [random_bits(4096, random_key(0, step), state) for step in range(8) for state in range(4)]
    )
    x = bits / 65536 - 0.5
    assert abs(x.mean()) < 4 / np.sqrt(12 * x.size)
    assert abs(x.var() * 12 - 1) < 0.02
    correlations = np.corrcoef(x) - np.eye(len(x))
    assert np.abs(correlations).max() < 5 / np.sqrt(4096)
    along = [np.corrcoef(row[:-lag], row[lag:])[0, 1] for row in x for lag in (1, 2, 16, 256)]
    assert np.abs(along).max() < 5 / np.sqrt(4096)


# What a user sees.


@pytest.mark.parametrize(("name", "most"), [("bfloat16", 4.0), ("float16", 4.02), ("int8", 2.13)])
def test_bytes_of_state(name, most):
    params = {"W": np.zeros(1_000_000, np.float32)}
    optimizer = fastopt.Adam(state_dtype=name)
    optimizer.update(params, params)
    states = optimizer.engine.memory.apart["W"]
    assert all(isinstance(state, QuantizedArray) for state in states)
    assert sum(state.data.nbytes for state in states) / 1e6 <= most + 1e-3
    assert not optimizer.engine.memory.buffers
    assert {state.data.dtype.name for state in states} == {"uint8" if name == "int8" else "uint16"}


def test_states_are_read_only_copies():
    optimizer = fastopt.Adam(state_dtype="int8")
    run(optimizer)
    with pytest.raises(ValueError, match="read-only"):
        optimizer.m["W"][0, 0] = 1
    optimizer.m["b"][0] = 1
    assert optimizer.m["b"][0] == 1


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: fastopt.Adam(state_dtype="fp8"),
            "state_dtype must be None, 'bfloat16', 'float16' or 'int8'",
        ),
        (lambda: fastopt.Adam(state_seed=1), "give state_dtype, too"),
        (lambda: fastopt.Adam(state_dtype="int8", state_seed=2**64), r"state_seed must be below 2\*\*64"),
        (lambda: fastopt.Adam(state_dtype="int8", state_seed=-1), "state_seed must be at least 0"),
        (lambda: fastopt.LAMB(state_dtype="int8"), "LAMB needs whole arrays"),
        (lambda: fastopt.SGD(state_dtype="int8"), "SGD has no state that may be rounded"),
        (lambda: fastopt.FTRL(state_dtype="int8"), "FTRL has no state that may be rounded"),
    ],
)
def test_what_cant_be_had_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_it_cant_change_after_the_first_step():
    optimizer = fastopt.Adam()
    optimizer.state_dtype = "int8"
    run(optimizer, steps=1)
    with pytest.raises(ValueError, match="state_dtype can't change after the first step"):
        optimizer.state_dtype = None


def test_rows_are_refused():
    rows = fastopt.Rows([0, 1], np.ones((2, 50), np.float32))
    with pytest.raises(
        ValueError, match="the gradient of 'E' is of rows, but state_dtype='int8' needs whole"
    ):
        fastopt.AdaGrad(state_dtype="int8").update({"E": np.zeros((100, 50), np.float32)}, {"E": rows})


def test_a_rule_of_ones_own():
    optimizer = Own(state_dtype="int8")
    rng = np.random.default_rng(0)
    params, twin = {"W": np.ones(5000, np.float32)}, np.ones(5000, np.float32)
    u = np.zeros(5000, np.float32)
    for step in range(1, 4):
        g = rng.standard_normal(5000).astype(np.float32)
        optimizer.update(params, {"W": g})
        u = np.float32(0.9) * u + g
        twin = twin - np.float32(0.01) * u
        known = codec("int8", False)
        u = known.decode_array(
            *known.encode_array(u, random_bits(5000, random_key(0, step), 0), FORMATS["int8"])
        )
    np.testing.assert_array_equal(params["W"], twin)


@fastopt.kernel
def own_kernel(param, grad, u, grad_scale, l2, keep, momentum, lr):
    for i in range(param.size):
        u[i] = momentum * u[i] + grad_scale * grad[i]
        param[i] = param[i] - lr * u[i]


@dataclass(eq=False)
class Own(fastopt.Optimizer):
    kernel = own_kernel
    lr: float = fastopt.hyperparameter(0.01)
    u = fastopt.State(quantized="values")

    def scalars(self, t):
        return (0.9, self.lr)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"W": ("fp4", "float32", (70, 61), "C")}, "its quantized is"),
        ({"W": ("int8", "float32", (2**40, 61), "C")}, "its m of 'W' isn't int8 of shape"),
        ({"W": ("int8", "float32", (70, -61), "C")}, "its shapes are"),
        ({"W": ("int8", "float32", (70, 60), "C")}, "its m of 'W' isn't int8 of shape"),
        ({"Z": ("int8", "float32", (70, 61), "C")}, "its quantized has 'Z', of which it has no states"),
        ({"W": ("int8", "float32", (2**61, 0), "C")}, "its shapes are"),
        ({"W": ("int8", "float32", (1,) * 65, "C")}, "its shapes are"),
        ({"W": ("int8", "float32", (0, 61), "C")}, "its quantized has 'W', which has no elements"),
        ({"W": 3}, "its quantized is"),
        ({}, "its m of 'W' is no array of float32 or float64"),
        ([1], "its quantized is"),
    ],
)
def test_what_is_told_of_codes_must_be_right(change, message):
    optimizer, other = fastopt.Adam(state_dtype="int8"), fastopt.Adam(state_dtype="int8")
    run(optimizer, steps=1)
    state = optimizer.state_dict()
    wrong = {**state["quantized"], **change} if change and isinstance(change, dict) else change
    with pytest.raises(ValueError, match=message.replace("[", r"\[")):
        other.load_state_dict({**state, "quantized": wrong})
    assert other.iter == 0
    other.load_state_dict(state)


def test_a_rule_without_such_states_has_no_codes():
    optimizer = fastopt.Muon()
    optimizer.update({"W": np.ones((70, 61))}, {"W": np.ones((70, 61))})
    told = {"W": ("int8", "float64", (70, 61), "F")}
    with pytest.raises(ValueError, match="its quantized is"):
        fastopt.Muon().load_state_dict({**optimizer.state_dict(), "quantized": told})


def test_what_a_loaded_optimizer_shows_can_be_evaluated():
    saved = fastopt.Adam(state_dtype="int8", state_seed=5)
    run(saved, steps=1)
    loaded = fastopt.Adam()
    loaded.load_state_dict(saved.state_dict())
    assert "state_seed=5" in repr(saved)
    assert repr(loaded).startswith(repr(eval(repr(loaded), vars(fastopt))))


def test_arrays_are_coded_and_decoded_in_pieces(monkeypatch):
    """The same codes as at once, also where the last piece has one element."""
    rng = np.random.default_rng(0)
    values = rng.standard_normal(3 * 64 * 256 + 1) * 10.0 ** rng.integers(-30, 30, 49_153)
    values = values.astype(np.float32)
    random = random_bits(values.size, random_key(0, 1), 0)
    for (name, known), is_root in itertools.product(FORMATS.items(), (False, True)):
        one, given = codec(name, is_root), np.abs(values) if is_root else values
        codes, scales = one.encode_array(given, random, known)
        decoded = one.decode_array(codes, scales)
        for start in range(0, values.size, 256):
            block = slice(start, start + 256)
            own_codes, own_scales = one.encode_array(given[block], random[block], known)
            np.testing.assert_array_equal(codes[block], own_codes)
            np.testing.assert_array_equal(scales[start // 256 : start // 256 + 1], own_scales)
            np.testing.assert_array_equal(decoded[block], one.decode_array(own_codes, own_scales))
