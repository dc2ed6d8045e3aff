"""Steps of programs by others: their own optimizers beside fastopt.

``python -m benchmarks.programs`` prints the ratios of one run: both in turn, medians of blocks. Parameters
and gradients have the shapes, dtypes and layouts of the programs, and gradients are other arrays at each
step. The programs' formulas are written here anew; the volumes are those of *Deep Learning from Scratch*.
``--keep`` writes the times of the fastest of 500 blocks, with machine and date, to
``benchmarks/programs.json``, which ``python -m benchmarks.programs_picture`` draws.
"""

import json
from argparse import ArgumentParser
from collections.abc import Callable, Iterator, Sequence
from itertools import cycle, pairwise
from pathlib import Path
from typing import Any

import numpy as np

import fastopt
from fastopt import functional, reference
from fastopt.adapters import rules

from .courses import arrays, by_cs231n, by_dezero, by_nnfs, by_numpy_ml
from .layouts import convolution_gradient
from .machine import describe
from .timing import Step, in_turn, print_ratios, read, timed, warmed

Shapes = list[tuple[int, ...]]
Arrays = list[np.ndarray]
BOOK = [shape for n, m in ((784, 100), *[(100, 100)] * 3, (100, 10)) for shape in ((n, m), (m,))]
LR = 1e-9
RESULTS = Path(__file__).with_suffix(".json")

# µs of a block of steps, which is shorter than a process may run before it is another one's turn; and the
# number of blocks.
MIN_BLOCK, N_BLOCKS = 500, 500


def dense(*widths: int, column: bool = False) -> Shapes:
    """Return the shapes of weights and biases, which are (1, n), or (n, 1) beside transposed weights."""
    pairs = pairwise(widths)
    if column:
        return [shape for n, m in pairs for shape in ((m, n), (m, 1))]
    return [shape for n, m in pairs for shape in ((n, m), (1, m))]


def anew(grads: Arrays) -> Iterator[Arrays]:
    """Yield gradients that are other arrays at each step."""
    return cycle([[grad.copy("K") for grad in grads] for _ in range(3)])


# Deep Learning from Scratch.


class BookAdam:
    """Volume 2's Adam, whose step size is a ``np.float64``: in float32 NumPy 2 computes a part in float64."""

    def __init__(self) -> None:
        self.t = 0
        self.m: Arrays = []
        self.v: Arrays = []

    def update(self, params: Arrays, grads: Arrays) -> None:
        """Update the parameters."""
        if not self.t:
            self.m, self.v = ([np.zeros_like(param) for param in params] for _ in range(2))
        self.t += 1
        lr_t = LR * np.sqrt(1.0 - 0.999**self.t) / (1.0 - 0.9**self.t)
        for param, grad, m, v in zip(params, grads, self.m, self.v, strict=True):
            m += (1 - 0.9) * (grad - m)
            v += (1 - 0.999) * (grad**2 - v)
            param -= lr_t * m / (np.sqrt(v) + 1e-7)


def book(rule: str, shapes: Shapes, container: type, dtype: str = "float64", own: Any = None) -> Any:
    """Return the step of a network of the book's, with parameters in a dict or a list."""

    def make(by: str) -> Step:
        params, grads = arrays(shapes, dtype)
        sets = anew([convolution_gradient(grad) for grad in grads])
        optimizer = getattr(fastopt, rule)(LR) if by == "fastopt" else (own or getattr(reference, rule)(LR))
        if container is list:
            return lambda: optimizer.update(params, next(sets))
        named = dict(enumerate(params))
        return lambda: optimizer.update(named, dict(enumerate(next(sets))))

    return make


def two_networks(by: str) -> Step:
    """Return the step of volume 1's comparison: one SGD for networks with and without normalization."""
    normalized = [*BOOK, *[(100,)] * 8]
    optimizer = fastopt.SGD(LR) if by == "fastopt" else reference.SGD(LR)
    nets = [(dict(enumerate(params)), anew(grads)) for params, grads in map(arrays, (normalized, BOOK))]

    def step() -> None:
        for params, sets in nets:
            optimizer.update(params, dict(enumerate(next(sets))))

    return step


