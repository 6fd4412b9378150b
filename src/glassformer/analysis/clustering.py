"""Heads that look alike: clusters of them, a map of them, and whether either means something.

    clusters    Ward's linkage (1963) of the distances, taken as Euclidean ones; as many as fit best
    silhouette  mean of (b - a) / max(a, b): a to one's own cluster, b to the nearest other (Rousseeuw 1987)
    map         places in the plane whose distances are as near as can be to those of the heads (MDS)

Clusters always fit the distances that they were made from. So they are made on one half of the data, and
their silhouette is taken on the other half, beside that of random assignments of the same sizes.

This module needs scikit-learn, which the extra ``analysis`` brings.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt

from glassformer.analysis.ablation import Head
from glassformer.analysis.head_distances import HeadDistances, Matrix

try:
    from scipy.cluster.hierarchy import fcluster, linkage
    from scipy.spatial.distance import squareform
    from sklearn.metrics import adjusted_mutual_info_score, adjusted_rand_score, silhouette_score
except ImportError as error:
    raise ImportError(
        f"clusters of heads need scikit-learn: pip install 'glassformer[analysis]' ({error})"
    ) from error

MOST_CLUSTERS = 12
"""The largest number of clusters that is tried."""
PERMUTATIONS = 999

Labels = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Clustering:
    """Heads in clusters."""

    heads: Sequence[Head]
    cluster: Sequence[int]
    """For each head the number of its cluster, from 0."""
    tree: Matrix
    """The merges, ``(head - 1, 4)``, as scipy writes a linkage."""
    places: Matrix
    """Where each head is on the map, ``(head, 2)``."""
    stress: float
    """How badly the map shows the distances: Kruskal's stress-1, 0 where it shows them exactly."""
    silhouette: float
    """Of clusters made on one half of the data, on the other half: 1 at best."""
    p_value: float
    """Share of random assignments of the same sizes that have as high a silhouette there."""

    @property
    def num_clusters(self) -> int:
        """How many there are."""
        return max(self.cluster) + 1


@dataclass(frozen=True)
class Agreement:
    """How far clusters are what names say, over the heads that have a name."""

    num_heads: int
    rand: float
    """Adjusted Rand index (Hubert & Arabie 1985): 1 for the same groups, 0 for chance."""
    rand_p_value: float
    information: float
    """Adjusted mutual information (Vinh et al. 2010): 1 for the same groups, 0 for chance."""
    information_p_value: float


def cluster_heads(
    distances: HeadDistances,
    num_clusters: int | None = None,
    *,
    permutations: int = PERMUTATIONS,
    seed: int = 0,
) -> Clustering:
    """Put heads that look alike into clusters.

    Args:
        distances: of all pairs.
        num_clusters: how many clusters; default: as many, up to ``MOST_CLUSTERS``, as give the highest
            silhouette on the first half of the data.
        permutations: random assignments that the silhouette is compared with.
        seed: of these.

    Raises:
        ValueError: fewer than three heads, or a number of clusters that is not below that of heads.
    """
    total = len(distances.heads)
    if total < 3:
        raise ValueError(f"{total} heads make no clusters: give a model with at least three")
    if num_clusters is not None and not 2 <= num_clusters < total:
        raise ValueError(f"num_clusters is {num_clusters}; {total} heads make 2 to {total - 1} clusters")
    first, second = distances.halves
    sizes = range(2, min(MOST_CLUSTERS, total - 1) + 1) if num_clusters is None else [num_clusters]
    halved = _tree(first)
    found = [_cut(halved, size) for size in sizes]
    scores = [_silhouette(first, labels) for labels in found]
    best = int(np.argmax(scores))
    silhouette, p_value = against_permutations(
        lambda labels: _silhouette(second, labels), found[best], permutations, seed
    )
    tree = _tree(distances.all)
    cluster = _cut(tree, sizes[best]).tolist()
    places, stress = on_a_map(distances.all)
    return Clustering(distances.heads, cluster, tree, places, stress, silhouette, p_value)


