"""What a model expects at each position: the likeliest tokens, with what really stands there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from glassformer.analysis import EncoderDecoder, Reading
from glassformer.contracts import Tokenizer
from glassformer.models import TransformerModel
from glassformer.models.heads import ClassificationHead, MaskedLMHead, TokenClassificationHead
from glassformer.visualization.explorer.contents import Guesses
from glassformer.visualization.explorer.packing import PackedJson, pack_json
from glassformer.visualization.readable import mark_names

SHOWN = 10
"""Guesses kept of each position."""


def guesses_of(
    model: TransformerModel,
    tokenizer: Tokenizer | None,
    output: Tensor,
    written: Reading | None,
    kinds: Sequence[str],
) -> list[Guesses]:
    """The likeliest tokens, or classes, of a model's output; nothing where it gives hidden states only.

    Args:
        model: decides what its output means, by what it can do.
        tokenizer: names the tokens; without one they are numbers.
        output: of its forward pass, for a batch of one.
        written: the text as a decoder reads it, or as an encoder-decoder is to write it.
        kinds: of attention on the page.
    """
    head = getattr(model, "head", None)
    if isinstance(model, EncoderDecoder) and written is not None:
        where = [kind for kind in ("cross", "decoder") if kind in kinds]
        return (
            [_guesses("what is written here", where, output[0], model, tokenizer, written.ids, 0)]
            if where
            else []
        )
    if hasattr(model, "next_token_logits") and written is not None:
        return [_guesses("the next token", list(kinds), output[0], model, tokenizer, written.ids, 1)]
    if isinstance(head, MaskedLMHead) and written is not None:
        return [_guesses("the token here", list(kinds), output[0], model, tokenizer, written.ids, 0)]
    if isinstance(head, ClassificationHead | TokenClassificationHead):
        return [_classes(output[0], list(getattr(model, "labels", [])), list(kinds))]
    return []


def likeliest(logits: Tensor, count: int = SHOWN) -> tuple[Tensor, Tensor]:
    """Probabilities and ids, ``(..., count)``, of the likeliest tokens of logits ``(..., vocab_size)``."""
    best = logits.float().softmax(-1).topk(min(count, logits.size(-1)), dim=-1)
    return best.values.cpu(), best.indices.cpu()


def row_of_guesses(probabilities: Tensor, ids: Tensor, places: dict[int, int]) -> list[float]:
    """``[token, probability, ...]`` with tokens as places in the list of labels, which grows as needed."""
    row: list[float] = []
    for token, probability in zip(ids.tolist(), probabilities.tolist(), strict=True):
        row += [places.setdefault(token, len(places)), round(probability, 5)]
    return row


def labels_at(model: TransformerModel, tokenizer: Tokenizer | None, places: dict[int, int]) -> list[str]:
    """The labels that guesses point into."""
    known = 0 if tokenizer is None else tokenizer.vocab_size
    marks = mark_names(model, tokenizer)
    return [
        str(token) if tokenizer is None or token >= known else marks.get(token) or tokenizer.label(token)
        for token in places
    ]


def _guesses(
    title: str,
    kinds: list[str],
    logits: Tensor,
    model: TransformerModel,
    tokenizer: Tokenizer | None,
    ids: list[int],
    ahead: int,
) -> Guesses:
    """Of logits ``(seq, vocab_size)``; the truth of position i is token i + ahead."""
    places: dict[int, int] = {}
    probabilities, tokens = likeliest(logits)
    rows = [[row_of_guesses(p, t, places)] for p, t in zip(probabilities, tokens, strict=True)]
    truth: list[list[Any] | None] = [None] * len(rows)
    for position, token in enumerate(ids[ahead:]):
        there = logits[position].float().softmax(-1)
        rank = 1 + int((there > there[token]).sum())
        truth[position] = [places.setdefault(token, len(places)), round(float(there[token]), 5), rank]
    labels = labels_at(model, tokenizer, places)
    return Guesses(title, kinds, ["the model"], labels, pack_json(rows), PackedJson(pack_json(truth)))


def _classes(logits: Tensor, labels: list[str], kinds: list[str]) -> Guesses:
    """Of logits ``(labels,)`` of the whole, or ``(seq, labels)`` of each position."""
    probabilities, classes = likeliest(logits.reshape(-1, logits.size(-1)))
    places: dict[int, int] = {}
    rows = [[row_of_guesses(p, c, places)] for p, c in zip(probabilities, classes, strict=True)]
    names = [labels[place] if place < len(labels) else str(place) for place in places]
    return Guesses("the class", kinds, ["the model"], names, pack_json(rows))
