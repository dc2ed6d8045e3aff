"""The training programs of `study`: their networks, data, held-out data and learning rates."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Protocol

import numpy as np

from fastopt.demo.data import digits
from fastopt.demo.network import MultiLayerNet
from fastopt.demo.precision.networks import CharLSTM, SimpleConvNet, SkipGram

__all__ = ["PROGRAMS", "RULES", "Batch", "Network", "Program"]

RULES = ("Adam", "AdamW", "Momentum", "Lion", "AdaGrad")

Batch = tuple[np.ndarray, np.ndarray]


class Network(Protocol):
    """What a program trains."""

    params: Any

    def gradient(self, x: np.ndarray, t: np.ndarray) -> tuple[float, dict[str, np.ndarray]]:
        """Return the loss of a batch and its gradient for each parameter."""

    def accuracy(self, x: np.ndarray, t: np.ndarray) -> float:
        """Return the share that is predicted correctly."""


@dataclass(frozen=True)
class Program:
    """A training program, which depends on nothing but the seed.

    Attributes
    ----------
    name : str
        Name in table and picture.
    steps, short_steps : int
        Number of steps of the whole study and of the short one.
    lr : mapping of str to float
        Learning rate of each rule.
    network : callable
        Returns a new network from the seed.
    batches : callable
        Yields a number of batches from the seed and that number.
    held_out : callable
        Returns the data for the accuracy.
    """

    name: str
    steps: int
    short_steps: int
    lr: Mapping[str, float]
    network: Callable[[int], Network]
    batches: Callable[[int, int], Iterator[Batch]]
    held_out: Callable[[], Batch]

    def n_steps(self, is_short: bool) -> int:
        """Return the number of steps of the short study or of the whole one."""
        return self.short_steps if is_short else self.steps


@cache
def images() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return scikit-learn's digits: images and labels for training, then those for the test."""
    data = digits(np.float32)
    return data.x_train, data.y_train, data.x_test, data.y_test


def image_batches(seed: int, steps: int, batch: int = 100) -> Iterator[Batch]:
    """Yield batches of digits, drawn with replacement as in the book."""
    rng = np.random.default_rng([seed, 1])
    x, t, *_ = images()
    for _ in range(steps):
        chosen = rng.integers(len(x), size=batch)
        yield x[chosen], t[chosen]


WORDS, TOPICS, SENTENCE, WINDOW, NEGATIVES = 10_000, 50, 20, 5, 5


@cache
def corpus() -> np.ndarray:
    """Return sentences of word numbers, one a row.

    Each sentence has a topic, and each topic the same number of words. Their frequencies are Zipf's: that of
    a topic's k-th word is proportional to 1 / k.
    """
    rng = np.random.default_rng(1)
    n_words = WORDS // TOPICS
    topics = rng.permutation(WORDS).reshape(TOPICS, n_words)
    zipf = 1 / np.arange(1, n_words + 1)
    sentences = 22_000
    ranks = rng.choice(n_words, size=(sentences, SENTENCE), p=zipf / zipf.sum())
    return topics[rng.integers(TOPICS, size=(sentences, 1)), ranks]


@cache
def noise_words() -> np.ndarray:
    """Return the cumulative probabilities of the negative samples: the frequencies to the power 0.75."""
    weights = np.bincount(corpus().ravel(), minlength=WORDS) ** 0.75
    return np.cumsum(weights / weights.sum())


def word_pairs(sentences: np.ndarray, rng: np.random.Generator, n: int, negatives: int) -> Batch:
    """Return words, and for each a word of its neighborhood with words drawn at random after it."""
    row = rng.integers(len(sentences), size=n)
    place = rng.integers(SENTENCE, size=n)
    # A place at the edge of a sentence has its neighborhood on the other edge, too.
    distance = rng.integers(1, WINDOW + 1, size=n) * rng.choice([-1, 1], size=n)
    right = sentences[row, (place + distance) % SENTENCE]
    wrong = np.searchsorted(noise_words(), rng.random((n, negatives)))
    return sentences[row, place], np.column_stack([right, np.minimum(wrong, WORDS - 1)])


def word_batches(seed: int, steps: int, batch: int = 500) -> Iterator[Batch]:
    """Yield batches of words with their candidates, from the first 20,000 sentences."""
    rng = np.random.default_rng([seed, 1])
    for _ in range(steps):
        yield word_pairs(corpus()[:20_000], rng, batch, NEGATIVES)


@cache
def held_out_pairs() -> Batch:
    """Return words of the other sentences, each with a neighbor and one word drawn at random."""
    return word_pairs(corpus()[20_000:], np.random.default_rng(2), 10_000, 1)


CHARACTERS = "0123456789+=\n"


def additions(rng: np.random.Generator, n: int) -> np.ndarray:
    """Return the numbers of n characters of text: lines such as 7+15=22."""
    # The shortest line has six characters.
    pairs = rng.integers(20, size=(n // 6 + 1, 2)).tolist()
    text = "".join(f"{a}+{b}={a + b}\n" for a, b in pairs)
    return np.array([CHARACTERS.index(character) for character in text[:n]])


def text_batches(seed: int, steps: int, batch: int = 20, time: int = 25) -> Iterator[Batch]:
    """Yield characters and the next ones, of shape (time, batch), each column a text that goes on."""
    rng = np.random.default_rng([seed, 1])
    text = additions(rng, batch * (steps * time + 1)).reshape(batch, -1).T
    for start in range(0, steps * time, time):
        yield text[start : start + time], text[start + 1 : start + time + 1]


@cache
def held_out_text() -> Batch:
    """Return 50 texts of 200 characters and the next characters."""
    text = additions(np.random.default_rng(2), 50 * 201).reshape(50, 201).T
    return text[:-1], text[1:]


PROGRAMS = (
    Program(
        "digits MLP",
        1000,
        100,
        {"Adam": 0.001, "AdamW": 0.001, "Momentum": 0.05, "Lion": 0.0001, "AdaGrad": 0.02},
        lambda seed: MultiLayerNet([64, 256, 256, 10], np.float32, seed),
        image_batches,
        lambda: images()[2:],
    ),
    Program(
        "SimpleConvNet",
        500,
        40,
        {"Adam": 0.001, "AdamW": 0.001, "Momentum": 0.05, "Lion": 0.0003, "AdaGrad": 0.02},
        lambda seed: SimpleConvNet(seed=seed),
        image_batches,
        lambda: images()[2:],
    ),
    Program(
        "word2vec",
        400,
        40,
        {"Adam": 0.01, "AdamW": 0.01, "Momentum": 15.0, "Lion": 0.003, "AdaGrad": 0.2},
        lambda seed: SkipGram(WORDS, seed=seed),
        word_batches,
        held_out_pairs,
    ),
    Program(
        "LSTM",
        500,
        40,
        {"Adam": 0.003, "AdamW": 0.003, "Momentum": 0.3, "Lion": 0.0015, "AdaGrad": 0.05},
        lambda seed: CharLSTM(len(CHARACTERS), seed=seed),
        text_batches,
        held_out_text,
    ),
)
