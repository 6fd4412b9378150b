"""How differently two heads look at the same texts.

    d(a, b) = mean over queries of sqrt(JS(A_a[query], A_b[query]))
    JS(p, q) = H((p + q) / 2) - (H(p) + H(q)) / 2,  in bits

Each term is the Jensen-Shannon distance of two rows of attention: 0 where the heads look at the same keys, 1
where they share none; a metric (Endres & Schindelin 2003), and so is its mean. Clark et al. (2019, section 6)
sum the divergences themselves, which are the squares of these distances.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from glassformer.analysis.ablation import Head
from glassformer.analysis.measuring import choose_self_attention, forward_pass
from glassformer.analysis.patterns import Batch, Item
from glassformer.attention import Recording, record_attention
from glassformer.generation.streaming import evaluating
from glassformer.models import TransformerModel

MOST_QUERIES = 32
"""Queries of one item that are compared, evenly spaced where it has more: what bounds memory and time."""

Matrix = npt.NDArray[np.float64]


class NothingToCompareError(ValueError):
    """Too few texts in which a query has a choice."""


@dataclass(frozen=True)
class HeadDistances:
    """Distances of all pairs of heads, on two halves of the data."""

    heads: Sequence[Head]
    """Of each row and column."""
    halves: tuple[Matrix, Matrix]
    """``(head, head)`` of each half of the items."""
    num_queries: tuple[int, int]
    """Queries that each half is a mean over."""

    @property
    def all(self) -> Matrix:
        """``(head, head)`` over all queries."""
        even, odd = self.num_queries
        whole: Matrix = (self.halves[0] * even + self.halves[1] * odd) / (even + odd)
        return whole


def head_distances(model: TransformerModel, items: Iterable[Item], kind: str | None = None) -> HeadDistances:
    """Compare every head with every other.

    Time grows with the square of the number of heads; a few hundred sentences tell heads apart well enough.
    Queries that may see one key only are left out: there all heads look alike.

    Args:
        model: that reads tokens.
        items: what it reads, one after another; read once.
        kind: of self-attention; needed for an encoder-decoder.

    Raises:
        NothingToCompareError: fewer than two items in which a query has a choice.
        ValueError: a kind that does not exist or looks at another sequence.
        TypeError: a model that reads no tokens.
    """
    kind, attentions = choose_self_attention(model, kind)
    heads = [(layer, h) for layer, attention in enumerate(attentions) for h in range(attention.num_heads)]
    forward = forward_pass(model, kind)
    sums = [np.zeros((len(heads), len(heads))), np.zeros((len(heads), len(heads)))]
    counts = [0, 0]
    with torch.no_grad(), evaluating(model):
        for item in items:
            batch = Batch.of([item], model.device)
            queries = _evenly_spaced(len(item.ids))
            with record_attention(model, kind=kind, queries=queries) as recording:
                forward(batch.ids, batch.real)
            weights = torch.cat([recording[layer][0] for layer in recording])[:, _choosing(recording)]
            if not weights.size(1):
                continue
            half = 0 if counts[0] <= counts[1] else 1
            sums[half] += distance_sums(weights).numpy()
            counts[half] += weights.size(1)
    if 0 in counts:
        raise NothingToCompareError("comparing heads needs at least two texts of several tokens")
    even, odd = (total / count for total, count in zip(sums, counts, strict=True))
    return HeadDistances(heads, (even, odd), (counts[0], counts[1]))


def distance_sums(weights: Tensor) -> Tensor:
    """Jensen-Shannon distances of every two heads, summed over queries.

    Args:
        weights: ``(head, query, key)``, rows sum to one.

    Returns:
        ``(head, head)``, float64, on the CPU.
    """
    weights = weights.cpu().double()
    total = torch.zeros(len(weights), len(weights), dtype=torch.float64)
    information = _negative_entropy(weights)  # (head, query)
    for head in range(len(weights) - 1):
        others = slice(head + 1, None)
        middle = _negative_entropy((weights[head] + weights[others]) / 2)
        divergence = (information[head] + information[others]) / 2 - middle  # (other, query)
        total[head, others] = divergence.clamp(min=0).sqrt().sum(-1)
    return total + total.T


def _negative_entropy(weights: Tensor) -> Tensor:
    """The sum of p log2 p over the last dimension; 0 log 0 is 0."""
    return (weights * weights.clamp(min=torch.finfo(weights.dtype).tiny).log()).sum(-1) / math.log(2)


def _evenly_spaced(length: int) -> list[int]:
    """At most ``MOST_QUERIES`` places, the last of them among them."""
    number = min(length, MOST_QUERIES)
    return [length * (i + 1) // number - 1 for i in range(number)]


def _choosing(recording: Recording) -> Tensor:
    """Which of the recorded queries may see more than one key in some layer, ``(query,)``."""
    choosing = []
    for layer in recording:
        weights, allowed = recording[layer], recording.allowed[layer]
        everything = torch.ones_like(weights[0, 0], dtype=torch.bool)
        visible = everything if allowed is None else allowed.expand_as(weights)[0, 0]
        choosing.append(visible.sum(-1) > 1)
    return torch.stack(choosing).any(0)
