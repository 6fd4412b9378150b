"""Clusters of heads, whether they mean something, and the map."""

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

from glassformer.analysis.clustering import (
    MOST_CLUSTERS,
    against_permutations,
    agreement,
    cluster_heads,
    fitting_silhouette,
    on_a_map,
    silhouette_of,
)
from glassformer.analysis.head_distances import HeadDistances, distance_sums

QUERIES, KEYS = 24, 10


def points(places: np.ndarray) -> HeadDistances:
    """Heads that stand at these places, ``(head, axis)``, in both halves of the data."""
    apart = squareform(pdist(places))
    return HeadDistances([(0, head) for head in range(len(places))], (apart, apart), (1, 1))


def distances(kinds: list[int] | None, num_heads: int = 12, seed: int = 0) -> HeadDistances:
    """Of heads that follow one of a few kinds, half of their attention; or nothing but chance."""
    random = np.random.default_rng(seed)
    halves = []
    for _ in range(2):
        weights = random.dirichlet(np.ones(KEYS), (num_heads, QUERIES))
        if kinds is not None:
            liked = random.integers(KEYS, size=(max(kinds) + 1, QUERIES))
            weights = (weights + np.eye(KEYS)[liked[kinds]]) / 2
        halves.append((distance_sums(torch.tensor(weights)) / QUERIES).numpy())
    heads = [(place // 4, place % 4) for place in range(num_heads)]
    return HeadDistances(heads, (halves[0], halves[1]), (QUERIES, QUERIES))


def test_planted_clusters_are_found() -> None:
    kinds = [0, 1, 2, 2, 1, 0, 0, 1, 2, 1, 1, 0]
    found = cluster_heads(distances(kinds), clouds=99)
    assert (found.cluster, found.num_clusters) == (kinds, 3)  # numbered by their first heads
    assert found.silhouette > found.chance + 0.1
    assert found.silhouette == fitting_silhouette(distances(kinds))
    assert (found.p_value, found.stability) == (1 / 100, 1.0)
    assert cluster_heads(distances(kinds), 2, clouds=9).num_clusters == 2


CLOUDS = {
    "gaussian": lambda random: random.normal(size=(40, 4)),
    "flat in places": lambda random: random.normal(size=(40, 8)) * 0.6 ** np.arange(8),
    "skewed": lambda random: random.exponential(size=(40, 4)) * 0.6 ** np.arange(4),
    "even": lambda random: random.random((40, 2)),
    "with heads far away": lambda random: (
        random.normal(size=(40, 4)) / np.sqrt(random.chisquare(3, (40, 1)) / 3)
    ),
}


@pytest.mark.parametrize("cloud", CLOUDS)
def test_a_single_cloud_has_no_clusters(cloud: str) -> None:
    random = np.random.default_rng(0)
    p_values = [cluster_heads(points(CLOUDS[cloud](random)), clouds=19).p_value for _ in range(25)]
    assert np.mean(np.array(p_values) <= 0.05) <= 0.12
    assert np.mean(p_values) > 0.3


@pytest.mark.parametrize("axes", [2, 6])
def test_three_clouds_are_clusters(axes: int) -> None:
    random = np.random.default_rng(1)
    p_values = []
    for _ in range(10):
        where = 8 * np.eye(3, axes)[random.integers(3, size=40)]
        p_values.append(cluster_heads(points(random.normal(size=(40, axes)) + where), clouds=19).p_value)
    assert np.mean(np.array(p_values) <= 0.05) >= 0.9


def test_clusters_that_differ_from_half_to_half_are_unstable() -> None:
    one, two = distances([0] * 6 + [1] * 6), distances([0, 1] * 6)
    mixed = HeadDistances(one.heads, (one.halves[0], two.halves[1]), (QUERIES, QUERIES))
    assert cluster_heads(one, 2, clouds=1).stability == 1
    assert cluster_heads(mixed, 2, clouds=1).stability < 0.2


def test_the_silhouette_is_the_mean_over_clusters() -> None:
    apart = distances(None).all
    labels = np.array([0, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 3])
    heads = silhouette_samples(apart, labels, metric="precomputed")
    expected = np.mean([heads[labels == cluster].mean() for cluster in range(4)])
    assert silhouette_of(apart, labels) == pytest.approx(expected)
    assert silhouette_of(apart, np.zeros(12, dtype=np.int64)) == 0


def test_the_clusters_that_are_scored_are_those_of_the_tree() -> None:
    found = cluster_heads(distances([0, 1, 2, 2, 1, 0, 0, 1, 2, 1, 1, 0]), clouds=1)
    cut = cut_tree(found.tree, found.num_clusters).ravel()
    assert silhouette_of(distances([0, 1, 2, 2, 1, 0, 0, 1, 2, 1, 1, 0]).all, cut) == found.silhouette


def test_the_same_seed_gives_the_same_clustering() -> None:
    first, second = (cluster_heads(distances(None), clouds=19, seed=3) for _ in range(2))
    assert (first.cluster, first.p_value) == (second.cluster, second.p_value)
    assert np.array_equal(first.places, second.places)
    assert first.num_clusters <= MOST_CLUSTERS


def test_heads_that_all_look_the_same_are_one_cluster() -> None:
    nothing = np.zeros((5, 5))
    found = cluster_heads(HeadDistances([(0, h) for h in range(5)], (nothing, nothing), (1, 1)))
    assert (found.num_clusters, found.silhouette, found.p_value, found.stress) == (1, 0.0, 1.0, 0.0)
    assert (found.chance, found.stability) == (0.0, 1.0)
    assert not found.places.any()


def test_numbers_of_clusters_that_cannot_be() -> None:
    for number in (1, 12):
        with pytest.raises(ValueError, match=f"num_clusters is {number}; 12 heads make 2 to 11 clusters"):
            cluster_heads(distances(None), number)
    with pytest.raises(ValueError, match="2 heads make no clusters"):
        cluster_heads(distances(None, num_heads=2))


def test_clusters_agree_with_the_kinds_they_were_made_of() -> None:
    kinds = [0, 1, 2, 2, 1, 0, 0, 1, 2, 1, 1, 0]
    made = distances(kinds)
    found = cluster_heads(made, clouds=9)
    names = {head: f"kind {kind}" for head, kind in zip(made.heads, kinds, strict=True)}
    whole = agreement(found, names, permutations=199)
    assert (whole.num_heads, whole.rand, whole.information) == (12, 1.0, pytest.approx(1.0))
    assert (whole.rand_p_value, whole.information_p_value) == (1 / 200, 1 / 200)
    some = agreement(found, dict(list(names.items())[:7]), permutations=9)
    assert (some.num_heads, some.rand) == (7, 1.0)


def test_clusters_do_not_agree_with_other_groups() -> None:
    made = distances([0] * 6 + [1] * 6)
    found = cluster_heads(made, clouds=9)
    unrelated = {head: str(place % 2) for place, head in enumerate(made.heads)}
    result = agreement(found, unrelated, permutations=199)
    assert result.rand < 0.05
    assert result.information < 0.05
    assert min(result.rand_p_value, result.information_p_value) > 0.2
    with pytest.raises(ValueError, match="1 of the heads have a name"):
        agreement(found, {(0, 1): "previous"})


def test_a_p_value_counts_permutations_that_score_as_high() -> None:
    labels = np.array([0, 0, 0, 1])  # one permutation in four has the 1 at the end
    value, p_value = against_permutations(lambda given: float(given[-1]), labels, 3999, seed=0)
    assert value == 1
    assert p_value == pytest.approx(0.25, abs=0.03)


def test_places_in_a_plane_are_found_again() -> None:
    true = np.random.default_rng(0).normal(size=(30, 2))
    wanted = squareform(pdist(true))
    places, stress = on_a_map(wanted)
    assert stress < 1e-6
    assert np.allclose(squareform(pdist(places)), wanted, atol=1e-5)
    assert (places[np.abs(places).argmax(0), [0, 1]] > 0).all()


def test_no_step_lowers_the_stress_of_the_map_much() -> None:
    wanted = distances(None, num_heads=14).all

    def stress(flat: np.ndarray) -> float:
        return float(
            np.sqrt(
                ((pdist(flat.reshape(-1, 2)) - squareform(wanted)) ** 2).sum()
                / (squareform(wanted) ** 2).sum()
            )
        )

    stresses = [on_a_map(wanted, steps)[1] for steps in (0, 1, 5, 20, 300)]
    assert all(later <= earlier for earlier, later in pairwise(stresses))
    places, found = on_a_map(wanted)
    assert found == pytest.approx(stress(places.ravel()))
    assert found <= stresses[0] * 0.95
    assert minimize(stress, places.ravel()).fun > found - 0.003


@pytest.mark.parametrize("package", ["scipy.cluster.hierarchy", "sklearn.metrics"])
def test_without_scikit_learn_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.delitem(sys.modules, "glassformer.analysis.clustering")
    with pytest.raises(ImportError, match=r"pip install 'glassformer\[analysis\]'"):
        importlib.import_module("glassformer.analysis.clustering")
