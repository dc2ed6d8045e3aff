"""What is around the rule in a step: weight decay, clipping, the sign, and schedules of the learning rate.

Kernels know three scalars of all this, grad_scale, l2 and keep. What these can't express is done to copies of
the gradients before the step.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from itertools import compress, repeat
from math import sqrt
from typing import Any, ClassVar

import numpy as np

from fastopt.arrays.packing import Packed
from fastopt.arrays.rows import Rows
from fastopt.arrays.snapshots import assign, restored
from fastopt.checks import choice, hyperparameter, integer, number, whole
from fastopt.engine.threads import allowed, launch
from fastopt.groups import FROZEN, Groups, check_groups
from fastopt.kernels.norms import BLOCK, squares, squares_parallel
from fastopt.plan import Layout, align, check_grad, compute_dtype, order_of
from fastopt.schedules import Schedule

__all__ = ["FOLLOWERS", "OPTIONS", "UNWRAPPED", "Around"]

# grad_scale, l2 and keep with nothing around the rule. (Joined to the others with +, as unpacking takes five
# times as long.)
UNWRAPPED = (1.0, 0.0, 1.0)


def choice_of_two(name: str, value: Any) -> None:
    """Say that a value is neither True nor False."""
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be False or True, not {value!r}")


def check_lookahead(name: str, value: Any) -> tuple[int, float] | None:
    """Give the two numbers of Lookahead, or say what they have to be."""
    if value is None:
        return None
    if not isinstance(value, tuple | list) or len(value) != 2:
        raise TypeError(f"{name} must be a pair such as (6, 0.5), not {value!r}")
    return integer(f"{name}[0]", value[0], 1), number(f"{name}[1]", value[1], above=0, most=1)


def check_swa(name: str, value: Any) -> int | None:
    """Give a number of steps, if there is one."""
    return None if value is None else integer(name, value)


@dataclass(eq=False, kw_only=True)
class Around:
    """The options that every rule has.

    Parameters
    ----------
    lr : float or Schedule
        Every rule's learning rate may be one of `fastopt.schedules`. ``lr`` then reads as the value in use,
        that of the last step; assigning a number ends the schedule. Checkpoints have it.
    weight_decay : float, default 0.0
        λ, at least 0. What is written as g in the rule's formula is g + λ·p (L2).
    decoupled : bool, optional
        If True, p shrinks by lr·λ of itself instead, whatever the gradient (AdamW's way), with the lr of the
        step. By default as the rule is known: True for `AdamW`, `Lion`, `Adan` and `Muon`. Rules that have
        their weight decay in their formula can't choose.
    maximize : bool, default False
        Whether the gradients are those of something to be made large: −g takes the place of g.
    decay : {"all", "matrices"}
        What weight_decay is for: everything, as in PyTorch, or only arrays of two dimensions or more, which
        leaves out biases and the parameters of norms.
    groups : dict, optional
        Hyperparameters that differ for some parameters:
        ``{"b*": {"lr_scale": 2.0, "weight_decay": 0.0}, "embed": {"freeze": True}}``. A group is selected by
        a pattern for names (as in `fnmatch`), an index, or a function of name (or index) and array. It may
        have any hyperparameter of the rule, weight_decay and decoupled, ``lr_scale``, a factor of lr, and
        ``freeze``: such arrays stay as they are, and don't count in clip_norm; they need a gradient like
        others. Checkpoints have no groups: give them again. `describe` tells who gets what.
    clip_value : float, optional
        Each element of the gradients is clipped to ± this.
    clip_each : float, optional
        Each array's gradient is scaled down to at most this norm.
    clip_adaptive : float, optional
        Each unit's gradient (for matrices that of a column, for arrays with four dimensions that of the last
        index) is scaled down to at most this share of the norm of its parameters, which counts as at least
        0.001 (Brock et al. 2021, arXiv:2102.06171; optax's ``adaptive_grad_clip``).
    clip_norm : float, optional
        All gradients are scaled by clip_norm / (norm + 10⁻⁶), if that is below 1, where norm is that of all
        of them as one vector (PyTorch's ``clip_grad_norm_``, the book's ``clip_grads``). It is summed in
        double precision, in an order that doesn't depend on threads; `grad_norm` tells it.

    lookahead : pair of int and float, optional
        ``(k, α)``: every k-th step p ← slow ← slow + α·(p − slow), where ``slow`` begins as the first
        parameters (Zhang et al. 2019, arXiv:1907.08610; optax's ``lookahead``).
    ema : float, optional
        Decay d of a moving average of the parameters after each step, ``average``, from above 0 to below 1,
        bias-corrected: average ← average + (1 − d) / (1 − dᵗ)·(p − average). `averaged` puts it in place.
    swa : int, optional
        After so many steps ``average`` becomes the mean of the parameters after each step from then on;
        before, it is the parameters themselves (Izmailov et al. 2018, arXiv:1803.05407).
    accumulate : int, default 1
        How many micro-batches make a step: `update` sums up their gradients and returns False, until at
        the last it takes one step with their mean. What is in is a part of the state; with
        ``nonfinite="skip"`` micro-batches are left out.
    rows : {"lazy", "exact"}, optional
        What becomes of the other rows if a gradient is `fastopt.Rows`. `SGD` and `AdaGrad`, without weight
        decay or averages, leave what has no gradient as it is, so that there is no question. "lazy", for
        every rule that takes arrays element by element: they stay as they are all the same, with their state
        and everything that is around the rule (PyTorch's ``SparseAdam``). "exact", for `Momentum` and
        `Nesterov`: they get what they would have got when they have a gradient again, or from `settle`.

    Notes
    -----
    Several ways of clipping are done in the order above; weight decay comes after. The caller's gradients are
    never written. clip_norm reads them once more; the other three step with copies.
    """

    # Whether weight_decay is decoupled unless the caller says; None: it is a part of the rule's own formula.
    decays: ClassVar[bool | None] = False
    # Whether an element whose gradient is 0 stays as it is, with its state.
    still: ClassVar[bool] = False
    # For a rule with a velocity: what n steps without gradient do, as p ← p + a·v; v ← b·v. Gives a and b.
    owed: ClassVar[Any] = None
    # Hyperparameters that groups can't have, as not only scalars depend on them.
    ungrouped: ClassVar[tuple[str, ...]] = ()

    weight_decay: float = hyperparameter(0.0, repr=False)
    decoupled: bool | None = choice(None, None, False, True)
    decay: str = choice("all", "all", "matrices")
    groups: dict[Any, dict[str, Any]] | None = field(
        default=None, repr=False, metadata={"check": check_groups, "saved": False}
    )
    maximize: bool = choice(False, False, True)
    clip_value: float | None = hyperparameter(None, above=0, repr=False)
    clip_each: float | None = hyperparameter(None, above=0, repr=False)
    clip_adaptive: float | None = hyperparameter(None, above=0, repr=False)
    clip_norm: float | None = hyperparameter(None, above=0, repr=False)

    lookahead: tuple[int, float] | None = field(default=None, repr=False, metadata={"check": check_lookahead})
    ema: float | None = hyperparameter(None, above=0, below=1, repr=False)
    swa: int | None = field(default=None, repr=False, metadata={"check": check_swa})

    accumulate: int = whole(1, repr=False, least=1)
    rows: str | None = choice(None, None, "lazy", "exact")

    # For a rule that has to know something of whole arrays: the kernel that finds it out. It runs over all
    # arrays before any is updated, and may change the state.
    measure: ClassVar[Any] = None
    states: ClassVar[tuple[str, ...]] = ()
    _schedule: ClassVar[Schedule | None] = None
    _grad_norm: ClassVar[float | None] = None
    # Of all gradients, where other processes have further ones: these have been clipped, but for clip_norm.
    _norm: ClassVar[float | None] = None
    _plain: ClassVar[bool] = True
    _copies: ClassVar[bool] = False
    _owing: ClassVar[bool] = False
    _own: ClassVar[dict[Any, Any]]
    _groups: ClassVar[Groups | None] = None

    @property
    def schedule(self) -> Schedule | None:
        """The schedule of the learning rate, if there is one."""
        return self._schedule

    @property
    def grad_norm(self) -> float | None:
        """The norm of all gradients at the last step, before ``clip_norm`` scaled them; None without it."""
        return self._grad_norm

    def scalars(self, t: int) -> tuple[float, ...]:
        """Give what the kernels take after grad_scale, l2 and keep, at step t = 1, 2, ..."""
        raise NotImplementedError

    def _arranged(self, changes: Mapping[str, Any]) -> dict[str, Any]:
        """Give what has to be noted when options change."""
        now = {name: getattr(self, name) for name in (*OPTIONS, "_schedule")} | dict(changes)
        copies = any(now[name] is not None for name in ("clip_value", "clip_each", "clip_adaptive"))
        decay = now["weight_decay"] if self.decays is not None else 0.0
        groups = now["groups"] is not None or now["decay"] != "all"
        scheduled = now["_schedule"] is not None
        around = groups or scheduled or copies or decay or now["maximize"] or now["clip_norm"]
        followers = ("slow",) * (now["lookahead"] is not None)
        followers += ("average",) * (now["ema"] is not None or now["swa"] is not None)
        around = around or followers
        owing = now["rows"] == "exact" and self.owed is not None
        followers += ("touched",) * owing
        return {
            "_owing": owing,
            "states": (*type(self).states, *followers),
            "_plain": not around,
            "_copies": copies,
            "_own": {},
            "_groups": None,
            "_plan": None,
            "_plans": {},
            "_layout": Layout(self._layout),  # type: ignore[attr-defined]  # no longer a packed container's
        }

    def _check_groups(self, groups: dict[Any, dict[str, Any]] | None) -> None:
        """Check what groups have, or say what they can't have."""
        for selector, values in (groups or {}).items():
            for name, value in values.items():
                if name == "freeze":
                    choice_of_two(f"groups: freeze of {selector!r}", value)
                elif name == "lr_scale":
                    number(f"groups: lr_scale of {selector!r}", value)
                elif name in self._differing():
                    check = self.__dataclass_fields__[name].metadata["check"]
                    values[name] = check(f"groups: {name} of {selector!r}", value)
                else:
                    there = ", ".join(sorted({*self._differing(), "lr_scale", "freeze"}))
                    raise ValueError(f"groups: {selector!r} can't have {name!r}; there are {there}")

    def _check_options(self) -> None:
        """Say which options don't go together."""
        self._check_groups(self.groups)
        if self.decoupled is not None and self.decays is None:
            raise ValueError(
                f"{type(self).__name__} has its weight decay in its formula: decoupled can't be chosen"
            )
        if self.ema is not None and self.swa is not None:
            raise ValueError("ema and swa are two averages: choose one")
        if self.decoupled is not None and not self._decaying():
            raise ValueError(
                f"decoupled={self.decoupled} says how to decay, but weight_decay is 0: give both, or neither"
            )

    def _decaying(self) -> bool:
        """Whether there is any weight decay."""
        groups = (self.groups or {}).values()
        return bool(self.weight_decay or any(own.get("weight_decay") for own in groups))

    def _summed(self, keys: Any, params: list[Any], slopes: list[Any]) -> list[Any]:
        """Give the gradients with each of their `Rows` checked and summed."""
        own = type(self).__name__
        result = list(slopes)
        for place, (key, param, slope) in enumerate(zip(keys, params, slopes, strict=True)):
            if isinstance(slope, Rows):
                shape, dtype = compute_dtype(key, param)
                result[place] = slope.summed(key, shape, dtype)
                if self.measure is not None:
                    raise ValueError(f"the gradient of {key!r} is of rows, but {own} measures whole arrays")
                followers = self.states[len(type(self).states) : len(self.states) - self._owing]
                whole = not (self.still or self._owing)
                if self.rows != "lazy" and (whole or self._decaying() or followers):
                    what = own if whole else "weight decay" if self._decaying() else ", ".join(followers)
                    raise ValueError(
                        f"the gradient of {key!r} is of rows, but {what} changes the others, too: "
                        "rows='lazy' leaves them as they are"
                        + (", rows='exact' changes them later" if self.owed and what is own else "")
                    )
            elif self._owing and self._in_rows(key):
                shape, dtype = compute_dtype(key, param)
                check_grad(key, slope, shape)
                result[place] = Rows(np.arange(shape[0]), slope).summed(key, shape, dtype)
        return result

    def _in_rows(self, key: Any) -> bool:
        """Whether a parameter has had gradients of rows, so that some may owe."""
        if key not in self._layout:  # type: ignore[attr-defined]
            return False
        return bool(self._views()["touched"][key].any())  # type: ignore[attr-defined]

    def _grouped(self, keys: Any, params: list[Any]) -> Groups | None:
        """Give the groups of these parameters, if there are any."""
        if self.groups is None and self.decay == "all":
            return None
        groups = self._groups
        if groups is None or groups.keys != list(keys):
            known = self._layout  # type: ignore[attr-defined]
            groups = Groups(self.groups or {}, self.decay == "matrices", keys, params, known)
            self.__dict__["_groups"] = groups
        return groups

    def describe(self, params: Any) -> str:
        """Tell for each parameter its group's hyperparameters: print it.

        Parameters
        ----------
        params : dict or list
            What is updated.

        Raises
        ------
        ValueError
            If a group has no parameter.
        """
        keys, values, _ = align(params, params)
        groups = self._grouped(keys, values)
        lines = []
        for key, value in zip(keys, values, strict=True):
            place = 0 if groups is None else groups.which[key]
            view = self if groups is None or place == FROZEN else groups.views_of(self)[place]
            names = [known for known in type(self).__dataclass_fields__ if known in self._differing()]
            told = ", ".join(f"{name}={getattr(view, name)!r}" for name in names)
            lines.append((repr(key), str(np.shape(value)), "frozen" if place == FROZEN else told))
        widths = [max((len(line[column]) for line in lines), default=0) for column in (0, 1)]
        return "\n".join(f"{a:<{widths[0]}}  {b:<{widths[1]}}  {c}" for a, b, c in lines)

    def _differing(self) -> set[str]:
        """Give the names of what may differ between groups."""
        fields = self.__dataclass_fields__
        shared = {*OPTIONS, "threads", "nonfinite", *self.ungrouped} - {"weight_decay", "decoupled"}
        return {name for name in fields if name not in shared and "check" in fields[name].metadata}

    def _wrapped(self, turn: int, keys: Any, params: list[Any], grads: list[Any]) -> tuple[float, ...]:
        """Give all of the kernel's scalars for a step that isn't plain."""
        if self._schedule is not None:
            check = self.__dataclass_fields__["lr"].metadata["check"]
            self.__dict__["lr"] = check("lr", self._schedule(turn))
        scale = -1.0 if self.maximize else 1.0
        groups = self._grouped(keys, params)
        if self.clip_norm is not None:
            if isinstance(keys, Layout):  # array by array, as a sum over the buffers has other bits
                flats = {flat.dtype: flat for flat in grads}
                grads = [slot.of(flats[slot.dtype]) for slot in keys.values()]
                orders = ["C"] * len(grads)
            else:
                orders = [order_of(param) for param in params]
            if groups is not None:
                free = [groups.which[key] != FROZEN for key in keys]
                grads, orders = [*compress(grads, free)], [*compress(orders, free)]
            norm = self._norm
            if norm is None:
                norm = sqrt(sum_of_squares(grads, orders, self.threads))  # type: ignore[attr-defined]
            self.__dict__["_grad_norm"] = norm
            scale *= rate(self.clip_norm, norm)
        if groups is None:
            return self._of_one(turn, scale)
        return sum((view._of_one(turn, scale) for view in groups.views_of(self)), ())

    def _of_one(self, turn: int, scale: float) -> tuple[float, ...]:
        """Give the scalars of one group."""
        decay = self.weight_decay if self.decays is not None else 0.0
        own = self.scalars(turn) + self._following(turn)
        if decay and (self.decays if self.decoupled is None else self.decoupled):
            return (scale, 0.0, 1 - self.lr * decay, *own)  # type: ignore[attr-defined]
        return (scale, decay, 1.0, *own)

    def _following(self, t: int) -> tuple[float, ...]:
        """Give weight and way back of each follower, for step t."""
        result: tuple[float, ...] = ()
        if self.lookahead is not None:
            k, alpha = self.lookahead
            result += (alpha, 1.0) if t % k == 0 else (0.0, 0.0)
        if self.ema is not None:
            result += ((1 - self.ema) / (1 - self.ema**t), 0.0)
        if self.swa is not None:
            result += (1 / max(t - self.swa, 1), 0.0)
        return result

    @contextmanager
    def averaged(self, params: Any) -> Iterator[None]:
        """Put the average in the place of the parameters for as long as the block lasts.

        ``with optimizer.averaged(params): evaluate()``. The parameters come back whatever happens; what is
        done to them within the block is lost.

        Parameters
        ----------
        params : dict or list
            What is updated.

        Raises
        ------
        ValueError
            If there is no average: without ``ema`` or ``swa``, or of other parameters.
        """
        keys, values, _ = align(params, params)
        if self.ema is None and self.swa is None:
            raise ValueError("there is no average without ema=0.999, say, or swa=1000")
        average = self.average  # type: ignore[attr-defined]
        if average is not None:
            average = average if isinstance(average, Mapping) else dict(enumerate(average))
            for key, value in zip(keys, values, strict=True):
                if key not in average or average[key].shape != np.shape(value):
                    raise ValueError(f"there is no average of {key!r} in this shape, but of {list(average)}")
        with restored(params):
            if average is not None:
                assign(params, average)
            yield

    def _copied(self, params: Any, grads: Any) -> Any:
        """Give a container like that of the gradients, with arrays of our own, clipped."""
        keys, values, slopes = align(params, grads)
        if isinstance(params, Packed) and isinstance(grads, Packed):
            if getattr(self._own.get(Packed), "layout", None) is not params.layout:
                self._own[Packed] = params.like()
            result = self._own[Packed]
            copies = dict(zip(keys, result.values() if isinstance(result, Mapping) else result, strict=True))
        else:
            copies = self._own
            for key, value, slope in zip(keys, values, slopes, strict=True):
                shape, dtype = compute_dtype(key, value)
                if isinstance(slope, Rows):
                    copies[key] = Rows(slope.indices, slope.values.copy())
                    continue
                check_grad(key, slope, shape)
                old = copies.get(key)
                if not isinstance(old, np.ndarray) or (old.shape, old.dtype) != (shape, dtype):
                    copies[key] = np.empty_like(np.asarray(value), dtype, subok=False)
            result = (
                {k: copies[k] for k in keys} if isinstance(params, Mapping) else [copies[k] for k in keys]
            )
        with np.errstate(all="ignore"):
            for key, value, slope in zip(keys, values, slopes, strict=True):
                grad = copies[key]
                if isinstance(grad, Rows):
                    grad = grad.values
                else:
                    grad[...] = slope
                self._clip(grad, np.asarray(value, grad.dtype))
        return result

    @np.errstate(all="ignore")
    def _clip(self, grad: np.ndarray, param: np.ndarray) -> None:
        """Clip one array's gradient, in place."""
        if self.clip_value is not None:
            np.clip(grad, -self.clip_value, self.clip_value, out=grad)
        if self.clip_each is not None:
            grad *= grad.dtype.type(rate(self.clip_each, sqrt(sum_of_squares([grad]))))
        if self.clip_adaptive is not None:
            axes = unit_axes(param.shape)
            most = self.clip_adaptive * np.maximum(norms_along(axes, param), 1e-3)
            norms = norms_along(axes, grad)
            np.multiply(grad, most / np.maximum(norms, 1e-6), out=grad, where=norms > most)


# What `squares` takes as it is. (Looked up in a set, as NumPy compares a dtype with a class slowly.)
SUMMED = frozenset((np.dtype(np.float32), np.dtype(np.float64)))
FOLLOWERS = frozenset(("lookahead", "ema", "swa", "rows"))
OPTIONS = frozenset(known.name for known in fields(Around))


def rate(bound: float, norm: float) -> float:
    """Give the factor that brings a norm down to a bound, as the book has it; 1 for NaN."""
    factor = bound / (norm + 1e-6)
    return factor if factor < 1 else 1.0


def unit_axes(shape: tuple[int, ...]) -> tuple[int, ...] | None:
    """Give the axes of what belongs to one unit; None for all."""
    if sum(n != 1 for n in shape) <= 1:  # all that belongs to a vector belongs to one unit
        return None
    return (0,) if len(shape) < 4 else tuple(range(len(shape) - 1))


def norms_along(axes: tuple[int, ...] | None, array: np.ndarray) -> np.ndarray:
    """Give the norms along axes, in a shape that broadcasts to the array's."""
    return np.sqrt(np.sum(np.square(array), axis=axes, keepdims=True))


def sum_of_squares(
    grads: list[Any], orders: Sequence[Any] | None = None, threads: int | None = None
) -> float:
    """Give the sum of squares of all arrays of numbers, by default in the order in which they lie.

    What is no array of numbers is left to the step's checks.
    """
    flats = []
    for grad, order in zip(grads, orders or repeat("K", len(grads)), strict=True):
        array = np.asarray(grad.values if isinstance(grad, Rows) else grad)
        if array.dtype.kind in "fiu":
            if array.dtype not in SUMMED or not array.flags.aligned:
                array = array.astype(np.float64)
            flats.append(array.ravel(order))
    total, many = 0.0, allowed(threads, sum(map(len, flats)))
    for flat in flats:
        if many == 1 or flat.size <= BLOCK:
            total += squares(flat)
        else:
            with launch:
                total += squares_parallel(flat, many)
    return total
