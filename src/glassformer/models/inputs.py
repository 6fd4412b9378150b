"""What a model is given: token ids and attention masks, checked, and the positions that follow from them."""

from __future__ import annotations

import torch
from torch import Tensor

from glassformer.attention import padding
from glassformer.attention.masks import Padding


def check_ids(input_ids: Tensor, vocab_size: int, name: str = "input_ids") -> None:
    """Refuse what are no token ids ``(batch, seq)``.

    Raises:
        TypeError: ids that are not integers.
        ValueError: another shape, or an id out of range (on a CPU; elsewhere the device itself refuses it).

    """
    if input_ids.is_floating_point() or input_ids.dtype == torch.bool:
        raise TypeError(f"token ids must be integers, not {input_ids.dtype}")
    if input_ids.dim() != 2:
        raise ValueError(f"{name} must be (batch, seq), not of shape {tuple(input_ids.shape)}")
    if torch.compiler.is_compiling() or input_ids.device.type != "cpu":
        return  # reading values would wait for the device; its own lookup asserts
    wrong = (input_ids < 0) | (input_ids >= vocab_size)
    if wrong.any():
        row, position = wrong.nonzero()[0].tolist()
        raise ValueError(
            f"token id {int(input_ids[row, position])} at position {position} of row {row} is outside "
            f"the vocabulary: ids are 0 to {vocab_size - 1}"
        )


def read_mask(
    input_ids: Tensor, attention_mask: Tensor | None, seen: int = 0, name: str = "attention_mask"
) -> tuple[Tensor, Padding | None]:
    """Positions of all keys, ``(key,)`` or ``(batch, key)``, and the mask of padding, or None without any.

    Positions count real tokens: padding on the left shifts none.

    Args:
        input_ids: ``(batch, seq)``.
        attention_mask: ``(batch, seen + seq)``, 1 or True for a real token.
        seen: slots in the cache.
        name: what the user calls the mask.

    Raises:
        TypeError: a mask that is neither boolean nor 0/1 integers.
        ValueError: a mask of another shape, or of other numbers.

    """
    keys = seen + input_ids.size(1)
    if attention_mask is None:
        return torch.arange(keys, device=input_ids.device), None
    if attention_mask.shape != (input_ids.size(0), keys):
        raise ValueError(
            f"{name} must be (batch, seq) = {(input_ids.size(0), keys)}"
            f"{f' with the {seen} slots in the cache' if seen else ''}, not {tuple(attention_mask.shape)}"
        )
    mask = padding(attention_mask)
    if not torch.compiler.is_compiling() and mask.real.all():
        return torch.arange(keys, device=input_ids.device), None
    counted = mask.real.cumsum(dim=1) - 1
    return counted.clamp(min=0), mask
