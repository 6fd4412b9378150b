"""A sentence of the data with what a head attends to most."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from glassformer.analysis.head_patterns.collect import choose_self_attention, forward_function, word_weights
from glassformer.analysis.head_patterns.patterns import Batch, Item, Pattern
from glassformer.attention import record_attention
from glassformer.eval_mode import eval_mode
from glassformer.models import TransformerModel
from glassformer.tokenization import token_label

MAX_TOKENS = 24
"""Tokens of a sentence that is shown."""
MAX_QUERIES = 4
"""Queries that are shown."""


def example(
    model: TransformerModel, items: Sequence[Item], pattern: Pattern, head: tuple[int, int]
) -> str | None:
    """The first short sentence with a query for the pattern, and where the head's largest weights are.

    Args:
        model: with a tokenizer.
        items: sentences in random order.
        pattern: of tokens or words.
        head: (layer, head).

    Returns:
        ``"the sentence": query > key .93 (as the pattern says), ...``; None if no sentence has a query.
    """
    for item in items:
        if len(item.ids) > MAX_TOKENS:
            continue
        batch = Batch.from_items([item])
        if not batch.size(pattern.level):
            continue
        targets = pattern.targets(batch)[0]
        weights = _weights(model, batch, pattern, head)
        targets = targets.expand_as(weights) & (weights > 0)
        queries = targets.any(1).nonzero().flatten().tolist()
        if queries:
            names = _names(model, item, pattern)
            shown = [_arrow(names, weights, targets, query) for query in queries[:MAX_QUERIES]]
            return f"\u201c{item.text or ' '.join(names)}\u201d: {', '.join(shown)}"
    return None


def _weights(model: TransformerModel, batch: Batch, pattern: Pattern, head: tuple[int, int]) -> Tensor:
    """The attention of a head between tokens or words, ``(query, key)``."""
    kind, _ = choose_self_attention(model, None)
    layer, number = head
    with (
        torch.no_grad(),
        eval_mode(model),
        record_attention(model, layers=layer, heads=number, kind=kind) as recording,
    ):
        forward_function(model, kind)(batch.ids, batch.attention_mask)
    weights = recording[layer]
    if pattern.level == "word":
        words = torch.arange(batch.num_words)
        weights = word_weights(weights, (batch.word_ids[:, None] == words[:, None]).float())
    return weights[0, 0]


def _names(model: TransformerModel, item: Item, pattern: Pattern) -> list[str]:
    """The tokens or words of an item as text."""
    tokenizer = model.tokenizer
    if tokenizer is None or item.words is None or pattern.level == "token":
        return [token_label(tokenizer, token) for token in item.ids]
    words: dict[int, list[int]] = {}
    for token, word in zip(item.ids, item.words.word_ids, strict=True):
        words.setdefault(word, []).append(token)
    return [tokenizer.decode(words[number]).strip() for number in sorted(words) if number >= 0]


def _arrow(names: Sequence[str], weights: Tensor, targets: Tensor, query: int) -> str:
    key = int(weights[query].argmax())
    judged = "right" if targets[query, key] else "wrong"
    return f"{names[query]} > {names[key]} {float(weights[query, key]):.2f} ({judged})"
