"""Each rule as a function on arrays of the caller's, who keeps the state: ``functional.adam``, ``sgd``, ...

    from fastopt import functional

    m, v = functional.adam.states(W)
    functional.adam(W, dW, m, v, t=1, lr=0.01)

They are for programs that have a place of their own for momenta and moving averages: no state is kept here.
They are made from the classes, and take the same steps.
"""

from typing import Any

from fastopt import optimizers

# The functions that aren't called as the class is in small letters.
SPELLED = {
    "OptimisticGD": "optimistic_gd", "RMSpropGraves": "rmsprop_graves",
    "RMSpropMomentum": "rmsprop_momentum",
    "ScheduleFreeSGD": "schedule_free_sgd", "ScheduleFreeAdamW": "schedule_free_adamw",
    "ScheduleFreeRAdam": "schedule_free_radam",
    "PaperAdam": "paper_adam", "StableAdamW": "stable_adamw", "AdaMini": "ada_mini",
    "AdafactorMomentum": "adafactor_momentum", "AdaMuon": "ada_muon",
    "DAdaptAdam": "dadapt_adam",
}  # fmt: skip
RULES = {SPELLED.get(name, name.lower()): name for name in optimizers.__all__}

__all__ = sorted(RULES)


def __getattr__(name: str) -> Any:
    if name not in RULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}", name=name)
    from fastopt.functional.functions import make

    globals()[name] = made = make(name, getattr(optimizers, RULES[name]))
    made.__module__ = __name__  # where pickles find it
    return made


def __dir__() -> list[str]:
    return [*__all__]
