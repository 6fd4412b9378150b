"""Least-squares fits of scaling laws."""

from __future__ import annotations

import importlib
import math
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glassformer.experiments.scaling.fits import (
    EXPONENT_RANGE,
    ScalingLaw,
    fit_joint_law,
    fit_power_law,
)

SIZES = np.geomspace(1e5, 1e8, 6)
TOKENS = np.geomspace(1e6, 1e9, 5)
N, D = (grid.ravel() for grid in np.meshgrid(SIZES, TOKENS))

constants = st.floats(0.3, 3)
exponents = st.floats(0.1, 1)
losses_at_one = st.floats(0.2, 3)
"""Losses of one term at the smallest size or budget."""


def law_with(E: float, at_smallest: float, alpha: float, at_fewest: float, beta: float) -> ScalingLaw:  # noqa: N803
    return ScalingLaw(E, at_smallest * SIZES[0] ** alpha, alpha, at_fewest * TOKENS[0] ** beta, beta)


@given(constants, losses_at_one, exponents)
def test_a_power_law_is_recovered_exactly(constant: float, at_smallest: float, alpha: float) -> None:
    true = ScalingLaw(constant, at_smallest * SIZES[0] ** alpha, alpha)
    found = fit_power_law(SIZES, true.predict(SIZES))
    assert (found.E, found.A, found.alpha) == pytest.approx((true.E, true.A, true.alpha), rel=1e-4)
    assert found.beta is None
    assert found.predict(1e9) == pytest.approx(true.predict(1e9), rel=1e-6)
    assert (found.num_points, found.num_coefficients, found.errors) == (6, 3, "relative")


@settings(max_examples=10)
@given(constants, losses_at_one, exponents, losses_at_one, exponents)
def test_a_joint_law_is_recovered_exactly(
    constant: float, at_smallest: float, alpha: float, at_fewest: float, beta: float
) -> None:
    true = law_with(constant, at_smallest, alpha, at_fewest, beta)
    found = fit_joint_law(N, D, true.predict(N, D))
    assert found.coefficients == pytest.approx(true.coefficients, rel=1e-4)
    np.testing.assert_allclose([found.A, found.B], [true.A, true.B], rtol=1e-3)
    assert (found.num_points, found.num_coefficients) == (30, 5)


def test_laws_without_a_constant_are_recovered() -> None:
    true = law_with(0.0, 2.0, 0.3, 1.5, 0.4)
    found = fit_joint_law(N, D, true.predict(N, D), constant=False)
    assert found.coefficients == pytest.approx(true.coefficients, rel=1e-5)
    assert (found.E, found.num_coefficients) == (0, 4)
    power = fit_power_law(SIZES, 5 * SIZES**-0.25, constant=False, errors="absolute")
    assert (power.A, power.alpha) == pytest.approx((5, 0.25), rel=1e-6)
    assert (power.num_coefficients, power.errors) == (2, "absolute")


@pytest.mark.parametrize("errors", ["relative", "absolute"])
def test_the_residual_sum_is_what_the_law_leaves_and_a_minimum(errors: str) -> None:
    random = np.random.default_rng(0)
    loss = law_with(1.5, 2.0, 0.3, 1.5, 0.4).predict(N, D) + 0.02 * random.standard_normal(len(N))
    weights = 1 / loss if errors == "relative" else np.ones_like(loss)

    def squares(law: ScalingLaw) -> float:
        return float((weights**2 * (law.predict(N, D) - loss) ** 2).sum())

    found = fit_joint_law(N, D, loss, errors=errors)  # type: ignore[arg-type]
    assert found.residual_sum == pytest.approx(squares(found))
    best = np.array([found.E, found.A, found.alpha, found.B, found.beta])
    for step in 1e-4 * random.standard_normal((200, 5)):
        assert squares(ScalingLaw(*(best * (1 + step)))) >= found.residual_sum


@given(st.lists(st.floats(0.1, 10), min_size=6, max_size=6))
def test_coefficients_are_never_negative(losses: list[float]) -> None:
    found = fit_power_law(SIZES, losses)
    assert min(found.E, found.A, found.residual_sum) >= 0
    assert EXPONENT_RANGE[0] * 0.999 <= found.alpha <= EXPONENT_RANGE[1] * 1.001