# Other programs.


def numpy_cnn(by: str) -> Step:
    """Return a step of ludics/numpy-cnn: Adam on tensors, averages by ``np.copyto``."""
    shapes = [(5, 5, 1, 6), (6,), (5, 5, 6, 16), (16,), (400, 120), (120,), (120, 84), (84,), (84, 10), (10,)]
    params, grads = arrays(shapes)
    sets, m, v = anew(grads), [np.zeros_like(p) for p in params], [np.zeros_like(p) for p in params]
    optimizer, powers = fastopt.Adam(LR, eps=1e-8), [1.0, 1.0]

    def own() -> None:
        powers[:] = powers[0] * 0.9, powers[1] * 0.999
        lr_t = LR * np.sqrt(1 - powers[1]) / (1 - powers[0])
        for param, grad, m_own, v_own in zip(params, next(sets), m, v, strict=True):
            np.copyto(m_own, 0.9 * m_own + (1 - 0.9) * grad)
            np.copyto(v_own, 0.999 * v_own + (1 - 0.999) * grad * grad)
            param -= lr_t * m_own / (np.sqrt(v_own) + 1e-8)

    return own if by == "own" else lambda: optimizer.update(params, next(sets))


def ml_from_scratch(by: str) -> Step:
    """Return a step of ML-From-Scratch: an Adam for each array, which returns a new one."""
    params, grads = arrays(dense(64, 512, 512, 512, 512, 10))
    sets, states = anew(grads), [[np.zeros_like(p), np.zeros_like(p)] for p in params]

    def own(w: Any, grad: Any, state: Arrays) -> Any:
        state[0] = 0.9 * state[0] + (1 - 0.9) * grad
        state[1] = 0.999 * state[1] + (1 - 0.999) * np.power(grad, 2)
        return w - LR * (state[0] / (1 - 0.9)) / (np.sqrt(state[1] / (1 - 0.999)) + 1e-8)

    def ours(w: Any, grad: Any, state: Arrays) -> Any:
        w = w.copy()  # as the layer still needs the old weights
        rules.corrected_adam(w, grad, *state, t=1, lr=LR)
        return w

    def step() -> None:
        for i, grad in enumerate(next(sets)):
            params[i] = (own if by == "own" else ours)(params[i], grad, states[i])

    return step


def network2(by: str) -> Step:
    """Return a step of Nielsen's network2: new lists of weights, which decay, and of biases."""
    params, grads = arrays(dense(784, 30, 10, column=True))
    own, sets, decay = [params[::2], params[1::2]], anew(grads), 1 - 0.1 * 5e-5

    def plain() -> None:
        new = next(sets)
        own[0] = [decay * w - LR * g for w, g in zip(own[0], new[::2], strict=True)]
        own[1] = [b - LR * g for b, g in zip(own[1], new[1::2], strict=True)]

    def ours() -> None:
        new = next(sets)
        functional.sgd(own[0], new[::2], lr=LR, weight_decay=(1 - decay) / LR, decoupled=True)
        functional.sgd(own[1], new[1::2], lr=LR)

    return plain if by == "own" else ours


def joelnet(by: str) -> Step:
    """Return a step of joelnet: SGD over pairs from a generator."""
    params, grads = arrays([(10, 50), (50,), (50, 4), (4,)])
    sets, optimizer = anew(grads), fastopt.SGD(LR)

    def own() -> None:
        for param, grad in zip(params, next(sets), strict=True):
            param -= LR * grad

    return own if by == "own" else lambda: optimizer.update(tuple(params), tuple(next(sets)))


