"""Random histories: ``python -m pytest -m fuzz -n0 -s``, for FASTOPT_FUZZ_SECONDS, from FASTOPT_FUZZ_SEED.

An optimizer, or several as one, with random options takes steps on arrays of all layouts, in threads,
interrupted by signals, compiled or in NumPy; it is saved, loaded, pickled, copied, forgets parameters, gets
other options, and is given bad input. Another one takes the same steps on plain contiguous arrays. Both must
have the same bits at any time, and what is refused must have changed nothing. A history that fails says its
seed; one that ends the process is the last in the file ``seeds`` of the test's folder. With FASTOPT_CHECKED=1
compiled code checks each address.
"""

import copy
import math
import os
import pickle
import random
import signal
import subprocess
import sys
import threading
import time
import warnings
from functools import partial
from unittest.mock import patch

import numpy as np
import pytest
from cases import RULES, same_bits, takes

import fastopt
from fastopt.engine import memory
from fastopt.schedules import Cosine, Exponential, Linear, Warmup

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


def same_numbers(one, other):
    """Whether two arrays have the same bits, but for the sign and the payload of NaN, which nothing fixes."""
    one, other = np.array(one), np.array(other)
    is_nan = one != one
    if one.shape != other.shape or (is_nan != (other != other)).any():
        return False
    one[is_nan] = other[is_nan] = 0
    return same_bits(one, other)


def same_state(one, other):
    """Whether two state dicts have the same numbers, those of members and sums included."""
    for name in ("iter", "skipped", "counts"):
        if one.get(name) != other.get(name):
            return False
    arrays = [[*map(numbers_of, own["state"].values())] for own in (one, other)]
    if any(map(len, arrays[0])) and [*map(len, arrays[0])] != [*map(len, arrays[1])]:
        return False
    if any(not all(map(same_numbers, *pair)) for pair in zip(*arrays, strict=True)):
        return False
    inner = [own.get("inner", {}) for own in (one, other)]
    return all(same_state(inner[0][name], inner[1][name]) for name in inner[0])


