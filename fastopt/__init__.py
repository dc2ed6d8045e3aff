"""fastopt: the optimizers of networks written from scratch in NumPy, as fused Numba kernels.

``from fastopt import Adam`` replaces ``from common.optimizer import Adam`` in programs after *Deep Learning
from Scratch*. The arguments, ``update(params, grads)`` and the results stay the same.

Each update rule is a class, listed by `rules`. All take the options that `Optimizer` documents, and
`fastopt.schedules` as their learning rate. `pack` puts small arrays into one buffer. A new rule is a subclass
of `Optimizer` with a `kernel`, `hyperparameter` fields and `State` arrays.
"""

from fastopt import adapters as adapters
from fastopt import schedules
from fastopt.arrays.gradients import clip_grads, remove_duplicate
from fastopt.arrays.packing import PackedDict, PackedList, pack
from fastopt.arrays.rows import Rows
from fastopt.checks import hyperparameter
from fastopt.engine.threads import set_num_threads
from fastopt.kernels.common import kernel
from fastopt.optimizer import Optimizer
from fastopt.optimizers import (
    ASGD,
    FTRL,
    LAMB,
    LARS,
    SGD,
    SM3,
    AdaBelief,
    AdaDelta,
    Adafactor,
    AdaGrad,
    Adam,
    AdaMax,
    AdamW,
    Adan,
    AdEMAMix,
    AMSGrad,
    Lion,
    Momentum,
    Muon,
    NAdam,
    Nesterov,
    NovoGrad,
    OptimisticGD,
    Prodigy,
    RAdam,
    RMSprop,
    RMSpropGraves,
    Rprop,
    ScheduleFreeAdamW,
    ScheduleFreeSGD,
    Signum,
    Yogi,
)
from fastopt.options.history import Record
from fastopt.partition import Partition
from fastopt.state import State
from fastopt.tools.benchmarking import bench
from fastopt.tools.precompilation import warmup
from fastopt.tools.range_test import lr_finder
from fastopt.tools.registry import rules
from fastopt.tools.trajectories import trajectory
from fastopt.tools.verification import verify

__version__ = "0.1.0"
__all__ = [
    "ASGD",
    "FTRL",
    "LAMB",
    "LARS",
    "SGD",
    "SM3",
    "AMSGrad",
    "AdEMAMix",
    "AdaBelief",
    "AdaDelta",
    "AdaGrad",
    "AdaMax",
    "Adafactor",
    "Adam",
    "AdamW",
    "Adan",
    "Lion",
    "Momentum",
    "Muon",
    "NAdam",
    "Nesterov",
    "NovoGrad",
    "OptimisticGD",
    "Optimizer",
    "PackedDict",
    "PackedList",
    "Partition",
    "Prodigy",
    "RAdam",
    "RMSprop",
    "RMSpropGraves",
    "Record",
    "Rows",
    "Rprop",
    "ScheduleFreeAdamW",
    "ScheduleFreeSGD",
    "Signum",
    "State",
    "Yogi",
    "bench",
    "clip_grads",
    "hyperparameter",
    "kernel",
    "lr_finder",
    "pack",
    "remove_duplicate",
    "rules",
    "schedules",
    "set_num_threads",
    "trajectory",
    "verify",
    "warmup",
]


def __dir__() -> list[str]:
    """Show what is public, not the modules that it comes from."""
    return sorted({*__all__, "adapters", *(name for name in globals() if name.startswith("__"))})
