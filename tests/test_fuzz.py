"""Random histories: ``python -m pytest -m fuzz -n0 -s``, for FASTOPT_FUZZ_SECONDS, from FASTOPT_FUZZ_SEED.

An optimizer with random options takes steps on arrays of all layouts, in threads, interrupted by signals; it
is saved, loaded, pickled, copied, and given bad input. Another one takes the same steps on plain contiguous
arrays. Both must have the same bits at any time, and what is refused must have changed nothing. A history
that fails says its seed.
"""

import copy
import os
import pickle
import random
import signal
import sys
import time
import warnings

import numpy as np
import pytest
from cases import RULES, same_bits, takes

import fastopt
from fastopt.schedules import Cosine, Exponential, Warmup

SECONDS = float(os.environ.get("FASTOPT_FUZZ_SECONDS", "300"))
SEED = int(os.environ.get("FASTOPT_FUZZ_SEED", "0"))
N_STEPS = 12

SHAPES = [(5,), (3, 4), (4, 3), (1, 6), (2, 3, 2), (1,), (40, 30), (7, 1)]
LAYOUTS = {
    "C": np.array,
    "F": lambda a: np.asfortranarray(a),
    "strided": lambda a: np.repeat(a[..., None], 2, axis=-1)[..., 0],
    "reversed": lambda a: np.ascontiguousarray(a[::-1])[::-1],
    "transposed": lambda a: np.ascontiguousarray(a.T).T,
}


class Interrupting:
    """Sends a signal after a while, whose handler does something."""

    def __init__(self, action, delay):
        self.action, self.delay = action, delay

    def __enter__(self):
        self.before = signal.signal(signal.SIGALRM, lambda *_: self.action())
        signal.setitimer(signal.ITIMER_REAL, self.delay)

    def __exit__(self, *_):
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, self.before)


