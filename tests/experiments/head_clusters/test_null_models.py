"""Null models match the data in everything except clusters."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.distance import pdist, squareform
from scipy.stats import skew

from glassformer.experiments.head_clusters.null_models import NullModel, principal_axes, unimodal_distribution


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
