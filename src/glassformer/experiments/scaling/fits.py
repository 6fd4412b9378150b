"""Least-squares fits of scaling laws.

    power law   L(N)    = E + A N^-alpha
    joint law   L(N, D) = E + A N^-alpha + B D^-beta    (Hoffmann et al. 2022, equation 2)

N is the number of parameters, D the number of tokens of training, L the loss in nats. E is the irreducible
loss. The joint law minimizes

    S(alpha, beta) = min over E, A, B >= 0 of sum_i w_i^2 (E + A N_i^-alpha + B D_i^-beta - L_i)^2

with w_i = 1 / L_i (relative errors) or w_i = 1 (absolute errors); the power law has no last term. For given
exponents the law is linear in E, A and B, so the inner minimum is a non-negative least-squares problem
(Lawson & Hanson 1974). What is left for the outer search is one dimension per exponent: this is variable
projection (Golub & Pereyra 1973). The search takes the best point of a grid, then refines it.

This module needs scipy, which the extra ``analysis`` installs.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

try:
    from scipy.optimize import minimize, minimize_scalar, nnls
except ImportError as error:
    raise ImportError(
        f"fits of scaling laws need scipy: pip install 'glassformer[analysis]' ({error})"
    ) from error

EXPONENT_RANGE = (0.01, 3.0)
"""The exponents that are tried; an estimate at an end is not determined by the data."""
GRID_POINTS = 25
"""Exponents on the grid of each dimension, evenly spaced in their logarithm."""
ROUNDING = 1e-24
"""Mean squared errors below this are rounding errors; all count as this much."""

Array = npt.NDArray[np.float64]
Errors = Literal["relative", "absolute", "huber"]
Fit = Callable[[npt.ArrayLike, npt.ArrayLike, npt.ArrayLike], "ScalingLaw"]
"""A function of num_parameters, num_tokens and loss that fits a law, such as ``fit_joint_law``."""


@dataclass(frozen=True)
class ScalingLaw:
    """A law L(N, D) = E + A N^-alpha + B D^-beta, and how it was fitted."""

    E: float
    """Irreducible loss in nats."""
    A: float
    alpha: float
    B: float = 0.0
    beta: float | None = None
    """None for a law of a single variable."""
    residual_sum: float = math.nan
    """The minimum of what was minimized: a sum of squares or of Huber losses."""
    num_points: int = 0
    num_coefficients: int = 0
    """Coefficients and exponents that were free in the fit."""
    errors: Errors = "relative"
    """Errors that were minimized."""

    @property
    def exponents(self) -> dict[str, float]:
        """Exponents by name: alpha, and beta of a joint law."""
        return {"alpha": self.alpha} | ({} if self.beta is None else {"beta": self.beta})

    @property
    def coefficients(self) -> dict[str, float]:
        """E and the exponents by name."""
        return {"E": self.E} | self.exponents

    def predict(self, num_parameters: npt.ArrayLike, num_tokens: npt.ArrayLike | None = None) -> Array:
        """The loss in nats; the arguments are broadcast.

        Raises:
            ValueError: a joint law without ``num_tokens``, or a law of one variable with it.
        """
        if (num_tokens is None) != (self.beta is None):
            raise ValueError(
                "num_tokens must be given for a joint law and for no other, "
                f"got num_tokens={num_tokens!r} for beta={self.beta}"
            )
        loss: Array = self.E + self.A * np.asarray(num_parameters, dtype=np.float64) ** -self.alpha
        if num_tokens is not None and self.beta is not None:
            loss = loss + self.B * np.asarray(num_tokens, dtype=np.float64) ** -self.beta
        return loss

    def aicc(self) -> float:
        """Akaike's information criterion with the correction for few points (Hurvich & Tsai 1989).

            AICc = n log(S / n) + 2 k + 2 k (k + 1) / (n - k - 1)

        where S is ``residual_sum`` and k is ``num_coefficients`` + 1, for the variance of the errors. Lower
        is better. Only differences between laws of the same points and the same ``errors`` have a meaning.

        Raises:
            ValueError: a law that does not minimize squares, or ``num_points`` below k + 2.
        """
        n, k = self.num_points, self.num_coefficients + 1
        if self.errors == "huber":
            raise ValueError("AICc needs a least-squares fit ('relative' or 'absolute'), got errors='huber'")
        if n < k + 2:
            raise ValueError(f"AICc of {k - 1} coefficients needs at least {k + 2} points, got {n}")
        return n * math.log(max(self.residual_sum / n, ROUNDING)) + 2 * k + 2 * k * (k + 1) / (n - k - 1)


def fit_power_law(
    num_parameters: npt.ArrayLike,
    loss: npt.ArrayLike,
    *,
    constant: bool = True,
    errors: Literal["relative", "absolute"] = "relative",
) -> ScalingLaw:
    """Fit L(N) = E + A N^-alpha by variable projection; see the module for what is minimized.

    Args:
        num_parameters: ``(run,)``; any other positive variable, such as tokens or FLOP, will do.
        loss: ``(run,)``, in nats.
        constant: fit E; otherwise it is 0.
        errors: whether the squares are of errors divided by the loss, or of errors in nats.

    Returns:
        The law. If the loss does not fall with the variable, A is 0 and alpha has no meaning.

    Raises:
        ValueError: lengths differ, values are not positive and finite, or there are too few points.
    """
    (variable,), losses = check_runs(loss, num_parameters=num_parameters)
    check_distinct(2 + constant, num_parameters=variable)
    return fit_terms([variable], losses, constant=constant, errors=errors)


def fit_joint_law(
    num_parameters: npt.ArrayLike,
    num_tokens: npt.ArrayLike,
    loss: npt.ArrayLike,
    *,
    constant: bool = True,
    errors: Literal["relative", "absolute"] = "relative",
) -> ScalingLaw:
    """Fit L(N, D) = E + A N^-alpha + B D^-beta by variable projection; see the module for what is minimized.

    Args:
        num_parameters: ``(run,)``.
        num_tokens: ``(run,)``, of training.
        loss: ``(run,)``, in nats.
        constant: fit E; otherwise it is 0.
        errors: whether the squares are of errors divided by the loss, or of errors in nats.

    Raises:
        ValueError: lengths differ, values are not positive and finite, or there are too few points.
    """
    variables, losses = check_runs(loss, num_parameters=num_parameters, num_tokens=num_tokens)
    check_distinct(3, num_parameters=variables[0], num_tokens=variables[1])
    return fit_terms(variables, losses, constant=constant, errors=errors)


def fit_terms(
    variables: Sequence[Array],
    loss: Array,
    *,
    constant: bool,
    errors: Literal["relative", "absolute"],
    offset: float = 0.0,
) -> ScalingLaw:
    """Fit a law of one or two variables that ``check_runs`` has checked.

    Args:
        variables: ``(run,)`` each.
        loss: ``(run,)``.
        constant: fit E.
        errors: as in ``fit_joint_law``.
        offset: without ``constant``, the fixed value of E.

    Raises:
        ValueError: fewer points than coefficients, or ``errors`` is unknown.
    """
    if errors not in ("relative", "absolute"):
        raise ValueError(f"errors must be 'relative' or 'absolute', got {errors!r}")
    num_coefficients = 2 * len(variables) + constant
    if len(loss) < num_coefficients:
        raise ValueError(f"{num_coefficients} coefficients need at least as many points, got {len(loss)}")
    # Dividing by the geometric mean, as these logarithms do, brings all columns to about the same size.
    logs = [np.log(variable) for variable in variables]
    centered = [log - log.mean() for log in logs]
    weights = 1 / loss if errors == "relative" else np.ones_like(loss)
    target = weights * (loss - offset)

    def project(log_exponents: Sequence[float] | Array) -> tuple[Array, float]:
        """Coefficients for these exponents, and the sum of squares."""
        columns = [np.exp(-math.exp(p) * log) for p, log in zip(log_exponents, centered, strict=True)]
        columns += [np.ones_like(loss)] * constant
        values, norm = nnls(np.stack(columns, axis=1) * weights[:, None], target, maxiter=100)
        return values, float(norm) ** 2

    best = _search(lambda log_exponents: project(log_exponents)[1], len(variables))
    values, residual_sum = project(best)
    exponents = np.exp(best)
    scaled = [
        float(value * math.exp(exponent * log.mean()))
        for value, exponent, log in zip(values[: len(variables)], exponents, logs, strict=True)
    ]
    return ScalingLaw(
        E=float(values[-1]) if constant else offset,
        A=scaled[0],
        alpha=float(exponents[0]),
        B=scaled[1] if len(scaled) > 1 else 0.0,
        beta=float(exponents[1]) if len(scaled) > 1 else None,
        residual_sum=residual_sum,
        num_points=len(loss),
        num_coefficients=num_coefficients,
        errors=errors,
    )


def check_runs(loss: npt.ArrayLike, **variables: npt.ArrayLike) -> tuple[list[Array], Array]:
    """Variables and losses as arrays ``(run,)`` of float64.

    Raises:
        ValueError: not one-dimensional, lengths differ, or values are not positive and finite.
    """
    arrays = {"loss": np.asarray(loss, dtype=np.float64)}
    arrays |= {name: np.asarray(values, dtype=np.float64) for name, values in variables.items()}
    for name, values in arrays.items():
        if values.ndim != 1:
            raise ValueError(f"{name} must have one dimension, got shape {values.shape}")
        if len(values) != len(arrays["loss"]):
            raise ValueError(
                f"{name} must have one value for each of the {len(arrays['loss'])} losses, got {len(values)}"
            )
        wrong = values[~(np.isfinite(values) & (values > 0))]
        if len(wrong):
            raise ValueError(f"{name} must be positive and finite, got {wrong[0]}")
    return [arrays[name] for name in variables], arrays["loss"]


def check_distinct(least: int, **variables: Array) -> None:
    """Raise ValueError if a variable has fewer than ``least`` different values."""
    for name, values in variables.items():
        if (number := len(np.unique(values))) < least:
            raise ValueError(f"{name} must have at least {least} different values, got {number}")


def _search(objective: Callable[[Sequence[float] | Array], float], dimensions: int) -> Array:
    """Logarithms of the exponents that minimize an objective.

    From the best point of the grid: bounded scalar minimization (Brent 1973) between its neighbors in one
    dimension, the simplex method (Nelder & Mead 1965) in two, where the objective has no derivative where a
    coefficient becomes 0.
    """
    low, high = (math.log(end) for end in EXPONENT_RANGE)
    grid = np.linspace(low, high, GRID_POINTS)
    step = grid[1] - grid[0]
    best = np.array(min(itertools.product(grid, repeat=dimensions), key=objective))
    if dimensions == 1:
        bounds = (max(best[0] - step, low), min(best[0] + step, high))
        found = minimize_scalar(
            lambda p: objective([p]), bounds=bounds, method="bounded", options={"xatol": 1e-10}
        )
        return min(best, np.array([found.x]), key=objective)
    for size in (step, step / 10):  # the second search starts anew where the first ended
        # Toward the inside of the range, so that every corner of the simplex lies in it.
        corners = best + np.diag(np.where(best > (low + high) / 2, -size, size))
        found = minimize(
            objective,
            best,
            method="Nelder-Mead",
            bounds=[(low, high)] * dimensions,
            options={
                "initial_simplex": np.vstack([best, corners]),
                "xatol": 1e-10,
                "fatol": math.inf,
                "maxiter": 1000,
            },
        )
        best = np.clip(found.x, low, high)
    return best
