"""Run a model over items and sum up, for each of them, where its heads look.

The model keeps its fast kernels; each layer's map is reduced as soon as it is there, so that the memory of
one layer of one batch is enough for any number of items.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from glassformer.analysis.patterns import Batch, Item, Level, Pattern
from glassformer.analysis.reading import EncoderDecoder
from glassformer.analysis.reduction import BatchSums, Sums
from glassformer.attention import record_attention
from glassformer.attention.heads import choose_kind
from glassformer.generation.streaming import evaluating
from glassformer.models import TransformerModel

MOST_TOKENS = 4096
"""Tokens, with padding, that a batch has at most."""
MOST_PAIRS = 2**18
"""Pairs of a query and a key that a batch has at most, unless a single item has more."""


def measure(
    model: TransformerModel,
    items: Sequence[Item],
    patterns: Sequence[Pattern],
    kind: str | None = None,
    *,
    descriptions: bool = True,
) -> Sums:
    """Sums for each item, in the order of the items.

    Args:
        model: that reads tokens.
        items: what it reads; similar lengths are put into one batch, padded and masked.
        patterns: of tokens and of words.
        kind: of self-attention; needed for an encoder-decoder.
        descriptions: whether distance, far and entropy are measured too.

    Raises:
        ValueError: a kind that does not exist, or one that looks at another sequence.

    """
    kind, attentions = choose_self_attention(model, kind)
    heads = [0, *accumulate(attention.num_heads for attention in attentions)]
    levels: tuple[Level, Level] = ("token", "word")
    by_level = {level: [pattern for pattern in patterns if pattern.level == level] for level in levels}
    forward = forward_pass(model, kind)
    whole: Sums = {}
    with torch.no_grad(), evaluating(model):
        for numbers in batches([len(item.ids) for item in items]):
            batch = Batch.of([items[number] for number in numbers], model.device)
            sums = BatchSums(batch, by_level, heads, descriptions=descriptions)
            with record_attention(model, kind=kind, callback=sums):
                forward(batch.ids, batch.real)
            for name, values in sums.sums.items():
                if name not in whole:
                    whole[name] = torch.zeros(len(items), *values.shape[1:], dtype=_kept(values))
                whole[name][numbers] = values.to("cpu", whole[name].dtype)
    return whole


def choose_self_attention(model: TransformerModel, kind: str | None) -> tuple[str, Sequence[Any]]:
    """The attention of one kind, where queries and keys are places of one sequence.

    Raises:
        ValueError: another kind, or none given where there are several.
        TypeError: a model that reads no tokens.

    """
    if "vocab_size" not in model.config:
        raise TypeError(f"a {type(model).__name__} reads no text: patterns of heads are of texts")
    kind, attentions = choose_kind(model, kind)
    if kind == "cross":
        raise ValueError('kind "cross" looks at another sequence: patterns are of "encoder" or "decoder"')
    return kind, attentions


def forward_pass(model: Any, kind: str) -> Callable[[Tensor, Tensor], object]:
    """What runs the attention of a kind on ids and mask ``(batch, seq)``, without a head over the vocabulary.

    The decoder of an encoder-decoder reads a text behind its start, with the same text as the source.
    """
    if not isinstance(model, EncoderDecoder):
        return lambda ids, real: model.hidden_states(ids, _mask(real))
    if kind == "encoder":
        return lambda ids, real: model.encode(ids, _mask(real))
    return lambda ids, real: model.hidden_states(ids[:, 1:], ids, _mask(real[:, 1:]), _mask(real))  # type: ignore[attr-defined]


def batches(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Numbers of items, each once, the longest first, those of similar length together."""
    batch: list[int] = []
    longest = 0
    for number in sorted(range(len(lengths)), key=lambda number: (-lengths[number], number)):
        longest = longest if batch else max(1, lengths[number])
        batch.append(number)
        if len(batch) >= max(1, min(MOST_TOKENS // longest, MOST_PAIRS // longest**2)):
            yield batch
            batch = []
    if batch:
        yield batch


def fingerprint(model: TransformerModel) -> str:
    """A hash of the family, the configuration, and every tensor: its name, type, shape and bytes."""
    digest = hashlib.sha256(json.dumps([model.family, model.config], sort_keys=True).encode())
    for name, tensor in model.own_state().items():
        digest.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        digest.update(tensor.detach().cpu().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()[:16]


def _mask(real: Tensor) -> Tensor | None:
    """Nothing where nothing is padding."""
    return None if bool(real.all()) else real


def _kept(values: Tensor) -> torch.dtype:
    """Counts in two bytes, sums in four."""
    return torch.float32 if values.is_floating_point() else torch.int16
