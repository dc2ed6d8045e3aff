"""fastopt: the optimizers of networks written from scratch in NumPy, as fused Numba kernels.

``from fastopt import Adam`` stands where ``from common.optimizer import Adam`` stood in programs after
*Deep Learning from Scratch*: the same arguments, the same ``update(params, grads)``, the same results.
"""

from fastopt import adapters as adapters
from fastopt import schedules
from fastopt.arrays.gradients import clip_grads, remove_duplicate
from fastopt.arrays.packing import pack
from fastopt.arrays.rows import Rows
from fastopt.engine.threads import set_num_threads
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
    "Prodigy",
    "RAdam",
    "RMSprop",
    "RMSpropGraves",
    "Rows",
    "Rprop",
    "ScheduleFreeAdamW",
    "ScheduleFreeSGD",
    "Signum",
    "Yogi",
    "bench",
    "clip_grads",
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
