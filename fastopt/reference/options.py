"""The options of an optimizer in plain NumPy, around any rule of the reference: their specification.

Every parameter has its own history: an instance of the rule with its own count of steps, averages and
micro-batches. So a parameter that comes late, was frozen or takes turns with others is updated as by a new
optimizer of its own. Three things belong to the whole optimizer: schedules, which go by the number of
updates; the norm of all gradients; and what rules that find their learning rate have in common for all
parameters (Prodigy's r and d), with which a late one starts.

Gradients are rounded to their parameter's dtype first. Scalars are computed in float64 and rounded to that
dtype where they meet an array. Sums over arrays are taken in C order, whatever the memory layout.
"""

from fnmatch import fnmatchcase
from inspect import signature
from math import inf, sqrt
from typing import Any

import numpy as np

from fastopt.reference.adaptive import MADGRAD
from fastopt.reference.common import double, pairs, put, total
from fastopt.reference.learning_rate_free import FromAllArrays
from fastopt.reference.quantization import MIN_SIZE, NEAREST, first_states, random_bits, rounded
from fastopt.reference.schedule_free import ScheduleFreeSGD

__all__ = ["Optimizer"]


class Optimizer:
    """A rule of the reference with the options of `fastopt.Optimizer`, under the same names.

    Parameters
    ----------
    rule : type
        A class of `fastopt.reference`.
    lr : float or callable, optional
        The learning rate.
    **hyperparameters
        The rule's other arguments, and ``weight_decay`` and ``decoupled``. Each may be a schedule: a function
        of the number of the update, from 1; so may bounds of clipping, and what groups have.
    """

    def __init__(
        self,
        rule: Any,
        lr: Any = None,
        *,
        decay_max_lr: float | None = None,
        decay_params: str = "all",
        groups: dict[Any, dict[str, Any]] | None = None,
        maximize: bool = False,
        clip_value: float | None = None,
        clip_norm_each: float | None = None,
        clip_rms: float | None = None,
        clip_adaptive: float | None = None,
        clip_adaptive_eps: float = 1e-3,
        clip_norm: float | None = None,
        clip_norm_type: float = 2.0,
        lookahead: tuple[int, float] | None = None,
        lookahead_reset: bool = False,
        ema: float | None = None,
        ema_init: str = "corrected",
        ema_every: int = 1,
        ema_overwrite: int | None = None,
        swa: int | None = None,
        swa_every: int = 1,
        accumulate: int = 1,
        nonfinite: str = "warn",
        skip_norm: float | None = None,
        cautious: bool = False,
        state_dtype: str | None = None,
        state_seed: int = 0,
        **hyperparameters: Any,
    ) -> None:
        defaults = {name: argument.default for name, argument in signature(rule).parameters.items()}
        self.rule, self.decays_itself = rule, "weight_decay" in defaults
        self.hyperparameters = {"weight_decay": 0.0, **defaults, **hyperparameters}
        self.hyperparameters["decay_max_lr"] = decay_max_lr
        self.schedule = lr if callable(lr) else None
        self.lr = defaults["lr"] if lr is None else at(lr, 1)
        self.decay_params, self.groups, self.maximize = decay_params, groups, maximize
        self.clip_value, self.clip_norm_each, self.clip_adaptive = clip_value, clip_norm_each, clip_adaptive
        self.clip_rms, self.clip_adaptive_eps = clip_rms, clip_adaptive_eps
        self.clip_norm, self.clip_norm_type = clip_norm, clip_norm_type
        self.grad_norm: float | None = None
        self.lookahead_reset = lookahead_reset
        self.lookahead, self.ema, self.swa, self.swa_every = lookahead, ema, swa, swa_every
        self.ema_init, self.ema_every, self.ema_overwrite = ema_init, ema_every, ema_overwrite
        self.accumulate, self.nonfinite, self.cautious = accumulate, nonfinite, cautious
        self.skip_norm, self.state_dtype, self.state_seed = skip_norm, state_dtype, state_seed
        self.iter = self.skipped = 0
        # The history of each parameter.
        self.rules: dict[Any, Any] = {}
        self.counts: dict[Any, int] = {}
        self.sums: dict[Any, tuple[Any, int]] = {}
        self.slow: dict[Any, np.ndarray] = {}
        self.averages: dict[Any, np.ndarray] = {}

    @np.errstate(all="ignore")
    def update(self, params: Any, grads: Any) -> bool:
        """Take one step, or take in a micro-batch; return whether a step was taken."""
        batch = {key: np.array(g, order="C") for key, g in pairs(params, grads)}
        if self.nonfinite != "warn" and not all(np.isfinite(g * g).all() for g in batch.values()):
            if self.nonfinite == "raise":
                raise FloatingPointError("gradients and their squares must be finite")
            self.skipped += 1
            return False
        if self.skip_norm is not None:
            frozen = {key for key in batch if self.hyperparameters_of(key, params[key]).get("freeze")}
            norm = norm_of([g for key, g in batch.items() if key not in frozen], 2)
            if not norm <= self.skip_norm:
                self.skipped += 1
                return False
        g = self.add(batch)
        if batch and not g:
            return False
        chosen = {key: self.hyperparameters_of(key, params[key]) for key in g}
        keys = [key for key in g if not chosen[key].pop("freeze", False)]
        p = {key: np.array(params[key], g[key].dtype, order="C") for key in keys}
        clipped = {key: self.clip(g[key], p[key]) for key in keys}
        scale = -1.0 if self.maximize else 1.0
        grad_norm = None
        if self.clip_norm is not None:
            grad_norm = norm_of([*clipped.values()], self.clip_norm_type)
            scale *= rate(at(self.clip_norm, self.iter + 1), grad_norm)
        for key in keys:
            self.begin(key, p[key])
            g[key] = self.decayed(g[key].dtype.type(scale) * clipped[key], p[key], chosen[key])
            vars(self.rules[key]).update(chosen[key])
        before = {key: p[key].copy() for key in keys}
        quantized = [key for key in keys if self.state_dtype is not None and p[key].size >= MIN_SIZE]
        orders = {key: "F" if np.isfortran(np.asarray(params[key])) else "C" for key in quantized}
        for key in quantized:
            for name, state in first_states(self.rules[key], g[key]).items():
                if getattr(self.rules[key], name) is None:
                    setattr(self.rules[key], name, {key: state})
                    self.round_state(key, name, orders[key], NEAREST)
        self.apply_rules(p, g, keys)
        for key in quantized:
            names = self.rule.quantized.replace("√", "").split()
            for number, name in enumerate(names):
                random = random_bits(p[key].size, self.state_seed, self.counts[key] + 1, number)
                self.round_state(key, name, orders[key], random)
        for key in keys if self.cautious else ():
            p[key][...] = cautious_step(before[key], p[key], g[key])
        for key in keys:
            self.average(key, p[key])
            put(params, key, p[key])
        self.iter += 1
        self.lr, self.grad_norm = at(self.schedule or self.lr, self.iter), grad_norm
        return True

    def add(self, batch: dict[Any, np.ndarray]) -> dict[Any, np.ndarray]:
        """Add a micro-batch; return the means of those gradients that are the last of ``accumulate``."""
        for key, g in batch.items():
            so_far, n = self.sums.get(key, (-0.0, 0))
            self.sums[key] = so_far + g, n + 1
        full = [key for key in batch if self.sums[key][1] == self.accumulate]
        return {key: self.sums.pop(key)[0] / self.accumulate for key in full}

    def hyperparameters_of(self, key: Any, param: Any) -> dict[str, Any]:
        """Return a parameter's hyperparameters in this step; lr_scale multiplies also a group's own lr."""
        own = {**self.hyperparameters, "lr": self.schedule or self.lr}
        if self.decay_params == "matrices" and np.ndim(param) < 2:
            own["weight_decay"] = 0.0
        of_groups: dict[str, Any] = {}
        for selector, values in (self.groups or {}).items():
            if selects(selector, key, param):
                of_groups |= values  # later groups take precedence
        has_number = "lr" in of_groups and not callable(of_groups["lr"])
        if has_number and own["decay_max_lr"] is not None:
            own["decay_max_lr"] = of_groups["lr"]
        own = {name: at(value, self.iter + 1) for name, value in (own | of_groups).items()}
        scale = own.pop("lr_scale", 1.0)
        own["lr"] *= scale
        if own["decay_max_lr"] is not None:
            own["decay_max_lr"] *= scale
        return own

    def clip(self, g: np.ndarray, p: np.ndarray) -> np.ndarray:
        """Return the gradient clipped by element, then by array, then by unit."""
        bounds = (
            self.clip_value,
            self.clip_norm_each,
            self.clip_rms,
            self.clip_adaptive,
            self.clip_adaptive_eps,
        )
        value, each, rms_bound, adaptive, adaptive_eps = (at(bound, self.iter + 1) for bound in bounds)
        if value is not None:
            g = np.clip(g, -value, value)
        if each is not None or rms_bound is not None:
            norm, factor = sqrt(sum_of_squares(g)), 1.0
            if each is not None:
                factor = rate(each, norm)
            if rms_bound is not None and factor * norm > 0:
                rms = factor * norm / sqrt(g.size)
                factor *= min(rms_bound / rms, 1.0)
            g = g.dtype.type(factor) * g
        if adaptive is not None:
            most = adaptive * np.maximum(unit_norms(p), adaptive_eps)
            norms = unit_norms(g)
            g = np.where(norms > most, g * (most / np.maximum(norms, 1e-6)), g)
        return g

    def decayed(self, g: np.ndarray, p: np.ndarray, own: dict[str, Any]) -> np.ndarray:
        """Return g + weight_decay·p; or, with decoupled, shrink p; or leave weight_decay to the rule."""
        decay, decoupled = own.pop("weight_decay"), own.pop("decoupled", None)
        most = own.pop("decay_max_lr")
        # Adan's proximal decay isn't apart from its step.
        if self.decays_itself and (decoupled is None or (decoupled and own.get("proximal"))):
            own["weight_decay"] = decay
            return g
        own |= {"weight_decay": 0.0} if self.decays_itself else {}
        # z must decay as p does, so that these rules add weight_decay·p to their direction: g, here.
        if decoupled and self.rule not in (ScheduleFreeSGD, MADGRAD):
            if most is not None and own["lr"] > 0:
                decay = decay * (own["lr"] / most)
            p *= p.dtype.type(1 - own["lr"] * decay)
            return g
        return g + p.dtype.type(decay) * p if decay else g

    def begin(self, key: Any, p: np.ndarray) -> None:
        """Begin the history of a parameter that has none, or that of its rule after a synchronization."""
        if key in self.rules:
            t = self.counts[key]
            if self.lookahead is not None and self.lookahead_reset and t > 0 and t % self.lookahead[0] == 0:
                self.rules[key] = self.rule()
                if hasattr(self.rules[key], "p0"):
                    self.rules[key].p0 = {key: p.copy()}
            return
        rule = self.rule()
        first = next(iter(self.rules.values()), None)
        for name in getattr(rule, "shared", ()):
            values = getattr(first, name, None)
            if values is not None:
                now = next(iter(values.values())).item()
                setattr(rule, name, {key: np.full((1,) * p.ndim, now, p.dtype)})
        if hasattr(rule, "p0"):  # before any decay
            rule.p0 = {key: p.copy()}
        self.rules[key], self.counts[key] = rule, 0
        self.slow[key], self.averages[key] = p.copy(), p.copy()

    def apply_rules(self, p: dict[Any, np.ndarray], g: dict[Any, np.ndarray], keys: list[Any]) -> None:
        """Update each parameter by its rule."""
        rules = [(self.rules[key], {key: p[key]}, {key: g[key]}) for key in keys]
        if not issubclass(self.rule, FromAllArrays):
            for rule, param, grad in rules:
                rule.update(param, grad)
        elif rules:
            # The sums run over all arrays of the step; what they give is the same for all, absent ones too.
            sums = [rule.measure(param, grad) for rule, param, grad in rules]
            lr = max(rule.corrected_lr for rule, _, _ in rules)
            weights = [rule.corrected_lr / lr if lr else 0.0 for rule, _, _ in rules]
            totals = [0.0 for _ in sums[0]]
            for weight, (first, *others) in zip(weights, sums, strict=True):
                totals = [a + b for a, b in zip(totals, (weight * first, *others), strict=True)]
            for rule in self.rules.values():
                rule.estimate(lr, *totals)
            for rule, param, grad in rules:
                rule.move(param, grad)

    def round_state(self, key: Any, name: str, order: Any, random: Any) -> None:
        """Round a state of a large parameter, whose elements are numbered in this order."""
        states = getattr(self.rules[key], name)
        state = np.asarray(states[key])
        is_root = f"√{name}" in self.rule.quantized.split()
        new = rounded(state.reshape(-1, order=order), str(self.state_dtype), is_root, random)
        states[key] = new.reshape(state.shape, order=order)

    def average(self, key: Any, p: np.ndarray) -> None:
        """Update Lookahead's average, to which the parameter goes back, then that of ema or swa."""
        self.counts[key] += 1
        t = self.counts[key]
        if self.lookahead is not None and t % self.lookahead[0] == 0:
            follow(self.slow[key], p, self.lookahead[1])
            p[...] = self.slow[key]
        if self.ema is not None:
            self.average_exponentially(self.averages[key], p, t)
        if self.swa is not None:
            n = (t - self.swa) // self.swa_every
            if n <= 0:
                self.averages[key][...] = p
            elif (t - self.swa) % self.swa_every == 0:
                follow(self.averages[key], p, 1 / n)

    def average_exponentially(self, average: np.ndarray, p: np.ndarray, t: int) -> None:
        """Update the average of ema after step t, to which the parameter may go back."""
        assert self.ema is not None
        n = t // self.ema_every
        if n <= 1 and self.ema_init != "initial":
            if n == 0 or t == self.ema_every:
                average[...] = p
        elif t % self.ema_every == 0:
            is_corrected = self.ema_init == "corrected"
            follow(average, p, (1 - self.ema) / (1 - self.ema**n) if is_corrected else 1 - self.ema)
        if self.ema_overwrite is not None and t % self.ema_overwrite == 0:
            p[...] = average


