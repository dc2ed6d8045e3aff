"""States in fewer bytes: bfloat16, float16 and int8, encoded with stochastic rounding and decoded.

bfloat16 is the upper half of a float32. The other formats have a scale for each block of `BLOCK` elements,
also a bfloat16: float16 a power of 2, int8 the block's largest magnitude, rounded up. What is scaled is a
state's value x, or √x of a state that is divided by through its root; int8 encodes the root of that, so that
small elements of a block keep some precision. √x is never encoded by 0, unless all of its block is 0. A root
is taken by halving the exponent, with a straight line between powers of 2: it and its inverse are quick.

A number between two codes gets the upper one with the probability that makes the mean code right. The random
bits are a hash of the seed, the step and the element, so that they depend on nothing else.

int8 encodes √√v, as √v alone would have 2 or 3 codes for an element that is 1% of its block's largest.
Measured: AdaGrad's losses then have a correlation of 0.99989 with those of full state, instead of 0.99998.

float16 has a scale for each block, not for each array: that would need the maximum of a step before its
first element is written, or the maximum of the step before, beyond which a spike would be cut off. All
states are rounded stochastically, m, too: rounding to nearest makes a mean of small gradients stop at a
hundredth of its distance.
"""

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from fastopt.kernels.common import choose
from fastopt.kernels.jit import compiled, with_names

__all__ = [
    "BLOCK", "FORMATS", "GOLDEN", "LOWER_HALF", "MAGNITUDE", "MIN_SIZE", "NEAREST", "ZERO", "Codec", "Format",
    "bits", "codec", "random_bits", "random_key", "random_word",
]  # fmt: skip

# Number of elements that share a scale.
BLOCK = 256

# Arrays of fewer elements keep their states in full.
MIN_SIZE = 4096

# The random bits with which a number is rounded to its nearest code.
NEAREST = np.uint32(1 << 15)

# Numba has no uint32 without uint64: each result is cast back, else no loop is vectorized.
ZERO, ONE, THREE, FIFTEEN, HALF = (np.uint32(n) for n in (0, 1, 3, 15, 16))
LOWER_HALF, MAGNITUDE, EXPONENT = np.uint32(0xFFFF), np.uint32(0x7FFFFFFF), np.uint32(0x7F800000)
SIGN, NAN_16 = np.uint32(0x80000000), np.uint32(0x7FC0)
MIX_1, MIX_2, GOLDEN = np.uint32(0x7FEB352D), np.uint32(0x846CA68B), 0x9E3779B9

# The bits of 1, whose root is 1.
BITS_OF_ONE = 0x3F800000

# float16 in terms of float32's bits: the difference of the exponents, the lowest normal number, by how much
# the largest element of a block lies below 2¹⁵, and what a scale's bits and those of its inverse add up to.
REBIAS, MIN_NORMAL, HEADROOM = np.uint32(112 << 23), np.uint32(113 << 23), np.uint32(14 << 23)
DROPPED, MAGNITUDE_16 = np.uint32(13), np.uint32(0x7FFF)
MIN_16, INVERSE = np.uint32(1 << 10), np.uint32(254 << 23)


@compiled
def bits(x):
    """Return the bits of a number, as a float32."""
    single = np.float32(x)
    return single.view(np.uint32)


@compiled
def number(word):
    """Return the float32 that has these bits."""
    single = np.uint32(word)
    return single.view(np.float32)


@compiled
def upper_half(code):
    """Return the float32 of a bfloat16, which is its upper half."""
    return number(np.uint32(np.uint32(code) << HALF))


# Random bits.


@compiled
def random_word(element, key):
    """Return 32 random bits of an element (Wellons 2018, lowbias32)."""
    x = np.uint32(np.uint32(element) + key)
    x = np.uint32(x ^ np.uint32(x >> HALF))
    x = np.uint32(x * MIX_1)
    x = np.uint32(x ^ np.uint32(x >> FIFTEEN))
    x = np.uint32(x * MIX_2)
    return np.uint32(x ^ np.uint32(x >> HALF))


def random_key(seed: int, step: int) -> int:
    """Return the key of the random bits of a seed and a step."""
    key = 0
    for part in (seed, seed >> 32, step, step >> 32):
        key = mixed((key * 31 + GOLDEN + part) % 2**32)
    return key


def mixed(x: int) -> int:
    """Return 32 bits, all of which depend on all of these."""
    x = (x ^ x >> 16) * 0x7FEB352D % 2**32
    x = (x ^ x >> 15) * 0x846CA68B % 2**32
    return x ^ x >> 16