def numbers_of(values):
    """Return the arrays of one state in a state dict, by their keys."""
    return [values[key] for key in sorted(values)] if isinstance(values, dict) else values or []


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
        self.mode = choose.choice(["now", "now", "never"])
        self.names = [choose.choice(RULES) for _ in range(choose.choice([1, 1, 1, 2]))]
        shapes = [shape for shape in SHAPES if all(takes(name, shape) for name in self.names)]
        self.dtypes = [choose.choice(["float32", "float64"]) for _ in range(choose.randint(1, 4))]
        start = [self.rng.standard_normal(choose.choice(shapes)).astype(dtype) for dtype in self.dtypes]
        self.container = choose.choice(["dict", "list", "packed"])
        self.chosen = self.options()
        self.plain, self.other = self.make(), self.make(threads=choose.choice([None, 1, 2]))
        self.plain_kind = "list" if self.container == "list" else "dict"
        self.plain_params = self.contain([np.array(p) for p in start], self.plain_kind)
        self.params = self.contain([self.layout(p) for p in start], self.container)
        self.log = [self.names, self.chosen, self.container, self.mode]

    def options(self):
        """Return random options that go together."""
        choose, options = self.choose, {}
        some = {
            "clip_norm": choose.choice([1.0, Linear(1.0, 9, 0.2)]), "clip_value": 0.5,
            "clip_norm_each": 0.5, "clip_adaptive": 0.5,
            "maximize": True, "ema": 0.9, "lookahead": (2, 0.5), "accumulate": 2, "nonfinite": "skip",
            "weight_decay": choose.choice([0.1, Linear(0.1, 9, 0.3)]), "decay_params": "matrices",
            "groups": {"0": {"lr_scale": choose.choice([0.5, Linear(1.0, 9, 0.2)])}}, "swa": 2,
            "lr": choose.choice([0.01, Cosine(0.1, 9, end=0.001), Warmup(Exponential(0.1, 0.9), 3)]),
            "rows": "lazy", "denormals": "flush", "cautious": True, "clip_rms": 0.5, "skip_norm": 5.0,
            "state_dtype": choose.choice(["bfloat16", "float16", "int8"]),
        }  # fmt: skip
        # How some of them are meant, which has no effect without these.
        how = {
            "clip_norm": {"clip_norm_type": choose.choice([1, math.inf])},
            "lookahead": {"lookahead_reset": True},
            "ema": {"ema_every": 2, "ema_init": choose.choice(["first", "initial"]), "ema_overwrite": 3},
            "swa": {"swa_every": 2},
        }
        for name in choose.sample(sorted(some), choose.randint(0, 4)):
            options[name] = some[name]
            for further, value in how.get(name, {}).items():
                if choose.random() < 0.5:
                    options[further] = value
        if "ema" in options:
            options.pop("swa", None)
            options.pop("swa_every", None)
        if self.mode == "never":
            options.pop("denormals", None)
        if "groups" in options and self.container == "list":
            options["groups"] = {0: options["groups"]["0"]}
        while True:
            try:
                self.chosen = options
                self.make()
            except (TypeError, ValueError):  # these don't go together for this rule
                options.pop(choose.choice(sorted(options)))
            else:
                return options

    def make(self, **options):
        """Return a new optimizer: one, or two as one, of which the second has the array 0."""
        first, *others = [getattr(fastopt, name) for name in self.names]
        options = copy.deepcopy(self.chosen) | options
        if not others:
            return first(**options)
        members = "lr", "weight_decay", "decay_params", "cautious", "state_dtype"
        own = {name: options.pop(name) for name in members if name in options}
        zero = 0 if self.container == "list" else "0"
        return fastopt.Partition({zero: others[0](), lambda key, array: True: first(**own)}, **options)

    def update(self, grads):
        """Let the other optimizer take a step, by compiled code or in plain NumPy."""
        before, os.environ["FASTOPT_COMPILE"] = os.environ["FASTOPT_COMPILE"], self.mode
        try:
            return self.other.update(self.params, grads)
        finally:
            os.environ["FASTOPT_COMPILE"] = before

    def layout(self, array):
        # The order of the elements of a parameter decides on their random bits.
        ordered = {"F", "transposed"} if "state_dtype" in self.chosen else set()
        return LAYOUTS[self.choose.choice(sorted({*LAYOUTS} - ordered))](array)

    def contain(self, arrays, kind):
        if kind == "list":
            return arrays
        named = {str(i): array for i, array in enumerate(arrays)}
        return fastopt.pack(named) if kind == "packed" else named

    def arrays(self, container):
        return container if isinstance(container, list) else [container[key] for key in container]

    def items(self, container):
        return [*(enumerate(container) if isinstance(container, list) else container.items())]

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
        assert self.plain.update(self.plain_params, plain) == self.update(other)

    def sparse_step(self):
        """Give some rows of tables only."""
        plain, other = (dict(self.items(grads)) for grads in self.grads(are_finite=True))
        for key, grad in plain.items():
            if np.ndim(grad) == 2 and self.choose.random() < 0.7:
                indices = self.rng.integers(0, len(grad), self.choose.randint(0, 4))
                plain[key] = fastopt.Rows(indices, grad[indices])
                other[key] = fastopt.Rows(indices, self.layout(grad[indices]))
        outcomes = []
        for update, grads in ((partial(self.plain.update, self.plain_params), plain), (self.update, other)):
            try:
                outcomes.append(update(self.contain(list(grads.values()), self.plain_kind)))
            except (
                TypeError,
                ValueError,
            ) as error:  # of a rule, or with an option, that changes the other rows, too
                outcomes.append(str(error))
        assert outcomes[0] == outcomes[1]

    def steps_at_once(self):
        """Take two steps in two threads, while a third looks."""
        pairs, states = [self.grads(), self.grads()], []
        ready = threading.Barrier(3)

        def act(action):
            ready.wait()
            action()

        actions = [partial(self.other.update, self.params, other) for _, other in pairs]
        actions.append(lambda: states.append(self.other.state_dict()))
        threads = [threading.Thread(target=act, args=(action,)) for action in actions]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        before = self.plain.iter, self.plain.skipped
        grads = [plain for plain, _ in pairs]
        self.take_one_of([grads, grads[::-1]])
        assert before <= (states[0]["iter"], states[0]["skipped"])

    def forget(self):
        """Drop the state of a parameter, if it has one."""
        key = self.choose.choice([key for key, _ in self.items(self.params)])
        outcomes = []
        for optimizer in (self.plain, self.other):
            try:
                outcomes.append(optimizer.drop_state(key))
            except KeyError as error:  # which has the parameters in the order in which they came
                outcomes.append(type(error))
        assert outcomes[0] == outcomes[1]

    def another_option(self):
        """Change an option on the way, if that is allowed."""
        changes = {"clip_norm": [None, 0.5], "nonfinite": ["skip", "warn"], "maximize": [True, False],
                   "clip_value": [None, 0.25], "skip_norm": [None, 3.0], "clip_rms": [None, 0.25],
                   "weight_decay": [0.0, 0.1], "accumulate": [1, 3], "cautious": [False, True]}  # fmt: skip
        name = self.choose.choice(sorted(changes))
        value, outcomes = self.choose.choice(changes[name]), []
        for optimizer in (self.plain, self.other):
            try:
                outcomes.append(setattr(optimizer, name, value))
            except (AttributeError, TypeError, ValueError) as error:
                outcomes.append(str(error))
        assert outcomes[0] == outcomes[1]
        if outcomes[0] is None:
            self.log[-1] += f" {name}={value}"
            self.chosen[name] = value

    def interrupted_step(self):
        """Let a signal's handler take a step, or look around, at some moment of a step or after it."""
        plain, other = self.grads()
        inner_plain, inner = self.grads()
        has_stepped, action = [], self.choose.choice(["step", "look"])

        def handle():
            if action == "step":
                try:
                    self.update(inner)
                except RuntimeError as error:  # only steps that flush need compiled code
                    if "while the compiled code was made" in str(error) and "denormals" in self.chosen:
                        return
                    raise
                has_stepped.append(True)
            else:
                self.other.state_dict()

        taken = [plain]
        with Interrupting(handle, 10 ** self.choose.uniform(-6, -3.5)):
            try:
                self.update(other)
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
        # Sums write no parameter, nor does a step that is left out.
        is_writing = self.other.accumulate == 1 and self.other.skip_norm is None
        kind = self.choose.choice(kinds[: 6 if is_writing else 5])
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
                self.update(grads)
        finally:
            if frozen is not None:
                frozen.flags.writeable = True
        assert all(same_bits(p, q) for p, q in zip(before, self.arrays(self.params), strict=True))
        assert pickle.dumps(self.other.state_dict()) == state

    def save_and_load(self):
        path = self.folder / f"a.{self.choose.choice(['npz', 'safetensors'])}"
        self.other.save(path, self.params)
        again = self.make()
        params = copy.deepcopy(self.params)
        for array in self.arrays(params):
            array[...] = 0
        again.load(path, params)
        self.other, self.params = again, params

    def pickled(self):
        if len(self.names) == 1:  # a partition's function isn't pickled
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
        for optimizer in (self.plain, self.other):
            members = optimizer.members.values() if len(self.names) > 1 else [optimizer]
            for member in members:
                member.lr = value

    def flushed(self):
        assert self.plain.flush(self.plain_params) == self.other.flush(self.params)

    def averaged(self):
        if len(self.names) > 1 or not self.other.has_average or not self.other.iter:
            return
        try:
            expected = self.plain.average(self.plain_params)
        except ValueError:
            return
        found = self.other.average(self.params)
        assert all(map(same_numbers, self.arrays(expected), self.arrays(found)))

    ACTIONS = (
        *[step] * 6, interrupted_step, interrupted_step, sparse_step, steps_at_once, bad_input, bad_input,
        save_and_load, pickled, copied, rebound, another_rate, another_option, forget, flushed, averaged,
    )  # fmt: skip

    def alike(self, plain, plain_params, other, params):
        """Whether parameters, states, sums of micro-batches and counts are the same."""
        if not all(map(same_numbers, self.arrays(plain_params), self.arrays(params))):
            return False
        return same_state(plain.state_dict(), other.state_dict())

    def run(self):
        for _ in range(N_STEPS):
            action = self.choose.choice(self.ACTIONS)
            self.log.append(action.__name__)
            action(self)
            assert self.alike(self.plain, self.plain_params, self.other, self.params)


