"""The logit lens: next-token predictions from the residual stream after each layer.

    p_l = softmax(unembed(norm(stream_l)))

``norm`` and ``lm_head`` are the model's own final norm and head (nostalgebraist 2020, "interpreting GPT: the
logit lens"). Early streams were not trained to be decoded like this: the divergence from the final
distribution measures how far a layer is from the prediction in the basis of the head, not what it knows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from glassformer.analysis.inputs import model_inputs
from glassformer.attention import record_activations
from glassformer.eval_mode import eval_mode
from glassformer.models import TransformerModel


@dataclass(frozen=True)
class LogitLens:
    """The most probable tokens according to each stream."""

    layers: list[int]
    """Numbers of the streams: stream l is the input of block l, the last one the output of the last block."""
    tokens: Tensor
    """Ids of the most probable tokens, in descending order, ``(layer, position, k)``."""
    log_probabilities: Tensor
    """Their log-probabilities in nats, ``(layer, position, k)``."""
    divergence: Tensor
    """KL(final distribution || p_l) in nats, ``(layer, position)``; zero for the last stream."""
    followed: Tensor | None = None
    """Log-probabilities in nats of the tokens to follow, ``(layer, position, token)``."""


@torch.no_grad()
def logit_lens(
    model: TransformerModel,
    example: Any,
    top_k: int = 5,
    layers: Sequence[int] | None = None,
    follow: Sequence[int] | None = None,
) -> LogitLens:
    """Decode each stream with the model's own final norm and head.

    Args:
        model: a decoder, an encoder-decoder (the streams are its decoder's), or an encoder with a head for
            masked tokens; it runs in evaluation mode.
        example: a text or ids, or a pair, as in ``model_inputs``.
        top_k: tokens to keep for each position.
        layers: numbers of streams, from 0 to the number of layers. Default: all.
        follow: ids of tokens whose probabilities are computed too.

    Raises:
        ValueError: a stream or token that does not exist, or ``top_k`` outside the vocabulary; as
            ``model_inputs``.
        TypeError: a model without a head over a vocabulary.
    """
    kind, logits_from = readout(model)
    inputs = model_inputs(model, example)
    with eval_mode(model), record_activations(model, kind=kind) as activations:
        final = model(*inputs)[0].float().log_softmax(-1)  # (position, vocab_size)
        chosen = _choose(sorted(activations.resid_pre), layers)
        if not 1 <= top_k <= final.size(-1):
            raise ValueError(f"top_k must be between 1 and the {final.size(-1)} tokens, not {top_k}")
        for token in follow or ():
            if not 0 <= token < final.size(-1):
                raise ValueError(f"token id {token} does not exist: ids are 0 to {final.size(-1) - 1}")
        tokens, values, divergence, followed = [], [], [], []
        for layer in chosen:
            log_probs = logits_from(activations.resid_pre[layer])[0].float().log_softmax(-1)
            best = log_probs.topk(top_k)
            tokens.append(best.indices)
            values.append(best.values)
            divergence.append((final.exp() * (final - log_probs)).sum(-1))
            followed.append(log_probs[:, list(follow or ())])
    lens = LogitLens(chosen, *map(torch.stack, (tokens, values, divergence)))
    return replace(lens, followed=torch.stack(followed)) if follow else lens


class Readout(NamedTuple):
    """The function from the stream after the last block to logits."""

    kind: str
    """Of the attention in these blocks."""
    logits: Callable[[Tensor], Tensor]
    """``(batch, seq, d_model) -> (batch, seq, vocab_size)``."""


def readout(model: Any) -> Readout:
    """The final norm and head of a model.

    Raises:
        TypeError: a model without a head over a vocabulary.
    """
    if model.task == "causal_lm":
        return Readout("self", lambda stream: model.unembed(model.norm(stream)))
    if model.task == "seq2seq_lm":
        return Readout(
            "decoder", lambda stream: model.unembed(model.decoder.norm(stream) * model.logit_scale)
        )
    if model.task == "masked_lm":
        return Readout("self", lambda stream: model.head(model.norm(stream), model.pooler))
    raise TypeError(
        f"a {type(model).__name__} for the task {model.task!r} has no head over a vocabulary: give a "
        'GPTModel, a T5Model, or a BERTModel with head="masked_lm"'
    )


def _choose(streams: list[int], layers: Sequence[int] | None) -> list[int]:
    chosen = streams if layers is None else list(layers)
    for layer in chosen:
        if layer not in streams:
            raise ValueError(f"stream {layer} does not exist: streams are {streams[0]} to {streams[-1]}")
    return chosen
