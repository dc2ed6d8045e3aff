"""Averages of the parameters: exponential moving average, stochastic weight averaging, Lookahead.

With ``lookahead_reset``, a step after a synchronization clears the rule's states within its own chain, after
its checks (`Step.restarts`). Where first values are computed, or new ones are drafted from the states, the
step is planned anew with another memory instead.
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from fastopt.checks import choice, hyperparameter, integer, number, whole
from fastopt.engine.memory import StateSpec
from fastopt.options.base import Option

if TYPE_CHECKING:
    from fastopt.step import Step

__all__ = ["AverageFields", "Lookahead", "MovingAverage", "WeightAverage"]


def first_param(optimizer: Any, param: Any, grad: Any) -> Any:
    """Return a parameter as it was before its first step."""
    return param


def check_lookahead(name: str, value: Any) -> tuple[int, float] | None:
    """Return the two numbers of Lookahead; raise TypeError or ValueError if these aren't two such numbers."""
    if value is None:
        return None
    if not isinstance(value, tuple | list) or len(value) != 2:
        raise TypeError(f"{name} must be a pair such as (6, 0.5), not {value!r}")
    return integer(f"{name}[0]", value[0], 1), number(f"{name}[1]", value[1], above=0, most=1)


def check_swa(name: str, value: Any) -> int | None:
    """Return a number of steps or None; raise TypeError or ValueError if it is neither."""
    return None if value is None else integer(name, value)


@dataclass(init=False, repr=False, eq=False, kw_only=True)
class AverageFields:
    """The fields of these options. Each parameter has its own averages and counts its own steps t = 1, 2, ...

    A parameter that comes late, or was frozen, is averaged from its own first step. ``average(params)``
    returns the averaged parameters of ``ema`` or ``swa``; ``averaged(params)`` is a context manager in
    which they replace the parameters. The values of these options can't change after the first step.

    Parameters
    ----------
    lookahead : tuple of int and float, optional
        Period and weight ``(k, α)`` of a slow copy, k ≥ 1, α in (0, 1]. After every k-th step of a parameter
        p, p and a slow copy of it move together (Zhang et al. 2019, arXiv:1907.08610; optax's ``lookahead``).
        ``slow`` starts as the parameter before its first step.

        slow ← slow + α·(p − slow)
        p ← slow
    lookahead_reset : bool, default False
        Whether the rule of a parameter begins anew after each of these synchronizations: its next step is
        like that of a new optimizer, with the first values of the states and t = 1 (optax's
        ``reset_state``). `Prodigy` and other rules whose parameters share numbers can't.
    ema : float, optional
        Decay d of a moving average of the parameters, in (0, 1). The average is exponential; by default it is
        corrected for its start and updated after every step. It can't be combined with ``swa``.

        average ← average + (1 − d) / (1 − dᵗ)·(p − average)
    ema_init : {"corrected", "first", "initial"}, default "corrected"
        How ``ema`` begins. "corrected": as above, as optax's ``ema(debias=True)``. The others are
        average ← average + (1 − d)·(p − average) from the first step on, where the average starts as the
        first p that is averaged ("first": PyTorch's ``get_ema_multi_avg_fn``, Keras's ``use_ema``) or as p
        before its first step ("initial": optax's ``incremental_update``).
    ema_every : int, default 1
        Number of steps from one update of ``ema`` to the next, at least 1: steps k, 2k, ... are averaged, and
        count as t = 1, 2, ... Before the first of them the average is p, or its start with "initial".
    ema_overwrite : int, optional
        Number of steps, at least 1, at every multiple of which p ← average, after that has been updated
        (Keras's ``ema_overwrite_frequency``).
    swa : int, optional
        Number of steps after which the parameters are averaged, at least 0. This is stochastic weight
        averaging (Izmailov et al. 2018, arXiv:1803.05407). From then on ``average`` is the mean of p after
        each step; before, it is p. It can't be combined with ``ema``.
    swa_every : int, default 1
        Number of steps from one p that ``swa`` averages to the next, at least 1, such as the length of a
        cycle of the learning rate: the steps swa + k, swa + 2k, ... are averaged.
    """

    lookahead: tuple[int, float] | None = field(
        default=None, repr=False, metadata={"check": check_lookahead, "fixed": True}
    )
    lookahead_reset: bool = choice(False, False, True, fixed=True, of="lookahead")
    ema: float | None = hyperparameter(None, above=0, below=1, repr=False, fixed=True)
    ema_init: str = choice("corrected", "corrected", "first", "initial", fixed=True, of="ema")
    ema_every: int = whole(1, least=1, repr=False, fixed=True, of="ema")
    ema_overwrite: int | None = whole(None, least=1, repr=False, fixed=True, of="ema")
    swa: int | None = field(default=None, repr=False, metadata={"check": check_swa, "fixed": True})
    swa_every: int = whole(1, least=1, repr=False, fixed=True, of="swa")


