"""Rules for tables, such as embeddings, of which a step changes some rows."""

from dataclasses import KW_ONLY, dataclass

from fastopt import kernels
from fastopt.kernels.common import LANES
from fastopt.optimizer import Optimizer, State, hyperparameter
from fastopt.optimizers.common import Shape

__all__ = ["RowAdaGrad"]


@dataclass(eq=False)
class RowAdaGrad(Optimizer):
    """AdaGrad with one number for each row of a table, the mean of its squares.

    h ← h + mean(g²), for each index along the first dimension; p ← p − (lr_t / (√h + eps))·g,
    where lr_t = lr / (1 + (t − 1)·lr_decay)

    Its state takes the room of one column. Gradients may be `Rows`, of which only the rows that are there are
    read and written. For vectors it is `AdaGrad`. PyTorch's FBGEMM has it as ``EXACT_ROWWISE_ADAGRAD``,
    PyTorch-BigGraph as ``RowAdagrad``.

    Take it when the parameters are large tables of embeddings.

    Parameters
    ----------
    lr : float, default 0.01
        Learning rate, at least 0.
    eps : float, default 1e-10
        Added to the root; keeps the first division defined where a row's g is 0.
    initial_accumulator_value : float, default 0.0
        h before the first step, at least 0.
    lr_decay : float, default 0.0
        Fall of the learning rate, at least 0.

    Attributes
    ----------
    h : dict or list of arrays, or None
        Sum of the means of the squared gradients, one number for each index along the first dimension.

    References
    ----------
    Duchi, Hazan and Singer 2011, *Adaptive subgradient methods*, JMLR 12, section 1.1, by rows as in
    Lerer et al. 2019, *PyTorch-BigGraph: a large-scale graph embedding system* (arXiv:1903.12287).

    Examples
    --------
    >>> W, dW = np.ones((2, 2)), np.array([[1.0, -2.0], [3.0, 4.0]])
    >>> optimizer = fastopt.RowAdaGrad()
    >>> optimizer.update([W], [dW])
    True
    >>> optimizer.h  # one number a row
    [array([[ 2.5],
           [12.5]])]
    """

    kernel = kernels.row_adagrad
    statistics_kernel = kernels.row_adagrad_measure
    takes_rows = True
    zero_grad_is_noop = True
    step_arguments = ("lr_decay",)
    lr: float = hyperparameter(0.01)
    _: KW_ONLY
    eps: float = hyperparameter(1e-10)
    initial_accumulator_value: float = hyperparameter(0.0, scheduled=False, repr=False)
    lr_decay: float = hyperparameter(0.0, repr=False)
    h = State(
        lambda self, param, grad: self.initial_accumulator_value,
        shape=lambda shape: shape[:1] + (1,) * (len(shape) - 1),
    )

    def scalars(self, t: int) -> tuple[float, ...]:
        """Give lr_t and eps."""
        return self.lr / (1 + (t - 1) * self.lr_decay), self.eps

    def n_statistics(self, shape: Shape) -> int:
        """Give the room for the sum of each row, and to take one."""
        return (shape[0] if shape else 1) + LANES