class History:
    """Two optimizers with the same history."""

    def __init__(self, seed, folder):
        self.choose, self.folder = random.Random(seed), folder
        self.rng = np.random.default_rng(seed)
        choose = self.choose
        self.name = choose.choice(RULES)
        shapes = [shape for shape in SHAPES if takes(self.name, shape)]
        self.dtypes = [choose.choice(["float32", "float64"]) for _ in range(choose.randint(1, 4))]
        start = [self.rng.standard_normal(choose.choice(shapes)).astype(dtype) for dtype in self.dtypes]
        self.container = choose.choice(["dict", "list", "packed"])
        options = self.options()
        self.plain = getattr(fastopt, self.name)(**options)
        self.other = getattr(fastopt, self.name)(**options, threads=choose.choice([None, 1, 2]))
        self.plain_kind = "list" if self.container == "list" else "dict"
        self.plain_params = self.contain([np.array(p) for p in start], self.plain_kind)
        self.params = self.contain([self.layout(p) for p in start], self.container)
        self.log = [self.name, options, self.container]

    def options(self):
        """Return random options that go together."""
        choose, options = self.choose, {}
        some = {
            "clip_norm": 1.0, "clip_value": 0.5, "clip_norm_each": 0.5, "clip_adaptive": 0.5,
            "maximize": True, "ema": 0.9, "lookahead": (2, 0.5), "accumulate": 2, "nonfinite": "skip",
            "weight_decay": 0.1, "decay_params": "matrices", "groups": {"0": {"lr_scale": 0.5}}, "swa": 2,
            "lr": choose.choice([0.01, Cosine(0.1, 9, end=0.001), Warmup(Exponential(0.1, 0.9), 3)]),
        }  # fmt: skip
        for name in choose.sample(sorted(some), choose.randint(0, 4)):
            options[name] = some[name]
        if "ema" in options:
            options.pop("swa", None)
        if "groups" in options and self.container == "list":
            options["groups"] = {0: {"lr_scale": 0.5}}
        while True:
            try:
                getattr(fastopt, self.name)(**options)
            except (TypeError, ValueError):  # these don't go together for this rule
                options.pop(choose.choice(sorted(options)))
            else:
                return options

    def layout(self, array):
        return LAYOUTS[self.choose.choice(sorted(LAYOUTS))](array)

    def contain(self, arrays, kind):
        if kind == "list":
            return arrays
        named = {str(i): array for i, array in enumerate(arrays)}
        return fastopt.pack(named) if kind == "packed" else named

    def arrays(self, container):
        return container if isinstance(container, list) else [container[key] for key in container]

    def grads(self, are_finite=False):
        """Return the same gradients twice: in contiguous arrays and in others."""
        plain = [
            self.rng.standard_normal(np.shape(p)).astype(np.asarray(p).dtype)
            for p in self.arrays(self.plain_params)
        ]
        if not are_finite and self.choose.random() < 0.1:
            plain[self.choose.randrange(len(plain))].flat[0] = self.choose.choice([np.nan, np.inf])
        if self.container == "packed" and self.choose.random() < 0.5:
            packed = self.params.like()
            packed.update({str(i): grad for i, grad in enumerate(plain)})
            return self.contain(plain, "dict"), packed
        other = [self.layout(grad) for grad in plain]
        return self.contain(plain, self.plain_kind), self.contain(other, self.plain_kind)

    def step(self):
        plain, other = self.grads()
        assert self.plain.update(self.plain_params, plain) == self.other.update(self.params, other)

    def interrupted_step(self):
        """Let a signal's handler take a step, or look around, at some moment of a step or after it."""
        plain, other = self.grads()
        inner_plain, inner = self.grads()
        has_stepped, action = [], self.choose.choice(["step", "look"])

        def handle():
            if action == "step":
                self.other.update(self.params, inner)
                has_stepped.append(True)
            else:
                self.other.state_dict()

        taken = [plain]
        with Interrupting(handle, 10 ** self.choose.uniform(-6, -3.5)):
            try:
                self.other.update(self.params, other)
            except RuntimeError as error:
                if "must not change" not in str(error):
                    raise
                taken = []
        self.take_one_of([[inner_plain, *taken], [*taken, inner_plain]] if has_stepped else [taken])

    def take_one_of(self, orders):
        """Take steps in the order in which the other optimizer has taken them, which its bits tell."""
        for grads in orders:
            optimizer, params = copy.deepcopy((self.plain, self.plain_params))
            for grad in grads:
                optimizer.update(params, grad)
            if self.alike(optimizer, params, self.other, self.params):
                self.plain, self.plain_params = optimizer, params
                return
        raise AssertionError("no order of the steps has these bits")

    def bad_input(self):
        """Give something that is refused, which must leave all as it was."""
        before, state = [np.array(p) for p in self.arrays(self.params)], pickle.dumps(self.other.state_dict())
        _, grads = self.grads(are_finite=True)
        grads = self.contain(self.arrays(grads), self.plain_kind)
        key = self.choose.choice([*grads] if isinstance(grads, dict) else range(len(grads)))
        kinds = ["missing", "shape", "none", "complex", "text", "read-only"]
        kind = self.choose.choice(kinds[: 5 if self.other.accumulate > 1 else 6])  # sums write no parameter
        frozen = None
        if kind == "missing":
            grads = grads[:-1] if isinstance(grads, list) else {k: g for k, g in grads.items() if k != key}
        elif kind == "read-only":
            frozen = self.arrays(self.params)[0]
            frozen.flags.writeable = False
        else:
            grads[key] = {
                "shape": np.zeros(99), "none": None, "complex": grads[key] * 1j, "text": np.full(3, "a"),
            }[kind]  # fmt: skip
        try:
            with pytest.raises((KeyError, TypeError, ValueError)):
                self.other.update(self.params, grads)
        finally:
            if frozen is not None:
                frozen.flags.writeable = True
        assert all(same_bits(p, q) for p, q in zip(before, self.arrays(self.params), strict=True))
        assert pickle.dumps(self.other.state_dict()) == state

    def save_and_load(self):
        path = self.folder / f"a.{self.choose.choice(['npz', 'safetensors'])}"
        self.other.save(path, self.params)
        again = getattr(fastopt, self.name)(**self.log[1])
        params = copy.deepcopy(self.params)
        for array in self.arrays(params):
            array[...] = 0
        again.load(path, params)
        self.other, self.params = again, params

    def pickled(self):
        self.other = pickle.loads(pickle.dumps(self.other))

    def copied(self):
        self.other = copy.deepcopy(self.other)

    def rebound(self):
        """Put arrays of other layouts in the place of those that are there."""
        if self.container == "packed":
            return
        for key in [*self.params] if isinstance(self.params, dict) else range(len(self.params)):
            self.params[key] = self.layout(np.array(self.params[key]))

    def another_rate(self):
        value = self.choose.choice([0.01, 0.02, 0.5])
        self.plain.lr = self.other.lr = value

    def flushed(self):
        assert self.plain.flush(self.plain_params) == self.other.flush(self.params)

    def averaged(self):
        if not self.other.has_average or not self.other.iter:
            return
        try:
            expected = self.plain.average(self.plain_params)
        except ValueError:
            return
        found = self.other.average(self.params)
        assert all(map(same_bits, self.arrays(expected), self.arrays(found)))

    ACTIONS = (
        *[step] * 6, interrupted_step, interrupted_step, bad_input, bad_input, save_and_load, pickled, copied,
        rebound, another_rate, flushed, averaged,
    )  # fmt: skip

    def alike(self, plain, plain_params, other, params):
        """Whether parameters, states and counts are the same."""
        ends = [self.arrays(plain_params), self.arrays(params)]
        if not all(same_bits(np.array(p), np.array(q)) for p, q in zip(*ends, strict=True)):
            return False
        states = [optimizer.state_dict() for optimizer in (plain, other)]
        if (states[0]["iter"], states[0]["skipped"]) != (states[1]["iter"], states[1]["skipped"]):
            return False
        for name, values in states[0]["state"].items():
            pairs = [self.arrays(own["state"][name] or []) for own in states]
            if len(pairs[0]) != len(pairs[1]):
                return False
            if values and not all(same_bits(np.array(p), np.array(q)) for p, q in zip(*pairs, strict=True)):
                return False
        return True

    def run(self):
        for _ in range(N_STEPS):
            action = self.choose.choice(self.ACTIONS)
            self.log.append(action.__name__)
            action(self)
            assert self.alike(self.plain, self.plain_params, self.other, self.params)


def check(seed, folder):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        history = History(seed, folder)
        try:
            history.run()
        except BaseException as error:
            error.add_note(f"FASTOPT_FUZZ_SEED={seed}: {history.log}")
            raise
    return len(history.log)


needs_alarm = pytest.mark.skipif(sys.platform == "win32", reason="no such signal")


@needs_alarm
@pytest.mark.parametrize("seed", range(SEED, SEED + 6))
def test_some_histories(seed, tmp_path):
    pytest.importorskip("safetensors")
    check(seed, tmp_path)


@pytest.mark.fuzz
@needs_alarm
def test_histories_for_a_while(tmp_path):
    end, seed, n_actions = time.monotonic() + SECONDS, SEED, 0
    while time.monotonic() < end:
        n_actions += check(seed, tmp_path)
        seed += 1
    print(f"{seed - SEED} histories, {n_actions} actions in {SECONDS:.0f} s, from seed {SEED}")
