"""How a step is carried out.

A step is planned, checked and committed.

- A plan (`plan`) knows every array: its class, shape, dtype, strides, and its part of the state. `planning`
  chooses between compiled code (`compiled_plan`) and plain NumPy (`plain_plan`).
- Compiled code checks at each step that all arrays are as planned, and only then updates them, in one call.
  It gets two lists and reads the arrays' C structs (`structs`), so a check costs some nanoseconds an array.
  When a check fails, nothing has changed. Python then makes a new plan, which either fits or raises an error
  that says what is wrong.
- All or nothing: a step is committed by one call into C, within which Python raises no KeyboardInterrupt.
  That call is the driver itself, which also counts the step. Where several calls are needed, ``any(map(call,
  actions))`` runs a list of C functions (`plan.run_calls`). None of them may be a Python function:
  ``np.copyto`` runs one (its dispatcher), ``operator.setitem`` doesn't. Whatever has to be compiled is
  compiled before. New state and a new plan become the engine's within that chain, so a step that is refused
  or interrupted leaves none behind. Calls that can refuse come first: a partition checks the arrays of all
  its members, then updates them.

The engine knows no option. A pass that an option needs over the gradients has an engine of its own, see
`fastopt.options.base`.
"""
