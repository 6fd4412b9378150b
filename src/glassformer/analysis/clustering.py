"""Heads that look alike: clusters of them, a map of them, and whether either means something.

    clusters    Ward's linkage (1963) of the distances, taken as Euclidean ones; as many as fit best
    silhouette  mean over clusters of the mean over their heads of (b - a) / max(a, b): a to one's own
                cluster, b to the nearest other (Rousseeuw 1987); a head alone in its cluster counts 0
    p           how often points of a single cloud of the same spread have as high a silhouette
    map         places in the plane whose distances are as near as can be to those of the heads (MDS)

Clusters always fit the distances that they were made from, and any cloud can be cut into some. So the
silhouette is held against that of clouds without clusters (``single_cloud``), which are cut in the same way,
the number of clusters chosen anew each time: as in the gap statistic (Tibshirani et al. 2001). There are two
kinds of clouds, skewed as the heads and even as a box, and p is the larger of the two. The mean is over
clusters, not over heads, because a stray head far from all others is no cluster.

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
    from sklearn.metrics import adjusted_mutual_info_score, adjusted_rand_score

    from glassformer.analysis.single_cloud import SingleCloud
except ImportError as error:
    raise ImportError(
        f"clusters of heads need scikit-learn: pip install 'glassformer[analysis]' ({error})"
    ) from error

MOST_CLUSTERS = 12
"""The largest number of clusters that is tried."""
CLOUDS = 499
"""Single clouds, of each kind, that the silhouette is compared with."""
PERMUTATIONS = 999
"""Of names, that agreement is compared with."""

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
    """Of these clusters, on the distances they were made from: 1 at best."""
    chance: float
    """Mean silhouette of the best clusters of single clouds with the same spread: of the nearer kind."""
    p_value: float
    """Share of these clouds, the heads among them, whose best clusters have as high a silhouette."""
    stability: float
    """Adjusted Rand index of as many clusters made on each half of the data: 1 where they are the same."""

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
    distances: HeadDistances, num_clusters: int | None = None, *, clouds: int = CLOUDS, seed: int = 0
) -> Clustering:
    """Put heads that look alike into clusters.

    Args:
        distances: of all pairs.
        num_clusters: how many clusters; default: as many, up to ``MOST_CLUSTERS``, as give the highest
            silhouette.
        clouds: single clouds, of each kind, that the silhouette is compared with.
        seed: of these.

    Raises:
        ValueError: fewer than three heads, or a number of clusters that is not below that of heads.
    """
    total = len(distances.heads)
    if total < 3:
        raise ValueError(f"{total} heads make no clusters: give a model with at least three")
    if num_clusters is not None and not 2 <= num_clusters < total:
        raise ValueError(f"num_clusters is {num_clusters}; {total} heads make 2 to {total - 1} clusters")
    sizes = _numbers(total) if num_clusters is None else [num_clusters]
    whole = distances.all
    tree = linkage(squareform(whole, checks=False), "ward", optimal_ordering=True)
    cluster, silhouette = _best_cut(tree, whole, sizes)
    chance, p_value = _against_single_clouds(silhouette, whole, sizes, clouds, seed)
    first, second = (_cut(_tree(half), cluster.max() + 1) for half in distances.halves)
    places, stress = on_a_map(whole)
    return Clustering(
        distances.heads,
        cluster.tolist(),
        tree,
        places,
        stress,
        silhouette,
        chance,
        p_value,
        float(adjusted_rand_score(first, second)),
    )


def fitting_silhouette(distances: HeadDistances) -> float:
    """The silhouette of as many clusters as fit best, such as of a model to compare with."""
    return highest_silhouette(distances.all, _numbers(len(distances.heads)))


def highest_silhouette(distances: Matrix, sizes: Sequence[int]) -> float:
    """That of the best clusters of any of these numbers of them."""
    return _best_cut(_tree(distances), distances, sizes)[1]


def silhouette_of(distances: Matrix, labels: Labels) -> float:
    """Mean over clusters of the mean silhouette of their heads.

    Args:
        distances: ``(head, head)``.
        labels: the cluster of each head, from 0, none of them empty; a single cluster has silhouette 0.
    """
    member = np.eye(labels.max() + 1)[labels]  # (head, cluster)
    size, everyone = member.sum(0), np.arange(len(labels))
    if len(size) == 1:
        return 0.0
    total = distances @ member
    own = total[everyone, labels] / np.maximum(size[labels] - 1, 1)
    to = total / size
    to[everyone, labels] = np.inf
    nearest = to.min(1)
    larger = np.maximum(own, nearest)
    score = np.divide(nearest - own, larger, out=np.zeros(len(labels)), where=larger > 0)
    score[size[labels] == 1] = 0
    return float((score @ member / size).mean())


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


def _numbers(total: int) -> Sequence[int]:
    """Those of clusters that are tried."""
    return range(2, min(MOST_CLUSTERS, total - 1) + 1)


def _against_single_clouds(
    silhouette: float, distances: Matrix, sizes: Sequence[int], clouds: int, seed: int
) -> tuple[float, float]:
    """The mean of single clouds' highest silhouettes, and the share of them that is as high."""
    if not distances.any():
        return 0.0, 1.0
    random, compared = np.random.default_rng(seed), []
    for cloud in (SingleCloud.one_peaked(distances), SingleCloud.box(distances)):
        found = np.array([highest_silhouette(cloud.draw(random), sizes) for _ in range(clouds)])
        as_high = int((found >= silhouette - 1e-12).sum())
        compared.append(((1 + as_high) / (1 + clouds), float(found.mean())))
    p_value, mean = max(compared)
    return mean, p_value


def _tree(distances: Matrix) -> Matrix:
    """Ward's linkage, whose clusters are of like sizes."""
    tree: Matrix = linkage(squareform(distances, checks=False), "ward")
    return tree


def _best_cut(tree: Matrix, distances: Matrix, sizes: Sequence[int]) -> tuple[Labels, float]:
    """The cut with the highest silhouette."""
    cuts = [_cut(tree, size) for size in sizes]
    scores = [silhouette_of(distances, labels) for labels in cuts]
    best = int(np.argmax(scores))
    return cuts[best], scores[best]


def _cut(tree: Matrix, size: int) -> Labels:
    """At most so many clusters, numbered in the order of their first heads."""
    clusters = fcluster(tree, size, "maxclust")
    _, first, labels = np.unique(clusters, return_index=True, return_inverse=True)
    ordered: Labels = np.argsort(np.argsort(first))[labels]
    return ordered
