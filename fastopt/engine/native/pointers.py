"""What compiled code needs to read memory by its address, and to call a rule by its address."""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import float64, from_dtype, int64, types
from numba.core import cgutils
from numba.extending import intrinsic
from numba.np.arrayobj import make_array, populate_array

from fastopt.kernels.jit import IS_CHECKED

__all__ = [
    "add_at", "array_at", "arrays_at", "call", "call_c", "claim_at", "int8_at", "int32_at", "load_at",
    "pointer", "record_at", "record_type", "scalars_at", "stack_arrays", "store_at", "trap", "word_at",
]  # fmt: skip

# Intrinsics rather than functions: each function takes Numba some 50 ms, an intrinsic none.


@intrinsic
def pointer(typingctx, address, dtype):
    """Return the pointer to values of a type at an address."""

    def codegen(context, builder, signature, arguments):
        return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

    return types.CPointer(dtype.instance_type)(address, dtype), codegen


def reader(bits: int) -> Any:
    """Return ``read(address)``, which gives the integer of so many bits at an address as an int64."""

    def read(typingctx, address):
        def codegen(context, builder, signature, arguments):
            kind = ir.IntType(bits)
            value = builder.load(builder.inttoptr(arguments[0], kind.as_pointer()))
            return value if bits == 64 else builder.sext(value, ir.IntType(64))

        return int64(int64), codegen

    return intrinsic(read)


word_at, int32_at, int8_at = reader(64), reader(32), reader(8)


@intrinsic
def record_at(typingctx, address, dtype):
    """Return the record of a type at an address."""

    def codegen(context, builder, signature, arguments):
        return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

    return dtype.instance_type(address, dtype), codegen


# What other threads read and write, too.


def place(builder: Any, address: Any) -> Any:
    """Return the pointer to the int64 at an address."""
    return builder.inttoptr(address, ir.IntType(64).as_pointer())


@intrinsic
def load_at(typingctx, address):
    """Return the int64 at an address."""

    def codegen(context, builder, signature, arguments):
        return builder.load_atomic(place(builder, arguments[0]), "acquire", 8)

    return int64(int64), codegen


@intrinsic
def store_at(typingctx, address, value):
    """Write the int64 at an address. Returns what was there."""

    def codegen(context, builder, signature, arguments):
        return builder.atomic_rmw("xchg", place(builder, arguments[0]), arguments[1], "seq_cst")

    return int64(int64, int64), codegen


@intrinsic
def add_at(typingctx, address, value):
    """Add to the int64 at an address. Returns what was there."""

    def codegen(context, builder, signature, arguments):
        return builder.atomic_rmw("add", place(builder, arguments[0]), arguments[1], "seq_cst")

    return int64(int64, int64), codegen


@intrinsic
def claim_at(typingctx, address, expected, value):
    """Write the int64 at an address if it is as expected. Returns 1 if it was, else 0."""

    def codegen(context, builder, signature, arguments):
        order = "seq_cst", "seq_cst"
        pair = builder.cmpxchg(place(builder, arguments[0]), *arguments[1:], *order)
        return builder.zext(builder.extract_value(pair, 1), ir.IntType(64))

    return int64(int64, int64, int64), codegen


@intrinsic
def call_c(typingctx, address):
    """Call the C function ``int f(void)`` at an address."""

    def codegen(context, builder, signature, arguments):
        kind = ir.FunctionType(ir.IntType(32), ())
        return builder.call(builder.inttoptr(arguments[0], kind.as_pointer()), ())

    return types.int32(int64), codegen


def emit_trap(builder: Any) -> None:
    """Emit the instruction that ends the process."""
    kind = ir.FunctionType(ir.VoidType(), ())
    builder.call(cgutils.get_or_insert_function(builder.module, kind, "llvm.trap"), ())


@intrinsic
def trap(typingctx):
    """End the process."""

    def codegen(context, builder, signature, arguments):
        emit_trap(builder)
        return context.get_dummy_value()

    return types.void(), codegen


def build_array(context: Any, builder: Any, array: Any, address: Any, size: Any) -> Any:
    """Build a flat array of an element type from the address and number of its elements."""
    place = builder.inttoptr(address, context.get_data_type(array.dtype).as_pointer())
    return build_array_of(context, builder, array, place, size)


