"""What a model would say if it stopped after each layer.

    p_l = softmax(lm_head(norm(stream_l)))

``norm`` and ``lm_head`` are those that the model itself puts behind its last layer (nostalgebraist 2020,
"interpreting GPT: the logit lens"). Early streams were never trained to be read like this; the distance to
the last distribution says how far a layer is from the answer in the words of the head, not what it knows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import singledispatch
from typing import Any, NamedTuple

import torch
from torch import Tensor

from glassformer.analysis.examples import inputs_of
from glassformer.attention import record_activations
from glassformer.generation.streaming import evaluating
from glassformer.models import BERTModel, GPTModel, T5Model, TransformerModel
from glassformer.models.heads import MaskedLMHead


@dataclass(frozen=True)
class LogitLens:
    """The likeliest tokens as seen from each stream."""

    layers: list[int]
    """Numbers of the streams: what enters block l; the number of layers is what leaves the last block."""
    tokens: Tensor
    """Ids of the likeliest, the likeliest first, ``(layer, position, k)``."""
    log_probabilities: Tensor
    """Theirs in nats, ``(layer, position, k)``."""
    divergence: Tensor
    """KL(last distribution || p_l) in nats, ``(layer, position)``; zero at the end."""


@torch.no_grad()
def logit_lens(
    model: TransformerModel, example: Any, top_k: int = 5, layers: Sequence[int] | None = None
) -> LogitLens:
    """Read each stream with the model's own final norm and head.

    Args:
        model: a decoder, an encoder-decoder (its decoder is looked into), or an encoder with a head for
            masked tokens; in evaluation mode while it reads.
        example: a text or ids, or a pair, as ``inputs_of`` takes it.
        top_k: tokens to keep for each position.
        layers: numbers of streams, from 0 to the number of layers. Default: all.

    Raises:
        ValueError: a stream that does not exist, or ``top_k`` outside the vocabulary; as ``inputs_of``.
        TypeError: a model without a head over a vocabulary.
    """
    kind, read_out = readout(model)
    inputs = inputs_of(model, example)
    with evaluating(model), record_activations(model, kind=kind) as activations:
        final = model(*inputs)[0].float().log_softmax(-1)  # (position, vocab_size)
        chosen = _choose(sorted(activations.streams), layers)
        if not 1 <= top_k <= final.size(-1):
            raise ValueError(f"top_k must be between 1 and the {final.size(-1)} tokens, not {top_k}")
        tokens, values, divergence = [], [], []
        for layer in chosen:
            seen = read_out(activations.streams[layer])[0].float().log_softmax(-1)
            best = seen.topk(top_k)
            tokens.append(best.indices)
            values.append(best.values)
            divergence.append((final.exp() * (final - seen)).sum(-1))
    return LogitLens(chosen, *map(torch.stack, (tokens, values, divergence)))


class Readout(NamedTuple):
    """How a model turns the stream behind its last block into logits."""

    kind: str
    """Of attention, by which the stack is known."""
    logits: Callable[[Tensor], Tensor]
    """``(batch, seq, d_model) -> (batch, seq, vocab_size)``."""


@singledispatch
def readout(model: Any) -> Readout:
    """What stands behind the last block of a model.

    Raises:
        TypeError: a model without a head over a vocabulary.
    """
    raise TypeError(
        f"a {type(model).__name__} has no head over a vocabulary to read its streams with: give a GPTModel, "
        'a T5Model, or a BERTModel with head="masked_lm"'
    )


@readout.register
def _(model: GPTModel) -> Readout:
    return Readout("self", lambda stream: model.lm_head(model.norm(stream)))


@readout.register
def _(model: T5Model) -> Readout:
    return Readout("decoder", lambda stream: model.lm_head(model.decoder.norm(stream) * model.logit_scale))


@readout.register
def _(model: BERTModel) -> Readout:
    if not isinstance(model.head, MaskedLMHead):
        raise TypeError(
            f"this BERTModel's head is {type(model.head).__name__}, with no vocabulary to read its streams "
            'with: give one with head="masked_lm"'
        )
    return Readout("self", lambda stream: model.head(model.norm(stream), model.pooler))


def _choose(streams: list[int], layers: Sequence[int] | None) -> list[int]:
    chosen = streams if layers is None else list(layers)
    for layer in chosen:
        if layer not in streams:
            raise ValueError(f"stream {layer} does not exist: streams are {streams[0]} to {streams[-1]}")
    return chosen
