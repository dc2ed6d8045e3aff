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
    "StableAdamW": Golden(
        "pytorch_optimizer 4.1.0: StableAdamW(params, 0.1, (0.8, 0.9), eps=1e-3, weight_decay=0.1)",
        {"lr": 0.1, "beta1": 0.8, "beta2": 0.9, "eps": 0.001, "weight_decay": 0.1},
        [
            [
                [0.8901996007984032, -1.8800999000999001, 0.3950499750124937],
                [0.34710159362549803, 2.8707936507936505, -1.5849333777481678],
            ],
            [
                [0.9347945555926161, -1.7685858534820649, 0.2983268806687472],
                [0.29018041740587414, 2.778251426203028, -1.6675336461709376],
            ],
            [
                [0.9509189425169722, -1.7893012064026876, 0.26807701584884225],
                [0.3301391588624308, 2.688713865892754, -1.7046877638772164],
            ],
            [
                [0.9236191913683156, -1.8067455233729974, 0.22662429228570208],
                [0.3794336003557786, 2.716928734250466, -1.7499866365550851],
            ],
        ],
    ),
    "MARS": Golden(
        "github.com/AGI-Arena/MARS, commit 4831e28: "
        "MARS(params, 0.1, (0.8, 0.9), 1e-3, 0.1, gamma=0.1, optimize_1d=True)",
        {"lr": 0.1, "beta1": 0.8, "beta2": 0.9, "gamma": 0.1, "eps": 0.001, "weight_decay": 0.1},
        [
            [
                [0.890547553236346, -1.8802745282122284, 0.39513745277944323],
                [0.3464108571641539, 2.8721548166406254, -1.5848168135590273],
            ],
            [
                [0.9367169039967935, -1.7821846771840437, 0.31174445409194274],
                [0.2879959080531874, 2.8043668861900732, -1.6685906493310014],
            ],
            [
                [0.9491575614397627, -1.8008870297064494, 0.28208345591223094],
                [0.3236575838642121, 2.703645769057366, -1.7011079028317577],
            ],
            [
                [0.9342496261599501, -1.7977097485587932, 0.2437077769993486],
                [0.3488655401234291, 2.7315745202256125, -1.735992418064505],
            ],
        ],
    ),
}
