"""Handwritten digits, or the user's own data."""

import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

__all__ = ["Data", "digits", "load"]


class Data(NamedTuple):
    """Inputs of shape (samples, features) and integer labels, for training and for the test."""

    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray

    @property
    def classes(self) -> int:
        """The number of classes."""
        return int(max(self.y_train.max(), self.y_test.max())) + 1

    def widths(self, hidden: Sequence[int]) -> list[int]:
        """Return the widths of a network's layers, with these hidden ones."""
        return [self.x_train.shape[1], *hidden, self.classes]

    def steps(self, batch: int) -> int:
        """Return the number of batches in a pass; one of all samples if there are fewer than that."""
        return max(1, len(self.x_train) // batch)

    def shuffled(self, batch: int, rng: np.random.Generator) -> np.ndarray:
        """Return the indices of the samples of each batch, a row each; some may be left over."""
        steps, order = self.steps(batch), rng.permutation(len(self.x_train))
        return order[: steps * batch].reshape(steps, -1)


def digits(dtype: Any = np.float64) -> Data:
    """Return scikit-learn's 1,797 digits of 8 × 8 pixels from 0 to 1; every fifth is for the test."""
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    x = (x / 16).astype(dtype)
    test = np.arange(len(x)) % 5 == 4
    return Data(x[~test], y[~test], x[test], y[test])


def load(path: Path, dtype: Any = np.float64) -> Data:
    """Read an ``.npz`` file with arrays x_train, y_train, x_test and y_test, as Keras's mnist.npz."""
    if not zipfile.is_zipfile(path):
        raise ValueError(f"{path} can't be read as an .npz file")
    with np.load(path, allow_pickle=False) as file:
        missing = [name for name in Data._fields if name not in file]
        if missing:
            raise ValueError(f"{path} has no array {', '.join(missing)}; it needs {', '.join(Data._fields)}")
        try:
            arrays = {name: file[name] for name in Data._fields}
        except (ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise ValueError(f"{path} is damaged or of another kind: {error}") from None
    for part in ("train", "test"):
        x, y = arrays[f"x_{part}"], arrays[f"y_{part}"]
        if x.dtype.kind not in "fiu" or x.ndim < 2 or not x.size:
            raise ValueError(f"x_{part} in {path} must be numbers, one sample a row, not {x.dtype} {x.shape}")
        if y.dtype.kind not in "iu" or y.shape != x.shape[:1] or y.min() < 0:
            raise ValueError(f"y_{part} in {path} must be {len(x)} labels 0, 1, ..., not {y.dtype} {y.shape}")
        scale = 255 if x.dtype == np.uint8 else 1
        arrays[f"x_{part}"] = (x.reshape(len(x), -1) / scale).astype(dtype)
        arrays[f"y_{part}"] = y.astype(np.intp)
    if arrays["x_train"].shape[1] != arrays["x_test"].shape[1]:
        raise ValueError(f"x_train and x_test in {path} have samples of different sizes")
    return Data(**arrays)
