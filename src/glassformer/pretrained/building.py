"""From keywords, a table of names and tensors to a model, with no memory taken twice."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from glassformer.models import TransformerModel
from glassformer.models.base import check_layers, shapes_only
from glassformer.pretrained.conversion import Table, Tensors, convert


def build(
    family: type[TransformerModel],
    keywords: Mapping[str, Any],
    source: str,
    table: Callable[[Mapping[str, Any]], Table],
    tensors: Tensors,
    dtype: torch.dtype,
) -> TransformerModel:
    """A model with the given tensors, which are mapped where they are only renamed, in evaluation mode.

    Args:
        family: of the model.
        keywords: of its constructor.
        source: where the keywords come from, for messages.
        table: the names of a model with such keywords.
        tensors: theirs.
        dtype: of the parameters.

    Raises:
        ValueError: keywords that describe no model, or tensors that do not fit it.

    """
    check_layers(keywords, len(tensors.shapes), source)
    try:
        with shapes_only():
            model = family(**keywords)
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise ValueError(f"{source} describes no model: {error}") from error
    converted = convert(table(model.config), tensors, model.own_state(), dtype)
    model.load_state_dict(converted, strict=False, assign=True)
    model.tie_parameters()
    return model.eval()


def common_dtype(tensors: Tensors, named: object) -> torch.dtype:
    """The type of all floating-point tensors, or where they differ the one that the config names."""
    found = {dtype for dtype in tensors.dtypes.values() if dtype.is_floating_point}
    if len(found) == 1:
        return found.pop()
    dtype = getattr(torch, str(named).removeprefix("torch."), None)
    return dtype if isinstance(dtype, torch.dtype) and dtype.is_floating_point else torch.float32
