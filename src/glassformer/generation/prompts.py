"""Prompts: conversion of all accepted forms to one padded batch, and of the result back to that form."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from operator import index
from typing import NoReturn, cast

import torch
from torch import Tensor

from glassformer.tokenization.base import pad_sequences, padding_mask

Prompt = Tensor | Sequence[int] | Sequence[Sequence[int]]


@dataclass(frozen=True)
class PromptBatch:
    """Prompts as one tensor, padded on the left.

    Padding repeats the first token of its row, so that the set of tokens of a row is right without a mask.
    """

    ids: Tensor
    """``(batch, seq)``, int64, every id within the vocabulary."""
    padding: list[int]
    """For each row the number of padding columns."""

    def to(self, device: torch.device) -> PromptBatch:
        """Return the same prompts on another device."""
        return PromptBatch(self.ids.to(device), self.padding)


def batch_prompts(prompt: Prompt, attention_mask: Tensor | None, vocab_size: int) -> PromptBatch:
    """Check prompts and pad them to one batch.

    Args:
        prompt: ids as a tensor ``(batch, seq)`` or ``(seq,)``, a list of lists, or one flat list.
        attention_mask: for a tensor, of its shape: 1 or True for a real token, with padding on the left.
        vocab_size: ids are in ``range(vocab_size)``.

    Raises:
        ValueError: no prompt, an empty one, an id out of range, or a mask that is not left padding.
        TypeError: ids that are not integers, or a mask that is neither boolean nor integer.
    """
    if isinstance(prompt, Tensor):
        return _batch_tensor(prompt, attention_mask, vocab_size)
    if attention_mask is not None:
        raise ValueError("attention_mask needs a prompt given as a tensor; lists are padded automatically")
    return _batch_lists(prompt, vocab_size)


def is_single(prompt: Prompt) -> bool:
    """Return whether this is one prompt (a flat list or a one-dimensional tensor) instead of a batch."""
    if isinstance(prompt, Tensor):
        return prompt.dim() == 1
    return len(prompt) > 0 and not hasattr(prompt[0], "__len__")


def check_num_return_sequences(prompt: Prompt, num_return_sequences: int) -> None:
    """Raise ValueError if the number is below 1, or above 1 for a flat prompt."""
    if num_return_sequences < 1:
        raise ValueError(f"num_return_sequences must be at least 1, got {num_return_sequences}")
    if num_return_sequences > 1 and is_single(prompt):
        raise ValueError(
            f"num_return_sequences must be 1 for a flat prompt, got {num_return_sequences}: give a batch, "
            "[prompt]"
        )


def prompt_lists(prompt: Sequence[int] | Sequence[Sequence[int]]) -> list[list[int]]:
    """Return prompts given as sequences as lists of ints; a flat prompt is a batch of one.

    Raises:
        TypeError: a text, or ids that are not integers.
    """
    if isinstance(prompt, str):
        raise TypeError("a prompt must be token ids, got a str: encode it with the model's tokenizer")
    rows = cast(Sequence[Sequence[int]], [prompt] if is_single(prompt) else prompt)
    return [_int_list(row, number) for number, row in enumerate(rows)]


def append_tokens(
    prompt: Prompt, steps: Sequence[Tensor], num_copies: int, stop_tokens: Sequence[int]
) -> Tensor | list[int] | list[list[int]]:
    """Return prompts with their new tokens, in the form of the prompts.

    Args:
        prompt: the prompts as the user gave them.
        steps: for each step the token of each row, ``(batch * num_copies,)``.
        num_copies: rows for each prompt, next to each other.
        stop_tokens: a list is cut after the first of them; a tensor is not.
    """
    if isinstance(prompt, Tensor):
        given = prompt.long().reshape(-1, prompt.shape[-1]).repeat_interleave(num_copies, dim=0)
        new = [tokens[:, None].to(prompt.device) for tokens in steps]
        result = torch.cat([given, *new], dim=1)
        return result[0] if prompt.dim() == 1 else result
    rows = [list(ids) for ids in prompt_lists(prompt) for _ in range(num_copies)]
    columns = torch.stack(list(steps), dim=1).tolist() if steps else []
    for row, continuation in zip(rows, columns, strict=False):
        for token in continuation:
            row.append(token)
            if token in stop_tokens:
                break
    return rows[0] if is_single(prompt) else rows


def _batch_tensor(prompt: Tensor, attention_mask: Tensor | None, vocab_size: int) -> PromptBatch:
    if prompt.is_floating_point() or prompt.is_complex() or prompt.dtype == torch.bool:
        raise TypeError(f"token ids must be integers, got a tensor of {prompt.dtype}")
    if prompt.dim() not in (1, 2):
        raise ValueError(f"a prompt must have shape (batch, seq) or (seq,), got {tuple(prompt.shape)}")
    if prompt.numel() == 0:
        raise ValueError(f"the prompt must have at least one token, got an empty one: {tuple(prompt.shape)}")
    ids = prompt.long().reshape(-1, prompt.shape[-1])
    mask = _left_padding_mask(prompt, attention_mask).reshape(ids.shape)
    outside = ((ids < 0) | (ids >= vocab_size)) & mask
    if outside.any():
        row, position = outside.nonzero()[0].tolist()
        _raise_outside_vocabulary(int(ids[row, position]), row, position, vocab_size)
    return _fill_padding(ids, mask)


def _batch_lists(prompt: Sequence[int] | Sequence[Sequence[int]], vocab_size: int) -> PromptBatch:
    rows = prompt_lists(prompt)
    if not rows:
        raise ValueError("the prompt must have at least one token, got an empty one")
    for number, row in enumerate(rows):
        if not row:
            raise ValueError(f"row {number} of the prompt is empty: it must have at least one token")
        for position, token_id in enumerate(row):
            if not 0 <= token_id < vocab_size:
                _raise_outside_vocabulary(token_id, number, position, vocab_size)
    return _fill_padding(pad_sequences(rows, side="left"), padding_mask(rows, side="left"))


def _fill_padding(ids: Tensor, mask: Tensor) -> PromptBatch:
    """Put the first token of each row into its padding."""
    padding = (~mask).sum(-1)
    first = ids.gather(-1, padding[:, None])  # (batch, 1)
    return PromptBatch(torch.where(mask, ids, first), padding.tolist())


def _left_padding_mask(prompt: Tensor, attention_mask: Tensor | None) -> Tensor:
    """Return the mask as booleans of the prompt's shape, and check that its padding is on the left."""
    if attention_mask is None:
        return torch.ones_like(prompt, dtype=torch.bool)
    if attention_mask.shape != prompt.shape:
        raise ValueError(
            f"attention_mask must have the shape of the prompt, {tuple(prompt.shape)}, "
            f"got {tuple(attention_mask.shape)}"
        )
    if attention_mask.is_floating_point() or attention_mask.is_complex():
        raise TypeError(f"attention_mask must be boolean or integer, got {attention_mask.dtype}")
    mask = attention_mask.to(prompt.device) != 0
    rows = mask.reshape(-1, mask.shape[-1])
    empty = ~rows.any(-1)
    if empty.any():
        row = int(empty.nonzero()[0])
        raise ValueError(f"row {row} of the prompt is empty: its attention_mask has no real token")
    falling = (rows[:, 1:] < rows[:, :-1]).any(-1)
    if falling.any():
        row = int(falling.nonzero()[0])
        raise ValueError(f"row {row} of attention_mask has padding after a real token: pad on the left")
    return mask


def _int_list(row: Sequence[int], number: int) -> list[int]:
    if not hasattr(row, "__len__"):
        raise TypeError(f"row {number} of the prompt must be a list of ids, got {row!r}")
    ids = []
    for position, token_id in enumerate(row):
        if isinstance(token_id, bool) or not hasattr(token_id, "__index__"):
            raise TypeError(
                f"token ids must be integers, got {token_id!r} in row {number}, position {position}"
            )
        ids.append(index(token_id))
    return ids


def _raise_outside_vocabulary(token_id: int, row: int, position: int, vocab_size: int) -> NoReturn:
    raise ValueError(
        f"token id {token_id} in row {row}, position {position} is not in the vocabulary: "
        f"ids are 0 to {vocab_size - 1}"
    )
