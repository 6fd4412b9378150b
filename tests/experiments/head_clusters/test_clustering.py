"""Clusters of heads, their significance, and the map."""

from __future__ import annotations

import importlib
import sys
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.cluster.hierarchy import cut_tree
from scipy.optimize import minimize
from scipy.spatial.distance import pdist, squareform
from sklearn.metrics import silhouette_samples

from glassformer.experiments.head_clusters.clustering import (
    MAX_CLUSTERS,
    agreement,
    best_silhouette,
    cluster_heads,
    mean_silhouette,
    multidimensional_scaling,
    permutation_test,
)
from glassformer.experiments.head_clusters.distances import HeadDistances, distance_sums

QUERIES, KEYS = 24, 10


def distances_of(points: np.ndarray) -> HeadDistances:
    """Distances of points ``(head, axis)``, equal in both halves of the data."""
    apart = squareform(pdist(points))
    return HeadDistances([(0, head) for head in range(len(points))], (apart, apart), (1, 1))


def distances(kinds: list[int] | None, num_heads: int = 12, seed: int = 0) -> HeadDistances:
    """Heads whose attention is half that of their kind and half random; or all random."""
    random = np.random.default_rng(seed)
    halves = []
    for _ in range(2):
        weights = random.dirichlet(np.ones(KEYS), (num_heads, QUERIES))
        if kinds is not None:
            preferred = random.integers(KEYS, size=(max(kinds) + 1, QUERIES))
            weights = (weights + np.eye(KEYS)[preferred[kinds]]) / 2
        halves.append((distance_sums(torch.tensor(weights)) / QUERIES).numpy())
    heads = [(index // 4, index % 4) for index in range(num_heads)]
    return HeadDistances(heads, (halves[0], halves[1]), (QUERIES, QUERIES))


@pytest.mark.slow
def test_planted_clusters_are_found() -> None:
    kinds = [0, 1, 2, 2, 1, 0, 0, 1, 2, 1, 1, 0]
    found = cluster_heads(distances(kinds), null_samples=99)
    assert (found.cluster, found.num_clusters) == (kinds, 3)  # numbered by their first heads
    assert found.silhouette > found.null_silhouette + 0.1
    assert found.silhouette == best_silhouette(distances(kinds).all)
    assert (found.p_value, found.stability) == (1 / 100, 1.0)
    assert cluster_heads(distances(kinds), 2, null_samples=9).num_clusters == 2


CLOUDS = {
    "gaussian": lambda random: random.normal(size=(40, 4)),
    "of decreasing spread": lambda random: random.normal(size=(40, 8)) * 0.6 ** np.arange(8),
    "skewed": lambda random: random.exponential(size=(40, 4)) * 0.6 ** np.arange(4),
    "uniform": lambda random: random.random((40, 2)),
    "heavy-tailed": lambda random: random.normal(size=(40, 4)) / np.sqrt(random.chisquare(3, (40, 1)) / 3),
}


@pytest.mark.slow
@pytest.mark.parametrize("cloud", CLOUDS)
def test_a_single_cloud_is_rarely_significant(cloud: str) -> None:
    random = np.random.default_rng(0)
    p_values = [
        cluster_heads(distances_of(CLOUDS[cloud](random)), null_samples=19).p_value for _ in range(25)
    ]
    assert np.mean(np.array(p_values) <= 0.05) <= 0.12
    assert np.mean(p_values) > 0.3


@pytest.mark.slow
@pytest.mark.parametrize("axes", [2, 6])
def test_three_clouds_are_significant(axes: int) -> None:
    random = np.random.default_rng(1)
    p_values = []
    for _ in range(10):
        centers = 8 * np.eye(3, axes)[random.integers(3, size=40)]
        p_values.append(
            cluster_heads(distances_of(random.normal(size=(40, axes)) + centers), null_samples=19).p_value
        )
    assert np.mean(np.array(p_values) <= 0.05) >= 0.9


def test_clusters_that_differ_between_halves_are_unstable() -> None:
    one, two = distances([0] * 6 + [1] * 6), distances([0, 1] * 6)
    mixed = HeadDistances(one.heads, (one.halves[0], two.halves[1]), (QUERIES, QUERIES))
    assert cluster_heads(one, 2, null_samples=1).stability == 1
    assert cluster_heads(mixed, 2, null_samples=1).stability < 0.2


def test_the_silhouette_is_the_mean_over_clusters() -> None:
    apart = distances(None).all
    labels = np.array([0, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 3])
    heads = silhouette_samples(apart, labels, metric="precomputed")
    expected = np.mean([heads[labels == cluster].mean() for cluster in range(4)])
    assert mean_silhouette(apart, labels) == pytest.approx(expected)
    assert mean_silhouette(apart, np.zeros(12, dtype=np.int64)) == 0


def test_the_silhouette_belongs_to_a_cut_of_the_tree() -> None:
    found = cluster_heads(distances([0, 1, 2, 2, 1, 0, 0, 1, 2, 1, 1, 0]), null_samples=1)
    cut = cut_tree(found.tree, found.num_clusters).ravel()
    assert mean_silhouette(distances([0, 1, 2, 2, 1, 0, 0, 1, 2, 1, 1, 0]).all, cut) == found.silhouette


@pytest.mark.slow
def test_the_same_seed_gives_the_same_clustering() -> None:
    first, second = (cluster_heads(distances(None), null_samples=19, seed=3) for _ in range(2))
    assert (first.cluster, first.p_value) == (second.cluster, second.p_value)
    assert np.array_equal(first.points, second.points)
    assert first.num_clusters <= MAX_CLUSTERS


def test_equal_heads_are_one_cluster() -> None:
    nothing = np.zeros((5, 5))
    found = cluster_heads(HeadDistances([(0, h) for h in range(5)], (nothing, nothing), (1, 1)))
    assert (found.num_clusters, found.silhouette, found.p_value, found.stress) == (1, 0.0, 1.0, 0.0)
    assert (found.null_silhouette, found.stability) == (0.0, 1.0)
    assert not found.points.any()


def test_impossible_numbers_of_clusters_are_refused() -> None:
    for number in (1, 12):
        with pytest.raises(ValueError, match=f"num_clusters must be 2 to 11 for 12 heads, got {number}"):
            cluster_heads(distances(None), number)
    with pytest.raises(ValueError, match="at least three heads, got 2"):
        cluster_heads(distances(None, num_heads=2))


@pytest.mark.slow
def test_clusters_agree_with_planted_kinds() -> None:
    kinds = [0, 1, 2, 2, 1, 0, 0, 1, 2, 1, 1, 0]
    made = distances(kinds)
    found = cluster_heads(made, null_samples=9)
    names = {head: f"kind {kind}" for head, kind in zip(made.heads, kinds, strict=True)}
    whole = agreement(found, names, permutations=199)
    assert (whole.num_heads, whole.rand_index, whole.mutual_information) == (12, 1.0, pytest.approx(1.0))
    assert (whole.rand_p_value, whole.mutual_information_p_value) == (1 / 200, 1 / 200)
    some = agreement(found, dict(list(names.items())[:7]), permutations=9)
    assert (some.num_heads, some.rand_index) == (7, 1.0)


@pytest.mark.slow
def test_clusters_do_not_agree_with_an_unrelated_partition() -> None:
    made = distances([0] * 6 + [1] * 6)
    found = cluster_heads(made, null_samples=9)
    unrelated = {head: str(index % 2) for index, head in enumerate(made.heads)}
    result = agreement(found, unrelated, permutations=199)
    assert result.rand_index < 0.05
    assert result.mutual_information < 0.05
    assert min(result.rand_p_value, result.mutual_information_p_value) > 0.2
    with pytest.raises(ValueError, match="at least two labeled heads, got 1"):
        agreement(found, {(0, 1): "previous"})


def test_permutation_p_values_count_permutations_that_score_as_high() -> None:
    labels = np.array([0, 0, 0, 1])  # one permutation in four has the 1 at the end
    value, p_value = permutation_test(lambda given: float(given[-1]), labels, 3999, seed=0)
    assert value == 1
    assert p_value == pytest.approx(0.25, abs=0.03)


def test_points_in_a_plane_are_recovered() -> None:
    true = np.random.default_rng(0).normal(size=(30, 2))
    wanted = squareform(pdist(true))
    points, stress = multidimensional_scaling(wanted)
    assert stress < 1e-6
    assert np.allclose(squareform(pdist(points)), wanted, atol=1e-5)
    assert (points[np.abs(points).argmax(0), [0, 1]] > 0).all()


def test_the_stress_of_the_map_is_nearly_minimal() -> None:
    wanted = distances(None, num_heads=14).all

    def stress(flat: np.ndarray) -> float:
        return float(
            np.sqrt(
                ((pdist(flat.reshape(-1, 2)) - squareform(wanted)) ** 2).sum()
                / (squareform(wanted) ** 2).sum()
            )
        )

    stresses = [multidimensional_scaling(wanted, steps)[1] for steps in (0, 1, 5, 20, 300)]
    assert all(later <= earlier for earlier, later in pairwise(stresses))
    points, found = multidimensional_scaling(wanted)
    assert found == pytest.approx(stress(points.ravel()))
    assert found <= stresses[0] * 0.95
    assert minimize(stress, points.ravel()).fun > found - 0.003


@pytest.mark.parametrize("package", ["scipy.cluster.hierarchy", "sklearn.metrics"])
def test_without_scikit_learn_the_error_names_the_extra(
    monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.delitem(sys.modules, "glassformer.experiments.head_clusters.clustering")
    with pytest.raises(ImportError, match=r"pip install 'glassformer\[analysis\]'"):
        importlib.import_module("glassformer.experiments.head_clusters.clustering")
