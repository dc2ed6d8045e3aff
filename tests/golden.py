"""Rules that no well-known library has, and the numbers that the code of their authors gave.

To repeat a row, call its ``source`` outside of this project, on PyTorch, with the parameter as ``params``:

    param = torch.nn.Parameter(torch.tensor(START, dtype=torch.float64))
    optimizer = ...  # the source
    for grad in GRADS:
        param.grad = torch.tensor(grad, dtype=torch.float64)
        optimizer.step()
        print(param.tolist())

Older packages have ``add_(number, tensor)``, which has to be written ``add_(tensor, alpha=number)``.
"""

from typing import Any, NamedTuple

__all__ = ["GOLDEN", "GRADS", "START", "Golden", "rule_of"]

Matrix = list[list[float]]

START: Matrix = [[1.0, -2.0, 0.5], [0.25, 3.0, -1.5]]
GRADS: list[Matrix] = [
    [[0.5, -1.0, 2.0], [-0.25, 0.125, 1.5]],
    [[-1.5, -0.5, 1.0], [0.75, 0.0, 2.5]],
    [[0.25, 3.0, -1.0], [-2.0, 0.5, -0.5]],
    [[1.0, 0.125, 0.5], [-0.5, -4.0, 0.75]],
]


class Golden(NamedTuple):
    """Where numbers are from, our arguments, and the parameter after each step."""

    source: str
    arguments: dict[str, Any]
    params: list[Matrix]


def rule_of(name: str) -> str:
    """Return the rule of a row, of which there may be several: the name up to the first comma."""
    return name.partition(",")[0]


GOLDEN = {
    "AdaBound": Golden(
        "adabound 0.0.5: AdaBound(params, 0.1, (0.8, 0.9), final_lr=0.2, gamma=0.5, eps=1e-3)",
        {"lr": 0.1, "beta1": 0.8, "beta2": 0.9, "final_lr": 0.2, "gamma": 0.5, "eps": 1e-3},
        [
            [[0.94, -1.900315230918326, 0.4001578642776691], [0.28, 2.985, -1.5997896249987666]],
            [
                [0.9934364120843645, -1.8077559552214513, 0.3074623182936811],
                [0.23600000000000004, 2.977, -1.6981782430894765],
            ],
            [
                [1.021465633394982, -1.8547959552214512, 0.27536773996320385],
                [0.2852314900723848, 2.938333333333333, -1.757931331115653],
            ],
            [
                [1.0036883463157997, -1.899942621888118, 0.23661871705675086],
                [0.33779439717437726, 3.0326266666666664, -1.8304113311156531],
            ],
        ],
    ),
}
