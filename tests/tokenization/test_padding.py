"""Padding of token ids."""

from __future__ import annotations

import torch

from glassformer.tokenization.base import pad_sequences, padding_mask

ROWS = [[1, 2, 3], [4], []]


def test_rows_are_padded_on_the_right_by_default() -> None:
    padded = pad_sequences(ROWS, -1)
    assert padded.tolist() == [[1, 2, 3], [4, -1, -1], [-1, -1, -1]]
    assert padded.dtype == torch.int64
    assert padding_mask(ROWS).tolist() == [[True] * 3, [True, False, False], [False] * 3]


def test_rows_can_be_padded_on_the_left() -> None:
    assert pad_sequences(ROWS, side="left").tolist() == [[1, 2, 3], [0, 0, 4], [0, 0, 0]]
    assert padding_mask(ROWS, side="left").tolist() == [[True] * 3, [False, False, True], [False] * 3]
