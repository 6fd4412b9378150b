"""What a model has been told so far, and how much of it the model may still see."""

from __future__ import annotations

import sys
from typing import Literal

import torch
from torch import Tensor

from glassformer.contracts import LanguageModel
from glassformer.generation.prompts import PromptBatch

Overflow = Literal["slide", "extend", "error"]


def overflow_policy(model: LanguageModel, overflow: Overflow | None) -> Overflow:
    """What happens past ``max_seq_len``: as the caller wants it, or as suits the model's positions.

    Raises:
        ValueError: an unknown policy, or "extend" for positions that come from a table with an end.
    """
    last = model.positions.max_positions
    if overflow is None:
        return "extend" if model.positions.extrapolates and last is None else "slide"
    if overflow not in ("slide", "extend", "error"):
        raise ValueError(f"overflow must be 'slide', 'extend' or 'error', got {overflow!r}")
    if overflow == "extend" and last is not None:
        raise ValueError(
            f"overflow='extend' needs positions without an end; this table has {last}; use 'slide'"
        )
    return overflow


def check_room(prompt: PromptBatch, max_new_tokens: int, max_len: int) -> None:
    """Refuse now what would not fit later. The last new token counts not: no one reads it.

    Raises:
        ValueError: the longest prompt and its new tokens are too many.
    """
    length = prompt.ids.shape[1] - min(prompt.padding)
    if length + max_new_tokens - 1 > max_len:
        raise ValueError(
            f"a prompt of {length} tokens and {max_new_tokens} new ones do not fit into max_seq_len "
            f"{max_len} and overflow='error': shorten them or let the window slide"
        )


def window_start(length: int, max_len: int) -> int:
    """The first of ``length`` tokens that a sliding window of ``max_len`` still shows.

    The oldest half goes whenever the window is full. The start depends on the length alone, so it does not
    matter whether tokens were in the prompt or were generated, one by one or with a cache.
    """
    half = max_len - max_len // 2
    return half * max(0, -(-(length - max_len) // half))  # rounded up to whole halves


class Context:
    """The tokens so far of every row, read by the model as far as it may see them.

    Rows end in the same column. The window of a row starts where it would start were the row alone, so a
    batch gives what its rows give. As long as no window moves the model reads, thanks to the cache, only what
    is new. When one moves, its positions start again from zero: the cache is cleared and all windows are read
    afresh.

    Args:
        model: who reads.
        prompt: what comes first.
        max_new_tokens: how many tokens will be appended at most.
        slides: whether windows move at ``model.max_seq_len``; otherwise they grow without end.
        use_cache: whether to keep keys and values; otherwise the whole window is read for each token.
    """

    def __init__(
        self, model: LanguageModel, prompt: PromptBatch, max_new_tokens: int, *, slides: bool, use_cache: bool
    ) -> None:
        batch, self.length = prompt.ids.shape
        self.model = model
        self.padding = prompt.padding
        self.max_len = model.max_seq_len if slides else sys.maxsize
        self.buffer = prompt.ids.new_empty(batch, self.length + max_new_tokens)
        self.buffer[:, : self.length] = prompt.ids
        longest = self.length - min(self.padding)
        self.capacity = min(self.max_len, longest + max_new_tokens)
        self.cache = model.make_cache(self.capacity) if use_cache else None
        self.left = 0  # the column where the earliest window starts
        self.read = 0  # columns before this one are in the cache
        self.real: Tensor | None = None  # (batch, capacity): is a column in the window of its row?
        self._open_windows()

    @property
    def tokens(self) -> Tensor:
        """All ids so far, ``(batch, length)``."""
        return self.buffer[:, : self.length]

    def append(self, tokens: Tensor) -> None:
        """Take in the next token of each row, ``(batch,)``."""
        self.buffer[:, self.length] = tokens
        self.length += 1

    def next_token_logits(self) -> Tensor:
        """Let the model read what it has not read; its logits ``(batch, vocab_size)`` for what follows."""
        if self.length - self.left > self.max_len:
            self._open_windows()
        unread = self.buffer[:, self.read : self.length]
        real = None if self.real is None else self.real[:, : self.length - self.left]
        if self.cache is not None:
            self.read = self.length
        return self.model.next_token_logits(unread, real, self.cache)

    def repeat(self, copies: int) -> None:
        """Put ``copies`` of each row in its place; what the model has read is not read again."""
        if copies == 1:
            return
        rows = torch.arange(len(self.buffer), device=self.buffer.device).repeat_interleave(copies)
        self.padding = [padding for padding in self.padding for _ in range(copies)]
        self.real = None if self.real is None else self.real[rows]
        self.reorder(rows)

    def reorder(self, rows: Tensor) -> None:
        """Go on with the given rows ``(rows,)``, repeats allowed.

        A row takes the place of one of its own prompt, so that windows stay as they are.
        """
        self.buffer = self.buffer[rows]
        for layer in self.cache or ():
            layer.select(rows)

    def _open_windows(self) -> None:
        """Start each row's window where it belongs at the present length, with nothing read."""
        starts = [padding + window_start(self.length - padding, self.max_len) for padding in self.padding]
        self.left = min(starts)
        self.read = self.left
        self.real = None
        if max(starts) > self.left:
            columns = torch.arange(self.left, self.left + self.capacity, device=self.buffer.device)
            self.real = columns >= torch.tensor(starts, device=self.buffer.device)[:, None]
        for layer in self.cache or ():
            layer.clear()
