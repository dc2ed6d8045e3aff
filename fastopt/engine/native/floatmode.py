"""The floating-point mode of a thread: how it rounds, and whether denormals count as 0.

Each thread has its own. Other libraries set it, PyTorch's ``set_flush_denormal`` for example, for the thread
that calls them.

So with two threads, parts of a step were flushed and others weren't. Now a round of threads has the mode of
the thread that begins it. To set the default mode instead would give other bits than NumPy in the same
thread.
"""

from llvmlite import ir
from numba import int64, types
from numba.core import cgutils
from numba.extending import intrinsic

from fastopt.engine.machine import flush_bits, is_arm, is_x86
from fastopt.kernels.jit import internal

__all__ = ["FLUSH", "float_mode", "set_float_mode", "working_mode"]

IS_X86, IS_ARM, FLUSH = is_x86(), is_arm(), flush_bits()

WORD, HALF = ir.IntType(64), ir.IntType(32)


def instruction(builder, name, result, *arguments):
    """Call an instruction of the machine by LLVM's name for it."""
    kind = ir.FunctionType(result, [argument.type for argument in arguments])
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), arguments)


@intrinsic
def float_mode(typingctx):
    """Return the mode of this thread; 0 on a machine where it isn't known."""

    def codegen(context, builder, signature, arguments):
        if IS_X86:
            room = cgutils.alloca_once(builder, HALF)
            address = builder.bitcast(room, ir.IntType(8).as_pointer())
            instruction(builder, "llvm.x86.sse.stmxcsr", ir.VoidType(), address)
            return builder.zext(builder.load(room), WORD)
        if IS_ARM:
            return instruction(builder, "llvm.aarch64.get.fpcr", WORD)
        return WORD(0)

    return int64(), codegen


@intrinsic
def set_float_mode(typingctx, mode):
    """Set the mode of this thread."""

    def codegen(context, builder, signature, arguments):
        if IS_X86:
            room = cgutils.alloca_once(builder, HALF)
            builder.store(builder.trunc(arguments[0], HALF), room)
            address = builder.bitcast(room, ir.IntType(8).as_pointer())
            instruction(builder, "llvm.x86.sse.ldmxcsr", ir.VoidType(), address)
        elif IS_ARM:
            instruction(builder, "llvm.aarch64.set.fpcr", ir.VoidType(), arguments[0])
        return context.get_dummy_value()

    return types.void(int64), codegen


@internal
def working_mode(header):
    """Return the mode in which the threads of a step work."""
    return header.float_mode | FLUSH if header.flushes_denormals else header.float_mode
