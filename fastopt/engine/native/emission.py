"""Object code from functions that Numba compiles: what other processes load without Numba.

Numba's functions without wrappers need nothing of its runtime. Their LLVM code is linked into one module, in
which all but the entries are internal, and emitted as an object file. `fastopt.engine.compiling.loading`
loads it by ``llvmlite.binding`` in a few milliseconds.

A kernel that allocates memory needs Numba's runtime. Each process compiles it for itself, and it isn't kept.
"""

from collections.abc import Mapping
from typing import Any

import llvmlite.binding as llvm
from numba import int64
from numba.core.registry import cpu_target

from fastopt.engine.compiling.units import cpu

__all__ = ["addresses_here", "emit", "load_registries"]

# The function of Numba's runtime that frees memory.
DESTRUCTOR = "NRT_MemInfo_call_dtor"


def load_registries() -> None:
    """Let Numba know of all functions that are registered so far, which it takes note of one by one."""
    for context in (cpu_target.typing_context, cpu_target.target_context):
        context.refresh()


def emit(functions: Mapping[str, tuple[Any, int]], code: str = "") -> tuple[bytes, list[str]]:
    """Compile functions into one object file.

    Parameters
    ----------
    functions : dict of str to (compiled function, int)
        Under the name that each gets in the file, the function, of int64 that returns an int64, and the
        number of its arguments. It becomes ``status f(result*, exception**, arguments...)``.
    code : str, optional
        Further LLVM code.

    Returns
    -------
    data : bytes
        The file, for this CPU.
    needed : list of str
        The symbols that it takes from elsewhere: functions of the C library, or of Numba's runtime.
    """
    whole = llvm.parse_assembly(code)
    whole.triple = llvm.get_process_triple()
    for name, (function, n_arguments) in functions.items():
        whole.link_in(compile_alone(name, function.dispatcher, (int64,) * n_arguments))
    if [symbol for symbol in needed_by(whole) if symbol.startswith("NRT_")] == [DESTRUCTOR]:
        # What frees memory is called where slices end, but only if a kernel has allocated any. None does.
        whole.link_in(llvm.parse_assembly(f"define void @{DESTRUCTOR}(i8* %memory) {{\n  ret void\n}}"))
        whole.get_function(DESTRUCTOR).linkage = "internal"
    whole.verify()
    name, features = cpu()
    machine = llvm.Target.from_triple(whole.triple).create_target_machine(
        cpu=name, features=features, opt=3, reloc="default", codemodel="jitdefault", jit=True
    )
    return machine.emit_object(whole), needed_by(whole)


def needed_by(module: Any) -> list[str]:
    """Return the symbols that a module takes from elsewhere."""
    return sorted(
        value.name
        for values in (module.functions, module.global_variables)
        for value in values
        if value.is_declaration and not value.name.startswith("llvm.")
    )


def compile_alone(name: str, dispatcher: Any, signature: tuple[Any, ...]) -> Any:
    """Compile a function. Returns the LLVM module of which it alone can be seen, under a name."""
    dispatcher.compile(signature)
    module = llvm.parse_assembly(dispatcher.inspect_llvm(signature))
    entry = dispatcher.overloads[signature].fndesc.llvm_func_name
    for values in (module.functions, module.global_variables):
        for value in values:
            if not value.is_declaration and value.name != entry:
                value.linkage = "internal"
    module.get_function(entry).name = name
    return module


def addresses_here(functions: Mapping[str, tuple[Any, int]]) -> dict[str, int]:
    """Compile functions for this process alone. Returns their addresses, which live as long as it does."""
    found = {}
    for name, (function, n_arguments) in functions.items():
        dispatcher, signature = function.dispatcher, (int64,) * n_arguments
        dispatcher.compile(signature)
        result = dispatcher.overloads[signature]
        found[name] = result.library.get_pointer_to_function(result.fndesc.llvm_func_name)
        kept.append(dispatcher)
    return found


kept: list[Any] = []
