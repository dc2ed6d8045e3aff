"""The update rules in plain NumPy: the specification.

The classes have the names, constructors and attributes of those in `fastopt`, whose results they define
to the last bit, in float64 and in float32. They read like the textbook and check nothing: arguments come
first, then the states, which the first step makes, then the step.

Notation: p parameter, g gradient, t number of the step from 1, lr learning rate, μ momentum, ρ ``rho``
or ``decay_rate``, β₁ ``beta1`` and so on; ‖x‖ is the root of the sum of squares. An arrow changes a
state or a parameter, an equals sign names a value; lines are in the order of the code. Each sum and
product is rounded in the order written, from left to right; a product of hyperparameters is a Python
float. `pairs` yields keys and gradients, `triples` parameters, too, where the code needs p itself.

Measured against the code of volume 1 of *Deep Learning from Scratch*: its six rules have the book's bits in
float64, and in float32 all but Adam. eps is the book's 1e-7.

This package and `fastopt.kernels` don't import each other: each checks the other. Tests compare bytes.

Examples
--------
>>> from fastopt import reference
>>> params, grads = {"W": np.ones(2)}, {"W": np.array([1.0, -2.0])}
>>> optimizer = reference.Momentum(lr=0.1)
>>> optimizer.update(params, grads)
>>> params["W"], optimizer.v["W"]
(array([0.9, 1.2]), array([-0.1,  0.2]))
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
