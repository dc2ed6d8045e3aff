"""`QuantizedArray`: the state of one parameter in fewer bytes; `SavedCodes`: as a checkpoint has it.

Above a million parameters a rule is at the memory's limit, so only less traffic makes it faster. A parameter
of 4,096 elements or more has its states apart from the flat buffers. ``State(quantized=...)`` says what may
be rounded: no state from which the parameter is computed directly (FTRL, MADGRAD, ``z`` of schedule-free
rules), and none whose squares are subtracted (h and m of `RMSpropGraves`, where h − m² would become
negative). `fastopt.kernels.quantization` has the formats, `fastopt.engine.native.quantized` the loop and its
measurements.
"""

from math import ceil
from typing import Any, NamedTuple

import numpy as np

from fastopt.arrays.layout import aligned_zeros
from fastopt.kernels.quantization import BLOCK, FORMATS, NEAREST, codec

__all__ = ["ALIGNMENT", "QuantizedArray", "Rounding", "SavedCodes"]

# The codes are followed by the scales, at a multiple of so many of them, up to which compiled code may write.
ALIGNMENT = BLOCK


class Rounding(NamedTuple):
    """How a state is kept: a format of `fastopt.kernels.quantization`, and whether its root divides."""

    format: str
    is_root: bool


class QuantizedArray:
    """The elements of a state as codes, in the order of the parameter.

    Parameters
    ----------
    size : int
        Number of elements.
    dtype : dtype
        That of the parameter, in which steps compute.
    rounding : Rounding
        How they are kept.

    Attributes
    ----------
    data : uint16 or uint8 array
        The codes, then the scales of blocks, if the format has any.
    codes, scales : uint16 or uint8 array
        Views of these.
    """

    def __init__(self, size: int, dtype: np.dtype[Any], rounding: Rounding) -> None:
        self.size, self.dtype, self.rounding = size, dtype, rounding
        known = FORMATS[rounding.format]
        code, n_codes = np.dtype(known.code), ceil(size / ALIGNMENT) * ALIGNMENT
        n_blocks = ceil(size / BLOCK) if known.has_scales else 0
        self.data = aligned_zeros(n_codes + n_blocks * 2 // code.itemsize, code)
        self.codes, self.scales = self.data[:size], self.data[n_codes:].view(np.uint16)

    def saved(self) -> np.ndarray:
        """Return a copy of codes and scales, one after the other, in the dtype of the codes."""
        return np.concatenate([self.codes, self.scales.view(self.data.dtype)])

    def decoded(self) -> np.ndarray:
        """Return the values as a flat float32 array."""
        with np.errstate(all="ignore"):
            return codec(*self.rounding).decode_array(self.codes, self.scales)

    def encoded(self, values: np.ndarray, random: Any = NEAREST) -> np.ndarray:
        """Return the data of other values, given `random_bits`; by default each gets its nearest code."""
        with np.errstate(all="ignore"):
            own, known = codec(*self.rounding), FORMATS[self.rounding.format]
            codes, scales = own.encode_array(np.asarray(values, np.float32), random, known)
        data = np.zeros_like(self.data)
        data[: self.size] = codes
        data[self.data.size - self.scales.nbytes // data.itemsize :].view(np.uint16)[:] = scales
        return data


class SavedCodes(NamedTuple):
    """What `QuantizedArray.saved` returned, and what it was of; it may be an array that takes no memory."""

    data: np.ndarray
    size: int
    dtype: np.dtype[Any]
    rounding: Rounding

    def is_valid(self) -> bool:
        """Whether the array is as large as it must be, and of the right dtype."""
        known = FORMATS[self.rounding.format]
        n_blocks = ceil(self.size / BLOCK) if known.has_scales else 0
        code = np.dtype(known.code)
        length = self.size + n_blocks * 2 // code.itemsize
        return isinstance(self.data, np.ndarray) and (self.data.shape, self.data.dtype) == ((length,), code)

    def restored(self) -> QuantizedArray:
        """Return the state."""
        result = QuantizedArray(self.size, self.dtype, self.rounding)
        result.codes[:] = self.data[: self.size]
        result.scales[:] = np.ascontiguousarray(self.data[self.size :]).view(np.uint16)
        return result
