"""Clouds without clusters that are like others in all else."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.distance import pdist, squareform
from scipy.stats import skew

from glassformer.analysis.single_cloud import SingleCloud, one_peaked, principal_axes


@pytest.mark.parametrize("kind", [SingleCloud.one_peaked, SingleCloud.box])
def test_every_draw_is_spread_along_its_axes_as_the_points_are(kind) -> None:
    random = np.random.default_rng(0)
    places = random.exponential(size=(30, 4)) * [5, 3, 2, 1]
    cloud = kind(squareform(pdist(places)))
    expected = np.linalg.eigvalsh(np.cov(places.T, bias=True))[::-1] * 30
    assert np.allclose(cloud.spread, expected)
    drawn = cloud.draw(random)
    assert np.allclose(principal_axes(drawn)[0], expected)
    assert not np.allclose(drawn, squareform(pdist(places)))


def test_distances_that_are_not_euclidean_keep_their_negative_part() -> None:
    cloud = SingleCloud.one_peaked(squareform(np.array([1.0, 1.0, 3.0])))  # no triangle
    assert cloud.spread.min() < 0 < cloud.spread.max()
    assert (cloud.draw(np.random.default_rng(0)) >= 0).all()


def test_a_density_of_one_peak_keeps_the_skewness_and_loses_further_peaks() -> None:
    random = np.random.default_rng(0)
    uniform = random.random(4000)
    x, below = one_peaked(random.exponential(size=400))
    assert skew(np.interp(uniform, below, x)) > 1
    two = np.concatenate([random.normal(-5, 1, 150), random.normal(5, 1, 250)])
    x, below = one_peaked(two)
    density = np.diff(below) / np.diff(x)
    peak = int(density.argmax())
    assert (np.diff(density[:peak]) >= -1e-9).all()
    assert (np.diff(density[peak:]) <= 1e-9).all()
    assert np.interp(2, x, below) - np.interp(-2, x, below) > 0.1  # of the points there are 0.02 there


def test_points_in_one_place_are_no_cloud() -> None:
    with pytest.raises(ValueError, match="no cloud to draw from"):
        SingleCloud.one_peaked(np.zeros((3, 3))).draw(np.random.default_rng(0))
