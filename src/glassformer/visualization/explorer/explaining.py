"""What the analyses of a model add to a page: logit lens, attention through all layers, scores in parts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import compress
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from glassformer.analysis.decomposition import score_parts
from glassformer.analysis.deletion import deletion_test
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
from glassformer.visualization.faithfulness import score_in_words, steps_of

SEEN_BY_LENS = 3
"""Tokens kept of each layer and position."""
ALL_CELLS = 320
"""Where a head has no more cells than this, all of them are split into parts."""
HEAVIEST = 3
"""Else so many of the heaviest cells of each query, or fewer, ..."""
MOST_CELLS = 15_000
"""... so that all heads together have no more than this, of a long text of every second query, third, ..."""
PARTS = ("content", "position", "bias")
"""Of a score; those that are zero in the whole model are left out."""
AFFORDABLE = 100_000_000
"""Weights of a whole model that a graph for gradients, or scores in float64, may be held beside."""


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

    def flow(name: str, rolled: Tensor, drawn: Tensor, note: str) -> Flow:
        packed = pack(quantized(drawn.float().numpy()[None], _allowed(shown)))
        if outcome is None:
            return Flow(alone, name, packed, note)
        if not steps:
            return Flow(alone, name, packed, f"glassformer explore --faithfulness measures it; {note}")
        try:
            test = deletion_test(model, example, relevance_for(outcome, rolled), outcome, steps=steps)
        except ValueError:  # a text of which nothing may be deleted
            return Flow(alone, name, packed, note)
        low, high = test.interval()
        note = f"{score_in_words(test, outcome)}; {note}"
        return Flow(alone, name, packed, note, test.score, low, high)

    rolled = attention_rollout(model, example, alone)
    note = "mean of the heads and residual half and half, multiplied through all layers of the model"
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
    """Scores before the softmax as content, position and bias, of some cells of every head."""
    if not affordable(model, attention):
        return []
    return [_decomposition(model, example, item) for item in attention]


def affordable(model: TransformerModel, attention: Sequence[Attention]) -> bool:
    """Whether the text is short enough for what has to hold the weights of all layers several times."""
    kinds = attentions_of(model)
    weights = [
        sum(module.num_heads for module in kinds[item.kind]) * len(item.queries) * len(item.keys)
        for item in attention
    ]
    return sum(weights) <= AFFORDABLE


def _decomposition(model: TransformerModel, example: Any, item: Attention) -> Decomposition:
    cells: dict[str, dict[str, list[float]]] = {}
    rows = sum(map(len, item.heads)) * len(item.queries)
    count, every = min(HEAVIEST, max(1, MOST_CELLS // rows)), math.ceil(rows / MOST_CELLS)
    whole, used = True, np.zeros(len(PARTS), dtype=np.bool_)
    for layer, heads, packed in zip(item.layers, item.heads, item.maps, strict=True):
        split = score_parts(model, example, layer, item.kind)
        parts = torch.stack([split.content, split.position, split.bias], dim=-1).cpu().numpy()
        for place, (head, codes) in enumerate(zip(heads, unpack(packed), strict=True)):
            queries, keys = _chosen_cells(codes, count, every)
            whole = whole and len(queries) == (codes != MASKED).sum()
            chosen = parts[place, queries, keys].round(3)
            used |= chosen.any(0)
            names = (f"{query}.{key}" for query, key in zip(queries.tolist(), keys.tolist(), strict=True))
            cells[f"{layer}.{head}"] = dict(zip(names, chosen.tolist(), strict=True))
    used[0] = True  # content, so that something is there to be shown
    kept = {
        head: {name: [*compress(row, used)] for name, row in some.items()} for head, some in cells.items()
    }
    heaviest = "heaviest cell" if count == 1 else f"{count} heaviest cells"
    which = "each row" if every == 1 else f"one row in {every}"
    note = "" if whole else f"In the file: the {heaviest} of {which}"
    return Decomposition(item.kind, [*compress(PARTS, used)], pack_json(kept), note)


def _chosen_cells(codes: npt.NDArray[np.uint8], count: int, every: int) -> tuple[npt.NDArray[np.intp], ...]:
    """Queries and keys: of all that is not masked, or where there is much, the heaviest of some queries.

    The last query is one of them: at it a page opens.
    """
    seen = codes != MASKED
    if seen.sum() > ALL_CELLS:
        heaviest = np.argsort(np.where(seen, -codes.astype(np.int16), 1), axis=1, kind="stable")[:, :count]
        rows = np.arange(len(codes))[::-every, None]
        some = np.zeros_like(seen)
        some[rows, heaviest[rows[:, 0]]] = seen[rows, heaviest[rows[:, 0]]]
        seen = some
    return np.nonzero(seen)


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
