"""Bootstrap intervals: their coverage."""

from __future__ import annotations

import numpy as np
import pytest

from glassformer.analysis.bootstrap import bootstrap_difference, bootstrap_interval


@pytest.mark.slow
def test_an_interval_of_a_mean_covers_the_expectation():
    random = np.random.default_rng(0)
    covered = 0
    for seed in range(200):
        low, high = bootstrap_interval(random.exponential(2.0, 40), seed=seed)
        covered += low <= 2.0 <= high
    assert 0.88 <= covered / 200 <= 0.98  # nominally 0.95; the distribution is skewed
    low, high = bootstrap_interval(np.full(5, 3.0))
    assert (low, high) == pytest.approx((3.0, 3.0))


@pytest.mark.slow
def test_an_interval_over_draws_and_items_covers_the_variation_of_both():
    random, covered, items_only = np.random.default_rng(1), 0, 0
    for seed in range(150):
        values = random.normal(1.0, 1.0, (20, 1)) + random.normal(0.0, 0.5, (1, 25))
        low, high = bootstrap_interval(values, seed=seed)
        covered += low <= 1.0 <= high
        low, high = bootstrap_interval(values.mean(0), seed=seed)
        items_only += low <= 1.0 <= high
    assert covered / 150 > 0.88 > items_only / 150


def test_the_difference_of_means_has_the_interval_of_independent_samples():
    a, b = np.array([1.0, 2.0, 3.0]), np.array([0.0, 0.5])
    value, low, high = bootstrap_difference(a, b)
    assert value == pytest.approx(1.75)
    assert 0.5 <= low <= value <= high <= 3
