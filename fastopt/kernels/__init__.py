"""The update rules as fused in-place loops, simplest first: what runs.

Every kernel is ``rule(param, grad, *states, grad_scale, l2, keep, *scalars)`` over flat arrays of one
length and one dtype, with scalars of that dtype: one loop, no allocation, ``grad`` is only read. The
first three scalars are what is wrapped around a rule, so that none of it needs a pass of its own: the
gradient that a rule sees is ``grad_scale·grad + l2·param``, and the parameter that it moves is
``keep·param``. With 1, 0 and 1 they leave every bit as it is. Rules that have to measure whole arrays first
have two kernels, of whole arrays: see `fastopt.kernels.layerwise`.

Kernels run without the compiler, too: once, with ``...`` for the index, so on whole arrays of NumPy, and with
the same bits (`fastopt.kernels.plain`). So a choice that depends on an element is made by `choose`, and
``keep·param``, which mostly is the parameter, by `decayed`, and a sum with a scalar that mostly is 0 by
`added`. A kernel that goes row by row has a second function for this, ``@kernel(numpy=...)``.

Each sum and product is rounded in the order written, as in `fastopt.reference`.

Roots are those of ``np.sqrt``: ``math.sqrt`` returns a Python float, with which float32 would be computed in
float64 where there is no compiler.
"""

from typing import TYPE_CHECKING

from fastopt.kernels.adam import *
from fastopt.kernels.adam_variants import *
from fastopt.kernels.adaptive import *
from fastopt.kernels.jit import Compiled
from fastopt.kernels.layerwise import *
from fastopt.kernels.layerwise_adam import *
from fastopt.kernels.learning_rate_free import *
from fastopt.kernels.matrix import *
from fastopt.kernels.schedule_free import *
from fastopt.kernels.sgd import *
from fastopt.kernels.sign import *
from fastopt.kernels.tables import *

# Type checkers follow the imports; a list that they can't read would hide all names from them.
if not TYPE_CHECKING:
    __all__ = sorted(name for name, value in globals().items() if isinstance(value, Compiled))
