"""Properties: whatever comes in whatever order, the bits are the reference's."""

import copy
import pickle
import tempfile
import warnings
from pathlib import Path

import numpy as np
import pytest
from cases import RULES, both, snapshot, state_bytes, takes
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

import fastopt
from fastopt import pack, reference
from fastopt.reference.options import Optimizer

quick = settings(deadline=None, max_examples=25, suppress_health_check=list(HealthCheck), derandomize=True)

LAYOUTS = {
    "C": lambda a: a.copy(),
    "F": lambda a: np.array(a, order="F"),
    "strided": lambda a: np.repeat(a[..., None], 2, -1)[..., 0],
    "reversed": lambda a: a[::-1].copy()[::-1] if a.ndim else a.copy(),
    "swapped": lambda a: a.astype(a.dtype.newbyteorder()),
    "read-only": lambda a: np.broadcast_to(a, a.shape),
}
ARRAYS = st.tuples(
    st.lists(st.integers(0, 5), max_size=3).map(tuple),
    st.sampled_from(["float32", "float64"]),
    st.sampled_from([name for name in LAYOUTS if name != "read-only"]),
    st.sampled_from(list(LAYOUTS)),
    st.sampled_from(["float16", "float32", "float64", "int8", "own"]),
)


@pytest.mark.parametrize("name", ["SGD", "Adam", "Adan", "ScheduleFreeSGD", "FTRL"])
@quick
@given(
    arrays=st.lists(ARRAYS, max_size=6),
    seed=st.integers(0, 99),
    again=st.integers(0, 3),
    as_dict=st.booleans(),
)
def test_same_bits_as_reference_whatever_the_arrays(name, arrays, seed, again, as_dict):
    rng = np.random.default_rng(seed)
    start = [np.asarray(rng.standard_normal(shape)).astype(dtype) for shape, dtype, *_ in arrays]
    ours = [LAYOUTS[a[2]](p) for p, a in zip(start, arrays, strict=True)]
    refs = [p.copy() for p in start]
    # some arrays a second time, and views that overlap
    ours += ours[:again] + [p[1:] for p in ours[:again] if p.ndim]
    refs += refs[:again] + [p[1:] for p in refs[:again] if p.ndim]
    kinds = [a[3:] for a in arrays] + [("C", "own")] * (len(ours) - len(arrays))
    ref, comp = both(name)
    for _ in range(3):
        grads = [
            np.asarray(3 * rng.standard_normal(p.shape)).astype(p.dtype if kind == "own" else kind)
            for p, (_, kind) in zip(refs, kinds, strict=True)
        ]
        given_grads = [LAYOUTS[layout](g) for g, (layout, _) in zip(grads, kinds, strict=True)]
        ref.update(refs, grads)
        if as_dict:
            comp.update(dict(enumerate(ours)), dict(enumerate(given_grads)))
        else:
            comp.update(ours, given_grads)
    assert [np.asarray(p, p.dtype.newbyteorder("=")).tobytes() for p in ours] == snapshot(refs)
    for state in type(comp).states:
        assert snapshot(getattr(comp, state)) == snapshot(getattr(ref, state))


