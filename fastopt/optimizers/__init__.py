"""The optimizers, simplest first: one thin class a rule.

A class names its kernel, its state and the scalars of a step; `fastopt.optimizer.Optimizer` does the rest,
and gives each rule the keyword ``threads``.
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
from fastopt.optimizers.sgd import ASGD, SGD, Momentum, Nesterov, ScheduleFreeSGD
from fastopt.optimizers.sign import Lion, Rprop, Signum

__all__ = [
    "ASGD",
    "FTRL",
    "SGD",
    "AMSGrad",
    "AdEMAMix",
    "AdaBelief",
    "AdaDelta",
    "AdaGrad",
    "AdaMax",
    "Adam",
    "AdamW",
    "Adan",
    "Lion",
    "Momentum",
    "NAdam",
    "Nesterov",
    "RAdam",
    "RMSprop",
    "RMSpropGraves",
    "Rprop",
    "ScheduleFreeAdamW",
    "ScheduleFreeSGD",
    "Signum",
    "Yogi",
]  # the rules, and nothing else
