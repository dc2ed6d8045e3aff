"""Each rule as a function on arrays of the caller's, who keeps the state: ``functional.adam``, ``sgd``, ...

    from fastopt import functional

    m, v = functional.adam.states(W)
    functional.adam(W, dW, m, v, t=1, lr=0.01)

They are for programs that have a place of their own for momenta and moving averages: no state is kept here.
They are made from the classes, and take the same steps.
"""

import re
from typing import Any

from fastopt import optimizers

# Before these a new word begins: stable_adamw, schedule_free_sgd. Else the name is in small letters: adagrad.
WORDS = re.compile("(?<=[a-z])(?=Adam|RAdam|SGD|GD|Free|Graves|Mini|Momentum|Muon)")
RULES = {WORDS.sub("_", rule).lower(): rule for rule in optimizers.RULES}

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
