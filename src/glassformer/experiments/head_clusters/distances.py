"""Distances between the attention of heads.

    d(a, b) = mean over queries of sqrt(JS(A_a[query], A_b[query]))
    JS(p, q) = H((p + q) / 2) - (H(p) + H(q)) / 2,  in bits

Each term is the Jensen-Shannon distance of two rows of attention: 0 if they are equal, 1 if they share no
key. It is a metric (Endres & Schindelin 2003), and so is its mean. Clark et al. (2019, section 6) sum the
divergences, which are the squares of these distances.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from glassformer.analysis.ablation import Head
from glassformer.analysis.head_patterns.analyze import HeadAnalysis
from glassformer.analysis.head_patterns.collect import choose_self_attention, forward_function
from glassformer.analysis.head_patterns.patterns import Batch, Item
from glassformer.attention import Recording, record_attention
from glassformer.eval_mode import eval_mode
from glassformer.models import TransformerModel

MAX_QUERIES = 32
"""Queries of one item that are compared, evenly spaced; this bounds memory and time."""

Matrix = npt.NDArray[np.float64]


class TooFewQueriesError(ValueError):
    """Fewer than two texts have a query that may attend to several keys."""


@dataclass(frozen=True)
class HeadDistances:
    """Distances of all pairs of heads, on two halves of the data."""

    heads: Sequence[Head]
    """The head of each row and column."""
    halves: tuple[Matrix, Matrix]
    """``(head, head)`` for each half of the items."""
    num_queries: tuple[int, int]
    """Number of queries that each half is a mean over."""

    @property
    def all(self) -> Matrix:
        """``(head, head)`` over all queries."""
        first, second = self.num_queries
        mean: Matrix = (self.halves[0] * first + self.halves[1] * second) / (first + second)
        return mean


def head_distances(model: TransformerModel, items: Iterable[Item], kind: str | None = None) -> HeadDistances:
    """Compute the distances of all pairs of heads.

    Time grows with the square of the number of heads; a few hundred sentences are enough. Queries that may
    attend to a single key are left out, because all heads are equal there.

    Args:
        model: a model that reads tokens.
        items: inputs, iterated once.
        kind: the kind of self-attention, required for an encoder-decoder.

    Raises:
        TooFewQueriesError: fewer than two items have a query that may attend to several keys.
        ValueError: an unknown kind, or cross-attention.
        TypeError: a model that reads no tokens.
    """
    kind, attentions = choose_self_attention(model, kind)
    heads = [(layer, h) for layer, attention in enumerate(attentions) for h in range(attention.num_heads)]
    forward = forward_function(model, kind)
    sums = [np.zeros((len(heads), len(heads))), np.zeros((len(heads), len(heads)))]
    counts = [0, 0]
    with torch.no_grad(), eval_mode(model):
        for item in items:
            batch = Batch.from_items([item], model.device)
            queries = _evenly_spaced(len(item.ids))
            with record_attention(model, kind=kind, queries=queries) as recording:
                forward(batch.ids, batch.attention_mask)
            weights = torch.cat([recording[layer][0] for layer in recording])[:, _has_choice(recording)]
            if not weights.size(1):
                continue
            half = 0 if counts[0] <= counts[1] else 1
            sums[half] += distance_sums(weights).numpy()
            counts[half] += weights.size(1)
    if 0 in counts:
        raise TooFewQueriesError("comparing heads needs at least two texts of several tokens")
    first, second = (total / count for total, count in zip(sums, counts, strict=True))
    return HeadDistances(heads, (first, second), (counts[0], counts[1]))


def stored_distances(
    analysis: HeadAnalysis, role: str, build: Callable[[], TransformerModel], count: int
) -> HeadDistances:
    """Compute distances over evenly spaced texts of a head analysis, or load its partial result.

    Args:
        analysis: an analysis whose texts are encoded.
        role: ``analyze.MODEL`` or ``analyze.BASELINE``.
        build: returns the model; called only if there is no partial result.
        count: number of texts.

    Raises:
        TooFewQueriesError: fewer than two texts of several tokens.
    """
    name, results = f"{role} distances", analysis.partial_results
    if not results.has_tensors(name):
        step = max(1, analysis.num_texts() // count)
        found = head_distances(build(), islice(analysis.text_items(), 0, step * count, step), analysis.kind)
        halves, queries = torch.from_numpy(np.stack(found.halves)), torch.tensor(found.num_queries)
        results.write_tensors(name, {"halves": halves, "queries": queries})
    stored = results.read_tensors(name)
    first, second = stored["halves"].numpy()
    return HeadDistances(analysis.heads, (first, second), tuple(stored["queries"].tolist()))


def distance_sums(weights: Tensor) -> Tensor:
    """Jensen-Shannon distances of all pairs of heads, summed over queries.

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
        mixture = _negative_entropy((weights[head] + weights[others]) / 2)
        divergence = (information[head] + information[others]) / 2 - mixture  # (other, query)
        total[head, others] = divergence.clamp(min=0).sqrt().sum(-1)
    return total + total.T


def principal_coordinates(distances: Matrix) -> tuple[Matrix, Matrix]:
    """Principal coordinates of points (Gower 1966): eigenvalues and eigenvectors, eigenvalues ascending.

    The points are ``vectors * sqrt(values)``. Distances that are not Euclidean have negative eigenvalues.

    Args:
        distances: ``(point, point)``, symmetric, zero on the diagonal.

    Returns:
        Eigenvalues ``(axis,)`` and eigenvectors ``(point, axis)`` of the double-centered squared distances.
    """
    total = len(distances)
    center = np.eye(total) - 1 / total
    values, vectors = np.linalg.eigh(-center @ distances**2 @ center / 2)
    return values, vectors


def _negative_entropy(weights: Tensor) -> Tensor:
    """The sum of p log2 p over the last dimension; 0 log 0 is 0."""
    return (weights * weights.clamp(min=torch.finfo(weights.dtype).tiny).log()).sum(-1) / math.log(2)


def _evenly_spaced(length: int) -> list[int]:
    """At most ``MAX_QUERIES`` positions, including the last."""
    number = min(length, MAX_QUERIES)
    return [length * (i + 1) // number - 1 for i in range(number)]


def _has_choice(recording: Recording) -> Tensor:
    """Whether each recorded query may attend to several keys in some layer, ``(query,)``."""
    has_choice = []
    for layer in recording:
        weights, allowed = recording[layer], recording.allowed[layer]
        all_keys = torch.ones_like(weights[0, 0], dtype=torch.bool)
        visible = all_keys if allowed is None else allowed.expand_as(weights)[0, 0]
        has_choice.append(visible.sum(-1) > 1)
    return torch.stack(has_choice).any(0)
