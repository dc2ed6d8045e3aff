"""`State`: one array for each parameter, which an optimizer's class declares.

State that doesn't start at zero is ``State(init)``, a function of the optimizer, the parameter and its first
gradient. State of another shape than the parameter's says so (``shape=``). Then a checkpoint needs no record
of the parameter's shape if a state has it, or if the shapes of all states, broadcast, are it. Otherwise
(`RowAdaGrad`), state dicts have it under "shapes".
"""

from collections.abc import Callable
from typing import Any

from fastopt.checks import chosen
from fastopt.engine.memory import StateSpec

__all__ = ["State"]


class State:
    """An array of state for each parameter, in the order in which the kernel takes them.

    Reads as None before the first step, then as a dict or list like the caller's, of arrays in the
    parameters' shapes. The arrays are views, so that writing into them changes the state, but for those
    that ``state_dtype`` keeps in fewer bytes, see ``quantized``; the container is made at each reading.

    Parameters
    ----------
    init : callable, optional
        Returns the values before a parameter's first step, from the optimizer, the parameter and its
        gradient; without it they are 0.
    shape : callable, optional
        Returns the shape of the state from that of the parameter; without it they are equal. If no state has
        the parameter's shape, and those of all its states, broadcast, aren't it, state dicts have it as well.
    is_shared : bool
        Whether all parameters have the same values, which a step computes from all of them.
    quantized : {None, "values", "roots"}
        What ``state_dtype`` rounds of the state of a large parameter: nothing; its values, as of a mean of
        gradients; or, in float16 and int8, their roots, if they are at least 0 and the rule divides by their
        roots, as of a mean of squares. Then it reads as a read-only copy in float32.

    Examples
    --------
    >>> W, optimizer = np.zeros(2), fastopt.Momentum(lr=1)
    >>> optimizer.v  # None before the first step
    >>> optimizer.update([W], [np.ones(2)])
    True
    >>> optimizer.v[0][:] = 0  # a view: the velocity is stopped
    >>> optimizer.v
    [array([0., 0.])]
    """

    def __init__(
        self,
        init: Callable[[Any, Any, Any], Any] | None = None,
        *,
        shape: Callable[[tuple[int, ...]], tuple[int, ...]] | None = None,
        is_shared: bool = False,
        quantized: str | None = None,
    ) -> None:
        self.init, self.shape, self.is_shared = init, shape, is_shared
        self.quantized = chosen("quantized", quantized, (None, "values", "roots"))
        self.name = ""

    def __set_name__(self, owner: Any, name: str) -> None:
        self.name = name
        owner.states = (*owner.states, name)

    @property
    def spec(self) -> StateSpec:
        """What the engine must know of it."""
        return StateSpec(self.name, self.init, self.shape, self.is_shared, self.quantized)

    def __get__(self, instance: Any, owner: type) -> Any:
        if instance is None:
            return self
        memory = instance.engine.memory
        return memory.contained(memory.views(self.name))

    def __set__(self, instance: object, value: Any) -> None:
        raise AttributeError(
            f"the state can't be replaced; write into its arrays: optimizer.{self.name}[key][...] = value"
        )
