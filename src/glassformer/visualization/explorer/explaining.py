"""What the analyses of a model add to a page: logit lens, attention through all layers, scores in parts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import compress
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from glassformer.analysis.decomposition import each_score_parts
from glassformer.analysis.deletion import Deletion, deletion_test
from glassformer.analysis.examples import inputs_of
from glassformer.analysis.logit_lens import logit_lens, readout
from glassformer.analysis.outcomes import Outcome, outcome_of
from glassformer.analysis.rollout import attention_rollout, choose_stack, gradient_rollout, relevance_for
from glassformer.attention import attentions_of
from glassformer.contracts import Tokenizer
from glassformer.generation.streaming import evaluating
from glassformer.models import TransformerModel
from glassformer.visualization.explorer.contents import Attention, Decomposition, Flow, Guesses
from glassformer.visualization.explorer.guessing import labels_at, row_of_guesses
from glassformer.visualization.explorer.packing import MASKED, pack, pack_json, quantized, unpack
from glassformer.visualization.explorer.scores import chosen_cells, pack_scores
from glassformer.visualization.faithfulness import score_in_words, steps_of
from glassformer.visualization.relevances import AFFORDABLE

SEEN_BY_LENS = 3
"""Tokens kept of each layer and position."""
PAGE = 3_570_000
"""Characters that attention and scores may take together without being asked, ..."""
CELL = 3.2
"""... of which the parts of a score take about so many, ..."""
SHARE = 1 / 12
"""... though scores may take so much of what attention takes at any rate."""
PARTS = ("content", "position", "bias")
"""Of a score; those that are zero in the whole model are left out."""


def lens_of(
    model: TransformerModel, tokenizer: Tokenizer | None, example: Any, attention: Sequence[Attention]
) -> list[Guesses]:
    """The likeliest tokens after each layer that the page shows; nothing for a model without a vocabulary."""
    try:
        kind = readout(model).kind
    except TypeError:
        return []
    shown = [item for item in attention if item.kind in (kind, "cross")]
    layers = sorted({layer for item in shown for layer in item.layers})
    if not layers:
        return []
    last = len(attentions_of(model)[kind])
    streams = sorted({layers[0], *(layer + 1 for layer in layers), last})
    count = min(SEEN_BY_LENS, int(model.config["vocab_size"]))
    lens = logit_lens(model, example, count, streams)
    places: dict[int, int] = {}
    probabilities = lens.log_probabilities.exp().cpu()
    rows = [
        [
            row_of_guesses(probabilities[row, position], lens.tokens[row, position], places)
            for row in range(len(streams))
        ]
        for position in range(probabilities.size(1))
    ]
    names = ["before layer 0" if s == 0 else f"after layer {s - 1}" for s in streams]
    return [
        Guesses(
            "Logit lens: what each layer would answer",
            [item.kind for item in shown],
            names,
            labels_at(model, tokenizer, places),
            pack_json(rows),
            note="the model's last norm and output projection, applied after each layer",
        )
    ]


def flows_of(
    model: TransformerModel, example: Any, attention: Sequence[Attention], faithfulness: bool | None
) -> list[Flow]:
    """Attention through all layers of the model, by attention alone and weighted by gradients.

    Args:
        model: of any family.
        example: as ``analysis.examples.inputs_of`` takes it.
        attention: on the page; nothing is made where the stack that can be followed is not there.
        faithfulness: whether deletion tests are run. Default: as thorough ones as are quick.
    """
    alone, _ = choose_stack(model, "encoder" if "encoder" in attentions_of(model) else None)
    shown = next((item for item in attention if item.kind == alone), None)
    if shown is None:
        return []
    steps = steps_of(model, len(shown.queries), faithfulness)
    outcome = _outcome(model, example)
    of = f" of the {alone}" if len(attentions_of(model)) > 1 else ""
    tests: list[Deletion] = []

    def flow(name: str, rolled: Tensor, drawn: Tensor, note: str) -> Flow:
        packed = pack(quantized(drawn.float().numpy()[None], _allowed(shown)))
        untested = Flow(alone, name + of, packed, note)
        if outcome is None:
            return untested
        if not steps:
            return replace(untested, note=f"glassformer explore --faithfulness measures it; {note}")
        worth, beside = relevance_for(outcome, rolled), tests[0] if tests else None
        try:
            test = deletion_test(model, example, worth, outcome, steps=steps, beside=beside)
        except ValueError:  # a text of which nothing may be deleted
            return untested
        tests.append(test)
        low, high = test.interval()
        note = f"{score_in_words(test, outcome)}; {note}"
        return replace(
            untested, note=note, faithfulness=test.score, low=low, high=high, query=outcome.position
        )

    rolled = attention_rollout(model, example, alone)
    note = (
        f"mean of the heads and residual half and half, multiplied through all layers{of or ' of the model'}"
    )
    flows = [flow("rollout", rolled, rolled, note)]
    if outcome is not None and outcome.has_slope and affordable(model, attention):
        rolled = gradient_rollout(model, example, outcome, alone)
        gained = (rolled - torch.eye(len(rolled), dtype=rolled.dtype)).clamp(min=0)
        drawn = gained / gained.sum(-1, keepdim=True).clamp(min=1e-30)
        note = "what speaks for the model's answer, as shares of each row; a token's own start is left out"
        flows.append(flow("gradient-weighted rollout", rolled, drawn, note))
    return flows


def decompositions_of(
    model: TransformerModel, example: Any, attention: Sequence[Attention]
) -> list[Decomposition]:
    """Scores before the softmax as content, position and bias, of as many cells as there is room for."""
    if not affordable(model, attention):
        return []
    taken = sum(len(packed.data) for item in attention for packed in (*item.maps, *item.thumbnails))
    rows = sum(len(heads) * len(item.queries) for item in attention for heads in item.heads)
    each = max(PAGE - taken, SHARE * taken) / CELL / rows  # cells of a row
    return [_decomposition(model, example, item, each) for item in attention]


def affordable(model: TransformerModel, attention: Sequence[Attention]) -> bool:
    """Whether the text is short enough for what has to hold the weights of all layers several times."""
    kinds = attentions_of(model)
    weights = [
        sum(module.num_heads for module in kinds[item.kind]) * len(item.queries) * len(item.keys)
        for item in attention
    ]
    return sum(weights) <= AFFORDABLE


def _decomposition(model: TransformerModel, example: Any, item: Attention, each: float) -> Decomposition:
    kept, parts = [], []
    splits = each_score_parts(model, example, item.layers, item.kind)
    for split, heads, packed in zip(splits, item.heads, item.maps, strict=True):
        kept.append(chosen_cells(unpack(packed), int(each * len(heads) * len(item.queries))))
        here = torch.from_numpy(kept[-1])
        parts.append([part.cpu()[here].numpy() for part in (split.content, split.position, split.bias)])
    used = [any(bool(some[place].any()) for some in parts) for place in range(len(PARTS))]
    used[0] = True  # content, so that something is there to be shown
    layers = [pack_scores(cells, [*compress(some, used)]) for cells, some in zip(kept, parts, strict=True)]
    there = sum(packed.cells for packed in layers)
    seen = sum(int((unpack(packed) != MASKED).sum()) for packed in item.maps)
    some = f"The file holds {there:,} of {seen:,} scores: of each row the heaviest, then the heaviest of all"
    return Decomposition(item.kind, [*compress(PARTS, used)], layers, "" if there == seen else some)


def _allowed(item: Attention) -> npt.NDArray[np.bool_] | None:
    """What tokens can see through any number of layers: all before them where attention is causal."""
    length = len(item.queries)
    return np.tril(np.ones((length, length), dtype=np.bool_)) if item.maps[0].triangle else None


def _outcome(model: TransformerModel, example: Any) -> Outcome | None:
    """What relevance is for; None where the model says nothing that it could be for, as without a mask."""
    inputs = inputs_of(model, example)
    with torch.no_grad(), evaluating(model):
        output = model(*inputs)
    try:
        return outcome_of(model, inputs, output)
    except (TypeError, ValueError):
        return None
