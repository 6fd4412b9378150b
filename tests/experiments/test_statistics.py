"""Statistics over seeds, compared with scipy, published numbers, and simulations."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats

from glassformer.experiments.statistics import (
    Estimate,
    bootstrap_mean,
    detectable_effect,
    equivalence,
    holm,
    one_sample_t,
    paired_t,
    power_of,
)

ANY_SEEDS = st.lists(st.floats(-1e100, 1e100), min_size=2, max_size=12)
SEEDS = st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=12).filter(lambda values: np.std(values) > 1e-3)
SKEWED = np.random.default_rng(1).exponential(size=12)
P_VALUES = st.lists(st.floats(0, 1), max_size=8).map(lambda p: {f"test {i}": p[i] for i in range(len(p))})

# Hours of sleep gained with two drugs by ten patients (Student 1908), and the paired test of R's help page.
SLEEP = (
    [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4],
    [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0],
)


def test_paired_t_reproduces_student() -> None:
    found = paired_t(*SLEEP, confidence=0.95)
    assert (found.mean, found.num_seeds) == (pytest.approx(1.58), 10)
    assert (found.low, found.high) == pytest.approx((0.7001142, 2.4598858))
    assert found.p_value == pytest.approx(0.002833, abs=1e-6)
    assert found.mean / found.standard_error == pytest.approx(4.0621, abs=1e-4)


@given(SEEDS, st.floats(-1e3, 1e3), st.floats(0.5, 0.999))
def test_one_sample_t_matches_scipy(values: list[float], null: float, confidence: float) -> None:
    found, expected = one_sample_t(values, null=null, confidence=confidence), stats.ttest_1samp(values, null)
    assert (found.null, found.confidence, found.margin) == (null, confidence, None)
    assert found.p_value == pytest.approx(expected.pvalue, rel=1e-6)
    interval = expected.confidence_interval(confidence)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))


@given(st.data(), SEEDS)
def test_paired_t_matches_scipy(data: st.DataObject, values: list[float]) -> None:
    same = st.lists(st.floats(-1e3, 1e3), min_size=len(values), max_size=len(values))
    reference = data.draw(same)
    assume(np.std(np.subtract(values, reference)) > 1e-3)
    found, expected = paired_t(values, reference), stats.ttest_rel(values, reference)
    assert found.p_value == pytest.approx(expected.pvalue, rel=1e-6)
    interval = expected.confidence_interval(0.99)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))


@given(SEEDS, st.floats(0.1, 1e3), st.floats(-10, 10))
def test_equivalence_is_the_larger_one_of_two_one_sided_tests(
    values: list[float], margin: float, null: float
) -> None:
    found = equivalence(values, margin, null=null)
    expected = max(
        stats.ttest_1samp(values, null - margin, alternative="greater").pvalue,
        stats.ttest_1samp(values, null + margin, alternative="less").pvalue,
    )
    assert found.p_value == pytest.approx(expected, rel=1e-6)
    assert (found.null, found.margin, found.confidence) == (null, margin, 0.98)
    inside = null - margin < found.low and found.high < null + margin
    assert inside == (found.p_value < 0.01)


@given(SEEDS, st.lists(st.floats(0.01, 1e4), min_size=2, max_size=6).map(sorted))
def test_wider_margins_are_easier_to_be_within_and_harder_to_be_beyond(
    values: list[float], margins: list[float]
) -> None:
    estimate = one_sample_t(values)
    within = [equivalence(values, margin).p_value for margin in margins]
    assert within == [estimate.p_value_within(margin) for margin in margins]
    assert within == sorted(within, reverse=True)
    beyond = [estimate.p_value_beyond(margin) for margin in [0, *margins]]
    assert beyond == sorted(beyond)
    assert beyond[0] == estimate.p_value
    for margin in margins:  # only one of the two can be shown
        assert max(estimate.p_value_within(margin), estimate.p_value_beyond(margin)) >= 0.5


@given(ANY_SEEDS, st.floats(-1e100, 1e100), st.floats(0.01, 0.9999))
def test_every_estimate_is_finite_and_its_interval_includes_the_mean(
    values: list[float], null: float, confidence: float
) -> None:
    estimates = [
        one_sample_t(values, null=null, confidence=confidence),
        paired_t(values, values[::-1], null=null, confidence=confidence),
        equivalence(values, 1.0, null=null, confidence=confidence),
    ]
    for estimate in estimates:
        stored = json.loads(json.dumps(asdict(estimate), allow_nan=False))
        assert Estimate(**stored) == estimate
        assert estimate.low <= estimate.mean <= estimate.high
        assert 0 <= estimate.p_value <= 1


@given(SEEDS, st.floats(0, 50), st.sampled_from([0.9, 0.95, 0.99]))
def test_the_interval_excludes_the_null_value_where_the_test_does(
    values: list[float], null: float, confidence: float
) -> None:
    found = one_sample_t(values, null=null, confidence=confidence)
    assume(abs(found.p_value - (1 - confidence)) > 1e-9)
    assert (found.low <= null <= found.high) == (found.p_value > 1 - confidence)


@pytest.mark.parametrize("value", [0.0, 0.1, 1e-300, 0.7, -3.3, 1e30])
@pytest.mark.parametrize("num_seeds", [2, 5, 7])
def test_seeds_without_spread_have_p_value_0_or_1(value: float, num_seeds: int) -> None:
    same = [value] * num_seeds
    for found in (one_sample_t(same, null=value), paired_t(same, same), paired_t(same, [0] * num_seeds)):
        assert found.low == found.mean == found.high
        assert found.standard_error == 0
        assert found.p_value == (1 if found.mean == found.null else 0)
    assert one_sample_t(same, null=value).p_value == 1
    assert one_sample_t(same, null=value + 1 + abs(value)).p_value == 0
    assert equivalence(same, 0.5, null=value).p_value == 0
    assert equivalence(same, 0.5, null=value + 1 + abs(value)).p_value == 1


def test_differences_by_rounding_errors_are_no_spread() -> None:
    reference = np.array([0.1, 0.2, 0.3, 0.7, 1.1])
    found = paired_t(reference + 0.3, reference)  # the differences are .3 with five different errors
    assert (found.standard_error, found.p_value) == (0, 0)
    assert paired_t(reference + 0.3, reference, null=0.3).p_value == 1
    assert paired_t(reference + 0.3, reference, null=0.3).mean == 0.3
    small = paired_t(reference + np.array([1, -1, 1, -1, 1]) * 1e-9, reference)
    assert small.standard_error > 0
    assert small.p_value > 0.1


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: one_sample_t([1.0]), "values must hold the numbers of at least two seeds, got 1"),
        (lambda: paired_t([1.0, 2.0], [1.0]), "reference must hold the numbers of at least two seeds, got 1"),
        (lambda: paired_t([1.0, 2.0], [1.0, 2.0, 3.0]), "of the same seeds, got 2 and 3 of them"),
        (lambda: one_sample_t([[1.0, 2.0]]), r"one number per seed, got an array of shape \(1, 2\)"),
        (lambda: one_sample_t([1.0, np.nan]), "values must be finite numbers, got nan at index 1"),
        (lambda: paired_t([1.0, 2.0], [np.inf, 1.0]), "reference must be finite numbers, got inf at index 0"),
        (lambda: one_sample_t([1.0, 2.0], null=np.nan), "null must be a finite number, got nan"),
        (lambda: one_sample_t([1.0, 2.0], confidence=95), "confidence must be between 0 and 1, got 95"),
        (lambda: equivalence([1.0, 2.0], 0), "margin must be a finite number above 0, got 0"),
        (lambda: equivalence([1.0, 2.0], np.nan), "margin must be a finite number above 0, got nan"),
        (lambda: bootstrap_mean(range(9)), "at least 10 seeds, got 9"),
        (lambda: holm({"a": 0.5, "b": 1.5}), "p-values must be between 0 and 1, got 1.5 for 'b'"),
        (lambda: holm({"a": np.nan}), "p-values must be between 0 and 1, got nan for 'a'"),
        (lambda: power_of(1, 1, 1), "at least two seeds, got 1"),
        (lambda: power_of(1, -1, 5), "sd must be a finite number, 0 or above, got -1"),
        (lambda: power_of(1, 1, 5, alpha=0), "alpha must be between 0 and 1, got 0"),
        (lambda: detectable_effect(1, 5, power=0.001), r"between alpha \(0.01\) and 1, got 0.001"),
        (lambda: detectable_effect(np.nan, 5), "sd must be a finite number, 0 or above, got nan"),
    ],
)
def test_wrong_arguments_are_named(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_holm_of_a_worked_example() -> None:
    found = holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005})
    assert found == pytest.approx({"a": 0.03, "b": 0.06, "c": 0.06, "d": 0.02})
    assert list(found) == ["a", "b", "c", "d"]
    assert holm({}) == {}


@given(P_VALUES, st.randoms(use_true_random=False))
def test_holm_keeps_the_order_and_lies_between_the_raw_p_values_and_bonferroni(
    p_values: dict[str, float], random: Any
) -> None:
    found = holm(p_values)
    shuffled = list(p_values.items())
    random.shuffle(shuffled)
    assert holm(dict(shuffled)) == found
    for name, p in p_values.items():
        assert p <= found[name] <= min(1, len(p_values) * p)
        for other, q in p_values.items():
            assert found[name] <= found[other] or p >= q


@given(P_VALUES, st.floats(0.001, 0.5))
def test_holm_rejects_what_its_step_down_procedure_rejects(p_values: dict[str, float], alpha: float) -> None:
    remaining = dict(p_values)
    while remaining:
        smallest = min(remaining, key=lambda name: remaining[name])
        if len(remaining) * remaining[smallest] > alpha:
            break
        del remaining[smallest]
    assert {name for name, p in holm(p_values).items() if p > alpha} == set(remaining)


def test_power_of_a_published_example() -> None:
    """G*Power's and statsmodels's: d = .5 at alpha .05 needs 34 pairs for a power of .8."""
    assert power_of(0.5, 1, 34, alpha=0.05) == pytest.approx(0.8077775, abs=1e-6)
    assert power_of(0.5, 1, 33, alpha=0.05) < 0.8
    assert power_of(-1, 2, 34, alpha=0.05) == power_of(0.5, 1, 34, alpha=0.05)


@given(st.integers(2, 40), st.floats(1e-4, 0.1), st.floats(0.2, 0.95), st.floats(0.01, 100))
def test_the_detectable_effect_has_the_given_power(
    num_seeds: int, alpha: float, power: float, sd: float
) -> None:
    effect = detectable_effect(sd, num_seeds, alpha=alpha, power=power)
    assert power_of(effect, sd, num_seeds, alpha) == pytest.approx(power, abs=1e-6)
    assert effect > detectable_effect(sd, num_seeds + 1, alpha=alpha, power=power)
    assert effect > detectable_effect(sd / 2, num_seeds, alpha=alpha, power=power)
    assert power_of(0, sd, num_seeds, alpha) == pytest.approx(alpha)


def test_without_spread_every_effect_is_detectable() -> None:
    assert detectable_effect(0, 5) == 0
    assert (power_of(0.1, 0, 5), power_of(0, 0, 5, alpha=0.02)) == (1, 0.02)


@pytest.mark.parametrize(("num_seeds", "alpha"), [(2, 0.05), (3, 0.01), (8, 0.01), (8, 0.001)])
def test_simulated_studies_have_the_computed_power(num_seeds: int, alpha: float) -> None:
    effect = detectable_effect(2.0, num_seeds, alpha=alpha)
    studies = np.random.default_rng(0).normal(effect, 2.0, (4000, num_seeds))
    found = stats.ttest_1samp(studies, 0, axis=1).pvalue < alpha
    assert found.mean() == pytest.approx(0.8, abs=4 * np.sqrt(0.8 * 0.2 / 4000))


def test_a_planted_effect_is_found_and_a_planted_null_is_not() -> None:
    """In 20 repeats of a study of 8 seeds that differ by more than the effect; bounds of probability .001."""
    random, effect = np.random.default_rng(0), detectable_effect(1.0, 8)
    found = {effect: 0, 0.0: 0}
    for planted in found:
        for _ in range(20):
            reference = random.normal(50, 5, 8)
            values = reference + random.normal(planted, 1, 8)
            found[planted] += paired_t(values, reference).p_value < 0.01
    assert found[effect] >= stats.binom.ppf(0.001, 20, 0.8)
    assert found[0.0] <= stats.binom.ppf(0.999, 20, 0.01)


def test_intervals_over_five_seeds_cover_as_documented() -> None:
    samples = np.random.default_rng(0).normal(1.0, 2.0, (1000, 5))
    intervals = np.array([(found.low, found.high) for found in map(one_sample_t_95, samples)])
    assert coverage(intervals, 1.0) == pytest.approx(0.95, abs=0.02)
    draws = np.random.default_rng(1).integers(5, size=(1000, 999, 5))
    means = np.take_along_axis(samples[:, None], draws, axis=2).mean(axis=2)
    percentile = np.quantile(means, [0.025, 0.975], axis=1).T
    documented = 1 - 2 * stats.t.sf(1.96 * np.sqrt(4 / 5), 4)
    assert documented == pytest.approx(0.84, abs=0.006)
    assert coverage(percentile, 1.0) == pytest.approx(documented, abs=0.035)


def test_the_bootstrap_over_ten_seeds_covers_as_documented() -> None:
    samples = np.random.default_rng(0).normal(1.0, 2.0, (400, 10))
    found = [bootstrap_mean(sample, confidence=0.95, resamples=999) for sample in samples]
    assert 0.86 < coverage(np.array([(one.low, one.high) for one in found]), 1.0) < 0.94
    assert 1 - 2 * stats.t.sf(1.96 * np.sqrt(9 / 10), 9) == pytest.approx(0.90, abs=0.006)


def one_sample_t_95(values: np.ndarray) -> Estimate:
    return one_sample_t(values, confidence=0.95)


def coverage(intervals: np.ndarray, mean: float) -> float:
    return float(((intervals[:, 0] <= mean) & (mean <= intervals[:, 1])).mean())


@pytest.mark.parametrize("values", [SKEWED, -SKEWED, np.sort(SKEWED) ** 3])
def test_the_bootstrap_interval_matches_scipy(values: np.ndarray) -> None:
    found = bootstrap_mean(values, confidence=0.9)
    expected = stats.bootstrap((values,), np.mean, confidence_level=0.9, rng=np.random.default_rng(5))
    ends, width = expected.confidence_interval, expected.confidence_interval.high - found.low
    assert (found.low, found.high) == pytest.approx((ends.low, ends.high), abs=0.03 * width)
    assert found.standard_error == pytest.approx(stats.sem(values))
    assert (found.mean, found.num_seeds, found.margin) == (pytest.approx(values.mean()), 12, None)
    assert bootstrap_mean(values, confidence=0.9) == found
    assert bootstrap_mean(values, confidence=0.9, seed=1) != found


@pytest.mark.parametrize("null", [0.5, 0.7, 1.2, 1.5, 2.0])
def test_the_bootstrap_p_value_belongs_to_its_interval(null: float) -> None:
    p = bootstrap_mean(SKEWED, null=null).p_value
    assert 1e-3 < p < 0.9
    narrow, wide = (bootstrap_mean(SKEWED, confidence=1 - factor * p) for factor in (1.05, 0.95))
    assert wide.low < null < wide.high
    assert not narrow.low <= null <= narrow.high


def test_a_bootstrap_far_from_the_null_value_or_without_spread_is_finite() -> None:
    far = bootstrap_mean(SKEWED, null=100.0)
    assert far.p_value == 2 / 10000
    assert far.high < 100
    assert bootstrap_mean([0.3] * 10, null=0.3).p_value == 1
    assert bootstrap_mean([0.3] * 10).p_value == 0


@given(st.lists(st.floats(-1e100, 1e100), min_size=10, max_size=20), st.floats(-1e100, 1e100))
def test_every_bootstrap_is_finite(values: list[float], null: float) -> None:
    found = bootstrap_mean(values, null=null, resamples=50)
    json.dumps(asdict(found), allow_nan=False)
    assert found.low <= found.high
    assert 0 <= found.p_value <= 1


@pytest.mark.parametrize("package", ["scipy.stats", "scipy.optimize"])
def test_without_scipy_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.delitem(sys.modules, "glassformer.experiments.statistics")
    with pytest.raises(ImportError, match=r"pip install 'glassformer\[analysis\]'"):
        importlib.import_module("glassformer.experiments.statistics")
