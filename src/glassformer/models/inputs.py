"""Checks of token ids and attention masks, and the positions of tokens."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from glassformer.attention import padding
from glassformer.attention.masks import Padding
from glassformer.contracts import Positions
from glassformer.integers import as_int64
from glassformer.tracing import is_tracing


def check_ids(input_ids: Tensor, name: str = "input_ids") -> Tensor:
    """Token ids ``(batch, seq)`` as int64, after a check of type and shape; ``embed_ids`` checks the range.

    Raises:
        TypeError: if the ids are not integers.
        ValueError: if the shape is another.

    """
    input_ids = as_int64(input_ids, "token ids")
    if input_ids.dim() != 2:
        raise ValueError(f"{name} must be (batch, seq), not of shape {tuple(input_ids.shape)}")
    return input_ids


def embed_ids(embedding: nn.Embedding, input_ids: Tensor) -> Tensor:
    """Embeddings ``(batch, seq, d_model)`` of ids ``(batch, seq)``.

    Raises:
        ValueError: if an id is out of range (on a CPU; other devices raise their own error).

    """
    try:
        x: Tensor = embedding(input_ids)
    except IndexError:  # the lookup checks every id, so that a check before it would be a second one
        rows = embedding.num_embeddings
        wrong = ((input_ids < 0) | (input_ids >= rows)).nonzero().tolist()
        if not wrong:
            raise
        row, position = wrong[0]
        raise ValueError(
            f"token id {int(input_ids[row, position])} at position {position} of row {row} is outside "
            f"the vocabulary: ids are 0 to {rows - 1}"
        ) from None
    return x


def positions_and_padding(
    input_ids: Tensor, attention_mask: Tensor | None, cached: int = 0, name: str = "attention_mask"
) -> tuple[Tensor, Padding | None]:
    """Positions of all keys, ``(key,)`` or ``(batch, key)``, and the padding mask, or None without padding.

    Positions count real tokens: padding on the left does not shift them.

    Args:
        input_ids: ``(batch, seq)``.
        attention_mask: ``(batch, cached + seq)``, 1 or True for a real token.
        cached: number of tokens in the cache.
        name: of the mask, for error messages.

    Raises:
        TypeError: if the mask is neither boolean nor integers.
        ValueError: if the mask has another shape or other values than 0 and 1.

    """
    keys = cached + input_ids.size(1)
    if attention_mask is None:
        return torch.arange(keys, device=input_ids.device), None
    if attention_mask.shape != (input_ids.size(0), keys):
        raise ValueError(
            f"{name} must be (batch, seq) = {(input_ids.size(0), keys)}"
            f"{f' with the {cached} cached tokens' if cached else ''}, not {tuple(attention_mask.shape)}"
        )
    mask = padding(attention_mask)
    if not is_tracing() and mask.attention_mask.all():
        return torch.arange(keys, device=input_ids.device), None
    positions = mask.attention_mask.cumsum(dim=1) - 1
    return positions.clamp(min=0), mask


def last_token(hidden: Tensor, attention_mask: Tensor | None) -> Tensor:
    """The vector of the last real token of each row, ``(batch, d_model)``.

    Args:
        hidden: of the new tokens, ``(batch, seq, d_model)``.
        attention_mask: ``(batch, cached + seq)``, or None without padding.

    """
    if attention_mask is None or hidden.size(1) == 1:
        return hidden[:, -1]
    columns = torch.arange(1, hidden.size(1) + 1, device=hidden.device)
    last = (columns * (attention_mask[:, -hidden.size(1) :] != 0)).argmax(dim=1)
    return hidden[torch.arange(hidden.size(0), device=hidden.device), last]


def check_cached_len(scheme: Positions, cached: int, key_positions: Tensor) -> None:
    """Check that keys in a cache are rotated as the text needs it.

    Raises:
        ValueError: if there are cached tokens, and the text is longer than ``scheme.max_cached_len``.

    """
    limit = scheme.max_cached_len
    if cached and limit is not None and (length := int(key_positions.max()) + 1) > limit:
        raise ValueError(
            f"with these positions a cache is valid up to {limit} tokens, but the text has {length}: each "
            "further token changes the rotation of all, so clear the cache and process the whole text"
        )
