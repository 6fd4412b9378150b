"""State of a generation in progress: tokens, cache, sliding windows, and the sequences that have ended."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from operator import or_

import torch
from torch import Tensor, nn

from glassformer.contracts import LanguageModel
from glassformer.generation.options import GenerationConfig, OverflowPolicy
from glassformer.generation.prompts import Prompt, PromptBatch, batch_prompts, check_num_return_sequences
from glassformer.terminal import count_of


def start_decoding(
    model: LanguageModel, prompt: Prompt, max_new_tokens: int, config: GenerationConfig
) -> tuple[DecodingState, StopTokens]:
    """Check the arguments of ``generate``, and return the state before the first new token.

    Raises:
        ValueError: as ``generate``.
        TypeError: as ``generate``.
    """
    if not isinstance(max_new_tokens, int):
        raise TypeError(f"max_new_tokens must be an int, got {max_new_tokens!r}")
    if max_new_tokens < 0:
        raise ValueError(f"max_new_tokens must be 0 or above, got {max_new_tokens}")
    check_num_return_sequences(prompt, config.num_return_sequences)
    batch = batch_prompts(prompt, config.attention_mask, model.vocab_size).to(_device(model, prompt))
    stop = StopTokens(config.stop_tokens, config.pad_id, model.vocab_size, batch.ids.device)
    policy = overflow_policy(model, config.overflow)
    if policy == "error":
        check_length(batch, max_new_tokens, model.max_seq_len)
    sliding = policy == "slide"
    return DecodingState(model, batch, max_new_tokens, sliding=sliding, use_cache=config.use_cache), stop


def overflow_policy(model: LanguageModel, overflow: OverflowPolicy | None) -> OverflowPolicy:
    """Return the policy beyond ``max_seq_len``: the requested one, or the default of the position scheme.

    Raises:
        ValueError: an unknown policy, or "extend" for a position table of fixed size.
    """
    table_size = model.positions.max_positions
    if overflow is None:
        return "extend" if model.positions.extrapolates and table_size is None else "slide"
    if overflow not in ("slide", "extend", "error"):
        raise ValueError(f"overflow must be 'slide', 'extend' or 'error', got {overflow!r}")
    if overflow == "extend" and table_size is not None:
        raise ValueError(
            f"overflow='extend' needs positions without a table, but this model's table has {table_size} "
            "rows: use 'slide'"
        )
    return overflow


def check_length(prompt: PromptBatch, max_new_tokens: int, max_seq_len: int) -> None:
    """Raise ValueError if the longest prompt and its new tokens exceed ``max_seq_len``.

    The last new token is not counted: the model does not process it.
    """
    length = prompt.ids.shape[1] - min(prompt.padding)
    if length + max_new_tokens - 1 > max_seq_len:
        raise ValueError(
            f"a prompt of {count_of(length, 'token')} and {count_of(max_new_tokens, 'new token')} exceed "
            f"max_seq_len {max_seq_len} and overflow='error': use fewer tokens, or overflow='slide'"
        )


def window_start(length: int, max_len: int) -> int:
    """Return the index of the first of ``length`` tokens in a sliding window of ``max_len`` tokens.

    Whenever the window is full, the oldest half is dropped. The start depends on the length only, so it is
    the same for a long prompt as for tokens generated one by one, with or without a cache.
    """
    half = max_len - max_len // 2
    return half * max(0, -(-(length - max_len) // half))  # rounded up to whole halves


class DecodingState:
    """The tokens of every row, and the cache of those that the model has processed.

    All rows end in the same column. The window of a row starts where it would start if the row were alone, so
    that a batch gives the same result as its rows. When a window moves, positions start from zero again: the
    cache is cleared and all windows are processed anew.

    Args:
        model: the language model.
        prompt: the prompts.
        max_new_tokens: the largest number of tokens that will be appended.
        sliding: whether windows slide at ``model.max_seq_len``; otherwise they grow without limit.
        use_cache: whether to keep keys and values; otherwise each step processes the whole window.
    """

    def __init__(
        self,
        model: LanguageModel,
        prompt: PromptBatch,
        max_new_tokens: int,
        *,
        sliding: bool,
        use_cache: bool,
    ) -> None:
        batch, self.length = prompt.ids.shape
        self.model = model
        self.padding = prompt.padding
        self.max_len = model.max_seq_len if sliding else sys.maxsize
        self.buffer = prompt.ids.new_empty(batch, self.length + max_new_tokens)
        self.buffer[:, : self.length] = prompt.ids
        longest = self.length - min(self.padding)
        self.capacity = min(self.max_len, longest + max_new_tokens)
        self.cache = model.make_cache(self.capacity) if use_cache else None
        self.first_column = 0  # of the earliest window
        self.next_column = 0  # the first one that is not in the cache
        self.window_mask: Tensor | None = None  # (batch, capacity): True inside the window of a row
        self._start_windows()

    @property
    def tokens(self) -> Tensor:
        """All ids so far, ``(batch, length)``."""
        return self.buffer[:, : self.length]

    def append(self, tokens: Tensor) -> None:
        """Append the next token of each row, ``(batch,)``."""
        self.buffer[:, self.length] = tokens
        self.length += 1

    def prefill(self, num_copies: int) -> Tensor:
        """Process the prompts once and repeat each row, side by side.

        Args:
            num_copies: rows for each prompt.

        Returns:
            Logits of the first new token, ``(batch * num_copies, vocab_size)``.

        Raises:
            ValueError: the logits contain NaN.
        """
        logits = self.next_token_logits()
        if logits.isnan().any():
            raise ValueError(
                "the model's logits are NaN after the prompt: its weights are broken or diverged"
            )
        if num_copies > 1:
            rows = torch.arange(len(self.buffer), device=self.buffer.device).repeat_interleave(num_copies)
            self.padding = [padding for padding in self.padding for _ in range(num_copies)]
            self.window_mask = None if self.window_mask is None else self.window_mask[rows]
            self.reorder(rows)
        return logits.repeat_interleave(num_copies, dim=0)

    def next_token_logits(self) -> Tensor:
        """Process the tokens that are not in the cache, and return logits ``(batch, vocab_size)``."""
        longest = self.length - self.first_column
        limit = self.model.positions.max_cached_len
        if longest > self.max_len or (limit is not None and longest > limit):
            self._start_windows()
        new = self.buffer[:, self.next_column : self.length]
        mask = self.window_mask
        mask = None if mask is None else mask[:, : self.length - self.first_column]
        if self.cache is not None:
            self.next_column = self.length
        return self.model.next_token_logits(new, mask, self.cache)

    def reorder(self, rows: Tensor) -> None:
        """Replace the batch by the given rows of it, ``(new_batch,)``; rows may be repeated.

        A row may only be replaced by a row of the same prompt, because the windows do not move.
        """
        self.buffer = self.buffer[rows]
        for layer in self.cache or ():
            layer.select(rows)

    def _start_windows(self) -> None:
        """Set the start of each row's window for the present length, and clear the cache."""
        starts = [padding + window_start(self.length - padding, self.max_len) for padding in self.padding]
        self.first_column = min(starts)
        self.next_column = self.first_column
        self.window_mask = None
        if max(starts) > self.first_column:
            columns = torch.arange(
                self.first_column, self.first_column + self.capacity, device=self.buffer.device
            )
            self.window_mask = columns >= torch.tensor(starts, device=self.buffer.device)[:, None]
        for layer in self.cache or ():
            layer.clear()


