"""AICc of nested laws, and the identification of the irreducible loss."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import curve_fit
from scipy.stats import f as f_distribution

from glassformer.experiments.scaling.fits import ScalingLaw, fit_joint_law, fit_power_law
from glassformer.experiments.scaling.model_comparison import (
    compare_models,
    irreducible_loss_interval,
    is_identified,
)

SIZES = np.geomspace(1e5, 1e8, 12)
N, D = (grid.ravel() for grid in np.meshgrid(SIZES[::3], np.geomspace(1e6, 1e9, 4)))


def losses(law: ScalingLaw, noise: float, seed: int = 0) -> np.ndarray:
    """Losses of a law of one variable at ``SIZES``, with errors."""
    exact = law.predict(SIZES)
    return exact * (1 + noise * np.random.default_rng(seed).standard_normal(len(exact)))


def pair(loss: np.ndarray) -> tuple[ScalingLaw, ScalingLaw]:
    return fit_power_law(SIZES, loss), fit_power_law(SIZES, loss, constant=False)


def test_differences_and_weights_of_models() -> None:
    law = ScalingLaw(1, 2, 0.5, residual_sum=1.0, num_points=20, num_coefficients=2)
    found = compare_models({"a": replace(law, residual_sum=2.0), "b": law, "c": law})
    assert found["a"].difference == pytest.approx(20 * math.log(2))
    assert (found["b"].difference, found["b"].aicc) == (0, law.aicc())
    assert found["b"].weight == found["c"].weight
    assert sum(one.weight for one in found.values()) == pytest.approx(1)
    assert found["a"].weight / found["b"].weight == pytest.approx(2**-10)


def test_the_law_that_made_the_runs_has_the_lowest_aicc() -> None:
    loss = ScalingLaw(1.5, 60, 0.3, 300, 0.4).predict(N, D)
    loss *= 1 + 0.003 * np.random.default_rng(0).standard_normal(len(N))
    found = compare_models(
        {
            "joint": fit_joint_law(N, D, loss),
            "joint without E": fit_joint_law(N, D, loss, constant=False),
            "size alone": fit_power_law(N, loss),
        }
    )
    assert found["joint"].difference == 0
    assert found["joint"].weight > 0.99


def test_models_of_other_points_or_errors_are_refused() -> None:
    law = ScalingLaw(1, 2, 0.5, residual_sum=1.0, num_points=20, num_coefficients=2)
    with pytest.raises(
        ValueError, match="got 20 points with absolute errors, 20 points with relative errors"
    ):
        compare_models({"a": law, "b": replace(law, errors="absolute")})
    with pytest.raises(
        ValueError, match="got 19 points with relative errors, 20 points with relative errors"
    ):
        compare_models({"a": law, "b": replace(law, num_points=19)})
    with pytest.raises(ValueError, match="at least one law, got none"):
        compare_models({})


def test_a_constant_that_the_runs_show_is_identified() -> None:
    found = is_identified(*pair(losses(ScalingLaw(2.0, 200, 0.4), 0.005)))
    assert found
    assert "is identified: the AICc without E is higher by" in found.reason


def test_a_constant_at_its_bound_is_not_identified() -> None:
    found = is_identified(*pair(20 - np.log(SIZES)))
    assert not found
    assert found.reason == "E is not identified: the fitted E is 0, its bound."


def test_a_constant_that_noise_may_explain_is_not_identified() -> None:
    true, reasons = ScalingLaw(0.0, 20, 0.1), []
    for seed in range(20):
        loss = losses(true, 0.01, seed)
        found = is_identified(*pair(loss))
        low, _ = irreducible_loss_interval(SIZES, loss)
        assert not (found and low == 0)  # the rule is stricter than the interval
        reasons.append(found.reason)
    assert sum("not identified" in reason for reason in reasons) >= 17
    assert any("the AICc without E is lower by" in reason for reason in reasons)


def test_an_exponent_at_its_end_identifies_no_constant() -> None:
    loss = np.array([3.0, *[2.0] * (len(SIZES) - 1)])
    loss *= 1 + 1e-6 * np.random.default_rng(0).standard_normal(len(loss))
    found = is_identified(*pair(loss))
    assert not found
    assert "alpha = 3 is at an end of the exponents tried, 0.01 to 3" in found.reason


def test_a_loss_that_rises_identifies_no_constant() -> None:
    found = is_identified(*pair(SIZES**0.01))
    assert not found
    assert "A = 0, so that the loss does not fall with its variable" in found.reason


def test_the_law_without_constant_must_be_one() -> None:
    law, without = pair(losses(ScalingLaw(2.0, 200, 0.4), 0.005))
    with pytest.raises(ValueError, match=r"constant=False, got 3 coefficients and E=.* beside 3"):
        is_identified(law, law)
    with pytest.raises(ValueError, match=r"constant=False, got 3 coefficients and E=.* beside 2"):
        is_identified(without, law)


def test_the_interval_of_a_well_determined_constant_is_that_of_its_standard_error() -> None:
    loss = losses(ScalingLaw(2.0, 200, 0.4), 0.002)
    low, high = irreducible_loss_interval(SIZES, loss)
    law = fit_power_law(SIZES, loss)
    _, covariance = curve_fit(
        lambda x, e, a, alpha: e + a * (x / 1e6) ** -alpha, SIZES, loss, (2.0, 1.0, 0.4), sigma=loss
    )
    half = 2.262 * math.sqrt(covariance[0, 0])  # the t quantile of 9 degrees of freedom
    assert (low, high) == pytest.approx((law.E - half, law.E + half), abs=0.1 * half)


@pytest.mark.slow
def test_intervals_of_the_joint_law_include_the_truth() -> None:
    exact = ScalingLaw(1.5, 60, 0.3, 300, 0.4).predict(N, D)
    low, high = irreducible_loss_interval(N, exact, D)
    assert (low, high) == pytest.approx((1.5, 1.5), abs=1e-3)
    noisy = exact * (1 + 0.003 * np.random.default_rng(0).standard_normal(len(N)))
    low, high = irreducible_loss_interval(N, noisy, D, errors="absolute")
    assert 0 < low < 1.5 < high < 2


def test_an_interval_needs_more_points_than_coefficients() -> None:
    with pytest.raises(ValueError, match="an interval of E needs at least 4 points, got 3"):
        irreducible_loss_interval([1, 2, 3], [3, 2, 1])
    assert irreducible_loss_interval(SIZES[:4], [2.0, 3.0, 2.0, 3.0])[1] == math.inf


@pytest.mark.parametrize("num_coefficients", [3, 5])
def test_a_profile_interval_that_includes_0_means_that_the_constant_is_not_identified(
    num_coefficients: int,
) -> None:
    for n in range(num_coefficients + 3, 500):
        law = ScalingLaw(1, 2, 0.5, residual_sum=1.0, num_points=n, num_coefficients=num_coefficients)
        freedom = n - num_coefficients
        at_limit = replace(
            law,
            residual_sum=1 + f_distribution.ppf(0.95, 1, freedom) / freedom,
            num_coefficients=num_coefficients - 1,
            E=0.0,
        )
        assert not is_identified(law, at_limit)
