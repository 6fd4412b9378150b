"""Distances between the attention of heads, and null models of them without clusters.

    d(a, b) = mean over queries of sqrt(JS(A_a[query], A_b[query]))
    JS(p, q) = H((p + q) / 2) - (H(p) + H(q)) / 2,  in bits

Each term is the Jensen-Shannon distance of two rows of attention: 0 if they are equal, 1 if they share no
key. It is a metric (Endres & Schindelin 2003), and so is its mean. Clark et al. (2019, section 6) sum the
divergences, which are the squares of these distances.

A null model is a single cloud of points with the spread of the heads.

    distances  = those of the points U diag(sqrt(v)), by principal coordinates (Gower 1966)
    a sample   = those of Q diag(sqrt(v)), where the columns of Q are drawn independently

A null model must match the data in everything except clusters: a skewed cloud, for example, has better
clusters than a Gaussian one. There are two null models.

    unimodal  each column has the unimodal density of maximum likelihood for that column of U (Grenander 1956;
              Birgé 1997), which keeps its skewness and tails but has a single mode
    uniform   each column is uniform on an interval, without any mode (Tibshirani et al. 2001)

The columns are then made orthonormal, the widest first, so that the spread along every axis is exactly that
of the heads. With Gaussian densities this is the rotation test, which is exact for Gaussian clouds (Langsrud
2005).

Limitation: principal axes mix axes of the same spread. If a cloud is skewed along many axes of similar
spread, the unimodal model underestimates the skewness, and the test rejects more often than its nominal
level.

The unimodal model needs scikit-learn, which the extra ``analysis`` installs.
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
from glassformer.attention import Recording, all_heads, record_attention
from glassformer.eval_mode import eval_mode
from glassformer.models import TransformerModel

MAX_QUERIES = 32
"""Queries of one item that are compared, evenly spaced; this bounds memory and time."""
NUM_MODES = 15
"""Positions, evenly spaced by rank, that are tried as the mode of a density."""

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
    heads = all_heads(attentions)
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


@dataclass(frozen=True)
class NullModel:
    """A distribution of distances between as many points as there are heads."""

    eigenvalues: Matrix
    """Of the principal coordinates, ``(axis,)``, by size; negative ones belong to non-Euclidean distances."""
    densities: list[tuple[Matrix, Matrix]]
    """For each axis the distribution function of its values: points, and the probability below each."""

    @classmethod
    def unimodal(cls, distances: Matrix) -> NullModel:
        """Unimodal along every axis, with the skewness of points at these distances ``(point, point)``."""
        eigenvalues, axes = principal_axes(distances)
        return cls(eigenvalues, [unimodal_distribution(axis) for axis in axes.T])

    @classmethod
    def uniform(cls, distances: Matrix) -> NullModel:
        """Uniform along every axis."""
        eigenvalues, _ = principal_axes(distances)
        even = np.linspace(0, 1, len(distances))
        return cls(eigenvalues, [(even, even)] * len(eigenvalues))

    def sample(self, random: np.random.Generator) -> Matrix:
        """Draw distances ``(point, point)``.

        Raises:
            ValueError: all distances of the data are zero.
        """
        if not self.densities:
            raise ValueError("all distances are zero: there is no null model to sample from")
        total = len(self.densities[0][0])
        drawn = np.stack([np.interp(random.random(total), below, x) for x, below in self.densities], axis=1)
        q, r = np.linalg.qr(drawn - drawn.mean(0))
        q *= np.sign(np.diag(r))
        products = (q * self.eigenvalues) @ q.T
        squares = np.diag(products)
        distances: Matrix = np.sqrt(np.maximum(squares[:, None] + squares - 2 * products, 0))
        np.fill_diagonal(distances, 0)
        return distances


def principal_axes(distances: Matrix) -> tuple[Matrix, Matrix]:
    """Principal coordinates with non-zero eigenvalues, largest absolute value first."""
    values, axes = principal_coordinates(distances)
    order = np.argsort(-np.abs(values))
    order = order[np.abs(values[order]) > 1e-9 * np.abs(values).max()]
    return values[order], axes[:, order]


def unimodal_distribution(values: Matrix) -> tuple[Matrix, Matrix]:
    """The unimodal distribution of maximum likelihood, with constant density between neighboring values.

    Args:
        values: ``(point,)``, not all equal.

    Returns:
        The sorted values, and the probability below each of them.
    """
    from sklearn.isotonic import isotonic_regression

    x = np.sort(values)
    gaps = np.maximum(np.diff(x), 1e-9 * (x[-1] - x[0]))
    empirical = 1 / (len(gaps) * gaps)
    fits = []
    for mode in np.unique(np.linspace(0, len(gaps), NUM_MODES).astype(int)):
        rising, falling = slice(None, mode), slice(mode, None)
        fits.append(
            np.concatenate(
                [
                    isotonic_regression(empirical[side], sample_weight=gaps[side], increasing=increasing)
                    for side, increasing in ((rising, True), (falling, False))
                    if len(gaps[side])
                ]
            )
        )
    likeliest = max(fits, key=lambda density: float(np.log(density).sum()))
    below = np.concatenate([[0.0], np.cumsum(likeliest * gaps)])
    return x, below / below[-1]


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
