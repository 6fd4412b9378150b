"""Predictions of a model at each position, with the tokens that are really there."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from torch import Tensor

from glassformer.analysis import EncodedText
from glassformer.contracts import Tokenizer
from glassformer.models import TransformerModel
from glassformer.visualization.explorer.encoding import PackedJson, pack_json
from glassformer.visualization.explorer.schema import Predictions
from glassformer.visualization.model_input import special_token_labels

TOP_K = 10
"""Number of predictions stored for each position."""


def output_predictions(
    model: TransformerModel,
    tokenizer: Tokenizer | None,
    output: Tensor,
    targets: EncodedText | None,
    kinds: Sequence[str],
) -> list[Predictions]:
    """The most probable tokens, or classes, of a model's output; an empty list for a model without a head.

    Args:
        model: any model; its ``task`` says what the output is.
        tokenizer: gives the labels of tokens; without one they are numbers.
        output: of the forward pass of a batch of one.
        targets: the input of a decoder or a masked language model, or the target of an encoder-decoder.
        kinds: kinds of attention on the page.
    """
    if model.task in ("classification", "token_classification"):
        return [_class_predictions(output[0], list(getattr(model, "labels", [])), list(kinds))]
    if targets is None:
        return []
    if model.task == "seq2seq_lm":
        title, kinds, offset = "the target token here", [k for k in ("cross", "decoder") if k in kinds], 0
    elif model.task == "causal_lm":
        title, offset = "the next token", 1
    elif model.task == "masked_lm":
        title, offset = "the token here", 0
    else:
        return []
    if not kinds:
        return []
    return [_token_predictions(title, list(kinds), output[0], model, tokenizer, targets.ids[offset:])]


def flat_row(probabilities: Tensor, ids: Tensor, indices: dict[int, int]) -> list[float]:
    """The list ``[index, probability, index, probability, ...]`` of one row.

    Args:
        probabilities: ``(k,)``.
        ids: of the tokens, ``(k,)``.
        indices: the index of each token in the list of labels; new tokens are added.
    """
    row: list[float] = []
    for token, probability in zip(ids.tolist(), probabilities.tolist(), strict=True):
        row += [indices.setdefault(token, len(indices)), round(probability, 5)]
    return row


def token_labels(model: TransformerModel, tokenizer: Tokenizer | None, ids: Iterable[int]) -> list[str]:
    """Labels of tokens, in order; the id of a token that the tokenizer does not know."""
    if tokenizer is None:
        return [str(token) for token in ids]
    special = special_token_labels(model, tokenizer)
    return [
        (special.get(token) or tokenizer.label(token)) if token < tokenizer.vocab_size else str(token)
        for token in ids
    ]


def _token_predictions(
    title: str,
    kinds: list[str],
    logits: Tensor,
    model: TransformerModel,
    tokenizer: Tokenizer | None,
    targets: list[int],
) -> Predictions:
    """Predictions of logits ``(seq, vocab_size)``; ``targets[i]`` is the token predicted at position i."""
    indices: dict[int, int] = {}
    probabilities, tokens = _top_k(logits)
    rows = [[flat_row(p, t, indices)] for p, t in zip(probabilities, tokens, strict=True)]
    found: list[list[Any] | None] = [None] * len(rows)
    for position, token in enumerate(targets):
        distribution = logits[position].float().softmax(-1)
        rank = 1 + int((distribution > distribution[token]).sum())
        index = indices.setdefault(token, len(indices))
        found[position] = [index, round(float(distribution[token]), 5), rank]
    labels = token_labels(model, tokenizer, indices)
    return Predictions(title, kinds, ["the model"], labels, pack_json(rows), PackedJson(pack_json(found)))


def _class_predictions(logits: Tensor, labels: list[str], kinds: list[str]) -> Predictions:
    """Predictions of logits ``(labels,)`` of the whole input, or ``(seq, labels)`` of each position."""
    probabilities, classes = _top_k(logits.reshape(-1, logits.size(-1)))
    indices: dict[int, int] = {}
    rows = [[flat_row(p, c, indices)] for p, c in zip(probabilities, classes, strict=True)]
    names = [labels[number] if number < len(labels) else str(number) for number in indices]
    return Predictions("the class", kinds, ["the model"], names, pack_json(rows))


def _top_k(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Probabilities and ids, ``(..., k)``, of logits ``(..., vocab_size)``."""
    best = logits.float().softmax(-1).topk(min(TOP_K, logits.size(-1)), dim=-1)
    return best.values.cpu(), best.indices.cpu()
