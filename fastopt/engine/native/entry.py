"""How Python enters the compiled step, in 0.06 µs.

Numba's own way into compiled code takes 0.3 µs, and ctypes 1 µs or more. Here two builtin functions are made
from a few lines of LLVM code: they are handed the objects themselves.

Such functions need CPython with a GIL; elsewhere `fastopt.engine.structs` finds other layouts, and steps are
taken in plain NumPy.
"""

from fastopt.engine.structs import DATA
from fastopt.engine.table import ALL, DONE, REFUSED, offset_of

__all__ = ["entry_code"]

# Both have METH_FASTCALL; ``self`` is the header of a table.
CODE = """
define private i64 @field(i64 %self, i64 %offset) {{
  %value = inttoptr i64 %self to i8*
  %data_at = getelementptr i8, i8* %value, i64 {data}
  %data = bitcast i8* %data_at to i64*
  %table = load i64, i64* %data
  %field_at = add i64 %table, %offset
  %field = inttoptr i64 %field_at to i64*
  %result = load i64, i64* %field
  ret i64 %result
}}

define private i64 @argument(i64* %args, i64 %n) {{
  %at = getelementptr i64, i64* %args, i64 %n
  %result = load i64, i64* %at
  ret i64 %result
}}

define private i64 @integer(i64 %self, i64* %args, i64 %n) {{
  %object = call i64 @argument(i64* %args, i64 %n)
  %address = call i64 @field(i64 %self, i64 {as_long})
  %convert = inttoptr i64 %address to i64 (i64)*
  %result = call i64 %convert(i64 %object)
  ret i64 %result
}}

define private i64 @run(i64 %self, i64* %args, i64 %phases) {{
  %result = alloca i64
  %exception = alloca i8*
  store i64 {refused}, i64* %result
  %value = inttoptr i64 %self to i8*
  %data_at = getelementptr i8, i8* %value, i64 {data}
  %data = bitcast i8* %data_at to i64*
  %table = load i64, i64* %data
  %params = call i64 @argument(i64* %args, i64 0)
  %grads = call i64 @argument(i64* %args, i64 1)
  %scalars = call i64 @argument(i64* %args, i64 2)
  %count = call i64 @integer(i64 %self, i64* %args, i64 3)
  %address = call i64 @field(i64 %self, i64 {run})
  %run = inttoptr i64 %address to i32 (i64*, i8**, i64, i64, i64, i64, i64, i64)*
  call i32 %run(i64* %result, i8** %exception,
                i64 %params, i64 %grads, i64 %table, i64 %scalars, i64 %count, i64 %phases)
  %status = load i64, i64* %result
  ret i64 %status
}}

; drive(params, grads, scalars, count): a whole step. True, False if refused, None if a gradient isn't finite.
define i64 @drive(i64 %self, i64* %args, i64 %n) {{
entry:
  %status = call i64 @run(i64 %self, i64* %args, i64 {all})
  %is_done = icmp eq i64 %status, {done}
  %is_refused = icmp eq i64 %status, {refused}
  %true = call i64 @field(i64 %self, i64 {true})
  %false = call i64 @field(i64 %self, i64 {false})
  %none = call i64 @field(i64 %self, i64 {none})
  %other = select i1 %is_refused, i64 %false, i64 %none
  %object = select i1 %is_done, i64 %true, i64 %other
  ; The result's reference is counted; where these objects are immortal, so is a count that goes up.
  %references = inttoptr i64 %object to i32*
  %before = load i32, i32* %references
  %after = add i32 %before, 1
  %is_mortal = icmp sgt i32 %after, 0
  br i1 %is_mortal, label %count_it, label %end
count_it:
  store i32 %after, i32* %references
  br label %end
end:
  ret i64 %object
}}

; run_phases(params, grads, scalars, count, phases): a part of a step. What `run_step` returns.
define i64 @run_phases(i64 %self, i64* %args, i64 %n) {{
  %phases = call i64 @integer(i64 %self, i64* %args, i64 4)
  %status = call i64 @run(i64 %self, i64* %args, i64 %phases)
  %address = call i64 @field(i64 %self, i64 {from_long})
  %convert = inttoptr i64 %address to i64 (i64)*
  %object = call i64 %convert(i64 %status)
  ret i64 %object
}}
"""


def entry_code() -> str:
    """Return the LLVM code of both functions."""
    names = {
        "run": "run_step", "as_long": "as_long", "from_long": "from_long", "true": "true", "false": "false",
        "none": "none",
    }  # fmt: skip
    offsets = {key: offset_of(f"{name}_address") for key, name in names.items()}
    return CODE.format(data=DATA, all=ALL, done=DONE, refused=REFUSED, **offsets)
