"""MyGrad: any rule over tensors, with ``step()``.

The rules have fastopt's arguments after the tensors.

Examples
--------
>>> import mygrad
>>> from fastopt.adapters.mygrad import SGD
>>> W = mygrad.tensor([1.0, 2.0])
>>> optimizer = SGD([W], lr=0.1)  # of a model: SGD(model.parameters, lr=0.1)
>>> (W**2).sum().backward()
>>> optimizer.step()
True
>>> W.data
array([0.8, 1.6])
"""

from collections.abc import Iterable
from types import MappingProxyType
from typing import Any

from fastopt import optimizers
from fastopt.adapters.common import in_form_of
from fastopt.optimizer import Optimizer

__all__ = [*optimizers.RULES]


def __getattr__(name: str) -> Any:
    return in_form_of(OverTensors, name)


class OverTensors(Optimizer):
    """A rule over tensors. Its state is keyed by their places in the iterable."""

    def __init__(self, tensors: Iterable[Any], *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._tensors = list(tensors)

    def step(self) -> bool:
        """Update the tensors that have gradients; the others are left out.

        Raises
        ------
        TypeError, ValueError
            As `fastopt.Adam.update`, before anything has changed. (MyGrad makes the data of tensors read-only
            from the forward pass to `backward`.)
        """
        ready = {i: tensor for i, tensor in enumerate(self._tensors) if tensor.grad is not None}
        return self.update(
            MappingProxyType({i: tensor.data for i, tensor in ready.items()}),
            {i: tensor.grad for i, tensor in ready.items()},
        )
