"""Distances between the attention of heads."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial.distance import jensenshannon, pdist, squareform
from scipy.stats import skew

from glassformer.analysis.head_patterns.patterns import Item
from glassformer.attention import record_attention
from glassformer.experiments.head_clusters import distances as module
from glassformer.experiments.head_clusters.distances import (
    NullModel,
    TooFewQueriesError,
    distance_sums,
    head_distances,
    principal_axes,
    unimodal_distribution,
)
from glassformer.models import BERTModel, GPTModel, T5Model, TransformerModel, ViTModel


def items(*lengths: int) -> list[Item]:
    generator = torch.Generator().manual_seed(0)
    return [
        Item(torch.randint(20, (length,), generator=generator).tolist(), [False] * length)
        for length in lengths
    ]


def gpt(**options: object) -> TransformerModel:
    torch.manual_seed(0)
    return GPTModel(20, 16, 2, 2, max_seq_len=64, **options).eval()


def rows(model: TransformerModel, item: Item) -> torch.Tensor:
    """All maps of an item, ``(head, query, key)``."""
    with torch.no_grad(), record_attention(model) as recording:
        model(torch.tensor([item.ids]))
    return torch.cat([recording[layer][0] for layer in recording])


def by_scipy(weights: torch.Tensor) -> torch.Tensor:
    """Mean distance over queries, ``(head, head)``."""
    p = weights.double().numpy()
    return torch.tensor([[jensenshannon(a, b, axis=-1, base=2).mean() for b in p] for a in p])


def test_distances_match_scipy() -> None:
    torch.manual_seed(1)
    weights = torch.rand(5, 7, 6).pow(8)
    weights[weights < 0.01] = 0
    weights[1] = torch.eye(6).repeat(2, 1)[:7]
    weights = weights / weights.sum(-1, keepdim=True)
    torch.testing.assert_close(distance_sums(weights) / 7, by_scipy(weights), rtol=0, atol=1e-8)


def test_equal_rows_have_distance_zero_and_disjoint_rows_one() -> None:
    same, other = torch.tensor([[0.25, 0.75, 0, 0]]), torch.tensor([[0, 0, 0.1, 0.9]])
    expected = torch.tensor([[0, 0, 1], [0, 0, 1], [1, 1, 0]]).double()
    assert torch.allclose(distance_sums(torch.stack([same, same, other])), expected, atol=1e-15)


@pytest.mark.parametrize(
    ("model", "first"), [(gpt(), 1), (BERTModel(20, 16, 2, 2, max_seq_len=64).eval(), 0)], ids=["gpt", "bert"]
)
def test_distances_are_means_over_two_halves_of_the_texts(model: TransformerModel, first: int) -> None:
    texts = items(9, 5, 12, 1)
    found = head_distances(model, iter(texts))
    assert found.heads == [(0, 0), (0, 1), (1, 0), (1, 1)]
    kept = [rows(model, text)[:, first:] for text in texts[:3]]
    sums = [by_scipy(weights) * weights.size(1) for weights in kept]
    assert found.num_queries == (9 - first, 5 - first + 12 - first)  # a text goes to the shorter half
    total = sum(weights.size(1) for weights in kept)
    assert torch.allclose(torch.tensor(found.all), sum(sums) / total, atol=1e-6)
    assert torch.allclose(torch.tensor(found.halves[0]), sums[0] / (9 - first), atol=1e-6)
    assert torch.allclose(
        torch.tensor(found.halves[1]), (sums[1] + sums[2]) / found.num_queries[1], atol=1e-6
    )


def test_long_texts_are_subsampled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_QUERIES", 4)
    model, texts = gpt(), items(40, 41)
    found = head_distances(model, texts)
    assert found.num_queries == (4, 4)
    chosen = rows(model, texts[0])[:, [9, 19, 29, 39]]
    assert torch.allclose(torch.tensor(found.halves[0]), by_scipy(chosen), atol=1e-6)


def test_an_encoder_decoder_needs_a_kind() -> None:
    model = T5Model(20, 16, 1, 2, d_ff=16).eval()
    assert head_distances(model, items(5, 6), "encoder").heads == [(0, 0), (0, 1)]
    with pytest.raises(ValueError, match="cross"):
        head_distances(model, items(5, 6), "cross")
    with pytest.raises(ValueError, match="kind="):
        head_distances(model, items(5, 6))


def test_too_few_queries_and_image_models_are_refused() -> None:
    for texts in ([], items(5), items(1, 1, 1)):
        with pytest.raises(TooFewQueriesError, match="at least two texts of several tokens"):
            head_distances(gpt(), texts)
    image_model = ViTModel(image_size=8, patch_size=4, d_model=8, num_layers=1, num_heads=2)
    with pytest.raises(TypeError, match="takes no text"):
        head_distances(image_model, items(5, 5))


@pytest.mark.parametrize("kind", [NullModel.unimodal, NullModel.uniform])
def test_samples_have_the_spread_of_the_data_along_every_axis(kind) -> None:
    random = np.random.default_rng(0)
    places = random.exponential(size=(30, 4)) * [5, 3, 2, 1]
    null_model = kind(squareform(pdist(places)))
    expected = np.linalg.eigvalsh(np.cov(places.T, bias=True))[::-1] * 30
    assert np.allclose(null_model.eigenvalues, expected)
    drawn = null_model.sample(random)
    assert np.allclose(principal_axes(drawn)[0], expected)
    assert not np.allclose(drawn, squareform(pdist(places)))


def test_negative_eigenvalues_are_kept() -> None:
    null_model = NullModel.unimodal(squareform(np.array([1.0, 1.0, 3.0])))  # violates the triangle inequality
    assert null_model.eigenvalues.min() < 0 < null_model.eigenvalues.max()
    assert (null_model.sample(np.random.default_rng(0)) >= 0).all()


def test_a_unimodal_distribution_keeps_the_skewness_and_loses_further_modes() -> None:
    random = np.random.default_rng(0)
    uniform = random.random(4000)
    x, below = unimodal_distribution(random.exponential(size=400))
    assert skew(np.interp(uniform, below, x)) > 1
    two = np.concatenate([random.normal(-5, 1, 150), random.normal(5, 1, 250)])
    x, below = unimodal_distribution(two)
    density = np.diff(below) / np.diff(x)
    peak = int(density.argmax())
    assert (np.diff(density[:peak]) >= -1e-9).all()
    assert (np.diff(density[peak:]) <= 1e-9).all()
    assert np.interp(2, x, below) - np.interp(-2, x, below) > 0.1  # 0.02 of the points are there


def test_equal_points_have_no_null_model() -> None:
    with pytest.raises(ValueError, match="no null model to sample from"):
        NullModel.unimodal(np.zeros((3, 3))).sample(np.random.default_rng(0))
