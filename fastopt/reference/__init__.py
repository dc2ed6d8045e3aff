"""The update rules in plain NumPy, simplest first: the specification.

The classes have the names, constructors and attributes of those in `fastopt`, whose results they define
to the last bit, in float64 and in float32. They read like the textbook and check nothing.

Notation: p parameter, g gradient, lr learning rate, t number of the step. Each sum and product is rounded
in the order written, from left to right; a product of hyperparameters is a Python float.

Measured against the code of volume 1 of *Deep Learning from Scratch*: its six rules have the book's bits in
float64, and in float32 all but Adam. eps is the book's 1e-7.

This package and `fastopt.kernels` don't import each other: each checks the other. Tests compare bytes.
"""

from typing import TYPE_CHECKING

from fastopt.reference.adam import *
from fastopt.reference.adam_variants import *
from fastopt.reference.adaptive import *
from fastopt.reference.layerwise import *
from fastopt.reference.layerwise_adam import *
from fastopt.reference.learning_rate_free import *
from fastopt.reference.matrix import *
from fastopt.reference.schedule_free import *
from fastopt.reference.sgd import *
from fastopt.reference.sign import *
from fastopt.reference.tables import *

# Type checkers follow the imports; a list that they can't read would hide all names from them.
if not TYPE_CHECKING:
    __all__ = sorted(name for name, value in globals().items() if isinstance(value, type))