def tinynn(by: str) -> Step:
    """Return a step of tinynn: Adam on object arrays of arrays in nested containers."""
    params, grads = arrays(dense(784, 200, 100, 70, 30, 10), "float32")
    sets = anew(grads)
    optimizer = fastopt.AdamW(LR, weight_decay=0.0)
    state: list[Any] = [0, 0, 0]

    def nested(flat: Arrays) -> list[dict[str, np.ndarray]]:
        return [{"w": flat[i], "b": flat[i + 1]} for i in range(0, len(flat), 2)]

    def together(flat: Arrays) -> Any:
        result = np.empty(len(flat), object)
        result[:] = flat
        return result

    layers = nested(params)

    def own() -> None:
        flat = together([array for layer in layers for array in layer.values()])
        grad, t = together(next(sets)), state[0] + 1
        m, v = state[1] + (1 - 0.9) * (grad - state[1]), state[2] + (1 - 0.999) * (grad**2 - state[2])
        state[:] = t, m, v
        flat += -LR * (m / (1 - 0.9**t)) / ((v / (1 - 0.999**t)) ** 0.5 + 1e-8)
        for layer, values in zip(layers, nested(list(flat)), strict=True):
            layer.update(values)

    def ours() -> None:
        optimizer.update(fastopt.flatten(layers), fastopt.flatten(nested(next(sets))))

    return own if by == "own" else ours


def hipsternet(by: str) -> Step:
    """Return a step of hipsternet: Adam over a dict, with gradients of biases that are broadcast."""
    params, grads = arrays([*dense(784, 128, 128, 10), *[(1, 128)] * 4])
    sets = anew([grad.reshape(-1) if len(grad) == 1 else grad for grad in grads])
    model, optimizer = dict(enumerate(params)), fastopt.PaperAdam(LR)
    m, v = ({key: np.zeros_like(param) for key, param in model.items()} for _ in range(2))
    steps = [0]

    def own() -> None:
        t = steps[0] = steps[0] + 1
        for key, grad in enumerate(next(sets)):
            m[key] = 0.9 * m[key] + (1.0 - 0.9) * grad
            v[key] = 0.999 * v[key] + (1.0 - 0.999) * grad**2
            model[key] -= LR * (m[key] / (1.0 - 0.9**t)) / (np.sqrt(v[key] / (1.0 - 0.999**t)) + 1e-8)

    def ours() -> None:
        optimizer.update(model, {k: grad.reshape(model[k].shape) for k, grad in enumerate(next(sets))})

    return own if by == "own" else ours


def rnn_from_scratch(by: str) -> Step:
    """Return a step of rnn-from-scratch: SGD with bounded elements of the gradients."""
    params, grads = arrays([(64, 18), (64, 64), (2, 64), (64, 1), (2, 1)])
    sets, optimizer = anew(grads), fastopt.SGD(LR, clip_value=1)

    def own() -> None:
        new = next(sets)
        for grad in new:
            np.clip(grad, -1, 1, out=grad)
        for param, grad in zip(params, new, strict=True):
            param -= LR * grad

    return own if by == "own" else lambda: optimizer.update(params, next(sets))


def autograd_example(by: str) -> Step:
    """Return a step of autograd's neural net: Adam on one flat vector, without the flattening."""
    (x,), (grad,) = arrays([(178_110,)])
    state: list[Any] = [x, np.zeros_like(x), np.zeros_like(x), 0]

    def own() -> None:
        x, m, v, i = state
        m = (1 - 0.9) * grad + 0.9 * m
        v = (1 - 0.999) * (grad**2) + 0.999 * v
        x = x - LR * (m / (1 - 0.9 ** (i + 1))) / (np.sqrt(v / (1 - 0.999 ** (i + 1))) + 1e-8)
        state[:] = x, m, v, i + 1

    def ours() -> None:
        state[3] += 1
        rules.corrected_adam(*(state[0], grad, state[1], state[2]), t=state[3], lr=LR)

    return own if by == "own" else ours


def sklearn_steps(by: str) -> Step:
    """Return a step of scikit-learn's Adam in a network with 50 hidden units."""
    from sklearn.neural_network._stochastic_optimizers import AdamOptimizer

    from fastopt.adapters.sklearn import patch

    params, grads = arrays([(64, 50), (50, 10), (50,), (10,)])
    sets, optimizer = anew(grads), AdamOptimizer(params, LR)
    active = patch()

    def step() -> None:
        if by == "own":
            optimizer.update_params(params, next(sets))
            return
        with active:
            optimizer.update_params(params, next(sets))

    active.__exit__()
    return step


CBOW = [(10_000, 100), (10_000, 100)]
SEQ2SEQ = [(13, 16), (16, 512), (128, 512), (512,)] * 2 + [(128, 13), (13,)]
CONVOLUTION = [(30, 1, 5, 5), (30,), (4320, 100), (100,), (100, 10), (10,)]

