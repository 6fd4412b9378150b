"""A tiny language model whose logits depend on every token and its position."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor


@dataclass
class Positions:
    max_positions: int | None = None
    extrapolates: bool = False
    max_cached_len: int | None = None


class IdCache:
    """A cache of token ids instead of keys, which checks its capacity."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.ids: Tensor | None = None

    @property
    def length(self) -> int:
        return 0 if self.ids is None else self.ids.shape[1]

    def append(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        self.ids = k if self.ids is None else torch.cat([self.ids, k], dim=1)
        assert self.length <= self.capacity
        return self.ids, self.ids

    def select(self, rows: Tensor) -> None:
        assert self.ids is not None
        self.ids = self.ids[rows]

    def clear(self) -> None:
        self.ids = None


class HashModel:
    """Logits from a table, in a row that is a hash of all tokens in the window and their positions.

    A wrong token, order or position gives other logits.
    """

    def __init__(
        self, vocab_size: int = 11, max_seq_len: int = 8, positions: Positions | None = None
    ) -> None:
        self.vocab_size = vocab_size
        self.max_seq_len = max_seq_len
        self.positions = positions or Positions()
        self.table = torch.randn(997, vocab_size, generator=torch.Generator().manual_seed(0))
        self.calls: list[tuple[int, int]] = []  # the shapes of input_ids
        self.window_lengths: list[int] = []  # of the longest row of each call

    def next_token_logits(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, cache: Sequence[IdCache] | None = None
    ) -> Tensor:
        ids = input_ids if cache is None else cache[0].append(input_ids, input_ids)[0]
        mask = torch.ones_like(ids) if attention_mask is None else attention_mask.long()
        assert mask.shape == ids.shape
        assert ids.min() >= 0
        assert ids.max() < self.vocab_size
        self.calls.append(tuple(input_ids.shape))
        self.window_lengths.append(int(mask.sum(1).max()))
        return self.table[((ids + 1) * mask.cumsum(1) ** 2 * mask).sum(1) % 997]

    def make_cache(self, capacity: int) -> list[IdCache]:
        return [IdCache(capacity)]


@pytest.fixture(scope="session")
def make_model() -> type[HashModel]:
    return HashModel


@pytest.fixture(scope="session")
def make_positions() -> type[Positions]:
    return Positions