class Lookahead(Option):
    """Every k-th step of a parameter p ← slow ← slow + α·(p − slow).

    Parameters
    ----------
    pair : tuple of int and float
        k and α.
    resets : bool
        Whether the rule begins anew after such a step.
    """

    averages: ClassVar = (StateSpec("lookahead.slow", first_param),)

    def __init__(self, pair: tuple[int, float], resets: bool) -> None:
        self.k, self.alpha = pair
        self.resets = resets

    def before(self, step: "Step") -> bool:
        """Note the parameters whose last step was such a one."""
        if self.resets:
            counts, positions = step.memory.counts, step.memory.positions
            was_last = (counts > 0) & (counts % self.k == 0)
            if was_last.any():
                step.restarts = {
                    key
                    for key in step.arrays.keys
                    if key in positions
                    and was_last[positions[key]]
                    and not (step.grouping is not None and step.grouping.is_frozen(key))
                }
        return True

    def average_scalars(self, t: int) -> tuple[float, ...]:
        """Return α and 1 at every k-th step, else 0 and 0."""
        return (self.alpha, 1.0) if t % self.k == 0 else (0.0, 0.0)


class MovingAverage(Option):
    """The exponential moving average of a parameter.

    Parameters
    ----------
    decay, init, every, overwrite : float, str, int, int or None
        The fields ``ema``, ``ema_init``, ``ema_every`` and ``ema_overwrite``.
    """

    averages: ClassVar = (StateSpec("ema.average", first_param),)

    def __init__(self, decay: float, init: str, every: int, overwrite: int | None) -> None:
        self.decay, self.init, self.every, self.overwrite = decay, init, every, overwrite

    def average_scalars(self, t: int) -> tuple[float, ...]:
        """Return the weight of p, and 1 at the steps at which p becomes the average, else 0."""
        back = 0.0 if self.overwrite is None or t % self.overwrite else 1.0
        n, rest = divmod(t, self.every)
        if n == 0 and self.init != "initial":
            return 1.0, back
        if rest:
            return 0.0, back
        if self.init == "corrected":
            return (1 - self.decay) / (1 - self.decay**n), back
        return (1.0 if n == 1 and self.init == "first" else 1 - self.decay), back


class WeightAverage(Option):
    """The mean of a parameter from one of its steps on, or of every so many of these.

    Parameters
    ----------
    start, every : int
        The fields ``swa`` and ``swa_every``.
    """

    averages: ClassVar = (StateSpec("swa.average", first_param),)

    def __init__(self, start: int, every: int) -> None:
        self.start, self.every = start, every

    def average_scalars(self, t: int) -> tuple[float, ...]:
        """Return 1 over the number of averaged steps, or 0 between two of them, and 0."""
        n, rest = divmod(t - self.start, self.every)
        return (1.0 if n <= 0 else 0.0 if rest else 1 / n), 0.0