def agreement(
    clustering: Clustering, names: Mapping[Head, str], *, permutations: int = PERMUTATIONS, seed: int = 0
) -> Agreement:
    """Compare clusters with names that heads were given; or with any other groups, such as their layers.

    Args:
        clustering: the clusters.
        names: of some of the heads; the others are left out.
        permutations: times that the names are dealt out anew.
        seed: of these.

    Raises:
        ValueError: fewer than two of the heads have a name.
    """
    named = [place for place, head in enumerate(clustering.heads) if head in names]
    if len(named) < 2:
        raise ValueError(f"{len(named)} of the heads have a name: agreement needs at least two")
    clusters = np.array(clustering.cluster)[named]
    _, given = np.unique([names[clustering.heads[place]] for place in named], return_inverse=True)
    rand, information = (
        against_permutations(partial(score, clusters), given, permutations, seed)
        for score in (adjusted_rand_score, adjusted_mutual_info_score)
    )
    return Agreement(len(named), *rand, *information)


def against_permutations(
    score: Callable[[Labels], float], labels: Labels, permutations: int, seed: int
) -> tuple[float, float]:
    """A score of labels, and the share of their permutations (themselves among them) that score as high."""
    random = np.random.default_rng(seed)
    value = float(score(labels))
    as_high = sum(score(random.permutation(labels)) >= value - 1e-12 for _ in range(permutations))
    return value, (1 + as_high) / (1 + permutations)


def on_a_map(distances: Matrix, steps: int = 300) -> tuple[Matrix, float]:
    """Places in the plane by metric multidimensional scaling, and their stress.

    It begins with the classical solution (Torgerson 1952) and lowers the stress by majorization (SMACOF, de
    Leeuw 1977), which never raises it. Nothing is random; each axis points to where its farthest head is.

    Args:
        distances: ``(head, head)``, symmetric, zero on the diagonal.
        steps: of majorization, at most.

    Returns:
        Places ``(head, 2)``, and sqrt(sum of squared errors / sum of squared distances).
    """
    total = len(distances)
    centre = np.eye(total) - 1 / total
    values, vectors = np.linalg.eigh(-centre @ distances**2 @ centre / 2)
    places = vectors[:, :-3:-1] * np.sqrt(np.maximum(values[:-3:-1], 0))
    stress = _stress(distances, places)
    for _ in range(steps):
        apart = _apart(places)
        ratio = np.divide(distances, apart, out=np.zeros_like(distances), where=apart > 0)
        moved = (np.diag(ratio.sum(1)) - ratio) @ places / total  # the Guttman transform
        lower = _stress(distances, moved)
        if stress - lower < 1e-7:
            break
        places, stress = moved, lower
    farthest = places[np.abs(places).argmax(0), [0, 1]]
    return places * np.where(farthest < 0, -1.0, 1.0), stress


def _apart(places: Matrix) -> Matrix:
    """Distances of every two places."""
    apart: Matrix = np.linalg.norm(places[:, None] - places, axis=-1)
    return apart


def _stress(distances: Matrix, places: Matrix) -> float:
    error, size = ((distances - _apart(places)) ** 2).sum(), (distances**2).sum()
    return float(np.sqrt(error / size)) if size else 0.0


def _tree(distances: Matrix) -> Matrix:
    """Ward's linkage, whose clusters are of like sizes; leaves are ordered so that neighbours are alike."""
    tree: Matrix = linkage(squareform(distances, checks=False), "ward", optimal_ordering=True)
    return tree


def _cut(tree: Matrix, size: int) -> Labels:
    """At most so many clusters, numbered in the order of their first heads."""
    clusters = fcluster(tree, size, "maxclust")
    _, first, labels = np.unique(clusters, return_index=True, return_inverse=True)
    ordered: Labels = np.argsort(np.argsort(first))[labels]
    return ordered


def _silhouette(distances: Matrix, labels: Labels) -> float:
    """Zero where there is a single cluster, as of heads that all look the same."""
    if not 1 < len(np.unique(labels)) < len(labels):
        return 0.0
    return float(silhouette_score(distances, labels, metric="precomputed"))
