"""The optimizers, simplest first: one thin class a rule.

A class names its kernel, its state and the scalars of a step; `fastopt.optimizer.Optimizer` does the rest,
and gives each rule its options.
Scalars that depend on hyperparameters or the step only are worked out here, in double precision.
"""

from fastopt.optimizers.adam import (
    AdaBelief,
    Adam,
    AdaMax,
    AdamW,
    Adan,
    AdEMAMix,
    AMSGrad,
    NAdam,
    RAdam,
    ScheduleFreeAdamW,
    Yogi,
)
from fastopt.optimizers.adaptive import FTRL, AdaDelta, AdaGrad, RMSprop, RMSpropGraves
from fastopt.optimizers.layerwise import LAMB, LARS, SM3, Adafactor, NovoGrad, Prodigy
from fastopt.optimizers.matrix import Muon
from fastopt.optimizers.sgd import ASGD, SGD, Momentum, Nesterov, OptimisticGD, ScheduleFreeSGD
from fastopt.optimizers.sign import Lion, Rprop, Signum

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
    "Rprop",
    "ScheduleFreeAdamW",
    "ScheduleFreeSGD",
    "Signum",
    "Yogi",
]  # the rules, and nothing else
