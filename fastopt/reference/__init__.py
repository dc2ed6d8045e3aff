"""The update rules in plain NumPy, simplest first: the specification.

The classes have the names, constructors and attributes of those in `fastopt`, whose results they define
to the last bit, in float64 and in float32. They read like the textbook and check nothing.

Notation: p parameter, g gradient, lr learning rate, t number of the step. Each sum and product is rounded
in the order written, from left to right; a product of hyperparameters is a Python float.

Measured against the code of volume 1 of *Deep Learning from Scratch*: its six rules have the book's bits in
float64, and in float32 all but Adam. eps is the book's 1e-7.

This package and `fastopt.kernels` don't import each other: each checks the other. Tests compare bytes.
"""

from fastopt.reference.adam import (
    AdaBelief,
    Adam,
    AdaMax,
    AdamW,
    Adan,
    AdEMAMix,
    AMSGrad,
    NAdam,
    PaperAdam,
    RAdam,
    Yogi,
)
from fastopt.reference.adam_variants import ADOPT, AdaBound, AMSBound, LaProp, QHAdam
from fastopt.reference.adaptive import (
    FTRL,
    MADGRAD,
    AdaDelta,
    AdaGrad,
    RMSprop,
    RMSpropGraves,
    RMSpropMomentum,
)
from fastopt.reference.layerwise import LAMB, LARS, SM3, Adafactor, AdafactorMomentum, NovoGrad
from fastopt.reference.layerwise_adam import MARS, AdaMini, AdamP, StableAdamW
from fastopt.reference.learning_rate_free import DAdaptAdam, DoG, DoWG, LDoG, Prodigy
from fastopt.reference.matrix import SOAP, AdaMuon, Muon
from fastopt.reference.schedule_free import ScheduleFreeAdamW, ScheduleFreeRAdam, ScheduleFreeSGD
from fastopt.reference.sgd import ASGD, NAG, SGD, SGDM, AggMo, Momentum, Nesterov, OptimisticGD
from fastopt.reference.sign import Lion, Rprop, Signum
from fastopt.reference.tables import RowAdaGrad

__all__ = [
    "ADOPT", "ASGD", "FTRL", "LAMB", "LARS", "MADGRAD", "MARS", "NAG", "SGD", "SGDM", "SM3", "SOAP",
    "AMSBound", "AMSGrad", "AdEMAMix", "AdaBelief", "AdaBound", "AdaDelta", "AdaGrad", "AdaMax",
    "AdaMini", "AdaMuon", "Adafactor", "AdafactorMomentum", "Adam", "AdamP", "AdamW", "Adan", "AggMo",
    "DAdaptAdam", "DoG", "DoWG", "LDoG", "LaProp", "Lion", "Momentum", "Muon", "NAdam", "Nesterov",
    "NovoGrad", "OptimisticGD", "PaperAdam", "Prodigy", "QHAdam", "RAdam", "RMSprop", "RMSpropGraves",
    "RMSpropMomentum", "RowAdaGrad", "Rprop", "ScheduleFreeAdamW", "ScheduleFreeRAdam", "ScheduleFreeSGD",
    "Signum", "StableAdamW", "Yogi",
]  # fmt: skip
