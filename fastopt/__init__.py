"""fastopt: the optimizers of networks written from scratch in NumPy, as fused Numba kernels.

``from fastopt import Adam`` replaces ``from common.optimizer import Adam`` in programs after *Deep Learning
from Scratch*. The arguments, ``update(params, grads)`` and the results stay the same.

Each update rule is a class, listed by `rules`. All take the options that ``help("fastopt.options")`` lists,
and `fastopt.schedules` as their learning rate and other numbers. `pack` puts small arrays into one buffer. A
new rule is a subclass of `Optimizer` with a `kernel`, `hyperparameter` fields and `State` arrays.

Examples
--------
>>> from fastopt import Adam
>>> params, grads = {"W": np.ones((2, 2))}, {"W": np.full((2, 2), 0.5)}
>>> optimizer = Adam(lr=0.1)
>>> optimizer.update(params, grads)
True
>>> params["W"].round(3)
array([[0.9, 0.9],
       [0.9, 0.9]])
>>> optimizer.iter
1
"""

from typing import TYPE_CHECKING, Any

from fastopt import optimizers
from fastopt.namespace import late_attributes

__version__ = "0.2.0"

np: Any
"""NumPy: the book's scripts live on the np that ``from common.optimizer import *`` hands on."""

# Where the public names are from. A module is imported when one of its names is first used.
NAMES = {
    "arrays.gradients": ("clip_grads", "remove_duplicate"),
    "arrays.packing": ("PackedDict", "PackedList", "pack"),
    "arrays.rows": ("Rows",),
    "arrays.trees": ("flatten", "gradients_of", "unflatten"),
    "checks": ("hyperparameter",),
    "engine.threads": ("set_num_threads",),
    "kernels.common": ("kernel",),
    "optimizer": ("Optimizer",),
    "optimizers": optimizers.RULES,
    "options.history": ("Record",),
    "partition": ("Partition",),
    "state": ("State",),
    "tools.benchmarking": ("bench",),
    "tools.precompilation": ("warmup",),
    "tools.range_test": ("lr_finder",),
    "tools.registry": ("rules",),
    "tools.trajectories": ("trajectory",),
    "tools.verification": ("verify",),
}

if TYPE_CHECKING:  # for type checkers and editors, which read no dict
    from fastopt import adapters as adapters
    from fastopt import functional as functional
    from fastopt import schedules as schedules
    from fastopt.arrays.gradients import clip_grads as clip_grads
    from fastopt.arrays.gradients import remove_duplicate as remove_duplicate
    from fastopt.arrays.packing import PackedDict as PackedDict
    from fastopt.arrays.packing import PackedList as PackedList
    from fastopt.arrays.packing import pack as pack
    from fastopt.arrays.rows import Rows as Rows
    from fastopt.arrays.trees import flatten as flatten
    from fastopt.arrays.trees import gradients_of as gradients_of
    from fastopt.arrays.trees import unflatten as unflatten
    from fastopt.checks import hyperparameter as hyperparameter
    from fastopt.engine.threads import set_num_threads as set_num_threads
    from fastopt.kernels.common import kernel as kernel
    from fastopt.optimizer import Optimizer as Optimizer
    from fastopt.optimizers import *
    from fastopt.options.history import Record as Record
    from fastopt.partition import Partition as Partition
    from fastopt.state import State as State
    from fastopt.tools.benchmarking import bench as bench
    from fastopt.tools.precompilation import warmup as warmup
    from fastopt.tools.range_test import lr_finder as lr_finder
    from fastopt.tools.registry import rules as rules
    from fastopt.tools.trajectories import trajectory as trajectory
    from fastopt.tools.verification import verify as verify
else:
    __all__ = sorted(["functional", "np", "schedules", *(name for names in NAMES.values() for name in names)])
    __getattr__ = late_attributes(
        __name__, NAMES, ["adapters", "functional", "reference", "schedules"], {"np": "numpy"}
    )

    def __dir__() -> list[str]:
        """Show what is public, not the modules that it comes from."""
        special = {name for name in globals() if name.startswith("__")} - {"__getattr__"}
        return sorted({*__all__, "adapters", *special})
