"""Queries, keys and values of every head, from which a page shows how attention is computed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from glassformer.analysis.inputs import model_inputs
from glassformer.attention import attentions_of
from glassformer.attention.recording import hooks
from glassformer.eval_mode import eval_mode
from glassformer.models import TransformerModel
from glassformer.visualization.explorer.encoding import compress
from glassformer.visualization.explorer.schema import AttentionMaps, PackedVectors, Vectors

BUDGET = 1_000_000
"""Characters that the vectors of a page may take; a longer text has none."""
CHARACTERS_PER_NUMBER = 1.3
LARGEST = 127
"""The code of the largest number of a vector."""


@torch.no_grad()
def attention_vectors(
    model: TransformerModel, example: Any, attention: Sequence[AttentionMaps]
) -> list[Vectors]:
    """The queries, keys and values that the kernels of the layers on a page are given.

    Args:
        model: of any family.
        example: an input, see ``analysis.inputs.model_inputs``.
        attention: on the page.

    Returns:
        One for each kind of attention that is a softmax of products of queries and keys; none if they would
        take more than ``BUDGET``.
    """
    layers = {
        item.kind: [attentions_of(model)[item.kind][layer] for layer in item.layers] for item in attention
    }
    kernels: list[Any] = [module.kernel for modules in layers.values() for module in modules]
    given: dict[Any, tuple[Any, ...]] = {}
    with eval_mode(model), hooks() as handles:
        handles += [kernel.register_forward_pre_hook(given.__setitem__) for kernel in kernels]
        model(*model_inputs(model, example))
    size = sum(tensor.numel() for kernel in kernels for tensor in given[kernel][:3])
    if size * CHARACTERS_PER_NUMBER > BUDGET:
        return []
    found = []
    for kind, modules in layers.items():
        if not all(module.kernel.is_softmax and module.kernel.softcap is None for module in modules):
            continue
        arguments = [given[module.kernel] for module in modules]
        scale = modules[0].kernel.scale
        d_head = modules[0].d_head
        packed = [
            pack_vectors([tensor[0].float().cpu().numpy() for tensor in args[:3]]) for args in arguments
        ]
        has_bias = any(len(args) > 4 and args[4] is not None for args in arguments)
        found.append(Vectors(kind, packed, d_head**-0.5 if scale is None else float(scale), has_bias))
    return found


def pack_vectors(tensors: Sequence[npt.NDArray[np.floating]]) -> PackedVectors:
    """Encode queries, keys and values in 8 bits, each vector relative to its largest number.

    Args:
        tensors: queries ``(head, query, d_head)``, keys and values ``(kv_head, key, d_head)``.
    """
    largest = [np.abs(tensor).max(-1, keepdims=True).astype("<f4") for tensor in tensors]
    codes = [
        np.rint(tensor / np.where(top > 0, top, 1) * LARGEST).astype(np.int8)
        for tensor, top in zip(tensors, largest, strict=True)
    ]
    content = b"".join(part.tobytes() for part in (*largest, *codes))
    queries, keys = tensors[0], tensors[1]
    return PackedVectors(len(queries), len(keys), queries.shape[-1], compress(content))
