"""The update rules as fused in-place loops, simplest first: what runs.

Every kernel is ``rule(param, grad, *states, grad_scale, l2, keep, *scalars)`` over flat arrays of one
length and one dtype, with scalars of that dtype: one loop, no allocation, ``grad`` is only read. The
first three scalars are what is wrapped around a rule, so that none of it needs a pass of its own: the
gradient that a rule sees is ``grad_scale·grad + l2·param``, and the parameter that it moves is
``keep·param``. With 1, 0 and 1 they leave every bit as it is. Rules that have to measure whole arrays first
have two kernels, of whole arrays: see `fastopt.kernels.layerwise`.

Kernels run without the compiler, too: once, with ``...`` for the index, so on whole arrays of NumPy, and with
the same bits (`fastopt.kernels.plain`). So a choice that depends on an element is made by `choose`, and
``keep·param``, which mostly is the parameter, by `decayed`. A kernel that goes row by row has a second
function for this.

Each sum and product is rounded in the order written, as in `fastopt.reference`.

Roots are those of ``np.sqrt``: ``math.sqrt`` returns a Python float, with which float32 would be computed in
float64 where there is no compiler.
"""

from fastopt.kernels.adam import (
    adabelief,
    adam,
    adamax,
    adan,
    ademamix,
    amsgrad,
    nadam,
    radam,
    yogi,
)
from fastopt.kernels.adam_variants import adabound, adopt, amsbound, laprop, qhadam
from fastopt.kernels.adaptive import (
    adadelta,
    adagrad,
    ftrl,
    madgrad,
    rmsprop,
    rmsprop_graves,
    rmsprop_momentum,
)
from fastopt.kernels.layerwise import (
    adafactor,
    adafactor_measure,
    adafactor_momentum,
    adafactor_momentum_measure,
    lamb,
    lamb_measure,
    lars,
    lars_measure,
    novograd,
    novograd_measure,
    sm3,
    sm3_measure,
)
from fastopt.kernels.layerwise_adam import (
    ada_mini,
    ada_mini_measure,
    adamp,
    adamp_measure,
    mars,
    mars_measure,
    stable_adamw,
    stable_adamw_measure,
)
from fastopt.kernels.learning_rate_free import (
    dadapt_adam,
    dadapt_adam_measure,
    dog,
    dog_measure,
    dowg,
    dowg_measure,
    ldog,
    prodigy,
    prodigy_measure,
)
from fastopt.kernels.matrix import ada_muon, ada_muon_measure, muon, muon_measure, soap, soap_measure
from fastopt.kernels.schedule_free import schedule_free_adamw, schedule_free_radam, schedule_free_sgd
from fastopt.kernels.sgd import aggmo, asgd, momentum, nag, nesterov, optimistic_gd, sgd, sgdm
from fastopt.kernels.sign import lion, rprop, signum
from fastopt.kernels.tables import row_adagrad, row_adagrad_measure

__all__ = [
    "ada_mini", "ada_mini_measure", "ada_muon", "ada_muon_measure", "adabelief", "adabound", "adadelta",
    "adafactor", "adafactor_measure", "adafactor_momentum", "adafactor_momentum_measure", "adagrad",
    "adam", "adamax", "adamp", "adamp_measure", "adan", "ademamix", "adopt", "aggmo", "amsbound",
    "amsgrad", "asgd", "dadapt_adam", "dadapt_adam_measure", "dog", "dog_measure", "dowg", "dowg_measure",
    "ftrl", "lamb", "lamb_measure", "laprop", "lars", "lars_measure", "ldog", "lion", "madgrad", "mars",
    "mars_measure", "momentum", "muon", "muon_measure", "nadam", "nag", "nesterov", "novograd",
    "novograd_measure", "optimistic_gd", "prodigy", "prodigy_measure", "qhadam", "radam", "rmsprop",
    "rmsprop_graves", "rmsprop_momentum", "row_adagrad", "row_adagrad_measure", "rprop",
    "schedule_free_adamw", "schedule_free_radam", "schedule_free_sgd", "sgd", "sgdm", "signum", "sm3",
    "sm3_measure", "soap", "soap_measure", "stable_adamw", "stable_adamw_measure", "yogi",
]  # fmt: skip