class StopTokens:
    """Tracks which rows have ended: a row ends with its first stop token.

    Args:
        stop_tokens: ids that end a row; without any, no row ends.
        pad_id: id that replaces the tokens of a row after its end; None means the first stop token.
        vocab_size: size of the vocabulary.
        device: device of the tokens.

    Raises:
        ValueError: a stop token is not in the vocabulary.
        TypeError: ``stop_tokens`` is not a sequence of ids.
    """

    def __init__(
        self, stop_tokens: Sequence[int], pad_id: int | None, vocab_size: int, device: torch.device
    ) -> None:
        if not isinstance(stop_tokens, Sequence) or isinstance(stop_tokens, str):
            raise TypeError(f"stop_tokens must be a sequence of ids, got {stop_tokens!r}")
        for token in stop_tokens:
            if not 0 <= token < vocab_size:
                raise ValueError(
                    f"stop token {token} is not in the vocabulary: ids are 0 to {vocab_size - 1}"
                )
        self.ids = torch.tensor(list(stop_tokens), dtype=torch.long, device=device)
        self.can_stop = len(stop_tokens) > 0
        self._stop_tokens = frozenset(stop_tokens)
        self.pad_id = next(iter(stop_tokens), 0) if pad_id is None else pad_id
        self.finished: list[bool] = []  # of each row, from the first step on

    def __call__(self, tokens: Tensor) -> Tensor:
        """Replace the tokens ``(batch,)`` of rows that have ended, and record the rows that end now."""
        if not self.can_stop:
            return tokens
        output = tokens
        if any(self.finished):
            output = tokens.masked_fill(torch.tensor(self.finished, device=tokens.device), self.pad_id)
        stops = [token in self._stop_tokens for token in tokens.tolist()]  # the only transfer in a step
        self.finished = list(map(or_, self.finished, stops)) if self.finished else stops
        return output

    def all_finished(self) -> bool:
        """Return whether every row has ended."""
        return self.can_stop and all(self.finished)


def _device(model: LanguageModel, prompt: Prompt) -> torch.device:
    """Return the device of the model, or that of the prompt for a model without parameters."""
    fallback = torch.tensor(()) if not isinstance(prompt, Tensor) else prompt
    return next(model.parameters(), fallback).device if isinstance(model, nn.Module) else fallback.device
