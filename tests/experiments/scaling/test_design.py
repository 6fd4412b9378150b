"""Simulation of designs, and fits without the lowest budget."""

from __future__ import annotations

import numpy as np
import pytest

from glassformer.experiments.scaling.design import fit_without_lowest, simulate_design
from glassformer.experiments.scaling.fits import ScalingLaw, fit_joint_law

LAW = ScalingLaw(1.5, 60, 0.3, 300, 0.4)
SIZES, BUDGETS = np.geomspace(1e5, 1e8, 4), np.geomspace(1e6, 1e9, 4)


@pytest.mark.slow
def test_a_design_recovers_a_law_better_with_less_noise() -> None:
    quiet, noisy = (simulate_design(SIZES, BUDGETS, LAW, sd, 2, repeats=10) for sd in (0.001, 0.02))
    assert (quiet.num_runs, noisy.num_runs) == (32, 32)
    assert quiet.identified == 1
    for name in ("E", "alpha", "beta"):
        assert quiet.spread[name] < noisy.spread[name] / 4
        assert abs(quiet.bias[name]) < 2 * quiet.spread[name]
        assert quiet.coverage[name] >= 0.7  # 95 % in expectation
    again = simulate_design(SIZES, BUDGETS, LAW, 0.001, 2, repeats=10)
    assert again == quiet


@pytest.mark.slow
def test_errors_that_budgets_share_spread_the_exponent_of_size() -> None:
    own = simulate_design(SIZES, BUDGETS, LAW, 0.01, 1, repeats=20)
    shared = simulate_design(SIZES, BUDGETS, LAW, 0.0, 1, shared_sd=0.01, repeats=20)
    assert shared.spread["alpha"] > 1.5 * own.spread["alpha"]
    assert shared.spread["beta"] < 0.5 * own.spread["beta"]


@pytest.mark.slow
def test_a_narrow_design_does_not_identify_the_constant() -> None:
    narrow = simulate_design(np.geomspace(1e5, 3e5, 3), np.geomspace(1e6, 3e6, 3), LAW, 0.05, 1, repeats=10)
    assert narrow.identified <= 0.3
    assert narrow.coverage == {}
    assert narrow.spread["E"] > 0.3


def test_without_errors_a_design_has_no_bias() -> None:
    found = simulate_design(SIZES, BUDGETS, LAW, 0.0, 1, repeats=2)
    assert list(found.bias.values()) == pytest.approx([0, 0, 0], abs=1e-4)
    assert list(found.spread.values()) == pytest.approx([0, 0, 0], abs=1e-9)


def test_impossible_designs_are_refused() -> None:
    with pytest.raises(ValueError, match="must be a joint law with B and beta, got beta=None"):
        simulate_design(SIZES, BUDGETS, ScalingLaw(1, 2, 0.3), 0.1, 2)
    with pytest.raises(ValueError, match="seeds must be at least 1 and repeats at least 2, got 0 and 100"):
        simulate_design(SIZES, BUDGETS, LAW, 0.1, 0)
    with pytest.raises(ValueError, match="noise_sd and shared_sd must not be negative, got -1 and 0"):
        simulate_design(SIZES, BUDGETS, LAW, -1, 2)
    with pytest.raises(ValueError, match="num_tokens must have at least 3 different values, got 2"):
        simulate_design(SIZES, BUDGETS[:2], LAW, 0.1, 2)


def test_the_lowest_budget_is_left_out() -> None:
    num_parameters, num_tokens = (grid.ravel() for grid in np.meshgrid(SIZES, BUDGETS))
    loss = LAW.predict(num_parameters, num_tokens)
    loss[num_tokens == BUDGETS[0]] *= 1.2  # the law does not hold for the shortest runs
    assert fit_joint_law(num_parameters, num_tokens, loss).beta != pytest.approx(LAW.beta, rel=0.01)
    found = fit_without_lowest(num_parameters, num_tokens, loss)
    assert found.coefficients == pytest.approx(LAW.coefficients, rel=1e-4)
    assert found.num_points == 12
    with pytest.raises(ValueError, match="lowest must be 1 to 3 for 4 numbers of tokens, got 4"):
        fit_without_lowest(num_parameters, num_tokens, loss, lowest=4)
