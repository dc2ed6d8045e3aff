"""What the engine must know of an update rule, and where its compiled code is."""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np

from fastopt.engine.compiling.code import compile_mode, find, is_compiling
from fastopt.engine.compiling.units import Unit, driver_unit, kernel_unit, others_unit
from fastopt.engine.machine import flush_bits
from fastopt.engine.quantized import Rounding
from fastopt.engine.structs import is_layout_known
from fastopt.kernels.cautious import move_agreeing

__all__ = ["KernelCall", "Rule", "StepCode", "check_flushing"]


NO_CODE = (
    "denormals='flush' needs compiled code; leave it out, or see that Numba can be imported and that neither "
    "FASTOPT_COMPILE=never nor NUMBA_DISABLE_JIT is set"
)


def check_flushing() -> None:
    """Raise ValueError if there can't be compiled code that computes with denormals as with 0."""
    if not flush_bits():
        raise ValueError("denormals='flush' needs a processor of x86-64 or ARM64; leave it out")
    if not is_layout_known() or compile_mode() == "never":
        raise ValueError(NO_CODE)


class StepCode(NamedTuple):
    """Where the compiled code of a step is.

    Attributes
    ----------
    step : dict of str to int
        Addresses of the functions that all rules share.
    kernels : dict of tuple to list of int
        Addresses of the rule's kernels, in the order in which they run, for each dtype and whether the states
        are in fewer bytes.
    """

    step: dict[str, int]
    kernels: dict[tuple[np.dtype[Any], bool], list[int]]

    @property
    def has_others(self) -> bool:
        """Whether there also is what gathers arrays, and updates averages."""
        return "gather" in self.step


class KernelCall(NamedTuple):
    """A kernel, and how it is called, as `kernel_unit` has it."""

    kernel: Any
    form: str


class Rule(NamedTuple):
    """What the engine must know of an update rule.

    Attributes
    ----------
    kernel : compiled function
        Updates the parameters.
    statistics_kernel : compiled function, optional
        Runs over all arrays before the kernel does; both then take whole arrays.
    n_scalars : int
        Number of the kernel's scalars, grad_scale, l2 and keep included.
    n_work : int
        Number of further arrays like the parameter that both kernels get after the states.
    n_additive, n_totals : int
        How many of an array's statistics, the first, are sums over elements; how many are summed over all
        arrays.
    n_statistics : callable
        Returns the number of statistics of an array of a shape, room to compute them included.
    is_reading : bool
        Whether the kernels leave the parameters as they are.
    flushes_denormals : bool
        Whether they compute with denormals as with 0, which only compiled code can.
    is_cautious : bool
        Whether the kernel updates a copy of the parameter, the last of the work arrays, and only some of
        these changes are made, see `fastopt.kernels.cautious`.
    roundings : tuple of Rounding or None
        How large parameters keep each state, if they do so in fewer bytes. Then scalars are followed by the
        key of the step's random bits.
    """

    kernel: Any
    statistics_kernel: Any
    n_scalars: int
    n_work: int = 0
    n_additive: int = 0
    n_totals: int = 0
    n_statistics: Callable[[tuple[int, ...]], int] = lambda shape: 0
    is_reading: bool = False
    flushes_denormals: bool = False
    is_cautious: bool = False
    roundings: tuple[Rounding | None, ...] = ()

    @property
    def is_quantizing(self) -> bool:
        """Whether large parameters have states in fewer bytes."""
        return any(own is not None for own in self.roundings)

    @property
    def n_step_scalars(self) -> int:
        """Number of the scalars that a step takes, the key of its random bits included."""
        return self.n_scalars + self.is_quantizing

    @property
    def is_elementwise(self) -> bool:
        """Whether the kernel takes the elements piece by piece, and needs no statistics."""
        return self.statistics_kernel is None

    @property
    def is_whole(self) -> bool:
        """Whether there are two passes over whole arrays."""
        return self.is_cautious or not self.is_elementwise

    @property
    def passes(self) -> list[KernelCall]:
        """The kernels, in the order in which they run."""
        if self.is_elementwise:
            cautious = [KernelCall(self.kernel, "elements-of-copy"), KernelCall(move_agreeing, "move")]
            return cautious if self.is_cautious else [KernelCall(self.kernel, "elements")]
        forms = ("without-copy", "copy") if self.is_cautious else ("arrays", "arrays")
        return [*map(KernelCall, (self.statistics_kernel, self.kernel), forms)]

    @property
    def quantized_passes(self) -> list[KernelCall]:
        """The same on states in fewer bytes: an element-wise kernel with a form of its own."""
        first, *others = self.passes
        kept = [own for own in self.roundings if own is not None]
        kinds = "".join("e" if own is None else "vr"[own.is_root] for own in self.roundings)
        form = f"{first.form}:{kept[0].format}:{kinds}{'e' * (self.n_work - self.is_cautious)}"
        return [first._replace(form=form), *others]

    def cautious(self) -> "Rule":
        """Return the rule with cautious steps.

        An element-wise rule then has two statistics of each array, how many elements agree of how many, which
        are sums over elements. Other rules count them when they update the array, so that it must be whole.
        """
        rule = self._replace(is_cautious=True, n_work=self.n_work + 1)
        if self.is_elementwise:
            return rule._replace(n_additive=2, n_statistics=lambda shape: 2)
        return rule._replace(n_additive=0)

    def units(self, dtypes: Iterable[np.dtype[Any]], n_states: int) -> list[Unit]:
        """Return what has to be compiled for steps on arrays of these dtypes.

        These are the step, the kernels, and what only some steps need.
        """
        n_arrays = 2 + n_states + self.n_work
        calls = [*self.passes, *(self.quantized_passes if self.is_quantizing else ())]
        return [
            driver_unit(),
            *(
                kernel_unit(kernel, dtype, n_arrays, self.n_scalars, form)
                for dtype in dtypes
                for kernel, form in calls
            ),
            others_unit(),
        ]

    def check_plain(self) -> None:
        """Raise an exception if NumPy can't take the step, and there is no compiled code for it.

        Raises
        ------
        ValueError
            If there will be none.
        RuntimeError
            If a signal's handler asks for it that has interrupted a compilation.
        """
        if self.flushes_denormals:
            check_flushing()
            if is_compiling():
                raise RuntimeError(
                    "no step was taken: a signal's handler came while the compiled code was made that "
                    "denormals='flush' needs; take a step before the handler is installed"
                )
            raise ValueError(NO_CODE)

    def code(self, dtypes: Iterable[np.dtype[Any]], n_states: int) -> StepCode | None:
        """Return the compiled code for arrays of these dtypes, or None where there is none yet."""
        if not is_layout_known() or compile_mode() == "never":
            return None
        kinds = list(dtypes)
        first, *others, last = self.units(kinds, n_states)
        # A kernel of a user's own may have other bits in NumPy, so that no step is taken there; no other
        # process can import it.
        is_needed = self.flushes_denormals or not all(unit.request for unit in others)
        step = find(first, is_needed=is_needed)
        # All are looked for at once, so that they are asked of the process that compiles.
        kernels = [find(unit, is_needed=is_needed) for unit in others]
        more = find(last, is_needed=is_needed)
        if step is None or None in kernels:
            return None
        found = [own["rule"] for own in kernels if own is not None]
        n = len(self.passes)
        places = [(dtype, own) for dtype in kinds for own in (False, True)[: 1 + self.is_quantizing]]
        return StepCode(
            step | (more or {}), {place: found[n * i : n * i + n] for i, place in enumerate(places)}
        )
