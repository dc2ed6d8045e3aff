"""Rules in the order of operations of courses and other libraries, as functions: they have their bits.

Examples
--------
>>> from fastopt.adapters import rules
>>> W, v = np.ones(2), np.zeros(2)
>>> rules.subtracted_momentum(W, np.ones(2), v, lr=0.1)
>>> W
array([0.9, 0.9])
"""

from fastopt.functional import adagrad, momentum, sgd
from fastopt.functional.functions import make
from fastopt.optimizers import peers

__all__ = [
    "adagrad", "averaged_adam", "averaged_rmsprop", "corrected_adam", "double_momentum", "momentum", "sgd",
    "subtracted_momentum",
]  # fmt: skip

averaged_adam = make("averaged_adam", peers.AveragedAdam)
averaged_rmsprop = make("averaged_rmsprop", peers.AveragedRMSprop)
corrected_adam = make("corrected_adam", peers.CorrectedAdam)
double_momentum = make("double_momentum", peers.DoubleMomentum)
subtracted_momentum = make("subtracted_momentum", peers.SubtractedMomentum)
