"""Each rule as a function on arrays of the caller's, who keeps the state: ``functional.adam``, ``sgd``, ...

They are for programs that have a place of their own for momenta and moving averages: no state is kept here.
They are made from the classes, and take the same steps.

Examples
--------
>>> from fastopt import functional
>>> W, dW = np.ones(2), np.array([1.0, -2.0])
>>> m, v = functional.adam.states(W)
>>> functional.adam(W, dW, m, v, t=1, lr=0.1)
>>> W.round(3), m
(array([0.9, 1.1]), array([ 0.1, -0.2]))
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
