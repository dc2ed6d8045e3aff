"""The optimizers, simplest first: one thin class a rule.

A class names its kernel, its state and the scalars of a step; `fastopt.optimizer.Optimizer` does the rest,
and gives each rule its options.
Scalars that depend on hyperparameters or the step only are worked out here, in double precision.

What a rule can need beyond that, and where it is said:

- a ``weight_decay`` that is a part of the formula: ``default_decoupled = None``;
- a hyperparameter on which not each step depends, such as the first value of a state: ``hyperparameter(...,
  scheduled=False)``; otherwise it takes a schedule, and ``tests/matrix.py`` gives it one. ``unscheduled``
  gives a reason for the error;
- scalars that depend on the step only if a hyperparameter hasn't its default: ``step_arguments``, so that
  the function in `fastopt.functional` takes t;
- an argument that is added to a rule later: a default with which nothing changes, and its name in
  `fastopt.checkpoints.upgrades.LATER_ARGUMENTS`, so that older checkpoints load;
- statistics of whole arrays: ``statistics_kernel``, see `fastopt.rule`; numbers that all arrays share:
  ``n_totals``, and the base `FromAllArrays` in the reference, so that its options know;
- steps on some rows of a table: ``zero_grad_is_noop`` for element-wise rules, ``takes_rows`` for those of
  whole arrays.

A rule that differs from another in its scalars only (AdamW) takes the other's kernel. No flag turns one rule
into another.
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