@settings(max_examples=5)
@given(st.integers(0, 2**32 - 1))
def test_coefficients_of_joint_laws_are_never_negative(seed: int) -> None:
    found = fit_joint_law(N, D, np.random.default_rng(seed).uniform(0.1, 10, len(N)))
    assert min(found.E, found.A, found.B) >= 0


def test_a_concave_loss_has_its_constant_at_the_bound() -> None:
    assert fit_power_law(SIZES, 20 - np.log(SIZES)).E == 0  # a free constant would be negative


def test_a_loss_that_rises_has_no_power_of_size() -> None:
    found = fit_power_law(SIZES, SIZES**0.1)
    weights = SIZES**-0.1
    assert found.A == 0
    np.testing.assert_allclose(found.E, weights.sum() / (weights**2).sum())  # the least relative squares


def test_aicc_is_the_formula_of_hurvich_and_tsai() -> None:
    law = ScalingLaw(1.0, 2.0, 0.5, residual_sum=0.3, num_points=12, num_coefficients=3)
    # n log(S / n) + n (1 + m / n) / (1 - (m + 2) / n) for m coefficients, where the constant n is left out
    n, m = 12, 3
    expected = n * math.log(0.3 / n) + n * (1 + m / n) / (1 - (m + 2) / n) - n
    assert law.aicc() == pytest.approx(expected)


def test_aicc_is_refused_where_it_is_undefined() -> None:
    with pytest.raises(ValueError, match="AICc of 3 coefficients needs at least 6 points, got 5"):
        ScalingLaw(1, 2, 0.5, residual_sum=1, num_points=5, num_coefficients=3).aicc()
    with pytest.raises(ValueError, match="needs a least-squares fit .* got errors='huber'"):
        ScalingLaw(1, 2, 0.5, residual_sum=1, num_points=50, num_coefficients=3, errors="huber").aicc()


def test_predictions_need_the_variables_of_the_law() -> None:
    with pytest.raises(ValueError, match="got num_tokens=None for beta=0.4"):
        ScalingLaw(1, 2, 0.5, 3, 0.4).predict(1e6)
    with pytest.raises(ValueError, match=r"got num_tokens=1000000.0 for beta=None"):
        ScalingLaw(1, 2, 0.5).predict(1e6, 1e6)


def test_wrong_runs_are_refused() -> None:
    loss = SIZES**-0.1
    with pytest.raises(
        ValueError, match="num_parameters must have one value for each of the 6 losses, got 5"
    ):
        fit_power_law(SIZES[:5], loss)
    with pytest.raises(ValueError, match="num_parameters must be positive and finite, got -1.0"):
        fit_power_law([-1, *SIZES[1:]], loss)
    with pytest.raises(ValueError, match="loss must be positive and finite, got nan"):
        fit_power_law(SIZES, loss * math.nan)
    with pytest.raises(ValueError, match=r"loss must have one dimension, got shape \(2, 3\)"):
        fit_power_law(SIZES, loss.reshape(2, 3))
    with pytest.raises(ValueError, match="num_parameters must have at least 3 different values, got 2"):
        fit_power_law([1, 1, 2, 2], [4, 4, 3, 3])
    with pytest.raises(ValueError, match="num_tokens must have at least 3 different values, got 1"):
        fit_joint_law(SIZES, np.ones(6), loss)
    with pytest.raises(ValueError, match="5 coefficients need at least as many points, got 4"):
        fit_joint_law(SIZES[:4], TOKENS[:4], loss[:4])
    with pytest.raises(ValueError, match="errors must be 'relative' or 'absolute', got 'log'"):
        fit_power_law(SIZES, loss, errors="log")  # type: ignore[arg-type]


@pytest.mark.parametrize("module", ["fits", "chinchilla_fit", "model_comparison", "uncertainty"])
def test_without_scipy_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch, module: str) -> None:
    name = f"glassformer.experiments.scaling.{module}"
    importlib.import_module(name)
    for package in ("scipy.optimize", "scipy.stats"):
        monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.delitem(sys.modules, name)
    with pytest.raises(ImportError, match=r"pip install 'glassformer\[analysis\]'"):
        importlib.import_module(name)
