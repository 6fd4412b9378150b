"""Intervals over seeds and of a single fit."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom, ttest_1samp

from glassformer.experiments.scaling.fits import ScalingLaw, fit_joint_law, fit_power_law
from glassformer.experiments.scaling.uncertainty import (
    Interval,
    exponents_by_seed,
    residual_bootstrap,
    seed_intervals,
    t_intervals,
)

LAW = ScalingLaw(1.5, 60, 0.3, 300, 0.4)
N, D = (grid.ravel() for grid in np.meshgrid(np.geomspace(1e5, 1e8, 4), np.geomspace(1e6, 1e9, 4)))


def power_law(num_parameters, num_tokens, loss):
    """A fit of one variable, which is faster."""
    return fit_power_law(num_parameters, loss)


def simulate(seeds: int, noise: float = 0.002, seed: int = 0) -> tuple[np.ndarray, ...]:
    """Seeds, sizes, tokens and losses of the joint law."""
    sizes, tokens = np.tile(N, seeds), np.tile(D, seeds)
    errors = np.random.default_rng(seed).standard_normal(len(sizes))
    return (
        np.repeat(np.arange(seeds), len(N)),
        sizes,
        tokens,
        LAW.predict(sizes, tokens) * (1 + noise * errors),
    )


def of_size(seeds: int, noise: float = 0.002, seed: int = 0) -> tuple[np.ndarray, ...]:
    """The same for a law of size alone."""
    ids, sizes, tokens, _ = simulate(seeds)
    errors = np.random.default_rng(seed).standard_normal(len(sizes))
    return ids, sizes, tokens, ScalingLaw(1.5, 60, 0.3).predict(sizes) * (1 + noise * errors)


def test_the_interval_over_seeds_is_students() -> None:
    ids, *data = simulate(3)
    found = exponents_by_seed(ids, *data, confidence=0.9)
    laws = [fit_joint_law(*(values[ids == seed] for values in data)) for seed in range(3)]
    assert found == t_intervals(laws, 0.9)
    assert list(found) == ["E", "alpha", "beta"]
    expected = ttest_1samp([law.beta for law in laws], 0).confidence_interval(0.9)
    assert (found["beta"].low, found["beta"].high) == pytest.approx(tuple(expected))
    assert found["beta"].estimate == pytest.approx(np.mean([law.beta for law in laws]))


@pytest.mark.slow
def test_intervals_over_seeds_cover_the_truth_as_often_as_they_say() -> None:
    repeats = 20
    covered = np.zeros(3)
    for repeat in range(repeats):
        found = exponents_by_seed(*simulate(4, seed=repeat), confidence=0.9)
        covered += [value in found[name] for name, value in LAW.coefficients.items()]
    assert covered.min() >= binom.ppf(0.001, repeats, 0.9)


@pytest.mark.slow
def test_intervals_of_single_fits_cover_the_truth_about_as_often_as_they_say() -> None:
    repeats, covered = 20, 0
    for repeat in range(repeats):
        _, *data = of_size(1, seed=repeat)
        covered += 0.3 in residual_bootstrap(*data, fit=power_law, confidence=0.9, resamples=99)["alpha"]
    assert covered >= binom.ppf(0.001, repeats, 0.9)


def test_few_seeds_are_not_resampled() -> None:
    data = of_size(9)
    assert seed_intervals(*data, fit=power_law) == exponents_by_seed(*data, fit=power_law)


def test_ten_seeds_are_resampled() -> None:
    ids, *data = of_size(10)
    found = seed_intervals(ids, *data, fit=power_law, resamples=199)
    assert found == seed_intervals(ids, *data, fit=power_law, resamples=199)
    assert found["alpha"].estimate == power_law(*data).alpha
    student = exponents_by_seed(ids, *data, fit=power_law)["alpha"]
    width = found["alpha"].high - found["alpha"].low
    assert width == pytest.approx(student.high - student.low, rel=0.4)
    assert 0.3 in found["alpha"]


def test_without_errors_the_bootstrap_of_residuals_has_no_width() -> None:
    sizes, tokens = N, D
    found = residual_bootstrap(sizes, tokens, LAW.predict(sizes, tokens), resamples=3)
    for name, value in LAW.coefficients.items():
        assert (found[name].low, found[name].high) == pytest.approx((value, value), rel=1e-4)


def test_an_interval_contains_its_ends() -> None:
    assert 1.0 in Interval(1.5, 1, 2)
    assert 2.1 not in Interval(1.5, 1, 2)


def test_too_few_seeds_or_runs_are_refused() -> None:
    with pytest.raises(ValueError, match="needs at least two seeds, got 1"):
        exponents_by_seed(*of_size(1), fit=power_law)
    with pytest.raises(ValueError, match="one value for each of the 16 losses, got shape"):
        exponents_by_seed([1, 2], *of_size(1)[1:])
    with pytest.raises(ValueError, match="more runs than the 3 coefficients, got 3"):
        residual_bootstrap([1, 2, 3], [1, 2, 3], [3, 2.5, 2.2], fit=power_law)
