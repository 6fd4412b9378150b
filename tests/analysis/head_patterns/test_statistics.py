"""Statistics compared with closed forms and scipy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from glassformer.analysis.head_patterns.statistics import (
    benjamini_hochberg,
    bootstrap_counts,
    bootstrap_difference,
    bootstrap_interval,
    p_value_above,
    percentile_interval,
    safe_ratio,
    selection_halves,
)

PROBABILITIES = arrays(float, st.integers(1, 40), elements=st.floats(0, 1))


@given(PROBABILITIES)
def test_false_discovery_rates_match_scipy(p):
    np.testing.assert_allclose(benjamini_hochberg(p), stats.false_discovery_control(p), atol=1e-12)


@given(PROBABILITIES, st.integers(0, 5))
def test_missing_p_values_do_not_count(p, missing):
    with_missing = np.concatenate([p, np.full(missing, np.nan)])
    q = benjamini_hochberg(with_missing)
    np.testing.assert_allclose(q[: len(p)], benjamini_hochberg(p))
    assert np.isnan(q[len(p) :]).all()


def test_adjusted_p_values_keep_shape_and_order():
    p = np.array([[0.01, 0.5], [0.04, np.nan]])
    np.testing.assert_allclose(benjamini_hochberg(p), [[0.03, 0.5], [0.06, np.nan]])
    assert benjamini_hochberg(np.empty((0, 3))).shape == (0, 3)


@given(st.lists(st.integers(0, 30), min_size=1, max_size=6), st.integers(0, 99))
def test_each_part_is_split_in_half(sizes, seed):
    for size, selection in zip(sizes, selection_halves(sizes, seed), strict=True):
        assert (len(selection), selection.sum()) == (size, size // 2)
    again = selection_halves([*sizes, 10], seed)  # the halves of a part do not depend on later parts
    for one, two in zip(selection_halves(sizes, seed), again[:-1], strict=True):
        np.testing.assert_array_equal(one, two)


@given(st.lists(st.integers(0, 12), min_size=1, max_size=5).filter(sum), st.integers(0, 99))
def test_each_replicate_draws_as_many_items_as_there_are(sizes, seed):
    weights = np.concatenate(list(bootstrap_counts(sizes, 7, seed)), axis=1)
    assert weights.shape == (7, sum(sizes))
    np.testing.assert_array_equal(weights.sum(1), sum(sizes))
    assert (weights >= 0).all()


def test_drawing_part_by_part_is_multinomial():
    """Mean 1, variance 1 - 1/n, covariance -1/n, within a part and between two."""
    sizes = [3, 5, 2]
    weights = np.concatenate(list(bootstrap_counts(sizes, 40_000, 0)), axis=1)
    expected = np.eye(10) - 1 / 10
    np.testing.assert_allclose(weights.mean(0), 1, atol=0.03)
    np.testing.assert_allclose(np.cov(weights.T), expected, atol=0.04)


def test_the_bootstrap_of_a_ratio_has_the_standard_error_of_the_delta_method():
    generator = np.random.default_rng(0)
    counts = generator.integers(1, 30, 400).astype(float)
    sums = counts * generator.beta(2, 3, 400)
    (weights,) = bootstrap_counts([400], 4000, 1)
    replicates = safe_ratio(weights @ sums, weights @ counts)
    mean = sums.sum() / counts.sum()
    error = np.sqrt(((sums - mean * counts) ** 2).sum()) / counts.sum()
    assert replicates.mean() == pytest.approx(mean, abs=error / 10)
    assert replicates.std() == pytest.approx(error, rel=0.05)
    low, high = percentile_interval(replicates)
    assert low == pytest.approx(mean - 1.96 * error, abs=error / 5)
    assert high == pytest.approx(mean + 1.96 * error, abs=error / 5)


def test_a_mean_over_no_queries_is_zero():
    np.testing.assert_array_equal(safe_ratio(np.array([3.0, 0.0]), np.array([2.0, 0.0])), [1.5, 0.0])


@given(st.floats(-1, 1), st.floats(0.01, 0.5), st.floats(0, 0.3), st.integers(0, 99))
def test_p_values_are_those_of_the_normal_distribution(difference, spread, margin, seed):
    replicates = np.random.default_rng(seed).normal(difference, spread, (50, 1))
    expected = stats.norm.sf((difference - margin) / replicates.std(axis=0, ddof=1))
    np.testing.assert_allclose(
        p_value_above(np.array([difference]), replicates, margin), expected, atol=1e-12
    )


def test_without_variance_p_values_are_zero_or_one():
    assert p_value_above(np.array([0.5, 0.1, 0.0]), np.zeros((9, 3)), 0.1).tolist() == [0.0, 1.0, 1.0]


@pytest.mark.slow
def test_p_values_are_uniform_if_the_difference_equals_the_margin():
    """Items, bootstrap and test together, at the boundary of the null hypothesis."""
    generator = np.random.default_rng(3)
    found = []
    for seed in range(300):
        differences = generator.normal(0.1, 0.4, 60)
        (weights,) = bootstrap_counts([60], 200, seed)
        replicates = (weights @ differences / 60)[:, None]
        found.append(p_value_above(differences.mean(keepdims=True), replicates, 0.1)[0])
    assert stats.kstest(found, "uniform").pvalue > 0.01


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
