"""Compiled code: found in this process or in the cache, compiled here, or asked of another process.

A step doesn't wait for the compiler, with the exceptions below. `code.find` returns what is loaded or in the
cache. Otherwise it asks a process in the background, once for each unit (`background`), and the step gets a
`PlainPlan`. This plan looks every 10 ms whether code has arrived, and then refuses its step, as any plan
does that doesn't fit. So the next plan is a compiled one, with the same state and counts.

- A process that compiles holds a lock of the unit's file. Others that want the unit wait for it, then load
  it.
- The process in the background is no child of the program, which may wait for its children. It is started
  again once if it ends, and given up if its sources differ from the program's.
- Frozen programs, children of pools, and processes that can keep no file compile in place.
- So do kernels of the user's own: no other process can import them. In NumPy they may have other bits, as
  Numba computes a float32 with a literal in double precision, and ``exp`` and powers differ.

The name of a file has digests of the sources, of all that a kernel's code depends on (`units`), of the
versions of Python, NumPy, Numba and llvmlite, of Numba's settings, and of the CPU. A file contains its own
name, a digest of its content, and the symbols that it needs. Nothing is unpickled. A folder or a file that
other users may write to isn't used (`folder`).

The code that gathers strided arrays and updates averages is a unit of its own (`units.others_unit`) and
compiled last: steps on contiguous arrays don't wait for it. It is a third of the time to compile.
"""
