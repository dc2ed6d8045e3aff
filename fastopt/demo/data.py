"""Handwritten digits, or the user's own data."""

import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

__all__ = ["Data", "digits", "load", "one_hot_labels"]

ARRAYS = ("x_train", "y_train", "x_test", "y_test")

# Labels above this and above the number of samples are names rather than classes: each makes an output.
MAX_LABEL = 1000

NUMBERED = "write np.unique(labels, return_inverse=True)[1], of the labels for training and test together"


class Data(NamedTuple):
    """Inputs of shape (samples, features) and integer labels, for training and for the test.

    ``one_hot`` has the names of the labels that were one-hot in the file.
    """

    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray
    one_hot: tuple[str, ...] = ()

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
    """Read an ``.npz`` file with arrays x_train, y_train, x_test and y_test, as Keras's mnist.npz.

    Labels may also be one-hot, whole numbers of another dtype, or a column of a matrix. Raises ValueError,
    which names the file and the array, if a network can't learn from the data.
    """
    arrays = read(path)
    one_hot = []
    for part in ("train", "test"):
        x, y = f"x_{part}", f"y_{part}"
        arrays[x] = inputs(arrays[x], f"{x} in {path}", dtype)
        n_samples = len(arrays[x])
        if arrays[y].shape[:1] != (n_samples,) or arrays[y].ndim > 2:
            raise ValueError(
                f"{y} in {path} must have a label for each of the {n_samples} samples in {x}, "
                f"got shape {arrays[y].shape}; save one integer a sample"
            )
        if arrays[y].ndim == 2 and arrays[y].shape[1] > 1:
            arrays[y] = one_hot_labels(arrays[y], f"{y} in {path}")
            one_hot.append(y)
        arrays[y] = labels(arrays[y].reshape(-1), f"{y} in {path}", max(MAX_LABEL, n_samples))
    sizes = [arrays[x].shape[1] for x in ("x_train", "x_test")]
    if sizes[0] != sizes[1]:
        raise ValueError(
            f"x_test in {path} must have samples of the size of x_train's, {sizes[0]}, got {sizes[1]}; "
            "save both in the same shape"
        )
    return Data(**arrays, one_hot=tuple(one_hot))


def read(path: Path) -> dict[str, np.ndarray]:
    """Return the arrays of an ``.npz`` file."""
    if not path.exists():
        raise ValueError(f"there is no file {str(path)!r}")
    if not zipfile.is_zipfile(path):
        raise ValueError(f"{path} can't be read as an .npz file; write it with np.savez")
    with np.load(path, allow_pickle=False) as file:
        missing = [name for name in ARRAYS if name not in file]
        if missing:
            raise ValueError(f"{path} has no array {', '.join(missing)}; it needs {', '.join(ARRAYS)}")
        try:
            arrays = {name: file[name] for name in ARRAYS}
        except (ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise ValueError(f"{path} is damaged or of another kind: {error}") from None
    if (arrays["x_train"].dtype == np.uint8) != (arrays["x_test"].dtype == np.uint8):
        raise ValueError(
            f"x_test in {path} must be uint8 if x_train is, got {arrays['x_test'].dtype} and "
            f"{arrays['x_train'].dtype}; save both alike, as only uint8 is divided by 255"
        )
    return arrays


def inputs(x: np.ndarray, name: str, dtype: Any) -> np.ndarray:
    """Return inputs as a matrix of floats, a sample a row; bytes are divided by 255."""
    if x.dtype.kind not in "fiub":
        raise ValueError(f"{name} must be numbers, got {x.dtype}; convert them with astype(float)")
    if x.ndim < 2 or not x.size:
        raise ValueError(f"{name} must have shape (samples, ...), got {x.shape}; save one sample a row")
    flat = x.reshape(len(x), -1)
    with np.errstate(over="ignore"):
        found = (flat / (255 if x.dtype == np.uint8 else 1)).astype(dtype)
    bad = np.argwhere(~np.isfinite(found))
    if len(bad):
        sample, value = bad[0, 0], flat[tuple(bad[0])]
        kind = f" in {np.dtype(dtype)}" if np.isfinite(value) else ""
        remedy = "scale it, or use --dtype float64" if kind else "drop such samples, or use np.nan_to_num"
        raise ValueError(f"{name} must be finite{kind}, got {value:g} in sample {sample}; {remedy}")
    return found


def one_hot_labels(y: np.ndarray, name: str) -> np.ndarray:
    """Return the labels of one-hot rows; raise ValueError if a row isn't a single 1 among zeros."""
    if y.dtype.kind not in "fiub":
        raise ValueError(f"{name} must be one-hot, as its shape is {y.shape}, got {y.dtype}; {NUMBERED}")
    wrong = np.flatnonzero(((y != 0) & (y != 1)).any(axis=1) | ((y == 1).sum(axis=1) != 1))
    if len(wrong):
        row = np.array2string(y[wrong[0]], separator=", ", threshold=10, max_line_width=1000)
        raise ValueError(
            f"{name} must be one-hot, as its shape is {y.shape}, got {row} for sample {wrong[0]}; "
            "if the largest counts, write labels.argmax(axis=1)"
        )
    return y.argmax(axis=1)


def labels(y: np.ndarray, name: str, maximum: int) -> np.ndarray:
    """Return labels as integers from 0; raise ValueError if one isn't a whole number up to the maximum."""
    must = f"{name} must be whole numbers 0, 1, ..., got"
    if y.dtype.kind not in "fiub":
        raise ValueError(f"{must} {y.dtype}; {NUMBERED}")
    wrong = np.flatnonzero(~((y >= 0) & (y <= maximum) & (y == np.floor(y))))
    if len(wrong):
        value = y[wrong[0]].item()
        shown = int(value) if np.isfinite(value) and value == int(value) else value
        raise ValueError(f"{must} {shown} for sample {wrong[0]}; {NUMBERED}")
    return y.astype(np.intp)
