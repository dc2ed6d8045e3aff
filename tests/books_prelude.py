"""Imported by the books' scripts that `test_books` runs: seeds, and a record of the parameters of each step.

The scripts run in processes of their own, with fastopt and without. Everything random is the same in both.
"""

import atexit
import hashlib
import json
import os
from importlib import import_module

import numpy as np

RULES = ("SGD", "Momentum", "MomentumSGD", "Nesterov", "AdaGrad", "AdaDelta", "RMSprop", "Adam")
N_IMAGES = {True: 300, False: 100}  # for training, for the test
N_WORDS = 1000
# The number of signs, and the lengths of questions and answers.
SEQUENCES = {"addition.txt": (13, 7, 5), "date.txt": (59, 29, 11)}

signs = []
# Whether the books' own optimizers round as fastopt's.
ROUNDED = "BOOKS_ROUNDED" in os.environ

steps = []


def images(train):
    """Return random images and labels in the shapes of MNIST's, but for their number."""
    rng = np.random.default_rng(int(train))
    n = N_IMAGES[train]
    return rng.integers(0, 256, (n, 1, 28, 28), np.uint8), rng.integers(0, 10, n).astype(np.uint8)


def load_mnist(normalize=True, flatten=True):
    """Return images as volume 1's `load_mnist` does."""
    both = []
    for train in (True, False):
        x, t = images(train)
        x = x.astype(np.float32) / np.float32(255) if normalize else x
        both.append((x.reshape(len(x), -1) if flatten else x, t))
    return tuple(both)


def load_corpus(kind="train"):
    """Return numbers of words, each at least once, and the vocabulary, as volume 2's `ptb.load_data` does."""
    rng = np.random.default_rng(len(kind))
    n = 2200 if kind == "train" else 800
    corpus = rng.permutation(np.concatenate([np.arange(N_WORDS), rng.integers(0, N_WORDS, n)]))[:n]
    if kind == "train":
        corpus[:N_WORDS] = rng.permutation(N_WORDS)
    ids = {f"word{i}": i for i in range(N_WORDS)}
    return corpus, ids, dict(enumerate(ids))


def load_sequences(file_name="addition.txt"):
    """Return questions and answers in the shapes of volume 2's `sequence.load_data`."""
    rng = np.random.default_rng(len(file_name))
    n_signs, n_question, n_answer = SEQUENCES[file_name]
    signs[:] = [chr(ord("a") + i) for i in range(n_signs)]
    x, t = rng.integers(0, n_signs, (261, n_question)), rng.integers(0, n_signs, (261, n_answer))
    t[:, 0] = 0  # the sign at which an answer starts
    return (x[:256], t[:256]), (x[256:], t[256:])


def vocabulary():
    """Return the numbers of the signs, and the signs of the numbers."""
    return {sign: i for i, sign in enumerate(signs)}, dict(enumerate(signs))


def params_of(optimizer, arguments):
    """Return the parameters of a step: a dict's, a list's, or those of a model of DeZero's."""
    if not arguments:
        return [param.data for param in optimizer.target.params() if param.data is not None]
    params = arguments[0]
    return [*params.values()] if isinstance(params, dict) else params


def rounded(params, grads):
    """Return the gradients in the dtypes of their parameters, in the same container."""
    if isinstance(grads, dict):
        return {key: rounded(param, grads[key]) for key, param in params.items()}
    if isinstance(grads, list):
        return [rounded(param, grad) for param, grad in zip(params, grads, strict=True)]
    return np.asarray(grads, np.asarray(params).dtype)


def follow(cls):
    """Record the class, the parameters' dtypes and a checksum of them after each step."""
    update = cls.update

    def step(self, *arguments):
        if ROUNDED and arguments:
            arguments = arguments[0], rounded(*arguments)
        result = update(self, *arguments)
        if type(self) is cls:
            arrays = [np.asarray(array) for array in params_of(self, arguments)]
            digest = hashlib.sha256(b"".join(array.tobytes() for array in arrays)).hexdigest()
            dtypes = sorted({str(array.dtype) for array in arrays})
            steps.append((cls.__module__, cls.__name__, dtypes, digest))
        return result

    cls.update = step


class Float32NumPy:
    """NumPy, but the root of a number is a float of Python's, which leaves float32 arrays float32."""

    def __getattr__(self, name):
        return getattr(np, name)

    def sqrt(self, x):
        return np.sqrt(x) if isinstance(x, np.ndarray) else float(np.sqrt(x))


def round_as_fastopt(module):
    """Round the books' own steps as fastopt documents it.

    The step size of Adam doesn't change the dtype of a step, and a gradient has its parameter's dtype.
    """
    if hasattr(module, "np"):
        module.np = Float32NumPy()
    for name in RULES:
        if hasattr(cls := getattr(module, name, None), "update_one"):
            cls.update_one = rounded_one(cls.update_one)


def rounded_one(update_one):
    """Return DeZero's step of a parameter, after the hooks, with the gradient in the parameter's dtype."""

    def step(self, param):
        param.grad.data = rounded(param.data, param.grad.data)
        update_one(self, param)

    return step


def write():
    """Write the record where the test reads it."""
    with open(os.environ["BOOKS_RECORD"], "w") as file:
        json.dump(steps, file)


def prepare_dezero():
    """Give DeZero random images, and a network without its download of weights."""
    datasets, models = import_module("dezero.datasets"), import_module("dezero.models")
    utils = import_module("dezero.utils")

    def prepare(self):
        self.data, self.label = images(self.train)

    def picture(url, file_name=None):
        from PIL import Image

        path = os.path.basename(url) + ".png"
        Image.fromarray(np.random.default_rng(len(url)).integers(0, 256, (40, 60, 3), np.uint8)).save(path)
        return path

    datasets.MNIST.prepare = prepare
    utils.get_file = models.utils.get_file = picture
    models.VGG16.load_weights = lambda self, path: None


np.random.seed(0)  # noqa: NPY002  the scripts draw from this generator
atexit.register(write)
if os.environ["BOOKS_OPTIMIZERS"].startswith("dezero"):
    prepare_dezero()
module = import_module(os.environ["BOOKS_OPTIMIZERS"])
if ROUNDED:
    round_as_fastopt(module)
for name in RULES:
    if hasattr(module, name):
        follow(getattr(module, name))