def build_array_of(context: Any, builder: Any, array: Any, place: Any, size: Any) -> Any:
    """Build a flat array of an element type from the pointer to its elements and their number."""
    item = context.get_data_type(array.dtype)
    itemsize = context.get_constant(types.intp, context.get_abi_sizeof(item))
    view = make_array(array)(context, builder)
    populate_array(
        view,
        data=place,
        shape=[size],
        strides=[itemsize],
        itemsize=itemsize,
        meminfo=None,
    )
    return view._getvalue()


@intrinsic
def array_at(typingctx, address, size, dtype):
    """Return the flat array of so many elements of a dtype at an address."""
    result = types.Array(dtype.dtype if hasattr(dtype, "dtype") else dtype.instance_type, 1, "C")

    def codegen(context, builder, signature, arguments):
        return build_array(context, builder, result, arguments[0], arguments[1])

    return result(address, size, dtype), codegen


@intrinsic(prefer_literal=True)
def arrays_at(typingctx, pairs, count, dtype, first, size):
    """Return a tuple of ``count`` flat arrays, from the pairs of address and size in memory at an address.

    Each has ``size`` elements from the one at ``first`` on; all of them if the size is negative.
    """
    result = types.UniTuple(types.Array(dtype.dtype, 1, "C"), count.literal_value)

    def codegen(context, builder, signature, arguments):
        word = context.get_value_type(int64)
        pairs = builder.inttoptr(arguments[0], word.as_pointer())
        offset = builder.mul(arguments[3], word(dtype.dtype.bitwidth // 8))
        is_part = builder.icmp_signed(">=", arguments[4], word(0))
        views = []
        for k in range(result.count):
            address, size = (builder.load(builder.gep(pairs, [word(2 * k + i)])) for i in (0, 1))
            address, size = builder.add(address, offset), builder.select(is_part, arguments[4], size)
            views.append(build_array(context, builder, result.dtype, address, size))
        return context.make_tuple(builder, result, views)

    return result(pairs, count, dtype, int64, int64), codegen


@intrinsic(prefer_literal=True)
def stack_arrays(typingctx, count, size, dtype):
    """Return a tuple of ``count`` flat arrays of ``size`` elements of a dtype, on the stack."""
    result = types.UniTuple(types.Array(dtype.dtype, 1, "C"), count.literal_value)

    def codegen(context, builder, signature, arguments):
        item, n = context.get_data_type(dtype.dtype), context.get_constant(types.intp, size.literal_value)
        places = [cgutils.alloca_once(builder, item, n) for _ in range(result.count)]
        # By pointers: of what an integer has been made from LLVM keeps nothing in registers.
        views = [build_array_of(context, builder, result.dtype, place, n) for place in places]
        return context.make_tuple(builder, result, views)

    return result(count, size, dtype), codegen


@intrinsic(prefer_literal=True)
def scalars_at(typingctx, address, count, dtype):
    """Return a tuple of the ``count`` doubles at an address, rounded to a dtype."""
    result = types.UniTuple(dtype.dtype, count.literal_value)

    def codegen(context, builder, signature, arguments):
        double = context.get_value_type(float64)
        doubles = builder.inttoptr(arguments[0], double.as_pointer())
        index = context.get_value_type(int64)
        values = [
            context.cast(builder, builder.load(builder.gep(doubles, [index(k)])), float64, result.dtype)
            for k in range(result.count)
        ]
        return context.make_tuple(builder, result, values)

    return result(address, count, dtype), codegen


@intrinsic
def call(typingctx, address, arguments):
    """Return what the compiled function at an address returns for a tuple of int64: an int64.

    LLVM can't put such a function into its caller, which it would optimize again with all that it contains:
    the step compiles in a tenth of the time. A call takes 2 ns.
    """
    count = len(arguments)

    def codegen(context, builder, signature, given):
        word, byte = context.get_value_type(int64), ir.IntType(8).as_pointer()
        # A function that Numba compiled without wrappers is ``status f(result*, exception**, arguments...)``.
        kind = ir.FunctionType(ir.IntType(32), [word.as_pointer(), byte.as_pointer(), *[word] * count])
        result, exception = cgutils.alloca_once(builder, word), cgutils.alloca_once(builder, byte)
        values = cgutils.unpack_tuple(builder, given[1], count)
        function = builder.inttoptr(given[0], kind.as_pointer())
        status = builder.call(function, [result, exception, *values])
        if IS_CHECKED:  # an index beyond its array
            with builder.if_then(builder.icmp_signed("!=", status, status.type(0))):
                emit_trap(builder)
        return builder.load(result)

    return int64(address, arguments), codegen


def record_type(dtype: np.dtype[Any]) -> Any:
    """Return the Numba type of a structured dtype."""
    return from_dtype(dtype)
