"""What calls an element-wise kernel on states in fewer bytes: one loop over all its arrays, or two a block.

The numbers of an element are put into arrays of one element, on which the kernel runs. LLVM puts the kernel
into the loop, keeps these numbers in registers, and vectorizes the loop as if it were written for the format.
So the look for gradients that aren't finite, decoding and encoding need no pass of their own.

Measured on the way, for Adam on 1,024 float32 elements, in ns an element; Adam alone takes 0.28:

- Loops of their own for decoding, rule and encoding, over a chunk in the first cache: 0.78 in bfloat16.
  Fewer loads are in flight at once, so 30 million elements take 39 ms instead of 16.
- No vector code, 4 to 20 times as long, or 7 of 40 instructions: ``inttoptr`` of a stack address; a
  second array that may be the first one; a loop of 32, which is unrolled, as Numba has no SLP vectorizer; a
  shift by a variable or an index in 64 bits.
- Roots by ``sqrt`` instead of halving the exponent: 0.15 more for each.
- Rooms at a multiple of 4,096 bytes from each other: a load waits for the store before it, and Adam alone
  takes 0.77.
- A pass of its own that looks for NaN in each 4,096 gradients, 30 million elements on one thread: 24 ms
  instead of 18 in bfloat16, 24 instead of 21 in full. So this loop notes the largest magnitude. It would
  help steps in full, too, but their kernels would take 1.6 times as long to compile.
- Blocks of 32, 256 or 1,024 elements with a scale: loss curves are alike; 32 costs 50 cycles a block.
"""

from typing import Any

import numpy as np
from numba import float64

from fastopt.engine.native.pointers import arrays_at, pointer, scalars_at, stack_arrays, word_at
from fastopt.engine.table import PIECE
from fastopt.kernels.cautious import count_agreeing
from fastopt.kernels.jit import internal, with_names
from fastopt.kernels.quantization import (
    BLOCK,
    FORMATS,
    GOLDEN,
    LOWER_HALF,
    MAGNITUDE,
    ZERO,
    bits,
    codec,
    random_word,
)

__all__ = ["quantized_caller"]

# How a state is kept: in full, by its values, or by their roots.
EXACT, VALUE, ROOT = range(3)
WORD, HALF, SINGLE, DOUBLE = (np.dtype(name) for name in ("uint32", "uint16", "float32", "float64"))
UPPER, MAGNITUDE_OF_DOUBLE = np.uint32(16), np.uint64(2**63 - 1)


def stand_in(*arguments):
    """Stand for the kernel and other functions: `quantized_caller` puts them in their places."""
    raise NotImplementedError


# Each copy of these functions has its own: how each state is kept, how many are rounded before it, types, and
# functions; `value` and `root` are those of the format.
KINDS, ORDINALS, N_STATES, N_CELLS, N_FULL, N_ARRAYS, N_SCALARS = (EXACT,), (0,), 1, 3, 1, 3, 3
DTYPE, CODE, CODE_TYPE, IS_CAUTIOUS = DOUBLE, HALF, np.uint16, False
WORD_TYPE, LIMIT = np.uint64, 0
rule = size_bits = update = random_of = stand_in
value_encode = value_decode = value_scale = value_factor = value_unit = stand_in
root_encode = root_decode = root_scale = root_factor = root_unit = stand_in


@internal
def size_bits_single(x):
    """Return the bits of |x|."""
    return np.uint32(bits(x) & MAGNITUDE)


@internal
def size_bits_double(x):
    """Return the bits of |x|."""
    double = np.float64(x)
    return np.uint64(double.view(np.uint64) & MAGNITUDE_OF_DOUBLE)


def largest_with_square(dtype: np.dtype[Any]) -> Any:
    """Return the bits of the largest number whose square is finite."""
    kind = dtype.type
    with np.errstate(over="ignore"):
        x = kind(np.sqrt(np.finfo(kind).max))
        while x * x < np.inf:
            x = np.nextafter(x, kind(np.inf))
    return np.nextafter(x, kind(0)).view(f"u{dtype.itemsize}")


