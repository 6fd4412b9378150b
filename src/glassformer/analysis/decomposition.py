"""Why a head looks there: each attention score as a sum of what tokens are, where they stand, and biases.

    score_ij = scale * rotate(W_q h_i + b_q) . rotate(W_k h_j + b_k) + additive bias
             = content_ij + position_ij + bias_ij

    h        = c + p: what attention reads, less the direct path of the position embedding, and that path
    content  = scale * (W_q c_i) . (W_k c_j), not rotated
    position = every other product without a projection's bias, what rotation changes, and the additive bias
    bias     = every product that b_q or b_k takes part in

The direct path leads from the embedding of a position through residual connections and norms alone. A norm is
linear once its statistics (mean and variance of what it was given) are held, so the path is exact at every
depth. It is not all that a deep layer knows about positions: what earlier layers have read off them, and
written into the stream, counts as content there. The bias of a norm is the same for all tokens and counts as
content too.

Scores are those before the mask, scaled. (Dai et al. 2019, section 3.3, and Ke et al. 2021, section 3.1,
split the scores of a first layer like this; Elhage et al. 2021 follow direct paths through the stream.)
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from glassformer.analysis.examples import inputs_of
from glassformer.analysis.position_paths import Seen, path_into_attention
from glassformer.attention import choose_kind, choose_layers
from glassformer.attention.self_attention import MultiHeadAttention, share_heads
from glassformer.generation.streaming import evaluating
from glassformer.models import TransformerModel


@dataclass(frozen=True)
class ScoreParts:
    """The scores of one layer and their parts, each ``(head, query, key)``, float64."""

    content: Tensor
    position: Tensor
    bias: Tensor
    score: Tensor
    """From the very queries and keys that the model's kernel was given."""

    @property
    def residue(self) -> float:
        """The largest difference between a score and the sum of its parts: the rounding of the model."""
        return float((self.content + self.position + self.bias - self.score).abs().max())


def score_parts(model: TransformerModel, example: Any, layer: int, kind: str | None = None) -> ScoreParts:
    """Split the attention scores of a layer into content, position and bias.

    Args:
        model: of any family, in evaluation mode while it reads.
        example: as ``inputs_of`` takes it.
        layer: its number.
        kind: of attention; may be left out where the model has only one.

    Raises:
        ValueError: a layer or kind that does not exist; as ``inputs_of``.
        TypeError: a model without attentions, or what ``torch.compile`` made of one.
    """
    return next(each_score_parts(model, example, [layer], kind))


@torch.no_grad()
def each_score_parts(
    model: TransformerModel, example: Any, layers: Sequence[int] | None = None, kind: str | None = None
) -> Iterator[ScoreParts]:
    """The parts of one layer after the other, from one reading.

    Args:
        model: as in ``score_parts``.
        example: as in ``score_parts``.
        layers: their numbers. Default: all.
        kind: as in ``score_parts``.

    Raises:
        ValueError: as ``score_parts``.
        TypeError: as ``score_parts``.
    """
    kind, attentions = choose_kind(model, kind)
    chosen = [attentions[layer] for layer in choose_layers(attentions, layers)]
    inputs = inputs_of(model, example)
    with evaluating(model), Seen.inside(model) as seen:
        model(*inputs)
    for attention in chosen:
        yield _parts(model, attention, seen, inputs)


def _parts(
    model: TransformerModel, attention: MultiHeadAttention, seen: Seen, inputs: tuple[Tensor, ...]
) -> ScoreParts:
    q, k, _, _, additive = seen[attention.kernel].args  # (1, head, seq, d_head)
    scale = 1 / math.sqrt(q.size(-1)) if attention.kernel.scale is None else attention.kernel.scale
    extra = (
        torch.zeros((), dtype=torch.float64, device=q.device) if additive is None else additive[0].double()
    )

    def product(queries: Tensor, keys: Tensor) -> Tensor:
        queries, keys = queries.double(), keys.double()
        return (queries @ share_heads(keys, queries).transpose(-2, -1) * scale)[0]

    read, positions = seen[attention].args, seen[attention].kwargs.get("positions")
    hidden = (
        read[0].double(),
        read[-1].double(),
    )  # read by queries, and by keys: the memory in cross-attention
    paths = path_into_attention(model, attention, seen, inputs)
    contents = [h - path for h, path in zip(hidden, paths, strict=True)]
    plain = _projected(attention, *hidden)
    biased = _projected(attention, *hidden, biases=True)
    content = product(*_projected(attention, *contents))
    unbiased = product(*_rotated(attention, plain, positions))
    return ScoreParts(
        content=content,
        position=unbiased - content + extra,
        bias=product(*_rotated(attention, biased, positions)) - unbiased,
        score=product(q, k) + extra,
    )


QueriesKeys: TypeAlias = tuple[Tensor, Tensor]


def _projected(
    attention: MultiHeadAttention, query: Tensor, key: Tensor, biases: bool = False
) -> QueriesKeys:
    """W_q query and W_k key, ``(1, head, seq, d_head)``, float64, with or without biases."""

    def project(linear: nn.Linear, x: Tensor) -> Tensor:
        bias = linear.bias.double() if biases and linear.bias is not None else None
        projected = F.linear(x, linear.weight.double(), bias)
        return projected.view(*x.shape[:-1], -1, attention.d_head).transpose(1, 2)

    return project(attention.q_proj, query), project(attention.k_proj, key)


def _rotated(attention: MultiHeadAttention, pair: QueriesKeys, positions: Tensor | None) -> QueriesKeys:
    """Both as the layer's position scheme turns them."""
    if attention.rotate is None or positions is None:
        return pair
    q, k = (attention.rotate(x, positions) for x in pair)
    return q, k
