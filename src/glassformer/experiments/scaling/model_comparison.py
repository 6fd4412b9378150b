"""Comparison of nested scaling laws, and whether the irreducible loss is identified.

Laws are compared by AICc (Hurvich & Tsai 1989), see ``ScalingLaw.aicc``. With the difference d to the lowest
value, the weight of a law is exp(-d / 2), divided by the sum over all laws (Burnham & Anderson 2002, section
2.9). A law whose difference is below 2 has substantial support (ibid., section 2.6).

The criterion takes the errors of the runs as independent. Seeds of one size and budget share the error of the
law itself: average the loss over them first where that error is as large as the spread between seeds.

This module needs scipy, which the extra ``analysis`` installs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy.typing as npt

from glassformer.experiments.scaling.fits import (
    EXPONENT_RANGE,
    ROUNDING,
    ScalingLaw,
    check_runs,
    fit_terms,
)

try:
    from scipy.optimize import brentq
    from scipy.stats import f as f_distribution
except ImportError as error:
    raise ImportError(
        f"fits of scaling laws need scipy: pip install 'glassformer[analysis]' ({error})"
    ) from error

SUPPORTED = 2.0
"""A difference of AICc below which the other law still has substantial support."""


@dataclass(frozen=True)
class Comparison:
    """A law among those that it is compared with."""

    aicc: float
    difference: float
    """AICc above that of the best law; 0 for the best."""
    weight: float
    """Akaike weight; the weights of all laws sum to 1."""


@dataclass(frozen=True)
class Identification:
    """Whether the irreducible loss E is identified; true or false as a condition."""

    identified: bool
    reason: str
    """The reason in a sentence."""

    def __bool__(self) -> bool:
        return self.identified


def compare_models(laws: Mapping[str, ScalingLaw]) -> dict[str, Comparison]:
    """Differences of AICc and Akaike weights.

    Args:
        laws: fits of the same runs, by name.

    Raises:
        ValueError: no laws, or laws that differ in ``num_points`` or ``errors`` or have no AICc.
    """
    if not laws:
        raise ValueError("laws must have at least one law, got none")
    kinds = {(law.num_points, law.errors) for law in laws.values()}
    if len(kinds) > 1:
        found = ", ".join(f"{points} points with {errors} errors" for points, errors in sorted(kinds))
        raise ValueError(f"laws must be fits of the same points with the same errors, got {found}")
    values = {name: law.aicc() for name, law in laws.items()}
    lowest = min(values.values())
    support = {name: math.exp((lowest - value) / 2) for name, value in values.items()}
    total = sum(support.values())
    return {name: Comparison(value, value - lowest, support[name] / total) for name, value in values.items()}


def is_identified(law: ScalingLaw, without_constant: ScalingLaw) -> Identification:
    """Whether the runs determine the irreducible loss E of a law.

    E is not identified if one of these holds:

    1. The fitted E is 0, its bound.
    2. A or B is 0, so that its exponent has no meaning.
    3. An exponent is at an end of ``EXPONENT_RANGE``: near its lower end a power of N is nearly a constant
       plus log N, so that E and A trade places; at its upper end only the smallest N decide the exponent.
    4. The AICc of the law without E is lower, or higher by less than ``SUPPORTED``.

    A 95 % profile interval of E that includes 0 (``irreducible_loss_interval``) implies the last: what AICc
    adds for another coefficient, plus 2, is above the quantile of the F distribution. This is a rule of
    identification, not a proof of a floor: it presumes that the law holds beyond the runs.

    Args:
        law: with E.
        without_constant: the fit of the same runs with ``constant=False``.

    Raises:
        ValueError: the laws are no such pair, or have no AICc.
    """
    if law.num_coefficients - 1 != without_constant.num_coefficients or without_constant.E != 0:
        raise ValueError(
            "without_constant must be the same law with constant=False, got "
            f"{without_constant.num_coefficients} coefficients and E={without_constant.E:g} "
            f"beside {law.num_coefficients}"
        )
    found = compare_models({"with": law, "without": without_constant})
    difference = found["without"].aicc - found["with"].aicc
    if law.E == 0:
        return Identification(False, "E is not identified: the fitted E is 0, its bound.")
    for name, coefficient in {"A": law.A, "B": law.B}.items():
        if coefficient == 0 and (name == "A" or law.beta is not None):
            reason = f"{name} = 0, so that the loss does not fall with its variable"
            return Identification(False, f"E is not identified: {reason}.")
    for name, exponent in law.exponents.items():
        if is_at_an_end(exponent):
            low, high = EXPONENT_RANGE
            reason = f"{name} = {exponent:.3g} is at an end of the exponents tried, {low:g} to {high:g}"
            return Identification(False, f"E is not identified: {reason}.")
    if difference < SUPPORTED:
        side = "lower by" if difference < 0 else "higher by only"
        reason = f"the AICc without E is {side} {abs(difference):.2f}"
        return Identification(False, f"E is not identified: {reason}.")
    return Identification(
        True, f"E = {law.E:.4g} is identified: the AICc without E is higher by {difference:.2f}."
    )


def is_at_an_end(exponent: float) -> bool:
    """Whether a fitted exponent is at an end of ``EXPONENT_RANGE``: the data do not determine it."""
    low, high = EXPONENT_RANGE
    return not low * 1.001 < exponent < high / 1.001


def irreducible_loss_interval(
    num_parameters: npt.ArrayLike,
    loss: npt.ArrayLike,
    num_tokens: npt.ArrayLike | None = None,
    *,
    errors: Literal["relative", "absolute"] = "relative",
    confidence: float = 0.95,
) -> tuple[float, float]:
    """Profile likelihood interval of E (Bates & Watts 1988, chapter 6).

    All E for which the least sum of squares over the other coefficients is at most S (1 + F / (n - p)), where
    S is the minimum over E too, p the number of coefficients, and F the quantile of F(1, n - p).

    Args:
        num_parameters: ``(run,)``.
        loss: ``(run,)``.
        num_tokens: ``(run,)`` for the joint law; None for the power law.
        errors: as in ``fit_joint_law``.
        confidence: of the interval.

    Returns:
        Both ends. The lower is 0 if the interval includes 0, the upper infinite if it includes the highest
        loss.

    Raises:
        ValueError: not more points than coefficients, or data that ``fit_joint_law`` refuses.
    """
    given = {"num_parameters": num_parameters}
    if num_tokens is not None:
        given["num_tokens"] = num_tokens
    variables, losses = check_runs(loss, **given)
    freedom = len(losses) - 2 * len(variables) - 1
    if freedom < 1:
        raise ValueError(
            f"an interval of E needs at least {2 * len(variables) + 2} points, got {len(losses)}"
        )
    law = fit_terms(variables, losses, constant=True, errors=errors)
    least = max(law.residual_sum, len(losses) * ROUNDING)
    limit = least * (1 + float(f_distribution.ppf(confidence, 1, freedom)) / freedom)

    def excess(constant: float) -> float:
        fixed = fit_terms(variables, losses, constant=False, errors=errors, offset=constant)
        return fixed.residual_sum - limit

    highest = float(losses.max())
    low = 0.0 if law.E == 0 or excess(0.0) <= 0 else float(brentq(excess, 0.0, law.E, xtol=1e-9))
    high = math.inf if excess(highest) <= 0 else float(brentq(excess, law.E, highest, xtol=1e-9))
    return low, high