def random_of_state(k, word, element, key):
    """Return the random word of a state, given that of the state before it."""
    if ORDINALS[k] % 2:
        return np.uint32(word >> UPPER)
    return random_word(element, np.uint32(key + np.uint32(ORDINALS[k] // 2 * GOLDEN)))


def update_elements(param, grad, target, codes, scales, full, values, key, first):
    """Update elements in a format without scales; ``first`` is the number of the first one.

    Returns the bits of the largest gradient, which are larger for one that isn't finite.
    """
    cells, largest = stack_arrays(N_CELLS, 1, DTYPE), WORD_TYPE(0)
    start_key = np.uint32(key + np.uint32(first))  # so that elements are counted in 32 bits
    for i in range(param.size):
        cells[0][0], cells[1][0] = param[i], grad[i]
        size = size_bits(grad[i])
        largest = WORD_TYPE(size if size > largest else largest)
        for k in range(N_STATES):
            cells[2 + k][0] = full[k][i] if KINDS[k] == EXACT else value_decode(codes[k][i], ZERO)
        rule(*cells, *values)
        if IS_CAUTIOUS:  # else `target` is `param`, and one array by two names would not be vectorized
            target[i] = cells[0][0]
        else:
            param[i] = cells[0][0]
        word = ZERO
        for k in range(N_STATES):
            if KINDS[k] == EXACT:
                full[k][i] = cells[2 + k][0]
            else:
                word = random_of(k, word, np.uint32(i), start_key)
                random = np.uint32(word & LOWER_HALF)
                codes[k][i] = CODE_TYPE(value_encode(bits(cells[2 + k][0]), ZERO, random))
    return largest


def update_blocks(param, grad, target, codes, scales, full, values, key, first):
    """Update elements in a format with scales: the last block may be shorter than others."""
    cells, numbers = stack_arrays(N_CELLS, 1, DTYPE), stack_arrays(N_STATES, BLOCK, SINGLE)
    units, tops = stack_arrays(N_STATES, 1, SINGLE), stack_arrays(N_STATES, 1, WORD)
    largest = WORD_TYPE(0)
    for block in range((param.size + BLOCK - 1) // BLOCK):
        start = block * BLOCK
        stop = min(start + BLOCK, param.size)
        own, its_grad, its_target = param[start:stop], grad[start:stop], target[start:stop]
        for k in range(N_STATES):
            tops[k][0] = ZERO
            if KINDS[k] != EXACT:
                scale = np.uint32(scales[k][block])
                units[k][0] = root_unit(scale) if KINDS[k] == ROOT else value_unit(scale)
        for i in range(own.size):
            cells[0][0], cells[1][0] = own[i], its_grad[i]
            grad_size = size_bits(its_grad[i])
            largest = WORD_TYPE(grad_size if grad_size > largest else largest)
            for k in range(N_STATES):
                if KINDS[k] == EXACT:
                    cells[2 + k][0] = full[k][start + i]
                elif KINDS[k] == ROOT:
                    cells[2 + k][0] = root_decode(codes[k][start + i], units[k][0])
                else:
                    cells[2 + k][0] = value_decode(codes[k][start + i], units[k][0])
            rule(*cells, *values)
            if IS_CAUTIOUS:
                its_target[i] = cells[0][0]
            else:
                own[i] = cells[0][0]
            for k in range(N_STATES):
                if KINDS[k] == EXACT:
                    full[k][start + i] = cells[2 + k][0]
                else:
                    numbers[k][i] = cells[2 + k][0]
                    size, top = np.uint32(bits(cells[2 + k][0]) & MAGNITUDE), tops[k][0]
                    tops[k][0] = np.uint32(size if size > top else top)
        for k in range(N_STATES):
            if KINDS[k] != EXACT:
                scale = root_scale(tops[k][0]) if KINDS[k] == ROOT else value_scale(tops[k][0])
                scales[k][block] = np.uint16(scale)
                units[k][0] = root_factor(scale) if KINDS[k] == ROOT else value_factor(scale)
        start_key = np.uint32(key + np.uint32(first + start))
        for i in range(own.size):
            word = ZERO
            for k in range(N_STATES):
                if KINDS[k] != EXACT:
                    word = random_of(k, word, np.uint32(i), start_key)
                    own_bits, random = bits(numbers[k][i]), np.uint32(word & LOWER_HALF)
                    if KINDS[k] == ROOT:
                        codes[k][start + i] = CODE_TYPE(root_encode(own_bits, units[k][0], random))
                    else:
                        codes[k][start + i] = CODE_TYPE(value_encode(own_bits, units[k][0], random))
    return largest


def run_on_quantized(elements, scalars):
    """Run a kernel on quantized states, piece by piece. Returns 1 if the gradient isn't finite, else 0.

    Before the pairs of addresses is the number of the first element, from which states are taken; quantized
    ones have the addresses of codes and scales.
    """
    values = scalars_at(scalars, N_SCALARS, DTYPE)
    key = np.uint32(pointer(scalars, float64)[N_SCALARS])
    offset, size, count, found = word_at(elements), word_at(elements + 24), 0, 0
    for first in range(0, size, PIECE):
        n, at = min(PIECE, size - first), offset + first
        param, grad = arrays_at(elements + 16, 2, DTYPE, first, n)
        full = arrays_at(elements + 48, N_FULL, DTYPE, at, n)
        codes = arrays_at(elements + 48, N_STATES, CODE, at, n)
        scales = arrays_at(elements + 56, N_STATES, HALF, at // BLOCK, (n + BLOCK - 1) // BLOCK)
        target = full[-1] if IS_CAUTIOUS else param
        if update(param, grad, target, codes, scales, full, values, key, at) > LIMIT:
            found = 1
        if IS_CAUTIOUS:
            count += count_agreeing(param, target, grad, *values[:3])
    if IS_CAUTIOUS:
        room = arrays_at(elements + 16 + 16 * N_ARRAYS, 2, DOUBLE, 0, -1)
        # Where ranks have slices of an array, both are summed over these.
        room[0][0], room[0][1] = count, size
    return found


def quantized_caller(
    kernel: Any, own: dict[str, Any], name: str, kinds: str, *, is_cautious: bool = False
) -> Any:
    """Return the function ``run(arguments, scalars)`` that calls a kernel.

    Parameters
    ----------
    kernel : compiled function
        The kernel.
    own : dict
        What `caller` knows: the dtype, and the numbers of arrays and scalars.
    name : str
        The format.
    kinds : str
        A letter for each state: "e" for one in full, "v" for one whose values are rounded, "r" for roots.
    is_cautious : bool
        Whether the kernel updates a copy of the parameter, which comes after the states.
    """
    known, n_states = FORMATS[name], len(kinds)
    is_single = own["DTYPE"].itemsize == 4
    own = own | {
        **{"N_STATES": n_states, "N_CELLS": n_states + 2, "N_FULL": n_states + is_cautious},
        **{"IS_CAUTIOUS": is_cautious, "rule": kernel.inlined, "LIMIT": largest_with_square(own["DTYPE"])},
        "WORD_TYPE": np.uint32 if is_single else np.uint64,
        "size_bits": size_bits_single if is_single else size_bits_double,
        "KINDS": tuple("evr".index(kind) for kind in kinds),
        "ORDINALS": tuple(sum(kind != "e" for kind in kinds[:k]) for k in range(len(kinds))),
        **{"CODE": np.dtype(known.code), "CODE_TYPE": known.code},
    }
    for role, is_root in (("value", False), ("root", True)):
        own |= {f"{role}_{part}": function for part, function in codec(name, is_root)._asdict().items()}

    def with_own_names(function: Any) -> Any:
        return internal(with_names(function, own, kernel.__name__))

    own["random_of"] = with_own_names(random_of_state)
    own["update"] = with_own_names(update_blocks if known.has_scales else update_elements)
    return with_own_names(run_on_quantized)
