"""States in fewer bytes, in plain NumPy: what ``state_dtype`` does to a state after each step.

An element is kept as the next number below or above it that the format has: ``bfloat16`` for each element,
``float16`` and ``int8`` with a scale for each 256 elements. Random bits choose one of both; they depend on
the seed, the step and the element. First values are rounded to the nearer one.

A rule's ``quantized`` has the names of the states that are rounded, in this order; with √ those by whose root
the rule divides. Of these ``begin_at_value`` has those that begin at initial_accumulator_value, and
``begin_at_gradient`` those that begin as the first gradient; the others begin at 0.
"""

from typing import Any

import numpy as np

__all__ = ["MIN_SIZE", "NEAREST", "first_states", "random_bits", "rounded"]

BLOCK = 256

# The random bits with which the nearer number is chosen.
NEAREST = 1 << 15

# Smaller arrays keep their states in full.
MIN_SIZE = 4096

GOLDEN = 0x9E3779B9


def first_states(rule: Any, g: np.ndarray) -> dict[str, np.ndarray]:
    """Return the states of a new rule that doesn't begin with zeros, before they are rounded."""
    from_value, from_gradient = (
        getattr(rule, kind, "").split() for kind in ("begin_at_value", "begin_at_gradient")
    )
    if not from_value and not from_gradient:
        return {}
    start = {name: np.zeros_like(g) for name in rule.quantized.replace("√", "").split()}
    start |= {name: g.copy() for name in from_gradient}
    return start | {name: np.full_like(g, rule.initial_accumulator_value) for name in from_value}


def mixed(x: np.ndarray) -> np.ndarray:
    """Return 32 bits, all of which depend on all of these (Wellons 2018, lowbias32)."""
    x = (x ^ x >> 16) * 0x7FEB352D & 0xFFFFFFFF
    x = (x ^ x >> 15) * 0x846CA68B & 0xFFFFFFFF
    return x ^ x >> 16


def random_bits(size: int, seed: int, step: int, state: int) -> np.ndarray:
    """Return 16 random bits for each element of a state 0, 1, ..., of those that are rounded."""
    key = np.zeros(1, np.int64)
    for part in (seed, seed >> 32, step, step >> 32):
        key = mixed((key * 31 + GOLDEN + part % 2**32) & 0xFFFFFFFF)
    words = mixed((np.arange(size) + key + state // 2 * GOLDEN) & 0xFFFFFFFF)
    # Two states share the words of 32 bits.
    return words >> 16 if state % 2 else words & 0xFFFF


def rounded(x: np.ndarray, form: str, is_root: bool, random: Any) -> np.ndarray:
    """Return the numbers of a format that stand for a state, given its elements in their order.

    Parameters
    ----------
    x : array
        The state, flat.
    form : {"bfloat16", "float16", "int8"}
        The format.
    is_root : bool
        Whether it is √x that the rule divides by.
    random : array of int
        From 0 to 2¹⁶ − 1, for each element; `NEAREST` rounds to the nearest.
    """
    single = np.asarray(x, np.float32)
    if form == "bfloat16":
        return np.where(np.isnan(single), single, truncated(bits(single) + random, 16)).astype(x.dtype)
    n_blocks = -(-x.size // BLOCK)
    blocks = np.zeros((2, n_blocks * BLOCK), np.float64)
    blocks[0, : x.size], blocks[1, : x.size] = single, random
    values, noise = blocks.reshape(2, n_blocks, BLOCK)
    result = np.array([
        block(own.astype(np.float32), form, is_root, its_noise.astype(np.int64))
        for own, its_noise in zip(values, noise, strict=True)
    ])  # fmt: skip
    return result.reshape(-1)[: x.size].astype(x.dtype)


def block(x: np.ndarray, form: str, is_root: bool, random: np.ndarray) -> np.ndarray:
    """Return what stands for the elements of a block."""
    if not np.isfinite(x).all():
        return np.full_like(x, np.nan)
    if not x.any():
        return np.zeros_like(x)
    n_roots = is_root + (form == "int8")
    sizes = root(np.abs(x), n_roots)
    if form == "float16":
        scale = np.ldexp(np.float32(1), int(np.frexp(sizes.max())[1]) - 15)
        coded = truncated(bits(sizes / scale) + (random >> 3), 13)
        coded = np.where(coded < np.float32(2.0**-14), np.float32(is_root * 2.0**-14), coded)
        if scale < np.float32(2.0**-126):
            coded = np.full_like(x, is_root * 2.0**-14)
            scale = np.float32(0)
        result = square(coded * scale, n_roots)
    else:
        largest = np.float32(255 if is_root else 127)
        scale = truncated(bits(sizes.max()) + 0xFFFF, 16)
        fixed = np.minimum(sizes * (largest * np.float32(65536) / scale), largest * np.float32(65536))
        code = (fixed.astype(np.int64) + random) >> 16
        code = np.maximum(code, 1) if is_root else code
        result = square(code.astype(np.float32) * (scale / largest), n_roots)
    return result if is_root else np.copysign(result, x)


def bits(x: Any) -> np.ndarray:
    """Return the bits of float32 numbers as integers."""
    return np.asarray(x, np.float32).view(np.uint32).astype(np.int64)


def truncated(words: np.ndarray, n: int) -> np.ndarray:
    """Return the float32 numbers of some bits, of which the last n become 0."""
    return (np.asarray(words) >> n << n).astype(np.uint32).view(np.float32)


def root(x: np.ndarray, n: int) -> np.ndarray:
    """Return √x, taken n times, by halving the exponent: a straight line between even powers of 2."""
    one = bits(1)
    return truncated((bits(x) >> n) + one - (one >> n), 0)


def square(x: np.ndarray, n: int) -> np.ndarray:
    """Return what `root` was of, or 0 where that is too small."""
    one = bits(1)
    return truncated(np.maximum(bits(x) - (one - (one >> n)), 0) << n, 0)
