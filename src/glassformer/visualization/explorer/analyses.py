"""Analyses shown on a page: predictions, logit lens, attention rollout, decomposition of attention scores."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from itertools import compress
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from glassformer.analysis import EncodedText
from glassformer.analysis.attribution_targets import AttributionTarget, default_target
from glassformer.analysis.decomposition import each_score_parts
from glassformer.analysis.faithfulness import DeletionResult, NoDeletableTokenError, deletion_test
from glassformer.analysis.inputs import model_inputs
from glassformer.analysis.logit_lens import logit_lens, readout
from glassformer.analysis.rollout import (
    attention_rollout,
    attribution_for,
    gradient_rollout,
    self_attention_stack,
)
from glassformer.attention import attentions_of
from glassformer.contracts import Tokenizer
from glassformer.eval_mode import eval_mode
from glassformer.models import TransformerModel
from glassformer.visualization.attributions import MAX_GRADIENT_WEIGHTS, deletion_steps, score_description
from glassformer.visualization.explorer.encoding import (
    MASKED,
    PackedJson,
    pack_json,
    pack_maps,
    pack_scores,
    quantize,
    select_cells,
    unpack_maps,
)
from glassformer.visualization.explorer.schema import AttentionMaps, Decomposition, Predictions, Rollout
from glassformer.visualization.model_input import token_labels

TOP_K, LENS_TOP_K = 10, 3
"""Number of predictions stored for each position, of the model and after each layer."""
MAX_WEIGHTS = MAX_GRADIENT_WEIGHTS
"""Number of attention weights above which scores are not decomposed and gradients not computed."""
SIZE_BUDGET = 3_570_000
"""Characters that maps and scores may take together, if all scores do not fit."""
CHARACTERS_PER_SCORE = 3.2
MIN_SCORE_SHARE = 1 / 12
"""Characters for scores, as a share of those of the maps, that are always available."""
PARTS = ("content", "position", "bias")


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
    end_of_text = None if tokenizer is None else tokenizer.end_of_text
    ends = [index for token, index in indices.items() if token == end_of_text or token in model.stop_tokens]
    targets_of = PackedJson(pack_json(found))
    return Predictions(title, kinds, ["the model"], labels, pack_json(rows), targets=targets_of, ends=ends)


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


def logit_lens_predictions(
    model: TransformerModel, tokenizer: Tokenizer | None, example: Any, attention: Sequence[AttentionMaps]
) -> list[Predictions]:
    """The most probable tokens after each layer on the page; empty for a model without a vocabulary."""
    try:
        kind = readout(model).kind
    except TypeError:
        return []
    shown = [item for item in attention if item.kind in (kind, "cross")]
    layers = sorted({layer for item in shown for layer in item.layers})
    if not layers:
        return []
    last = len(attentions_of(model)[kind])
    depths = sorted({layers[0], *(layer + 1 for layer in layers), last})  # layers below each readout
    count = min(LENS_TOP_K, int(model.config["vocab_size"]))
    lens = logit_lens(model, example, count, depths)
    indices: dict[int, int] = {}
    probabilities = lens.log_probabilities.exp().cpu()
    rows = [
        [
            flat_row(probabilities[row, position], lens.tokens[row, position], indices)
            for row in range(len(depths))
        ]
        for position in range(probabilities.size(1))
    ]
    return [
        Predictions(
            title="Logit lens: the prediction after each layer",
            kinds=[item.kind for item in shown],
            rows=["before layer 0" if depth == 0 else f"after layer {depth - 1}" for depth in depths],
            tokens=token_labels(model, tokenizer, indices),
            data=pack_json(rows),
            note="the model's final norm and output projection, applied after each layer",
        )
    ]


def attention_rollouts(
    model: TransformerModel, example: Any, attention: Sequence[AttentionMaps], faithfulness: bool | None
) -> list[Rollout]:
    """Attention rollout through all layers, and its gradient-weighted variant where gradients exist.

    Args:
        model: of any family.
        example: an input, see ``analysis.inputs.model_inputs``.
        attention: on the page; the result is empty if the attention to be rolled out is not there.
        faithfulness: whether to run deletion tests. Default: if they are quick.
    """
    several_kinds = len(attentions_of(model)) > 1
    kind, _ = self_attention_stack(model, "encoder" if several_kinds else None)
    shown = next((item for item in attention if item.kind == kind), None)
    if shown is None:
        return []
    target = _attribution_target(model, example)
    of_kind = f" of the {kind}" if several_kinds else ""
    matrix = attention_rollout(model, example, kind)
    note = "the mean of the heads and the identity, half each, multiplied through all layers"
    methods = [("rollout", matrix, matrix, note + (of_kind or " of the model"))]
    if target is not None and target.differentiable and fits_in_memory(model, attention):
        matrix = gradient_rollout(model, example, target, kind)
        added = (matrix - torch.eye(len(matrix), dtype=matrix.dtype)).clamp(min=0)
        shares = added / added.sum(-1, keepdim=True).clamp(min=1e-30)
        note = "contributions to the model's prediction, as shares of each row, without the identity"
        methods.append(("gradient-weighted rollout", matrix, shares, note))
    steps = deletion_steps(model, len(shown.queries), faithfulness)
    rollouts: list[Rollout] = []
    baseline: DeletionResult | None = None  # its random orders are computed only once
    for name, matrix, shares, note in methods:
        packed = pack_maps(quantize(shares.float().numpy()[None], _visible(shown)))
        result: dict[str, Any] = {}
        if target is not None and not steps:
            note = f"glassformer explore --faithfulness measures it; {note}"
        elif target is not None:
            scores = attribution_for(target, matrix)
            with suppress(NoDeletableTokenError):
                test = deletion_test(model, example, scores, target, steps=steps, baseline=baseline)
                baseline = baseline or test
                note = f"{score_description(test, target)}; {note}"
                low, high = test.interval()
                result = {"faithfulness": test.score, "low": low, "high": high, "query": target.position}
        rollouts.append(Rollout(kind, name + of_kind, packed, note, **result))
    return rollouts


def score_decompositions(
    model: TransformerModel, example: Any, attention: Sequence[AttentionMaps]
) -> list[Decomposition]:
    """Scores before the softmax as sums of content, position and bias, for as many cells as fit."""
    if not fits_in_memory(model, attention):
        return []
    size = sum(len(packed.data) for item in attention for packed in (*item.maps, *item.thumbnails))
    rows = sum(len(heads) * len(item.queries) for item in attention for heads in item.heads)
    cells_per_row = max(SIZE_BUDGET - size, MIN_SCORE_SHARE * size) / CHARACTERS_PER_SCORE / rows
    return [_decomposition(model, example, item, cells_per_row) for item in attention]


def fits_in_memory(model: TransformerModel, attention: Sequence[AttentionMaps]) -> bool:
    """Whether the attention weights of all layers can be kept several times."""
    kinds = attentions_of(model)
    weights = [
        sum(module.num_heads for module in kinds[item.kind]) * len(item.queries) * len(item.keys)
        for item in attention
    ]
    return sum(weights) <= MAX_WEIGHTS


def _decomposition(
    model: TransformerModel, example: Any, item: AttentionMaps, cells_per_row: float
) -> Decomposition:
    selected, values = [], []
    splits = each_score_parts(model, example, item.layers, item.kind)
    for split, heads, packed in zip(splits, item.heads, item.maps, strict=True):
        max_cells = int(cells_per_row * len(heads) * len(item.queries))
        selected.append(select_cells(unpack_maps(packed), max_cells))
        here = torch.from_numpy(selected[-1])
        values.append([part.cpu()[here].numpy() for part in (split.content, split.position, split.bias)])
    nonzero = [any(bool(of_layer[part].any()) for of_layer in values) for part in range(len(PARTS))]
    nonzero[0] = True  # content is always shown
    layers = [
        pack_scores(cells, [*compress(of_layer, nonzero)])
        for cells, of_layer in zip(selected, values, strict=True)
    ]
    stored = sum(packed.num_cells for packed in layers)
    unmasked = sum(int((unpack_maps(packed) != MASKED).sum()) for packed in item.maps)
    note = (
        f"The file holds {stored:,} of {unmasked:,} scores: "
        "the heaviest of each row, then the heaviest of all others"
    )
    return Decomposition(item.kind, [*compress(PARTS, nonzero)], layers, "" if stored == unmasked else note)


def _visible(item: AttentionMaps) -> npt.NDArray[np.bool_] | None:
    """Mask of the tokens that can reach each other through any number of layers."""
    length = len(item.queries)
    causal = item.maps[0].lower_triangular
    return np.tril(np.ones((length, length), dtype=np.bool_)) if causal else None


def _attribution_target(model: TransformerModel, example: Any) -> AttributionTarget | None:
    """The prediction that is attributed to the input; None if there is none, as in a text without a mask."""
    inputs = model_inputs(model, example)
    with torch.no_grad(), eval_mode(model):
        output = model(*inputs)
    try:
        return default_target(model, inputs, output)
    except (TypeError, ValueError):
        return None
