"""Repeated random tokens with a period of each row, and what the counts of earlier tokens predict."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


class RepeatedTokens:
    """Rows in which a block of different random tokens is repeated; the length of the block varies.

    Within the first block nothing can be predicted. After it, the next token is the one that followed the
    previous occurrence of the current token. No fixed distance leads there, since periods vary.

    Args:
        vocab_size: number of tokens.
        seq_len: tokens of a row that are predicted; it has one more.
        periods: the smallest and the largest length of a block, both included.
        batch_size: rows of a batch.
        seed: not negative.

    Raises:
        ValueError: the largest period exceeds the vocabulary or half of the row, or the smallest is below 2.
    """

    def __init__(
        self, vocab_size: int, seq_len: int, periods: tuple[int, int], batch_size: int, seed: int
    ) -> None:
        low, high = periods
        if not 2 <= low <= high <= min(vocab_size, seq_len // 2):
            raise ValueError(
                f"periods must be from 2 to {min(vocab_size, seq_len // 2)} (the vocabulary, and half of the "
                f"row), got {low} to {high}"
            )
        self.vocab_size, self.seq_len, self.periods = vocab_size, seq_len, (low, high)
        self.batch_size, self.seed = batch_size, seed

    def batch(self, step: int) -> Tensor:
        """The rows of an update, ``(batch_size, seq_len + 1)``."""
        return self.rows(step)[0]

    def rows(self, step: int) -> tuple[Tensor, Tensor]:
        """The rows of an update, and the period of each, ``(batch_size,)``."""
        generator = np.random.default_rng([self.seed, step])
        periods = generator.integers(self.periods[0], self.periods[1] + 1, self.batch_size)
        blocks = generator.random((self.batch_size, self.vocab_size)).argsort(axis=1)
        places = np.arange(self.seq_len + 1) % periods[:, None]
        return torch.from_numpy(np.take_along_axis(blocks, places, axis=1)), torch.from_numpy(periods)


def is_repeated(rows: Tensor, periods: Tensor) -> Tensor:
    """Which targets ``rows[:, 1:]`` are repetitions whose current token has occurred, ``(row, seq_len)``."""
    places = torch.arange(rows.size(1) - 1)
    return places >= periods[:, None]


def unigram_loss(
    rows: Tensor, periods: Tensor, vocab_size: int, distances: tuple[int, int] | None = None
) -> float:
    """Loss of predicting repeated targets by the counts of earlier tokens, in nats.

    p(token) = (count + a) / (sum of counts + a * vocab_size), with the best a of .001, .01, .1 and 1. One
    layer of attention can compute such counts; they are what induction is held against.

    Args:
        rows: ``(row, seq_len + 1)``.
        periods: of the rows.
        vocab_size: number of tokens.
        distances: from the target, smallest and largest, of the tokens that are counted. Default: all.
    """
    repeated = is_repeated(rows, periods)
    low, high = (1, rows.size(1)) if distances is None else distances
    same, total = torch.zeros(repeated.shape), torch.zeros(repeated.shape)
    for distance in range(low, min(high, rows.size(1) - 1) + 1):
        same[:, distance - 1 :] += (rows[:, distance:] == rows[:, :-distance]).float()
        total[:, distance - 1 :] += 1
    losses = []
    for smoothing in (0.001, 0.01, 0.1, 1.0):
        p = (same + smoothing) / (total + smoothing * vocab_size)
        losses.append(float(-p[repeated].log().mean()))
    return min(losses)
