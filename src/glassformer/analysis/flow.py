"""Attention flow: how much of an input can reach an output at once, through all layers.

Each layer's A~ (``rollout.mixing``) is a row of pipes from its outputs to its inputs, as wide as its entries.
The relevance of an input is the largest flow from the output down to it (Abnar & Zuidema 2020, section 3).
Rollout multiplies along each path, and adds; flow lets no pipe carry more than its width.

This module needs scipy, which comes with the extra ``analysis``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from glassformer.analysis.rollout import follow_attention, mixing
from glassformer.models import TransformerModel

RESOLUTION = 2**30
"""Widths are whole multiples of 1 / RESOLUTION. So a flow is right within (pipes of the smallest cut) / 2 of
them: at most layers * seq^2 / 2^31, which is 2.5e-6 for 6 layers of 30 tokens."""


def flow(layers: Sequence[Tensor], position: int) -> Tensor:
    """The maximum flow from one output to each input.

    Args:
        layers: weights of each layer from the first to the last, ``(head, seq, seq)``.
        position: the output.

    Returns:
        ``(key,)``, float64, from 0 to 1, each within ``RESOLUTION``; unlike rollout they do not sum to one,
        for each input is asked for by itself.

    Raises:
        ValueError: no layer, weights of another shape, or a position that does not exist.
        ImportError: scipy is not installed.
    """
    try:
        from scipy.sparse import csr_array
        from scipy.sparse.csgraph import maximum_flow
    except ImportError as error:
        raise ImportError(
            f"attention flow needs scipy: pip install 'glassformer[analysis]' ({error})"
        ) from error
    if not len(layers):
        raise ValueError("there are no layers: give the weights of at least one")
    length = layers[0].size(-1)
    if not 0 <= position < length:
        raise ValueError(f"position {position} does not exist: positions are 0 to {length - 1}")
    # Token j as it enters layer l is node l * length + j; the last outputs are the last nodes.
    nodes = (len(layers) + 1) * length
    rows, columns, widths = [], [], []
    for layer, weights in enumerate(layers):
        pipes = np.rint(mixing(weights).cpu().double().numpy() * RESOLUTION).astype(np.int32)
        upper, lower = pipes.nonzero()
        rows.append((layer + 1) * length + upper)
        columns.append(layer * length + lower)
        widths.append(pipes[upper, lower])
    graph = csr_array(
        (np.concatenate(widths), (np.concatenate(rows), np.concatenate(columns))), shape=(nodes, nodes)
    )
    output = len(layers) * length + position
    flows = [maximum_flow(graph, output, key).flow_value for key in range(length)]
    return torch.tensor(flows, dtype=torch.float64) / RESOLUTION


def attention_flow(
    model: TransformerModel, example: Any, position: int = -1, kind: str | None = None
) -> Tensor:
    """Flow of what a model attends to, from one of its tokens to each input.

    Args:
        model: of any family.
        example: a text, ids or an image, as ``inputs_of`` takes it.
        position: the output token; one below zero counts from the end.
        kind: of attention. Default: that of the stack which reads nothing but its own tokens.

    Returns:
        ``(key,)``, as ``flow``.

    Raises:
        ValueError: a position that does not exist; as ``rollout.attention_rollout``.
        TypeError: as ``rollout.attention_rollout``.
        ImportError: scipy is not installed.
    """
    layers: list[Tensor] = []
    follow_attention(model, example, layers.append, kind)
    length = layers[0].size(-1)
    if not -length <= position < length:
        raise ValueError(f"position {position} does not exist: positions are 0 to {length - 1}")
    return flow(layers, position % length)
