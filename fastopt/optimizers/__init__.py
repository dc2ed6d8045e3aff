"""The optimizers, simplest first: one thin class a rule.

A class names its kernel, its state and the scalars of a step; `fastopt.optimizer.Optimizer` does the rest,
and gives each rule its options.
Scalars that depend on hyperparameters or the step only are worked out here, in double precision.
"""

from typing import TYPE_CHECKING

from fastopt.namespace import late_attributes

# The rules of each family, simplest first. A family is imported when one of its rules is first used, as to
# make the class of a rule takes 0.5 ms.
FAMILIES = {
    "sgd": ("SGD", "Momentum", "Nesterov", "SGDM", "NAG", "AggMo", "OptimisticGD", "ASGD"),
    "adaptive": ("AdaGrad", "AdaDelta", "RMSprop", "RMSpropMomentum", "RMSpropGraves", "FTRL", "MADGRAD"),
    "adam": (
        *("Adam", "PaperAdam", "AdamW", "AMSGrad", "AdaMax", "NAdam", "RAdam", "AdaBelief", "Yogi", "Adan"),
        *("AdEMAMix",),
    ),
    "adam_variants": ("LaProp", "ADOPT", "QHAdam", "AdaBound", "AMSBound"),
    "schedule_free": ("ScheduleFreeSGD", "ScheduleFreeAdamW", "ScheduleFreeRAdam"),
    "sign": ("Rprop", "Signum", "Lion"),
    "layerwise": ("LARS", "LAMB", "NovoGrad", "SM3", "Adafactor", "AdafactorMomentum"),
    "layerwise_adam": ("StableAdamW", "MARS", "AdaMini", "AdamP"),
    "learning_rate_free": ("Prodigy", "DoG", "DoWG", "DAdaptAdam", "LDoG"),
    "tables": ("RowAdaGrad",),
    "matrix": ("Muon", "AdaMuon", "SOAP"),
}
# The same without families.
RULES = tuple(rule for family in FAMILIES.values() for rule in family)

if TYPE_CHECKING:
    from fastopt.optimizers.adam import *
    from fastopt.optimizers.adam_variants import *
    from fastopt.optimizers.adaptive import *
    from fastopt.optimizers.layerwise import *
    from fastopt.optimizers.layerwise_adam import *
    from fastopt.optimizers.learning_rate_free import *
    from fastopt.optimizers.matrix import *
    from fastopt.optimizers.schedule_free import *
    from fastopt.optimizers.sgd import *
    from fastopt.optimizers.sign import *
    from fastopt.optimizers.tables import *
else:
    # Type checkers follow the imports above; a list that they can't read would hide all names from them.
    __all__ = [*RULES]
    __getattr__ = late_attributes(__name__, FAMILIES)


def __dir__() -> list[str]:
    """Show also what isn't imported yet."""
    return sorted({*globals(), *RULES, *FAMILIES})
