"""Clusters of heads with similar attention, their significance, and a map.

    clusters    Ward's linkage (1963), cut into the number of clusters with the highest silhouette
    silhouette  mean over clusters of the mean over their heads of (b - a) / max(a, b), where a is the mean
                distance to the own cluster and b that to the nearest other (Rousseeuw 1987); 0 for a
                single head
    p-value     how often samples of a null model without clusters have as high a silhouette
    map         points in the plane whose distances approximate those of the heads (MDS)

Any set of points can be cut into clusters that fit it, so the silhouette is compared with that of null
models, for which the number of clusters is selected again, as in the gap statistic (Tibshirani et al. 2001).
The p-value is the larger one of the two null models. The silhouette is averaged over clusters rather than
heads because a single head far from all others is no cluster.

This module needs scikit-learn, which the extra ``analysis`` installs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt

from glassformer.analysis.ablation import Head
from glassformer.experiments.head_clusters.distances import (
    HeadDistances,
    Matrix,
    NullModel,
    principal_coordinates,
)

try:
    from scipy.cluster.hierarchy import fcluster, linkage
    from scipy.spatial.distance import squareform
    from sklearn.metrics import adjusted_mutual_info_score, adjusted_rand_score
except ImportError as error:
    raise ImportError(
        f"clusters of heads need scikit-learn: pip install 'glassformer[analysis]' ({error})"
    ) from error

MAX_CLUSTERS = 12
"""The largest number of clusters that is tried."""
NULL_SAMPLES = 499
"""Samples of each null model."""
PERMUTATIONS = 999
"""Permutations of labels for the test of agreement."""

ClusterIds = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Clustering:
    """Clusters of heads."""

    heads: Sequence[Head]
    cluster: Sequence[int]
    """The cluster of each head, numbered from 0."""
    tree: Matrix
    """The linkage, ``(head - 1, 4)``, in scipy's format."""
    points: Matrix
    """Coordinates of each head on the map, ``(head, 2)``."""
    stress: float
    """Error of the map: Kruskal's stress-1, 0 if it shows the distances exactly."""
    silhouette: float
    """Silhouette of the clusters; at most 1."""
    null_silhouette: float
    """Mean silhouette of samples of the null model with the larger p-value."""
    p_value: float
    """Share of these samples, with the heads among them, that have as high a silhouette."""
    stability: float
    """Adjusted Rand index of the clusters on each half of the data: 1 if they are the same."""

    @property
    def num_clusters(self) -> int:
        """The number of clusters."""
        return max(self.cluster) + 1


@dataclass(frozen=True)
class Agreement:
    """Agreement of clusters with labels of heads, over the labeled heads."""

    num_heads: int
    rand_index: float
    """Adjusted Rand index (Hubert & Arabie 1985): 1 for equal partitions, 0 in expectation by chance."""
    rand_p_value: float
    mutual_information: float
    """Adjusted mutual information (Vinh et al. 2010): 1 for equal partitions, 0 in expectation by chance."""
    mutual_information_p_value: float


def cluster_heads(
    distances: HeadDistances,
    num_clusters: int | None = None,
    *,
    null_samples: int = NULL_SAMPLES,
    seed: int = 0,
) -> Clustering:
    """Cluster heads by the distances of their attention.

    Args:
        distances: of all pairs of heads.
        num_clusters: number of clusters. Default: the number up to ``MAX_CLUSTERS`` with the highest
            silhouette.
        null_samples: samples of each null model.
        seed: of the samples.

    Raises:
        ValueError: fewer than three heads, or as many clusters as heads or more.
    """
    total = len(distances.heads)
    if total < 3:
        raise ValueError(f"clustering needs at least three heads, got {total}")
    if num_clusters is not None and not 2 <= num_clusters < total:
        raise ValueError(f"num_clusters must be 2 to {total - 1} for {total} heads, got {num_clusters}")
    sizes = _cluster_numbers(total) if num_clusters is None else [num_clusters]
    matrix = distances.all
    tree = linkage(squareform(matrix, checks=False), "ward", optimal_ordering=True)
    cluster, silhouette = _best_cut(tree, matrix, sizes)
    null_silhouette, p_value = _compare_with_null_models(silhouette, matrix, sizes, null_samples, seed)
    first, second = (_cut(_ward(half), cluster.max() + 1) for half in distances.halves)
    points, stress = multidimensional_scaling(matrix)
    return Clustering(
        distances.heads,
        cluster.tolist(),
        tree,
        points,
        stress,
        silhouette,
        null_silhouette,
        p_value,
        float(adjusted_rand_score(first, second)),
    )


def best_silhouette(distances: Matrix, sizes: Sequence[int] | None = None) -> float:
    """The highest silhouette over numbers of clusters; default: those that ``cluster_heads`` tries."""
    sizes = _cluster_numbers(len(distances)) if sizes is None else sizes
    return _best_cut(_ward(distances), distances, sizes)[1]


def mean_silhouette(distances: Matrix, clusters: ClusterIds) -> float:
    """Mean over clusters of the mean silhouette of their heads.

    Args:
        distances: ``(head, head)``.
        clusters: the cluster of each head, numbered from 0 without gaps; a single cluster has silhouette 0.
    """
    member = np.eye(clusters.max() + 1)[clusters]  # (head, cluster)
    size, heads = member.sum(0), np.arange(len(clusters))
    if len(size) == 1:
        return 0.0
    total = distances @ member
    own = total[heads, clusters] / np.maximum(size[clusters] - 1, 1)
    means = total / size
    means[heads, clusters] = np.inf
    nearest = means.min(1)
    larger = np.maximum(own, nearest)
    score = np.divide(nearest - own, larger, out=np.zeros(len(clusters)), where=larger > 0)
    score[size[clusters] == 1] = 0
    return float((score @ member / size).mean())


