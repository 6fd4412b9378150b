"""Prompts, in every form that a user may have them in, made into one rectangle of token ids, and back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from operator import index
from typing import NoReturn, cast

import torch
from torch import Tensor

Prompt = Tensor | Sequence[int] | Sequence[Sequence[int]]


@dataclass(frozen=True)
class PromptBatch:
    """Prompts of any lengths as one tensor, aligned at their ends.

    A column of padding holds the first token of its row. The model never looks at it, and what asks which
    tokens have occurred needs no mask to get the right answer.
    """

    ids: Tensor
    """``(batch, seq)``, int64, every id within the vocabulary."""
    padding: list[int]
    """For each row, how many columns of padding it starts with."""

    def to(self, device: torch.device) -> PromptBatch:
        """The same prompts on another device."""
        return PromptBatch(self.ids.to(device), self.padding)


def read_prompt(prompt: Prompt, attention_mask: Tensor | None, vocab_size: int) -> PromptBatch:
    """The prompt, checked.

    Args:
        prompt: ids as a tensor ``(batch, seq)`` or ``(seq,)``, a list of lists, or one flat list.
        attention_mask: with a tensor only, of its shape: 1 or True for a real token, padding on the left.
            What ids the padding has does not matter.
        vocab_size: ids are in ``range(vocab_size)``.

    Raises:
        ValueError: no prompt, an empty one, an id out of range, or a mask that is not left padding.
        TypeError: ids that are no integers, or a mask that is neither boolean nor integer.
    """
    if isinstance(prompt, Tensor):
        return _read_tensor(prompt, attention_mask, vocab_size)
    if attention_mask is not None:
        raise ValueError("attention_mask goes with a tensor; prompts given as lists are padded here")
    return _read_lists(prompt, vocab_size)


def is_single(prompt: Prompt) -> bool:
    """Whether this is one prompt (a flat list, a tensor of one dimension) and not a batch of them."""
    if isinstance(prompt, Tensor):
        return prompt.dim() == 1
    return len(prompt) > 0 and not hasattr(prompt[0], "__len__")


def check_sequences(prompt: Prompt, num_return_sequences: int) -> None:
    """Refuse, with a ValueError, fewer than one sequence a prompt, and several for a flat prompt."""
    if num_return_sequences < 1:
        raise ValueError(f"num_return_sequences must be at least 1, got {num_return_sequences}")
    if num_return_sequences > 1 and is_single(prompt):
        raise ValueError("a flat prompt gives one sequence; for several make it a batch of one: [prompt]")


def as_lists(prompt: Sequence[int] | Sequence[Sequence[int]]) -> list[list[int]]:
    """Prompts given as lists, one list of plain integers each; a flat list is one prompt.

    Raises:
        TypeError: text, or ids that are no integers.
    """
    if isinstance(prompt, str):
        raise TypeError("a prompt is token ids, got a str; encode it with the model's tokenizer first")
    rows = cast(Sequence[Sequence[int]], [prompt] if is_single(prompt) else prompt)
    return [_as_list(row, number) for number, row in enumerate(rows)]


def continued(
    prompt: Prompt, steps: Sequence[Tensor], copies: int, stop_tokens: Sequence[int]
) -> Tensor | list[int] | list[list[int]]:
    """Prompts and what follows them, in the form that the prompts have.

    Args:
        prompt: as it was given.
        steps: for each step the token of each row, ``(batch * copies,)``.
        copies: rows of each prompt, next to each other.
        stop_tokens: behind the first of them a list ends; a tensor is left as it is.
    """
    if isinstance(prompt, Tensor):
        given = prompt.long().reshape(-1, prompt.shape[-1]).repeat_interleave(copies, dim=0)
        new = [tokens[:, None].to(prompt.device) for tokens in steps]
        result = torch.cat([given, *new], dim=1)
        return result[0] if prompt.dim() == 1 else result
    rows = [list(ids) for ids in as_lists(prompt) for _ in range(copies)]
    columns = torch.stack(list(steps), dim=1).tolist() if steps else []
    for row, continuation in zip(rows, columns, strict=False):
        for token in continuation:
            row.append(token)
            if token in stop_tokens:
                break
    return rows[0] if is_single(prompt) else rows


def _read_tensor(prompt: Tensor, attention_mask: Tensor | None, vocab_size: int) -> PromptBatch:
    if prompt.is_floating_point() or prompt.is_complex() or prompt.dtype == torch.bool:
        raise TypeError(f"token ids must be integers, got a tensor of {prompt.dtype}")
    if prompt.dim() not in (1, 2):
        raise ValueError(f"a prompt has the shape (batch, seq) or (seq,), got {tuple(prompt.shape)}")
    if prompt.numel() == 0:
        raise ValueError(f"the prompt is empty: shape {tuple(prompt.shape)}; give at least one token")
    ids = prompt.long().reshape(-1, prompt.shape[-1])
    real = _real_tokens(prompt, attention_mask).reshape(ids.shape)
    outside = ((ids < 0) | (ids >= vocab_size)) & real
    if outside.any():
        row, position = outside.nonzero()[0].tolist()
        _refuse_id(int(ids[row, position]), row, position, vocab_size)
    padding = (~real).sum(-1)
    first = ids.gather(-1, padding[:, None])  # (batch, 1)
    return PromptBatch(torch.where(real, ids, first), padding.tolist())


def _real_tokens(prompt: Tensor, attention_mask: Tensor | None) -> Tensor:
    """The mask as booleans of the prompt's shape, once it is known to be padding on the left."""
    if attention_mask is None:
        return torch.ones_like(prompt, dtype=torch.bool)
    if attention_mask.shape != prompt.shape:
        raise ValueError(
            f"attention_mask has the shape {tuple(attention_mask.shape)}, the prompt {tuple(prompt.shape)}"
        )
    if attention_mask.is_floating_point() or attention_mask.is_complex():
        raise TypeError(f"attention_mask must be boolean or integer, got {attention_mask.dtype}")
    real = attention_mask.to(prompt.device) != 0
    rows = real.reshape(-1, real.shape[-1])
    empty = ~rows.any(-1)
    if empty.any():
        row = int(empty.nonzero()[0])
        raise ValueError(f"row {row} of the prompt is empty: its attention_mask has no real token")
    falling = (rows[:, 1:] < rows[:, :-1]).any(-1)
    if falling.any():
        row = int(falling.nonzero()[0])
        raise ValueError(f"row {row} of attention_mask has padding behind a real token; pad on the left")
    return real


def _as_list(row: Sequence[int], number: int) -> list[int]:
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


def _read_lists(prompt: Sequence[int] | Sequence[Sequence[int]], vocab_size: int) -> PromptBatch:
    rows = as_lists(prompt)
    if not rows:
        raise ValueError("the prompt is empty; give at least one token")
    for number, row in enumerate(rows):
        if not row:
            raise ValueError(f"row {number} of the prompt is empty; give at least one token")
        for position, token_id in enumerate(row):
            if not 0 <= token_id < vocab_size:
                _refuse_id(token_id, number, position, vocab_size)
    longest = max(map(len, rows))
    ids = torch.tensor([[row[0]] * (longest - len(row)) + row for row in rows])
    return PromptBatch(ids, [longest - len(row) for row in rows])


def _refuse_id(token_id: int, row: int, position: int, vocab_size: int) -> NoReturn:
    raise ValueError(
        f"token id {token_id} in row {row}, position {position} is outside the vocabulary: "
        f"ids go from 0 to {vocab_size - 1}"
    )
