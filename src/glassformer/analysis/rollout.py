"""From which inputs a token's vector was mixed: attention followed through all layers.

    rollout    R = A~_L ... A~_1,  A~ = (mean over heads of A + I) / 2, rows summing to one
               (Abnar & Zuidema 2020, section 3)
    gradient   R <- R + E_h[(A * dy/dA)^+] R, layer by layer from R = I
               (Chefer, Gur & Wolf 2021, equations 5 and 6)

I stands for the residual connection. Rollout knows nothing of what the model says; the gradient counts only
what speaks for an outcome y. Both are followed through one stack of self-attention: of an encoder-decoder
the encoder, from the source to what the decoder reads of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from glassformer.analysis.examples import inputs_of
from glassformer.analysis.outcomes import Outcome, outcome_of
from glassformer.attention import (
    AttentionMap,
    MultiHeadAttention,
    ScaledDotProductAttention,
    attentions_of,
    choose_kind,
    record_attention,
)
from glassformer.attention.heads import holder_of
from glassformer.generation.streaming import evaluating
from glassformer.models import TransformerModel


def mixing(weights: Tensor) -> Tensor:
    """A~ = (mean over heads of A + I) / 2, its rows summing to one.

    A token that attends to nothing keeps itself.

    Args:
        weights: ``(..., head, seq, seq)``.

    Returns:
        ``(..., seq, seq)``.

    Raises:
        ValueError: queries that are not the keys.
    """
    if weights.dim() < 3 or weights.size(-1) != weights.size(-2):
        raise ValueError(f"weights of self-attention are (head, seq, seq), not {tuple(weights.shape)}")
    mixed = weights.mean(-3) + torch.eye(weights.size(-1), dtype=weights.dtype, device=weights.device)
    return mixed / mixed.sum(-1, keepdim=True)


def rollout(layers: Sequence[Tensor]) -> Tensor:
    """R = A~_L ... A~_1 (Abnar & Zuidema 2020, section 3).

    Args:
        layers: weights of each layer from the first to the last, ``(..., head, seq, seq)``.

    Returns:
        ``(..., query, key)``: the part of input ``key`` in output ``query``; rows sum to one.

    Raises:
        ValueError: no layer, or weights of another shape.
    """
    if not len(layers):
        raise ValueError("there are no layers: give the weights of at least one")
    rolled = mixing(layers[0])
    for weights in layers[1:]:
        rolled = mixing(weights) @ rolled
    return rolled


def attention_rollout(model: TransformerModel, example: Any, kind: str | None = None) -> Tensor:
    """Rollout of what a model attends to.

    Args:
        model: of any family.
        example: a text, ids or an image, as ``inputs_of`` takes it.
        kind: of attention. Default: that of the stack which reads nothing but its own tokens.

    Returns:
        ``(query, key)``, float64: row i says from which inputs the vector of token i was mixed.

    Raises:
        ValueError: attention on another sequence, or a kind that does not exist; as ``inputs_of``.
        TypeError: as ``inputs_of``; what ``torch.compile`` made of a model.
    """
    rolled: list[Tensor] = []

    def multiply(mean: Tensor) -> None:
        mixed = mixing(mean)
        rolled[:] = [mixed @ rolled[0] if rolled else mixed]

    follow_attention(model, example, multiply, kind)
    return rolled[0]


@torch.no_grad()
def follow_attention(
    model: TransformerModel, example: Any, take: Callable[[Tensor], None], kind: str | None = None
) -> None:
    """Hand over what each layer attends to, as soon as it is there, so that memory is that of one map.

    Args:
        model: as in ``attention_rollout``.
        example: as in ``attention_rollout``.
        take: called with the mean over the heads of each layer, ``(1, seq, seq)``, float64, on the CPU.
        kind: as in ``attention_rollout``.
    """
    kind, _ = choose_stack(model, kind)
    inputs = inputs_of(model, example)

    def average(seen: AttentionMap) -> None:
        take(seen.weights[0].mean(0, keepdim=True, dtype=torch.float64))

    with evaluating(model), record_attention(model, kind=kind, device="cpu", callback=average):
        model(*inputs)


def gradient_rollout(
    model: TransformerModel, example: Any, outcome: Outcome | None = None, kind: str | None = None
) -> Tensor:
    """Rollout of the attention that speaks for an outcome (Chefer, Gur & Wolf 2021, equations 5 and 6).

    Args:
        model: of any family; its parameters get no gradients.
        example: as in ``attention_rollout``.
        outcome: what is explained. Default: ``outcome_of``, the model's likeliest answer.
        kind: as in ``attention_rollout``.

    Returns:
        ``(query, key)``, float64: row i says how much each input speaks for the outcome by way of token i.
        Each token has the one it begins with, on the diagonal; rows have no fixed sum.

    Raises:
        ValueError: as ``attention_rollout``; or an outcome that has no slope.
        TypeError: as ``attention_rollout``.
    """
    _, attentions = choose_stack(model, kind)
    inputs = inputs_of(model, example)
    with torch.enable_grad(), evaluating(model), weights_in_graph(attentions) as kernels:
        output = model(*inputs)
        outcome = outcome_of(model, inputs, output) if outcome is None else outcome
        if not outcome.has_slope:
            raise ValueError(
                f"what a {type(model).__name__} without a head makes of an input is most like itself: no "
                "slope leads up. Give outcome=Similarity(vector), the mean hidden state of another input"
            )
        weights = [kernel.weights for kernel in kernels]  # (1, head, seq, seq)
        (value,) = outcome(output, torch.arange(weights[0].size(-1), device=output.device)[None])
        slopes = torch.autograd.grad(value, weights, allow_unused=True, materialize_grads=True)
    rolled = torch.eye(weights[0].size(-1), dtype=torch.float64)
    for layer, slope in zip(weights, slopes, strict=True):
        speaking = (layer.detach()[0] * slope[0]).clamp(min=0).mean(0)  # (seq, seq)
        rolled = rolled + speaking.cpu().double() @ rolled
    return rolled


def relevance_for(outcome: Outcome, rolled: Tensor) -> Tensor:
    """What each input is worth for an outcome, ``(key,)``.

    It is the row of the token that the outcome is read from; the mean of the rows where it is read from all.

    Args:
        outcome: from ``outcome_of``.
        rolled: ``(query, key)``.
    """
    return rolled.mean(0) if outcome.position is None else rolled[outcome.position]


def choose_stack(model: TransformerModel, kind: str | None) -> tuple[str, list[MultiHeadAttention]]:
    """The self-attention of a stack that reads nothing but its own tokens, one module a layer.

    Raises:
        ValueError: attention of another kind.
        TypeError: a model without attentions, or what ``torch.compile`` made of one.
    """
    alone = [
        name
        for name, attentions in attentions_of(model).items()
        if all(getattr(holder_of(model, a), "cross_attention", None) is None for a in attentions)
    ]
    kind, attentions = choose_kind(model, alone[0] if kind is None and len(alone) == 1 else kind)
    if kind not in alone:
        raise ValueError(
            f"layers of {kind!r} attention also read another sequence, which one stack does not show: "
            f"give kind={' or '.join(repr(name) for name in alone)}"
        )
    return kind, attentions


class _Keeping(ScaledDotProductAttention):
    """The textbook kernel, which keeps its weights in the graph."""

    weights: Tensor

    def forward(self, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        q, *others = args
        if not q.requires_grad:  # a model whose parameters are frozen
            q = q.detach().requires_grad_()
        output, self.weights = super().forward(q, *others, **kwargs)
        return output, self.weights


@contextmanager
def weights_in_graph(attentions: Sequence[MultiHeadAttention]) -> Iterator[list[_Keeping]]:
    """Put kernels that keep their weights, for a gradient, in the place of a model's own.

    Inside, the model's output is the same up to rounding. Afterwards each module has its kernel back, also
    after an exception.

    Args:
        attentions: modules whose weights are asked for.

    Yields:
        A kernel for each; ``weights`` is there after a forward pass, ``(batch, head, query, key)``.
    """
    own = [attention.kernel for attention in attentions]
    kernels = [_Keeping(scale=kernel.scale) for kernel in own]
    try:
        for attention, keeping in zip(attentions, kernels, strict=True):
            attention.kernel = keeping
        yield kernels
    finally:
        for attention, kernel in zip(attentions, own, strict=True):
            attention.kernel = kernel