def check(seed, folder):
    with open(folder / "seeds", "a") as seeds:
        print(seed, file=seeds)
    # Arrays of all sizes have states in fewer bytes, if any have.
    with warnings.catch_warnings(), patch.object(memory, "MIN_SIZE", 1):
        warnings.simplefilter("ignore", RuntimeWarning)
        history = History(seed, folder)
        try:
            history.run()
        except BaseException as error:
            error.add_note(f"FASTOPT_FUZZ_SEED={seed}: {history.log}")
            raise
    return N_STEPS


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


# What a broken table makes of a checked build: each line of Python changes one, then comes a step.
BROKEN = {
    "nothing": "",
    "a parameter that is too small": "segment._rows['param_high'] -= 8",
    "a gradient that is too small": "segment._rows['grad_high'] -= 8",
    "a state that is too small": "segment._pool[segment._rows['arrays_at'][0] + 1] -= 1",
    "a stride that is too large": "segment._pool[segment._rows['axes_at'][0] + 1] += 8",
    "a table of one row": "segment._rows['size'] = 3",
    "an index beyond an array": "optimizer, arrays = Beyond(), [[np.ones(6)], [np.ones(6)]]",
}
CHECKED = """
import sys, numpy as np, fastopt
from dataclasses import dataclass

@fastopt.kernel
def beyond(param, grad, grad_scale, l2, keep, lr):
    for i in range(param.size):
        param[i] = param[i] - lr * grad[i + 1]

@dataclass(eq=False)
class Beyond(fastopt.Optimizer):
    kernel = beyond
    lr: float = fastopt.hyperparameter(0.25)

    def scalars(self, t):
        return (self.lr,)

for make in (lambda: np.ones(6), lambda: np.ones((4, 6))[:, ::2], lambda: fastopt.Rows([1], np.ones((1, 3)))):
    grad = make()
    param = np.ones((4, 3)) if isinstance(grad, fastopt.Rows) else make()
    optimizer, arrays = fastopt.Momentum(rows="lazy"), [[param], [grad]]
    optimizer.update(*arrays)
    segment = optimizer.engine.plan.main
    exec(sys.argv[1])
    optimizer.update(*arrays)
"""


@pytest.mark.fuzz
@pytest.mark.parametrize("what", BROKEN)
def test_a_checked_build_notices(what):
    run = subprocess.run(
        [sys.executable, "-c", CHECKED, BROKEN[what]],
        env=os.environ | {"FASTOPT_CHECKED": "1"}, capture_output=True, text=True,
    )  # fmt: skip
    assert (run.returncode == 0) == (what == "nothing"), run.stderr
    assert "Traceback" not in run.stderr
