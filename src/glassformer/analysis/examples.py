"""One example of a data set as the tensors that a model's forward pass takes: one row, nothing is padding."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from glassformer.analysis.images import ReadsImages, read_image
from glassformer.analysis.reading import EncoderDecoder, read, read_pair
from glassformer.models import TransformerModel


def inputs_of(model: TransformerModel, example: Any) -> tuple[Tensor, ...]:
    """What ``model(*inputs)`` takes for one example.

    Args:
        model: of any family.
        example: a text or token ids; for an encoder-decoder a pair (source, target) of them, or a source
            alone, whose target the model writes; for a model of images what ``read_image`` takes.

    Raises:
        ValueError: an empty text, an id out of range, or an image of another shape.
        TypeError: something that the model does not read.
    """
    if isinstance(model, ReadsImages):
        return (read_image(model, example).pixel_values.to(model.device),)
    if isinstance(model, EncoderDecoder):
        pair = read_pair(model, *(example if _is_pair(example) else [example]))
        return _row(model, pair.source.ids), _row(model, pair.target.ids)
    return (_row(model, read(model, example).ids),)


def _is_pair(example: Any) -> bool:
    """Two texts, or two sequences of ids; not the ids of one text."""
    return isinstance(example, tuple) and len(example) == 2 and not isinstance(example[0], int)


def _row(model: TransformerModel, ids: Sequence[int]) -> Tensor:
    return torch.tensor([ids], device=model.device)
