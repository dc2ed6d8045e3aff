"""Relatives of Adam that need numbers of whole arrays: what is special about them."""

import numpy as np
import pytest
from cases import same_bits

import fastopt


@pytest.mark.parametrize("rule", ["AdaMini", "AdamP"])
def test_columns_are_blocks_of_the_transposed_view(rule):
    rng = np.random.default_rng(0)
    W = rng.standard_normal((40, 5))
    columns, rows = W.T.copy(), W.copy()
    by_view, by_copy, by_row = (getattr(fastopt, rule)(0.1) for _ in range(3))
    for _ in range(3):
        dW = rng.standard_normal((40, 5))
        dW -= W * np.sum(W * dW, 0) / np.sum(W * W, 0)  # as if each column were normalized
        by_view.update([W.T], [dW.T])
        by_copy.update([columns], [dW.T.copy()])
        by_row.update([rows], [dW])
    assert same_bits(W, columns.T)
    assert not np.allclose(W, rows)


@pytest.mark.parametrize("rule", ["AdaMini", "AdamP"])
def test_filters_are_rows(rule):
    rng = np.random.default_rng(1)
    filters = rng.standard_normal((6, 3, 2, 2))
    matrix, one, other = filters.reshape(6, 12).copy(), *(getattr(fastopt, rule)(0.1) for _ in range(2))
    for _ in range(3):
        grad = rng.standard_normal(filters.shape)
        one.update([filters], [grad])
        other.update([matrix], [grad.reshape(6, 12)])
    assert same_bits(filters.reshape(6, 12), matrix)


def test_number_of_second_moments_of_adam_mini():
    shapes = {"W": (4, 3), "F": (6, 3, 2, 2), "b": (5,)}
    params = {key: np.ones(shape) for key, shape in shapes.items()}
    optimizer = fastopt.AdaMini()
    optimizer.update(params, params)
    assert {key: v.shape for key, v in optimizer.v.items()} == {"W": (4, 1), "F": (6, 1, 1, 1), "b": (1,)}