def at(value: Any, t: int) -> Any:
    """Return a hyperparameter at update t: what its schedule gives, if it has one."""
    return value(t) if callable(value) else value


def selects(selector: Any, key: Any, param: Any) -> bool:
    """Whether a group has a parameter: by a function, by its key or index, or by a pattern of names."""
    if callable(selector):
        return bool(selector(key, param))
    is_pattern = isinstance(selector, str) and isinstance(key, str)
    return bool(selector == key or (is_pattern and fnmatchcase(key, selector)))


def cautious_step(before: np.ndarray, after: np.ndarray, g: np.ndarray) -> np.ndarray:
    """Return a parameter after those moves only that go down the gradient, scaled by their share."""
    move = before - after
    disagrees = ((move >= 0) & (g <= 0)) | ((move <= 0) & (g >= 0))
    share = np.count_nonzero(~disagrees) / max(disagrees.size, 1)
    factor = before.dtype.type(1 / max(share, 0.001))
    moved = after if factor == 1 else before - factor * move
    return np.where(disagrees, before, moved)


def follow(average: np.ndarray, p: np.ndarray, weight: float) -> None:
    """Average ← average + weight·(p − average)."""
    average[...] = average + p.dtype.type(weight) * (p - average) if weight != 1 else p


def rate(bound: float, norm: float) -> float:
    """Return the factor that scales a norm down to a bound: the book's, with 10⁻⁶ in the divisor."""
    factor = bound / (norm + 1e-6)
    return factor if factor < 1 else 1.0


def sum_of_squares(x: np.ndarray) -> float:
    """Return Σx²."""
    return sum_in_blocks(np.square(double(x)))


def norm_of(arrays: list[np.ndarray], order: float) -> float:
    """Return a norm of all arrays as one vector: Σ|x|, √Σx² or max |x|."""
    if order == inf:
        return float(np.max([0.0, *(np.abs(x).max() for x in arrays if x.size)]))
    if order == 2:
        return sqrt(sum(map(sum_of_squares, arrays)))
    return sum(sum_in_blocks(np.abs(double(x))) for x in arrays)


def sum_in_blocks(x: np.ndarray) -> float:
    """Return Σx: blocks of 65,536 elements, one after the other."""
    flat = x.reshape(-1)
    return sum((total(flat[i : i + 65_536]) for i in range(0, x.size, 65_536)), 0.0)


def unit_norms(x: np.ndarray) -> np.ndarray:
    """Return the norm of each column, or with four dimensions of each last index, or of a vector."""
    axes = (0,) if x.ndim < 4 else tuple(range(x.ndim - 1))
    is_vector = sum(n != 1 for n in x.shape) <= 1
    norms: np.ndarray = np.sqrt(np.sum(np.square(x), None if is_vector else axes, keepdims=True))
    return norms
