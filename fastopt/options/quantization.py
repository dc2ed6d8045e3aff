"""States in fewer bytes: half or a quarter of the memory, and of what a step reads and writes for them."""

from dataclasses import dataclass, field
from functools import partial
from typing import Any

from fastopt.checks import chosen, integer
from fastopt.kernels.quantization import FORMATS

__all__ = ["QuantizationFields"]

check_format = partial(chosen, values=(None, *FORMATS))

# Of larger seeds the random bits would be those of smaller ones.
MAX_SEED = 2**64 - 1


def check_seed(name: str, value: Any) -> int:
    """Return a seed, or raise TypeError or ValueError if it is none."""
    seed = integer(name, value)
    if seed > MAX_SEED:
        raise ValueError(f"{name} must be below 2**64, not {seed}")
    return seed


@dataclass(init=False, repr=False, eq=False, kw_only=True)
class QuantizationFields:
    """The fields of this option.

    Parameters
    ----------
    state_dtype : {None, "bfloat16", "float16", "int8"}, default None
        Type of one or two bytes in which states of large arrays are kept. These have 4,096 elements or more;
        the states of others, averages and what has to be exact stay in the parameter's dtype, in which the
        rule computes. It can't change after the first step. "bfloat16": 2 bytes with 8 bits of precision.
        "float16": 2 bytes with 11 bits, and a power of 2 for each 256 elements. "int8": 1 byte, and the
        largest of each 256 elements; a code is for √|x|, and for ∜v of a state v through whose root the rule
        divides. Blocks are bitsandbytes' (arXiv:2110.02861), codes of roots are near FlashOptim's
        (arXiv:2602.23349). Rounding is stochastic, so that changes much smaller than the distance of two
        codes aren't lost. Such a state reads as a read-only float32 copy. Checkpoints hold the codes; one
        with another ``state_dtype`` is rounded once, to the nearest. Rules of whole arrays, and gradients
        that are `Rows`, raise ValueError.
    state_seed : int, default 0
        Seed of the random bits, from 0 to 2⁶⁴ − 1. They are a hash of it, of the parameter's number of steps
        and of the element: threads, packing and what else is updated don't change them.
    """

    state_dtype: str | None = field(
        default=None, repr=False, metadata={"check": check_format, "fixed": True, "saved": False}
    )
    state_seed: int = field(
        default=0, repr=False, metadata={"check": check_seed, "fixed": False, "of": "state_dtype"}
    )