class Training(RuleBasedStateMachine):
    """A training in which everything happens, beside the reference, in which nothing but steps do."""

    @initialize(
        name=st.sampled_from(RULES), packed=st.booleans(), dtype=st.sampled_from(["f4", "f8", "mixed"])
    )
    def begin(self, name, packed, dtype):
        self.rng = np.random.default_rng(0)
        dtypes = ["f4", "f8"] if dtype == "mixed" else [dtype] * 2
        bias = (3,) if takes(name, (3,)) else (1, 3)
        self.refs = {"W": np.ones((4, 3), dtypes[0]), "b": np.zeros(bias, dtypes[1])}
        self.params = pack(self.refs) if packed else copy.deepcopy(self.refs)
        self.ref, self.opt = Optimizer(getattr(reference, name)), getattr(fastopt, name)()
        self.name = name

    def grads(self):
        return {key: self.rng.standard_normal(p.shape).astype(p.dtype) for key, p in self.refs.items()}

    @rule(layout=st.sampled_from(list(LAYOUTS)), turned=st.booleans())
    def step(self, layout, turned):
        grads = self.grads()
        self.ref.update(self.refs, grads)
        grads = {key: LAYOUTS[layout](grad) for key, grad in grads.items()}
        assert self.opt.update(self.params, dict(reversed(grads.items())) if turned else grads)

    @rule(key=st.sampled_from(["W", "b"]), layout=st.sampled_from(list(LAYOUTS)))
    def step_of_one(self, key, layout):
        grad = self.grads()[key]
        self.ref.update({key: self.refs[key]}, {key: grad})
        assert self.opt.update({key: self.params[key]}, {key: LAYOUTS[layout](grad)})

    @rule(key=st.sampled_from(["W", "b"]), how=st.sampled_from(["missing", "None", "shape", "dtype", "NaN"]))
    def bad_step(self, key, how):
        grads = self.grads()
        if how == "missing":
            del grads[key]
        else:
            grads[key] = {
                "None": None,
                "shape": np.ones((1, 1)),
                "dtype": grads[key].astype(complex),
                "NaN": grads[key] * np.nan,
            }[how]
        self.opt.nonfinite = "raise"
        with pytest.raises((KeyError, TypeError, ValueError, FloatingPointError), match=key):
            self.opt.update(self.params, grads)
        self.opt.nonfinite = "warn"

    @rule()
    def rebind(self):
        self.params = copy.deepcopy(self.params)

    @rule()
    def pack_or_unpack(self):
        packed = isinstance(self.params, dict) and type(self.params) is not dict
        self.params = {key: p.copy() for key, p in self.params.items()} if packed else pack(self.params)

    @rule(how=st.sampled_from(["pickle", "deepcopy", "state_dict"]))
    def replace(self, how):
        if how == "state_dict":
            new = getattr(fastopt, self.name)(0.5)
            new.load_state_dict(self.opt.state_dict())
        else:
            new = copy.deepcopy(self.opt) if how == "deepcopy" else pickle.loads(pickle.dumps(self.opt))
        self.opt = new

    @rule(suffix=st.sampled_from(["npz", "safetensors"]), with_params=st.booleans(), fresh=st.booleans())
    def save_and_load(self, suffix, with_params, fresh):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, f"a.{suffix}")
            self.opt.save(path, self.params if with_params else None)
            if with_params:
                for p in self.params.values():
                    p[...] = 7
            if fresh:
                self.opt = getattr(fastopt, self.name)(0.5)
            self.opt.load(path, self.params if with_params else None)

    @rule(lr=st.floats(0.001, 1))
    def change_lr(self, lr):
        self.ref.lr = self.opt.lr = lr

    @rule(key=st.sampled_from(["W", "b"]))
    def drop_state(self, key):
        if key not in self.opt.engine.memory.layout:  # no step yet, or loaded into a rule without state
            with pytest.raises(KeyError, match=key):
                self.opt.drop_state(key)
            return
        self.opt.drop_state(key)
        del self.ref.rules[key]

    @invariant()
    def same_bits(self):
        assert [self.params[key].tobytes() for key in self.refs] == snapshot(self.refs)
        for state in type(self.opt).states:
            ours = getattr(self.opt, state) or {}
            assert set(ours) == set(self.ref.rules)
            for key, own in self.ref.rules.items():
                assert ours[key].tobytes() == getattr(own, state)[key].tobytes()


TestTraining = Training.TestCase
TestTraining.settings = settings(quick, max_examples=40, stateful_step_count=25)


def test_row_29_the_state_of_copies_is_their_own():
    opt = fastopt.Adam()
    opt.update([np.ones(3)], [np.ones(3)])
    before = state_bytes(opt)
    for twin in (copy.deepcopy(opt), pickle.loads(pickle.dumps(opt))):
        with warnings.catch_warnings(action="error"):
            twin.update([np.ones(3)], [np.ones(3)])
    assert state_bytes(opt) == before