def random_bits(n: int, key: int, state: int) -> np.ndarray:
    """Return 16 random bits for each of the first n elements of a state, of those that are rounded.

    The states 0 and 1 have the lower and the upper halves of the same words, so have 2 and 3, ...
    """
    own = np.uint32((key + state // 2 * GOLDEN) % 2**32)
    words: np.ndarray = random_word.in_numpy(np.arange(n, dtype=np.uint32), own)
    return words >> HALF if state % 2 else words & LOWER_HALF


# bfloat16.


@compiled
def bfloat16_encode(word, factor, random):
    """Return the upper half of a float32, rounded, from its bits."""
    x = number(word)
    # The sum could make a NaN 0.
    return np.uint32(np.uint32(word + choose(x == x, random, ZERO)) >> HALF)


@compiled
def bfloat16_decode(code, unit):
    """Return the number of a code, which has no unit."""
    return upper_half(code)


# The other formats. In each copy of these functions these names are its own, see `codec`. Of a root that is
# taken twice the bits are halved twice.
ROOT_SHIFT, ROOT_OFFSET, IS_ROOT = ZERO, ZERO, False
INT8_MAX, INT8_LIMIT = np.float32(127), np.float32(127 << 16)
INT8_MAGNITUDE, INT8_SHIFT = np.uint32(0x7F), np.uint32(24)


def magnitude(word):
    """Return the number that is scaled, from the bits of x: |x|, or its root, or the root of this."""
    return number(np.uint32(np.uint32(np.uint32(word & MAGNITUDE) >> ROOT_SHIFT) + ROOT_OFFSET))


def power(x):
    """Return the bits of what `magnitude` was of, or of 0 where that would be too small a number."""
    return np.uint32(np.uint32(np.maximum(bits(x), ROOT_OFFSET) - ROOT_OFFSET) << ROOT_SHIFT)


def block_scale(top):
    """Return the scale of a block, given the bits of its largest |x|: 0 for 0, NaN if that isn't finite."""
    scale = choose(top == ZERO, ZERO, scale_of(bits(magnitude(top))))
    return choose(np.uint32(top & EXPONENT) == EXPONENT, NAN_16, scale)


@compiled
def float16_scale(word):
    """Return the power of 2 by which the largest magnitude, of which the bits are given, is below 2¹⁵."""
    exponent = np.uint32(word & EXPONENT)
    scale = choose(exponent > HEADROOM, np.uint32(exponent - HEADROOM), ZERO)
    return np.uint32(scale >> HALF)


def float16_factor(scale):
    """Return what magnitudes are multiplied by: the inverse of the scale, 0 for 0."""
    word = np.uint32(np.uint32(scale) << HALF)
    return choose(word == ZERO, np.float32(0), number(np.uint32(INVERSE - word)))


def float16_unit(scale):
    """Return what codes are multiplied by: the scale."""
    return upper_half(scale)


def float16_encode(word, factor, random):
    """Return the code of a number, given its bits."""
    size = np.uint32(bits(np.float32(magnitude(word) * factor)) + np.uint32(random >> THREE))
    code = np.uint32(np.uint32(size - REBIAS) >> DROPPED)
    if IS_ROOT:
        return choose(size >= MIN_NORMAL, code, MIN_16)
    return np.uint32(choose(size >= MIN_NORMAL, code, ZERO) | np.uint32(np.uint32(word & SIGN) >> HALF))


def float16_decode(code, unit):
    """Return the number of a code."""
    code = np.uint32(code)
    size = np.uint32(code & MAGNITUDE_16)
    word = power(np.float32(number(np.uint32(np.uint32(size << DROPPED) + REBIAS)) * unit))
    word = choose(size == ZERO, ZERO, word)
    word = word if IS_ROOT else np.uint32(word | np.uint32(np.uint32(code << HALF) & SIGN))
    return np.float32(number(word) + (unit - unit))  # NaN if the scale is


@compiled
def int8_scale(word):
    """Return the largest magnitude, of which the bits are given, rounded up to a bfloat16."""
    return np.uint32(np.uint32(word + LOWER_HALF) >> HALF)


def int8_factor(scale):
    """Return what magnitudes are multiplied by: 2¹⁶ times the largest code over the scale, 0 for 0."""
    size = upper_half(scale)
    return choose(size > 0, np.float32(INT8_LIMIT / size), np.float32(0))


def int8_unit(scale):
    """Return what codes are multiplied by: the scale over the largest code."""
    return np.float32(upper_half(scale) / INT8_MAX)


def int8_encode(word, factor, random):
    """Return the code of a number, given its bits."""
    scaled = np.float32(magnitude(word) * factor)
    size = np.uint32(np.int32(choose(scaled < INT8_LIMIT, scaled, INT8_LIMIT)))  # NaN, too
    code = np.uint32(np.uint32(size + random) >> HALF)
    if IS_ROOT:
        return np.maximum(code, ONE)
    return np.uint32(code | np.uint32(np.uint32(word & SIGN) >> INT8_SHIFT))


def int8_decode(code, unit):
    """Return the number of a code."""
    code = np.uint32(code)
    size = code if IS_ROOT else np.uint32(code & INT8_MAGNITUDE)
    word = power(np.float32(np.float32(np.int32(size)) * unit))
    word = word if IS_ROOT else np.uint32(word | np.uint32(np.uint32(code << INT8_SHIFT) & SIGN))
    return np.float32(number(word) + (unit - unit))


class Format(NamedTuple):
    """How a state is kept: the type of its codes, and whether blocks have scales."""

    code: Any
    has_scales: bool


FORMATS = {
    "bfloat16": Format(np.uint16, False),
    "float16": Format(np.uint16, True),
    "int8": Format(np.uint8, True),
}


class Codec(NamedTuple):
    """The functions of a format, compiled and for one element; scales, words and codes are uint32.

    Attributes
    ----------
    encode : compiled function
        ``encode(word, factor, random)`` returns the code of a number, given its bits as a float32.
    decode : compiled function
        ``decode(code, unit)`` returns the number of a code.
    scale : compiled function
        ``scale(top)`` returns a block's scale, given the bits of its largest magnitude.
    factor, unit : compiled function
        ``factor(scale)`` and ``unit(scale)`` return what encoding and decoding need of a scale. A format
        without scales has neither of the three.
    """

    encode: Any
    decode: Any
    scale: Any = None
    factor: Any = None
    unit: Any = None

    def encode_array(self, values: np.ndarray, random: Any, known: Format) -> tuple[np.ndarray, np.ndarray]:
        """Return codes and scales of a flat array, in plain NumPy, given random bits."""
        codes, random = np.empty(values.size, known.code), np.broadcast_to(random, values.shape)
        scales = np.empty(-(-values.size // BLOCK) if known.has_scales else 0, np.uint16)
        for piece in pieces(values.size):
            words, own_random = bits.in_numpy(values[piece]), random[piece]
            if known.has_scales:
                words, own_random = in_blocks(words), in_blocks(own_random)
                tops = self.scale.in_numpy((words & MAGNITUDE).max(axis=1, keepdims=True))
                scales[piece.start // BLOCK : -(-piece.stop // BLOCK)] = tops[:, 0]
                own_codes = self.encode.in_numpy(words, self.factor.in_numpy(tops), own_random)
                codes[piece] = own_codes.reshape(-1)[: piece.stop - piece.start]
            else:
                codes[piece] = self.encode.in_numpy(words, None, own_random)
        return codes, scales

    def decode_array(self, codes: np.ndarray, scales: np.ndarray) -> np.ndarray:
        """Return the float32 values of codes and scales, in plain NumPy."""
        values = np.empty(codes.size, np.float32)
        for piece in pieces(codes.size):
            if scales.size:
                own = scales[piece.start // BLOCK : -(-piece.stop // BLOCK), None]
                decoded = self.decode.in_numpy(in_blocks(codes[piece]), self.unit.in_numpy(own))
                values[piece] = decoded.reshape(-1)[: piece.stop - piece.start]
            else:
                values[piece] = self.decode.in_numpy(codes[piece], None)
        return values


def pieces(size: int) -> Iterator[slice]:
    """Return slices of whole blocks: what is computed on the way to a code takes 40 bytes an element."""
    for start in range(0, size, 64 * BLOCK):
        yield slice(start, min(start + 64 * BLOCK, size))


def in_blocks(flat: np.ndarray) -> np.ndarray:
    """Return the blocks of a flat array as uint32, a row each, with zeros at the end."""
    padded = np.zeros(-(-flat.size // BLOCK) * BLOCK, np.uint32)
    padded[: flat.size] = flat
    return padded.reshape(-1, BLOCK)


scale_of: Callable[..., Any] = float16_scale


@cache
def codec(name: str, is_root: bool) -> Codec:
    """Return the functions of a format, for a state x, or with ``is_root`` for one whose √x divides."""
    if name == "bfloat16":
        return Codec(bfloat16_encode, bfloat16_decode)
    n_roots, largest = is_root + (name == "int8"), 255 if is_root else 127
    own: dict[str, Any] = {
        "IS_ROOT": is_root,
        "ROOT_SHIFT": np.uint32(n_roots),
        "ROOT_OFFSET": np.uint32(BITS_OF_ONE - (BITS_OF_ONE >> n_roots)),
        "INT8_MAX": np.float32(largest),
        "INT8_LIMIT": np.float32(largest << 16),
        "scale_of": globals()[f"{name}_scale"],
    }

    def with_own_names(function: Any) -> Any:
        return compiled(with_names(function, own, function.__name__))

    own |= {inner.__name__: with_own_names(inner) for inner in (magnitude, power)}
    roles = ("encode", "decode", "factor", "unit")
    found = {role: with_own_names(globals()[f"{name}_{role}"]) for role in roles}
    return Codec(scale=with_own_names(block_scale), **found)