def agreement(
    clustering: Clustering, labels: Mapping[Head, str], *, permutations: int = PERMUTATIONS, seed: int = 0
) -> Agreement:
    """Agreement of clusters with labels, or with another partition such as the layers of heads.

    Args:
        clustering: the clusters.
        labels: labels of some of the heads; the others are ignored.
        permutations: number of permutations of the labels.
        seed: of the permutations.

    Raises:
        ValueError: fewer than two heads have a label.
    """
    labeled = [index for index, head in enumerate(clustering.heads) if head in labels]
    if len(labeled) < 2:
        raise ValueError(f"agreement needs at least two labeled heads, got {len(labeled)}")
    clusters = np.array(clustering.cluster)[labeled]
    _, label_ids = np.unique([labels[clustering.heads[index]] for index in labeled], return_inverse=True)
    rand, information = (
        permutation_test(partial(score, clusters), label_ids, permutations, seed)
        for score in (adjusted_rand_score, adjusted_mutual_info_score)
    )
    return Agreement(len(labeled), *rand, *information)


def permutation_test(
    score: Callable[[ClusterIds], float], labels: ClusterIds, permutations: int, seed: int
) -> tuple[float, float]:
    """The score of labels and its p-value: the share of permutations, itself included, that score as high."""
    random = np.random.default_rng(seed)
    value = float(score(labels))
    as_high = sum(score(random.permutation(labels)) >= value - 1e-12 for _ in range(permutations))
    return value, (1 + as_high) / (1 + permutations)


def multidimensional_scaling(distances: Matrix, steps: int = 300) -> tuple[Matrix, float]:
    """Points in the plane by metric multidimensional scaling, and their stress.

    Starts from the classical solution (Torgerson 1952) and lowers the stress by majorization (SMACOF, de
    Leeuw 1977). Deterministic; each axis points to its farthest head.

    Args:
        distances: ``(head, head)``, symmetric, zero on the diagonal.
        steps: maximum number of majorization steps.

    Returns:
        Points ``(head, 2)``, and sqrt(sum of squared errors / sum of squared distances).
    """
    values, vectors = principal_coordinates(distances)
    points = vectors[:, :-3:-1] * np.sqrt(np.maximum(values[:-3:-1], 0))
    stress = _stress(distances, points)
    for _ in range(steps):
        fitted = _pairwise(points)
        ratio = np.divide(distances, fitted, out=np.zeros_like(distances), where=fitted > 0)
        moved = (np.diag(ratio.sum(1)) - ratio) @ points / len(distances)  # the Guttman transform
        lower = _stress(distances, moved)
        if stress - lower < 1e-7:
            break
        points, stress = moved, lower
    farthest = points[np.abs(points).argmax(0), [0, 1]]
    return points * np.where(farthest < 0, -1.0, 1.0), stress


def _pairwise(points: Matrix) -> Matrix:
    distances: Matrix = np.linalg.norm(points[:, None] - points, axis=-1)
    return distances


def _stress(distances: Matrix, points: Matrix) -> float:
    error, size = ((distances - _pairwise(points)) ** 2).sum(), (distances**2).sum()
    return float(np.sqrt(error / size)) if size else 0.0


def _cluster_numbers(total: int) -> Sequence[int]:
    """Numbers of clusters that are tried."""
    return range(2, min(MAX_CLUSTERS, total - 1) + 1)


def _compare_with_null_models(
    silhouette: float, distances: Matrix, sizes: Sequence[int], samples: int, seed: int
) -> tuple[float, float]:
    """Mean silhouette of the null model with the larger p-value, and that p-value."""
    if not distances.any():
        return 0.0, 1.0
    random, compared = np.random.default_rng(seed), []
    for null_model in (NullModel.unimodal(distances), NullModel.uniform(distances)):
        found = np.array([best_silhouette(null_model.sample(random), sizes) for _ in range(samples)])
        as_high = int((found >= silhouette - 1e-12).sum())
        compared.append(((1 + as_high) / (1 + samples), float(found.mean())))
    p_value, mean = max(compared)
    return mean, p_value


def _ward(distances: Matrix) -> Matrix:
    """Ward's linkage, which favors clusters of similar sizes."""
    tree: Matrix = linkage(squareform(distances, checks=False), "ward")
    return tree


def _best_cut(tree: Matrix, distances: Matrix, sizes: Sequence[int]) -> tuple[ClusterIds, float]:
    """The cut with the highest silhouette."""
    cuts = [_cut(tree, size) for size in sizes]
    scores = [mean_silhouette(distances, clusters) for clusters in cuts]
    best = int(np.argmax(scores))
    return cuts[best], scores[best]


def _cut(tree: Matrix, size: int) -> ClusterIds:
    """At most ``size`` clusters, numbered in the order of their first heads."""
    clusters = fcluster(tree, size, "maxclust")
    _, first, ids = np.unique(clusters, return_index=True, return_inverse=True)
    ordered: ClusterIds = np.argsort(np.argsort(first))[ids]
    return ordered