PROGRAMS: dict[str, Callable[[str], Step]] = {
    "volume 1, ch. 6, Adam": book("Adam", BOOK, dict),
    "volume 1, ch. 6, two networks, SGD": two_networks,
    "volume 1, ch. 7, convolution, Adam": book("Adam", CONVOLUTION, dict),
    "volume 2, ch. 1, spiral, SGD": book("SGD", [(2, 10), (10,), (10, 3), (3,)], list),
    "volume 2, ch. 4, CBOW, Adam": book("Adam", CBOW, list, "float32", BookAdam()),
    "volume 2, ch. 7, seq2seq, Adam": book("Adam", SEQ2SEQ, list, "float32", BookAdam()),
    "volume 3, step 48, SGD": lambda by: by_dezero("SGD", arrays([(2, 10), (10,), (10, 3), (3,)]), by),
    "volume 3, step 48, Adam": lambda by: by_dezero("Adam", arrays([(2, 10), (10,), (10, 3), (3,)]), by),
    "Neural Networks from Scratch, Adam": lambda by: by_nnfs(
        "adam", arrays(dense(784, 128, 128, 10), "float32"), by
    ),
    "CS231n, FullyConnectedNet, Adam": lambda by: by_cs231n(
        "adam", arrays(dense(3072, 100, 100, 100, 100, 100, 10), "float32"), by
    ),
    "numpy-ml, FullyConnected, Adam": lambda by: by_numpy_ml("Adam", arrays(dense(64, 200, 100, 10)), by),
    "scikit-learn, 64-50-10, Adam": sklearn_steps,
    "autograd, neural_net.py, Adam": autograd_example,
    "ludics/numpy-cnn, Adam": numpy_cnn,
    "ML-From-Scratch, perceptron, Adam": ml_from_scratch,
    "Nielsen's network2, SGD": network2,
    "joelnet, fizzbuzz, SGD": joelnet,
    "tinynn, MNIST, Adam": tinynn,
    "hipsternet, MNIST, Adam": hipsternet,
    "rnn-from-scratch, SGD": rnn_from_scratch,
}


def make(program: str, by: str) -> Step:
    """Return a step of a program."""
    return PROGRAMS[program](by)


class Programs:
    """One step."""

    params = ([*PROGRAMS], ["own", "fastopt"])
    param_names = ("program", "by")

    def setup_cache(self):
        return timed(make, self.params)

    setup_cache.timeout = 600

    def track_step(self, times, *case):
        return read(times, *case)

    track_step.unit = "µs"


def fastest(steps: Sequence[Step]) -> list[float]:
    """Return the µs of each step in the fastest of its blocks, which are taken in turn.

    What else the machine does can only add time: these repeat within a tenth, where medians differ by factors
    on a busy machine.
    """
    numbers = [max(1, round(MIN_BLOCK / min(in_turn([step], 1, 1)[0] for _ in range(5)))) for step in steps]
    blocks = [in_turn(steps, numbers, 1) for _ in range(N_BLOCKS)]
    return [float(f"{min(times):.4g}") for times in zip(*blocks, strict=True)]


def main() -> None:
    """Print the times of all programs, or keep them."""
    parser = ArgumentParser(prog="python -m benchmarks.programs", description="Measure steps of programs.")
    parser.add_argument("--keep", action="store_true", help=f"write {RESULTS.name} instead of printing")
    if not parser.parse_args().keep:
        print_ratios(make, Programs.params)
        return
    machine, steps = describe(), {}
    for program in PROGRAMS:
        try:
            pair = {by: warmed(lambda program=program, by=by: make(program, by)) for by in Programs.params[1]}
        except NotImplementedError as error:
            print(f"{program}: {error}")
            continue
        steps[program] = dict(zip(pair, fastest([*pair.values()]), strict=True))
    text = json.dumps({"machine": machine, "steps": steps}, indent=2, ensure_ascii=False)
    RESULTS.write_text(f"{text}\n", "utf-8")


if __name__ == "__main__":
    main()
